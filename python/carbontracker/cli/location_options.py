"""The options of the commands that need the location of this machine, and its carbon factors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carbontracker.carbon.factors import make_carbon_factors
from carbontracker.location.location import LOCATE
from carbontracker.planning.background import BackgroundLookup

if TYPE_CHECKING:
    import argparse

    from carbontracker.carbon.factors import CarbonFactors

_LOOKUP_TIMEOUT_S = 6.0
"""As long as a user at a terminal would wait."""


def add_location_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that all commands with a location have."""
    parser.add_argument("--location", metavar="PLACE", help="location: DK, US-CA, aws:eu-north-1")
    parser.add_argument(
        "--locate",
        choices=LOCATE,
        default="auto",
        help="never: do not look up the location over the network",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def carbon_factors_of(
    given: argparse.Namespace, pue: float | None = None, intensity: str | None = None
) -> CarbonFactors:
    """Return the carbon factors of the location, after a lookup of six seconds at most.

    Raises:
        UnknownLocation: ``--location`` is not known.
        ValueError: the PUE is not valid, or the provider does not exist.
    """
    factors = make_carbon_factors(given.location, pue, intensity)
    lookup = BackgroundLookup(factors, given.locate)
    lookup.start(factors)
    lookup.wait(_LOOKUP_TIMEOUT_S)
    return lookup.updated_factors(factors) or factors
