"""``carbontracker [run] [options] [--] CMD ARGS…``: run a program and show what it has cost.

If measuring fails, the program still runs, and its exit code is returned.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import Any

import carbontracker
from carbontracker.address_space import MEASURING_BYTES, check_room
from carbontracker.cli import parse
from carbontracker.cli.budget_supervisor import add_limits
from carbontracker.cli.child import executed
from carbontracker.cli.exits import USAGE_ERROR
from carbontracker.cli.parser import parser_of
from carbontracker.guard import MEASURING, nothing, optional
from carbontracker.location.location import LOCATE

EXAMPLES = """\
examples:
  carbontracker python train.py --its --own --flags
  carbontracker run --location DK --json result.json -- python train.py
  carbontracker run --max-kwh 2.5 --max-seconds 86400 --grace 60 -- python train.py
  carbontracker --sim-gpu "NVIDIA A100" --sim-gpu-watts 400 python train.py
  carbontracker sensors

The program's arguments are its own, its exit code is returned, and its standard output is left
alone: the result goes to standard error. Other commands, each with --help: sensors, top; estimate,
when and where before a training; report, runs, compare, aggregate and check for what was recorded;
trace and attribute for power beside a profile.
"""


class _Version(argparse.Action):
    """Looks up the version only for this option: that takes time and memory."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(carbontracker.__version__)
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = parser_of(
        "carbontracker",
        "Run a program, measure its energy, and say what that means in CO2eq.",
        EXAMPLES,
        usage="carbontracker [run] [options] [--] CMD [ARGS...]",
        abbreviated=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version")
    parser.add_argument("--json", metavar="FILE", help="write the result as JSON; - for stdout")
    parser.add_argument(
        "--location", metavar="PLACE", help="country, ISO code, zone or region: DK, aws:eu-north-1"
    )
    parser.add_argument(
        "--locate",
        choices=LOCATE,
        default="auto",
        help="never: make no request for the location",
    )
    parser.add_argument("--pue", type=float, help="power usage effectiveness (default 1.58)")
    parser.add_argument(
        "--intensity", metavar="G|NAME", help="your own gCO2eq/kWh, a live provider, or auto"
    )
    parser.add_argument("--components", default="all", help="all, gpu, cpu (default all)")
    parser.add_argument(
        "--rate-hz",
        type=float,
        metavar="HZ",
        help="readings per second, outside the overhead budget",
    )
    parser.add_argument(
        "--overhead-budget",
        type=float,
        metavar="X",
        help="share of one core that sampling may use at most (default 0.005; 0: no limit)",
    )
    parser.add_argument("--parse", metavar="DIR", help="one sentence on all old log files of DIR")
    parser.add_argument("--quiet", "-q", action="store_true", help="no summary on standard error")
    parser.add_argument("--no-record", action="store_true", help="keep no record of this run")
    parser.add_argument(
        "--prometheus", metavar="[HOST:]PORT", help="serve metrics there; loopback if no host"
    )
    parser.add_argument("--otlp", metavar="URL", help="push metrics to an OpenTelemetry receiver")
    parser.add_argument("--trace", metavar="FILE", help="keep every sample in a new Arrow file")
    parser.add_argument("--log-dir", "--log_dir", metavar="DIR", help="where the record goes")
    add_limits(parser)
    for device, figure in (("cpu", "tdp"), ("gpu", "watts")):
        name = device.upper()
        parser.add_argument(f"--sim-{device}", metavar="NAME", help=f"simulate a {name}")
        parser.add_argument(f"--sim-{device}-{figure}", type=float, metavar="W")
        parser.add_argument(f"--sim-{device}-util", type=float, metavar="0..1", default=0.5)
    return parser


def main(arguments: list[str]) -> int:
    """Run ``CMD`` and report; return its exit code."""
    parser = _parser()
    options, command = _split(parser, arguments)
    given = parser.parse_args(options)
    if given.parse is not None:
        return parse.main(given.parse)
    if not command:
        parser.print_help(sys.stderr)
        return USAGE_ERROR
    # Imported here: without the native core, or with too little memory for it, the program runs.
    measuring = optional(MEASURING, _measuring, nothing)
    if measuring is None:
        with executed(command, None) as ended:
            return ended
    code: int = measuring.run(command, given)
    return code


def _measuring() -> Any:
    check_room(MEASURING_BYTES)
    return import_module("carbontracker.cli.measure_command")


def _split(parser: argparse.ArgumentParser, arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return the options and the command, which begins at the first word that is not an option."""
    takes_value = {
        flag for action in parser._actions if action.nargs != 0 for flag in action.option_strings
    }
    i = 0
    while i < len(arguments) and arguments[i].startswith("-") and arguments[i] != "--":
        i += 2 if arguments[i] in takes_value else 1
    command = arguments[i:]
    return arguments[:i], command[1:] if command[:1] == ["--"] else command
