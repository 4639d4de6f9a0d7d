"""Whole networks: from a batch to logits."""

from milforge.models.bag_network import BagNetwork
from milforge.models.output import Auxiliary, BagOutput
from milforge.models.sampling_network import SamplingNetwork

__all__ = ["Auxiliary", "BagNetwork", "BagOutput", "SamplingNetwork"]
