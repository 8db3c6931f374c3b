"""Patterns that repeat or pass: warm-up, and what comes every k epochs."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from carbontracker.prediction.cells import SIGMA_OF_MAD

if TYPE_CHECKING:
    from collections.abc import Sequence


def warm_up(values: Sequence[float], counts: Sequence[int]) -> int:
    """Return how many of the first values to leave out, at most half of them.

    The marginal standard error rule (MSER; White 1997, doi:10.1177/003754979706900601): the cut
    that makes the squared standard error of the mean of the rest the smallest.
    """
    weight = total = square = 0.0
    best, best_cut = float("inf"), 0
    origin = values[-1] if values else 0.0  # differences keep the sums of squares exact
    for cut in range(len(values) - 1, -1, -1):
        value = values[cut] - origin
        weight += counts[cut]
        total += counts[cut] * value
        square += counts[cut] * value * value
        if cut > len(values) // 2:
            continue
        error = max(0.0, square - total * total / weight) / (weight * weight)
        if error <= best * (1 + 1e-6) + 1e-15:  # of equals, beyond rounding, the earliest
            best, best_cut = min(best, error), cut
    return best_cut


@dataclass(frozen=True)
class Extras:
    """What epochs hold beside their steps."""

    base: float
    """In every epoch."""
    bump: float = 0.0
    """More of it in some."""
    every: int = 0
    """In every so manieth; 0 if it does not repeat."""
    first: int = 0
    """The first epoch with it, from 1."""
    error: float = 0.0
    """Standard error of the mean of an epoch."""

    def of(self, epoch: int) -> float:
        """Return what to expect in this epoch, from 1."""
        due = self.every and epoch >= self.first and (epoch - self.first) % self.every == 0
        return self.base + (self.bump if due else 0.0)

    def between(self, first: int, last: int) -> float:
        """Return what to expect in these epochs, both included."""
        count = max(0, last - first + 1)
        due = 0
        if self.every and last >= self.first:
            due = (last - self.first) // self.every + 1
            if first > self.first:
                due -= (first - 1 - self.first) // self.every + 1
        return count * self.base + (due if count else 0) * self.bump


def extras_of(values: Sequence[float], scale: float, first: int = 1) -> Extras:
    """Return the pattern of what was seen in epochs ``first``, ``first + 1``, ...

    Args:
        values: one figure an epoch, not empty.
        scale: the size of an epoch; differences below 1.5 % of it are noise.
        first: number of the first of them.
    """
    middle = statistics.median_low(values)
    # Of the lower half: the upper one holds what comes every second epoch.
    spread = SIGMA_OF_MAD * statistics.median(
        [middle - value for value in values if value <= middle]
    )
    limit = middle + max(4.0 * spread, 0.1 * middle, 0.015 * scale)
    due = [first + index for index, value in enumerate(values) if value > limit]
    usual = [value for value in values if value <= limit]
    base = statistics.fmean(usual)
    error = (statistics.stdev(usual) / len(usual) ** 0.5) if len(usual) > 1 else 0.0
    if not due:
        return Extras(base, error=error)
    bump = statistics.fmean([value for value in values if value > limit]) - base
    every = _every(due, first + len(values) - 1)
    if every:
        return Extras(base, bump, every, due[0], error)
    one_off = len(due) == 1
    mean = base if one_off else base + bump * len(due) / len(values)
    return Extras(mean, error=max(error, bump * len(due) ** 0.5 / len(values)))


def _every(due: Sequence[int], last: int) -> int:
    """Return the distance of equally distant epochs, if the next is not overdue; else 0."""
    gaps = {b - a for a, b in pairwise(due)}
    # One alone at epoch k, with k more epochs to wait for the second: every k, as is usual.
    every = gaps.pop() if len(gaps) == 1 else due[0] if len(due) == 1 else 0
    return every if every > 1 and last < due[-1] + every and due[0] <= every else 0
