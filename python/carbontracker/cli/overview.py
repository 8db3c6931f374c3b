"""``carbontracker`` and ``carbontracker --help``: the commands by group."""

from __future__ import annotations

from carbontracker.cli.commands import COMMANDS

_HEAD = """\
usage: carbontracker [options] [--] PROGRAM [ARGS...]
       carbontracker COMMAND [options]

Runs a program, measures its energy, and turns that into a carbon footprint.
"""
_FOOT = """\
examples:
  carbontracker python train.py --its --own --flags
  carbontracker sensors
  carbontracker runs
  carbontracker run --help
"""


def overview() -> str:
    """Return the text."""
    lines = [_HEAD]
    group = ""
    for command in COMMANDS.values():
        if command.group != group:
            group = command.group
            lines.append(f"{group}:")
        lines.append(f"  {command.name:<11} {command.what}")
    return "\n".join([*lines, "", _FOOT])
