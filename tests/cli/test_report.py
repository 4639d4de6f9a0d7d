"""Reports on folders of runs that the tests write themselves."""

import csv
import json
import os
import subprocess
import sys
from time import time

import numpy as np
import pytest
from matplotlib.image import imread
from omegaconf import OmegaConf

from milforge.config.planned_jobs import planned_jobs
from milforge.report.groups import group_runs
from milforge.report.runs import QUIET_SECONDS, read_run
from thinned import thinned

MODELS = {
    "abmil": {"_target_": "x.Net", "pool": {"_target_": "x.Pool", "gated": False, "att_dim": 128}},
    "gated_abmil": {
        "_target_": "x.Net",
        "pool": {"_target_": "x.Pool", "gated": True, "att_dim": 128, "act": "sigmoid"},
    },
}


def write_run(folder, *, metrics=None, model="abmil", seed=0, said=True, **keys):
    """A run's folder; without metrics it is not done."""
    changed = {"data.seed": seed, "seed": seed, **keys}
    config = OmegaConf.create(
        {
            "task_name": "train",
            "monitor": "val/loss",
            "data": {"train": 100, "root": "bags", "cache": f"cache/seed{seed}.bin"},
            "model": MODELS[model],
            "optimizer": {"lr": 1e-3},
            "callbacks": {"checkpoint": {"dirpath": f"{folder}/checkpoints"}},
            "logger": {"csv": {"save_dir": str(folder)}},
            "paths": {"output_dir": str(folder)},
        }
    )
    fingerprint = changed.pop("fingerprint", f"data-{seed}")
    for key, value in changed.items():
        OmegaConf.update(config, key, value, force_add=True)
    folder.mkdir(parents=True)
    OmegaConf.save(config, folder / "config.yaml")
    lines = [f"model={model}"] * said + [f"{key}={value}" for key, value in changed.items()]
    (folder / "overrides").write_text("".join(f"{line}\n" for line in lines))
    if metrics is not None:
        summary = {"status": "finished", "metrics": metrics, "monitor": "val/loss"}
        summary["data"] = {"fingerprint": fingerprint}
        (folder / "summary.json").write_text(json.dumps(summary))


AUROC = {"abmil": [0.80, 0.84, 0.79, 0.86], "gated_abmil": [0.83, 0.86, 0.83, 0.87]}


@pytest.fixture
def sweep(tmp_path):
    """Two models, four seeds."""
    for number, (model, values) in enumerate(AUROC.items()):
        for seed, value in enumerate(values):
            folder = tmp_path / "sweep" / str(4 * number + seed)
            metrics = {"val/loss": 0.5, "test/auroc": value, "test/loss": 1 - value}
            write_run(folder, metrics=metrics, model=model, seed=seed)
    return tmp_path / "sweep"


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def error(outcome):
    assert outcome.returncode == 1
    (line,) = [line for line in outcome.stderr.splitlines() if line]
    return line.removeprefix("error: ")


def table(outcome, metric):
    """Lines of the table of a metric, split where two blanks stand."""
    _, _, below = outcome.stdout.partition(f"{metric}\n")
    lines = below.split("\n\n")[0].splitlines()
    return [[cell for cell in line.split("  ") if cell] for line in lines]


