"""From a clone to a cross-validated table, a map and a report, on made-up files."""

import importlib
import re
import shlex
import sys
from contextlib import contextmanager

import h5py
import numpy as np
import pytest

from project_copy import ROOT

PAGES = [ROOT / "docs" / "start_features.md", ROOT / "README.md"]


def six_commands(page):
    """The lines of the one block that has `make train` and milforge-inspect."""
    blocks = re.findall(r"^```bash\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)
    (block,) = [each for each in blocks if "milforge-inspect" in each and "make train" in each]
    return block.splitlines()


def write_clam(folder, slides=20):
    """Slides as CLAM writes them, two of a patient; tumours show in the first feature."""
    rng = np.random.default_rng(0)
    (folder / "h5_files").mkdir(parents=True)
    rows = ["case_id,slide_id,label"]
    for number in range(slides):
        positive = number // 2 % 2
        tiles = np.argwhere(rng.random((8, 8)) < 0.8)
        features = rng.normal(size=(len(tiles), 6)).astype(np.float32)
        features[:9, 0] += 4 * positive
        with h5py.File(folder / "h5_files" / f"slide_{number}.h5", "w") as file:
            file["features"], file["coords"] = features, 512 * tiles
        rows.append(f"patient_{number // 2},slide_{number},{'tumour' if positive else 'normal'}")
    (folder.parent / "labels.csv").write_text("\n".join(rows) + "\n")


def test_the_pages_tell_the_same_six_commands():
    first, second = map(six_commands, PAGES)
    assert first == second
    assert len(first) == 6


@contextmanager
def suppress_exit():
    """A command may end the process, with code 0."""
    try:
        yield
    except SystemExit as end:
        if end.code:
            raise


@pytest.mark.slow
def test_six_commands_lead_to_a_table_a_map_and_a_report(tmp_path, monkeypatch, capsys):
    """Two folds of one epoch; the commands of the Makefile and the shell are not run."""
    write_clam(tmp_path / "FOLDER")
    monkeypatch.chdir(tmp_path)
    make, activate, *commands = six_commands(PAGES[0])
    assert (make, activate) == ("make train", "source .venv/bin/activate")
    said = []
    for line in commands:
        command, *arguments = shlex.split(line.replace("split.fold=0,1,2,3,4", "split.fold=0,1"))
        if command == "milforge-train":
            arguments += ["trainer.max_epochs=1", "logger=csv", "callbacks.figures=null"]
        if command == "milforge-map":
            arguments += ["logger=csv"]
        module = importlib.import_module(f"milforge.cli.{command.removeprefix('milforge-')}")
        monkeypatch.setattr(sys, "argv", [command, *arguments])
        with suppress_exit():
            module.main()
        said.append(capsys.readouterr().out)
    inspected, trained, reported, _ = said
    assert "20" in inspected
    assert "4 finished" in trained or "4 done" in trained
    assert "clam_sb" in reported
    assert "test/auroc" in reported
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "clam_sb" in page
    assert list(tmp_path.glob("logs/map/**/*.html"))
