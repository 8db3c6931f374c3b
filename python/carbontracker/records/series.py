"""Energy over time in the record: E(t) by device on a thinned grid, exact where asked."""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING, Any

from carbontracker.energy.session import Mark
from carbontracker.guard import OPEN_EPOCH, start_thread
from carbontracker.records.clocks import read_anchor
from carbontracker.times import wall_time

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from carbontracker.energy.session import Session

MAX_POINTS = 120
"""Of one event, apart from the moments that are asked for."""
DIGITS = 6
"""Decimals of joules: a microjoule is less than any sensor tells apart."""
FIRST_WRITE_S = 5.0
MAX_WRITE_SPACING_S = 600.0
"""An open epoch is written 5, 10, 20, 40, ... s after its beginning, then every ten minutes. So a
kill loses at most half of it, and at most ten minutes."""
MIN_JOB_SPACING_S = 10.0
"""A job is killed as a whole if one rank fails, so its ranks write their open epochs more often."""
_GROWTH = 2000
"""A run of unknown length gets a point at least every 1/2000 of its age, so that its series grows
with the logarithm of its length."""


class SeriesWriter:
    """Makes the ``series`` events of one run, each beginning where the last one ended.

    Joules are cumulative since the run began, not since the event: the first point of an event
    says again, with more readings, what the last point of the one before said. So nothing is lost
    between two events, nor by what was provisional when it was written.
    """

    def __init__(self, session: Session, began: Mark, spacing_s: float) -> None:
        self._session = session
        self._began = began
        self._last = self._one_before = began
        self._spacing_s = max(spacing_s, 1e-3)

    def seconds(self, mark: Mark) -> float:
        """Return how long after the beginning of the run a mark was set, s."""
        return (mark.t_ns - self._began.t_ns) / 1e9

    def until(self, end: Mark, *exact: Mark) -> dict[str, Any] | None:
        """Return the data of an event up to ``end``; None if there is nothing to say.

        Args:
            end: the last point, and the first one of the next event.
            exact: further moments that get a point of their own.
        """
        if end.t_ns <= self._last.t_ns:
            # An epoch ended while the series was being written up to a later moment: said again
            # from the end before, so that the end of the epoch has a point of its own.
            self._last = self._one_before
        if end.t_ns <= self._last.t_ns or not self._session.owned_by_this_process:
            return None
        marks = self._grid(end, exact)
        energies = self._session.energies([(self._began, mark) for mark in marks[1:]])
        before = self._session.energy(self._began, marks[0])
        first = self._last
        self._one_before, self._last = first, end
        ids = [one.id for one in self._session.channels if one.counted and one.read]
        if not ids:
            return None
        at_start = first is self._began
        columns: dict[str, list[float]] = {}
        for name in ids:
            column = [0.0 if at_start else _joules(before, name)]
            column += [_joules(energy, name) for energy in energies]
            columns[name] = rising(column)
        return {
            "t0": wall_time(first.t_ns).isoformat(timespec="milliseconds"),
            "start_s": self.seconds(first),
            "t0_ns": first.t_ns,
            "clock": read_anchor()._asdict(),
            "t_s": [(mark.t_ns - first.t_ns) / 1e9 for mark in marks],
            "joules": columns,
        }

    def _grid(self, end: Mark, exact: Sequence[Mark]) -> list[Mark]:
        """Return the moments from the last end to ``end``, in order, each once."""
        first_ns, last_ns = self._last.t_ns, end.t_ns
        length_s = (last_ns - first_ns) / 1e9
        spacing_s = max(self._spacing_s, self.seconds(end) / _GROWTH, length_s / MAX_POINTS)
        steps = max(1, int(length_s / spacing_s))
        at: dict[int, Mark] = {
            (t_ns := first_ns + (last_ns - first_ns) * step // steps): Mark(None, False, t_ns)
            for step in range(1, steps)
        }
        at |= {mark.t_ns: mark for mark in exact if first_ns < mark.t_ns < last_ns}
        return [self._last, *(at[t_ns] for t_ns in sorted(at)), end]


def next_write_s(written_s: float, *, often: bool = False) -> float:
    """Return when to write next what was written ``written_s`` after it began, s.

    Args:
        written_s: after the beginning.
        often: of a rank of a job: a kill loses at most 10 s, and of a long epoch a sixtieth.
    """
    if often:
        return written_s + min(max(MIN_JOB_SPACING_S, written_s / 60), MAX_WRITE_SPACING_S)
    return written_s + min(written_s, MAX_WRITE_SPACING_S)


class PeriodicWriter:
    """Writes what a kill must not lose from a thread of its own, while nothing is marked.

    Where no thread can be made, or ``write`` raises, one line says so and nothing more is written.

    Args:
        write: called in that thread.
        began_ns: returns when what goes on began, ns of CLOCK_MONOTONIC; None while nothing does.
            A new beginning starts the waits anew.
        first_s: how long after the beginning to write first; the next ones as `next_write_s` says.
        often: returns whether to write often.
    """

    def __init__(
        self,
        write: Callable[[], None],
        began_ns: Callable[[], int | None],
        first_s: float = FIRST_WRITE_S,
        often: Callable[[], bool] = bool,
    ) -> None:
        self._often = often
        self._write = write
        self._began_ns = began_ns
        self._first_s = first_s
        self._stopped = threading.Event()
        start_thread(OPEN_EPOCH, self._run, "carbontracker-series")

    def stop(self) -> None:
        """End; does not wait for a write that is going on."""
        self._stopped.set()

    def _run(self) -> None:
        known_ns: int | None = None
        due_s = pause_s = self._first_s
        while not self._stopped.wait(pause_s):
            # Looked at often enough to see a beginning before its first write is due.
            pause_s = self._first_s
            began_ns = self._began_ns()
            if began_ns != known_ns:
                known_ns, due_s = began_ns, self._first_s
            if began_ns is None:
                continue
            elapsed_s = (time.monotonic_ns() - began_ns) / 1e9
            if elapsed_s >= due_s:
                self._write()
                while due_s <= elapsed_s:
                    due_s = next_write_s(due_s, often=self._often())
            pause_s = min(pause_s, max(due_s - elapsed_s, 1e-3))


def rising(column: Sequence[float]) -> list[float]:
    """Return cumulative joules that never fall: no value is above a later one.

    The sensors go on being read while the column is put together, so that a later value may know
    better than an earlier, provisional one.
    """
    lowest = math.inf
    result = []
    for joules in reversed(column):
        lowest = min(lowest, joules) if not math.isnan(joules) else lowest
        result.append(math.nan if math.isnan(joules) else lowest)
    return result[::-1]


def _joules(energy: Any, device: str) -> float:
    part = energy.by_device.get(device)
    return round(part.joules, DIGITS) if part is not None else math.nan
