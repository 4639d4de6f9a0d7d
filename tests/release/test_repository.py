"""What lies around the code: workflows, recipes, forms; those for SLURM run with stand-ins."""

import os
import re
import signal
import subprocess
import tomllib

import pytest
import yaml

from milforge.config.keys.key_check import check_targets
from project_copy import ROOT
from test_configs import compose_config

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
FILES = [
    *sorted((ROOT / ".github").rglob("*.y*ml")),
    *sorted((ROOT / "scripts" / "recipes").iterdir()),
    *(ROOT / name for name in ("Dockerfile", "CITATION.cff", ".devcontainer/devcontainer.json")),
    *(ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_can_be_read_and_names_no_registry_and_no_machine(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix in (".yaml", ".yml", ".cff", ".json"):
        assert all(isinstance(each, dict) for each in yaml.safe_load_all(text))
    if path.suffix == ".sh":
        subprocess.run(["bash", "-n", path], check=True)
    assert not re.search(r"https?://|/root/|/home/|/tmp/|pypi|simple/", text)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_the_steps_of_a_workflow_are_targets_of_the_makefile(path):
    workflow = yaml.safe_load(path.read_text())
    targets = re.findall(r"^([\w-]+(?: [\w-]+)*):", (ROOT / "Makefile").read_text(), re.M)
    targets = {name for line in targets for name in line.split()}
    runs = [
        step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step
    ]
    assert runs
    for line in runs:
        command, *words = re.sub(r"\$\{\{.*?\}\}", "x", line).split()
        assert command == "make"
        named = [each for each in words if not re.match(r"^[A-Z]+=", each)]  # VERSIONS=newest
        assert named
        assert set(named) <= targets


def test_the_pythons_of_the_workflow_are_those_of_the_project():
    jobs = yaml.safe_load((ROOT / ".github/workflows/tests.yaml").read_text())["jobs"]
    named = [each.rpartition(" ")[2] for each in PROJECT["classifiers"] if "Python ::" in each]
    assert jobs["pinned"]["strategy"]["matrix"]["python"] == named
    makefile = (ROOT / "Makefile").read_text()
    for name in jobs["versions"]["strategy"]["matrix"]["versions"]:
        assert f"RESOLUTION_{name} :=" in makefile


def test_the_citation_agrees_with_the_project():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    # Beside it stands the licence of the one file that is not ours.
    assert PROJECT["license"].split(" AND ")[0] == citation["license"]
    assert citation["authors"] == [{"name": "MilForge contributors"}]
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.fixture
def on_slurm(tmp_path):
    """Begins a script in a folder where `said` holds what each stand-in was called with."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").touch()
    tell = 'echo "${0##*/} $@" >> said\n'
    # It saves itself, as the run does, and tells when it listens.
    train = f"trap 'echo saved >> said; exit 143' TERM\n{tell}echo ready\n"
    train += 'while [ "$WAITS" ]; do sleep 0.05; done\n'
    for name, body in (("scontrol", tell), ("srun", tell), ("milforge-train", train)):
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}")
        (tmp_path / name).chmod(0o755)

    def begin(script, *arguments, **env):
        return subprocess.Popen(
            ["bash", ROOT / "scripts" / script, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", **env},
            stdout=subprocess.PIPE,
            text=True,
        )

    return begin, tmp_path / "said"


def test_a_task_of_an_array_that_is_out_of_time_is_saved_and_queued_again(on_slurm):
    begin, said = on_slurm
    task = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3", "WAITS": "1"}
    with begin("recipes/slurm_array.sh", "data=digits", **task) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
    assert said.read_text().splitlines() == [
        "milforge-train trainer=gpu split.fold=3 run=cv_3 data=digits",
        "saved",
        "scontrol requeue 7_3",
    ]
    said.unlink()
    with begin("recipes/slurm_array.sh", **{**task, "WAITS": ""}) as process:
        assert process.wait(30) == 0
    assert "scontrol" not in said.read_text()


@pytest.mark.parametrize(("given", "run"), [((), "run=slurm_42"), (("run=mine",), "run=mine")])
def test_a_job_that_is_queued_again_goes_on_in_its_folder(on_slurm, given, run):
    begin, said = on_slurm
    job = {"SLURM_JOB_ID": "42", "SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2"}
    with begin("slurm_train.sh", *given, **job) as process:
        assert process.wait(30) == 0
    (line,) = said.read_text().splitlines()
    words = line.split()
    assert words[:3] == ["srun", "--kill-on-bad-exit=1", "milforge-train"]
    assert {"trainer.devices=4", "trainer.num_nodes=2", run} <= set(words)
    assert sum(word.startswith("run=") for word in words) == 1


@pytest.mark.parametrize(
    "path", sorted((ROOT / "scripts" / "recipes").iterdir()), ids=lambda path: path.name
)
def test_a_recipe_begins_the_same_run_again_with_keys_that_there_are(path):
    text = path.read_text()
    named = re.findall(r"(?<![\w$.-])((?:data|paths|trainer|split|run)[\w.]*=[^\s\"]+)", text)
    overrides = {each.partition("=")[0]: re.sub(r"\$\{?\w+\}?", "0", each) for each in named}
    assert "run" in overrides
    check_targets(compose_config("train", *overrides.values()))
