"""``carbontracker sensors``: the sensors of this machine, and why others cannot be read."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from carbontracker.cli.exits import USAGE_ERROR, say
from carbontracker.cli.parser import parser_of

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
examples:
  carbontracker sensors
  carbontracker sensors --json | python -m json.tool
  carbontracker sensors --snapshot machine.tar.gz    for a report about this machine
  CARBONTRACKER_ROOT=/host carbontracker sensors     in a container, with the host's /sys in /host
"""


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    parser = parser_of(
        "carbontracker sensors",
        "Show which sensors of this machine can be read, which cannot, why, and how to fix it.",
        EXAMPLES,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--seconds", type=float, default=0.5, help="length of the observation (default 0.5)"
    )
    parser.add_argument(
        "--snapshot",
        metavar="FILE.tar.gz",
        help="list the files that the sensors read, and write a copy of them without names and "
        "serial numbers",
    )
    return parser


def main(arguments: list[str]) -> int:
    """Observe the sensors for a moment and print them."""
    parser = command_parser()
    given = parser.parse_args(arguments)
    if not 0.0 <= given.seconds <= 3600.0:
        parser.error("--seconds must be between 0 and 3600")
    if given.snapshot is not None:
        return _write_snapshot(given.snapshot)

    from carbontracker.energy.sensors import PROBE_TIMEOUT_S, sensors
    from carbontracker.json_values import jsonable
    from carbontracker.report.sentences import sensors_table

    found = sensors(given.seconds, while_waiting=_WaitingNotice(PROBE_TIMEOUT_S).update)
    print(json.dumps(jsonable(asdict(found)), indent=2) if given.json else sensors_table(found))
    return 0


def _write_snapshot(path: str) -> int:
    from pathlib import Path

    from carbontracker.energy.config import Config
    from carbontracker.energy.snapshot import take_snapshot
    from carbontracker.records.output import check_output

    try:
        check_output(Path(path))
    except (OSError, ValueError) as error:
        say(error)
        return USAGE_ERROR
    config = Config.from_environment()
    found = take_snapshot(Path(config.root), config.nvml_library)
    for name, data in sorted(found.files.items()):
        print(f"{len(data):8}  {name}")
    for name in found.unreadable:
        print(f"       -  {name} (not readable by this user)")
    try:
        found.write(Path(path))
    except OSError as error:
        say(f"cannot write {path}: {error}")
        return 1
    print(f"{len(found.files)} files written to {path}: look through it before you send it")
    return 0


class _WaitingNotice:
    """One line on standard error if the sensors do not answer within a second."""

    def __init__(self, timeout_s: float) -> None:
        self._began_s = time.monotonic()
        self._timeout_s = timeout_s
        self._shown = False

    def update(self) -> None:
        """Print the line after one second."""
        if self._shown or time.monotonic() - self._began_s < 1.0:
            return
        self._shown = True
        say(f"waiting for a driver to answer, at most {self._timeout_s:.0f} s (Ctrl-C stops)")
