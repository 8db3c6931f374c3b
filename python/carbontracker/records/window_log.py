"""The windows of a training for its record: by name, sums of all and a selection of single ones."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from carbontracker.energy.config import Config
from carbontracker.energy.session import Session
from carbontracker.training.window import Window

if TYPE_CHECKING:
    from carbontracker.carbon.factors import CarbonFactors
    from carbontracker.energy.session import Mark

MOST_KEPT = 120
"""Single windows of a name that an event keeps."""
_SETTLED_AT_ONCE = 4096
"""Windows that are held at most before their energy is asked for: memory stays bounded."""


@dataclass
class _Named:
    """The windows of one name: sums, and every so manieth of them."""

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
        if len(self.kept) > MOST_KEPT:
            del self.kept[1::2]
            self.every *= 2

    def data(self, name: str) -> dict[str, Any]:
        known = self.count > self.unknown
        return {
            "name": name,
            "count": self.count,
            "unknown": self.unknown,
            "seconds": self.seconds,
            "joules": self.joules if known else math.nan,
            "error_joules": self.error_joules if known else math.nan,
            "unknown_joules_max": self.unknown_joules_max,
            "every": self.every,
            "start_s": [start_s for start_s, _, _ in self.kept],
            "length_s": [seconds for _, seconds, _ in self.kept],
            "joules_each": [joules for _, _, joules in self.kept],
        }


class WindowLog:
    """Hands out windows and remembers them until they are written down."""

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
        if len(self._pending) >= _SETTLED_AT_ONCE:
            self._settle()
            # Those that nobody closed: the oldest ones are given up.
            del self._pending[: -_SETTLED_AT_ONCE // 2]
        self._pending.append(made)
        return made

    def take(self) -> list[dict[str, Any]]:
        """Return the windows that have ended since the last time, by name, and forget them."""
        self._settle()
        names, self._names = self._names, {}
        return [named.data(name) for name, named in names.items()]

    def _settle(self) -> None:
        pending, self._pending = self._pending, []
        for window in pending:
            if window.start is not None and window.end is not None:
                start_s = (window.start.t_ns - self._began.t_ns) / 1e9
                self._names.setdefault(window.name, _Named()).add(start_s, window)
            else:
                self._pending.append(window)  # still open, or not entered yet


def unmeasured(name: str, factors: CarbonFactors) -> Window:
    """Return a window that works and knows nothing: of a tracker that is not monitoring."""
    return Window(None, name, (Session(Config(), None), factors))
