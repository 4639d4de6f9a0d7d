"""A training step of every model does not wait for a GPU, but where it is said why."""

from dataclasses import fields

import lightning as L
import numpy as np
import pytest
import torch
from torch import Tensor

from every_model import MODELS, make_bags, make_network
from every_task import make_task, num_outputs
from milforge.data import collate_bags
from milforge.training import MILModule
from milforge.training.loss import finite
from waits import found_waits

# Other code runs on a GPU, or none.
ON_A_CPU_ALONE = {
    "packing._packed",  # looks at the boundaries of the bags
    "sm.transpose",  # SciPy
    "clam.auxiliary_loss",  # `one_hot` looks at the classes
    "clam.smooth_svm",
}

# Once a step, and then again at once, when nothing is left to wait for.
SIZES_OF_BAGS = "the bags are looked at one by one, so their sizes are asked for"
KNOWN = {
    "ilra": {"bag_attention.bag_attention": SIZES_OF_BAGS},
    "rrt": {"rrt.pool": SIZES_OF_BAGS},
    "transformer": {"bag_attention.bag_attention": SIZES_OF_BAGS},
    "transmil": {"transmil.pool": SIZES_OF_BAGS},
    "wikg": {"wikg._search": SIZES_OF_BAGS},
    "dtfd": {"dtfd._split": "how many pseudo-bags a small bag fills depends on what was drawn"},
}
COX = {
    "survival.cox_nll": "a risk set is of different times that are known",
    "survival._efron": "how many die at one time",
    "cox._event_times": "a few times are copied, of which curves are made",
    "survival.predict": "a few times are copied, of which curves are made",
}
COX_MODELS = ("abmil", "clam_sb", "sm_abmil")


@pytest.fixture(scope="module")
def trainer():
    off = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    return L.Trainer(accelerator="cpu", **dict.fromkeys(off, False))


@pytest.mark.parametrize(
    ("model", "kind"),
    [(each, "binary") for each in MODELS] + [(each, "cox") for each in COX_MODELS],
)
def test_a_training_step_waits_nowhere_else(model, kind, trainer, monkeypatch):
    monkeypatch.setattr(finite, "waits_for_values", lambda device: True)
    module = MILModule(make_network(model, num_outputs(kind)).float(), make_task(kind)[0])
    module.trainer = trainer
    batch = collate_bags(make_bags((9, 1, 2, 3), torch.float32, kind))
    of_batch = [getattr(batch, each.name) for each in fields(batch)]
    on_device = [each for each in of_batch if isinstance(each, Tensor)]
    with found_waits([*on_device, *module.parameters(), *module.buffers()]) as found:
        module.training_step(batch, 0).backward()
    known = {**KNOWN.get(model, {}), **(COX if kind == "cox" else {})}
    assert found - ON_A_CPU_ALONE == set(known)


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: bool((x > 0).any()),
        lambda x: float(x.sum()),
        lambda x: (x * 2).tolist(),
        lambda x: np.asarray(x),
        lambda x: x[1:].cpu(),
        lambda x: x[x > 0],
        lambda x: x.new_zeros(3).index_put((x > 0,), x[:2]),
        lambda x: x.nonzero(),
        lambda x: torch.unique(x),
        lambda x: torch.repeat_interleave(x.long()),
        lambda x: torch.bincount(x.long()),
        lambda x: torch.tensor([1.0], device=x.device),
        lambda x: torch.zeros(2).to(x.device),
    ],
)
def test_waits_are_found(wait):
    x = torch.tensor([0.0, 1.0, 2.0])
    with found_waits([x]) as found:
        wait(x)
    assert found == {"backward"}  # no code of milforge


def test_what_does_not_wait_is_not_found():
    x, host = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1, 0, 2])
    with found_waits([x]) as found:
        x[torch.arange(2, device=x.device)].where(x[:2] > 0, 0.0)
        torch.repeat_interleave(x, x.long(), output_size=3)
        host.tolist()
        host.to(x.device, non_blocking=True)
        host[host > 0].sum().item()
    assert found == set()
