"""Where, under which intensity and with which overhead energy becomes a footprint."""

from __future__ import annotations

import logging
import math
import os
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from carbontracker import cloud
from carbontracker.constants import PUE_2023
from carbontracker.data import WORLD
from carbontracker.footprint import Footprint, footprint
from carbontracker.intensity import IntensityUnavailable, provider
from carbontracker.intensity.constant import Constant
from carbontracker.intensity.live import Live
from carbontracker.location import Place, locate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from carbontracker.intensity import Intensity, Provider

    EnergyBetween = Callable[[datetime, datetime], float]

logger = logging.getLogger("carbontracker")

PUE_SOURCE = "Daniel Bizo, 2023, Uptime Institute Global Data Center Survey"
"""Of the world average, in upstream's words."""


@dataclass(frozen=True)
class Pricing:
    """The choices that turn joules into grams; fixed before anything starts."""

    place: Place
    provider: Provider
    pue: float
    pue_how: str
    """Where the PUE comes from, in words."""

    def intensities(self, start: datetime, end: datetime) -> list[Intensity]:
        """Return the carbon intensities that cover ``start`` to ``end``, aware times.

        A provider that has none is replaced by the table, which says so in the figure's note.
        """
        try:
            return self.provider.between(self.place.zone, start, end)
        except IntensityUnavailable as error:
            logger.warning("carbontracker: %s; the table's world average is used", error.reason)
            return provider("table").between(WORLD, start, end)

    def of_nothing(self) -> Footprint:
        """Return the footprint of no energy: what is said of a run before it begins."""
        now = datetime.now(timezone.utc)
        return self.footprint(lambda _a, _b: 0.0, now, now, 0.0)

    def footprint(
        self,
        joules_between: EnergyBetween,
        start: datetime,
        end: datetime,
        error_joules: float = math.nan,
    ) -> Footprint:
        """Return the footprint of what was spent from ``start`` to ``end``, aware times.

        Args:
            joules_between: the machine's energy between two moments, J; asked for each slot.
            start: beginning of the window.
            end: its end.
            error_joules: 95 % half-width of the energy, J.
        """
        slots = self.intensities(start, end)
        parts = [
            (joules_between(max(start, slot.start or start), min(end, slot.end or end)), slot)
            for slot in slots
        ]
        return footprint(parts, self.pue, place=self.place, error_joules=error_joules)

    @property
    def live(self) -> tuple[str, str] | None:
        """Return title and name of the live provider that is being asked, if one is."""
        asked = self.provider
        return (asked.title, asked.name) if isinstance(asked, Live) else None

    def with_keys(self, api_keys: Mapping[str, str]) -> Pricing:
        """Return this pricing with live figures by the first of these keys, in the background.

        The table answers where the location is unknown, the network is switched off by
        ``CARBONTRACKER_OFFLINE=1``, or the user stated a figure of their own.
        """
        self.close()
        offline = os.environ.get("CARBONTRACKER_OFFLINE", "").strip().lower() in {"1", "true"}
        if offline or self.place.zone == WORLD or isinstance(self.provider, Constant):
            return self
        name, key = next(iter(api_keys.items()))
        asked = provider(name.lower(), api_key=key)
        return replace(self, provider=Live(asked, self.place.zone, provider("table")))

    def close(self) -> None:
        """Ask no network any more."""
        if isinstance(self.provider, Live):
            self.provider.close()


def make_pricing(
    location: str | None = None,
    pue: float | None = None,
    intensity: float | None = None,
) -> Pricing:
    """Return the pricing for a run.

    Args:
        location: country, ISO code, zone or cloud region; else ``CARBONTRACKER_LOCATION``, else
            what `carbontracker.location.locate` finds.
        pue: power usage effectiveness, ratio >= 1; else ``CARBONTRACKER_PUE``, else that of the
            cloud region, else the world average of data centres, 1.58 (Uptime Institute 2023),
            as upstream has it.
        intensity: a carbon intensity of your own, gCO2eq/kWh.

    Raises:
        UnknownLocation: the location argument names no place; the message has the nearest.
        ValueError: a PUE or intensity argument out of range.
    """
    place = locate(location, os.environ)
    if place.how == "unknown" and not place.guess:
        logger.warning("carbontracker: %s", place.note)  # what was stated names no known place
    value, how = _pue(pue, place)
    chosen = (
        provider("table") if intensity is None else provider("constant", gco2eq_per_kwh=intensity)
    )
    return Pricing(place, chosen, value, how)


def _pue(argument: float | None, place: Place) -> tuple[float, str]:
    if argument is not None:
        if not (math.isfinite(argument) and argument >= 1.0):
            message = f"pue must be a finite ratio of at least 1, got {argument!r}"
            raise ValueError(message)
        return float(argument), "given"
    text = os.environ.get("CARBONTRACKER_PUE", "").strip()
    if text:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if math.isfinite(value) and value >= 1.0:
            return value, "CARBONTRACKER_PUE"
        # The environment must not stop a training: say so and go on with the default.
        logger.warning(
            "carbontracker: CARBONTRACKER_PUE=%r is not a ratio of at least 1; using %s",
            text,
            PUE_2023,
        )
    return cloud.pue(place.region) or (PUE_2023, PUE_SOURCE)
