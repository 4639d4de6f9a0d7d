"""A run saves itself before it ends, where a person or the queue of a cluster sends a signal."""

import logging
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint

from milforge.processes.exit_on_signal import SIGNALS, ExitOnSignal, Interrupted, leave
from milforge.processes.lightning_private import (
    checkpoint_before_validation,
    restore_handlers,
    validates_next,
)
from milforge.processes.signal_numbers import GOES_ON, TERM, USR1, USR2, there

logger = logging.getLogger(__name__)

# Of several signals the one that stands first here counts, in any order of arrival: a job that
# is to be queued again may get a signal to end, too. 0 stands for none.
BY_WEIGHT = (*there(USR2, USR1, TERM), 0)


class Interruption(Checkpoint):
    """Saves `last.ckpt` when a signal asks the process to end, and then ends it.

    SIGTERM, which `kill`, `scancel`, pre-emption and torchrun send, and SIGUSR1, which
    `#SBATCH --signal=USR1@120` has SLURM send before the time is up. On the latter, and where SLURM
    pre-empts the job, it is queued again, for the run to go on in its folder. Under submitit, which
    has signals of its own, its handler is called once the run is saved, and queues the job again.

    The checkpoint is that of the last step of the optimiser. Lightning's own way of doing it saves
    inside the signal handler, so in the middle of a step, which no run can go on from as if nothing
    had been. All processes of a run stop at the same step, whichever of them gets it; in a test,
    where nothing is to be saved, the first of them ends the others with it.

    It belongs behind the callbacks that save checkpoints, whose state is saved with the rest.

    Args:
        dirpath: folder of the checkpoints.

    Attributes:
        again: how the run goes on, as a clause for the user; whoever makes the trainer knows it.
    """

    uses_coords = False  # of a batch; see milforge.training.data.used_coords
    again = GOES_ON

    def __init__(self, dirpath: str) -> None:
        self.path = Path(dirpath) / "last.ckpt"
        # Handlers only add to it, at any moment: a signal in between is not written over.
        self._received: set[int] = set()
        self._before: dict[int, Any] = {}
        self._last_step = 0
        self._ending = 0  # the signal that the run, saved already, is to end by; 0 for none
        self._before_validation: dict[str, Any] | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Listens to signals, before Lightning itself does, and keeps who did so already."""
        if stage == "fit":  # what came while training ended counts in the test behind it
            self._received, self._ending = set(), 0
        self._before = {each: signal.getsignal(each) for each in there(*SIGNALS, USR2)}
        self._listen(trainer)  # Lightning puts these back where its own handlers end

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: D102
        self._last_step = trainer.global_step
        self._listen(trainer)

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: D102
        self._listen(trainer)

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: D102
        self._listen(trainer)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: D102
        self._listen(trainer)
        signal_number = self._ask(trainer)
        if signal_number:
            self._end(trainer, signal_number, saved=False)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: D102
        if self._ending:
            self._end(trainer, self._ending, saved=True)

    def on_train_batch_end(  # noqa: D102
        self, trainer: L.Trainer, pl_module: L.LightningModule, *batch: Any
    ) -> None:
        if trainer.global_step == self._last_step:
            return  # a checkpoint does not hold gradients that are still being accumulated
        self._last_step = trainer.global_step
        if trainer.is_last_batch or validates_next(trainer):
            return  # a run that went on from here would leave out the validation
        self._save_if_asked(trainer)
        if self._ending:
            self._end(trainer, self._ending, saved=True)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves, but ends the run only when Lightning has logged the metrics of the epoch."""
        self._save_if_asked(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: D102
        if self._ending:
            self._end(trainer, self._ending, saved=True)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keeps the state of before: from within a validation no run can go on."""
        if trainer.sanity_checking:
            return
        self._before_validation = checkpoint_before_validation(trainer)

    def on_validation_batch_end(  # noqa: D102
        self, trainer: L.Trainer, pl_module: L.LightningModule, *batch: Any
    ) -> None:
        if not self._received:
            return
        if self._before_validation is not None:
            trainer.strategy.save_checkpoint(self._before_validation, self.path)
        # Processes have unequal numbers of batches here, and cannot ask each other before the end.
        if trainer.world_size == 1:
            self._end(trainer, self._ask(trainer), saved=self._before_validation is not None)
        self._before_validation = None

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: D102
        before, self._before_validation = self._before_validation, None
        if trainer.sanity_checking or trainer.world_size == 1:
            return
        signal_number = self._ask(trainer)
        if signal_number:
            if before is not None:
                trainer.strategy.save_checkpoint(before, self.path)
            self._end(trainer, signal_number, saved=True)

    def on_test_batch_end(  # noqa: D102
        self, trainer: L.Trainer, pl_module: L.LightningModule, *batch: Any
    ) -> None:
        self._end_evaluation(trainer)

    def on_predict_batch_end(  # noqa: D102
        self, trainer: L.Trainer, pl_module: L.LightningModule, *batch: Any
    ) -> None:
        self._end_evaluation(trainer)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:  # noqa: D102
        self._hush(trainer)

    def on_exception(  # noqa: D102
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        self._hush(trainer)

    def _listen(self, trainer: L.Trainer) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # only the main thread may

        def note(signum: int, frame: Any) -> None:
            self._received.add(signum)
            kill: Callable[[int], None] | None = getattr(trainer.strategy.launcher, "kill", None)
            if kill is not None:
                kill(signum)  # the processes that this one started

        for signum, handler in self._before.items():
            if signum == TERM and _is_of_another(handler):
                signal.signal(signum, handler)  # submitit passes over it
            elif signum in SIGNALS or _is_of_another(handler):
                signal.signal(signum, note)

    def _hush(self, trainer: L.Trainer) -> None:
        """Puts back the handlers of before the run."""
        if threading.current_thread() is threading.main_thread():
            for signum, handler in self._before.items():
                signal.signal(signum, handler)
        # After an exception Lightning puts back, later, what it found: ours.
        restore_handlers(trainer, self._before)

    def _save_if_asked(self, trainer: L.Trainer) -> None:
        signal_number = self._ask(trainer)
        if signal_number:
            trainer.save_checkpoint(self.path)
            self._ending = signal_number

    def _end_evaluation(self, trainer: L.Trainer) -> None:
        # Processes have unequal numbers of batches: one that left would be waited for. With the
        # first one, what started them ends all.
        if self._received and trainer.is_global_zero:
            self._end(trainer, BY_WEIGHT[self._heaviest()], saved=False)

    def _ask(self, trainer: L.Trainer) -> int:
        """The signal that any of the processes got, 0 for none; all must ask."""
        heaviest = self._heaviest()
        if trainer.world_size > 1:
            of_all = torch.tensor(heaviest, device=trainer.strategy.root_device)
            torch.distributed.all_reduce(of_all, torch.distributed.ReduceOp.MIN)
            heaviest = int(of_all)
        return BY_WEIGHT[heaviest]

    def _heaviest(self) -> int:
        """The place in `BY_WEIGHT` of what this process received."""
        return next(k for k, each in enumerate(BY_WEIGHT) if each in self._received or not each)

    def _end(self, trainer: L.Trainer, signum: int, *, saved: bool) -> NoReturn:
        """Leaves the process; who listened before is notified, and then queues the job again."""
        if trainer.is_global_zero:
            name = signal.Signals(signum).name
            what = f"the run is saved in {self.path}" if saved else "stopped"
            logger.warning("%s: %s; %s", name, what, self.again)
        handler = self._before[signum]
        if _is_of_another(handler):
            handler(signum, None)
            raise Interrupted(signum if trainer.is_global_zero else 0)
        leave(signum, first=trainer.is_global_zero)


def _is_of_another(handler: Any) -> bool:
    """Whether someone else listens, such as submitit, and is to be notified."""
    return callable(handler) and not isinstance(handler, ExitOnSignal)
