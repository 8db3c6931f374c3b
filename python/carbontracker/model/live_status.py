"""The state of a run, or of a machine, at one moment."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carbontracker.model.measurement import Measurement

if TYPE_CHECKING:
    from carbontracker.model.device import Device


@dataclass(frozen=True, repr=False)
class LiveStatus(Measurement):
    """A run at one moment: what it has cost since its beginning, and the power now."""

    devices: tuple[Device, ...]
    tracker_cpu_seconds: float
    """CPU time of the sampling threads, s."""

    @property
    def watts(self) -> float:
        """Return the power of all devices, W; NaN if no device's power is known."""
        known = [device.watts for device in self.devices if not math.isnan(device.watts)]
        return math.fsum(known) if known else math.nan
