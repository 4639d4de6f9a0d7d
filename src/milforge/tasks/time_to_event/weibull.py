"""Times that follow a Weibull distribution, of which each bag has its own scale."""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from milforge.functional import weibull_nll
from milforge.tasks.time_to_event.survival import Survival


class Weibull(Survival):
    r"""Accelerated failure time: a logit, by which the times of a bag are stretched.

    The time of a bag follows a Weibull distribution, `S(t) = exp(-(t / lambda)^k)`. `log lambda` is
    the logit plus that of an exponential distribution fitted to the training part; `log k` is one
    number for all bags, a parameter of this task that is trained with the network. `risk` is minus
    the logit, less its mean. Any batch size will do. See `Survival` for the columns.

    Args:
        times: see `Survival`.
        unit: see `Survival`.

    Attributes:
        log_unit: 0-dim, `log lambda` of a logit of 0; in the checkpoint.
        log_shape: 0-dim parameter, `log k`.
    """

    kind: ClassVar[str] = "weibull"
    log_unit: Tensor

    def __init__(self, times: Sequence[float] | None = None, unit: str | None = None) -> None:
        super().__init__(times, unit)
        self.log_shape = nn.Parameter(torch.zeros(()))

    def _outputs(self) -> int:
        return 1

    def _settle(self, times: Sequence[float]) -> None:
        super()._settle(times)
        self.register_buffer("log_unit", torch.zeros(()))

    def fit(self, y: Tensor) -> None:
        """Takes the mean time until an event from the training part."""
        super().fit(y)
        time, event = y.double().unbind(1)
        self.log_unit.copy_((time.sum() / event.sum()).log())

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Negative log-likelihood."""
        time, event = target.unbind(1)
        return weibull_nll(logits[:, 0] + self.log_unit, self.log_shape, time, event)

    def risk(self, logits: Tensor) -> Tensor:
        """Minus the logit."""
        return -logits[:, 0]

    def survival(self, logits: Tensor, times: Tensor) -> Tensor:
        """`exp(-(t / lambda)^k)`."""
        log_ratio = times.log() - (logits[:, :1] + self.log_unit)
        return (-(self.log_shape.detach().exp() * log_ratio).exp()).exp()

    def median_time(self, logits: Tensor) -> Tensor:
        """`lambda (log 2)^(1 / k)`."""
        log_scale = logits[:, 0] + self.log_unit
        return (log_scale + math.log(math.log(2)) / self.log_shape.detach().exp()).exp()

    def logits_of(self, survival: Tensor, times: Tensor, members: Sequence[Tensor]) -> Tensor:
        """The mean of the logits, the scale of the geometric mean of the members' scales."""
        return torch.stack([each.double() for each in members]).mean(0)
