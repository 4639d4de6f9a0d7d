"""LightningModules and LightningDataModules."""

from milforge.training.bag_classification import BagClassification
from milforge.training.bag_datamodule import BagDataModule
from milforge.training.checkpoint_io import WholeCheckpointIO
from milforge.training.classification import Classification
from milforge.training.datamodule import ClassificationDataModule
from milforge.training.digits_grid import DigitsGridDataModule
from milforge.training.ensemble import BagEnsemble, ImageEnsemble
from milforge.training.feature_bags import FeatureBagsDataModule
from milforge.training.image_bags import ImageBagsDataModule
from milforge.training.image_classification import ImageClassification
from milforge.training.image_datamodule import ImageDataModule, MegapixelDataModule
from milforge.training.image_folder import ImageFolderDataModule
from milforge.training.predictions import BagPredictions, ImagePredictions
from milforge.training.two_stream_digits import TwoStreamDigitsDataModule

__all__ = [
    "BagClassification",
    "BagDataModule",
    "BagEnsemble",
    "BagPredictions",
    "Classification",
    "ClassificationDataModule",
    "DigitsGridDataModule",
    "FeatureBagsDataModule",
    "ImageBagsDataModule",
    "ImageClassification",
    "ImageDataModule",
    "ImageEnsemble",
    "ImageFolderDataModule",
    "ImagePredictions",
    "MegapixelDataModule",
    "TwoStreamDigitsDataModule",
    "WholeCheckpointIO",
]
