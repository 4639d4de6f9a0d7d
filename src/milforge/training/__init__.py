"""The LightningModule and the LightningDataModule."""

from milforge.runs.checkpoint_io import WholeCheckpointIO
from milforge.training.data.datamodule import MILDataModule
from milforge.training.ensemble import Ensemble
from milforge.training.module import MILModule
from milforge.training.predictions import BagPredictions

__all__ = ["BagPredictions", "Ensemble", "MILDataModule", "MILModule", "WholeCheckpointIO"]
