"""The windows of a training for its record: by name, totals and a selection of single windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from carbontracker.energy.config import Config
from carbontracker.energy.session import Session
from carbontracker.model.window_totals import WindowTotals
from carbontracker.model.work import UNCOUNTED
from carbontracker.training.window import SynchronizedWindow, Window

if TYPE_CHECKING:
    from carbontracker.carbon.factors import CarbonFactors
    from carbontracker.energy.energy import Energy
    from carbontracker.energy.session import Mark
    from carbontracker.model.work import Work
    from carbontracker.training.synchronization import Synchronizer

_MAX_PENDING = 4096
"""Windows that are held at most before their energy is asked for: memory stays bounded."""


class _Past(NamedTuple):
    """A window that has ended before it was known to be one."""

    name: str
    start: Mark
    end: Mark
    session: Session
    work_done: Work = UNCOUNTED

    @property
    def seconds(self) -> float:
        """Return the length, s."""
        return (self.end.t_ns - self.start.t_ns) / 1e9

    @property
    def energy(self) -> Energy:
        """Return the energy, as far as it is known now."""
        return self.session.energy(self.start, self.end)


class WindowLog:
    """Makes windows and keeps them until they are written to the record."""

    def __init__(self, session: Session, began: Mark) -> None:
        self._session = session
        self._began = began
        self._pending: list[Window | _Past] = []
        self._totals: dict[str, WindowTotals] = {}

    def window(self, name: str, factors: CarbonFactors, synchronize: Synchronizer) -> Window:
        """Return a window on the session that will be in what ``take`` returns."""
        session = self._session
        arguments = (
            session.core if session.owned_by_this_process else None,
            name,
            (session, factors),
            session.config.edge_reads,
        )
        made = Window(*arguments)
        if synchronize:
            made = SynchronizedWindow(*arguments)
            made.synchronize = synchronize
        self._keep(made)
        return made

    def add(self, name: str, start: Mark, end: Mark) -> None:
        """Keep what lay between two marks, as a window."""
        self._keep(_Past(name, start, end, self._session))

    def _keep(self, window: Window | _Past) -> None:
        if len(self._pending) >= _MAX_PENDING:
            self._settle()
            # Windows that were never closed: the oldest ones are given up.
            del self._pending[: -_MAX_PENDING // 2]
        self._pending.append(window)

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
                after = before.with_window(start_s, window.seconds, window.energy, window.work_done)
                self._totals[window.name] = after
            else:
                self._pending.append(window)  # still open, or not entered yet


def unmeasured(name: str, factors: CarbonFactors) -> Window:
    """Return a window of a tracker that is not monitoring: its energy is missing."""
    return Window(None, name, (Session(Config(), None), factors))
