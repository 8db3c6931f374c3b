"""WattTime v3: marginal intensity, which is for advice on when to run and not for footprints."""

from __future__ import annotations

import base64
import os
import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from carbontracker.exceptions import IntensityUnavailable
from carbontracker.intensity.service import Service, number, overlapping, table, windows
from carbontracker.times import iso_utc, parse_utc

if TYPE_CHECKING:
    from carbontracker.intensity.base import Intensity

GCO2EQ_PER_KWH_PER_LB_PER_MWH = 0.45359237
"""The international pound in kg; lb/MWh is then g/kWh."""
TOKEN_LASTS = timedelta(minutes=29)
"""A minute less than the service states."""
MAX_SPAN = timedelta(days=31)
SLOT = timedelta(minutes=5)
COORDINATES = re.compile(r"(-?\d+(?:\.\d+)?),(-?\d+(?:\.\d+)?)")


class WattTime(Service):
    """Marginal operating emissions in 5-minute slots.

    Zones: the service's regions (``CAISO_NORTH``), or coordinates (``37.77,-122.42``).

    Args:
        api_key: ``user:password``; else ``CARBONTRACKER_WATTTIME_KEY``, else ``WATTTIME_USER`` and
            ``WATTTIME_PASSWORD``.
        url: base of the service, without a version.
        client: asks.
        clock: the time.
    """

    name = "watttime"
    title = "WattTime"
    URL = "https://api.watttime.org"
    needs_key = True
    source = "WattTime"
    licence = "property of WattTime"
    scope = "direct"
    signal = "marginal"
    every_s = 600.0
    fresh_s = 1800.0
    last_resort_s = 6 * 3600.0

    _token = ""
    _token_until = datetime.min.replace(tzinfo=timezone.utc)
    _found_region = ("", "")
    """Coordinates, and the region that contains them."""

    def _key_of_environment(self) -> str:
        user, password = (os.environ.get(f"WATTTIME_{it}", "") for it in ("USER", "PASSWORD"))
        account = f"{user}:{password}" if user and password else ""
        return super()._key_of_environment() or account

    def now(self, zone: str) -> Intensity:
        """Return the first slot of the forecast: the service has no other current figure."""
        return self._points("forecast", zone, {"horizon_hours": "1"}, "forecast")[0]

    def between(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        """Return the 5-minute slots of the past."""
        slots: list[Intensity] = []
        for first, last in windows(start, end, MAX_SPAN):
            # One slot earlier: a point marks the start of its slot, and a range includes its end.
            span = {"start": iso_utc(first - SLOT), "end": iso_utc(last)}
            slots += self._points("historical", zone, span, "estimated")
        return overlapping(slots, start, end, f"{self.title} has no figures for {zone}")

    def forecast(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        """Return the forecast in 5-minute slots, up to three days ahead."""
        hours = -(-(end - self._clock()) // timedelta(hours=1))
        query = {"horizon_hours": str(max(1, min(72, hours)))}
        slots = self._points("forecast", zone, query, "forecast")
        return overlapping(slots, start, end, f"{self.title} has no forecast for {zone}")

    def _points(self, what: str, zone: str, more: dict[str, str], kind: str) -> list[Intensity]:
        region = self._region(zone)
        query = {"region": region, "signal_type": "co2_moer", **more}
        answer = self._asked(f"/v3/{what}", query)
        slots: list[Intensity] = []
        with self.understanding():
            meta = answer.get("meta") or {}
            if meta.get("units", "lbs_co2_per_mwh") != "lbs_co2_per_mwh":
                raise IntensityUnavailable(f"{self.title} answers in {meta['units']!r:.40}")
            for warning in meta.get("warnings") or ():
                self.tell_once(f"{self.title}: {str(warning)[:200]}")
            step = timedelta(seconds=number(meta.get("data_point_period_seconds", 300)))
            for row in table(answer, "data", self.title):
                begin, value = parse_utc(row["point_time"]), row["value"]
                if value is not None:
                    value = number(value) * GCO2EQ_PER_KWH_PER_LB_PER_MWH
                slots += self.slot(value, region, begin, begin + step, kind)
        if not slots:
            raise IntensityUnavailable(f"{self.title} has no figures for {zone}")
        return slots

    def _region(self, zone: str) -> str:
        found = COORDINATES.fullmatch(zone)
        if not found:
            return zone
        if zone != self._found_region[0]:
            query = {"latitude": found[1], "longitude": found[2], "signal_type": "co2_moer"}
            answer = self._asked("/v3/region-from-loc", query)
            with self.understanding():
                self._found_region = (zone, str(answer["region"]))
        return self._found_region[1]

    def _asked(self, path: str, query: dict[str, str]) -> Any:
        for again in (True, False):
            token = self._logged_in()
            try:
                return self.ask(path, query, {"Authorization": f"Bearer {token}"})
            except IntensityUnavailable as error:
                if error.status != 401 or not again:
                    raise
                self._token = ""
        raise AssertionError("unreachable")  # a second refusal raises

    def _logged_in(self) -> str:
        if self._token and self._clock() < self._token_until:
            return self._token
        basic = base64.b64encode(self._key.encode()).decode()
        answer = self.ask("/login", headers={"Authorization": f"Basic {basic}"})
        with self.understanding():
            self._token = str(answer["token"])
        self._token_until = self._clock() + TOKEN_LASTS
        return self._token

    def _secrets(self) -> tuple[str, ...]:
        user, _, password = self._key.partition(":")
        basic = base64.b64encode(self._key.encode()).decode()
        secrets = (self._key, basic, password, user, self._token)
        return tuple(secret for secret in secrets if secret)

    @property
    def fingerprint(self) -> str:
        """Return a hash of URL and account, without the token, which changes."""
        kept, self._token = self._token, ""
        try:
            return super().fingerprint
        finally:
            self._token = kept
