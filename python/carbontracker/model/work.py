"""What an energy was used for: counts of work, and figures for one unit of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeGuard

from carbontracker.json_values import mapping

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TOKENS, SAMPLES, FLOPS = UNITS = ("tokens", "samples", "flops")
"""What is counted: tokens and samples that were processed, and operations with numbers."""


MAX_COUNT = 1e30
"""Of a count: 10,000 times the operations of the largest trainings of 2025."""


class Quotient(NamedTuple):
    """A figure for one unit of work."""

    value: float
    """NaN if the figure or the work is not known, or no work was done."""
    error: float
    """95 % half-width from measuring alone: the work is taken as exact."""


@dataclass(frozen=True)
class Work:
    """How much was done. What was not counted is NaN, which is not zero."""

    tokens: float = math.nan
    samples: float = math.nan
    flops: float = math.nan
    """Floating point operations."""

    def __bool__(self) -> bool:
        """Return whether anything was counted."""
        return any(not math.isnan(getattr(self, unit)) for unit in UNITS)

    def or_else(self, other: Work) -> Work:
        """Return the counts, and those of ``other`` for what is not counted here."""
        return Work(*(b if math.isnan(a) else a for a, b in _pairs(self, other)))

    def times(self, ratio: float) -> Work:
        """Return ``ratio`` times the work."""
        return Work(*(getattr(self, unit) * ratio for unit in UNITS))

    def to_dict(self) -> dict[str, float]:
        """Return the JSON object of the record: what was counted, whole numbers without a point."""
        counts = {unit: getattr(self, unit) for unit in UNITS}
        return {
            unit: int(count) if count.is_integer() else count
            for unit, count in ((unit, float(count)) for unit, count in counts.items())
            if math.isfinite(count)
        }

    @classmethod
    def from_dict(cls, data: object) -> Work:
        """Return the work of such an object; what is missing or damaged becomes NaN."""
        given = mapping(data)
        return cls(*(_amount(given.get(unit)) for unit in UNITS))


UNCOUNTED = Work()


def add_in_turn(parts: Iterable[Work]) -> Work:
    """Return the work of parts that follow one another.

    A unit that was not counted in one part is not known of the whole.
    """
    return _summed(parts, math.fsum)


def add_beside(parts: Iterable[Work]) -> Work:
    """Return the work of processes beside each other.

    A process that did not count a unit adds nothing to it.
    """
    return _summed(parts, lambda counts: math.fsum(one for one in counts if not math.isnan(one)))


def _summed(parts: Iterable[Work], add: Callable[[list[float]], float]) -> Work:
    listed = list(parts)
    columns = ([getattr(part, unit) for part in listed] for unit in UNITS)
    return Work(*(math.nan if all(map(math.isnan, column)) else add(column) for column in columns))


def per_unit(figure: float, error: float, count: float) -> Quotient:
    """Return a figure for one unit of work."""
    if not count > 0:  # NaN, too
        return Quotient(math.nan, math.nan)
    return Quotient(figure / count, error / count)


def _pairs(one: Work, other: Work) -> list[tuple[float, float]]:
    return [(getattr(one, unit), getattr(other, unit)) for unit in UNITS]


def is_count(value: object) -> TypeGuard[float]:
    """Return whether a value can be a count of work."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return 0 <= value <= MAX_COUNT


def _amount(value: object) -> float:
    return float(value) if is_count(value) else math.nan
