"""Grades: what they are read from, and their probabilities."""

import numpy as np
import pytest
import torch
from sklearn.metrics import cohen_kappa_score

from milforge.data.labels import LabelError, Labels
from milforge.functional import conditional_nll, cumulative_nll
from milforge.metrics import build_metrics
from milforge.tasks import Ordinal

METHODS = pytest.mark.parametrize("method", ["coral", "corn"])


def labels(*grades):
    return Labels({"grade": np.array(grades)})


def make_task(method, grades=4, n=50, seed=0, **options):
    rng = np.random.default_rng(seed)
    task = Ordinal(method, **options)
    found = np.concatenate([np.arange(grades), rng.integers(grades, size=n - grades)]) + 1
    y = torch.as_tensor(task.encode(labels(*found.astype(str))))
    task.fit(y)
    return task, y, torch.as_tensor(rng.normal(size=(n, task.num_outputs))).float()


def test_grades_are_whole_numbers_or_named():
    assert Ordinal().encode(labels("3", "1", "2")).tolist() == [*(2, 0, 1)]
    assert Ordinal().encode(labels(9.0, 11.0, 10.0)).tolist() == [0, 2, 1]
    named = Ordinal(class_names=["low", "mid", "high"])
    assert named.encode(labels("high", "low")).tolist() == [2, 0]
    gap = Ordinal(class_names=["0", "1", "2"])
    assert gap.encode(labels("2", "0")).tolist() == [2, 0]


@pytest.mark.parametrize(
    ("grades", "message"),
    [
        (
            ["1", "2", "5"],
            r"without a gap .* 'grade', got 1, 2, 5: 3, 4 is missing",
        ),
        (["1", "G2"], r"whole numbers as grades .* got 'G2': name all grades in order"),
        (["1", "1.5"], r"whole numbers as grades .* got '1.5'"),
        (["2", "2"], "at least two grades in the label column 'grade', got 2"),
    ],
)
def test_what_are_no_grades_is_one_sentence(grades, message):
    with pytest.raises(LabelError, match=message) as told:
        Ordinal().encode(labels(*grades))
    assert not told.value.problems


def test_bags_without_a_grade_are_named():
    with pytest.raises(LabelError) as told:
        Ordinal().encode(labels("1", "", "2", "NA"))
    assert list(told.value.problems) == [1, 3]
    with pytest.raises(ValueError, match="coral or corn, got 'clm'"):
        Ordinal("clm")
    with pytest.raises(ValueError, match=r"at least two grades in task.class_names, got a"):
        Ordinal(class_names=["a"])


@METHODS
def test_probabilities_add_up_and_the_grade_is_their_median(method):
    task, _, logits = make_task(method)
    columns = task.predict(logits.requires_grad_())
    p = columns["probability"].double()
    assert (p >= 0).all()
    torch.testing.assert_close(p.sum(1), torch.ones(50, dtype=torch.double), atol=1e-6, rtol=0)
    for row, grade in zip(p, columns["grade"], strict=True):
        below = [k for k in range(4) if row[k + 1 :].sum() <= 0.5]
        assert grade == below[0] + 1  # the labels begin at 1
    assert not any(each.requires_grad for each in columns.values())


def test_coral_probabilities_are_those_of_shared_thresholds_in_order():
    task, y, logits = make_task("coral")
    shares = np.array([(y > k).float().mean() for k in range(3)])
    p = task.predict(torch.zeros(1, 1))["probability"][0].double()
    above = [p[k + 1 :].sum().item() for k in range(3)]
    np.testing.assert_allclose(above, shares, atol=0.03)  # one bag is added to each grade
    with torch.no_grad():
        task.steps.copy_(torch.tensor([-50.0, -5.0]))  # whatever training does to them
    thresholds = [p[k + 1 :].sum() for p in task.predict(logits)["probability"] for k in range(3)]
    assert torch.stack(thresholds).view(-1, 3).diff(dim=1).max() <= 1e-6
    assert {name for name, _ in task.named_parameters()} == {"first", "steps"}


@METHODS
def test_the_loss_is_that_of_the_questions(method):
    task, y, logits = make_task(method)
    target = task.target(y)
    found = task.loss(logits, target)
    if method == "corn":
        expected = conditional_nll(logits, y)
    else:
        falls = torch.cat([torch.zeros(1), torch.log1p(task.steps.exp()).cumsum(0)])
        expected = cumulative_nll(logits + task.first - falls, y)
    torch.testing.assert_close(found, expected)
    assert found.shape == (50,)
    assert torch.equal(task.classes(y), y)


@METHODS
def test_metrics_against_scikit_learn(method):
    task, y, logits = make_task(method)
    columns = task.predict(logits)
    fed = task.inputs(columns, task.target(y))
    metrics = build_metrics(task.metrics(), {}, fed)
    metrics.update(**fed)
    found = metrics.compute()
    grade = columns["grade"] - 1
    kappa = cohen_kappa_score(y, grade, weights="quadratic", labels=range(4))
    assert found["kappa"].item() == pytest.approx(kappa, abs=1e-6)
    assert found["mae"].item() == pytest.approx((y - grade).abs().double().mean().item())
    assert found["accuracy"].item() == pytest.approx((y == grade).double().mean().item())
    assert {name: type(each) for name, each in task.metrics().items()} == dict(task.metric_types)


@METHODS
def test_members_that_predict_alike_have_the_loss_of_each(method):
    """A member of another fold may hold in its thresholds what this one has in its logits."""
    task, y, logits = make_task(method)
    other, _, _ = make_task(method)
    shift = 3.0 if method == "coral" else 0.0
    if method == "coral":
        with torch.no_grad():
            other.first += shift
    members = [
        {**task.predict(logits), "logits": logits},
        {**other.predict(logits - shift), "logits": logits - shift},
    ]
    for some in (members, members[1:]):  # of a bag that one alone has not seen too
        found, _ = task.average(some)
        torch.testing.assert_close(found.float(), logits, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(
            task.loss(found.float(), y), task.loss(logits, y), rtol=1e-4, atol=1e-4
        )


@METHODS
def test_a_checkpoint_and_an_ensemble(method):
    task, y, logits = make_task(method)
    again = Ordinal(method).from_state(task.state())
    again.load_state_dict(task.state_dict())
    torch.testing.assert_close(again.predict(logits), task.predict(logits), rtol=0, atol=0)
    other, _, _ = make_task(method, seed=1)
    members = [{**each.predict(logits), "logits": logits} for each in (task, other)]
    found, columns = task.average(members)
    mean = (members[0]["probability"] + members[1]["probability"]) / 2
    torch.testing.assert_close(columns["probability"], mean, rtol=1e-5, atol=1e-6)
    if method == "corn":  # its loss is the negative log-likelihood of the grade
        likely = columns["probability"].double().gather(1, y[:, None])[:, 0]
        torch.testing.assert_close(task.loss(found, y), -likely.log(), rtol=1e-4, atol=1e-4)
    words = task.describe({name: each[0] for name, each in columns.items()}, y[0])
    assert words.truth == task.class_names[int(y[0])]
    assert words.prediction == str(int(columns["grade"][0]))
    of_grade = columns["probability"][0, task.class_names.index(words.prediction)]
    assert words.probability == pytest.approx(float(of_grade))
    assert task.label_columns(y)["label"].tolist() == (y + 1).tolist()
    assert set(task.figures()) == {"confusion"}
    assert task.figures()["confusion"](columns, y)
