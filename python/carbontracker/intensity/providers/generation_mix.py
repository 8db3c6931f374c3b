"""From what a grid's power stations produce to its carbon intensity, by ``fuel_factors.csv``.

Imports are left out, which is wrong for small, highly connected grids; the figures say so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from statistics import median
from typing import TYPE_CHECKING

from carbontracker.data import rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

STORAGE = "storage"
"""Not a fuel: what comes out of it is as dirty as what went in."""
UNKNOWN = "unknown"
MOST_UNKNOWN = 0.2
"""Share of the output from stations of unknown kind above which nothing can be said."""
LEAST_OUTPUT = 0.5
"""Share of the last day's median output below which stations are missing from the answer."""
RECENT = timedelta(hours=24)

COLUMNS = {"lifecycle": "lifecycle_gco2eq_per_kwh", "direct": "direct_gco2_per_kwh"}
NOTE = "from the mix of the grid's own power stations; imports are not counted"


@dataclass(frozen=True)
class Mix:
    """What was produced from ``start`` to ``end``, by fuel, in MW or MWh; one unit throughout."""

    start: datetime
    end: datetime
    output: Mapping[str, float]

    @property
    def total(self) -> float:
        """Return all that was produced; what is pumped or charged (negative) is left out."""
        return math.fsum(max(value, 0.0) for value in self.output.values())


def intensities(mixes: Sequence[Mix], scope: str) -> list[tuple[Mix, float]]:
    """Return those mixes of which something can be said, with their intensity, gCO2eq/kWh.

    Left out are those with more than 20 % of unknown origin, and those with less than half of the
    preceding day's median output, where stations must be missing. Storage counts with the mean
    intensity of the preceding day.

    Args:
        mixes: in time order.
        scope: ``lifecycle`` or ``direct``.

    Raises:
        KeyError: a fuel that the table has not.
    """
    known: list[tuple[Mix, float]] = []
    for mix in mixes:
        recent = [m.total for m in mixes if mix.start - RECENT <= m.start <= mix.start]
        total = mix.total
        storage = max(mix.output.get(STORAGE, 0.0), 0.0)
        burnt = total - storage
        unknown = max(mix.output.get(UNKNOWN, 0.0), 0.0)
        if burnt <= 0 or unknown > MOST_UNKNOWN * total or total < LEAST_OUTPUT * median(recent):
            continue
        grams = math.fsum(
            max(value, 0.0) * factor(fuel, scope)
            for fuel, value in mix.output.items()
            if fuel != STORAGE
        )
        before = [g for m, g in known if m.start >= mix.start - RECENT]
        stored = math.fsum(before) / len(before) if before else grams / burnt
        known.append((mix, (grams + storage * stored) / total))
    return known


def factor(fuel: str, scope: str) -> float:
    """Return what a kWh from ``fuel`` emits, gCO2eq.

    Raises:
        KeyError: the table has no such fuel, or no figure of that scope for it.
    """
    return _factors()[fuel, scope]


@cache
def _factors() -> dict[tuple[str, str], float]:
    return {
        (row["fuel"], scope): float(row[column])
        for row in rows("fuel_factors")
        for scope, column in COLUMNS.items()
        if row[column]
    }
