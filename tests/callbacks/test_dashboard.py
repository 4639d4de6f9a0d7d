"""What trackers are shown, and in which words."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

from milforge.callbacks import BagRecord, Dashboard
from milforge.data import Bag, collate_bags
from milforge.tasks import Binary
from milforge.trackers import MLflow, Trackio
from milforge.trackers.show import show_figure, show_panel, show_pictures, show_table

TASK = Binary().from_state({"kind": "binary", "class_names": ["no", "yes"], "weights": None})


class Shows:
    """A tracker that keeps what it is shown."""

    def __init__(self):
        self.images, self.tables = [], {}

    def log_image(self, key, images, step=None, caption=None):
        self.images.append((key, np.shape(images[0]), step, caption))

    def log_table(self, key, columns, data):
        self.tables[key] = [dict(zip(columns, row, strict=True)) for row in data]


def trainer_of(*loggers, epoch=0, **known):
    return SimpleNamespace(
        loggers=list(loggers), is_global_zero=True, global_step=7, sanity_checking=False,
        current_epoch=epoch, world_size=1, **known,
    )  # fmt: skip


def outputs_of(sizes, p):
    """What a step of the module returns for these bags."""
    total = sum(sizes)
    return {
        "sizes": torch.tensor(sizes),
        "columns": {"probability": torch.tensor([[1 - each, each] for each in p])},
        "scores": torch.zeros(total),
        "weights": torch.cat([torch.full((n,), 1 / n) for n in sizes]),
    }


def batch_of(names, sizes=(2, 3)):
    return collate_bags(
        [Bag(torch.zeros(n, 4), y=i % 2, bag_id=name) for i, (name, n) in
         enumerate(zip(names, sizes, strict=True))]
    )  # fmt: skip


def test_the_same_bags_are_followed_over_the_epochs():
    tracker, callback = Shows(), Dashboard(same_bags=3)
    module = SimpleNamespace(task=TASK)
    for epoch in range(2):
        trainer = trainer_of(tracker, epoch=epoch)
        for names in (("a", "b"), ("c", "d"), ("e", "f")):
            p = [0.25, 0.75 - 0.5 * epoch]
            outputs, batch = outputs_of([2, 3], p), batch_of(names)
            callback.on_validation_batch_end(trainer, module, outputs, batch, 0)
        callback.on_validation_epoch_end(trainer, module)
    callback.on_fit_end(trainer, module)
    assert [(key, step) for key, _, step, _ in tracker.images] == [
        (f"same_bags/{i}", 7) for i in (0, 1, 2, 0, 1, 2)
    ]
    assert tracker.images[1][3] == ["epoch 0, b: yes, predicted yes (0.75)"]
    assert tracker.images[4][3] == ["epoch 1, b: yes, predicted no (0.75)"]
    rows = tracker.tables["val/same_bags"]
    assert [(row["epoch"], row["bag_id"]) for row in rows] == [
        (e, n) for e in (0, 1) for n in "abc"
    ]


def test_a_check_before_training_is_not_followed():
    tracker, callback = Shows(), Dashboard()
    trainer, module = trainer_of(tracker), SimpleNamespace(task=TASK)
    trainer.sanity_checking = True
    callback.on_validation_batch_end(
        trainer, module, outputs_of([2, 3], [0.1, 0.9]), batch_of("ab"), 0
    )
    callback.on_validation_epoch_end(trainer, module)
    assert tracker.images == []


def record(i, weights=True):
    return BagRecord(
        bag_id=f"bag {i}",
        y=torch.tensor(i % 2),
        columns={"probability": torch.tensor([0.3, 0.7])},
        scores=None,
        weights=torch.tensor([0.5, 0.5]) if weights else None,
        y_inst=None,
        coords=None,
        size=2,
    )


def test_a_test_shows_the_first_bags_and_the_panels_of_the_task():
    tracker, callback = Shows(), Dashboard(bags=2)
    records = [record(0), record(1, weights=False), record(2)]
    callback.finish(trainer_of(tracker), SimpleNamespace(task=TASK), records, "test")
    bags = tracker.tables["test/bags"]
    assert [(bag["bag_id"], bag["label"], bag["prediction"], bag["size"]) for bag in bags] == [
        ("bag 0", "no", "yes", 2),
        ("bag 1", "yes", "yes", 2),
    ]
    assert bags[0]["picture"].dtype == np.uint8
    assert bags[1]["picture"] is None
    assert [row["bags"] for row in tracker.tables["panels/per_class"]] == [2, 1]


def test_what_is_known_of_instances_is_kept_for_the_bags_that_are_drawn_alone():
    callback = Dashboard(bags=1)
    callback.on_test_batch_end(
        trainer_of(), SimpleNamespace(task=TASK), outputs_of([2, 3], [0.1, 0.9]), batch_of("ab"), 0
    )
    assert [each.weights is None for each in callback._records] == [False, True]


def test_a_tracker_that_fails_costs_nothing():
    class Broken(Shows):
        def log_table(self, key, columns, data):
            raise OSError("no space")

    tracker, callback = Broken(), Dashboard()
    with pytest.warns(UserWarning, match="a tracker did not get") as caught:
        callback.finish(trainer_of(tracker), SimpleNamespace(task=TASK), [record(0)], "test")
    assert [str(each.message) for each in caught] == [
        "a tracker did not get the panel confusion: no space",
        "a tracker did not get the panel per_class: no space",
        "a tracker did not get the table of bags: no space",
    ]


ROWS = [["a", 0.25, np.zeros((4, 4, 3), np.uint8)], ["b|c", None, None]]
NAMES = ("bag", "p", "picture")


def test_tensorboard_is_shown_the_same(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(tmp_path, name="", version="")
    show_table(logger, "test/bags", NAMES, ROWS, 3)
    show_pictures(logger, {"same_bags/0": ROWS[0][2]}, {"same_bags/0": "epoch 0"}, 3, 0)
    logger.experiment.flush()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Tags()["images"] == ["same_bags/0"]
    (text,) = events.Tensors("test/bags/text_summary")
    assert b"| b\\|c |  |" in text.tensor_proto.string_val[0]
    assert b"picture" not in text.tensor_proto.string_val[0]


def test_mlflow_gets_artifacts(tmp_path):
    """Its client is stood in for: what it is told, and under which names."""
    told = {}
    client = SimpleNamespace(
        log_artifact=lambda run, path, folder: told.setdefault(folder, path),
        log_image=lambda run, image, file: told.setdefault(file, image.shape),
        log_text=lambda run, text, file: told.setdefault(file, text),
    )

    class Logger(MLflow):
        experiment, run_id = client, "1"

        def __init__(self):
            pass

    logger = Logger()
    show_figure(logger, "figures/roc_pr", tmp_path / "roc_pr.png", None, 3)
    show_pictures(logger, {"same_bags/0": ROWS[0][2]}, {"same_bags/0": "epoch 0"}, 3, 0)
    show_table(logger, "test/bags", NAMES, ROWS, 3)
    panel = TASK.panels({"probability": torch.tensor([[0.3, 0.7]])}, torch.tensor([1]))
    show_panel(logger, "panels/confusion", panel["confusion"], 3)
    assert told["figures"] == str(tmp_path / "roc_pr.png")
    assert told["same_bags/0_00000003.png"] == (4, 4, 3)
    assert list(csv.reader(told["test/bags.csv"].splitlines())) == [
        ["bag", "p"], ["a", "0.25"], ["b|c", ""],
    ]  # fmt: skip
    assert told["panels/confusion.csv"].splitlines()[-1] == "yes,yes,1"


def test_trackio_gets_values_pictures_and_tables(monkeypatch, tmp_path):
    """The package is stood in for: what its run is told."""
    told = []
    run = SimpleNamespace(
        log=told.append, config={}, name="cosy", finish=lambda: told.append("finished")
    )
    begun = []
    package = SimpleNamespace(
        init=lambda **options: (
            begun.append((options["name"], options["resume"], options["config"])) or run
        ),
        Image=lambda value, caption=None: ("image", np.shape(value), caption),
        Table=lambda columns, data: ("table", columns, data),
    )
    monkeypatch.setitem(__import__("sys").modules, "trackio", package)
    logger = Trackio(id_file=tmp_path / "trackio_name")
    assert begun == []  # only the first process begins a run, and it alone logs
    logger.log_hyperparams({"seed": 1})
    logger.log_metrics({"loss": 0.5}, 2)
    show_pictures(logger, {"same_bags/0": ROWS[0][2]}, {"same_bags/0": "epoch 0"}, 3, 0)
    show_table(logger, "test/bags", NAMES, ROWS, 3)
    logger.finalize("success")
    assert run.config == {"seed": 1}
    assert told == [
        {"loss": 0.5, "trainer/global_step": 2},
        {"same_bags/0": ("image", (4, 4, 3), "epoch 0"), "trainer/global_step": 3},
        {"test/bags": ("table", list(NAMES), [["a", 0.25, ("image", (4, 4, 3), None)], ROWS[1]])},
        "finished",
    ]
    logger.log_metrics({"test/loss": 0.25})  # of a test, after the end of training
    Trackio(name="other", id_file=tmp_path / "trackio_name").log_metrics({"loss": 0.4})
    assert begun == [
        (None, "never", {"seed": 1}), ("cosy", "allow", {"seed": 1}), ("cosy", "allow", {}),
    ]  # fmt: skip


def test_wandb_gets_pictures_at_their_epoch(tmp_path):
    """Left to itself it takes the epoch from what was logged before: the previous one."""
    told = []

    class Tracker(WandbLogger):
        def log_metrics(self, metrics, step=None):
            told.append((metrics, step))

    logger = Tracker(save_dir=tmp_path, offline=True)
    show_pictures(logger, {"same_bags/0": ROWS[0][2]}, {"same_bags/0": "a bag"}, 3, 5)
    ((metrics, step),) = told
    assert (metrics.pop("epoch"), step) == (5, 3)
    assert metrics["same_bags/0"]._caption == "a bag"


@pytest.fixture
def mlflow_client(monkeypatch):
    """MLflow's package is stood in for: runs by id, and what each is told."""
    runs = {}

    class Client:
        def __init__(self, uri):
            pass

        def get_experiment_by_name(self, name):
            return SimpleNamespace(lifecycle_stage="active", experiment_id="1")

        def create_run(self, experiment_id, tags):
            runs[f"run{len(runs)}"] = told = []
            return SimpleNamespace(info=SimpleNamespace(run_id=f"run{len(runs) - 1}"), told=told)

        def get_run(self, run_id):
            return SimpleNamespace(info=SimpleNamespace(experiment_id="1"), told=runs[run_id])

        def log_batch(self, run_id, metrics=(), params=()):
            runs[run_id] += [*metrics, *params]

    modules = {
        "mlflow": SimpleNamespace(set_tracking_uri=lambda uri: None),
        "mlflow.tracking": SimpleNamespace(MlflowClient=Client),
        "mlflow.entities": SimpleNamespace(Param=dict, Metric=dict),
        "mlflow.utils": SimpleNamespace(),
        "mlflow.utils.mlflow_tags": SimpleNamespace(MLFLOW_RUN_NAME="name"),
        "mlflow.tracking.context": SimpleNamespace(),
        "mlflow.tracking.context.registry": SimpleNamespace(resolve_tags=lambda tags: tags),
    }
    for name, each in modules.items():
        monkeypatch.setitem(__import__("sys").modules, name, each)
    monkeypatch.setattr("lightning.pytorch.loggers.mlflow._MLFLOW_AVAILABLE", True)
    monkeypatch.setattr(
        "lightning.pytorch.loggers.mlflow._get_resolve_tags", lambda: lambda tags: tags
    )
    return runs


def test_mlflow_goes_on_with_the_run_that_is_noted(mlflow_client, tmp_path):
    """Its config is not told again: MLflow refuses a parameter that has changed."""
    for epochs in (1, 2):
        logger = MLflow(run_name="mine", tracking_uri="x", id_file=tmp_path / "run" / "mlflow_id")
        logger.log_hyperparams({"epochs": epochs})
        logger.log_metrics({"loss": 0.5}, epochs)
    assert list(mlflow_client) == ["run0"]
    told = mlflow_client["run0"]
    assert [(each["key"], each.get("step")) for each in told] == [
        ("epochs", None), ("loss", 1), ("loss", 2),
    ]  # fmt: skip
    assert (tmp_path / "run" / "mlflow_id").read_text() == "run0\n"
