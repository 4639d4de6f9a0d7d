"""What is predicted and measured with each task, by a model and by several together."""

import numpy as np
import pytest
import torch

from every_task import KINDS, N, make_task
from milforge.callbacks.predictions import bags_table
from milforge.callbacks.records import records_of
from milforge.data import Bag, collate_bags
from milforge.training import Ensemble, MILModule
from stated import Stated

AVERAGED = ("probability", "risk", "survival", "prediction")  # after the name of a target


def make_member(kind, seed):
    task, _ = make_task(kind)
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(N, task.num_outputs, generator=generator)
    return MILModule(Stated(logits), task).eval()


def make_batch(labels=None):
    return collate_bags(
        [
            Bag(torch.ones(2, 3), None if labels is None else labels[n], bag_id=str(n))
            for n in range(N)
        ]
    )


@torch.no_grad()
def written(module, batch):
    """The columns of `bags.parquet`."""
    records = records_of(module.predict_step(batch, 0), batch, "test")
    return bags_table(records, module.task).to_pydict()


@torch.no_grad()
def measured(module, batch):
    module.test_step(batch, 0)
    return {name: float(value) for name, value in module.test_metrics.compute().items()}


@pytest.mark.parametrize("kind", KINDS)
def test_members_predict_and_are_measured_together(kind):
    task, y = make_task(kind)
    labels = list(task.label_columns(y))
    batch, members = make_batch(y), [make_member(kind, seed) for seed in (1, 2)]
    together = Ensemble(members).eval()
    alone, found = [written(each, batch) for each in members], written(together, batch)
    assert list(found) == list(alone[0])
    assert set(labels) < set(found)
    names = [name for name in found if any(f"_{each}" in f"_{name}" for each in AVERAGED)]
    assert names
    for name in names:
        mean = np.mean([each[name] for each in alone], 0)
        np.testing.assert_allclose(found[name], mean, rtol=1e-5, atol=1e-6, err_msg=name)
        assert alone[0][name] != alone[1][name]
    values = measured(together, batch)
    assert values.keys() == measured(members[0], batch).keys()
    for name in task.metrics():  # several numbers have one each
        assert any(each.startswith(f"test/{name}") for each in values), name
    assert all(map(np.isfinite, values.values()))


@pytest.mark.parametrize("kind", KINDS)
def test_bags_without_labels_are_predicted_alike(kind):
    task, y = make_task(kind)
    member = make_member(kind, 1)
    known, bare = written(member, make_batch(y)), written(member, make_batch())
    assert bare.pop("label") == [None] * N
    for name in task.label_columns(y):
        known.pop(name)
    np.testing.assert_equal(bare, known)
