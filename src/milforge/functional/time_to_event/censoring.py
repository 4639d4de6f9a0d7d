"""How long bags live, and how long they are watched: Kaplan and Meier's estimates."""

from typing import NamedTuple

import torch
from torch import Tensor


class Steps(NamedTuple):
    """A function of time that changes in steps.

    Attributes:
        times: `(T,)` float64, rising.
        values: `(T,)` float64, its value from each time on.
        start: its value before the first time.
    """

    times: Tensor
    values: Tensor
    start: float = 1.0

    def at(self, time: Tensor) -> Tensor:
        """Its value at each time, float64.

        Example:
            >>> steps = Steps(torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.2]))
            >>> steps.at(torch.tensor([0.9, 1.0])), steps.before(torch.tensor([1.0, 1.1]))
            (tensor([1.0000, 0.5000]), tensor([1.0000, 0.5000]))
        """
        return self._values(time, right=True)

    def before(self, time: Tensor) -> Tensor:
        """Its value just before each time, float64."""
        return self._values(time, right=False)

    def _values(self, time: Tensor, *, right: bool) -> Tensor:
        place = torch.searchsorted(self.times, time.to(self.times).contiguous(), right=right)
        return torch.nn.functional.pad(self.values, (1, 0), value=self.start)[place]

    @property
    def last(self) -> float:
        """The last time at which it is above 0; 0 where there is none."""
        above = self.times[self.values > 0]
        return float(above[-1]) if len(above) else 0.0


def kaplan_meier(time: Tensor, event: Tensor, *, of_censoring: bool = False) -> Steps:
    r"""Kaplan and Meier's estimate of the share that lives beyond each time.

    $$ S(t) = \prod_{s \le t} 1 - d_s / n_s \qquad G(t) = \prod_{s \le t} 1 - c_s / (n_s - d_s) $$

    with `n_s` bags at risk, `d_s` events and `c_s` censored bags at the time s. Events of a time
    come before the censoring of that time. (JASA 1958.)

    Args:
        time: `(n,)` float.
        event: `(n,)`, 1 where the event has happened.
        of_censoring: whether G is wanted, the share of bags that are still watched.

    Example:
        >>> time, event = torch.tensor([1.0, 2.0, 2.0, 3.0]), torch.tensor([1, 0, 1, 0])
        >>> kaplan_meier(time, event).values
        tensor([0.7500, 0.5000, 0.5000], dtype=torch.float64)
        >>> kaplan_meier(time, event, of_censoring=True).values
        tensor([1.0000, 0.5000, 0.0000], dtype=torch.float64)
    """
    times, place, sizes = torch.unique(time.double(), return_inverse=True, return_counts=True)
    deaths = torch.zeros_like(times).index_add(0, place, (event > 0).double())
    at_risk = sizes.flip(0).cumsum(0).flip(0).double()
    left, gone = (at_risk - deaths, sizes - deaths) if of_censoring else (at_risk, deaths)
    return Steps(times, (1 - gone / left.clamp(min=1)).cumprod(0))


def baseline_hazard(risk: Tensor, time: Tensor, event: Tensor) -> Steps:
    r"""Breslow's estimate of the cumulative hazard of a bag whose risk is 0.

    $$ H_0(t) = \sum_{s \le t} d_s / \sum_{j: t_j \ge s} e^{r_j} $$

    With all risks 0 it is that of Nelson and Aalen. A bag of risk r lives beyond t with the
    probability `exp(-H_0(t) e^r)`. (Breslow, discussion of Cox, JRSS B 1972.)

    Args:
        risk: `(n,)` float, log hazards.
        time: `(n,)` float.
        event: `(n,)`, 1 where the event has happened.

    Returns:
        The cumulative hazard, which rises from 0.

    Example:
        >>> time, event = torch.tensor([1.0, 2.0]), torch.tensor([1, 1])
        >>> baseline_hazard(torch.zeros(2), time, event).at(torch.tensor([0.5, 1.0, 2.0]))
        tensor([0.0000, 0.5000, 1.5000], dtype=torch.float64)
    """
    times, place = torch.unique(time.double(), return_inverse=True)
    deaths = torch.zeros_like(times).index_add(0, place, (event > 0).double())
    # The largest risk is taken out, or its exponent might be infinite.
    most = risk.double().max() if len(risk) else times.new_zeros(())
    alike = torch.zeros_like(times).index_add(0, place, (risk.double() - most).exp())
    at_risk = alike.flip(0).cumsum(0).flip(0)
    tiny = torch.finfo(torch.float64).tiny
    return Steps(times, (deaths / at_risk.clamp(min=tiny)).cumsum(0) * (-most).exp(), start=0.0)
