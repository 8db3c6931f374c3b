"""Predictions of a training while it runs: the only place that asks for them."""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from carbontracker.address_space import check_room, start_thread
from carbontracker.energy.session import Mark
from carbontracker.guard import PREDICTION, nothing, optional
from carbontracker.model.prediction import Forecast
from carbontracker.prediction import Predictor
from carbontracker.prediction.carbon_interval import gram_interval, intensity_sigma
from carbontracker.prediction.predictor import STEP
from carbontracker.prediction.timeline import MAX_S, joules_between
from carbontracker.times import wall_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from carbontracker.model.epoch import Epoch
    from carbontracker.model.prediction import Prediction
    from carbontracker.prediction import Prior
    from carbontracker.training.plan import Plan
    from carbontracker.training.run import Run
    from carbontracker.training.steps import Block, Steps

NUMPY_BYTES = 2**28
"""Address space that loading numpy takes at most, and for each processor: OpenBLAS has a buffer of
32 MiB and a thread's stack there. Found by ``ulimit -v``."""
NUMPY_BYTES_PER_CPU = 2**26
UNITS = 128
"""At most so many pieces of an epoch are handed on, each of as many steps."""
RENEW_NS = 1_000_000_000
"""A prediction costs milliseconds: for budgets it is made no more often than this, ns."""


