"""What a record says in plain JSON, where anything may be missing or something else."""

from __future__ import annotations

import math
import re
from typing import Any, TypeGuard

_MOST = 1e18
"""Of any figure, in joules the world's electricity of days: what is more is damage."""
_MOST_WHOLE = 2**63
"""Moments are whole nanoseconds since 1970."""


MAX_SECONDS = 1e9
MAX_NS = 4 * 10**18
"""Of a moment: sums and differences of two, and of times, fit in 64 bits."""

_SURROGATES = re.compile("[\ud800-\udfff]")


def text(value: str) -> str:
    """Return text that UTF-8 can hold: what stands for bytes that are not becomes U+FFFD."""
    return value if value.isascii() else _SURROGATES.sub("\ufffd", value)


def number(value: object, default: float = math.nan) -> float:
    """Return a number of a record; null and what is none are NaN, or the default."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return default
    most = _MOST if isinstance(value, float) else _MOST_WHOLE
    return default if abs(value) > most else float(value)


def seconds_of(value: object, default: float = math.nan) -> float:
    """Return a time of a record, s; one of more than 31 years is damage, and not known."""
    given = number(value, default)
    return given if abs(given) <= MAX_SECONDS else default


def is_moment(value: object) -> TypeGuard[int]:
    """Return whether it is a moment in whole ns, on the wall clock or since a machine began."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_NS


def whole(value: object) -> int:
    """Return a whole number of a record; 0 where there is none."""
    given = number(value)
    return int(given) if math.isfinite(given) else 0


def count(value: object) -> float | None:
    """Return a number of a record, whole ones as int; None where there is none."""
    given = number(value)
    if not math.isfinite(given):
        return None
    return int(given) if given.is_integer() else given


def mapping(value: object) -> dict[str, Any]:
    """Return an object of a record; an empty one where there is none."""
    return value if isinstance(value, dict) else {}


def mappings(value: object) -> list[dict[str, Any]]:
    """Return the objects in a list of a record; an empty one where there is none."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
