"""The options of commands that can compute emissions again under other assumptions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from carbontracker.records.run_record import RunRecord


def add_recalculation_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    recalculation = parser.add_argument_group(
        "recalculate the emissions with other values (the energy stays as measured)"
    )
    recalculation.add_argument(
        "--intensity", metavar="G|NAME", help="gCO2eq/kWh, or the name of a provider"
    )
    recalculation.add_argument(
        "--scope", help="scope of the table: lifecycle, direct or consumption"
    )
    recalculation.add_argument("--pue", type=float, help="power usage effectiveness, at least 1")
    recalculation.add_argument(
        "--location", metavar="PLACE", help="country, ISO code, zone or region"
    )


def recalculated(run: RunRecord, given: argparse.Namespace) -> RunRecord:
    """Return the run, with recalculated emissions if an option asks for it.

    Raises:
        ValueError: an option is not valid.
        IntensityUnavailable: no provider has the intensity of that time.
    """
    options = ("intensity", "scope", "pue", "location")
    changes = {name: value for name in options if (value := getattr(given, name)) is not None}
    if not changes:
        return run
    from carbontracker.cli.retry import retried
    from carbontracker.intensity.selection import create, parse_setting
    from carbontracker.records.reader import events_of
    from carbontracker.records.recalculation import recalculate, recalculated_as

    if "intensity" in changes:
        setting = parse_setting(changes["intensity"])
        changes["intensity"] = create(setting, {}) if isinstance(setting, str) else setting
    return recalculated_as(run, retried(lambda: recalculate(events_of(run), **changes)))
