"""What a previous run of the same training tells before and during the first epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_LOG_FIRST = math.log(20.0)
"""A first epoch that differs more was an accident: the machine slept, or the record is odd."""


@dataclass(frozen=True)
class Shape:
    """One quantity (seconds or joules) of the epochs of a previous run; NaN where not known."""

    first: float
    """The first epoch."""
    later: float
    """Mean of the later ones."""

    @property
    def log_first(self) -> float:
        """Return the log of the first epoch over a later one; 0 if not known or not credible."""
        if not (self.first > 0 and self.later > 0):
            return 0.0
        log = math.log(self.first / self.later)
        return log if abs(log) <= MAX_LOG_FIRST else 0.0

    def whole(self, epochs: float) -> float:
        """Return the cost of so many epochs."""
        first = self.later if math.isnan(self.first) else self.first
        later = self.first if math.isnan(self.later) else self.later
        return first + max(0, epochs - 1) * later


@dataclass(frozen=True)
class Prior:
    """A previous run of the same training."""

    name: str
    """Its name in ``Prediction.method``."""
    seconds: Shape
    joules: Shape
    steps_per_epoch: int | None = None

    @classmethod
    def of_epochs(
        cls,
        name: str,
        epoch_seconds: Sequence[float],
        epoch_joules: Sequence[float],
        steps_per_epoch: int | None = None,
    ) -> Prior:
        """Return what the finished epochs of a previous run tell; what is not positive is unknown.

        Raises:
            ValueError: the run has no finished epoch.
        """
        if not any(seconds > 0 for seconds in epoch_seconds):
            message = f"the previous run {name} has no finished epoch"
            raise ValueError(message)
        return cls(name, _shape(epoch_seconds), _shape(epoch_joules), steps_per_epoch)


def _shape(values: Sequence[float]) -> Shape:
    first, *later = (value if value > 0 else math.nan for value in values)
    known = [value for value in later if not math.isnan(value)]
    return Shape(first, math.fsum(known) / len(known) if known else math.nan)
