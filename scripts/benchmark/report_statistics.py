"""Measures the statistics of the report on cohorts whose truth is known.

How often the 95% intervals of AUROC and of accuracy hold the true value, and how often equal models
are told apart. It writes all tables of "How often the intervals are right" of `docs/report.md`.

    python scripts/benchmark/report_statistics.py [--cohorts 1000] [--seed 0]
"""

import argparse
import time
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from milforge.statistics import (
    benjamini_hochberg,
    cluster_bootstrap,
    clustered_proportion,
    compare_auroc,
    compare_pairs,
    delong,
    holm,
    paired_permutation,
    wilson,
)
from milforge.statistics.auroc import auroc_of, interval_of
from milforge.statistics.repeated_runs.repetitions import sign_flip_p

Floats = NDArray[np.float64]
SIZES = (5, 10, 20, 50)  # patients a class
AUROCS = (0.7, 0.85, 0.95)
SAMPLED = 0.85  # where the bootstrap is tried, which takes long
BAGS, ALIKE = 3, 0.7  # bags of a patient where there are several, and their correlation
MODELS = 5  # compared with a baseline
RESAMPLES, DRAWS = 200, 99


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohorts", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.process_time()
    many = 10 * options.cohorts  # of what takes little
    areas(options.cohorts, options.seed)
    proportions(many, options.seed)
    equal_models(options.cohorts, options.seed)
    equal_runs(many, options.seed)
    error = 100 * np.sqrt(0.05 * 0.95 / np.array([options.cohorts, many]))
    print(f"\nStandard error of 5%: {error[0]:.2f} points, of many cohorts {error[1]:.2f}.")
    print(f"{time.process_time() - start:.0f} s of processor time, seed {options.seed}.")


def cohort(
    generator: np.random.Generator, size: int, area: float, bags: int, models: int = 1
) -> tuple[NDArray[np.bool_], Floats, NDArray[np.int64]]:
    """Labels `(n,)`, scores `(models, n)` and patients `(n,)`: normal, of equal variance."""
    patients = np.repeat(np.arange(2 * size), bags)
    labels = patients >= size
    shared = generator.normal(size=(1, 2 * size))  # models err on the same patients
    own = generator.normal(size=(models, 2 * size))
    person = np.sqrt(0.6) * shared + np.sqrt(0.4) * own if models > 1 else own
    alike = 1.0 if bags == 1 else ALIKE
    noise = generator.normal(size=(models, len(labels)))
    scores = np.sqrt(alike) * person[:, patients] + np.sqrt(1 - alike) * noise
    return labels, scores + labels * np.sqrt(2) * stats.norm.ppf(area), patients


def areas(cohorts: int, seed: int) -> None:
    """How often intervals of AUROC hold the true value; the bootstrap at one AUROC alone."""
    names = ["Newcombe (default)", "DeLong", "logit"]
    names += ["bootstrap, percentile", "bootstrap, BCa"]
    heading(f"AUROC ({cohorts:,} cohorts, {RESAMPLES} bootstrap samples)",
            ["patients a class", "bags a patient", "AUROC", *names])  # fmt: skip
    for bags in (1, BAGS):
        for size in SIZES:
            for area in AUROCS:
                generator = np.random.default_rng((seed, 1, size, bags, int(100 * area)))
                held: list[list[bool]] = []
                for _ in range(cohorts):
                    y, x, patients = cohort(generator, size, area, bags)
                    found = delong(y, x, patients)
                    ends = [
                        interval_of(found, 0, method=method)[1:]
                        for method in ("newcombe", "delong", "logit")
                    ]
                    if area == SAMPLED:
                        ends += sampled(y, x[0], patients)
                    held.append([low <= area <= high for low, high in ends])
                row([size, bags, area], 100 * np.mean(held, 0), len(names))


def sampled(
    y: NDArray[np.bool_], x: Floats, patients: NDArray[np.int64]
) -> list[tuple[float, float]]:
    """Percentiles and BCa of samples of patients, as many of each class."""
    found = [
        cluster_bootstrap(
            lambda bags: auroc_of(y[bags], x[bags]), len(y), patients,
            strata=y, method=method, limits=(0, 1), resamples=RESAMPLES,
        )
        for method in ("percentile", "bca")
    ]  # fmt: skip
    return [(each.low, each.high) for each in found]


