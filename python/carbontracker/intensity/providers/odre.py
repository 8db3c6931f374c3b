"""ODRÉ éCO2mix (RTE): France in 15-minute slots, without a key."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from carbontracker.exceptions import IntensityUnavailable
from carbontracker.intensity.service import Service, number, overlapping
from carbontracker.times import parse_utc

if TYPE_CHECKING:
    from carbontracker.intensity.base import Intensity

SLOT = timedelta(minutes=15)
MAX_ROWS = 100
"""Of one answer."""
MAX_PAGES = 10


class Odre(Service):
    """Average intensity of the production, direct CO2, imports excluded; zone ``FR``."""

    name = "odre"
    title = "ODRÉ éCO2mix"
    URL = "https://odre.opendatasoft.com/api/explore/v2.1"
    source = "RTE, éCO2mix, via ODRÉ"
    licence = "Licence Ouverte 2.0"
    scope = "direct"
    has_forecast = False

    def between(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        """Return the 15-minute slots, at most of the last ten days."""
        if zone.upper() != "FR":
            raise IntensityUnavailable(f"{self.title} covers only FR, not {zone}")
        slots: list[Intensity] = []
        for page in range(MAX_PAGES):
            rows = self._page(page)
            with self.understanding():
                for row in rows:
                    begin = parse_utc(row["date_heure"])
                    value = row["taux_co2"]
                    value = number(value, text=True) if isinstance(value, str) else value
                    slots += self.slot(value, "FR", begin, begin + SLOT, "measured")
                reached = bool(rows) and parse_utc(rows[-1]["date_heure"]) <= start
            if reached or len(rows) < MAX_ROWS:
                break
        return overlapping(slots, start, end, f"{self.title} has no figures for that time")

    def _page(self, page: int) -> list[dict[str, Any]]:
        query = {
            "select": "date_heure,taux_co2",
            "where": "taux_co2 is not null",  # the rest of the day exists, without values
            "order_by": "date_heure desc",
            "limit": str(MAX_ROWS),
            "offset": str(page * MAX_ROWS),
        }
        answer = self.ask("/catalog/datasets/eco2mix-national-tr/records", query)
        with self.understanding():
            if "results" in answer:
                return list(answer["results"])
            return [record["fields"] for record in answer["records"]]  # the format of version 1
