"""What distinguishes one data set from another."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from milforge.data import LabelledDataset, bag_sizes, set_epoch


def fingerprint(parts: Mapping[str, LabelledDataset[Any]]) -> str:
    """A hash of the bag labels and of the first and last bag of each part.

    Args:
        parts: the bags of each part, by its name.
    """
    digest = hashlib.sha256()
    for name, bags in parts.items():
        digest.update(f"{name} {len(bags)}".encode())
        if bags.labels is not None:
            digest.update(bags.labels.numpy().tobytes())
        for content in _ends(bags):
            digest.update(content)
    return digest.hexdigest()[:16]


def fingerprints(bags: LabelledDataset[Any], ids: Sequence[str] | None) -> dict[str, str]:
    """Hashes of what a run sees of a part, apart, so that one can say what differs.

    Args:
        bags: the bags of the part.
        ids: their names, where they were split by name.

    Returns:
        `bags`, the number and the names; `labels`; `sizes`, the numbers of instances, where they
        are known without reading; `features`, of the first and the last bag.
    """
    labels, sizes = bags.labels, bag_sizes(bags)
    names = "\n".join([str(len(bags)), *(ids or ())])
    return {
        "bags": _hash([names.encode()]),
        "labels": _hash([] if labels is None else [labels.numpy().tobytes()]),
        "sizes": _hash([] if sizes is None else [np.asarray(sizes, np.int64).tobytes()]),
        "features": _hash(_ends(bags)),
    }


def _ends(bags: LabelledDataset[Any]) -> Iterator[bytes]:
    """The first and the last bag, as they are in the first epoch."""
    set_epoch(bags, 0)
    for bag in map(bags.__getitem__, (0, len(bags) - 1) if len(bags) else ()):
        for tensor in bag.content():
            # As bytes, because NumPy knows no bfloat16.
            yield tensor.flatten().view(torch.uint8).numpy().tobytes()


def _hash(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]