@pytest.mark.slow
def test_the_command_writes_all_it_says(sweep, process):
    outcome = process("report", "sweep", "--baseline", "model=abmil")
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stderr == ""
    assert outcome.stdout.startswith("8 runs: 8 finished\n")
    out = sweep / "report"
    rows = read_csv(out / "report.csv")
    assert [(row["group"], row["metric"]) for row in rows] == [
        ("model=abmil", "test/auroc"),
        ("model=gated_abmil", "test/auroc"),
        ("model=abmil", "test/loss"),
        ("model=gated_abmil", "test/loss"),
    ]
    for row, values in zip(rows, AUROC.values(), strict=False):
        assert row["n"] == "4"
        assert float(row["mean"]) == pytest.approx(np.mean(values))
        assert float(row["std"]) == pytest.approx(np.std(values, ddof=1))
        assert min(values) <= float(row["ci_low"]) < float(row["mean"]) < float(row["ci_high"])
    baseline, compared = rows[:2]
    assert baseline["diff"] == baseline["p"] == baseline["pairs"] == ""
    assert compared["baseline"] == "model=abmil"
    assert compared["pairs"] == "4"
    differences = np.subtract(AUROC["gated_abmil"], AUROC["abmil"])
    assert float(compared["diff"]) == pytest.approx(differences.mean())
    assert 0.01 <= float(compared["diff_low"]) < 0.025 < float(compared["diff_high"]) <= 0.04
    assert float(compared["p"]) == 0.125  # all four of one sign: 2 of 16 flips

    runs = read_csv(out / "runs.csv")
    assert [run["folder"] for run in runs] == [f"sweep/{job}" for job in range(8)]
    assert [float(run["test/auroc"]) for run in runs] == [*AUROC["abmil"], *AUROC["gated_abmil"]]
    assert [run["seed"] for run in runs] == [*"01230123"]
    assert {run["model"] for run in runs[:4]} == {"abmil"}

    markdown = (out / "report.md").read_text()
    assert "## test/auroc" in markdown
    assert "| gated_abmil | 4 | 0.8475 | 0.0206 |" in markdown
    assert "+0.0250" in outcome.stdout
    assert "+0.0250" in markdown
    assert "p is at least 0.125" in outcome.stdout
    picture = imread(out / "report.png")
    assert min(picture.shape[:2]) > 150
    assert len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 20


def test_a_report_needs_no_torch_and_help_needs_nothing(sweep):
    heavy = "{'torch', 'lightning', 'wandb', 'sklearn'}"
    code = (
        "import sys, milforge.cli.report as r\n"
        "assert not {'numpy', 'scipy', 'hydra', 'omegaconf'} & set(sys.modules)\n"
        "r.report(r.parse(sys.argv[1:]))\n"
        f"print('heavy:', sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(sweep)], capture_output=True, text=True, check=True
    )
    assert "test/auroc" in done.stdout
    assert "report.png" in done.stdout
    assert "heavy: []" in done.stdout


def test_groups_by_what_differs_but_seeds_paths_and_what_follows(sweep, here, tmp_path):
    write_run(tmp_path / "more/0", metrics={"test/auroc": 0.9}, seed=4, said=False)
    write_run(tmp_path / "more/1", metrics={"test/auroc": 0.7}, **{"optimizer.lr": 0.01})
    outcome = here("report", "sweep", "more", "--metrics", "test/auroc")
    assert outcome.returncode == 0, outcome.stderr
    head, *lines = table(outcome, "test/auroc")
    assert [cell.strip() for cell in head[:3]] == ["model", "lr", "n"]
    cells = [[cell.strip() for cell in line][:3] for line in lines]
    assert cells == [
        ["abmil", "0.001", "5"],  # the run that named no model has the keys of this one
        ["gated_abmil", "0.001", "4"],
        ["abmil", "0.01", "1"],
    ]


def test_a_key_that_goes_with_the_seed_but_was_asked_for_is_told(here, tmp_path):
    for seed in range(3):
        write_run(
            tmp_path / f"a/{seed}", metrics={"test/auroc": 0.5}, seed=seed, **{"data.k": seed}
        )
    outcome = here("report", "a")
    assert [line[0].strip() for line in table(outcome, "test/auroc")] == ["k", "0", "1", "2"]


