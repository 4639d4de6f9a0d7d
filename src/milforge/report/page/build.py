"""The page: one file that needs no network and no server."""

from importlib.resources import files
from pathlib import Path

from milforge.markup import bullets, document, join, paragraph, tag
from milforge.report.gather import Results
from milforge.report.page.decisions import conformal_section, decision_curves, operating_points
from milforge.report.page.discrimination import calibration, curves
from milforge.report.page.html import Section
from milforge.report.page.other_tasks import maps, regression, survival
from milforge.report.page.reproducibility import audit_section, external, methods
from milforge.report.page.results import differences, localisation, metrics, overview
from milforge.report.page.subgroups import subgroups


def sections(results: Results, page: Path) -> list[Section]:
    """All sections, those without data too."""
    return [
        overview(results),
        metrics(results),
        differences(results),
        curves(results),
        calibration(results),
        decision_curves(results),
        operating_points(results),
        conformal_section(results),
        regression(results),
        survival(results),
        localisation(results),
        subgroups(results),
        external(results),
        maps(results, page),
        audit_section(results),
        methods(results),
    ]


def build_page(results: Results, page: Path) -> str:
    """The page as text.

    Args:
        results: what it shows.
        page: where it will lie, for links to maps.
    """
    found = sections(results, page)
    shown = [each for each in found if each.body is not None]
    left = [each for each in found if each.body is None]
    style, script = (
        files(__package__).joinpath(name).read_text("utf-8") for name in ("page.css", "page.js")
    )
    count = len(results.found.measured)
    links = [tag("a", each.title, href=f"#{each.key}") for each in shown]
    return document(
        "MilForge report",
        style,
        [script],
        tag(
            "header",
            tag("h1", "Report"),
            paragraph(f"{count} finished run{'s' * (count != 1)} with metrics, "
                      f"{len(results.grouping.groups)} groups. "),
            tag("button", "light or dark", type="button", id="theme"),
            tag("nav", *links, aria_label="Sections"),
        ),
        tag(
            "main",
            *(
                tag("section", tag("h2", each.title), each.body, id=each.key)
                for each in shown
            ),
            tag(
                "section",
                tag("h2", "Left out"),
                bullets([join(tag("b", each.title), f": {each.reason}.") for each in left]),
                id="left-out",
            )
            if left
            else "",
        ),
        tag("footer", "Written by milforge-report. Click a column's name to sort by it."),
    )  # fmt: skip
