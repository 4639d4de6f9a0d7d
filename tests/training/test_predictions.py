"""Which attention of several is shown."""

from types import SimpleNamespace

import torch
from torch.testing import assert_close

from milforge.data import Bag, collate_bags
from milforge.models import BagOutput
from milforge.training.ensemble import Ensemble
from milforge.training.predictions import attention_scores


def problem(columns):
    batch = collate_bags([Bag(torch.zeros(3, 1)), Bag(torch.zeros(2, 1))])
    return batch, torch.randn(5, columns, generator=torch.Generator().manual_seed(0))


def test_of_several_heads_the_mean_of_the_weights():
    batch, scores = problem(2)
    shown = attention_scores(batch, BagOutput(torch.zeros(2, 3), scores))
    for part in (slice(0, 3), slice(3, 5)):
        assert_close(shown[part].softmax(0), scores[part].softmax(0).mean(1))


def test_of_several_classes_that_of_the_predicted_one():
    batch, scores = problem(3)
    logits = torch.tensor([[0.0, 0.0, 1.0], [2.0, 0.0, 1.0]])
    shown = attention_scores(batch, BagOutput(logits, scores, scores_of="classes"))
    assert torch.equal(shown, torch.cat([scores[:3, 2], scores[3:, 0]]))


def test_of_two_classes_and_one_logit_that_of_the_positive_one():
    for columns in (1, 2):
        batch, scores = problem(columns)
        output = BagOutput(torch.zeros(2, 1), scores, scores_of="classes")
        assert torch.equal(attention_scores(batch, output), scores[:, -1])


def test_an_ensemble_averages_what_each_member_shows():
    batch, scores = problem(2)
    outputs = [
        BagOutput(torch.zeros(2, 1), each, scores_of="classes") for each in (scores, -scores)
    ]

    class Member:
        logged = ()

        def __init__(self, output):
            self.output = output

        def __call__(self, batch):
            return self.output

        def columns(self, output):
            return {}

    ensemble = SimpleNamespace(
        members=[Member(output) for output in outputs],
        task=SimpleNamespace(average=lambda columns: (torch.zeros(2, 1), {})),
        logged=(),
    )
    ensemble.seen_by = lambda batch: [(member, batch) for member in ensemble.members]
    shown = Ensemble.forward(ensemble, batch).scores
    for part in (slice(0, 3), slice(3, 5)):
        each = [sign * scores[part, 1] for sign in (1, -1)]
        expected = torch.stack([f.softmax(0) for f in each]).mean(0)
        assert_close(shown[part].exp().float(), expected)
