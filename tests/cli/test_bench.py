"""`milforge-bench`, on tiny runs."""

import csv
import json
import sys
from pathlib import Path

import pytest

from milforge.cli import bench
from milforge.cli.bench import parse
from milforge.cli.bench_plan import Plan, keep, make_plan

TINY = ("data.train=16", "data.val=8", "data.test=8", "trainer.max_epochs=1", "logger=none")
SMALL = (*TINY, "callbacks.figures=null", "model.encoder.hidden=[8]")
MODELS = ("--models", "gated_abmil,abmil", "--baseline", "abmil")


def table(folder):
    return list(csv.DictReader((folder / "bench.csv").read_text().splitlines()))


@pytest.mark.slow
def test_a_bench_gets_more_seeds_and_runs_nothing_twice(here, tmp_path):
    named = (*MODELS, "sweep=demo", *SMALL, "--select", "val")
    outcome = here("bench", *named, "--seeds", "1")
    assert outcome.returncode == 0, outcome.stderr
    folder = tmp_path / "logs" / "train" / "multiruns" / "demo"
    rows = table(folder)
    assert [row["model"] for row in rows] == ["gated_abmil", "abmil", "chosen by val/loss"]
    assert [row["n"] for row in rows] == ["1", "1", "1"]
    assert {row["metric"] for row in rows} == {"test/auroc"}
    assert [bool(row["diff"]) for row in rows] == [True, False, True]
    gated, plain, _ = [int(row["parameters"]) for row in rows]
    assert gated > plain > 0
    assert all(float(row["seconds"]) > 0 and float(row["peak_bytes"]) > 1e8 for row in rows)
    assert outcome.stdout.count("test/auroc\n") == 1  # one table, not that of the sweep too
    assert "| abmil | 1 |" in (folder / "bench.md").read_text()
    times = {path: path.stat().st_mtime_ns for path in folder.glob("models/*/summary.json")}
    assert len(times) == 2

    outcome = here("bench", *named, "--seeds", "2", "--difference", "0.01")
    assert outcome.returncode == 0, outcome.stderr
    assert all(path.stat().st_mtime_ns == before for path, before in times.items())
    assert [row["n"] for row in table(folder)] == ["2", "2", "2"]
    assert "more seeds for 0.01" in outcome.stdout

    changed = here(
        "bench", *named[2:], "--models", "gated_abmil,abmil", "--baseline", "gated_abmil"
    )
    assert 'was begun with baseline "abmil", got "gated_abmil"' in changed.failure()


def test_a_model_that_fails_leaves_the_table_of_the_others(here, tmp_path):
    outcome = here(
        "bench", "--models", "abmil,sm_abmil", "--seeds", "1", "sweep=demo", "graph=none", *SMALL
    )
    assert "1 of 2 jobs did not finish" in outcome.failure()
    (row,) = table(tmp_path / "logs" / "train" / "multiruns" / "demo")
    assert row["model"] == "abmil"


@pytest.mark.nightly
def test_what_is_told_without_instances_stands_beside(here, tmp_path):
    outcome = here(
        "bench", "--models", "abmil", "--seeds", "1", "--bags-alone", "sweep=demo", *SMALL
    )
    assert outcome.returncode == 0, outcome.stderr
    rows = table(tmp_path / "logs" / "train" / "multiruns" / "demo")
    names = ["abmil", "bag size alone", "file order alone", "shuffled labels"]
    assert [row["model"] for row in rows] == names
    assert [bool(row["mean"]) for row in rows] == [True] * 4
    assert not any(row["diff"] for row in rows)
    sizes = [int(row["parameters"]) for row in rows]
    assert sizes[0] == sizes[3]
    assert sizes[1] == sizes[2] < 2000


