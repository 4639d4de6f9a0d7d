"""Training that goes on inside an epoch ends where it would have ended; workers that tell all."""

import errno
import os
from functools import partial

import lightning as L
import pytest
import torch

from milforge.api.trainer import HARMLESS
from milforge.data import Bag, BagBatch, Loader, collate_bags, digits_bags
from milforge.models import BagNetwork
from milforge.nn import AttentionPool, MLPEncoder
from milforge.training import MILDataModule, MILModule
from milforge.training.data.loader import SharedCollate
from thinned import thinned

pytestmark = [pytest.mark.filterwarnings(f"ignore:{message}") for message in HARMLESS]
EPOCHS, STEPS = 3, 5  # 20 bags in batches of 4


class Save(L.Callback):
    """Saves after a step, and stops as an interrupted process would."""

    def __init__(self, path, step):
        self.path, self.step = path, step

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            raise RuntimeError("interrupted")


class SaveAtEnd(L.pytorch.callbacks.Checkpoint):
    """Saves at the end of an epoch, after the module has done with it, and stops there."""

    def __init__(self, path, epoch):
        self.path, self.epoch = path, epoch

    def on_train_epoch_end(self, trainer, *_):
        if trainer.current_epoch == self.epoch:
            trainer.save_checkpoint(self.path)
            raise RuntimeError("interrupted")


def fit(tmp_path, callback=None, workers=0, ckpt_path=None, **options):
    torch.manual_seed(0)
    data = MILDataModule(
        partial(digits_bags, train=20, val=4, test=4),
        loader=Loader(batch_size=4, num_workers=workers),
        **options,
    )
    encoder = partial(MLPEncoder, hidden=[8], dropout=0.5)
    module = MILModule(
        BagNetwork((1, 8, 8), 1, encoder=encoder, pool=AttentionPool),
        data.task,
        optimizer=partial(torch.optim.Adam, lr=1e-2),
    )
    trainer = L.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[] if callback is None else [callback],
        default_root_dir=tmp_path,
    )
    trainer.fit(module, data, ckpt_path=ckpt_path, weights_only=ckpt_path is not None or None)
    assert trainer.global_step == EPOCHS * STEPS
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The weights of a run that was never interrupted."""
    return fit(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("step", thinned([5, 4, 7, 1, 14, 10], every=2))
def test_a_run_goes_on_at_any_step(tmp_path, undisturbed, step):
    path = tmp_path / "a.ckpt"
    with pytest.raises(RuntimeError, match="interrupted"):
        fit(tmp_path, Save(path, step))
    assert torch.equal(fit(tmp_path, ckpt_path=path), undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("step", thinned([3, 10]))
def test_workers_that_read_ahead_make_no_difference(tmp_path, undisturbed, step):
    path = tmp_path / "a.ckpt"
    with pytest.raises(RuntimeError, match="interrupted"):
        fit(tmp_path, Save(path, step), workers=2)
    assert torch.equal(fit(tmp_path, workers=2, ckpt_path=path), undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("epoch", [0, 1])
def test_a_run_goes_on_from_the_end_of_an_epoch(tmp_path, undisturbed, workers, epoch):
    """Workers read ahead in the next epoch before Lightning gives it."""
    path = tmp_path / "a.ckpt"
    with pytest.raises(RuntimeError, match="interrupted"):
        fit(tmp_path, SaveAtEnd(path, epoch), workers=workers)
    assert torch.equal(fit(tmp_path, workers=workers, ckpt_path=path), undisturbed)


def test_other_batches_are_refused(tmp_path):
    path = tmp_path / "a.ckpt"
    with pytest.raises(RuntimeError, match="interrupted"):
        fit(tmp_path, Save(path, 7))
    with pytest.raises(ValueError, match=r"resume with the data, .*batch_size"):
        fit(tmp_path, ckpt_path=path, seed=1)


BAGS = [
    Bag(torch.arange(6.0).view(3, 2), y=1, adj=torch.eye(3).to_sparse_csr(), bag_id="a"),
    Bag(torch.ones(1, 2), y=0, adj=torch.eye(1).to_sparse_csr(), bag_id="b"),
]


def test_a_worker_hands_its_batch_over_in_shared_memory():
    batch, expected = SharedCollate(collate_bags)(BAGS), collate_bags(BAGS)
    assert batch.x.is_shared()
    assert batch.ptr.is_shared()
    assert batch.adj.values().is_shared()
    assert torch.equal(batch.x, expected.x)
    assert torch.equal(batch.adj.to_dense(), expected.adj.to_dense())
    assert batch.bag_id == ["a", "b"]


def test_shared_memory_that_is_full_ends_in_a_sentence_and_not_in_waiting(monkeypatch):
    def full(_):
        raise RuntimeError("unable to allocate shared memory(shm): No space left on device (28)")

    monkeypatch.setattr(BagBatch, "share_memory", full)
    with pytest.raises(OSError, match=r"/dev/shm.*loader\.num_workers.*--shm-size"):
        SharedCollate(collate_bags)(BAGS)


def test_file_handles_that_run_out_end_in_a_sentence_and_not_in_waiting(monkeypatch):
    left, closed = [7, 8], []

    def duplicate(_):
        if not left:
            raise OSError(errno.EMFILE, "Too many open files")
        return left.pop()

    monkeypatch.setattr(os, "dup", duplicate)
    monkeypatch.setattr(os, "close", closed.append)
    with pytest.raises(OSError, match="Too many open files"):
        SharedCollate(collate_bags)(BAGS)
    assert sorted(closed) == [7, 8]
