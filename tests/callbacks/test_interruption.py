"""A run that a signal ends is saved, and goes on as if it had not been."""

import os
import signal
from functools import partial
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers.logger import Logger

from milforge.api.trainer import HARMLESS
from milforge.callbacks import Interruption
from milforge.data import Loader, digits_bags
from milforge.models import BagNetwork
from milforge.nn import AttentionPool, MLPEncoder
from milforge.training import MILDataModule, MILModule, WholeCheckpointIO
from thinned import thinned

pytestmark = [pytest.mark.filterwarnings(f"ignore:{message}") for message in HARMLESS]
EPOCHS = 3  # of 5 steps: 20 bags in batches of 4; and of 2 batches of validation


class Send(L.Callback):
    """Sends this process a signal at some call of a hook."""

    def __init__(self, hook, call, signum=signal.SIGTERM):
        self.calls = 0

        def send(trainer, *_):
            if not trainer.sanity_checking:
                self.calls += 1
                if self.calls == call:
                    os.kill(os.getpid(), signum)

        setattr(self, hook, send)


class Rows(Logger):
    """Keeps what is logged, by step and name."""

    name = version = "rows"

    def __init__(self, values):
        super().__init__()
        self.values = values

    def log_metrics(self, metrics, step=None):
        self.values |= {(step, name): value for name, value in metrics.items()}

    def log_hyperparams(self, params):
        pass


def fit(folder, *callbacks, ckpt_path=None, accumulate=1, rows=None):
    torch.manual_seed(0)
    data = MILDataModule(
        partial(digits_bags, train=20, val=8, test=8),
        loader=Loader(batch_size=4, eval_batch_size=4),
    )
    module = MILModule(
        BagNetwork(
            (1, 8, 8), 1, encoder=partial(MLPEncoder, hidden=[8], dropout=0.5), pool=AttentionPool
        ),
        data.task,
        optimizer=partial(torch.optim.Adam, lr=1e-2),
        scheduler=partial(torch.optim.lr_scheduler.ReduceLROnPlateau, patience=0),
    )
    trainer = L.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        logger=Rows({} if rows is None else rows),
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        accumulate_grad_batches=accumulate,
        callbacks=[
            *callbacks,
            ModelCheckpoint(
                folder, "best", monitor="val/inst_auroc", mode="max", enable_version_counter=False
            ),
            Interruption(str(folder)),
        ],
        plugins=[WholeCheckpointIO()],
        default_root_dir=folder,
    )
    trainer.fit(module, data, ckpt_path=ckpt_path, weights_only=ckpt_path is not None or None)
    state = {"scheduler": trainer.lr_scheduler_configs[0].scheduler.state_dict()}
    state["history"] = module.history
    state["best"] = torch.load(folder / "best.ckpt", weights_only=True)["global_step"]
    return torch.cat([each.detach().flatten() for each in module.parameters()]), state, trainer


@pytest.fixture(scope="module", params=[1, 2], ids=["each step", "every second batch"])
def undisturbed(request, tmp_path_factory):
    """The end of a run that nothing interrupted, what it logged, and the batches of a step."""
    rows = {}
    end = fit(tmp_path_factory.mktemp("whole"), accumulate=request.param, rows=rows)
    return end, rows, request.param


@pytest.mark.parametrize(
    ("hook", "call"),
    thinned(
        [
            *(("on_train_batch_start", call) for call in (1, 4, 5, 8)),
            *(("on_validation_batch_start", call) for call in (1, 2, 4)),
            *(("on_validation_epoch_end", call) for call in (1, 2, 3)),
            ("on_train_epoch_end", 2),
            ("on_train_epoch_end", EPOCHS),
        ],
        every=3,
    ),
)
def test_it_goes_on_and_ends_where_it_would_have_ended(tmp_path, undisturbed, hook, call):
    (weights, state, _), expected_rows, accumulate = undisturbed
    rows = {}
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end:
        fit(tmp_path, Send(hook, call), accumulate=accumulate, rows=rows)
    assert end.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
    path = tmp_path / "last.ckpt"
    there = torch.load(path, weights_only=True)["global_step"]
    found, found_state, trainer = fit(tmp_path, ckpt_path=path, accumulate=accumulate, rows=rows)
    assert 0 < there <= trainer.global_step
    assert torch.equal(found, weights)
    assert found_state == state
    assert rows == expected_rows


def test_a_signal_at_the_end_of_training_ends_the_run_before_its_test(tmp_path):
    *_, trainer = fit(tmp_path, Send("on_fit_end", 1))
    with pytest.raises(SystemExit) as end:
        trainer.test(trainer.lightning_module, trainer.datamodule)
    assert end.value.code == 128 + signal.SIGTERM
    assert not (tmp_path / "last.ckpt").exists()


@pytest.mark.parametrize("first", [True, False])
def test_of_several_processes_only_the_first_leaves_a_test(first):
    """The others would be waited for where the bags of all are gathered."""
    callback = Interruption("here")
    trainer = SimpleNamespace(is_global_zero=first, world_size=2)
    callback.on_test_batch_end(trainer, None)
    callback._received.add(signal.SIGTERM)
    callback._before = {signal.SIGTERM: signal.SIG_DFL}
    if not first:
        callback.on_test_batch_end(trainer, None)
        return
    with pytest.raises(SystemExit):
        callback.on_test_batch_end(trainer, None)


