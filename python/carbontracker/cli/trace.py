"""``carbontracker trace RUN``: power over time for Perfetto, beside what a profiler saw."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from carbontracker.cli.arguments import parser_of
from carbontracker.cli.exits import USAGE_ERROR, say

if TYPE_CHECKING:
    from carbontracker.records.recorded import RunRecord
    from carbontracker.traces.power import PowerTrace

EXAMPLES = """\
examples:
  carbontracker trace run.jsonl --out power.json
  carbontracker trace 3f2a9c01 --merge profile.json --out both.json.gz
  carbontracker trace samples.arrow --parquet samples.parquet

Open the result in https://ui.perfetto.dev or chrome://tracing. RUN is a record, a directory, the
beginning of a run's id, or a file of samples (`carbontracker run --trace FILE`).
"""


def main(arguments: list[str]) -> int:
    """Write the trace."""
    parser = parser_of(
        "carbontracker trace",
        "Write a run's power over time, windows and epochs as a trace.",
        EXAMPLES,
    )
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--out", metavar="FILE", help="Chrome/Perfetto JSON; .gz to compress")
    parser.add_argument("--merge", metavar="TRACE", help="a trace of torch.profiler to lay it over")
    parser.add_argument("--parquet", metavar="FILE", help="the samples of a file as Parquet")
    given = parser.parse_args(arguments)
    if given.out is None and given.parquet is None:
        parser.error("say where to: --out FILE, or --parquet FILE")

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
        end = "" if samples.complete else "; the file has no end: it may have lost its last second"
    print(f"{out}: {rows} samples{end}", file=sys.stderr)


def _write_trace(run: str, out: str, merge: str | None) -> None:
    from carbontracker.report import trace as view

    power = view.write(run_named(run), out, merge)
    points = sum(len(one.watts) for one in power.devices.values())
    note = f"; {view.clock_note(power)}" if merge else ""
    print(f"{out}: {points} points of {len(power.devices)} device(s){note}", file=sys.stderr)


def run_named(run: str) -> RunRecord | PowerTrace:
    """Return a run, or the power in a file of samples.

    Raises:
        NoSuchRun, OSError, ValueError, ModuleNotFoundError: there is none.
    """
    from carbontracker.records.reader import read_run
    from carbontracker.traces.samples import SUFFIX, read_power

    return read_power(Path(run)) if run.endswith(SUFFIX) else read_run(run)
