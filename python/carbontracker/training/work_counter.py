"""Counts of what a training has done, as its loop tells them."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING

from carbontracker.conversion import as_number
from carbontracker.model.work import UNCOUNTED, UNITS, Work, is_count

if TYPE_CHECKING:
    from collections.abc import Iterator


class WorkCounter:
    """The work of the epoch that is open.

    A unit that was told once is counted from then on: a later epoch without it did none of it. An
    epoch before is not known.
    """

    def __init__(self) -> None:
        self._told: dict[str, float] = {}
        self._phases = 0
        """How many are open, such as a validation: what is told there is not the training's."""
        self.of_whole = UNCOUNTED
        """What is only known of the whole training, not of its epochs."""

    def begin(self) -> None:
        """Begin an epoch."""
        self._told = dict.fromkeys(self._told, 0.0)

    def add(self, tokens: object = None, samples: object = None, flops: object = None) -> None:
        """Add counts; None adds nothing. A count that cannot be makes the epoch's one unknown."""
        if self._phases:
            return
        for unit, given in zip(UNITS, (tokens, samples, flops), strict=True):
            if given is not None:
                self._told[unit] = self._told.get(unit, 0.0) + amount_of(given)

    @contextmanager
    def phase(self) -> Iterator[None]:
        """Ignore what is told inside."""
        self._phases += 1
        try:
            yield
        finally:
            self._phases -= 1

    def now(self) -> Work:
        """Return the work of the open epoch so far. For any thread."""
        return Work(**self._told)


def amount_of(given: object) -> float:
    """Return a count as a number, also of numpy or torch; NaN for what cannot be a count."""
    number = as_number(given)
    return float(number) if is_count(number) else math.nan
