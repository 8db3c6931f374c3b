"""What a stretch of time has cost: of an epoch, a command, a training, or a run so far."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from carbontracker.carbon.footprint import Footprint
from carbontracker.energy.energy import Energy
from carbontracker.json_values import seconds_of

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, repr=False)
class Measurement:
    """The energy and the footprint of a stretch of time."""

    seconds: float
    """Length, s."""
    energy: Energy
    """Energy in that time, without PUE."""
    footprint: Footprint
    """The same with PUE, and its emissions."""
    start_s: float = field(default=math.nan, kw_only=True)
    """Seconds from the start of monitoring; NaN if unknown."""
    final: bool = field(default=True, kw_only=True)
    """The energy will not change any more; False while a sensor has not moved past the end,
    and of a run without an end."""

    @property
    def end_s(self) -> float:
        """Return the end, s from the start of monitoring."""
        return round(self.start_s + self.seconds, 9)  # marks are whole nanoseconds

    def __repr__(self) -> str:
        """Return the main values in one line."""
        # By name: views know this module, and it does not know them.
        text: str = import_module("carbontracker.report.brief").measurement(self)
        return text

    def to_dict(self) -> dict[str, Any]:
        """Return what the JSON objects of all measurements share."""
        return {
            "seconds": self.seconds,
            "energy": self.energy.to_dict(),
            "footprint": self.footprint.to_dict(),
        }

    @staticmethod
    def values_of(data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments in such an object; what is missing or damaged becomes NaN."""
        seconds = seconds_of(data.get("seconds"))
        return {
            "seconds": seconds,
            "energy": Energy.from_dict(data.get("energy"), seconds),
            "footprint": Footprint.from_dict(data.get("footprint")),
        }
