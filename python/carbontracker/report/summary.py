"""All totals of a run in one JSON object."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from carbontracker.records.writer import energy_dict, jsonable
from carbontracker.report import derived
from carbontracker.report.manyruns import row_of

if TYPE_CHECKING:
    from carbontracker.records.recorded import RecordedFootprint, RunRecord


def render(run: RunRecord) -> bytes:
    """Return the file; what is not known is null."""
    text = json.dumps(jsonable(totals(run)), indent=2, ensure_ascii=False, allow_nan=False)
    return text.encode(errors="replace") + b"\n"


def totals(run: RunRecord) -> dict[str, Any]:
    """Return the totals of a run, its epochs and windows, and where they come from."""
    origin, outcome = run.origin, run.outcome
    return row_of(run) | {
        "energy": energy_dict(run.energy),
        "footprint": _footprint(run.footprint),
        "epoch_energies": [
            {"index": one.index, "finished": one.finished, "seconds": one.seconds}
            | {"joules": one.energy.joules}
            | {"error_joules": one.energy.error_joules, "gco2eq": one.footprint.gco2eq}
            for one in run.epochs
        ],
        "windows": [
            {key: value for key, value in asdict(one).items() if key != "spans"}
            for one in derived.windows_of(run)
        ],
        "predictions": [
            {**{k: v for k, v in vars(one).items() if k != "intervals"}, **one.intervals}
            for one in derived.predictions_of(run)
        ],
        "tracker_cpu_seconds": outcome.tracker_cpu_seconds,
        "host_data": dict(origin.host),
        "sensors": [asdict(one) for one in origin.sensors],
        "missing": list(map(dict, origin.missing)),
        "warnings": list(run.warnings),
    }


def _footprint(footprint: RecordedFootprint) -> dict[str, Any]:
    return {
        "kwh": footprint.kwh,
        "error_kwh": footprint.error_kwh,
        "gco2eq": footprint.gco2eq,
        "pue": footprint.pue,
        "intensity": dict(footprint.intensity),
        "location": dict(footprint.location),
    }
