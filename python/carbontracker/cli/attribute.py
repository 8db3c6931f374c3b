"""``carbontracker attribute TRACE``: the energy of each operator or annotation of a profile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from carbontracker.cli.exits import USAGE_ERROR, say
from carbontracker.cli.parser import parser_of

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
examples:
  carbontracker attribute both.json                      # from `carbontracker trace --merge`
  carbontracker attribute profile.json --run run.jsonl
  carbontracker attribute profile.json --run samples.arrow --by annotation --window forward

At each moment the working threads share the power equally; each counts for its innermost operator.
The energy while no thread works has its own row, so the rows add up to the total energy.
"""


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    parser = parser_of(
        "carbontracker attribute",
        "Show the energy of the operators or annotations of a profile, in joules.",
        EXAMPLES,
    )
    parser.add_argument(
        "trace", metavar="TRACE", help="trace of torch.profiler, with or without power"
    )
    parser.add_argument(
        "--run", metavar="RUN", help="run with the power, if TRACE contains no power"
    )
    parser.add_argument(
        "--by",
        choices=["operator", "annotation"],
        default="operator",
        help="one row per operator or per annotation (default operator)",
    )
    parser.add_argument(
        "--window", metavar="NAME", help="only within windows or annotations with this name"
    )
    parser.add_argument("--json", action="store_true", help="print all rows as one JSON object")
    parser.add_argument(
        "--top", type=int, default=20, metavar="N", help="number of rows (default 20)"
    )
    return parser


def main(arguments: list[str]) -> int:
    """Print the rows."""
    given = command_parser().parse_args(arguments)

    from carbontracker.cli.trace import run_named
    from carbontracker.exceptions import NoSuchRun
    from carbontracker.json_values import jsonable
    from carbontracker.report.trace import (
        attributed_table,
        check_overlap,
        power_for,
    )
    from carbontracker.traces.chrome import power_in, read_trace, time_range, with_power
    from carbontracker.traces.profile import attribute, windows_named

    try:
        data = read_trace(Path(given.trace))
        span_ns = time_range(data)
        if given.run is None:
            power = power_in(data)
        else:
            power = power_for(run_named(given.run), sum(span_ns) // 2)
            data = with_power(data, power)  # --window may name a window of the run
        check_overlap(power, span_ns)
        windows = windows_named(data, given.window) if given.window else ()
        found = attribute(data, power, given.by, windows)
    except (NoSuchRun, ValueError, OSError, ModuleNotFoundError) as error:
        say(error)
        return USAGE_ERROR
    if given.json:
        print(json.dumps(jsonable(found.to_dict()), indent=2))
    else:
        print(attributed_table(found, given.by, max(0, given.top)))
    return 0
