"""Predicts what a whole training costs, from the steps and epochs so far.

What is done is known. What remains is the steps to come times the mean step, plus what epochs hold
beside their steps:

* **Mean step**: of all epochs so far. The first epoch is often dearer than the others (compiling,
  an empty cache). Its first quarter is left out. Once others are known, it counts less the dearer
  it was.
* **Pauses**: steps that cost much more than the median are kept apart. The largest pause is not
  expected again; all others are, at the same rate.
* **Beside the steps** (validation, checkpoints): the mean of the epochs so far. What came every k
  epochs comes every k epochs. Before any of it was seen, an allowance stands for it.

Without step marks an epoch is one step. Seconds and joules are predicted by the same code.
``docs/prediction.md`` shows what each part earns.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from carbontracker.model.prediction import Prediction, as_epochs
from carbontracker.prediction.intervals import intervals

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from carbontracker.prediction.prior import Prior, Shape

STEP = "step"
"""The kind of a training step; every other kind is something beside the steps."""
MAX_PIECES = 128
"""Pieces that are kept of the open epoch. When they are full, neighbours are joined."""
MAX_EPOCHS = 256
"""Newest epochs that are kept."""
WARM_UP = 0.25
"""Part of the first epoch that is left out, at most half of what was seen of it."""
ENOUGH = 0.25
"""Part of an epoch that is enough to know what its steps cost."""
COLD = 0.14
"""A first epoch that cost so much more than the others (relative) does not count."""
PAUSE = 1.5
"""A piece whose steps cost so many times the median holds a pause."""
ALLOWANCE = 0.065
"""What an epoch holds beside its steps, before it is known, as a share of its steps."""
ALLOWANCE_EPOCHS = 5
"""The allowance fades within so many epochs that held less than ``LITTLE``."""
LITTLE = 0.015
"""A smaller share of the steps is not a validation."""
ROUNDING = 1e-6
"""A smaller share of the steps is a rounding error."""
OCCASIONAL = 0.04
"""An epoch holds something occasional if it holds so much more beside its steps than the least,
as a share of its steps."""
SIMILAR = 1.25
"""Largest ratio between the numbers of steps of epochs whose steps are alike."""
AS_BEFORE = 0.8
"""How far the first epoch is expected to differ from the others as in the previous run, 0 to 1."""


class _Epoch(NamedTuple):
    """What is kept of an epoch: one quantity, J or s."""

    number: int
    """From 1."""
    steps: int
    counted: float
    """Steps with a known cost, without the warm-up."""
    step: float
    """Their mean cost, without pauses."""
    pauses: float = 0.0
    """Cost of all pauses."""
    largest_pause: float = 0.0
    beside: float = 0.0
    """Cost of what the epoch held beside its steps."""


class _OpenEpoch:
    """The steps of the running epoch, in at most ``MAX_PIECES`` pieces of equal length."""

    def __init__(self) -> None:
        self.steps = self.missing = 0
        self.cost = self.beside = 0.0
        self._pieces: list[tuple[int, float]] = []
        """Number of steps with a known cost, and that cost."""
        self._size = 1

    def add(self, cost: float) -> None:
        """Add a step; NaN if its cost is not known."""
        if self.steps % self._size == 0:
            if len(self._pieces) == MAX_PIECES:
                pairs = zip(self._pieces[::2], self._pieces[1::2], strict=True)
                self._pieces = [(a + c, b + d) for (a, b), (c, d) in pairs]
                self._size *= 2
            self._pieces.append((0, 0.0))
        self.steps += 1
        if math.isnan(cost):
            self.missing += 1
            return
        count, total = self._pieces[-1]
        self._pieces[-1] = count + 1, total + cost
        self.cost += cost

    def summary(self, number: int, steps_per_epoch: float, beside: float = 0.0) -> _Epoch | None:
        """Return what to keep of the epoch; None if no step is known."""
        warm_up = min(WARM_UP * steps_per_epoch, self.steps / 2) if number == 1 else 0.0
        settled = self._pieces[min(math.ceil(warm_up / self._size), len(self._pieces) - 1) :]
        known = [piece for piece in settled if piece[0]]
        if not known:
            return None
        median = sorted(cost / count for count, cost in known)[(len(known) - 1) // 2]
        pauses = [cost - count * median for count, cost in known if cost > PAUSE * count * median]
        counted = sum(count for count, _ in known)
        all_pauses = math.fsum(pauses)
        step = (math.fsum(cost for _, cost in known) - all_pauses) / counted
        largest = max(pauses, default=0.0)
        return _Epoch(number, self.steps, counted, step, all_pauses, largest, beside)


class _Remaining(NamedTuple):
    """What is to come of one quantity."""

    cost: float
    step: float
    """The mean step."""
    every: int
    """Something comes every so many epochs; 0 if not."""


class _Quantity:
    """Joules or seconds of a training: what is done, and what remains."""

    def __init__(self, previous: Shape | None) -> None:
        self.open = _OpenEpoch()
        self.missing = 0.0
        """Steps (epochs, where steps are not marked) of finished epochs that were not measured."""
        self._finished = 0
        self._finished_cost = 0.0
        self._epochs: deque[_Epoch] = deque(maxlen=MAX_EPOCHS)
        self._previous = previous

    @property
    def done(self) -> float:
        """Return what was measured so far."""
        return self._finished_cost + self.open.cost + self.open.beside

    def end_epoch(self, total: float, steps_per_epoch: float, steps: float | None) -> None:
        """End the open epoch; NaN if its total is not known.

        Args:
            total: its cost.
            steps_per_epoch: steps of a whole epoch.
            steps: its own, if they are not those that were added.
        """
        ended, self.open = self.open, _OpenEpoch()
        self._finished += 1
        known = ended.steps - ended.missing
        if math.isnan(total):
            total = ended.cost + ended.beside
            self.missing += ended.missing if ended.steps else steps_per_epoch
            epoch = ended.summary(self._finished, steps_per_epoch, ended.beside)
        elif known:
            beside = max(0.0, total - ended.cost * (steps or ended.steps) / known)
            epoch = ended.summary(self._finished, steps_per_epoch, beside)
        else:  # no step is marked, or none was measured
            step = max(0.0, total - ended.beside) / steps_per_epoch
            sizes = (round(steps_per_epoch), float(steps_per_epoch))
            epoch = _Epoch(self._finished, *sizes, step, beside=ended.beside)
        self._finished_cost += total
        if epoch is not None:
            self._epochs.append(epoch)

    def remaining(
        self, epochs: float, steps_per_epoch: float, *, alike: bool = False
    ) -> _Remaining | None:
        """Return what is to come until ``epochs`` are done; None if nothing is known.

        Args:
            epochs: planned ones, counted by their beginnings.
            steps_per_epoch: steps of a whole epoch.
            alike: whether steps are alike however many an epoch has.
        """
        seen = self._seen(steps_per_epoch, alike=alike)
        if not seen:
            return None
        step = self._mean_step(seen, steps_per_epoch)
        left = max(0.0, epochs - self._finished)
        steps = (left - 1) * steps_per_epoch + max(0, steps_per_epoch - self.open.steps)
        beside, every = self._beside(epochs, step * steps_per_epoch)
        cost = max(0.0, steps) * step + max(0.0, beside - self.open.beside)
        return _Remaining(cost, step, every)

    def _seen(self, steps_per_epoch: float, *, alike: bool) -> list[_Epoch]:
        """Return the epochs whose number of steps is close to ``steps_per_epoch``, or all."""
        least, most = steps_per_epoch / SIMILAR, steps_per_epoch * SIMILAR
        if alike:
            least, most = 0.0, math.inf
        seen = [epoch for epoch in self._epochs if least <= epoch.steps <= most]
        now = self.open.summary(self._finished + 1, steps_per_epoch)
        seen += [now] if now else []
        if not self._epochs or sum(epoch.counted for epoch in seen) >= ENOUGH * steps_per_epoch:
            return seen
        # The number of steps has just changed: half as many are expected to cost twice as much.
        return [
            epoch._replace(counted=steps_per_epoch, step=epoch.step * epoch.steps / steps_per_epoch)
            for epoch in self._epochs
        ]

    def _mean_step(self, seen: Sequence[_Epoch], steps_per_epoch: float) -> float:
        """Return what a step to come costs on average, pauses included."""
        first, weights = seen[0], [epoch.counted for epoch in seen]
        others_known = sum(weights[1:]) >= ENOUGH * steps_per_epoch
        if first.number == 1 and others_known:
            others = _mean([epoch.step for epoch in seen[1:]], weights[1:])
            if first.step > others > 0:
                weights[0] *= max(0.0, 1 - (first.step / others - 1) / COLD)
        step = _mean([epoch.step for epoch in seen], weights)
        if first.number == 1 and not others_known and self._previous is not None:
            step *= math.exp(-AS_BEFORE * self._previous.log_first)
        pauses = [epoch.pauses / epoch.counted for epoch in seen]
        largest = max(epoch.largest_pause for epoch in seen)
        return step + max(0.0, _mean(pauses, weights) - largest / sum(weights))

    def _beside(self, epochs: float, epoch_cost: float) -> tuple[float, int]:
        """Return what all epochs to come hold beside their steps, and its period in epochs.

        Args:
            epochs: planned ones.
            epoch_cost: cost of the steps of one.
        """
        left = max(0.0, epochs - self._finished)
        if not self._epochs:
            return ALLOWANCE * epoch_cost * left, 0
        beside = {epoch.number: epoch.beside for epoch in self._epochs}
        mean = _mean(list(beside.values()))
        limit = min(beside.values()) + OCCASIONAL * epoch_cost
        due = [number for number, cost in beside.items() if cost > limit]
        if not due and ROUNDING * epoch_cost < mean < LITTLE * epoch_cost:
            mean += ALLOWANCE * epoch_cost * max(0.0, 1 - len(beside) / ALLOWANCE_EPOCHS)
        every = min((b - a for a, b in pairwise(due)), default=due[0] if due else 0)
        if every < 2 or due != [number for number in beside if (number - due[0]) % every == 0]:
            return mean * left, 0
        usual = _mean([cost for number, cost in beside.items() if number not in due])
        more = _mean([beside[number] for number in due]) - usual
        times = (math.floor(epochs) - due[0]) // every - (self._finished - due[0]) // every
        return usual * left + more * max(0, times), every


class Predictor:
    """Predicts the whole training from a part of it.

    Add finished epochs, and steps if they are marked. Either quantity may be NaN where it was not
    measured. Memory is bounded. A step costs about a microsecond, ``predict`` less than a
    millisecond.

    Args:
        epochs: how many are planned, perhaps a fraction; assign ``epochs`` when the plan changes.
        steps_per_epoch: how many steps an epoch has, which allows a prediction within the first
            one; otherwise it is learned from the first.
        prior: a previous run of the same training.
        steps: how many steps are planned in all. Without ``epochs`` they are the plan: an epoch
            may then have fewer than ``steps_per_epoch``, such as one that was resumed in its
            middle, and steps cost the same in each.

    Raises:
        ValueError: neither epochs nor steps are planned.
    """

    def __init__(
        self,
        epochs: float | None = None,
        steps_per_epoch: float | None = None,
        prior: Prior | None = None,
        *,
        steps: float | None = None,
    ) -> None:
        if epochs is None and steps is None:
            message = "a prediction needs a plan: epochs, steps or both"
            raise ValueError(message)
        self._whole_epoch = steps_per_epoch if epochs is None else None
        """Steps of a whole epoch, if the plan is in steps and they are known."""
        if steps_per_epoch is None and steps is not None:
            # A plan in steps alone is one epoch until the first epoch has ended.
            steps_per_epoch = max(1, round(steps / (epochs or 1)))
        if steps_per_epoch is None and prior is not None:
            steps_per_epoch = prior.steps_per_epoch
        self.prior = prior
        self._planned_epochs, self._planned_steps = epochs, steps or 0
        self._steps_per_epoch: float = steps_per_epoch or 0
        self._finished = self._open_steps = 0
        self._finished_steps = 0.0
        self._seconds = _Quantity(prior.seconds if prior else None)
        self._joules = _Quantity(prior.joules if prior else None)

    @property
    def epochs(self) -> float:
        """Planned epochs; for a plan in steps alone, as many as these steps make."""
        if self._planned_epochs is not None:
            return self._planned_epochs
        return as_epochs(self._planned_steps / self._steps_per_epoch)

    @epochs.setter
    def epochs(self, epochs: float) -> None:
        self._planned_epochs = epochs

    def step(self, seconds: float, joules: float, kind: str = STEP) -> None:
        """Add a step; ``kind`` names what is not a training step, like ``validation``."""
        if kind == STEP:
            self._open_steps += 1
            self._seconds.open.add(seconds)
            self._joules.open.add(joules)
            return
        for quantity, cost in ((self._seconds, seconds), (self._joules, joules)):
            quantity.open.beside += 0.0 if math.isnan(cost) else cost

    def add_steps(
        self, seconds: Iterable[float], joules: Iterable[float], kind: str = STEP
    ) -> None:
        """Add steps whose energies came together; the same as one ``step`` after the other."""
        for duration, energy in zip(seconds, joules, strict=True):
            self.step(float(duration), float(energy), kind)

    def epoch_started(self, steps: int | None = None) -> None:
        """Begin an epoch; ``steps`` if it has another number of them than those before."""
        self._steps_per_epoch = steps or self._steps_per_epoch

    def epoch_ended(self, seconds: float, joules: float, steps: float | None = None) -> None:
        """End an epoch with its totals, which may hold more than its steps; NaN if not known.

        Args:
            seconds: its length, s.
            joules: its energy, J.
            steps: how many it had, if ``step`` was not called once for each.
        """
        done = self._open_steps if steps is None else steps
        if self._planned_epochs is not None:
            self._steps_per_epoch = self._open_steps or self._steps_per_epoch
        elif self._whole_epoch is None:
            # The first and the last epoch may be parts of one.
            self._steps_per_epoch = max(done, self._steps_per_epoch if self._finished else 0) or 1
        else:
            self._steps_per_epoch = max(done, self._whole_epoch)
        self._seconds.end_epoch(seconds, self._steps_per_epoch or 1, steps)
        self._joules.end_epoch(joules, self._steps_per_epoch or 1, steps)
        self._finished += 1
        self._finished_steps += done
        self._open_steps = 0

    def predict(self) -> Prediction:
        """Return the cost of the whole training: what is done, and what remains.

        Joules are NaN if they could not be measured at all.

        Raises:
            ValueError: nothing is known that a prediction could be made from.
        """
        if not self._finished and not (self._steps_per_epoch and self._open_steps):
            return self._beforehand()
        plan = self._last_epoch, self._steps_per_epoch or 1
        alike = self._planned_epochs is None
        seconds = self._seconds.remaining(*plan, alike=alike)
        joules = self._joules.remaining(*plan, alike=alike)
        if seconds is None:
            message = "a prediction needs the seconds of a finished epoch, or of steps"
            raise ValueError(message)
        joules = joules or _Remaining(math.nan, math.nan, seconds.every)
        missing = self._joules.missing + self._joules.open.missing
        parts = ["steps" if self._finished_steps + self._open_steps else "epochs"]
        if joules.every:
            parts.append(f"more every {joules.every} epochs")
        if not self._finished:
            parts.append("allowance for an epoch's end")
        if missing:
            parts.append(f"{missing:g} unmeasured filled in")
        if self.prior is not None and self._finished < 2:
            parts.append(f"previous run {self.prior.name}")
        done_joules = self._joules.done + (missing * joules.step if missing else 0.0)
        done = self._seconds.done, done_joules
        return self._prediction(done, (seconds.cost, joules.cost), ", ".join(parts))

    @property
    def _last_epoch(self) -> float:
        """Return the number of the last epoch, of which a part may be planned."""
        if self._planned_epochs is not None:
            return self._planned_epochs
        left = max(0.0, self._planned_steps - self._finished_steps)
        return self._finished + left / self._steps_per_epoch

    @property
    def _after_epochs(self) -> float:
        """Return the epochs that are done; a whole number stays an int."""
        if self._planned_epochs is None:
            return as_epochs((self._finished_steps + self._open_steps) / self._steps_per_epoch)
        part = self._open_steps / self._steps_per_epoch if self._steps_per_epoch else 0.0
        return self._finished + min(part, 0.999) if part else self._finished

    def _beforehand(self) -> Prediction:
        """Return what the previous run cost, for as many epochs as are planned now."""
        if self.prior is None:
            message = "a prediction needs at least one finished epoch, or steps and their number"
            raise ValueError(message)
        rest = self.prior.seconds.whole(self.epochs), self.prior.joules.whole(self.epochs)
        return self._prediction((0.0, 0.0), rest, f"previous run {self.prior.name}")

    def _prediction(
        self, done: tuple[float, float], rest: tuple[float, float], method: str
    ) -> Prediction:
        after_epochs = self._after_epochs
        seconds_80, seconds_95 = intervals("seconds", after_epochs, done[0], rest[0])
        joules_80, joules_95 = intervals("joules", after_epochs, done[1], rest[1])
        return Prediction(
            epochs=self.epochs,
            after_epochs=after_epochs,
            seconds=done[0] + rest[0],
            joules=done[1] + rest[1],
            method=method,
            seconds_80=seconds_80,
            seconds_95=seconds_95,
            joules_80=joules_80,
            joules_95=joules_95,
            done_seconds=done[0],
            done_joules=done[1],
        )


def _mean(values: Sequence[float], weights: Sequence[float] | None = None) -> float:
    if weights is None:
        return math.fsum(values) / len(values)
    return math.fsum(a * b for a, b in zip(values, weights, strict=True)) / math.fsum(weights)
