"""Any service that answers in JSON, described by a configuration."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlsplit

from carbontracker.exceptions import IntensityUnavailable
from carbontracker.intensity.base import SCOPES, SIGNALS
from carbontracker.intensity.service import Service, number, overlapping
from carbontracker.times import iso_utc, parse_utc

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from carbontracker.intensity.base import Intensity
    from carbontracker.intensity.http import Client

VARIABLE = "CARBONTRACKER_HTTP_JSON"


@dataclass(frozen=True)
class Shape:
    """The URLs of a service, and where the figures are in its answer.

    URLs are templates with ``{zone}``, ``{lat}``, ``{lon}``, ``{key}``, ``{now}``, ``{start}``
    and ``{end}`` (UTC, ISO 8601). Paths are names and numbers joined by dots: ``data.0.value``.
    """

    url: str
    """URL of the newest figures, and of those from ``{start}`` to ``{end}``."""
    value: str
    """Path of the figure within a row."""
    time: str
    """Path of the start of its slot: ISO 8601 with a time zone, or seconds since 1970."""
    rows: str = ""
    """Path of a list of rows; empty if the answer is one row."""
    forecast_url: str = ""
    """URL of the forecast, in the same format; empty if the service has none."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers of the request; ``{key}`` becomes the key."""
    multiplier: float = 1.0
    """Converts a figure to gCO2eq/kWh: 1000 for kg/kWh, 0.45359237 for lb/MWh."""
    slot_s: float = 3600.0
    """Length of a slot, s."""
    scope: str = "unknown"
    signal: str = "average"


