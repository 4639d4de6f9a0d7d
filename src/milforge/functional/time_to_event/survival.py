"""Losses of times that may be censored: what is known is that a bag lived at least so long.

`event` is 1 where the event has happened at that time, 0 where the bag was lost sight of then. A
bag whose time or event is NaN has no label: its loss is 0, with gradients of 0.
"""

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

Ties = Literal["efron", "breslow"]


def discrete_survival_nll(
    logits: Tensor, bins: Tensor, event: Tensor, alpha: float = 0.0
) -> Tensor:
    r"""Negative log-likelihood of a time that falls in one of K bins.

    With the hazards `h_k = sigmoid(l_k)` and `log S_k = sum_{j<=k} log sigmoid(-l_j)`:

    $$ -\delta (\log S_{k-1} + \log h_k) - (1 - \delta) (1 - \alpha) \log S_k $$

    Zadeh and Schmid, Bias in cross-entropy-based training of deep survival networks, TPAMI 2021.
    Nothing is clamped, so the gradient does not vanish where the prediction is wrong and certain.

    Args:
        logits: `(B, K)` float.
        bins: `(B,)` int64, the bin of each time, from 0.
        event: `(B,)` float or bool, 1 where the event has happened, NaN where there is no label.
        alpha: how much less censored bags count, from 0 to 1.

    Returns:
        `(B,)`.

    Raises:
        ValueError: for other shapes, an `alpha` outside [0, 1], or, in host memory, bins outside
            the K.

    Example:
        >>> discrete_survival_nll(torch.zeros(2, 4), torch.tensor([1, 1]), torch.tensor([1.0, 0.0]))
        tensor([1.3863, 1.3863])
    """
    if logits.ndim != 2 or bins.shape != logits.shape[:1] or event.shape != bins.shape:
        raise ValueError(
            "expected logits (B, K), bins (B,) and event (B,), got "
            f"{tuple(logits.shape)}, {tuple(bins.shape)} and {tuple(event.shape)}"
        )
    if bins.dtype != torch.int64:
        raise ValueError(f"expected bins of int64, got {bins.dtype}")
    on_cpu = bins.device.type == "cpu"  # a GPU would have to be waited for
    if on_cpu and len(bins) and (int(bins.min()) < 0 or int(bins.max()) >= logits.shape[1]):
        raise ValueError(
            f"expected bins from 0 to {logits.shape[1] - 1}, got {int(bins.min())} to "
            f"{int(bins.max())}"
        )
    if not 0 <= alpha <= 1:
        raise ValueError(f"expected alpha from 0 to 1, got {alpha}")
    known = ~event.isnan()
    happened = event.nan_to_num().to(logits.dtype)
    lived = F.logsigmoid(-logits).cumsum(1)  # log S_0, ..., log S_{K-1}
    place = bins[:, None]
    until = lived.gather(1, place)[:, 0]
    before = F.pad(lived, (1, 0)).gather(1, place)[:, 0]
    dies = F.logsigmoid(logits).gather(1, place)[:, 0]
    losses = -happened * (before + dies) - (1 - happened) * (1 - alpha) * until
    return losses.where(known, 0.0)


