"""What a previous run of the same training tells before and during the first epochs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

NAN = math.nan
MOST_LOG_FIRST = math.log(20.0)
"""What is further apart was an accident of that run: the machine slept, or the record is odd."""


@dataclass(frozen=True)
class Shape:
    """One quantity (seconds or joules) of the epochs of a previous run."""

    first: float = NAN
    """The first epoch."""
    later: float = NAN
    """Mean of the later ones; NaN where there was one only."""
    extra_share: float = NAN
    """What an epoch holds beside its steps (validation, checkpoints), over its steps; NaN if not
    known."""

    @property
    def log_first(self) -> float:
        """Return the log of the first epoch over a later one; NaN if not known or not credible."""
        if not (self.first > 0 and self.later > 0):
            return NAN
        log = math.log(self.first / self.later)
        return log if abs(log) <= MOST_LOG_FIRST else NAN


@dataclass(frozen=True)
class Prior:
    """A previous run of the same training."""

    name: str
    """How to call it in ``Prediction.method``."""
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
        """Return what finished epochs of a previous run tell; what is NaN or none is not known.

        Raises:
            ValueError: no finished epoch.
        """
        if not any(seconds > 0 for seconds in epoch_seconds):
            message = f"the previous run {name} has no finished epoch"
            raise ValueError(message)
        return cls(name, _shape(epoch_seconds), _shape(epoch_joules), steps_per_epoch)


def _shape(values: Sequence[float]) -> Shape:
    first, *later = (value if value > 0 else NAN for value in values)
    known = [value for value in later if not math.isnan(value)]
    return Shape(first, math.fsum(known) / len(known) if known else NAN)
