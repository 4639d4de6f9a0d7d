"""What a map is made of, and what is measured of it, with models that say too little."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from milforge.callbacks.mapping.bags_in_words import judged, predicted_of
from milforge.callbacks.mapping.map_faithfulness import measure_faithfulness
from milforge.callbacks.mapping.tile_maps import said_of
from milforge.callbacks.records import BagRecord
from milforge.data import Labels
from milforge.tasks import Multilabel, Ordinal
from milforge.training.explain import Explained

ADDED = torch.tensor([[3.0], [1.0], [-2.0]], dtype=torch.float64)


def make_record(name="a", size=3):
    return BagRecord(name, None, {}, None, None, None, None, size)


def test_a_bag_that_says_nothing_is_left_out_of_what_is_measured(caplog):
    def explained(number, batch):
        if number == 1:
            raise ValueError("it has no coords")
        return Explained(ADDED.sum(0), contributions=ADDED)

    module = SimpleNamespace(
        task=SimpleNamespace(class_names=()),
        logits_of_parts=lambda batch, parts: torch.stack([ADDED[part].sum(0) for part in parts]),
    )
    records = [make_record("a"), make_record("b"), make_record("c", 1)]

    def measure(records):
        return measure_faithfulness(module, records, lambda i: None, explained, lambda r, n: 0)

    measured, curves = measure(records)
    assert set(curves) == {"a"}
    assert "bag b is not among those measured: it has no coords" in caplog.text
    assert measured["faithfulness/deletion/contribution"] < 0
    with pytest.raises(ValueError, match="no bag could be measured"):
        measure(records[2:])


@pytest.mark.parametrize(
    ("score", "members", "message"),
    [
        ("attention", 0, "the model has no attention"),
        ("attention", 2, "the model has no attention"),
        ("contribution", 2, "no contributions that are exact"),
    ],
)
def test_what_a_model_does_not_say_is_refused_with_the_reason(score, members, message):
    one = Explained(ADDED.sum(0))
    found = one._replace(members=(one,) * members)
    module = SimpleNamespace(explained=lambda batch, **_: found)
    with pytest.raises(ValueError, match=message):
        said_of(module, None, make_record(), score)


def test_numbers_of_several_scales_have_no_mean():
    one = Explained(ADDED.sum(0), contributions=ADDED, gradient=ADDED)
    module = SimpleNamespace(explained=lambda batch, **_: Explained(ADDED.sum(0), members=(one,)))
    for score in ("contribution", "gradient", "auto"):
        with pytest.raises(ValueError, match="each in its own way"):
            said_of(module, None, make_record(), score)


def test_a_grade_is_told_as_the_task_predicts_it():
    """Above grade 0 and not above 1 with more than one half, though 0 is the most probable."""
    task = Ordinal("corn")
    task.encode(Labels({"grade": np.array(["0", "1", "2"])}))
    p = torch.tensor([0.4, 0.25, 0.35])
    record = replace(make_record(), y=torch.tensor(1), columns={"probability": p})
    assert predicted_of(record, task) == predicted_of(replace(record, y=None), task) == "1 (0.250)"
    assert judged([record, replace(record, y=torch.tensor(0))], task).wrong.tolist() == [0, 1]


def test_a_label_of_one_half_is_not_there_as_in_the_metrics():
    task = Multilabel()
    task.encode(Labels({"er": np.array(["0", "1"]), "pr": np.array(["1", "0"])}))
    columns = {"probability": torch.tensor([0.5, 0.75])}
    record = replace(make_record(), y=torch.tensor([0, 1]), columns=columns)
    assert predicted_of(record, task) == "pr"
    assert judged([record], task).wrong.tolist() == [0]
