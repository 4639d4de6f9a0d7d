"""Brings a renamed project up to date: `python scripts/update_from_upstream.py --upstream URL`.

`scripts/rename_project.py` changed nearly every file, so `git merge` of upstream would find a
conflict in nearly every file. What was done to this project is therefore done to upstream, too:
its state of then, which this project holds already, and its state of now are both renamed, in a
temporary folder. The second becomes a commit on top of the first, and `git merge` brings it in. So
git sees on the one side what this project changed since the renaming, on the other what upstream
did, under one name.

Conflicts are left in the files as git leaves them. Which state of upstream the project holds is
noted in `former_names.txt` in the package. It does not matter whether this project and upstream
have commits in common: one that was made from a template has none.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from rename_project import (
    PACKAGE,
    fail,
    find_ruff,
    git,
    is_repository,
    read_record,
    rename,
    tidy,
    write_record,
)

LISTED = 30  # subjects of upstream's commits in the message of the one that brings them in


def check_ready(root: Path, record: dict[str, str]) -> None:
    """Exits with a sentence where this checkout cannot be updated."""
    if not is_repository(root):
        fail(f"{root} is no git repository, or there is no git: nothing can be merged into it")
    if not record:
        fail(f"{PACKAGE} is no renamed project; `git pull` brings it up to date")
    if git(root, "status", "--porcelain", "--untracked-files=no"):
        fail("there are uncommitted changes, which a merge could mix up; commit or stash them")


def fetch(root: Path, upstream: str | None, ref: str) -> str:
    """The commit at the tip of a branch, or at a tag, of upstream."""
    if upstream is None:
        upstream = "upstream"  # a remote of that name
    elif Path(upstream).exists():  # git takes a path from the root, the user from here
        upstream = str(Path(upstream).resolve())
    try:
        git(root, "fetch", "--quiet", "--no-tags", upstream, ref)
    except subprocess.CalledProcessError as error:
        fail(f"{ref} of {upstream} cannot be fetched ({cause(error)}); give --upstream and --ref")
    return git(root, "rev-parse", "FETCH_HEAD^{commit}").strip()


def name_of(root: Path, commit: str, record: dict[str, str]) -> str:
    """The name that the package has upstream: a former name of ours."""
    listed = git(root, "ls-tree", "-d", "--name-only", "-z", commit, "src/").split("\0")
    for name in record:
        if f"src/{name}" in listed:
            return name
    fail(f"upstream has no src/{' and no src/'.join(record)}: is this what {PACKAGE} came from?")


def given_base(root: Path, given: str, old: str) -> str:
    """The commit of upstream that the user says this project holds already."""
    try:
        git(root, "rev-parse", "--verify", f"{given}:src/{old}")
        return git(root, "rev-parse", "--verify", f"{given}^{{commit}}").strip()
    except subprocess.CalledProcessError:
        fail(f"there is no commit {given} with a src/{old} in it; give --base one of upstream's")


def found_base(root: Path, commit: str, tree: str) -> str:
    """The commit of upstream that this project holds already.

    It is the one whose tree was renamed. Where the user had changed that before the renaming, it is
    where the histories part; where they have nothing in common, the last commit of ours which is
    upstream's file by file.

    Args:
        root: the folder of the project.
        commit: the tip of upstream.
        tree: what git called the state that was renamed, or that was brought in last.
    """
    theirs = trees(root, commit)
    if tree in theirs:
        return theirs[tree]
    command = ["git", "-C", str(root), "merge-base", "HEAD", commit]
    parting = subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()
    if parting:
        return parting
    for ours in trees(root, "HEAD"):
        if ours in theirs:
            return theirs[ours]
    fail(
        "this project and upstream have neither a commit nor a state in common; give the commit of "
        "upstream that it began from with --base"
    )


def trees(root: Path, commit: str) -> dict[str, str]:
    """The tree of each commit in a history, and the newest commit that has it; newest first."""
    listed = git(root, "rev-list", "--no-commit-header", "--format=%T %H", commit).splitlines()
    found: dict[str, str] = {}
    for line in listed:
        tree, _, of = line.partition(" ")
        found.setdefault(tree, of)
    return found


def renamed_tree(root: Path, commit: str, old: str, record: dict[str, str]) -> str:
    """Writes the tree of a commit of upstream's into git under our name; the work tree stays.

    Args:
        root: the folder of the project.
        commit: whose tree it is.
        old: the name of the package there.
        record: the former names to put into it.
    """
    directory = git(root, "rev-parse", "--absolute-git-dir").strip()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve() / "tree"
        folder.mkdir()
        # Settings of the user's that concern the files of their own work tree.
        settings = ("-c", "core.sparseCheckout=false", "-c", "core.fsmonitor=false")
        place = {"GIT_DIR": directory, "GIT_WORK_TREE": str(folder)}
        place["GIT_INDEX_FILE"] = str(folder.with_name("index"))
        git(folder, *settings, "read-tree", commit, **place)
        git(folder, *settings, "checkout-index", "--all", **place)
        names = git(folder, *settings, "ls-files", "-z", **place).split("\0")
        paths = [folder / name for name in names if name]
        files = [path for path in paths if path.is_file() and not path.is_symlink()]
        rename(folder, files, old, PACKAGE)
        write_record(folder, PACKAGE, record)
        ruff = find_ruff(root)
        if ruff is not None:
            tidy(folder, ruff)
        git(folder, *settings, "add", "--all", "--force", ".", **place)
        return git(folder, *settings, "write-tree", **place).strip()


def base_commit(root: Path, tree: str, message: str) -> str:
    """A commit with that tree in our history.

    Where the renaming was committed together with other changes there is none. It is then made, and
    merged as what we hold already: the merge changes no file.
    """
    ours = trees(root, "HEAD")
    if tree in ours:
        return ours[tree]
    made = git(root, "commit-tree", tree, "-m", message).strip()
    options = ["--quiet", "--no-ff", "--allow-unrelated-histories", "--strategy=ours"]
    git(root, "merge", *options, "-m", message, made)
    return made


def merge(root: Path, commit: str, message: str) -> list[str]:
    """Merges a commit; returns the files with conflicts, which are left as git leaves them."""
    command = ["git", "-C", str(root), "merge", "--quiet", "--no-ff", "-m", message, commit]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    listed = git(root, "diff", "--name-only", "--diff-filter=U", "-z").split("\0")
    conflicts = [name for name in listed if name]
    if done.returncode != 0 and not conflicts:
        fail(f"git could not merge: {' '.join((done.stderr or done.stdout).split())}")
    return conflicts


def news(root: Path, base: str, commit: str) -> list[str]:
    """The subjects of upstream's commits since that state, the newest first, as a list."""
    count = int(git(root, "rev-list", "--count", "--no-merges", f"{base}..{commit}"))
    options = ["--no-commit-header", "--no-merges", f"--max-count={LISTED}", "--format=- %s"]
    lines = git(root, "rev-list", *options, f"{base}..{commit}").splitlines()
    return lines + ([f"- and {count - LISTED} more"] if count > LISTED else [])


