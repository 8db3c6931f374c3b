"""Exit codes of the commands, and messages on standard error."""

from __future__ import annotations

import io
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from carbontracker.exceptions import TableError
from carbontracker.report.formatting import ASCII_ERRORS, IN_ASCII

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

FAILED = 1
"""The checked files have errors."""
USAGE_ERROR = 2
"""An argument is wrong, a named file or run does not exist, or the output cannot be written."""
NOTHING_KNOWN = 3
"""The advice needs a forecast or a value that is not available."""
MAX_MESSAGE = 2000
"""Characters of a message, at most."""
INTERRUPTED = 130
"""Ctrl-C: 128 plus the number of the signal, as in shells."""


def say(message: object) -> None:
    """Print a message on standard error; do nothing if standard error is closed."""
    if sys.stderr is None:
        return  # print would write to standard output, which belongs to the program
    text = f"carbontracker: {short(message)}"
    try:
        text.encode(sys.stderr.encoding or "utf-8")
    except UnicodeEncodeError:  # the stream escapes what has no sign in ASCII
        text = text.translate(IN_ASCII)
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):  # a full disk, a closed pipe
        discard(sys.stderr)


def restore_signals() -> None:
    """Restore the signals that Python ignores to their defaults, because exec inherits them."""
    for name in ("SIGPIPE", "SIGXFSZ"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)


def short(message: object) -> str:
    """Return a message cut to ``MAX_MESSAGE`` characters: it may quote a long file."""
    text = str(message)
    return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - 1]}…"


def run_with_output(command: Callable[[], int]) -> int:
    """Run a command that prints its result on standard output; return its exit code.

    Signs that the terminal cannot show are written in ASCII, other characters as ``?``. If the
    reader closes the pipe early, as ``head`` does, the exit code is 0. If the output cannot be
    written, a message says so.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=ASCII_ERRORS)
    try:
        code = command()
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except TableError:
        return NOTHING_KNOWN  # a message has named the missing table
    except BrokenPipeError:
        discard(sys.stdout)
        return 0
    except OSError as error:
        say(error)
        discard(sys.stdout)
        return USAGE_ERROR
    return code


def discard(stream: TextIO) -> None:
    """Discard the buffer of a stream: the interpreter would try to write it at exit, and would
    change the exit code."""
    with suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
