"""LightningModules and LightningDataModules."""

from milforge.training.bag_classification import BagClassification, BagPredictions
from milforge.training.datamodule import BagDataModule
from milforge.training.digits_grid import DigitsGridDataModule
from milforge.training.image_bags import ImageBagsDataModule

__all__ = [
    "BagClassification",
    "BagDataModule",
    "BagPredictions",
    "DigitsGridDataModule",
    "ImageBagsDataModule",
]
