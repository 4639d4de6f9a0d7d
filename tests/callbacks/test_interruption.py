"""A run that a signal ends is saved, and goes on as if it had not been."""

import os
import signal
from functools import partial

import lightning as L
import pytest
import torch

from milforge.callbacks import Interruption
from milforge.cli.build import HARMLESS
from milforge.models import BagNetwork
from milforge.nn import AttentionPool, MLPEncoder
from milforge.training import BagClassification, ImageBagsDataModule, WholeCheckpointIO

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


def fit(folder, *callbacks, ckpt_path=None, accumulate=1):
    torch.manual_seed(0)
    data = ImageBagsDataModule("digits", train=20, val=8, test=8, batch_size=4, eval_batch_size=4)
    module = BagClassification(
        BagNetwork(
            (1, 8, 8), 1, encoder=partial(MLPEncoder, hidden=[8], dropout=0.5), pool=AttentionPool
        ),
        "binary",
        ("no", "yes"),
        optimizer=partial(torch.optim.Adam, lr=1e-2),
        scheduler=partial(torch.optim.lr_scheduler.ReduceLROnPlateau, patience=0),
    )
    trainer = L.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        accumulate_grad_batches=accumulate,
        callbacks=[*callbacks, Interruption(str(folder))],
        plugins=[WholeCheckpointIO()],
        default_root_dir=folder,
    )
    trainer.fit(module, data, ckpt_path=ckpt_path, weights_only=ckpt_path is not None or None)
    state = {"scheduler": trainer.lr_scheduler_configs[0].scheduler.state_dict()}
    state["history"] = module.history
    return torch.cat([each.detach().flatten() for each in module.parameters()]), state, trainer


@pytest.fixture(scope="module", params=[1, 2], ids=["each step", "every second batch"])
def undisturbed(request, tmp_path_factory):
    """The end of a run that nothing interrupted, and how many batches make a step."""
    return fit(tmp_path_factory.mktemp("whole"), accumulate=request.param), request.param


@pytest.mark.parametrize(
    ("hook", "call"),
    [
        *(("on_train_batch_start", call) for call in (1, 4, 5, 8)),
        *(("on_validation_batch_start", call) for call in (1, 2, 4)),
        ("on_validation_epoch_end", 1),
        ("on_train_epoch_end", 2),
    ],
)
def test_it_goes_on_and_ends_where_it_would_have_ended(tmp_path, undisturbed, hook, call):
    (weights, state, _), accumulate = undisturbed
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end:
        fit(tmp_path, Send(hook, call), accumulate=accumulate)
    assert end.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
    path = tmp_path / "last.ckpt"
    there = torch.load(path, weights_only=True)["global_step"]
    found, found_state, trainer = fit(tmp_path, ckpt_path=path, accumulate=accumulate)
    assert 0 < there < trainer.global_step
    assert torch.equal(found, weights)
    assert found_state == state


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


@pytest.mark.parametrize("answer", [0, 1])
def test_slurm_is_asked_to_queue_the_job_again(tmp_path, monkeypatch, caplog, answer):
    asked = tmp_path / "asked"
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {asked}\necho no such job >&2\nexit {answer}\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scontrol.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    with pytest.raises(SystemExit) as end:
        fit(tmp_path, Send("on_train_batch_start", 3, signal.SIGUSR1))
    assert end.value.code == 128 + signal.SIGUSR1
    assert asked.read_text() == "requeue 42\n"
    assert (tmp_path / "last.ckpt").exists()
    expected = "is queued again" if answer == 0 else "could not be queued again: no such job"
    assert expected in caplog.text