def proportions(cohorts: int, seed: int) -> None:
    """How often intervals of accuracy hold it: exact for single bags, else simulated."""
    heading(f"Accuracy (one bag a patient: exact; else {cohorts:,} cohorts)",
            ["patients", "bags a patient", "accuracy", "Wilson by patient (default)",
             "Wilson of bags"])  # fmt: skip
    for bags in (1, BAGS):
        for size in (20, 40, 100):
            for share in (0.7, 0.9):
                patients = np.repeat(np.arange(size), bags)
                if bags == 1:
                    tables: Iterable[NDArray[np.bool_]] = (
                        np.arange(size) < hits for hits in range(size + 1)
                    )
                    weights = stats.binom.pmf(np.arange(size + 1), size, share)
                else:
                    generator = np.random.default_rng((seed, 2, size, int(100 * share)))
                    shared = generator.normal(size=(cohorts, size))[:, patients]
                    own = generator.normal(size=(cohorts, len(patients)))
                    x = np.sqrt(ALIKE) * shared + np.sqrt(1 - ALIKE) * own
                    tables = iter(x < stats.norm.ppf(share))
                    weights = np.full(cohorts, 1 / cohorts)
                held = [
                    [
                        found.low <= share <= found.high
                        for found in (
                            clustered_proportion(hits, patients),
                            wilson(hits.sum(), len(hits)),
                        )
                    ]
                    for hits in tables
                ]
                row([size, bags, share], 100 * weights @ np.array(held, float), 2)


def equal_models(cohorts: int, seed: int) -> None:
    """How often at least one of several equal models differs from the baseline at 5%."""
    names = ["DeLong", "DeLong, Holm", "DeLong, BH", "permutation", "permutation, Holm"]
    heading(f"Equal models ({cohorts:,} cohorts, AUROC {SAMPLED}, {DRAWS} permutations)",
            ["patients a class", "bags a patient", *names])  # fmt: skip
    for bags in (1, BAGS):
        for size in SIZES[1:]:
            generator = np.random.default_rng((seed, 3, size, bags))
            found = []
            for _ in range(cohorts):
                y, (base, *others), patients = cohort(generator, size, SAMPLED, bags, MODELS + 1)
                known = [compare_auroc(y, base, each, patients).p for each in others]
                p = np.array([1.0 if each is None else each for each in known])
                swapped = np.array(
                    [
                        paired_permutation(
                            lambda s, y=y: auroc_of(y, s), base, each, patients, ranks=True,
                            draws=DRAWS, seed=int(generator.integers(2**31)),
                        ).p
                        for each in others
                    ]
                )  # fmt: skip
                tested = (p, holm(p), benjamini_hochberg(p), swapped, holm(swapped))
                found.append([(each <= 0.05).any() for each in tested])
            row([size, bags], 100 * np.mean(found, 0), len(names))


def equal_runs(cohorts: int, seed: int) -> None:
    """The same by the sign flips of runs."""
    heading(f"Equal models by their runs ({cohorts:,} designs)",
            ["folds x seeds", "sign flips", "sign flips, Holm"])  # fmt: skip
    for folds, seeds in ((1, 10), (5, 3), (10, 3)):
        generator = np.random.default_rng((seed, 4, folds, seeds))
        found = []
        for number in range(cohorts):
            # A baseline shared by all, and folds that are easy or hard for a model.
            # With one fold the question is about that fold, on which equal models are equal.
            of_fold = generator.normal(size=(MODELS + 1, folds, 1)) * (folds > 1)
            results = of_fold + 0.5 * generator.normal(size=(MODELS + 1, folds, seeds))
            apart = results[1:] - results[0]
            units = apart.sum(2) if folds > 1 else apart[:, 0]
            p = np.array([sign_flip_p(each) for each in units])
            if number == 0:  # what the report calls, with its interval, which takes long
                of = np.repeat(np.arange(folds), seeds).tolist() if folds > 1 else None
                assert p[0] == compare_pairs(apart[0].ravel(), of).p
            found.append([(p <= 0.05).any(), (holm(p) <= 0.05).any()])
        row([f"{folds} x {seeds}"], 100 * np.mean(found, 0), 2)


def heading(title: str, columns: Sequence[str]) -> None:
    print(f"\n{title}\n\n| {' | '.join(columns)} |\n| {' | '.join(['---'] * len(columns))} |")


def row(keys: Sequence[object], percent: Floats, columns: int) -> None:
    cells = [*map(str, keys), *(f"{each:.1f}" for each in percent)]
    cells += [""] * (len(keys) + columns - len(cells))
    print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
