"""Everyday comparisons of an amount of CO2eq or electricity."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from carbontracker.data import rows
from carbontracker.exceptions import TableError

_SHOWN = {
    "car_km_eu_new_": "km travelled by car",
    "smartphone_charge": "smartphone charges",
    "dk_household_year": "years of electricity for a Danish home",
}
"""The usual comparisons: start of the key (the newest row counts), and the words to show."""


@dataclass(frozen=True, slots=True)
class Equivalent:
    """``value`` times ``name``."""

    value: float
    """Number of ``unit``; NaN if the footprint is unknown."""
    name: str
    """The words to write after the value."""
    unit: str
    """The unit of ``value``."""
    year: int
    """The year of the comparison's figure."""
    source: str
    """The publisher of that figure."""


def equivalents(gco2eq: float, kwh: float) -> list[Equivalent]:
    """Return the usual comparisons for ``gco2eq`` grams of CO2eq or ``kwh`` of electricity.

    Empty if the package's table is damaged.
    """
    try:
        return [_compare(_newest(start), gco2eq, kwh, name) for start, name in _SHOWN.items()]
    except TableError:
        return []


def equivalent(key: str, gco2eq: float, kwh: float) -> Equivalent:
    """Return the comparison called ``key`` in ``equivalents.csv``.

    It compares emissions (grams) if the table has them for that item, else electricity (kWh).

    Raises:
        KeyError: there is no such comparison.
    """
    row = _table()[key]
    return _compare(row, gco2eq, kwh, row["name"])


def _compare(row: dict[str, str], gco2eq: float, kwh: float, name: str) -> Equivalent:
    grams = row["gco2eq_per_unit"]
    value = gco2eq / float(grams) if grams else kwh / float(row["kwh_per_unit"])
    return Equivalent(value, name, row["unit"], int(row["year"]), row["source"])


@cache
def _newest(start: str) -> dict[str, str]:
    return max(
        (row for key, row in _table().items() if key.startswith(start)),
        key=lambda row: int(row["year"]),
    )


@cache
def _table() -> dict[str, dict[str, str]]:
    return {row["key"]: row for row in rows("equivalents")}
