"""Energy between two moments: arithmetic on the levels of E(t), and nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from carbontracker.constants import JOULES_PER_KWH

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from carbontracker.timeline import Level


class ChannelInfo(NamedTuple):
    """What the arithmetic needs to know of a channel."""

    id: str
    kind: str
    quality: str
    """``measured``, ``integrated`` or ``modelled``."""
    relative_error: float
    """95 % half-width of the sensor's gain tolerance, as a share of the energy."""
    counted: bool
    """The channel is a root: it enters the totals."""


@dataclass(frozen=True)
class Energy:
    """Energy of the machine over a window, without PUE; the sum of root channels only."""

    joules: float
    """J; NaN if nothing could be read."""
    error_joules: float
    """95 % half-width, J."""
    modelled_joules: float
    """The part of ``joules`` that is an estimate, J."""
    quality: str
    """``measured``, ``integrated``, ``modelled``, or ``mixed``; ``missing`` if there is none."""
    coverage: float
    """Share of the window and channels in which energy is known, 0..1."""
    by_device: dict[str, Energy] = field(default_factory=dict)
    """The same by channel: ``gpu:0``, ``cpu:0``, ``dram:0``."""
    by_kind: dict[str, Energy] = field(default_factory=dict)
    """The same by kind: ``gpu``, ``cpu``, ``dram``."""

    @property
    def kwh(self) -> float:
        """Return the energy in kWh, without PUE."""
        return self.joules / JOULES_PER_KWH


MISSING = Energy(math.nan, math.nan, 0.0, "missing", 0.0)
"""No channel could be read. Missing is not zero."""


def window_energy(
    channels: Sequence[ChannelInfo],
    start: Sequence[Level],
    end: Sequence[Level],
    coverage: Sequence[float],
) -> Energy:
    """Return the energy between two sets of levels, one level a channel, in the same order.

    Because each moment has one level, E(a, b) + E(b, c) = E(a, c) whatever the moments.
    """
    devices: dict[str, Energy] = {}
    kinds: dict[str, list[Energy]] = {}
    for channel, a, b, covered in zip(channels, start, end, coverage, strict=True):
        if not channel.counted:
            continue
        devices[channel.id] = _channel_energy(channel, a, b, covered)
        kinds.setdefault(channel.kind, []).append(devices[channel.id])
    by_kind = {kind: _sum(parts) for kind, parts in kinds.items()}
    return _sum(devices.values(), by_device=devices, by_kind=by_kind)


def _channel_energy(channel: ChannelInfo, a: Level, b: Level, coverage: float) -> Energy:
    joules = max(0.0, b.joules - a.joules)
    if coverage <= 0.0 or (coverage < 1.0 and joules == 0.0):
        return MISSING
    edges = math.hypot(a.error_joules, b.error_joules)
    # What an uncovered stretch may have held is judged by the rest of the window.
    lost = joules * (1.0 / coverage - 1.0)
    hidden = 2.0 * math.sqrt(max(0.0, b.hidden_joules2 - a.hidden_joules2))
    error = edges + hidden + channel.relative_error * joules + lost
    modelled = joules if channel.quality == "modelled" else 0.0
    return Energy(joules, error, modelled, channel.quality, coverage)


def _sum(
    parts: Iterable[Energy],
    by_device: Mapping[str, Energy] | None = None,
    by_kind: Mapping[str, Energy] | None = None,
) -> Energy:
    everything = list(parts)
    known = [part for part in everything if not math.isnan(part.joules)]
    if not known:
        return Energy(
            math.nan, math.nan, 0.0, "missing", 0.0, dict(by_device or {}), dict(by_kind or {})
        )
    qualities = {part.quality for part in known}
    joules = math.fsum(part.joules for part in known)
    # What is missing altogether is judged by the rest, like an uncovered stretch.
    lost = joules * (len(everything) - len(known)) / len(known)
    return Energy(
        joules=joules,
        # Tolerances of like sensors may all point one way, so they are added, not averaged out.
        error_joules=math.fsum(part.error_joules for part in known) + lost,
        modelled_joules=math.fsum(part.modelled_joules for part in known),
        quality=qualities.pop() if len(qualities) == 1 else "mixed",
        coverage=math.fsum(part.coverage for part in everything) / len(everything),
        by_device=dict(by_device or {}),
        by_kind=dict(by_kind or {}),
    )


def add_windows(windows: Sequence[Energy]) -> Energy:
    """Return the energy of several windows together, device by device.

    A device that is missing from every window stays missing; in some of them, its coverage says
    so. Coverage is the mean over the windows.
    """
    if not windows:
        return Energy(0.0, 0.0, 0.0, "missing", 1.0)  # no time, no energy, and no sensor's word
    devices = _collect_by(windows, "by_device")
    kinds = _collect_by(windows, "by_kind")
    return _sum(windows, by_device=devices, by_kind=kinds)


def _collect_by(windows: Sequence[Energy], name: str) -> dict[str, Energy]:
    keys = dict.fromkeys(key for window in windows for key in getattr(window, name))
    return {
        key: _sum(getattr(window, name).get(key, MISSING) for window in windows) for key in keys
    }
