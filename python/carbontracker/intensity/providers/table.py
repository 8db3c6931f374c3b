"""Annual grid figures from the table of the package, without the network."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from carbontracker.data import UNLOCATED, WORLD, rows
from carbontracker.exceptions import IntensityUnavailable, TableError
from carbontracker.intensity.base import SCOPES, Intensity

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime


class Table:
    """The annual figure of one scope for a zone, from ``grid_intensity.csv``.

    Scopes differ by 20 to 100 % for the same grid, so one run has figures of one scope only. A zone
    without a figure of this scope gets that of a wider zone with the *same* scope: first its proxy
    grid, then its country, last the world average. The figure's ``note`` says which.

    Args:
        scope: ``lifecycle`` (every country), ``direct`` (EU, US and its states, AU and its
            states, GB) or ``consumption`` (Canadian and Chinese provinces).

    Raises:
        ValueError: no such scope.
    """

    name = "table"

    def __init__(self, scope: str = "lifecycle") -> None:
        if scope not in SCOPES:
            raise ValueError(f"no scope {scope!r}; there are {', '.join(SCOPES)}")
        self.scope = scope

    def between(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        """Return the zone's annual figure as one open slot.

        Raises:
            IntensityUnavailable: neither the zone, its country nor the world has a figure of
                this scope, or the package's table is missing.
        """
        return [self._figure(zone)]

    def now(self, zone: str) -> Intensity:
        """Return the zone's annual figure; raises as ``between`` does."""
        return self._figure(zone)

    def forecast(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        """Raise IntensityUnavailable: annual means have no hours."""
        raise IntensityUnavailable("the table has annual figures only, and no forecast")

    def _figure(self, zone: str) -> Intensity:
        wanted = zone.strip().upper()
        if wanted == UNLOCATED:
            raise IntensityUnavailable("the location is unknown")
        try:
            figures = _figures()
            for candidate in _widening(wanted):
                if row := figures.get((candidate, self.scope)):
                    return _intensity(row, self._why(wanted, candidate))
        except TableError as error:
            raise IntensityUnavailable(str(error)) from None
        raise IntensityUnavailable(f"the table has no {self.scope} figure for {wanted!r}")

    def _why(self, wanted: str, used: str) -> str:
        if used == WORLD:
            asked = "" if wanted == WORLD else f"no {self.scope} figure for {wanted!r}: "
            return f"{asked}world average, not a local figure"
        if used == wanted:
            return ""
        proxy = " (proxy)" if wanted.partition("-")[0] != used.partition("-")[0] else ""
        return f"no {self.scope} figure for {wanted}; {used} stands in{proxy}"


def _widening(zone: str) -> Iterator[str]:
    """Yield the zone, its proxy grid, the zones that contain it, and the world."""
    yield zone
    zone = _aliases().get(zone, zone)
    yield zone
    while "-" in zone:
        zone = zone.rpartition("-")[0]
        yield zone
    yield WORLD


def _intensity(row: dict[str, str], note: str) -> Intensity:
    return Intensity(
        gco2eq_per_kwh=float(row["gco2eq_per_kwh"]),
        zone=row["zone"],
        name=row["name"],
        year=int(row["year"]),
        scope=row["scope"],
        kind="annual",
        source=row["source"],
        licence=row["licence"],
        note=note,
    )


@cache
def _figures() -> dict[tuple[str, str], dict[str, str]]:
    return {(row["zone"], row["scope"]): row for row in rows("grid_intensity")}


@cache
def _aliases() -> dict[str, str]:
    """Map zones without a row to their proxy grid."""
    return {r["alias"].upper(): r["zone"] for r in rows("zone_aliases") if r["kind"] != "name"}
