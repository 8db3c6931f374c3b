"""``carbontracker trace RUN``: power over time for Perfetto, alone or beside a profile."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from carbontracker.cli.exits import USAGE_ERROR, say
from carbontracker.cli.parser import parser_of

if TYPE_CHECKING:
    import argparse

    from carbontracker.records.run_record import RunRecord
    from carbontracker.traces.power import PowerTrace

EXAMPLES = """\
examples:
  carbontracker trace run.jsonl --out power.json
  carbontracker trace 3f2a9c01 --merge profile.json --out both.json.gz
  carbontracker trace samples.arrow --parquet samples.parquet

Open the result in https://ui.perfetto.dev or chrome://tracing. RUN is a record, a directory, the
first characters of a run's id, or a file of samples (`carbontracker run --trace FILE`).
"""


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    parser = parser_of(
        "carbontracker trace",
        "Write the power, windows and epochs of a run as a trace.",
        EXAMPLES,
    )
    parser.add_argument("run", metavar="RUN", help="record, directory, id or file of samples")
    parser.add_argument(
        "--out", metavar="FILE", help="write a trace as JSON; gzipped if FILE ends in .gz"
    )
    parser.add_argument(
        "--merge", metavar="TRACE", help="add the power to this trace of torch.profiler"
    )
    parser.add_argument("--parquet", metavar="FILE", help="write the samples as Parquet")
    return parser


def main(arguments: list[str]) -> int:
    """Write the trace."""
    parser = command_parser()
    given = parser.parse_args(arguments)
    if given.out is None and given.parquet is None:
        parser.error("one of --out FILE and --parquet FILE is required")

    from carbontracker.exceptions import NoSuchRun

    try:
        if given.parquet is not None:
            _write_parquet(given.run, given.parquet)
        if given.out is not None:
            _write_trace(given.run, given.out, given.merge)
    except (NoSuchRun, ValueError, OSError, ModuleNotFoundError) as error:
        say(error)
        return USAGE_ERROR
    return 0


def _write_parquet(path: str, out: str) -> None:
    from carbontracker.traces.samples import SampleFile, to_parquet

    rows = to_parquet(Path(path), Path(out))
    with SampleFile(Path(path)) as samples:
        lost = "" if samples.complete else "; no end marker: the last second may be missing"
    print(f"{out}: {rows} samples{lost}", file=sys.stderr)


def _write_trace(run: str, out: str, merge: str | None) -> None:
    from carbontracker.report import trace as view

    power = view.write(run_named(run), out, merge)
    points = sum(len(one.watts) for one in power.devices.values())
    note = f"; {view.clock_note(power)}" if merge else ""
    print(f"{out}: {points} points of {len(power.devices)} device(s){note}", file=sys.stderr)


def run_named(run: str) -> RunRecord | PowerTrace:
    """Return a run, or the power in a file of samples.

    Raises:
        NoSuchRun, OSError, ValueError, ModuleNotFoundError: the run or file cannot be read.
    """
    from carbontracker.records.reader import read_run
    from carbontracker.traces.samples import SUFFIX, read_power

    return read_power(Path(run)) if run.endswith(SUFFIX) else read_run(run)
