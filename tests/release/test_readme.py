"""What the README and the site say runs: their Python, their commands, the files they name."""

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from guides import GUIDES
from milforge.config.keys.key_check import check_targets
from milforge.config.keys.key_help import answer, question
from milforge.config.resolvers import prepare
from test_configs import compose_config

ROOT = Path(__file__).parents[2]
# Guides are followed to the letter elsewhere; configuration.md is written by a script.
SITE = [
    path
    for path in sorted((ROOT / "docs").glob("*.md"))
    if path.name not in {*GUIDES, "configuration.md"}
]
PAGES = [ROOT / "README.md", *SITE]
TEXTS = {path: path.read_text(encoding="utf-8") for path in PAGES}
README = TEXTS[PAGES[0]]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)


def shell(text):
    """The lines of the blocks that a shell runs."""
    blocks = [block for language, block in BLOCK.findall(text) if language == "bash"]
    return [line for block in blocks for line in block.splitlines()]


# A Python file may be named with options; FOLDER and RUN stand for the reader's own.
LINES = list(dict.fromkeys(line for text in TEXTS.values() for line in shell(text)))
COMMANDS = [line for line in LINES if line.startswith(("milforge-train", "make train ARGS"))]
# To compose one takes half a second.
OF_THE_NIGHT = ("dashboard.md", "gallery.md", "scaling.md", "sweeps.md")
LATE = {line for path, text in TEXTS.items() if path.name in OF_THE_NIGHT for line in shell(text)}
SCRIPTS = [line for line in LINES if "python scripts/" in line]


def test_there_is_something_to_test():
    assert len(COMMANDS) > 50
    assert len(SCRIPTS) > 8
    assert len(README.splitlines()) < 300


@pytest.mark.parametrize("name", ["README.md", "docs/start_library.md"])
def test_the_python_blocks_run_one_after_the_other(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for language, block in BLOCK.findall(TEXTS[ROOT / name]):
        if language == "python":
            exec(block, names)
    assert names["z"].shape == (2, 512)
    assert torch.isfinite(names["scores"]).all()
    assert [stop - start for start, stop in pairwise(names["batch"].ptr.tolist())] == [63, 27]
    if name == "README.md":
        assert names["table"]["bag_id"].to_pylist()[0] == "test_0000"


@pytest.mark.parametrize(
    "line",
    [pytest.param(line, marks=[pytest.mark.nightly] * (line in LATE)) for line in COMMANDS],
)
def test_the_overrides_compose_and_bind(line):
    words = shlex.split(line, comments=True)
    given = shlex.split(words[2].removeprefix("ARGS=")) if words[0] == "make" else words[1:]
    if "--help" in given:
        prepare()
        assert answer(question(given), "train", given)
        return
    overrides = [word for word in given if word != "-m" and not word.startswith("hydra.")]
    overrides = [word for word in overrides if "=tag(" not in word]  # of the search alone
    swept = [re.sub(r"=([^\[,]+),.*", r"=\1", word) for word in overrides]
    check_targets(compose_config("train", *swept))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_file_that_is_named_is_there(path):
    text = TEXTS[path]
    linked = [path.parent / name for name in re.findall(r"\]\(((?!http|#)[^)#\s]+)", text)]
    named = re.findall(r"(?<![\w./-])(?:scripts|docs|configs)/[\w/.-]+\.\w+", text)
    named += [
        re.search(r"python (scripts/\S+)", line)[1] for line in shell(text) if line in SCRIPTS
    ]
    made = {"configs/local/default.yaml", "docs/_build/html/index.html"}  # by the reader
    for each in [*linked, *(ROOT / name for name in named if name not in made)]:
        assert each.is_file(), each


def test_every_page_is_on_the_site():
    index = TEXTS[ROOT / "docs" / "index.md"]
    listed = set(re.findall(r"^(\w+)$", index, re.M))
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    assert pages == listed & pages
    assert not {name for name in listed if not (ROOT / "docs" / f"{name}.md").is_file()}


def test_every_option_that_is_named_is_there():
    rows = [
        row
        for text in TEXTS.values()
        for row in re.findall(r"^\| `([\w/]+)` \| (`.+) \|$", text, re.M)
    ]
    groups = [(group, cell) for group, cell in rows if (ROOT / "configs" / group).is_dir()]
    assert len(groups) > 15
    for group, cell in groups:
        listed = set(re.findall(r"`(\w+)`", cell))
        shipped = {path.stem for path in (ROOT / "configs" / group).glob("*.yaml")}
        assert listed == shipped - {"default"}, group
