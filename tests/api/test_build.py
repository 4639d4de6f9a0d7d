import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from milforge.api.build import make_loss, make_metrics
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
