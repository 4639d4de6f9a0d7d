"""Follows the guides to the letter, in a copy of the project.

A fenced block that begins with a path in a comment is that file (Hydra wants `# @package` before
it); other `python` blocks and the lines of `bash` blocks are run, in the order in which they
stand. `console` blocks need the internet: the config that they would run is composed, and no more.
"""

import re
import shlex

from project_copy import ROOT, run_all

# The last writes a local config, which holds for all runs after it.
GUIDES = (
    "own_model.md",
    "own_dataset.md",
    "own_loss.md",
    "own_metric.md",
    "own_module.md",
    "own_task.md",
    "own_package.md",
    "outcomes.md",
    "streams.md",
    "own_experiment.md",
)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
FILE = re.compile(r"(?:# @package \w+\n)?# ([\w./-]+\.(?:py|yaml))\n")
MODULES = {
    "milforge-train": "milforge.cli.train",
    "milforge-evaluate": "milforge.cli.evaluate",
    "milforge-predict": "milforge.cli.predict",
}
# The guides train to the end and draw; here it is enough that they begin.
SHORT = ["logger=csv", "~callbacks.figures"]
TRAIN = ["trainer.max_epochs=1"]
FEW = ["data.train=40", "data.val=20", "data.test=20"]  # of the generated data that are shipped


def follow(folder, guides=GUIDES):
    """Follows guides in a copy of the project.

    Returns:
        What each command, or Python block, printed.
    """
    steps = {source: step for guide in guides for source, step in steps_of(guide, folder)}
    return dict(zip(steps, run_all(folder, list(steps.values())), strict=True))


def steps_of(guide, folder):
    """The blocks and lines of a guide, each with what `run_all` is to do for it."""
    for language, block in BLOCK.findall((ROOT / "docs" / guide).read_text(encoding="utf-8")):
        if named := FILE.match(block):
            # The file is written when its turn comes: what stands above must do without it.
            (folder / named[1]).parent.mkdir(parents=True, exist_ok=True)
            yield block, ("code", f"open({named[1]!r}, 'x').write({block!r})", [])
        elif language == "python":
            yield block, ("code", block, [])
        elif language != "text":
            assert language in ("bash", "console"), f"{guide}: a block of {language}"
            for line in block.splitlines():
                yield line, as_step(line, online=language == "console")


def as_step(line, *, online):
    """What `run_all` is to do for a line of a guide."""
    command, *arguments = [word for word in shlex.split(line) if not word.startswith("PYTHONPATH=")]
    if command == "python":
        assert arguments[0] == "-m", line
        return ("module", arguments[1], arguments[2:])
    if online:
        return ("module", MODULES[command], [*arguments, "--cfg", "job"])
    short = [*TRAIN, *SHORT] if command == "milforge-train" else SHORT
    if command == "milforge-train" and not any(each.startswith("data=") for each in arguments):
        short = [*FEW, *short]
    return ("module", MODULES[command], [*arguments, *short])
