from functools import cache

import lightning as L
import pytest
import torch
from omegaconf import OmegaConf

from allocations import most_allocated
from milforge.api.build import build_network
from milforge.api.compose import compose
from milforge.api.forecast import forecast
from milforge.data import Bag, collate_bags
from milforge.tasks import Binary
from milforge.training import MILModule

SGD = {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1}
GRID = {"_target_": "milforge.graph.AdjacencyBuilder", "method": "grid"}


@cache
def composed(*overrides):
    return compose("train", ["data=feature_bags", "data.root=.", *overrides])


def expected(config, *, dtype=torch.float16, changed=None, **options):
    """The forecast of a config with one value changed."""
    config = config.copy()
    for key, value in (changed or {}).items():
        OmegaConf.update(config, key, value, force_add=True)
    return forecast(config, (1500, 300), {"x": 64}, dtype, **options)


def test_is_what_a_training_step_allocates():
    config = composed()
    found = expected(config, changed={"standardise": None})
    assert found.sizes == (1500, 300)
    assert found.batches * found.stored == 5 * 1800 * 64 * 2
    module = MILModule(build_network(config, (64,), 1, 0), Binary())
    off = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    module.trainer = L.Trainer(accelerator="cpu", **dict.fromkeys(off, False))
    bags = [Bag(torch.randn(n, 64).half(), n % 2, bag_id=str(n)) for n in (1500, 300)]
    batch = collate_bags(bags)
    peak = most_allocated(lambda: module.training_step(batch, 0).backward())
    assert found.step.peak == pytest.approx(peak, rel=0.02)


def test_follows_the_config():
    config = composed()
    whole = expected(config)
    assert expected(config, dtype=torch.float32).stored == 2 * whole.stored
    for key, value, sizes in (
        ("loader.batch_size", 1, (1500,)),
        ("loader.max_instances", 1600, (1500, 100)),
        ("data.max_instances_per_bag", 500, (500, 300)),
    ):
        assert expected(config, changed={key: value}).sizes == sizes
    assert expected(config, changed={"loader.num_workers": 1}).batches is None
    assert expected(config, changed={"loader.keep": "memory"}).batches is None
    half = expected(config, changed={"trainer.precision": "bf16-mixed"})
    assert half.step.peak < whole.step.peak
    assert expected(config, changed={"optimizer": SGD}).step.weights < whole.step.weights
    graph = expected(config, changed={"graph": GRID}, coords_axes=2)
    # Coords, two numbers of a row, and almost eight neighbours of a column and a value each.
    assert graph.step.batch > whole.step.batch + 1800 * (8 + 8 + 7 * 8)
    with pytest.raises(ValueError, match=r"trainer.precision: expected 32-true, 16-mixed or"):
        expected(config, changed={"trainer.precision": "64-true"})


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("sm_abmil", "the model smooths over a graph"),
        ("attention_sampling", "the model looks at large images"),
    ],
)
def test_refuses_models_that_do_not_fit(model, message):
    with pytest.raises(ValueError, match=message):
        expected(composed(f"model={model}"))
