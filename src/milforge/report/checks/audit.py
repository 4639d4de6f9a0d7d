"""What a reviewer looks for: choices made on test, patients on two sides, labels that leak."""

import csv
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from milforge.report.analysis.out_of_fold import Member, OutOfFold, members_of
from milforge.report.checks.finding import Finding
from milforge.report.checks.leaks import label_leaks
from milforge.report.runs import Run
from milforge.report.survey import listed

PARTS = ("train", "val", "test", "calibration")


def audit(runs: Sequence[Run], pooled: Sequence[OutOfFold]) -> list[Finding]:
    """All checks.

    Args:
        runs: the finished ones.
        pooled: the predictions of their groups.
    """
    members = members_of(pooled)
    patients = _patients(members)
    return [
        epoch_chosen_on(runs),
        parts_apart(members),
        chosen_by_report(runs, members),
        patients_on_two_sides(members, patients),
        doubled_slides(members),
        *label_leaks(pooled),
        standardised_by(runs),
        seeds(runs),
        versions(runs),
    ]


def epoch_chosen_on(runs: Sequence[Run]) -> Finding:
    """Which part chose the epoch, and the settings of a search."""
    title = "Which part chose the epoch"
    counts = Counter((run.monitor or "unknown").split("/")[0] for run in runs)
    tested = [
        run
        for run in runs
        if (run.monitor or "").startswith("test/")
        or run.config.get("optimized_metric", "").startswith("test/")
    ]
    if tested:
        return Finding(
            "fault",
            title,
            f"The test part chose the epoch, or the settings of a search, of {len(tested)} of "
            f"{len(runs)} runs ({listed([str(run.folder) for run in tested])}): their test metrics "
            "are too good. Choose with monitor=val/... and train again.",
        )
    names = {"val": "validation", "train": "training", "unknown": "unknown"}
    told = ", ".join(f"{names.get(part, part)} ({count} runs)" for part, count in counts.items())
    monitors = sorted({run.monitor for run in runs if run.monitor})
    if "unknown" in counts:
        return Finding("unknown", title, f"Part that chose the epoch: {told}.")
    return Finding("fine", title, f"Part that chose the epoch: {told}; by {', '.join(monitors)}.")


def parts_apart(members: Sequence[Member]) -> Finding:
    """Whether a bag is in two parts of a run."""
    title = "Bags in two parts of a run"
    if not members:
        return Finding("unknown", title, "No run has predictions.")
    found: dict[str, tuple[str, str, set[str]]] = {}
    for member in members:
        parts = _bags_of_parts(member)
        for one, other in combinations(("val", "train", "calibration", "test"), 2):
            both = parts[one] & parts[other]
            if both:
                found[str(member.run.folder)] = (one, other, both)
    if not found:
        return Finding("fine", title, f"In none of {len(members)} runs.")
    folder, (one, other, both) = next(iter(found.items()))
    chosen = " The epoch was chosen on test bags." if (one, other) == ("val", "test") else ""
    return Finding(
        "fault",
        title,
        f"In {len(found)} of {len(members)} runs; in {folder} {len(both)} bags are in {one} and in "
        f"{other}: {listed(sorted(both)[:5])}.{chosen}",
    )


def chosen_by_report(runs: Sequence[Run], members: Sequence[Member]) -> Finding:
    """Which part chose what this report chooses: threshold, temperature, conformal sets."""
    title = "Which part chose the threshold, the temperature and the conformal sets"
    if not any(len(member.predictions.of_part(member.chooses_by)) for member in members):
        return Finding(
            "unknown", title, "No run has predictions of validation bags, so nothing was chosen."
        )
    if all(member.chooses_by == "calibration" for member in members):
        return Finding(
            "fine",
            title,
            "Bags held back for that (split.calibration_share), which chose no epoch.",
        )
    by_val = any((run.monitor or "").startswith("val/") for run in runs)
    also = (
        " The same part chose the epoch, so they are a little optimistic: "
        "split.calibration_share=0.1 holds back patients for that alone."
        if by_val
        else ""
    )
    return Finding(
        "warning" if by_val else "fine",
        title,
        f"The validation part of each run; the test part chose nothing.{also}",
    )


