"""Metrics of predicted numbers, exact over all bags of an epoch.

torchmetrics has them too; of a single bag, of labels that are all alike, and of a process without
a bag those raise, warn or are wrong, where these are NaN or right.
"""

from abc import abstractmethod
from collections.abc import Hashable

import torch
from torch import Tensor

from milforge.metrics.all_predictions import AllPredictions


class _Numbers(AllPredictions):
    """A figure of all predicted and true numbers of an epoch; see `AllPredictions`.

    Args:
        num_outputs: numbers of a bag; there is a figure for each where there are several.
    """

    def __init__(self, num_outputs: int = 1) -> None:
        if num_outputs < 1:
            raise ValueError(f"expected num_outputs of at least 1, got {num_outputs}")
        super().__init__(num_outputs, None if num_outputs == 1 else num_outputs)

    @property
    def keeps(self) -> Hashable:
        """Numbers in so many columns."""
        return "numbers", self.columns

    def check_shapes(self, preds: Tensor, target: Tensor) -> None:
        """Refuses a batch of other shapes."""
        size, outputs = target.shape[:1], () if self.columns == 1 else (self.columns,)
        if preds.shape != (*size, *outputs) or target.shape != preds.shape:
            raise ValueError(
                f"expected predictions and labels of shape {('B', *outputs)}, got "
                f"{tuple(preds.shape)} and {tuple(target.shape)}"
            )

    def figure(self, preds: Tensor, target: Tensor) -> Tensor:
        """The figure of each output, of one alone 0-dim."""
        values = self._per_output(preds.double(), target.view(preds.shape).double())
        return values[0] if self.figures is None else values

    @staticmethod
    @abstractmethod
    def _per_output(preds: Tensor, target: Tensor) -> Tensor:
        """The figure of each output, `(O,)`, from `(n, O)` in float64, n at least 1."""


class MAE(_Numbers):
    """Mean absolute error, in the unit of the labels.

    Args:
        num_outputs: numbers of a bag.

    Example:
        >>> metric = MAE()
        >>> metric.update(torch.tensor([1.0, 5.0]), torch.tensor([2.0, 8.0]))
        >>> metric.compute()
        tensor(2.)
    """

    higher_is_better = False
    plot_lower_bound = 0.0

    @staticmethod
    def _per_output(preds: Tensor, target: Tensor) -> Tensor:
        return (preds - target).abs().mean(0)


class RMSE(_Numbers):
    """Root of the mean squared error, in the unit of the labels.

    Args:
        num_outputs: numbers of a bag.

    Example:
        >>> metric = RMSE()
        >>> metric.update(torch.tensor([1.0, 5.0]), torch.tensor([2.0, 12.0]))
        >>> metric.compute()
        tensor(5.)
    """

    higher_is_better = False
    plot_lower_bound = 0.0

    @staticmethod
    def _per_output(preds: Tensor, target: Tensor) -> Tensor:
        return (preds - target).square().mean(0).sqrt()


class R2(_Numbers):
    r"""Coefficient of determination, `1 - sum (y - p)^2 / sum (y - mean y)^2`.

    NaN where all labels are alike. It is below 0 where the mean of the labels would be the better
    prediction.

    Args:
        num_outputs: numbers of a bag.

    Example:
        >>> metric = R2()
        >>> metric.update(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 2.0, 3.0]))
        >>> metric.compute()
        tensor(0.5000)
    """

    higher_is_better = True
    plot_upper_bound = 1.0

    @staticmethod
    def _per_output(preds: Tensor, target: Tensor) -> Tensor:
        left, all_of_it = (preds - target).square().sum(0), _centred(target).square().sum(0)
        return (1 - left / all_of_it).masked_fill(_constant(target), torch.nan)


class Pearson(_Numbers):
    """Pearson's correlation of predictions and labels; NaN where either are all alike.

    Args:
        num_outputs: numbers of a bag.

    Example:
        >>> metric = Pearson()
        >>> metric.update(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0, 20.0, 30.0]))
        >>> metric.compute()
        tensor(1.)
    """

    higher_is_better = True
    plot_lower_bound = -1.0
    plot_upper_bound = 1.0

    @staticmethod
    def _per_output(preds: Tensor, target: Tensor) -> Tensor:
        return _correlation(preds, target)


class Spearman(_Numbers):
    """Spearman's correlation: Pearson's of the ranks, of which ties share the mean.

    NaN where predictions or labels are all alike.

    Args:
        num_outputs: numbers of a bag.

    Example:
        >>> metric = Spearman()
        >>> metric.update(torch.tensor([1.0, 2.0, 9.0]), torch.tensor([10.0, 20.0, 30.0]))
        >>> metric.compute()
        tensor(1.)
    """

    higher_is_better = True
    plot_lower_bound = -1.0
    plot_upper_bound = 1.0

    @staticmethod
    def _per_output(preds: Tensor, target: Tensor) -> Tensor:
        return _correlation(_ranks(preds), _ranks(target))


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    a, b = _centred(first), _centred(second)
    shared: Tensor = (a * b).sum(0) / (a.norm(dim=0) * b.norm(dim=0))
    return shared.clamp(-1, 1).masked_fill(_constant(first) | _constant(second), torch.nan)


def _centred(values: Tensor) -> Tensor:
    return values - values.mean(0)


def _constant(values: Tensor) -> Tensor:
    """`(O,)`: whether all values are alike, which rounding hides from their variance."""
    return (values == values[0]).all(0)


def _ranks(values: Tensor) -> Tensor:
    """Ranks within each column, `(n, O)`."""
    columns = []
    for column in values.unbind(1):
        _, place, counts = torch.unique(column, return_inverse=True, return_counts=True)
        columns.append((counts.cumsum(0) - (counts - 1) / 2)[place])
    return torch.stack(columns, 1).double()
