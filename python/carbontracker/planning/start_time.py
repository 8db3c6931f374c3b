"""The best time to start, and ranks of regions: arithmetic without clock or network.

Times are seconds on the caller's clock; small ones keep their precision.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_COVERED_S = 1e-3
"""A window counts as covered if at most this much of it lies in gaps, s."""
_TIE = 1e-9
"""Relative difference below which two starts are equal."""


@dataclass(frozen=True)
class Start:
    """A start time and the mean intensity of the run."""

    t_s: float
    gco2eq_per_kwh: float


class IntensityCurve:
    """Intensity as a step function of time, with its integral.

    Args:
        slots: (begin, end, gCO2eq/kWh), s, in any order; a slot ends where the next one begins.
            Slots without a figure (NaN) or without length are gaps.
    """

    def __init__(self, slots: Iterable[tuple[float, float, float]]) -> None:
        known = sorted(slot for slot in slots if slot[1] > slot[0] and not math.isnan(slot[2]))
        nexts = (*(begin for begin, _, _ in known[1:]), math.inf)
        cut = [
            (begin, min(end, follows), figure)
            for (begin, end, figure), follows in zip(known, nexts, strict=False)
        ]
        table = np.array([slot for slot in cut if slot[1] > slot[0]], dtype=np.float64)
        self.begins_s, self.ends_s, figures = table.reshape(-1, 3).T
        # Start and end of every slot in turn: a gap lies between an end and the next start.
        self._knots_s = np.column_stack((self.begins_s, self.ends_s)).ravel()
        lengths = self.ends_s - self.begins_s
        self._covered_s = _integral(lengths)
        self._integral = _integral(lengths * figures)

    def mean(self, start_s: float, duration_s: float) -> float:
        """Return the mean intensity from ``start_s`` on for ``duration_s``, gCO2eq/kWh.

        NaN if the forecast does not cover it.
        """
        return float(self.means(np.array([start_s]), duration_s)[0])

    def means(self, starts_s: Floats, duration_s: float) -> Floats:
        """Return the same for each of ``starts_s``."""
        if not len(self._knots_s):
            return np.full(starts_s.shape, math.nan)
        missing = duration_s - self._between(self._covered_s, starts_s, duration_s)
        means = self._between(self._integral, starts_s, duration_s) / duration_s
        return np.where(missing <= _COVERED_S, means, math.nan)

    def _between(self, integral: Floats, starts_s: Floats, duration_s: float) -> Floats:
        after = np.interp(starts_s + duration_s, self._knots_s, integral)
        result: Floats = after - np.interp(starts_s, self._knots_s, integral)
        return result


def best_start(
    forecast: IntensityCurve, earliest_s: float, latest_s: float, duration_s: float
) -> Start | None:
    """Return the start from ``earliest_s`` to ``latest_s`` with the lowest mean intensity.

    The mean over a window that slides along a step function is linear while neither end crosses a
    step. So its minimum is at a start where an end crosses a step, or at the first or last start.
    Of equal starts the earliest is returned.

    Returns:
        None if the forecast covers no window.

    Raises:
        ValueError: the duration is not positive and finite.
    """
    if not (0 < duration_s < math.inf):
        raise ValueError(f"the duration must be positive and finite, got {duration_s!r} s")
    starts = np.concatenate(
        ([earliest_s, latest_s], forecast.begins_s, forecast.ends_s - duration_s)
    )
    starts = np.unique(starts[(starts >= earliest_s) & (starts <= latest_s)])
    means = forecast.means(starts, duration_s)
    if not np.isfinite(means).any():
        return None
    least = float(np.nanmin(means))
    first = int(np.argmax(means <= least + _TIE * abs(least)))
    return Start(float(starts[first]), float(means[first]))


def saved_share(here: float, there: float) -> float:
    """Return the share of ``here`` that ``there`` saves: negative if ``there`` is higher.

    NaN if ``here`` is not positive.
    """
    return 1 - there / here if here > 0 else math.nan


def ranks(intensities: Sequence[float], pues: Sequence[float]) -> list[int]:
    """Return the indices in order of intensity x PUE: grams per kWh of the machine.

    Unknown figures come last; equal ones keep their order.
    """
    products = np.asarray(intensities, dtype=np.float64) * np.asarray(pues, dtype=np.float64)
    return [int(index) for index in np.argsort(products, kind="stable")]


def _integral(steps: Floats) -> Floats:
    """Return the running sum at start and end of each step; equal across a gap."""
    after = np.cumsum(steps)
    return np.column_stack((after - steps, after)).ravel()
