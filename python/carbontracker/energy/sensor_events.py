"""Sensors that join, are lost, or return during a run: one event for each change."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from carbontracker.guard import SENSOR_EVENTS, start_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from carbontracker.energy.session import Entry, Mark, Session

JOINED, LOST, RETURNED = "sensor_joined", "sensor_lost", "sensor_returned"
CHECK_INTERVAL_S = 1.0
"""Interval of the checks. The core detects a lost sensor at the same interval."""
_MAX_CLOSE_S = 1.0


class SensorEvent(NamedTuple):
    """A change of a sensor, as the record stores it."""

    event: str
    """``sensor_joined``, ``sensor_lost`` or ``sensor_returned``."""
    data: dict[str, Any]
    """``id``, ``seconds_after_start`` and the other fields of the event (docs/record.md)."""


class SensorEvents:
    """Reports the changes of a session's sensors, from the start of a run.

    Args:
        session: that measures the run.
        began: the start of the run.
        notify: called once for each event, on the thread of this class or on one that calls
            ``look``.
    """

    def __init__(
        self, session: Session, began: Mark, notify: Callable[[SensorEvent], None]
    ) -> None:
        self._session = session
        self._began_ns = began.t_ns
        self._notify = notify
        self._entries = sum(entry.joined_ns <= began.t_ns for entry in session.entries)
        self._changes = 0
        # Of the changes before the run, only a sensor that is still lost concerns it.
        newest = {event.data["id"]: event for event in self._changed()}
        self._waiting = [event for event in newest.values() if event.event == LOST]
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._thread = start_thread(SENSOR_EVENTS, self._run, "carbontracker-sensors")

    def look(self) -> None:
        """Report the changes since the last check. If another thread is checking, do nothing."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            self._waiting += self._joined()
            self._waiting += self._changed()
            while self._waiting:
                self._notify(self._waiting.pop(0))
        finally:
            self._lock.release()

    def close(self) -> None:
        """Report the last events and end the thread."""
        self._closed.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_MAX_CLOSE_S)
        self.look()

    def _run(self) -> None:
        while not self._closed.wait(CHECK_INTERVAL_S):
            self.look()

    def _joined(self) -> Iterator[SensorEvent]:
        entries = self._session.entries
        new, self._entries = entries[self._entries :], len(entries)
        reasons = {one.device: one.reason for one in self._session.missing} if new else {}
        for entry in new:
            if entry.read:
                seconds = (entry.joined_ns - self._began_ns) / 1e9
                yield SensorEvent(JOINED, {**sensor_data(entry), "seconds_after_start": seconds})
            else:  # the device is present and cannot be read
                why = reasons.get(entry.id, "it cannot be read")
                data = {"id": entry.id, "seconds_after_start": 0.0, "why": why}
                yield SensorEvent(LOST, data)

    def _changed(self) -> Iterator[SensorEvent]:
        core = self._session.core
        if core is None or not self._session.owned_by_this_process:
            return
        new = core.changes(self._changes)
        for change in new:
            self._changes = change.number + 1  # the core may have dropped older ones
            # The energy is known up to this moment, or from this moment on.
            seconds = max(0.0, (change.t_ns - self._began_ns) / 1e9)
            data: dict[str, Any] = {"id": change.id, "seconds_after_start": seconds}
            if change.lost:
                yield SensorEvent(LOST, data | {"why": change.why})
            else:
                yield SensorEvent(RETURNED, data)


def sensor_data(entry: Entry) -> dict[str, Any]:
    """Return the description of a channel in the record."""
    return {
        "id": entry.id,
        "kind": entry.kind,
        "name": entry.name,
        "source": entry.source,
        "quality": entry.quality,
        "counted": entry.counted,
        "alternate_of": entry.standby_for or None,
        "domain": entry.domain or None,
        "part_of": entry.part_of or None,
        "detail": entry.detail,
    }
