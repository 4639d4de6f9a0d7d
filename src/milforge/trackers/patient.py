"""Trackers that cost no run, whether they fail, hang or are slow."""

import logging
import queue
import threading
from argparse import Namespace
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from time import monotonic
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

log = logging.getLogger(__name__)

SECONDS = 60.0  # that one call may take
MOST_WAITING = 10_000  # calls that are not answered yet
ROUNDS = 10  # at the end: so many times SECONDS, as long as calls are answered
# Those that Lightning calls. Of pictures and tables `Dashboard` says by itself what was not shown.
METHODS = (
    "log_metrics",
    "log_hyperparams",
    "log_graph",
    "save",
    "after_save_checkpoint",
    "finalize",
)


class Patient(Logger):
    """Hands every call to a tracker that may hang or fail, on a thread of its own.

    Training does not wait for the calls; what is left of them is waited for at its end. One that
    fails, or takes longer than it may, or many that wait, cost one warning, and the tracker is left
    out from there on. The thread does not keep the process alive.

    Args:
        name: of the tracker, such as `mlflow`.
        make: builds its logger; this is waited for.
        seconds: that a call may take.

    Example:
        >>> def broken():
        ...     raise OSError("no answer")
        >>> Patient("mine", broken).log_metrics({"loss": 1.0})  # a warning, no error
    """

    def __init__(self, name: str, make: Callable[[], Logger], seconds: float = SECONDS) -> None:
        super().__init__()
        self._tracker = name
        self._seconds = seconds
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._since: float | None = None  # when the call that is under way began
        self._ended = 0
        self._failed = False
        self._logger: Logger | None = None
        made = self._put(make)
        self._wait_for(made)
        if made.done() and not made.exception():
            self._logger = made.result()

    def __getstate__(self) -> dict[str, Any]:
        """Without the thread and what it works on: another process has one of its own."""
        own = ("_calls", "_thread", "_since")
        return {name: each for name, each in self.__dict__.items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """With a thread as soon as there is a call."""
        self.__dict__.update(state)
        self._calls, self._thread, self._since = queue.SimpleQueue(), None, None

    @property
    def name(self) -> str:
        """That of the tracker."""
        return self._tracker

    @property
    def version(self) -> str:
        """Empty: the run's folder says which one it is."""
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs numbers by name."""
        self._call("log_metrics", dict(metrics), step)

    @rank_zero_only
    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Logs the config."""
        self._call("log_hyperparams", params)

    @rank_zero_only
    def log_image(
        self, key: str, images: list[Any], step: int | None = None, **kwargs: Any
    ) -> None:
        """Logs pictures, `(H, W, 3)` uint8 or paths; `caption` lists a text for each."""
        self._call("log_image", key, images, step=step, **kwargs)

    @rank_zero_only
    def log_table(self, key: str, columns: list[str], data: list[list[Any]]) -> None:
        """Logs rows."""
        self._call("log_table", key, columns=columns, data=data)

    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        """Tells the tracker of a checkpoint, which it may keep."""
        self._call("after_save_checkpoint", checkpoint_callback)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Waits for all calls, the last of which ends the run of the tracker."""
        if (last := self._call("finalize", status)) is not None:
            self._wait_for(last)

    def _call(self, method: str, *args: Any, **kwargs: Any) -> Future[Any] | None:
        """Has the thread call a method; None where the tracker is left out, or has no such one."""
        if self._failed or not hasattr(self._logger, method):
            return None
        since = self._since
        if since is not None and monotonic() - since > self._seconds:
            self._leave_out(self._no_answer())
            return None
        if self._calls.qsize() >= MOST_WAITING:
            self._leave_out(f"it does not keep up, {MOST_WAITING} calls wait for an answer")
            return None
        return self._put(lambda: getattr(self._logger, method)(*args, **kwargs))

    def _put(self, function: Callable[[], Any]) -> Future[Any]:
        if self._thread is None or not self._thread.is_alive():  # a fork has no threads but one
            self._calls, self._since = queue.SimpleQueue(), None
            self._thread = threading.Thread(target=self._work, name=self._tracker, daemon=True)
            self._thread.start()
        future: Future[Any] = Future()
        self._calls.put((future, function))
        return future

    def _wait_for(self, future: Future[Any]) -> None:
        """Waits as long as calls are answered, or the tracker is left out."""
        for _ in range(ROUNDS):
            ended = self._ended
            if wait([future], self._seconds).done:
                return
            if self._ended == ended:
                break
        self._leave_out(self._no_answer())

    def _work(self) -> None:
        while True:
            future, function = self._calls.get()
            self._since = monotonic()
            try:
                future.set_result(None if self._failed else function())
            except BaseException as error:  # some end the process, or try to
                self._leave_out(first_line(error))
                future.set_exception(error)
            self._since = None
            self._ended += 1

    def _no_answer(self) -> str:
        return f"no answer within {self._seconds:g} s"

    def _leave_out(self, why: str) -> None:
        if not self._failed:
            self._failed = True
            log.warning("logger.%s is left out from here on: %s", self._tracker, why)


def guard(name: str, logger: Logger) -> Logger:
    """The logger, whose errors cost one warning and what it was to log.

    For those that are not waited for: W&B, whose process the system may have killed, and
    TensorBoard.

    Args:
        name: of the tracker.
        logger: its methods are replaced.
    """
    failures = _Failures(name)
    for method in METHODS:
        if hasattr(logger, method):
            setattr(logger, method, _Guarded(logger, method, failures))
    return logger


class _Failures:
    """Warns of the first error of a tracker."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.failed = False

    def tell(self, error: Exception) -> None:
        if not self.failed:
            log.warning("logger.%s lacks some of this run: %s", self.name, first_line(error))
        self.failed = True


class _Guarded:
    """A method of a logger, whose errors are warned of.

    An object, not a function in a function: processes that are spawned get the logger pickled.
    """

    def __init__(self, logger: Logger, method: str, failures: _Failures) -> None:
        self.logger = logger
        self.method = method
        self.failures = failures

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            # That of the class: the one of the object is this.
            return getattr(type(self.logger), self.method)(self.logger, *args, **kwargs)
        except Exception as error:
            self.failures.tell(error)


def first_line(error: BaseException) -> str:
    """What an error says in its first line, or its name.

    Example:
        >>> first_line(OSError("gone" + chr(10) + "more")), first_line(SystemExit())
        ('gone', 'SystemExit')
    """
    return (str(error).splitlines() or [type(error).__name__])[0]


def wait_for(name: str, function: Callable[[], Any], seconds: float = SECONDS) -> None:
    """Calls a function, and warns where it takes longer than it may; then it goes on by itself.

    Errors of the function are raised.

    Args:
        name: what the warning says did not end.
        function: is called on a thread that does not keep the process alive.
        seconds: that it may take.
    """
    future: Future[Any] = Future()

    def work() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, name=name, daemon=True).start()
    if wait([future], seconds).done:
        future.result()
    else:
        log.warning("%s did not end within %g s, and is not waited for", name, seconds)
