"""Counts of what a training has done, as its loop tells them."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING

from carbontracker.conversion import as_number
from carbontracker.model.work import MAX_COUNT, UNCOUNTED, Work, is_count

if TYPE_CHECKING:
    from collections.abc import Iterator


class WorkCounter:
    """The work of the epoch that is open.

    A unit that was told once is counted from then on: a later epoch without it did none of it. An
    epoch before is not known.
    """

    __slots__ = ("_flops", "_phases", "_samples", "_tokens", "of_whole")

    def __init__(self) -> None:
        self._tokens: float | None = None
        """None until it is told for the first time; whole numbers are added exactly."""
        self._samples: float | None = None
        self._flops: float | None = None
        self._phases = 0
        """How many are open, such as a validation: what is told there is not the training's."""
        self.of_whole = UNCOUNTED
        """What is only known of the whole training, not of its epochs."""

    def begin(self) -> None:
        """Begin an epoch."""
        self._tokens = None if self._tokens is None else 0
        self._samples = None if self._samples is None else 0
        self._flops = None if self._flops is None else 0

    def add(
        self,
        tokens: float | None = None,
        samples: float | None = None,
        flops: float | None = None,
    ) -> None:
        """Add counts; None adds nothing. A count that cannot be makes the epoch's one unknown.

        Each step calls it: the units are written out, and a plain number is only compared.
        """
        if self._phases:
            return
        if tokens is not None:
            if type(tokens) is not int or not 0 <= tokens <= MAX_COUNT:
                tokens = amount_of(tokens)
            before = self._tokens
            self._tokens = tokens if before is None else before + tokens
        if samples is not None:
            if type(samples) is not int or not 0 <= samples <= MAX_COUNT:
                samples = amount_of(samples)
            before = self._samples
            self._samples = samples if before is None else before + samples
        if flops is not None:
            if type(flops) is not float or not 0 <= flops <= MAX_COUNT:
                flops = amount_of(flops)
            before = self._flops
            self._flops = flops if before is None else before + flops

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
        return Work(_known(self._tokens), _known(self._samples), _known(self._flops))


def amount_of(given: object) -> float:
    """Return a count as a number, also of numpy or torch; NaN for what cannot be a count."""
    number = as_number(given)
    return float(number) if is_count(number) else math.nan


def _known(count: float | None) -> float:
    return math.nan if count is None else float(count)
