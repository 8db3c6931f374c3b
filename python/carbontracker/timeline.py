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

# A window may end this long after the newest reading and still count as covered: readings are
# periodic, marks are not.
_SLACK_NS = 250_000_000

_MICRO = 1e-6
_NANO = 1e-9


class Level(NamedTuple):
    """E(t) at one moment."""

    joules: float
    error_joules: float
    """95 % half-width of the timing and quantisation error, J."""
    final: bool
    """False while a later sample may still move the value."""
    unseen_joules: float = 0.0
    """What power between readings may have hidden since the start, J; grows like the energy."""


class Timeline:
    """The samples of one channel and the function E(t) through them.

    Args:
        counter: the channel is an energy counter, which moves in ticks; otherwise its samples are
            the running integral of power readings, and E(t) is straight between them.
        tick_ns: the counter's usual refresh period, used until its own is learned.
    """

    def __init__(self, *, counter: bool, tick_ns: int) -> None:
        self._counter = counter
        self._tick_ns = tick_ns
        # Rows: when the sensor moved, the latest moment known to be before that (the same where
        # that is not known), energy in uJ, flags, unseen energy in uJ. Grown by doubling.
        self._rows = np.zeros((5, 256), dtype=np.int64)
        self._size = 0
        self._seen_ns = 0
        self._gaps: list[tuple[int, int]] = []
        self._changed_ns = 0  # when power last differed from the reading before

    def __len__(self) -> int:
        """Return the number of samples held."""
        return self._size

    @property
    def start_ns(self) -> int | None:
        """When the first sample was taken; None before there is one."""
        return int(self._rows[0, 0]) if self._size else None

    @property
    def seen_ns(self) -> int:
        """When the sensor was last read successfully; 0 if never."""
        return self._seen_ns

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
        self._seen_ns = max(self._seen_ns, seen_ns)
        n = len(t_ns)
        if n == 0:
            return
        self._reserve(n)
        before_ns = t_ns - span_ns.astype(np.int64)
        stood = self._counter & ((flags & STOOD_STILL) != 0)
        rows = self._rows[:, self._size : self._size + n]
        # The best guess for a change between two readings is the middle between them. Where every
        # reading found a change, the sensor is faster than the readings and moved just before.
        rows[0] = np.where(stood, before_ns + (t_ns - before_ns) // 2, t_ns)
        rows[1] = np.where(stood, before_ns, t_ns)
        rows[2] = energy_uj
        rows[3] = flags
        for i in np.flatnonzero(flags & GAP):
            self._gaps.append((int(before_ns[i]), int(t_ns[i])))
        self._size += n
        if not self._counter:
            self._add_unseen(self._size - n)
        self._seen_ns = max(self._seen_ns, int(t_ns[-1]))

    def at(self, t_ns: int) -> Level:
        """Return E(t): energy since the first sample, J, never falling with ``t_ns``."""
        if self._size == 0:
            return Level(0.0, 0.0, final=False)
        period_ns = self._period_ns()
        k = max(0, int(np.searchsorted(self._moved, t_ns, side="right")) - 1)
        if k == self._size - 1:
            return self._after_last(t_ns, period_ns)
        return self._between(k, t_ns, period_ns)

    def coverage(self, t0_ns: int, t1_ns: int) -> float:
        """Return the share of [t0, t1] in which the energy is known, 0..1."""
        if self._size == 0 or t1_ns <= t0_ns:
            return 1.0 if self._size and t1_ns == t0_ns else 0.0
        first_ns, last_ns = int(self._rows[0, 0]), self._seen_ns
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
        t_ns, energy_uj = self._moved[inside], self._energy[inside]
        if len(t_ns) < 2:
            return np.zeros(0, dtype=np.int64), np.zeros(0)
        return t_ns[1:].copy(), np.diff(energy_uj) * _MICRO / (np.diff(t_ns) * _NANO)

    def thin(self, before_ns: int, spacing_ns: int) -> None:
        """Keep one sample in each ``spacing_ns`` of the time before ``before_ns``.

        The function is unchanged at the samples that stay, so totals between them are too.
        """
        old = int(np.searchsorted(self._moved, before_ns, side="left"))
        # The newest changes are those that the rhythm is learned from: without them E(t) between
        # later samples would be another.
        old = min(old, self._size - _RHYTHM_CHANGES - 1)
        if old < 3 or spacing_ns <= 0:
            return
        bucket = self._moved[:old] // spacing_ns
        last_of_bucket = np.append(bucket[1:] != bucket[:-1], True)
        last_of_bucket[0] = True
        kept = np.flatnonzero(last_of_bucket)
        if len(kept) == old:
            return
        rest = self._rows[:, old : self._size].copy()
        thinned = self._rows[:, kept].copy()
        thinned[1] = thinned[0]  # what happened in between is no longer known
        thinned[3] &= GAP
        self._size = len(kept) + rest.shape[1]
        self._rows[:, : len(kept)] = thinned
        self._rows[:, len(kept) : self._size] = rest

    def _add_unseen(self, first: int) -> None:
        """Add up, from sample ``first`` on, what readings of power leave open.

        Power that was read to change did so at some moment since it last had: within the
        sensor's usual refresh period, or since the reading before if that is longer ago. All this
        may point one way (a wave in step with the readings), so it is added.
        """
        begin = max(0, first - 2)
        t_ns, energy_uj = self._moved[begin:], self._energy[begin:]
        unseen_uj = np.zeros(len(t_ns))
        per_second = 1.0 / (np.maximum(1, np.diff(t_ns)) * _NANO)
        jumps = np.abs(np.diff(np.diff(energy_uj) * _MICRO * per_second))
        # Energy is stored in whole microjoules: less than that is no change.
        least = 2.0 * _MICRO * (per_second[1:] + per_second[:-1])
        changed = np.flatnonzero(jumps > least) + 2
        changed = changed[begin + changed >= first]
        if len(changed):
            since_ns = np.diff(t_ns[changed], prepend=self._changed_ns)
            interval_ns = np.diff(t_ns)[changed - 1]
            since_ns = np.maximum(np.minimum(since_ns, self._tick_ns), interval_ns)
            unseen_uj[changed] = jumps[changed - 2] * since_ns * _NANO / _MICRO
            self._changed_ns = int(t_ns[changed[-1]])
        before = int(self._rows[4, first - 1]) if first else 0
        self._rows[4, first : self._size] = before + np.cumsum(unseen_uj[first - begin :])

    def _unseen_joules(self, t_ns: int) -> float:
        k = max(0, int(np.searchsorted(self._moved, t_ns, side="right")) - 1)
        return float(self._rows[4, k]) * _MICRO

    @property
    def _moved(self) -> Int64s:
        return self._rows[0, : self._size]

    @property
    def _energy(self) -> Int64s:
        return self._rows[2, : self._size]

    def _reserve(self, n: int) -> None:
        capacity = self._rows.shape[1]
        if self._size + n <= capacity:
            return
        grown = np.zeros((len(self._rows), max(2 * capacity, self._size + n)), dtype=np.int64)
        grown[:, : self._size] = self._rows[:, : self._size]
        self._rows = grown

    def _period_ns(self) -> int | None:
        """Return the refresh period if the counter has a rhythm, else None."""
        if not self._counter or self._size < 3:
            return None
        # The first sample is where reading began, not a change.
        first = max(1, self._size - _RHYTHM_CHANGES)
        intervals = np.diff(self._moved[first:])
        median = float(np.median(intervals))
        # Each change is known to half the distance of two readings either way.
        unsure = float(np.median(self._moved[first:] - self._rows[1, first : self._size]))
        near = np.abs(intervals - median) <= _RHYTHM_TOLERANCE * median + 2.0 * unsure
        if near.mean() < _RHYTHM_SHARE:
            return None
        period_ns = float(intervals[near].mean())
        usual = abs(period_ns - self._tick_ns) <= _RHYTHM_TOLERANCE * self._tick_ns
        enough = len(intervals) >= _RHYTHM_LEAST or usual
        return int(period_ns) if enough and 0 < period_ns <= _RHYTHM_LONGEST_NS else None

    def _rise(self, k: int, period_ns: int | None) -> tuple[int, int]:
        """Return when E leaves the energy of sample k and when it reaches that of k + 1, ns."""
        start_ns, end_ns = int(self._rows[0, k]), int(self._rows[0, k + 1])
        if not self._counter:
            return start_ns, end_ns
        if k == 0 and period_ns is not None:
            # Reading began somewhere within a tick, whose start lies one period before its end.
            start_ns = min(start_ns, end_ns - period_ns)
        regular = period_ns is not None and end_ns - start_ns <= 1.5 * period_ns
        if regular or not self._rows[3, k + 1] & STOOD_STILL:
            return start_ns, end_ns
        # No rhythm: the counter stood still until its last unchanged reading.
        return max(start_ns, int(self._rows[1, k + 1])), end_ns

    def _between(self, k: int, t_ns: int, period_ns: int | None) -> Level:
        start_ns, end_ns = self._rise(k, period_ns)
        e0, e1 = int(self._rows[2, k]), int(self._rows[2, k + 1])
        share = min(1.0, max(0.0, (t_ns - start_ns) / max(1, end_ns - start_ns)))
        # Between two ticks the power may have had any shape; at a tick only its time is unsure.
        shape_uj = 2.0 * (e1 - e0) * share * (1.0 - share)
        error_uj = math.hypot(shape_uj, self._edge_error_uj(k + 1, e1 - e0, start_ns, end_ns))
        joules = (e0 + share * (e1 - e0)) * _MICRO
        if self._counter:
            return Level(joules, error_uj * _MICRO, final=True)
        # A reading of power tells of the time before it: what was drawn here shows a tick later.
        soon_ns = t_ns + self._tick_ns
        unseen = self._unseen_joules(t_ns)
        error = error_uj * _MICRO + self._unseen_joules(soon_ns) - unseen
        return Level(joules, error, soon_ns <= int(self._moved[-1]), unseen)

    def _after_last(self, t_ns: int, period_ns: int | None) -> Level:
        last = self._size - 1
        energy_uj, moved_ns = int(self._rows[2, last]), int(self._rows[0, last])
        still = period_ns is None or self._seen_ns >= moved_ns + 2 * period_ns
        if last == 0 or (self._counter and still):
            final = self._counter and self._seen_ns >= t_ns
            return Level(energy_uj * _MICRO, 0.0, final=final)
        start_ns, end_ns = self._rise(last - 1, period_ns)
        rise_uj = energy_uj - int(self._rows[2, last - 1])
        # As before for one more tick (or one more reading of power), and no further.
        ahead_ns = min(max(0, t_ns - moved_ns), period_ns or end_ns - start_ns)
        share = ahead_ns / max(1, end_ns - start_ns)
        # Its shape, as between two ticks, and how much it will be.
        shape_uj = 2.0 * rise_uj * share * max(0.0, 1.0 - share)
        ahead_uj = rise_uj * share
        error_uj = shape_uj + 0.5 * ahead_uj
        error_uj += self._edge_error_uj(last, rise_uj, start_ns, end_ns)
        final = self._counter and t_ns <= moved_ns
        joules, error = (energy_uj + ahead_uj) * _MICRO, error_uj * _MICRO
        return Level(joules, error, final, self._unseen_joules(t_ns))

    def _edge_error_uj(self, k: int, rise_uj: int, start_ns: int, end_ns: int) -> float:
        """Return what not knowing the moment of the change at sample k can hide, uJ."""
        if not self._counter:
            return 0.0
        unsure_ns = int(self._rows[0, k] - self._rows[1, k]) or self._tick_ns
        return rise_uj * min(1.0, unsure_ns / max(1, end_ns - start_ns))
