"""``carbontracker aggregate DIR``: the total of all runs, and a sentence for a paper."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from carbontracker.cli.exits import USAGE_ERROR, say
from carbontracker.cli.parser import parser_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

EXAMPLES = """\
examples:
  carbontracker aggregate
  carbontracker aggregate project/logs other/logs
  carbontracker aggregate logs --json
  carbontracker aggregate logs --job
  carbontracker aggregate logs --job 4711
  carbontracker aggregate logs --job 3f2a9c01,9bc1e7a2
  carbontracker aggregate logs --parquet fleet

All runs count, also failed ones. If several runs measured one device at the same time (ranks of a
job, a training inside a measured command, copies of a file), its energy counts once. Log files of
2.x without a record count, too.

--job lists the jobs: the ranks of one training together, with their attempts. --job ID is one of
them, by its uid, the id of its scheduler, or a run. --job A,B joins by hand what has no common id.
"""


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    parser = parser_of(
        "carbontracker aggregate", "Add up all runs below the given directories.", EXAMPLES
    )
    parser.add_argument("paths", nargs="*", metavar="DIR", help="directories, files or ids")
    parser.add_argument(
        "--job",
        nargs="?",
        const="",
        metavar="ID[,ID]",
        help="the jobs, each as one number; or those called so; or these joined",
    )
    parser.add_argument(
        "--parquet",
        metavar="DIR",
        help="write one row a job to Parquet files by date and cluster (docs/fleet.md)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def main(arguments: list[str]) -> int:
    """Print the total."""
    given = command_parser().parse_args(arguments)

    from carbontracker.cli.parse import print_totals, totals_of
    from carbontracker.exceptions import MismatchedEpochsError, MismatchedLogFilesError, NoSuchRun
    from carbontracker.json_values import jsonable

    paths = given.paths or [None]
    try:
        if given.parquet is not None:
            return _export(paths, Path(given.parquet))
        if given.job is not None:
            return _jobs(paths, given.job, as_json=given.json)
        total, logs = totals_of(paths, below=True)
    except (NoSuchRun, OSError, MismatchedEpochsError, MismatchedLogFilesError) as error:
        say(error)
        return USAGE_ERROR
    if given.json:
        total.add_logged(logs.trainings, logs.written.kwh, logs.written.gco2eq)
        print(json.dumps(jsonable(asdict(total)), indent=2))
    else:
        for note in print_totals(total, logs):
            print(note)
    return 0


def _export(paths: Sequence[str | None], directory: Path) -> int:
    """Write the table of jobs.

    Raises:
        NoSuchRun, OSError: a record cannot be read, or a file cannot be written.
    """
    from carbontracker.exceptions import MissingExtra
    from carbontracker.records.fleet import job_rows, write_parquet
    from carbontracker.records.reader import read_all

    try:
        count = write_parquet(job_rows(read_all(paths)), directory)
    except MissingExtra as error:
        say(error)
        return USAGE_ERROR
    say(f"{count} job(s) written to {directory}")
    return 0


def _jobs(paths: Sequence[str | None], names: str, *, as_json: bool) -> int:
    """Print the jobs, or the one that is asked for.

    Raises:
        NoSuchRun, OSError: a record cannot be read.
    """
    from carbontracker.json_values import jsonable
    from carbontracker.records.jobs import cost_of, find_jobs, job_by_hand, jobs_called
    from carbontracker.records.reader import read_all
    from carbontracker.report.jobs import job_lines, job_row

    jobs = find_jobs(run for run in read_all(paths) if not run.metadata.command)
    if names:
        wanted = [name.strip() for name in names.split(",")]
        try:
            one = len(wanted) == 1
            jobs = jobs_called(jobs, wanted[0]) if one else [job_by_hand(jobs, wanted)]
        except LookupError as error:
            say(f"no job is called {error.args[0]!r}: `carbontracker aggregate --job` lists them")
            return USAGE_ERROR
        except ValueError as error:
            say(f"several jobs are called {error.args[0]!r}: name runs, or the uids of jobs")
            return USAGE_ERROR
    costs = map(cost_of, jobs)
    if as_json:
        print(json.dumps(jsonable([job_row(cost) for cost in costs]), indent=2))
    else:
        print("\n".join(line for cost in costs for line in job_lines(cost)) or "no jobs")
    return 0
