"""``carbontracker estimate``: what a training will cost, before it has begun."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from carbontracker.cli.arguments import parser_of
from carbontracker.cli.exits import USAGE_ERROR, say

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
examples:
  carbontracker estimate --flops 3.14e23 --gpu V100 --utilization 1.0 --pue 1.125 --intensity 449.06
  carbontracker estimate --gpu-hours 1000 --gpu H100 --count 8 --location SE
  carbontracker estimate --params 7e9 --tokens 2e12 --gpu "A100 SXM4 80GB" --count 1024 --json
"""


def _parser() -> argparse.ArgumentParser:
    parser = parser_of(
        "carbontracker estimate",
        "Say what a training will cost, from the work, the accelerator and the place.",
        EXAMPLES,
        abbreviated=False,
    )
    parser.add_argument("--gpu", required=True, metavar="NAME", help="accelerator: A100, H100 PCIe")
    work = parser.add_argument_group("the work, in one of three ways")
    work.add_argument("--flops", type=float, help="operations of the whole training")
    work.add_argument("--params", type=float, help="parameters of a transformer, with --tokens")
    work.add_argument("--tokens", type=float, help="tokens it is trained on: 6 x params x tokens")
    work.add_argument("--gpu-hours", type=float, metavar="H", help="of all accelerators together")
    hardware = parser.add_argument_group("the hardware; what is not given has a range")
    hardware.add_argument("--count", type=int, default=1, help="accelerators at work (default 1)")
    hardware.add_argument("--precision", default="fp16", help="peak to reckon with: fp16, fp32")
    hardware.add_argument(
        "--utilization", type=float, metavar="X", help="share of the peak (0.40; 0.20 to 0.55)"
    )
    hardware.add_argument(
        "--power-share", type=float, metavar="X", help="share of board power (0.80; 0.60 to 1.00)"
    )
    hardware.add_argument(
        "--node-overhead",
        type=float,
        metavar="X",
        help="processors, memory, fans over accelerators (0.25; 0.10 to 0.60)",
    )
    place = parser.add_argument_group("the place")
    place.add_argument(
        *("--location", "--region"),
        metavar="PLACE",
        help="country, ISO code, zone or cloud region: DK, US-CA, eu-north-1",
    )
    place.add_argument("--pue", type=float, help="power usage effectiveness")
    place.add_argument("--intensity", type=float, metavar="G", help="your own gCO2eq/kWh")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def main(arguments: list[str]) -> int:
    """Print the estimate; return 2 where it cannot be made from what was given."""
    given = vars(_parser().parse_args(arguments))
    as_json = given.pop("json")

    from carbontracker.planning.estimate import estimate
    from carbontracker.records.writer import jsonable
    from carbontracker.report.planning import estimate_text

    try:
        found = estimate(**given)
    except ValueError as error:
        say(error)
        return USAGE_ERROR
    print(json.dumps(jsonable(found.as_dict()), indent=2) if as_json else estimate_text(found))
    return 0
