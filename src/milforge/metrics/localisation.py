"""How well scores find the positive instances inside the positive bags."""

from abc import abstractmethod

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchmetrics import Metric

from milforge.functional.ranking import (
    segment_auroc,
    segment_average_precision,
    segment_has_both,
)


class _Localisation(Metric):
    """Mean of a figure of each positive bag that holds both kinds of instance.

    The state is a sum and a count, so the mean over several processes is that over all bags,
    however unevenly they are dealt out.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    @staticmethod
    @abstractmethod
    def _per_bag(scores: Tensor, labels: Tensor, ptr: Tensor) -> Tensor:
        """The figure of each bag, `(B,)`."""

    def update(
        self,
        scores: Float[Tensor, "instances"],
        y_inst: Int[Tensor, "instances"],
        ptr: Int[Tensor, "bounds"],
        positive: Bool[Tensor, "bounds-1"],
    ) -> None:
        """Add the bags of a batch.

        Args:
            scores: `(N,)` float, attention scores or weights.
            y_inst: `(N,)` instance labels 0 and 1, -1 where unknown.
            ptr: `(B + 1,)` int64, the bag boundaries.
            positive: `(B,)` bool, the bags that are positive.

        Raises:
            ValueError: where the shapes do not describe the same instances or bags.
        """
        if positive.shape != (len(ptr) - 1,):
            raise ValueError(
                f"expected positive of shape ({len(ptr) - 1},), one value a bag of ptr, got "
                f"{tuple(positive.shape)}"
            )
        counted = positive & segment_has_both(y_inst, ptr)
        # Selected by count, not by what is not NaN: NaN scores must show in the result.
        self.total += self._per_bag(scores, y_inst, ptr).where(counted, 0.0).sum()
        self.count += counted.sum()

    def compute(self) -> Tensor:
        """The mean, 0-dim float32; NaN where no bag counted."""
        return (self.total / self.count).float()


class LocalisationAUROC(_Localisation):
    """Area under the ROC curve of scores against instance labels, mean over positive bags.

    Positive bags without both kinds of (known) instance have no such area and are left out;
    without any bag the metric is NaN. A NaN score in a bag that counts makes it NaN too. The
    value is that of `milforge.functional.segment_auroc`.

    Example:
        >>> metric = LocalisationAUROC()
        >>> scores, y_inst = torch.tensor([0.1, 0.9, 0.5, 0.3]), torch.tensor([0, 1, 0, 0])
        >>> metric.update(scores, y_inst, torch.tensor([0, 2, 4]), torch.tensor([True, False]))
        >>> metric.compute()
        tensor(1.)
    """

    _per_bag = staticmethod(segment_auroc)


class LocalisationAveragePrecision(_Localisation):
    """Average precision of scores against instance labels, mean over positive bags.

    Positive bags without both kinds of (known) instance are left out; without any bag the metric
    is NaN. A NaN score in a bag that counts makes it NaN too. The value is that of
    `milforge.functional.segment_average_precision`.

    Example:
        >>> metric = LocalisationAveragePrecision()
        >>> scores, y_inst = torch.tensor([0.9, 0.1, 0.5, 0.3]), torch.tensor([0, 1, 0, 0])
        >>> metric.update(scores, y_inst, torch.tensor([0, 2, 4]), torch.tensor([True, False]))
        >>> metric.compute()
        tensor(0.5000)
    """

    _per_bag = staticmethod(segment_average_precision)
