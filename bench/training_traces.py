"""Seeded simulated trainings, and recorded ones, for the bench of predictions.

A simulated training has 10 to 100 epochs of 40 to 400 steps. Common to all regimes: white noise of
0.5 to 5 % a step; noise of epochs AR(1) with 0.5 and 1.7 %; power noise 0.5 %; a warm-up that costs
0 to 13 % of an epoch and passes within its first tenth; slow heating of 1.5 % (sd); validation at
each epoch's end, 2 to 12 % of it, marked in half of the trainings; checkpoints every 1 to 10
epochs.

What a regime adds:
clean         nothing
cold cache    the first epoch's steps cost 5 to 40 % more energy and wait twice as long
periodic      validation of 10 to 40 % of an epoch every 2 to 5, checkpoints within epochs
throttling    an approach over 0.3 to 5 epochs to steps that cost 25 % less to 25 % more
growing batch two or three times half the steps at 1.6 to 1.95 times the cost
pauses        one to four of 0.1 to 2 epochs at a third of the power
outliers      0.3 to 2 % of the steps take 4 to 20 times as long
shared        neighbours slow it down by 10 to 80 % for 0.05 to 2 epochs (mean), again and again
early stop    the plan is cut to 50 to 95 % three epochs before that end; the truth is the cost of
              the plan that holds when the prediction is made
"""

from __future__ import annotations

import csv
import gzip
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

REGIMES = (
    *("clean", "cold cache", "periodic", "throttling", "growing batch"),
    *("pauses", "outliers", "shared", "early stop"),
)
RECORDED = Path(__file__).parent / "traces"
EPOCH_NOISE = 0.017
EPOCH_MEMORY = 0.5


@dataclass
class Epoch:
    """Steps of one epoch (columns: seconds, joules), and what is beside them."""

    steps: Floats
    marked: list[tuple[int, str, float, float]] = field(default_factory=list)
    """After so many steps: kind, seconds, joules."""
    rest: tuple[float, float] = (0.0, 0.0)
    """Without a mark, at its end."""

    @property
    def total(self) -> tuple[float, float]:
        """Return seconds and joules of all of it."""
        beside = [(seconds, joules) for _, _, seconds, joules in self.marked]
        seconds, joules = np.vstack([self.steps, *beside, self.rest]).sum(axis=0)
        return float(seconds), float(joules)


@dataclass
class Trace:
    """A training from its beginning to its end."""

    regime: str
    epochs: list[Epoch]
    cut_at: int | None = None
    """Finished epochs after which the plan is cut."""
    cut_to: int = 0

    def planned(self, finished: int) -> int:
        """Return the number of epochs planned after so many."""
        cut = self.cut_at is not None and finished >= self.cut_at
        return self.cut_to if cut else len(self.epochs)

    def truth(self, epochs: int) -> tuple[float, float]:
        """Return seconds and joules of the first epochs."""
        seconds, joules = np.sum([epoch.total for epoch in self.epochs[:epochs]], axis=0)
        return float(seconds), float(joules)


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Return a value whose log is uniform."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def simulated(rng: np.random.Generator, regime: str) -> Trace:
    """Return one training."""
    epochs = round(log_uniform(rng, 10, 100))
    steps = round(log_uniform(rng, 40, 400))
    counts, costs = _schedule(rng, regime, epochs, steps)
    times, powers = _levels(rng, regime, counts)
    watts, second = rng.uniform(80, 400), log_uniform(rng, 0.05, 2)
    white = log_uniform(rng, 0.005, 0.05)
    times = times * np.repeat(costs, counts) * np.exp(rng.normal(0, white, times.size)) * second
    joules = times * powers * watts
    if regime == "outliers":
        hit = rng.random(times.size) < rng.uniform(0.003, 0.02)
        longer = times * (rng.uniform(4, 20, times.size) - 1) * hit
        times, joules = times + longer, joules + longer * watts * 0.7
    if regime == "pauses":
        for _ in range(rng.integers(1, 5)):
            pause = rng.uniform(0.1, 2) * steps * second
            where = rng.integers(times.size)
            times[where] += pause
            joules[where] += pause * watts / 3
    both = np.column_stack([times, joules])
    parts = [Epoch(part) for part in np.split(both, np.cumsum(counts)[:-1])]
    _add_extras(rng, regime, parts)
    trace = Trace(regime, parts)
    if regime == "early stop":
        trace.cut_to = max(6, round(epochs * rng.uniform(0.5, 0.95)))
        trace.cut_at = trace.cut_to - 3
    return trace


def _schedule(
    rng: np.random.Generator, regime: str, epochs: int, steps: int
) -> tuple[list[int], list[float]]:
    """Return each epoch's number of steps and relative cost of a step."""
    counts, costs = [steps] * epochs, [1.0] * epochs
    if regime == "growing batch":
        times = int(rng.integers(2, 4))
        factor = rng.uniform(1.6, 1.95)
        for index in range(epochs):
            grown = index * (times + 1) // epochs
            counts[index] = max(4, steps >> grown)
            costs[index] = factor**grown
    return counts, costs


