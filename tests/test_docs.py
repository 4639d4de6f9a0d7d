"""The guides are followed to the letter, in a copy of the project.

A fenced block whose first line is a comment with a path is that file; other `python` blocks and the
lines of `bash` blocks are run, in the order in which they stand. `console` blocks need the
internet: the config that they would run is composed, and no more.
"""

import json
import re
import shlex
import statistics

from omegaconf import OmegaConf
from project_copy import ROOT, copy_project, ruff, run_all

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
FILE = re.compile(r"# ([\w./-]+\.(?:py|yaml))\n")
MODULES = {
    "milforge-train": "milforge.cli.train",
    "milforge-evaluate": "milforge.cli.evaluate",
    "milforge-predict": "milforge.cli.predict",
}
# The guides train to the end; here it is enough that they begin.
SHORT = ["trainer.max_epochs=1", "logger=csv"]


def follow(guide, folder):
    """Writes the files of a guide into the copy, and runs the rest.

    Returns:
        Pairs of a command, or the source of a Python block, and what it printed.
    """
    steps, said = [], []
    for language, block in BLOCK.findall((ROOT / "docs" / guide).read_text(encoding="utf-8")):
        if named := FILE.match(block):
            # The file is written when its turn comes: what stands above must do without it.
            source = f"open({named[1]!r}, 'x').write({block!r})"
            (folder / named[1]).parent.mkdir(parents=True, exist_ok=True)
            steps.append(("code", source, []))
            said.append(named[1])
        elif language == "python":
            steps.append(("code", block, []))
            said.append(block)
        else:
            assert language in ("bash", "console"), f"{guide}: a block of {language}"
            for line in block.splitlines():
                steps.append(as_step(line, online=language == "console"))
                said.append(line)
    return list(zip(said, run_all(folder, steps), strict=True))


def as_step(line, *, online):
    """What `run_all` is to do for a line of a guide."""
    command, *arguments = shlex.split(line)
    if command == "python":
        assert arguments[0] == "-m", line
        return ("module", arguments[1], arguments[2:])
    if online:
        return ("module", MODULES[command], [*arguments, "--cfg", "job"])
    short = SHORT if command == "milforge-train" else ["logger=csv"]
    return ("module", MODULES[command], [*arguments, *short])


def summaries(folder):
    """The results of all finished runs, by the folder of the run."""
    found = sorted(folder.glob("**/summary.json"))
    return {str(path.parent.relative_to(folder)): json.loads(path.read_text()) for path in found}


def models(folder):
    """The class of each run's network, or of its pooling."""
    configs = [OmegaConf.load(path) for path in sorted(folder.glob("logs/**/config.yaml"))]
    return [(config.model.get("pool") or config.model)._target_ for config in configs]


def test_own_model(tmp_path):
    folder = copy_project(tmp_path)
    said = follow("own_model.md", folder)
    (tested,) = (output for line, output in said if line.startswith("python -m pytest"))
    assert "3 passed" in tested
    top = "milforge.nn.topk_pool.TopKPool"
    assert models(folder) == [top, top, "milforge.models.instance_max.InstanceMax"]
    assert [run["status"] for run in summaries(folder).values()] == ["finished"] * 3
    ruff(folder, "format", "--check")
    ruff(folder, "check")


def test_own_dataset(tmp_path):
    folder = copy_project(tmp_path)
    said = follow("own_dataset.md", folder)
    (looked,) = (output for line, output in said if "data.setup()" in line)
    assert "train 200 bags" in looked
    assert "100 positive" in looked
    runs = list(summaries(folder).values())
    assert [run["data"]["bags"] for run in runs] == [{"train": 200, "val": 100, "test": 100}] * 2
    # One epoch finds the malignant tumours already; half of them would be chance.
    assert runs[0]["metrics"]["test/auroc"] > 0.8
    ruff(folder, "format", "--check")
    ruff(folder, "check")


def test_own_experiment(tmp_path):
    folder = copy_project(tmp_path)
    said = follow("own_experiment.md", folder)
    sweep = summaries(folder / "logs" / "train" / "multiruns" / "sevens")
    assert [run["seed"] for run in sweep.values()] == [0, 1, 2]
    (table,) = (output for line, output in said if "stdev(values)" in line)
    values = [run["metrics"]["test/auroc"] for run in sweep.values()]
    assert table.startswith(f"test/auroc {statistics.mean(values):.3f} +- ")
    (worst,) = (output for line, output in said if "instances.parquet" in line)
    assert "'weight'" in worst
    (online,) = (output for line, output in said if "offline=false" in line)
    assert OmegaConf.create(online).logger.wandb.offline is False
    assert (folder / "my_logs" / "train" / "runs").is_dir()


def test_every_guide_is_followed():
    followed = {"own_model.md", "own_dataset.md", "own_experiment.md"}
    assert {path.name for path in (ROOT / "docs").glob("own_*.md")} == followed
