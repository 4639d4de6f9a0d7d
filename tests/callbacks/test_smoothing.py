"""What is logged of smoothing, against bags smoothed one by one."""

import csv
import os
import socket
import warnings
from functools import partial

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.multiprocessing import start_processes
from torch.utils.data import DataLoader

import reference
from milforge.callbacks import SmoothingMonitor
from milforge.data import Bag, collate_bags
from milforge.models import BagOutput
from milforge.nn import AttentionPool, Sm, SmAttentionPool
from milforge.tasks import Binary
from milforge.training import Ensemble, MILModule

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*treespec, LeafSpec"
)
SIZES = (5, 9, 1, 0, 12, 3, 7)
NAMES = ["sm_alpha", "sm_energy_after", "sm_energy_before"]


class Network(nn.Module):
    """A pooling and a head, without an encoder."""

    def __init__(self, pool):
        super().__init__()
        self.pool = pool
        self.head = nn.Linear(4, 1)

    def forward(self, batch):
        adj = () if isinstance(self.pool, AttentionPool) else (batch.adj,)
        z, scores = self.pool(batch.x, *adj, ptr=batch.ptr, return_att=True)
        return BagOutput(self.head(z), scores)


class Twice(nn.Module):
    """Smooths the instances before they are pooled with smoothing; the one Sm padded or not."""

    def __init__(self, padded=False):
        super().__init__()
        self.first, self.pool = Sm(0.25, mode="exact"), make_pool("late")
        self.padded = padded

    def forward(self, x, adj, *, ptr, return_att):
        if self.padded:
            self.first(x[None], adj.to_dense()[None])
        else:
            x = self.first(adj=adj, f=x)
        return self.pool(x, adj, ptr=ptr, return_att=return_att)


def make_pool(where="early", logit=1.0, **options):
    torch.manual_seed(0)
    pool = SmAttentionPool(4, 6, sm_where=where, **options)
    if pool.sm is not None and pool.sm.alpha_logit is not None:
        with torch.no_grad():
            pool.sm.alpha_logit.fill_(logit)
    return pool


def make_bags(sizes=SIZES):
    bags = []
    for i, size in enumerate(sizes):
        x, _ = reference.make_bags((size,), 4, i)
        adj = reference.make_graph((size,), i).float().to_sparse_csr()
        bags.append(Bag(x.float(), y=i % 2, adj=adj, bag_id=str(i)))
    return bags


def make_module(pool):
    optimizer = partial(torch.optim.SGD, lr=0.1)
    state = {"kind": "binary", "class_names": ["no", "yes"], "weights": None}
    return MILModule(Network(pool), Binary().from_state(state), optimizer=optimizer)


def make_loader(batch_size=3, bags=range(7)):
    chosen = [make_bags()[i] for i in bags]
    return DataLoader(chosen, batch_size=batch_size, collate_fn=collate_bags)


def make_trainer(*callbacks, **options):
    settings = {
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "log_every_n_steps": 1,
        "use_distributed_sampler": False,
    }
    return L.Trainer(callbacks=[SmoothingMonitor(), *callbacks], **settings | options)


def logged(trainer):
    values = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return {name: value for name, value in values.items() if "/sm_" in name}


def run(pool, stage="validate", batch_size=3, **options):
    trainer = make_trainer(**options)
    getattr(trainer, stage)(make_module(pool), make_loader(batch_size), verbose=False)
    return logged(trainer)


def hooks(module):
    return [hook for each in module.modules() for hook in each._forward_hooks.values()]


def ratio(u, adj):
    """The relative energy of one bag, by the pairs."""
    total = 0.0
    for i in range(len(u)):
        total += float(u[i] @ u[i])
        for j in range(len(u)):
            total -= float(adj[i, j] * (u[i] @ u[j]))
    return total / float((u * u).sum())


def expected_ratios(pool, values_of):
    """Mean over the bags that have instances, before and after Sm."""
    before, after = [], []
    for i, size in enumerate(SIZES):
        if size:
            x, _ = reference.make_bags((size,), 4, i)
            adj = reference.make_graph((size,), i)
            u = values_of(x)
            smoothed = reference.sm(u, adj, pool.sm.alpha.double(), 10, pool.sm.mode)
            before.append(ratio(u, adj))
            after.append(ratio(smoothed, adj))
    return sum(before) / len(before), sum(after) / len(after)


