"""Carbon intensity from the generation mix of a grid, by ``fuel_factors.csv``.

Imports are not counted, which is wrong for small, highly connected grids; a note says so.
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
"""Not a fuel: its output has the intensity of the electricity that charged it."""
UNKNOWN = "unknown"
MAX_UNKNOWN = 0.2
"""Share of the output of unknown fuels above which there is no figure."""
MIN_OUTPUT = 0.5
"""Share of the last day's median output below which the answer lacks power stations."""
RECENT = timedelta(hours=24)

COLUMNS = {"lifecycle": "lifecycle_gco2eq_per_kwh", "direct": "direct_gco2_per_kwh"}
NOTE = "from the mix of the grid's own power stations; imports are not counted"


@dataclass(frozen=True)
class Mix:
    """Generation from ``start`` to ``end`` by fuel, in MW or MWh; one unit throughout."""

    start: datetime
    end: datetime
    output: Mapping[str, float]

    @property
    def total(self) -> float:
        """Return the total output; pumping and charging (negative) are not counted."""
        return math.fsum(max(value, 0.0) for value in self.output.values())


def intensities(mixes: Sequence[Mix], scope: str) -> list[tuple[Mix, float]]:
    """Return the mixes that give a figure, with their intensity, gCO2eq/kWh.

    A mix with more than 20 % of unknown fuels is left out, and one with less than half of the
    preceding day's median output: its power stations are not complete. Storage has the mean
    intensity of the preceding day.

    Args:
        mixes: in time order.
        scope: ``lifecycle`` or ``direct``.

    Raises:
        KeyError: the table has no such fuel.
    """
    known: list[tuple[Mix, float]] = []
    for mix in mixes:
        recent = [m.total for m in mixes if mix.start - RECENT <= m.start <= mix.start]
        total = mix.total
        storage = max(mix.output.get(STORAGE, 0.0), 0.0)
        generated = total - storage
        unknown = max(mix.output.get(UNKNOWN, 0.0), 0.0)
        if generated <= 0 or unknown > MAX_UNKNOWN * total or total < MIN_OUTPUT * median(recent):
            continue
        grams = math.fsum(
            max(value, 0.0) * factor(fuel, scope)
            for fuel, value in mix.output.items()
            if fuel != STORAGE
        )
        before = [g for m, g in known if m.start >= mix.start - RECENT]
        stored = math.fsum(before) / len(before) if before else grams / generated
        known.append((mix, (grams + storage * stored) / total))
    return known


def factor(fuel: str, scope: str) -> float:
    """Return the emissions of one kWh from ``fuel``, gCO2eq.

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
