"""What the keys of a config mean: `milforge-train --help KEY`, and `--help GROUP=OPTION`.

What is printed stands in one of two places: the comment beside the key in its YAML, and the
docstring of the class or function that takes it. No class is imported for it.
"""

import dataclasses
from argparse import ArgumentError, ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import fill, indent
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from milforge.config.hydra_versions import VERSION_BASE
from milforge.config.keys.key_check import HYDRA_KEYS, did_you_mean
from milforge.config.keys.signatures import annotated_arguments, documented_arguments, summary
from milforge.config.keys.yaml_comments import header, key_comments
from milforge.config.messages import config_dir

WIDTH = 88


@dataclasses.dataclass(frozen=True)
class Key:
    """A key of the composed config.

    Args:
        name: its path, such as `model.pool.att_dim`.
        value: what it is where nothing overrides it, as YAML.
        comment: what stands beside it in the YAML; empty where nothing does.
        argument: what the docstring of the class that takes it says; empty where it says nothing.
        type: the annotation there; empty where there is none.
        target: the class or function that takes it; empty where there is none.
        file: the config that it stands in, such as `model/gated_abmil`.
    """

    name: str
    value: str
    comment: str
    argument: str
    type: str
    target: str
    file: str

    @property
    def description(self) -> str:
        """Both texts, where they are two."""
        same = self.comment.lower().rstrip(".") in self.argument.lower()
        texts = [self.argument] if same else [self.comment, self.argument]
        return "\n".join(text for text in texts if text)


@dataclasses.dataclass(frozen=True)
class Composed:
    """A composed config with what is known of it.

    Args:
        config: the config itself, without Hydra's own part.
        keys: every key by its name; mappings are keys too.
        options: options of every group.
        chosen: the chosen option of every group that has one.
        headers: the comment at the head of every option that was read, by `group/option`.
    """

    config: DictConfig
    keys: dict[str, Key]
    options: dict[str, list[str]]
    chosen: dict[str, str]
    headers: dict[str, str]


def question(arguments: Sequence[str]) -> str | None:
    """The key, group or option that is asked for: what follows `--help`.

    Example:
        >>> question(["model=sm_abmil", "--help", "model.pool.sm_mode"])
        'model.pool.sm_mode'
        >>> question(["--help"]) is None
        True
    """
    for flag in ("--help", "-h"):
        if flag in arguments:
            following = arguments[list(arguments).index(flag) + 1 :][:1]
            return following[0] if following and not following[0].startswith("-") else None
    return None


def answer(name: str, config_name: str, arguments: Sequence[str]) -> str:
    """The help on a key, a group or an option of one.

    Args:
        name: `KEY`, `GROUP` or `GROUP=OPTION`.
        config_name: `train`, `evaluate`, `predict` or `map`.
        arguments: the command line; its overrides are composed.

    Raises:
        ValueError: where there is no such key; it names the nearest one.
    """
    group, _, option = name.partition("=")
    overrides = [each for each in arguments if "=" in each and not each.startswith("-")]
    found = composed(config_name, overrides, _config_dirs(arguments))
    if group in found.options:
        return _option(group, option, found) if option else _group(group, found)
    if group in found.keys:
        return _key(found.keys[group], found)
    known = [*found.keys, *found.options]
    last = [each for each in known if each.rpartition(".")[2] == group]
    near = f"; did you mean {' or '.join(last[:3])}?" if last else did_you_mean(group, known)
    raise ValueError(f"there is no key or group {group!r}{near} (--help alone lists them)")


def _config_dirs(arguments: Sequence[str]) -> list[str]:
    """The folder of configs that a command line adds, as Hydra takes it, if there is one.

    Raises:
        ValueError: where none follows.
    """
    parser = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config-dir", "-cd", dest="folder")
    try:
        folder: str | None = parser.parse_known_args(list(arguments))[0].folder
    except ArgumentError as error:
        raise ValueError(
            f"--config-dir: expected a folder of configs, got none ({error})"
        ) from None
    return [] if folder is None else [folder]


def composed(
    config_name: str, overrides: Sequence[str] = (), folders: Sequence[str] = ()
) -> Composed:
    """Composes a config, and collects what its files and classes say of each key.

    Args:
        config_name: name of the primary config.
        overrides: `KEY=VALUE` and `GROUP=OPTION`.
        folders: further folders of configs, as `--config-dir` gives them.
    """
    further = [
        f"hydra.searchpath=[{','.join(f'file://{Path(each).resolve()}' for each in folders)}]"
    ]
    overrides = [*(further if folders else []), *overrides]
    with initialize_config_dir(config_dir(), **VERSION_BASE):
        loader = GlobalHydra.instance().hydra.config_loader  # type: ignore[union-attr]
        config = compose(config_name, overrides, return_hydra_config=True)
        choices = {str(k): str(v) for k, v in config.hydra.runtime.choices.items()}
        searched = [Path(each.removeprefix("file://")) for each in folders] + [
            Path(each.path.removeprefix("file://"))
            for each in loader.get_search_path().get_path()
            if each.path is not None and ":" not in each.path.removeprefix("file:")
        ]
        listed = loader.compute_defaults_list(config_name, overrides, RunMode.RUN)
    groups = _groups(searched)
    comments: dict[str, str] = {}
    files: dict[str, str] = {}
    headers: dict[str, str] = {}
    for default in listed.defaults:
        path = _file(searched, default.config_path)
        if path is None or (default.package or "").startswith("hydra"):
            continue
        text = path.read_text(encoding="utf-8")
        headers[default.config_path] = header(text)
        for key, comment in key_comments(text):
            name = ".".join(filter(None, [default.package, *key]))
            files[name] = default.config_path
            comments[name] = comment or comments.get(name, "")
    schema = OmegaConf.get_type(config)
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    OmegaConf.set_struct(config, True)
    keys = {key.name: key for key in _keys(config, schema, comments, files)}
    chosen = {name.partition("@")[0]: choice for name, choice in choices.items()}
    return Composed(config, keys, groups, chosen, headers)


