"""Conversion of CLOCK_MONOTONIC to wall-clock time, by one moment read on both clocks."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_ATTEMPTS = 5


class Anchor(NamedTuple):
    """The same moment on CLOCK_MONOTONIC and on CLOCK_REALTIME.

    Both run at the same speed (NTP slews them together), so one anchor is valid until the clock is
    set or the machine is suspended.
    """

    monotonic_ns: int
    unix_ns: int

    @property
    def offset_ns(self) -> int:
        """Return the difference from CLOCK_MONOTONIC to nanoseconds since 1970, UTC."""
        return self.unix_ns - self.monotonic_ns


def read_anchor() -> Anchor:
    """Return this moment on both clocks; the error is under a microsecond on an idle machine.

    The wall clock is read between two readings of the monotonic clock, several times. The
    narrowest pair counts, because the process was not interrupted within it.
    """
    tries = []
    for _ in range(_ATTEMPTS):
        before_ns, unix_ns, after_ns = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        tries.append((after_ns - before_ns, Anchor((before_ns + after_ns) // 2, unix_ns)))
    return min(tries)[1]


def nearest(anchors: Sequence[Anchor], unix_ns: int) -> Anchor:
    """Return the anchor that was read closest to ``unix_ns``.

    Raises:
        ValueError: ``anchors`` is empty.
    """
    return min(anchors, key=lambda anchor: abs(anchor.unix_ns - unix_ns))


def disagreement_ns(anchors: Sequence[Anchor]) -> int:
    """Return the range of the anchors of one run: the clock was set, or the machine suspended."""
    offsets = [anchor.offset_ns for anchor in anchors]
    return max(offsets) - min(offsets) if offsets else 0
