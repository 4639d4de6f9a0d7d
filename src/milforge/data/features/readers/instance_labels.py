"""Instance labels as 0, 1 and -1, whatever a file calls them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from milforge.data.faults import Fault, bag_error

UNKNOWN = -1
InstanceLabel = str | int


def as_values(
    positive: InstanceLabel | Sequence[InstanceLabel] | None,
) -> tuple[InstanceLabel, ...] | None:
    """One value or several, as several."""
    if positive is None:
        return None
    return (positive,) if isinstance(positive, str | int) else tuple(positive)


def map_instance_labels(
    values: NDArray[Any], positive: tuple[InstanceLabel, ...] | None, file: Path
) -> Tensor:
    """Instance labels as they are kept in a bag.

    Args:
        values: `(N,)` or `(N, 1)` numbers or words.
        positive: the values that mean positive; all others are negative, and -1 stays unknown,
            as does what is missing. None: the values are 0, 1 and -1 already.
        file: where they come from.

    Returns:
        `(N,)` int64, 0 or 1, -1 where unknown.

    Raises:
        BagError: where there are other values and `positive` does not say what they mean.

    Example:
        >>> map_instance_labels(np.array([0, 3, 2, -1]), (2, 3), Path("a.h5"))
        tensor([ 0,  1,  1, -1])
    """
    values = values.reshape(len(values))
    words = values.astype(str) if values.dtype.kind not in "biuf" else None
    missing = np.array([value is None or value != value for value in values.tolist()], bool)
    if positive is None:
        plain = np.array([], bool) if words is not None else np.isin(values, (0, 1, UNKNOWN))
        if words is not None or not plain.all():
            strange = values if words is not None else values[~plain]
            found = ", ".join(map(str, np.unique(strange)[:5].tolist()))
            raise bag_error(
                [
                    Fault(
                        "",
                        file,
                        f"expected instance labels 0, 1 or -1 (unknown), got {found}",
                        "name the positive ones by data.positive_instance_label",
                    )
                ]
            )
        return torch.from_numpy(values.astype(np.int64))
    if words is None:
        hits = np.isin(
            values, [number for number in map(_as_number, positive) if number is not None]
        )
        unknown = values == UNKNOWN
    else:
        hits = np.isin(words, list(map(str, positive)))
        unknown = np.isin(words, ("", str(UNKNOWN)))
    return torch.from_numpy(np.where(missing | (unknown & ~hits), UNKNOWN, hits).astype(np.int64))


def _as_number(value: InstanceLabel) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None
