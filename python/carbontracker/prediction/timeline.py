"""The predicted power over time, so that grams can be summed hour by hour."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from carbontracker.model.prediction import Prediction

MAX_S = 366 * 86_400.0
"""No service forecasts intensities beyond a year, and calendars end. The grams of a longer training
are those of one that takes so long, s."""


def joules_between(
    prediction: Prediction, start: datetime
) -> Callable[[datetime, datetime], float]:
    """Return the predicted joules between two moments of a training that began at ``start``.

    What is done is spread over the time it took, what remains over the time it will take: the two
    may differ in power. Outside the training nothing is spent. The parts add up to the whole.
    """
    done = timedelta(seconds=min(prediction.done_seconds, MAX_S))
    whole = timedelta(seconds=min(prediction.seconds, MAX_S))
    pieces = (
        (start, start + done, prediction.done_joules),
        (start + done, start + whole, prediction.joules - prediction.done_joules),
    )

    def between(a: datetime, b: datetime) -> float:
        total = 0.0
        for first, last, joules in pieces:
            if last > first:
                inside = min(b, last) - max(a, first)
                total += joules * max(0.0, inside / (last - first))
        return total

    return between
