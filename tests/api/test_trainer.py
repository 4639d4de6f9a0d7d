"""Where a run is trained."""

import warnings

import pytest
from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator
from omegaconf import OmegaConf

from milforge.api.trainer import make_trainer, without_mps


@pytest.fixture
def machine(monkeypatch):
    """A stand-in for a machine with these accelerators."""

    def call(*, mps, cuda=False):
        monkeypatch.setattr(MPSAccelerator, "is_available", staticmethod(lambda: mps))
        monkeypatch.setattr(CUDAAccelerator, "is_available", staticmethod(lambda: cuda))

    return call


def test_on_a_mac_auto_is_the_cpu(machine):
    machine(mps=True)
    config = OmegaConf.create(
        {
            "trainer": {"_target_": "lightning.Trainer", "accelerator": "auto", "devices": 1},
            "callbacks": {},
            "logger": {},
        }
    )
    with warnings.catch_warnings():
        trainer = make_trainer(config)
    assert trainer.strategy.root_device.type == "cpu"


@pytest.mark.parametrize("accelerator", ["mps", "gpu"])
def test_the_gpu_of_a_mac_is_refused(machine, accelerator):
    machine(mps=True)
    with pytest.raises(ValueError, match=f"accelerator={accelerator}: .*; choose trainer=cpu"):
        without_mps(OmegaConf.create({"accelerator": accelerator}))


@pytest.mark.parametrize("accelerator", ["auto", "gpu", "cpu"])
@pytest.mark.parametrize("machine_", [{"mps": False}, {"mps": True, "cuda": True}])
def test_elsewhere_nothing_changes(machine, machine_, accelerator):
    machine(**machine_)
    assert without_mps(OmegaConf.create({"accelerator": accelerator})) == {}
