"""What a previous run of the same training tells before and during the first epochs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

NAN = math.nan


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
        """Return the log of the first epoch over a later one; NaN if not known."""
        if not (self.first > 0 and self.later > 0):
            return NAN
        return math.log(self.first / self.later)


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
        """Return what finished epochs of a previous run tell; NaN joules were not measured.

        Raises:
            ValueError: no finished epoch.
        """
        if not epoch_seconds:
            message = f"the previous run {name} has no finished epoch"
            raise ValueError(message)
        return cls(name, _shape(epoch_seconds), _shape(epoch_joules), steps_per_epoch)


def _shape(values: Sequence[float]) -> Shape:
    known = [value for value in values[1:] if not math.isnan(value)]
    first = values[0] if values else NAN
    return Shape(first, math.fsum(known) / len(known) if known else NAN)
