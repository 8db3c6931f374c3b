"""What a stretch of time has cost: of an epoch, a command, a training, or a run so far."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from carbontracker.carbon.footprint import Footprint
from carbontracker.energy.energy import Energy, kind_of
from carbontracker.json_values import seconds_of
from carbontracker.model.work import UNCOUNTED, Quotient, Work, per_unit

if TYPE_CHECKING:
    from collections.abc import Mapping


GPU = "gpu"


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
    work: Work = field(default=UNCOUNTED, kw_only=True)
    """What was done in that time, as far as it was counted."""

    @property
    def end_s(self) -> float:
        """Return the end, s from the start of monitoring."""
        return round(self.start_s + self.seconds, 9)  # marks are whole nanoseconds

    def joules_per(self, unit: str) -> Quotient:
        """Return the energy, without PUE, for one of ``tokens``, ``samples`` or ``flops``, J."""
        energy = self.energy
        return per_unit(energy.joules, energy.error_joules, getattr(self.work, unit))

    def gco2eq_per(self, unit: str, count: float = 1.0) -> Quotient:
        """Return the emissions, with PUE, for ``count`` of such a unit, gCO2eq."""
        footprint = self.footprint
        units = getattr(self.work, unit) / count
        return per_unit(footprint.gco2eq, footprint.error_gco2eq, units)

    def per_second(self, unit: str) -> float:
        """Return how many of such a unit were done in a second; NaN if that is not known."""
        done: float = getattr(self.work, unit)
        return done / self.seconds if self.seconds > 0 else math.nan

    @property
    def gpus(self) -> float:
        """Return how many GPUs it has the energy of; NaN if devices are not told apart."""
        energy = self.energy
        if energy.by_device:
            return sum(kind_of(name) == GPU for name in energy.by_device)
        return math.nan if GPU in energy.by_kind or math.isnan(energy.joules) else 0

    @property
    def gpu_hours(self) -> float:
        """Return the time times the number of GPUs, h; NaN if that is not known."""
        return self.gpus * self.seconds / 3600

    def flops_utilisation(self, peak_flops_per_second: float) -> float:
        """Return the share of the peak of all its GPUs that the counted operations are, 0..1."""
        peak = peak_flops_per_second * self.seconds
        return self.work.flops / peak if peak > 0 else math.nan

    def of_job(self, ratio: float) -> Measurement:
        """Return the same of a job that uses ``ratio`` times the energy."""
        energy = self.energy
        joules, error_joules = energy.joules * ratio, energy.error_joules * ratio
        scaled = Energy(
            joules,
            error_joules,
            energy.modelled_joules * ratio,
            energy.quality,
            energy.coverage,
            seconds=energy.seconds,
        )
        footprint = self.footprint.of_joules(joules, error_joules)
        return Measurement(self.seconds, scaled, footprint, final=self.final)

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
            **({"work": self.work.to_dict()} if self.work else {}),
        }

    @staticmethod
    def values_of(data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments in such an object; what is missing or damaged becomes NaN."""
        seconds = seconds_of(data.get("seconds"))
        return {
            "seconds": seconds,
            "energy": Energy.from_dict(data.get("energy"), seconds),
            "footprint": Footprint.from_dict(data.get("footprint")),
            "work": Work.from_dict(data.get("work")),
        }
