"""Values as JSON holds them: made for writing, and read where anything may be missing."""

from __future__ import annotations

import math
import re
from datetime import datetime, timezone
from typing import Any, TypeGuard

from carbontracker.times import parse_utc

_MAX = 1e18
"""Of any figure; in joules it is the world's electricity of days. A larger value is damage."""
_MAX_WHOLE = 2**63
"""Moments are whole nanoseconds since 1970."""


MAX_SECONDS = 1e9
MAX_NS = 4 * 10**18
"""Of a moment: sums and differences of two, and of times, fit in 64 bits."""

_LAST_YEAR = 2200
"""A record of a later time is damaged."""
_SURROGATES = re.compile("[\ud800-\udfff]")


def text(value: str) -> str:
    """Return text that UTF-8 can hold: a surrogate becomes U+FFFD."""
    return value if value.isascii() else _SURROGATES.sub("\ufffd", value)


def jsonable(value: Any) -> Any:
    """Return ``value`` with everything that JSON cannot hold replaced.

    NaN and infinity become null, other objects their text, and text is such that UTF-8 can hold it.
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {
            key if isinstance(key, str) and key.isascii() else text(str(key)): jsonable(item)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if value is None or isinstance(value, int):
        return value
    return text(str(value))


def number(value: object, default: float = math.nan) -> float:
    """Return ``value`` as a float, or ``default`` if it is null or not a number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return default
    largest = _MAX if isinstance(value, float) else _MAX_WHOLE
    return default if abs(value) > largest else float(value)


def seconds_of(value: object, default: float = math.nan) -> float:
    """Return a time in seconds, or ``default`` if it is not a number or more than 31 years."""
    given = number(value, default)
    return given if abs(given) <= MAX_SECONDS else default


def is_moment(value: object) -> TypeGuard[int]:
    """Return whether it is a moment in whole ns: Unix time, or time since the machine started."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_NS


def whole(value: object) -> int:
    """Return ``value`` as a whole number, or 0 if it is not a number."""
    given = number(value)
    return int(given) if math.isfinite(given) else 0


def count(value: object) -> float | None:
    """Return ``value`` as a number, a whole one as int; None if it is not a number."""
    given = number(value)
    if not math.isfinite(given):
        return None
    return int(given) if given.is_integer() else given


def string(value: object) -> str:
    """Return text, or a number as text, such that UTF-8 can hold it; empty for other values."""
    is_text = isinstance(value, (str, int, float)) and not isinstance(value, bool)
    return text(str(value)) if is_text else ""


def time_of(value: object) -> datetime | None:
    """Return an ISO 8601 time of the years 1970 to 2200 in UTC; None if ``value`` is not one."""
    try:
        found = parse_utc(value, naive=timezone.utc)
    except ValueError:
        return None
    return found if 1970 <= found.year <= _LAST_YEAR else None


def interval(value: object) -> tuple[float, float]:
    """Return the two numbers in a list; NaN if ``value`` is not such a list."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return math.nan, math.nan
    return number(value[0]), number(value[1])


def mapping(value: object) -> dict[str, Any]:
    """Return ``value`` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def mappings(value: object) -> list[dict[str, Any]]:
    """Return the JSON objects in ``value``; an empty list if it is not a list."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
