"""Where the commands that give advice are, and what they understand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carbontracker.carbon.background import BackgroundLookup
from carbontracker.carbon.factors import make_carbon_factors
from carbontracker.location.location import LOCATE

if TYPE_CHECKING:
    import argparse

    from carbontracker.carbon.factors import CarbonFactors

_PATIENCE_S = 6.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what all commands about a place understand."""
    parser.add_argument("--location", metavar="PLACE", help="where: DK, US-CA, aws:eu-north-1")
    parser.add_argument(
        "--locate", choices=LOCATE, default="auto", help="never: ask no network where this is"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def factors_here(
    given: argparse.Namespace, pue: float | None = None, intensity: str | None = None
) -> CarbonFactors:
    """Return the pricing of the place, asked for as long as somebody at a terminal would wait.

    Raises:
        UnknownLocation: ``--location`` names no place.
        ValueError: an impossible PUE, or no such provider.
    """
    factors = make_carbon_factors(given.location, pue, intensity)
    lookup = BackgroundLookup(factors, given.locate)
    lookup.start(factors)
    lookup.wait(_PATIENCE_S)
    return lookup.updated_factors(factors) or factors
