"""Energy and emissions for units of work, in words: the same in all views."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carbontracker.model.work import FLOPS, SAMPLES, TOKENS, UNITS
from carbontracker.planning.accelerators import peak_flops
from carbontracker.report.formatting import is_known, percent, plain, quantity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from carbontracker.model.measurement import Measurement

_MILLION = 1e6
_TERA = 1e12
"""Operations are shown by 1e12: the energy of a single one is some picojoules."""
SHOWN = {TOKENS: ("token", 1.0), SAMPLES: ("sample", 1.0), FLOPS: ("TFLOP", _TERA)}
"""What the energy is shown for, and how many of the unit that is."""


def joules_each(measured: Measurement, unit: str) -> str:
    """Return the energy for a token, a sample or 1e12 operations, with its error; empty if that
    is not known."""
    value, error = measured.joules_per(unit)
    count = SHOWN[unit][1]
    return quantity(value * count, "J", error * count) if is_known(value) else ""


def work_facts(measured: Measurement, gpus: Iterable[str] = ()) -> Iterator[tuple[str, str]]:
    """Yield a name and a text for each figure that is known.

    Args:
        measured: has counted work.
        gpus: names of its GPUs, of which the peak is looked up.
    """
    for unit, (name, _) in SHOWN.items():
        if each := joules_each(measured, unit):
            yield f"Energy per {name}", each
    for unit in (TOKENS, SAMPLES):
        grams = measured.gco2eq_per(unit, _MILLION)
        if is_known(grams.value):
            yield f"CO2eq per 1e6 {unit}", quantity(grams.value, "g", grams.error)
    for unit in (TOKENS, SAMPLES):
        if is_known(rate := measured.per_second(unit)):
            yield f"{unit.capitalize()} per second", plain(rate)
    if not measured.work:
        return
    if measured.gpu_hours > 0:
        yield "GPU-hours", plain(measured.gpu_hours)
    share = measured.flops_utilisation(peak_flops(gpus))
    if is_known(share):
        yield "Model FLOPs utilisation", f"{percent(share)} of the dense 16-bit peak"


def work_figures(measured: Measurement) -> dict[str, Any]:
    """Return what was counted, and the figures for its units, for JSON; what is unknown is left
    out."""
    found: dict[str, Any] = dict(measured.work.to_dict())
    for unit in UNITS:
        one = unit[:-1]
        (value, error), grams = measured.joules_per(unit), measured.gco2eq_per(unit)
        figures = {
            f"joules_per_{one}": value,
            f"error_joules_per_{one}": error,
            f"gco2eq_per_{one}": grams.value,
            f"{unit}_per_second": measured.per_second(unit),
        }
        found |= {key: figure for key, figure in figures.items() if is_known(figure)}
    if measured.work and is_known(measured.gpu_hours):
        found["gpu_hours"] = measured.gpu_hours
    return found


def work_line(measured: Measurement) -> str:
    """Return the energy for each unit and the rate in one line; empty without counted work."""
    parts = [
        f"{each}/{name}"
        for unit, (name, _) in SHOWN.items()
        if (each := joules_each(measured, unit))
    ]
    parts += [
        f"{plain(rate)} {unit}/s"
        for unit in (TOKENS, SAMPLES)
        if is_known(rate := measured.per_second(unit))
    ]
    return ", ".join(parts)
