"""Whole networks: from a batch to logits."""

from milforge.models.bag_network import BagNetwork
from milforge.models.feature_network import FeatureNetwork
from milforge.models.output import Auxiliary, BagOutput
from milforge.models.published.acmil import ACMIL
from milforge.models.published.additive_abmil import AdditiveABMIL
from milforge.models.published.clam import CLAM
from milforge.models.published.dsmil import DSMIL
from milforge.models.published.dtfd import DTFD
from milforge.models.published.ilra import ILRA
from milforge.models.published.mambamil import MambaMIL
from milforge.models.published.mhim import MHIM
from milforge.models.published.patch_gcn import PatchGCN
from milforge.models.published.rrt import RRT
from milforge.models.published.transformer import Transformer
from milforge.models.published.transmil import TransMIL
from milforge.models.published.wikg import WiKG
from milforge.models.sampling_network import SamplingNetwork

__all__ = [
    "ACMIL",
    "CLAM",
    "DSMIL",
    "DTFD",
    "ILRA",
    "MHIM",
    "RRT",
    "AdditiveABMIL",
    "Auxiliary",
    "BagNetwork",
    "BagOutput",
    "FeatureNetwork",
    "MambaMIL",
    "PatchGCN",
    "SamplingNetwork",
    "TransMIL",
    "Transformer",
    "WiKG",
]
