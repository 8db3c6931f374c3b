"""ENTSO-E Transparency Platform: carbon intensity from the generation mix of European zones."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from carbontracker.exceptions import IntensityUnavailable
from carbontracker.intensity.providers.generation_mix import NOTE, RECENT, Mix, intensities
from carbontracker.intensity.service import Service, number, overlapping, windows
from carbontracker.times import parse_utc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from xml.etree.ElementTree import Element

    from carbontracker.intensity.base import Intensity

FUELS = {
    "B01": "biomass",
    "B02": "coal_lignite",
    "B03": "coal",  # coal-derived gas
    "B04": "gas",
    "B05": "coal",
    "B06": "oil",
    "B07": "oil_shale",
    "B08": "peat",
    "B09": "geothermal",
    "B10": "storage",
    "B11": "hydro",
    "B12": "hydro",
    "B13": "ocean",
    "B14": "nuclear",
    "B15": "biomass",  # other renewable: the one with the highest emissions
    "B16": "solar",
    "B17": "waste",
    "B18": "wind",
    "B19": "wind",
    "B20": "unknown",
    "B25": "storage",
}
"""The platform's production types as fuels of the table."""
AREAS = {
    "AT": "10YAT-APG------L",
    "BE": "10YBE----------2",
    "BG": "10YCA-BULGARIA-R",
    "CH": "10YCH-SWISSGRIDZ",
    "CZ": "10YCZ-CEPS-----N",
    "DE": "10Y1001A1001A83F",
    "DK": "10Y1001A1001A65H",
    "DK-DK1": "10YDK-1--------W",
    "DK-DK2": "10YDK-2--------M",
    "EE": "10Y1001A1001A39I",
    "ES": "10YES-REE------0",
    "FI": "10YFI-1--------U",
    "FR": "10YFR-RTE------C",
    "GR": "10YGR-HTSO-----Y",
    "HR": "10YHR-HEP------M",
    "HU": "10YHU-MAVIR----U",
    "IT": "10YIT-GRTN-----B",
    "LT": "10YLT-1001A0008Q",
    "LV": "10YLV-1001A00074",
    "NL": "10YNL----------L",
    "NO": "10YNO-0--------C",
    "NO-NO1": "10YNO-1--------2",
    "NO-NO2": "10YNO-2--------T",
    "NO-NO3": "10YNO-3--------J",
    "NO-NO4": "10YNO-4--------9",
    "NO-NO5": "10Y1001A1001A48H",
    "PL": "10YPL-AREA-----S",
    "PT": "10YPT-REN------W",
    "RO": "10YRO-TEL------P",
    "RS": "10YCS-SERBIATSOV",
    "SE": "10YSE-1--------K",
    "SE-SE1": "10Y1001A1001A44P",
    "SE-SE2": "10Y1001A1001A45N",
    "SE-SE3": "10Y1001A1001A46L",
    "SE-SE4": "10Y1001A1001A47J",
    "SI": "10YSI-ELES-----O",
    "SK": "10YSK-SEPS-----K",
}
"""Energy identification codes of the zones; each ends in its own check character."""
MAX_SPAN = timedelta(days=30)
NO_DATA = "999"
DURATION = re.compile(r"PT(\d+)M")


class Entsoe(Service):
    """Average intensity of a zone's production, one to two hours late.

    Zones: countries and bidding zones of ``AREAS``, or a code (``10YDK-1--------W``).
    """

    name = "entsoe"
    title = "ENTSO-E Transparency Platform"
    URL = "https://web-api.tp.entsoe.eu/api"
    needs_key = True
    source = "ENTSO-E Transparency Platform"
    licence = "CC BY 4.0"
    scope = "lifecycle"
    every_s = 3600.0
    fresh_s = 3 * 3600.0
    has_forecast = False

    def between(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        """Return the known slots of 15, 30 or 60 minutes."""
        area = AREAS.get(zone.upper(), zone)
        if not re.fullmatch(r"10[YZ][A-Z0-9-]{13}", area):
            raise IntensityUnavailable(f"{self.title} covers European zones, not {zone}")
        slots: list[Intensity] = []
        for first, last in windows(start, end, MAX_SPAN):
            for mix, grams in intensities(self._mixes(area, first, last), self.scope):
                slots += self.slot(grams, zone, mix.start, mix.end, "estimated")
        found = overlapping(slots, start, end, f"{self.title} has no figures for {zone}")
        return [replace(slot, note=NOTE) for slot in found]

    def _mixes(self, area: str, start: datetime, end: datetime) -> list[Mix]:
        query = {
            "securityToken": self._key,
            "documentType": "A75",  # actual generation by type
            "processType": "A16",  # realised
            "in_Domain": area,
            "periodStart": _stamp(start - RECENT),
            "periodEnd": _stamp(end + timedelta(hours=1)),
        }
        root = self._parsed(self.ask_bytes("", query))
        by_slot: dict[tuple[datetime, datetime], dict[str, float]] = {}
        with self.understanding():
            for fuel, begin, finish, value in _points(root):
                output = by_slot.setdefault((begin, finish), {})
                output[fuel] = output.get(fuel, 0.0) + max(value, 0.0)
        return [Mix(begin, finish, by_slot[begin, finish]) for begin, finish in sorted(by_slot)]

    def _parsed(self, body: bytes) -> Element:
        import xml.etree.ElementTree as ET

        if b"<!" in body[:2_000].replace(b"<!--", b""):
            # The platform's documents declare no entities; other documents may be an entity bomb.
            raise IntensityUnavailable(f"{self.title} sent an answer in an unknown format")
        try:
            root = ET.fromstring(body)
        except (ET.ParseError, ValueError, LookupError):
            raise IntensityUnavailable(f"{self.title} did not send XML") from None
        if root.tag.endswith("Acknowledgement_MarketDocument"):
            code = root.findtext(".//{*}Reason/{*}code") or ""
            text = (root.findtext(".//{*}Reason/{*}text") or "")[:160]
            said = "no data" if code == NO_DATA else text.replace(self._key, "***")
            raise IntensityUnavailable(f"{self.title} has no figure: {said}", status=404)
        return root


def _points(root: Element) -> Iterator[tuple[str, datetime, datetime, float]]:
    """Yield fuel, start, end and MW of every slot of every series of production."""
    for series in root.iterfind("{*}TimeSeries"):
        if series.find("{*}outBiddingZone_Domain.mRID") is not None:
            continue  # consumption of pumps and stations
        fuel = FUELS.get(series.findtext("{*}MktPSRType/{*}psrType") or "", "unknown")
        held = series.findtext("{*}curveType") == "A03"
        for period in series.iterfind("{*}Period"):
            begin = parse_utc(period.findtext("{*}timeInterval/{*}start"))
            finish = parse_utc(period.findtext("{*}timeInterval/{*}end"))
            minutes = DURATION.fullmatch(period.findtext("{*}resolution") or "")
            if minutes is None or int(minutes[1]) == 0:
                raise ValueError("no duration")
            step = timedelta(minutes=int(minutes[1]))
            values = {
                int(point.findtext("{*}position") or ""): number(
                    point.findtext("{*}quantity"), text=True
                )
                for point in period.iterfind("{*}Point")
            }
            value = math.nan
            for position in range(1, (finish - begin) // step + 1):
                # Curve type A03 omits points that repeat the one before.
                value = values.get(position, value if held else math.nan)
                if not math.isnan(value):
                    yield fuel, begin + (position - 1) * step, begin + position * step, value


def _stamp(when: datetime) -> str:
    return when.astimezone(timezone.utc).strftime("%Y%m%d%H00")
