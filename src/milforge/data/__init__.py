"""Bags, batches of bags, and data sets of them."""

from milforge.data.bag import Bag
from milforge.data.batch import BagBatch, collate_bags, unbatch
from milforge.data.covariates import CovariateEncoder
from milforge.data.dataset import (
    SPLITS,
    BagDataset,
    BagList,
    ImageDataset,
    LabelledDataset,
    as_dataset,
    bag_outline,
    bag_sizes,
    differs_by_epoch,
    set_epoch,
)
from milforge.data.examples.canvas import Canvas
from milforge.data.examples.digit_bags import ImageBags, draw_bags
from milforge.data.examples.digits import digits_bags
from milforge.data.examples.digits_grid import digits_grid
from milforge.data.examples.digits_survival import digits_survival
from milforge.data.examples.idx import read_idx
from milforge.data.examples.megapixel import MegapixelImages, megapixel
from milforge.data.examples.mil_unit_test import mil_unit_test
from milforge.data.examples.mnist import mnist_bags
from milforge.data.examples.two_stream_digits import two_stream_digits
from milforge.data.faults import BagError, Fault
from milforge.data.features.cache import CachedReader
from milforge.data.features.feature_bags import FeatureBags
from milforge.data.features.folder import feature_bags
from milforge.data.features.inspection import Inspection, inspect_folder
from milforge.data.features.label_table import LabelTable, read_labels, stored_labels
from milforge.data.features.mean_std import feature_moments
from milforge.data.features.readers import BagHeader, BagReader, open_reader
from milforge.data.images.folder import ImageFolder, image_folder
from milforge.data.images.large_image import ImageBatch, LargeImage, collate_images
from milforge.data.images.sources import (
    ArraySource,
    SlideSource,
    TensorSource,
    TiffSource,
    close_files,
    low_resolution,
    open_source,
)
from milforge.data.labels import LabelError, Labels
from milforge.data.loading.evaluation_bags import EvaluationBags
from milforge.data.loading.loader import Loader
from milforge.data.loading.samplers import TrainBatches
from milforge.data.parts import BagSplits, BagTable, changes_nothing
from milforge.data.splits.check import check_split
from milforge.data.splits.choose import AllBags, KFold, RandomSplit, SplitFiles, Splitter
from milforge.data.splits.draw import Split, kfold_splits, monte_carlo_splits
from milforge.data.splits.files import read_splits, write_split
from milforge.data.wrappers.bags_alone import bags_alone
from milforge.data.wrappers.graph_bags import GraphBags, GraphCounts
from milforge.data.wrappers.labelled_bags import LabelledBags
from milforge.data.wrappers.patients import PatientBags, patients_of
from milforge.data.wrappers.wrapped_dataset import WrappedDataset

__all__ = [
    "SPLITS",
    "AllBags",
    "ArraySource",
    "Bag",
    "BagBatch",
    "BagDataset",
    "BagError",
    "BagHeader",
    "BagList",
    "BagReader",
    "BagSplits",
    "BagTable",
    "CachedReader",
    "Canvas",
    "CovariateEncoder",
    "EvaluationBags",
    "Fault",
    "FeatureBags",
    "GraphBags",
    "GraphCounts",
    "ImageBags",
    "ImageBatch",
    "ImageDataset",
    "ImageFolder",
    "Inspection",
    "KFold",
    "LabelError",
    "LabelTable",
    "LabelledBags",
    "LabelledDataset",
    "Labels",
    "LargeImage",
    "Loader",
    "MegapixelImages",
    "PatientBags",
    "RandomSplit",
    "SlideSource",
    "Split",
    "SplitFiles",
    "Splitter",
    "TensorSource",
    "TiffSource",
    "TrainBatches",
    "WrappedDataset",
    "as_dataset",
    "bag_outline",
    "bag_sizes",
    "bags_alone",
    "changes_nothing",
    "check_split",
    "close_files",
    "collate_bags",
    "collate_images",
    "differs_by_epoch",
    "digits_bags",
    "digits_grid",
    "digits_survival",
    "draw_bags",
    "feature_bags",
    "feature_moments",
    "image_folder",
    "inspect_folder",
    "kfold_splits",
    "low_resolution",
    "megapixel",
    "mil_unit_test",
    "mnist_bags",
    "monte_carlo_splits",
    "open_reader",
    "open_source",
    "patients_of",
    "read_idx",
    "read_labels",
    "read_splits",
    "set_epoch",
    "stored_labels",
    "two_stream_digits",
    "unbatch",
    "write_split",
]
