"""What distinguishes one data set from another."""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch

from milforge.data import LabelledDataset, set_epoch


def fingerprint(parts: Mapping[str, LabelledDataset[Any]]) -> str:
    """A hash of the bag labels and of the first and last bag of each part.

    Args:
        parts: the bags of each part, by its name.
    """
    digest = hashlib.sha256()
    for name, bags in parts.items():
        set_epoch(bags, 0)
        digest.update(f"{name} {len(bags)}".encode())
        if bags.labels is not None:
            digest.update(bags.labels.numpy().tobytes())
        ends = (0, len(bags) - 1) if len(bags) else ()
        for bag in map(bags.__getitem__, ends):
            for tensor in bag.content():
                # As bytes, because NumPy knows no bfloat16.
                digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
