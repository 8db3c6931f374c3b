"""The command line: ``carbontracker CMD``, and the commands listed here."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

from carbontracker.cli.exits import minding_output, restore_signals

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    What is not the name of a command is a program to run and measure.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    name = given.pop(0) if given and given[0] in COMMANDS else "run"
    try:
        command: Callable[[list[str]], int] = import_module(COMMANDS[name]).main
    except (MemoryError, OSError, ImportError) as error:
        if name == "run":
            _become(given, error)
        raise
    if name == "run":
        return command(given)  # its exit code is the program's, whatever becomes of its own words
    return minding_output(lambda: command(given))


def _become(arguments: list[str], error: Exception) -> None:
    """Run the program in place of this process, which cannot even load what runs it beside.

    Returns if it is not clear which program that is, or where it cannot be run.
    """
    if "--" in arguments:
        program = arguments[arguments.index("--") + 1 :]
    else:
        program = [] if arguments and arguments[0].startswith("-") else arguments
    if not program:
        return
    why = " ".join(str(error).split()) or type(error).__name__
    with suppress(OSError, ValueError):
        os.write(2, f"carbontracker: no energy is measured: {why}\n".encode())
    restore_signals()
    with suppress(OSError):
        os.execvp(program[0], program)
