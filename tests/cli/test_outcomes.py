"""Censored times, grades and several targets, by the real commands."""

import numpy as np
import pytest
import torch

import survival_oracles as oracle
from bag_folders import labelled_bags, write_labels
from predicted import bags, instances

RUN = (
    *("data=feature_bags", "data.root=bags", "data.labels=labels.csv"),
    *("split.folds=3", "split.val_share=0.2", "loader.num_workers=0", "loader.batch_size=16"),
    *("model.encoder.hidden=[8]", "model.pool.att_dim=8", "trainer.max_epochs=2"),
    *("logger=none", "callbacks.figures=null"),
)
HEADER = "slide_id,patient,months,censored,grade"
TIMES = ("data.label_column=months", "data.censorship_column=censored", "task.times=[4,8,12]")


def table(count=24):
    """Two slides of each patient, who has one time; grades from 1 to 3."""
    return [
        [f"s{n:02d}", f"p{n // 2}", 2 + (7 * (n // 2)) % 12, int(n // 2 % 3 == 0), 1 + n // 2 % 3]
        for n in range(count)
    ]


@pytest.fixture
def cohort(tmp_path):
    labelled_bags(tmp_path / "bags", count=24, layout="root")
    write_labels(tmp_path / "labels.csv", table(), HEADER)
    return {row[0]: dict(zip(HEADER.split(","), row, strict=True)) for row in table()}


@pytest.fixture
def command(here, cohort):
    """`command("train", "task=cox", run="one")`: the run, after it has gone well."""

    def call(name, *arguments, run="one"):
        outcome = here(name, *arguments, f"run={run}")
        assert outcome.returncode == 0, outcome.stderr
        return outcome.folder / "logs" / name / "runs" / run

    return call


def of_test(run, read_summary):
    """A part of a few bags may have no value of some, which JSON has as null."""
    return {k: v for k, v in read_summary(run)["metrics"].items() if k.startswith("test/")}


def test_times_are_learnt_predicted_measured_and_averaged(command, cohort, read_summary):
    run = command("train", *RUN, *TIMES, "task=cox")
    found = bags(run)
    assert [n for n in found if not n.startswith(("table_", "logit"))] == [
        *("bag_id", "part", "patient", "size", "order", "time", "event", "risk"),
        *("survival_4", "survival_8", "survival_12", "median_time"),
    ]
    assert found["time"] == [cohort[bag]["months"] for bag in found["bag_id"]]
    assert found["event"] == [1 - cohort[bag]["censored"] for bag in found["bag_id"]]
    metrics = of_test(run, read_summary)
    c = oracle.concordance(*(found[name] for name in ("risk", "time", "event")))
    assert metrics["test/c_index"] == pytest.approx(c, abs=1e-6)
    checkpoint = f"ckpt_path={run}/checkpoints/best.ckpt"
    state = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    np.testing.assert_allclose(
        found["risk"], np.array(found["logit_0"]) - state["task.centre"].item(), atol=1e-6
    )
    assert state["task.centre"] != 0

    quiet = ("logger=none", "callbacks.figures=null")
    again = command("evaluate", checkpoint, *quiet)
    assert of_test(again, read_summary) == metrics
    assert bags(again) == found
    other = command("train", *RUN, *TIMES, "task=cox", "split.fold=1", run="two")
    both = f"ckpt_path=[{run}/checkpoints/best.ckpt,{other}/checkpoints/best.ckpt]"
    members = [
        bags(command("predict", each, "logger=none", "data.labels=null", run=name))
        for each, name in ((checkpoint, "a"), (f"ckpt_path={other}/checkpoints/best.ckpt", "b"))
    ]
    assert set(members[0]["label"]) == {None}
    at = dict(zip(members[0]["bag_id"], members[0]["survival_8"], strict=True))
    assert [at[bag] for bag in found["bag_id"]] == pytest.approx(found["survival_8"], abs=1e-5)
    averaged = bags(command("evaluate", both, *quiet, "split=all", run="both"))
    for name in ("risk", "survival_4", "survival_12"):
        mean = np.mean([member[name] for member in members], 0)
        np.testing.assert_allclose(averaged[name], mean, atol=1e-5)


def test_another_model_learns_several_targets(command, read_summary):
    targets = (
        "{life:{columns:[months,censored],task:{_target_:milforge.tasks.SurvivalDiscrete,bins:3}},"
        "grade:{weight:0.5,task:{_target_:milforge.tasks.Ordinal,method:corn}}}"
    )
    options = ("data.label_column=[months,grade]", "data.censorship_column=censored", "task=multi")
    model = ("model=sm_abmil", "graph=chain")
    run = command("train", *RUN, *model, *options, f"task.targets={targets}")
    found = bags(run)
    assert {"life_risk", "life_median_time", "life_event", "grade_grade"} <= set(found)
    metrics = of_test(run, read_summary)
    assert {"test/life_c_index", "test/life_ibs", "test/grade_kappa", "test/loss"} <= set(metrics)
    quiet = ("logger=none", "callbacks.figures=null")
    again = command("evaluate", f"ckpt_path={run}/checkpoints/best.ckpt", *quiet)
    assert of_test(again, read_summary) == metrics


def test_a_patient_is_a_bag_and_a_slide_a_column(command, cohort):
    options = ("data.bag=patient", "task=weibull", "model=sm_abmil", "graph=grid")
    run = command("train", *RUN, *TIMES, *options)
    found, each = bags(run), instances(run)
    patients = {row["patient"]: [] for row in cohort.values()}
    for row in cohort.values():
        patients[row["patient"]].append(row["slide_id"])
    assert found["table_slides"] == [";".join(patients[name]) for name in found["bag_id"]]
    assert found["patient"] == found["bag_id"]
    sizes = [5 + int(cohort[s]["slide_id"][1:]) % 4 for p in found["bag_id"] for s in patients[p]]
    assert each["slide"] == [n % 2 for n, size in enumerate(sizes) for _ in range(size)]


def test_all_that_is_wrong_with_the_table_is_told_at_once_before_training(here, cohort, tmp_path):
    rows = table()
    rows[0][2], rows[2][2], rows[5][3], rows[7][2] = 0, "", 2, 99
    write_labels(tmp_path / "labels.csv", rows, HEADER)
    outcome = here("train", *RUN, *TIMES, "task=cox")
    assert outcome.error() == "labels.csv: 5 faults"
    for part in (
        "bag 's00': expected a time above 0 in the column 'months', got '0'",
        "bag 's02': expected a time above 0 in the column 'months', got nothing",
        "bag 's05': expected 0 or 1 in the column 'censored', got '2'",
        "bag 's06': expected one label of patient 'p3', got others in the rows of 's06' and 's07'",
        "bag 's07': expected one label of patient 'p3'",
    ):
        assert part in outcome.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("task.times=[4,99]",), "before the last time of the labels, 13, got 99: leave them out"),
        (("task.bins=20", "task=survival_discrete"), "lower task.bins"),
        (
            ("loader.batch_size=1",),
            "loader.batch_size=1: the task Cox compares the bags of",
        ),
        (("trainer.accumulate_grad_batches=2",), "trainer.accumulate_grad_batches=2: the loss of"),
        (("data.censorship_column=null",), "expected two label columns for task=cox"),
        (("data.label_column=[months,censored]",), "in both: name it as data.censorship_column"),
    ],
)
def test_options_that_do_not_fit_the_data_are_one_sentence(here, cohort, options, message):
    task = () if any(each.startswith("task=") for each in options) else ("task=cox",)
    assert message in here("train", *RUN, *TIMES, *task, *options).error()
