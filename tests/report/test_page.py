"""The page: parsed, and in a real browser."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import brier_score_loss

from browser import CHROMIUM, Browser
from milforge.cli.report import choose_metrics
from milforge.report import gather as gathering
from milforge.report.analysis.faithfulness import faithfulness_rows
from milforge.report.files import write_page, write_report
from milforge.report.page.charts import Series, chart, forest
from milforge.report.page.html import table
from milforge.report.survey import survey
from report_runs import (
    Cohort,
    merged,
    rows_of,
    write_config,
    write_cross_validation,
    write_predictions,
    write_summary,
)

NASTY = '<img src=x onerror="alert(1)">&\'"</script><b>'
VOID = {"meta"}


@pytest.fixture(autouse=True, scope="module")
def few_draws():
    """The intervals of these tests need not be precise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("milforge.report.analysis.pooled.RESAMPLES", 50)
        patch.setattr("milforge.report.analysis.pooled.DRAWS", 49)
        patch.setattr("milforge.report.checks.leaks.DRAWS", 49)
        yield


class Parsed(HTMLParser):
    """A page; closing tags must fit."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts, self.ids = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(self.texts)


def page_of(root, target, **options):
    found = survey([root])
    metrics = list(found.finished[0].metrics)
    write_page(target, gathering.gather(found, metrics, **options))
    return target.read_text("utf-8")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Of two models, five folds and two seeds, with a baseline; not to be changed."""
    root = tmp_path_factory.mktemp("page")
    folders = write_cross_validation(
        root / "runs", Cohort(50), {"abmil": 1.0, "smooth": 1.5}, seeds=2
    )
    (folders[0] / "maps").mkdir()
    (folders[0] / "maps" / "slide 1.html").write_text("<p>")
    page_of(root / "runs", root / "report.html", baseline=["model=abmil"])
    return root / "report.html"


SHOWN = ["overview", "results", "differences", "curves", "calibration", "decisions", "operating"]
SHOWN += ["conformal", "subgroups", "maps", "audit", "methods", "left-out"]


def test_every_section_is_there_or_says_why_not(page):
    parsed = Parsed(page.read_text("utf-8"))
    assert [each for each in parsed.ids if each != "theme"] == SHOWN
    for title, reason in {
        "Survival": "no run predicts risk with times and events",
        "Predicted against true": "no group predicts numbers",
        "External cohort": "no evaluation of one was given (--external RUNS)",
        "Localisation and faithfulness": "no run has metrics of instances, and no milforge-map "
        "measured how faithful maps are",
    }.items():
        assert re.search(rf"{title}\s+: {re.escape(reason)}", parsed.text)
    links = [attrs["href"] for tag, attrs in parsed.tags if tag == "a"]
    assert links[: len(SHOWN) - 1] == [f"#{key}" for key in SHOWN[:-1]]
    assert links[-1] == "runs/abmil_0_0/maps/slide%201.html"


def test_the_page_stands_alone(page):
    text = page.read_text("utf-8")
    assert len(text) < 300_000
    assert "default-src 'none'" in text
    for tag, attrs in Parsed(text).tags:
        assert tag not in ("link", "img", "iframe", "object")
        assert "src" not in attrs
        assert not [name for name in attrs if name.startswith("on")]
    assert "http" not in text.replace("http-equiv", "")


def test_numbers_of_the_page_are_those_of_the_report(page):
    found = gathering.gather(
        survey([page.parent / "runs"]), ["test/auroc"], baseline=["model=abmil"]
    )
    text = Parsed(page.read_text("utf-8")).text
    for row in found.pooled_rows[:2]:
        assert f"{row.estimate.value:.3f}" in text
        assert f"[{row.estimate.low:.3f}, {row.estimate.high:.3f}]" in text
    assert "We analysed" in text
    assert "5-fold cross-validation, grouped by patient" in text
    assert "averaged over 2 models" in text
    assert "the epoch was chosen by val/loss" in text
    assert "DeLong, DeLong and Clarke-Pearson" in text
    assert "The same part chose the epoch" in text


