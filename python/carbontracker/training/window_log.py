"""The windows of a training for its record: by name, totals and a selection of single windows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from carbontracker.energy.config import Config
from carbontracker.energy.session import Session
from carbontracker.model.window_totals import WindowTotals
from carbontracker.training.window import Window

if TYPE_CHECKING:
    from carbontracker.carbon.factors import CarbonFactors
    from carbontracker.energy.session import Mark

MAX_KEPT = 120
"""Single windows of a name that an event keeps."""
_MAX_PENDING = 4096
"""Windows that are held at most before their energy is asked for: memory stays bounded."""


@dataclass
class _Named:
    """The windows of one name: totals, plus every n-th window."""

    count: int = 0
    unknown: int = 0
    seconds: float = 0.0
    joules: float = 0.0
    error_joules: float = 0.0
    unknown_joules_max: float = 0.0
    every: int = 1
    kept: list[tuple[float, float, float]] = field(default_factory=list)
    """Start, s after the run began; length, s; J."""

    def add(self, start_s: float, window: Window) -> None:
        energy = window.energy
        if self.count % self.every == 0:
            self.kept.append((start_s, window.seconds, energy.joules))
        self.count += 1
        self.seconds += window.seconds
        self.unknown_joules_max += energy.unknown_joules_max
        if math.isnan(energy.joules):
            self.unknown += 1
        else:
            self.joules += energy.joules
            self.error_joules += energy.error_joules
        if len(self.kept) > MAX_KEPT:
            del self.kept[1::2]
            self.every *= 2

    def totals(self, name: str) -> WindowTotals:
        known = self.count > self.unknown
        return WindowTotals(
            name,
            self.count,
            self.unknown,
            self.seconds,
            self.joules if known else math.nan,
            self.error_joules if known else math.nan,
            self.unknown_joules_max,
            self.every,
            tuple(self.kept),
        )


class WindowLog:
    """Makes windows and keeps them until they are written to the record."""

    def __init__(self, session: Session, began: Mark) -> None:
        self._session = session
        self._began = began
        self._pending: list[Window] = []
        self._names: dict[str, _Named] = {}

    def window(self, name: str, factors: CarbonFactors) -> Window:
        """Return a window on the session that will be in what ``take`` returns."""
        session = self._session
        made = Window(
            session.core if session.owned_by_this_process else None,
            name,
            (session, factors),
            session.config.edge_reads,
        )
        if len(self._pending) >= _MAX_PENDING:
            self._settle()
            # Windows that were never closed: the oldest ones are given up.
            del self._pending[: -_MAX_PENDING // 2]
        self._pending.append(made)
        return made

    def take(self) -> list[WindowTotals]:
        """Return the windows that have ended since the last call, by name, and forget them."""
        self._settle()
        names, self._names = self._names, {}
        return [named.totals(name) for name, named in names.items()]

    def _settle(self) -> None:
        pending, self._pending = self._pending, []
        for window in pending:
            if window.start is not None and window.end is not None:
                start_s = (window.start.t_ns - self._began.t_ns) / 1e9
                self._names.setdefault(window.name, _Named()).add(start_s, window)
            else:
                self._pending.append(window)  # still open, or not entered yet


def unmeasured(name: str, factors: CarbonFactors) -> Window:
    """Return a window of a tracker that is not monitoring: its energy is missing."""
    return Window(None, name, (Session(Config(), None), factors))
