"""All commands. A new one is a module with ``command_parser()`` and ``main()``, and a line here."""

from __future__ import annotations

from typing import NamedTuple


class Command(NamedTuple):
    """A command of the command line."""

    name: str
    group: str
    """Heading of the overview under which it is listed."""
    what: str
    """What it does, in one line of the overview."""

    @property
    def module(self) -> str:
        """Return the name of its module."""
        return f"carbontracker.cli.{self.name}"


_MEASURE = "measure"
_BEFORE = "before a training"
_RECORDS = "what was recorded"
_POWER = "power over time"
_SHELL = "the shell"

COMMANDS = {
    command.name: command
    for command in (
        Command("run", _MEASURE, "run a program and show what it has cost"),
        Command("sensors", _MEASURE, "show what can be read here, and how to fix the rest"),
        Command("top", _MEASURE, "show power, energy and emissions live"),
        Command("estimate", _BEFORE, "estimate energy and emissions of a training"),
        Command("when", _BEFORE, "find the start time with the lowest emissions"),
        Command("where", _BEFORE, "rank cloud regions by their emissions"),
        Command("runs", _RECORDS, "list the recorded runs"),
        Command("report", _RECORDS, "show one run, or write it as HTML, PDF, Markdown, CSV, ..."),
        Command("compare", _RECORDS, "show the differences between two runs"),
        Command("aggregate", _RECORDS, "add up all runs below directories"),
        Command("declare", _RECORDS, "fill a form: model card, bill of materials, checklist, ..."),
        Command("ledger", _RECORDS, "show what projects have cost, by stage, run and attempt"),
        Command("label", _RECORDS, "say later what a run was for, or how it ended"),
        Command("seal", _RECORDS, "make later changes of a record and its labels visible"),
        Command("check", _RECORDS, "check records against their schema"),
        Command("trace", _POWER, "write power, windows and epochs of a run as a trace"),
        Command("attribute", _POWER, "show the energy of the operators of a profile"),
        Command("completion", _SHELL, "print a script that completes commands and options"),
    )
}
