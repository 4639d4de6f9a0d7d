"""Makes a fork as the guides say, and runs its whole `make test`.

    python scripts/try_fork.py FOLDER

The fork has a model, data sets, a loss, metrics, a task, a LightningModule and a package of its
own, and all commands of the guides were run in it. It is made in FOLDER, which is new, and runs in
the environment of this Python. This takes as long as `make test`.
"""

import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from guides import follow
from project_copy import copy_project


def main() -> None:
    """Entry point."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True)
    copy_project(folder)
    said = follow(folder)
    print(f"{len(said)} steps of the guides followed in {folder}", flush=True)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    env = {**os.environ, "PYTHONPATH": str(folder / "src")}
    environment = Path(sys.executable).parent.parent
    # The environment stays as it is: installing the fork would put it in the place of this project.
    command = ["make", "test", f"VENV={environment}", "-o", f"{environment}/.installed"]
    done = subprocess.run(command, cwd=folder, env=env)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
