"""Steps in bounded memory: sums over cells that grow in length, without their outliers.

A cell keeps the sum of its steps with every outlier set to the median (the bulk), and apart from it
what that took away (the excess). So pauses and bursts, and the smaller last batch of an epoch,
neither spoil the level nor are they forgotten.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

BUFFER = 128
"""Steps that are folded at once."""
MOST_CELLS = 128
FIRST_SIZE = 2
"""Steps of a cell to begin with."""
MADS = 6.0
"""Scaled median absolute deviations from the median at which a step becomes an outlier."""
SHARE = 0.5
"""It is one only if it is also so far from the median, as a share of it."""
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
    """Sum of the values, outliers cut to the median."""
    excess: float = 0.0
    """What was cut off; less than nothing where outliers are cheap, like an incomplete batch."""
    outliers: int = 0
    largest: float = 0.0
    """The largest single excess."""


class Bounds(NamedTuple):
    """What a usual step costs, and how far from it one is an outlier."""

    middle: float = math.inf
    reach: float = math.inf


def known_of(values: Iterable[float]) -> list[float]:
    """Return the values that are not NaN."""
    return [value for value in values if not math.isnan(value)]


def bounds_of(values: list[float], usual: Bounds) -> Bounds:
    """Return the bounds that ``values`` give themselves; ``usual`` if they are few."""
    if len(values) < FEW:
        return usual
    middle = statistics.median(values)
    spread = SIGMA_OF_MAD * statistics.median([abs(value - middle) for value in values])
    return Bounds(middle, max(MADS * spread, SHARE * middle))


def cell_of(values: list[float], at: float, bounds: Bounds) -> Cell:
    """Return the cell of these known values."""
    if math.isinf(bounds.reach):
        return Cell(at, len(values), sum(values))
    apart = [value - bounds.middle for value in values if abs(value - bounds.middle) > bounds.reach]
    excess = sum(apart)
    return Cell(at, len(values), sum(values) - excess, excess, len(apart), max([0.0, *apart]))


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
        self._bounds = Bounds()

    def fold(self, values: list[float], first: float, length: float) -> None:
        """Add steps, the first of which begins at ``first``, each ``length`` epochs long."""
        known = known_of(values)
        self._bounds = bounds_of(known, self._bounds)
        self.cells += self._cut(values, first, length)
        if len(self.cells) > MOST_CELLS:
            self._size *= 2
            self.cells = fewer(self.cells, MOST_CELLS)

    def stretch(self, factor: float) -> None:
        """Multiply all times: the length of the first epoch has become known."""
        for cell in self.cells:
            cell.at *= factor

    def with_tail(self, values: list[float], first: float, length: float) -> list[Cell]:
        """Return the cells as they would be with these steps as well."""
        usual = self._bounds
        self._bounds = bounds_of(known_of(values), usual)
        try:
            return self.cells + self._cut(values, first, length)
        finally:
            self._bounds = usual

    def _cut(self, values: list[float], first: float, length: float) -> list[Cell]:
        cells = []
        for index in range(0, len(values), self._size):
            part = values[index : index + self._size]
            known = known_of(part)
            if known:
                at = first + (index + len(part) / 2) * length
                cells.append(cell_of(known, at, self._bounds))
        return cells


def fewer(cells: list[Cell], most: int) -> list[Cell]:
    """Join neighbours until at most so many are left: within epochs as far as that goes.

    The first epoch's are never joined with later ones, because it may be unlike them.
    """
    while len(cells) > most:
        halves = _halved(cells, across=False)
        cells = halves if len(halves) < len(cells) else _halved(cells, across=True)
    return cells


def _halved(cells: list[Cell], *, across: bool) -> list[Cell]:
    """Join each second cell with the one before it, where that is allowed."""
    halves: list[Cell] = []
    alone = False
    for cell in cells:
        if alone and _may_join(halves[-1], cell, across=across):
            halves[-1] = joined(halves[-1], cell)
            alone = False
        else:
            halves.append(cell)
            alone = True
    return halves


def _may_join(a: Cell, b: Cell, *, across: bool) -> bool:
    if across:
        return (a.at < 1.0) == (b.at < 1.0)
    return int(a.at) == int(b.at)
