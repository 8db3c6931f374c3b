"""The offline tables, read at first use and kept for the life of the process.

A table may be missing from a frozen program, or damaged. One warning names the first such table.
Figures that depend on it are then unknown; all others are not affected.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from carbontracker.exceptions import TableError
from carbontracker.guard import logger, reason

if TYPE_CHECKING:
    from collections.abc import Callable

WORLD = "WORLD"
"""The zone of the world average, the last resort, which is always marked."""
UNLOCATED = "UNLOCATED"
"""The zone of a location that a damaged table leaves unknown. It has no figure."""


class Table(NamedTuple):
    """Properties of a complete table, to recognise a damaged one."""

    rows: int
    """Minimum number."""
    columns: str
    """The first line."""


TABLES = {
    "cloud_regions": Table(
        260,
        "provider,region,name,zone,grid_zone,gco2eq_per_kwh,scope,year,pue,pue_year,evidence,"
        "source,licence",
    ),
    "cpu_cores": Table(
        257,
        "vendor,family,first_model,last_model,first_stepping,seller,words,name,threads_per_core,"
        "idle_watts,full_watts,code,evidence,source",
    ),
    "cpu_tdp": Table(5206, "match_key,tdp_watts,max_watts,cores,evidence,model,launch_year,source"),
    "embodied": Table(5, "accelerator,kg_co2eq,year,boundary,source,evidence"),
    "equivalents": Table(52, "key,name,unit,gco2eq_per_unit,kwh_per_unit,year,source,evidence"),
    "fuel_factors": Table(27, "fuel,lifecycle_gco2eq_per_kwh,direct_gco2_per_kwh,source,evidence"),
    "gpu_tdp": Table(
        226,
        "match_key,tdp_watts,idle_watts,fp32_tflops,fp16_tflops,memory_gb,evidence,model,vendor,"
        "device_names,aliases,launch_year,source",
    ),
    "grid_intensity": Table(376, "zone,name,year,gco2eq_per_kwh,scope,source,licence"),
    "pue": Table(85, "scope,year,value,source,evidence"),
    "sources": Table(31, "id,source,licence"),
    "timezone_zones": Table(499, "timezone,country,zone,basis"),
    "water": Table(5, "place,kind,litres_per_kwh,year,source,evidence"),
    "zone_aliases": Table(190, "alias,zone,kind"),
}
NUMERIC = {
    *("gco2eq_per_kwh", "lifecycle_gco2eq_per_kwh", "direct_gco2_per_kwh", "gco2eq_per_unit"),
    *("kwh_per_unit", "pue", "value", "tdp_watts", "max_watts", "idle_watts", "full_watts"),
    *("fp32_tflops", "fp16_tflops", "memory_gb", "cores", "threads_per_core"),
    *("year", "pue_year", "launch_year", "kg_co2eq", "litres_per_kwh"),
}
"""Columns whose cells are numbers or empty."""


def rows(table: str) -> tuple[dict[str, str], ...]:
    """Return the rows of ``<table>.csv`` beside this file, every cell as text.

    Cells stay text, so that Namibia's ``NA`` is kept and an empty cell differs from a zero. Callers
    share the rows and must not change them.

    Raises:
        TableError: the table is missing or damaged.
        KeyError: no table has this name.
    """
    found = _rows_or_error(table, TABLES[table])
    if isinstance(found, TableError):
        raise found
    return found


@cache
def _rows_or_error(table: str, whole: Table) -> tuple[dict[str, str], ...] | TableError:
    import csv
    import io
    import os

    path = os.path.join(os.path.dirname(__file__), f"{table}.csv")
    try:
        text = _content(path).decode("utf-8")
        first, *others = csv.reader(io.StringIO(text, newline=""), strict=True)
        if ",".join(first) != whole.columns or len(others) < whole.rows:
            raise ValueError("the table is not complete")
        numeric = [index for index, column in enumerate(first) if column in NUMERIC]
        for cells in others:
            for index in numeric:
                float(cells[index] or 0)
        return tuple(dict(zip(first, cells, strict=True)) for cells in others)
    except (OSError, ValueError, IndexError, csv.Error) as error:
        damage = TableError(f"the table {path} cannot be read: {reason(error)}")
    _warn_once(str(damage))
    return damage


def _content(path: str) -> bytes:
    """Return the bytes of a file of the package, which may lie in a zip archive."""
    read: Callable[[str], bytes] | None = getattr(__spec__.loader, "get_data", None)
    if read is not None:
        return read(path)
    with open(path, "rb") as file:
        return file.read()


_damages: list[str] = []


def _warn_once(damage: str) -> None:
    _damages.append(damage)
    if len(_damages) == 1:
        logger.warning(
            "carbontracker: %s; figures that depend on it, such as the carbon footprint, are "
            "unknown, and energy is still measured; install the package again, or add its data "
            "files to your frozen program (PyInstaller: --collect-data carbontracker)",
            damage,
        )
