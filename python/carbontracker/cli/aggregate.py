"""``carbontracker aggregate DIR``: the total of all runs, and a sentence for a paper."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from carbontracker.cli.exits import USAGE_ERROR, say
from carbontracker.cli.parser import parser_of

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
examples:
  carbontracker aggregate
  carbontracker aggregate project/logs other/logs
  carbontracker aggregate logs --json

All runs count, also failed ones. If several runs measured one device at the same time (ranks of a
job, a training inside a measured command, copies of a file), its energy counts once. For log files
of versions before 3, use carbontracker --parse DIR.
"""


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    parser = parser_of(
        "carbontracker aggregate", "Add up all runs below the given directories.", EXAMPLES
    )
    parser.add_argument("paths", nargs="*", metavar="DIR", help="directories, files or ids")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def main(arguments: list[str]) -> int:
    """Print the total."""
    given = command_parser().parse_args(arguments)

    from carbontracker.exceptions import NoSuchRun
    from carbontracker.json_values import jsonable
    from carbontracker.records.aggregate import add_runs
    from carbontracker.records.reader import read_runs
    from carbontracker.report.terminal import total_lines

    paths = given.paths or [None]
    try:
        total = add_runs(
            run for path in paths for run in read_runs(path, series=False, epochs=False)
        )
    except (NoSuchRun, OSError) as error:
        say(error)
        return USAGE_ERROR
    if given.json:
        print(json.dumps(jsonable(asdict(total)), indent=2))
    else:
        print("\n".join(total_lines(total)))
    return 0
