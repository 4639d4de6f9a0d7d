"""A short version of the script that hands spoilt files and values to the commands."""

import importlib
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def fuzz(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("fuzz")


KINDS = ("HDF5 of a bag", "table of labels", "checkpoint", "folder of a run")


@pytest.mark.parametrize(
    ("options", "least"),
    [
        ([option for kind in KINDS for option in ("--kind", kind)], len(KINDS)),
        pytest.param([], 20, marks=pytest.mark.nightly),
    ],
)
def test_spoilt_inputs_get_a_result_or_a_sentence(fuzz, capsys, options, least):
    code = fuzz.main(["--short", *options])
    printed = capsys.readouterr().out
    assert code == 0, printed
    number, rest = printed.splitlines()[-1].split(" inputs, ")
    assert int(number) >= least
    assert rest.startswith("0 faults")


@pytest.mark.parametrize(
    ("code", "output", "verdict"),
    [
        (0, "fine", "result"),
        (1, "a warning\nerror: a.h5: expected x, got y: mend it\n", "sentence"),
        (1, "", "exit code 1 without a sentence"),
        (1, "error: one\nerror: two\n", "exit code 1 without a sentence"),
        (0, "Traceback (most recent call last)\nKeyError: 'a'", "traceback: KeyError: 'a'"),
        (-14, "", "does not end within 60 s of work, or 300 s of waiting"),
        (-11, "", "was killed by SIGSEGV"),
    ],
)
def test_what_counts_as_a_fault(fuzz, code, output, verdict):
    assert fuzz.judge(code, output, ("train", [])) == verdict


def test_a_fault_ends_the_script_with_code_1(fuzz, monkeypatch, capsys):
    def broken(command, arguments):
        if "split=files" in arguments:
            raise KeyError("ours")
        return 0

    monkeypatch.setattr(fuzz, "run_command", broken)
    splits = fuzz.Input("split file", 0, fuzz.fuzz_inputs.splits)
    monkeypatch.setattr(fuzz, "all_inputs", lambda base, share: [splits])
    assert fuzz.main(["--kind", "split file"]) == 1
    printed = capsys.readouterr().out
    assert "traceback: KeyError: 'ours'" in printed
    assert "1 inputs, 1 faults" in printed
