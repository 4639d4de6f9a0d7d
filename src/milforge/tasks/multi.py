"""Several targets at once, of any kinds, of which a bag may lack some."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics import Metric

from milforge.data.labels import LabelError, Labels
from milforge.metrics.of_target import OfTarget
from milforge.tasks.base import BagInWords, Columns, Task
from milforge.tasks.reading import Problem, raise_problems
from milforge.tasks.states import part_of
from milforge.tasks.targets import Target, as_targets, naming


class Multi(Task):
    """Several targets, each a task with label columns of its own and a weight in the loss.

    A bag whose cells of a target are all empty has no label for it: it counts for nothing in the
    loss and the metrics of that target. The loss of a target is scaled by the share of the
    training bags that have a label, so that its mean over all bags is that over the labelled ones.

    Columns of predictions, of labels, metrics and figures are those of the tasks, with the name of
    the target before them: `grade_probability_0`, `val/survival_c_index`.

    Args:
        targets: name to `task`, `columns` (its label columns; left out: the one of that name) and
            `weight` (left out: 1).

    Attributes:
        kind: what is written as `task=`.
        targets: what is known of each target, by name.

    Raises:
        ValueError: where there are no targets, or one has other keys.
    """

    kind: ClassVar[str] = "multi"

    def __init__(self, targets: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        super().__init__()
        self.targets: dict[str, Target] = as_targets(targets or {})
        self._register()

    def _register(self) -> None:
        """Parameters of the tasks are parameters of this one."""
        tasks = [each.task for each in self.targets.values()]
        self.tasks = nn.ModuleList(tasks)  # a dictionary of modules has names that it refuses
        self.whole_batch = any(task.whole_batch for task in tasks)
        self.learns_from_outputs = any(task.learns_from_outputs for task in tasks)
        self.input_names = tuple(
            f"{name}/{each}"
            for name, target in self.targets.items()
            for each in ("known", *target.task.input_names)
        )

    def resolve(self, labels: Labels) -> "Multi":
        """Itself, with the tasks that the labels of each target look like."""
        if not self.targets:
            raise LabelError(
                "expected task.targets with a task for each target, got none: see docs/outcomes.md"
            )
        for name, target in self.targets.items():
            with naming(name):
                rest = target.labels(labels).take(np.flatnonzero(target.present(labels)))
                target.task = target.task.resolve(rest)
        self._register()
        return self

    def encode(self, labels: Labels) -> NDArray[np.float32]:
        """`(n, C)` of all targets side by side, NaN where a bag has no label."""
        problems: dict[int, list[Problem]] = {}
        parts = []
        for name, target in self.targets.items():
            with naming(name):
                rows = np.flatnonzero(target.present(labels))
                if not len(rows):
                    raise LabelError(
                        f"expected labels in {', '.join(target.columns)}, got none in "
                        f"{len(labels)} bags"
                    )
                try:
                    y = target.task.encode(target.labels(labels).take(rows))
                except LabelError as error:
                    if not error.problems:
                        raise
                    for row, problem in error.problems.items():
                        problems.setdefault(int(rows[row]), []).append(problem)
                    continue
            table = y.reshape(len(y), -1)
            target.flat, target.width = y.ndim == 1, table.shape[1]
            part = np.full((len(labels), target.width), np.nan, dtype=np.float32)
            part[rows] = table
            parts.append(part)
        raise_problems(
            {
                row: ("; ".join(what for what, _ in each), each[0][1])
                for row, each in problems.items()
            }
        )
        self._settle()
        return np.concatenate(parts, 1)

    def _settle(self) -> None:
        self.num_outputs = sum(target.task.num_outputs for target in self.targets.values())

    def _each(self, y: Tensor) -> list[tuple[str, Target, Tensor, Tensor]]:
        """For each target its name, itself, its part of `y` and which bags have a label.

        Where there is none, labels are 0, which is a label for every task that gets to see them.
        """
        found = []
        parts = torch.split(y, [target.width for target in self.targets.values()], 1)
        for (name, target), part in zip(self.targets.items(), parts, strict=True):
            known = ~part.isnan().any(1)
            part = part.nan_to_num()
            found.append((name, target, part[:, 0] if target.flat else part, known))
        return found

    def _logits(self, logits: Tensor) -> list[Tensor]:
        sizes = [target.task.num_outputs for target in self.targets.values()]
        return list(torch.split(logits, sizes, 1))

    def strata(self, y: NDArray[Any]) -> NDArray[np.int64]:
        """`(n, C)`: the strata of each target side by side, and which bags have no label."""
        columns = []
        for _, target, part, known in self._each(torch.as_tensor(y)):
            strata = target.task.strata(part.numpy())
            table = known.numpy().astype(np.int64)[:, None]
            if strata is not None:
                table = np.where(table, strata.reshape(len(y), -1), -1)
            columns.append(table)
        return np.concatenate(columns, 1)

    def fit(self, y: Tensor) -> None:
        """Each task learns from the training bags that have its label.

        Raises:
            ValueError: where none has one.
        """
        for name, target, part, known in self._each(y):
            if not bool(known.any()):
                raise ValueError(
                    f"expected training bags with a label of the target {name!r}, got none of "
                    f"{len(y)}: choose another split, or leave the target out"
                )
            target.scale = len(y) / int(known.sum())
            target.task.fit(part[known])

    def fit_outputs(self, logits: Tensor, target: Tensor) -> None:
        """Each task learns from the training bags that have its label."""
        for (_, each, part, known), own in zip(
            self._each(target), self._logits(logits), strict=True
        ):
            if each.task.learns_from_outputs and bool(known.any()):
                each.task.fit_outputs(own[known], each.task.target(part[known]))

    def of_patient(self, y: NDArray[Any]) -> NDArray[Any] | None:
        """What each task says of a patient."""
        columns = []
        ends = np.cumsum([target.width for target in self.targets.values()])
        for target, part in zip(self.targets.values(), np.split(y, ends[:-1], 1), strict=True):
            own = target.task.of_patient(part[:, 0] if target.flat else part)
            if own is not None:
                columns.append(own.reshape(len(y), -1))
        return np.concatenate(columns, 1) if columns else None

    def teaches(self, y: Tensor) -> bool:
        """Whether any target is taught."""
        return any(
            bool(known.any()) and target.task.teaches(part[known])
            for _, target, part, known in self._each(y)
        )

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """The weighted sum of the tasks' own losses, each weighted as its task does."""
        total = logits.sum(1) * 0.0
        for (_, each, part, known), own in zip(
            self._each(target), self._logits(logits), strict=True
        ):
            (rows,) = torch.where(known)
            if not len(rows):
                continue
            labels = each.task.target(part[known])
            losses = each.task.loss(own[known], labels)
            weight = each.task.weight(labels)
            losses = losses if weight is None else losses * weight
            # One of the whole batch has a mean over the labelled bags of that batch.
            scale = len(target) / len(rows) if each.task.whole_batch else each.scale
            total = total.index_add(0, rows, losses * (each.weight * scale))
        return total

    def predict(self, logits: Tensor) -> dict[str, Tensor]:
        """The columns of all tasks, with the name of the target before them."""
        return {
            f"{name}_{column}": values
            for (name, target), own in zip(self.targets.items(), self._logits(logits), strict=True)
            for column, values in target.task.predict(own).items()
        }

    def _columns_of(self, name: str, columns: Columns) -> dict[str, Tensor]:
        """The columns of a target as its task names them."""
        own = f"{name}_"
        longer = [f"{each}_" for each in self.targets if each.startswith(own)]
        return {
            column.removeprefix(own): values
            for column, values in columns.items()
            if column.startswith(own) and not any(column.startswith(each) for each in longer)
        }

    def average(self, members: Sequence[Columns]) -> tuple[Tensor, dict[str, Tensor]]:
        """What the tasks make of the members' predictions."""
        logits: list[Tensor] = []
        columns: dict[str, Tensor] = {}
        for place, (name, target) in enumerate(self.targets.items()):
            each = [
                {**self._columns_of(name, of), "logits": self._logits(of["logits"])[place]}
                for of in members
            ]
            own, averaged = target.task.average(each)
            logits.append(own.double())
            columns |= {f"{name}_{column}": values for column, values in averaged.items()}
        return torch.cat(logits, 1), columns

    def inputs(self, columns: Columns, target: Tensor) -> dict[str, Tensor]:
        """Those of the tasks as `<name>/<argument>`, and `<name>/known` `(B,)` bool."""
        found: dict[str, Tensor] = {}
        for name, each, part, known in self._each(target):
            own = each.task.inputs(self._columns_of(name, columns), each.task.target(part))
            found |= {f"{name}/{key}": values for key, values in own.items()}
            found[f"{name}/known"] = known
        return found

    def metrics(self) -> dict[str, Metric]:
        """Those of the tasks, of the bags that have a label."""
        return {
            f"{name}_{key}": OfTarget(name, metric)
            for name, target in self.targets.items()
            for key, metric in target.task.metrics().items()
        }

    def figures(self) -> dict[str, Callable[[Columns, Tensor], Figure]]:
        """Those of the tasks, of the bags that have a label."""
        return {
            f"{name}_{key}": partial(self._draw, name, draw)
            for name, target in self.targets.items()
            for key, draw in target.task.figures().items()
        }

    def _draw(
        self, name: str, draw: Callable[[Columns, Tensor], Figure], columns: Columns, y: Tensor
    ) -> Figure:
        part, known = next((p, k) for each, _, p, k in self._each(y) if each == name)
        own = self._columns_of(name, columns)
        return draw({key: values[known] for key, values in own.items()}, part[known])

    def label_columns(self, y: Tensor) -> dict[str, Tensor]:
        """Those of the tasks, NaN where a bag has no label."""
        return {
            f"{name}_{key}": values.float().where(known, torch.nan)
            for name, target, part, known in self._each(y)
            for key, values in target.task.label_columns(part).items()
        }

    def describe(self, columns: Columns, y: Tensor) -> BagInWords:
        """All targets in words; a label that is missing is a question mark."""
        truths, predictions = [], []
        for name, target, part, known in self._each(y[None]):
            words = target.task.describe(self._columns_of(name, columns), part[0])
            truths.append(f"{name} {words.truth if bool(known) else '?'}")
            predictions.append(f"{name} {words.prediction}")
        return BagInWords(", ".join(truths), ", ".join(predictions), None)

    def state(self) -> dict[str, Any]:
        """What each target knows."""
        return {"kind": self.kind, "targets": {n: t.state() for n, t in self.targets.items()}}

    def from_state(self, state: Mapping[str, Any]) -> Self:
        """The task as it was.

        Raises:
            ValueError: for other targets.
        """
        known = part_of(state, self.kind, "targets")
        if list(known) != list(self.targets):
            raise ValueError(
                f"expected the targets of the checkpoint, {', '.join(known)}, got "
                f"{', '.join(self.targets) or 'none'}: leave task= to the checkpoint"
            )
        for name, target in self.targets.items():
            target.take_up(known[name])
        self._register()
        self._settle()
        return self
