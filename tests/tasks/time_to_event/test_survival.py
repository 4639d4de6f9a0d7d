"""Times that may be censored: how they are read, predicted, averaged and kept."""

import math
from inspect import signature

import numpy as np
import pytest
import torch
from scipy.stats import weibull_min

from milforge.data.labels import LabelError, Labels
from milforge.functional import discrete_survival_nll, weibull_nll
from milforge.metrics import build_metrics
from milforge.tasks import Cox, SurvivalDiscrete, Weibull
from milforge.tasks.time_to_event.survival_curves import median_of

KINDS = {"survival_discrete": SurvivalDiscrete, "cox": Cox, "weibull": Weibull}
EACH = pytest.mark.parametrize("kind", KINDS)


def labels(time, event, **options):
    columns = {"months": np.array(time).astype(str), "dead": np.array(event).astype(str)}
    return Labels(columns, **options)


def make_labels(n=60, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(1, 41, n) / 2, (rng.random(n) < 0.6).astype(int)


def make_task(kind, n=60, seed=0, **options):
    """A task that has been trained, the labels of its bags and their logits."""
    task = KINDS[kind](**options)
    y = torch.as_tensor(task.encode(labels(*make_labels(n, seed))))
    task.fit(y)
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, task.num_outputs, generator=generator)
    task.fit_outputs(logits, task.target(y))
    return task, y, logits


@EACH
def test_a_time_and_an_event_are_read(kind):
    y = KINDS[kind]().encode(labels([" 3.5", "2.0", "7", "1"], ["1", "0", "1.0", "0"]))
    assert y.dtype == np.float32
    assert y.tolist() == [[3.5, 1], [2, 0], [7, 1], [1, 0]]
    other = labels([3.5, 2, 7, 1], [0, 1, 0, 1], censorship="dead")
    assert KINDS[kind]().encode(other).tolist() == y.tolist()
    turned = Labels(dict(reversed(other.columns.items())), censorship="dead")
    assert KINDS[kind]().encode(turned).tolist() == y.tolist()


@EACH
def test_all_bags_that_are_at_fault_are_named_at_once(kind):
    time = ["0", "-1", "", "soon", "inf", "1e-60", "5", "5", "5"]
    event = ["1", "1", "1", "1", "1", "1", "2", "", "1"]
    with pytest.raises(LabelError) as told:
        KINDS[kind]().encode(labels(time, event))
    above = "expected a time above 0 in the column 'months', got"
    assert [what for what, _ in told.value.problems.values()] == [
        *(f"{above} {each}" for each in ("'0'", "'-1'", "nothing", "'soon'", "'inf'", "'1e-60'")),
        "expected 0 or 1 in the column 'dead', got '2'",
        "expected 0 or 1 in the column 'dead', got nothing",
    ]


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (
            Labels({"label": np.array(["1"])}),
            {},
            r"two label columns for task=cox.* got label",
        ),
        (labels([1, 2], [0, 0]), {}, "expected events of 1 for task=cox, got none in 2 bags"),
        (labels([1, 2], [1, 1]), {"times": [1, 2, 5]}, "last time of the labels, 2, got 2, 5"),
        (labels(["x", "y"], [1, 1]), {}, "got 'x', and no bag has both a time and an event"),
    ],
)
def test_columns_that_are_no_times_are_one_sentence(given, options, message):
    with pytest.raises(LabelError, match=message) as told:
        Cox(**options).encode(given)
    assert not told.value.problems


@EACH
def test_options_are_checked(kind):
    for times in ([], [0, 1], [2, 1], [1, 1]):
        with pytest.raises(ValueError, match=r"task.times above 0 and rising, got \["):
            KINDS[kind](times=times)
    with pytest.raises(ValueError, match=r"task\.times of at most six digits, got \[1234567"):
        KINDS[kind](times=[100000, 1234567, 1234568])
    with pytest.raises(ValueError, match=r"task\.bins of at least 2, got 1"):
        SurvivalDiscrete(bins=1)
    with pytest.raises(ValueError, match=r"task\.alpha from 0 to 1, got 2"):
        SurvivalDiscrete(alpha=2)
    with pytest.raises(ValueError, match="efron or breslow, got 'exact'"):
        Cox(ties="exact")


@EACH
def test_a_training_part_that_teaches_nothing_is_refused(kind):
    task = KINDS[kind]()
    y = torch.as_tensor(task.encode(labels([1, 2, 3], [0, 0, 1])))
    with pytest.raises(ValueError, match=f"in the training part for task={kind}, got none in 2"):
        task.fit(y[:2])