def test_text_from_outside_is_text(tmp_path):
    cohort = Cohort(24)
    cohort.site[:] = np.where(cohort.patient % 4 < 2, NASTY, "south")
    cohort.bag[0] = cohort.name[0] = NASTY
    for model in ("abmil", NASTY):
        folder = tmp_path / "runs" / str(len(model))
        write_config(folder, model, **{"split.folds": None})
        rows = rows_of(cohort, np.arange(cohort.n), "test", cohort.logits(1, len(model)))
        write_predictions(folder, rows, class_names=("a", NASTY))
        write_summary(
            folder,
            {"test/auroc": 0.5, f"test/{NASTY}": 0.1},
            monitor=f"val/{NASTY}",
            versions={NASTY: NASTY},
            data={"fingerprint": "x", "bags": {"train": NASTY}},
        )
    parsed = Parsed(page_of(tmp_path / "runs", tmp_path / "page.html"))
    assert not [tag for tag, _ in parsed.tags if tag == "img"]
    assert parsed.text.count("<img src=x") > 5


@pytest.mark.parametrize("task", ["Regression", "Multiclass", "Multilabel", "Survival"])
def test_sections_of_other_tasks(tmp_path, task):
    cohort = Cohort(30)
    base = rows_of(cohort, np.arange(cohort.n), "test", cohort.logits(1, 0))
    base = {k: v for k, v in base.items() if not k.startswith(("label", "prob", "logit"))}
    names = ()
    if task == "Regression":
        base |= {"label": cohort.label + 0.5, "prediction": cohort.person}
    elif task == "Survival":
        base |= {"time": np.arange(cohort.n) + 1.0, "event": cohort.label, "risk": cohort.person}
    else:
        names = ("a", "b", "c")
        p = np.random.default_rng(0).dirichlet(np.ones(3), size=cohort.n)
        base |= {f"probability_{c}": p[:, c] for c in range(3)}
        if task == "Multiclass":
            base |= {"label": cohort.patient % 3}
        else:
            base |= {f"label_{c}": (cohort.patient >> c) % 2 for c in range(3)}
            val = {**base, "part": np.full(cohort.n, "val", object)}
            val |= {"bag_id": np.array([f"val_{bag}" for bag in cohort.bag], object)}
            base = merged(base, val)
    write_config(tmp_path / "runs/0", "m", **{"split.folds": None})
    write_predictions(tmp_path / "runs/0", base, task=task, class_names=names)
    write_summary(tmp_path / "runs/0", {"test/loss": 0.5, "test/inst_auroc": 0.8})
    parsed = Parsed(page_of(tmp_path / "runs", tmp_path / "page.html"))
    assert {
        "Regression": {"regression"},
        "Survival": {"survival"},
        "Multiclass": {"curves", "calibration", "operating"},
        "Multilabel": {"curves", "calibration"},
    }[task] <= set(parsed.ids)
    assert "localisation" in parsed.ids
    assert "decisions" not in parsed.ids
    if task == "Multiclass":
        assert "ROC: c" in parsed.text
        assert "called c" in parsed.text
    if task == "Multilabel":
        truth = (cohort.patient >> 1) % 2
        brier = brier_score_loss(truth, p[:, 1])
        assert re.findall(r"b, before\s+([\d.]+)", parsed.text) == [f"{brier:.3f}"]
        assert "c, after temperature" in parsed.text


def test_a_report_without_predictions_has_its_tables(tmp_path):
    write_config(tmp_path / "runs/0", "m")
    write_summary(tmp_path / "runs/0", {"test/auroc": 0.5})
    parsed = Parsed(page_of(tmp_path / "runs", tmp_path / "page.html"))
    assert {"overview", "results", "audit", "methods", "left-out"} <= set(parsed.ids)
    assert "curves" not in parsed.ids
    assert "Without predictions/bags.parquet" in parsed.text


def test_a_baseline_that_is_named_is_not_said_to_be_missing(tmp_path):
    """Pooled predictions of one group alone have no difference; the runs have one."""
    for number, model in enumerate(("one", "two")):
        for seed in range(2):
            folder = tmp_path / f"runs/{number}_{seed}"
            write_config(folder, model, seed=seed)
            write_summary(folder, {"test/auroc": 0.5 + 0.1 * number + 0.01 * seed})
            if model == "one":
                cohort = Cohort(20)
                rows = rows_of(cohort, np.arange(cohort.n), "test", cohort.logits(1.0, seed))
                write_predictions(folder, rows)
    text = page_of(tmp_path / "runs", tmp_path / "page.html", baseline=["model=one"])
    assert "No group was named as the baseline" not in text
    assert "Pooled test predictions" in text


