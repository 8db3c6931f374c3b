"""The windows of a training for its record: by name, totals and a selection of single windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carbontracker.energy.config import Config
from carbontracker.energy.session import Session
from carbontracker.model.window_totals import WindowTotals
from carbontracker.training.window import Window

if TYPE_CHECKING:
    from carbontracker.carbon.factors import CarbonFactors
    from carbontracker.energy.session import Mark

_MAX_PENDING = 4096
"""Windows that are held at most before their energy is asked for: memory stays bounded."""


class WindowLog:
    """Makes windows and keeps them until they are written to the record."""

    def __init__(self, session: Session, began: Mark) -> None:
        self._session = session
        self._began = began
        self._pending: list[Window] = []
        self._totals: dict[str, WindowTotals] = {}

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
        totals, self._totals = self._totals, {}
        return list(totals.values())

    def _settle(self) -> None:
        pending, self._pending = self._pending, []
        for window in pending:
            if window.start is not None and window.end is not None:
                start_s = (window.start.t_ns - self._began.t_ns) / 1e9
                before = self._totals.get(window.name) or WindowTotals(window.name)
                after = before.with_window(start_s, window.seconds, window.energy)
                self._totals[window.name] = after
            else:
                self._pending.append(window)  # still open, or not entered yet


def unmeasured(name: str, factors: CarbonFactors) -> Window:
    """Return a window of a tracker that is not monitoring: its energy is missing."""
    return Window(None, name, (Session(Config(), None), factors))
