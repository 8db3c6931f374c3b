"""A row an epoch, as CSV: for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING, Any

from carbontracker.records.json_values import number
from carbontracker.records.reader import moment_at
from carbontracker.report import derived
from carbontracker.report.formatting import clean, csv_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carbontracker.energy.energy import Energy
    from carbontracker.records.recorded import RecordedFootprint, RunRecord

Value = str | int | float | bool | None


def render(run: RunRecord) -> bytes:
    """Return the file; what is not known is blank."""
    out = io.StringIO(newline="")
    columns = columns_of(run)
    writer = csv.writer(out)
    writer.writerow(map(csv_text, columns))
    writer.writerows([_cell(row.get(name)) for name in columns] for row in rows(run))
    return out.getvalue().encode()


def _cell(value: Value) -> Value:
    return csv_text(value) if isinstance(value, str) else value


def columns_of(run: RunRecord) -> dict[str, type]:
    """Return the columns in their order, and what they hold."""
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
    devices: dict[str, type] = {_column(one.id): figure for one in derived.devices_of(run)}
    return first | times | energy | footprint | devices


def _column(device: str) -> str:
    return f"{clean(device)} joules"


def rows(run: RunRecord) -> Iterator[dict[str, Value]]:
    """Yield the epochs, of a run without epochs the whole; None is what is not known."""
    for epoch in run.epochs:
        known = {"epoch": epoch.index, "finished": epoch.finished, "final": epoch.final}
        yield _row(run, (epoch.start_s, epoch.seconds), epoch.energy, epoch.footprint) | known
    if not run.epochs and run.origin.command:
        known = {"finished": run.complete, "final": run.complete}
        yield _row(run, (0.0, run.outcome.seconds), run.energy, run.footprint) | known


def _row(
    run: RunRecord, span: derived.Interval, energy: Energy, footprint: RecordedFootprint
) -> dict[str, Value]:
    start_s, seconds = span
    row: dict[str, Any] = {
        "run_id": run.id,
        "epoch": None,
        "start": moment_at(run, start_s).isoformat() if math.isfinite(start_s) else None,
        "start_s": start_s,
        "seconds": seconds,
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
        "gco2eq_per_kwh": number(footprint.intensity.get("gco2eq_per_kwh")),
        "pue": footprint.pue,
    }
    if energy.quality == "missing":
        row["modelled_joules"] = None
    parts = energy.by_device
    row |= {_column(one.id): None for one in derived.devices_of(run)}
    row |= {_column(name): part.joules for name, part in parts.items() if _column(name) in row}
    unknown = (key for key, value in row.items() if isinstance(value, float))
    return row | {key: None for key in unknown if not math.isfinite(row[key])}
