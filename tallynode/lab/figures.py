"""Figures over runs, peers and seeds: the mean, exactly rounded, and how far it spreads."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


def mean(values: Iterable[float]) -> float:
    """The mean, the same in any order."""
    listed = list(values)
    return math.fsum(listed) / len(listed)


def mean_known(values: Iterable[float | None]) -> float | None:
    """The mean of those that are known; None where none is."""
    known = [value for value in values if value is not None]
    return mean(known) if known else None


@dataclass(frozen=True, slots=True)
class Figure:
    """A mean over seeds and its sample standard deviation; None of a single seed."""

    mean: float
    deviation: float | None

    @classmethod
    def over(cls, values: Sequence[float]) -> "Figure":
        """Sum the values of all seeds up."""
        return cls(mean(values), statistics.stdev(values) if len(values) > 1 else None)

    def text(self, scale: float = 1.0, digits: int = 1) -> str:
        """`72.4 ± 1.9`, both multiplied by `scale`."""
        mean = f"{self.mean * scale:.{digits}f}"
        return mean if self.deviation is None else f"{mean} ± {self.deviation * scale:.{digits}f}"
