"""What can be read on this machine, at what rate, what cannot, why, and what mends it."""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carbontracker.energy.session import Config, acquire, release

if TYPE_CHECKING:
    from collections.abc import Callable

    from carbontracker.energy.session import Session


@dataclass(frozen=True)
class Readable:
    """A channel that is read."""

    id: str
    """``gpu:0``, ``cpu:0``, ``dram:0``."""
    kind: str
    name: str
    """What the hardware calls itself."""
    source: str
    """The sensor that reads it."""
    quality: str
    """``measured``, ``integrated`` or ``modelled``."""
    detail: str
    counted: bool
    """It enters the totals."""
    why: str
    """If not counted: the reason."""
    watts: float | None
    """Mean power while the machine was looked at; None if it could not be told."""
    readings_per_second: float
    refresh_seconds: float | None
    """The sensor's own refresh period as learned, s; None where it has none."""
    alternate_of: str | None
    """The channel that owns the same thing, and that this one stands by for."""
    relative_error: float
    """95 % half-width of what is known of the channel's gain: 0.05 is +/- 5 %. Of an interval
    with two sides (-60 to +150 %) the longer one."""


@dataclass(frozen=True)
class Absent:
    """Something that is not read here."""

    source: str
    what: str
    reason: str
    remedy: str
    """The command that mends it; empty if nothing does."""
    device: str
    """``gpu:card0`` of a device that is there and draws power, but is not in any total; else
    empty."""


@dataclass(frozen=True)
class Failed:
    """A channel that another one has taken over from."""

    id: str
    why: str
    successor: str


@dataclass(frozen=True)
class Sensors:
    """The outcome of looking."""

    readable: tuple[Readable, ...]
    absent: tuple[Absent, ...]
    failed: tuple[Failed, ...]
    """Channels that were found wrong or dead."""
    tracker_cpu_seconds: float
    """CPU time that looking has cost, s."""


PATIENCE_S = 30.0
"""How long a look waits for sensors to answer, s: a driver's initialisation takes up to 15 s."""


def sensors(
    seconds: float = 0.5,
    patience_s: float = PATIENCE_S,
    while_waiting: Callable[[], None] | None = None,
) -> Sensors:
    """Probe this machine and look at it for so many seconds.

    Args:
        seconds: how long to look.
        patience_s: how long to wait for sensors to answer, s.
        while_waiting: called every few milliseconds while they are waited for.
    """
    session = acquire(Config.from_environment(), patience_s, while_waiting)
    try:
        return _look(session, seconds)
    finally:
        release(session)


def _look(session: Session, seconds: float) -> Sensors:
    start = session.mark()
    time.sleep(seconds)
    end = session.mark()
    energy = session.energy(start, end)
    rates = session.rates_hz()
    elapsed = (end.t_ns - start.t_ns) / 1e9
    readable = []
    for index, entry in enumerate(session.entries):
        if not entry.read:
            continue  # it is among what is absent
        stats = session.channel_stats(index)
        tick_ns = stats.tick_ns if stats else 0
        part = energy.by_device.get(entry.id) if entry.counted else None
        if part is None:
            t_ns, watts = session.power(index, start.t_ns, end.t_ns)
            ends_ns = [start.t_ns, *t_ns.tolist()]
            lengths_ns = [max(1, b - a) for a, b in itertools.pairwise(ends_ns)]
            joules = sum(w * length for w, length in zip(watts.tolist(), lengths_ns, strict=True))
            mean = joules / sum(lengths_ns) if lengths_ns else None
        else:
            known_s = elapsed * part.coverage
            mean = part.joules / known_s if known_s > 0 and not math.isnan(part.joules) else None
        readable.append(
            Readable(
                entry.id,
                entry.kind,
                entry.name,
                entry.source,
                entry.quality,
                entry.detail,
                entry.counted,
                entry.why,
                mean,
                rates[entry.id],
                (tick_ns / 1e9) if tick_ns else None,
                entry.alternate_of or None,
                entry.relative_error,
            )
        )
    absent = tuple(Absent(m.source, m.what, m.reason, m.remedy, m.device) for m in session.missing)
    failed = tuple(Failed(one.owner, one.why, one.successor) for one in session.successions())
    return Sensors(tuple(readable), absent, failed, session.cpu_seconds)
