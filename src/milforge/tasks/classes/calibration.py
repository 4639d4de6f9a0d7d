"""What is fitted on validation bags after training: a temperature and conformal thresholds."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Calibration:
    """A temperature, and a threshold for each class.

    Args:
        temperature: what logits are divided by, above 0 and finite.
        thresholds: of `1 - p` for each class, up to which the class is in the set of a bag;
            infinity where patients were too few. None: no sets.
        alpha: the share of patients whose set may miss the true class.
        part: the part of the run on which they were fitted.

    Raises:
        ValueError: for other numbers.
    """

    temperature: float
    thresholds: tuple[float, ...] | None
    alpha: float
    part: str

    def __post_init__(self) -> None:
        numbers = (self.temperature, self.alpha, *(self.thresholds or ()))
        if not all(isinstance(each, float) and each >= 0 for each in numbers):
            raise ValueError(f"expected a calibration of numbers of at least 0, got {numbers}")
        if not 0 < self.temperature < math.inf or not 0 < self.alpha < 1:
            raise ValueError(
                f"expected a temperature above 0 and alpha between 0 and 1, got "
                f"{self.temperature} and {self.alpha}"
            )

    def scaled(self, logits: Tensor) -> Tensor:
        """The logits divided by the temperature."""
        return logits / self.temperature

    def sets(self, probability: Tensor) -> Tensor:
        """`(B, C)` bool, the classes in the set of each bag; the probabilities are `(B, C)`."""
        thresholds = torch.tensor(self.thresholds, dtype=torch.float64, device=probability.device)
        return 1 - probability.double() <= thresholds

    def state(self) -> dict[str, Any]:
        """As plain data."""
        found = asdict(self)
        return {**found, "thresholds": None if self.thresholds is None else [*self.thresholds]}

    @classmethod
    def from_state(cls, state: Any, classes: int) -> Self | None:
        """What `state` gave; None of None.

        Raises:
            ValueError: where it is anything else, or of another number of classes.
        """
        if state is None:
            return None
        names = ("temperature", "thresholds", "alpha", "part")
        if not isinstance(state, Mapping) or set(state) != set(names):
            raise ValueError(f"expected a calibration with {', '.join(names)}, got {state!r:.100}")
        thresholds = state["thresholds"]
        if thresholds is not None:
            if not isinstance(thresholds, list) or len(thresholds) != classes:
                raise ValueError(
                    f"expected a threshold for each of {classes} classes, got {thresholds!r:.100}"
                )
            thresholds = tuple(thresholds)
        return cls(state["temperature"], thresholds, state["alpha"], str(state["part"]))