class Forecaster:
    """Predicts the cost of a whole training from what its run has measured so far."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.prior: Prior | None = None
        """What is known from a previous run of the same training."""
        self.ready = False
        """Whether what predictions need is loaded."""
        self.newest: Forecast | None = None
        """The newest forecast, whether listeners were notified of it or not."""
        self._made_ns = 0
        """When it was made, on CLOCK_MONOTONIC."""
        self._predictor: Predictor | None = None
        self._unit = 0
        """Steps in a piece; 0 before the first epoch with steps has ended."""
        self._epochs_added = 0
        """Epochs that were added to the predictor step by step."""

    def prepare(self, *, advise: bool) -> None:
        """Get ready for predictions, and for the advice that follows one, which needs numpy.

        If numpy cannot be loaded, there is one line and no prediction. It is not loaded at the
        end of the first epoch: a mark may come from a signal handler in the middle of that import,
        or from a forked child.
        """
        self.ready = not advise or optional(PREDICTION, _numpy_loaded, lambda _: False)

    def epoch_ended(self, epoch: Epoch, steps: Steps) -> None:
        """Add an epoch that had steps; the totals of the others are looked up when needed."""
        blocks = steps.blocks()
        if not any(block.steps for block in blocks):
            return
        if self._predictor is None:
            self._unit = _unit(steps.per_epoch or steps.done)
            self._predictor = self._new(steps, self._unit)
        self._add_steps(self._predictor, blocks, steps.done)
        totals = epoch.seconds, epoch.energy.joules
        self._predictor.epoch_ended(*totals, steps=steps.done / self._unit)
        self._epochs_added += 1

    def predict(self, plan: Plan) -> Forecast:
        """Return what the whole training will cost, from the finished epochs.

        Raises:
            ValueError: no epoch is finished, or the plan is in steps and none was marked.
        """
        self._made_ns = time.monotonic_ns()
        done = [epoch for epoch in self._run.epochs() if epoch.finished]
        self.newest = self._forecast(self._whole(plan, done), plan)
        return self.newest

    def predict_early(self, plan: Plan, steps: Steps) -> Forecast | None:
        """Return the same from steps of the first epoch so far; None without such steps."""
        if steps.expected is None or not any(block.steps for block in steps.blocks()):
            return None
        unit = _unit(steps.expected)
        predictor = self._new(steps, unit)
        if plan.steps is None:
            predictor.epochs = plan.epochs
        self._add_steps(predictor, steps.blocks(), steps.done, unit)
        self.newest = self._forecast(predictor.predict(), plan)
        return self.newest

    def renew(self, plan: Plan) -> None:
        """Predict for budgets, without notifying listeners; at most once a second.

        Raises:
            ValueError: no epoch is finished.
        """
        if self.newest is None or time.monotonic_ns() - self._made_ns >= RENEW_NS:
            self.predict(plan)

    def _whole(self, plan: Plan, done: Sequence[Epoch]) -> Prediction:
        predictor = self._predictor
        if predictor is None or self._epochs_added < len(done):
            # Epochs without steps, now and then or always: their totals count, as known now.
            predictor = Predictor(_epochs_of(plan, done), prior=self.prior)
            for epoch in done:
                predictor.epoch_ended(epoch.seconds, epoch.energy.joules)
        elif plan.steps is None:
            predictor.epochs = plan.epochs
        prediction = predictor.predict()
        if all(math.isnan(epoch.energy.joules) for epoch in done):
            # Else the finished epochs would be the result if nothing is left to predict.
            unknown = (math.nan, math.nan)
            return replace(
                prediction,
                joules=math.nan,
                joules_80=unknown,
                joules_95=unknown,
                done_joules=math.nan,
            )
        return prediction

    def _forecast(self, prediction: Prediction, plan: Plan) -> Forecast:
        """Return a prediction with its footprint, and how uncertain its grams are."""
        prediction = replace(prediction, steps=plan.steps or 0)
        # From the first epoch on: an hour of preparation is not part of the training.
        start = wall_time(self._run.first_epoch_mark.t_ns)
        end = start + timedelta(seconds=min(prediction.seconds, MAX_S))
        footprint = self._run.factors.footprint(joules_between(prediction, start), start, end)
        # Between joules and grams stand PUE and intensity; of the two only the latter may err.
        parts = [
            (slot.joules, replace(slot.intensity, start=slot.start, end=slot.end))
            for slot in footprint.slots
            if slot.end > slot.start
        ]
        sigma = intensity_sigma(parts, wall_time(time.monotonic_ns()))
        gco2eq_80, gco2eq_95 = (
            gram_interval(footprint.gco2eq, prediction.joules, of_joules, sigma, level)
            for of_joules, level in ((prediction.joules_80, 0.80), (prediction.joules_95, 0.95))
        )
        return Forecast(prediction, footprint, gco2eq_80, gco2eq_95)

    def _new(self, steps: Steps, unit: int) -> Predictor:
        per_epoch, planned = steps.per_epoch, steps.planned
        if planned is None:
            return Predictor(1, round(per_epoch / unit) if per_epoch else None, self.prior)
        whole = per_epoch / unit if per_epoch else None
        return Predictor(None, whole, self.prior, steps=planned / unit)

    def _add_steps(
        self, predictor: Predictor, blocks: Sequence[Block], done: int, unit: int = 0
    ) -> None:
        windows = [
            (Mark(None, False, block.start_ns), Mark(None, False, block.end_ns)) for block in blocks
        ]
        joules = [energy.joules for energy in self._run.session.energies(windows)]
        for seconds, energy, kind in pieces(blocks, joules, done, unit or self._unit):
            predictor.step(seconds, energy, kind)


def _numpy_loaded() -> bool:
    """Load numpy.

    Raises:
        RuntimeError: no thread can be made. The linear algebra of numpy makes some when it is
            loaded, and raises SIGINT in the user's program if it cannot.
        OSError: the address space has too little room for it, where it would end the process.
    """
    if "numpy" not in sys.modules:
        thread = threading.Thread(target=nothing)
        start_thread(thread)
        thread.join()
        check_room(NUMPY_BYTES + (os.cpu_count() or 1) * NUMPY_BYTES_PER_CPU)
    import numpy as np  # noqa: F401  # loading it is all

    return True


def pieces(
    blocks: Sequence[Block], joules: Sequence[float], done: int, unit: int
) -> Iterator[tuple[float, float, str]]:
    """Yield seconds, joules and kind of pieces of ``unit`` steps, and of every phase.

    Blocks are cut where a piece ends; what is left over at the end counts as a piece if it is at
    least half of one. Where blocks were dropped to make room, the rest stand for them.

    Args:
        blocks: consecutive ones of an epoch.
        joules: of each block, J.
        done: steps of the epoch so far.
        unit: steps of a piece, at least 1.
    """
    kept = sum(block.steps for block in blocks)
    scale = done / kept if kept else 1.0
    steps, seconds, energy = 0.0, 0.0, 0.0
    for block, block_joules in zip(blocks, joules, strict=True):
        block_seconds = (block.end_ns - block.start_ns) / 1e9
        if block.kind != STEP:
            yield block_seconds, block_joules, block.kind
            continue
        left = block.steps * scale
        per_step = block_seconds / block.steps, block_joules / block.steps
        while steps + left >= unit:
            taken = unit - steps
            yield seconds + taken * per_step[0], energy + taken * per_step[1], STEP
            steps, seconds, energy = 0.0, 0.0, 0.0
            left -= taken
        steps += left
        seconds += left * per_step[0]
        energy += left * per_step[1]
    if 2 * steps >= unit:
        yield seconds * unit / steps, energy * unit / steps, STEP


def _epochs_of(plan: Plan, done: Sequence[Epoch]) -> float:
    """Return the planned epochs; of a plan in steps, as many as there are at the pace so far.

    Raises:
        ValueError: the plan is in steps, and none was marked.
    """
    if plan.steps is None:
        return plan.epochs
    steps = sum(epoch.steps for epoch in done)
    if not steps:
        message = "max_steps is the length of the training, and step() was not called"
        raise ValueError(message)
    return max(len(done), plan.steps * len(done) / steps)


def _unit(per_epoch: int) -> int:
    return max(1, math.ceil(per_epoch / UNITS))
