"""A tracker that is waited for so long and no longer: a server that hangs costs no run."""

import logging
import queue
import threading
from argparse import Namespace
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

log = logging.getLogger(__name__)

SECONDS = 60.0  # that one call may take


class Patient(Logger):
    """Hands every call to a tracker that may hang or fail, on a thread of its own.

    At the first call that fails, or takes longer than it may, one warning is logged, and the
    tracker is left alone from there on. The thread does not keep the process alive.

    Args:
        name: of the tracker, such as `mlflow`.
        make: builds its logger.
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
        self._failed = False
        self._logger: Logger | None = self._within(make)

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
        """Ends the run of the tracker."""
        self._call("finalize", status)

    def _call(self, method: str, *args: Any, **kwargs: Any) -> None:
        logger = self._logger
        if logger is not None and hasattr(logger, method):
            self._within(lambda: getattr(logger, method)(*args, **kwargs))

    def _within(self, function: Callable[[], Any]) -> Any:
        """What a function returns on the thread; None where it fails or takes too long."""
        if self._failed:
            return None
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._tracker, daemon=True)
            self._thread.start()
        future: Future[Any] = Future()
        self._calls.put((future, function))
        try:
            return future.result(self._seconds)
        except TimeoutError as error:
            said = str(error) if future.done() else f"no answer within {self._seconds:g} s"
        except Exception as error:
            said = (str(error).splitlines() or [type(error).__name__])[0]
        self._failed, self._logger = True, None
        log.warning("logger.%s is left out from here on: %s", self._tracker, said)
        return None

    def _work(self) -> None:
        while True:
            future, function = self._calls.get()
            try:
                future.set_result(function())
            except Exception as error:
                future.set_exception(error)


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
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=work, name=name, daemon=True).start()
    try:
        future.result(seconds)
    except TimeoutError:
        if future.done():
            raise
        log.warning("%s did not end within %g s, and is not waited for", name, seconds)
