"""``carbontracker report RUN``: show one run in the terminal, or write it to files."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from carbontracker.cli.exits import USAGE_ERROR, say
from carbontracker.cli.parser import parser_of
from carbontracker.cli.recalculation_options import add_recalculation_options, recalculated

if TYPE_CHECKING:
    import argparse

    from carbontracker.records.run_record import RunRecord

EXAMPLES = """\
examples:
  carbontracker report                                     the newest run
  carbontracker report 5e1f
  carbontracker report logs/run.jsonl --html run.html --pdf run.pdf
  carbontracker report 5e1f --markdown - >> README.md
  carbontracker report 5e1f --codecarbon emissions.csv
  carbontracker report 5e1f --location SE --pue 1.1
  carbontracker report 5e1f --embodied --water 0.2,1.8

RUN is a record, a directory (its newest run) or the first characters of a run's id; without it, the
newest run of the default directory is shown. OUT may be -
for standard output. --codecarbon appends a row to an existing file; other existing files are
replaced. Exit code: 0, or 2 if the run does not exist or a file cannot be written.
"""


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    from carbontracker.report import FORMATS

    parser = parser_of(
        "carbontracker report",
        "Show the energy and the emissions of a recorded run, or write a report to files.",
        EXAMPLES,
    )
    parser.add_argument(
        "run", nargs="?", metavar="RUN", help="record, directory or id (default: the newest run)"
    )
    for name, form in FORMATS.items():
        parser.add_argument(f"--{name}", metavar="OUT", help=form.what)
    beside = parser.add_argument_group(
        "beside the electricity, shown on the terminal and added to nothing"
    )
    beside.add_argument(
        "--embodied",
        nargs="?",
        const="",
        metavar="YEARS",
        help="share of the production of the accelerators, by published figures; used for YEARS",
    )
    beside.add_argument(
        "--water",
        nargs="?",
        const="",
        metavar="SITE[,SOURCE]",
        help="water for cooling and for electricity: litres per kWh, else published figures",
    )
    add_recalculation_options(parser)
    return parser


def main(arguments: list[str]) -> int:
    """Print or write the report."""
    given = command_parser().parse_args(arguments)

    from carbontracker.exceptions import IntensityUnavailable, NoSuchRun
    from carbontracker.records.reader import read_run
    from carbontracker.records.writer import record_directory

    try:
        where = given.run
        if where is None and not (where := record_directory(None)).exists():
            say(f"no run is recorded in {where}: `carbontracker PROGRAM` records one")
            return USAGE_ERROR
        run = recalculated(read_run(where), given)
        beside = _beside(run, given)
    except (NoSuchRun, OSError, ValueError, IntensityUnavailable) as error:
        say(error)
        return USAGE_ERROR
    from carbontracker.report import FORMATS

    wanted = {name: out for name in FORMATS if (out := getattr(given, name)) is not None}
    if not wanted or beside:
        _show(run)
        print("\n".join(beside), end="\n" if beside else "")
    return max([0, *(_written(name, run, out) for name, out in wanted.items())])


def _beside(run: RunRecord, given: argparse.Namespace) -> list[str]:
    """Return the lines on production and water that are asked for.

    Raises:
        ValueError: an option is not a number.
    """
    from carbontracker.report.resources import HEADING, embodied_lines, water_lines

    lines: list[str] = []
    if given.embodied is not None:
        (years,) = _numbers("--embodied", given.embodied, 1)
        lines += embodied_lines(run, years)
    if given.water is not None:
        lines += water_lines(run, *_numbers("--water", given.water, 2))
    return ["", HEADING, *lines] if lines else []


def _numbers(option: str, text: str, most: int) -> list[float | None]:
    """Return the numbers of an option, None for each that is not given.

    Raises:
        ValueError: it has other parts, or too many.
    """
    parts = [part.strip() for part in text.split(",")]
    try:
        found = [float(part) if part else None for part in parts]
    except ValueError:
        found = []
    if not 0 < len(found) <= most:
        what = "a number" if most == 1 else "one number, or two with a comma"
        raise ValueError(f"{option} {text!r}: give {what}")
    return found + [None] * (most - len(found))


def _show(run: RunRecord) -> None:
    from carbontracker.report.terminal import print_report

    print_report(run)


def _written(name: str, run: RunRecord, out: str) -> int:
    from carbontracker.exceptions import MissingExtra
    from carbontracker.report import rendered, write

    try:
        if out == "-" and sys.stdout is None:
            raise OSError(errno.EBADF, "standard output is closed")
        if out == "-":
            sys.stdout.buffer.write(rendered(name, run))
            sys.stdout.buffer.flush()
        else:
            write(name, run, Path(out))
    except BrokenPipeError:
        raise  # the reader has closed the pipe
    except (MissingExtra, ValueError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        say(f"--{name} {out}: {reason}")
        return USAGE_ERROR
    return 0
