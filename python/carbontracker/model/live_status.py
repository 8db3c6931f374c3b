"""The state of a run, or of a machine, at one moment."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carbontracker.model.measurement import Measurement

if TYPE_CHECKING:
    from carbontracker.energy.energy import Energy


@dataclass(frozen=True)
class DeviceStatus:
    """One counted device."""

    id: str
    """``gpu:0``, ``cpu:0``, ``dram:0``."""
    kind: str
    name: str
    """What the hardware calls itself."""
    quality: str
    """``measured``, ``integrated`` or ``modelled``: how its channel knows; ``missing`` of a device
    that cannot be read."""
    watts: float
    """Mean power of the last second, W; NaN if it is not known."""
    energy: Energy
    """Since the beginning, without PUE."""
    gco2eq: float
    """The same with PUE, each hour with the intensity of its own time."""
    readings_per_second: float
    """As achieved so far; NaN if it is not known."""


@dataclass(frozen=True)
class LiveStatus(Measurement):
    """A run at one moment: what it has cost since its beginning, and the power now."""

    devices: tuple[DeviceStatus, ...]
    tracker_cpu_seconds: float
    """CPU time of the sampling threads, s."""

    @property
    def watts(self) -> float:
        """Return the power of all devices, W; NaN if no device's power is known."""
        known = [device.watts for device in self.devices if not math.isnan(device.watts)]
        return math.fsum(known) if known else math.nan
