"""Renames the project: `python scripts/rename_project.py NAME`.

Package, imports, commands, configs, tests and documents of the checkout in which this file stands
take the new name in one go. Each spelling has its counterpart; for NAME `slide_lab`:

    milforge -> slide_lab                package, imports, `_target_`, checkpoint key, W&B project
    milforge-train -> slide-lab-train    commands are written with dashes
    MilForge -> SlideLab                 prose
    MILFORGE -> SLIDE_LAB                environment variables

Changed are the files that git tracks, or would track; what it ignores (`.venv`, `logs`,
`configs/local`), LICENSE, links and binary files stay as they are. The new name is written into
this script too, so that it can rename the project again. It needs nothing but Python and, to keep
the sorted imports sorted, ruff, if that is at hand.

The name it had goes into `former_names.txt` in the package, by which checkpoints and runs of before
can still be read, and beside it what git calls the state that was renamed, from which
`scripts/update_from_upstream.py` goes on.
"""

import argparse
import ast
import keyword
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

PACKAGE = "milforge"
KEPT = ("LICENSE", "NOTICE")
# Stays as it is for any new name, and goes into the wheel with the package.
RECORD = "former_names.txt"
RECORD_SAYS = """\
# The names that this project had before, each with the tree of upstream's that it holds.
# scripts/rename_project.py and scripts/update_from_upstream.py write this file.
"""
GENERATED = {"build", "data", "dist", "logs", "wandb"}  # known only where there is no git


def project_files(root: Path) -> list[Path]:
    """The files of the project below root, without what is generated or ignored."""
    if is_repository(root):
        listed = git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        files = {root / name for name in listed.split("\0") if name}
    else:
        files = set()
        for folder, folders, names in os.walk(root):
            at_root = Path(folder) == root
            folders[:] = [name for name in folders if not _is_generated(name, at_root)]
            files |= {Path(folder) / name for name in names}
    return sorted(path for path in files if path.is_file() and not path.is_symlink())


def _is_generated(name: str, at_root: bool) -> bool:
    hidden = name.startswith(".") and name not in (".ci", ".github", ".devcontainer", ".vscode")
    return hidden or name.endswith(("__pycache__", ".egg-info")) or (at_root and name in GENERATED)


def is_repository(root: Path) -> bool:
    """Whether root is a git checkout of its own, and there is a git to ask."""
    return (root / ".git").exists() and shutil.which("git") is not None


def git(root: Path, *arguments: str, **environment: str) -> str:
    """What a git command prints, with these environment variables beside those that are set."""
    command = ["git", "-C", str(root), *arguments]
    env = {**os.environ, **environment}
    return subprocess.run(
        command, check=True, capture_output=True, encoding="utf-8", env=env
    ).stdout


def renamed(text: str, old: str, new: str) -> str:
    """The text with every spelling of the old name replaced by that of the new.

    Words that merely contain the old name stay.
    """
    spelling = old.replace("_", "[_-]?")
    # A dash makes a command where a word follows; in `milforge-0.1.0.whl` it makes none.
    command = r"(?P<command>-(?=[a-zA-Z$<{(]))?"
    pattern = rf"(?<![a-zA-Z0-9])(?P<name>(?i:{spelling}))(?![a-z0-9]){command}"

    def replace(match: re.Match[str]) -> str:
        name, dash = match["name"], match["command"] or ""
        if name.isupper():
            return new.upper() + dash
        if not name.islower():
            return "".join(part.capitalize() for part in new.split("_")) + dash
        return (new.replace("_", "-") if dash or "-" in name else new) + dash

    return re.sub(pattern, replace, text)


