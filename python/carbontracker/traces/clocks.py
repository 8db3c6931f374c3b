"""One moment on two clocks: what lays stamps of CLOCK_MONOTONIC over traces in wall-clock time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_ATTEMPTS = 5


class Anchor(NamedTuple):
    """The same moment on CLOCK_MONOTONIC and on CLOCK_REALTIME.

    Both run at one speed (NTP slews them together), so that one anchor is good until somebody sets
    the clock or the machine sleeps.
    """

    monotonic_ns: int
    unix_ns: int

    @property
    def offset_ns(self) -> int:
        """Return what turns a stamp of CLOCK_MONOTONIC into nanoseconds since 1970, UTC."""
        return self.unix_ns - self.monotonic_ns


def read_anchor() -> Anchor:
    """Return this moment on both clocks, to within a microsecond unless the machine is very busy.

    The wall clock is read between two readings of the other one, several times over; the narrowest
    pair, in which nobody was interrupted, counts.
    """
    tries = []
    for _ in range(_ATTEMPTS):
        before_ns, unix_ns, after_ns = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        tries.append((after_ns - before_ns, Anchor((before_ns + after_ns) // 2, unix_ns)))
    return min(tries)[1]


def nearest(anchors: Sequence[Anchor], unix_ns: int) -> Anchor:
    """Return the anchor that was read closest to a moment.

    Raises:
        ValueError: there are none.
    """
    return min(anchors, key=lambda anchor: abs(anchor.unix_ns - unix_ns))


def disagreement_ns(anchors: Sequence[Anchor]) -> int:
    """Return by how much the anchors of one run differ: the clock was set, or the machine slept."""
    offsets = [anchor.offset_ns for anchor in anchors]
    return max(offsets) - min(offsets) if offsets else 0
