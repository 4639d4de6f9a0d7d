"""Which figures are drawn, of what."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image

from milforge.callbacks import BagRecord, FigureWriter
from milforge.callbacks.figures import bag_strip, best_epoch, kinds_of, slug
from milforge.callbacks.mapping.bag_place import Scene
from milforge.data.dataset import Tile
from milforge.tasks import Binary, Multiclass, Multilabel, Regression
from thinned import thinned

PNG = b"\x89PNG\r\n\x1a\n"


def known(task, *names):
    """A task that has seen classes, or columns, of these names."""
    state = {"kind": task.kind, "class_names": names, "weights": None, "columns": names}
    return task.from_state(state)


BINARY = known(Binary(), "no 9", "9")
MULTICLASS = known(Multiclass(), "a", "b", "c")
MULTILABEL = known(Multilabel(), "a", "b", "c")
REGRESSION = known(Regression(), "age")


def columns_of(p):
    """Of a number the probability that a bag is positive; of a list that of each class."""
    if isinstance(p, dict):
        return {name: torch.tensor(values) for name, values in p.items()}
    return {"probability": torch.tensor([1 - p, p] if isinstance(p, float) else p)}


def make_record(i, y, p, images=True, size=3, weights=None):
    return BagRecord(
        bag_id=f"bag {i}",
        y=None if y is None else torch.tensor(y),
        columns=columns_of(p),
        scores=torch.zeros(size),
        weights=torch.full((size,), 1 / size) if weights is None else weights,
        y_inst=torch.arange(size) % 2,
        coords=None,
        size=size,
        images=torch.rand(size, 1, 4, 4) if images else None,
    )


def finish(folder, records, stage="test", task=BINARY, bags=3):
    trainer = SimpleNamespace(loggers=[], is_global_zero=True, global_step=0)
    module = SimpleNamespace(task=task)
    FigureWriter(folder, bags).finish(trainer, module, records, stage)
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


RECORDS = [make_record(i, i % 2, 0.2 + 0.5 * (i % 2)) for i in range(4)]
CURVES = {"roc_pr.png", "confusion.png"}
ALL = CURVES | {"bags_9.png", "bags_no_9.png"}


def test_figures_of_a_test(tmp_path):
    assert finish(tmp_path, RECORDS) == ALL
    assert all(path.read_bytes().startswith(PNG) for path in tmp_path.iterdir())


def test_images_are_strips_and_feature_vectors_are_bars(tmp_path, monkeypatch):
    drawn = []
    for name in ("plot_bag_strips", "plot_attention_bars"):

        def plot(bags, name=name):
            drawn.append((name, [bag.bag_id for bag in bags]))
            raise ValueError("drawn")

        monkeypatch.setattr(f"milforge.callbacks.figures.{name}", plot)
    with pytest.warns(UserWarning, match="was not drawn: drawn"):
        finish(tmp_path, RECORDS, bags=1)
    assert drawn == [("plot_bag_strips", ["bag 0"]), ("plot_bag_strips", ["bag 1"])]
    drawn.clear()
    vectors = [make_record(i, i % 2, 0.5, images=False) for i in range(4)]
    with pytest.warns(UserWarning, match="was not drawn: drawn"):
        finish(tmp_path, vectors)
    assert drawn == [
        ("plot_attention_bars", ["bag 0", "bag 2"]),
        ("plot_attention_bars", ["bag 1", "bag 3"]),
    ]


def test_bars_of_feature_vectors_are_drawn(tmp_path):
    assert finish(tmp_path, [make_record(i, i % 2, 0.5, images=False) for i in range(4)]) == ALL


def test_no_bags_are_drawn_where_none_are_asked_for(tmp_path):
    assert finish(tmp_path, RECORDS, bags=0) == CURVES


def test_nothing_is_drawn_of_bags_without_labels_or_to_be_predicted(tmp_path):
    assert finish(tmp_path / "a", [make_record(0, None, 0.5)]) == set()
    assert finish(tmp_path / "b", RECORDS, stage="predict") == set()


def test_a_pooling_without_attention_has_no_bags_to_draw(tmp_path):
    records = [
        BagRecord(f"{i}", torch.tensor(i % 2), columns_of(0.5), None, None, None, None, 2)
        for i in range(4)
    ]
    assert finish(tmp_path, records) == CURVES


def test_patches_of_large_images_are_no_bags_to_draw(tmp_path):
    """Those are drawn by `SamplingFigures`, with the images around them."""
    records = [replace(record, sampled=True) for record in RECORDS]
    assert finish(tmp_path, records) == CURVES


def test_a_diverged_model_costs_its_figures_alone(tmp_path):
    nan = float("nan")
    records = [make_record(i, i % 2, nan, weights=torch.full((3,), nan)) for i in range(4)]
    with pytest.warns(UserWarning, match="was not drawn") as caught:
        assert finish(tmp_path, records) == set()
    text = " ".join(str(warning.message) for warning in caught)
    for name in ("roc_pr", "confusion", "bags_9", "bags_no_9"):
        assert f"figure {name} was not drawn" in text


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyError("a bug")])
def test_a_figure_that_cannot_be_written_costs_nothing_else(tmp_path, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    with pytest.warns(UserWarning, match="was not drawn"):
        assert finish(tmp_path, RECORDS) == set()


def test_tasks_have_figures_of_their_own_and_kinds_of_bags(tmp_path):
    many = [make_record(i, i % 3, [0.2, 0.3, 0.5]) for i in range(6)]
    each = {f"bags_{name}.png" for name in "abc"}
    assert finish(tmp_path / "class", many, task=MULTICLASS) == CURVES | each
    labels = [[0, 0, 0], [1, 0, 1], [0, 1, 1]]
    many = [make_record(i, labels[i % 3], [0.2, 0.7, 0.5]) for i in range(6)]
    assert finish(tmp_path / "label", many, task=MULTILABEL) == CURVES | each | {"bags_none.png"}
    many = [make_record(i, 40.0 + i, {"prediction": 41.0}) for i in range(6)]
    assert finish(tmp_path / "number", many, task=REGRESSION) == {"predicted.png", "bags.png"}


def test_a_kind_without_bags_has_no_figure(tmp_path):
    records = [make_record(i, 0, [0.2, 0.3, 0.5]) for i in range(6)]
    assert "bags_b.png" not in finish(tmp_path, records, task=MULTICLASS)


@pytest.mark.parametrize(
    ("name", "file"),
    thinned(
        [
            ("no 9", "no_9"),
            ("T1/2 (>5 cm)", "T1_2_5_cm"),
            ("../../etc", "etc"),
            ("Grün", "Grün"),
            ("ER+", "ER+"),
            ("?!", "_"),
        ],
        every=3,
    ),
)
def test_names_of_classes_become_names_of_files(tmp_path, name, file):
    assert slug(name) == file
    task = known(Binary(), "rest", name)
    assert f"bags_{file}.png" in finish(tmp_path / "figures", RECORDS[:2], task=task)
    assert [path.name for path in tmp_path.iterdir()] == ["figures"]


def test_classes_whose_names_differ_only_in_signs_have_a_figure_each(tmp_path):
    for names, files in (
        (("ER-", "ER+"), {"bags_ER-.png", "bags_ER+.png"}),
        (("a b", "A/B"), {"bags_a_b.png", "bags_A_B_.png"}),  # one file on some systems
    ):
        folder = tmp_path / slug(names[0])
        assert finish(folder, RECORDS, task=known(Binary(), *names)) == CURVES | files


@pytest.mark.parametrize(
    ("y", "p", "task", "expected"),
    [
        (0, 0.2, BINARY, ("no 9", "no 9", 0.8)),
        (0, 0.7, BINARY, ("no 9", "9", 0.7)),
        (1, 0.5, BINARY, ("9", "no 9", 0.5)),  # as the metrics count it: above 0.5
        (2, [0.1, 0.3, 0.6], MULTICLASS, ("c", "c", 0.6)),
        ([1, 0, 0], [0.9, 0.8, 0.0], MULTILABEL, ("a", "a, b", 0.72)),
        ([0, 0, 0], [0.1, 0.5, 0.0], MULTILABEL, ("none", "none", 0.45)),
        (61.25, {"prediction": 59.6}, REGRESSION, ("61.2", "59.6", None)),
    ],
)
def test_a_strip_tells_truth_and_prediction(y, p, task, expected):
    strip = bag_strip(make_record(0, y, p), Scene(), task)
    assert (strip.y, strip.prediction) == expected[:2]
    assert strip.probability == (expected[2] and pytest.approx(expected[2]))


@pytest.mark.parametrize(
    ("y", "task", "kinds"),
    [
        (0, BINARY, ["no 9"]),
        (1, BINARY, ["9"]),
        (2, MULTICLASS, ["c"]),
        ([0, 0, 0], MULTILABEL, ["none"]),
        ([0, 1, 1], MULTILABEL, ["b", "c"]),
        (7.5, REGRESSION, [""]),
        (None, BINARY, []),
    ],
)
def test_the_task_tells_kinds_of_bags_apart(y, task, kinds):
    assert kinds_of(task, make_record(0, y, 0.5)) == kinds


def test_images_of_bags_that_may_be_drawn_are_kept(tmp_path):
    writer, module = FigureWriter(tmp_path, bags=2), SimpleNamespace(task=BINARY)
    order = [make_record(i, 1, p) for i, p in enumerate([0.5, 0.6, 0.55, 0.1, 0.9, 0.3])]
    kept = [writer.keep_images(module, each) for each in order]
    assert kept == [True, True, False, True, True, False]
    assert writer.keep_images(module, RECORDS[0])  # of another kind
    assert not writer.keep_images(module, make_record(9, None, 0.5))


@pytest.mark.parametrize(
    ("bags", "numbers"), [(1, [2]), (2, [2, 3]), (3, [2, 0, 3]), (9, [2, 0, 1, 3])]
)
def test_the_worst_and_the_best_bags_are_drawn(tmp_path, monkeypatch, bags, numbers):
    drawn = []
    monkeypatch.setattr(
        "milforge.callbacks.figures.plot_bags",
        lambda records, *_: drawn.append([each.bag_id for each in records]),
    )
    records = [make_record(i, 1, p) for i, p in enumerate([0.4, 0.6, 0.2, 0.8])]
    with pytest.warns(UserWarning, match="was not drawn"):
        finish(tmp_path, records, bags=bags)
    assert drawn == [[f"bag {number}" for number in numbers]]


@pytest.fixture
def places(tmp_path, monkeypatch):
    """What maps are drawn of for bags 0 and 1 with tiles of 50 pixels, by the options."""
    folder = tmp_path / "slides"
    folder.mkdir()
    pixels = np.zeros((400, 200, 3), np.uint8)
    pixels[100:150, 50:100] = 255
    Image.fromarray(pixels).save(folder / "bag 0.png")
    drawn = []
    monkeypatch.setattr("milforge.callbacks.figures.plot_attention_maps", drawn.extend)
    coords = torch.tensor([[0, 50], [50, 50], [50, 100]])
    records = [replace(make_record(i, 1, 0.9 - i / 9), coords=coords) for i in range(2)]

    def draw(tile, **options):
        drawn.clear()
        parts = {"test": SimpleNamespace(tile=lambda number: tile[number])}
        trainer = SimpleNamespace(loggers=[], datamodule=SimpleNamespace(parts=parts))
        writer = FigureWriter(tmp_path, 2, **options)
        module = SimpleNamespace(task=BINARY)
        with pytest.warns(UserWarning, match="bags_9 was not drawn"):
            writer.finish(trainer, module, records, "test")
        return sorted(drawn, key=lambda bag: bag.bag_id)

    return draw


@pytest.mark.parametrize(
    ("tile", "mpp", "unit", "per_coord"),
    [
        (Tile("px", 50.0), None, "pixels", 1.0),
        (Tile("px", 50.0), 0.25, "µm", 0.25),
        (Tile("um", 50.0), None, "µm", 1.0),
        (Tile("um", 50.0), 0.25, "µm", 1.0),
        (Tile(), None, None, 1.0),
    ],
)
def test_maps_have_the_unit_of_the_coords(places, tile, mpp, unit, per_coord):
    for bag in places([tile, tile], mpp=mpp):
        assert (bag.unit, bag.per_coord, bag.slide) == (unit, per_coord, None)


def test_slides_are_shown_where_they_are(places, tmp_path, caplog):
    tiles = [Tile("px", 50.0), Tile("px", 50.0)]
    first, second = places(tiles, slides=tmp_path / "slides", mpp=0.5)
    assert (first.slide.width, first.slide.height) == (200, 400)
    assert first.slide.picture[125, 75].tolist() == [255] * 3
    assert (first.unit, first.per_coord) == ("µm", 0.5)
    assert second.slide is None
    assert "bag 1 is drawn without its slide: there is no slide of its name" in caplog.text
    first, _ = places([Tile("um", 25.0), Tile("um", 25.0)], slides=tmp_path / "slides", mpp=0.5)
    assert (first.slide.width, first.slide.height) == (100, 200)


def test_bad_options_of_figures_are_refused_before_training(tmp_path):
    with pytest.raises(ValueError, match=r"callbacks.figures.mpp: expected mpp above 0, got 0"):
        FigureWriter(tmp_path, mpp=0)
    with pytest.raises(FileNotFoundError, match="expected a folder of slides"):
        FigureWriter(tmp_path, slides=tmp_path / "none")


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
    assert not (tmp_path / "stream_weights.png").exists()  # no streams are weighed
    trainer.is_global_zero = False
    FigureWriter(tmp_path / "other").on_fit_end(trainer, module)
    assert not (tmp_path / "other").exists()
