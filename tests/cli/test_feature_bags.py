"""The commands on folders of features, as the tools of pathology write them."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from bag_folders import features, grid, labelled_bags, truncate, write_h5, write_labels, write_pt
from milforge.data import read_splits
from milforge.data.features.readers.arrays import places
from predicted import bags as bags_of
from predicted import instances as instances_of

RUN = (
    "data=feature_bags",
    "data.root=bags",
    "split.folds=3",
    "split.val_share=0.2",
    "loader.num_workers=0",
    "model.encoder.hidden=[8]",
    "model.pool.att_dim=8",
    "trainer.max_epochs=2",
    "logger=csv",
    "callbacks.figures=null",
)
LABELS = "data.labels=labels.csv"


@pytest.fixture
def fit(here):
    """A tiny training in this process."""

    def call(*arguments):
        own = [
            each
            for each in RUN
            if not (each.startswith("split.") and {"split=files", "split=random"} & {*arguments})
        ]
        return here("train", *own, *arguments)

    return call


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def fitted(fit, kept, tmp_path):
    """A run on twelve bags, trained for the first test that wants it: a copy of it and of them."""
    if not any(kept.iterdir()):
        labelled_bags(tmp_path / "bags")
        good(fit(LABELS))
        shutil.copytree(tmp_path, kept, dirs_exist_ok=True)
    else:
        shutil.copytree(kept, tmp_path, dirs_exist_ok=True)
    (run,) = (tmp_path / "logs" / "train" / "runs").iterdir()
    return run


@pytest.fixture
def apply(here):
    """Evaluation or prediction from a checkpoint."""

    def call(command, folder, *arguments):
        quiet = ["callbacks.figures=null"] if command == "evaluate" else []
        checkpoint = f"ckpt_path={folder}/checkpoints/best.ckpt"
        return here(command, checkpoint, "logger=csv", *quiet, *arguments)

    return call


def good(outcome, task="train"):
    """The folder of the run that was written last."""
    assert outcome.returncode == 0, outcome.stderr
    runs = (outcome.folder / "logs" / task / "runs").iterdir()
    return max(runs, key=lambda run: (run / "summary.json").stat().st_mtime_ns)


def summary(run):
    return json.loads((run / "summary.json").read_text())


def scores(run):
    metrics = summary(run)["metrics"]
    return {name: value for name, value in metrics.items() if name.startswith("test/")}


def predicted(run):
    return bags_of(run, "test")


def stored(run):
    return torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)


def standardiser(run):
    weights = stored(run)["state_dict"]
    return weights["standardise.mean"].numpy(), weights["standardise.std"].numpy()


def patients(slides):
    return {int(slide[1:]) // 2 for slide in slides}


def test_clam_is_trained_evaluated_and_predicted(tmp_path, fit, apply):
    labels = labelled_bags(tmp_path / "bags")
    run = good(fit(LABELS, "split.fold=1"))
    split = read_splits(run / "splits.csv")
    parts = (split.train, split.val, split.test)
    assert sorted(sum(parts, ())) == sorted(labels)
    assert [len(patients(part)) for part in parts] == [2, 2, 2]
    assert len(set().union(*map(patients, parts))) == 6  # no patient on two sides
    assert summary(run)["data"]["bags"] == {"train": 4, "val": 4, "test": 4}
    bags = predicted(run)
    assert sorted(bags["bag_id"]) == sorted(split.test)
    assert bags["label"] == [int(labels[bag] == "yes") for bag in bags["bag_id"]]
    assert stored(run)["milforge"]["class_names"] == ["no", "yes"]
    evaluated = good(apply("evaluate", run), "evaluate")
    assert scores(evaluated) == scores(run)
    assert predicted(evaluated) == bags
    assert predicted(good(apply("predict", run), "predict")) == bags


def test_the_fingerprint_does_not_depend_on_how_long_a_run_trained(tmp_path, fit):
    """Also where each epoch draws other instances of a bag."""
    labelled_bags(tmp_path / "bags")
    few = (LABELS, "data.max_instances_per_bag=2", "test=false")
    runs = [good(fit(*few, f"trainer.max_epochs={n}")) for n in (1, 3)]
    one, other = (summary(run)["data"]["fingerprint"] for run in runs)
    assert one == other


def test_features_in_bfloat16_with_an_axis_too_many(tmp_path, fit):
    labels = labelled_bags(tmp_path / "plain")
    for slide in labels:
        x = torch.load(tmp_path / f"plain/pt_files/{slide}.pt", weights_only=True)
        write_pt(tmp_path / f"bags/{slide}.pt", x[None].to(torch.bfloat16))
    run = good(fit(LABELS, "trainer.max_epochs=1"))
    assert summary(run)["data"]["bags"] == {"train": 4, "val": 4, "test": 4}


@pytest.mark.parametrize(
    "layout",
    ["trident", pytest.param("root", marks=pytest.mark.nightly)],  # other tests are on that one
)
def test_other_layouts_are_found_out(tmp_path, fit, layout):
    labelled_bags(tmp_path / "bags", layout=layout)
    run = good(fit(LABELS, "trainer.max_epochs=1"))
    assert summary(run)["data"]["bags"] == {"train": 4, "val": 4, "test": 4}
    assert set(np.diff(np.unique(instances_of(run)["coord_0"]))) == {256}


def test_torchmil_brings_its_labels_along(tmp_path, fit):
    labels = labelled_bags(tmp_path / "bags", layout="torchmil")
    outcome = fit()
    run = good(outcome)
    assert "no column says which bags are of the same patient" in outcome.stdout
    bags = predicted(run)
    assert bags["label"] == [int(labels[bag] == "yes") for bag in bags["bag_id"]]
    assert stored(run)["milforge"]["class_names"] == ["0", "1"]
    assert "test/inst_auroc" in scores(run)


def test_stamp_has_labels_by_patient(tmp_path, fit):
    labels = labelled_bags(tmp_path / "bags", layout="stamp")
    patients = {f"p{int(slide[1:]) // 2}": label for slide, label in labels.items()}
    write_labels(tmp_path / "clini.csv", patients, "PATIENT,isMSIH")
    slides = [(f"{slide}.h5", f"p{int(slide[1:]) // 2}") for slide in labels]
    write_labels(tmp_path / "slides.csv", slides, "FILENAME,PATIENT")
    tables = ("data.labels=clini.csv", "data.slide_table=slides.csv", "data.label_column=isMSIH")
    run = good(fit(*tables, "trainer.max_epochs=1"))
    bags = predicted(run)
    assert summary(run)["data"]["bags"] == {"train": 4, "val": 4, "test": 4}
    assert set(np.diff(np.unique(instances_of(run)["coord_0"]))) == {128}  # micrometres
    assert bags["label"] == [int(labels[bag] == "yes") for bag in bags["bag_id"]]


def musk_like(path, bags=12):
    """UCI's form: bag, name of the instance, features, label; no line of names."""
    lines = []
    for bag in range(bags):
        for row in features(3 + bag % 2, seed=bag):
            values = [f"M-{bag:02d}", f"{bag}_a", *(row + 2 * (bag % 2)).round(3), f"{bag % 2}."]
            lines.append(",".join(map(str, values)))
    path.write_text("\n".join(lines) + "\n")


