"""A live provider asked in the background, so that no training ever waits for a network."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from carbontracker.intensity import Intensity, IntensityUnavailable

if TYPE_CHECKING:
    from carbontracker.intensity import Provider

logger = logging.getLogger("carbontracker")

EVERY_S = 900.0
"""Seconds between two requests, as upstream has it."""


class Live:
    """Each figure holds from its arrival to the next one's; before the first, and without any,
    the fallback's does, and says why.

    Args:
        provider: asked now and every ``every_s`` seconds until ``close``.
        zone: the zone to ask for.
        fallback: a provider that always answers, of the same scope.
        every_s: seconds between two requests.
    """

    def __init__(
        self, provider: Provider, zone: str, fallback: Provider, every_s: float = EVERY_S
    ) -> None:
        self.name = provider.name
        self.title = getattr(provider, "title", provider.name)
        self._provider = provider
        self._zone = zone
        self._fallback = fallback
        self._arrivals: list[tuple[datetime, Intensity]] = []
        self._reason = f"{provider.name} has not answered yet"
        self._closing = threading.Event()
        self._thread = threading.Thread(
            target=self._ask_periodically, args=(every_s,), name="carbontracker-live", daemon=True
        )
        self._thread.start()

    def between(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        """Return the figures that have arrived, as slots covering ``start`` to ``end``."""
        arrivals = list(self._arrivals)
        if not arrivals:
            note = f"{self._reason}: annual figure of the table"
            return [
                replace(slot, note=f"{note}; {slot.note}" if slot.note else note)
                for slot in self._fallback.between(zone, start, end)
            ]
        # The first figure stands for the moments before it arrived, too.
        begins = [None, *(moment for moment, _ in arrivals[1:])]
        ends = [*begins[1:], None]
        slots = [
            replace(figure, start=begin, end=finish)
            for begin, finish, (_, figure) in zip(begins, ends, arrivals, strict=True)
        ]
        if self._reason:
            slots[-1] = replace(slots[-1], note=f"the newest figure there is: {self._reason}")
        return [
            slot
            for slot in slots
            if (slot.end is None or slot.end > start) and (slot.start is None or slot.start <= end)
        ]

    def close(self) -> None:
        """Ask no more. Does not wait for a request that is under way."""
        self._closing.set()

    def _ask_periodically(self, every_s: float) -> None:
        while not self._closing.is_set():
            self._ask()
            self._closing.wait(every_s)

    def _ask(self) -> None:
        now = datetime.now(timezone.utc)
        try:
            figure = self._provider.between(self._zone, now, now)[-1]
        except IntensityUnavailable as error:
            if error.reason != self._reason:
                logger.warning("carbontracker: %s", error.reason)
            self._reason = error.reason
            return
        self._arrivals.append((now, figure))
        self._reason = ""
