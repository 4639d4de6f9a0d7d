"""Modules whose network gives stated values, and problems of every task."""

from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from milforge.data import Bag, Labels
from milforge.models import BagOutput
from milforge.tasks import Binary, Multiclass, Multilabel, Regression
from milforge.training import MILModule

TASKS = {
    "binary": (Binary, ("no", "yes")),
    "multiclass": (Multiclass, ("a", "b", "c")),
    "multilabel": (Multilabel, ("a", "b", "c")),
    "regression": (Regression, ("age", "score")),
}
CLASSES = ("binary", "multiclass", "multilabel")
OUTPUTS = {"binary": 1, "multiclass": 3, "multilabel": 3, "regression": 2}


class Stated(nn.Module):
    """Logits and scores that are stated; the bag id is the number of the row."""

    def __init__(self, logits, penalty=None, scores=True, details=None):
        super().__init__()
        self.logits = nn.Parameter(logits)
        self.penalty = penalty
        self.scores = scores
        self.details = details or {}
        self.logged = tuple(self.details)

    def rows(self, batch):
        return torch.tensor([int(name) for name in batch.bag_id], dtype=torch.int64)

    def forward(self, batch):
        rows = self.rows(batch)
        penalty = None if self.penalty is None else self.penalty * self.logits.square().sum()
        scores = batch.x[:, 0] if self.scores else None
        details = {name: values[rows] for name, values in self.details.items()}
        return BagOutput(self.logits[rows], scores, penalty, details=details)


def labels_of(kind, y):
    """The labels `y` as a data set gives them."""
    names = TASKS[kind][1]
    values = y.numpy()
    if kind in ("binary", "multiclass"):
        return Labels({"label": values}, names)
    table = values.reshape(len(values), -1)
    return Labels({name: table[:, c] for c, name in enumerate(names)}, names)


def make_task(kind, y, **options):
    """A task that has seen these labels, all of which are of the training part."""
    build, names = TASKS[kind]
    task = build(**options) if kind == "regression" else build(names, **options)
    encoded = torch.from_numpy(task.encode(labels_of(kind, y)))
    assert torch.equal(encoded, y)
    task.fit(encoded)
    return task


def make_labels(kind, n=23, seed=0):
    """`(n,)`, or `(n, C)`; all classes are among them."""
    rng = np.random.default_rng(seed)
    if kind == "regression":
        values = rng.normal(size=(n, 2)) * [12, 0.3] + [50, -1]
        return torch.tensor(values, dtype=torch.float32)
    if kind == "multilabel":
        return torch.tensor(rng.integers(2, size=(n, 3)))
    return torch.tensor(rng.permutation(np.arange(n) % (3 if kind == "multiclass" else 2)))


def make_problem(kind, n=23, seed=0):
    """Logits, labels and bags."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn((n, OUTPUTS[kind]), generator=generator)
    y = make_labels(kind, n, seed)
    bags = []
    for i in range(n):
        size = int(torch.randint(2, 7, (1,), generator=generator))
        x = torch.randn(size, 2, generator=generator)
        y_inst = torch.randint(2, (size,), generator=generator)
        bags.append(Bag(x, y=y[i] if y.ndim > 1 else int(y[i]), y_inst=y_inst, bag_id=str(i)))
    return logits, y, bags


def attached(module, **trainer):
    """What the steps ask of a trainer in a single process."""
    known = {"world_size": 1, "sanity_checking": False, "current_epoch": 0, **trainer}
    module._trainer = SimpleNamespace(**known)
    return module


def make_module(kind, y, logits, weights=None, options=None, **network):
    """A module whose network says these logits."""
    task = make_task(kind, y, **({} if weights is None else {"class_weights": weights}))
    stated = network.pop("network", None) or Stated(logits.clone(), **network)
    return attached(MILModule(stated, task, **(options or {})))


def class_weights(kind, y, weights):
    """`(B,)`, of a multilabel task `(B, C)`, by counting; of mean 1 over the bags."""
    if kind == "multilabel":
        found = np.array(
            [
                [len(y) / (2 * int((y[:, c] == int(v)).sum())) for c, v in enumerate(row)]
                for row in y
            ]
        )
        return torch.tensor(found)
    numbers = y.tolist()
    if weights == "balanced":
        each = [len(y) / (OUTPUT_CLASSES[kind] * numbers.count(label)) for label in numbers]
    else:
        each = [weights[label] for label in numbers]
    return torch.tensor(each, dtype=torch.float64) / np.mean(each)


OUTPUT_CLASSES = {"binary": 2, "multiclass": 3}


def losses_by_hand(kind, logits, y, weights=None):
    """`(B,)`, bag by bag, in float64; it has a gradient where the logits do."""
    weight = None if weights is None else class_weights(kind, y, weights)
    losses = []
    if kind == "regression":
        table = y.double()
        y = (table - table.mean(0)) / table.std(0, correction=0)
    for b, (z, label) in enumerate(zip(logits.double(), y, strict=True)):
        if kind == "regression":
            terms = [(z[o] - label[o]) ** 2 for o in range(len(z))]
        elif kind == "multiclass":
            terms = [-(z[label] - z.exp().sum().log())]
        else:
            terms = []
            for value, is_there in zip(z, label.reshape(-1), strict=True):
                p = 1 / (1 + torch.exp(-value))
                terms.append(-torch.log(p if is_there else 1 - p))
            if weight is not None and kind == "multilabel":
                terms = [term * weight[b, c] for c, term in enumerate(terms)]
        loss = sum(terms) / len(terms)
        if weight is not None and kind != "multilabel":
            loss = loss * weight[b]
        losses.append(loss)
    return torch.stack(losses)
