"""Measures the statistics on cohorts whose truth is known.

How often the 95% intervals of AUROC and of accuracy hold the true value, and how often equal models
are told apart. `docs/report.md` shows the tables.

    python scripts/simulate_coverage.py [--cohorts 1000] [--resamples 200]
"""

import argparse

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from milforge.statistics import (
    auroc,
    auroc_interval,
    benjamini_hochberg,
    cluster_bootstrap,
    clustered_proportion,
    compare_auroc,
    compare_pairs,
    holm,
    paired_permutation,
    wilson,
)

Floats = NDArray[np.float64]
SIZES = (5, 10, 20, 50)  # patients a class
AUROCS = (0.7, 0.85, 0.95)
SAMPLED = 0.85  # where the bootstrap is tried, which takes long
BAGS, ALIKE = 3, 0.7  # bags of a patient where there are several, and their correlation


def cohort(
    generator: np.random.Generator, size: int, area: float, bags: int, models: int = 1
) -> tuple[NDArray[np.int64], Floats, NDArray[np.int64]]:
    """Labels `(n,)`, scores `(models, n)` and patients `(n,)`: normal, of equal variance."""
    patients = np.repeat(np.arange(2 * size), bags)
    labels = (patients >= size).astype(np.int64)
    shared = generator.normal(size=(1, 2 * size))  # models err on the same patients
    own = generator.normal(size=(models, 2 * size))
    person = np.sqrt(0.6) * shared + np.sqrt(0.4) * own if models > 1 else own
    alike = 1.0 if bags == 1 else ALIKE
    noise = generator.normal(size=(models, len(labels)))
    scores = np.sqrt(alike) * person[:, patients] + np.sqrt(1 - alike) * noise
    return labels, scores + labels * np.sqrt(2) * stats.norm.ppf(area), patients


def coverage(cohorts: int, resamples: int) -> None:
    """Prints how often intervals hold the true value; the bootstrap at one AUROC alone."""
    scores = ("newcombe", "delong", "logit")
    samples = ("percentile", "bca")
    names = [*scores, *(f"bootstrap, {name}" for name in samples)]
    print("| patients a class | bags a patient | AUROC | " + " | ".join(names) + " |")
    print("| --- " * (3 + len(names)) + "|")
    for bags in (1, BAGS):
        for size in SIZES:
            for area in AUROCS:
                generator = np.random.default_rng((size, bags, int(100 * area)))
                held = np.zeros(len(names))
                for _ in range(cohorts):
                    y, (x,), patients = cohort(generator, size, area, bags)
                    found = [auroc_interval(y, x, patients, method=name)[1:] for name in scores]
                    if area == SAMPLED:
                        found += [sampled(y, x, patients, name, resamples) for name in samples]
                    held[: len(found)] += [low <= area <= high for low, high in found]
                known = len(names) if area == SAMPLED else len(scores)
                cells = [f"{100 * count / cohorts:.1f}" for count in held[:known]]
                cells += [""] * (len(names) - known)
                print(f"| {size} | {bags} | {area} | {' | '.join(cells)} |", flush=True)


def sampled(
    y: NDArray[np.int64], x: Floats, patients: NDArray[np.int64], method: str, resamples: int
) -> tuple[float, float]:
    """The interval of `cluster_bootstrap`, its statistic read from a table of all pairs."""
    above = (x[:, None] > x[None, :]) + 0.5 * (x[:, None] == x[None, :])

    def area(bags: NDArray[np.int64]) -> float:
        positive = y[bags] == 1
        return float(above[np.ix_(bags[positive], bags[~positive])].mean())

    found = cluster_bootstrap(
        area, len(y), patients, strata=y, method=method, limits=(0, 1), resamples=resamples
    )
    return found.low, found.high


def proportions(cohorts: int) -> None:
    """Prints how often intervals of accuracy hold it."""
    print("\n| patients | bags a patient | accuracy | wilson, clustered | wilson of bags |")
    print("| --- | --- | --- | --- | --- |")
    for bags in (1, BAGS):
        for size in (20, 40, 100):
            for share in (0.7, 0.9):
                generator = np.random.default_rng((size, bags, int(100 * share)))
                held = np.zeros(2)
                for _ in range(cohorts):
                    patients = np.repeat(np.arange(size), bags)
                    alike = 1.0 if bags == 1 else ALIKE
                    x = np.sqrt(alike) * generator.normal(size=size)[patients]
                    x += np.sqrt(1 - alike) * generator.normal(size=len(patients))
                    hits = x < stats.norm.ppf(share)
                    for number, found in enumerate(
                        (clustered_proportion(hits, patients), wilson(hits.sum(), len(hits)))
                    ):
                        held[number] += found.low <= share <= found.high
                cells = " | ".join(f"{100 * each / cohorts:.1f}" for each in held)
                print(f"| {size} | {bags} | {share} | {cells} |", flush=True)


def false_positives(cohorts: int, models: int = 5, draws: int = 199) -> None:
    """Prints how often at least one of several equal models differs from the baseline at 5%."""
    names = ("delong", "delong, Holm", "delong, BH", "permutation", "permutation, Holm")
    print("\n| patients a class | bags a patient | " + " | ".join(names) + " |")
    print("| --- " * (2 + len(names)) + "|")
    for bags in (1, BAGS):
        for size in (10, 20, 50):
            generator = np.random.default_rng((size, bags))
            found = np.zeros(len(names))
            for _ in range(cohorts):
                y, x, patients = cohort(generator, size, 0.85, bags, models + 1)
                known = [compare_auroc(y, x[0], each, patients).p for each in x[1:]]
                p = np.array([1.0 if each is None else each for each in known])
                swapped = np.array(
                    [
                        paired_permutation(
                            lambda s, y=y: auroc(y, s), x[0], each, patients, ranks=True,
                            draws=draws, seed=int(generator.integers(2**31)),
                        ).p
                        for each in x[1:]
                    ]
                )  # fmt: skip
                tested = (p, holm(p), benjamini_hochberg(p), swapped, holm(swapped))
                found += [(each <= 0.05).any() for each in tested]
            cells = " | ".join(f"{100 * each / cohorts:.1f}" for each in found)
            print(f"| {size} | {bags} | {cells} |", flush=True)
    print("\n| folds x seeds | sign flips | sign flips, Holm |\n| --- | --- | --- |")
    for folds, seeds in ((1, 10), (5, 3), (10, 3)):
        generator = np.random.default_rng((folds, seeds))
        found = np.zeros(2)
        for _ in range(cohorts):
            # A baseline shared by all, and folds that are easy or hard for a model.
            # With one fold the question is about that fold, on which equal models are equal.
            of_fold = generator.normal(size=(models + 1, folds, 1)) * (folds > 1)
            results = (of_fold + 0.5 * generator.normal(size=(models + 1, folds, seeds))).reshape(
                models + 1, -1
            )
            of = np.repeat(np.arange(folds), seeds).tolist() if folds > 1 else None
            p = np.array(
                [compare_pairs(each - results[0], of, resamples=999).p for each in results[1:]]
            )
            found += [(p <= 0.05).any(), (holm(p) <= 0.05).any()]
        print(
            f"| {folds} x {seeds} | " + " | ".join(f"{100 * f / cohorts:.1f}" for f in found) + " |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohorts", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=200)
    options = parser.parse_args()
    proportions(options.cohorts)
    false_positives(options.cohorts)
    print()
    coverage(options.cohorts, options.resamples)


if __name__ == "__main__":
    main()
