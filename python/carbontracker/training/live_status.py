"""The status of a run while it goes on: power now, energy and emissions so far."""

from __future__ import annotations

import math
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from carbontracker.carbon.footprint import footprint
from carbontracker.energy.session import Mark
from carbontracker.model.live_status import DeviceStatus, LiveStatus
from carbontracker.times import wall_time

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from carbontracker.carbon.factors import CarbonFactors
    from carbontracker.carbon.footprint import Footprint
    from carbontracker.energy.energy import Energy
    from carbontracker.energy.session import Session
    from carbontracker.intensity.base import Intensity

POWER_OVER_S = 1.0
"""Power is the mean over so long before now, s: longer than any sensor takes to renew itself."""

_LOOK_AGAIN_S = 0.02
"""Display only, so a slow polling interval is sufficient."""


class StatusReader:
    """Reads the status of a run from its session, at any time and from any thread."""

    def __init__(self, session: Session, began: Mark, factors: Callable[[], CarbonFactors]) -> None:
        self._session = session
        self._began = began
        self._factors = factors
        """Returns the factors in use: the keys of a provider may come while the run goes on."""

    @property
    def here(self) -> bool:
        """Return False in a forked child, where nothing is sampled."""
        return self._session.owned_by_this_process

    def take(self, settle_s: float = 0.0) -> LiveStatus:
        """Return the status at this moment, from the newest readings of the sensors.

        Args:
            settle_s: wait at most so long for every sensor to move past this moment, so that its
                energy will not change any more; else it may be provisional.
        """
        session, began = self._session, self._began
        now = session.mark()
        deadline = time.monotonic() + settle_s
        while time.monotonic() < deadline and not session.is_final(now):
            time.sleep(_LOOK_AGAIN_S)
        energy = session.energy(began, now)
        watts = watts_of(session, began, now)
        parts = _Parts(session, (began, now), energy, self._factors())
        # In a forked child a lock of the core may never be free.
        rates = session.rates_hz() if session.owned_by_this_process else {}
        devices = tuple(
            DeviceStatus(
                id=entry.id,
                kind=entry.kind,
                name=entry.name,
                quality=entry.quality if entry.read else "missing",
                watts=watts.get(entry.id, math.nan),
                energy=energy.by_device[entry.id],
                gco2eq=parts.footprint(entry.id).gco2eq,
                readings_per_second=rates.get(entry.id, math.nan),
            )
            for entry in session.entries
            if entry.counted and entry.id in energy.by_device
        )
        known = [device.watts for device in devices if not math.isnan(device.watts)]
        return LiveStatus(
            seconds=(now.t_ns - began.t_ns) / 1e9,
            watts=math.fsum(known) if known else math.nan,
            energy=energy,
            footprint=parts.footprint(),
            devices=devices,
            tracker_cpu_seconds=session.cpu_seconds if session.owned_by_this_process else math.nan,
        )


def watts_of(
    session: Session, began: Mark | None = None, now: Mark | None = None
) -> dict[str, float]:
    """Return the mean power of each counted device over the last second, W."""
    now = session.mark() if now is None else now
    start_ns = now.t_ns - round(POWER_OVER_S * 1e9)
    if began is not None:
        start_ns = max(began.t_ns, start_ns)
    if start_ns >= now.t_ns:
        return {}
    energy = session.energy(Mark(None, False, start_ns), now)
    seconds = (now.t_ns - start_ns) / 1e9
    return {name: part.joules / seconds for name, part in energy.by_device.items()}


class _Parts:
    """The energy of each slot of intensity, asked for once and shared out to the devices."""

    def __init__(
        self, session: Session, ends: tuple[Mark, Mark], energy: Energy, factors: CarbonFactors
    ) -> None:
        began, now = ends
        self._factors = factors
        start = wall_time(began.t_ns)
        end = start + timedelta(microseconds=(now.t_ns - began.t_ns) / 1e3)

        def mark(moment: datetime) -> Mark:
            return Mark(None, False, began.t_ns + round((moment - start).total_seconds() * 1e9))

        self._slots: list[tuple[Energy, Intensity]] = []
        for slot in factors.intensities(start, end):
            first = began if slot.start is None or slot.start <= start else mark(slot.start)
            last = now if slot.end is None or slot.end >= end else mark(slot.end)
            # One query for both, so that they use the same readings.
            whole = first is began and last is now
            self._slots.append((energy if whole else session.energy(first, last), slot))

    def footprint(self, device: str | None = None) -> Footprint:
        """Return the footprint of a device, or of all of them."""
        energies = [energy for energy, _ in self._slots]
        if device is not None:
            energies = [energy.by_device[device] for energy in energies]
        parts = [(e.joules, slot) for e, (_, slot) in zip(energies, self._slots, strict=True)]
        return footprint(
            parts,
            self._factors.pue,
            location=self._factors.location,
            error_joules=math.fsum(energy.error_joules for energy in energies),
        )
