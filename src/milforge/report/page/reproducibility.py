"""The audit, and the methods paragraph."""

from milforge.markup import bullets, join, paragraph, tag
from milforge.report.analysis.chosen_on_validation import is_classification, temperature_scaled
from milforge.report.analysis.operating_points import WANTED
from milforge.report.analysis.out_of_fold import OutOfFold, by_target
from milforge.report.analysis.pooled import NAMES, RESAMPLES, main_rows
from milforge.report.checks.audit import audit
from milforge.report.gather import Results
from milforge.report.page.decisions import ALPHA
from milforge.report.page.html import Section, interval, number, table
from milforge.report.predictions import Predictions
from milforge.report.runs import Run

WORDS = {"fault": "✗ fault", "warning": "! warning", "fine": "✓ fine", "unknown": "? unknown"}
FITTED_ON = {"val": "the validation part", "calibration": "the bags held back to calibrate"}
REFERENCES = {
    "DeLong": "DeLong, DeLong and Clarke-Pearson, Biometrics 1988; Obuchowski, Biometrics 1997.",
    "Newcombe": "Newcombe, Statistics in Medicine 2006, part 2, method 5.",
    "Wilson": "Wilson, JASA 1927; Rao and Scott, Biometrics 1992.",
    "BCa": "Efron, JASA 1987.",
    "Holm": "Holm, Scandinavian Journal of Statistics 1979.",
    "Benjamini": "Benjamini and Hochberg, JRSS B 1995.",
    "permutation": "Phipson and Smyth, Statistical Applications in Genetics 2010.",
    "temperature": "Guo et al., ICML 2017.",
    "net benefit": "Vickers and Elkin, Medical Decision Making 2006.",
    "conformal": "Vovk, ACML 2012.",
    "attention": "Ilse, Tomczak and Welling, ICML 2018.",
}


def audit_section(results: Results) -> Section:
    """What each check found."""
    findings = audit(results.found.measured, results.pooled)
    order = ["fault", "warning", "unknown", "fine"]
    rows = [
        [
            (tag("span", WORDS[f.level], class_=f"level {f.level}"), order.index(f.level)),
            f.title,
            f.text,
        ]
        for f in sorted(findings, key=lambda f: order.index(f.level))
    ]
    return Section("audit", "Audit", table(["", "check", "finding"], rows, "What was checked"))


def methods(results: Results) -> Section:
    """A paragraph with the facts of the runs, to be edited."""
    runs = results.found.measured
    facts = [*_data(results), *_training(results), *_statistics(results), *_external(results)]
    used = " ".join(facts)
    references = [text for word, text in REFERENCES.items() if word.lower() in used.lower()]
    first = runs[0].summary.get("versions")
    found = first if isinstance(first, dict) else {}
    told = ", ".join(
        f"{name} {found[name]}" for name in ("python", "torch", "milforge") if name in found
    )
    if told:
        facts.append(f"Software: {told}.")
    return Section(
        "methods",
        "Methods paragraph",
        join(
            paragraph("Ready to edit; check each sentence against what you did."),
            tag("div", paragraph(" ".join(facts)), class_="methods", contenteditable="true"),
            tag("h3", "References"),
            bullets(references),
        ),
    )


def _data(results: Results) -> list[str]:
    if not results.pooled:
        return []
    each = results.pooled[0]
    predictions = each.predictions
    counted = ", ".join(
        f"{_counts(groups[0].predictions)}{target and f' for {target}'}"
        for target, groups in by_target(results.pooled).items()
    )
    text = f"We analysed {counted}."
    folds = {member.folds for member in each.members} - {None}
    grouped = any(patient is not None for patient in predictions.patient.tolist())
    if each.test_parts == 1:
        return [f"{text} Models were evaluated on one held-out test part."]
    least, most = int(each.models.min()), int(each.models.max())
    averaged = f"{least} model{'s' * (least > 1)}" if least == most else f"{least} to {most} models"
    how = f"on {each.test_parts} test parts"
    if folds:
        by = "grouped by patient" if grouped else "by bag"
        how = f"by {max(f for f in folds if f)}-fold cross-validation, {by}"
    text += (
        f" Models were evaluated {how}; each bag was predicted by the models that had not seen it, "
        f"averaged over {averaged}."
    )
    return [text]


