"""ISO 8601 times: one parser for the package, with one answer on every version of Python."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta, timezone

_ISO_8601 = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8})"
    r"(?:[Tt ](?P<hour>[0-9]{2})"
    r"(?::?(?P<minute>[0-9]{2})(?::?(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]+))?)?)?"
    r"(?:[Zz]|(?P<sign>[+-])(?P<offset_hours>[0-9]{2})(?::?(?P<offset_minutes>[0-9]{2}))?)?)?"
)
"""``datetime.fromisoformat`` of Python 3.10 reads neither ``Z`` nor most lengths of a fraction."""


def utc_now() -> datetime:
    """Return the current time, aware, UTC."""
    return datetime.now(timezone.utc)


def wall_time(t_ns: int) -> datetime:
    """Return the wall-clock time, UTC, of a moment on CLOCK_MONOTONIC, ns."""
    ago_s = (time.monotonic_ns() - t_ns) / 1e9
    return utc_now() - timedelta(seconds=ago_s)


def parse_time(text: object, *, naive: timezone | None = None) -> datetime:
    """Return an ISO 8601 time, aware, with the offset that it names.

    Args:
        text: the time: a date, or a date and a time with ``Z`` or an offset; extended
            (``2026-11-23T09:30:00.5Z``) or basic (``20261123T093000Z``), with ``T`` or a space.
            Digits of a fraction beyond microseconds are dropped.
        naive: the zone of a text that names none; by default such a text is refused.

    Raises:
        ValueError: ``text`` is not such a time.
    """
    found = _ISO_8601.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"{text!r:.40} is not an ISO 8601 time such as 2026-11-23T09:00Z")
    date = found["date"].replace("-", "")
    hour, minute, second = (int(found[name] or 0) for name in ("hour", "minute", "second"))
    micros = int((found["fraction"] or "0")[:6].ljust(6, "0"))
    zone = _zone(found) or naive
    if zone is None:
        raise ValueError(f"{text!r:.40} needs its time zone, as in 2026-11-23T09:00Z")
    year, month, day = int(date[:4]), int(date[4:6]), int(date[6:])
    return datetime(year, month, day, hour, minute, second, micros, zone)


def parse_utc(text: object, *, naive: timezone | None = None) -> datetime:
    """Return the same moment in UTC.

    Raises:
        ValueError: ``text`` is not such a time, or lies outside the years 1 to 9999 in UTC.
    """
    try:
        return parse_time(text, naive=naive).astimezone(timezone.utc)
    except OverflowError:
        raise ValueError(f"{text!r:.40} lies outside the years 1 to 9999 in UTC") from None


def _zone(found: re.Match[str]) -> timezone | None:
    """Return the zone that the text names, or None."""
    if found["sign"]:
        hours, minutes = int(found["offset_hours"]), int(found["offset_minutes"] or 0)
        if minutes > 59:
            raise ValueError(f"not a UTC offset: {found[0]!r:.40}")
        offset = timedelta(hours=hours, minutes=minutes)
        return timezone(-offset if found["sign"] == "-" else offset)
    return timezone.utc if found[0][-1] in "Zz" else None


def iso_utc(when: datetime) -> str:
    """Return an aware time as ``2026-11-23T09:30:00Z``."""
    return when.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
