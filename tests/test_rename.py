"""The project is renamed in a copy, and works there under its new name."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from project_copy import ROOT, copy_project, load_rename_script, ruff, run_all

SCRIPT = load_rename_script()
OLD = SCRIPT.PACKAGE
# Sorts after what the tests import, and is written differently in each spelling.
NEW = "zoo_bags"


def run_script(folder, *arguments):
    script = folder / "scripts" / "rename_project.py"
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder.parent)


def git(folder, *arguments):
    identity = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def renamed(tmp_path_factory):
    """A committed copy, renamed; with files that must stay, and the script's own words."""
    folder = copy_project(tmp_path_factory.mktemp("renamed") / "checkout")
    (folder / "picture.bin").write_bytes(b"\0" + OLD.encode())
    (folder / "latin.txt").write_bytes(b"\xe9 " + OLD.encode())
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "begin")
    (folder / "logs").mkdir()
    (folder / "logs" / "config.yaml").write_text(OLD)
    (folder / "src" / OLD / "__pycache__").mkdir(exist_ok=True)
    done = run_script(folder, NEW)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_no_spelling_of_the_old_name_is_left(renamed):
    folder, _ = renamed
    kept = {"LICENSE", "picture.bin", "latin.txt"}
    left = [
        f"{path.relative_to(folder)}: {line.strip()}"
        for path in SCRIPT.project_files(folder)
        if path.name not in kept and path.suffix != ".png"
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(OLD.replace("_", ".?"), line, re.I)
    ]
    assert left == []
    assert list((folder / "src").glob(f"*{OLD}*")) == []


def test_what_is_not_the_projects_own_text_stays(renamed):
    folder, _ = renamed
    for picture in (ROOT / "docs").glob("*.png"):
        assert (folder / "docs" / picture.name).read_bytes() == picture.read_bytes()
    assert (folder / "picture.bin").read_bytes() == b"\0" + OLD.encode()
    assert (folder / "latin.txt").read_bytes() == b"\xe9 " + OLD.encode()
    assert (folder / "logs" / "config.yaml").read_text() == OLD
    assert "LICENSE" not in git(folder, "diff", "--name-only", "HEAD").split()
    assert os.access(folder / ".ci" / "run", os.X_OK)


def test_it_says_what_it_did_and_what_to_do_next(renamed):
    _, done = renamed
    assert f"src/{NEW}/__init__.py" in done.stdout
    assert f"{OLD} is {NEW} now" in done.stdout
    assert "make test" in done.stdout


def test_commands_are_written_with_dashes(renamed):
    folder, _ = renamed
    pyproject = (folder / "pyproject.toml").read_text()
    assert 'zoo-bags-train = "zoo_bags.cli.train:main"' in pyproject
    assert 'name = "zoo_bags"' in pyproject


def test_format_and_style_hold(renamed):
    folder, _ = renamed
    ruff(folder, ".")


@pytest.mark.slow
def test_it_trains_and_evaluates(renamed):
    folder, _ = renamed
    # Stands for the installation, of which a summary states the version.
    metadata = folder.parent / "installed" / f"{NEW}-0.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: {NEW}\nVersion: 0\n")
    options = ["logger=csv", "~callbacks.figures"]
    # The old name must not be importable: an installation of it may lie in this environment.
    hide = f"import sys; sys.modules[{OLD!r}] = None"
    checkpoint = "logs/kept/checkpoints/best.ckpt"
    train = ["trainer.max_epochs=1", "hydra.run.dir=logs/kept", *options]
    evaluate = [f"ckpt_path={checkpoint}", *options]
    steps = [
        ("code", hide, []),
        ("module", f"{NEW}.cli.train", train),
        ("module", f"{NEW}.cli.evaluate", evaluate),
    ]
    run_all(folder, steps, metadata.parents[1])
    trained = json.loads((folder / "logs" / "kept" / "summary.json").read_text())
    (found,) = (folder / "logs" / "evaluate").glob("runs/*/summary.json")
    evaluated = json.loads(found.read_text())
    test = {name: value for name, value in trained["metrics"].items() if name.startswith("test/")}
    assert evaluated["metrics"] == test
    assert evaluated["versions"][NEW] == "0"


def test_it_can_be_renamed_again(renamed, tmp_path):
    folder, _ = renamed
    again = shutil.copytree(folder, tmp_path / "again", ignore=shutil.ignore_patterns(".git"))
    before = (again / "logs" / "config.yaml").read_text()
    done = run_script(again, "laboratory")
    assert done.returncode == 0, done.stderr
    assert (
        'laboratory-train = "laboratory.cli.train:main"' in (again / "pyproject.toml").read_text()
    )
    assert (again / "logs" / "config.yaml").read_text() == before
    assert (again / "src" / "laboratory" / "__init__.py").is_file()


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return copy_project(tmp_path_factory.mktemp("original"))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Slides", "expected a name of lower-case letters"),
        ("2slides", "expected a name of lower-case letters"),
        ("my-slides", "expected a name of lower-case letters"),
        ("slides_", "expected a name of lower-case letters"),
        ("lambda", "expected a name of lower-case letters"),
        ("../slides", "expected a name of lower-case letters"),
        ("json", "'json' is the name of a module"),
        ("torch", "'torch' is the name of a module"),
        ("sklearn", "'sklearn' is the name of a module"),
        ("configs", "'configs' is the name of a module"),
        (OLD, f"the project is called {OLD} already"),
        ("present", "src/present exists"),
    ],
)
def test_an_unfit_name_is_refused_in_a_sentence(original, name, reason):
    (original / "src" / "present").mkdir(exist_ok=True)
    done = run_script(original, name)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {reason}")
    assert done.stderr.count("\n") == 1
    assert (original / "src" / OLD).is_dir()


def test_uncommitted_changes_are_refused_unless_forced(tmp_path):
    project = tmp_path / "project"
    (project / "src" / OLD).mkdir(parents=True)
    (project / "src" / OLD / "__init__.py").write_text(f'"""{OLD}."""\n')
    (project / "scripts").mkdir()
    shutil.copy(SCRIPT.__file__, project / "scripts")
    (project / "pyproject.toml").write_text("[tool.ruff]\nline-length = 100\n")
    git(project, "init", "--quiet")
    refused = run_script(project, NEW)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: there are uncommitted changes")
    assert run_script(project, NEW, "--force").returncode == 0
    assert (project / "src" / NEW / "__init__.py").read_text() == f'"""{NEW}."""\n'
    # A project whose package went elsewhere by hand.
    (project / "src" / NEW).rename(project / "src" / "other")
    lost = run_script(project, "laboratory", "--force")
    assert lost.stderr.startswith(f"error: there is no src/{NEW}")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from oldname.data import Bag", "from new_name.data import Bag"),
        ("OLDNAME_HOME OldName Oldname", "NEW_NAME_HOME NewName NewName"),
        (
            "oldname-train oldname-${task} oldname-(train|predict)",
            "new-name-train new-name-${task} new-name-(train|predict)",
        ),
        ("dist/oldname-0.1.0.whl oldname-*.whl", "dist/new_name-0.1.0.whl new_name-*.whl"),
        ('"oldname[dev]" src/oldname/', '"new_name[dev]" src/new_name/'),
        ("boldname oldnames", "boldname oldnames"),
    ],
)
def test_spellings(before, after):

    assert SCRIPT.renamed(before, "oldname", "new_name") == after


def test_spellings_of_a_name_of_two_words_go_back():
    text = "my_lab my-lab-train MyLab MY_LAB collaborate"
    assert SCRIPT.renamed(text, "my_lab", "one") == "one one-train One ONE collaborate"
