"""Electricity Maps: the latest hour of a zone, for those who have a key."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from carbontracker.intensity import Intensity, IntensityUnavailable
from carbontracker.intensity.http import get_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Fetch = Callable[[str, Mapping[str, str]], Any]

URL = "https://api.electricitymaps.com/v4"
URL_VARIABLE = "CARBONTRACKER_ELECTRICITYMAPS_URL"

_SANDBOX = "SANDBOX"


class ElectricityMaps:
    """Consumption-based, flow-traced, lifecycle carbon intensity of the latest hour.

    Args:
        api_key: sent as a header; never shown, logged or recorded.
        url: base of the service; else ``CARBONTRACKER_ELECTRICITYMAPS_URL``, else the public one.
        fetch: how a document is fetched.
    """

    name = "electricitymaps"
    title = "Electricity Maps API"

    def __init__(self, api_key: str, url: str | None = None, fetch: Fetch = get_json) -> None:
        self._api_key = api_key.strip()  # files end in newlines
        self._url = url or os.environ.get(URL_VARIABLE) or URL
        self._fetch = fetch

    def between(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        """Return the latest hour, whatever hours were asked for.

        Raises:
            IntensityUnavailable: the service has none, cannot be reached, or answers with invented
                (sandbox) figures or for another zone.
        """
        query = urlencode(
            {
                "zone": zone,
                "emissionFactorType": "lifecycle",
                # Without this an unknown zone is answered with that of the caller's address.
                "shouldUseFallbackCallerLookup": "false",
            }
        )
        answer = self._fetch(
            f"{self._url}/carbon-intensity/latest?{query}",
            {"auth-token": self._api_key, "User-Agent": "carbontracker"},
        )
        return [_intensity(answer, zone)]


def _intensity(answer: Any, zone: str) -> Intensity:
    if not isinstance(answer, dict) or "error" in answer:
        raise IntensityUnavailable(f"Electricity Maps has no figure for {zone}")
    if _SANDBOX in f"{answer.get('estimationMethod')} {answer.get('_disclaimer')}".upper():
        raise IntensityUnavailable("Electricity Maps: a sandbox key gives invented figures")
    if answer.get("zone") != zone:
        raise IntensityUnavailable(f"Electricity Maps answered for another zone than {zone}")
    value = answer.get("carbonIntensity")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise IntensityUnavailable(f"Electricity Maps has no figure for {zone} at present")
    try:
        # Python 3.10 does not know the Z of ISO 8601.
        start = datetime.fromisoformat(str(answer.get("datetime")).replace("Z", "+00:00"))
        if start.utcoffset() is None:
            raise IntensityUnavailable("Electricity Maps sent a time without a zone")
        return Intensity(
            gco2eq_per_kwh=float(value),
            zone=zone,
            name=zone,
            year=None,
            scope="lifecycle",
            kind="estimated" if answer.get("isEstimated") else "measured",
            source="Electricity Maps",
            licence="property of Electricity Maps",
            start=start.astimezone(timezone.utc),
            end=start.astimezone(timezone.utc) + timedelta(hours=1),
        )
    except ValueError as error:
        raise IntensityUnavailable(f"Electricity Maps: {error}") from None
