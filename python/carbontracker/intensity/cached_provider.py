"""A live provider asked in the background, so that no training ever waits for a network."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from carbontracker.guard import INTENSITY, logger, start_thread
from carbontracker.intensity.base import Intensity, IntensityUnavailable
from carbontracker.intensity.cache import Answer, Cache, cache_directory
from carbontracker.intensity.series import FORECAST_KINDS, Series, merged
from carbontracker.intensity.service import overlapping
from carbontracker.times import utc_now

if TYPE_CHECKING:
    from collections.abc import Callable

    from carbontracker.intensity.base import Provider

EVERY_S = 900.0
"""Seconds between two requests of a provider that does not say, as upstream has it."""
FORECAST_EVERY_S = 1800.0
AT_THE_END_S = 60.0
"""How old an answer may be when a run ends, s: older ones are asked for again."""
AFTER_FAILURE_S = 300.0
"""Longest pause after an answer that did not come, s."""
PAST_SPAN = timedelta(hours=24)
"""How far back the past is asked for again: services go on revising for a day."""
FORECAST_SPAN = timedelta(hours=72)
REFUSED_FOR_GOOD = (401, 403, 410)
"""Refusals that are not worth asking again in this process."""


class LiveProvider:
    """The figures of a provider as they arrive, by its own slots; the table where there are none.

    Nothing is asked before ``start``. What is said of a time depends on what has arrived by then;
    hours that are revised later are taken as revised.

    Args:
        providers: the one to ask, or several, of which later ones are asked where earlier ones
            fail; those of another scope or signal than the first are left out.
        zone: the zone to ask for.
        fallback: the year's figure of the table, of the same scope, if there is one.
        cache: where answers are kept; else the user's.
        clock: the time, aware, UTC.
    """

    def __init__(
        self,
        providers: Provider | Sequence[Provider],
        zone: str,
        fallback: Intensity | None,
        *,
        cache: Cache | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        several = list(providers) if isinstance(providers, Sequence) else [providers]
        first = several[0]
        alike = [one for one in several if scope_and_signal(one) == scope_and_signal(first)]
        self._providers = [CachedProvider(one, zone, cache, clock) for one in alike]
        self._clock = clock
        self._known = Series(
            fallback=fallback,
            reason=f"{self.name} has not answered yet",
            fresh=timedelta(seconds=getattr(first, "fresh_s", 3 * 3600.0)),
            last_resort=timedelta(seconds=getattr(first, "last_resort_s", 24 * 3600.0)),
        )
        self._wake = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def name(self) -> str:
        """Return the provider's name."""
        return self._providers[0].provider.name

    @property
    def title(self) -> str:
        """Return the provider's name for people."""
        return str(getattr(self._providers[0].provider, "title", self.name))

    def start(self) -> None:
        """Begin to ask in the background, once."""
        if self._thread is None:
            self._thread = start_thread(INTENSITY, self._ask_periodically, "carbontracker-live")

    def snapshot(self) -> Snapshot:
        """Return what is known now, as a provider whose word will not change."""
        return Snapshot(self.name, self._known, self._clock())

    def now(self, zone: str) -> Intensity:
        """Return the figure of now; never waits."""
        now = self._clock()
        return self._known.cover(now, now, now)[0]

    def between(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        """Return slots that cover ``start`` to ``end``, past or to come; never waits.

        Raises:
            IntensityUnavailable: nothing has arrived, and the table has nothing of this scope.
        """
        return self._known.cover(start, end, self._clock())

    def forecast(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        """Return the slots foreseen, as the provider has them; asks, unless it is known, and waits.

        Raises:
            IntensityUnavailable: there is no forecast.
        """
        answer = self.forecast_answer()
        if not answer.slots:
            raise IntensityUnavailable(answer.reason, answer.status)
        return overlapping(answer.slots, start, end, f"{self.title} foresees nothing for that time")

    def forecast_answer(self) -> Answer:
        """Return the forecast, or why there is none; asks, unless it is known, and waits."""
        return self._providers[0].forecast(self._clock())

    def refresh_soon(self) -> None:
        """Ask once more soon, for the revised values of the run that ends; does not wait."""
        self._wake.set()

    def close(self) -> None:
        """Ask no more. Does not wait for a request that is under way."""
        self._closed = True
        self._wake.set()

    def refresh(self, fresh_s: float | None = None) -> float:
        """Ask once and take in what is said; return the seconds until it is time to ask again.

        Args:
            fresh_s: how old an answer may be; by default the provider's own cadence.
        """
        now = self._clock()
        reason = ""
        for cached in self._providers:
            every_s = cached.every_s if fresh_s is None else min(fresh_s, cached.every_s)
            recent = cached.recent(now, every_s)
            there = bool(recent.slots) or recent.status is not None
            forecast = cached.forecast(now) if there else Answer(now.timestamp())
            reason = "" if recent.slots else reason or recent.reason
            self._take(recent.slots, forecast.slots, reason)
            if recent.slots:
                return max(1.0, cached.every_s - max(0.0, now.timestamp() - recent.at))
        self._take(self._providers[0].newest_cached(), (), reason)
        return min(self._providers[0].every_s, AFTER_FAILURE_S)

    def _take(
        self, recent: Sequence[Intensity], forecast: Sequence[Intensity], reason: str
    ) -> None:
        if reason and reason != self._known.reason:
            logger.warning("carbontracker: %s", reason)
        ours = self._providers[0].scope_and_signal
        recent, forecast = (
            [s for s in slots if (s.scope, s.signal) == ours] for slots in (recent, forecast)
        )
        known = [slot for slot in recent if slot.kind not in FORECAST_KINDS]
        foreseen = (*(slot for slot in recent if slot.kind in FORECAST_KINDS), *forecast)
        self._known = replace(
            self._known,
            past=merged(self._known.past, known),
            forecast=merged(self._known.forecast, foreseen),
            reason=reason,
        )

    def _ask_periodically(self) -> None:
        wait_s = self.refresh()
        while not self._closed:
            soon = self._wake.wait(wait_s)
            self._wake.clear()
            if not self._closed:
                wait_s = self.refresh(AT_THE_END_S if soon else None)


class Snapshot:
    """What a provider had said by one moment, whatever it says later."""

    def __init__(self, name: str, series: Series, now: datetime) -> None:
        self.name = name
        self._series = series
        self._now = now

    def now(self, zone: str) -> Intensity:
        """Return the figure of that moment."""
        return self._series.cover(self._now, self._now, self._now)[0]

    def between(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        """Return slots that cover ``start`` to ``end``; raises as ``Live.between`` does."""
        return self._series.cover(start, end, self._now)

    def forecast(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        """Raise IntensityUnavailable: what is settled is past."""
        raise IntensityUnavailable("what is settled has no forecast")


class CachedProvider:
    """One provider and what it said of one zone, shared with other processes.

    A provider of the user's own is not shared: only its author knows what it depends on.
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
        self._refused: dict[str, Answer] = {}

    def recent(self, now: datetime, fresh_s: float) -> Answer:
        """Return the last day's slots, else the newest figure alone."""
        return self._get("past", fresh_s, lambda: self._past_of(now))

    def forecast(self, now: datetime) -> Answer:
        """Return the forecast."""
        if not getattr(self.provider, "has_forecast", hasattr(self.provider, "forecast")):
            title = getattr(self.provider, "title", self.provider.name)
            return Answer(now.timestamp(), reason=f"{title} has no forecast")

        def fetch() -> list[Intensity]:
            found = self.provider.forecast(self._zone, now, now + FORECAST_SPAN)
            return [_with_times(slot, now) for slot in found]

        return self._get("forecast", FORECAST_EVERY_S, fetch)

    def newest_cached(self) -> tuple[Intensity, ...]:
        """Return the newest slots on disk, however old."""
        found = self._cache.newest(f"{self._file}_past")
        return found.slots if found else ()

    def _past_of(self, now: datetime) -> list[Intensity]:
        try:
            slots = self.provider.between(self._zone, now - PAST_SPAN, now)
        except IntensityUnavailable as error:
            answers = self._is_users_own or error.status not in (None, 401)
            if not answers or not hasattr(self.provider, "now"):
                raise  # the newest figure alone is not to be had there either
            slots = []
        if slots or not hasattr(self.provider, "now"):
            return [_with_times(slot, now) for slot in slots]
        return [_with_times(self.provider.now(self._zone), now)]

    def _get(self, what: str, fresh_s: float, fetch: Callable[[], list[Intensity]]) -> Answer:
        if what in self._refused:
            return self._refused[what]
        ask = self._guarded(fetch) if self._is_users_own else fetch
        answer = self._cache.get(f"{self._file}_{what}", fresh_s, ask)
        if answer.status in REFUSED_FOR_GOOD:
            self._refused[what] = answer
        return answer

    def _guarded(self, fetch: Callable[[], list[Intensity]]) -> Callable[[], list[Intensity]]:
        def guarded() -> list[Intensity]:
            try:
                found = fetch()
            except IntensityUnavailable:
                raise
            except Exception as error:  # noqa: BLE001  # code of the user's, in our thread
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