def test_folds_are_resampled_first(here, tmp_path):
    """Three folds that differ, two seeds each that agree: the interval is that of the folds."""
    for fold, value in enumerate((0.6, 0.7, 0.9)):
        for seed in range(2):
            folder = tmp_path / f"a/{2 * fold + seed}"
            write_run(folder, metrics={"test/auroc": value}, seed=seed, **{"split.fold": fold})
    outcome = here("report", "a")
    assert "over folds, then over the runs of a fold" in outcome.stdout
    assert "Nadeau and Bengio" in outcome.stdout
    (row,) = read_csv(tmp_path / "a/report/report.csv")
    assert row["group"] == "all runs"
    assert row["n"] == "6"
    assert (float(row["ci_low"]), float(row["ci_high"])) == pytest.approx((0.6, 0.9))


def test_by_and_baseline_within_each_value_of_the_rest(here, tmp_path):
    values = {("abmil", 50): 0.6, ("gated_abmil", 50): 0.7, ("abmil", 99): 0.8}
    values |= {("gated_abmil", 99): 0.85}
    for job, ((model, train), value) in enumerate(values.items()):
        for seed in range(2):
            folder = tmp_path / f"a/{job}_{seed}"
            write_run(
                folder,
                metrics={"test/auroc": value + 0.01 * seed},
                model=model,
                seed=seed,
                **{"data.train": train},
            )
    assert here("report", "a", "--baseline", "model=abmil").returncode == 0
    rows = {row["group"]: row for row in read_csv(tmp_path / "a/report/report.csv")}
    for train, difference in ((50, 0.1), (99, 0.05)):
        row = rows[f"model=gated_abmil train={train}"]
        assert row["baseline"] == f"model=abmil train={train}"
        assert float(row["diff"]) == pytest.approx(difference)
    outcome = here("report", "a", "--by", "train", "--baseline", "data.train=50")
    assert "Runs of a group differ in more than seed and fold: model." in outcome.stdout
    rows = {row["group"]: row for row in read_csv(tmp_path / "a/report/report.csv")}
    assert list(rows) == ["train=50", "train=99"]
    assert float(rows["train=99"]["diff"]) == pytest.approx((0.2 + 0.15) / 2)
    assert rows["train=99"]["pairs"] == "4"


def test_runs_before_and_after_an_update_are_no_pair_and_are_named(tmp_path):
    runs = []
    # The first run was made before the models but the last had the key.
    for job, (model, key) in enumerate([("abmil", {}), ("gated_abmil", {"model.aem": 0.0})] * 2):
        key = {"model.aem": 0.0} if job == 2 else key
        write_run(
            tmp_path / str(job), metrics={"test/auroc": 0.8}, model=model, seed=job // 2, **key
        )
        os.utime(tmp_path / str(job) / "summary.json", (job, job))
        runs.append(read_run(tmp_path / str(job)))
    grouping = group_runs(runs, ["model"])
    plain, gated = (set(group.runs) for group in grouping.groups)
    assert len(plain & gated) == 1
    (note,) = (each for each in grouping.notes if "in no pair" in each)
    assert note.startswith("model.aem: only some runs")
    assert note.endswith(f"runs them again: {tmp_path / '0'}.")

    write_run(tmp_path / "4", metrics={"test/auroc": 0.8}, seed=0, **{"model.aem": 0.0})
    again = group_runs([read_run(tmp_path / "4"), *runs[1:]], ["model"])
    assert not any("in no pair" in each for each in again.notes)
    assert set(again.groups[0].runs) == set(again.groups[1].runs)


