"""How far the carbon intensity that a prediction was priced with may be from what will be.

Only what is known of figures of that kind, not of this very one:

* forecasts: mean absolute errors (MAPE) of CarbonX, which knows only past intensities: 9.59 % over
  13 grids, 16.54 % in the tail (Maji et al. 2025, arXiv:2510.01521). The published forecast of
  Great Britain missed by 7.1 % from 2017 to 2023
  (nickmp.com/posts/carbon-intensity-forecast-tracking). To which hours ahead these belong is our
  own reading;
* a figure of now, or of the same hour yesterday, used for later: 14 to 24 % after a day in Germany,
  Great Britain and France 2020 (our own replay of the data of Wiesner et al. 2021,
  doi:10.1145/3464298.3493399);
* an annual figure used for certain hours: two days differ by 17 to 24 % there, so each differs from
  the mean by at least 1/sqrt(2) of that, and seasons and the years since come on top. 30 % is our
  own choice between that and the range of a grid with much wind.

What publishers do not state, the error of measured figures and of emission factors, is not in it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from carbontracker.intensity.base import Intensity

SIGMA_OF_MAPE = math.sqrt(math.pi / 2)
"""Standard deviation of a normal error over its mean absolute value."""
FORECAST_MAPE = ((0.0, 0.071), (24.0, 0.096), (96.0, 0.165), (168.0, 0.20))
"""Hours ahead, and mean absolute error; straight lines between. The last is that of persistence."""
PERSISTENCE_MAPE = 0.20
ANNUAL_SIGMA = 0.30
ESTIMATED_SIGMA = SIGMA_OF_MAPE * 0.071
"""Of a figure that its publisher calls estimated, like a forecast of the present moment."""
Z = {0.80: 1.2816, 0.95: 1.9600}
"""Quantiles of the normal distribution, two-sided."""
SECONDS_PER_HOUR = 3600.0


def relative_sigma(kind: str, hours_ahead: float) -> float:
    """Return the relative standard deviation of a figure of this kind.

    Args:
        kind: one of ``carbontracker.intensity.KINDS``.
        hours_ahead: from now until the moment it is used for; negative in the past.

    Raises:
        ValueError: there is no such kind.
    """
    if kind == "constant":
        return 0.0  # the user's own word
    if kind == "missing":
        return math.inf  # nothing is known of it
    if kind == "annual":
        return ANNUAL_SIGMA
    if kind == "extrapolated":
        return SIGMA_OF_MAPE * PERSISTENCE_MAPE  # the same hour of another day
    if kind not in ("measured", "estimated", "forecast"):
        message = f"{kind!r} is no kind of carbon intensity"
        raise ValueError(message)
    if kind == "forecast":
        return SIGMA_OF_MAPE * _forecast_mape(hours_ahead)
    now = ESTIMATED_SIGMA if kind == "estimated" else 0.0
    later = SIGMA_OF_MAPE * PERSISTENCE_MAPE * min(1.0, max(0.0, hours_ahead) / 24.0)
    return math.hypot(now, later)


def _forecast_mape(hours_ahead: float) -> float:
    (at, value), *rest = FORECAST_MAPE
    if hours_ahead <= at:
        return value
    for next_at, next_value in rest:
        if hours_ahead <= next_at:
            return value + (next_value - value) * (hours_ahead - at) / (next_at - at)
        at, value = next_at, next_value
    return value


def intensity_sigma(parts: Sequence[tuple[float, Intensity]], now: datetime) -> float:
    """Return the relative standard deviation of grams that comes of the intensities.

    Errors of hours next to each other are alike, so they are added and not averaged out.

    Args:
        parts: joules and the figure they are priced with, as ``footprint`` takes them.
        now: when the prediction is made, aware.

    Returns:
        0 for no grams at all.
    """
    grams = [max(0.0, joules) * used.gco2eq_per_kwh for joules, used in parts]
    total = math.fsum(grams)
    if not total > 0:
        return 0.0
    errors = [
        part * relative_sigma(used.kind, _hours_ahead(used, now))
        for part, (_, used) in zip(grams, parts, strict=True)
    ]
    return math.fsum(errors) / total


def _hours_ahead(used: Intensity, now: datetime) -> float:
    """Return the hours from now to the middle of a slot; of an open one, to its known end."""
    ends = [moment for moment in (used.start, used.end) if moment is not None]
    seconds = [(moment - now).total_seconds() for moment in ends]
    return math.fsum(seconds) / len(seconds) / SECONDS_PER_HOUR if seconds else 0.0


def gram_interval(
    gco2eq: float, joules: float, of_joules: tuple[float, float], sigma: float, level: float
) -> tuple[float, float]:
    """Return the interval of predicted grams: errors of energy and intensity, independent.

    Args:
        gco2eq: the predicted grams.
        joules: the predicted energy.
        of_joules: its interval of the same level.
        sigma: relative standard deviation by the intensities, see ``intensity_sigma``.
        level: 0.80 or 0.95.

    Returns:
        Lowest and highest, gCO2eq; NaN if the energy or its interval is not known.
    """
    low, high = of_joules
    if not (0 < low <= joules <= high):
        return (math.nan, math.nan)
    priced = Z[level] * sigma
    below = math.hypot(math.log(joules / low), priced)
    above = math.hypot(math.log(high / joules), priced)
    return (gco2eq * math.exp(-below), gco2eq * math.exp(above))
