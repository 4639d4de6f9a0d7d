"""Cox's proportional hazards, over risk sets of whole bags."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self, get_args

import torch
from torch import Tensor

from milforge.functional import Steps, baseline_hazard, cox_nll
from milforge.functional.time_to_event.survival import Ties
from milforge.tasks.states import part_of
from milforge.tasks.time_to_event.survival import Survival


class Cox(Survival):
    r"""Proportional hazards: a logit, the log hazard of a bag relative to others.

    The loss is the negative log partial likelihood over the number of events. The risk set is the
    global batch of an optimiser step, all processes together, in evaluation the whole part: a
    batch of one bag teaches nothing, so `loader.batch_size` is to be 32 or more where memory
    allows. Gradients must not be accumulated.

    `risk` is the logit, less its mean over the training bags. The survival is `exp(-H(t) e^risk)`
    with Breslow's baseline H of the training bags, as each was seen in the last epoch of training.
    See `Survival` for the columns.

    Args:
        ties: of events at one time: efron or breslow.
        times: see `Survival`.
        unit: see `Survival`.

    Attributes:
        hazard: `(E,)` H at the times of the training part's events; in the checkpoint.

    Raises:
        ValueError: for another word.
    """

    kind: ClassVar[str] = "cox"
    whole_batch = True
    hazard: Tensor

    def __init__(
        self,
        ties: Ties = "efron",
        times: Sequence[float] | None = None,
        unit: str | None = None,
    ) -> None:
        super().__init__(times, unit)
        if ties not in get_args(Ties):
            raise ValueError(f"expected task.ties to be efron or breslow, got {ties!r}")
        self.ties = ties
        self._steps: list[float] = []

    def _outputs(self) -> int:
        return 1

    def fit(self, y: Tensor) -> None:
        """Takes the times of the events, and the baseline of a network that tells no bag apart."""
        super().fit(y)
        time, event = y.double().unbind(1)
        self._know(sorted(set(time[event > 0].tolist())))
        self._fit_hazard(torch.zeros(len(y)), time, event)

    def _know(self, steps: Sequence[float]) -> None:
        self._steps = list(steps)
        self.register_buffer("hazard", torch.zeros(len(steps)))

    def fit_outputs(self, logits: Tensor, target: Tensor) -> None:
        """Takes the baseline hazard too."""
        super().fit_outputs(logits, target)
        time, event = target.unbind(1)
        self._fit_hazard(self.risk(logits).double() - self.centre, time, event)

    def _fit_hazard(self, risk: Tensor, time: Tensor, event: Tensor) -> None:
        hazard = baseline_hazard(risk, time, event)
        self.hazard.copy_(hazard.at(self._event_times(risk.device)))

    def _event_times(self, device: torch.device) -> Tensor:
        """`(E,)` float64."""
        return torch.tensor(self._steps, dtype=torch.float64, device=device)

    def teaches(self, y: Tensor) -> bool:
        """Whether an event has another bag in its risk set."""
        time, event = y.unbind(1)
        first = time[event > 0]
        return len(first) > 0 and int((time >= first.min()).sum()) > 1

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Terms whose mean is the negative log partial likelihood over the number of events."""
        time, event = target.unbind(1)
        terms = cox_nll(logits[:, 0], time, event, self.ties)
        return terms * (len(terms) / (event > 0).sum().clamp(min=1))

    def risk(self, logits: Tensor) -> Tensor:
        """The logit."""
        return logits[:, 0]

    def survival(self, logits: Tensor, times: Tensor) -> Tensor:
        """`exp(-H(t) e^risk)`."""
        hazard = Steps(self._event_times(logits.device), self.hazard.double(), start=0.0)
        return self._curve(logits, hazard.at(times))

    def _curve(self, logits: Tensor, hazard: Tensor) -> Tensor:
        relative = (logits[:, :1] - self.centre).exp()
        # No hazard and a risk without bound are no risk.
        return (-(hazard * relative).nan_to_num(0.0, torch.inf)).exp()

    def median_time(self, logits: Tensor) -> Tensor:
        """The first time of an event at which the survival is not above one half."""
        low = self._curve(logits, self.hazard.double()) <= 0.5
        times = self._event_times(logits.device)
        return times[low.int().argmax(1)].where(low.any(1), torch.nan)

    def logits_of(self, survival: Tensor, times: Tensor, members: Sequence[Tensor]) -> Tensor:
        """The mean of the logits: what is added to all of them says nothing."""
        return torch.stack([each.double() for each in members]).mean(0)

    def state(self) -> dict[str, Any]:
        """The times of the events too."""
        return {**super().state(), "steps": self._steps}

    def from_state(self, state: Mapping[str, Any]) -> Self:
        """The task as it was, but for what is in the weights."""
        super().from_state(state)
        self._know(part_of(state, self.kind, "steps"))
        return self
