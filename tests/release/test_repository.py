"""What lies around the code: workflows, recipes, forms. None of them can be run here."""

import re
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
        command, target, *variables = re.sub(r"\$\{\{.*?\}\}", "x", line).split()
        assert command == "make"
        assert target in targets
        for each in variables:  # such as VERSIONS=newest
            assert re.match(r"^[A-Z]+=", each)


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


@pytest.mark.parametrize(
    "path", sorted((ROOT / "scripts" / "recipes").iterdir()), ids=lambda path: path.name
)
def test_a_recipe_begins_the_same_run_again_with_keys_that_there_are(path):
    text = path.read_text()
    named = re.findall(r"(?<![\w$.-])((?:data|paths|trainer|split|run)[\w.]*=[^\s\"]+)", text)
    overrides = {each.partition("=")[0]: re.sub(r"\$\{?\w+\}?", "0", each) for each in named}
    assert "run" in overrides
    check_targets(compose_config("train", *overrides.values()))
