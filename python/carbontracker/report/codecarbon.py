"""A row in the columns of CodeCarbon's ``emissions.csv``, for what already reads such files.

Columns and units are those of CodeCarbon 3.3.2: kilograms, kWh and watts with PUE, seconds. What
is not known is blank, where CodeCarbon would write 0.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from carbontracker.constants import JOULES_PER_KWH
from carbontracker.records.json_values import number
from carbontracker.report import derived
from carbontracker.report.formatting import csv_text

if TYPE_CHECKING:
    from carbontracker.records.recorded import RunRecord

COLUMNS = (
    *("timestamp", "project_name", "run_id", "experiment_id", "duration", "emissions"),
    *("emissions_rate", "cpu_power", "gpu_power", "ram_power", "cpu_energy", "gpu_energy"),
    *("ram_energy", "energy_consumed", "water_consumed", "country_name", "country_iso_code"),
    *("region", "cloud_provider", "cloud_region", "os", "python_version", "codecarbon_version"),
    *("cpu_count", "cpu_model", "gpu_count", "gpu_model", "longitude", "latitude"),
    *("ram_total_size", "tracking_mode", "cpu_utilization_percent", "gpu_utilization_percent"),
    *("ram_utilization_percent", "ram_used_gb", "on_cloud", "pue", "wue"),
)
_GIB = 1024**3


def render(run: RunRecord) -> bytes:
    """Return the heading and the row."""
    return _file(COLUMNS, [_row(run)])


def joined(before: bytes, new: bytes) -> bytes:
    """Return a file with the new row last, instead of an older row of the same run.

    The file keeps the order of its columns.

    Raises:
        ValueError: the file has other columns.
    """
    reader = csv.DictReader(io.StringIO(before.decode("utf-8-sig", "replace"), newline=""))
    columns = tuple(reader.fieldnames or ())
    if sorted(columns) != sorted(COLUMNS):
        raise ValueError(
            "it is there already and has not the columns of CodeCarbon 3.3: choose another name"
        )
    (row,) = csv.DictReader(io.StringIO(new.decode(), newline=""))
    kept = [one for one in reader if one["run_id"] != row["run_id"]]
    return _file(columns, [*kept, row])


def _file(columns: tuple[str, ...], rows: list[dict[str, Any]]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def _row(run: RunRecord) -> dict[str, Any]:
    footprint, host, seconds = run.footprint, run.origin.host, run.outcome.seconds
    gpus = Counter(one.name for one in derived.devices_of(run) if one.kind == "gpu")
    row: dict[str, Any] = {
        "timestamp": f"{run.end:%Y-%m-%dT%H:%M:%S}",
        "project_name": " ".join(run.origin.command) or "training",
        "run_id": run.id,
        "duration": seconds,
        "emissions": footprint.gco2eq / 1000,
        "emissions_rate": footprint.gco2eq / 1000 / seconds if seconds > 0 else math.nan,
        "energy_consumed": footprint.kwh,
        "country_name": footprint.location.get("name") or footprint.intensity.get("name"),
        "os": host.get("system"),
        "python_version": host.get("python"),
        "cpu_count": host.get("logical_cpus"),
        "cpu_model": host.get("cpu"),
        "gpu_count": sum(gpus.values()) or None,
        "gpu_model": ", ".join(f"{count} x {name}" for name, count in gpus.items()),
        "ram_total_size": number(host.get("memory_bytes")) / _GIB,
        "tracking_mode": "machine",
        "pue": footprint.pue,
    }
    for kind, name in (("cpu", "cpu"), ("gpu", "gpu"), ("dram", "ram")):
        kwh = _kwh(run, kind)
        row[f"{name}_energy"] = kwh
        row[f"{name}_power"] = kwh * JOULES_PER_KWH / seconds if seconds > 0 else math.nan
    return {key: _cell(value) for key, value in row.items()}


def _cell(value: object) -> object:
    if isinstance(value, str):
        return csv_text(value)
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else value


def _kwh(run: RunRecord, kind: str) -> float:
    """Return the electricity of all devices of a kind with PUE; NaN if none of it is known."""
    found = (one.energy.joules for one in derived.devices_of(run) if one.kind == kind)
    known = [joules for joules in found if not math.isnan(joules)]
    return math.fsum(known) * run.footprint.pue / JOULES_PER_KWH if known else math.nan
