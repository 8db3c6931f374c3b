"""``carbontracker estimate``: the energy and emissions of a training before it starts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from carbontracker.cli.exits import USAGE_ERROR, say
from carbontracker.cli.parser import parser_of

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
examples:
  carbontracker estimate --flops 3.14e23 --gpu V100 --utilization 1.0 --pue 1.125 --intensity 449.06
  carbontracker estimate --gpu-hours 1000 --gpu H100 --count 8 --location SE
  carbontracker estimate --params 7e9 --tokens 2e12 --gpu "A100 SXM4 80GB" --count 1024 --json
"""


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    parser = parser_of(
        "carbontracker estimate",
        "Estimate the energy and emissions of a training before it starts.",
        EXAMPLES,
        abbreviated=False,
    )
    parser.add_argument(
        "--gpu", required=True, metavar="NAME", help="name of the accelerator: A100, H100 PCIe"
    )
    work = parser.add_argument_group("the work: --flops, or --params and --tokens, or --gpu-hours")
    work.add_argument("--flops", type=float, help="floating-point operations of the whole training")
    work.add_argument("--params", type=float, help="parameters of the transformer")
    work.add_argument(
        "--tokens", type=float, help="training tokens; the work is 6 x params x tokens"
    )
    work.add_argument(
        "--gpu-hours", type=float, metavar="H", help="hours of all accelerators together"
    )
    hardware = parser.add_argument_group("the hardware; an omitted value gives the result a range")
    hardware.add_argument("--count", type=int, default=1, help="number of accelerators (default 1)")
    hardware.add_argument(
        "--precision",
        default="fp16",
        help="precision of the peak performance: fp16 (default), fp32",
    )
    hardware.add_argument(
        "--utilization",
        type=float,
        metavar="X",
        help="share of the peak performance (0.40; 0.20 to 0.55)",
    )
    hardware.add_argument(
        "--power-share",
        type=float,
        metavar="X",
        help="share of the board power (0.80; 0.60 to 1.00)",
    )
    hardware.add_argument(
        "--node-overhead",
        type=float,
        metavar="X",
        help="power of processors, memory and fans per power of accelerators (0.25; 0.10 to 0.60)",
    )
    place = parser.add_argument_group("the location")
    place.add_argument(
        *("--location", "--region"),
        metavar="PLACE",
        help="country, ISO code, zone or cloud region: DK, US-CA, eu-north-1",
    )
    place.add_argument("--pue", type=float, help="power usage effectiveness")
    place.add_argument("--intensity", type=float, metavar="G", help="carbon intensity, gCO2eq/kWh")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def main(arguments: list[str]) -> int:
    """Print the estimate; return 2 if the arguments are not sufficient or not valid."""
    given = vars(command_parser().parse_args(arguments))
    as_json = given.pop("json")

    from carbontracker.json_values import jsonable
    from carbontracker.planning.estimate import estimate
    from carbontracker.report.planning import estimate_text

    try:
        found = estimate(**given)
    except ValueError as error:
        say(error)
        return USAGE_ERROR
    print(json.dumps(jsonable(found.to_dict()), indent=2) if as_json else estimate_text(found))
    return 0
