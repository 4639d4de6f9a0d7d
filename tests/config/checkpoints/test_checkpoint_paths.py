"""Which checkpoints a value of `ckpt_path` stands for."""

import re

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from milforge.config.checkpoints.checkpoint_paths import (
    different_parts,
    named_checkpoints,
    override,
)

FILES = (
    "demo/multirun.yaml",
    *(f"demo/{job}/checkpoints/{name}.ckpt" for job in (0, 1, 10) for name in ("best", "last")),
    "plain/b.ckpt",
    "plain/a.ckpt",
    "plain/notes.txt",
    "empty/notes.txt",
    "odd/epoch=3.ckpt",
    "odd/[1].ckpt",
    "odd/a,b.ckpt",
    "odd/it's.ckpt",
)
BEST = [f"demo/{job}/checkpoints/best.ckpt" for job in (0, 1, 10)]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (BEST[0], BEST[:1]),
        ("demo", BEST),
        ("demo/0", BEST[:1]),
        ("demo/1/checkpoints", BEST[1:2]),
        ("plain", ["plain/a.ckpt", "plain/b.ckpt"]),
        ("demo/*/checkpoints/best.ckpt", BEST),
        ("demo/**/best.ckpt", BEST),
        ("demo/[0-9]", BEST[:2]),
        (
            "demo/?/checkpoints/[bl]*t.ckpt",
            [f"demo/{job}/checkpoints/{name}.ckpt" for job in (0, 1) for name in ("best", "last")],
        ),
        (f"[{BEST[2]},{BEST[0]}]", [BEST[2], BEST[0]]),
        (f"[{BEST[0]}]", BEST[:1]),
        (f"['{BEST[0]}', \"plain\"]", [BEST[0], "plain/a.ckpt", "plain/b.ckpt"]),
        ("['demo/[1-9]*','odd/epoch=3.ckpt']", [*BEST[1:], "odd/epoch=3.ckpt"]),
        ("odd/[1].ckpt", ["odd/[1].ckpt"]),
        ("odd/a,b.ckpt", ["odd/a,b.ckpt"]),
    ],
)
def test_files(text, expected):
    assert named_checkpoints(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nowhere.ckpt", "ckpt_path: there is no file nowhere.ckpt"),
        ("[plain,nowhere.ckpt]", "ckpt_path: there is no file nowhere.ckpt"),
        ("demo/*/best.ckpt", "ckpt_path: no file matches demo/*/best.ckpt"),
        ("empty", "ckpt_path: the folder empty has no best.ckpt below it, nor any .ckpt file"),
        ("[]", "ckpt_path: expected at least one checkpoint, got []"),
        ("[plain,plain/a.ckpt]", "a.ckpt is named 2 times; name each checkpoint once"),
        ("a.ckpt,b.ckpt", "expected one checkpoint or a list in brackets, which is averaged, got"),
        ("choice(a,b)", "run the command once for each"),
        ("[odd/epoch=3.ckpt]", "cannot be read as a list; put quotes round each of its paths"),
    ],
)
def test_what_stands_for_no_file_is_refused(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        named_checkpoints(text)


@pytest.mark.parametrize(
    "paths", [["odd/it's.ckpt"], ["odd/epoch=3.ckpt"], ["odd/a,b.ckpt", "c d"]]
)
def test_hydra_reads_the_paths_again(paths):
    value = OverridesParser.create().parse_override(override(paths)).value()
    assert value == (paths if len(paths) > 1 else paths[0])


def run(seed=0, *, root="here", labels="labels.csv", fold=None, split_seed=None):
    """What decides about the test part in the config of a run."""
    if fold is None and split_seed is None:
        return {"seed": seed, "data": {"target": 9, "seed": seed}, "split": None}
    split = {"fold": fold, "seed": split_seed}
    return {"seed": seed, "data": {"root": root, "labels": labels, "seed": seed}, "split": split}


@pytest.mark.parametrize(
    ("configs", "config", "expected"),
    [
        ([run(1, fold=0), run(2, fold=0)], run(3, fold=0), []),
        ([run(fold=0), run(fold=1), run(fold=0)], run(fold=0), ["split.fold"]),
        ([run(fold=0, root="a"), run(fold=1, root="a")], run(fold=0, root="b"), []),
        (
            [run(split_seed=0), run(split_seed=1, labels="x")],
            run(split_seed=0),
            ["data.labels", "split.seed"],
        ),
        ([run(fold=0), run(fold=1)], run(root="b"), []),
        ([run(1), run(2)], run(1), []),  # generated data: no bag of a run is like its test bags
    ],
)
def test_members_whose_test_parts_may_differ(configs, config, expected):
    """Where the data are those of the first."""
    assert different_parts(configs, config) == expected
