"""Conversion of arguments: numbers as text, scalars of numpy and torch, words for yes and no.

A function that cannot convert a value either returns it unchanged, so that the check of the
argument refuses it, or raises a ``ValueError`` that names the argument.
"""

from __future__ import annotations

import operator
import os
import sys
from reprlib import Repr

from carbontracker.environment import is_yes

MAX_NAME_BYTES = 150
"""Limit on the user's part of a file name; the whole name may have 255 bytes."""
_CONVERSION_ERRORS = (TypeError, ValueError, ArithmeticError, RuntimeError)
"""Raised by objects that have ``__float__`` and are not numbers, such as arrays."""
LOOPBACK = "127.0.0.1"
"""The host of an address that has only a port."""
_MAX_PORT = 65_535


def as_number(value: object) -> object:
    """Return ``value`` as an int or a float; unchanged if it is not a number."""
    if type(value) in (int, float):
        return value
    try:
        if isinstance(value, (str, bytes)):
            return float(value)
        if hasattr(value, "item"):
            value = value.item()  # a scalar of numpy, torch or jax
        if hasattr(value, "__index__"):
            return int(value)
        return float(value) if hasattr(value, "__float__") else value
    except _CONVERSION_ERRORS:
        return value


def as_count(value: object) -> object:
    """Return ``value`` as a number, and whole numbers as int."""
    number = as_number(value)
    return int(number) if isinstance(number, float) and number.is_integer() else number


def as_whole(value: object) -> int:
    """Return a whole number of at least 0, also one of numpy or torch; 0 for any other value."""
    try:
        return max(0, operator.index(value))  # type: ignore[arg-type]  # raises if it has none
    except (TypeError, ValueError):
        return 0


def is_count(value: object) -> bool:
    """Return whether ``value`` is a whole number of at least 1, also one of numpy or torch."""
    return as_whole(value) >= 1


def as_flag(name: str, value: object) -> bool:
    """Return ``value`` as a boolean; text is read as in ``environment.is_yes``.

    Raises:
        ValueError: ``value`` has no truth value.
    """
    if isinstance(value, (str, bytes)):
        return is_yes(os.fsdecode(value))
    try:
        return bool(value)
    except _CONVERSION_ERRORS:
        raise ValueError(f"{name} must be True or False, not {shown(value)}") from None


def as_text(name: str, value: object) -> str | None:
    """Return text, or None for None.

    Raises:
        ValueError: ``value`` is not text.
    """
    if isinstance(value, bytes):
        return os.fsdecode(value)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} must be text, not {shown(value)}")
    return value


def as_path(name: str, value: object) -> str | os.PathLike[str] | None:
    """Return a path; None for None, False and the empty text.

    Raises:
        ValueError: ``value`` is not a path.
    """
    if value is None or value is False or value in ("", b""):
        return None
    if isinstance(value, bytes):
        return os.fsdecode(value)
    if not isinstance(value, (str, os.PathLike)):
        raise ValueError(f"{name} must be the path of a directory or file, not {shown(value)}")
    inside = os.fspath(value)
    return os.fsdecode(inside) if isinstance(inside, bytes) else value


def as_file_name(text: str) -> str:
    """Return text as the first part of a file name: without separators and control characters."""
    name = "".join(letter if letter.isprintable() and letter != "/" else "_" for letter in text)
    if name.startswith(".."):
        name = f"_{name.lstrip('.')}"
    encoding = sys.getfilesystemencoding()
    return name.encode(encoding, "replace")[:MAX_NAME_BYTES].decode(encoding, "ignore")


_SHORT = Repr()  # works also for objects whose own repr fails
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


def shown(value: object) -> str:
    """Return the repr of an argument for a message, in one line of 60 characters at most."""
    return " ".join(f"{_SHORT.repr(value):.60}".split())


def parse_bind_address(given: int | str) -> tuple[str, int]:
    """Return host and port of ``9095``, ``"9095"`` or ``"host:port"``.

    Raises:
        ValueError: ``given`` is neither a port nor ``HOST:PORT``.
    """
    text = str(given).strip()
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if colon else LOOPBACK
    is_port = port.isascii() and port.isdigit() and int(port) <= _MAX_PORT
    if isinstance(given, bool) or not is_port or not host:
        message = (
            f"prometheus={given!r} is neither a port nor HOST:PORT: write 9095 for this machine"
            " only, or 0.0.0.0:9095 for every network of this machine"
        )
        raise ValueError(message)
    return host, int(port)
