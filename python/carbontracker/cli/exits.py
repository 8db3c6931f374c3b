"""How commands end: their exit codes, and the line that says why there is no result."""

from __future__ import annotations

import sys

FAILED = 1
"""What was looked at is not as it should be."""
USAGE_ERROR = 2
"""The arguments are wrong, or name what is not there."""
NOTHING_KNOWN = 3
"""There is no forecast, or no figure, to give advice by."""


def say(message: object) -> None:
    """Say it on standard error; on none at all if that is closed, as some daemons leave it."""
    if sys.stderr is not None:  # print would take standard output, which may be a program's
        print(f"carbontracker: {message}", file=sys.stderr)