def test_columns_go_by_their_names_in_the_order_of_training(tmp_path, fit, apply):
    rng = np.random.default_rng(0)
    names, rows = ["f0", "f1", "f2"], []
    for bag in range(24):
        for _ in range(4):
            x = rng.normal(size=3) + np.array([3, 0, -1]) * (bag % 2)
            rows.append([f"m{bag:02d}", bag % 2, *x.round(4)])
    of = {n: [row[i] for row in rows] for i, n in enumerate(["bag_id", "label", *names])}

    def write(name, columns):
        lines = [
            ",".join(columns),
            *(",".join(map(str, r)) for r in zip(*columns.values(), strict=True)),
        ]
        (tmp_path / name).write_text("\n".join(lines) + "\n")

    write("a.csv", {"": range(len(rows))} | of)
    write("b.csv", {"extra": ["?", *range(len(rows) - 1)]} | {n: of[n] for n in sorted(of)[::-1]})
    write("c.csv", {name: of[name] for name in ("bag_id", "label", "f0", "f2")})
    run = good(fit("data.root=a.csv", "standardise_clip=7"))
    assert stored(run)["milforge"]["feature_names"] == names
    assert float(stored(run)["state_dict"]["standardise.clip"]) == 7
    begun = (f"init_from={run}/checkpoints/best.ckpt", "freeze=[encoder,pool]", "test=false")
    outcome = fit("data.root=b.csv", "data.exclude_columns=[extra]", *begun, "run=begun")
    again = tmp_path / "logs/train/runs/begun"
    assert outcome.returncode == 0, outcome.stderr
    assert "the features are taken in the order of its checkpoint" in outcome.stdout
    assert stored(again)["milforge"]["feature_names"] == names
    shutil.rmtree(again)
    found = []
    for given in ("data.root=a.csv", "data.root=b.csv", "data=feature_bags data.root=b.csv"):
        outcome = apply("evaluate", run, *given.split(), "split=all")
        columns = predicted(good(outcome, "evaluate"))
        found.append(dict(zip(columns["bag_id"], columns["probability_1"], strict=True)))
    assert "left out: 1 column: extra (not in data.feature_columns)" in outcome.stdout
    assert len(found[0]) == 24
    assert found[0] == found[1] == found[2]
    assert max(found[0].values()) - min(found[0].values()) > 1e-3
    message = apply("evaluate", run, "data.root=c.csv").failure()
    assert "c.csv: expected the columns 'f1' of data.feature_columns" in message
    message = apply("evaluate", run, "data.feature_columns=[f1,f0,f2]").failure()
    assert "that the checkpoint was trained on, f0, f1, f2, got f1, f0, f2" in message


