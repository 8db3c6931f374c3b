"""The metrics of a run, each with its name, unit and labels: one list for every way out."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import carbontracker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from carbontracker.training.live_status import DeviceVitals, Pulse, Vitals
    from carbontracker.training.run import Forecast, Run

    Labels = tuple[tuple[str, str], ...]
    Point = tuple[Labels, float]


@dataclass(frozen=True)
class Metric:
    """One name with the values of all its label sets."""

    name: str
    """Words with dots between, without unit: ``energy``; the exporters add what is customary."""
    unit: str
    """Base unit in full, ``joules``; empty for none."""
    counter: bool
    """It only grows."""
    help: str
    points: Callable[[Vitals], Iterator[Point]]


def _device(device: DeviceVitals) -> Labels:
    return (("device", device.id), ("kind", device.kind))


def _by_source(device: DeviceVitals, whole: float) -> Iterator[Point]:
    """Share a figure of a device out to how its energy is known; the parts add up to it."""
    energy = device.energy
    modelled = energy.modelled_joules
    share = modelled / energy.joules if energy.joules > 0 else float(device.quality == "modelled")
    if device.quality != "modelled":
        yield (*_device(device), ("source", device.quality)), whole * (1.0 - share)
    if device.quality == "modelled" or share > 0:
        yield (*_device(device), ("source", "modelled")), whole * share


def _energy(vitals: Vitals) -> Iterator[Point]:
    for device in vitals.devices:
        yield from _by_source(device, device.energy.joules)


def _grams(vitals: Vitals) -> Iterator[Point]:
    for device in vitals.devices:
        yield from _by_source(device, device.gco2eq)


def _power(vitals: Vitals) -> Iterator[Point]:
    for device in vitals.devices:
        yield (*_device(device), ("source", device.quality)), device.watts


def _errors(vitals: Vitals) -> Iterator[Point]:
    for device in vitals.devices:
        yield _device(device), device.energy.error_joules


def _coverage(vitals: Vitals) -> Iterator[Point]:
    for device in vitals.devices:
        yield _device(device), device.energy.coverage


def _rates(vitals: Vitals) -> Iterator[Point]:
    for device in vitals.devices:
        yield _device(device), device.readings_per_second


def _vital(figure: Callable[[Vitals], float]) -> Callable[[Vitals], Iterator[Point]]:
    return lambda vitals: iter([((), figure(vitals))])


METRICS: tuple[Metric, ...] = (
    Metric(
        *("energy", "joules", True),
        "Energy of the device since monitoring began, without PUE.",
        _energy,
    ),
    Metric(
        *("power", "watts", False),
        "Mean power of the device over the last second, without PUE.",
        _power,
    ),
    Metric("co2eq", "grams", True, "Emissions of the device's energy, with PUE.", _grams),
    Metric("energy.error", "joules", False, "95 % half-width of the device's energy.", _errors),
    Metric("coverage", "ratio", False, "Share of the time whose energy is known.", _coverage),
    Metric(
        "reading.rate", "hertz", False, "Readings of the sensor per second, as achieved.", _rates
    ),
    Metric(
        *("pue", "ratio", False),
        "Power usage effectiveness that the emissions include.",
        _vital(lambda vitals: vitals.footprint.pue),
    ),
    Metric(
        *("carbon.intensity", "grams_per_kwh", False),
        "Carbon intensity, gCO2eq/kWh; the mean since monitoring began.",
        _vital(lambda vitals: vitals.footprint.intensity.gco2eq_per_kwh),
    ),
    Metric(
        *("running", "seconds", True),
        "Time since monitoring began.",
        _vital(lambda vitals: vitals.seconds),
    ),
    Metric(
        *("sampling.cpu", "seconds", True),
        "CPU time that sampling has taken.",
        _vital(lambda vitals: vitals.tracker_cpu_seconds),
    ),
)
"""Of every run."""


def training_metrics(run: Run) -> tuple[Metric, ...]:
    """Return what a training has besides: its epochs, and what is predicted for all of them."""

    def predicted(figure: Callable[[Forecast], float]) -> Callable[[Vitals], Iterator[Point]]:
        def points(_: Vitals) -> Iterator[Point]:
            if run.forecast is not None:
                yield (), figure(run.forecast)

        return points

    return (
        Metric("epochs", "", True, "Epochs that have ended.", _vital(lambda _: run.epochs_done)),
        Metric(
            *("predicted.energy", "joules", False),
            "Energy of the whole training as predicted, without PUE.",
            predicted(lambda forecast: forecast.prediction.joules),
        ),
        Metric(
            *("predicted.co2eq", "grams", False),
            "Emissions of the whole training as predicted, with PUE.",
            predicted(lambda forecast: forecast.footprint.gco2eq),
        ),
    )


SETTLE_S = 0.25
"""A scrape waits at most so long for the sensors to move past its moment: longer than those of GPUs
take, and nobody's training waits for it."""


class Gauge:
    """Reads the metrics of a run; its counters never go back.

    Should a slow sensor leave the newest joules provisional, a reading may take a little of them
    back: a counter then stands still until the truth has caught up, because a scraper would take a
    step back for a restart and count everything again.
    """

    def __init__(self, pulse: Pulse, more: tuple[Metric, ...] = ()) -> None:
        self.metrics = METRICS + more
        self._pulse = pulse
        self._highest: dict[tuple[str, Labels], float] = {}
        self._lock = threading.Lock()

    def read(self) -> list[tuple[Metric, list[Point]]]:
        """Return all points that are known now; missing is not zero, so it is left out."""
        if not self._pulse.here:
            return []  # a forked child: the figures are its parent's
        with self._lock:
            vitals = self._pulse.take(settle_s=SETTLE_S)
            return [(metric, list(self._known(metric, vitals))) for metric in self.metrics]

    def _known(self, metric: Metric, vitals: Vitals) -> Iterator[Point]:
        for labels, value in metric.points(vitals):
            if math.isnan(value):
                continue
            if not metric.counter:
                yield labels, value
                continue
            key = (metric.name, labels)
            self._highest[key] = max(value, self._highest.get(key, 0.0))
            yield labels, self._highest[key]


def build_info() -> dict[str, str]:
    """Return what says which program the figures come from."""
    return {"version": carbontracker.__version__}
