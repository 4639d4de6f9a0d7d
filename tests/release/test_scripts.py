"""Scripts that no other test runs call what there is, with what it takes."""

import os
import subprocess
import sys

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


@pytest.mark.slow
def test_the_calls_of_scripts_fit():
    scripts = [*(ROOT / "scripts").glob("*.py"), *(ROOT / "scripts" / "benchmark").glob("*.py")]
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")]
    for code in LEFT_OUT:
        command += ["--disable-error-code", code]
    path = [ROOT / "scripts" / "benchmark", ROOT / "tests"]
    done = subprocess.run(
        [*command, *map(str, scripts)],
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": os.pathsep.join(map(str, path))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
