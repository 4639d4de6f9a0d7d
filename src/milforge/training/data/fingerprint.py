"""What distinguishes one data set from another."""

import hashlib
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

import numpy as np
import torch

from milforge.data import LabelledDataset, Split, bag_sizes, set_epoch


def hash_parts(
    parts: Mapping[str, LabelledDataset[Any]], split: Split | None
) -> tuple[str, dict[str, dict[str, str]]]:
    """Hashes of the data set of a run, for which the first and last bag of each part are read.

    Args:
        parts: the bags of each part, by its name.
        split: the names of the bags of each part, where they were split by name.

    Returns:
        A hash of all bag labels and of the first and last bag of each part. And for each part
        hashes apart, so that one can say what differs: `bags`, the number and the names; `labels`;
        `sizes`, the numbers of instances, where they are known without reading; `features`, of the
        first and the last bag.
    """
    whole = sha256()
    apart: dict[str, dict[str, str]] = {}
    for name, bags in parts.items():
        ids = () if split is None else getattr(split, name)
        labels = b"" if bags.labels is None else bags.labels.numpy().tobytes()
        sizes = bag_sizes(bags)
        features = sha256()
        whole.update(f"{name} {len(bags)}".encode() + labels)
        for content in _ends(bags):
            whole.update(content)
            features.update(content)
        apart[name] = {
            "bags": _short(sha256("\n".join([str(len(bags)), *ids]).encode())),
            "labels": _short(sha256(labels)),
            "sizes": _short(
                sha256(b"" if sizes is None else np.asarray(sizes, np.int64).tobytes())
            ),
            "features": _short(features),
        }
    return _short(whole), apart


def _ends(bags: LabelledDataset[Any]) -> Iterator[bytes]:
    """The first and the last bag, as they are in the first epoch."""
    set_epoch(bags, 0)
    for bag in map(bags.__getitem__, (0, len(bags) - 1) if len(bags) else ()):
        for tensor in bag.content():
            # As bytes, because NumPy knows no bfloat16.
            yield tensor.flatten().view(torch.uint8).numpy().tobytes()


def _short(digest: "hashlib._Hash") -> str:
    return digest.hexdigest()[:16]
