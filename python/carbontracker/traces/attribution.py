"""The energy of profiled work: power over time, divided among the intervals of work.

Pure arithmetic on arrays. Times are whole nanoseconds of one clock.

At each moment a thread works only on its innermost interval (self time), and the working threads
share the power of that moment equally. The energy while no thread works is idle energy. The parts
add up to the energy of the window: no joule is lost or counted twice.
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
    """Power that is constant between two edges; NaN if unknown."""

    edges_ns: Int64s
    """(n + 1,), increasing."""
    watts: Floats
    """(n,)."""

    @property
    def joules(self) -> float:
        """Return the known energy, J."""
        return float(np.nansum(self.watts * np.diff(self.edges_ns)) / 1e9)

    def at(self, times_ns: Int64s) -> Floats:
        """Return the power (m,) right after each time, W; NaN outside the edges."""
        index = np.searchsorted(self.edges_ns, times_ns, side="right") - 1
        inside = (index >= 0) & (index < len(self.watts))
        watts = np.full(len(times_ns), np.nan)
        watts[inside] = self.watts[index[inside]]
        return watts


@dataclass(frozen=True)
class Intervals:
    """The work of one thread: intervals that do not overlap."""

    starts_ns: Int64s
    ends_ns: Int64s
    names: Int64s
    """(n,), the index of the name of each interval."""


@dataclass(frozen=True)
class EnergyByName:
    """The energy of a window, by name of the work."""

    joules: Floats
    """(names,)."""
    seconds: Floats
    """(names,), time of threads: two threads for one second are two seconds."""
    idle_joules: float
    """Energy while no thread worked, J."""
    idle_seconds: float
    total_joules: float
    """The known energy of the window, J."""
    unknown_seconds: float
    """Length of the parts without known power, s. No value contains their energy."""
    window_seconds: float


def innermost(starts_ns: Int64s, ends_ns: Int64s, names: Int64s) -> Intervals:
    """Return the work of one thread at each moment: of all open slices, the last that began.

    Args:
        starts_ns: (n,), start of each slice, in any order; slices may be nested.
        ends_ns: (n,), end of each slice; a slice without length is ignored.
        names: (n,), index of the name of each slice.
    """
    order = np.lexsort((-ends_ns, starts_ns))
    found: list[tuple[int, int, int]] = []
    opened: list[tuple[int, int]] = []
    now = 0

    def advance_to(moment: int) -> None:
        nonlocal now
        while opened and now < moment:
            end, name = opened[-1]
            if end > now:
                found.append((now, min(end, moment), name))
                now = min(end, moment)
            if end <= now:
                opened.pop()
        now = moment

    rows = zip(starts_ns[order].tolist(), ends_ns[order].tolist(), names[order].tolist())  # noqa: B905  # same length
    for start, end, name in rows:
        if end <= start:
            continue
        advance_to(start)
        opened.append((end, name))
    if opened:
        advance_to(max(end for end, _ in opened))
    table = np.array(found, dtype=np.int64).reshape(-1, 3)
    return Intervals(table[:, 0], table[:, 1], table[:, 2])


def merge_windows(windows: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the windows in order; windows that touch or overlap become one."""
    result: list[tuple[int, int]] = []
    for start, end in sorted(window for window in windows if window[1] > window[0]):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return result


def energy_by_name(
    power: Power, threads: Sequence[Intervals], windows: Sequence[tuple[int, int]], names: int
) -> EnergyByName:
    """Return the energy of several windows together, by name of the work.

    With p(t) the power and n(t) the number of working threads, an interval gets the integral of
    p / n over its length. The energy where n is 0 is idle. Between two neighbouring edges, starts
    and ends both are constant, so the integrals are sums.

    Args:
        power: of one device, or the sum of several.
        threads: that share the power.
        windows: (start, end), ns; an overlap counts once.
        names: the number of names.
    """
    merged = merge_windows(windows)
    bounds = np.array(merged, dtype=np.int64).reshape(-1, 2)
    starts, ends, named = _concatenated(threads)
    times_ns = np.unique(np.concatenate([power.edges_ns, starts, ends, bounds.ravel()]))
    if not merged or len(times_ns) < 2:
        zeros = np.zeros(names)
        return EnergyByName(zeros, zeros, 0.0, 0.0, 0.0, 0.0, 0.0)
    seconds = np.diff(times_ns) / 1e9
    inside = _open_intervals(times_ns, bounds[:, 0], bounds[:, 1]) > 0
    running = _open_intervals(times_ns, starts, ends)
    watts = power.at(times_ns[:-1])
    known = inside & ~np.isnan(watts)
    joules = np.where(known, watts, 0.0) * seconds
    shared = np.concatenate([[0.0], np.cumsum(joules / np.maximum(running, 1))])
    passed = np.concatenate([[0.0], np.cumsum(np.where(inside, seconds, 0.0))])
    a, b = np.searchsorted(times_ns, starts), np.searchsorted(times_ns, ends)
    idle = inside & (running == 0)
    return EnergyByName(
        joules=_sums(named, shared[b] - shared[a], names),
        seconds=_sums(named, passed[b] - passed[a], names),
        idle_joules=float(joules[idle].sum()),
        idle_seconds=float(seconds[idle].sum()),
        total_joules=float(joules.sum()),
        unknown_seconds=float(seconds[inside & ~known].sum()),
        window_seconds=float(passed[-1]),
    )


def _concatenated(threads: Sequence[Intervals]) -> tuple[Int64s, Int64s, Int64s]:
    if not threads:
        empty = np.zeros(0, dtype=np.int64)
        return empty, empty, empty
    return (
        np.concatenate([thread.starts_ns for thread in threads]),
        np.concatenate([thread.ends_ns for thread in threads]),
        np.concatenate([thread.names for thread in threads]),
    )


def _sums(named: Int64s, values: Floats, names: int) -> Floats:
    sums = np.zeros(names)
    np.add.at(sums, named, values)
    return sums


def _open_intervals(times_ns: Int64s, starts: Int64s, ends: Int64s) -> Int64s:
    """Return (n - 1,), the number of open intervals between each two neighbouring times."""
    change = np.zeros(len(times_ns), dtype=np.int64)
    np.add.at(change, np.searchsorted(times_ns, starts), 1)
    np.add.at(change, np.searchsorted(times_ns, ends), -1)
    return np.cumsum(change)[:-1]
