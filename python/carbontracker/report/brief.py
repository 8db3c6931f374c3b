"""Values of a run in one line: for a terminal, and as the ``repr`` of each value.

The classes look these functions up by name: they know no view.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from carbontracker.report.formatting import (
    UNKNOWN,
    clean,
    cut,
    duration,
    is_known,
    percent,
    plain,
    quantity,
    ranged,
    rounded,
)
from carbontracker.times import iso_utc

if TYPE_CHECKING:
    from carbontracker.carbon.footprint import Footprint, Slot
    from carbontracker.energy.energy import Energy
    from carbontracker.energy.sensors import AvailableSensor, Sensors, UnavailableSensor
    from carbontracker.intensity.base import Intensity
    from carbontracker.model.device import Device
    from carbontracker.model.epoch import Epoch
    from carbontracker.model.measurement import Measurement
    from carbontracker.model.prediction import Forecast, Prediction
    from carbontracker.model.result import Result
    from carbontracker.model.run_metadata import RunMetadata
    from carbontracker.planning.estimate import Estimate
    from carbontracker.records.aggregate import Total
    from carbontracker.records.run_record import RunRecord

_COMPLETE = 0.9995
"""A coverage from which the energy counts as known."""
_MAX_NAME = 60
MIN_COMPARED_G = 1.0
"""Emissions from which on an everyday comparison says something, gCO2eq."""


def cost(footprint: Footprint) -> str:
    """Return electricity with its error, and emissions: ``2.0 ± 1.0 mWh, 0.92 mg CO2eq``."""
    if not is_known(footprint.kwh):
        return UNKNOWN
    electricity = quantity(1000 * footprint.kwh, "Wh", 1000 * footprint.error_kwh)
    if not is_known(footprint.gco2eq):
        return f"{electricity}, emissions unknown"
    return f"{electricity}, {rounded(footprint.gco2eq, 'g', footprint.error_gco2eq)} CO2eq"


def cost_line(measured: Measurement) -> str:
    """Return what a run has cost, for a terminal; with a comparison from 1 g of CO2eq on."""
    footprint = measured.footprint
    compared = footprint.equivalents[:1] if footprint.gco2eq >= MIN_COMPARED_G else []
    equal = "".join(f", as {plain(one.value, 3)} {one.name}" for one in compared)
    return f"{cost(footprint)} in {duration(measured.seconds)}{equal}"


def joules(energy: Energy) -> str:
    """Return an energy with its 95 % half-width: ``7.2 ± 3.1 J``."""
    return quantity(energy.joules, "J", energy.error_joules)


def energy(value: Energy) -> str:
    """Return the repr of an energy."""
    return f"<Energy {_energy(value)}>"


def footprint(value: Footprint) -> str:
    """Return the repr of a footprint."""
    name = _zone(value.intensity)
    at = _figure(value.intensity) + (f" ({name})" if value.intensity.name else "")
    return f"<Footprint {cost(value)}, PUE {value.pue:g}, {at}>"


def slot(value: Slot) -> str:
    """Return the repr of a slot."""
    times = f"{iso_utc(value.start)} for {duration(_seconds(value))}"
    return f"<Slot {times}: {quantity(value.joules, 'J')}, {_figure(value.intensity)}>"


def intensity(value: Intensity) -> str:
    """Return the repr of a carbon intensity."""
    signal = "" if value.signal == "average" else f", {value.signal}"
    kind = f", {value.kind}, {value.scope}" if is_known(value.gco2eq_per_kwh) else ""
    return f"<Intensity {_zone(value)}: {_figure(value)}{kind}{signal}>"


def measurement(value: Measurement) -> str:
    """Return the repr of a measurement."""
    return f"<{type(value).__name__} {_cost(value)}{'' if value.final else ', provisional'}>"


def epoch(value: Epoch) -> str:
    """Return the repr of an epoch."""
    more = ("" if value.finished else ", cut short") + ("" if value.final else ", provisional")
    return f"<Epoch {value.index}: {_cost(value)}{more}>"


def result(value: Result) -> str:
    """Return the repr of a result."""
    epochs = value.finished_epochs
    what = f"{epochs} epoch{'' if epochs == 1 else 's'}: "
    if value.exit_code is not None:
        what = f"exit code {value.exit_code}: "
    return f"<Result {what}{_cost(value)}{'' if value.final else ', provisional'}>"


def tracker(done: int, planned: float, value: Result | None, *, ended: bool) -> str:
    """Return the repr of a tracker.

    Args:
        done: the number of epochs that have begun.
        planned: the number of epochs; 0 if it is not known.
        value: what they have cost; None before the first one has ended.
        ended: monitoring has ended, or could not begin.
    """
    if value is not None:
        done = value.finished_epochs
    of = f" of {planned:g}" if planned else ""
    epochs = f"epoch{'' if (planned or done) == 1 else 's'}"
    figures = f": {_cost(value)}" if value is not None else ""
    state = ", ended" if ended else ", monitoring" if done or figures else ", not begun"
    return f"<CarbonTracker {done}{of} {epochs}{figures}{state}>"


def run_record(value: RunRecord) -> str:
    """Return the repr of a recorded run."""
    what = clean(value.metadata.program or "training", _MAX_NAME)
    return f"<RunRecord {value.id} {what}, {value.state}: {_cost(value.result)}>"


def run_metadata(value: RunMetadata) -> str:
    """Return the repr of what a record knows of its run."""
    what = clean(value.program or "training", _MAX_NAME)
    version, host = clean(value.version, _MAX_NAME), clean(str(value.host.get("name", "")), 60)
    return f"<RunMetadata {what}, {len(value.sensors)} sensors, host {host!r}, version {version}>"


def device(value: Device) -> str:
    """Return the repr of a device."""
    name = f" {clean(value.name, _MAX_NAME)}" if value.name else ""
    return f"<Device {value.id}{name}: {quantity(value.watts, 'W')}, {_energy(value.energy)}>"


def total(value: Total) -> str:
    """Return the repr of a total of runs."""
    count = value.runs + value.log_trainings
    electricity = quantity(1000 * value.kwh, "Wh", 1000 * value.error_kwh)
    left = sum(value.left_out.values())
    more = f", {left} left out" if left else ""
    runs = f"{count} run{'' if count == 1 else 's'}"
    return f"<Total {runs}: {electricity}, {quantity(value.gco2eq, 'g')} CO2eq{more}>"


def sensors(value: Sensors) -> str:
    """Return the repr of the sensors of a machine."""
    ids = ", ".join(one.id for one in value.readable if one.counted)
    read = f"{len(value.readable)} readable" + (f" ({cut(ids, _MAX_NAME)})" if ids else "")
    failed = f", {len(value.failed)} failed" if value.failed else ""
    return f"<Sensors {read}, {len(value.absent)} absent{failed}>"


def available_sensor(value: AvailableSensor) -> str:
    """Return the repr of a sensor that is read."""
    watts = "" if value.watts is None else f", {quantity(value.watts, 'W')}"
    name = f" {clean(value.name, _MAX_NAME)}" if value.name else ""
    counted = "" if value.counted else ", not counted"
    return f"<AvailableSensor {value.id}{name}: {value.source}, {value.quality}{watts}{counted}>"


def unavailable_sensor(value: UnavailableSensor) -> str:
    """Return the repr of a sensor that is not read."""
    what, reason = clean(value.what, _MAX_NAME), clean(value.reason, 2 * _MAX_NAME)
    return f"<UnavailableSensor {value.source} ({what}): {reason}>"


def prediction(value: Prediction) -> str:
    """Return the repr of a prediction."""
    energy = ranged(value.joules, *value.joules_95, "J")
    return f"<Prediction {_after(value)}: {_predicted_time(value)}, {energy} without PUE>"


def forecast(value: Forecast) -> str:
    """Return the repr of a forecast."""
    return f"<Forecast {forecast_text(value)}>"


def forecast_text(value: Forecast) -> str:
    """Return when a forecast was made, and its figures with their 95 % intervals."""
    low, high = value.kwh_95
    electricity = ranged(1000 * value.footprint.kwh, 1000 * low, 1000 * high, "Wh")
    grams = ranged(value.footprint.gco2eq, *value.gco2eq_95, "g")
    when = _after(value.prediction)
    return f"{when}: {_predicted_time(value.prediction)}, {electricity}, {grams} CO2eq"


def estimate(value: Estimate) -> str:
    """Return the repr of an estimate."""
    electricity, grams = estimated(value)
    return f"<Estimate {value.count} x {value.accelerator.model}: {electricity}, {grams} CO2eq>"


def estimated(value: Estimate) -> tuple[str, str]:
    """Return electricity with PUE and emissions of an estimate, each with its range."""
    return ranged(*value.kwh.times(1000.0), "Wh"), ranged(*value.gco2eq, "g")


def window(name: str, seconds: float = 0.0, value: Energy | None = None) -> str:
    """Return the repr of a window; without energy, of one that has not begun."""
    figures = ", not begun" if value is None else f": {duration(seconds)}, {_energy(value)}"
    return f"<Window {clean(name, _MAX_NAME)!r}{figures}>"


def _zone(value: Intensity) -> str:
    year = f" {value.year}" if value.year else ""
    return clean(value.name or value.zone, _MAX_NAME) + year


def _figure(value: Intensity) -> str:
    figure = value.gco2eq_per_kwh
    return f"{plain(figure)} gCO2eq/kWh" if is_known(figure) else "intensity unknown"


def _seconds(value: Slot) -> float:
    return (value.end - value.start).total_seconds()


def _energy(value: Energy) -> str:
    if not is_known(value.joules):
        return UNKNOWN
    known = percent(min(value.coverage, 0.999), ".3g")
    gap = f", known for {known}" if value.coverage < _COMPLETE else ""
    return f"{joules(value)}, {value.quality}{gap}"


def _cost(value: Measurement) -> str:
    known = f", {value.energy.quality}" if is_known(value.energy.joules) else ""
    return f"{duration(value.seconds)}, {cost(value.footprint)}{known}"


def _after(value: Prediction) -> str:
    return f"after {value.after_epochs:.3g} of {value.epochs:g} epochs"


def _predicted_time(value: Prediction) -> str:
    low, high = value.seconds_95
    span = f" [{duration(low)} to {duration(high)}]" if is_known(low) and low < high else ""
    return f"{duration(value.seconds)}{span}"
