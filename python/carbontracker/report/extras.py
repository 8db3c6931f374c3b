"""Packages that only some reports need."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class MissingExtra(RuntimeError):
    """A report needs a package that is not installed."""


def needed(module: str, extra: str) -> Any:
    """Import a module that comes with an extra.

    Raises:
        MissingExtra: it is not there; the message has the command that mends it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        message = f"this needs {package}, which is not here: pip install 'carbontracker[{extra}]'"
        raise MissingExtra(message) from error
