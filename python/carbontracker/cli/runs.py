"""``carbontracker runs [DIR]``: a table of all runs, filtered and sorted."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from carbontracker.cli.exits import USAGE_ERROR, say
from carbontracker.cli.parser import parser_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator, Mapping

    Row = Mapping[str, Any]

EXAMPLES = """\
examples:
  carbontracker runs
  carbontracker runs logs --filter state=incomplete
  carbontracker runs --job 4711 --user ada
  carbontracker runs --filter host=node7 --filter 'kwh>0.5' --sort -kwh
  carbontracker runs --filter what~train.py --json | python -m json.tool --json-lines

Fields: id started host what epochs planned_epochs seconds joules error_joules kwh gco2eq quality
zone job job_uid rank user parent project stage resumes outcome tokens samples flops
joules_per_token joules_per_sample version state why file. Comparisons: = != < <= > >= and ~ for
"contains". An unknown value matches no comparison. Without DIR, the default directory of records is
listed.
"""
_CONDITION = re.compile(r"([a-z_0-9]+)(!=|<=|>=|=|<|>|~)(.*)", re.DOTALL)
_FIELDS = EXAMPLES.partition("Fields: ")[2].partition(".")[0].split()


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    parser = parser_of("carbontracker runs", "List the recorded runs.", EXAMPLES)
    parser.add_argument("path", nargs="?", metavar="DIR", help="directory, file or id")
    parser.add_argument(
        "--filter",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="only runs that match; may be repeated",
    )
    parser.add_argument("--job", metavar="ID", help="only runs of this job, by its id or uid")
    parser.add_argument("--user", metavar="NAME", help="only runs of this user")
    parser.add_argument("--sort", metavar="FIELD", help="sort by a field; -FIELD: largest first")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    return parser


def main(arguments: list[str]) -> int:
    """Print the table."""
    given = command_parser().parse_intermixed_args(_with_value_joined(arguments))

    from carbontracker.exceptions import NoSuchRun
    from carbontracker.records.reader import read_runs
    from carbontracker.report.tabular import run_row
    from carbontracker.report.terminal import runs_table

    try:
        conditions = [_condition(text) for text in given.filter]
        if given.user is not None:
            conditions.append(lambda row: row["user"] == given.user)
        if given.job is not None:
            conditions.append(lambda row: _is_of_job(row, given.job))
        sort = _sort_key(given.sort)
        found = read_runs(given.path, series=False, epochs=False)
        rows: Iterable[Row] = (run_row(run) for run in found)
        rows = (row for row in rows if all(condition(row) for condition in conditions))
        if sort is not None:
            rows = sort(rows)
        if given.json:
            for row in rows:
                print(json.dumps(row))
        else:
            print(runs_table(list(rows)))
    except BrokenPipeError:
        raise  # the output is closed; the records are readable
    except (NoSuchRun, ValueError, OSError) as error:
        say(error)
        return USAGE_ERROR
    return 0


def _is_of_job(row: Row, name: str) -> bool:
    """Return whether a run is part of a job, by the id of its scheduler or the job's own uid."""
    uid = row["job_uid"] or ""
    return bool(row["job"] == name or (len(name) >= 4 and uid.startswith(name)))


def _with_value_joined(arguments: list[str]) -> list[str]:
    """Return ``--sort -kwh`` as ``--sort=-kwh``: argparse would take ``-kwh`` for an option."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] == "--sort":
            joined[-1] = f"--sort={argument}"
        else:
            joined.append(argument)
    return joined


def _field(name: str) -> str:
    if name not in _FIELDS:
        message = f"unknown field {name!r}: choose from {', '.join(_FIELDS)}"
        raise ValueError(message)
    return name


def _condition(text: str) -> Callable[[Row], bool]:
    """Return the condition of a filter.

    Raises:
        ValueError: the filter is not valid.
    """
    found = _CONDITION.fullmatch(text)
    if found is None:
        message = f"--filter {text!r} is not FIELD=VALUE (or !=, <, <=, >, >=, ~)"
        raise ValueError(message)
    name, comparison, wanted = _field(found[1]), found[2], found[3]
    compare: dict[str, Callable[[Any, Any], bool]] = {
        "=": lambda a, b: a == b,
        "!=": lambda a, b: a != b,
        "<": lambda a, b: a < b,
        "<=": lambda a, b: a <= b,
        ">": lambda a, b: a > b,
        ">=": lambda a, b: a >= b,
        "~": lambda a, b: str(b).lower() in str(a).lower(),
    }

    def meets(row: Row) -> bool:
        value = row[name]
        if value is None:
            return False
        is_number = isinstance(value, (int, float)) and comparison != "~"
        return compare[comparison](value, float(wanted) if is_number else wanted)

    return meets


def _sort_key(text: str | None) -> Callable[[Iterable[Row]], Iterator[Row]] | None:
    if text is None:
        return None
    name = _field(text.removeprefix("-"))

    def sort(rows: Iterable[Row]) -> Iterator[Row]:
        known: list[Row] = []
        unknown: list[Row] = []
        for row in rows:
            (unknown if row[name] is None else known).append(row)
        # Numbers before texts: a damaged record may contain either.
        known.sort(
            key=lambda row: (isinstance(row[name], str), row[name]), reverse=text.startswith("-")
        )
        return iter([*known, *unknown])

    return sort
