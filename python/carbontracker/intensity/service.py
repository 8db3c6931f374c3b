"""The common part of the live providers: URL, key, requests, and figures from answers."""

from __future__ import annotations

import json
import math
import os
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote, urlencode, urlsplit

from carbontracker import times
from carbontracker.exceptions import IntensityUnavailable
from carbontracker.guard import logger
from carbontracker.intensity.base import MAX_GCO2EQ_PER_KWH, Intensity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from carbontracker.intensity.http import Client

HOUR = timedelta(hours=1)
_MOVED = {"iso": "iso_utc", "moment": "parse_utc"}
"""Functions that the release before had here: their names in ``carbontracker.times``."""


def __getattr__(name: str) -> object:
    if name not in _MOVED:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from warnings import warn

    now = f"{times.__name__}.{_MOVED[name]}"
    message = f"{__name__}.{name} is now {now}; the next release drops the old name"
    warn(message, DeprecationWarning, stacklevel=2)
    return getattr(times, _MOVED[name])


def provider_variable(name: str, what: str) -> str:
    """Return the environment variable of a provider's setting: ``CARBONTRACKER_<NAME>_<WHAT>``."""
    return f"CARBONTRACKER_{name.upper()}_{what}"


class Service:
    """A provider over HTTP; a subclass converts the answers.

    Args:
        api_key: never shown, logged, cached or recorded. By default
            ``CARBONTRACKER_<NAME>_KEY``.
        url: base URL; by default ``CARBONTRACKER_<NAME>_URL``, else the public service.
        client: makes the requests.
        clock: the current time, aware, UTC.

    Raises:
        ValueError: the service needs a key, and no key is given.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    URL: ClassVar[str]
    needs_key: ClassVar[bool] = False
    source: ClassVar[str]
    licence: ClassVar[str]
    signal: ClassVar[str] = "average"
    scope: str = "unknown"

    every_s: ClassVar[float] = 900.0
    """Interval between two requests, s: that at which the service publishes."""
    fresh_s: ClassVar[float] = 3 * 3600.0
    """How long after its slot a figure counts as current, s."""
    last_resort_s: ClassVar[float] = 24 * 3600.0
    """How long after its slot a figure may still be used, s."""
    has_forecast: ClassVar[bool] = True

    def __init__(
        self,
        api_key: str = "",
        url: str | None = None,
        client: Client | None = None,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        # A key from a file ends in a newline.
        self._key = (api_key or self._key_of_environment()).strip()
        if self.needs_key and not self._key:
            raise ValueError(
                f"{self.title} needs a key: give api_keys={{{self.name!r}: ...}} or "
                f"{provider_variable(self.name, 'KEY')}"
            )
        base = url or os.environ.get(provider_variable(self.name, "URL"), "").strip() or self.URL
        self._url = base.rstrip("/")
        self._client = client
        self._clock = clock or times.utc_now
        self._told: set[str] = set()

    def _key_of_environment(self) -> str:
        """Return the key in the user's environment; empty if there is no such variable."""
        return os.environ.get(provider_variable(self.name, "KEY"), "")

    def __repr__(self) -> str:
        """Return the name, without the key."""
        return f"<{type(self).__name__}>"

    @property
    def fingerprint(self) -> str:
        """Return a hash of URL, key and scope."""
        import hashlib  # imported here: it loads OpenSSL, which only live figures need

        identity = "\0".join((self._url, self.scope, *self._secrets()))
        return hashlib.sha256(identity.encode()).hexdigest()[:10]

    def now(self, zone: str) -> Intensity:
        """Return the newest figure that is not in the future.

        Raises:
            IntensityUnavailable: there is no recent figure.
        """
        now = self._clock()
        slots = self.between(zone, now - timedelta(seconds=self.fresh_s), now)
        past = [slot for slot in slots if slot.start is not None and slot.start <= now]
        if past:
            return past[-1]
        raise IntensityUnavailable(f"{self.title} has no recent figure for {zone}")

    def between(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        """Return the slots known for ``start`` to ``end``.

        Raises:
            IntensityUnavailable: it has no slots for that time, or no history.
        """
        raise IntensityUnavailable(f"{self.title} has no history")

    def forecast(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        """Return the slots of the forecast for ``start`` to ``end``.

        Raises:
            IntensityUnavailable: it has no slots for that time, or no forecast.
        """
        raise IntensityUnavailable(f"{self.title} has no forecast")

    def ask(
        self,
        path: str,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Return the JSON document at ``path``.

        Raises:
            IntensityUnavailable: the request failed; the reason holds no secret.
        """
        from carbontracker.intensity.http import error_message, redacted

        body = self.ask_bytes(path, query, headers)
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            raise IntensityUnavailable(f"{self.title} did not send JSON") from None
        if isinstance(answer, dict) and answer.get("error"):
            # Some gateways answer 200 to every request, with the error in the body.
            said = redacted(error_message(body), self._secrets())
            raise IntensityUnavailable(f"{self.title} has no figure: {said}", status=404)
        return answer

    def ask_bytes(
        self,
        path: str,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Return the body of ``path``, or of a whole URL; raises as ``ask`` does."""
        from carbontracker.intensity.http import Client, RequestFailed

        if self._client is None:
            self._client = Client()
        text = urlencode(
            query or {}, quote_via=quote
        )  # a space becomes %20, which all services accept
        url = path if "://" in path else f"{self._url}{path}"
        url += f"?{text}" if text else ""
        try:
            host = urlsplit(url).netloc.rpartition("@")[2]
        except ValueError:
            raise IntensityUnavailable("the service URL is not valid") from None
        try:
            return self._client.fetch(url, headers, secrets=self._secrets()).body
        except RequestFailed as failed:
            reason = f"{host} {failed.reason}".lstrip()
            raise IntensityUnavailable(reason, failed.status, failed.retry_after_s) from None

    def slot(
        self, value: Any, zone: str, start: datetime, end: datetime, kind: str
    ) -> list[Intensity]:
        """Return a list with the figure, empty if ``value`` (gCO2eq/kWh) is missing or impossible.

        Missing values are common; the first impossible one gives a warning.
        """
        if value is None:
            return []
        grams = number(value)
        if not 0 <= grams <= MAX_GCO2EQ_PER_KWH:
            self.tell_once(f"{self.title} sent {value!r:.40} as gCO2eq/kWh: the value is ignored")
            return []
        return [
            Intensity(
                grams, zone, zone, None, self.scope, kind, self.signal, self.source, self.licence,
                start, end, provider=self.name,
            )
        ]  # fmt: skip

    @contextmanager
    def understanding(self) -> Iterator[None]:
        """Convert errors of an answer in an unknown format to IntensityUnavailable."""
        try:
            yield
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
            raise IntensityUnavailable(
                f"{self.title} sent an answer in an unknown format"
            ) from None

    def tell_once(self, message: str) -> None:
        """Warn, unless the same warning was given before."""
        from carbontracker.intensity.http import redacted

        if message not in self._told:
            self._told.add(message)
            logger.warning("carbontracker: %s", redacted(message, self._secrets()))

    def _secrets(self) -> tuple[str, ...]:
        return (self._key,) if self._key else ()


def number(value: Any, *, text: bool = False) -> float:
    """Return ``value`` as a float, NaN if it is not a number; with ``text`` also from text."""
    if text and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


def overlapping(
    slots: Iterable[Intensity], start: datetime, end: datetime, nothing: str
) -> list[Intensity]:
    """Return the slots that overlap ``start`` to ``end``, in time order, each start once.

    Raises:
        IntensityUnavailable: no slot overlaps; ``nothing`` is the reason.
    """
    by_start = {s.start: s for s in slots if s.start and s.end and s.end > start and s.start <= end}
    if not by_start:
        raise IntensityUnavailable(nothing)
    return [by_start[key] for key in sorted(by_start)]


def windows(start: datetime, end: datetime, longest: timedelta) -> list[tuple[datetime, datetime]]:
    """Return ``start`` to ``end`` in pieces of at most ``longest``."""
    pieces = []
    while start < end:
        pieces.append((start, min(end, start + longest)))
        start += longest
    return pieces or [(start, end)]


def table(answer: Any, key: str, title: str) -> list[dict[str, Any]]:
    """Return the list of objects under ``key`` of an answer.

    Raises:
        IntensityUnavailable: the answer has an unknown format.
    """
    found = answer.get(key) if isinstance(answer, dict) else None
    if not isinstance(found, list):
        raise IntensityUnavailable(f"{title} sent an answer in an unknown format")
    return [row for row in found if isinstance(row, dict)]
