"""Two sides, each one run or several: what differs, and whether that is more than chance."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from carbontracker.model.measurement import Measurement
    from carbontracker.records.run_record import RunRecord

CONFIDENCE = 0.95
_NORMAL_FROM = 2000.0
"""Degrees of freedom from which Student's quantile is the normal one to four digits."""


@dataclass(frozen=True)
class Side:
    """What is compared: one run by its epochs, or several by their totals."""

    label: str
    runs: tuple[RunRecord, ...]

    @property
    def unit(self) -> str:
        """Return what there are several of: ``run`` or ``epoch``."""
        return "run" if len(self.runs) > 1 else "epoch"

    def total(self, of: Callable[[Measurement], float]) -> float:
        """Return the sum over the runs; a figure that one of them lacks is missing."""
        return math.fsum(of(run.result) for run in self.runs)

    def sample(self, unit: str) -> list[Measurement]:
        """Return each run, or each finished epoch, that was measured."""
        parts: list[Measurement] = [run.result for run in self.runs]
        if unit == "epoch":
            parts = [epoch for run in self.runs for epoch in run.epochs if epoch.finished]
        return [part for part in parts if not math.isnan(part.energy.joules)]

    @property
    def measuring_error(self) -> float:
        """Return the 95 % half-width of the energy from measuring, as a share of it."""
        joules = self.total(lambda one: one.energy.joules)
        error = self.total(lambda one: one.energy.error_joules)
        return error / joules if joules > 0 else math.nan


@dataclass(frozen=True)
class Difference:
    """One figure of both sides: B compared with A."""

    name: str
    unit: str
    a: float
    b: float
    half_width: float = math.nan
    """95 % half-width of ``b - a``; NaN where it cannot be told."""
    basis: str = ""
    """What the interval is made of."""

    @property
    def change(self) -> float:
        """Return b - a."""
        return self.b - self.a

    @property
    def percent(self) -> float:
        """Return the change in percent of a."""
        return 100.0 * self.change / self.a if self.a else math.nan

    @property
    def significant(self) -> bool | None:
        """Return whether the interval leaves out zero; None without one."""
        return None if math.isnan(self.half_width) else abs(self.change) > self.half_width


def compare(a: Side, b: Side) -> list[Difference]:
    """Return the differences between two sides: totals, then means of epochs or of runs.

    The interval of a total is that of measuring alone: it says what these runs drew, not what
    others would. That of a mean is Welch's, of the scatter between epochs or runs, widened by the
    errors of measuring.
    """
    return [*_totals(a, b), *_means(a, b)]


_FIGURES: dict[tuple[str, str], Callable[[Measurement], float]] = {
    ("time", "s"): lambda one: one.seconds,
    ("energy", "J"): lambda one: one.energy.joules,
    ("electricity with PUE", "kWh"): lambda one: one.footprint.kwh,
    ("emissions", "gCO2eq"): lambda one: one.footprint.gco2eq,
}
_ERRORS: dict[str, Callable[[Measurement], float]] = {
    "J": lambda one: one.energy.error_joules,
    "kWh": lambda one: one.footprint.error_kwh,
    "gCO2eq": lambda one: one.footprint.error_gco2eq,
}


def _totals(a: Side, b: Side) -> list[Difference]:
    found = []
    for (name, unit), figure in _FIGURES.items():
        half = math.nan
        if unit in _ERRORS:
            half = math.hypot(a.total(_ERRORS[unit]), b.total(_ERRORS[unit]))
        basis = "measuring" if not math.isnan(half) else ""
        found.append(Difference(name, unit, a.total(figure), b.total(figure), half, basis))
    time, energy = _FIGURES["time", "s"], _FIGURES["energy", "J"]
    watts = [side.total(energy) / side.total(time) for side in (a, b)]
    return [*found, Difference("mean power", "W", watts[0], watts[1])]


def _means(a: Side, b: Side) -> list[Difference]:
    both = "run" if a.unit == b.unit == "run" else "epoch"
    samples = a.sample(both), b.sample(both)
    if not all(samples):
        return []
    relative = a.measuring_error, b.measuring_error
    found = []
    for (name, unit), figure in _FIGURES.items():
        if unit == "kWh":
            continue  # joules times a PUE
        one, other = (list(map(figure, sample)) for sample in samples)
        means = statistics.fmean(one), statistics.fmean(other)
        half = welch_half_width(one, other)
        if unit != "s":  # grams are joules times an intensity that is taken as exact
            measured = [share * mean for share, mean in zip(relative, means, strict=True)]
            half = math.hypot(half, *(error for error in measured if not math.isnan(error)))
        scatter = f"scatter between {both}s ({len(one)} and {len(other)})"
        basis = "" if math.isnan(half) else scatter if unit == "s" else f"{scatter} and measuring"
        found.append(Difference(f"{name} by {both}", unit, *means, half, basis))
    return found


def welch_half_width(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the 95 % half-width of the difference of two means; NaN with fewer than two each.

    Welch's interval for unequal variances with the degrees of freedom of Satterthwaite
    (B. L. Welch, Biometrika 34, 1947, 28-35).
    """
    if min(len(a), len(b)) < 2:
        return math.nan
    try:
        parts = [statistics.variance(sample) / len(sample) for sample in (a, b)]
    except OverflowError:  # a damaged record may hold any number
        return math.nan
    spread = math.fsum(parts)
    if spread == 0.0:
        return 0.0
    freedom = 1 / math.fsum(
        (part / spread) ** 2 / (len(sample) - 1) for part, sample in zip(parts, (a, b), strict=True)
    )
    return student_quantile(freedom) * math.sqrt(spread)


def student_quantile(freedom: float, confidence: float = CONFIDENCE) -> float:
    """Return t with P(-t < T < t) = ``confidence`` for Student's distribution.

    With x = sqrt(freedom) tan(u) the density is that of cos(u) ** (freedom - 1), which is
    integrated by Simpson's rule; t is found by halving.
    """
    if freedom >= _NORMAL_FROM:
        return statistics.NormalDist().inv_cdf(0.5 + confidence / 2)
    whole = math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom + 1) / 2)) * (
        math.sqrt(math.pi) / 2
    )  # the integral of cos(u) ** (freedom - 1) from 0 to pi / 2
    low, high = 0.0, math.pi / 2
    for _ in range(50):
        middle = (low + high) / 2
        if _integral(freedom - 1, middle) < confidence * whole:
            low = middle
        else:
            high = middle
    return math.sqrt(freedom) * math.tan(low)


def _integral(power: float, end: float, steps: int = 400) -> float:
    step = end / steps
    inner = ((4 if i % 2 else 2) * math.cos(i * step) ** power for i in range(1, steps))
    return step / 3 * math.fsum([1.0, math.cos(end) ** power, *inner])
