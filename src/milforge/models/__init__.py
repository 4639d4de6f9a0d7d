"""Whole networks."""

from milforge.models.bag_network import BagNetwork, BagOutput

__all__ = ["BagNetwork", "BagOutput"]
