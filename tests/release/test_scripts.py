"""Scripts that no other test runs call what there is, with what it takes."""

import configparser
import os
import subprocess
import sys
import tomllib

import pytest

from project_copy import ROOT

# Scripts are not typed as the package is: what is looked for is a call that cannot work.
LEFT_OUT = (
    *("import-untyped", "import-not-found", "no-untyped-call", "no-untyped-def", "type-arg"),
    *("no-any-return", "arg-type", "union-attr", "misc", "operator", "index", "attr-defined"),
    *("assignment", "call-overload", "unreachable", "unused-ignore", "override", "return-value"),
    *(
        "no-any-unimported",
        "untyped-decorator",
        "has-type",
        "list-item",
        "dict-item",
        "var-annotated",
    ),
)

SCRIPTS = [*(ROOT / "scripts").glob("*.py"), *(ROOT / "scripts" / "benchmark").glob("*.py")]


@pytest.fixture
def config(tmp_path):
    """That of the package, so that what `make lint` found of it is used; milder for the scripts."""
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    del ours["files"]
    (missing,) = ours.pop("overrides")
    config = configparser.ConfigParser()
    config["mypy"] = ours
    config[f"mypy-{','.join(missing.pop('module'))}"] = missing
    names = ",".join(script.stem for script in [*SCRIPTS, *(ROOT / "tests").glob("*.py")])
    config[f"mypy-{names}"] = {"disable_error_code": ",".join(LEFT_OUT)}
    with (tmp_path / "mypy.ini").open("w") as file:
        config.write(file)
    return tmp_path / "mypy.ini"


@pytest.mark.slow
def test_the_calls_of_scripts_fit(config):
    path = [ROOT / "scripts" / "benchmark", ROOT / "tests"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(config), *map(str, SCRIPTS)],
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": os.pathsep.join(map(str, path))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
