"""The water that a training used: at its site for cooling, and at the source of its electricity.

It is never added to anything. Figures are published or given, and none is assumed for a place
without one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from carbontracker.data import rows


@dataclass(frozen=True, slots=True)
class Water:
    """Litres of water that evaporate, with the origin of their figures."""

    site_litres: float
    """At the site: energy of the machines x WUE of the site; NaN if no figure is known."""
    source_litres: float
    """At the power plants: energy with PUE x litres of each kWh; NaN if no figure is known."""
    low_source_litres: float
    high_source_litres: float
    """With the lowest and the highest published figure."""
    site_litres_per_kwh: float
    source_litres_per_kwh: float
    site_origin: str
    source_origin: str

    @property
    def known(self) -> bool:
        """Return whether anything is known."""
        return not (math.isnan(self.site_litres) and math.isnan(self.source_litres))


def water_use(
    machine_kwh: float,
    pue: float,
    *,
    site: float | None = None,
    source: float | None = None,
    zone: str = "",
    operator: str = "",
) -> Water:
    """Return the water that some energy needed.

    Args:
        machine_kwh: energy of the machines without PUE, kWh.
        pue: power usage effectiveness.
        site: water usage effectiveness of the site, litres per kWh of the machines; else the
            published one of ``operator``, or of ``zone``.
        source: litres per kWh of electricity at its power plants; else the published one of
            ``zone``.
        zone: a zone such as ``US-CA``.
        operator: of the data centre: ``aws`` or ``azure``.

    Raises:
        ValueError: a figure is negative or not finite.
        TableError: the package's table is missing.
    """
    for name, value in (("site", site), ("source", source)):
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be litres per kWh of at least 0, got {value!r}")
    places = (operator, zone.partition("-")[0])
    site_figure, site_origin, _ = _figure("site", site, places)
    source_figure, source_origin, span = _figure("source", source, places[1:])
    kwh = machine_kwh * pue
    return Water(
        site_litres=machine_kwh * site_figure,
        source_litres=kwh * source_figure,
        low_source_litres=kwh * span[0],
        high_source_litres=kwh * span[1],
        site_litres_per_kwh=site_figure,
        source_litres_per_kwh=source_figure,
        site_origin=site_origin,
        source_origin=source_origin,
    )


def _figure(
    kind: str, given: float | None, places: tuple[str, ...]
) -> tuple[float, str, tuple[float, float]]:
    """Return litres per kWh, their origin, and the lowest and highest published figure."""
    if given is not None:
        return given, "given by the user", (given, given)
    table = [row for row in rows("water") if row["kind"] == kind]
    for place in places:
        found = [row for row in table if row["place"] == place]
        if found:
            newest = max(found, key=lambda row: int(row["year"]))
            known = [float(row["litres_per_kwh"]) for row in found]
            return float(newest["litres_per_kwh"]), newest["source"], (min(known), max(known))
    return math.nan, "", (math.nan, math.nan)
