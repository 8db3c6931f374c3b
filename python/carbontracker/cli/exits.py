"""How commands end: their exit codes, and the line that says why there is no result."""

from __future__ import annotations

import io
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from carbontracker.exceptions import TableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

FAILED = 1
"""What was looked at is not as it should be."""
USAGE_ERROR = 2
"""The arguments are wrong, name what is not there, or a result cannot be written."""
NOTHING_KNOWN = 3
"""There is no forecast, or no figure, to give advice by."""
MAX_MESSAGE = 2000
"""Characters of a message."""
INTERRUPTED = 130
"""Ctrl-C, as shells have it: 128 and the number of the signal."""


def say(message: object) -> None:
    """Say it on standard error; on none at all if that is closed, as some daemons leave it."""
    if sys.stderr is None:
        return  # print would take standard output, which may be a program's
    try:
        print(f"carbontracker: {short(message)}", file=sys.stderr, flush=True)
    except (OSError, ValueError):  # a full disk, a closed pipe
        drop(sys.stderr)


def restore_signals() -> None:
    """Set the signals that Python ignores back to what a program expects: exec keeps them."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)


def short(message: object) -> str:
    """Return a message cut to a length that a screen shows: a file it quotes may hold anything."""
    text = str(message)
    return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - 1]}…"


def minding_output(command: Callable[[], int]) -> int:
    """Run a command whose results go to standard output; return its exit code.

    Letters that a terminal does not have are shown as ``?``. A reader that has enough, such as
    ``head``, is no failure; output that cannot be written is one, and is said in a line.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        code = command()
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except TableError:
        return NOTHING_KNOWN  # it has been said which table is missing
    except BrokenPipeError:
        drop(sys.stdout)
        return 0
    except OSError as error:
        say(error)
        drop(sys.stdout)
        return USAGE_ERROR
    return code


def drop(stream: TextIO) -> None:
    """Let what is still buffered go nowhere: the interpreter would try it again at exit, and the
    exit code would become its own."""
    with suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