@pytest.mark.parametrize("told", [[signal.SIGUSR1], [signal.SIGTERM, signal.SIGUSR1]])
def test_a_signal_is_heard_while_the_processes_ask_each_other(tmp_path, monkeypatch, told):
    """It comes when what this process has received is with the others already."""
    asked, saved = [], []

    def all_reduce(tensor, op):
        asked.append(tensor)
        if len(asked) == 1:
            for signum in told:
                signal.raise_signal(signum)

    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    trainer = SimpleNamespace(
        world_size=2,
        is_global_zero=True,
        strategy=SimpleNamespace(root_device="cpu", launcher=None),
        save_checkpoint=saved.append,
        _signal_connector=SimpleNamespace(_original_handlers={}),
    )
    callback = Interruption(str(tmp_path))
    callback.setup(trainer, None, "fit")
    try:
        callback.on_train_epoch_end(trainer, None)
        assert not saved
        callback.on_train_epoch_end(trainer, None)
        assert saved == [tmp_path / "last.ckpt"]
    finally:
        callback.teardown(trainer, None, "fit")
    with pytest.raises(SystemExit) as end:
        callback.on_train_end(trainer, None)
    assert end.value.code == 128 + signal.SIGUSR1


def test_nothing_is_saved_of_a_run_that_no_signal_reached(tmp_path):
    fit(tmp_path)
    assert not (tmp_path / "last.ckpt").exists()


def test_the_handler_of_submitit_is_called_once_the_run_is_saved(tmp_path):
    """It has its own signal, and lets SIGTERM pass, which comes with it."""
    told, path = [], tmp_path / "last.ckpt"

    def requeue(signum, frame):
        told.append((signum, path.exists()))
        raise SystemExit(0)

    before = {each: signal.getsignal(each) for each in (signal.SIGUSR2, signal.SIGTERM)}
    signal.signal(signal.SIGUSR2, requeue)
    signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with pytest.raises(SystemExit) as end:
            fit(
                tmp_path,
                Send("on_train_batch_start", 3),
                Send("on_train_batch_start", 5, signal.SIGUSR2),
            )
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    assert end.value.code == 0
    assert told == [(signal.SIGUSR2, True)]
    assert torch.load(path, weights_only=True)["global_step"] == 5


@pytest.fixture
def scontrol(tmp_path, monkeypatch):
    """Makes a stand-in for SLURM's command, and gives the file of what it is asked."""
    command, asked = tmp_path / "bin" / "scontrol", tmp_path / "asked"
    command.parent.mkdir()
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "42")

    def make(lines):
        command.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n{lines}\n')
        command.chmod(0o755)
        return asked

    return make


@pytest.mark.parametrize("answer", [0, 1])
def test_slurm_is_asked_to_queue_the_job_again(tmp_path, scontrol, caplog, answer):
    asked = scontrol(f"echo no such job >&2; exit {answer}")
    with pytest.raises(SystemExit) as end:
        fit(tmp_path, Send("on_train_batch_start", 3, signal.SIGUSR1))
    assert end.value.code == 128 + signal.SIGUSR1
    assert asked.read_text() == "requeue 42\n"
    assert (tmp_path / "last.ckpt").exists()
    expected = "is queued again" if answer == 0 else "could not be queued again: no such job"
    assert expected in caplog.text


@pytest.mark.parametrize(
    ("job", "requests"),
    [
        # As SLURM 22.05 describes a job with grace, a cancelled one, and one that it kills at once.
        ("PreemptEligibleTime=2026-01-01T00:00:00 PreemptTime=2026-01-01T01:00:00", ["requeue 42"]),
        ("PreemptEligibleTime=2026-01-01T00:00:00 PreemptTime=None", []),
        ("JobState=COMPLETING Restarts=1", []),
    ],
    ids=["grace", "cancelled", "no grace"],
)
def test_a_preempted_job_that_ends_in_its_grace_is_queued_again(tmp_path, scontrol, job, requests):
    asked = scontrol(f'if [ "$1" = show ]; then echo "{job}"; fi')
    with pytest.raises(SystemExit) as end:
        fit(tmp_path, Send("on_train_batch_start", 3))
    assert end.value.code == 128 + signal.SIGTERM
    assert asked.read_text().splitlines() == ["show job 42", *requests]
    assert (tmp_path / "last.ckpt").exists()


def test_one_job_of_an_array_is_queued_again_alone(tmp_path, scontrol, monkeypatch):
    """The number of one of them is that of them all."""
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "42")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "7")
    asked = scontrol("")
    with pytest.raises(SystemExit):
        fit(tmp_path, Send("on_train_batch_start", 3, signal.SIGUSR1))
    assert asked.read_text() == "requeue 42_7\n"


def test_without_slurm_nothing_is_asked(tmp_path, scontrol, monkeypatch):
    asked = scontrol("")
    monkeypatch.delenv("SLURM_JOB_ID")
    with pytest.raises(SystemExit):
        fit(tmp_path, Send("on_train_batch_start", 3, signal.SIGUSR1))
    assert not asked.exists()
