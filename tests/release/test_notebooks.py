"""The notebooks run from top to bottom; what they claim, they assert."""

import re
import runpy

import pytest

from project_copy import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.py"))


@pytest.mark.nightly
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_made_of_cells_and_is_named(path):
    text = path.read_text(encoding="utf-8")
    kinds = re.findall(r"^# %%(.*)$", text, re.M)
    assert kinds[0] == " [markdown]"
    assert kinds.count("") >= 2
    assert text.startswith("# ---\n# jupyter:")
    assert f"| `{path.name}` |" in (ROOT / "docs" / "notebooks.md").read_text()
