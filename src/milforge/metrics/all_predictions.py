"""What metrics share that look at all predictions of an epoch at once."""

from abc import abstractmethod
from collections.abc import Hashable

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class AllPredictions(Metric):
    """A figure of all predictions and labels of an epoch.

    Both are kept flat and in the metric's own dtype, float32 unless a subclass says otherwise: so
    a process without a bag can stand in for its share with the empty tensor that torchmetrics
    gathers from it. Without any bag, and with NaN among the predictions, the result is NaN.

    Args:
        columns: predictions of a bag.
        figures: values of the result; None: a single one, 0-dim.
    """

    is_differentiable = False
    full_state_update = False

    preds: list[Tensor]
    target: list[Tensor]

    def __init__(self, columns: int, figures: int | None = None) -> None:
        super().__init__()
        self.columns = columns
        self.figures = figures
        self.add_state("preds", [], dist_reduce_fx="cat")
        self.add_state("target", [], dist_reduce_fx="cat")

    @property
    @abstractmethod
    def keeps(self) -> Hashable:
        """What is kept: metrics that are alike in it may keep one copy; see `build_metrics`."""

    @abstractmethod
    def check_shapes(self, preds: Tensor, target: Tensor) -> None:
        """Raises a ValueError where a batch has other shapes than this metric takes."""

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add the bags of a batch.

        Args:
            preds: predictions, `(B,)` or `(B, C)` float.
            target: labels, `(B,)` or `(B, C)`.

        Raises:
            ValueError: for other shapes.
        """
        self.check_shapes(preds, target)
        self.preds.append(preds.detach().flatten().to(self.dtype))
        self.target.append(target.flatten().to(self.dtype))

    def compute(self) -> Tensor:
        """The figure, float32: 0-dim, or one value each for several.

        Raises:
            ValueError: where values are out of range.
        """
        nothing = torch.full(() if self.figures is None else (self.figures,), torch.nan)
        if not len(self.preds):
            return nothing.to(self.device)
        preds = dim_zero_cat(self.preds).view(-1, self.columns)
        target = dim_zero_cat(self.target)
        self.check_values(preds, target)
        if not len(preds) or preds.isnan().any():
            return nothing.to(self.device)
        return self.figure(preds, target).float()

    def check_values(self, preds: Tensor, target: Tensor) -> None:
        """Raises a ValueError where predictions or labels are out of range."""

    @abstractmethod
    def figure(self, preds: Tensor, target: Tensor) -> Tensor:
        """The figure from `(n, columns)` predictions, at least one bag of them, and flat labels."""
