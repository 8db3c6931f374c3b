"""One epoch: when it was, and what it has cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carbontracker.carbon.footprint import Footprint
from carbontracker.energy.energy import Energy
from carbontracker.json_values import seconds_of, whole

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Epoch:
    """One epoch, finished or cut short."""

    index: int
    """From 1."""
    seconds: float
    energy: Energy
    footprint: Footprint
    finished: bool
    """False of one that was stopped, and of one that is still open."""
    final: bool
    """The energy will not change any more; False while a sensor has not moved past the end."""
    start_s: float = math.nan
    """Seconds from the start of monitoring; NaN if unknown."""

    @property
    def end_s(self) -> float:
        """Return the end, s from the start of monitoring."""
        return round(self.start_s + self.seconds, 9)  # marks are whole nanoseconds

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of the record."""
        span = {"start_s": self.start_s, "end_s": self.end_s}
        return {
            "index": self.index,
            "finished": self.finished,
            "final": self.final,
            "seconds": self.seconds,
            "energy": self.energy.to_dict(),
            "footprint": self.footprint.to_dict(),
            **({} if math.isnan(self.start_s) else span),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Epoch:
        """Return the epoch of such an object; what is missing or damaged becomes NaN."""
        seconds = seconds_of(data.get("seconds"))
        start_s = seconds_of(data.get("start_s"), seconds_of(data.get("end_s")) - seconds)
        return cls(
            index=whole(data.get("index")),
            seconds=seconds,
            energy=Energy.from_dict(data.get("energy"), seconds),
            footprint=Footprint.from_dict(data.get("footprint")),
            finished=bool(data.get("finished", True)),
            final=bool(data.get("final", True)),
            start_s=start_s,
        )