@torch.no_grad()
@pytest.mark.parametrize(("stage", "prefix"), [("validate", "val"), ("test", "test")])
@pytest.mark.parametrize("where", ["early", "mid", "late"])
@pytest.mark.parametrize("mode", ["approx", "exact"])
def test_values_are_those_of_the_bags_one_by_one(stage, prefix, where, mode):
    pool = make_pool(where, sm_mode=mode)
    weight, bias, w = (p.double() for p in (pool.proj1.weight, pool.proj1.bias, pool.proj2.weight))
    values_of = {
        "early": lambda x: x @ weight.T,
        "mid": lambda x: x @ weight.T + bias,
        "late": lambda x: reference.ACTIVATIONS["gelu"](x @ weight.T + bias) @ w.T,
    }[where]
    before, after = expected_ratios(pool, values_of)
    assert run(pool, stage) == {
        f"{prefix}/sm_energy_before": pytest.approx(before, abs=1e-6),
        f"{prefix}/sm_energy_after": pytest.approx(after, abs=1e-6),
        f"{prefix}/sm_alpha": pytest.approx(float(torch.tensor(1.0).sigmoid()), abs=1e-6),
    }
    assert after < before


@pytest.mark.parametrize("alpha", ["trainable", 0.3])
def test_batches_are_of_no_account(alpha):
    # The last batch of four holds three; one batch of a single bag holds no instance at all.
    first, *others = (run(make_pool(sm_alpha=alpha), batch_size=size) for size in (1, 4, 7))
    assert sorted(first) == [f"val/{name}" for name in NAMES]
    for other in others:
        assert other == pytest.approx(first, abs=1e-6)
    expected = 0.3 if alpha == 0.3 else float(torch.tensor(1.0).sigmoid())
    assert first["val/sm_alpha"] == pytest.approx(expected, abs=1e-6)


def test_the_precision_of_the_network_is_of_no_account():
    halved = run(make_pool(), precision="bf16-mixed")
    assert halved == pytest.approx(run(make_pool()), abs=5e-3)  # 8 bits of mantissa
    assert run(make_pool("mid")) != pytest.approx(run(make_pool()), abs=5e-3)


def test_several_modules_are_told_apart_by_their_paths():
    values = run(Twice())
    paths = ("pool.first", "pool.pool.sm")
    assert sorted(values) == [f"val/{name}/{path}" for name in NAMES for path in paths]
    assert values["val/sm_alpha/pool.first"] == 0.25
    pool = Twice()
    pool.sm = pool.first
    before, after = expected_ratios(pool, lambda x: x)
    assert values["val/sm_energy_before/pool.first"] == pytest.approx(before, abs=1e-6)
    assert values["val/sm_energy_after/pool.first"] == pytest.approx(after, abs=1e-6)


def test_the_members_of_an_ensemble_are_averaged():
    """Thirty members would be ninety lines."""
    pools = [make_pool("late", logit=logit) for logit in (1.0, -1.0)]
    with torch.no_grad():
        pools[1].proj1.weight.mul_(-0.3)
    each = [run(pool, "test") for pool in pools]
    trainer = make_trainer()
    members = Ensemble([make_module(pool) for pool in pools])
    trainer.test(members, make_loader(), verbose=False)
    expected = {name: pytest.approx((each[0][name] + each[1][name]) / 2) for name in each[0]}
    assert len({value for values in each for value in values.values()}) == 6
    assert logged(trainer) == expected
    assert not hooks(members)


def test_padded_values_are_not_measured():
    values = run(Twice(padded=True))
    missing = {f"val/sm_energy_{when}/pool.first" for when in ("before", "after")}
    assert values.keys() == run(Twice()).keys() - missing


@pytest.mark.parametrize(
    "pool",
    [AttentionPool(4, 6), make_pool("none"), make_pool(sm_alpha=0), make_pool(sm_steps=0)],
    ids=["plain", "nowhere", "alpha 0", "no steps"],
)
def test_where_nothing_is_smoothed_nothing_is_logged(pool):
    assert run(pool) == {}


