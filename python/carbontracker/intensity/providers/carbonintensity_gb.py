"""Carbon Intensity API (NESO): Great Britain in 30-minute slots, 48 h ahead, without a key."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from carbontracker.exceptions import IntensityUnavailable
from carbontracker.intensity.service import Service, overlapping, windows
from carbontracker.times import parse_utc

if TYPE_CHECKING:
    from carbontracker.intensity.base import Intensity

SLOT = timedelta(minutes=30)
MAX_SPAN = timedelta(days=13)
"""Of one request; the service accepts fourteen days."""
NATIONS = {"ENG": "15", "SCT": "16", "WLS": "17"}
OUTWARD = re.compile(r"[A-Z]{1,2}[0-9][0-9A-Z]?")


class CarbonIntensityGB(Service):
    """Average intensity, direct CO2 with imports and losses.

    Zones: ``GB``; a region by its number, ``GB-13``; a nation, ``GB-SCT``; the first half of a
    postcode, ``GB-SW1``. Regions have no measured figures, only estimates of the past and a
    forecast.
    """

    name = "carbonintensity_gb"
    title = "Carbon Intensity API (GB)"
    URL = "https://api.carbonintensity.org.uk"
    source = "National Energy System Operator, carbonintensity.org.uk"
    licence = "CC BY 4.0"
    scope = "direct"
    every_s = 1800.0
    fresh_s = 2 * 3600.0

    def between(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        """Return the 30-minute slots; those not measured yet have the kind ``forecast``."""
        slots: list[Intensity] = []
        for first, last in windows(start, end, MAX_SPAN):
            slots += self._asked(zone, f"{_snapped(first)}/{_snapped(last + SLOT)}")
        slots = [slot for slot in slots if slot.start and slot.start <= self._clock()]
        return overlapping(slots, start, end, f"{self.title} has no figures for {zone}")

    def forecast(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        """Return the 30-minute slots of two days from ``start``."""
        slots = self._asked(zone, f"{_snapped(start)}/fw48h", forecast=True)
        return overlapping(slots, start, end, f"{self.title} has no forecast for {zone}")

    def _asked(self, zone: str, span: str, *, forecast: bool = False) -> list[Intensity]:
        region = self._region(zone)
        path = f"/regional/intensity/{span}{region}" if region else f"/intensity/{span}"
        answer = self.ask(path)
        with self.understanding():
            slots: list[Intensity] = []
            for row in _rows(answer):
                figures = row["intensity"]
                actual = None if forecast else figures.get("actual")
                if actual is None:
                    value = figures.get("forecast")
                    kind = "estimated" if region and not forecast else "forecast"
                else:
                    value, kind = actual, "measured"
                begin, finish = parse_utc(row["from"]), parse_utc(row["to"])
                slots += self.slot(value, zone, begin, finish, kind)
        return slots

    def _region(self, zone: str) -> str:
        """Return the path suffix of the region; empty for all of Great Britain."""
        country, _, part = zone.upper().partition("-")
        part = NATIONS.get(part, part)
        if country == "GB" and not part:
            return ""
        if country == "GB" and part.isdigit() and 1 <= int(part) <= 17:
            return f"/regionid/{int(part)}"
        if country == "GB" and OUTWARD.fullmatch(part):
            return f"/postcode/{part}"
        raise IntensityUnavailable(f"{self.title} covers Great Britain and its regions, not {zone}")


def _snapped(when: datetime) -> str:
    """Return the slot's start plus a minute: the answer begins with that slot, and URLs repeat."""
    when = when.astimezone(timezone.utc)
    start = when.replace(minute=when.minute // 30 * 30, second=0, microsecond=0)
    return (start + timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%MZ")


def _rows(answer: Any) -> list[dict[str, Any]]:
    """Return the slots, which regional answers wrap in a list or an object."""
    data = answer["data"]
    if isinstance(data, list) and data and "data" in data[0]:
        data = data[0]
    if isinstance(data, dict):
        data = data["data"]
    if not isinstance(data, list):
        raise TypeError("the answer has the answer has no list of slots")
    return data
