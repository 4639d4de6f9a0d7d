import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from milforge.api.learning import instance_weight, make_loss, make_metrics
from milforge.data import Labels
from milforge.tasks import Binary, Multilabel

FOCAL = {"_target_": "milforge.functional.focal_loss", "_partial_": True}


def test_class_weights_that_a_loss_would_ignore_are_refused():
    labels = Labels({"a": np.array([0, 1, 1]), "b": np.array([1, 0, 1])})
    task = Multilabel(class_weights="balanced")
    y = torch.from_numpy(task.encode(labels))
    task.fit(y)
    config = OmegaConf.create({"loss": FOCAL})
    with pytest.raises(ValueError, match="loss=task, or task"):
        make_loss(config, task, y)
    binary = Binary(class_weights=[1.0, 2.0])
    y = torch.from_numpy(binary.encode(Labels({"label": np.array([0, 1, 1])}, ("no", "yes"))))
    binary.fit(y)
    assert make_loss(config, binary, y) is not None  # it weighs whole bags


@pytest.mark.parametrize("name", ["loss", "inst_auroc"])
def test_a_metric_with_the_name_of_what_is_measured_anyway_is_refused(name):
    node = {"_target_": "torchmetrics.classification.BinaryAccuracy"}
    with pytest.raises(ValueError, match=f"metrics.{name}: every run measures {name} itself"):
        make_metrics(OmegaConf.create({"metrics": {name: node}}), Binary())


def test_the_weight_of_the_instances_stands_beside_the_keys_of_any_loss():
    task = Binary()
    y = torch.from_numpy(task.encode(Labels({"label": np.array([0, 1, 1])}, ("no", "yes"))))
    task.fit(y)
    config = OmegaConf.create({"loss": {**FOCAL, "instances": 0.5}})
    assert instance_weight(config) == 0.5
    assert make_loss(config, task, y) is not None
    config = OmegaConf.create({"loss": {"instances": 2}})
    assert instance_weight(config) == 2
    assert make_loss(config, task, y) is None
    assert instance_weight(OmegaConf.create({"loss": None})) == 0


@pytest.mark.parametrize("weight", [-1, True, "much", float("inf")])
def test_a_weight_of_the_instances_that_is_none_is_refused(weight):
    with pytest.raises(ValueError, match=r"loss\.instances: expected a number from 0 on, got"):
        instance_weight(OmegaConf.create({"loss": {"instances": weight}}))