class HttpJson(Service):
    """A service that a configuration describes.

    Args:
        shape: the configuration, as a mapping with ``Shape``'s fields; else
            ``CARBONTRACKER_HTTP_JSON``, which is that as JSON or the path of such a file.
        api_key: the key, if the configuration uses one.
        client: asks.
        clock: the time.

    Raises:
        ValueError: the configuration is missing or not valid.
    """

    name = "http_json"
    title = "your own service"
    URL = ""
    source = "as configured"
    licence = "as configured"

    def __init__(
        self,
        shape: Mapping[str, Any] | None = None,
        api_key: str = "",
        client: Client | None = None,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self.shape = _checked_shape(shape)
        url = os.environ.get("CARBONTRACKER_HTTP_JSON_URL", "") or self.shape.url
        super().__init__(api_key, url, client, clock)
        self.scope = self.shape.scope
        self.signal = self.shape.signal  # type: ignore[misc]  # set per instance: one class serves any service
        self.source = urlsplit(url).hostname or "as configured"  # type: ignore[misc]  # as above
        self.has_forecast = bool(self.shape.forecast_url)  # type: ignore[misc]  # as above
        self.every_s = min(max(self.shape.slot_s, 300.0), 1800.0)  # type: ignore[misc]  # as above

    def between(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        """Return the slots of the service that overlap the time."""
        slots = self._slots(self._url, zone, (start, end), "measured")
        return overlapping(slots, start, end, f"{self.source} has no figures for {zone}")

    def forecast(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        """Return the slots of the forecast URL."""
        if not self.shape.forecast_url:
            raise IntensityUnavailable(
                f"{self.source} has no forecast: set forecast_url in its configuration"
            )
        slots = self._slots(self.shape.forecast_url, zone, (start, end), "forecast")
        return overlapping(slots, start, end, f"{self.source} has no forecast for {zone}")

    def _slots(
        self, template: str, zone: str, span: tuple[datetime, datetime], kind: str
    ) -> list[Intensity]:
        lat, _, lon = zone.partition(",")
        words = {
            "zone": zone,
            "lat": lat,
            "lon": lon,
            "key": self._key,
            "now": iso_utc(self._clock()),
            "start": iso_utc(span[0]),
            "end": iso_utc(span[1]),
        }
        url = _filled(template, {name: quote(word, safe="") for name, word in words.items()})
        headers = {name: _filled(text, words) for name, text in self.shape.headers.items()}
        answer = self.ask(url, headers=headers)
        slots: list[Intensity] = []
        with self.understanding():
            rows = _at(answer, self.shape.rows)
            for row in rows if self.shape.rows else [rows]:
                value, begin = _at(row, self.shape.value), _time(_at(row, self.shape.time))
                if value is not None:
                    value = number(value, text=True) * self.shape.multiplier
                step = timedelta(seconds=self.shape.slot_s)
                slots += self.slot(value, zone, begin, begin + step, kind)
        return slots

    def _secrets(self) -> tuple[str, ...]:
        return (*super()._secrets(), *_possible_keys(self.shape))


def _checked_shape(given: Mapping[str, Any] | None) -> Shape:
    values = dict(given) if given is not None else _configured()
    unknown = set(values) - {f.name for f in fields(Shape)}
    missing = {"url", "value", "time"} - set(values)
    if unknown or missing:
        wrong = [f"no {name!r}" for name in sorted(missing)]
        wrong += [f"an unknown {name!r}" for name in sorted(unknown)]
        raise ValueError(f"the configuration of http_json has {' and '.join(wrong)}")
    shape = Shape(**values)
    texts = {name: values[name] for name in _TEXTS if name in values}
    texts |= {f"headers[{name!r}]": text for name, text in _headers(shape.headers).items()}
    for name, text in texts.items():
        if not isinstance(text, str):
            # Not the value itself: it may be a key.
            raise ValueError(f"http_json: {name} must be text, not {type(text).__name__}")
    for value, known in ((shape.scope, SCOPES), (shape.signal, SIGNALS)):
        if value not in known:
            raise ValueError(f"http_json: {value!r} is not one of {', '.join(known)}")
    if not (number(shape.multiplier) > 0 and number(shape.slot_s) > 0):
        raise ValueError("http_json: multiplier and slot_s must be positive numbers")
    return shape


_TEXTS = ("url", "forecast_url", "rows", "value", "time")


def _headers(given: Any) -> Mapping[str, Any]:
    if not isinstance(given, dict):
        raise ValueError(f"http_json: headers must be an object, not {type(given).__name__}")
    return given


_MIN_KEY_LENGTH = 8
"""A shorter word of a query or a header, such as a zone, is not treated as a key."""


def _possible_keys(shape: Shape) -> list[str]:
    """Return the texts of the configuration that may be keys."""
    queries = [urlsplit(url).query for url in (shape.url, shape.forecast_url)]
    words = [word for query in queries for _, word in parse_qsl(query)]
    for text in shape.headers.values():
        words += text.split()  # "Bearer KEY": the service may repeat the key alone
    return [*shape.headers.values(), *(word for word in words if len(word) >= _MIN_KEY_LENGTH)]


def _configured() -> dict[str, Any]:
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        raise ValueError(f"http_json needs a configuration in {VARIABLE}: see docs/intensity.md")
    try:
        if not text.startswith("{"):
            text = Path(text).read_text(encoding="utf-8")
        found = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{VARIABLE}: {type(error).__name__}") from None  # it may hold a key
    if not isinstance(found, dict):
        raise ValueError(f"{VARIABLE} is not a JSON object")
    return found


def _filled(template: str, words: Mapping[str, str]) -> str:
    # Not str.format, with which a template could read attributes of objects.
    for name, word in words.items():
        template = template.replace(f"{{{name}}}", word)
    return template


def _at(answer: Any, path: str) -> Any:
    for step in filter(None, path.split(".")):
        answer = answer[int(step)] if isinstance(answer, list) else answer[step]
    return answer


def _time(value: Any) -> datetime:
    seconds = number(value)
    if math.isnan(seconds):
        return parse_utc(value)
    return datetime.fromtimestamp(seconds, tz=timezone.utc)
