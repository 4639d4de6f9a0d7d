"""Two or three processes on the CPU give what one gives."""

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import warnings

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch.multiprocessing import start_processes

from forked import Command
from thinned import thinned

pytestmark = [
    pytest.mark.ddp,
    # Python 3.12 on warns of any fork beside threads; the children below use one thread only.
    pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning"),
]

# So that two processes, or three, evaluate different numbers of bags.
DATA = ("data.train=21", "data.val=7", "data.test=11", "loader.batch_size=5", "data.seed=1")


def call_process(folder, command, *arguments):
    done = Command(command, arguments, folder, {"OMP_NUM_THREADS": "1"})
    assert done.wait() == 0, done.stderr()
    return done


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The run of a training on two processes by the real command."""
    folder = tmp_path_factory.mktemp("ddp")
    options = ("trainer=ddp_cpu", "trainer.max_epochs=2", "logger=csv", "callbacks.figures.bags=1")
    done = call_process(folder, "train", *DATA, *options, "task.class_weights=balanced")
    (run,) = (folder / "logs" / "train" / "runs").iterdir()
    return run, done


def read_summary(run):
    return json.loads((run / "summary.json").read_text())


@pytest.mark.slow
def test_files_are_written_once_and_whole(trained):
    run, done = trained
    files = [str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()]
    figures = ("learning_curves", "roc_pr", "confusion", "bags_9", "bags_no_9")
    assert sorted(files) == sorted(
        [
            *("config.yaml", "overrides", "metrics.csv", "summary.json"),
            *(f"checkpoints/{name}.ckpt" for name in ("best", "last", "previous")),
            *("predictions/bags.parquet", "predictions/instances.parquet"),
            *(f"figures/{name}.png" for name in figures),
        ]
    )
    assert done.stdout().count("test/auroc") == 1
    # Two epochs, a test, and a prediction of the bags that chose the epoch; and no warning.
    assert len(done.stderr().splitlines()) == 4
    assert read_summary(run)["data"]["bags"] == {"train": 21, "val": 7, "test": 11}


@pytest.mark.slow
def test_each_bag_is_predicted_once_and_in_order(trained):
    run, _ = trained
    bags = pq.read_table(run / "predictions" / "bags.parquet").to_pydict()
    of_part = {name: [] for name in ("val", "test")}
    for name, part, order in zip(bags["bag_id"], bags["part"], bags["order"], strict=True):
        assert order == len(of_part[part])
        of_part[part].append(name)
    assert of_part == {
        "val": [f"val_{i:04d}" for i in range(7)],
        "test": [f"test_{i:04d}" for i in range(11)],
    }
    instances = pq.read_table(run / "predictions" / "instances.parquet").to_pydict()
    assert list(dict.fromkeys(instances["bag_id"])) == bags["bag_id"]
    weights = np.bincount(
        [bags["bag_id"].index(name) for name in instances["bag_id"]], instances["weight"]
    )
    np.testing.assert_allclose(weights, 1, rtol=1e-5)


@pytest.fixture
def evaluated_by_one(trained, tmp_path, monkeypatch, capsys):
    """The same checkpoint, evaluated by this process alone."""
    run, _ = trained
    arguments = ("trainer=cpu", "logger=csv", "callbacks.figures=null")
    monkeypatch.chdir(tmp_path)
    command = ["milforge-evaluate", f"ckpt_path={run}/checkpoints/best.ckpt", *arguments]
    monkeypatch.setattr(sys, "argv", command)
    importlib.import_module("milforge.cli.evaluate").main()
    capsys.readouterr()
    torch.use_deterministic_algorithms(False)
    (folder,) = (tmp_path / "logs" / "evaluate" / "runs").iterdir()
    return folder


def assert_same_evaluation(one, two):
    expected = {k: v for k, v in read_summary(one)["metrics"].items() if k.startswith("test/")}
    metrics = {k: v for k, v in read_summary(two)["metrics"].items() if k.startswith("test/")}
    assert len(expected) == 8
    assert metrics == pytest.approx(expected, abs=1e-6)
    for name in ("bags", "instances"):
        # A training writes the bags that chose its epoch too.
        tables = [
            pq.read_table(run / "predictions" / f"{name}.parquet", filters=[("part", "=", "test")])
            for run in (one, two)
        ]
        assert len(tables[0]) >= 11
        assert tables[0].schema == tables[1].schema
        for column in tables[0].column_names:
            values, wanted = (table[column].to_pylist() for table in tables)
            assert values == pytest.approx(wanted, abs=1e-6)


@pytest.mark.slow
def test_the_test_after_training_is_that_of_one_process(trained, evaluated_by_one):
    assert_same_evaluation(evaluated_by_one, trained[0])


@pytest.mark.slow
@pytest.mark.parametrize("processes", [3, pytest.param(2, marks=pytest.mark.nightly)])
def test_evaluation_on_several_is_that_of_one(trained, evaluated_by_one, tmp_path, processes):
    """Trainer and strategy come from the checkpoint here."""
    folder = tmp_path / "several"
    folder.mkdir()
    arguments = (
        f"ckpt_path={trained[0]}/checkpoints/best.ckpt",
        f"trainer.devices={processes}",
        "logger=csv",
        "callbacks.figures=null",
    )
    done = call_process(folder, "evaluate", *arguments)
    (run,) = (folder / "logs" / "evaluate" / "runs").iterdir()
    assert_same_evaluation(evaluated_by_one, run)
    assert done.stdout().count("test/auroc") == 1


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def bags_of(kind, n, seed):
    """Bags of a few vectors with a label of the task."""
    from milforge.data import Bag

    rng, bags = np.random.default_rng(seed), []
    for i in range(n):
        size = int(rng.integers(1, 9))
        y = {
            "binary": int(i % 3 == 0),
            "multiclass": i % 3,
            "multilabel": torch.tensor([i % 2, int(i % 3 == 0)]),
            "regression": float(rng.normal() * 9 + 40),
        }[kind]
        x = torch.tensor(rng.normal(size=(size, 6)), dtype=torch.float32)
        bags.append(
            Bag(x, y, y_inst=torch.tensor(rng.integers(2, size=size)), bag_id=f"{seed} {i}")
        )
    return bags


def make_network(kind, adds, num_outputs):
    """A network; with `adds` it has further logits for every instance, and a loss of its own."""
    from functools import partial

    from milforge.functional.segment import segment_index
    from milforge.models import BagNetwork
    from milforge.models.output import Auxiliary
    from milforge.nn import AttentionPool, MLPEncoder

    class Adding(BagNetwork):
        loss_weight = 0.5

        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            self.further = torch.nn.Linear(6, num_outputs)
            self.spread = torch.nn.Linear(6, 1)

        def forward(self, batch):
            bag = segment_index(batch.ptr, batch.num_instances)
            further = Auxiliary(self.further(batch.x), bag, 0.75)
            # Kept for `auxiliary_loss`, and part of the graph where there are no classes.
            self.spreads = torch.zeros(len(batch)).index_add(0, bag, self.spread(batch.x)[:, 0])
            output = super().forward(batch)
            return output._replace(auxiliary=(further,), penalty=self.spreads.sum() * 0)

        def auxiliary_loss(self, batch, output, classes):
            first = classes if classes.ndim == 1 else classes[:, 0]
            return (self.spreads - first).square() * 0.01

    torch.manual_seed(0)
    return (Adding if adds else BagNetwork)(
        (6,),
        num_outputs,
        encoder=partial(MLPEncoder, hidden=(16,)),
        pool=partial(AttentionPool, att_dim=8),
        attention_l2=0.0 if adds else 0.1,
    )


def make_task(kind):
    from milforge.tasks import Auto, Regression

    if kind == "regression":
        return Regression()
    return Auto(
        class_weights={"binary": [0.3, 2.0], "multiclass": [1.0, 2.0, 0.5]}.get(kind, "balanced")
    )


def train_steps(rank, world_size, port, path, kind, adds):
    """Three steps of plain gradient descent: the weights show the gradients."""
    from functools import partial

    import lightning as L

    from milforge.data import BagSplits, Loader
    from milforge.training import MILDataModule, MILModule

    torch.set_num_threads(1)  # the parent's OpenMP threads do not survive a fork
    warnings.simplefilter("ignore")
    if world_size > 1:
        # As torchrun says it: the processes are there already.
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0"}
        os.environ |= {"LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    L.seed_everything(0, verbose=False)
    data = MILDataModule(
        lambda: BagSplits(bags_of(kind, 12, 0), bags_of(kind, 4, 1), bags_of(kind, 5, 2)),
        task=make_task(kind),
        loader=Loader(batch_size=5, eval_batch_size=2),
    )
    module = MILModule(
        make_network(kind, adds, data.task.num_outputs),
        data.task,
        optimizer=partial(torch.optim.SGD, lr=0.1 if adds else 0.5),
    )
    trainer = L.Trainer(
        accelerator="cpu",
        strategy="ddp" if world_size > 1 else "auto",
        devices=world_size,
        max_epochs=1,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data)
    assert trainer.global_step == 3
    state = {name: value.clone() for name, value in module.state_dict().items()}
    metrics = {name: points[0][1] for name, points in module.history.items()}
    assert {"train/loss", "val/loss"} < set(metrics)
    torch.save({"state": state, "metrics": metrics}, f"{path}/{world_size}_{rank}.pt")


@pytest.mark.parametrize(
    ("kind", "adds"),
    [("binary", False), ("multilabel", True), ("multiclass", True), ("regression", True)],
)
def test_steps_of_uneven_shards_are_those_of_one_process(tmp_path, kind, adds):
    """Global batches of five, five and two bags, weighted, with all that a network may add.

    Two processes have three and two of them; of three the last one has one, and then none. Bags of
    validation are shared out as unevenly.
    """
    for world_size in (1, 2, 3):
        arguments = (world_size, free_port(), tmp_path, kind, adds)
        start_processes(train_steps, arguments, nprocs=world_size, start_method="fork")
    expected = torch.load(tmp_path / "1_0.pt", weights_only=True)
    for name in ("2_0", "2_1", "3_0", "3_1", "3_2"):
        computed = torch.load(tmp_path / f"{name}.pt", weights_only=True)
        torch.testing.assert_close(computed["state"], expected["state"], rtol=1e-5, atol=1e-5)
        assert computed["metrics"] == pytest.approx(expected["metrics"], rel=1e-4, abs=1e-5)


def make_published(name, num_outputs):
    """A model whose training step has more to it than a head: a loss, draws, or a teacher."""
    from functools import partial

    from milforge.models import CLAM, DTFD, MHIM, TransMIL
    from milforge.nn import MLPEncoder

    build, options = {
        "clam": (CLAM, {"multi_branch": True, "k": 2}),
        "dtfd": (DTFD, {"pseudo_bags": 2}),
        "mhim": (MHIM, {"momentum": 0.5}),
        "transmil": (TransMIL, {"heads": 2, "dropout": 0.0}),
    }[name]
    torch.manual_seed(0)
    return build((6,), num_outputs, encoder=partial(MLPEncoder, hidden=(16,)), **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", thinned(["mhim", "clam", "dtfd", "transmil"]))
def test_published_models_train_on_two_processes_as_on_one(tmp_path, monkeypatch, name):
    """What is drawn for a bag is the same on whichever process it is; so is MHIM's teacher."""
    monkeypatch.setitem(globals(), "make_network", lambda _, adds, n: make_published(adds, n))
    for world_size in (1, 2):
        arguments = (world_size, free_port(), tmp_path, "multiclass", name)
        start_processes(train_steps, arguments, nprocs=world_size, start_method="fork")
    one, *others = (
        torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("1_0", "2_0", "2_1")
    )
    for other in others:
        torch.testing.assert_close(other["state"], one["state"], rtol=1e-5, atol=1e-5)


