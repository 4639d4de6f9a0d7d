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
    kept = {"LICENSE", "picture.bin", "latin.txt", SCRIPT.RECORD}
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


def test_it_notes_the_former_name_and_the_state_that_was_renamed(renamed):
    folder, _ = renamed
    before = SCRIPT.read_record(ROOT, OLD)  # a fork has some already
    tree = git(folder, "rev-parse", "HEAD^{tree}").strip()
    assert SCRIPT.read_record(folder, NEW) == {**before, OLD: tree}


def test_an_installed_wheel_knows_the_former_name(renamed, tmp_path):
    folder, _ = renamed
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=folder, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    code = f"from {NEW}.runs.former_names import former_names; print(*former_names())"
    environment = {**os.environ, "PYTHONPATH": str(wheel)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.split() == [*SCRIPT.read_record(ROOT, OLD), OLD], done.stderr


def test_commands_are_written_with_dashes(renamed):
    folder, _ = renamed
    pyproject = (folder / "pyproject.toml").read_text()
    assert 'zoo-bags-train = "zoo_bags.cli.train:main"' in pyproject
    assert 'name = "zoo_bags"' in pyproject


def test_format_and_style_hold(renamed):
    folder, _ = renamed
    ruff(folder, ".")


def install(packages, name):
    """Makes what stands for the installation, of which a summary states the version."""
    metadata = packages / f"{name}-0.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0\n")


def summary_of(run):
    return json.loads((run / "summary.json").read_text())


def of_test(summary):
    return {key: value for key, value in summary["metrics"].items() if key.startswith("test/")}


@pytest.mark.nightly
def test_what_was_trained_under_the_old_name_is_evaluated_and_goes_on(renamed, original, tmp_path):
    folder, _ = renamed
    run, before = tmp_path / "run", tmp_path / "before"
    options = ["logger=csv", "~callbacks.figures"]
    sizes = ["data.train=40", "data.val=20", "data.test=20"]
    train = [f"hydra.run.dir={run}", *options, *sizes]

    def evaluate(of, to):
        arguments = [f"ckpt_path={of}/checkpoints/best.ckpt", f"hydra.run.dir={to}", *options]
        return ("module", f"{NEW}.cli.evaluate", arguments)

    # From there on the old name cannot be imported.
    keep_and_hide = f"""
import shutil, sys
shutil.copytree({str(run)!r}, {str(before)!r})
for name in [name for name in sys.modules if name.split(".")[0] == {OLD!r}]:
    sys.modules[name] = None
"""
    steps = [
        ("module", f"{OLD}.cli.train", [*train, "trainer.max_epochs=1"]),
        ("code", keep_and_hide, []),
        evaluate(before, tmp_path / "old"),
        ("module", f"{NEW}.cli.train", [*train, "trainer.max_epochs=2", "ckpt_path=last"]),
        evaluate(run, tmp_path / "new"),
    ]
    packages = tmp_path / "installed"
    install(packages, OLD)
    install(packages, NEW)
    run_all(folder, steps, original / "src", packages)
    assert of_test(summary_of(tmp_path / "old")) == of_test(summary_of(before))
    assert of_test(summary_of(tmp_path / "new")) == of_test(summary_of(run))
    assert summary_of(tmp_path / "new")["versions"][NEW] == "0"
    epochs = [line.split(",")[0] for line in (run / "metrics.csv").read_text().splitlines()]
    assert {"0", "1"} <= set(epochs)
    assert f"_target_: {NEW}." in (run / "config.yaml").read_text()


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
    former = [*SCRIPT.read_record(ROOT, OLD), OLD]
    assert list(SCRIPT.read_record(again, "laboratory")) == [*former, NEW]


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
    assert SCRIPT.read_record(project, NEW) == {OLD: ""}  # nothing was committed
    # A former name stays as it is where it holds the present one, and one that is back is none.
    assert run_script(project, "bags", "--force").returncode == 0
    assert run_script(project, "laboratory", "--force").returncode == 0
    assert list(SCRIPT.read_record(project, "laboratory")) == [OLD, NEW, "bags"]
    assert run_script(project, NEW, "--force").returncode == 0
    assert list(SCRIPT.read_record(project, NEW)) == [OLD, "bags", "laboratory"]
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
