"""Losses that compare the bags of a batch: on several processes, and in evaluation."""

from datetime import timedelta
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing import start_processes

from milforge.data import Bag, BagList, Labels, Loader, collate_bags
from milforge.models import BagNetwork, BagOutput
from milforge.nn import AttentionPool, MLPEncoder
from milforge.tasks import Cox, Multi, Regression
from milforge.training import MILModule
from milforge.training.data.data_loaders import collate_share, train_batches
from milforge.training.fit_outputs import fit_outputs
from stated import attached

N = 14
FORKED = pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")


class Linear(nn.Module):
    """The mean instance, weighed; and further logits, as a second branch has them."""

    def __init__(self, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 3 * outputs).view(3, outputs))

    def forward(self, batch):
        means = [x.mean(0) for x in torch.split(batch.x, batch.ptr.diff().tolist())]
        z = torch.stack(means) if means else batch.x[:, :].new_zeros(0, 3)
        logits = z @ self.weight
        branch = (2 * logits, torch.arange(len(logits)), 0.5)
        return BagOutput(logits, None, None, auxiliary=(branch,))


def make_bags(seed=0):
    generator = torch.Generator().manual_seed(seed)
    time = torch.randint(1, 8, (N,), generator=generator).float()
    event = (torch.arange(N) % 3 > 0).float()
    event[[1, 4, 7, 10, 13]] = 0.0  # of one process of three
    y = torch.stack([time, event], 1)
    return [
        Bag(torch.randn(2 + n % 3, 3, generator=generator), y=y[n], bag_id=str(n)) for n in range(N)
    ]


def make_task(kind, bags):
    y = torch.stack([bag.y for bag in bags])
    if kind == "cox":
        task, labels = Cox(), Labels({"time": y[:, 0].numpy(), "event": y[:, 1].numpy()})
    else:
        task = Multi({"life": {"task": Cox(), "columns": ["t", "e"]}, "t": {"task": Regression()}})
        labels = Labels({"t": y[:, 0].numpy(), "e": y[:, 1].numpy()})
    encoded = torch.as_tensor(task.encode(labels))
    task.fit(encoded)
    return task, encoded


def make_module(kind, bags, **trainer):
    task, y = make_task(kind, bags)
    module = attached(MILModule(Linear(task.num_outputs), task), **trainer)
    batch = [Bag(bag.x, y=each, bag_id=bag.bag_id) for bag, each in zip(bags, y, strict=True)]
    return module, batch


def shares(world):
    """Of three processes the second has no event, of four the last has no bag."""
    hands = [list(range(rank, N, min(world, 3))) for rank in range(min(world, 3))]
    return hands + [[]] * (world - len(hands))


def mean_of(value):
    total = value.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def step(rank, world, folder, kind):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/{world}",
        rank=rank,
        world_size=world,
        timeout=timedelta(seconds=60),
    )
    strategy = SimpleNamespace(reduce=mean_of, root_device=torch.device("cpu"))
    module, bags = make_module(kind, make_bags(), world_size=world, strategy=strategy)
    empty = collate_bags(bags).without_bags()
    batch = collate_share([bags[n] for n in shares(world)[rank]], empty)
    loss = module.training_step(batch, 0)
    loss.backward()
    gradient = mean_of(module.network.weight.grad)  # as DDP does
    fit_outputs(module.task, module.train_metrics, module.trainer)
    # In evaluation each has a part of the bags, the loss is that of all.
    module.eval()
    module.validation_step(batch, 0)
    values = module.val_metrics.compute()
    found = {"gradient": gradient, "loss": mean_of(loss.detach()), "val": values["val/loss"]}
    found |= {name: each.clone() for name, each in module.task.named_buffers()}
    torch.save(found, f"{folder}/{world}_{rank}.pt")
    dist.destroy_process_group()


@FORKED
@pytest.mark.ddp
@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric:UserWarning")
@pytest.mark.parametrize("kind", ["cox", "multi"])
def test_a_step_on_several_processes_is_that_of_one(tmp_path, kind):
    for world in (1, 2, 3, 4):
        if world < 4 or kind == "cox":  # a multiple target without a bag is that of the others
            start_processes(step, (world, tmp_path, kind), nprocs=world, start_method="fork")
    expected = torch.load(tmp_path / "1_0.pt", weights_only=True)
    assert expected["gradient"].abs().max() > 0.01
    found = sorted(tmp_path.glob("*.pt"))
    assert len(found) == (10 if kind == "cox" else 6)
    for path in found:
        each = torch.load(path, weights_only=True)
        torch.testing.assert_close(each, expected, rtol=1e-5, atol=1e-6, msg=path.name)


