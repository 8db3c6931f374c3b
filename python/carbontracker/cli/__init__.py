"""The command line: ``carbontracker CMD``, and the commands listed here."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COMMANDS = {
    "aggregate": "carbontracker.cli.aggregate",
    "attribute": "carbontracker.cli.attribute",
    "check": "carbontracker.cli.check",
    "compare": "carbontracker.cli.compare",
    "estimate": "carbontracker.cli.estimate",
    "report": "carbontracker.cli.report",
    "run": "carbontracker.cli.run",
    "runs": "carbontracker.cli.runs",
    "sensors": "carbontracker.cli.sensors",
    "top": "carbontracker.cli.top",
    "trace": "carbontracker.cli.trace",
    "when": "carbontracker.cli.when",
    "where": "carbontracker.cli.where",
}
"""Every command by name: a new one is a module with ``main(arguments) -> int`` and a line here."""

FAILED = 1
READ_NO_FURTHER = 141
"""As a shell has it of a program that SIGPIPE ended: whoever reads, ``head``, has had enough."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    What is not the name of a command is a program to run and measure.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    name = given.pop(0) if given and given[0] in COMMANDS else "run"
    command: Callable[[list[str]], int] = import_module(COMMANDS[name]).main
    if name == "run":
        return command(given)  # standard output and exit code are the program's
    try:
        code = command(given)
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        _drop_output()
        if isinstance(error, BrokenPipeError):
            return READ_NO_FURTHER
        if sys.stderr is not None:
            print(f"carbontracker: {error}", file=sys.stderr)
        return FAILED
    return code


def _drop_output() -> None:
    """Have what is left of standard output go nowhere, so that the end does not fail as well."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