def test_bins_that_the_events_cannot_fill_are_refused():
    task = SurvivalDiscrete(bins=4)
    y = torch.as_tensor(task.encode(labels([1, 1, 1, 2, 9], [1, 1, 1, 1, 0])))
    with pytest.raises(ValueError, match=r"task.bins=4, got 2 among 4 events .* lower task.bins"):
        task.fit(y)


@EACH
def test_the_times_are_deciles_of_events_or_those_that_are_asked_for(kind):
    time, event = make_labels()
    task, _, logits = make_task(kind)
    deciles = np.quantile(time[event == 1], np.arange(1, 10) / 10)
    assert task.times == tuple(sorted({float(f"{each:.3g}") for each in deciles}))
    task, _, logits = make_task(kind, times=[2.5, 10])
    assert list(task.predict(logits)) == ["risk", "survival_2.5", "survival_10", "median_time"]


@EACH
def test_survival_falls_with_time_and_risk_and_the_median_lies_on_it(kind):
    times = [0.5 * step for step in range(1, 40)]
    task, _, logits = make_task(kind, times=times)
    columns = task.predict(logits.requires_grad_())
    assert all(each.shape == (60,) and not each.requires_grad for each in columns.values())
    curve = torch.stack([columns[f"survival_{t:g}"] for t in times], 1)
    assert ((curve >= 0) & (curve <= 1)).all()
    assert (curve.diff(dim=1) <= 1e-6).all()
    order = columns["risk"].argsort()
    assert kind == "survival_discrete" or (curve[order].diff(dim=0) <= 1e-6).all()
    median = columns["median_time"]
    for row, time in zip(curve, median, strict=True):
        below = [t for t, s in zip(times, row.tolist(), strict=True) if s <= 0.5]
        if not below:
            assert time.isnan() or time >= times[-1] - 1e-4
        else:  # the grid is as fine as the times of the data
            assert below[0] - 0.5 - 1e-4 <= time <= below[0] + 1e-4


def test_discrete_bins_are_quantiles_of_the_training_events():
    task, y, logits = make_task("survival_discrete", bins=5)
    time, event = y.double().numpy().T
    inner = np.quantile(time[event == 1], [0.2, 0.4, 0.6, 0.8])
    np.testing.assert_allclose(task.edges, [0, *inner, time.max()], rtol=1e-6)
    bins = torch.as_tensor(np.digitize(time, inner, right=True))
    assert torch.equal(task.bins_of(y[:, 0]), bins)
    expected = discrete_survival_nll(logits, bins, y[:, 1])
    torch.testing.assert_close(task.loss(logits, task.target(y)), expected)
    lived = (1 - logits.double().sigmoid()).cumprod(1)
    columns = task.predict(logits)
    risk = -lived.sum(1)
    torch.testing.assert_close(columns["risk"].double(), risk - risk.mean(), rtol=1e-5, atol=1e-6)
    k = 2  # at an edge, the survival is that of the bins before
    at_edge = task.survival(logits.double(), task.edges[k + 1 : k + 2])
    torch.testing.assert_close(at_edge[:, 0], lived[:, k])


def test_discrete_survival_at_an_edge_is_that_of_kaplan_and_meier():
    """Deaths of the time that is an edge are before it, as everywhere else."""
    time = np.repeat([1.0, 2, 3, 4], [9, 6, 3, 6])
    task = SurvivalDiscrete(bins=3, times=[1.0])
    y = torch.as_tensor(task.encode(labels(time, np.ones(24, int))))
    task.fit(y)
    edges = task.edges.tolist()
    assert set(edges[1:-1]) <= {1.0, 2.0, 3.0}
    bins = task.bins_of(y[:, 0]).numpy()
    # The logits of greatest likelihood, of bags that are all alike: the shares that die.
    shares = [(bins == k).sum() / max(1, (bins >= k).sum()) for k in range(3)]
    logits = torch.tensor([shares], dtype=torch.float64).logit(eps=1e-9)
    found = task.survival(logits, torch.tensor(edges[1:], dtype=torch.float64))
    lived = [(time > edge).mean() for edge in edges[1:]]
    np.testing.assert_allclose(found[0], lived, atol=1e-6)


def test_cox_survival_is_breslows():
    task, y, logits = make_task("cox", times=[2.0, 9.0])
    risk = logits[:, 0].double().numpy()
    risk = risk - risk.mean()
    time, event = y.double().numpy().T
    columns = task.predict(logits)
    np.testing.assert_allclose(columns["risk"], risk, atol=1e-6)
    for t in (2.0, 9.0):
        hazard = sum(
            1 / np.exp(risk[time >= s]).sum()
            for s, e in zip(time, event, strict=True)
            if e and s <= t
        )
        np.testing.assert_allclose(
            columns[f"survival_{t:g}"], np.exp(-hazard * np.exp(risk)), rtol=1e-5
        )
    assert task.median_risk.item() == pytest.approx(torch.tensor(risk).median().item(), abs=1e-6)
    # learning from the outputs of another epoch begins anew
    task.fit_outputs(logits + 3, task.target(y))
    np.testing.assert_allclose(task.predict(logits + 3)["risk"], risk, atol=1e-5)