def test_a_survey_of_a_sweep(sweep, here):
    write_run(sweep / "8", model="abmil", seed=4)  # at work
    write_run(sweep / "9", model="abmil", seed=5)
    (sweep / "10").mkdir()  # died before it wrote anything
    before = time() - QUIET_SECONDS - 60
    for path in (*(sweep / "9").iterdir(), sweep / "9", sweep / "10"):
        os.utime(path, (before, before))
    write_run(sweep / "11", metrics={"test/auroc": 0.2}, seed=6)
    failed = {"status": "failed", "error": "ValueError: no bags", "metrics": {"test/auroc": 0.1}}
    (sweep / "11" / "summary.json").write_text(json.dumps(failed))
    write_run(sweep / "12", metrics={"test/auroc": 0.2}, seed=7)
    (sweep / "12" / "summary.json").write_text('{"status": "finis')
    tasks = ["model=abmil,gated_abmil", "seed=range(0,10)", "data.train=100", "sweep=sweep"]
    sweeper = {"_target_": "BasicSweeper", "params": {"data.k": "3"}}
    multirun = {"hydra": {"sweeper": sweeper, "overrides": {"task": tasks}}}
    OmegaConf.save(OmegaConf.create(multirun), sweep / "multirun.yaml")
    outcome = here("report", "sweep", "--metrics", "test/auroc")
    assert outcome.returncode == 0, outcome.stderr
    first, second, third, fourth = outcome.stdout.split("\n\n")[0].splitlines()
    assert first == "20 runs: 8 finished, 1 failed, 2 stopped, 1 running, 1 unreadable, 7 left"
    assert second == (
        "3 of 13 runs have no summary: sweep/8 (running), sweep/9 (stopped), sweep/10 (stopped)"
    )
    assert third == "failed: sweep/11: ValueError: no bags"
    assert fourth.startswith("unreadable: sweep/12: summary.json is damaged (Unterminated string")
    rows = read_csv(sweep / "report" / "report.csv")
    assert [row["n"] for row in rows] == ["4", "4"]  # none of these is averaged
    states = [run["state"] for run in read_csv(sweep / "report" / "runs.csv")]
    assert states[8:] == ["running", "stopped", "stopped", "failed", "unreadable"]
    # Who names one job does not hear of the others.
    assert here("report", "sweep/0", "--out", "x").stdout.startswith("1 run: 1 finished\n")


def test_runs_that_measured_nothing_are_counted_and_compared_with_nothing(sweep, here):
    write_run(sweep / "8", metrics={}, task_name="map", said=False)
    write_run(sweep / "9", metrics={}, task_name="predict", said=False)
    write_run(sweep / "10", metrics={"test/auroc": None}, seed=9)  # it did measure: NaN
    outcome = here("report", "sweep", "--baseline", "model=abmil", "--html", "page.html")
    assert outcome.returncode == 0, outcome.stderr
    first, second, *_ = outcome.stdout.splitlines()
    assert first == "11 runs: 11 finished"
    assert second == (
        "2 runs without metrics, as of milforge-map and milforge-predict, are left out of means "
        "and comparisons"
    )
    rows = read_csv(sweep / "report" / "report.csv")
    assert [row["group"] for row in rows] == ["model=abmil", "model=gated_abmil"] * 2
    assert "4 of 5" in outcome.stdout
    runs = read_csv(sweep / "report" / "runs.csv")
    assert [run["group"] for run in runs[8:]] == ["", "", "model=abmil"]
    assert "9 finished runs with metrics, 2 groups" in (sweep.parent / "page.html").read_text()


def test_a_sweep_just_begun(here, tmp_path):
    write_run(tmp_path / "a/0")
    outcome = here("report", "a")
    assert outcome.returncode == 0
    assert outcome.stdout.splitlines()[-1].startswith("no run is finished")
    assert not (tmp_path / "a/report").exists()


def test_the_newest_of_equal_runs_counts_and_changed_data_is_told(here, tmp_path):
    for job, value in enumerate((0.5, 0.9, 0.7)):
        folder = tmp_path / f"a/{job}"
        write_run(folder, metrics={"test/auroc": value}, fingerprint=f"of {job // 2}")
        os.utime(folder / "summary.json", (1000 - job, 1000 - job))
    outcome = here("report", "a")
    assert (
        "Left out, as a newer run has the same config, seed and fold: a/1, a/2." in outcome.stdout
    )
    assert "saw different data, as its fingerprint tells: a/0, a/2." in outcome.stdout
    (row,) = read_csv(tmp_path / "a/report/report.csv")
    assert (row["n"], row["mean"], row["std"], row["ci_low"]) == ("1", "0.5", "", "")


