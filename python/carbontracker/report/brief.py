"""Values of a run in one line: for a terminal, and as the ``repr`` of each value.

The classes look these functions up by name: they know no view.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from carbontracker.report.formatting import (
    UNKNOWN,
    clean,
    duration,
    is_known,
    percent,
    plain,
    quantity,
    ranged,
    rounded,
)

if TYPE_CHECKING:
    from carbontracker.carbon.footprint import Footprint
    from carbontracker.energy.energy import Energy
    from carbontracker.model.epoch import Epoch
    from carbontracker.model.measurement import Measurement
    from carbontracker.model.prediction import Forecast, Prediction
    from carbontracker.model.result import Result
    from carbontracker.planning.estimate import Estimate

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
    figure = value.intensity.gco2eq_per_kwh
    year = f" {value.intensity.year}" if value.intensity.year else ""
    name = f" ({clean(value.intensity.name, _MAX_NAME)}{year})" if value.intensity.name else ""
    at = f"{plain(figure)} gCO2eq/kWh{name}" if is_known(figure) else "intensity unknown"
    return f"<Footprint {cost(value)}, PUE {value.pue:g}, {at}>"


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


def prediction(value: Prediction) -> str:
    """Return the repr of a prediction."""
    energy = ranged(value.joules, *value.joules_95, "J")
    return f"<Prediction {_after(value)}: {_predicted_time(value)}, {energy} without PUE>"


def forecast(value: Forecast) -> str:
    """Return the repr of a forecast."""
    low, high = value.kwh_95
    electricity = ranged(1000 * value.footprint.kwh, 1000 * low, 1000 * high, "Wh")
    grams = ranged(value.footprint.gco2eq, *value.gco2eq_95, "g")
    when = _after(value.prediction)
    return f"<Forecast {when}: {_predicted_time(value.prediction)}, {electricity}, {grams} CO2eq>"


def estimate(value: Estimate) -> str:
    """Return the repr of an estimate."""
    electricity, grams = estimated(value)
    return f"<Estimate {value.count} x {value.accelerator.model}: {electricity}, {grams} CO2eq>"


def estimated(value: Estimate) -> tuple[str, str]:
    """Return electricity with PUE and emissions of an estimate, each with its range."""
    return ranged(*value.kwh.times(1000.0), "Wh"), ranged(*value.gco2eq, "g")


def window(name: str, seconds: float, value: Energy) -> str:
    """Return the repr of a window that has begun."""
    return f"<Window {name!r}: {duration(seconds)}, {_energy(value)}>"


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
