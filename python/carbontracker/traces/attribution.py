"""Joules by what was running: power over time, split over the pieces of work of each moment.

Pure arithmetic on arrays. Moments are whole nanoseconds of any one clock.

At each moment a thread works on its innermost piece only (self time), and the threads that work
share the power of that moment equally. What is drawn while none works belongs to none, so that all
of it together is the energy of the window: no joule is lost, none is counted twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Int64s = NDArray[np.int64]
    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Power:
    """Watts that are constant between two edges; NaN where they are not known."""

    edges_ns: Int64s
    """(n + 1,), increasing."""
    watts: Floats
    """(n,)."""

    @property
    def joules(self) -> float:
        """Return all the energy that is known, J."""
        return float(np.nansum(self.watts * np.diff(self.edges_ns)) / 1e9)

    def at(self, moments_ns: Int64s) -> Floats:
        """Return the watts (m,) that are drawn right after each moment; NaN outside the edges."""
        place = np.searchsorted(self.edges_ns, moments_ns, side="right") - 1
        inside = (place >= 0) & (place < len(self.watts))
        watts = np.full(len(moments_ns), np.nan)
        watts[inside] = self.watts[place[inside]]
        return watts


@dataclass(frozen=True)
class Pieces:
    """What one thread works on: pieces of time, none of which overlaps another."""

    starts_ns: Int64s
    ends_ns: Int64s
    names: Int64s
    """Which name each has: an index."""


@dataclass(frozen=True)
class Split:
    """The energy of a window, by name."""

    joules: Floats
    """(names,)."""
    seconds: Floats
    """Time of threads (names,): two of them for a second are two seconds."""
    idle_joules: float
    """Drawn while nothing was running."""
    idle_seconds: float
    total_joules: float
    """All that is known of the window."""
    unknown_seconds: float
    """How much of the window's power is not known: it is nobody's, and not in the total."""
    window_seconds: float


def innermost(starts_ns: Int64s, ends_ns: Int64s, names: Int64s) -> Pieces:
    """Return what one thread works on at each moment: of all that is open, what began last.

    Args:
        starts_ns: of its slices (n,), in any order, nested or not.
        ends_ns: of the same (n,); those of no length do not count.
        names: of the same (n,).
    """
    order = np.lexsort((-ends_ns, starts_ns))
    found: list[tuple[int, int, int]] = []
    opened: list[tuple[int, int]] = []
    now = 0

    def until(moment: int) -> None:
        nonlocal now
        while opened and now < moment:
            end, name = opened[-1]
            if end > now:
                found.append((now, min(end, moment), name))
                now = min(end, moment)
            if end <= now:
                opened.pop()
        now = moment

    rows = zip(starts_ns[order].tolist(), ends_ns[order].tolist(), names[order].tolist())  # noqa: B905  # one order
    for start, end, name in rows:
        if end <= start:
            continue
        until(start)
        opened.append((end, name))
    if opened:
        until(max(end for end, _ in opened))
    table = np.array(found, dtype=np.int64).reshape(-1, 3)
    return Pieces(table[:, 0], table[:, 1], table[:, 2])


def merged(windows: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return windows in order, those that touch or overlap as one."""
    result: list[tuple[int, int]] = []
    for start, end in sorted(window for window in windows if window[1] > window[0]):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return result


def split(
    power: Power, threads: Sequence[Pieces], windows: Sequence[tuple[int, int]], names: int
) -> Split:
    """Return the energy of some windows together, by name.

    With p(t) the power and n(t) the number of threads that work, a piece from a to b gets the
    integral of p / n over it; what is drawn where n is 0 is idle. Between two neighbours of all
    edges, starts and ends both are constant, so the integrals are sums.

    Args:
        power: of one device, or of several together.
        threads: those that share it.
        windows: (start, end) in ns; what two of them have in common counts once.
        names: how many names there are.
    """
    whole = merged(windows)
    bounds = np.array(whole, dtype=np.int64).reshape(-1, 2)
    starts, ends, named = _joined(threads)
    moments = np.unique(np.concatenate([power.edges_ns, starts, ends, bounds.ravel()]))
    if not whole or len(moments) < 2:
        nothing = np.zeros(names)
        return Split(nothing, nothing, 0.0, 0.0, 0.0, 0.0, 0.0)
    seconds = np.diff(moments) / 1e9
    inside = _running(moments, bounds[:, 0], bounds[:, 1]) > 0
    running = _running(moments, starts, ends)
    watts = power.at(moments[:-1])
    known = inside & ~np.isnan(watts)
    joules = np.where(known, watts, 0.0) * seconds
    shared = np.concatenate([[0.0], np.cumsum(joules / np.maximum(running, 1))])
    passed = np.concatenate([[0.0], np.cumsum(np.where(inside, seconds, 0.0))])
    a, b = np.searchsorted(moments, starts), np.searchsorted(moments, ends)
    idle = inside & (running == 0)
    return Split(
        joules=_sums(named, shared[b] - shared[a], names),
        seconds=_sums(named, passed[b] - passed[a], names),
        idle_joules=float(joules[idle].sum()),
        idle_seconds=float(seconds[idle].sum()),
        total_joules=float(joules.sum()),
        unknown_seconds=float(seconds[inside & ~known].sum()),
        window_seconds=float(passed[-1]),
    )


def _joined(threads: Sequence[Pieces]) -> tuple[Int64s, Int64s, Int64s]:
    if not threads:
        nothing = np.zeros(0, dtype=np.int64)
        return nothing, nothing, nothing
    return (
        np.concatenate([thread.starts_ns for thread in threads]),
        np.concatenate([thread.ends_ns for thread in threads]),
        np.concatenate([thread.names for thread in threads]),
    )


def _sums(named: Int64s, values: Floats, names: int) -> Floats:
    sums = np.zeros(names)
    np.add.at(sums, named, values)
    return sums


def _running(moments: Int64s, starts: Int64s, ends: Int64s) -> Int64s:
    """Return how many of some intervals are open between each two neighbouring moments (n - 1,)."""
    change = np.zeros(len(moments), dtype=np.int64)
    np.add.at(change, np.searchsorted(moments, starts), 1)
    np.add.at(change, np.searchsorted(moments, ends), -1)
    return np.cumsum(change)[:-1]