def test_a_metric_of_some_runs_is_told_with_their_number(sweep, here):
    path = sweep / "0" / "summary.json"
    summary = json.loads(path.read_text())
    summary["metrics"] |= {"test/auroc": None, "test/f1": 0.5}
    path.write_text(json.dumps(summary))
    outcome = here("report", "sweep", "--baseline", "model=abmil")
    assert "3 of 4" in outcome.stdout
    rows = {(r["model"], r["metric"]): r for r in read_csv(sweep / "report" / "report.csv")}
    assert rows["abmil", "test/auroc"]["n"] == rows["gated_abmil", "test/auroc"]["pairs"] == "3"
    assert rows["gated_abmil", "test/f1"]["n"] == "0"
    assert rows["gated_abmil", "test/f1"]["mean"] == ""


@pytest.mark.parametrize(
    "told", thinned([{"bags": 7, "of": 9}, None, {"bags": "many"}, [3]], every=2)
)
def test_runs_on_bags_that_were_trained_on_are_named(here, tmp_path, sweep, told):
    path = sweep / "3" / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "seen_in_training": told}))
    outcome = here("report", "sweep")
    assert outcome.returncode == 0, outcome.stderr
    line = "sweep/3: 7 of its test bags were seen in training, so its metrics are too good\n"
    assert outcome.stdout.count("seen in training") == (told == {"bags": 7, "of": 9})
    assert (line in outcome.stdout) == (told == {"bags": 7, "of": 9})


def test_runs_that_were_not_tested_are_told_by_their_monitor(here, tmp_path):
    write_run(tmp_path / "a", metrics={"val/loss": 0.4, "train/loss": 0.2})
    assert here("report", "a").returncode == 0
    (row,) = read_csv(tmp_path / "a/report/report.csv")
    assert row["metric"] == "val/loss"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no folder nowhere"),
        (["empty"], "expected runs in empty, found no config.yaml and no summary.json"),
        (["sweep", "--metrics", "test/aurco"], "'test/aurco'; did you mean 'test/auroc'? (there"),
        (["sweep", "--by", "trian"], "there is no key 'trian'"),
        (["sweep", "--by", "_target_"], "expected one key for --by _target_, it may be model._ta"),
        (["sweep", "--baseline", "model=abmi"], "no group model=abmi for the baseline; did you me"),
        (["sweep", "--baseline", "modle=abmil"], "got 'modle=abmil'; did you mean 'model'?"),
        (["sweep", "--baseline", "abmil"], "expected --baseline as NAME=VALUE"),
    ],
)
def test_errors_are_one_sentence(sweep, here, arguments, message):
    (sweep.parent / "empty").mkdir()
    assert message in error(here("report", *arguments))
    assert not (sweep / "report").exists()


def test_a_folder_that_cannot_be_written_to_is_named(sweep, here):
    (sweep / "report").write_text("a file")
    assert "report" in error(here("report", "sweep"))


@pytest.mark.slow
def test_the_table_and_the_figure_in_wandb(sweep, here, monkeypatch):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("DATA", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(sweep / name))
    correction = ("--baseline", "model=abmil", "--correction", "bh")
    outcome = here("report", "sweep", "--wandb", *correction)
    assert outcome.returncode == 0, outcome.stderr
    (folder,) = sweep.glob("report/wandb/offline-run-*")
    assert f"wandb sync sweep/report/wandb/{folder.name}" in outcome.stdout
    (tables,) = folder.rglob("*.table.json")
    content = json.loads(tables.read_text())
    assert [row[0] for row in content["data"]] == ["model=abmil", "model=gated_abmil"] * 2
    assert content["columns"][:4] == ["group", "model", "metric", "n"]
    assert "p_bh" in content["columns"]
    assert "p_holm" not in content["columns"]
    (picture,) = folder.rglob("*.png")
    assert picture.read_bytes() == (sweep / "report" / "report.png").read_bytes()


