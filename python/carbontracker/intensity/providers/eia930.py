"""EIA-930: carbon intensity from the hourly generation mix of US balancing authorities."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from carbontracker.exceptions import IntensityUnavailable
from carbontracker.intensity.providers.generation_mix import NOTE, RECENT, Mix, intensities
from carbontracker.intensity.service import HOUR, Service, number, overlapping, table, windows

if TYPE_CHECKING:
    from carbontracker.intensity.base import Intensity

FUELS = {
    "BAT": "storage",
    "COL": "coal",
    "GEO": "geothermal",
    "NG": "gas",
    "NUC": "nuclear",
    "OES": "storage",
    "OIL": "oil",
    "OTH": "unknown",
    "PS": "storage",
    "SNB": "solar",
    "SUN": "solar",
    "UES": "storage",
    "UNK": "unknown",
    "WAT": "hydro",
    "WNB": "wind",
    "WND": "wind",
}
"""The service's fuel codes as fuels of the table; batteries beside solar or wind count as these."""
RESPONDENT = re.compile(r"US-(?!EGRID)[A-Z]+-([A-Z0-9]{2,6})|(?!WORLD)([A-Z0-9]{3,6})")
MAX_SPAN = timedelta(days=14)
MAX_ROWS = "5000"


class EIA930(Service):
    """Average intensity of a balancing authority's production, a few hours to a day late.

    Zones: ``US``; a balancing authority, alone (``PJM``) or in the form ``US-CAL-CISO``.
    """

    name = "eia930"
    title = "EIA-930"
    URL = "https://api.eia.gov/v2"
    needs_key = True
    source = "US Energy Information Administration, form EIA-930"
    licence = "US public domain"
    scope = "lifecycle"
    every_s = 3600.0
    fresh_s = 24 * 3600.0
    last_resort_s = 48 * 3600.0
    has_forecast = False

    def between(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        """Return the known hours."""
        respondent = self._respondent(zone)
        slots: list[Intensity] = []
        for first, last in windows(start, end, MAX_SPAN):
            for mix, grams in intensities(self._mixes(respondent, first, last), self.scope):
                slots += self.slot(grams, zone, mix.start, mix.end, "estimated")
        found = overlapping(slots, start, end, f"{self.title} has no figures for {zone}")
        return [replace(slot, note=NOTE) for slot in found]

    def _mixes(self, respondent: str, start: datetime, end: datetime) -> list[Mix]:
        query = {
            "api_key": self._key,
            "data[]": "value",
            "facets[respondent][]": respondent,
            "frequency": "hourly",
            "start": _hour(start - RECENT),
            "end": _hour(end + HOUR),
            "sort[0][column]": "period",
            "sort[0][direction]": "desc",
            "length": MAX_ROWS,
        }
        answer = self.ask("/electricity/rto/fuel-type-data/data/", query)
        by_end: dict[datetime, dict[str, float]] = {}
        with self.understanding():
            for row in table(answer["response"], "data", self.title):
                value = number(row["value"], text=True)
                if row.get("respondent", respondent) != respondent or math.isnan(value):
                    continue
                finish = datetime.strptime(row["period"], "%Y-%m-%dT%H").replace(
                    tzinfo=timezone.utc
                )
                fuel = FUELS.get(str(row["fueltype"]), "unknown")
                output = by_end.setdefault(finish, {})
                output[fuel] = output.get(fuel, 0.0) + max(value, 0.0)
        # The name of a period is the end of its hour.
        return [Mix(finish - HOUR, finish, by_end[finish]) for finish in sorted(by_end)]

    def _respondent(self, zone: str) -> str:
        found = RESPONDENT.fullmatch(zone.upper())
        if zone.upper() == "US":
            return "US48"
        if found is None:
            raise IntensityUnavailable(
                f"{self.title} covers US and its balancing authorities (PJM, CISO), not {zone}"
            )
        return found[1] or found[2]


def _hour(when: datetime) -> str:
    return when.astimezone(timezone.utc).strftime("%Y-%m-%dT%H")
