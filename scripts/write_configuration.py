"""Writes docs/configuration.md, docs/schemas, and the line of each config that names its schema.

    python scripts/write_configuration.py

Every group, option and key stands there with what it means, in the texts that `--help KEY` prints:
comments in the YAML, and docstrings. An editor that knows YAML schemas completes and explains keys
by docs/schemas (docs/editor.md).
"""

import json
from collections.abc import Iterable
from pathlib import Path

from hydra.core.plugins import Plugins

from milforge.config.json_schema import schema_of
from milforge.config.keys.key_help import Key, composed
from milforge.config.resolvers import prepare

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "configuration.md"
SCHEMAS = ROOT / "docs" / "schemas"
MODELINE = "# yaml-language-server: $schema="
HEAD = """# Configuration

Every key of the commands. `milforge-train --help KEY` prints the same in a terminal, and more, for
the options that you have chosen. This page is written by `python scripts/write_configuration.py`.

A group is chosen by `GROUP=OPTION`, a key is set by `KEY=VALUE`; `-m KEY=A,B,C` runs each in turn.
A default that begins with `${` follows another key; `???` has to be given.
"""
# They choose among launchers and sweepers of Hydra's, which have their own documentation.
LEFT_OUT = ("launcher", "search", "hydra", "local")


def written() -> dict[Path, str]:
    """The page, the schemas of each group and of an experiment, which may hold any key; configs."""
    prepare()
    Plugins.instance()
    train = composed("train")
    groups = [group for group in train.options if group.split("/")[0] not in LEFT_OUT]
    tops = [key for key in train.keys.values() if key.name in _top(train.keys, groups)]
    parts = [HEAD, "## Keys of milforge-train\n", _table(tops, "")]
    schemas = {"experiment": schema_of(train.keys.values(), title="an experiment")}
    known = set(train.keys)
    for command in ("evaluate", "predict", "map"):
        found = composed(command).keys
        further = [key for name, key in found.items() if name not in known and "." not in name]
        parts += (
            [f"## Further keys of milforge-{command}\n", _table(further, "")] if further else []
        )
    for group in groups:
        package = group.replace("/", ".")
        about = train.keys.get(package)
        parts.append(f"## {group}\n")
        if about is not None and about.argument:
            text = about.argument.removeprefix("group; ").rstrip(".")
            parts.append(f"{text[:1].upper()}{text[1:]}.\n")
        every: list[Key] = []
        for option in train.options[group]:
            found = composed("train", [f"{group}={option}"])
            default = " (default)" if train.chosen.get(group) == option else ""
            parts.append(f"### {group}={option}{default}\n")
            if text := found.headers.get(f"{group}/{option}"):
                parts.append(f"{text}\n")
            every += found.keys.values()
            keys = [key for key in found.keys.values() if key.name.startswith(f"{package}.")]
            inner = [each for each in groups if each.startswith(f"{group}/")]
            skip = tuple(f"{each.replace('/', '.')}." for each in inner)
            parts.append(_table([key for key in keys if not key.name.startswith(skip)], package))
        if group not in ("experiment", "debug"):
            schemas[group.replace("/", "_")] = schema_of(every, package, f"an option of {group}")
    files = {SCHEMAS / f"{name}.json": json.dumps(each, indent=1) for name, each in schemas.items()}
    return {PAGE: "\n".join(part for part in parts if part), **files, **with_modelines(schemas)}


def with_modelines(schemas: Iterable[str]) -> dict[Path, str]:
    """The configs of the groups that have a schema, each with a line that names it."""
    files = {}
    for name in schemas:
        folder = ROOT / "configs" / name.replace("_", "/")
        for path in sorted(folder.glob("*.yaml")):
            up = "../" * len(path.parent.relative_to(ROOT).parts)
            lines = path.read_text(encoding="utf-8").splitlines()
            lines = [line for line in lines if not line.startswith(MODELINE)]
            # Hydra reads `# @package` in the first line alone.
            lines.insert(int(lines[0].startswith("# @")), f"{MODELINE}{up}docs/schemas/{name}.json")
            files[path] = "\n".join([*lines, ""])
    return files


def _top(keys: dict[str, Key], groups: list[str]) -> list[str]:
    return [name for name in keys if "." not in name and name not in groups]


def _table(keys: list[Key], package: str) -> str:
    rows = [
        f"| `{key.name.removeprefix(f'{package}.')}` | {_code(key.value)} | {_code(key.type)} | "
        f"{_cell(_meaning(key))} |"
        for key in keys
    ]
    if not rows:
        return ""
    return "\n".join(["| key | default | type | meaning |", "| --- | --- | --- | --- |", *rows, ""])


def _meaning(key: Key) -> str:
    """The shorter of the two texts. Those of other packages are theirs: they are only named."""
    if key.comment:
        return key.comment
    return key.argument if key.target.startswith("milforge.") else f"see `{key.target}`"


def _code(text: str) -> str:
    return f"`{_cell(text)}`" if text else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    SCHEMAS.mkdir(exist_ok=True)
    for path, text in written().items():
        path.write_text(text, encoding="utf-8")
        print(path)
