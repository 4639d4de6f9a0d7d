"""Scores of predicted survival over time, weighted for censoring (IPCW).

G is the share of bags that are still watched, `kaplan_meier(..., of_censoring=True)` of the
training part. A time beyond the last one at which G is above 0 has no score.
"""

import torch
from torch import Tensor

from milforge.functional.time_to_event.censoring import Steps


def cumulative_dynamic_auc(
    risk: Tensor, time: Tensor, event: Tensor, times: Tensor, censoring: Steps
) -> Tensor:
    r"""Area under the ROC curve of those who died by a time against those who live beyond it.

    $$ AUC(t) = \frac{\sum_i \sum_j 1[t_j > t] w_i (1[r_i > r_j] + 1[r_i = r_j] / 2)}
                     {\sum_i w_i \sum_j 1[t_j > t]}
       \qquad w_i = 1[t_i \le t, \delta_i = 1] / G(t_i-) $$

    Uno et al., JASA 2007. T N log N steps.

    Args:
        risk: `(n,)` float, high where the time is to be short.
        time: `(n,)` float.
        event: `(n,)`, 1 where the event has happened.
        times: `(T,)`, the t.
        censoring: G.

    Returns:
        `(T,)` float64; NaN where nobody has died, or nobody lives, or beyond G.

    Example:
        >>> time, event = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1, 1, 0])
        >>> always = Steps(torch.tensor([9.0]).double(), torch.tensor([1.0]).double())
        >>> risk = torch.tensor([0.1, 0.9, 0.5])
        >>> cumulative_dynamic_auc(risk, time, event, torch.tensor([1.0, 2.0, 3.0]), always)
        tensor([0.0000, 0.5000,    nan], dtype=torch.float64)
    """
    weight = (event > 0) / censoring.before(time)
    values = []
    for t in times.tolist():
        case, control = (time <= t) & (event > 0), time > t
        others = risk[control].sort().values
        lower = torch.searchsorted(others, risk[case].contiguous(), right=False)
        upto = torch.searchsorted(others, risk[case].contiguous(), right=True)
        w = weight[case]
        area = (w * (lower + upto) / 2).sum() / (w.sum() * len(others))
        values.append(area if t <= censoring.last else torch.full_like(area, torch.nan))
    return torch.stack(values) if values else weight.new_empty(0)


def brier_score(
    survival: Tensor, time: Tensor, event: Tensor, times: Tensor, censoring: Steps
) -> Tensor:
    r"""Mean squared error of the predicted survival.

    $$ BS(t) = \frac1n \sum_i \frac{1[t_i \le t, \delta_i = 1] S(t | i)^2}{G(t_i-)}
       + \frac{1[t_i > t] (1 - S(t | i))^2}{G(t)} $$

    Graf et al., Statistics in Medicine 1999.

    Args:
        survival: `(n, T)`, the predicted probability of living beyond each time.
        time: `(n,)` float.
        event: `(n,)`, 1 where the event has happened.
        times: `(T,)`, the t.
        censoring: G.

    Returns:
        `(T,)` float64; NaN beyond G.

    Example:
        >>> always = Steps(torch.tensor([9.0]).double(), torch.tensor([1.0]).double())
        >>> time, event = torch.tensor([1.0, 3.0]), torch.tensor([1, 1])
        >>> brier_score(torch.tensor([[0.5], [1.0]]), time, event, torch.tensor([2.0]), always)
        tensor([0.1250], dtype=torch.float64)
    """
    s, t = survival.double(), times[None]
    died = (time[:, None] <= t) & (event[:, None] > 0)
    lives = time[:, None] > t
    # Where G is 0 nothing is added: the time has no score, or the bag none.
    of_died = died / censoring.before(time).clamp(min=torch.finfo(torch.float64).tiny)[:, None]
    of_lives = lives / censoring.at(times).clamp(min=torch.finfo(torch.float64).tiny)
    score = (of_died * s.square() + of_lives * (1 - s).square()).mean(0)
    return score.masked_fill(times > censoring.last, torch.nan)


def integrated(values: Tensor, times: Tensor) -> Tensor:
    r"""Mean of a score over time, by trapezoids between the times at which it is known.

    $$ \frac{1}{t_T - t_1} \int_{t_1}^{t_T} v(t) dt $$

    Args:
        values: `(T,)`, NaN where there is none.
        times: `(T,)`, rising.

    Returns:
        0-dim; the value itself where there is one, NaN where there is none.

    Example:
        >>> integrated(torch.tensor([0.0, 1.0, torch.nan]), torch.tensor([1.0, 2.0, 5.0]))
        tensor(0.5000)
    """
    known = ~values.isnan()
    values, times = values[known], times[known].to(values.dtype)
    if len(values) < 2:
        return values.sum() if len(values) else values.new_tensor(torch.nan)
    return torch.trapezoid(values, times) / (times[-1] - times[0])
