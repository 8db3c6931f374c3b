"""The status of a run while it goes on: power now, energy and emissions so far."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from carbontracker.energy.session import Mark
from carbontracker.model.device import Device, gpu_uuid
from carbontracker.model.live_status import LiveStatus
from carbontracker.training.marked_energy import MarkedEnergy

if TYPE_CHECKING:
    from collections.abc import Callable

    from carbontracker.carbon.factors import CarbonFactors
    from carbontracker.energy.session import Session

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
        while not (final := session.is_final(now)) and time.monotonic() < deadline:
            time.sleep(_LOOK_AGAIN_S)
        marked = MarkedEnergy(session, began, now)
        energy, footprint = marked.energy, marked.footprint(self._factors())
        watts = watts_of(session, began, now)
        # In a forked child a lock of the core may never be free.
        rates = session.rates_hz() if session.owned_by_this_process else {}
        devices = tuple(
            Device(
                id=entry.id,
                kind=entry.kind,
                name=entry.name,
                source=entry.source,
                quality=entry.quality if entry.read else "missing",
                watts=watts.get(entry.id, math.nan),
                energy=energy.by_device[entry.id],
                gco2eq=marked.gco2eq(entry.id, footprint),
                readings_per_second=rates.get(entry.id, math.nan),
                uuid=gpu_uuid(entry.domain or ""),
            )
            for entry in session.entries
            if entry.counted and entry.id in energy.by_device
        )
        return LiveStatus(
            seconds=marked.seconds,
            energy=energy,
            footprint=footprint,
            devices=devices,
            tracker_cpu_seconds=session.cpu_seconds if session.owned_by_this_process else math.nan,
            final=final,
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
