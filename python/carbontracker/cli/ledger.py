"""``carbontracker ledger [PROJECT]``: what projects have cost, by stage, run and attempt."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from carbontracker.cli.exits import USAGE_ERROR, say
from carbontracker.cli.parser import parser_of

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
examples:
  carbontracker ledger
  carbontracker ledger tiny-lm --level attempt
  carbontracker ledger tiny-lm --records logs --records /shared/logs --html ledger.html
  carbontracker ledger --csv - | column -s, -t
  carbontracker label 3f2a9c01 --project tiny-lm --stage development

A run says what it is for with project= and stage= of CarbonTracker, CARBONTRACKER_PROJECT and
CARBONTRACKER_STAGE, or later with `carbontracker label`. All runs count, also failed ones, and no
joule counts twice. Without --records, the default directory of records is read.
"""
_LEVELS = ("project", "stage", "run", "attempt")


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    parser = parser_of(
        "carbontracker ledger", "Show what projects have cost, failed runs included.", EXAMPLES
    )
    parser.add_argument("project", nargs="?", metavar="PROJECT", help="only this project")
    parser.add_argument(
        "--records",
        action="append",
        default=[],
        metavar="DIR",
        help="directories, files or ids of records; may be repeated",
    )
    parser.add_argument(
        "--level", choices=_LEVELS, default="run", help="the smallest parts shown (default run)"
    )
    parser.add_argument("--html", metavar="FILE", help="write a page; - for standard output")
    parser.add_argument("--csv", metavar="FILE", help="write a row for each attempt; - for stdout")
    parser.add_argument("--json", metavar="FILE", help="write the tree as JSON; - for stdout")
    return parser


def main(arguments: list[str]) -> int:
    """Print or write the ledger."""
    given = command_parser().parse_args(arguments)

    from carbontracker.exceptions import NoSuchRun
    from carbontracker.json_values import jsonable
    from carbontracker.records.ledger import make_ledger
    from carbontracker.records.reader import read_all
    from carbontracker.report.ledger import ledger_csv, ledger_html, ledger_lines

    try:
        ledger = make_ledger(read_all(given.records or [None]))
        if given.project is not None:
            names = [part.name for part in ledger.whole.parts]
            if given.project not in names:
                known = ", ".join(sorted(names)) or "none"
                say(f"no run is of the project {given.project!r}; projects: {known}")
                return USAGE_ERROR
            ledger = ledger.of_project(given.project)
        written = False
        if given.html is not None:
            written = _write(given.html, ledger_html(ledger))
        if given.csv is not None:
            written = _write(given.csv, ledger_csv(ledger))
        if given.json is not None:
            tree = json.dumps(jsonable(ledger.whole.to_dict()), indent=1)
            written = _write(given.json, tree.encode() + b"\n")
    except BrokenPipeError:
        raise
    except (NoSuchRun, ValueError, OSError) as error:
        say(error)
        return USAGE_ERROR
    if not written:
        for line in ledger_lines(ledger, given.level):
            print(line)
    return 0


def _write(path: str, data: bytes) -> bool:
    if path == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        from carbontracker.records.output import write_output

        write_output(Path(path), data)
    return True
