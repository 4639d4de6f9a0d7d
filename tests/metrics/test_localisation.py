import pickle

import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from milforge.metrics import LocalisationAUROC, LocalisationAveragePrecision

METRICS = [
    pytest.param(LocalisationAUROC, roc_auc_score, id="auroc"),
    pytest.param(LocalisationAveragePrecision, average_precision_score, id="ap"),
]
both_metrics = pytest.mark.parametrize(("metric_class", "oracle"), METRICS)


def make_batches(seed=0, sizes=((5, 9, 1), (30,), (4, 0, 12, 6))):
    """Batches of (scores with ties, labels -1/0/1, ptr, positive)."""
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for bag_sizes in sizes:
        total = sum(bag_sizes)
        scores = torch.randint(0, 8, (total,), generator=generator) / 8
        labels = torch.randint(-1, 2, (total,), generator=generator)
        ptr = torch.tensor([0, *bag_sizes]).cumsum(0)
        positive = torch.rand(len(bag_sizes), generator=generator) < 0.7
        batches.append((scores, labels, ptr, positive))
    return batches


def mean_by_loop(oracle, batches):
    values = []
    for scores, labels, ptr, positive in batches:
        for number in positive.nonzero()[:, 0].tolist():
            part = slice(ptr[number], ptr[number + 1])
            known = labels[part] >= 0
            if len(labels[part][known].unique()) == 2:
                values.append(oracle(labels[part][known].numpy(), scores[part][known].numpy()))
    assert values
    return sum(values) / len(values)


@both_metrics
@pytest.mark.parametrize("seed", range(5))
def test_mean_over_the_positive_bags_with_both_kinds(metric_class, oracle, seed):
    batches = make_batches(seed)
    metric = metric_class()
    for batch in batches:
        metric.update(*batch)
    assert metric.compute().dtype == torch.float32
    assert metric.compute().item() == pytest.approx(mean_by_loop(oracle, batches), rel=1e-6)


@both_metrics
def test_negative_bags_do_not_count(metric_class, oracle):
    scores = torch.tensor([0.1, 0.9, 0.9, 0.1])
    ptr, positive = torch.tensor([0, 2, 4]), torch.tensor([True, False])
    metric = metric_class()
    metric.update(scores, torch.tensor([0, 1, 0, 1]), ptr, positive)
    assert metric.compute().item() == 1.0
    metric.update(scores, torch.tensor([0, 1, 0, 1]), ptr, ~positive)
    assert metric.compute().item() == pytest.approx((1 + oracle([0, 1], [0.9, 0.1])) / 2)


@both_metrics
def test_no_bag_that_counts_gives_nan_without_a_warning(metric_class, oracle):
    metric = metric_class()
    labels = torch.tensor([1, 1, 0, 1, 0, -1])
    ptr = torch.tensor([0, 2, 4, 6, 6])
    metric.update(torch.arange(6.0), labels, ptr, torch.tensor([True, False, True, True]))
    assert metric.compute().isnan()
    assert metric.count == 0


@both_metrics
def test_nan_scores_show_only_where_the_bag_counts(metric_class, oracle):
    scores = torch.tensor([0.1, 0.9, torch.nan, 0.1])
    ptr, labels = torch.tensor([0, 2, 4]), torch.tensor([0, 1, 0, 1])
    metric = metric_class()
    metric.update(scores, labels, ptr, torch.tensor([True, False]))
    assert metric.compute().item() == 1.0
    metric.update(scores, labels, ptr, torch.tensor([True, True]))
    assert metric.compute().isnan()


@both_metrics
def test_batching_makes_no_difference(metric_class, oracle):
    batches = make_batches(3)
    scores, labels, positive = (torch.cat([batch[part] for batch in batches]) for part in (0, 1, 3))
    sizes = torch.cat([batch[2].diff() for batch in batches])
    ptr = torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)])
    whole, parts = metric_class(), metric_class()
    whole.update(scores, labels, ptr, positive)
    for batch in batches:
        parts.update(*batch)
    torch.testing.assert_close(parts.compute(), whole.compute(), rtol=1e-6, atol=0)


@both_metrics
def test_forward_gives_the_batch_and_keeps_the_epoch(metric_class, oracle):
    batches = make_batches(1)
    metric = metric_class()
    for batch in batches:
        assert metric(*batch).item() == pytest.approx(mean_by_loop(oracle, [batch]), rel=1e-6)
    assert metric.compute().item() == pytest.approx(mean_by_loop(oracle, batches), rel=1e-6)


@both_metrics
def test_reset_and_pickle(metric_class, oracle):
    batches = make_batches(2)
    metric = metric_class()
    metric.update(*batches[0])
    metric.reset()
    metric.update(*batches[1])
    restored = pickle.loads(pickle.dumps(metric))
    assert restored.compute().item() == pytest.approx(mean_by_loop(oracle, batches[1:2]), rel=1e-6)


@both_metrics
def test_what_torchmetrics_asks_of_a_metric(metric_class, oracle):
    assert metric_class.higher_is_better is True
    assert metric_class.is_differentiable is False
    assert metric_class.full_state_update is False


@both_metrics
def test_shapes_are_checked(metric_class, oracle):
    ptr = torch.tensor([0, 2, 3])
    labels = torch.tensor([0, 1, 1])
    with pytest.raises(ValueError, match=r"expected positive of shape \(2,\).* got \(3,\)"):
        metric_class().update(torch.zeros(3), labels, ptr, torch.ones(3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"same shape \(N,\), got \(1,\) and \(3,\)"):
        metric_class().update(torch.zeros(1), labels, ptr, torch.ones(2, dtype=torch.bool))
