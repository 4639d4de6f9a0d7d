"""What stands in the file of an offline run of W&B, read back by W&B itself."""

import json
import subprocess
import sys
from pathlib import Path


def read_records(folder):
    """The records of the only run below a folder, by type."""
    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    return read_file(file)


def read_file(file):
    """The records of a `.wandb` file, by type."""
    wandb = Path(sys.executable).with_name("wandb")
    done = subprocess.run(
        [wandb, "leet", "inspect", "--json", file], capture_output=True, text=True, check=True
    )
    records = {}
    for line in done.stdout.splitlines():
        record = json.loads(line)
        records.setdefault(record["type"], []).append(record[record["type"]])
    return records


def config_of(records):
    """The config of a run, as it was at its end."""
    config = {}
    for record in records["config"]:
        config |= record["update"]
    return config
