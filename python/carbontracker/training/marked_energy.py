"""From marks to footprints: the energy between two marks, and in each slot of intensity."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING

from carbontracker.constants import JOULES_PER_KWH
from carbontracker.energy.session import Mark
from carbontracker.times import wall_time

if TYPE_CHECKING:
    from datetime import datetime

    from carbontracker.carbon.factors import CarbonFactors
    from carbontracker.carbon.footprint import Footprint
    from carbontracker.energy.energy import Energy
    from carbontracker.energy.session import Session


class MarkedEnergy:
    """The energy between two marks of a session, and in parts of that time.

    The session is asked once for each part, so that all figures come from the same readings.

    Args:
        session: has the marks.
        start: the first mark.
        end: the second one.
        energy: the energy between them, if it is known already.
    """

    def __init__(
        self, session: Session, start: Mark, end: Mark, energy: Energy | None = None
    ) -> None:
        self._session = session
        self.start, self.end = start, end
        self.energy = session.energy(start, end) if energy is None else energy
        began = wall_time(start.t_ns)
        self._times = began, began + timedelta(microseconds=(end.t_ns - start.t_ns) / 1e3)
        self._parts = {self._times: self.energy}

    @property
    def seconds(self) -> float:
        """Return the time between the marks, s."""
        return (self.end.t_ns - self.start.t_ns) / 1e9

    def footprint(self, factors: CarbonFactors) -> Footprint:
        """Return the footprint, with a slot for each carbon intensity of that time."""
        return factors.footprint(
            lambda a, b: self._between(a, b).joules, *self._times, self.energy.error_joules
        )

    def gco2eq(self, device: str, footprint: Footprint) -> float:
        """Return the part of one device in the emissions of the footprint, gCO2eq."""
        weighted = math.fsum(
            self._between(slot.start, slot.end).by_device[device].joules
            * slot.intensity.gco2eq_per_kwh
            for slot in footprint.slots
        )
        return weighted * footprint.pue / JOULES_PER_KWH

    def _between(self, start: datetime, end: datetime) -> Energy:
        part = start, end
        if part not in self._parts:
            self._parts[part] = self._session.energy(self._mark(start), self._mark(end))
        return self._parts[part]

    def _mark(self, moment: datetime) -> Mark:
        # The ends may be settled already; only what lies between them is looked up.
        start, end = self._times
        if moment == start:
            return self.start
        if moment == end:
            return self.end
        return Mark(None, False, self.start.t_ns + round((moment - start).total_seconds() * 1e9))
