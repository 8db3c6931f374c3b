"""The sensors of this machine: which can be read, how often, which cannot, why, and the remedy."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from carbontracker.energy.config import Config
from carbontracker.energy.session import acquire, release

if TYPE_CHECKING:
    from collections.abc import Callable

    from carbontracker.energy.session import Session


@dataclass(frozen=True)
class AvailableSensor:
    """A channel that is read."""

    id: str
    """``gpu:0``, ``cpu:0``, ``dram:0``."""
    kind: str
    name: str
    """The name that the hardware reports."""
    source: str
    """The sensor that reads it."""
    quality: str
    """``measured``, ``integrated`` or ``modelled``."""
    detail: str
    counted: bool
    """It enters the totals."""
    why: str
    """The reason, if the channel is not counted."""
    watts: float | None
    """Mean power during the observation; None if it is not known."""
    readings_per_second: float
    refresh_seconds: float | None
    """The measured update period of the sensor, s; None if the sensor has no period."""
    alternate_of: str | None
    """The active channel of the same device, for which this one is the standby."""
    relative_error: float
    """95 % half-width of the channel's gain: 0.05 is +/- 5 %. The longer side of an asymmetric
    interval (-60 to +150 %)."""
    part_of: str | None
    """The channel that contains this one."""
    covers: tuple[str, ...]
    """Kinds of other parts in the reading, such as ``cpu`` and ``dram`` in that of a module."""
    verified: str | None
    """What the reading was checked against: ``hardware``, ``recorded dump`` or
    ``documented layout``; None for an estimate."""
    read_by: str
    """The process that reads it, for all that share its readings: ``this process``,
    ``process 4711``."""

    def __repr__(self) -> str:
        """Return the main values in one line."""
        text: str = import_module("carbontracker.report.brief").available_sensor(self)
        return text


@dataclass(frozen=True)
class UnavailableSensor:
    """A sensor or device that is not read on this machine."""

    source: str
    what: str
    reason: str
    remedy: str
    """What to do about it, usually a command; empty if there is no remedy."""
    device: str
    """``gpu:card0``, if a device is present and draws power that no total contains; else empty."""

    def __repr__(self) -> str:
        """Return the main values in one line."""
        text: str = import_module("carbontracker.report.brief").unavailable_sensor(self)
        return text


@dataclass(frozen=True)
class FailedSensor:
    """A channel that failed and was replaced by another one."""

    id: str
    why: str
    successor: str


@dataclass(frozen=True)
class Sensors:
    """The sensors of this machine."""

    readable: tuple[AvailableSensor, ...]
    absent: tuple[UnavailableSensor, ...]
    failed: tuple[FailedSensor, ...]
    """Channels with wrong values or without values."""
    tracker_cpu_seconds: float
    """CPU time of the observation, s."""
    driver_seconds: dict[str, float]
    """Time within calls of each driver, by source, s."""
    seconds: float
    """How long the sensors were read, s."""
    not_shared: str
    """Why readings are not shared with other processes; empty if they may be, or if sharing is
    switched off."""

    def __repr__(self) -> str:
        """Return the main values in one line."""
        text: str = import_module("carbontracker.report.brief").sensors(self)
        return text


PROBE_TIMEOUT_S = 30.0
"""How long to wait for sensors to answer, s: the initialisation of a driver takes up to 15 s."""


def sensors(
    seconds: float = 0.5,
    probe_timeout_s: float = PROBE_TIMEOUT_S,
    while_waiting: Callable[[], None] | None = None,
) -> Sensors:
    """Probe the sensors of this machine and observe them for a while.

    Args:
        seconds: length of the observation, s.
        probe_timeout_s: how long to wait for sensors to answer, s.
        while_waiting: called every few milliseconds during that wait.
    """
    session = acquire(Config.from_environment(), probe_timeout_s, while_waiting)
    try:
        return _observe(session, seconds)
    finally:
        release(session)


def _observe(session: Session, seconds: float) -> Sensors:
    start = session.mark()
    time.sleep(seconds)
    end = session.mark()
    energy = session.energy(start, end)
    rates, readers = session.rates_hz(), session.read_by()
    elapsed = (end.t_ns - start.t_ns) / 1e9
    available = []
    for index, entry in enumerate(session.entries):
        if not entry.read:
            continue  # it is one of the unavailable
        stats = session.channel_stats(index)
        tick_ns = stats.tick_ns if stats else 0
        part = energy.by_device.get(entry.id) if entry.counted else None
        if part is None:
            mean = session.mean_watts(index, start.t_ns, end.t_ns)
        else:
            known_s = elapsed * part.coverage
            mean = part.joules / known_s if known_s > 0 and not math.isnan(part.joules) else None
        available.append(
            AvailableSensor(
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
                entry.standby_for or None,
                entry.relative_error,
                entry.part_of or None,
                tuple(entry.covers),
                entry.verified if entry.quality != "modelled" else None,
                readers.get(entry.id, "this process"),
            )
        )
    unavailable = tuple(
        UnavailableSensor(m.source, m.what, m.reason, m.remedy, m.device) for m in session.missing
    )
    failed = tuple(FailedSensor(one.owner, one.why, one.successor) for one in session.successions())
    return Sensors(
        tuple(available),
        unavailable,
        failed,
        session.cpu_seconds,
        session.driver_seconds(),
        max((stats.wall_ns / 1e9 for stats in session.stats().values()), default=0.0),
        session.share_failure,
    )