class Witness(Callback):
    """Counts the hooks at every step, and keeps what each epoch logs."""

    def __init__(self):
        self.training, self.evaluating, self.sanity, self.epochs = set(), set(), set(), []

    def on_train_batch_start(self, trainer, pl_module, *_):
        self.training.add(len(hooks(pl_module)))

    def on_validation_batch_start(self, trainer, pl_module, *_):
        seen = self.sanity if trainer.sanity_checking else self.evaluating
        seen.add(len(hooks(pl_module)))

    def on_validation_end(self, trainer, pl_module):
        if trainer.sanity_checking:
            assert logged(trainer) == {}
        else:
            alpha = float(pl_module.network.pool.sm.alpha.detach())
            self.epochs.append((logged(trainer), alpha))


def test_a_training_logs_every_validation_and_leaves_no_hook(tmp_path):
    logger, witness = CSVLogger(tmp_path, name="", version=""), Witness()
    trainer = make_trainer(witness, max_epochs=3, logger=logger, num_sanity_val_steps=2)
    module = make_module(make_pool())
    trainer.fit(module, make_loader(), make_loader())
    assert (witness.sanity, witness.training, witness.evaluating) == ({0}, {0}, {1})
    assert hooks(module) == []
    assert len(witness.epochs) == 3
    for values, alpha in witness.epochs:
        assert sorted(values) == [f"val/{name}" for name in NAMES]
        assert values["val/sm_alpha"] == pytest.approx(alpha, abs=1e-6)
    # It is trained, and the values follow it.
    assert len({alpha for _, alpha in witness.epochs}) == 3
    assert len({values["val/sm_energy_before"] for values, _ in witness.epochs}) == 3
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    for name in NAMES:
        written = [float(row[f"val/{name}"]) for row in rows if row.get(f"val/{name}")]
        expected = [values[f"val/{name}"] for values, _ in witness.epochs]
        assert written == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_no_hook_is_left_behind(stage):
    module = make_module(make_pool())
    getattr(make_trainer(), stage)(module, make_loader(), verbose=False)
    assert hooks(module) == []


class Fails(Callback):
    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, *_):
        assert hooks(pl_module)
        if batch_idx == 1:
            raise RuntimeError("on purpose")


def test_no_hook_is_left_behind_after_a_failure():
    trainer, module = make_trainer(Fails()), make_module(make_pool())
    with pytest.raises(RuntimeError, match="on purpose"):
        trainer.validate(module, make_loader(), verbose=False)
    assert hooks(module) == []
    # Nor any value of the bags it had seen.
    trainer.callbacks = [each for each in trainer.callbacks if not isinstance(each, Fails)]
    trainer.validate(module, make_loader(), verbose=False)
    assert logged(trainer) == pytest.approx(run(make_pool()))


def test_values_that_are_not_numbers_are_left_out():
    pool = make_pool()
    with torch.no_grad():
        pool.proj1.weight.fill_(torch.nan)
    assert list(run(pool)) == ["val/sm_alpha"]


def validate_share(rank, shares, port, path):
    torch.set_num_threads(1)  # the parent's OpenMP threads do not survive a fork
    warnings.simplefilter("ignore")
    # As torchrun says it: the processes are there already.
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0"}
    os.environ |= {"LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    trainer = make_trainer(strategy="ddp", devices=2)
    trainer.validate(make_module(make_pool()), make_loader(2, shares[rank]), verbose=False)
    torch.save(logged(trainer), f"{path}/{rank}.pt")


@pytest.mark.ddp
# Python 3.12 on warns of any fork beside threads; the children use one thread only.
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize(
    "shares",
    [([0, 2, 4, 6], [1, 3, 5]), ([0, 1, 2, 4, 5, 6], [3])],
    ids=["uneven", "one process has no instance"],
)
def test_two_processes_log_what_one_does(tmp_path, shares):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    start_processes(validate_share, (shares, port, tmp_path), nprocs=2, start_method="fork")
    expected = run(make_pool())
    for rank in (0, 1):
        values = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert values == pytest.approx(expected, abs=1e-6)