DEEP = "[" * 100_000
BOMB = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{f'*a{i - 1}, ' * 9}]\n" for i in range(1, 12))
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 40)
)


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("summary.json", DEEP, "summary.json is damaged"),
        ("summary.json", "[1]", "summary.json is damaged (expected names and values)"),
        ("summary.json", '{"metrics": {"a": 1%s}}' % ("9" * 400), "expected metrics with numbers"),
        ("summary.json", '{"metrics": {"a": "x"}}', "expected metrics with numbers"),
        ("summary.json", '{"metrics": [1]}', "metrics is [1]"),
        ("summary.json", '{"metrics": {}, "data": [1]}', "data is [1]"),
        ("summary.json", '{"metrics": {}, "monitor": {"a": 1}}', "monitor is {'a': 1}"),
        ("summary.json", '{"data": {"fingerprint": [1]}}', "fingerprint is [1]"),
        ("summary.json", '{"data": {"hashes": {"train": 1}}}', "hashes is {'train': 1}"),
        ("summary.json", "\x00" * (2**24 + 1), "summary.json is damaged (it is larger than"),
        ("config.yaml", BOMB, "config.yaml is damaged (expected no aliases, got one)"),
        ("config.yaml", MERGES, "config.yaml is damaged (expected no aliases, got one)"),
        ("config.yaml", DEEP, "config.yaml is damaged (expected at most 60 levels, got more)"),
        ("config.yaml", "a: [1", "config.yaml is damaged"),
        ("config.yaml", "- 1", "config.yaml is damaged (expected keys and values)"),
        ("config.yaml", "x" * (2**20 + 1), "config.yaml is damaged (it is larger than"),
    ],
    ids=lambda text: text[:20],
)
def test_a_damaged_run_is_told_in_a_sentence(tmp_path, name, content, fault):
    write_run(tmp_path / "run", metrics={"test/auroc": 0.5})
    (tmp_path / "run" / name).write_text(content)
    run = read_run(tmp_path / "run")
    assert run.state == "unreadable"
    assert fault in run.fault
    assert "\n" not in run.fault


def test_damage_and_loops_hide_no_other_run(sweep, here, tmp_path):
    (sweep / "0" / "summary.json").write_text(DEEP)
    (sweep / "1" / "config.yaml").write_text(BOMB)
    (sweep / "loop").symlink_to(sweep)
    (sweep / "self").symlink_to("self")
    (sweep / "2" / "self").symlink_to("self")
    (sweep / "deeper").mkdir()
    (sweep / "deeper" / "up").symlink_to(sweep, target_is_directory=True)
    (sweep / "multirun.yaml").write_text(
        "hydra:\n  sweeper: {params: {seed: 'range(2000000000)'}}\n  overrides: {task: []}\n"
    )
    outcome = here("report", "sweep")
    assert outcome.returncode == 0, outcome.stderr
    first, *rest = outcome.stdout.splitlines()
    assert first == "8 runs: 6 finished, 2 unreadable"
    assert rest[0].startswith("unreadable: sweep/0: summary.json is damaged")
    assert rest[1].startswith("unreadable: sweep/1: config.yaml is damaged (expected no aliases")


@pytest.mark.parametrize(
    ("params", "jobs"),
    [
        ({"seed": "range(2000000000)"}, 0),
        ({"seed": "range(0,1,1e-12)"}, 0),
        ({"seed": "shuffle(range(0,2000000000))"}, 0),
        ({"seed": "range(0,10,3)", "model": "a,b"}, 8),
        ({f"k{i}": "range(1000)" for i in range(9)}, 0),
        ({"seed": "1," * 20_000}, 0),
        ({"seed": "[" * 5_000}, 0),
        ({"seed": "range(0,1,0)"}, 0),
        ({"seed": "glob(*)"}, 0),
        ([1], 0),
    ],
    ids=str,
)
def test_a_sweep_of_absurd_size_is_not_counted(tmp_path, params, jobs):
    content = {"hydra": {"sweeper": {"params": params}, "overrides": {"task": []}}}
    (tmp_path / "multirun.yaml").write_text(json.dumps(content))
    assert planned_jobs(tmp_path) == jobs


