"""Which figures are drawn, of what."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from milforge.callbacks import BagRecord, FigureWriter
from milforge.callbacks.figures import bag_strip, best_epoch, is_positive

PNG = b"\x89PNG\r\n\x1a\n"


def make_record(i, y, p, images=True, size=3, weights=None):
    return BagRecord(
        bag_id=f"bag {i}",
        y=None if y is None else torch.tensor(y),
        probabilities=torch.tensor(p),
        scores=torch.zeros(size),
        weights=torch.full((size,), 1 / size) if weights is None else weights,
        y_inst=torch.arange(size) % 2,
        coords=None,
        size=size,
        images=torch.rand(size, 1, 4, 4) if images else None,
    )


def finish(folder, records, stage="test", task="binary", class_names=("no", "yes"), bags=3):
    trainer = SimpleNamespace(loggers=[], is_global_zero=True, global_step=0)
    module = SimpleNamespace(class_names=class_names, task=task)
    FigureWriter(folder, bags).finish(trainer, module, records, stage)
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


BINARY = [make_record(i, i % 2, 0.2 + 0.5 * (i % 2)) for i in range(4)]
ALL = {"roc_pr.png", "confusion.png", "bags_positive.png", "bags_negative.png"}


def test_figures_of_a_test(tmp_path):
    assert finish(tmp_path, BINARY) == ALL
    assert all(path.read_bytes().startswith(PNG) for path in tmp_path.iterdir())


def test_images_are_strips_and_feature_vectors_are_bars(tmp_path, monkeypatch):
    drawn = []
    for name in ("plot_bag_strips", "plot_attention_bars"):

        def plot(bags, name=name):
            drawn.append((name, [bag.bag_id for bag in bags]))
            raise ValueError("drawn")

        monkeypatch.setattr(f"milforge.callbacks.figures.{name}", plot)
    with pytest.warns(UserWarning, match="was not drawn: drawn"):
        finish(tmp_path, BINARY, bags=1)
    assert drawn == [("plot_bag_strips", ["bag 1"]), ("plot_bag_strips", ["bag 0"])]
    drawn.clear()
    vectors = [make_record(i, i % 2, 0.5, images=False) for i in range(4)]
    with pytest.warns(UserWarning, match="was not drawn: drawn"):
        finish(tmp_path, vectors)
    assert drawn == [
        ("plot_attention_bars", ["bag 1", "bag 3"]),
        ("plot_attention_bars", ["bag 0", "bag 2"]),
    ]


def test_bars_of_feature_vectors_are_drawn(tmp_path):
    assert finish(tmp_path, [make_record(i, i % 2, 0.5, images=False) for i in range(4)]) == ALL


def test_no_bags_are_drawn_where_none_are_asked_for(tmp_path):
    assert finish(tmp_path, BINARY, bags=0) == {"roc_pr.png", "confusion.png"}


def test_nothing_is_drawn_of_bags_without_labels_or_to_be_predicted(tmp_path):
    assert finish(tmp_path / "a", [make_record(0, None, 0.5)]) == set()
    assert finish(tmp_path / "b", BINARY, stage="predict") == set()


def test_a_pooling_without_attention_has_no_bags_to_draw(tmp_path):
    records = [
        BagRecord(f"{i}", torch.tensor(i % 2), torch.tensor(0.5), None, None, None, None, 2)
        for i in range(4)
    ]
    assert finish(tmp_path, records) == {"roc_pr.png", "confusion.png"}


def test_patches_of_large_images_are_no_bags_to_draw(tmp_path):
    """Those are drawn by `SamplingFigures`, with the images around them."""
    records = [replace(record, sampled=True) for record in BINARY]
    assert finish(tmp_path, records) == {"roc_pr.png", "confusion.png"}


def test_a_diverged_model_costs_its_figures_alone(tmp_path):
    nan = float("nan")
    records = [make_record(i, i % 2, nan, weights=torch.full((3,), nan)) for i in range(4)]
    with pytest.warns(UserWarning, match="was not drawn") as caught:
        assert finish(tmp_path, records) == set()
    text = " ".join(str(warning.message) for warning in caught)
    for name in ("roc_pr", "confusion", "bags_positive", "bags_negative"):
        assert f"figure {name} was not drawn" in text


def test_the_other_tasks_have_figures(tmp_path):
    names = ("a", "b", "c")
    many = [make_record(i, i % 3, [0.2, 0.3, 0.5]) for i in range(6)]
    assert finish(tmp_path / "class", many, task="multiclass", class_names=names) == ALL
    labels = [[0, 0, 0], [1, 0, 1], [0, 1, 1]]
    many = [make_record(i, labels[i % 3], [0.2, 0.7, 0.5]) for i in range(6)]
    assert finish(tmp_path / "label", many, task="multilabel", class_names=names) == ALL


@pytest.mark.parametrize(
    ("y", "p", "names", "expected"),
    [
        (0, 0.2, ("no", "yes"), ("no", "no", 0.8)),
        (0, 0.7, ("no", "yes"), ("no", "yes", 0.7)),
        (1, 0.5, ("no", "yes"), ("yes", "no", 0.5)),  # as the metrics count it: above 0.5
        (2, [0.1, 0.3, 0.6], ("a", "b", "c"), ("c", "c", 0.6)),
        ([1, 0], [0.9, 0.8], ("a", "b"), ("a", "a, b", 0.72)),
        ([0, 0], [0.1, 0.5], ("a", "b"), ("none", "none", 0.45)),
    ],
)
def test_a_strip_tells_truth_and_prediction(y, p, names, expected):
    strip = bag_strip(make_record(0, y, p), names)
    assert (strip.y, strip.prediction) == expected[:2]
    assert strip.probability == pytest.approx(expected[2])


@pytest.mark.parametrize(
    ("y", "positive"), [(0, False), (1, True), (2, True), ([0, 0], False), ([0, 1], True)]
)
def test_positive_is_any_class_but_the_first(y, positive):
    assert is_positive(make_record(0, y, 0.5)) is positive
    assert not is_positive(make_record(0, None, 0.5))


def test_images_of_the_first_bags_of_each_kind_are_kept(tmp_path):
    writer = FigureWriter(tmp_path, bags=2)
    wanted = [writer.keep_images(record) for record in [BINARY[1]] * 3 + [BINARY[0]] * 3]
    assert wanted == [True, True, False, True, True, False]


def make_trainer(score, monitor="val/loss"):
    callback = ModelCheckpoint(monitor=monitor)
    callback.best_model_score = None if score is None else torch.tensor(score)
    return SimpleNamespace(checkpoint_callback=callback)


def test_the_best_epoch_is_that_of_the_kept_checkpoint():
    history = {"val/loss": [(0, 0.1), (1, 0.5), (2, 0.25), (3, 0.75)]}
    # A run that went on from epoch 1: the 0.1 of the run before it is not its own.
    assert best_epoch(make_trainer(0.25), history) == 2
    assert best_epoch(make_trainer(None), history) is None
    assert best_epoch(make_trainer(0.25, "val/auroc"), history) is None
    assert best_epoch(make_trainer(0.25, None), history) is None
    assert best_epoch(SimpleNamespace(checkpoint_callback=None), history) is None


def test_learning_curves_are_drawn_after_training(tmp_path):
    trainer = make_trainer(0.25)
    trainer.loggers, trainer.is_global_zero = [], True
    module = SimpleNamespace(history={"val/loss": [(0, 0.5), (1, 0.25)]})
    FigureWriter(tmp_path).on_fit_end(trainer, module)
    assert (tmp_path / "learning_curves.png").read_bytes().startswith(PNG)
    trainer.is_global_zero = False
    FigureWriter(tmp_path / "other").on_fit_end(trainer, module)
    assert not (tmp_path / "other").exists()