def test_cox_loss_is_the_likelihood_over_the_events():
    task, y, logits = make_task("cox", n=4)
    y = torch.tensor([[1.0, 1], [2, 0], [3, 1], [4, 0]])
    z = logits[:, 0].double()
    expected = (z.logsumexp(0) - z[0] + z[2:].logsumexp(0) - z[2]) / 2
    assert task.loss(logits, y).mean().item() == pytest.approx(expected.item(), rel=1e-6)
    assert task.whole_batch
    for rows, teaches in (([0], False), ([0, 1], True), ([1, 3], False), ([1, 2], False)):
        assert task.teaches(y[rows]) is teaches


def test_cox_before_the_first_epoch_predicts_the_cohort():
    task = Cox()
    y = torch.as_tensor(task.encode(labels(*make_labels())))
    task.fit(y)
    time, event = y.double().numpy().T
    (name, survival), *_ = list(task.predict(torch.zeros(1, 1)).items())[1:]
    t = float(name.removeprefix("survival_"))
    hazard = sum(1 / (time >= s).sum() for s, e in zip(time, event, strict=True) if e and s <= t)
    assert survival.item() == pytest.approx(math.exp(-hazard), rel=1e-5)


def test_weibull_is_scipys():
    task, y, logits = make_task("weibull", times=[3.0])
    with torch.no_grad():
        task.log_shape.fill_(0.4)
    scale = np.exp(logits[:, 0].double().numpy() + task.log_unit.item())
    law = weibull_min(math.exp(0.4), scale=scale)
    columns = task.predict(logits)
    np.testing.assert_allclose(columns["survival_3"], law.sf(3.0), rtol=1e-5)
    np.testing.assert_allclose(columns["median_time"], law.median(), rtol=1e-5)
    expected = weibull_nll(torch.tensor(scale).log(), task.log_shape, *y.double().unbind(1))
    torch.testing.assert_close(task.loss(logits.double(), y.double()), expected)
    time, event = y.double().numpy().T
    assert task.log_unit.exp().item() == pytest.approx(time.sum() / event.sum(), rel=1e-6)
    assert dict(task.named_parameters()).keys() == {"log_shape"}


@EACH
def test_risks_are_above_or_below_the_mean_of_the_training_bags(kind):
    """So that members of other folds, one of which expects longer lives, can be pooled."""
    task, y, logits = make_task(kind)
    for seen in (logits, logits + 2):
        task.fit_outputs(seen, task.target(y))
        risk = task.predict(seen)["risk"]
        assert risk.mean().item() == pytest.approx(0, abs=1e-5)
        assert risk.std() > 0.1
        assert task.median_risk.item() == pytest.approx(risk.median().item(), abs=1e-5)


@EACH
def test_strata_spread_events_and_times(kind):
    time, event = make_labels()
    strata = KINDS[kind]().strata(np.stack([time, event], 1))
    assert strata[:, 0].tolist() == event.tolist()
    for happened in (0, 1):
        _, counts = np.unique(strata[event == happened, 1], return_counts=True)
        assert len(counts) == 4
        assert counts.max() < 2.5 * counts.min()
        late, early = (time[(event == happened) & (strata[:, 1] == q)] for q in (3, 0))
        assert late.min() > early.max()


@EACH
def test_what_a_checkpoint_keeps_predicts_alike(kind):
    task, y, logits = make_task(kind)
    again = KINDS[kind]().from_state(task.state())
    again.load_state_dict(task.state_dict())
    assert again.num_outputs == task.num_outputs
    same = {"rtol": 0, "atol": 0, "equal_nan": True}
    torch.testing.assert_close(again.predict(logits), task.predict(logits), **same)
    fed = task.inputs(task.predict(logits), task.target(y))
    values = []
    for each in (task, again):
        metrics = build_metrics(each.metrics(), {}, fed)
        metrics.update(**fed)
        values.append(metrics.compute())
    torch.testing.assert_close(*values, **same)
    assert set(fed) == set(task.input_names)
    assert {name: type(each) for name, each in task.metrics().items()} == dict(task.metric_types)
    with pytest.raises(ValueError, match="expected the checkpoint of a"):
        KINDS[kind]().from_state({"kind": "binary"})


