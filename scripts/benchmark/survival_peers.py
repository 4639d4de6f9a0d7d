"""Losses and metrics of censored times against torchsurv and lifelines.

    pip install --target peers "torchsurv==0.2.*" "lifelines==0.30.*" "pandas<3"
    PYTHONPATH=peers python scripts/benchmark/survival_peers.py

lifelines wants another pandas than the rest of an environment may have, so neither is a dependency:
they lie in a folder of their own, behind what is installed. Every row is the largest relative
difference in float64, on bags whose times all differ, and on bags with ties of times and of risks.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from lifelines import CoxPHFitter, KaplanMeierFitter, WeibullAFTFitter
from lifelines.utils import concordance_index as lifelines_c
from torch import Tensor
from torchsurv.loss.cox import neg_partial_log_likelihood
from torchsurv.loss.weibull import neg_log_likelihood_weibull
from torchsurv.metrics.auc import Auc
from torchsurv.metrics.brier_score import BrierScore
from torchsurv.metrics.cindex import ConcordanceIndex
from torchsurv.stats.ipcw import get_ipcw

from milforge.functional import (
    baseline_hazard,
    brier_score,
    concordance_index,
    cox_nll,
    cumulative_dynamic_auc,
    kaplan_meier,
    weibull_nll,
)

BAGS = 200
TIMES = torch.tensor([2.0, 5.0, 9.0], dtype=torch.float64)


class Bags:
    """Times, events and risks, and how long training bags were watched.

    Args:
        ties: whether times and risks are rounded.
        seed: of the drawing.
    """

    def __init__(self, ties: bool, seed: int) -> None:
        rng = np.random.default_rng(seed)
        risk, watched = rng.normal(size=BAGS), rng.uniform(1, 16, size=(2, BAGS))
        died = rng.exponential(8, size=(2, BAGS)) * np.exp([-risk, 0 * risk]) + 0.5
        time, event = np.minimum(died, watched), died <= watched
        if ties:
            risk, time = risk.round(1), time.round(0) + 1
        self.risk, (self.time, self.train_time) = torch.tensor(risk), torch.tensor(time)
        self.event, self.train_event = torch.tensor(event)
        self.censoring = kaplan_meier(self.train_time, self.train_event, of_censoring=True)
        self.table = pd.DataFrame({"x": risk, "t": time[0], "e": event[0]})

    def survival(self) -> Tensor:
        """`(n, T)`."""
        return torch.exp(-TIMES * torch.exp(self.risk)[:, None] / 20)


def fitted_cox(bags: Bags) -> CoxPHFitter:
    return CoxPHFitter().fit(bags.table, "t", "e")


def fitted_risk(bags: Bags, fitter: CoxPHFitter) -> Tensor:
    return torch.tensor(fitter.predict_log_partial_hazard(bags.table).to_numpy())


def lifelines_cox(bags: Bags) -> tuple[object, object]:
    fitter = fitted_cox(bags)
    loss = cox_nll(fitted_risk(bags, fitter), bags.time, bags.event).sum()
    return -loss, fitter.log_likelihood_


def lifelines_hazard(bags: Bags) -> tuple[object, object]:
    fitter = fitted_cox(bags)
    theirs = fitter.baseline_cumulative_hazard_
    ours = baseline_hazard(fitted_risk(bags, fitter), bags.time, bags.event)
    return ours.at(torch.tensor(theirs.index.to_numpy())), theirs.to_numpy()[:, 0]


def lifelines_weibull(bags: Bags) -> tuple[object, object]:
    fitter = WeibullAFTFitter().fit(bags.table, "t", "e")
    found = fitter.params_
    scale = found["lambda_", "Intercept"] + found["lambda_", "x"] * bags.risk
    shape = torch.tensor(found["rho_", "Intercept"])
    return -weibull_nll(scale, shape, bags.time, bags.event).sum(), fitter.log_likelihood_


def torchsurv_cox(ties: str) -> Callable[[Bags], tuple[object, object]]:
    def compare(bags: Bags) -> tuple[object, object]:
        given = bags.risk, bags.event, bags.time
        theirs = neg_partial_log_likelihood(*given, ties_method=ties, reduction="sum")
        return cox_nll(bags.risk, bags.time, bags.event, ties).sum(), theirs

    return compare


def torchsurv_weibull(bags: Bags) -> tuple[object, object]:
    shape = torch.tensor(0.3, dtype=torch.float64)
    both = torch.stack([bags.risk, shape.expand(BAGS)], 1)
    theirs = neg_log_likelihood_weibull(both, bags.event, bags.time, reduction="sum")
    return weibull_nll(bags.risk, shape, bags.time, bags.event).sum(), theirs


def torchsurv_c(bags: Bags) -> tuple[object, object]:
    theirs = ConcordanceIndex(tied_tol=0.0)(bags.risk, bags.event, bags.time)
    return concordance_index(bags.risk, bags.time, bags.event), theirs


def lifelines_concordance(bags: Bags) -> tuple[object, object]:
    theirs = lifelines_c(bags.time.numpy(), -bags.risk.numpy(), bags.event.numpy())
    return concordance_index(bags.risk, bags.time, bags.event), theirs


def ours_before(bags: Bags) -> Tensor:
    """`1 / G(t-)`, 0 where G is 0."""
    g = bags.censoring.before(bags.time)
    return torch.where(g > 0, 1 / g.clamp(min=1e-12), 0.0)


def uno(bags: Bags) -> tuple[object, object]:
    w = ours_before(bags)
    theirs = ConcordanceIndex(tied_tol=0.0)(bags.risk, bags.event, bags.time, weight=w)
    return concordance_index(bags.risk, bags.time, bags.event, w.square()), theirs


def auc(bags: Bags) -> tuple[object, object]:
    w = ours_before(bags)
    metric = Auc(tied_tol=0.0)
    at = 1 / bags.censoring.at(TIMES)
    theirs = metric(bags.risk, bags.event, bags.time, weight=w, new_time=TIMES, weight_new_time=at)
    given = bags.risk, bags.time, bags.event
    return cumulative_dynamic_auc(*given, TIMES, bags.censoring), theirs


def brier(bags: Bags) -> tuple[object, object]:
    at = 1 / bags.censoring.at(TIMES)
    survival = bags.survival()
    given = survival, bags.event, bags.time, TIMES, ours_before(bags), at
    ours = brier_score(survival, bags.time, bags.event, TIMES, bags.censoring)
    return ours, BrierScore()(*given)


def life(bags: Bags) -> tuple[object, object]:
    theirs = KaplanMeierFitter().fit(bags.time.numpy(), bags.event.numpy()).predict(TIMES.numpy())
    return kaplan_meier(bags.time, bags.event).at(TIMES), theirs.to_numpy()


def watched_lifelines(bags: Bags) -> tuple[object, object]:
    fitter = KaplanMeierFitter().fit(bags.train_time.numpy(), ~bags.train_event.numpy())
    return bags.censoring.at(TIMES), fitter.predict(TIMES.numpy()).to_numpy()


def watched_torchsurv(bags: Bags) -> tuple[object, object]:
    return 1 / bags.censoring.at(TIMES), get_ipcw(bags.train_event, bags.train_time, TIMES)


COMPARED: dict[str, Callable[[Bags], tuple[object, object]]] = {
    "Cox, Efron, torchsurv": torchsurv_cox("efron"),
    "Cox, Breslow, torchsurv": torchsurv_cox("breslow"),
    "Cox, Efron, at its fit, lifelines": lifelines_cox,
    "Weibull, torchsurv": torchsurv_weibull,
    "Weibull, at its fit, lifelines": lifelines_weibull,
    "Breslow's baseline, lifelines": lifelines_hazard,
    "Harrell's C, torchsurv": torchsurv_c,
    "Harrell's C, lifelines": lifelines_concordance,
    "Uno's C, with our G, torchsurv": uno,
    "AUC(t), with our G, torchsurv": auc,
    "Brier score, with our G, torchsurv": brier,
    "Kaplan-Meier, lifelines": life,
    "G, lifelines": watched_lifelines,
    "1/G, torchsurv": watched_torchsurv,
}


def difference(pair: tuple[object, object]) -> float:
    ours, theirs = (torch.as_tensor(np.asarray(each), dtype=torch.float64) for each in pair)
    return float(((ours - theirs).abs() / theirs.abs().clamp(min=1e-12)).max())


def main() -> None:
    for name, compare in COMPARED.items():
        rows = [
            max(difference(compare(Bags(ties, seed))) for seed in range(5))
            for ties in (False, True)
        ]
        print(f"| {name} | {rows[0]:.0e} | {rows[1]:.0e} |", flush=True)


if __name__ == "__main__":
    main()
