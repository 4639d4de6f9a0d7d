"""Coords are read where anything may look at them."""

from types import SimpleNamespace

import lightning as L
import pytest
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from torch import nn

from milforge.callbacks import FigureWriter, Interruption, SmoothingMonitor
from milforge.models import BagNetwork
from milforge.training import MILModule
from milforge.training.data.used_coords import uses_coords


class OwnNetwork(nn.Module):
    def forward(self, batch):
        return batch.coords


class OwnHead(BagNetwork):
    def forward(self, batch):
        return super().forward(batch)


class Declared(BagNetwork):
    uses_coords = True

    def forward(self, batch):
        return super().forward(batch)


class OwnModule(MILModule):
    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx)


class Renamed(MILModule):
    """It looks at no batch."""


class Looks(L.Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        """It may look at coords."""


def trainer(network=BagNetwork, module=MILModule, callbacks=()):
    made = module.__new__(module)
    nn.Module.__init__(made)
    made.network = network.__new__(network)
    return SimpleNamespace(lightning_module=made, callbacks=list(callbacks))


OWN = [ModelCheckpoint(), LearningRateMonitor(), Interruption("."), SmoothingMonitor()]


@pytest.mark.parametrize("stage", ["train", "validation"])
def test_own_networks_and_callbacks_do_not_look_at_coords_in_a_fit(stage):
    assert not uses_coords(trainer(callbacks=[*OWN, FigureWriter(".")]), stage)
    assert not uses_coords(trainer(module=Renamed), stage)


@pytest.mark.parametrize("network", [OwnNetwork, OwnHead, Declared])
def test_a_network_of_ones_own_may_look_at_them(network):
    assert uses_coords(trainer(network), "train")


def test_so_may_a_module_and_a_callback_of_ones_own():
    assert uses_coords(trainer(module=OwnModule), "train")
    assert uses_coords(trainer(callbacks=[Looks()]), "train")
    assert not uses_coords(trainer(callbacks=[Looks()]), "validation")


def test_predictions_and_figures_have_them():
    assert uses_coords(trainer(callbacks=[FigureWriter(".")]), "test")
    assert not uses_coords(trainer(callbacks=OWN), "test")
    assert uses_coords(trainer(), "predict")
    assert uses_coords(None, "train")
