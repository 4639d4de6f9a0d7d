"""Whole networks: from a batch to logits."""

from milforge.models.bag_network import BagNetwork, BagOutput
from milforge.models.sampling_network import SamplingNetwork, SamplingOutput

__all__ = ["BagNetwork", "BagOutput", "SamplingNetwork", "SamplingOutput"]
