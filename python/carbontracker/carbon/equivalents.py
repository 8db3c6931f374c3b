"""What an amount of CO2eq or electricity compares to in everyday life."""

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
"""What is shown: the start of the keys (the newest row is taken) and the words after the value."""


@dataclass(frozen=True, slots=True)
class Equivalent:
    """``value`` times ``name``."""

    value: float
    """How many of ``unit``; NaN if the footprint is not known."""
    name: str
    """The words to write after the value."""
    unit: str
    """The unit of ``value``."""
    year: int
    """The year the comparison's own figure describes."""
    source: str
    """Who published that figure."""


def equivalents(gco2eq: float, kwh: float) -> list[Equivalent]:
    """Return the usual comparisons for ``gco2eq`` grams of CO2eq or ``kwh`` of electricity.

    Without the package's table there is none.
    """
    try:
        return [_compare(_newest(start), gco2eq, kwh, name) for start, name in _SHOWN.items()]
    except TableError:
        return []


def equivalent(key: str, gco2eq: float, kwh: float) -> Equivalent:
    """Return the comparison called ``key`` in ``equivalents.csv``.

    Emissions are compared (grams) where the table has them for that thing, electricity (kWh) where
    it has not.

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
