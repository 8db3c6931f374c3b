"""Switches in environment variables, and the directories of the user."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

NO = ("", "0", "false", "no", "off")
"""Words that switch something off, in upper or lower case. Every other word switches it on."""


def is_yes(text: str) -> bool:
    """Return whether a word switches something on."""
    return text.strip().lower() not in NO


def enabled(
    variable: str, *, default: bool = False, environ: Mapping[str, str] = os.environ
) -> bool:
    """Return whether an environment variable switches something on.

    If the variable is unset or empty, return the default: job templates leave variables empty.
    """
    text = environ.get(variable, "").strip()
    return is_yes(text) if text else default


def data_directory() -> Path:
    """Return the platform's directory for the user's data (``~/.local/share`` on Linux).

    Raises:
        OSError: the home directory is not known.
    """
    from platformdirs import user_data_path

    return _absolute(lambda: user_data_path("carbontracker", appauthor=False))


def cache_directory() -> Path:
    """Return the platform's directory for cached data (``~/.cache`` on Linux).

    Raises:
        OSError: the home directory is not known.
    """
    from platformdirs import user_cache_path

    return _absolute(lambda: user_cache_path("carbontracker", appauthor=False))


def _absolute(find: Callable[[], Path]) -> Path:
    try:
        found = find()
    except RuntimeError:  # new versions of platformdirs; old ones return "~/.local/share"
        found = None
    if found is None or not found.is_absolute():
        home = os.environ.get("HOME")
        message = (
            f"the home directory is not known: HOME is {'not set' if home is None else repr(home)}"
        )
        raise OSError(message)
    return found
