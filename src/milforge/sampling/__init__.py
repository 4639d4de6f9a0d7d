"""Attention sampling: where to look in an image that is too large to be looked at."""

from milforge.sampling.attention_sampling import AttentionSampling, AttentionSamplingOutput
from milforge.sampling.entropy import MultinomialEntropy
from milforge.sampling.expectation import Expectation, expectation
from milforge.sampling.locations import sample_locations
from milforge.sampling.offsets import patch_offsets
from milforge.sampling.patches import extract_patches
from milforge.sampling.read import read_patches
from milforge.sampling.sample_patches import SamplePatches
from milforge.sampling.source import ImageSource
from milforge.sampling.tissue import Tissue, tissue_mask

__all__ = [
    "AttentionSampling",
    "AttentionSamplingOutput",
    "Expectation",
    "ImageSource",
    "MultinomialEntropy",
    "SamplePatches",
    "Tissue",
    "expectation",
    "extract_patches",
    "patch_offsets",
    "read_patches",
    "sample_locations",
    "tissue_mask",
]