def check_name(name: str, root: Path, files: list[Path]) -> None:
    """Exits with a sentence where the package cannot be called so."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or keyword.iskeyword(name):
        fail(
            f"expected a name of lower-case letters, digits and single underscores that Python can "
            f"import, got {name!r}; for example slide_lab"
        )
    if name == PACKAGE:
        fail(f"the project is called {name} already; choose another name")
    if not (root / "src" / PACKAGE).is_dir():
        fail(f"there is no src/{PACKAGE} in {root}; was the project renamed by other means?")
    if is_taken(name, root, files):
        fail(
            f"{name!r} is the name of a module of Python, of a dependency or of a folder here; "
            f"choose another, for example {name}_mil"
        )
    for taken in (path for path in (root / "src" / name, root / name) if path.exists()):
        fail(f"{taken.relative_to(root)} exists; choose another name or move it away")


def is_taken(name: str, root: Path, files: list[Path]) -> bool:
    """Whether the package would hide a module, a dependency or a folder here."""
    word = re.compile(rf"\b{name}\b")
    return name in sys.stdlib_module_names or any(_has(path, root, word) for path in files)


def _has(path: Path, root: Path, word: re.Pattern[str]) -> bool:
    """Whether a file lies in a folder of this name, imports such a module, or pins it."""
    if any(word.fullmatch(part) for part in path.relative_to(root).parent.parts):
        return True
    if path.suffix == ".py":
        source = path.read_text(encoding="utf-8")
        # Few files have the word; parsing all of them takes seconds.
        return bool(word.search(source)) and any(map(word.fullmatch, imported(source)))
    if path.name == "constraints.txt":
        pinned = re.findall(r"^([\w.-]+)==", path.read_text(encoding="utf-8"), re.M)
        return any(word.fullmatch(re.sub(r"[-_.]+", "_", each).lower()) for each in pinned)
    return False


def imported(source: str) -> set[str]:
    """The top-level modules that Python source imports."""
    nodes = list(ast.walk(ast.parse(source)))
    modules = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    modules += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {module.partition(".")[0] for module in modules}


def rename(root: Path, files: list[Path], old: str, new: str) -> list[Path]:
    """Renames what the files hold, and the files.

    Args:
        root: the folder of the project.
        files: those to rename.
        old: the name of the package.
        new: the name that it takes.

    Returns:
        The files that are changed or moved, under their new paths.
    """
    changed = []
    for path in files:
        if path.name in KEPT:
            continue
        before = path.read_bytes()
        # A former name may hold the old one: `my_lab` does, where the project is called `lab`.
        after = before if path.name == RECORD else renamed_content(before, old, new)
        target = root / renamed(path.relative_to(root).as_posix(), old, new)
        if after != before:
            path.write_bytes(after)
        if target != path:
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
        if after != before or target != path:
            changed.append(target)
    for left in sorted(root.glob(f"src/{old}/**/__pycache__")):
        shutil.rmtree(left)
    for folder in sorted({path.parent for path in files}, key=lambda each: -len(each.parts)):
        while folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent
    return changed


def renamed_content(content: bytes, old: str, new: str) -> bytes:
    """The content of a file under the new name; that of a binary file as it is."""
    if b"\0" in content:
        return content
    try:
        return renamed(content.decode("utf-8"), old, new).encode("utf-8")
    except UnicodeDecodeError:
        return content


def read_record(root: Path, name: str) -> dict[str, str]:
    """The former names of a project, the oldest first, and the tree of upstream's beside each.

    The tree is empty where the project was renamed outside git. It is a tree and no commit, because
    a fork that was made from a template has other commits than upstream, and the same trees.

    Args:
        root: the folder of the project.
        name: of its package.
    """
    path = root / "src" / name / RECORD
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    entries = [line.partition(" ") for line in lines if line and not line.startswith("#")]
    return {former: tree.strip() for former, _, tree in entries}


def write_record(root: Path, name: str, record: dict[str, str]) -> Path:
    """Writes the former names of the package of that name; returns the path."""
    path = root / "src" / name / RECORD
    lines = [f"{former} {tree}".rstrip() + "\n" for former, tree in record.items()]
    path.write_text(RECORD_SAYS + "".join(lines), "utf-8", newline="\n")
    return path


def committed_tree(root: Path) -> str:
    """What git calls the last committed state of the project; nothing where there is none."""
    if not is_repository(root):
        return ""
    command = ["git", "-C", str(root), "rev-parse", "--quiet", "--verify", "HEAD^{tree}"]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()


def find_ruff(root: Path) -> str | None:
    """The ruff of the project's environment, of this Python's or of the system; None without."""
    here = [str(root / ".venv" / "bin"), str(Path(sys.executable).parent)]
    return shutil.which("ruff", path=os.pathsep.join([*here, os.environ.get("PATH", "")]))


def tidy(root: Path, ruff: str) -> None:
    """Formats and sorts imports, whose order and length depend on the name."""
    check = [ruff, "check", "--no-cache", "--quiet", "--select"]
    subprocess.run([*check, "I", "--fix", "."], cwd=root, check=False)
    subprocess.run([ruff, "format", "--no-cache", "--quiet", "."], cwd=root, check=True)
    # No tool can break strings and prose that a longer name made too long: they are let pass.
    said = subprocess.run([*check, "E501", "."], cwd=root, capture_output=True, text=True).stdout
    if lengths := [int(length) for length in re.findall(r"Line too long \((\d+) >", said)]:
        pyproject = root / "pyproject.toml"
        text = re.sub(r"pycodestyle.max-line-length = .*\n", "", pyproject.read_text("utf-8"))
        section = "[tool.ruff.lint]\n"
        limit = f"pycodestyle.max-line-length = {max(lengths)} # the name is long\n"
        pyproject.write_text(text.replace(section, section + limit), "utf-8")


def fail(sentence: str) -> NoReturn:
    """Ends the script."""
    sys.exit(f"error: {sentence}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", metavar="NAME", help="the new name of the package")
    parser.add_argument("--force", action="store_true", help="rename over uncommitted changes")
    arguments = parser.parse_args()
    root, new = Path(__file__).resolve().parents[1], arguments.name
    files = project_files(root)
    check_name(new, root, files)
    if is_repository(root) and git(root, "status", "--porcelain") and not arguments.force:
        fail(
            "there are uncommitted changes, beside which the renaming could not be looked through "
            "or undone; commit them, or give --force"
        )
    former, tree = read_record(root, PACKAGE), committed_tree(root)
    former.pop(new, None)  # the project takes a name again that it had
    changed = rename(root, files, PACKAGE, new)
    record = write_record(root, new, {**former, PACKAGE: tree})
    ruff = find_ruff(root)
    if ruff is not None:
        tidy(root, ruff)
    for path in dict.fromkeys([*changed, record]):
        print(f"  {path.relative_to(root)}")
    print(f"{PACKAGE} is {new} now: {len(changed)} files changed, src/{PACKAGE} is src/{new}.")
    print("Next: look through `git diff`, then `make clean`, which removes the .venv with the old")
    print(f"commands, and `make {'test' if ruff else 'format test'}`. Once that is committed,")
    print("scripts/update_from_upstream.py brings in what is new upstream.")


if __name__ == "__main__":
    main()