def test_a_table_as_of_musk_and_its_published_protocol(tmp_path, here):
    musk_like(tmp_path / "clean.data")
    tiny = ("data.root=clean.data", "split.folds=3", *RUN[-5:])
    run = good(here("train", "experiment=musk1", *tiny, "split.val_share=0.2"))
    assert summary(run)["data"]["bags"] == {"train": 6, "val": 2, "test": 4}
    run = good(here("train", "experiment=musk1_published", *tiny))
    split = read_splits(run / "splits.csv")
    assert (len(split.train), split.val, len(split.test)) == (8, (), 4)
    assert summary(run)["best_epoch"] == 1  # the last one
    assert not [name for name in summary(run)["metrics"] if name.startswith("val/")]
    everything = np.concatenate(
        [features(3 + bag % 2, seed=bag) + 2 * (bag % 2) for bag in range(12)]
    )
    weights = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    np.testing.assert_allclose(weights["standardise.mean"], everything.mean(0), atol=0.01)


def test_without_validation_bags_nothing_can_be_monitored_on_them(tmp_path, fit):
    labelled_bags(tmp_path / "bags")
    told = fit(LABELS, "split.val_share=0").error()
    assert told.startswith("expected validation bags for monitor=val/loss, got none: give split.v")


def test_a_monitor_that_is_not_defined_is_refused_before_a_bag_is_read(tmp_path, fit, monkeypatch):
    labels = labelled_bags(tmp_path / "bags")
    one_class = [slide for slide, label in labels.items() if label == "yes"][:4]
    rows = {slide: "val" if slide in one_class else "train" for slide in labels}
    write_labels(tmp_path / "splits.csv", rows, "bag_name,split")
    monkeypatch.setattr("milforge.data.FeatureBags.__getitem__", None)
    told = fit(LABELS, "split=files", "split.path=splits.csv", "monitor=val/auroc", "test=false")
    assert told.error().startswith(
        "monitor=val/auroc is not defined for the labels of the val part (4 bags, all 'yes')"
    )