@pytest.mark.parametrize("trials", [10**400, ".inf", "many", -1])
def test_a_search_of_absurd_length_is_not_counted(tmp_path, trials):
    sweeper = {"params": {"seed": "range(0,10,3)"}, "n_trials": trials}
    content = {"hydra": {"sweeper": sweeper, "overrides": {"task": []}}}
    (tmp_path / "multirun.yaml").write_text(json.dumps(content))
    assert planned_jobs(tmp_path) == 0


def test_text_of_a_config_runs_nowhere(here, tmp_path):
    texts = ["=HYPERLINK(1)", "<img src=x onerror=alert(1)>", "+cmd", "@SUM(1)", "-1+1", "-0.5"]
    texts.append("[a](javascript:b)")
    for number, text in enumerate(texts):
        write_run(tmp_path / "runs" / str(number), metrics={"test/auroc": 0.9}, said=False)
        config = OmegaConf.load(tmp_path / "runs" / str(number) / "config.yaml")
        config.model.pool.act = text
        OmegaConf.save(config, tmp_path / "runs" / str(number) / "config.yaml")
    assert here("report", "runs").returncode == 0
    written = tmp_path / "runs" / "report"
    for name in ("report.csv", "runs.csv"):
        lines = (written / name).read_text().splitlines()
        cells = [cell for row in csv.reader(lines) for cell in row]
        assert "-0.5" in cells
        assert "'=HYPERLINK(1)" in cells
        for cell in cells:
            assert not cell.startswith(("=", "+", "@")), cell
            assert not cell.startswith("-") or cell in ("-", "-0.5")
    text = (written / "report.md").read_text()
    assert "<img" not in text
    assert "](javascript" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text


def test_runs_that_begin_with_a_checkpoint_are_a_group(here, tmp_path):
    """Each seed from its own checkpoint, all from one, from none, or gone on with."""
    starts = {
        "null": lambda seed: None,
        "last": lambda seed: "last",
        "own": lambda seed: f"small/{seed}/best.ckpt",
    }
    for name, start in starts.items():
        for seed in range(3):
            metrics = {"test/auroc": 0.6 + 0.2 * (name == "own") + seed / 100}
            folder = tmp_path / "runs" / f"{name}_{seed}"
            if name == "last" and seed < 2:
                continue
            fixed = 7 if name == "last" else seed
            write_run(folder, metrics=metrics, seed=fixed, ckpt_path=start(seed))
    outcome = here("report", "runs")
    rows = table(outcome, "test/auroc")
    assert [row[0].strip() for row in rows[1:]] in (
        [["null", "small/#/best.ckpt"], ["small/#/best.ckpt", "null"]]
    )
    assert sorted(row[1].strip() for row in rows[1:]) == ["3", "4"]


@pytest.mark.parametrize("key", ["ckpt_path", "init_from"])
def test_runs_from_one_checkpoint_are_not_repetitions_of_runs_from_none(here, tmp_path, key):
    for number, start in enumerate((None, None, "a/0.ckpt", "a/0.ckpt")):
        folder = tmp_path / "runs" / str(number)
        metrics = {"test/auroc": 0.6 if start is None else 0.9}
        write_run(folder, metrics=metrics, seed=number % 2, **{key: start})
    rows = table(here("report", "runs"), "test/auroc")
    assert sorted((row[0].strip(), row[2].strip()) for row in rows[1:]) == [
        ("a/0.ckpt", "0.9000"),
        ("null", "0.6000"),
    ]
