"""The estimator that callers feed with steps and epochs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from carbontracker.model.prediction import Prediction
from carbontracker.prediction.cells import BUFFER, FEW, known_of
from carbontracker.prediction.interval import intervals, stage
from carbontracker.prediction.track import Plan, Remainder, Track

if TYPE_CHECKING:
    from collections.abc import Iterable

    from carbontracker.prediction.prior import Prior, Shape

STEP = "step"
"""The kind of an ordinary training step; every other kind is something beside the steps."""
BEFORE_SIGMA = 0.15
"""How far the whole of a run of the same training may differ, log, before anything is seen."""
DRIFTING = 0.8
"""Probability above which a drift is named."""


class Estimator:
    """Predicts the whole training from a part of it.

    Feed it finished epochs, and steps if there are marks. Either quantity may be NaN where it was
    not measured. Memory is bounded, and a step costs a microsecond on average; ``predict`` costs
    milliseconds, so ask once a second rather than once a step.

    Args:
        epochs: how many there will be, perhaps a fraction; assign ``epochs`` when the plan changes.
        steps_per_epoch: their number, which allows a prediction within the first epoch; else it
            is learned from the first.
        prior: a previous run of the same training.
    """

    def __init__(
        self, epochs: float, steps_per_epoch: int | None = None, prior: Prior | None = None
    ) -> None:
        if steps_per_epoch is None and prior is not None:
            steps_per_epoch = prior.steps_per_epoch
        self.epochs = epochs
        self.prior = prior
        self._steps_per_epoch = steps_per_epoch or 0
        self._finished = 0
        self._in_epoch = 0
        self._dearer = 1.0
        self._buffer: list[tuple[float, float]] = []
        self._seconds = Track(prior.seconds if prior else None)
        self._joules = Track(prior.joules if prior else None)

    def step(self, seconds: float, joules: float, kind: str = STEP) -> None:
        """Add a step; ``kind`` names what is no training step, like ``validation``."""
        if kind != STEP:
            self._seconds.add_extra(seconds)
            self._joules.add_extra(joules)
            return
        buffer = self._buffer
        buffer.append((seconds, joules))
        if len(buffer) >= BUFFER:
            self._fold()

    def add_steps(
        self, seconds: Iterable[float], joules: Iterable[float], kind: str = STEP
    ) -> None:
        """Add steps whose energies came together; the same as one ``step`` after the other."""
        for duration, energy in zip(seconds, joules, strict=True):
            self.step(float(duration), float(energy), kind)

    def epoch_started(self, steps: int | None = None) -> None:
        """Begin an epoch; ``steps`` if it has another number of them than those before."""
        if steps is not None and steps != self._steps_per_epoch:
            self._fold()
            # Half as many steps are half as many of twice the size, until the first of them tell.
            self._dearer = self._steps_per_epoch / steps if self._steps_per_epoch and steps else 1.0
            self._steps_per_epoch = steps

    def epoch_ended(self, seconds: float, joules: float) -> None:
        """End an epoch with its totals, which may hold more than its steps; NaN if not known."""
        self._fold()
        if self._in_epoch:
            if not self._steps_per_epoch:
                for track in (self._seconds, self._joules):
                    track.cells.stretch(BUFFER / self._in_epoch)
            self._steps_per_epoch = self._in_epoch
        self._seconds.end_epoch(seconds)
        self._joules.end_epoch(joules)
        self._finished += 1
        self._in_epoch = 0
        self._dearer = 1.0

    def predict(self) -> Prediction:
        """Return the cost of all epochs: what is done and what remains.

        Joules are NaN if none could be measured.

        Raises:
            ValueError: nothing is finished that a prediction could be made from.
        """
        plan = self._plan()
        if self.prior and not plan.finished and not plan.steps_per_epoch:
            return self._beforehand(self.prior)
        begin = self._now()
        tails = list(zip(*self._buffer, strict=True)) or [(), ()]
        seconds = self._seconds.remainder(plan, list(tails[0]), begin)
        done_seconds = self._seconds.done + _known_sum(tails[0])
        try:
            joules = self._joules.remainder(plan, list(tails[1]), begin)
        except ValueError:
            joules = Remainder(math.nan, math.nan)
        done_joules = self._joules.done + _known_sum(tails[1])
        done_joules += self._missing(plan, joules)
        with_steps = plan.steps_per_epoch > 0
        row = stage("seconds", plan.after_epochs, with_steps=with_steps)
        seconds_80, seconds_95 = intervals(done_seconds, seconds.value, seconds.sigma, row)
        row = stage("joules", plan.after_epochs, with_steps=with_steps)
        joules_80, joules_95 = intervals(done_joules, joules.value, joules.sigma, row)
        return Prediction(
            epochs=self.epochs,
            after_epochs=plan.after_epochs,
            seconds=done_seconds + seconds.value,
            joules=done_joules + joules.value,
            method=self._words(plan, joules if joules.value == joules.value else seconds),
            seconds_80=seconds_80,
            seconds_95=seconds_95,
            joules_80=joules_80,
            joules_95=joules_95,
            done_seconds=done_seconds,
            done_joules=done_joules,
        )

    def _plan(self) -> Plan:
        in_epoch = self._in_epoch + len(self._buffer)
        marked = in_epoch or self._seconds.cells.cells
        return Plan(
            self.epochs,
            self._steps_per_epoch if marked else 0,
            self._finished,
            in_epoch,
            self._dearer if in_epoch < FEW else 1.0,
        )

    def _fold(self) -> None:
        if not self._buffer:
            return
        seconds, joules = zip(*self._buffer, strict=True)
        begin, length = self._now(), 1 / (self._steps_per_epoch or BUFFER)
        self._seconds.fold(list(seconds), begin, length)
        self._joules.fold(list(joules), begin, length)
        self._in_epoch += len(self._buffer)
        self._buffer = []

    def _now(self) -> float:
        """Return the time of the last folded step, in epochs; if those are unknown, in buffers."""
        if not self._steps_per_epoch:
            return self._finished + self._in_epoch / BUFFER
        return self._finished + min(0.999, self._in_epoch / self._steps_per_epoch)

    def _missing(self, plan: Plan, rest: Remainder) -> float:
        """Return what was spent while nothing was measured, by the rate of what remains."""
        left = plan.steps_left if plan.steps_per_epoch else plan.epochs - plan.finished
        unknown = self._joules.unknown
        return unknown * rest.value / left if unknown and left > 0 else 0.0

    def _beforehand(self, prior: Prior) -> Prediction:
        def whole(shape: Shape) -> float:
            first = shape.later if math.isnan(shape.first) else shape.first
            later = shape.first if math.isnan(shape.later) else shape.later
            return first + max(0, self.epochs - 1) * later

        seconds, joules = whole(prior.seconds), whole(prior.joules)
        row = stage("joules", 1, with_steps=False)
        seconds_80, seconds_95 = intervals(0.0, seconds, BEFORE_SIGMA, row)
        joules_80, joules_95 = intervals(0.0, joules, BEFORE_SIGMA, row)
        return Prediction(
            epochs=self.epochs,
            after_epochs=0,
            seconds=seconds,
            joules=joules,
            method=f"previous run {prior.name}",
            seconds_80=seconds_80,
            seconds_95=seconds_95,
            joules_80=joules_80,
            joules_95=joules_95,
        )

    def _words(self, plan: Plan, rest: Remainder) -> str:
        parts = ["steps" if plan.steps_per_epoch else "epochs"]
        if rest.drift > DRIFTING:
            parts.append("drift")
        if rest.every:
            parts.append(f"more every {rest.every} epochs")
        if plan.steps_per_epoch and not plan.finished:
            parts.append("allowance for an epoch's end")
        if self._joules.unknown:
            parts.append(f"{self._joules.unknown} unmeasured filled in")
        if self.prior is not None and plan.finished < 2:
            parts.append(f"previous run {self.prior.name}")
        return ", ".join(parts)


def _known_sum(values: Iterable[float]) -> float:
    return math.fsum(known_of(values))
