"""Whole networks: from a batch to logits."""

from milforge.models.bag_network import BagNetwork
from milforge.models.feature_network import FeatureNetwork
from milforge.models.output import Auxiliary, BagOutput
from milforge.models.published.acmil import ACMIL
from milforge.models.published.additive_abmil import AdditiveABMIL
from milforge.models.published.clam import CLAM
from milforge.models.published.dsmil import DSMIL
from milforge.models.published.dtfd import DTFD
from milforge.models.published.mhim import MHIM
from milforge.models.sampling_network import SamplingNetwork

__all__ = [
    "ACMIL",
    "CLAM",
    "DSMIL",
    "DTFD",
    "MHIM",
    "AdditiveABMIL",
    "Auxiliary",
    "BagNetwork",
    "BagOutput",
    "FeatureNetwork",
    "SamplingNetwork",
]
