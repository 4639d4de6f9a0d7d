"""What the README says runs: its Python, its commands, the files it names."""

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from milforge.config.key_check import check_targets
from milforge.config.key_help import answer, question
from milforge.config.resolvers import prepare
from test_configs import compose_config

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.M | re.S)
SHELL = [line for language, block in BLOCKS if language == "bash" for line in block.splitlines()]
# A Python file may be named with options; FOLDER and RUN stand for the reader's own.
COMMANDS = [line for line in SHELL if line.startswith(("milforge-train", "make train ARGS"))]
SCRIPTS = [line for line in SHELL if "python scripts/" in line]


def test_there_is_something_to_test():
    assert len(COMMANDS) > 10
    assert len(SCRIPTS) > 8


def test_the_python_blocks_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for language, block in BLOCKS:
        if language == "python":
            exec(block, names)
    assert names["z"].shape == (2, 512)
    assert torch.isfinite(names["scores"]).all()
    assert names["table"]["bag_id"].to_pylist()[0] == "test_0000"
    assert [stop - start for start, stop in pairwise(names["batch"].ptr.tolist())] == [63, 27]


@pytest.mark.parametrize("line", COMMANDS)
def test_the_overrides_compose_and_bind(line):
    words = shlex.split(line, comments=True)
    given = shlex.split(words[2].removeprefix("ARGS=")) if words[0] == "make" else words[1:]
    if "--help" in given:
        prepare()
        assert answer(question(given), "train", given)
        return
    overrides = [word for word in given if word != "-m"]
    swept = [re.sub(r"=([^\[,]+),.*", r"=\1", word) for word in overrides]
    check_targets(compose_config("train", *swept))


def test_every_file_that_is_named_is_there():
    named = re.findall(r"\]\(((?!http)[^)#]+)\)", TEXT)
    named += re.findall(r"\b(?:scripts|docs|configs)/[\w/.-]+\.\w+", TEXT)
    named += [re.search(r"python (scripts/\S+)", line)[1] for line in SCRIPTS]
    named = [name for name in named if name != "configs/local/default.yaml"]  # the reader's own
    assert named
    for name in named:
        assert (ROOT / name).is_file(), name


def test_every_option_that_is_named_is_there():
    for group, cell in re.findall(r"^\| `([\w/]+)` \| (`.+) \|$", TEXT, re.M):
        if (ROOT / "configs" / group).is_dir():
            listed = set(re.findall(r"`(\w+)`", cell))
            shipped = {path.stem for path in (ROOT / "configs" / group).glob("*.yaml")}
            assert listed == shipped - {"default"}