@pytest.mark.nightly
def test_unit_tests_judge_each_model_by_each_rule(here, tmp_path):
    outcome = here(
        *("bench", "--models", "abmil", "--seeds", "1", "--unit-tests", "sweep=demo"),
        *("trainer.max_epochs=1", "data.train=16", "data.val=8", "data.test=8", "logger=none"),
        "callbacks.figures=null",
    )
    assert outcome.returncode == 0, outcome.stderr
    folder = tmp_path / "logs" / "train" / "multiruns" / "demo"
    rows = list(csv.DictReader((folder / "unit_tests.csv").read_text().splitlines()))
    assert [row["rule"] for row in rows] == ["single_concept", "threshold", "false_frequency"]
    assert all((row["passes"] == "True") == (float(row["test/auroc"]) >= 0.5) for row in rows)
    assert "verdict" in (folder / "unit_tests.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--models", "abmill"), "no model 'abmill'; did you mean 'abmil'"),
        (("--models", "abmil", "--baseline", "simlp"), "--baseline to be one of --models, abmil"),
        (("--models", "abmil", "--seeds", "0"), "expected --seeds of at least 1, got 0"),
        (("--models", "abmil", "--seeds", "1000000000000"), "at most 100,000 runs of a model"),
        (
            ("--models", "abmil", "data=feature_bags", "data.root=x", "split.folds=[]"),
            r"expected whole numbers of at least 1 as split.folds and split.repeats, got",
        ),
        (
            ("--models", "abmil", "--select", "val", "monitor=train/loss"),
            "--select val: expected runs that go by a metric of validation, got monitor=train/loss",
        ),
        (("--models", "abmil", "--metric", "f1"), "--metric with its part, as test/f1, got f1"),
        (("--models", "abmil", "--folds", "2"), "--folds 2: the split has none"),
        (
            (
                "--models",
                "abmil",
                "--folds",
                "0",
                "data=feature_bags",
                "data.root=x",
                "split=random",
            ),
            "expected --folds of at least 1, got 0",
        ),
        (("--models", "abmil", "--difference", "nan"), "expected --difference above 0, got nan"),
        (("--models", "abmil", "--difference", "-0.1"), "expected --difference above 0, got -0.1"),
        (("--models", "abmil", "seed=3"), "seed=3: the bench says so itself, by --seeds"),
        (("--models", "abmil", "optimizer.lr=1,2"), "expected one value"),
        (("--models", "abmil", "search=optuna"), "searches for none"),
        (("--models", "abmil", "--unit-tests", "data=digits_bags"), "brings data of its own"),
        (
            ("--models", "abmil", "--unit-tests", "--select", "val"),
            "--select: --unit-tests compares",
        ),
    ],
)
def test_what_cannot_be_run_is_said_before_anything_is(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        make_plan(parse(arguments))
    assert not any(tmp_path.iterdir())


def test_all_models_of_bags_and_the_folds_of_a_split(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = ("data=feature_bags", "data.root=bags", "split.folds=3", "~callbacks.figures", "sweep=x")
    plan = make_plan(parse(("--models", "all", "--seeds", "2", *data)))
    assert {"abmil", "transmil", "wikg"} < set(plan.models)
    assert "attention_sampling" not in plan.models
    assert plan.command()[-3:-1] == ["seed=0,1", "split.fold=0,1,2"]
    kept = json.loads((tmp_path / "logs/train/multiruns/x/bench.json").read_text())
    assert kept["folds"] == 3


def test_a_model_that_cannot_be_found_is_left_to_its_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own" / "model").mkdir(parents=True)
    models = {
        "gone": "_target_: nowhere.Net",
        "images": "defaults: [/model/attention_sampling]",
        "unsaid": "hidden: 3",
    }
    for name, text in models.items():
        (tmp_path / "own" / "model" / f"{name}.yaml").write_text(text)
    plan = make_plan(parse(("--models", "all", "--config-dir", "own", "sweep=x")))
    assert set(models) & set(plan.models) == {"gone", "unsaid"}


def test_options_of_the_models_need_not_be_those_of_the_default_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = make_plan(parse(("--models", "clam_sb,clam_mb", "model.k=4", "sweep=x")))
    assert "model.k=4" in plan.command()


def test_folds_of_files_and_of_draws_are_as_many_as_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for split in (("split=files", "split.path=splits"), ("split=random",)):
        data = ("data=feature_bags", "data.root=bags", *split, f"sweep={split[0][6:]}")
        plan = make_plan(parse(("--models", "abmil", "--folds", "3", *data)))
        assert plan.command()[-2] == "split.fold=0,1,2"
        plan = make_plan(parse(("--models", "abmil", *data, f"sweep={split[0][6:]}_one")))
        assert "split.fold" not in " ".join(plan.command())


def test_what_sees_no_instances_is_asked_for_nothing_of_them():
    overrides = ("model.k=4", "graph=knn", "loss.instances=0.5", "init_from=a.ckpt", "loss=focal")
    plan = Plan(Path("x"), "x", ("clam_sb",), "clam_sb", 1, None, None, overrides)
    alone, shuffled = plan.controls()
    assert [each for each in overrides if each in alone] == ["loss=focal"]
    assert set(overrides) < set(shuffled)


@pytest.mark.parametrize("flags", [(), ("--unit-tests",)])
def test_where_there_is_no_table_it_is_said_why_the_runs_failed(tmp_path, monkeypatch, flags):
    (tmp_path / ("unit_tests" if flags else "models") / "0").mkdir(parents=True)
    plan = Plan(tmp_path, "x", ("abmil",), "abmil", 1, None, None, ())
    failed = "error: 1 of 1 jobs did not finish, first 0: the disk is full"
    monkeypatch.setattr(bench, "make_plan", lambda options: plan)
    monkeypatch.setattr(bench, "start", lambda command, folder: failed)
    (tmp_path / ("unit_tests" if flags else "models") / "0" / "config.yaml").write_text("a: 1")
    with pytest.raises(ValueError, match=r"is finished: .*: 1 of 1 jobs .* the disk is full"):
        bench.bench(parse(("--models", "abmil", *flags)))


@pytest.mark.parametrize("code", ["error: bags_alone does not fit", 130])
def test_controls_that_cannot_begin_leave_the_table_of_the_models(tmp_path, monkeypatch, code):
    """But not an interruption."""
    plan = Plan(tmp_path, "x", ("abmil",), "abmil", 1, None, None, ())
    told = []

    def start(command, folder):
        if folder.name != "models":
            sys.exit(code)

    monkeypatch.setattr(bench, "make_plan", lambda options: plan)
    monkeypatch.setattr(bench, "start", start)
    monkeypatch.setattr(bench, "tell", lambda *given: told.append(given))
    options = parse(("--models", "abmil", "--bags-alone"))
    if code == 130:
        with pytest.raises(SystemExit):
            bench.bench(options)
    else:
        assert bench.bench(options) == code
    assert len(told) == (code != 130)


@pytest.mark.parametrize("text", ["", "[1]", '{"a": ', "[" * 10**5, "\x80"])
def test_a_damaged_record_of_a_bench_is_named(tmp_path, text):
    (tmp_path / "bench.json").write_bytes(text.encode("latin-1"))
    plan = Plan(tmp_path, "x", ("abmil",), "abmil", 1, None, None, ())
    with pytest.raises(ValueError, match=r"bench\.json is damaged \(.*remove that file if it was"):
        keep(plan)


def test_a_metric_that_no_run_has_may_be_named_again(tmp_path):
    def plan(metric):
        return Plan(tmp_path, "x", ("abmil",), "abmil", 1, None, metric, ())

    keep(plan("test/f2"))
    (tmp_path / "models" / "0").mkdir(parents=True)
    summary = {"status": "finished", "metrics": {"test/f1": 0.5, "test/ap": 0.5}}
    (tmp_path / "models" / "0" / "summary.json").write_text(json.dumps(summary))
    keep(plan("test/f1"))
    for other in ("test/ap", None):
        with pytest.raises(ValueError, match='was begun with metric "test/f1", got'):
            keep(plan(other))
    keep(plan("test/f1"))


def test_what_a_bench_was_begun_with_may_be_of_any_kind(tmp_path):
    (tmp_path / "bench.json").write_text('{"models": [1, null]}')
    plan = Plan(tmp_path, "x", ("abmil",), "abmil", 1, None, None, ())
    with pytest.raises(ValueError, match="was begun with models 1,None, got abmil"):
        keep(plan)