def test_faithfulness_of_maps_goes_to_the_group_of_their_checkpoint(tmp_path):
    for number, model in enumerate(("one", "two")):
        write_config(tmp_path / f"runs/{number}", model)
        write_summary(tmp_path / f"runs/{number}", {"test/auroc": 0.5, "test/inst_auroc": 0.75})
    for number, deletion in enumerate((0.25, 0.5)):
        folder = tmp_path / f"runs/maps_{number}"
        write_config(folder, "one", task_name="map")
        best = str(tmp_path / "runs/0/checkpoints/best.ckpt")
        write_summary(folder, {"faithfulness/deletion": deletion}, checkpoint=best)
        (folder / "maps" / "slide 1").mkdir(parents=True)
        (folder / "maps" / "index.html").write_text("<p>")
    found = survey([tmp_path / "runs"])
    assert choose_metrics(found.finished, None) == ["test/auroc", "test/inst_auroc"]
    results = gathering.gather(found, ["test/auroc"])
    assert [group.label for group in results.grouping.groups] == ["model=one", "model=two"]
    (row,) = faithfulness_rows(found.finished, results.grouping.groups)
    assert (row.metric, row.group, row.values) == ("deletion", "model=one", [0.25, 0.5])
    parsed = Parsed(page_of(tmp_path / "runs", tmp_path / "page.html"))
    assert re.search(r"deletion\s+model=one\s+2\s+0.375", parsed.text)
    assert re.search(r"test/inst_auroc\s+model=two\s+1\s+0.750", parsed.text)
    links = [attrs["href"] for tag, attrs in parsed.tags if tag == "a"]
    assert links[-2:] == ["runs/maps_0/maps/index.html", "runs/maps_1/maps/index.html"]
    assert "maps_0: 1 maps" in parsed.text


def test_the_figure_draws_the_differences_of_the_pairs(tmp_path, monkeypatch):
    drawn = []

    def draw(panels, differences):
        drawn.append((panels, differences))
        return Figure()

    monkeypatch.setattr("milforge.plots.plot_report", draw)
    write_cross_validation(tmp_path, Cohort(), {"one": 0.5, "two": 2.0}, folds=2, seeds=2)
    found = survey([tmp_path])
    results = gathering.gather(found, ["test/auroc"], baseline=["model=one"])
    write_report(tmp_path / "report", results)
    write_report(tmp_path / "report", gathering.gather(found, ["test/auroc"]))
    (panels, differences), (_, none) = drawn
    one, two = panels["test/auroc"]
    pairs = np.array(two.values) - np.array(one.values)
    baseline, compared = differences["test/auroc"]
    assert (list(baseline.values), baseline.note) == ([], "baseline")
    assert compared.values == pytest.approx(pairs)
    assert compared.interval == results.rows[1].comparison.interval
    assert not none


def test_a_chart_places_its_points():
    series = [Series("a", [0, 1], [0, 0.5]), Series("b", [0.5], [1], [0.2], [1.2], kind="points")]
    parsed = Parsed(chart(series, title="T", x="x", y="y", xlim=(0, 1), ylim=(0, 1)))
    (line,) = [attrs for tag, attrs in parsed.tags if tag == "polyline"]
    assert line["points"] == "50.0,276.0 368.0,144.0"  # of 380 x 320 less the margins
    buttons = [attrs for tag, attrs in parsed.tags if tag == "button"]
    assert [each["data-s"] for each in buttons] == ["0", "1"]
    assert "b: 0.5, 1" in parsed.text
    plot = Parsed(forest([("one", 1, 0, 2), ("none", 1, float("nan"), 2)], title="T", x="x"))
    assert "one: 1 [0, 2]" in plot.text
    assert "none" not in plot.text