def test_without_test_bags_a_run_trains_alone(tmp_path, fit):
    labelled_bags(tmp_path / "bags")
    untested = (LABELS, "split=random", "split.test_share=0")
    told = fit(*untested).error()
    assert told.startswith("expected at least one bag in the test part, got none: choose another")
    assert told.endswith("(or test=false, to train alone)")
    run = good(fit(*untested, "test=false", "trainer.max_epochs=1"))
    assert summary(run)["data"]["bags"] == {"train": 10, "val": 2, "test": 0}
    assert "val/loss" in summary(run)["metrics"]


def test_a_given_split_in_the_form_of_clam(tmp_path, fit):
    labels = labelled_bags(tmp_path / "bags")
    slides = sorted(labels)
    (tmp_path / "splits").mkdir()
    for number, rows in enumerate((slides, slides[::-1])):
        columns = zip(rows[:6], [*rows[6:8], "", "", "", ""], [*rows[8:], "", ""], strict=True)
        write_labels(tmp_path / f"splits/splits_{number}.csv", columns, "train,val,test")
    run = good(fit(LABELS, "split=files", "split.path=splits", "split.fold=1"))
    assert sorted(predicted(run)["bag_id"]) == slides[:4]
    # A run's own split can be given to another.
    again = good(fit(LABELS, "split=files", f"split.path={run}/splits.csv"))
    assert (again / "splits.csv").read_text() == (run / "splits.csv").read_text()
    assert scores(again) == scores(run)


def test_a_patient_on_two_sides_is_an_error(tmp_path, fit):
    slides = sorted(labelled_bags(tmp_path / "bags"))
    slides[5], slides[6] = slides[6], slides[5]
    parts = [
        (slide, "train" if n < 6 else "val" if n < 8 else "test") for n, slide in enumerate(slides)
    ]
    write_labels(tmp_path / "splits.csv", parts, "bag_name,split")
    told = fit(LABELS, "split=files", "split.path=splits.csv").error()
    assert "patients in both train and val: p2, p3" in told
    assert not list(tmp_path.rglob("*.ckpt"))


def test_unlabelled_bags_are_predicted(tmp_path, fitted, apply):
    run = fitted
    labelled_bags(tmp_path / "new", count=3, seed=50)
    outcome = apply("predict", run, "data.root=new", "data.labels=null")
    folder = good(outcome, "predict")
    bags = predicted(folder)
    assert bags["bag_id"] == ["s00", "s01", "s02"]
    assert bags["label"] == [None] * 3
    assert summary(folder)["data"]["bags"] == {"train": 0, "val": 0, "test": 3}
    # The same as with labels, were they known.
    everything = good(apply("predict", run, "data.labels=null"), "predict")
    known, whole = predicted(run), predicted(everything)
    assert len(whole["bag_id"]) == 12
    for bag, probability in zip(known["bag_id"], known["probability_1"], strict=True):
        found = whole["probability_1"][whole["bag_id"].index(bag)]
        assert found == pytest.approx(probability, abs=1e-6)  # of a batch of another size
    told = apply("evaluate", run, "data.root=new", "data.labels=null").failure()
    assert told.startswith("expected labelled bags to evaluate, got data.labels=null or")


def test_training_needs_labels(tmp_path, fit):
    labelled_bags(tmp_path / "bags")
    told = fit().error()
    assert told.startswith("expected labelled bags to train or evaluate, got data.labels=null or")


