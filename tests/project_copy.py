"""A copy of the project to change and run, for the tests that do what a user would do to it."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

_RUNNER = """
import gc, json, runpy, sys
gc.set_threshold(20_000, 50, 100)

def read_configs_once():
    import pytest
    from composing import parse_once, read_once
    read_once(pytest.MonkeyPatch())
    parse_once(pytest.MonkeyPatch())

known = False
for number, (how, what, arguments) in enumerate(json.load(sys.stdin)):
    sys.argv = [what, *arguments]
    print(f"[{number}]", flush=True)
    if how == "code":
        exec(compile(what, f"<block {number}>", "exec"), {"__name__": "__main__"})
        continue
    if not known and what.startswith("milforge.cli"):
        read_configs_once()
        known = True
    try:
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            raise
"""


def load_rename_script(root=ROOT):
    spec = spec_from_file_location("rename_project", root / "scripts" / "rename_project.py")
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def copy_project(folder):
    """Copies the files of the project, and nothing that is generated or ignored."""
    for path in load_rename_script().project_files(ROOT):
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    return folder


def run_all(folder, steps, *packages):
    """Runs `("module", name, arguments)` and `("code", source, [])`, one after the other.

    They share a process, because importing Lightning takes longer than all that they do, and use
    the package in the copy's `src`, not the installed one. A config that was read once is known.

    Returns:
        What each step printed to standard output.
    """
    inherited = filter(None, [os.environ.get("PYTHONPATH")])
    path = os.pathsep.join(map(str, [folder / "src", *packages, ROOT / "tests", *inherited]))
    done = subprocess.run(
        [sys.executable, "-c", _RUNNER],
        input=json.dumps(steps),
        cwd=folder,
        # A pytest that a step runs would else clear up behind the one that runs this, for a minute.
        env={
            **os.environ,
            "PYTHONPATH": path,
            "PYTEST_ADDOPTS": f"--basetemp={folder / '.steps'}",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    outputs = done.stdout
    parts = []
    for number in range(len(steps)):
        _, outputs = outputs.split(f"[{number}]\n", 1)
        parts.append(outputs.split(f"[{number + 1}]\n")[0])
    return parts


def mypy(folder):
    """Checks the types of the copy's source; what is known of the packages is not found anew."""
    if (known := ROOT / ".mypy_cache").is_dir():
        shutil.copytree(known, folder / ".mypy_cache", dirs_exist_ok=True)
    command = [sys.executable, "-m", "mypy"]
    env = {**os.environ, "MYPYPATH": str(folder / "src")}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def ruff(folder, *files):
    """Checks format and style of files of the copy; what ruff has to say is the failure."""
    for check in (["format", "--check"], ["check"]):
        command = [sys.executable, "-m", "ruff", *check, "--no-cache", *files]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
