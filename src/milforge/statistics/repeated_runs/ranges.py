"""The values that a metric can have."""

from typing import NamedTuple


class Range(NamedTuple):
    """The least and the largest value of a metric; None where there is no such limit."""

    low: float | None = None
    high: float | None = None

    def of_differences(self) -> "Range":
        """That of the difference of two values."""
        if self.low is None or self.high is None:
            return Range()
        return Range(self.low - self.high, self.high - self.low)