SMALL = (*DATA, "trainer=ddp_cpu", "callbacks.figures=null", "logger=csv")


@pytest.mark.nightly
def test_processes_that_torchrun_starts_share_a_folder(trained, tmp_path):
    """Two processes give what two give, whoever starts them."""
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    options = ("trainer.max_epochs=2", "task.class_weights=balanced", "run=shared")
    done = subprocess.run(
        [*run, "-m", "milforge.cli.train", *SMALL, *options],
        cwd=tmp_path,
        env={**os.environ, "OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "logs" / "train" / "runs").iterdir()
    assert read_summary(folder)["metrics"] == read_summary(trained[0])["metrics"]
    assert done.stdout.count("test/auroc") == 1


@pytest.mark.nightly
def test_a_job_of_slurm_that_is_told_queues_itself_again_and_goes_on(trained, tmp_path):
    """Both processes as srun starts them, and the signal before the time is up."""
    asked = tmp_path / "asked"
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    scontrol.chmod(0o755)
    slurm = {
        **{
            "SLURM_JOB_ID": "42",
            "SLURM_JOB_NAME": "milforge",
            "SLURM_NTASKS": "2",
            "SLURM_STEP_ID": "0",
        },
        **{"SLURM_NNODES": "1", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NODEID": "0"},
        **{"SLURM_NODELIST": "localhost", "SLURM_JOB_NODELIST": "localhost"},
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())},
        "OMP_NUM_THREADS": "1",
        "PATH": f"{scontrol.parent}:{os.environ['PATH']}",
    }
    run = tmp_path / "logs" / "train" / "runs" / "slurm_42"

    def srun(epochs):
        length = ("callbacks.early_stopping=null", f"trainer.max_epochs={epochs}")
        return [
            Command(
                "train",
                (*SMALL, *length, "run=slurm_42"),
                tmp_path,
                {**slurm, "SLURM_PROCID": rank, "SLURM_LOCALID": rank},
            )
            for rank in ("0", "1")
        ]

    first = srun(100000)
    end = time.monotonic() + 240
    while not (run / "checkpoints" / "last.ckpt").exists():
        assert time.monotonic() < end
        assert [process.poll() for process in first] == [None, None], first[0].output()
        time.sleep(0.1)
    for process in first:
        process.send_signal(signal.SIGUSR1)
    codes = [process.wait(60) for process in first]
    assert codes == [128 + signal.SIGUSR1, 0], [process.output() for process in first]
    assert asked.read_text() == "requeue 42\n"
    step = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    slurm["MASTER_PORT"] = str(free_port())
    second = srun(step // 5 + 1)
    codes = [process.wait(240) for process in second]
    assert codes == [0, 0], [process.output() for process in second]
    assert "going on from" in second[0].output()
    assert read_summary(run)["status"] == "finished"