def _counts(predictions: Predictions) -> str:
    counts = ""
    if predictions.class_names and predictions.y.ndim == 1:
        numbers = [
            f"{int((predictions.y == c).sum())} {name}"
            for c, name in enumerate(predictions.class_names)
        ]
        counts = f" ({', '.join(numbers)})"
    return f"{len(predictions)} bags{counts}{_of_patients(predictions)}"


def _of_patients(predictions: Predictions) -> str:
    """How many patients they are of; nothing where no table says so."""
    known = any(patient is not None for patient in predictions.patient.tolist())
    return f" of {len(set(predictions.clusters))} patients" if known else ""


def _training(results: Results) -> list[str]:
    groups = [group for group in results.grouping.groups if any(map(_trains, group.runs.values()))]
    runs = [run for group in groups for run in group.runs.values() if _trains(run)]
    if not runs:
        return []
    names = ", ".join(group.label for group in groups)
    seeds = {run.config.get("seed") for run in runs} - {None}
    monitors = sorted({run.monitor for run in runs if run.monitor})
    epochs = sorted({run.config.get("trainer.max_epochs", "null") for run in runs} - {"null"})
    text = [f"We trained {len(runs)} models ({names}) with {len(seeds)} seeds"]
    if epochs:
        text.append(f"for at most {' or '.join(epochs)} epochs")
    sentence = " ".join(text)
    if monitors:
        sentence += f"; the epoch was chosen by {' and '.join(monitors)}"
    return [f"{sentence}."]


def _trains(run: Run) -> bool:
    """Whether it is a training, not an evaluation of what another run trained."""
    return run.config.get("task_name", "train") == "train"


def _statistics(results: Results) -> list[str]:
    found = []
    methods = {row.method for row in results.pooled_rows}
    if any("Newcombe" in method for method in methods):
        found.append(
            "AUROC intervals (95%) are Newcombe's score intervals with the design effect of "
            "DeLong's variance clustered by patient."
        )
    if any("Wilson" in method for method in methods):
        found.append("Intervals of proportions are Wilson's, with a design effect by patient.")
    if any("BCa" in method for method in methods):
        found.append(
            f"Other intervals are BCa bootstrap intervals ({RESAMPLES:,} samples of patients)."
        )
    tests = sorted({row.test for row in results.pooled_rows if row.test})
    if tests:
        compared = len({row.group.label for row in results.pooled_rows if row.test})
        found.append(
            f"{compared} group{'s were' if compared > 1 else ' was'} compared with the baseline by "
            f"{' or '.join(tests)}; p-values were corrected by the method of "
            f"{NAMES[results.correction]}."
        )
    scaled = [each for each in _classified(results) if temperature_scaled(each) is not None]
    if scaled:
        parts = {member.chooses_by for each in scaled for member in each.members}
        fitted_on = " or ".join(FITTED_ON[part] for part in sorted(parts))
        found.append(
            "Temperature, decision thresholds (Youden; sensitivity "
            f"{WANTED:g}) and conformal sets (alpha {ALPHA:g}) were fitted on {fitted_on} "
            "of each fold. Decision curves show net benefit."
        )
    found += [
        f"{row.group.label}: pooled {row.measure} {number(row.estimate.value)} "
        f"(95% interval {interval(row.estimate)})."
        for rows in main_rows(results.pooled_rows).values()
        for row in rows
    ]
    return found


def _external(results: Results) -> list[str]:
    if results.external is None:
        return []
    found = []
    for rows in main_rows(results.external.rows).values():
        for row in rows:
            found.append(
                f"On an external cohort of {row.bags} bags"
                f"{_of_patients(results.external.predictions[row.group])}, {row.group} "
                f"had {row.measure} {number(row.external.value)} (95% interval "
                f"{interval(row.external)})."
            )
    if any(point.cohort == "external" and point.point for point in results.points):
        found.append(
            "Thresholds for the external cohort were those fixed on the internal validation parts."
        )
    return found


def _classified(results: Results) -> list[OutOfFold]:
    return [each for each in results.pooled if is_classification(each.predictions)]
