"""The share of the production of accelerators that a training has, by published figures.

It is never added to the emissions of electricity: other years, other methods, another boundary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from carbontracker.data import rows

HOURS_PER_YEAR = 8766.0
LIFETIME_YEARS = (4.0, 5.0, 6.0)
"""Shortest, usual and longest time for which accelerators are published to be used, years. 4: the
servers of Alphabet and Microsoft in their accounts until 2022, 6: since then, and in Luccioni et
al. 2022; 5: a part of Amazon's servers from 2025. Recalled from their annual reports."""


@dataclass(frozen=True, slots=True)
class Embodied:
    """A share of the emissions of the production of accelerators."""

    accelerator: str
    kg_co2eq: float
    """kgCO2eq: ``device_hours`` x kg of one accelerator / hours of its life."""
    low_kg_co2eq: float
    """With the lowest published figure and the longest life."""
    high_kg_co2eq: float
    """With the highest published figure and the shortest life."""
    device_hours: float
    each_kg_co2eq: float
    """Of one accelerator: the newest published figure, or the given one."""
    lifetime_years: float
    boundary: str
    """What is in the figure of one accelerator."""
    source: str


def embodied_share(
    accelerator: str,
    device_hours: float,
    *,
    kg_co2eq: float | None = None,
    lifetime_years: float | None = None,
) -> Embodied | None:
    """Return the share of the production of accelerators that their time of use has.

    The processors, the memory, the server and the building are not in it.

    Args:
        accelerator: name that a driver reports, such as ``NVIDIA H100 80GB HBM3``.
        device_hours: hours times number of accelerators.
        kg_co2eq: of the production of one accelerator, kgCO2eq; published figures if None.
        lifetime_years: years for which it is used in all, 5 (4 to 6) if None.

    Returns:
        None if no figure is published for this accelerator, and none is given.

    Raises:
        ValueError: an argument is not a finite number, or is negative; a life is 0.
        TableError: the package's table is missing.
    """
    for name, value in (("device_hours", device_hours), ("kg_co2eq", kg_co2eq)):
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be a finite number of at least 0, got {value!r}")
    if lifetime_years is not None and not (math.isfinite(lifetime_years) and lifetime_years > 0):
        raise ValueError(f"lifetime_years must be more than 0, got {lifetime_years!r}")
    found = _published(accelerator)
    if kg_co2eq is not None:
        each, boundary, source = [kg_co2eq] * 3, "as given", "given by the user"
    elif found:
        newest = max(found, key=lambda row: int(row["year"]))
        known = [float(row["kg_co2eq"]) for row in found]
        each = [min(known), float(newest["kg_co2eq"]), max(known)]
        boundary, source = newest["boundary"], newest["source"]
    else:
        return None
    shortest, usual, longest = LIFETIME_YEARS if lifetime_years is None else (lifetime_years,) * 3
    low, middle, high = (
        device_hours * kg / (years * HOURS_PER_YEAR)
        for kg, years in zip(each, (longest, usual, shortest), strict=True)
    )
    return Embodied(accelerator, middle, low, high, device_hours, each[1], usual, boundary, source)


def _published(accelerator: str) -> list[dict[str, str]]:
    """Return the figures of the accelerator whose name is a word of ``accelerator``."""
    words = set(accelerator.upper().replace("-", " ").split())
    return [row for row in rows("embodied") if row["accelerator"] in words]
