"""Energy-Charts (Fraunhofer ISE): Europe in 15-minute slots, with a forecast, without a key."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from carbontracker.exceptions import IntensityUnavailable
from carbontracker.intensity.service import Service, number, overlapping

if TYPE_CHECKING:
    from carbontracker.intensity.base import Intensity


class EnergyCharts(Service):
    """Average intensity of a country's public generation; its scope is not stated."""

    name = "energycharts"
    title = "Energy-Charts"
    URL = "https://api.energy-charts.info"
    source = "Energy-Charts.info, Fraunhofer ISE"
    licence = "CC BY 4.0"

    def now(self, zone: str) -> Intensity:
        """Return the newest measured slot of three hours, else the current slot of the forecast."""
        now = self._clock()
        start = now - timedelta(seconds=self.fresh_s)
        measured, forecast = self._series(zone, start, now)
        past = [slot for slot in (*forecast, *measured) if slot.start and slot.start <= now]
        newest = [slot for slot in past if slot.kind == "measured"][-1:]
        current = [slot for slot in past if slot.end and slot.end > now]
        nothing = f"{self.title} has no recent figure for {zone}"
        return overlapping(newest or current, start, now, nothing)[-1]

    def between(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        """Return the measured 15-minute slots."""
        measured, _ = self._series(zone, start, end)
        return overlapping(measured, start, end, f"{self.title} has no measured figures for {zone}")

    def forecast(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        """Return the forecast, to the end of the day or of the next."""
        _, forecast = self._series(zone, start, end)
        return overlapping(forecast, start, end, f"{self.title} has no forecast for {zone}")

    def _series(
        self, zone: str, start: datetime, end: datetime
    ) -> tuple[list[Intensity], list[Intensity]]:
        country, _, part = zone.upper().partition("-")
        if len(country) != 2:
            raise IntensityUnavailable(f"{self.title} covers European countries, not {zone}")
        # Whole hours: all requests within an hour have the same URL.
        query = {
            "country": country.lower(),
            "start": start.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:00+00:00"),
            "end": (end + timedelta(hours=1))
            .astimezone(timezone.utc)
            .strftime("%Y-%m-%dT%H:00+00:00"),
        }
        answer = self.ask("/co2eq", query)
        with self.understanding():
            if answer.get("deprecated"):
                self.tell_once(f"{self.title} calls this request deprecated")
            measured, forecast = self._slots(answer, country)
        note = f"of the whole of {country}" if part else ""
        return [replace(s, note=note) for s in measured], [replace(s, note=note) for s in forecast]

    def _slots(self, answer: Any, zone: str) -> tuple[list[Intensity], list[Intensity]]:
        times = [number(t) for t in answer["unix_seconds"]]
        columns = (answer["co2eq"], answer["co2eq_forecast"])
        if any(not isinstance(column, list) or len(column) != len(times) for column in columns):
            raise ValueError("columns of unequal length")
        starts = [datetime.fromtimestamp(t, tz=timezone.utc) for t in times]
        steps = [b - a for a, b in pairwise(starts)]
        steps.append(steps[-1] if steps else timedelta(minutes=15))
        measured: list[Intensity] = []
        forecast: list[Intensity] = []
        for start, step, value, predicted in zip(starts, steps, *columns, strict=True):
            measured += self.slot(value, zone, start, start + step, "measured")
            forecast += self.slot(predicted, zone, start, start + step, "forecast")
        return measured, forecast
