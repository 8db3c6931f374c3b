"""``carbontracker completion SHELL``: a script for the shell, made by shtab."""

from __future__ import annotations

import argparse
from importlib import import_module

from carbontracker.cli.commands import COMMANDS
from carbontracker.cli.exits import USAGE_ERROR, say
from carbontracker.cli.parser import parser_of
from carbontracker.exceptions import MissingExtra
from carbontracker.extras import optional_module

EXAMPLES = """\
examples:
  eval "$(carbontracker completion bash)"                     # in ~/.bashrc
  carbontracker completion zsh > ~/.zfunc/_carbontracker      # a directory of $fpath
  carbontracker completion tcsh > ~/.carbontracker.completion.csh

This needs the package shtab (pip install shtab).
"""
SHELLS = ("bash", "zsh", "tcsh")


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    parser = parser_of(
        "carbontracker completion",
        "Print a script that completes commands, options and file names.",
        EXAMPLES,
    )
    parser.add_argument("shell", choices=SHELLS, help="the shell")
    return parser


def main(arguments: list[str]) -> int:
    """Print the script."""
    given = command_parser().parse_args(arguments)
    try:
        shtab = optional_module("shtab", "completion")
    except MissingExtra as error:
        say(error)
        return USAGE_ERROR
    print(shtab.complete(_all_commands(), given.shell))
    return 0


def _all_commands() -> argparse.ArgumentParser:
    """Return one parser with the parsers of all commands below it."""
    whole = argparse.ArgumentParser(prog="carbontracker")
    commands = whole.add_subparsers()
    for command in COMMANDS.values():
        parser = import_module(command.module).command_parser()
        parents = [argparse.ArgumentParser(add_help=False)]
        parents[0]._actions = [one for one in parser._actions if one.dest != "help"]
        commands.add_parser(command.name, help=command.what, parents=parents)
    return whole
