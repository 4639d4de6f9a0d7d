"""A renamed project takes up what is new upstream, in git repositories of their own."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from project_copy import ROOT, copy_project, load_rename_script, ruff

SCRIPT = load_rename_script()
OLD = SCRIPT.PACKAGE
NEW = "zoo_bags"
IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "someone"), ("EMAIL", "someone@example.org"))
}
# What the user has set for git must not matter.
# No bytecode: the folders of the tests ignore none.
ENVIRONMENT = {
    **os.environ,
    **IDENTITY,
    "GIT_CONFIG_GLOBAL": os.devnull,
    "PYTHONDONTWRITEBYTECODE": "1",
}
POOL = [f"line_{number} = '{OLD}'\n" for number in range(20)]


def git(folder, *arguments):
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def run_script(folder, script, *arguments):
    command = [sys.executable, str(folder / "scripts" / f"{script}.py"), *map(str, arguments)]
    return subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, cwd=folder.parent
    )


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def commit(folder, message, files=None):
    write(folder, files or {})
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)


def begin(folder):
    """A repository of the files in a folder."""
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit(folder, "begin")
    return folder


def rename(folder, name=NEW):
    done = run_script(folder, "rename_project", name)
    assert done.returncode == 0, done.stderr


def update(fork, *arguments):
    """Updates from the project beside the fork."""
    upstream = fork.with_name("upstream")
    return run_script(fork, "update_from_upstream", "--upstream", upstream, *arguments)


def updated(fork, *arguments):
    done = update(fork, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert git(fork, "status", "--porcelain") == ""
    return done.stdout


def record(folder, name=NEW):
    return SCRIPT.read_record(folder, name)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A small project, `upstream`, and a clone of it that was renamed, `fork`."""
    folder = tmp_path_factory.mktemp("begun")
    upstream = folder / "upstream"
    write(
        upstream,
        {
            "pyproject.toml": f'[project]\nname = "{OLD}"\n\n[tool.ruff]\nline-length = 100\n',
            "README.md": f"# {OLD.upper()}\n\nOne.\n\nTwo.\n\nThree.\n",
            f"src/{OLD}/__init__.py": "",
            f"src/{OLD}/pool.py": "".join(POOL),
            f"src/{OLD}/gone.py": f'"""Of {OLD}."""\n',
            f"src/{OLD}/moved.py": f'"""Moves inside {OLD}."""\n\nmoves = "{OLD}"\n',
        },
    )
    (upstream / "scripts").mkdir()
    for script in ("rename_project", "update_from_upstream"):
        shutil.copy(ROOT / "scripts" / f"{script}.py", upstream / "scripts")
    begin(upstream)
    git(folder, "clone", "--quiet", "upstream", "fork")
    rename(folder / "fork")
    commit(folder / "fork", "rename")
    return folder


@pytest.fixture
def fork(begun, tmp_path):
    """The fork of `begun`, in which work has gone on, beside the upstream, in which it has too."""
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    work(tmp_path / "fork")
    advance(tmp_path / "upstream")
    return tmp_path / "fork"


def work(fork):
    """Edits a line in the fork, and adds a file."""
    pool = (fork / "src" / NEW / "pool.py").read_text()
    mine = pool.replace("line_2 =", "mine = 2\nline_2 =")
    own = f"from {NEW}.pool import mine\n\nprint(mine)\n"
    commit(fork, "own work", {f"src/{NEW}/pool.py": mine, f"src/{NEW}/own.py": own})


def advance(upstream):
    """Edits, adds, removes and moves files of upstream."""
    package = upstream / "src" / OLD
    git(upstream, "rm", "--quiet", str(package / "gone.py"))
    git(upstream, "mv", str(package / "moved.py"), str(package / "elsewhere.py"))
    pool = "".join(POOL[:17]) + f"added = '{OLD}'\n" + "".join(POOL[17:])
    new = f'"""New in {OLD}."""\n\nfrom {OLD}.pool import added\n\nprint(added)\n'
    commit(upstream, "Pools add", {f"src/{OLD}/pool.py": pool, f"src/{OLD}/new.py": new})


