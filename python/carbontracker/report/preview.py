"""Plain text for what was said before: an estimate, and a prediction beside the outcome."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from carbontracker.legacy.console_text import timestring

if TYPE_CHECKING:
    from carbontracker.carbon.equivalents import Equivalent
    from carbontracker.model.prediction_error import Comparison
    from carbontracker.planning.estimate import Assumption, Estimate, Range
    from carbontracker.training.run import Forecast

_LABEL_WIDTH = 14


def estimate_text(found: Estimate) -> str:
    """Return an estimate for people."""
    one = found.accelerator
    heading = f"Estimate before training: {found.count} x {one.model}, {one.tdp_watts:g} W each"
    lines = [
        heading,
        *_siblings(found),
        *([] if math.isnan(found.flops) else [_row("Work", f"{found.flops:.4g} operations")]),
        _row("GPU-hours", _ranged(found.gpu_hours, 1)),
        _row("Time", f"{_ranged(found.seconds.times(1 / 86_400.0), 2)} days"),
        _row("Energy", f"{_ranged(found.kwh, 2)} kWh, PUE {found.footprint.pue:g} included"),
        _row("CO2eq", f"{_ranged(found.gco2eq.times(1e-3), 3)} kg, {_price(found)}"),
        "Equivalent to:",
        *(f"  {_value(each)} {each.name}" for each in found.footprint.equivalents),
        *(f"  {_value(each)} {each.unit}, {each.name}" for each in found.further_equivalents),
        "Assumed:",
        *(f"  {_assumption(each)}" for each in found.assumptions),
        "Brackets: every assumption at its own end.",
        f"Board power and peak: {one.source}; {one.evidence}.",
    ]
    return "\n".join(lines)


def interval_line(forecast: Forecast) -> str:
    """Return how sure a prediction is; nothing where there is nothing left to predict."""
    prediction = forecast.prediction
    if prediction.after_epochs >= prediction.epochs:
        return ""
    low, high = map(timestring, prediction.seconds_95)
    parts = [f"time {low} to {high}"]
    for name, (least, most), unit in (
        ("energy", forecast.kwh_95, "kWh"),
        ("CO2eq", forecast.gco2eq_95, "g"),
    ):
        if not math.isnan(least):
            parts.append(f"{name} {least:.3g} to {most:.3g} {unit}")
    return f"Predicted after {prediction.after_epochs:.3g} epoch(s), 95 % sure: {', '.join(parts)}."


def comparison_line(compared: Comparison) -> str:
    """Return how far a prediction was from what the training has cost."""
    prediction, errors = compared.forecast.prediction, compared.errors()
    names = {"seconds": "time", "kwh": "energy", "gco2eq": "CO2eq"}
    parts = [
        f"{name} {100.0 * errors[key]:+.1f} %"
        for key, name in names.items()
        if not math.isnan(errors[key])
    ]
    when = f"after {prediction.after_epochs:.3g} epoch(s)"
    return f"Predicted {when}, beside the actual: {', '.join(parts) or 'nothing was measured'}."


def _row(label: str, text: str) -> str:
    return f"  {label:<{_LABEL_WIDTH}}{text}"


def _siblings(found: Estimate) -> list[str]:
    others = found.accelerator.siblings
    return [f"  (the name also fits {', '.join(others)})"] if others else []


def _ranged(range_: Range, digits: int) -> str:
    text = f"{range_.value:,.{digits}f}"
    if range_.low == range_.high:
        return text
    return f"{text} [{range_.low:,.{digits}f} to {range_.high:,.{digits}f}]"


def _price(found: Estimate) -> str:
    intensity = found.footprint.intensity
    year = f" {intensity.year}" if intensity.year else ""
    where = f" ({intensity.name}{year})" if intensity.name else ""
    return f"{intensity.gco2eq_per_kwh:.2f} gCO2eq/kWh{where}"


def _value(each: Equivalent) -> str:
    return f"{each.value:,.0f}" if each.value >= 100 else f"{each.value:,.3g}"


def _assumption(each: Assumption) -> str:
    figure = f"{each.range.value:g}"
    if each.range.low != each.range.high:
        figure += f" [{each.range.low:g} to {each.range.high:g}]"
    return f"{each.name} {figure}: {each.meaning}; {each.source}"
