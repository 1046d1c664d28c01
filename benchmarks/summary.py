"""From measured values to what a table says of them."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """The median of some measurements, and the smallest and largest of them."""

    median: float
    low: float
    high: float
    count: int

    @property
    def share(self) -> float:
        """Half the distance from low to high, as a share of the median."""
        return (self.high - self.low) / 2 / self.median if self.median else 0.0


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value."""
    return Spread(statistics.median(values), min(values), max(values), len(values))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` (0 to 1) of the values do not exceed."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)]


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The k of value = c x size^k that fits best: least squares of the logarithms. Two sizes at least."""
    return statistics.linear_regression([math.log(s) for s in sizes], [math.log(v) for v in values]).slope