def assert_both_are_there(fork):
    package = fork / "src" / NEW
    pool = (package / "pool.py").read_text()
    assert "mine = 2" in pool
    assert f"added = '{NEW}'" in pool.replace('"', "'")
    assert (package / "own.py").is_file()
    assert f"from {NEW}.pool import added" in (package / "new.py").read_text()
    assert f'moves = "{NEW}"' in (package / "elsewhere.py").read_text()
    assert not (package / "moved.py").exists()
    assert not (package / "gone.py").exists()
    assert list((fork / "src").iterdir()) == [package]
    named = git(fork, "grep", "--name-only", "--ignore-case", OLD)
    assert named.splitlines() == [f"src/{NEW}/{SCRIPT.RECORD}"]


def test_what_is_new_upstream_comes_beside_what_the_fork_did(fork):
    before = git(fork, "rev-parse", "HEAD")
    said = updated(fork)
    assert_both_are_there(fork)
    assert "- Pools add\n" in said
    assert "files that it changed: 4." in said
    assert "make test" in said
    assert git(fork, "rev-parse", "HEAD^1") == before  # one merge, and nothing else
    assert "- Pools add" in git(fork, "log", "-1", "--format=%B", "HEAD^2")
    new = git(fork.with_name("upstream"), "rev-parse", "HEAD^{tree}")
    assert record(fork) == {OLD: new}


def test_a_second_update_builds_on_the_first(fork):
    updated(fork)
    upstream = fork.with_name("upstream")
    new = upstream / "src" / OLD / "new.py"
    commit(upstream, "more", {new: new.read_text() + f"more = '{OLD}'\n", "MORE.md": OLD})
    updated(fork)
    assert_both_are_there(fork)
    assert f"more = '{NEW}'" in (fork / "src" / NEW / "new.py").read_text().replace('"', "'")
    assert (fork / "MORE.md").read_text() == NEW
    # What was the tip of the first is the base of the second.
    assert git(fork, "rev-parse", "HEAD^2^1") == git(fork, "rev-parse", "HEAD^1^2")
    assert "up to date" in updated(fork)


def test_a_conflict_is_left_as_git_leaves_it(fork):
    upstream = fork.with_name("upstream")
    readme = (upstream / "README.md").read_text()
    commit(upstream, "readme", {"README.md": readme.replace("Two", f"Two of {OLD}")})
    text = (fork / "README.md").read_text()
    commit(fork, "mine", {"README.md": text.replace("Two", "Mine")})
    before = git(fork, "rev-parse", "HEAD")

    done = update(fork)
    assert done.returncode == 1
    assert "  README.md\nFiles with conflicts: 1." in done.stdout
    assert re.search(
        rf"<<<<<<<.*\nMine\.\n=======\nTwo of {NEW}\.\n>>>>>>>", (fork / "README.md").read_text()
    )
    git(fork, "merge", "--abort")
    assert git(fork, "rev-parse", "HEAD") == before
    assert git(fork, "status", "--porcelain") == ""

    assert update(fork).returncode == 1
    write(fork, {"README.md": text.replace("Two", f"Two of {NEW}, and mine")})
    refused = update(fork)
    assert refused.stderr.startswith("error: there are uncommitted changes")
    commit(fork, "merged")
    assert_both_are_there(fork)
    # It is settled for all updates that follow.
    commit(upstream, "more", {"README.md": (upstream / "README.md").read_text() + "Four.\n"})
    updated(fork)
    assert "Two of zoo_bags, and mine.\n\nThree.\nFour." in (fork / "README.md").read_text()


