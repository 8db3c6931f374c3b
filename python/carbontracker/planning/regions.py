"""Emissions of the same energy in other cloud regions: intensity x PUE, annual figures."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from carbontracker.constants import PUE_2023
from carbontracker.data import WORLD
from carbontracker.exceptions import IntensityUnavailable
from carbontracker.intensity.providers import provider
from carbontracker.location import cloud

if TYPE_CHECKING:
    from carbontracker.carbon.factors import CarbonFactors
    from carbontracker.intensity.base import Intensity


@dataclass(frozen=True)
class Option:
    """A region to run in, or the current location."""

    key: str
    """``aws:eu-north-1``, or a zone."""
    name: str
    zone: str
    """The zone of the figure."""
    gco2eq_per_kwh: float
    """Annual figure, gCO2eq/kWh of electricity."""
    year: int | None
    """Of that figure."""
    scope: str
    pue: float
    pue_how: str
    """Source of the PUE, in words."""
    note: str = ""
    """Why this figure was used, if it is not the zone's own."""

    @property
    def wider(self) -> bool:
        """Return whether the figure is that of a wider or another grid, according to its note."""
        return "stands in" in self.note

    @property
    def gco2eq_per_machine_kwh(self) -> float:
        """Return grams per kWh of the machine itself: intensity x PUE."""
        return self.gco2eq_per_kwh * self.pue

    def saves(self, here: Option) -> float:
        """Return the saved share of the emissions compared to ``here``."""
        from carbontracker.planning.start_time import saved_share

        return saved_share(here.gco2eq_per_machine_kwh, self.gco2eq_per_machine_kwh)

    def grams(self, kwh: float, here: Option) -> float:
        """Return the emissions, gCO2eq, of a run that uses ``kwh`` ``here``, PUE included."""
        return kwh / here.pue * self.gco2eq_per_machine_kwh


def options(only: str | None = None, scope: str = "lifecycle") -> list[Option]:
    """Return the cloud regions by emissions, the lowest first, with figures of one scope.

    A region without a figure of that scope is left out.

    Args:
        only: the regions of this cloud; None for all.
        scope: ``lifecycle``, or ``direct``, which has separate figures for the grids of the US.
    """
    from carbontracker.planning.start_time import ranks  # imported here: it loads numpy

    found = [
        option
        for region in cloud.regions().values()
        if only in (None, region.provider) and (option := _option(region, scope))
    ]
    order = ranks([one.gco2eq_per_kwh for one in found], [one.pue for one in found])
    return [found[index] for index in order]


def here(factors: CarbonFactors, scope: str = "lifecycle") -> Option | None:
    """Return the location of ``factors`` as an option; None without a figure of that scope."""
    location = factors.location
    region = cloud.regions().get(location.region)
    if region is not None:
        found = _option(region, scope)
        return found and replace(found, pue=factors.pue, pue_how=factors.pue_source)
    figure = _annual(location.zone, scope)
    if figure is None:
        return None
    return Option(
        key=location.zone,
        name=location.name,
        zone=figure.zone,
        gco2eq_per_kwh=figure.gco2eq_per_kwh,
        year=figure.year,
        scope=scope,
        pue=factors.pue,
        pue_how=factors.pue_source,
        note=location.note or figure.note,
    )


def _option(region: cloud.Region, scope: str) -> Option | None:
    known = not math.isnan(region.pue)
    ratio = region.pue if known else PUE_2023
    how = region.pue_source if known else f"world average; {region.provider} has no figure"
    if scope == "direct" and not math.isnan(region.gco2eq_per_kwh):
        zone, figure, year = region.grid_zone, region.gco2eq_per_kwh, region.year
        note = f"{region.provider}'s own figure"
    else:
        annual = _annual(region.zone, scope)
        if annual is None or annual.zone == WORLD:
            return None
        zone, figure, year, note = annual.zone, annual.gco2eq_per_kwh, annual.year, annual.note
    return Option(region.key, region.name, zone, figure, year, scope, ratio, how, note)


def _annual(zone: str, scope: str) -> Intensity | None:
    now = datetime.now(timezone.utc)  # the table has the same figure for all times
    try:
        return provider("table", scope=scope).between(zone, now, now)[0]
    except IntensityUnavailable:
        return None
