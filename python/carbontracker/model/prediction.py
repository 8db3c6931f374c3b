"""What the whole training will cost, from the epochs so far."""

from __future__ import annotations

import math
from dataclasses import dataclass

Interval = tuple[float, float]
"""Lowest and highest value."""
UNKNOWN: Interval = (math.nan, math.nan)


@dataclass(frozen=True)
class Prediction:
    """The cost of all epochs, before PUE and intensity."""

    epochs: float
    """Epochs the prediction is for; the last may be a part of one."""
    after_epochs: float
    """Epochs it was made from; a fraction within one."""
    seconds: float
    joules: float
    """The machine's energy, J, without PUE; NaN if nothing was measured."""
    method: str
    """How it was made, in words."""
    seconds_80: Interval = UNKNOWN
    """The seconds lie within with a probability of 80 %; NaN if that is not known."""
    seconds_95: Interval = UNKNOWN
    joules_80: Interval = UNKNOWN
    joules_95: Interval = UNKNOWN
    done_seconds: float = 0.0
    """Part of ``seconds`` that is spent already."""
    done_joules: float = 0.0
    """Part of ``joules`` that is spent already."""