def _levels(rng: np.random.Generator, regime: str, counts: list[int]) -> tuple[Floats, Floats]:
    """Return the relative time and power of every step."""
    total, first = sum(counts), counts[0]
    at = np.arange(total) / first
    noise = [rng.normal(0, EPOCH_NOISE)]
    fresh = EPOCH_NOISE * math.sqrt(1 - EPOCH_MEMORY**2)
    for _ in counts[1:]:
        noise.append(EPOCH_MEMORY * noise[-1] + rng.normal(0, fresh))
    times = np.exp(np.repeat(noise, counts))
    powers = np.exp(rng.normal(0, 0.005, total))
    powers *= 1 + rng.normal(0, 0.015) * (1 - np.exp(-at / rng.uniform(0.3, 3)))
    fades = np.exp(-np.arange(total) / max(1.0, first * rng.uniform(0.01, 0.05)))
    times += rng.uniform(0, 0.13) * first * fades / fades.sum()
    if regime == "cold cache":
        more = rng.uniform(0.05, 0.40)
        times[:first] *= 1 + 2 * more
        powers[:first] *= (1 + more) / (1 + 2 * more)
    if regime == "shared":
        times *= _neighbours(rng, total, first)
    if regime == "throttling":
        change = rng.uniform(-0.25, 0.25)
        approach = 1 - np.exp(-at / log_uniform(rng, 0.3, 5))
        times *= 1 + abs(change) * approach
        powers *= (1 + change * approach) / (1 + abs(change) * approach)
    return times, powers


def _neighbours(rng: np.random.Generator, total: int, first: int) -> Floats:
    """Return how much slower each step is for others on the machine: two states in turn."""
    slower = log_uniform(rng, 1.1, 1.8)
    means = log_uniform(rng, 0.05, 2) * first, log_uniform(rng, 0.1, 4) * first
    busy = int(rng.integers(2))
    parts: list[Floats] = []
    length = 0
    while length < total:
        part = 1 + int(rng.exponential(means[1 - busy]))
        parts.append(np.full(part, slower if busy else 1.0))
        length += part
        busy = 1 - busy
    return np.concatenate(parts)[:total]


def _add_extras(rng: np.random.Generator, regime: str, epochs: list[Epoch]) -> None:
    often = regime == "periodic"
    share, every = rng.uniform(0.02, 0.12), 1
    if often:
        share, every = rng.uniform(0.10, 0.40), int(rng.integers(2, 6))
    saving, saved_every = rng.uniform(0.002, 0.02), int(rng.integers(1, 11))
    within = int(rng.integers(20, 100)) if often else 0
    marked = rng.random() < 0.5
    seconds, joules = epochs[0].steps[len(epochs[0].steps) // 2 :].mean(axis=0) * len(
        epochs[0].steps
    )
    for number, epoch in enumerate(epochs, 1):
        parts = []
        if number % every == 0:
            size = share * math.exp(rng.normal(0, 0.02))
            parts.append(("validation", size * seconds, size * joules * 0.8))
        if number % saved_every == 0:
            parts.append(("checkpoint", saving * seconds, saving * joules * 0.4))
        if marked:
            epoch.marked = [(len(epoch.steps), *part) for part in parts]
        else:
            epoch.rest = (sum(part[1] for part in parts), sum(part[2] for part in parts))
        if within:
            for step in range(within, len(epoch.steps), within):
                part = ("checkpoint", 0.004 * seconds, 0.0016 * joules)
                epoch.marked.append((step, *part))
            epoch.marked.sort()


def simulated_set(seed: int, count: int) -> Iterator[Trace]:
    """Yield ``count`` trainings, the regimes in turn; the same for the same seed."""
    for index in range(count):
        yield simulated(np.random.default_rng([seed, index]), REGIMES[index % len(REGIMES)])


def recorded_set(folder: Path = RECORDED) -> Iterator[Trace]:
    """Yield the trainings recorded by ``bench/record_traces.py``: rows epoch, kind, s, J."""
    for path in sorted(folder.glob("*.csv.gz")):
        epochs: dict[int, tuple[list[tuple[float, float]], Epoch]] = {}
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                steps, epoch = epochs.setdefault(int(row["epoch"]), ([], Epoch(np.empty((0, 2)))))
                cost = float(row["seconds"]), float(row["joules"])
                if row["kind"] == "step":
                    steps.append(cost)
                elif row["kind"] == "rest":
                    epoch.rest = cost
                else:
                    epoch.marked.append((len(steps), row["kind"], *cost))
        for steps, epoch in epochs.values():
            epoch.steps = np.array(steps)
        yield Trace(
            path.name.removesuffix(".csv.gz"), [epochs[number][1] for number in sorted(epochs)]
        )
