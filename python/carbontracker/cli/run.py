"""``carbontracker [run] [options] [--] CMD ARGS…``: run a program and show what it has cost.

If measuring fails, the program still runs, and its exit code is returned.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from importlib import import_module
from typing import Any

import carbontracker
from carbontracker.address_space import MEASURING_BYTES, check_room
from carbontracker.cli import old_report, parse
from carbontracker.cli.budget_supervisor import add_limits
from carbontracker.cli.child import NOT_FOUND, executed
from carbontracker.cli.commands import COMMANDS
from carbontracker.cli.exits import USAGE_ERROR, say
from carbontracker.cli.parser import parser_of
from carbontracker.guard import MEASURING, nothing, optional
from carbontracker.location.location import LOCATE

_OLD_OPTIONS = ("--log_dir", "--api_keys")
"""Options that 2.4.x also took after the command."""
EXAMPLES = """\
examples:
  carbontracker python train.py --its --own --flags
  carbontracker run --location DK --json result.json -- python train.py
  carbontracker run --max-kwh 2.5 --max-seconds 86400 --grace 60 -- python train.py
  carbontracker --sim-gpu "NVIDIA A100" --sim-gpu-watts 400 python train.py
  carbontracker sensors

The program's arguments are its own, its exit code is returned, and its standard output is left
alone: the result goes to standard error. `carbontracker --help` lists the other commands.
"""


def _api_keys(text: str) -> dict[str, str]:
    """Return the keys, written as a dict of Python as in 2.4.x.

    Raises:
        argparse.ArgumentTypeError: they are not. The message has no key in it.
    """
    import ast

    try:
        keys = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        keys = None
    if not isinstance(keys, dict):
        message = "it must be a dict such as {'electricitymaps': 'KEY'}"
        raise argparse.ArgumentTypeError(message)
    return keys


class _Version(argparse.Action):
    """Looks up the version only for this option: that takes time and memory."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(carbontracker.__version__)
        parser.exit()


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
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
    parser.add_argument("--report", metavar="LOG", help="a report of an old log file, see --output")
    parser.add_argument(
        "--output",
        metavar="FILE",
        default="carbon_report.pdf",
        help="of --report; .pdf, .html, ... (default carbon_report.pdf)",
    )
    parser.add_argument("--quiet", "-q", action="store_true", help="no summary on standard error")
    parser.add_argument("--no-record", action="store_true", help="keep no record of this run")
    parser.add_argument(
        "--prometheus", metavar="[HOST:]PORT", help="serve metrics there; loopback if no host"
    )
    parser.add_argument("--otlp", metavar="URL", help="push metrics to an OpenTelemetry receiver")
    parser.add_argument("--trace", metavar="FILE", help="keep every sample in a new Arrow file")
    parser.add_argument(
        "--log-dir",
        "--log_dir",
        metavar="DIR",
        help="where the record goes, and log files as 2.4.x wrote them",
    )
    parser.add_argument(
        "--api-keys",
        "--api_keys",
        type=_api_keys,
        metavar="DICT",
        help="keys of live providers: \"{'electricitymaps': 'KEY'}\"",
    )
    parser.add_argument(
        "--attribution",
        choices=("job", "process"),
        help="show also the part of the job, or of CMD and its children",
    )
    parser.add_argument("--project", metavar="NAME", help="what the run contributes to")
    parser.add_argument("--stage", metavar="NAME", help="pretraining, development, ...")
    add_limits(parser)
    for device, figure in (("cpu", "tdp"), ("gpu", "watts")):
        name = device.upper()
        parser.add_argument(f"--sim-{device}", metavar="NAME", help=f"simulate a {name}")
        parser.add_argument(f"--sim-{device}-{figure}", type=float, metavar="W")
        parser.add_argument(f"--sim-{device}-util", type=float, metavar="0..1", default=0.5)
    return parser


def main(arguments: list[str]) -> int:
    """Run ``CMD`` and report; return its exit code."""
    parser = command_parser()
    options, command = _split(parser, arguments)
    given = parser.parse_args(options)
    if given.parse is not None:
        return parse.main(given.parse)
    if given.report is not None:
        return old_report.main(given.report, given.output)
    if not command:
        parser.print_help(sys.stderr)
        return USAGE_ERROR
    if not _exists(command[0]):
        return _not_found(command[0])
    names = [word.partition("=")[0] for word in command[1:]]
    ours = [name for name in names if name in _OLD_OPTIONS]
    if ours and "--" not in arguments and not given.quiet:
        say(f"{', '.join(ours)}: an option after the command belongs to the program")
    # Imported here: without the native core, or with too little memory for it, the program runs.
    measuring = optional(MEASURING, _measuring, nothing)
    if measuring is None:
        with executed(command, None) as ended:
            return ended
    code: int = measuring.run(command, given)
    return code


def _exists(program: str) -> bool:
    if os.sep in program:
        return os.path.lexists(program)
    return shutil.which(program, os.F_OK) is not None


def _not_found(program: str) -> int:
    """Say that there is no such program, and what may be meant."""
    import difflib

    near = difflib.get_close_matches(program, COMMANDS, n=1)
    meant = [f"carbontracker {name}" for name in near]
    if program.endswith(".py") and os.path.exists(program):  # noqa: PTH110  # pathlib is not loaded
        meant = [f"carbontracker python {program}"]
    hint = f"did you mean `{meant[0]}`?" if meant else "`carbontracker --help` lists the commands"
    say(f"command not found: {program}; {hint}")
    return NOT_FOUND


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
