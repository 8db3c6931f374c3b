"""Steps in bounded memory: sums over cells that grow in length, without their outliers.

A cell keeps the sum of its steps with every outlier cut to a limit (the bulk), and apart from it
what was cut off (the excess). So pauses and bursts neither spoil the level nor are they forgotten.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

BUFFER = 128
"""Steps that are folded at once."""
MOST_CELLS = 128
FIRST_SIZE = 4
"""Steps of a cell to begin with."""
MADS = 6.0
"""Scaled median absolute deviations from the median at which a step becomes an outlier."""
SHARE = 0.5
"""It is one only if it is also so far above the median, as a share of it."""
SIGMA_OF_MAD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""
FEW = 8
"""Fewer values than these judge no outliers of their own."""


@dataclass
class Cell:
    """Consecutive steps of one kind, one quantity."""

    at: float
    """Middle, in epochs from the beginning of the training."""
    count: int
    """Steps whose value is known."""
    bulk: float
    """Sum of the values, outliers cut to the limit."""
    excess: float = 0.0
    """What was cut off."""
    outliers: int = 0
    largest: float = 0.0
    """The largest single excess."""


def limit_of(values: list[float], usual: float) -> float:
    """Return the value above which one of ``values`` is an outlier; ``usual`` if they are few."""
    if len(values) < FEW:
        return usual
    middle = statistics.median(values)
    spread = SIGMA_OF_MAD * statistics.median([abs(value - middle) for value in values])
    return middle + max(MADS * spread, SHARE * middle)


def cell_of(values: list[float], at: float, limit: float) -> Cell:
    """Return the cell of these known values."""
    over = [value - limit for value in values if value > limit]
    excess = sum(over)
    return Cell(at, len(values), sum(values) - excess, excess, len(over), max(over, default=0.0))


def joined(a: Cell, b: Cell) -> Cell:
    """Return two neighbours as one."""
    count = a.count + b.count
    return Cell(
        at=(a.at * a.count + b.at * b.count) / count,
        count=count,
        bulk=a.bulk + b.bulk,
        excess=a.excess + b.excess,
        outliers=a.outliers + b.outliers,
        largest=max(a.largest, b.largest),
    )


class Cells:
    """All steps so far of one quantity, in at most ``MOST_CELLS`` cells."""

    def __init__(self) -> None:
        self.cells: list[Cell] = []
        self._size = FIRST_SIZE
        self._limit = float("inf")

    def fold(self, values: list[float], first: float, length: float) -> None:
        """Add steps, the first of which begins at ``first``, each ``length`` epochs long."""
        known = [value for value in values if value == value]  # NaN is not itself
        self._limit = limit_of(known, self._limit)
        self.cells += self._cut(values, first, length)
        while len(self.cells) > MOST_CELLS:
            self._size *= 2
            self.cells = _halved(self.cells)

    def with_tail(self, values: list[float], first: float, length: float) -> list[Cell]:
        """Return the cells as they would be with these steps as well."""
        usual = self._limit
        self._limit = limit_of([value for value in values if value == value], usual)
        try:
            return self.cells + self._cut(values, first, length)
        finally:
            self._limit = usual

    def _cut(self, values: list[float], first: float, length: float) -> list[Cell]:
        cells = []
        for index in range(0, len(values), self._size):
            part = values[index : index + self._size]
            known = [value for value in part if value == value]
            if known:
                at = first + (index + len(part) / 2) * length
                cells.append(cell_of(known, at, self._limit))
        return cells


def _halved(cells: list[Cell]) -> list[Cell]:
    """Join neighbours, but never the first epoch's with later ones: it may be unlike them."""
    halves: list[Cell] = []
    alone = True
    for cell in cells:
        if alone or (halves[-1].at < 1.0 <= cell.at):
            halves.append(cell)
            alone = False
        else:
            halves[-1] = joined(halves[-1], cell)
            alone = True
    return halves
