"""E(t) of one channel: joules since it started, at nanoseconds of CLOCK_MONOTONIC.

Arrays go in, numbers come out; there is no clock and no sensor here. Samples are cumulative, so
one that is missing, late or thinned away costs time resolution and never energy.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Int64s = NDArray[np.int64]
    Integers = NDArray[np.integer[Any]]
    Floats = NDArray[np.float64]

GAP = 2
"""Flag of a sample: the energy since the one before is not (fully) known."""
STOOD_STILL = 4
"""Flag of a sample: unchanged readings lie between the change before and this one."""

# A counter's refresh period is learned from this many changes, if so large a share of them is
# within the tolerance of their median. No counter in use refreshes slower than the longest.
_RHYTHM_CHANGES = 64
_RHYTHM_LEAST = 4
_RHYTHM_SHARE = 0.7
_RHYTHM_TOLERANCE = 0.35
_RHYTHM_LONGEST_NS = 200_000_000

# What has not moved for so long is not in the middle of a tick.
_QUIET_NS = 1_000_000_000

# A window may begin before the first reading or end after the newest by so much and still count
# as covered: readings are periodic, marks are not.
_SLACK_NS = 250_000_000

# Thinning copies, so it waits until there is something to gain.
_THIN_AT_LEAST = 256

_MICRO = 1e-6
_NANO = 1e-9

# Rows of the store: when the sensor moved (the middle between the readings around it), the last
# reading before that, the reading that found it, energy in uJ, flags.
_MOVED, _BEFORE, _READ, _ENERGY, _FLAGS = range(5)


class Level(NamedTuple):
    """E(t) at one moment."""

    joules: float
    error_joules: float
    """95 % half-width of the timing and quantisation error, J."""
    final: bool
    """False while a later sample may still move the value."""
    hidden_joules2: float = 0.0
    """Variance, J^2, of what power hid between readings since the start; grows like the energy.
    Two standard deviations of it make the 95 % half-width."""


class _Store(NamedTuple):
    """Samples in columns; replaced as a whole, so that an interrupted change is never seen."""

    rows: Int64s
    hidden: Floats
    size: int


class Timeline:
    """The samples of one channel and the function E(t) through them.

    Args:
        counter: the channel is an energy counter, which moves in ticks; otherwise its samples are
            the running integral of power readings, and E(t) is straight between them.
        tick_ns: the sensor's usual refresh period, used until a counter's own is learned.
    """

    def __init__(self, *, counter: bool, tick_ns: int) -> None:
        self._counter = counter
        self._tick_ns = tick_ns
        self._store = _Store(np.zeros((5, 256), dtype=np.int64), np.zeros(256), 0)
        self._seen_ns = 0
        self._gaps: list[tuple[int, int]] = []
        self._thinned = 0  # leading samples that are no longer every change there was

    def __len__(self) -> int:
        """Return the number of samples held."""
        return self._store.size

    def extend(
        self, t_ns: Int64s, energy_uj: Int64s, span_ns: Integers, flags: Integers, seen_ns: int
    ) -> None:
        """Append samples, each array of shape (n,), in time order.

        Args:
            t_ns: when the reading was taken, ns.
            energy_uj: cumulative energy, uJ.
            span_ns: the sensor moved within so many ns before the reading.
            flags: ``GAP``, ``STOOD_STILL``.
            seen_ns: the newest successful reading, which may have found nothing moved.
        """
        n = len(t_ns)
        if n:
            rows, hidden, size = self._grown(n)
            before_ns = t_ns - span_ns
            stood = self._counter & ((flags & STOOD_STILL) != 0)
            new = rows[:, size : size + n]
            # The best guess for a change between two readings is the middle between them. Where
            # every reading found a change, the sensor is faster than they and moved just before.
            new[_MOVED] = np.where(stood, before_ns + span_ns // 2, t_ns)
            new[_BEFORE], new[_READ] = before_ns, t_ns
            new[_ENERGY], new[_FLAGS] = energy_uj, flags
            if not self._counter:
                _add_hidden(rows, hidden, size, size + n, self._tick_ns)
            for i in np.flatnonzero(flags & GAP):
                self._add_gap(int(before_ns[i]), int(t_ns[i]))
            self._store = _Store(rows, hidden, size + n)
            seen_ns = max(seen_ns, int(t_ns[-1]))
        self._seen_ns = max(self._seen_ns, seen_ns)

    def at(self, t_ns: int) -> Level:
        """Return E(t): energy since the first sample, J, never falling with ``t_ns``."""
        size = self._store.size
        if size == 0:
            return Level(0.0, 0.0, final=False)
        k = max(0, int(np.searchsorted(self._moved, t_ns, side="right")) - 1)
        return self._after_last(t_ns) if k == size - 1 else self._between(k, t_ns)

    def coverage(self, t0_ns: int, t1_ns: int) -> float:
        """Return the share of [t0, t1] in which the energy is known, 0..1."""
        size = self._store.size
        if size == 0 or t1_ns < t0_ns:
            return 0.0
        first_ns, last_ns = int(self._moved[0]), self._seen_ns
        if self._counter and size == 1 and last_ns - first_ns < _QUIET_NS:
            return 0.0  # still within its first tick: nothing is known yet
        if t1_ns == t0_ns:
            return 1.0
        known_from_ns = t0_ns if first_ns - t0_ns <= _SLACK_NS else first_ns
        known_to_ns = t1_ns if t1_ns - last_ns <= _SLACK_NS else last_ns
        known = max(0, known_to_ns - known_from_ns)
        lost = sum(max(0, min(t1_ns, b) - max(t0_ns, a)) for a, b in self._gaps)
        return max(0.0, known - lost) / (t1_ns - t0_ns)

    def power(self, t0_ns: int, t1_ns: int) -> tuple[Int64s, Floats]:
        """Return the mean power between changes within [t0, t1]: times (n,) ns, watts (n,).

        Each time is the end of the interval that its watts are the mean of.
        """
        inside = slice(
            max(0, int(np.searchsorted(self._moved, t0_ns, side="left")) - 1),
            int(np.searchsorted(self._moved, t1_ns, side="right")) + 1,
        )
        t_ns, energy_uj = self._moved[inside], self._row(_ENERGY)[inside]
        if len(t_ns) < 2:
            return np.zeros(0, dtype=np.int64), np.zeros(0)
        seconds = np.maximum(1, np.diff(t_ns)) * _NANO
        return t_ns[1:].copy(), np.diff(energy_uj) * _MICRO / seconds

    def thin(self, before_ns: int, spacing_ns: int) -> None:
        """Keep one sample in each ``spacing_ns`` of the time before ``before_ns``.

        The function is unchanged at the samples that stay, so totals between them are too. The
        changes from which the rhythm at ``before_ns`` is learned stay as well.
        """
        rows, hidden, size = self._store
        old = int(np.searchsorted(self._moved, before_ns, side="left")) - _RHYTHM_CHANGES - 1
        first = self._thinned
        if old - first < _THIN_AT_LEAST or spacing_ns <= 0:
            return
        bucket = self._moved[first:old] // spacing_ns
        last_of_bucket = np.append(bucket[1:] != bucket[:-1], True)
        last_of_bucket[0] = last_of_bucket[0] or first == 0
        kept = np.concatenate(
            [np.arange(first), first + np.flatnonzero(last_of_bucket), np.arange(old, size)]
        )
        thinned = len(kept) - (size - old)
        fresh = rows[:, kept]
        # What happened in between is no longer known.
        fresh[_BEFORE, :thinned] = fresh[_READ, :thinned] = fresh[_MOVED, :thinned]
        fresh[_FLAGS, :thinned] &= GAP
        self._thinned = thinned
        self._store = _Store(fresh, hidden[kept], len(kept))

    @property
    def _moved(self) -> Int64s:
        return self._row(_MOVED)

    def _row(self, row: int) -> Int64s:
        return self._store.rows[row, : self._store.size]

    def _grown(self, n: int) -> _Store:
        """Return a store with room for ``n`` more, sharing what there is if it fits."""
        rows, hidden, size = self._store
        if size + n <= rows.shape[1]:
            return self._store
        capacity = max(2 * rows.shape[1], size + n)
        grown = _Store(np.zeros((5, capacity), dtype=np.int64), np.zeros(capacity), size)
        grown.rows[:, :size] = rows[:, :size]
        grown.hidden[:size] = hidden[:size]
        return grown

    def _add_gap(self, start_ns: int, end_ns: int) -> None:
        if self._gaps and start_ns <= self._gaps[-1][1]:
            self._gaps[-1] = (self._gaps[-1][0], end_ns)
        else:
            self._gaps.append((start_ns, end_ns))

    def _period_ns(self, k: int) -> int | None:
        """Return the refresh period around change ``k`` if the counter has a rhythm, else None.

        Learned from the changes up to ``k`` (the very first ones from each other), so that what
        comes later moves no value that was final.
        """
        if not self._counter:
            return None
        last = min(self._store.size, max(k + 1, _RHYTHM_LEAST + 3))
        # The first sample is where reading began, not a change.
        first = max(1, self._thinned, last - _RHYTHM_CHANGES)
        if last - first < 2:
            return None
        moved = self._moved[first:last]
        intervals = np.diff(moved)
        median = float(np.median(intervals))
        # Each change is known to half the distance of two readings either way.
        unsure = float(np.median(self._row(_READ)[first:last] - moved))
        near = np.abs(intervals - median) <= _RHYTHM_TOLERANCE * median + 2.0 * unsure
        if near.mean() < _RHYTHM_SHARE:
            return None
        period_ns = float(intervals[near].mean())
        usual = abs(period_ns - self._tick_ns) <= _RHYTHM_TOLERANCE * self._tick_ns
        enough = len(intervals) >= _RHYTHM_LEAST or usual
        return int(period_ns) if enough and 0 < period_ns <= _RHYTHM_LONGEST_NS else None

    def _rise(self, k: int, period_ns: int | None) -> tuple[int, int, bool]:
        """Return when E leaves the energy of sample k, when it reaches that of k + 1, ns, and
        whether it did so straight (as in a tick) or all at once.
        """
        rows = self._store.rows
        start_ns, end_ns = int(rows[_MOVED, k]), int(rows[_MOVED, k + 1])
        if not self._counter:
            return start_ns, end_ns, True
        in_ticks = bool(np.any(rows[_FLAGS, 1:3] & STOOD_STILL))
        if k == 0 and period_ns is not None and in_ticks:
            # Reading began somewhere within a tick, whose start lies one period before its end.
            start_ns = min(start_ns, end_ns - period_ns)
        regular = period_ns is not None and end_ns - start_ns <= 1.5 * period_ns
        if regular or not rows[_FLAGS, k + 1] & STOOD_STILL:
            return start_ns, end_ns, True
        # No rhythm: the counter stood still until its last unchanged reading.
        return max(start_ns, int(rows[_BEFORE, k + 1])), end_ns, False

    def _between(self, k: int, t_ns: int) -> Level:
        rows, hidden, size = self._store
        start_ns, end_ns, straight = self._rise(k, self._period_ns(k + 1))
        e0, e1 = int(rows[_ENERGY, k]), int(rows[_ENERGY, k + 1])
        share = min(1.0, max(0.0, (t_ns - start_ns) / max(1, end_ns - start_ns)))
        joules = (e0 + share * (e1 - e0)) * _MICRO
        if not self._counter:
            # A reading of power tells of the time before it: what was drawn here shows a tick
            # later.
            soon_ns = t_ns + self._tick_ns
            soon = min(size - 1, int(np.searchsorted(self._moved, soon_ns, side="right")))
            error = 2.0 * math.sqrt(max(0.0, hidden[soon] - hidden[k]))
            return Level(joules, error, soon_ns <= int(self._moved[-1]), float(hidden[k]))
        if straight:
            # Between two ticks the power may have had any shape; at a tick its time is unsure.
            shape_uj = 2.0 * (e1 - e0) * share * (1.0 - share)
            error_uj = math.hypot(shape_uj, self._edge_uj(k + 1, e1 - e0, end_ns - start_ns))
        else:
            error_uj = self._step_uj(k, t_ns) + self._step_uj(k + 1, t_ns)
        # Until there are enough changes to know the rhythm, more of them may still tell.
        settled = size > _RHYTHM_LEAST + 2 or self._seen_ns >= t_ns + _QUIET_NS
        return Level(joules, error_uj * _MICRO, final=settled)

    def _after_last(self, t_ns: int) -> Level:
        rows, hidden, size = self._store
        last = size - 1
        energy_uj, moved_ns = int(rows[_ENERGY, last]), int(rows[_MOVED, last])
        if last == 0:
            quiet = self._counter and self._seen_ns >= max(t_ns, moved_ns + _QUIET_NS)
            return Level(energy_uj * _MICRO, 0.0, final=quiet)
        period_ns = self._period_ns(last)
        start_ns, end_ns, straight = self._rise(last - 1, period_ns)
        rise_uj = energy_uj - int(rows[_ENERGY, last - 1])
        tick_ns = period_ns or self._tick_ns
        if self._counter and (not straight or self._seen_ns >= moved_ns + 2 * tick_ns):
            # It has stopped ticking, or never had a rhythm: it is where it was last seen.
            final = self._seen_ns >= t_ns + tick_ns
            error_uj = self._step_uj(last, t_ns) if final else float(rise_uj)
            return Level(energy_uj * _MICRO, error_uj * _MICRO, final)
        # As before for one more tick (or one more reading of power), and no further.
        ahead_ns = min(max(0, t_ns - moved_ns), period_ns or end_ns - start_ns)
        share = ahead_ns / max(1, end_ns - start_ns)
        # Its shape, as between two ticks, and how much it will be.
        error_uj = 2.0 * rise_uj * share * max(0.0, 1.0 - share) + 0.5 * rise_uj * share
        error_uj += self._edge_uj(last, rise_uj, end_ns - start_ns)
        joules = (energy_uj + rise_uj * share) * _MICRO
        return Level(joules, error_uj * _MICRO, final=False, hidden_joules2=float(hidden[last]))

    def _edge_uj(self, k: int, rise_uj: int, length_ns: int) -> float:
        """Return what not knowing the moment of the change at sample k can hide, uJ."""
        if not self._counter:
            return 0.0
        rows = self._store.rows
        if rows[_FLAGS, k] & STOOD_STILL:
            unsure_ns = int(rows[_READ, k] - rows[_MOVED, k])
        else:
            # Every reading finds a change: it was at most a reading, or a usual tick, ago.
            unsure_ns = max(self._tick_ns, int(rows[_READ, k] - rows[_BEFORE, k]) // 2)
        return rise_uj * min(1.0, unsure_ns / max(1, length_ns))

    def _step_uj(self, k: int, t_ns: int) -> float:
        """Return the whole step at sample k if it may lie on either side of t, uJ."""
        rows = self._store.rows
        if k == 0 or not rows[_BEFORE, k] <= t_ns <= rows[_READ, k]:
            return 0.0
        return float(rows[_ENERGY, k] - rows[_ENERGY, k - 1])


def _add_hidden(rows: Int64s, hidden: Floats, first: int, end: int, tick_ns: int) -> None:
    """Sum up, for samples ``first`` to ``end``, what readings of power leave open.

    Power that was read to change did so at some moment of the sensor's usual refresh period, or
    since the reading before if that is longer ago. Such errors are independent of each other, so
    their squares add.
    """
    begin = max(0, first - 2)
    t_ns, energy_uj = rows[_MOVED, begin:end], rows[_ENERGY, begin:end]
    variance = np.zeros(end - begin)
    interval_s = np.maximum(1, np.diff(t_ns)) * _NANO
    jumps = np.abs(np.diff(np.diff(energy_uj) * _MICRO / interval_s))
    variance[2:] = (jumps * np.maximum(interval_s[1:], tick_ns * _NANO)) ** 2
    before = hidden[first - 1] if first else 0.0
    hidden[first:end] = before + np.cumsum(variance[first - begin :])
