"""What the whole training will cost, from the epochs so far."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

Interval = tuple[float, float]
"""Lowest and highest value."""
UNKNOWN: Interval = (math.nan, math.nan)


@dataclass(frozen=True)
class Prediction:
    """The cost of all epochs, before PUE and intensity."""

    epochs: int
    """Epochs the prediction is for."""
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


def predict_mean(
    epochs: int, epoch_seconds: Sequence[float], epoch_joules: Sequence[float]
) -> Prediction:
    """Return the mean epoch times the number of epochs (the rule of arXiv:2007.03051, section 3).

    Args:
        epochs: how many there will be.
        epoch_seconds: duration of each finished epoch, s.
        epoch_joules: energy, J, of those that could be measured, which may be fewer.

    Raises:
        ValueError: no finished epoch.
    """
    done = len(epoch_seconds)
    if done == 0 or not epoch_joules:
        message = "a prediction needs at least one finished epoch"
        raise ValueError(message)
    return Prediction(
        epochs=epochs,
        after_epochs=done,
        seconds=epochs * math.fsum(epoch_seconds) / done,
        joules=epochs * math.fsum(epoch_joules) / len(epoch_joules),
        method="mean epoch",
    )
