"""One quantity of a training, seconds or joules: what is done and what remains."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carbontracker.prediction.cells import (
    Bounds,
    Cell,
    Cells,
    bounds_of,
    cell_of,
    fewer,
    known_of,
)
from carbontracker.prediction.interval import LEAST_SIGMA
from carbontracker.prediction.level import MOST_POINTS, Cold, Point, level_ahead
from carbontracker.prediction.shape import Extras, extras_of, warm_up

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carbontracker.prediction.prior import Shape

MOST_EPOCHS = 256
"""Newest epochs that are looked at."""
ALLOWANCE = 0.065
"""What is expected beside the steps of an epoch before one has ended, as a share of its steps."""
ALLOWANCE_SIGMA = 0.05
WARM_UP_EPOCHS = 0.25
"""No warm-up lasts longer; what does is an approach."""
LITTLE = 0.015
"""Epochs that hold something beside their steps, but less than this, may hold more later."""
ROUNDING = 1e-6
"""A smaller share is none."""
UNSEEN = 0.03
"""What is expected of it at first, as a share of the steps."""
UNSEEN_EPOCHS = 5
"""After so many epochs it is expected no more."""
COLD_WITH_STEPS = 0.4
"""Probability that the first epoch is unlike the others also after its warm-up."""
COLD_WITHOUT_STEPS = 0.5
AS_BEFORE = 0.8
"""Probability that the first epoch is to the others as in the previous run: not where that one had
found the files in no cache, and this one finds them in memory."""
PRIOR_SIGMA = 0.03
"""How far runs of the same training differ in shape, log."""
RECURS = 1 / 3
"""Probability that what the first epoch's beginning cost more comes with every epoch, until the
second one shows."""


@dataclass(frozen=True)
class Plan:
    """Where the training stands and how long it will be."""

    epochs: float
    steps_per_epoch: int
    """0 if no steps are marked."""
    finished: int
    """Epochs."""
    in_epoch: int
    """Steps of the epoch that is open."""
    dearer: float = 1.0
    """How many times as much a step is expected to cost as those seen."""

    @property
    def after_epochs(self) -> float:
        """Return finished epochs, with the part of the open one where steps tell."""
        part = self.in_epoch / self.steps_per_epoch if self.steps_per_epoch else 0
        return self.finished + min(part, 0.999)

    @property
    def steps_left(self) -> float:
        """Return steps to come, the rest of the open epoch included."""
        rest = max(0, self.steps_per_epoch - self.in_epoch)
        return max(0.0, (self.epochs - self.finished - 1) * self.steps_per_epoch + rest)


@dataclass(frozen=True)
class Remainder:
    """What is to come."""

    value: float
    sigma: float
    """Standard deviation of its log."""
    drift: float = 0.0
    every: int = 0
    """Something comes every so many epochs; 0 if not."""


class Track:
    """Sums and cells of one quantity."""

    def __init__(self, shape: Shape | None) -> None:
        self.cells = Cells()
        self.done = 0.0
        """Of finished epochs and folded steps."""
        self.open = 0.0
        """Part of ``done`` in the epoch that is open."""
        self._steps = 0.0
        """Part of ``open`` in steps."""
        self.unknown = 0
        """Steps or epochs whose value is not known."""
        self._totals: deque[float] = deque(maxlen=MOST_EPOCHS)
        self._extras: deque[float] = deque(maxlen=MOST_EPOCHS)
        self._shape = shape

    def fold(self, values: list[float], first: float, length: float) -> None:
        """Add steps, of which the first begins at ``first`` and each lasts ``length`` epochs."""
        known = known_of(values)
        self.cells.fold(values, first, length)
        self.unknown += len(values) - len(known)
        total = math.fsum(known)
        self._steps += total
        self.open += total
        self.done += total

    def add_extra(self, value: float) -> None:
        """Add what is no step, in the epoch that is open."""
        if math.isnan(value):
            self.unknown += 1
        else:
            self.open += value
            self.done += value

    def end_epoch(self, total: float) -> None:
        """End the epoch that is open; NaN if its total is not known."""
        if math.isnan(total):
            total = self.open if self.open > 0 else math.nan
            self.unknown += math.isnan(total)
        if not math.isnan(total):
            self.done += total - self.open
            self._extras.append(max(0.0, total - self._steps))
        self._totals.append(total)
        self.open = self._steps = 0.0

    def remainder(self, plan: Plan, tail: list[float], begin: float) -> Remainder:
        """Return what is to come; ``tail`` are steps not folded yet, from time ``begin``.

        Raises:
            ValueError: nothing is known of this quantity.
        """
        length = 1 / plan.steps_per_epoch if plan.steps_per_epoch else 1.0
        cells = self.cells.with_tail(tail, begin, length)
        if cells and plan.steps_per_epoch:
            return self._of_steps(plan, cells)
        if known_of(self._totals):
            return self._of_epochs(plan)
        message = "a prediction needs at least one finished epoch, or steps and their number"
        raise ValueError(message)

    # ---- with steps ------------------------------------------------------------------------

    def _of_steps(self, plan: Plan, cells: list[Cell]) -> Remainder:
        cut = warm_up([_log(cell) for cell in cells], [cell.count for cell in cells])
        cut = max(cut, _leading_outliers(cells))
        cut = max(0, min(cut, sum(cell.at < WARM_UP_EPOCHS for cell in cells), len(cells) - 1))
        settled = cells[cut:]
        here = plan.finished + plan.in_epoch / plan.steps_per_epoch
        ahead = (here, max(here, float(plan.epochs)))
        found = level_ahead(_points(settled), ahead, self._cold(COLD_WITH_STEPS), single=False)
        step = math.exp(found.log) * plan.dearer
        steps = plan.steps_left * step
        more, more_error, every = self._extras_ahead(plan, step)
        if plan.in_epoch + plan.finished * plan.steps_per_epoch < 1.25 * plan.steps_per_epoch:
            again = (plan.epochs - max(1, plan.finished)) * _above(cells, settled, step)
            more += RECURS * again
            more_error = math.hypot(more_error, math.sqrt(RECURS * (1 - RECURS)) * again)
        rate, rate_error = _excess(settled, step)
        burst = plan.steps_left * rate
        value = max(0.0, steps + more + burst)
        variance = (steps * found.sigma) ** 2 + more_error**2 + (plan.steps_left * rate_error) ** 2
        sigma = math.sqrt(variance) / value if value > 0 else 0.0
        return Remainder(value, math.hypot(sigma, LEAST_SIGMA), found.drift, every)

    def _extras_ahead(self, plan: Plan, step: float) -> tuple[float, float, int]:
        """Return what is to come beside steps, its standard error, and its period in epochs."""
        epoch = step * plan.steps_per_epoch
        opened = self.open - self._steps
        if not self._extras:
            share, error = ALLOWANCE, ALLOWANCE_SIGMA
            if self._shape is not None and self._shape.extra_share == self._shape.extra_share:
                share, error = self._shape.extra_share, PRIOR_SIGMA
            left = max(0.0, plan.epochs - plan.finished)
            return max(0.0, share * epoch * left - opened), error * epoch * left, 0
        first = plan.finished - len(self._extras) + 1
        seen = extras_of(list(self._extras), epoch, first)
        current = max(0.0, seen.of(plan.finished + 1) - opened) if plan.in_epoch else None
        begun = plan.finished + (1 if current is None else 2)
        value = seen.between(begun, math.ceil(plan.epochs)) + (current or 0.0)
        left = max(0.0, plan.epochs - plan.finished)
        unseen = UNSEEN * epoch * max(0.0, 1 - len(self._extras) / UNSEEN_EPOCHS)
        if not ROUNDING < (seen.base + seen.bump) / epoch < LITTLE:
            unseen = 0.0
        error = math.hypot(seen.error, unseen, 0.3 * seen.base / len(self._extras))
        return value + left * unseen, left * error, seen.every

    def _cold(self, probability: float) -> list[Cold]:
        if self._shape is None or math.isnan(self._shape.log_first):
            return [Cold(probability)]
        again = Cold(1.0, AS_BEFORE, self._shape.log_first, PRIOR_SIGMA)
        return [again, Cold(probability, 1 - AS_BEFORE)]

    # ---- with epochs only ------------------------------------------------------------------

    def _of_epochs(self, plan: Plan) -> Remainder:
        totals = list(self._totals)
        first = plan.finished - len(totals)
        numbers = [first + index for index, value in enumerate(totals) if not math.isnan(value)]
        values = known_of(totals)
        seen = _bumps(values, numbers)
        if seen.every:
            bumps = [seen.of(number + 1) - seen.base for number in numbers]
            values = [value - bump for value, bump in zip(values, bumps, strict=True)]
        bounds = bounds_of(values[1:], Bounds())
        cells = [
            cell_of([value], number + 0.5, bounds)
            for number, value in zip(numbers, values, strict=True)
        ]
        left = max(0.0, plan.epochs - plan.finished)
        ahead = (float(plan.finished), float(max(plan.finished, plan.epochs)))
        points = _points(cells, single=True)
        found = level_ahead(points, ahead, self._cold(COLD_WITHOUT_STEPS), single=True)
        epoch = math.exp(found.log)
        more = seen.between(plan.finished + 1, math.ceil(plan.epochs)) if seen.every else 0.0
        more -= seen.base * left if seen.every else 0.0
        rate, rate_error = _excess(cells, epoch)
        value = max(0.0, left * (epoch + rate) + more)
        error = left * math.hypot(epoch * found.sigma, rate_error)
        sigma = error / value if value > 0 else 0.0
        return Remainder(value, math.hypot(sigma, LEAST_SIGMA), found.drift, seen.every)


def _bumps(values: Sequence[float], numbers: Sequence[int]) -> Extras:
    """Return what comes every k epochs, if three or more came so without a gap in the epochs."""
    whole = numbers[-1] - numbers[0] + 1 == len(numbers)
    later = 1 if numbers[0] == 0 and len(values) > 1 else 0  # the first is unlike the others
    if not whole or len(values) - later < 4:
        return Extras(0.0)
    seen = extras_of(values[later:], min(values), numbers[later] + 1)
    return seen if seen.every and numbers[-1] + 1 >= seen.first + seen.every else Extras(0.0)


def _log(cell: Cell) -> float:
    return math.log(max(cell.bulk / cell.count, 1e-12))


def _above(cells: Sequence[Cell], settled: Sequence[Cell], step: float) -> float:
    """Return what the cells that are not settled cost more than as many steps would."""
    warm = cells[: len(cells) - len(settled)]
    return max(0.0, sum(cell.bulk + cell.excess - cell.count * step for cell in warm))


def _leading_outliers(cells: Sequence[Cell]) -> int:
    """Return how many of the first cells hold outliers that belong to the warm-up."""
    for index, cell in enumerate(cells):
        if 2 * cell.outliers < cell.count and (index or not cell.outliers):
            return index
    return 0


def _points(cells: list[Cell], *, single: bool = False) -> list[Point]:
    """Return at most ``MOST_POINTS`` points of about equally many steps, with their white noise."""
    logs = [_log(cell) for cell in cells]
    apart = sorted((b - a) ** 2 * c.count for a, b, c in zip(logs, logs[1:], cells, strict=False))
    # Of one step: the smaller nine tenths of squared normal differences are 0.61 * 2 variances.
    usual = apart[: max(1, len(apart) * 9 // 10)]
    white = math.fsum(usual) / len(usual) / 1.22 if usual and not single else 0.0
    cells = fewer(cells, MOST_POINTS)
    return [
        Point(cell.at, _log(cell), white / cell.count + 1e-6, float(cell.at < 1.0))
        for cell in cells
    ]


def _excess(cells: list[Cell], step: float) -> tuple[float, float]:
    """Return the mean excess of a step by outliers and its standard error.

    One is taken for an accident, and the largest counts at most twice the second largest. So many
    as ``n`` stand for ``n / (n + 1)`` of what they say. But no step is cheap by accident: where
    they are, it is an epoch's incomplete last batch, which comes again, as large a part of a
    ``step`` of those to come as of those around it.
    """
    events = sum(cell.outliers for cell in cells)
    count = sum(cell.count for cell in cells)
    total = sum(cell.excess for cell in cells)
    if not events:
        return 0.0, 0.0
    if total < 0:
        parts = (cell.count * max(-1.0, cell.excess / cell.bulk) for cell in cells if cell.bulk > 0)
        rate = step * min(0.0, math.fsum(parts)) / count
        return rate, abs(rate) / math.sqrt(events)
    second, largest = sorted([0.0, *(cell.largest for cell in cells)])[-2:]
    trimmed = total - max(0.0, largest - 2 * second)
    rate = trimmed / count * events / (events + 1) if events > 1 else 0.0
    return rate, total / count / math.sqrt(events)
