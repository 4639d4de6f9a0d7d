"""What the shipped configs say of tasks, losses and metrics is what the code takes."""

import inspect
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest
import torch
import yaml

from milforge.metrics import build_metrics, missing_options, named_values
from milforge.tasks import Auto, Binary, Multiclass, Multilabel

CONFIGS = Path(__file__).parents[2] / "configs"


def read(group, name):
    return yaml.safe_load((CONFIGS / group / f"{name}.yaml").read_text())


def target_of(config):
    module, _, name = config.pop("_target_").rpartition(".")
    return getattr(import_module(module), name)


def names(group):
    """The options of a group; `task` is the empty one."""
    return sorted({path.stem for path in (CONFIGS / group).glob("*.yaml")} - {"task"})


@pytest.mark.parametrize("name", names("task"))
def test_a_task_has_each_option_with_its_default(name):
    config = read("task", name)
    task = target_of(config)
    parameters = inspect.signature(task).parameters.values()
    assert config == {each.name: each.default for each in parameters}
    assert task(**config)
    assert getattr(task, "kind", "auto") == name


@pytest.mark.parametrize("name", names("loss"))
def test_a_loss_has_each_option(name):
    config = read("loss", name)
    assert config.pop("_partial_") is True
    loss = target_of(config)
    assert ["logits", "y", *config] == list(inspect.signature(loss).parameters)
    y = torch.tensor([[1.0], [torch.nan]])
    assert partial(loss, **config)(torch.zeros(2, 1), y).shape == (2,)


@pytest.mark.parametrize("kind", [Binary, Multiclass, Multilabel])
@pytest.mark.parametrize("name", names("metrics"))
def test_metrics_of_a_config_suit_all_tasks_with_classes(name, kind):
    classes = ["no", "yes"] if kind is Binary else ["a", "b", "c"]
    state = {"kind": kind.kind, "class_names": classes, "weights": None, "columns": classes}
    task = Auto().from_state(state)
    configured = {}
    for key, config in read("metrics", name).items():
        metric = target_of(config)
        known = missing_options(metric, config, task.metric_options())
        configured[key] = metric(**config, **known)
    y = torch.eye(3)[:, : task.num_outputs].long() if kind is Multilabel else torch.arange(3) % 2
    fed = task.inputs(task.predict(torch.randn(3, task.num_outputs)), task.target(y))
    metrics = build_metrics(task.metrics(), configured, fed)
    metrics.update(**fed)
    named = named_values(metrics.compute(), task.class_names)
    each = [""] if kind is Binary else ["_a", "_b", "_c"]
    assert {f"auroc_per_class{end}" for end in each} <= set(named)
    assert len(named) == 5 + 2 * len(each)
