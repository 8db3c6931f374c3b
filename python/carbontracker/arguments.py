"""Arguments as scripts give them: numbers as text, scalars of numpy and torch, yes and no as words.

What a function here cannot convert it returns as it is, for the check of that argument to refuse,
or refuses itself with a ``ValueError`` that names the argument.
"""

from __future__ import annotations

import os
import sys
from reprlib import Repr

from carbontracker.environment import is_yes

MAX_NAME_BYTES = 150
"""Of what a text of the user adds to the name of a file, which may have 255."""
_NOT_A_NUMBER = (TypeError, ValueError, ArithmeticError, RuntimeError)
"""What objects raise that look like numbers and are not, such as arrays of several elements."""


def as_number(value: object) -> object:
    """Return ``value`` as an int or a float; as it is if it holds no number."""
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
    except _NOT_A_NUMBER:
        return value


def as_count(value: object) -> object:
    """Return the same, with whole numbers as int."""
    number = as_number(value)
    return int(number) if isinstance(number, float) and number.is_integer() else number


def as_flag(name: str, value: object) -> bool:
    """Return whether ``value`` says yes; words are those of the environment's switches.

    Raises:
        ValueError: it says neither yes nor no.
    """
    if isinstance(value, (str, bytes)):
        return is_yes(os.fsdecode(value))
    try:
        return bool(value)
    except _NOT_A_NUMBER:
        raise ValueError(f"{name} must be True or False, not {shown(value)}") from None


def as_text(name: str, value: object) -> str | None:
    """Return text; None is no text.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(value, bytes):
        return os.fsdecode(value)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} must be text, not {shown(value)}")
    return value


def as_path(name: str, value: object) -> str | os.PathLike[str] | None:
    """Return a path; None, False and the empty text are none.

    Raises:
        ValueError: it is something else.
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
    """Return text as the beginning of a file's name: no other folder, no line, not too long."""
    name = "".join(letter if letter.isprintable() and letter != "/" else "_" for letter in text)
    if name.startswith(".."):
        name = f"_{name.lstrip('.')}"
    encoding = sys.getfilesystemencoding()
    return name.encode(encoding, "replace")[:MAX_NAME_BYTES].decode(encoding, "ignore")


_SHORT = Repr()  # also of objects whose own repr fails
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


def shown(value: object) -> str:
    """Return an argument for a message, in one line and not too long."""
    return " ".join(f"{_SHORT.repr(value):.60}".split())