def _groups(folders: Sequence[Path]) -> dict[str, list[str]]:
    groups: dict[str, set[str]] = {}
    for folder in folders:
        for path in folder.rglob("*.yaml"):
            group = path.relative_to(folder).parent.as_posix()
            if group not in (".", "hydra"):
                groups.setdefault(group, set()).add(path.stem)
    return {group: sorted(options) for group, options in sorted(groups.items())}


def _file(folders: Sequence[Path], config: str | None) -> Path | None:
    paths = [folder / f"{config}.yaml" for folder in folders]
    return next((path for path in paths if path.is_file()), None)


def _keys(
    config: DictConfig, schema: Any, comments: Mapping[str, str], files: Mapping[str, str]
) -> Iterator[Key]:
    plain: Any = OmegaConf.to_container(config, resolve=False)

    def walk(node: dict[str, Any], path: str, target: str) -> Iterator[Key]:
        arguments = documented_arguments(target) if target else {}
        types = annotated_arguments(target) if target else {}
        for name, value in node.items():
            if name in HYDRA_KEYS:
                continue
            full = f"{path}.{name}" if path else str(name)
            inner = value if isinstance(value, dict) else {}
            yield Key(
                name=full,
                value="" if inner else _shown(value),
                comment=comments.get(full, ""),
                argument=arguments.get(name, "") or summary(str(inner.get("_target_", ""))),
                type=types.get(name, ""),
                target=str(inner.get("_target_", "")) or target,
                file=files.get(full, ""),
            )
            below = str(inner.get("_target_", ""))
            if full == "paths":
                below = f"{schema.__module__}.PathsConfig"
            yield from walk(inner, full, below)

    yield from walk(plain, "", f"{schema.__module__}.{schema.__qualname__}")


def _shown(value: Any) -> str:
    if isinstance(value, str) and value.startswith("${"):
        return value
    text: str = yaml.safe_dump(value, default_flow_style=True, width=1000)
    return text.split("\n...")[0].strip()


def _key(key: Key, found: Composed) -> str:
    inner = _below(key.name, found)
    lines = [key.name]
    if key.description:
        lines.append(indent(_wrapped(key.description), "  "))
    rows = [("default", key.value), ("type", key.type)]
    rows += [("in", f"configs/{key.file}.yaml" if key.file else ""), ("read by", key.target)]
    lines += ["", *(f"  {name:<8} {value}" for name, value in rows if value)]
    if inner and key.target:
        lines += ["", indent(_wrapped(summary(key.target)), "  ")]
    return "\n".join([*lines, *_table(inner, key.name)])


def _option(group: str, option: str, found: Composed) -> str:
    lines = [f"{group}={option}"]
    if text := found.headers.get(f"{group}/{option}"):
        lines.append(indent(_wrapped(text), "  "))
    return "\n".join([*lines, *_table(_below(group, found), group)])


def _group(group: str, found: Composed) -> str:
    chosen = found.chosen.get(group, "null")
    key = found.keys.get(group.replace("/", "."))
    lines = [f"{group}: a group, of which {group}=OPTION chooses an option"]
    if key and key.description:
        lines.append(indent(_wrapped(key.description), "  "))
    lines += ["", f"  options  {' | '.join(found.options[group])}", f"  default  {chosen}"]
    lines += ["", f"  --help {group}=OPTION explains one. The keys of {chosen}:"]
    return "\n".join([*lines, *_table(_below(group, found), group)])


def _below(group: str, found: Composed) -> list[Key]:
    package = group.replace("/", ".")
    return [each for each in found.keys.values() if each.name.startswith(f"{package}.")]


def _table(keys: Sequence[Key], group: str) -> list[str]:
    if not keys:
        return []
    package = group.replace("/", ".")
    lines = [""]
    for key in keys:
        head = f"  {key.name.removeprefix(f'{package}.')}"
        lines.append(f"{head} = {key.value}" if key.value else head)
        text = key.comment or key.argument
        if text:
            lines.append(indent(_wrapped(text), "      "))
    return lines


def _wrapped(text: str) -> str:
    return "\n".join(fill(line, WIDTH) for line in text.splitlines())
