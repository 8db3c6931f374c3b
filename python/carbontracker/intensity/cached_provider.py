"""A provider whose answers are cached. ``backoff`` decides when it is asked after a failure."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from carbontracker.exceptions import IntensityUnavailable
from carbontracker.intensity.backoff import Backoff
from carbontracker.intensity.cache import Answer, Cache, cache_directory

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from carbontracker.intensity.base import Intensity, Provider

    Fetch = Callable[[], list[Intensity]]

EVERY_S = 900.0
"""Interval between requests to a provider that states none, s; as in version 2.4."""
FORECAST_EVERY_S = 1800.0
PAST_SPAN = timedelta(hours=24)
"""How far back the past is asked for again: services revise figures for a day."""
FORECAST_SPAN = timedelta(hours=72)


class CachedProvider:
    """One provider for one zone; its answers are shared with other processes of the user.

    Those of the user's own provider are not shared: only its author knows what they depend on.
    """

    def __init__(
        self,
        provider: Provider,
        zone: str,
        cache: Cache | None,
        clock: Callable[[], datetime],
    ) -> None:
        self.provider = provider
        self.scope_and_signal = scope_and_signal(provider)
        self.every_s = float(getattr(provider, "every_s", EVERY_S))
        self._zone = zone
        self._is_users_own = not hasattr(provider, "fingerprint")
        if cache is None:
            folder = None if self._is_users_own else cache_directory()
            cache = Cache(folder, wall=lambda: clock().timestamp())
        self._cache = cache
        zone_name = re.sub(r"[^A-Za-z0-9-]+", "_", zone)[:60]
        self._file = f"{provider.name}_{zone_name}_{getattr(provider, 'fingerprint', 'own')}"
        self._backoff = Backoff(self.every_s)

    def recent(self, now: datetime, fresh_s: float) -> Answer:
        """Return the last day's slots, else the newest figure alone."""
        return self._get("past", fresh_s, now, lambda: self._past_of(now))

    def forecast(self, now: datetime) -> Answer:
        """Return the forecast."""
        if not getattr(self.provider, "has_forecast", hasattr(self.provider, "forecast")):
            title = getattr(self.provider, "title", self.provider.name)
            return Answer(now.timestamp(), reason=f"{title} has no forecast")

        def fetch() -> list[Intensity]:
            found = self.provider.forecast(self._zone, now, now + FORECAST_SPAN)
            return [_with_times(slot, now) for slot in found]

        return self._get("forecast", FORECAST_EVERY_S, now, fetch)

    def newest_cached(self) -> tuple[Intensity, ...]:
        """Return the newest slots on disk, however old."""
        found = self._cache.newest(f"{self._file}_past")
        return found.slots if found else ()

    def _past_of(self, now: datetime) -> list[Intensity]:
        try:
            slots = self.provider.between(self._zone, now - PAST_SPAN, now)
        except IntensityUnavailable as error:
            # A key that covers no history may still cover the newest figure.
            may_ask = self._is_users_own or error.status in (400, 403, 404, 410)
            if not may_ask or not hasattr(self.provider, "now"):
                raise
            slots = []
        if slots or not hasattr(self.provider, "now"):
            return [_with_times(slot, now) for slot in slots]
        return [_with_times(self.provider.now(self._zone), now)]

    def paused_s(self, now: datetime) -> float:
        """Return the seconds until the past may be asked for again, at most the interval."""
        left_s = self._backoff.left_s("past", now.timestamp())
        return self.every_s if left_s is None else min(left_s, self.every_s)

    def _get(self, what: str, fresh_s: float, now: datetime, fetch: Fetch) -> Answer:
        now_s = now.timestamp()
        failure = self._backoff.failure(what, now_s)
        if failure is not None:
            return failure
        ask = self._guarded(fetch) if self._is_users_own else fetch
        answer = self._cache.get(f"{self._file}_{what}", fresh_s, ask)
        if answer.slots:
            self._backoff.succeeded(what)
        else:
            self._backoff.failed(what, answer, now_s)
        return answer

    def _guarded(self, fetch: Fetch) -> Fetch:
        def guarded() -> list[Intensity]:
            try:
                found = fetch()
            except IntensityUnavailable:
                raise
            except Exception as error:  # noqa: BLE001  # code of the user in our thread
                kind = type(error).__name__
                raise IntensityUnavailable(f"{self.provider.name}: {kind}: {error}") from None
            other = {(s.scope, s.signal) for s in found} - {self.scope_and_signal}
            if other:
                scope, signal = other.pop()
                raise IntensityUnavailable(
                    f"{self.provider.name} gives {signal} figures of scope {scope} and does not "
                    f"say so: give it scope = {scope!r} and signal = {signal!r}"
                )
            return found

        return guarded


def scope_and_signal(provider: Provider) -> tuple[str, str]:
    """Return scope and signal of a provider's figures, which may not mix within a run."""
    return getattr(provider, "scope", "lifecycle"), getattr(provider, "signal", "average")


def _with_times(figure: Intensity, now: datetime) -> Intensity:
    """Return the figure with a beginning and an end; one without is of now and for an hour."""
    start = figure.start or now
    return replace(figure, start=start, end=figure.end or start + timedelta(hours=1))
