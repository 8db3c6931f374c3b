"""``carbontracker compare A B``: compare two runs, or two groups of runs."""

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
  carbontracker compare 3f2a 9bc1           ids, or the first characters of ids
  carbontracker compare before.jsonl after.jsonl
  carbontracker compare runs-fp32 runs-bf16   directories: groups of runs

Two single runs are compared by their epochs, two groups by their runs. The exit code is 0 with or
without a difference.
"""


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    parser = parser_of(
        "carbontracker compare",
        "Show the differences between two runs, and whether they are statistically significant.",
        EXAMPLES,
    )
    parser.add_argument("a", metavar="A", help="file, directory or id")
    parser.add_argument("b", metavar="B", help="file, directory or id")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def main(arguments: list[str]) -> int:
    """Print the comparison."""
    given = command_parser().parse_args(arguments)

    from carbontracker.exceptions import NoSuchRun
    from carbontracker.json_values import jsonable
    from carbontracker.records.compare import Side, compare
    from carbontracker.records.reader import read_runs
    from carbontracker.report.terminal import comparison

    try:
        a, b = (
            Side(
                path,
                tuple(read_runs(path, series=False)),
            )
            for path in (given.a, given.b)
        )
    except (NoSuchRun, OSError) as error:
        say(error)
        return USAGE_ERROR
    for side in (a, b):
        if not side.runs:
            say(f"no runs found in {side.label}")
            return USAGE_ERROR
    differences = compare(a, b)
    if given.json:
        rows = [
            asdict(one)
            | {"change": one.change, "percent": one.percent, "significant": one.significant}
            for one in differences
        ]
        ids = {name: [run.id for run in side.runs] for name, side in (("a", a), ("b", b))}
        print(json.dumps(jsonable(ids | {"differences": rows}), indent=2))
    else:
        print(comparison(a, b, differences))
    return 0
