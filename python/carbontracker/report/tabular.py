"""Files of rows and figures: CSV, JSON, Parquet, and CodeCarbon's ``emissions.csv``.

CSV and Parquet have one row per epoch; a blank cell or null is an unknown value. The columns and
units of a CodeCarbon row are those of CodeCarbon 3.3.2: kilograms, kWh and watts with PUE, seconds.
An unknown value is blank there too, where CodeCarbon would write 0.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from carbontracker.constants import JOULES_PER_KWH
from carbontracker.extras import optional_module
from carbontracker.jobs.launch import Launch
from carbontracker.json_values import jsonable, number
from carbontracker.model.work import SAMPLES, TOKENS, UNITS
from carbontracker.records.reader import moment_at
from carbontracker.report import derived
from carbontracker.report.formatting import clean, csv_text
from carbontracker.report.sentences import MARKS_ONLY
from carbontracker.report.work import work_figures

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carbontracker.carbon.footprint import Footprint
    from carbontracker.model.measurement import Measurement
    from carbontracker.model.prediction import Forecast
    from carbontracker.records.run_record import RunRecord

Value = str | int | float | bool | None


# ---- one row per epoch ---------------------------------------------------------------------


def epochs_csv(run: RunRecord) -> bytes:
    """Return one row per epoch as CSV."""
    out = io.StringIO(newline="")
    columns = epoch_columns(run)
    writer = csv.writer(out)
    writer.writerow(map(csv_text, columns))
    writer.writerows([_cell(row.get(name)) for name in columns] for row in epoch_rows(run))
    return out.getvalue().encode()


def _cell(value: Value) -> Value:
    return csv_text(value) if isinstance(value, str) else value


def epoch_columns(run: RunRecord) -> dict[str, type]:
    """Return the columns in their order, with the type of their values."""
    text, figure = str, float
    first: dict[str, type] = {"run_id": text, "epoch": int, "finished": bool, "final": bool}
    times: dict[str, type] = {"start": text, "start_s": figure, "seconds": figure}
    energy: dict[str, type] = dict.fromkeys(
        ("joules", "error_joules", "modelled_joules", "coverage"), figure
    )
    energy["quality"] = text
    energy |= dict.fromkeys(("coverage_devices", "unknown_joules_max"), figure)
    footprint: dict[str, type] = dict.fromkeys(
        ("kwh", "error_kwh", "gco2eq", "gco2eq_per_kwh", "pue"), figure
    )
    devices: dict[str, type] = {_column(one.id): figure for one in run.devices}
    work = dict.fromkeys(_work_columns(run), figure)
    return first | times | energy | footprint | devices | work


def _work_columns(run: RunRecord) -> list[str]:
    """Return the columns of the units of work that any epoch has counted."""
    every = [one.work for one in run.epochs] or [run.result.work]
    told = [unit for unit in UNITS if not all(math.isnan(getattr(one, unit)) for one in every)]
    return [name for unit in told for name in (unit, f"joules_per_{unit[:-1]}")]


def _column(device: str) -> str:
    return f"{clean(device)} joules"


def epoch_rows(run: RunRecord) -> Iterator[dict[str, Value]]:
    """Yield one row per epoch, or one for a whole command; an unknown value is None."""
    for epoch in run.epochs:
        yield _row(run, epoch) | {"epoch": epoch.index, "finished": epoch.finished}
    if not run.epochs and run.metadata.command:
        yield _row(run, replace(run.result, start_s=0.0)) | {"finished": run.complete}


def _row(run: RunRecord, measured: Measurement) -> dict[str, Value]:
    start_s, energy, footprint = measured.start_s, measured.energy, measured.footprint
    row: dict[str, Any] = {
        "run_id": run.id,
        "epoch": None,
        "start": moment_at(run, start_s).isoformat() if math.isfinite(start_s) else None,
        "start_s": start_s,
        "seconds": measured.seconds,
        "final": measured.final,
        "joules": energy.joules,
        "error_joules": energy.error_joules,
        "modelled_joules": energy.modelled_joules,
        "quality": energy.quality,
        "coverage": energy.coverage,
        "coverage_devices": energy.coverage_devices,
        "unknown_joules_max": energy.unknown_joules_max,
        "kwh": footprint.kwh,
        "error_kwh": footprint.error_kwh,
        "gco2eq": footprint.gco2eq,
        "gco2eq_per_kwh": footprint.intensity.gco2eq_per_kwh,
        "pue": footprint.pue,
    }
    if energy.quality == "missing":
        row["modelled_joules"] = None
    work = work_figures(measured)
    row |= {name: work.get(name) for name in _work_columns(run)}
    parts = energy.by_device
    row |= {_column(one.id): None for one in run.devices}
    row |= {_column(name): part.joules for name, part in parts.items() if _column(name) in row}
    unknown = (key for key, value in row.items() if isinstance(value, float))
    return row | {key: None for key in unknown if not math.isfinite(row[key])}


def epochs_parquet(run: RunRecord) -> bytes:
    """Return one row per epoch as Parquet, with the totals as JSON in the file's metadata.

    Raises:
        MissingExtra: pyarrow is not installed.
    """
    arrow = optional_module("pyarrow", "parquet")
    kinds = {str: arrow.string(), int: arrow.int64(), float: arrow.float64(), bool: arrow.bool_()}
    columns = epoch_columns(run)
    metadata = {"carbontracker": totals_json(run)}
    schema = arrow.schema(
        [(name, kinds[kind]) for name, kind in columns.items()], metadata=metadata
    )
    found = list(epoch_rows(run))
    data = {name: [row[name] for row in found] for name in columns}
    out = io.BytesIO()
    parquet = optional_module("pyarrow.parquet", "parquet")
    parquet.write_table(arrow.table(data, schema=schema), out)
    return out.getvalue()


# ---- totals --------------------------------------------------------------------------------


def totals_json(run: RunRecord) -> bytes:
    """Return all totals as one JSON object."""
    text = json.dumps(jsonable(totals(run)), indent=2, ensure_ascii=False, allow_nan=False)
    return text.encode(errors="replace") + b"\n"


def totals(run: RunRecord) -> dict[str, Any]:
    """Return the totals of a run, its epochs, windows and predictions, and their sources."""
    about, result = run.metadata, run.result
    return run_row(run) | {
        "energy": run.energy.to_dict(),
        "footprint": _footprint(run.footprint),
        "epoch_energies": [
            {"index": one.index, "finished": one.finished, "seconds": one.seconds}
            | {"joules": one.energy.joules}
            | {"error_joules": one.energy.error_joules, "gco2eq": one.footprint.gco2eq}
            | work_figures(one)
            for one in run.epochs
        ],
        "work": work_figures(run.divisible) if run.divisible else {},
        "checkpoints": run.checkpoints_s,
        "labels": dict(run.labels),
        "windows": [
            {key: value for key, value in asdict(one).items() if key != "kept"}
            for one in derived.windows_of(run)
        ],
        "predictions": list(map(_predicted, run.forecasts)),
        "tracker_cpu_seconds": result.tracker_cpu_seconds,
        "host_data": dict(about.host),
        "sensors": [asdict(one) for one in about.sensors],
        "missing": [one.to_dict() for one in about.missing],
        "warnings": list(run.warnings),
    }


def _predicted(one: Forecast) -> dict[str, Any]:
    prediction = one.prediction
    return {
        "after_epochs": prediction.after_epochs,
        "epochs": prediction.epochs,
        "seconds": prediction.seconds,
        "kwh": one.footprint.kwh,
        "gco2eq": one.footprint.gco2eq,
        "method": prediction.method,
        "kwh_80": one.kwh_80,
        "gco2eq_80": one.gco2eq_80,
        "seconds_80": prediction.seconds_80,
        "kwh_95": one.kwh_95,
        "gco2eq_95": one.gco2eq_95,
        "seconds_95": prediction.seconds_95,
    }


def _footprint(footprint: Footprint) -> dict[str, Any]:
    return {
        "kwh": footprint.kwh,
        "error_kwh": footprint.error_kwh,
        "gco2eq": footprint.gco2eq,
        "pue": footprint.pue,
        "intensity": footprint.intensity.to_dict(),
        "location": footprint.location.to_dict() if footprint.location else {},
    }


def run_row(run: RunRecord) -> dict[str, Any]:
    """Return a run as one flat row, for lists of runs and their filters; None is unknown."""
    about, result, divisible = run.metadata, run.result, run.divisible
    launch = Launch(about.job, about.one_training)
    return {
        "id": run.id,
        "started": run.started.isoformat(timespec="seconds"),
        "host": about.host.get("name"),
        "what": about.program or "training",
        "epochs": None if run.planned_epochs is None else result.finished_epochs,
        "planned_epochs": run.planned_epochs,
        "seconds": _known(result.seconds),
        "joules": _known(run.energy.joules),
        "error_joules": _known(run.energy.error_joules),
        "kwh": _known(run.footprint.kwh),
        "gco2eq": _known(run.footprint.gco2eq),
        "quality": run.energy.quality,
        "zone": run.footprint.intensity.zone,
        "job": next((one["job_id"] for one in about.job.values() if "job_id" in one), None),
        "job_uid": about.job_uid or None,
        "rank": launch.rank,
        "user": launch.user or about.host.get("user"),
        "parent": about.parent_run_id,
        "project": about.project or None,
        "stage": about.stage or None,
        "resumes": about.parent or None,
        "outcome": run.outcome,
        **{unit: _known(getattr(result.work, unit)) for unit in UNITS},
        **{
            f"joules_per_{unit[:-1]}": _known(divisible.joules_per(unit).value)
            if divisible
            else None
            for unit in (TOKENS, SAMPLES)
        },
        "version": about.version,
        "state": run.state,
        "why": run.why_incomplete or (MARKS_ONLY if about.marks_only else None),
        "file": str(run.path),
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


# ---- CodeCarbon ----------------------------------------------------------------------------

CODECARBON_COLUMNS = (
    *("timestamp", "project_name", "run_id", "experiment_id", "duration", "emissions"),
    *("emissions_rate", "cpu_power", "gpu_power", "ram_power", "cpu_energy", "gpu_energy"),
    *("ram_energy", "energy_consumed", "water_consumed", "country_name", "country_iso_code"),
    *("region", "cloud_provider", "cloud_region", "os", "python_version", "codecarbon_version"),
    *("cpu_count", "cpu_model", "gpu_count", "gpu_model", "longitude", "latitude"),
    *("ram_total_size", "tracking_mode", "cpu_utilization_percent", "gpu_utilization_percent"),
    *("ram_utilization_percent", "ram_used_gb", "on_cloud", "pue", "wue"),
)
_GIB = 1024**3


def codecarbon_csv(run: RunRecord) -> bytes:
    """Return the heading and one row for the run."""
    return _codecarbon_file(CODECARBON_COLUMNS, [_codecarbon_row(run)])


def codecarbon_joined(before: bytes, new: bytes) -> bytes:
    """Return the file ``before`` with the row of ``new`` appended; it replaces a row of its run.

    The file keeps the order of its columns.

    Raises:
        ValueError: the file has other columns.
    """
    reader = csv.DictReader(io.StringIO(before.decode("utf-8-sig", "replace"), newline=""))
    columns = tuple(reader.fieldnames or ())
    if sorted(columns) != sorted(CODECARBON_COLUMNS):
        raise ValueError(
            "the file exists and does not have the columns of CodeCarbon 3.3: choose another name"
        )
    (row,) = csv.DictReader(io.StringIO(new.decode(), newline=""))
    kept = [one for one in reader if one["run_id"] != row["run_id"]]
    return _codecarbon_file(columns, [*kept, row])


def _codecarbon_file(columns: tuple[str, ...], rows: list[dict[str, Any]]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def _codecarbon_row(run: RunRecord) -> dict[str, Any]:
    footprint, host, seconds = run.footprint, run.metadata.host, run.result.seconds
    gpus = Counter(one.name for one in run.devices if one.kind == "gpu")
    row: dict[str, Any] = {
        "timestamp": f"{run.end:%Y-%m-%dT%H:%M:%S}",
        "project_name": " ".join(run.metadata.command) or "training",
        "run_id": run.id,
        "duration": seconds,
        "emissions": footprint.gco2eq / 1000,
        "emissions_rate": footprint.gco2eq / 1000 / seconds if seconds > 0 else math.nan,
        "energy_consumed": footprint.kwh,
        "country_name": (footprint.location and footprint.location.name)
        or footprint.intensity.name,
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
    return {key: _codecarbon_cell(value) for key, value in row.items()}


def _codecarbon_cell(value: object) -> object:
    if isinstance(value, str):
        return csv_text(value)
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else value


def _kwh(run: RunRecord, kind: str) -> float:
    """Return the electricity of all devices of a kind with PUE, kWh; NaN if unknown."""
    found = (one.energy.joules for one in run.devices if one.kind == kind)
    known = [joules for joules in found if not math.isnan(joules)]
    return math.fsum(known) * run.footprint.pue / JOULES_PER_KWH if known else math.nan