@EACH
def test_members_are_averaged_at_the_times_of_the_first(kind):
    first, _, logits = make_task(kind, times=[4.0, 8.0])
    other, _, _ = make_task(kind, seed=1, times=[2.0, 6.0, 8.0])
    members = [{**task.predict(logits), "logits": logits} for task in (first, other)]
    found, columns = first.average(members)
    assert list(columns) == list(first.predict(logits))
    between = (members[1]["survival_2"] + members[1]["survival_6"]) / 2  # of a straight line, at 4
    torch.testing.assert_close(columns["survival_4"], (members[0]["survival_4"] + between) / 2)
    torch.testing.assert_close(
        columns["survival_8"], (members[0]["survival_8"] + members[1]["survival_8"]) / 2
    )
    torch.testing.assert_close(columns["risk"], (members[0]["risk"] + members[1]["risk"]) / 2)
    curve = torch.stack([columns["survival_4"], columns["survival_8"]], 1)
    expected = median_of(torch.tensor([4.0, 8.0]), curve)
    torch.testing.assert_close(columns["median_time"], expected, equal_nan=True)
    assert found.shape == logits.shape
    # Of one member alone the loss is its own, as nearly as its curve at these times says it.
    alone, _ = first.average(members[:1])
    if kind != "survival_discrete":
        torch.testing.assert_close(alone, logits.double())


@EACH
def test_one_member_keeps_its_median_time(kind):
    """Its curve at two times alone would say less."""
    task, _, logits = make_task(kind, times=[4.0, 8.0])
    columns = task.predict(logits)
    _, averaged = task.average([{**columns, "logits": logits}])
    torch.testing.assert_close(averaged["median_time"], columns["median_time"], equal_nan=True)
    of_columns = median_of(
        torch.tensor([4.0, 8.0]), torch.stack([columns["survival_4"], columns["survival_8"]], 1)
    )
    assert (of_columns.isnan() & ~columns["median_time"].isnan()).any()


@EACH
def test_members_are_averaged_where_they_are(kind):
    """A device that refuses what is on another, as a GPU does."""
    task, _, logits = make_task(kind, times=[4.0, 8.0])
    member = {**task.predict(logits), "logits": logits}
    member = {name: each.to("meta") for name, each in member.items()}
    _, columns = task.average([member, member])
    assert {each.device.type for each in columns.values()} == {"meta"}


def test_times_that_are_equal_are_equal_in_the_figure_and_the_metric():
    """12.3 of a table is 12.300000190734863 as it is kept."""
    time, event = np.array([12.3, 5, 12.3, 20, 30]), np.array([1, 1, 0, 1, 1])
    task = Cox(times=[12.3])
    y = torch.as_tensor(task.encode(labels(time, event)))
    task.fit(y)
    logits = torch.tensor([[0.3], [0.9], [0.2], [-0.4], [0.5]])
    columns, metrics = task.predict(logits), task.metrics()
    for name in ("auc", "ibs"):
        fed = task.inputs(columns, task.target(y))
        metrics[name].update(**{k: fed[k] for k in signature(metrics[name].update).parameters})
    drawn = [
        ax.lines[0].get_ydata()[0] for ax in task.figures()["scores_over_time"](columns, y).axes
    ]
    assert drawn == pytest.approx([float(metrics[name].compute()) for name in ("auc", "ibs")])


def test_an_ensemble_of_one_at_its_own_edges_has_its_own_hazards():
    task, _, logits = make_task("survival_discrete")
    task = SurvivalDiscrete(times=[*map(float, task.edges[1:-1]), float(task.edges[-1]) - 1e-3])
    y = torch.as_tensor(task.encode(labels(*make_labels())))
    task.fit(y)
    found, _ = task.average([{**task.predict(logits), "logits": logits}])
    torch.testing.assert_close(found[:, :3], logits[:, :3].double(), rtol=1e-3, atol=1e-3)


@EACH
def test_a_bag_in_words_and_its_label(kind):
    task, y, logits = make_task(kind, unit="months")
    assert task.label_columns(y)["time"].tolist() == y[:, 0].tolist()
    assert task.label_columns(y)["event"].dtype == torch.int64
    columns = {name: each[0] for name, each in task.predict(logits).items()}
    columns["median_time"] = torch.tensor(12.34)
    words = task.describe(columns, torch.tensor([7.0, 0.0]))
    assert words == ("7+ months", "12.3 months", None)
    columns["median_time"] = torch.tensor(torch.nan)
    last = f"{task.times[-1]:g}"
    assert task.describe(columns, torch.tensor([7.0, 1.0])) == (
        *("7 months", f"beyond {last} months"),
        None,
    )
    kinds = task.kinds(y)
    assert (kinds["event"] ^ kinds["censored"]).all()
