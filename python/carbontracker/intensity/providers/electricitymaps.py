"""Electricity Maps v4 (v3 answers alike): about 350 zones, with a key."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from carbontracker.exceptions import IntensityUnavailable
from carbontracker.intensity.service import HOUR, Service, overlapping, windows
from carbontracker.times import iso_utc, parse_utc

if TYPE_CHECKING:
    from collections.abc import Callable

    from carbontracker.intensity.base import Intensity
    from carbontracker.intensity.http import Client

RECENT = timedelta(hours=24, minutes=30)
"""What ``history`` covers, with a margin for the time that the request takes."""
MAX_SPAN = timedelta(hours=240)
"""Of one request to ``past-range``."""
HORIZONS_H = (6, 24, 48, 72)
SANDBOX = re.compile("SANDBOX", re.IGNORECASE)
COORDINATES = re.compile(r"(-?\d+(?:\.\d+)?),(-?\d+(?:\.\d+)?)")
REGION = re.compile(r"([a-z]+):([a-z0-9-]+)", re.IGNORECASE)


class ElectricityMaps(Service):
    """Consumption-based, flow-traced average intensity by hours.

    Zones: those of the service (``DK-DK1``), coordinates (``55.7,12.6``), or a data centre
    (``gcp:europe-west1``).

    Args:
        api_key: the token.
        url: base of the service, with its version.
        client: asks.
        clock: the time.
        scope: ``lifecycle`` or ``direct``.
    """

    name = "electricitymaps"
    title = "Electricity Maps API"
    URL = "https://api.electricitymaps.com/v4"
    needs_key = True
    source = "Electricity Maps"
    licence = "property of Electricity Maps"
    every_s = 1200.0

    def __init__(
        self,
        api_key: str = "",
        url: str | None = None,
        client: Client | None = None,
        clock: Callable[[], datetime] | None = None,
        scope: str = "lifecycle",
    ) -> None:
        super().__init__(api_key, url, client, clock)
        if scope not in ("lifecycle", "direct"):
            raise ValueError(f"{self.title} has figures of scope lifecycle or direct, not {scope}")
        self.scope = scope

    def now(self, zone: str) -> Intensity:
        """Return the latest hour."""
        answer = self._asked("latest", zone)
        nothing = f"{self.title} has no current figure for {zone}"
        found = self._slots([answer], answer, zone)
        return overlapping(found, self._clock() - MAX_SPAN, self._clock(), nothing)[-1]

    def between(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        """Return the hours: the last 24 with any key, earlier ones if the key covers them."""
        slots: list[Intensity] = []
        if start >= self._clock() - RECENT:
            slots = self._listed(self._asked("history", zone), zone)
        else:
            for first, last in windows(start, end, MAX_SPAN):
                span = {"start": iso_utc(_hour(first)), "end": iso_utc(_hour(last) + HOUR)}
                slots += self._listed(self._asked("past-range", zone, span), zone)
        return overlapping(slots, start, end, f"{self.title} has no hours for {zone}")

    def forecast(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        """Return the forecast by hours, up to three days ahead, if the key covers forecasts."""
        wanted_h = (end - self._clock()) / HOUR
        horizon = next((h for h in HORIZONS_H if h >= wanted_h), HORIZONS_H[-1])
        answer = self._asked("forecast", zone, {"horizonHours": str(horizon)})
        slots = self._listed(answer, zone, kind="forecast")
        return overlapping(slots, start, end, f"{self.title} has no forecast for {zone}")

    def _asked(self, what: str, zone: str, more: dict[str, str] | None = None) -> Any:
        query = {
            **_place(zone),
            "emissionFactorType": self.scope,
            # Otherwise an unknown zone is replaced by that of the caller's IP address.
            "shouldUseFallbackCallerLookup": "false",
            **(more or {}),
        }
        answer = self.ask(f"/carbon-intensity/{what}", query, {"auth-token": self._key})
        if not isinstance(answer, dict):
            raise IntensityUnavailable(f"{self.title} sent an answer in an unknown format")
        if "zone" in _place(zone) and answer.get("zone") != zone:
            raise IntensityUnavailable(f"{self.title} answered for another zone than {zone}")
        return answer

    def _listed(self, answer: Any, zone: str, kind: str = "") -> list[Intensity]:
        rows = next((answer[key] for key in ("data", "history", "forecast") if key in answer), None)
        if not isinstance(rows, list):
            raise IntensityUnavailable(f"{self.title} sent an answer in an unknown format")
        return self._slots(rows, answer, zone, kind)

    def _slots(self, rows: list[Any], answer: Any, zone: str, kind: str = "") -> list[Intensity]:
        slots: list[Intensity] = []
        with self.understanding():
            told_zone = str(answer.get("zone") or zone)
            for row in rows:
                marks = f"{row.get('estimationMethod')} {row.get('_disclaimer')} "
                if SANDBOX.search(marks + str(answer.get("_disclaimer"))):
                    raise IntensityUnavailable(
                        f"{self.title}: the figures of a sandbox key are not real"
                    )
                if row.get("zone", told_zone) != told_zone:
                    raise IntensityUnavailable(
                        f"{self.title} answered for another zone than {zone}"
                    )
                how = kind or ("estimated" if row.get("isEstimated") else "measured")
                start = parse_utc(row["datetime"])
                slots += self.slot(row.get("carbonIntensity"), told_zone, start, start + HOUR, how)
        return slots


def _place(zone: str) -> dict[str, str]:
    """Return the query parameters of a zone: its name, its coordinates, or a data centre."""
    if found := COORDINATES.fullmatch(zone):
        return {"lat": found[1], "lon": found[2]}
    if found := REGION.fullmatch(zone):
        return {
            "dataCenterProvider": found[1].lower(),
            "dataCenterRegion": found[2].lower(),
        }
    return {"zone": zone}


def _hour(when: datetime) -> datetime:
    return when.replace(minute=0, second=0, microsecond=0)