def spoil(folder):
    """One fault of each kind that shows before bags are read; the lines that report them."""
    truncate(folder / "bags/pt_files/s00.pt")
    write_h5(folder / "bags/h5_files/s01.h5", {"features": features(6)})
    (folder / "bags/pt_files/s01.pt").unlink()
    (folder / "bags/h5_files/s01.h5").unlink()
    write_pt(folder / "bags/pt_files/s02.pt", torch.zeros(7, 9))
    write_pt(folder / "bags/pt_files/s99.pt", torch.zeros(7, 4, dtype=torch.float16))
    return [
        ("s00.pt: ", "truncated"),
        ("labels.csv: ", "expected a file of bag 's01'"),
        ("s02.pt: ", "expected 4 features"),
        ("bags: ", "expected a label of bag 's99'"),
    ]


def test_all_faults_are_told_before_training_one_a_line(tmp_path, fit):
    labelled_bags(tmp_path / "bags")
    lines = spoil(tmp_path)
    outcome = fit(LABELS)
    assert outcome.returncode == 1
    first, *told = outcome.stderr[outcome.stderr.index("error: ") :].splitlines()
    assert first.startswith("error: labels.csv: ")
    assert first.endswith("faults")
    for file, message in lines:
        assert [line for line in told if file in line and message in line], (file, told)
    assert "Traceback" not in outcome.stderr
    assert not list(tmp_path.rglob("*.ckpt"))


def put_nan(folder, slide):
    path = folder / f"bags/pt_files/{slide}.pt"
    x = torch.load(path)
    x[3, 1] = torch.nan
    write_pt(path, x)


def test_skipping_goes_on_without_the_faulty_bags_and_names_them(tmp_path, fit, apply):
    labelled_bags(tmp_path / "bags", count=18)
    whole = good(fit(LABELS, "trainer.max_epochs=1", "test=false"))
    before = read_splits(whole / "splits.csv")
    spoil(tmp_path)
    put_nan(tmp_path, "s03")
    outcome = fit(LABELS, "data.on_error=skip")
    run = good(outcome)
    gone = ["s00", "s01", "s02", "s03", "s99"]
    assert summary(run)["data"]["skipped"] == gone
    assert sum(summary(run)["data"]["bags"].values()) == 14
    assert "s03.pt: expected finite features, got nan in row 3" in outcome.stdout
    # The others stay where they are: what was tested is not trained on.
    after = read_splits(run / "splits.csv")
    for part in ("train", "val", "test"):
        left = set(getattr(before, part)) - set(gone)
        assert set(getattr(after, part)) == left
    # A given split may name bags that are left out.
    given = ("split=files", f"split.path={whole}/splits.csv")
    quick = ("trainer.max_epochs=1", "test=false")
    again = good(fit(LABELS, "data.on_error=skip", *given, *quick))
    assert read_splits(again / "splits.csv") == after
    evaluated = good(apply("evaluate", whole, "data.on_error=skip"), "evaluate")
    assert set(predicted(evaluated)["bag_id"]) == set(after.test)


def test_bags_that_hold_nan_are_told_together_before_training(tmp_path, fit):
    labelled_bags(tmp_path / "bags")
    put_nan(tmp_path, "s01")
    put_nan(tmp_path, "s04")
    outcome = fit(LABELS)
    assert outcome.returncode == 1
    for slide in ("s01", "s04"):
        assert f"{slide}.pt: expected finite features, got nan in row 3" in outcome.stderr
    assert "2 faults" in outcome.stderr
    assert not list(tmp_path.rglob("metrics.csv"))


