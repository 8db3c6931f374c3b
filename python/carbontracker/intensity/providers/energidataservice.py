"""Energi Data Service (Energinet): Denmark in 5-minute slots, with a forecast, without a key."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from carbontracker.exceptions import IntensityUnavailable
from carbontracker.intensity.service import Service, overlapping, table
from carbontracker.times import parse_utc

if TYPE_CHECKING:
    from carbontracker.intensity.base import Intensity

SLOT = timedelta(minutes=5)
PADDING = timedelta(hours=3)
"""Times are Danish if the service ignores ``timezone=UTC``: a request that is wider by this covers
the requested time in both cases. The answer is cut by its UTC column."""
AREAS = ("DK1", "DK2")


class EnergiDataService(Service):
    """Average intensity after flow tracing, direct CO2; zones ``DK``, ``DK-DK1``, ``DK-DK2``."""

    name = "energidataservice"
    title = "Energi Data Service"
    URL = "https://api.energidataservice.dk"
    source = "Energinet, Energi Data Service"
    licence = "open data, credit to Energinet"
    scope = "direct"
    every_s = 300.0
    fresh_s = 1800.0

    def between(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        """Return the measured or estimated 5-minute slots."""
        slots = self._asked("CO2Emis", zone, start, end, "measured")
        return overlapping(slots, start, end, f"{self.title} has no figures for {zone}")

    def forecast(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        """Return the forecast, to the end of the day or, from the afternoon, of the next."""
        slots = self._asked("CO2EmisProg", zone, start, end, "forecast")
        return overlapping(slots, start, end, f"{self.title} has no forecast for {zone}")

    def _asked(
        self, dataset: str, zone: str, start: datetime, end: datetime, kind: str
    ) -> list[Intensity]:
        areas = self._areas(zone)
        first, last = start - PADDING, end + PADDING
        rows = int((last - first) / SLOT + 2) * len(areas)
        query = {
            "start": _minute(first),
            "end": _minute(last),
            "timezone": "UTC",
            "filter": json.dumps({"PriceArea": areas}, separators=(",", ":")),
            "sort": "Minutes5UTC asc",
            "limit": str(rows),
        }
        answer = self.ask(f"/dataset/{dataset}", query)
        by_start: dict[datetime, dict[str, Intensity]] = {}
        with self.understanding():
            for row in table(answer, "records", self.title):
                begin, area = parse_utc(row["Minutes5UTC"], naive=timezone.utc), row["PriceArea"]
                for slot in self.slot(row["CO2Emission"], zone, begin, begin + SLOT, kind):
                    by_start.setdefault(begin, {})[area] = slot
        # A slot counts only if all areas of the zone have it.
        whole = [found for found in by_start.values() if set(found) >= set(areas)]
        return [_mean([found[area] for area in areas]) for found in whole]

    def _areas(self, zone: str) -> list[str]:
        part = zone.upper().removeprefix("DK-")
        if part == "DK":
            return list(AREAS)
        if part in AREAS:
            return [part]
        raise IntensityUnavailable(f"{self.title} covers DK, DK-DK1 and DK-DK2, not {zone}")


def _mean(slots: list[Intensity]) -> Intensity:
    if len(slots) == 1:
        return slots[0]
    value = sum(slot.gco2eq_per_kwh for slot in slots) / len(slots)
    return replace(slots[0], gco2eq_per_kwh=value, note=f"mean of {' and '.join(AREAS)}")


def _minute(when: datetime) -> str:
    when = when.astimezone(timezone.utc)
    return when.replace(minute=when.minute // 5 * 5).strftime("%Y-%m-%dT%H:%M")
