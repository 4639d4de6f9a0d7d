"""What `start_fork.md` says a fork may delete, no module that stays needs."""

import re

import pytest

from project_copy import ROOT

SOURCE = ROOT / "src" / "milforge"
PAGE = (ROOT / "docs" / "start_fork.md").read_text(encoding="utf-8")
FIGURES = ("choose.py", "kinds.py", "places.py", "tiles.py", "slide/pyramid.py", "slide/slides.py")
WITH_MAPS = [
    "cli/map.py",
    *(f"callbacks/mapping/{name}.py" for name in ("maps", "map_faithfulness", "tile_maps")),
]
MAPS = {path.relative_to(SOURCE).as_posix() for path in (SOURCE / "maps").rglob("*.py")}
# What goes, and what the row of the page names; by the folder of the row.
ROWS = {
    "maps": ([*WITH_MAPS, *(MAPS - {f"maps/{each}" for each in FIGURES})], [*WITH_MAPS, *FIGURES]),
    "report": (
        BENCH := [
            *("report/bench.py", "report/checks/unit_tests.py"),
            *("cli/bench.py", "cli/bench_plan.py"),
        ],
        BENCH,
    ),
    "models": (
        SAMPLING := ["models/sampling_network.py", "callbacks/sampling_figures.py"],
        SAMPLING,
    ),
    "api`, `cli": (CALIBRATION := ["api/trained/calibration.py", "cli/calibrate.py"], CALIBRATION),
}


@pytest.mark.parametrize("folder", ROWS)
def test_what_may_be_deleted_is_needed_by_nothing_that_stays(folder):
    names, told = ROWS[folder]
    (row,) = re.findall(rf"^\| `{folder}` \|.*\|$", PAGE, re.M)
    for name in told:
        assert re.search(rf"[`/]{name.rpartition('/')[2]}`", row), name
    gone = [SOURCE / name for name in names if not name.endswith("__init__.py")]
    modules = [".".join(("milforge", *path.relative_to(SOURCE).parts))[:-3] for path in gone]
    of_them = rf"\b(?:from|import) (?:{'|'.join(map(re.escape, modules))})\b(?!\.)"
    # An `__init__.py` loses the lines that name it; others may have it from there.
    offers = "\n".join(read(path) for path in SOURCE.rglob("__init__.py"))
    offered = re.findall(rf"{of_them} import (\w+)", offers)
    needed = re.compile("|".join([of_them, *(rf"\bimport\b[^)\n]*\b{each}\b" for each in offered)]))
    left = [
        path.relative_to(SOURCE).as_posix()
        for path in sorted(SOURCE.rglob("*.py"))
        if path not in gone and path.name != "__init__.py" and needed.search(read(path))
    ]
    assert not left


def read(path):
    return path.read_text(encoding="utf-8")