def cox_nll(risk: Tensor, time: Tensor, event: Tensor, ties: Ties = "efron") -> Tensor:
    r"""Terms of Cox's negative log partial likelihood: their sum is that of the batch.

    $$ -\sum_{i: \delta_i = 1} \Bigl( r_i - \log \sum_{j: t_j \ge t_i} e^{r_j} \Bigr) $$

    Events of one time: Breslow takes the whole risk set for each of the d; Efron (JASA 1977) takes
    it less `l / d` of those that die, l from 0 to d - 1, here the mean of the logarithms for each.
    Where all times differ both are the same. It is about N log N steps.

    Args:
        risk: `(B,)` float, log hazards; the bags are each other's risk set.
        time: `(B,)` float, NaN where there is no label.
        event: `(B,)` float or bool, NaN where there is no label.
        ties: efron or breslow.

    Returns:
        `(B,)`, 0 where nothing happened. Without any event all are 0, with gradients of 0.

    Raises:
        ValueError: for other shapes, or another word.

    Example:
        >>> time, event = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 1.0, 0.0])
        >>> cox_nll(torch.zeros(3), time, event)  # log 3, log 2
        tensor([1.0986, 0.6931, 0.0000])
    """
    if risk.ndim != 1 or time.shape != risk.shape or event.shape != risk.shape:
        raise ValueError(
            "expected risk, time and event of shape (B,), got "
            f"{tuple(risk.shape)}, {tuple(time.shape)} and {tuple(event.shape)}"
        )
    if ties not in get_args(Ties):
        raise ValueError(f"expected ties to be efron or breslow, got {ties!r}")
    (known,) = torch.where(~(time.isnan() | event.isnan()))
    nothing = risk * 0.0  # not a detached zero: each process takes part in each step
    if not len(known):
        return nothing
    risk, happened = risk[known], event[known] > 0
    # Numbers of the different times, the latest first: a risk set is what stands before.
    _, group = torch.unique(-time[known], return_inverse=True)
    order = group.argsort(stable=True)
    lived = risk[order].logcumsumexp(0)
    sizes = group.bincount()
    at_risk = lived[sizes.cumsum(0) - 1]  # of each time
    log_sum = at_risk[group]
    if ties == "efron":
        log_sum = log_sum + _efron(risk, happened, group, at_risk)
    terms = (log_sum - risk).where(happened, 0.0)
    return nothing.index_add(0, known, terms)


def _efron(risk: Tensor, happened: Tensor, group: Tensor, at_risk: Tensor) -> Tensor:
    """`(n,)` what each tied event's log risk set loses on average to those that die with it."""
    deaths = torch.zeros_like(at_risk).index_add(0, group, happened.to(risk.dtype))
    if not bool((deaths > 1).any()):
        return torch.zeros_like(risk)
    # The share of those that die in the risk set, at most 1: nothing overflows.
    share = (risk - at_risk[group]).exp().where(happened, 0.0)
    dying = torch.zeros_like(at_risk).index_add(0, group, share)
    # One row for each death of each time: l = 0, ..., d - 1.
    count = deaths.long()
    of = torch.repeat_interleave(torch.arange(len(count), device=risk.device), count)
    number = torch.arange(len(of), device=risk.device) - (count.cumsum(0) - count)[of]
    logs = torch.log1p(-(number / deaths[of]) * dying[of].clamp(max=1.0))
    mean = torch.zeros_like(at_risk).index_add(0, of, logs) / deaths.clamp(min=1)
    return mean[group]


def weibull_nll(log_scale: Tensor, log_shape: Tensor, time: Tensor, event: Tensor) -> Tensor:
    r"""Negative log-likelihood of times that follow a Weibull distribution.

    $$ e^z - \delta (\log k + z - \log t) \qquad z = k (\log t - \log \lambda) $$

    with the survival `S(t) = exp(-(t / lambda)^k)`. An accelerated failure time model: a step of
    `log lambda` by a stretches all times by `e^a`.

    Args:
        log_scale: `(B,)` float, `log lambda`.
        log_shape: 0-dim or `(B,)`, `log k`.
        time: `(B,)` float above 0, NaN where there is no label.
        event: `(B,)` float or bool, NaN where there is no label.

    Returns:
        `(B,)`.

    Raises:
        ValueError: for other shapes.

    Example:
        >>> event = torch.tensor([1.0, 0.0])
        >>> weibull_nll(torch.zeros(2), torch.zeros(()), torch.ones(2), event)
        tensor([1., 1.])
    """
    if log_scale.ndim != 1 or time.shape != log_scale.shape or event.shape != log_scale.shape:
        raise ValueError(
            "expected log_scale, time and event of shape (B,), got "
            f"{tuple(log_scale.shape)}, {tuple(time.shape)} and {tuple(event.shape)}"
        )
    known = ~(time.isnan() | event.isnan())
    log_time = time.where(known, 1.0).to(log_scale.dtype).log()
    happened = event.nan_to_num().to(log_scale.dtype)
    z = log_shape.exp() * (log_time - log_scale)
    losses = z.exp() - happened * (log_shape + z - log_time)
    return losses.where(known, 0.0)
