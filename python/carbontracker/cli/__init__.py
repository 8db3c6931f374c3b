"""The command line: the commands listed here, and ``carbontracker PROGRAM``."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

from carbontracker.address_space import COMMAND_LINE_BYTES, check_room
from carbontracker.cli.exits import restore_signals, run_with_output

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
"""All commands by name. A new one is a module with ``main(arguments) -> int`` and a line here."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    If the first argument is not the name of a command, it is a program to run and measure.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    name = given.pop(0) if given and given[0] in COMMANDS else "run"
    try:
        if name == "run":
            check_room(COMMAND_LINE_BYTES)
        command: Callable[[list[str]], int] = import_module(COMMANDS[name]).main
    except (MemoryError, OSError, ImportError) as error:
        if name == "run":
            _exec_program(given, error)
        raise
    if name == "run":
        return command(given)  # the exit code is the program's, even if our output fails
    return run_with_output(lambda: command(given))


def _exec_program(arguments: list[str], error: Exception) -> None:
    """Replace this process by the program, because the command that measures it cannot be loaded.

    Returns if the arguments do not show which program to run, or if it cannot be run.
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
