"""Live figures as text: the table of ``carbontracker top`` and the progress line."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from carbontracker.constants import JOULES_PER_KWH
from carbontracker.json_values import jsonable
from carbontracker.model.device import Device, hardware_name
from carbontracker.model.live_status import LiveStatus
from carbontracker.report.brief import cost
from carbontracker.report.console_text import timestring
from carbontracker.report.formatting import (
    DASH,
    MAX_LINE,
    aligned,
    clean,
    compact,
    is_known,
    number_column,
)
from carbontracker.report.work import work_figures, work_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from carbontracker.model.measurement import Measurement
    from carbontracker.records.run_record import RunRecord

HOUR_S = 3600.0
JOULES_PER_WH = 3600.0
SILENT_SPACINGS = 3
"""Longest spacings of writing after which a run that has written nothing does not go on."""


@dataclass(frozen=True)
class View:
    """Everything that ``top`` shows at one moment."""

    heading: str
    status: LiveStatus
    forecast: dict[str, Any]
    """Of a training the prediction; else the cost of an hour at the present power."""
    notes: tuple[str, ...] = ()
    done: Measurement | None = None
    """Of a training: its epochs so far, with the work that was counted."""
    goes_on: bool = True
    """False if the run has ended, so that the view will not change."""


def view_of_machine(status: LiveStatus, processor: str = "") -> View:
    """Return the view of the machine that this process samples.

    Args:
        status: the status now.
        processor: name of the machine's processor.
    """
    devices = (
        replace(one, name=hardware_name(one.kind, one.name, processor)) for one in status.devices
    )
    status = replace(status, devices=tuple(devices))
    footprint = status.footprint
    hour = {
        "kwh_per_hour": (kwh := status.watts * HOUR_S / JOULES_PER_KWH * footprint.pue),
        "gco2eq_per_hour": kwh * footprint.intensity.gco2eq_per_kwh,
    }
    notes = (
        () if status.devices else ("nothing can be read here: `carbontracker sensors` says why",)
    )
    return View("this machine", status, hour, notes)


def view_of_run(run: RunRecord, now_s: float, watts_now: dict[str, float] | None = None) -> View:
    """Return the view of a run as recorded so far.

    Args:
        run: as read from its record.
        now_s: time since its start, s.
        watts_now: power by device, W, as this process measures it beside the run; without it, the
            mean power of the record's last interval is shown.
    """
    simulated = {sensor.id for sensor in run.metadata.sensors if sensor.source == "simulated"}
    ids = list(run.energy.by_device or run.series.joules)
    measured = watts_now or {}
    beside = {name: measured[name] for name in ids if name in measured and name not in simulated}
    silent = _is_silent(run, now_s)
    watts = {} if silent else {**_last_watts(run), **beside}
    status = LiveStatus(
        run.result.seconds if run.complete else _seen_s(run) if silent else now_s,
        run.energy,
        run.footprint,
        tuple(replace(run.device(name), watts=watts.get(name, math.nan)) for name in ids),
        run.result.tracker_cpu_seconds,
        final=run.complete,
    )
    what = run.metadata.program or "training"
    heading, notes = f"{run.id} {what}, {run.state}", tuple(_notes(run, now_s, beside))
    forecast = _forecast(run)
    if silent:
        forecast.pop("seconds_left", None)
    goes_on = not (run.complete or silent)
    return View(heading, status, forecast, notes, run.divisible, goes_on=goes_on)


def _seen_s(run: RunRecord) -> float:
    """Return the time from the start of a run to the last event of its record, s."""
    return (run.last_seen - run.started).total_seconds()


def _is_silent(run: RunRecord, now_s: float) -> bool:
    """Return whether a run without an end has not written for so long that it cannot go on.

    Of a run on another machine, nothing else tells.
    """
    from carbontracker.records.series import MAX_WRITE_SPACING_S

    overdue_s = now_s - _seen_s(run) - SILENT_SPACINGS * MAX_WRITE_SPACING_S
    return not run.complete and not run.running and overdue_s > 0


def _last_watts(run: RunRecord) -> dict[str, float]:
    if run.complete or len(run.series) < 2:
        return {}
    return {name: run.series.power(name)[1][-1] for name in run.series.joules}


def _forecast(run: RunRecord) -> dict[str, Any]:
    finished = [epoch.seconds for epoch in run.epochs if epoch.finished]
    done = run.result.epochs_done
    data: dict[str, Any] = {"epochs_done": done, "epochs_planned": run.planned_epochs}
    if run.metadata.command:
        return {}
    if run.forecasts:
        newest = run.forecasts[-1]
        data |= {
            "seconds": newest.prediction.seconds,
            "kwh": newest.footprint.kwh,
            "gco2eq": newest.footprint.gco2eq,
        }
    if run.planned_epochs and finished and done and not run.complete:
        each_s = math.fsum(finished) / done
        open_s = math.fsum(epoch.seconds for epoch in run.epochs if not epoch.finished)
        data["seconds_left"] = max(0.0, (run.planned_epochs - done) * each_s - open_s)
    return data


def _notes(run: RunRecord, now_s: float, beside: dict[str, float]) -> Iterator[str]:
    if not run.complete:
        ago_s = now_s - _seen_s(run)
        yield f"joules and grams as recorded {timestring(max(0.0, ago_s))} ago"
    if beside:
        yield "power as measured now, beside the run"
    if run.state == "incomplete":
        yield run.why_incomplete
    yield from run.notes


def table(view: View) -> str:
    """Return the view as a table, without control characters."""
    status, footprint = view.status, view.status.footprint
    rows = list(zip(*device_columns((*status.devices, total_of(status))).values(), strict=True))
    lines = [f"carbontracker: {view.heading}, {timestring(status.seconds)}"]
    lines += aligned(rows, right=range(1, 6))
    per_kwh = compact(footprint.intensity.gco2eq_per_kwh)
    lines.append(f"{per_kwh} gCO2eq/kWh, PUE {compact(footprint.pue)} in CO2eq")
    lines += [*forecast_lines(view.forecast), *work_lines(view), *view.notes]
    return "\n".join(clean(line, MAX_LINE) for line in lines)


def total_of(status: LiveStatus) -> Device:
    """Return all devices as one, for the last row."""
    energy, grams = status.energy, status.footprint.gco2eq
    return Device("total", "", "", "", energy.quality, energy, grams, status.watts, math.nan)


def device_columns(devices: Sequence[Device], energy_unit: str = "J") -> dict[str, list[str]]:
    """Return the columns of the table by name, each with its heading and one unit.

    Args:
        devices: one for each row; the total is the last one.
        energy_unit: ``J`` or ``Wh``.
    """
    size = JOULES_PER_WH if energy_unit == "Wh" else 1.0
    joules = [(one.energy.joules, one.energy.error_joules) for one in devices]
    energies, errors = zip(*joules, strict=True)
    numbers = {
        "power": ([one.watts for one in devices], "W"),
        "energy": ([one / size for one in energies], energy_unit),
        "error": ([one / size for one in errors], energy_unit),
        "CO2eq": ([one.gco2eq for one in devices], "g"),
        "readings/s": ([one.readings_per_second for one in devices], ""),
    }
    return {
        "device": ["device", *(one.id for one in devices)],
        **{name: number_column(name, *column) for name, column in numbers.items()},
        "quality": ["quality", *(one.quality or DASH for one in devices)],
        "name": ["name", *(one.name for one in devices)],
    }


def forecast_lines(forecast: dict[str, Any]) -> Iterator[str]:
    """Yield the prediction of a training, or the cost of an hour, in words."""
    if is_known(forecast.get("kwh_per_hour", math.nan)):
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


def work_lines(view: View) -> list[str]:
    """Return the energy for units of work in a line; an empty list without counted work."""
    line = "" if view.done is None else work_line(view.done)
    return [line] if line else []


def as_json(view: View) -> dict[str, Any]:
    """Return the view as JSON-ready values; an unknown value is None."""

    def values(device: Device) -> dict[str, Any]:
        return {
            "quality": device.quality or DASH,
            "watts": device.watts,
            "joules": device.energy.joules,
            "error_joules": device.energy.error_joules,
            "gco2eq": device.gco2eq,
            "readings_per_second": device.readings_per_second,
        }

    status = view.status
    data = {
        "what": view.heading,
        "seconds": status.seconds,
        "devices": {one.id: values(one) | {"name": one.name} for one in status.devices},
        "total": values(total_of(status)),
        "pue": status.footprint.pue,
        "gco2eq_per_kwh": status.footprint.intensity.gco2eq_per_kwh,
        "forecast": view.forecast,
        **({} if view.done is None else {"work": work_figures(view.done)}),
        "notes": list(view.notes),
    }
    found = jsonable(data)
    assert isinstance(found, dict)
    return found


def training_line(status: LiveStatus, done: str, seconds_left: float | None) -> str:
    """Return the progress of a training in one line; ``done`` is how far it is, in words."""
    left = "" if seconds_left is None else f", {timestring(seconds_left)} to go"
    return (
        f"carbontracker: {done}, {timestring(status.seconds)}{left}, "
        f"{compact(status.watts, 'W')}, {cost(status.footprint)}"
    )