def test_a_packed_step_has_the_gradients_of_forwards_of_single_bags():
    _, bags = make_module("cox", make_bags())
    task, _ = make_task("cox", make_bags())
    torch.manual_seed(0)
    network = BagNetwork(
        (3,), 1, encoder=partial(MLPEncoder, hidden=(8,)), pool=partial(AttentionPool, att_dim=4)
    )
    packed = network(collate_bags(bags)).logits
    single = torch.cat([network(collate_bags([bag])).logits for bag in bags])
    target = task.target(torch.stack([bag.y for bag in bags]))
    parameters = list(network.parameters())
    found, expected = (
        torch.autograd.grad(task.loss(logits, target).mean(), parameters)
        for logits in (packed, single)
    )
    largest = max(float(each.abs().max()) for each in expected)
    assert largest > 0.01
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * largest)


def test_the_loss_in_evaluation_is_that_of_the_whole_part_however_it_is_dealt():
    module, bags = make_module("cox", make_bags())
    module.eval()
    batch = collate_bags(bags)
    expected = module.task.loss(module(batch).logits, module.task.target(batch.y)).mean().item()
    values = []
    for size in (1, 5, N):
        for start in range(0, N, size):
            module.test_step(collate_bags(bags[start : start + size]), 0)
        values.append(module.test_metrics.compute()["test/loss"].item())
    assert values == pytest.approx([expected] * 3, rel=1e-6)


def test_the_loss_in_training_is_that_of_the_steps():
    module, bags = make_module("cox", make_bags())
    for half in (bags[:7], bags[7:]):
        module.training_step(collate_bags(half), 0)
    batch = [collate_bags(half) for half in (bags[:7], bags[7:])]
    each = [module.task.loss(module(b).logits, module.task.target(b.y)).mean() for b in batch]
    logged = module.train_metrics.compute()["train/loss"]
    torch.testing.assert_close(logged, torch.stack(each).mean())


def test_what_an_epoch_said_is_kept_where_a_run_goes_on():
    module, bags = make_module("cox", make_bags())
    module.training_step(collate_bags(bags[:7]), 0)
    seen = module.train_metrics.seen()
    other, _ = make_module("cox", make_bags())
    other.train_metrics.see_again([seen], 0, 1)
    other.training_step(collate_bags(bags[7:]), 1)
    logits, labels = other.train_metrics.outputs()
    assert logits.shape == (N, 1)
    assert torch.equal(labels, torch.stack([bag.y for bag in bags]))
    other.train_metrics.compute()
    assert other.train_metrics.outputs() is None


def test_the_task_learns_from_the_epoch_before_it_is_validated():
    """Or the survival that is measured would be that of another baseline."""
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    module, bags = make_module("cox", make_bags(), strategy=strategy)
    module.training_step(collate_bags(bags), 0)
    mean = module(collate_bags(bags)).logits.mean()
    module.on_validation_start()
    torch.testing.assert_close(module.task.centre, mean.detach())
    other, _ = make_module("cox", make_bags(), strategy=strategy, sanity_checking=True)
    other.on_validation_start()
    assert other.task.centre == 0


def test_accumulated_gradients_are_refused():
    module, _ = make_module("cox", make_bags(), accumulate_grad_batches=4)
    with pytest.raises(ValueError, match=r"accumulate_grad_batches=4: the loss of the task Cox is"):
        module.on_fit_start()
    attached(module, accumulate_grad_batches=1).on_fit_start()


@pytest.mark.parametrize(("size", "told"), [(1, "error"), (2, "warning"), (N, "info")])
def test_batches_that_teach_nothing_are_told(size, told, caplog):
    bags = BagList(make_bags())
    task, _ = make_task("cox", bags)
    caplog.set_level("INFO")
    if told == "error":
        with pytest.raises(ValueError, match=r"loader.batch_size=1: .* none holds an event"):
            train_batches(bags, task, Loader(size), 0, 0, 1)
        return
    train_batches(bags, task, Loader(size), 0, 0, 1)
    (record,) = caplog.records
    assert record.levelname == told.upper()
    words = record.getMessage()
    idle = int(words.split("average; ")[1].split()[0])
    numbers = train_batches(bags, task, Loader(size), 0, 0, 1).global_batches()
    y = np.stack([bag.y.numpy() for bag in bags])
    by_hand = sum(
        not any(y[i, 1] and any(y[j, 0] >= y[i, 0] for j in batch if j != i) for i in batch)
        for batch in numbers
    )
    assert idle == by_hand
    assert (idle > 0) == (told == "warning")