def cause(error: subprocess.CalledProcessError) -> str:
    """What git said, in its first line that says anything."""
    lines = [line.strip() for line in (error.stderr or error.stdout or "").splitlines()]
    return next((line.removeprefix("fatal: ") for line in lines if line), "see above")


def update(root: Path, upstream: str | None, ref: str, given: str | None) -> None:
    """Brings in what is new upstream, and says what was done and what is left to do."""
    record = read_record(root, PACKAGE)
    check_ready(root, record)
    commit = fetch(root, upstream, ref)
    old = name_of(root, commit, record)
    base = given_base(root, given, old) if given else found_base(root, commit, record[old])
    short_base, short = (git(root, "rev-parse", "--short", each).strip() for each in (base, commit))
    now = git(root, "rev-parse", f"{commit}^{{tree}}").strip()
    if now == git(root, "rev-parse", f"{base}^{{tree}}").strip():
        print(f"{PACKAGE} is up to date with {short} of upstream already.")
        return
    before = renamed_tree(root, base, old, record)
    after = renamed_tree(root, commit, old, {**record, old: now})
    parent = base_commit(root, before, f"The state {short_base} of upstream, which is held already")
    lines = news(root, base, commit)
    message = "\n".join([f"Upstream from {short_base} to {short}", "", *lines]).strip()
    new = git(root, "commit-tree", after, "-p", parent, "-m", message).strip()
    conflicts = merge(root, new, f"Merge upstream from {short_base} to {short}")
    # Without the record, which says where upstream was.
    changed = git(root, "diff", "--name-only", "-z", parent, new).count("\0") - 1
    print("\n".join(lines))
    print(f"Merged upstream from {short_base} to {short}; files that it changed: {changed}.")
    if find_ruff(root) is None:
        print("There is no ruff here: the order of imports may be another, `make format` mends it.")
    if not conflicts:
        print("No conflicts, and it is committed. Next: `make test`.")
        return
    for name in conflicts:
        print(f"  {name}")
    print(f"Files with conflicts: {len(conflicts)}. Next: edit and `git add` them, `make test`,")
    print("and `git commit`; or `git merge --abort`, which undoes the merge.")
    sys.exit(1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--upstream",
        metavar="URL_OR_PATH",
        help="the repository that this one came from; without it the git remote called upstream",
    )
    parser.add_argument("--ref", default="main", help="a branch or tag of it (default: main)")
    parser.add_argument(
        "--base",
        metavar="COMMIT",
        help="the commit of upstream that is held already, where the script cannot find it",
    )
    arguments = parser.parse_args()
    root = Path(__file__).resolve().parents[1]
    try:
        update(root, arguments.upstream, arguments.ref, arguments.base)
    except subprocess.CalledProcessError as error:
        # Nothing that is expected, such as a git without the user's name; or a ruff that failed.
        fail(f"`{' '.join(map(str, error.cmd))}` failed: {cause(error)}")


if __name__ == "__main__":
    main()
