"""Live figures as text: the table of ``carbontracker top`` and the progress line."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carbontracker.constants import JOULES_PER_KWH
from carbontracker.json_values import jsonable, mapping, number
from carbontracker.report.console_text import timestring
from carbontracker.report.formatting import DASH, MAX_LINE, aligned, clean, compact

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from carbontracker.energy.energy import Energy
    from carbontracker.model.live_status import LiveStatus
    from carbontracker.records.run_record import RunRecord

HOUR_S = 3600.0


@dataclass(frozen=True)
class Row:
    """One device of the table; an unknown value is NaN."""

    id: str
    quality: str
    watts: float
    joules: float
    error_joules: float
    gco2eq: float
    readings_per_second: float
    name: str


@dataclass(frozen=True)
class View:
    """Everything that ``top`` shows at one moment."""

    heading: str
    seconds: float
    rows: tuple[Row, ...]
    total: Row
    pue: float
    gco2eq_per_kwh: float
    forecast: dict[str, Any]
    """Of a training the prediction; else the cost of an hour at the present power."""
    notes: tuple[str, ...] = ()
    goes_on: bool = True
    """False if the run has ended, so that the view will not change."""


def view_of_machine(status: LiveStatus) -> View:
    """Return the view of the machine that this process samples."""
    rows = tuple(
        Row(
            device.id,
            device.quality,
            device.watts,
            device.energy.joules,
            device.energy.error_joules,
            device.gco2eq,
            device.readings_per_second,
            device.name,
        )
        for device in status.devices
    )
    energy, footprint = status.energy, status.footprint
    total = _total(rows, energy, footprint.gco2eq)
    per_kwh = footprint.intensity.gco2eq_per_kwh
    hour = {
        "kwh_per_hour": (kwh := status.watts * HOUR_S / JOULES_PER_KWH * footprint.pue),
        "gco2eq_per_hour": kwh * per_kwh,
    }
    notes = () if rows else ("nothing can be read here: `carbontracker sensors` says why",)
    return View("this machine", status.seconds, rows, total, footprint.pue, per_kwh, hour, notes)


def view_of_run(run: RunRecord, now_s: float, watts_now: dict[str, float] | None = None) -> View:
    """Return the view of a run as recorded so far.

    Args:
        run: as read from its record.
        now_s: time since its start, s.
        watts_now: power by device, W, as this process measures it beside the run; without it, the
            mean power of the record's last interval is shown.
    """
    sensors = {sensor.id: sensor for sensor in run.metadata.sensors}
    simulated = {sensor.id for sensor in run.metadata.sensors if sensor.source == "simulated"}
    beside = {name: w for name, w in (watts_now or {}).items() if name not in simulated}
    watts = {**_last_watts(run), **beside}
    joules = run.energy.joules
    grams_per_joule = run.footprint.gco2eq / joules if joules > 0 else math.nan
    ids = list(run.energy.by_device or run.series.joules)
    rates = mapping(run.finish.get("readings_per_second"))
    rows = []
    for name in ids:
        part, sensor = run.energy.by_device.get(name), sensors.get(name)
        known = part.joules if part is not None else math.nan
        rows.append(
            Row(
                name,
                sensor.quality if sensor else DASH,
                watts.get(name, math.nan),
                known,
                part.error_joules if part is not None else math.nan,
                known * grams_per_joule,
                number(rates.get(name)),
                sensor.name if sensor else "",
            )
        )
    what = " ".join(run.metadata.command) or "training"
    return View(
        f"{run.id} {what}, {run.state}",
        run.result.seconds if run.complete else now_s,
        tuple(rows),
        _total(rows, run.energy, run.footprint.gco2eq),
        run.footprint.pue,
        run.footprint.intensity.gco2eq_per_kwh,
        _forecast(run),
        tuple(_notes(run, now_s, beside)),
        goes_on=not run.complete,
    )


def _total(rows: Sequence[Row], energy: Energy, gco2eq: float) -> Row:
    known = [row.watts for row in rows if not math.isnan(row.watts)]
    watts = math.fsum(known) if known else math.nan
    figures = watts, energy.joules, energy.error_joules, gco2eq
    return Row("total", energy.quality, *figures, math.nan, "")


def _last_watts(run: RunRecord) -> dict[str, float]:
    if run.complete or len(run.series) < 2:
        return {}
    return {name: run.series.power(name)[1][-1] for name in run.series.joules}


def _forecast(run: RunRecord) -> dict[str, Any]:
    finished = [epoch.seconds for epoch in run.epochs if epoch.finished]
    data: dict[str, Any] = {"epochs_done": len(finished), "epochs_planned": run.planned_epochs}
    if run.metadata.command:
        return {}
    if run.forecasts:
        newest = run.forecasts[-1]
        data |= {
            "seconds": newest.prediction.seconds,
            "kwh": newest.footprint.kwh,
            "gco2eq": newest.footprint.gco2eq,
        }
    if run.planned_epochs and finished and not run.complete:
        each_s = math.fsum(finished) / len(finished)
        open_s = math.fsum(epoch.seconds for epoch in run.epochs if not epoch.finished)
        data["seconds_left"] = max(0.0, (run.planned_epochs - len(finished)) * each_s - open_s)
    return data


def _notes(run: RunRecord, now_s: float, beside: dict[str, float]) -> Iterator[str]:
    if not run.complete:
        ago_s = now_s - (run.last_seen - run.started).total_seconds()
        yield f"joules and grams as recorded {timestring(max(0.0, ago_s))} ago"
    if beside:
        yield "power as measured now, beside the run"
    if run.state == "incomplete":
        yield run.why_incomplete
    yield from run.notes


def table(view: View) -> str:
    """Return the view as a table, without control characters."""
    head = ("device", "power", "energy", "+/-", "CO2eq", "readings/s", "quality", "")
    rows = [head, *map(_cells, (*view.rows, view.total))]
    lines = [f"carbontracker: {view.heading}, {timestring(view.seconds)}"]
    lines += aligned(rows, right=range(1, 6))
    lines.append(f"{compact(view.gco2eq_per_kwh)} gCO2eq/kWh, PUE {compact(view.pue)} in CO2eq")
    lines += [*_forecast_lines(view.forecast), *view.notes]
    return "\n".join(clean(line, MAX_LINE) for line in lines)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.id,
        compact(row.watts, "W"),
        compact(row.joules, "J"),
        compact(row.error_joules, "J"),
        compact(row.gco2eq, "g"),
        compact(row.readings_per_second),
        row.quality,
        row.name,
    )


def _forecast_lines(forecast: dict[str, Any]) -> Iterator[str]:
    if "kwh_per_hour" in forecast:
        kwh, grams = forecast["kwh_per_hour"], forecast["gco2eq_per_hour"]
        each = f"{compact(kwh * 1000, 'Wh')} and {compact(grams, 'g')}"
        yield f"at this power {each} an hour"
    if "epochs_done" in forecast:
        left = forecast.get("seconds_left")
        rest = f", about {timestring(left)} to go" if left is not None else ""
        yield f"epoch {forecast['epochs_done']} of {forecast['epochs_planned'] or '?'}{rest}"
    if "kwh" in forecast:
        yield (
            f"predicted in all {compact(forecast['kwh'] * 1000, 'Wh')}, "
            f"{compact(forecast['gco2eq'], 'g')}, {timestring(forecast['seconds'])}"
        )


def as_json(view: View) -> dict[str, Any]:
    """Return the view as JSON-ready values; an unknown value is None."""

    def values(row: Row) -> dict[str, Any]:
        return {name: value for name, value in vars(row).items() if name not in ("id",)}

    data = {
        "what": view.heading,
        "seconds": view.seconds,
        "devices": {row.id: values(row) for row in view.rows},
        "total": {name: value for name, value in values(view.total).items() if name != "name"},
        "pue": view.pue,
        "gco2eq_per_kwh": view.gco2eq_per_kwh,
        "forecast": view.forecast,
        "notes": list(view.notes),
    }
    found = jsonable(data)
    assert isinstance(found, dict)
    return found


def training_line(status: LiveStatus, done: int, planned: float, seconds_left: float | None) -> str:
    """Return the progress of a training in one line."""
    left = "" if seconds_left is None else f", {timestring(seconds_left)} to go"
    energy = compact(status.energy.joules, "J")
    grams = compact(status.footprint.gco2eq, "g")
    return (
        f"carbontracker: epoch {done}/{planned}, {timestring(status.seconds)}{left}, "
        f"{compact(status.watts, 'W')}, {energy}, {grams} CO2eq"
    )