def test_what_was_committed_together_with_the_renaming_stays(begun, tmp_path):
    shutil.copytree(begun / "upstream", tmp_path / "upstream")
    git(tmp_path, "clone", "--quiet", "upstream", "fork")
    fork = tmp_path / "fork"
    rename(fork)
    commit(fork, "rename", {"README.md": "# Mine\n"})
    work(fork)
    advance(tmp_path / "upstream")
    before = git(fork, "rev-parse", "HEAD")
    updated(fork)
    assert_both_are_there(fork)
    assert (fork / "README.md").read_text() == "# Mine\n"
    # Where there is no commit of the renaming alone, one is merged, which changes no file.
    assert git(fork, "rev-parse", "HEAD^1^1") == before
    assert git(fork, "diff", "HEAD^1^1", "HEAD^1") == ""


def test_what_was_changed_before_the_renaming_stays(begun, tmp_path):
    shutil.copytree(begun / "upstream", tmp_path / "upstream")
    git(tmp_path, "clone", "--quiet", "upstream", "fork")
    fork = tmp_path / "fork"
    commit(fork, "mine", {"README.md": "# Mine\n"})
    rename(fork)
    commit(fork, "rename")
    work(fork)
    advance(tmp_path / "upstream")
    updated(fork)
    assert_both_are_there(fork)
    assert (fork / "README.md").read_text() == "# Mine\n"


def start_again(folder):
    """The files of a repository as its first commit, as a template button makes it."""
    shutil.rmtree(folder / ".git")
    begin(folder)


@pytest.mark.parametrize("cut", ["before it is renamed", "and changed before", "after"])
def test_the_history_may_be_cut(begun, tmp_path, cut):
    shutil.copytree(begun / "upstream", tmp_path / "upstream")
    fork = tmp_path / "fork"
    shutil.copytree(tmp_path / "upstream", fork)
    if cut != "after":
        start_again(fork)
    if cut == "and changed before":
        commit(fork, "mine", {"MINE.md": "mine\n"})
    rename(fork)
    commit(fork, "rename")
    work(fork)
    if cut == "after":
        start_again(fork)
    advance(tmp_path / "upstream")
    updated(fork)
    assert_both_are_there(fork)
    assert (fork / "MINE.md").exists() == (cut == "and changed before")


def test_the_history_may_be_cut_after_an_update(fork):
    updated(fork)
    start_again(fork)
    commit(fork.with_name("upstream"), "more", {"MORE.md": OLD})
    updated(fork)
    assert_both_are_there(fork)
    assert (fork / "MORE.md").read_text() == NEW


def test_a_fork_with_nothing_in_common_is_told_its_base(begun, tmp_path):
    shutil.copytree(begun / "upstream", tmp_path / "upstream")
    fork = tmp_path / "fork"
    shutil.copytree(tmp_path / "upstream", fork)
    shutil.rmtree(fork / ".git")
    write(fork, {"README.md": "# Mine\n"})
    rename(fork)
    begin(fork)
    work(fork)
    assert record(fork) == {OLD: ""}
    base = git(tmp_path / "upstream", "rev-parse", "HEAD")
    advance(tmp_path / "upstream")
    assert_one_sentence(update(fork), "this project and upstream have neither a commit nor")
    assert_one_sentence(update(fork, "--base", "ffff"), "there is no commit ffff")
    assert_one_sentence(update(fork, "--base", "HEAD"), "there is no commit HEAD with a src/")
    updated(fork, "--base", base)
    assert_both_are_there(fork)
    assert (fork / "README.md").read_text() == "# Mine\n"


def test_an_update_that_was_reverted_can_be_made_again(fork):
    updated(fork)
    git(fork, "revert", "--no-edit", "-m", "1", "HEAD")
    assert not (fork / "src" / NEW / "new.py").exists()
    commit(fork.with_name("upstream"), "more", {"MORE.md": OLD})
    updated(fork)
    assert_both_are_there(fork)
    assert (fork / "MORE.md").read_text() == NEW


