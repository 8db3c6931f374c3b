"""``carbontracker report RUN``: one run in the terminal, or as a file to keep or to publish."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from carbontracker.cli.arguments import parser_of
from carbontracker.cli.exits import USAGE_ERROR, say

if TYPE_CHECKING:
    import argparse

    from carbontracker.records.recorded import RunRecord

EXAMPLES = """\
examples:
  carbontracker report 5e1f
  carbontracker report logs/run.jsonl --html run.html --pdf run.pdf
  carbontracker report 5e1f --markdown - >> README.md
  carbontracker report 5e1f --codecarbon emissions.csv
  carbontracker report 5e1f --location SE --pue 1.1

RUN is a record, a directory (the newest run in it) or the first characters of a run's id. OUT may
be - for the standard output. --codecarbon adds a row to a file that is there; other files are
replaced. Exit code: 0, or 2 if there is no such run or a file cannot be written.
"""


def main(arguments: list[str]) -> int:
    """Print or write the report."""
    from carbontracker.report import FORMATS

    parser = parser_of(
        "carbontracker report", "Show what a recorded run has cost, or write it to files.", EXAMPLES
    )
    parser.add_argument("run", metavar="RUN", help="record, directory or id")
    for name, form in FORMATS.items():
        parser.add_argument(f"--{name}", metavar="OUT", help=form.what)
    prices = parser.add_argument_group("at other prices (nothing is measured again)")
    prices.add_argument("--intensity", metavar="G|NAME", help="gCO2eq/kWh, or a provider to ask")
    prices.add_argument("--scope", help="of the table: lifecycle, direct or consumption")
    prices.add_argument("--pue", type=float, help="power usage effectiveness, at least 1")
    prices.add_argument("--location", metavar="PLACE", help="country, ISO code, zone or region")
    given = parser.parse_args(arguments)

    from carbontracker.exceptions import IntensityUnavailable, NoSuchRun
    from carbontracker.records.reader import read_run

    try:
        run = _priced(read_run(given.run), given)
    except (NoSuchRun, OSError, ValueError, IntensityUnavailable) as error:
        say(error)
        return USAGE_ERROR
    wanted = {name: out for name in FORMATS if (out := getattr(given, name)) is not None}
    if not wanted:
        _show(run)
        return 0
    return max([_written(name, run, out) for name, out in wanted.items()])


def _priced(run: RunRecord, given: argparse.Namespace) -> RunRecord:
    """Return the run at the prices that were asked for; else at those of its record.

    Raises:
        ValueError: a price that cannot be.
        IntensityUnavailable: nobody has the figures.
    """
    wanted = {name: getattr(given, name) for name in ("intensity", "scope", "pue", "location")}
    wanted = {name: value for name, value in wanted.items() if value is not None}
    if not wanted:
        return run
    from carbontracker.intensity.selection import create, parse_setting
    from carbontracker.records.reader import events_of
    from carbontracker.records.recalculation import recalculate
    from carbontracker.records.recorded import RecordedFootprint
    from carbontracker.records.writer import footprint_dict
    from carbontracker.report.derived import recalculated_as

    if "intensity" in wanted:
        asked = parse_setting(wanted["intensity"])
        wanted["intensity"] = create(asked, {}) if isinstance(asked, str) else asked
    return recalculated_as(
        run, RecordedFootprint.of(footprint_dict(recalculate(events_of(run), **wanted)))
    )


def _show(run: RunRecord) -> None:
    from carbontracker.report.terminal import print_report

    print_report(run)


def _written(name: str, run: RunRecord, out: str) -> int:
    from carbontracker.exceptions import MissingExtra
    from carbontracker.report import rendered, write

    try:
        if out == "-" and sys.stdout is None:
            raise OSError(errno.EBADF, "the standard output is closed")
        if out == "-":
            sys.stdout.buffer.write(rendered(name, run))
            sys.stdout.buffer.flush()
        else:
            write(name, run, Path(out))
    except BrokenPipeError:
        raise  # who reads has enough
    except (MissingExtra, ValueError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        say(f"--{name} {out}: {reason}")
        return USAGE_ERROR
    return 0
