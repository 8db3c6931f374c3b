"""Where the commands that give advice are, and what they understand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carbontracker.carbon.background import Aside
from carbontracker.carbon.factors import make_pricing
from carbontracker.location.location import LOCATE

if TYPE_CHECKING:
    import argparse

    from carbontracker.carbon.factors import Pricing

_PATIENCE_S = 6.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what all commands about a place understand."""
    parser.add_argument("--location", metavar="PLACE", help="where: DK, US-CA, aws:eu-north-1")
    parser.add_argument(
        "--locate", choices=LOCATE, default="auto", help="never: ask no network where this is"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def pricing_here(
    given: argparse.Namespace, pue: float | None = None, intensity: str | None = None
) -> Pricing:
    """Return the pricing of the place, asked for as long as somebody at a terminal would wait.

    Raises:
        UnknownLocation: ``--location`` names no place.
        ValueError: an impossible PUE, or no such provider.
    """
    pricing = make_pricing(given.location, pue, intensity)
    aside = Aside(pricing, given.locate)
    aside.start(pricing)
    aside.wait(_PATIENCE_S)
    return aside.repriced(pricing) or pricing
