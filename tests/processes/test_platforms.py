"""What other platforms lack: locks and signals of POSIX. Stand-ins; nothing was run there."""

import importlib
import subprocess
import sys
from types import SimpleNamespace

import pytest

from milforge.processes import file_lock, signal_numbers

# As on Windows, once the libraries, which know it themselves, are there.
WINDOWS = """
import importlib, pkgutil, signal, sys
import hydra, lightning.pytorch, torch, wandb, matplotlib.figure, sklearn, pyarrow.parquet, h5py
for name in ("SIGUSR1", "SIGUSR2", "pthread_sigmask", "sigwaitinfo", "SIGKILL"):
    delattr(signal, name)
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
class msvcrt: LK_NBLCK = 2
sys.modules["msvcrt"] = msvcrt
sys.platform = "win32"
import milforge
from milforge.processes import file_lock
sys.platform = "linux"
for found in pkgutil.walk_packages(milforge.__path__, "milforge."):
    importlib.import_module(found.name)
from milforge.callbacks.interruption import BY_WEIGHT
from milforge.processes.exit_on_signal import ExitOnSignal
from milforge.training.data.loader import outlast_signals
assert BY_WEIGHT == (15, 0), BY_WEIGHT
with ExitOnSignal():
    outlast_signals(0)
print("imported")
"""


@pytest.mark.slow
def test_every_module_can_be_imported_without_what_windows_lacks():
    done = subprocess.run(
        [sys.executable, "-c", WINDOWS], capture_output=True, text=True, timeout=300
    )
    assert done.stdout.endswith("imported\n"), done.stderr


def test_a_lock_of_windows_is_asked_for_the_first_byte(monkeypatch, tmp_path):
    asked = []
    windows = SimpleNamespace(
        LK_NBLCK=2, locking=lambda *arguments: asked.append(arguments), __name__="msvcrt"
    )
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "msvcrt", windows)
        patch.setattr(sys, "platform", "win32")
        module = importlib.reload(file_lock)
        with (tmp_path / "lock").open("a") as file:
            module.lock(file)
            assert asked == [(file.fileno(), 2, 1)]
    importlib.reload(file_lock)


def test_signals_that_are_not_there_are_left_out():
    assert signal_numbers.there(10, None, 15) == (10, 15)
