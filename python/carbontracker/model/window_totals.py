"""All windows of one name: totals, and a selection of single windows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carbontracker.json_values import number, seconds_of, string, whole
from carbontracker.model.work import UNCOUNTED, Quotient, Work, add_in_turn, per_unit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carbontracker.energy.energy import Energy

MAX_KEPT = 120
"""Single windows of a name that an event keeps."""


@dataclass(frozen=True)
class WindowTotals:
    """Totals of the windows of one name, plus every n-th window by itself."""

    name: str
    count: int = 0
    unknown: int = 0
    """Windows of which the energy is not known."""
    seconds: float = 0.0
    joules: float = math.nan
    """NaN if no window is known."""
    error_joules: float = math.nan
    unknown_joules_max: float = 0.0
    every: int = 1
    """One window in ``every`` is in ``kept``."""
    kept: tuple[tuple[float, float, float], ...] = ()
    """Single windows: start, s from the start of monitoring; length, s; J."""
    work: Work = UNCOUNTED
    """What was done in them, as far as it was counted."""

    @property
    def spans(self) -> list[tuple[float, float]]:
        """Return start and end of the single windows, s from the start of monitoring."""
        return [(start_s, start_s + seconds) for start_s, seconds, _ in self.kept]

    def joules_per(self, unit: str) -> Quotient:
        """Return the energy for one of ``tokens``, ``samples`` or ``flops``, J."""
        if self.unknown:  # what was done in those windows is in the count
            return Quotient(math.nan, math.nan)
        return per_unit(self.joules, self.error_joules, getattr(self.work, unit))

    def with_window(
        self, start_s: float, seconds: float, energy: Energy, work: Work = UNCOUNTED
    ) -> WindowTotals:
        """Return the totals with one more window.

        Args:
            start_s: its start, s from the start of monitoring.
            seconds: its length, s.
            energy: its energy.
            work: what was done in it.
        """
        every, kept = self.every, self.kept
        if self.count % every == 0:
            kept = (*kept, (start_s, seconds, energy.joules))
        if len(kept) > MAX_KEPT:
            every, kept = 2 * every, kept[::2]
        return WindowTotals(
            self.name,
            self.count + 1,
            self.unknown + math.isnan(energy.joules),
            self.seconds + seconds,
            add_known(self.joules, energy.joules),
            add_known(self.error_joules, energy.error_joules),
            self.unknown_joules_max + energy.unknown_joules_max,
            every,
            kept,
            work if self.count == 0 else add_in_turn((self.work, work)),
        )

    def plus(self, other: WindowTotals) -> WindowTotals:
        """Return the totals of both; what is not known of one adds nothing."""
        return WindowTotals(
            self.name,
            self.count + other.count,
            self.unknown + other.unknown,
            self.seconds + other.seconds,
            add_known(self.joules, other.joules),
            add_known(self.error_joules, other.error_joules),
            self.unknown_joules_max + other.unknown_joules_max,
            max(self.every, other.every),
            self.kept + other.kept,
            add_in_turn((self.work, other.work)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of the record."""
        return {
            "name": self.name,
            "count": self.count,
            "unknown": self.unknown,
            "seconds": self.seconds,
            "joules": self.joules,
            "error_joules": self.error_joules,
            "unknown_joules_max": self.unknown_joules_max,
            "every": self.every,
            "start_s": [start_s for start_s, _, _ in self.kept],
            "length_s": [seconds for _, seconds, _ in self.kept],
            "joules_each": [joules for _, _, joules in self.kept],
            **({"work": self.work.to_dict()} if self.work else {}),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> WindowTotals:
        """Return the totals of such an object; what is missing or damaged becomes NaN or 0."""
        starts, lengths = data.get("start_s"), data.get("length_s")
        joules = data.get("joules_each")
        kept: list[tuple[float, float, float]] = []
        if isinstance(starts, list) and isinstance(lengths, list):
            each = joules if isinstance(joules, list) else [None] * len(starts)
            kept = [
                (seconds_of(start), seconds_of(length), number(one))
                for start, length, one in zip(starts, lengths, each, strict=False)
            ]
        return cls(
            string(data.get("name")),
            whole(data.get("count")),
            whole(data.get("unknown")),
            seconds_of(data.get("seconds"), 0.0),
            number(data.get("joules")),
            number(data.get("error_joules")),
            number(data.get("unknown_joules_max"), 0.0),
            max(1, whole(data.get("every"))),
            tuple(one for one in kept if math.isfinite(one[0] + one[1])),
            Work.from_dict(data.get("work")),
        )


def add_known(a: float, b: float) -> float:
    """Return the sum of what is known of two numbers; NaN if neither is."""
    known = [value for value in (a, b) if not math.isnan(value)]
    return math.fsum(known) if known else math.nan