def test_an_outlier_does_not_squeeze_a_forest_plot():
    rows = [("a", 0.01, -0.02, 0.04), ("b", 0.03, 0.0, 0.05), ("c", -0.02, -1.4, 1.4)]
    rows += [("d", -1.0, -1.1, -0.9), ("e", 0.0, -0.02, 0.02), ("f", 0.02, 0.01, 0.03)]
    parsed = Parsed(forest(rows, title="T", x="x"))
    lines = [attrs for tag, attrs in parsed.tags if tag == "line" and attrs["class"] == "s0"]
    lengths = [float(each["x2"]) - float(each["x1"]) for each in lines]
    assert lengths[0] > 150  # of 392
    assert lengths[1] > 120
    assert lengths[2] == 392
    assert lengths[3] == 0
    assert (
        len([1 for tag, attrs in parsed.tags if attrs.get("class") == "f0" and tag == "path"]) == 3
    )
    squares = [attrs for tag, attrs in parsed.tags if attrs.get("class") == "f0" and tag == "rect"]
    assert len(squares) == 5  # that of d lies beyond
    assert "d: -1 [-1.1, -0.9]" in parsed.texts
    assert "a" in parsed.texts


def test_cells_carry_what_they_are_sorted_by():
    parsed = Parsed(table(["a", "b"], [[("+0.10", 0.1), 3], ["x", 0.5], ["y", ""]], "t"))
    cells = [attrs for tag, attrs in parsed.tags if tag == "td"]
    assert [each.get("data-v") for each in cells] == ["0.1", "3", None, "0.5", None, None]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_the_page_in_a_browser(page):
    column = (
        "[...document.querySelectorAll('#results table')[1].tBodies[0].rows]"
        ".map(row => row.cells[4].textContent)"
    )
    wide = "[...document.querySelectorAll('{}')].filter(e => e.scrollWidth > e.clientWidth).length"
    with Browser() as browser:
        browser.open(page)
        for width in (1280, 390):
            browser.resize(width, 900)
            wider = "document.documentElement.scrollWidth - innerWidth"
            assert browser.run(wider) <= 0
            assert len(browser.screenshot()) > 20_000
            assert browser.run(wide.format("figure")) == 0
            # What was found is read without scrolling sideways.
            audit = "document.querySelector('#audit .scroll')"
            assert browser.run(f"{audit}.scrollWidth - {audit}.clientWidth") == 0
        sections = browser.run(
            "JSON.stringify([...document.querySelectorAll('section')].map(s => s.id))"
        )
        assert json.loads(sections) == SHOWN
        head = "document.querySelectorAll('#results table')[1].tHead.rows[0].cells[4]"
        before = browser.run(column)
        browser.run(f"{head}.querySelector('button').click()")
        assert browser.run(column) == sorted(before, key=float)
        assert browser.run(f"{head}.getAttribute('aria-sort')") == "ascending"
        browser.run(f"{head}.querySelector('button').click()")
        assert browser.run(column) == sorted(before, key=float, reverse=True)
        figure = "document.querySelector('#curves figure')"
        browser.run(f"{figure}.querySelector('.legend button').click()")
        assert browser.run(f"{figure}.querySelector('g[data-s=\"0\"]').classList.contains('off')")
        whole = "document.querySelector('#audit table')"
        csv = browser.run(f"asCsv([['=1', 'a\"b', '-0.5'], ...cells({whole}).slice(0, 1)])")
        assert csv.startswith('"\'=1","a""b","-0.5"\n"","check","finding"')
        latex = browser.run("asLatex([['a_b', '5%'], ['<', '\\\\x']])")
        assert "a\\_b & 5\\% \\\\" in latex
        assert "\\textless{} & \\textbackslash{}x \\\\" in latex
        background = "getComputedStyle(document.body).backgroundColor"
        light = browser.run(background)
        browser.run("document.getElementById('theme').click()")
        assert browser.run(background) != light
        browser.resize(720, 900)  # about a sheet of paper
        browser.send("Emulation.setEmulatedMedia", media="print")
        assert browser.run(wide.format(".scroll")) == 0
        pdf = browser.pdf()
        assert pdf.startswith(b"%PDF")
        assert len(pdf) > 30_000
        assert browser.faults == []
