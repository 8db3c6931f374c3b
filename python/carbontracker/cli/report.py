"""``carbontracker report RUN``: show one run in the terminal, or write it to files."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from carbontracker.cli.exits import USAGE_ERROR, say
from carbontracker.cli.parser import parser_of

if TYPE_CHECKING:
    import argparse

    from carbontracker.records.run_record import RunRecord

EXAMPLES = """\
examples:
  carbontracker report 5e1f
  carbontracker report logs/run.jsonl --html run.html --pdf run.pdf
  carbontracker report 5e1f --markdown - >> README.md
  carbontracker report 5e1f --codecarbon emissions.csv
  carbontracker report 5e1f --location SE --pue 1.1

RUN is a record, a directory (its newest run) or the first characters of a run's id. OUT may be -
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
    parser.add_argument("run", metavar="RUN", help="record, directory or id")
    for name, form in FORMATS.items():
        parser.add_argument(f"--{name}", metavar="OUT", help=form.what)
    recalculation = parser.add_argument_group(
        "recalculate the emissions with other values (the energy stays as measured)"
    )
    recalculation.add_argument(
        "--intensity", metavar="G|NAME", help="gCO2eq/kWh, or the name of a provider"
    )
    recalculation.add_argument(
        "--scope", help="scope of the table: lifecycle, direct or consumption"
    )
    recalculation.add_argument("--pue", type=float, help="power usage effectiveness, at least 1")
    recalculation.add_argument(
        "--location", metavar="PLACE", help="country, ISO code, zone or region"
    )
    return parser


def main(arguments: list[str]) -> int:
    """Print or write the report."""
    given = command_parser().parse_args(arguments)

    from carbontracker.exceptions import IntensityUnavailable, NoSuchRun
    from carbontracker.records.reader import read_run

    try:
        run = _recalculated(read_run(given.run), given)
    except (NoSuchRun, OSError, ValueError, IntensityUnavailable) as error:
        say(error)
        return USAGE_ERROR
    from carbontracker.report import FORMATS

    wanted = {name: out for name in FORMATS if (out := getattr(given, name)) is not None}
    if not wanted:
        _show(run)
        return 0
    return max([_written(name, run, out) for name, out in wanted.items()])


def _recalculated(run: RunRecord, given: argparse.Namespace) -> RunRecord:
    """Return the run, with recalculated emissions if an option asks for it.

    Raises:
        ValueError: an option is not valid.
        IntensityUnavailable: no provider has the intensity of that time.
    """
    options = ("intensity", "scope", "pue", "location")
    changes = {name: value for name in options if (value := getattr(given, name)) is not None}
    if not changes:
        return run
    from carbontracker.cli.retry import retried
    from carbontracker.intensity.selection import create, parse_setting
    from carbontracker.records.reader import events_of
    from carbontracker.records.recalculation import recalculate, recalculated_as

    if "intensity" in changes:
        setting = parse_setting(changes["intensity"])
        changes["intensity"] = create(setting, {}) if isinstance(setting, str) else setting
    return recalculated_as(run, retried(lambda: recalculate(events_of(run), **changes)))


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
