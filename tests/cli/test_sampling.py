"""Attention sampling by the real commands, on canvases of digits."""

import json
import math
from functools import partial

import numpy as np
import pytest
import torch

from forked import Command
from milforge.data import megapixel
from milforge.models import SamplingNetwork
from milforge.nn import AttentionCNN, PatchCNN
from predicted import tables
from thinned import thinned

PNG = b"\x89PNG\r\n\x1a\n"
TINY = ("data.train=40", "data.val=20", "data.test=20", "trainer.max_epochs=2", "logger=csv")
# Nine images per step, so that two processes have five and four of them.
TINY += ("loader.batch_size=9", "loader.eval_batch_size=7")
QUIET = ("logger=csv", "callbacks.figures=null", "callbacks.sampling_figures=null")


def call_process(folder, *arguments):
    """The experiment in processes of its own; its run, and what it said."""
    options = ("experiment=megapixel_digits", *arguments)
    done = Command("train", options, folder, {"OMP_NUM_THREADS": "1"})
    assert done.wait() == 0, done.stderr()
    (run,) = (folder / "logs" / "train" / "runs").iterdir()
    return run, done


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on one process; not to be changed."""
    return call_process(tmp_path_factory.mktemp("one"), *TINY)


@pytest.fixture(scope="module")
def best(trained):
    return trained[0] / "checkpoints" / "best.ckpt"


def metrics_of(run):
    return json.loads((run / "summary.json").read_text())["metrics"]


def of_test(run):
    return {name: value for name, value in metrics_of(run).items() if name.startswith("test/")}


@pytest.fixture
def evaluate(here, best, tmp_path):
    """`evaluate("model.inference=full")`: the run, in a folder of its own."""

    def call(*arguments, command="evaluate"):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        quiet = QUIET if command == "evaluate" else ("logger=csv",)
        outcome = here(command, f"ckpt_path={best}", *quiet, *arguments, folder=folder)
        assert outcome.returncode == 0, outcome.stderr
        return outcome.run(command)

    return call


@pytest.mark.slow
def test_a_run_writes_its_metrics_and_figures(trained):
    run, done = trained
    summary = json.loads((run / "summary.json").read_text())
    assert summary["data"]["bags"] == {"train": 40, "val": 20, "test": 20}
    metrics = summary["metrics"]
    for stage in ("train", "val", "test"):
        assert 0 < metrics[f"{stage}/attention_entropy"] <= math.log(24 * 24) * (1 + 1e-6)
        assert {f"{stage}/{name}" for name in ("loss", "auroc", "accuracy")} <= set(metrics)
    assert not any("inst_" in name for name in metrics)
    figures = {path.name: path.read_bytes() for path in (run / "figures").iterdir()}
    assert set(figures) == {
        *("learning_curves.png", "roc_pr.png", "confusion.png"),
        *("sampled_patches.png", "attention_epochs.png"),
    }
    assert all(content.startswith(PNG) for content in figures.values())
    assert len(done.stderr().splitlines()) == 4  # two epochs, a test, predictions, and no warning


@pytest.mark.slow
def test_predictions_are_patches_with_places_and_weights(trained, best):
    bags, instances = (table.to_pydict() for table in tables(trained[0]))
    images = megapixel(train=40, val=20, test=20, size=144, low_size=24, digit_size=24, noise=4)
    images = [images.test[i] for i in range(20)]
    assert bags["bag_id"] == [image.bag_id for image in images]
    assert bags["label"] == [image.y for image in images]
    p = np.array([bags[f"probability_{c}"] for c in range(10)])
    np.testing.assert_allclose(p.sum(0), 1, rtol=1e-5)
    accuracy = np.mean(p.argmax(0) == bags["label"])
    assert metrics_of(trained[0])["test/accuracy"] == pytest.approx(accuracy, abs=1e-6)

    assert instances["bag_id"] == [image.bag_id for image in images for _ in range(6)]
    assert instances["index"] == list(range(6)) * 20
    assert set(instances["label"]) == {None}
    network = SamplingNetwork(
        (1,), 10, attention=AttentionCNN, feature=partial(PatchCNN, stride=2), patch_size=(32, 32)
    )
    state = torch.load(best, weights_only=True)["state_dict"]
    network.load_state_dict({name.removeprefix("network."): value for name, value in state.items()})
    with torch.no_grad():
        maps = network.sampling.attention(torch.stack([image.low for image in images]))
    x, y = (np.array(instances[f"coord_{axis}"]).reshape(20, 6) for axis in (0, 1))
    weights = np.array(instances["weight"]).reshape(20, 6)
    np.testing.assert_allclose(
        np.log(weights), np.array(instances["score"]).reshape(20, 6), rtol=1e-5
    )
    # Cell (i, j) is centred at pixel (6 i + 3, 6 j + 3), a patch at its corner and 16.
    rows, columns = (y + 16 - 3) / 6, (x + 16 - 3) / 6
    for cells in (rows, columns):
        np.testing.assert_allclose(cells, cells.round(), atol=0.11)
        assert cells.round().min() >= 0
        assert cells.round().max() <= 23
    at = maps[np.arange(20)[:, None], rows.round().astype(int), columns.round().astype(int)]
    np.testing.assert_allclose(weights, at, rtol=1e-4)
    cells = rows.round() * 24 + columns.round()
    assert all(len(set(each)) == 6 for each in cells.tolist())  # none is drawn twice


@pytest.mark.slow
def test_evaluation_and_prediction_are_those_of_the_run(trained, evaluate):
    run = evaluate("loader.eval_batch_size=4")
    expected = of_test(trained[0])
    assert of_test(run) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    predicted = evaluate(command="predict")
    for other in (run, predicted):
        for table, wanted in zip(tables(other), tables(trained[0]), strict=True):
            assert table.column_names == wanted.column_names
            for name in table.column_names:
                values, right = table[name].to_pylist(), wanted[name].to_pylist()
                if name != "label" or other is run:
                    assert values == pytest.approx(right, abs=1e-5), name


@pytest.mark.slow
def test_another_inference_can_be_chosen(evaluate):
    few = ("data.test=10", "loader.eval_batch_size=10")
    runs = {name: evaluate(f"model.inference={name}", *few) for name in ("full", "topk", "sample")}
    losses = {name: metrics_of(run)["test/loss"] for name, run in runs.items()}
    assert len(set(losses.values())) == 3
    # All look at the same attention.
    entropies = [metrics_of(run)["test/attention_entropy"] for run in runs.values()]
    assert entropies == pytest.approx(entropies[:1] * 3, rel=1e-6)
    # The patches that are written are the most probable of the map for both.
    full, topk = (tables(runs[name])[1] for name in ("full", "topk"))
    assert full.equals(topk)
    weights = np.array(full["weight"]).reshape(10, 6)
    assert (np.diff(weights, axis=1) <= 0).all()
    drawn = np.array(tables(runs["sample"])[1]["weight"]).reshape(10, 6)
    assert (weights.sum(1) >= drawn.sum(1)).all()


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.nightly
def test_two_processes_give_what_one_gives(trained, here, tmp_path):
    """In training and in evaluation: a patch is drawn the same way wherever its image is."""
    folder = tmp_path / "two"
    folder.mkdir()
    run, done = call_process(folder, *TINY, "trainer=ddp_cpu")
    assert len(done.stderr().splitlines()) == 4
    expected = metrics_of(trained[0])
    metrics = metrics_of(run)
    assert metrics.keys() == expected.keys()
    # Sums are rounded in another order, step by step.
    for name in ("train/loss", "val/loss", "test/loss", "test/attention_entropy"):
        assert metrics[name] == pytest.approx(expected[name], rel=1e-4), name
    checkpoint = f"ckpt_path={run}/checkpoints/best.ckpt"
    outcome = here("evaluate", checkpoint, "trainer=cpu", *QUIET)
    assert outcome.returncode == 0, outcome.stderr
    alone = outcome.run("evaluate")
    assert of_test(alone) == pytest.approx(of_test(run), rel=1e-6, abs=1e-6)
    for table, wanted in zip(tables(run), tables(alone), strict=True):
        for name in table.column_names:
            assert table[name].to_pylist() == pytest.approx(wanted[name].to_pylist(), abs=1e-5)
    figures = {path.stem for path in (run / "figures").iterdir()}
    assert {"sampled_patches", "attention_epochs"} <= figures


SMALL = ("data.train=4", "data.val=2", "data.test=2", "logger=csv")
SAMPLING = ("experiment=megapixel_digits",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    thinned(
        [
            (
                ("data=megapixel_digits",),
                "the model takes bags of instances, and the data are large images: choose "
                "model=attention_sampling, or data of bags, such as data=digits_bags",
            ),
            (("data=megapixel_digits", "model=sm_abmil"), "choose model=attention_sampling"),
            (
                ("data=digits_bags", "model=attention_sampling"),
                "the model looks at large images, and the data are bags of instances: choose "
                "data=megapixel_digits or other images, or a model of bags, such as "
                "model=gated_abmil",
            ),
            ((*SAMPLING, "data.agree=6"), "expected data.agree from 2 to data.digits"),
            ((*SAMPLING, "data.size=60"), "raise data.size"),
            ((*SAMPLING, "data.train=0"), "data.train of at least 1 image, got 0"),
            ((*SAMPLING, "+data.root=here"), "expected no data.root for the digits, got 'here'"),
            (
                ("experiment=megapixel_mnist", "data.root=nowhere"),
                "nowhere/train-images-idx3-ubyte: ",
            ),
            ((*SAMPLING, "model.estimator=orderd"), "estimator"),
            (
                (*SAMPLING, "model.inference=all"),
                "model.inference: expected sample or topk or full",
            ),
            ((*SAMPLING, "model.n_patches=0"), "n_patches of at least 1, got 0"),
            ((*SAMPLING, "model.attention.kernel=4"), "an odd kernel"),
            ((*SAMPLING, "model.feature.length=0"), "length of the features above 0"),
            ((*SAMPLING, "model.n_patchs=3"), "did you mean 'model.n_patches'?"),
            (
                (*SAMPLING, "+model.feature.widht=3"),
                "PatchCNN takes no 'widht'; did you mean 'width'?",
            ),
            ((*SAMPLING, "monitor=val/attention_entropi"), "did you mean 'val/attention_entropy'?"),
        ]
    ),
)
def test_what_cannot_be_is_told_before_training(here, monkeypatch, arguments, message):
    def too_late(*_, **__):
        raise AssertionError("training began")

    monkeypatch.setattr("lightning.Trainer.fit", too_late)
    assert message in here("train", *arguments[:1], *SMALL, *arguments[1:]).error()


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "model.patch_size=[18,40]",
            "expected patches of at least 19 x 19 pixels, got 18 x 40; raise model.patch_size",
        ),
        ("model.n_patches=2000", "expected at most 576 patches, the cells of an attention map"),
    ],
)
def test_what_does_not_fit_the_images_is_told_at_the_first_of_them(here, argument, message):
    assert message in here("train", *SAMPLING, *SMALL, argument).error()


def test_the_entropy_of_attention_can_be_monitored(here, read_summary):
    options = (*SMALL, *QUIET, "trainer.max_epochs=1", "monitor=val/attention_entropy")
    told = here("train", *SAMPLING, *options).error()
    assert told.endswith("set monitor_mode=min or monitor_mode=max")
    more = ("monitor_mode=min", "model.replace=true", "model.entropy=0")
    outcome = here("train", *SAMPLING, *options, *more)
    assert outcome.returncode == 0, outcome.stderr
    summary = read_summary(outcome.run())
    assert summary["monitor"] == "val/attention_entropy"
    assert not list((outcome.run()).glob("figures/*"))
