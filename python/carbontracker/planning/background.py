"""Looks up the location and, for advice, the forecast, in one thread beside the training.

A training never waits for it and uses what has arrived.
"""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from carbontracker.exceptions import IntensityUnavailable
from carbontracker.guard import LOCATION, logger, nothing, optional, start_thread
from carbontracker.intensity.selection import offline
from carbontracker.location.lookup import (
    cached_location,
    look_up,
    looks_like_cloud,
    may_look_up,
)
from carbontracker.planning.regions import Option, here, options

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping, Sequence

    from carbontracker.carbon.factors import CarbonFactors
    from carbontracker.intensity.base import Intensity
    from carbontracker.planning.start_time import Start

HORIZON = timedelta(hours=48)
"""The longest forecast without a key."""


@dataclass(frozen=True)
class Advice:
    """What a run would save at another time or in another region; None if unknown."""

    now: datetime
    start: datetime | None
    """The best moment to start within two days."""
    start_saves: float
    """Saved share of the emissions; NaN if unknown."""
    region: Option | None
    """The region with the lowest emissions, of the same cloud or of all."""
    region_saves: float
    """Saved share of the emissions; NaN if unknown."""

    def to_dict(self) -> dict[str, Any]:
        """Return the advice as JSON-ready values."""
        times = {"now": self.now, "start": self.start}
        return asdict(self) | {key: at and at.isoformat() for key, at in times.items()}


def slot_seconds(slots: Sequence[Intensity], now: datetime) -> list[tuple[float, float, float]]:
    """Return slots as (begin, end, gCO2eq/kWh), s after ``now``, without open slots."""
    return [
        ((slot.start - now).total_seconds(), (slot.end - now).total_seconds(), slot.gco2eq_per_kwh)
        for slot in slots
        if slot.start is not None and slot.end is not None
    ]


def first_and_best_start(
    slots: Sequence[Intensity], now: datetime, hours: float, within: timedelta
) -> tuple[Start, Start] | None:
    """Return the earliest start and the best one, s after ``now``.

    None if the forecast covers no run of ``hours``.
    """
    # Imported here: it loads numpy, which a training without advice does not need.
    from carbontracker.planning.start_time import IntensityCurve, Start, best_start

    forecast, duration_s = IntensityCurve(slot_seconds(slots, now)), hours * 3600
    latest_s = max(within.total_seconds() - duration_s, 0.0)
    best = best_start(forecast, 0.0, latest_s, duration_s)
    if best is None:
        return None
    covered = [t for t in sorted({0.0, *map(float, forecast.begins_s)}) if 0.0 <= t <= best.t_s]
    starts = (Start(t, forecast.mean(t, duration_s)) for t in covered)
    first = next((one for one in starts if not math.isnan(one.gco2eq_per_kwh)), best)
    return first, best


class BackgroundLookup:
    """The thread and its results.

    Args:
        factors: of the location that is known without the network.
        locate: ``auto``, or ``never``: no network look-up of the location.
        advise: also ask for the forecast of the location.
        api_keys: of live providers, for the location that is found.
        environ: the environment; by default that of the process.
    """

    def __init__(
        self,
        factors: CarbonFactors,
        locate: str = "auto",
        *,
        advise: bool = False,
        api_keys: Mapping[str, str] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._environ = dict(os.environ if environ is None else environ)
        self._looks_up = may_look_up(factors.location, locate, self._environ)
        self._advise = advise
        self._keys = dict(api_keys or {})
        self.found: CarbonFactors | None = None
        """The factors of the location that was found; None before, and without one."""
        if self._looks_up and not factors.location.known and not looks_like_cloud(self._environ):
            self.found = optional(LOCATION, lambda: self._cached(factors), nothing)
            self._looks_up = self.found is None
        self._slots: list[Intensity] = []
        self._thread: threading.Thread | None = None
        self._asked = False
        """Also if no thread could be started."""

    def start(self, factors: CarbonFactors) -> None:
        """Start the thread, once, if there is something to look up; does not wait.

        Args:
            factors: the current ones, whose location and forecast are looked up.
        """
        wanted = self._looks_up or (self._advise and not offline(self._environ))
        if wanted and not self._asked:
            self._asked = True
            self._thread = start_thread(LOCATION, self._run, "carbontracker-lookup", factors)

    def wait(self, seconds: float) -> None:
        """Wait at most ``seconds`` for the results; for commands in a terminal."""
        if self._thread is not None:
            self._thread.join(seconds)

    def updated_factors(self, factors: CarbonFactors) -> CarbonFactors | None:
        """Return the factors of the location that was found, whose provider is polled already.

        None if there is no new location. ``factors``, which they replace, stop polling.
        """
        found = self.found
        if found is None or not factors.location.guess:
            return None
        factors.close()
        return found

    def use_keys(self, api_keys: Mapping[str, str]) -> None:
        """Use keys that were set later, for the location that is found."""
        self._keys = dict(api_keys)
        if self.found is not None:
            self.found = self.found.with_keys(api_keys).start_polling()

    def advice(self, factors: CarbonFactors, hours: float) -> Advice:
        """Return the better times and regions known so far for a run of ``hours``."""
        now = datetime.now(timezone.utc)
        both = first_and_best_start(list(self._slots), now, hours, HORIZON) if hours > 0 else None
        start, start_saves = None, float("nan")
        if both is not None:
            first, best = both
            start = now + timedelta(seconds=best.t_s)
            start_saves = 1 - best.gco2eq_per_kwh / (first.gco2eq_per_kwh or float("nan"))
        ours = here(factors)
        same_cloud = factors.location.region.partition(":")[0] or None
        region = options(same_cloud)[0]
        saves = region.saves(ours) if ours is not None else float("nan")
        return Advice(now, start, start_saves, region, saves)

    def _cached(self, factors: CarbonFactors) -> CarbonFactors | None:
        """Return the factors of the last look-up's location, if that is still valid."""
        location = cached_location(self._environ)
        return None if location is None else factors.at(location, self._keys)

    def _run(self, factors: CarbonFactors) -> None:
        location = look_up(factors.location, self._environ) if self._looks_up else None
        if location is not None and location != factors.location:
            # Polled from now on, so that the end of the run has more than the annual figure.
            factors = factors.at(location, self._keys).start_polling()
            self.found = factors
        if not self._advise or offline(self._environ):
            return
        now = datetime.now(timezone.utc)
        try:
            self._slots = factors.forecast(now, now + HORIZON)
        except IntensityUnavailable as error:
            logger.info("carbontracker: no forecast for advice: %s", error.reason)
