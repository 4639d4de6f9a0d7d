"""What is known of a bag as a whole, as numbers that a network can use."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from milforge.data.labels import MISSING


class CovariateEncoder:
    """Columns of a label table as one vector per bag, scaled as in the training part.

    A column whose training values are all numbers becomes one number, `(x - mean) / std`, 0 where
    it is missing or constant. Any other column becomes one number for each value that it has in
    the training part: 1 where the bag has that value and 0 elsewhere. All of them are 0 where the
    value is missing, or did not occur in training.

    Args:
        columns: for each column its name, and either `mean` and `std` or `values`, as `state`
            returns them.

    Example:
        >>> encoder = CovariateEncoder.fit({"age": ["40", "60", ""], "stage": ["I", "II", "I"]})
        >>> encoder.names
        ('age', 'stage=I', 'stage=II')
        >>> encoder({"age": ["60"], "stage": ["III"]})
        tensor([[1., 0., 0.]])
    """

    def __init__(self, columns: Sequence[Mapping[str, Any]]) -> None:
        self.columns = [dict(column) for column in columns]

    @staticmethod
    def fit(columns: Mapping[str, Sequence[str]]) -> "CovariateEncoder":
        """The encoder with the statistics of these bags.

        Args:
            columns: name to the text of each bag of the training part.

        Raises:
            ValueError: for a column without any value.
        """
        found: list[dict[str, Any]] = []
        for name, texts in columns.items():
            known = [text.strip() for text in texts if text.strip().lower() not in MISSING]
            if not known:
                raise ValueError(
                    f"data.covariates: expected values of {name!r} in the training part, got none"
                )
            numbers = _numbers(known)
            if numbers is None:
                found.append({"name": name, "values": sorted(set(known))})
            else:
                # Rounding gives equal numbers a tiny deviation, by which others would be divided.
                std = float(numbers.std()) if np.ptp(numbers) > 0 else 0.0
                found.append({"name": name, "mean": float(numbers.mean()), "std": std})
        return CovariateEncoder(found)

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each number."""
        return tuple(
            each
            for column in self.columns
            for each in (
                [f"{column['name']}={value}" for value in column["values"]]
                if "values" in column
                else [column["name"]]
            )
        )

    def __call__(self, columns: Mapping[str, Sequence[str]]) -> Tensor:
        """The columns of some bags as numbers.

        Args:
            columns: name to the text of each bag; columns that `fit` did not see are ignored.

        Returns:
            `(n, C)` float32, one row per bag, its numbers in the order of `names`.

        Raises:
            ValueError: where a column is missing, or holds text where training had numbers.
        """
        parts: list[NDArray[np.float64]] = []
        for column in self.columns:
            name = column["name"]
            if name not in columns:
                raise ValueError(
                    f"data.covariates: expected the column {name!r}, which the model was trained "
                    f"with, got {', '.join(columns) or 'none'}"
                )
            texts = [text.strip() for text in columns[name]]
            if "values" in column:
                parts += [np.array([text == each for text in texts]) for each in column["values"]]
            else:
                parts.append(_standardised(name, texts, column["mean"], column["std"]))
        return torch.from_numpy(np.stack(parts, axis=1).astype(np.float32))

    def state(self) -> list[dict[str, Any]]:
        """The statistics as plain data for a checkpoint."""
        return self.columns


def num_covariates(stored: Mapping[str, Any]) -> int:
    """How many covariates of a bag the network of a checkpoint was built for.

    They come from columns of the label table, whose statistics it keeps, or with the bags.

    Args:
        stored: what the checkpoint keeps under `milforge`.
    """
    count = stored.get("num_covariates")  # earlier versions knew the columns alone
    return len(CovariateEncoder(stored["covariates"] or []).names) if count is None else int(count)


def _numbers(texts: Sequence[str]) -> NDArray[np.float64] | None:
    """The texts as finite numbers; None where one is none."""
    try:
        numbers = np.array([float(text) for text in texts])
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def _standardised(name: str, texts: Sequence[str], mean: float, std: float) -> NDArray[np.float64]:
    """The numbers of a column with mean 0 and deviation 1 in training; 0 where one is missing."""
    scaled = np.zeros(len(texts))
    for row, text in enumerate(texts):
        if text.lower() in MISSING:
            continue
        number = _numbers([text])
        if number is None:
            raise ValueError(
                f"data.covariates: expected numbers in the column {name!r}, as in training, got "
                f"{text!r}"
            )
        scaled[row] = (number[0] - mean) / std if std > 0 else 0.0
    return scaled
