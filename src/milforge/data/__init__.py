"""Bags, batches of bags, and data sets of them."""

from milforge.data.bag import Bag
from milforge.data.batch import BagBatch, collate_bags, unbatch
from milforge.data.cached_reader import CachedReader
from milforge.data.canvas import Canvas
from milforge.data.check_split import check_split
from milforge.data.choose_split import Splitting
from milforge.data.dataset import (
    SPLITS,
    BagDataset,
    BagSplits,
    ImageDataset,
    ImageSplits,
    LabelledDataset,
    Splits,
    Task,
    bag_outline,
    bag_sizes,
)
from milforge.data.digits import digits_bags
from milforge.data.digits_grid import digits_grid
from milforge.data.evaluation_bags import EvaluationBags
from milforge.data.faults import BagError, Fault
from milforge.data.feature_bags import FeatureBags
from milforge.data.graph_bags import GraphBags, GraphCounts
from milforge.data.idx import read_idx
from milforge.data.image import ImageBatch, LargeImage, collate_images
from milforge.data.image_bags import ImageBags, draw_bags
from milforge.data.image_folder import ImageFolder
from milforge.data.inspect import Inspection, inspect_folder
from milforge.data.label_table import LabelTable, read_labels, stored_labels
from milforge.data.megapixel import MegapixelImages, megapixel
from milforge.data.mnist import mnist_bags
from milforge.data.moments import feature_moments
from milforge.data.readers import BagHeader, BagReader, open_reader
from milforge.data.samplers import TrainBatches
from milforge.data.sources import (
    ArraySource,
    SlideSource,
    TensorSource,
    TiffSource,
    close_files,
    low_resolution,
    open_source,
)
from milforge.data.split_files import read_splits, write_split
from milforge.data.splits import Split, kfold_splits, monte_carlo_splits
from milforge.data.two_stream_digits import two_stream_digits

__all__ = [
    "SPLITS",
    "ArraySource",
    "Bag",
    "BagBatch",
    "BagDataset",
    "BagError",
    "BagHeader",
    "BagReader",
    "BagSplits",
    "CachedReader",
    "Canvas",
    "EvaluationBags",
    "Fault",
    "FeatureBags",
    "GraphBags",
    "GraphCounts",
    "ImageBags",
    "ImageBatch",
    "ImageDataset",
    "ImageFolder",
    "ImageSplits",
    "Inspection",
    "LabelTable",
    "LabelledDataset",
    "LargeImage",
    "MegapixelImages",
    "SlideSource",
    "Split",
    "Splits",
    "Splitting",
    "Task",
    "TensorSource",
    "TiffSource",
    "TrainBatches",
    "bag_outline",
    "bag_sizes",
    "check_split",
    "close_files",
    "collate_bags",
    "collate_images",
    "digits_bags",
    "digits_grid",
    "draw_bags",
    "feature_moments",
    "inspect_folder",
    "kfold_splits",
    "low_resolution",
    "megapixel",
    "mnist_bags",
    "monte_carlo_splits",
    "open_reader",
    "open_source",
    "read_idx",
    "read_labels",
    "read_splits",
    "stored_labels",
    "two_stream_digits",
    "unbatch",
    "write_split",
]
