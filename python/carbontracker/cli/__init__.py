"""The command line: the commands listed here, and ``carbontracker PROGRAM``."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

from carbontracker.address_space import COMMAND_LINE_BYTES, check_room
from carbontracker.cli.commands import COMMANDS
from carbontracker.cli.exits import USAGE_ERROR, restore_signals, run_with_output

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    If the first argument is not the name of a command, it is a program to run and measure.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help", "help"):
        return _help(given)
    name = given.pop(0) if given and given[0] in COMMANDS else "run"
    try:
        if name == "run":
            check_room(COMMAND_LINE_BYTES)
        command: Callable[[list[str]], int] = import_module(COMMANDS[name].module).main
    except (MemoryError, OSError, ImportError) as error:
        if name == "run":
            _exec_program(given, error)
        raise
    if name == "run":
        return command(given)  # the exit code is the program's, even if our output fails
    return run_with_output(lambda: command(given))


def _help(arguments: list[str]) -> int:
    """Print all commands, or the help of the one that is named."""
    if len(arguments) > 1 and arguments[0] == "help" and arguments[1] in COMMANDS:
        return main([arguments[1], "--help"])
    from carbontracker.cli.overview import overview

    if arguments:
        return run_with_output(lambda: _print(overview()))
    with suppress(OSError, ValueError):
        print(overview(), end="", file=sys.stderr)
    return USAGE_ERROR


def _print(text: str) -> int:
    print(text, end="")
    return 0


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
