"""Polls live providers in a background thread, so that no training waits for a network."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from carbontracker.exceptions import IntensityUnavailable
from carbontracker.guard import INTENSITY, logger, start_thread
from carbontracker.intensity.cached_provider import CachedProvider, scope_and_signal
from carbontracker.intensity.series import FORECAST_KINDS, Series, merged
from carbontracker.intensity.service import overlapping
from carbontracker.times import utc_now

if TYPE_CHECKING:
    from collections.abc import Callable

    from carbontracker.intensity.base import Intensity, Provider
    from carbontracker.intensity.cache import Answer, Cache

JITTER = 0.02
"""Most of an interval by which a request may be late."""
_GENERATOR = random.SystemRandom()
"""The generator of a training is left alone."""
FINAL_AGE_S = 60.0
"""Age of an answer above which the end of a run asks again, s."""


class LiveProvider:
    """The figures of a provider as they arrive; for other times, the figure of the table.

    Requests begin with ``start``. A later answer revises earlier slots.

    Args:
        providers: one provider, or several: a later one is asked when those before it fail. A
            provider of another scope or signal than the first is left out.
        zone: the zone to ask for.
        fallback: the table's annual figure of the same scope, or None.
        cache: keeps the answers; by default the user's cache.
        clock: the current time, aware, UTC.
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
        """Start the thread that polls, if it does not run yet."""
        if self._thread is None:
            self._thread = start_thread(INTENSITY, self._poll, "carbontracker-live")

    def snapshot(self) -> Snapshot:
        """Return the figures known now, as a provider whose answers do not change."""
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
        """Return the slots of the provider's forecast; asks for it and waits, unless it is cached.

        Raises:
            IntensityUnavailable: there is no forecast.
        """
        answer = self.forecast_answer()
        if not answer.slots:
            raise IntensityUnavailable(answer.reason, answer.status, answer.retry_after_s)
        return overlapping(answer.slots, start, end, f"{self.title} has no forecast for that time")

    def forecast_answer(self) -> Answer:
        """Return the forecast, or why it is missing; asks and waits, unless it is cached."""
        return self._providers[0].forecast(self._clock())

    def refresh_soon(self) -> None:
        """Have the thread ask now, for revised figures at the end of a run; does not wait."""
        self._wake.set()

    def close(self) -> None:
        """Stop polling. Does not wait for a request in progress."""
        self._closed = True
        self._wake.set()

    def refresh(self, fresh_s: float | None = None) -> float:
        """Ask once and add the answers; return the seconds until the next request is due.

        Args:
            fresh_s: age below which a cached answer is used; by default the provider's interval.
        """
        now = self._clock()
        reason = ""
        for cached in self._providers:
            every_s = cached.every_s if fresh_s is None else min(fresh_s, cached.every_s)
            recent = cached.recent(now, every_s)
            answered = bool(recent.slots) or recent.status is not None
            forecast = cached.forecast(now).slots if answered else ()
            reason = "" if recent.slots else reason or recent.reason
            self._add(recent.slots, forecast, reason)
            if recent.slots:
                return max(1.0, cached.every_s - max(0.0, now.timestamp() - recent.at))
        self._add(self._providers[0].newest_cached(), (), reason)
        return max(1.0, min(cached.paused_s(now) for cached in self._providers))

    def _add(self, recent: Sequence[Intensity], forecast: Sequence[Intensity], reason: str) -> None:
        if reason and reason != self._known.reason:
            logger.warning("carbontracker: %s", reason)
        ours = self._providers[0].scope_and_signal
        recent, forecast = (
            [s for s in slots if (s.scope, s.signal) == ours] for slots in (recent, forecast)
        )
        known = [slot for slot in recent if slot.kind not in FORECAST_KINDS]
        ahead = (*(slot for slot in recent if slot.kind in FORECAST_KINDS), *forecast)
        self._known = replace(
            self._known,
            past=merged(self._known.past, known),
            forecast=merged(self._known.forecast, ahead),
            reason=reason,
        )

    def _poll(self) -> None:
        wait_s = self.refresh()
        while not self._closed:
            # Not all at one moment: processes without a common cache would be a burst.
            soon = self._wake.wait(wait_s * (1 + JITTER * _GENERATOR.random()))
            self._wake.clear()
            if not self._closed:
                wait_s = self.refresh(FINAL_AGE_S if soon else None)


class Snapshot:
    """The figures of a provider that were known at one moment."""

    def __init__(self, name: str, series: Series, now: datetime) -> None:
        self.name = name
        self._series = series
        self._now = now

    def now(self, zone: str) -> Intensity:
        """Return the figure of that moment."""
        return self._series.cover(self._now, self._now, self._now)[0]

    def between(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        """Return slots that cover ``start`` to ``end``; raises as ``LiveProvider`` does."""
        return self._series.cover(start, end, self._now)

    def forecast(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        """Raise IntensityUnavailable: a snapshot is of the past."""
        raise IntensityUnavailable("a snapshot has no forecast")
