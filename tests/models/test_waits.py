"""A training step of every model does not wait for a GPU, but where it is said why."""

from copy import deepcopy
from dataclasses import fields, replace
from functools import partial

import lightning as L
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from every_model import MODELS, WIDTH, make_bags, make_network
from every_task import KINDS, make_task, num_outputs
from milforge.data import LargeImage, TensorSource, collate_bags, collate_images
from milforge.functional import cross_entropy, focal_loss, huber_loss, mean_absolute_error
from milforge.models import BagNetwork, SamplingNetwork
from milforge.nn import (
    AttentionCNN,
    AttentionPool,
    EachStream,
    IdentityEncoder,
    LeNetEncoder,
    MLPEncoder,
    PatchCNN,
    Standardise,
    StreamFusion,
)
from milforge.training import MILModule
from milforge.training.loss import finite
from waits import found_waits

# Other code runs on a GPU, or none.
ON_A_CPU_ALONE = {
    "packing._packed",  # looks at the boundaries of the bags
    "sm.transpose",  # SciPy
    "clam.auxiliary_loss",  # `one_hot` looks at the classes
    "clam.smooth_svm",
    "survival.discrete_survival_nll",  # looks at the bins
    "locations._check_values",  # looks at the map
    "read.read_patches",  # of places that are in host memory by then
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
}
TARGETS = {
    **COX,
    "multi.loss": "which bags have the label of a target is asked for",
    "backward": "the same, of their logits",
}
COX_MODELS = ("abmil", "clam_sb", "sm_abmil")


@pytest.fixture(scope="module")
def trainer():
    off = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    return L.Trainer(accelerator="cpu", **dict.fromkeys(off, False))


@pytest.fixture
def places(trainer, monkeypatch):
    """`places(module, batch)`: where a training step waits, but for what a CPU alone runs."""
    monkeypatch.setattr(finite, "waits_for_values", lambda device: True)

    def find(module, batch):
        module.trainer = trainer
        of_batch = [getattr(batch, each.name) for each in fields(batch) if each.name != "seeds"]
        on_device = [each for each in tree_leaves(of_batch) if isinstance(each, Tensor)]
        with found_waits([*on_device, *module.parameters(), *module.buffers()]) as found:
            module.training_step(batch, 0).backward()
        return found - ON_A_CPU_ALONE

    return find


def bags_of(kind="binary", **changed):
    bags = make_bags((9, 1, 2, 3), torch.float32, kind)
    return collate_bags([replace(bag, **changed) for bag in bags])


@pytest.mark.parametrize(
    ("model", "kind"),
    [(each, "binary") for each in MODELS] + [(each, "cox") for each in COX_MODELS],
)
def test_a_training_step_waits_nowhere_else(model, kind, places):
    module = MILModule(make_network(model, num_outputs(kind)).float(), make_task(kind)[0])
    known = {**KNOWN.get(model, {}), **(COX if kind == "cox" else {})}
    assert places(module, bags_of(kind)) == set(known)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("binary", "cox")])
def test_no_task_waits(kind, places):
    module = MILModule(make_network("abmil", num_outputs(kind)).float(), make_task(kind)[0])
    known = TARGETS if kind == "multi" else {}
    assert places(module, bags_of(kind)) == set(known)


@pytest.mark.parametrize(
    ("loss", "kind"),
    [
        (focal_loss, "multiclass"),
        (focal_loss, "multilabel"),
        (partial(cross_entropy, label_smoothing=0.1), "multiclass"),
        (partial(cross_entropy, label_smoothing=0.1), "multilabel"),
        (huber_loss, "regression"),
        (mean_absolute_error, "regression"),
    ],
)
def test_no_loss_waits(loss, kind, places):
    network = make_network("abmil", num_outputs(kind)).float()
    assert places(MILModule(network, make_task(kind)[0], loss=loss), bags_of(kind)) == set()


