"""The metrics of a run, with name, unit and labels: one list for all exporters."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import carbontracker
from carbontracker.model.measurement import GPU
from carbontracker.model.work import FLOPS, SAMPLES, TOKENS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from carbontracker.model.device import Device
    from carbontracker.model.live_status import LiveStatus
    from carbontracker.model.prediction import Forecast
    from carbontracker.training.live_status import StatusReader
    from carbontracker.training.run import Run

    Labels = tuple[tuple[str, str], ...]
    Point = tuple[Labels, float]


@dataclass(frozen=True)
class Metric:
    """One metric, with a point for each set of labels."""

    name: str
    """Words separated by dots, without the unit: ``reading.rate``. Each exporter adds the prefix
    and suffixes of its format."""
    unit: str
    """Base unit in full, ``joules``; empty for a plain count."""
    is_counter: bool
    """Its value never decreases."""
    help: str
    points: Callable[[LiveStatus], Iterator[Point]]


def _labels(device: Device) -> Labels:
    of_gpu = {"uuid": device.uuid, "model": device.name} if device.kind == GPU else {}
    known = tuple((name, text) for name, text in of_gpu.items() if text)
    return (("device", device.id), ("kind", device.kind), *known)


def _by_source(device: Device, total: float) -> Iterator[Point]:
    """Split the total of a device by the quality of its energy. The parts add up to ``total``."""
    energy = device.energy
    modelled = energy.modelled_joules
    share = modelled / energy.joules if energy.joules > 0 else float(device.quality == "modelled")
    if device.quality != "modelled":
        yield (*_labels(device), ("source", device.quality)), total * (1.0 - share)
    if device.quality == "modelled" or share > 0:
        yield (*_labels(device), ("source", "modelled")), total * share


def _energy(status: LiveStatus) -> Iterator[Point]:
    for device in status.devices:
        yield from _by_source(device, device.energy.joules)


def _grams(status: LiveStatus) -> Iterator[Point]:
    for device in status.devices:
        yield from _by_source(device, device.gco2eq)


def _power(status: LiveStatus) -> Iterator[Point]:
    for device in status.devices:
        yield (*_labels(device), ("source", device.quality)), device.watts


def _errors(status: LiveStatus) -> Iterator[Point]:
    for device in status.devices:
        yield _labels(device), device.energy.error_joules


def _coverage(status: LiveStatus) -> Iterator[Point]:
    for device in status.devices:
        yield _labels(device), device.energy.coverage


def _rates(status: LiveStatus) -> Iterator[Point]:
    for device in status.devices:
        yield _labels(device), device.readings_per_second


def _of_run(figure: Callable[[LiveStatus], float]) -> Callable[[LiveStatus], Iterator[Point]]:
    return lambda status: iter([((), figure(status))])


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
        _of_run(lambda status: status.footprint.pue),
    ),
    Metric(
        *("carbon.intensity", "grams_per_kwh", False),
        "Carbon intensity, gCO2eq/kWh; the mean since monitoring began.",
        _of_run(lambda status: status.footprint.intensity.gco2eq_per_kwh),
    ),
    Metric(
        *("running", "seconds", True),
        "Time since monitoring began.",
        _of_run(lambda status: status.seconds),
    ),
    Metric(
        *("sampling.cpu", "seconds", True),
        "CPU time that sampling has taken.",
        _of_run(lambda status: status.tracker_cpu_seconds),
    ),
)
"""The metrics of every run."""


def training_metrics(run: Run) -> tuple[Metric, ...]:
    """Return the further metrics of a training: its epochs and its prediction."""

    def predicted(figure: Callable[[Forecast], float]) -> Callable[[LiveStatus], Iterator[Point]]:
        def points(_: LiveStatus) -> Iterator[Point]:
            if run.forecast is not None:
                yield (), figure(run.forecast)

        return points

    def counted(unit: str) -> Callable[[LiveStatus], Iterator[Point]]:
        return _of_run(lambda _: getattr(run.work_so_far, unit))

    def each(unit: str) -> Callable[[LiveStatus], Iterator[Point]]:
        def points(_: LiveStatus) -> Iterator[Point]:
            # Of one rank of several the work is its own, and the energy that of its machine.
            if not run.launch.is_rank_of_training:
                yield (), run.spent().joules_per(unit).value

        return points

    return (
        Metric("epochs", "", True, "Epochs that have ended.", _of_run(lambda _: run.epochs_done)),
        *(
            Metric(unit, "", True, f"{what} that this process has counted.", counted(unit))
            for unit, what in (
                (TOKENS, "Tokens"),
                (SAMPLES, "Samples"),
                (FLOPS, "Floating point operations"),
            )
        ),
        Metric(
            *("energy.per.token", "joules", False),
            "Energy for each token since the first epoch began, without PUE.",
            each(TOKENS),
        ),
        Metric(
            *("energy.per.sample", "joules", False),
            "Energy for each sample since the first epoch began, without PUE.",
            each(SAMPLES),
        ),
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
"""The longest that a scrape waits for the energy at its moment to become final. GPU sensors take
less, and the training does not wait for a scrape."""


class MetricsReader:
    """Reads the metrics of a run. Its counters never decrease.

    The newest joules of a slow sensor are provisional, so a later reading may be a little lower.
    The counter then keeps its value until the energy exceeds it again: Prometheus would take a
    decrease for a restart and count all of it twice.

    Args:
        status_reader: of the run.
        more: metrics besides those of every run.
        labels: of every point.
    """

    def __init__(
        self, status_reader: StatusReader, more: tuple[Metric, ...] = (), labels: Labels = ()
    ) -> None:
        self.metrics = METRICS + more
        self._of_run = labels
        self._reader = status_reader
        self._highest: dict[tuple[str, Labels], float] = {}
        self._lock = threading.Lock()

    def read(self) -> list[tuple[Metric, list[Point]]]:
        """Return all points that are known now, without unknown values: missing is not zero."""
        if not self._reader.here:
            return []  # a forked child: only its parent measures
        with self._lock:
            status = self._reader.take(settle_s=SETTLE_S)
            return [(metric, list(self._known(metric, status))) for metric in self.metrics]

    def _known(self, metric: Metric, status: LiveStatus) -> Iterator[Point]:
        for own, value in metric.points(status):
            labels = (*own, *self._of_run)
            if math.isnan(value):
                continue
            if not metric.is_counter:
                yield labels, value
                continue
            key = (metric.name, labels)
            self._highest[key] = max(value, self._highest.get(key, 0.0))
            yield labels, self._highest[key]


def labels_of(run: Run) -> Labels:
    """Return what tells a run and its job from others: they do not change while it goes on.

    The job is that of the scheduler: not called ``job``, which is Prometheus' own label.
    """
    found = {"run": run.record_id, "scheduler_job": next(iter(run.launch.ids), "")}
    return tuple((name, text) for name, text in found.items() if text)


def build_info() -> dict[str, str]:
    """Return the labels that identify the program."""
    return {"version": carbontracker.__version__}