def patients_on_two_sides(members: Sequence[Member], patients: dict[str, str]) -> Finding:
    """Whether slides of a patient are in the test part and in another."""
    title = "Patients on two sides"
    if not patients:
        return Finding(
            "unknown",
            title,
            "The label table names no patient, so slides of one may be on two sides: give "
            "data.group_column.",
        )
    found: dict[str, set[str]] = defaultdict(set)
    for member in members:
        sides: dict[str, set[str]] = defaultdict(set)
        for part, bags in _bags_of_parts(member).items():
            for bag in bags:
                if bag in patients:
                    sides[patients[bag]].add(part)
        for patient, parts in sides.items():
            if "test" in parts and len(parts) > 1:
                found[patient].add(str(member.run.folder))
    if not found:
        return Finding("fine", title, f"None of {len(set(patients.values()))} patients.")
    folders = sorted(set.union(*found.values()))
    return Finding(
        "fault",
        title,
        f"{len(found)} patients are in the test part and in another: {listed(sorted(found)[:5])} "
        f"(in {listed(folders)}). Split by patient (data.group_column) and train again.",
    )


def doubled_slides(members: Sequence[Member]) -> Finding:
    """Bags with the same number of instances and the same logits, to the last bit."""
    title = "A slide under two names"
    looked, found = False, set()
    for member in members:
        predictions = member.predictions
        names = [name for name in predictions.columns if name.startswith("logit")]
        if not names:
            continue
        looked = True
        same: dict[object, list[str]] = defaultdict(list)
        values = np.stack([predictions.columns[name] for name in names], 1)
        for bag, size, row in zip(
            predictions.bag_id.tolist(), predictions.size.tolist(), values.tolist(), strict=True
        ):
            if bag not in same[size, *row]:
                same[size, *row].append(bag)
        # A network that gives all bags the same says nothing of them.
        if len(same) > len(values) / 2:
            found |= {tuple(sorted(bags)) for bags in same.values() if len(bags) > 1}
    if not looked:
        return Finding("unknown", title, "No run has logits.")
    if not found:
        return Finding("fine", title, "No two bags have the same size and the same logits.")
    pairs = [" = ".join(bags) for bags in sorted(found)]
    return Finding(
        "warning",
        title,
        f"{len(found)} pairs have as many instances and the same logits to the last bit, so their "
        f"features are probably the same: {listed(pairs)}. milforge-inspect compares the features.",
    )


def standardised_by(runs: Sequence[Run]) -> Finding:
    """Whether features were standardised with bags that are tested."""
    title = "What the features are standardised by"
    leaking = [str(run.folder) for run in runs if run.config.get("standardise") == "all"]
    if leaking:
        return Finding(
            "fault",
            title,
            f"All bags, the test bags among them, in {listed(leaking)}: use standardise=auto.",
        )
    return Finding("fine", title, "The training part alone, or nothing.")


def seeds(runs: Sequence[Run]) -> Finding:
    """How many seeds there are."""
    title = "Seeds"
    found = sorted({run.config.get("seed", "") for run in runs} - {""}, key=lambda s: (len(s), s))
    if len(found) > 1:
        return Finding("fine", title, f"{len(found)} seeds: {listed(found)}.")
    return Finding(
        "warning",
        title,
        "One seed: how far results vary with the initial weights is not known (-m seed=0,1,2).",
    )


def versions(runs: Sequence[Run]) -> Finding:
    """Whether all runs come of the same versions and the same commit."""
    title = "Versions"
    found: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        known = run.summary.get("versions")
        for name, value in (known if isinstance(known, dict) else {}).items():
            found[str(name)].add(str(value))
        found["commit"].add(str(run.summary.get("git_commit") or "unknown")[:12])
    told = "; ".join(f"{name} {', '.join(sorted(values))}" for name, values in found.items())
    differing = [name for name, values in found.items() if len(values) > 1]
    if differing:
        return Finding("warning", title, f"They differ in {', '.join(differing)}: {told}.")
    return Finding("fine" if len(found) > 1 else "unknown", title, f"{told}.")


def _bags_of_parts(member: Member) -> dict[str, set[str]]:
    """The bags of each part, of the predictions and of the run's `splits.csv`."""
    predictions = member.predictions
    found = {part: set(predictions.bag_id[predictions.part == part].tolist()) for part in PARTS}
    path = member.run.folder / "splits.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                for part in PARTS:
                    if row.get(part):
                        found[part].add(row[part])
    except (OSError, csv.Error, UnicodeDecodeError):
        pass  # parts that the data set makes itself are written nowhere
    return found


def _patients(members: Sequence[Member]) -> dict[str, str]:
    """Bag to patient, as far as any run knows."""
    return {
        bag: patient
        for member in members
        for bag, patient in zip(
            member.predictions.bag_id.tolist(), member.predictions.patient.tolist(), strict=True
        )
        if patient is not None
    }
