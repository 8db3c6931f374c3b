"""``carbontracker sensors``: what can be read here, what cannot, and what mends it."""

from __future__ import annotations

import json
import time
from dataclasses import asdict

from carbontracker.cli.arguments import parser_of
from carbontracker.cli.exits import say

EXAMPLES = """\
examples:
  carbontracker sensors
  carbontracker sensors --json | python -m json.tool
  CARBONTRACKER_ROOT=/host carbontracker sensors     in a container with the host's /sys below /host
"""


def main(arguments: list[str]) -> int:
    """Look at this machine for a moment and print what was found."""
    parser = parser_of(
        "carbontracker sensors",
        "Show what can be read on this machine, what cannot, why, and what mends it.",
        EXAMPLES,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seconds", type=float, default=0.5, help="how long to look (default 0.5)")
    given = parser.parse_args(arguments)
    if not 0.0 <= given.seconds <= 3600.0:
        parser.error("--seconds must be between 0 and 3600")

    from carbontracker.energy.sensors import PATIENCE_S, sensors
    from carbontracker.records.writer import jsonable
    from carbontracker.report.text import sensors_table

    found = sensors(given.seconds, while_waiting=_Progress(PATIENCE_S).look)
    print(json.dumps(jsonable(asdict(found)), indent=2) if given.json else sensors_table(found))
    return 0


class _Progress:
    """A line on stderr where sensors take long to answer."""

    def __init__(self, patience_s: float) -> None:
        self._began_s = time.monotonic()
        self._patience_s = patience_s
        self._told = False

    def look(self) -> None:
        """Say that somebody is waited for, once a second has passed."""
        if self._told or time.monotonic() - self._began_s < 1.0:
            return
        self._told = True
        say(f"waiting for a driver to answer, at most {self._patience_s:.0f} s (Ctrl-C ends it)")