def test_with_headers_alone_nan_is_told_when_it_is_read(tmp_path, fitted, fit, apply):
    """Nothing that was computed before is lost."""
    test = read_splits(fitted / "splits.csv").test
    shutil.rmtree(fitted)
    put_nan(tmp_path, test[2])
    outcome = fit(LABELS, "data.check=headers")
    assert outcome.returncode == 1
    assert outcome.failure().startswith(f"bags/pt_files/{test[2]}.pt: expected finite features")
    (run,) = (tmp_path / "logs/train/runs").iterdir()
    assert (run / "metrics.csv").is_file()
    assert {path.name for path in run.glob("checkpoints/*")} >= {"best.ckpt", "last.ckpt"}
    evaluated = good(apply("evaluate", run, "data.on_error=skip"), "evaluate")
    assert set(predicted(evaluated)["bag_id"]) == set(test) - {test[2]}


def test_the_statistics_are_of_the_training_part_and_kept(tmp_path, fitted, apply):
    run = fitted
    train = read_splits(run / "splits.csv").train
    paths = [tmp_path / f"bags/pt_files/{slide}.pt" for slide in train]
    x = torch.cat([torch.load(path) for path in paths]).double().numpy()
    mean, std = standardiser(run)
    np.testing.assert_allclose(mean, x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(std[:-1], x.std(0)[:-1], rtol=1e-5)
    assert std[-1] == np.inf  # the constant column says nothing
    for path in paths:
        write_pt(path, torch.load(path) * 100)
    assert scores(good(apply("evaluate", run), "evaluate")) == scores(run)


def test_a_test_part_that_was_trained_on_is_warned_of(fitted, apply):
    """A table that has grown is split again."""
    run = fitted
    outcome = apply("evaluate", run)
    assert "too good" not in outcome.stdout
    outcome = apply("evaluate", run, "split.fold=1")
    good(outcome, "evaluate")
    assert "4 of 4 test bags were in the train or val part" in outcome.stdout
    assert "too good" in outcome.stdout
    outcome = apply("evaluate", run, "split=files", f"split.path={run}/splits.csv")
    assert "too good" not in outcome.stdout
    assert scores(good(outcome, "evaluate")) == scores(run)


def test_a_run_does_not_go_on_with_other_data(tmp_path, fit):
    """Labels that were corrected, bags that were extracted anew, while it did not run."""
    labels = labelled_bags(tmp_path / "bags", layout="root")
    run = good(fit(LABELS, "run=r", "test=false"))
    (run / "summary.json").unlink()
    again = (LABELS, "run=r", "test=false", "trainer.max_epochs=3")
    table = (tmp_path / "labels.csv").read_text()
    train = read_splits(run / "splits.csv").train
    swapped = {"yes": "no", "no": "yes"}
    one, other = (next(bag for bag in train if labels[bag] == word) for word in ("yes", "no"))
    changed = table
    for bag in (one, other):
        changed = changed.replace(f"{bag}.svs,{labels[bag]}", f"{bag}.svs,{swapped[labels[bag]]}")
    (tmp_path / "labels.csv").write_text(changed)
    told = fit(*again).failure()
    assert "holds a run that was begun with other data: the " in told
    assert "labels of the train part" in told
    assert "give it the data of before, or begin anew in another folder (run=NAME" in told
    (tmp_path / "labels.csv").write_text(table)
    path = tmp_path / f"bags/{train[0]}.h5"
    before = path.read_bytes()
    write_h5(path, {"features": features(9), "coords": grid(9)})
    told = fit(*again).failure()
    assert "other data: the numbers of instances of the train part differ;" in told
    size = 5 + int(train[0][1:]) % 4
    write_h5(path, {"features": features(size, seed=99), "coords": grid(size)})
    outcome = fit(*again)
    assert outcome.returncode == 0, outcome.stderr
    assert "the features of the first or last bag of the train part are not those" in outcome.stdout
    # Finished, it is not said to have been measured on labels that it never saw.
    whole = (run / "summary.json").read_bytes()
    test = read_splits(run / "splits.csv").test[0]
    word = labels[test]
    one_less = table.replace(f"{test}.svs,{word}", f"{test}.svs,{swapped[word]}")
    (tmp_path / "labels.csv").write_text(one_less)
    told = fit(*again).failure()
    assert "holds a run that was begun with other data: the " in told
    assert "labels of the test part" in told
    (tmp_path / "labels.csv").unlink()
    told = fit(*again).failure()
    assert "holds a finished run, and the data at hand cannot be compared" in told
    assert (run / "summary.json").read_bytes() == whole
    (tmp_path / "labels.csv").write_text(table)
    assert "this run is finished" in fit(*again).stdout
    (run / "summary.json").unlink()
    path.write_bytes(before)
    outcome = fit(*again, "trainer.max_epochs=4")
    assert outcome.returncode == 0, outcome.stderr
    assert "are not those" not in outcome.stdout


def test_a_cache_and_other_dtypes_change_nothing(tmp_path, fitted, fit, monkeypatch):
    monkeypatch.setattr(places, "_SETTLED_AFTER", -1.0)  # of files that have just been written
    wanted = scores(fitted)
    for _ in range(2):
        assert scores(good(fit(LABELS, "data.cache=cache"))) == wanted
    assert len(list((tmp_path / "cache").iterdir())) == 12
    for path in (tmp_path / "bags/pt_files").iterdir():
        write_pt(path, torch.load(path).float())
    assert scores(good(fit(LABELS, "data.cache=cache"))) == wanted


def test_graphs_over_feature_bags(tmp_path, fit):
    labelled_bags(tmp_path / "bags")
    run = good(fit(LABELS, "graph=grid", "model=sm_abmil", "trainer.max_epochs=1"))
    graphs = summary(run)["data"]["graphs"]
    assert set(graphs) == {"train", "val", "test"}
    assert all(counts["edges"] > 0 for counts in graphs.values())
    told = fit(LABELS, "graph=grid", "data.max_instances_per_bag=3").failure()
    assert told.startswith("graph: expected training bags with all their instances, got fewer")


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.nightly
def test_workers_and_two_processes_give_the_same(tmp_path, process):
    labelled_bags(tmp_path / "bags", layout="root")
    one = process("train", *RUN, LABELS, OMP_NUM_THREADS="1")
    wanted = good(one)
    for change in ("trainer=ddp_cpu", "loader.num_workers=2"):
        run = good(process("train", *RUN, LABELS, change, OMP_NUM_THREADS="1"))
        assert predicted(run)["bag_id"] == predicted(wanted)["bag_id"]
        assert scores(run) == pytest.approx(scores(wanted), abs=1e-5)


def test_patients_held_back_are_predicted_and_calibrated_on(fit, here, tmp_path):
    labelled_bags(tmp_path / "bags", 32)
    run = good(fit(LABELS, "split.calibration_share=0.25"))
    split = read_splits(run / "splits.csv")
    assert len(split.calibration) >= 6
    rows = pq.read_table(run / "predictions/bags.parquet").to_pylist()
    parts = {row["bag_id"]: row["part"] for row in rows}
    for part in ("val", "test", "calibration"):
        assert {bag for bag, of in parts.items() if of == part} == set(getattr(split, part))
    assert json.loads((run / "summary.json").read_text())["data"]["bags"]["calibration"] == len(
        split.calibration
    )
    outcome = here("calibrate", f"ckpt_path={run}")
    assert outcome.returncode == 0, outcome.stderr
    assert "chose the epoch" not in outcome.stdout
    stored = torch.load(run / "checkpoints/calibrated.ckpt", weights_only=True)
    assert stored["milforge"]["task"]["calibration"]["part"] == "calibration"


def test_how_bags_are_read_changes_nothing(fitted, fit):
    wanted = scores(fitted)
    for change in ("loader.threads=1", "loader.keep=memory", "loader.keep=device"):
        assert scores(good(fit(LABELS, change))) == wanted
    told = fit(LABELS, "loader.keep=memory", "data.max_instances_per_bag=3").failure()
    assert told.startswith("loader.keep: expected bags that are the same in every epoch")