def test_the_share_that_mhim_hides_is_not_asked_for(places):
    network = make_network("mhim").float()
    network.decay_steps = 3
    assert places(MILModule(network, make_task("binary")[0]), bags_of()) == set()


def test_labels_of_instances_are_not_waited_for(places):
    module = MILModule(make_network("abmil").float(), make_task("binary")[0], instances=1.0)
    bags = make_bags((9, 1, 2, 3), torch.float32)
    batch = collate_bags([replace(bag, y_inst=torch.arange(len(bag)) % 2) for bag in bags])
    assert places(module, batch) == set()


def test_no_standardiser_waits(places):
    standardise = Standardise(torch.zeros(WIDTH), torch.ones(WIDTH))
    network = make_network("abmil").float()
    module = MILModule(network, make_task("binary")[0], standardise=standardise)
    assert places(module, bags_of()) == set()


@pytest.mark.parametrize("mode", ["scalar", "convex", "elementwise", "adaptive", "attention"])
def test_neither_streams_nor_covariates_wait(mode, places):
    shapes = {"one": (WIDTH,), "two": (3,)}
    network = BagNetwork(
        shapes,
        1,
        encoder=IdentityEncoder,
        pool=partial(AttentionPool, att_dim=4, gated=True),
        fusion=partial(StreamFusion, dim=6, mode=mode),
        covariates=True,
        num_covariates=2,
    )
    each = {
        name: Standardise(torch.zeros(shape), torch.ones(shape)) for name, shape in shapes.items()
    }
    module = MILModule(network, make_task("binary")[0], standardise=EachStream(each))
    bags = make_bags((9, 1, 2, 3), torch.float32)
    batch = collate_bags(
        [
            replace(bag, x={"one": bag.x, "two": bag.x[:, :3]}, covariates=torch.ones(2))
            for bag in bags
        ]
    )
    assert places(module, batch) == set()


# One after the other, so that the step waits once.
PATCHES = {
    "placement.offsets": "the processor reads the patches, where the attention says",
    "sample_patches.patches_at": "the patches that it has read are copied to the device",
    "locations._race": "numbers are drawn in host memory, so that all devices draw the same",
    "locations._inverse_cdf": "the same, where a patch may be drawn again",
}


@pytest.mark.parametrize("estimator", ["unordered", "ordered", "published"])
@pytest.mark.parametrize("repeated", [False, True])
def test_attention_sampling_waits_for_the_places_of_patches_alone(estimator, repeated, places):
    torch.manual_seed(0)
    network = SamplingNetwork(
        (1,),
        1,
        attention=partial(AttentionCNN, hidden=(4,)),
        feature=partial(PatchCNN, width=8, stride=2),
        patch_size=(20, 20),
        n_patches=3,
        entropy=0.01,
        replace=repeated,
        estimator=estimator,
    )
    images = [
        LargeImage(torch.rand(1, 12, 12), TensorSource(torch.rand(1, 60, 60)), number, str(number))
        for number in range(2)
    ]
    known = {
        name for name in PATCHES if name != f"locations.{'_race' if repeated else '_inverse_cdf'}"
    }
    module = MILModule(network, make_task("binary")[0])
    assert places(module, collate_images(images)) == known


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (AttentionCNN(1, hidden=(4,)), (2, 1, 12, 12)),
        (PatchCNN(1, width=8, stride=2), (6, 1, 20, 20)),
        (Standardise(torch.zeros(5), torch.ones(5)), (7, 5)),
        (MLPEncoder((5,), hidden=(7, 4)), (7, 5)),
        (LeNetEncoder((1, 28, 28)), (3, 1, 28, 28)),
    ],
    ids=lambda each: type(each).__name__,
)
def test_what_needs_no_value_runs_where_there_is_none(module, shape):
    """Nor is there anything of another device in it."""
    module = deepcopy(module).to("meta")
    x = torch.zeros(shape, device="meta", requires_grad=True)
    out = module(x)
    assert out.device.type == "meta"
    out.sum().backward()
    assert all(each.grad is not None for each in module.parameters())


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
