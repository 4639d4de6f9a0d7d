"""Commands in processes of their own that begin as forks of one that has imported everything.

Importing takes seven seconds, a small run one: so the runs of tests share it. That process runs
nothing else, and has no thread. A command gets its arguments, environment, folder and standard
streams as if it had been started by `python -m`. Where Lightning starts the other processes of a
run, they are forks of the first one. What the start itself does is tested where a test calls
`sys.executable`.
"""

import atexit
import logging
import multiprocessing
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
import weakref
from pathlib import Path

import pytest

from composing import hide_local_config

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    [
        "milforge.api.trained.evaluation",
        "milforge.api.training",
        "milforge.cli.common.app",
        "milforge.cli.common.sweep",
    ]
)


class Command:
    """A command that runs.

    Args:
        command: `train` for `milforge-train`.
        arguments: what follows it on the command line.
        folder: where it runs.
        env: variables of its environment, beside those of this process.
        new_session: whether it has a process group of its own.
    """

    def __init__(self, command, arguments, folder, env=None, new_session=False):
        streams = Path(tempfile.mkdtemp())
        weakref.finalize(self, shutil.rmtree, streams)
        self._streams = (streams / "stdout", streams / "stderr")
        for path in self._streams:
            path.touch()
        env = {**os.environ, **(env or {})}
        options = (f"milforge.cli.{command}", arguments, folder, env, self._streams, new_session)
        self._process = _SERVER.Process(target=_command, args=options)
        self._process.start()
        self.pid = self._process.pid

    def poll(self):
        """Its exit code, None while it runs; minus the signal that ended it, as `subprocess`."""
        return self._process.exitcode

    def wait(self, timeout=300):
        """Its exit code at its end."""
        self._process.join(timeout)
        if self.poll() is None:
            self.kill()
            raise subprocess.TimeoutExpired(f"{self.stdout()}{self.stderr()}", timeout)
        return self.poll()

    def send_signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def stdout(self):
        return self._streams[0].read_text(errors="replace")

    def stderr(self):
        return self._streams[1].read_text(errors="replace")

    def output(self):
        """Both."""
        return f"{self.stdout()}{self.stderr()}"


def _command(module, arguments, folder, env, paths, new_session):
    if new_session:
        os.setsid()
    for number, path in zip((0, 1, 2), (os.devnull, *paths), strict=True):
        file = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    _run(module, arguments, folder, env)


def _run(module, arguments, folder, env):
    """What `python -m` does. Returns never."""
    import torch
    from hydra.core.global_hydra import GlobalHydra
    from lightning.fabric.utilities.rank_zero import _get_rank, rank_zero_only
    from lightning.pytorch.strategies.launchers import subprocess_script

    subprocess_script.subprocess = _Subprocess
    # What the process that this one is a fork of has set for itself.
    atexit._clear()
    hide_local_config(pytest.MonkeyPatch())
    GlobalHydra.instance().clear()
    logging.root.handlers.clear()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(env)
    rank_zero_only.rank = _get_rank() or 0  # which Lightning reads when it is imported
    if folder is not None:
        os.chdir(folder)
    sys.path[:0] = [os.getcwd(), *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    torch.set_num_threads(int(env.get("OMP_NUM_THREADS", torch.get_num_threads())))
    sys.argv = [module, *arguments]
    code = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code or 0
        if isinstance(code, str):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class _Fork(subprocess.Popen):
    """`subprocess.Popen` as Lightning calls it: `python -m MODULE ARGUMENTS`."""

    def __init__(self, args, env, cwd):
        self.args, self.returncode = args, None
        self.stdin = self.stdout = self.stderr = None
        self._waitpid_lock = threading.Lock()
        self._child_created = True
        _, flag, module, *arguments = args
        assert flag == "-m"
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _run(module, arguments, cwd, env)


class _Subprocess:
    """The module `subprocess` as Lightning's launcher sees it."""

    Popen = _Fork
