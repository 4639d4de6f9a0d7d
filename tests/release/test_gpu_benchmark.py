"""The benchmark of a GPU can be tried without one."""

import re
import runpy
import sys

import pytest

from project_copy import ROOT


def run(monkeypatch, *arguments):
    monkeypatch.syspath_prepend(ROOT / "scripts/benchmark")
    monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments])
    runpy.run_path(str(ROOT / "scripts/benchmark/gpu.py"), run_name="__main__")


@pytest.mark.slow
def test_every_part_can_be_tried_on_a_cpu(monkeypatch, capsys):
    parts = ("parity", "ceilings", "pooling", "sm", "epochs")
    run(monkeypatch, "--device", "cpu", "--tiny", "--parts", *parts)
    printed = capsys.readouterr().out
    errors = dict(re.findall(r"^\| (\w+) \| (\d\S+)", printed, re.MULTILINE))
    assert list(errors) == ["abmil", "acmil"]
    assert max(map(float, errors.values())) < 1e-3
    assert len(re.findall(r"^epoch .*: \d+\.\d+ M instances/s$", printed, re.MULTILINE)) == 5
    for part in parts:
        assert f"# {part}\n" in printed
    assert "Sm, 64 instances: " in printed
    assert "% of the copy" in printed


def test_what_would_begin_too_late_is_named(monkeypatch, capsys):
    run(monkeypatch, "--device", "cpu", "--tiny", "--parts", "ceilings", "--minutes", "-1")
    assert "ceilings: left out, the time is over" in capsys.readouterr().out
