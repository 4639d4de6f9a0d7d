"""Bags, batches of bags, and data sets of them."""

from milforge.data.bag import Bag
from milforge.data.batch import BagBatch, collate_bags, unbatch
from milforge.data.dataset import SPLITS, BagDataset, BagSplits, Task
from milforge.data.digits import digits_bags
from milforge.data.digits_grid import digits_grid
from milforge.data.graph_bags import GraphBags, GraphCounts
from milforge.data.idx import read_idx
from milforge.data.image_bags import ImageBags, draw_bags
from milforge.data.mnist import mnist_bags
from milforge.data.samplers import EvaluationBags, TrainBatches

__all__ = [
    "SPLITS",
    "Bag",
    "BagBatch",
    "BagDataset",
    "BagSplits",
    "EvaluationBags",
    "GraphBags",
    "GraphCounts",
    "ImageBags",
    "Task",
    "TrainBatches",
    "collate_bags",
    "digits_bags",
    "digits_grid",
    "draw_bags",
    "mnist_bags",
    "read_idx",
    "unbatch",
]
