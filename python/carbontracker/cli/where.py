"""``carbontracker where``: cloud regions, ranked by the emissions of the same computation."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from carbontracker.cli.exits import NOTHING_KNOWN, USAGE_ERROR, say
from carbontracker.cli.location_options import add_location_options, carbon_factors_of
from carbontracker.cli.parser import parser_of
from carbontracker.json_values import jsonable
from carbontracker.location import cloud
from carbontracker.planning.regions import here, options
from carbontracker.report.planning import where_table

if TYPE_CHECKING:
    import argparse

    from carbontracker.carbon.factors import CarbonFactors
    from carbontracker.planning.regions import Option

SCOPES = ("lifecycle", "direct")

EXAMPLES = """\
examples:
  carbontracker where
  carbontracker where --kwh 12 --provider aws --top 5
  carbontracker where --scope direct --location US-CA --json

Annual carbon intensity of one scope, times PUE. Scope lifecycle has one value per country. Scope
direct counts combustion only, and has the grids of the United States. Values of two scopes cannot
be compared.
"""


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    parser = parser_of(
        "carbontracker where",
        "Rank cloud regions by carbon intensity x PUE, and compare them with this machine.",
        EXAMPLES,
    )
    parser.add_argument(
        "--kwh", type=float, help="energy of the run on this machine, kWh, PUE included"
    )
    parser.add_argument("--provider", metavar="CLOUD", help="only this cloud: aws, gcp, azure, ...")
    parser.add_argument(
        "--top", type=int, default=10, metavar="N", help="number of regions (default 10)"
    )
    parser.add_argument(
        "--pue", type=float, help="power usage effectiveness of this machine's data centre"
    )
    parser.add_argument(
        "--scope",
        choices=SCOPES,
        default="lifecycle",
        help="scope of the emissions (default lifecycle)",
    )
    add_location_options(parser)
    return parser


def main(arguments: list[str]) -> int:
    """Rank the regions and print them; return the exit code."""
    parser = command_parser()
    given = parser.parse_args(arguments)
    if given.top < 1:
        parser.error("--top must be at least 1")
    if given.kwh is not None and not 0 < given.kwh < 1e12:
        parser.error("--kwh must be more than 0")
    only = None if given.provider is None else cloud.provider_named(given.provider)
    if given.provider is not None and only is None:
        parser.error(f"no cloud {given.provider!r}; there are {', '.join(cloud.providers())}")
    try:
        factors = carbon_factors_of(given, given.pue)
    except ValueError as error:
        say(error)
        return USAGE_ERROR
    ranked, ours = options(only, given.scope)[: given.top], here(factors, given.scope)
    if not ranked:
        say(f"no region of {only} has a {given.scope} figure; try another --scope")
        return NOTHING_KNOWN
    if given.json:
        print(json.dumps(jsonable(_result(ranked, ours, factors, given.kwh)), indent=2))
    else:
        print(_text(ranked, ours, factors, given))
    return 0


def _text(
    ranked: list[Option], ours: Option | None, factors: CarbonFactors, given: argparse.Namespace
) -> str:
    year = datetime.now(timezone.utc).year
    lines = [where_table(ranked, ours, kwh=given.kwh, year_now=year), ""]
    if any(option.wider for option in ranked) or (ours and ours.wider):
        lines.append("* figure of the whole country, or of a wider grid")
    lines.append("~ PUE is an average, not the place's own figure")
    lines.append(f"Annual figures, {given.scope}. Where they come from: --json")
    location = factors.location
    if not location.known:
        lines.append("Here is unknown, so the world average stands in: name it with --location")
    elif ours is None:
        lines.append(f"{location.name} has no {given.scope} figure: nothing to compare with")
    else:
        lines.append(f"Here is {location.name}, by {location.how}; its PUE: {factors.pue_source}")
    return "\n".join(lines)


def _result(
    ranked: list[Option], ours: Option | None, factors: CarbonFactors, kwh: float | None
) -> dict[str, Any]:
    return {
        "here": None if ours is None else _option(ours, ours, kwh),
        "location": asdict(factors.location),
        "kwh": kwh,
        "regions": [_option(option, ours, kwh) for option in ranked],
    }


def _option(option: Option, ours: Option | None, kwh: float | None) -> dict[str, Any]:
    return asdict(option) | {
        "gco2eq_per_machine_kwh": option.gco2eq_per_machine_kwh,
        "gco2eq": None if kwh is None or ours is None else option.grams(kwh, ours),
        "saved_share": None if ours is None else option.saves(ours),
    }