def test_a_fork_may_be_renamed_again_and_a_fork_may_have_forks(fork):
    updated(fork)
    git(fork.parent, "clone", "--quiet", "fork", "second")
    second = fork.with_name("second")
    rename(second, "lab")
    commit(second, "rename again")
    assert list(record(second, "lab")) == [OLD, NEW]

    commit(fork, "more in the fork", {"SECOND.md": f"{NEW}\n"})
    commit(fork.with_name("upstream"), "more", {"FIRST.md": f"{OLD}\n"})
    done = run_script(second, "update_from_upstream", "--upstream", fork)
    assert done.returncode == 0, done.stdout + done.stderr
    updated(second)
    assert (second / "FIRST.md").read_text() == (second / "SECOND.md").read_text() == "lab\n"
    tips = [git(each, "rev-parse", "HEAD^{tree}") for each in (fork.with_name("upstream"), fork)]
    assert list(record(second, "lab").values()) == tips


def assert_one_sentence(done, begins):
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {begins}"), done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_what_cannot_be_done_is_refused_in_a_sentence(fork):
    upstream, script = fork.with_name("upstream"), "update_from_upstream"
    assert_one_sentence(run_script(fork, script), "main of upstream cannot be fetched (")
    assert_one_sentence(update(fork, "--ref", "nowhere"), "nowhere of ")
    assert_one_sentence(run_script(upstream, script), f"{OLD} is no renamed project")
    (fork / "README.md").write_text("mine")
    assert_one_sentence(update(fork), "there are uncommitted changes")
    git(fork, "checkout", "--quiet", "README.md")
    git(upstream, "mv", f"src/{OLD}", "src/other")
    commit(upstream, "other")
    assert_one_sentence(update(fork), f"upstream has no src/{OLD}")
    git(upstream, "reset", "--quiet", "--hard", "HEAD^")
    (fork / "src" / NEW / "new.py").write_text("not in git")
    assert_one_sentence(update(fork), "git could not merge: ")
    assert (fork / "src" / NEW / "new.py").read_text() == "not in git"
    shutil.rmtree(fork / ".git")
    assert_one_sentence(update(fork), f"{fork} is no git repository")


@pytest.mark.nightly
def test_this_project_is_updated_under_another_name(tmp_path):
    upstream = begin(copy_project(tmp_path / "upstream"))
    git(tmp_path, "clone", "--quiet", "upstream", "fork")
    fork = tmp_path / "fork"
    rename(fork)
    commit(fork, "rename")
    train = f"src/{NEW}/cli/train.py"
    mine = (fork / train).read_text() + "\n# mine\n"
    commit(fork, "own work", {train: mine, "configs/experiment/mine.yaml": f"tags: [{NEW}]\n"})

    package = upstream / "src" / OLD
    git(upstream, "mv", str(package / "nn" / "sm.py"), str(package / "nn" / "smooth.py"))
    nn = package / "nn" / "__init__.py"
    checked = '"""New."""\n\n'
    checked += f"from {OLD}.former_names import former_names\n\nprint(former_names())\n"
    commit(
        upstream,
        "new",
        {
            nn: nn.read_text().replace(f"{OLD}.nn.sm ", f"{OLD}.nn.smooth "),
            f"src/{OLD}/cli/train.py": f"# {OLD}\n" + (package / "cli" / "train.py").read_text(),
            f"src/{OLD}/cli/checked.py": checked,
        },
    )
    done = update(fork)
    assert done.returncode == 0, done.stdout + done.stderr
    assert git(fork, "rev-parse", "HEAD^2^1") == git(fork, "rev-parse", "HEAD^1^1")
    text = (fork / train).read_text()
    assert text == f"# {NEW}\n{mine}"
    assert f"from {NEW}.nn.smooth import" in (fork / "src" / NEW / "nn" / "__init__.py").read_text()
    assert (fork / "src" / NEW / "nn" / "smooth.py").is_file()
    assert not (fork / "src" / NEW / "nn" / "sm.py").exists()
    assert f"from {NEW}.former_names" in (fork / "src" / NEW / "cli" / "checked.py").read_text()
    ruff(fork, "src", "tests", "scripts")
