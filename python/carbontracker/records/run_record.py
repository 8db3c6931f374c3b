"""A record as values: the run, its result, and its energy over time."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from importlib import import_module
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

from carbontracker.energy.energy import MISSING, Energy, add_devices, kind_of
from carbontracker.jobs.launch import Launch
from carbontracker.json_values import (
    MAX_SECONDS,
    is_moment,
    mapping,
    mappings,
    number,
    seconds_of,
    string,
)
from carbontracker.model.device import Device, gpu_uuid, hardware_name
from carbontracker.model.job import JOB
from carbontracker.model.result import Result
from carbontracker.model.run_ending import BUDGET, FAILED, FINISHED, KILLED, RUNNING
from carbontracker.model.window_totals import WindowTotals
from carbontracker.records.clocks import Anchor
from carbontracker.records.environment import is_running

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from carbontracker.carbon.footprint import Footprint
    from carbontracker.model.epoch import Epoch
    from carbontracker.model.prediction import Forecast
    from carbontracker.model.run_ending import RunEnding
    from carbontracker.model.run_metadata import RunMetadata

    Data = Mapping[str, Any]


SLOWEST_REFRESH_S = 0.1
"""The longest usual time between two values of a sensor, s: of NVML's counter on an A100
(``cpp/src/sources/nvidia/sensor_table.cpp``)."""


class Series:
    """Energy over time by device: cumulative joules E(t) since the run began, at moments t.

    Between two moments power is taken as constant, so any window's energy adds up to the whole.
    """

    def __init__(self) -> None:
        self.t_s: array[float] = array("d")
        """Seconds after the run began (n,), increasing."""
        self.joules: dict[str, array[float]] = {}
        """By device: J (n,), NaN where nothing is known."""
        self.began_ns: int | None = None
        """When the run began, ns of CLOCK_MONOTONIC; None if an older version did not say."""
        self.anchors: list[Anchor] = []
        """What that clock was in wall-clock time, read as each event was written."""

    def __len__(self) -> int:
        """Return the number of moments."""
        return len(self.t_s)

    @property
    def seconds(self) -> float:
        """Return how far it goes, s; NaN if it has no moments."""
        return self.t_s[-1] if self.t_s else math.nan

    def extend(self, event: Data) -> None:
        """Add the moments of an event; what it says again it knows better."""
        times, columns = event.get("t_s"), event.get("joules")
        if not isinstance(times, list) or not isinstance(columns, dict):
            return
        start_s = seconds_of(event.get("start_s"), 0.0)
        # Marks are whole nanoseconds; so is their sum, once it is rounded to them.
        moments = [round(start_s + t_s, 9) for t_s in _column(times)]
        known = {name: values for name, values in columns.items() if isinstance(values, list)}
        if not known or any(len(values) != len(moments) for values in known.values()):
            return
        if not all(abs(moment) <= MAX_SECONDS for moment in moments) or any(
            a >= b for a, b in pairwise(moments)
        ):
            return  # power is over time that passes
        self._note_clock(event, start_s)
        keep = bisect_left(self.t_s, moments[0]) if moments else len(self.t_s)
        del self.t_s[keep:]
        self.t_s.extend(moments)
        for name in {**self.joules, **known}:
            if name not in self.joules:  # else an array as long as the run, for each event
                self.joules[name] = array("d", [math.nan] * keep)
            column = self.joules[name]
            del column[keep:]
            column.extend(_column(known.get(name) or [None] * len(moments)))

    def _note_clock(self, event: Data, start_s: float) -> None:
        t0_ns, clock = event.get("t0_ns"), mapping(event.get("clock"))
        if is_moment(t0_ns):
            self.began_ns = t0_ns - round(start_s * 1e9)
        pair = [clock.get(name) for name in Anchor._fields]
        moments = [moment for moment in pair if is_moment(moment)]
        if len(moments) == len(pair):
            self.anchors.append(Anchor(*moments))

    def at(self, device: str, t_s: float) -> float:
        """Return E(t) of a device, J; NaN outside of what is known."""
        times, column = self.t_s, self.joules[device]
        after = bisect_left(times, t_s)
        if after < len(times) and times[after] == t_s:
            return column[after]
        if after in (0, len(times)):
            return math.nan
        t0, t1 = times[after - 1], times[after]
        share = (t_s - t0) / (t1 - t0)
        return column[after - 1] + share * (column[after] - column[after - 1])

    def between(self, device: str, start_s: float, end_s: float) -> float:
        """Return the energy of a device in a window, J."""
        return self.at(device, end_s) - self.at(device, start_s)

    def power(self, device: str) -> tuple[list[float], list[float]]:
        """Return times (n,), the ends of intervals in s, and mean watts (n,) in them.

        Where an epoch ends there may be two moments closer together than a sensor renews its value:
        such an interval joins its neighbour, so that the energy under the curve stays.
        """
        times, column = self.t_s, self.joules[device]
        spans = list(pairwise(self._edges()))
        watts = [(column[j] - column[i]) / (times[j] - times[i]) for i, j in spans]
        return [times[j] for _, j in spans], watts

    def _edges(self) -> list[int]:
        """Return the indices of the moments that lie far enough apart to tell a mean power."""
        times = self.t_s
        if len(times) < 3:
            return list(range(len(times)))
        lengths_s = [end - start for start, end in pairwise(times)]
        shortest_s = min(SLOWEST_REFRESH_S, 0.5 * median(lengths_s))
        edges = [0]
        for i in range(1, len(times) - 1):
            if times[i] - times[edges[-1]] >= shortest_s:
                edges.append(i)
        if len(edges) > 1 and times[-1] - times[edges[-1]] < shortest_s:
            edges.pop()
        return [*edges, len(times) - 1]

    def energy(self, qualities: Mapping[str, str]) -> Energy:
        """Return the energy of the whole series; its error is not known.

        Args:
            qualities: of the devices, ``measured``, ``integrated`` or ``modelled``.
        """
        devices = {}
        for name, column in self.joules.items():
            joules = column[-1] if column else math.nan
            quality = qualities.get(name, "missing") if not math.isnan(joules) else "missing"
            modelled = joules if quality == "modelled" else 0.0
            coverage = float(quality != "missing")
            devices[name] = Energy(joules, math.nan, modelled, quality, coverage)
        if not devices:
            return MISSING
        return Energy.of(add_devices(list(devices.values())), devices, {})

    def within(self, start_s: float, end_s: float) -> range:
        """Return the indices of the moments in a window, ends included."""
        return range(bisect_left(self.t_s, start_s), bisect_right(self.t_s, end_s))


def _column(values: Sequence[object]) -> array[float]:
    """Return the values of a record as numbers; null and anything else are NaN."""
    try:
        column: array[float] = array("d", values)  # type: ignore[arg-type]  # raises TypeError
    except (TypeError, OverflowError):
        return array("d", map(number, values))
    # NaN is neither: a column that has it is looked at value by value.
    extremes = (min(column), max(column)) if column else ()
    if all(math.isfinite(number(one)) for one in extremes):
        return column
    return array("d", map(number, column))


@dataclass(frozen=True)
class RunRecord:
    """One run as its record has it."""

    id: str
    path: Path
    started: datetime
    """When monitoring began, UTC."""
    finished: datetime | None
    """When it ended; None if the record does not say so."""
    last_seen: datetime
    """When the last thing was written."""
    metadata: RunMetadata
    series: Series
    result: Result
    """What the run has cost; without an end, as far as the record goes."""
    ending: RunEnding
    """How it ended; empty without an end."""
    warnings: tuple[str, ...]
    """Warnings that the console showed."""
    events: tuple[Mapping[str, Any], ...]
    """All other events as they are: predictions, warnings, windows, budgets, later inventions."""
    notes: tuple[str, ...]
    """What is wrong with the record itself."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What people have said of it later (``records/labels.py``); its metadata has that already."""

    def __repr__(self) -> str:
        """Return the main values in one line."""
        text: str = import_module("carbontracker.report.brief").run_record(self)
        return text

    @property
    def complete(self) -> bool:
        """Return whether the record has its end."""
        return self.finished is not None

    @property
    def running(self) -> bool:
        """Return whether the process still runs, on this machine."""
        about = self.metadata
        return not self.complete and is_running(about.host, about.pid, about.pid_start_ticks)

    @property
    def state(self) -> str:
        """Return ``finished``, ``running`` or ``incomplete``."""
        return "finished" if self.complete else "running" if self.running else "incomplete"

    @property
    def outcome(self) -> str:
        """Return how it ended, one of ``model.run_ending.OUTCOMES``, also ``running``."""
        ending = self.ending
        if self.labels.get("outcome"):
            return self.labels["outcome"]
        if ending.outcome or not self.complete:
            return ending.outcome or (RUNNING if self.running else KILLED)
        # An older version did not say.
        if ending.stopped_by is not None:
            return BUDGET
        unfinished = any(not epoch.finished for epoch in self.epochs)
        return FAILED if unfinished or self.result.exit_code else FINISHED

    @property
    def why_incomplete(self) -> str:
        """Return what is missing, and what there is; nothing if it is complete."""
        if self.complete:
            return ""
        if self.running:
            cause = "the run goes on"
        else:
            cause = "it ends without run_finished: the process was killed, or could not write"
        if self.metadata.command:
            known = self.series.seconds
            there = "nothing" if math.isnan(known) else f"the first {known:.1f} s"
        else:
            done = [epoch for epoch in self.epochs if epoch.finished]
            there = f"{len(done)} of {self.planned_epochs or '?'} epochs"
            if len(done) < len(self.epochs):
                there += f" and the first {self.epochs[-1].seconds:.1f} s of the next"
        lost = "" if self.running else "; what came after them is not known"
        return "; ".join([f"{cause}; it has {there}{lost}", *self.notes])

    @property
    def planned_epochs(self) -> float | None:
        """Return how many epochs there were to be; None for a command.

        For a plan in steps: as many as predicted; 0 if nothing was.
        """
        if self.metadata.planned_steps is not None and self.forecasts:
            return self.forecasts[-1].prediction.epochs
        return self.metadata.planned_epochs

    @property
    def end(self) -> datetime:
        """Return when it ended, or was last heard of."""
        return self.finished or self.last_seen

    @property
    def energy(self) -> Energy:
        """Return the energy, without PUE."""
        return self.result.energy

    @property
    def footprint(self) -> Footprint:
        """Return kWh with PUE, and emissions."""
        return self.result.footprint

    @property
    def divisible(self) -> Result | None:
        """Return the result by whose work its energy may be divided.

        Of a rank of a training that is the result of its job, if it has that: its own work is one
        rank's, and its energy that of all devices that it sees.
        """
        about = self.metadata
        if not Launch(about.job, about.one_training).is_rank_of_training:
            return self.result
        joined = map(Result.from_dict, self.of("joined_result"))
        return next((one for one in joined if one.extent == JOB), None)

    @property
    def epochs(self) -> tuple[Epoch, ...]:
        """Return the epochs, as they were written last."""
        return self.result.epochs

    @property
    def forecasts(self) -> tuple[Forecast, ...]:
        """Return the predictions in the order they were made."""
        return self.result.forecasts

    @property
    def devices(self) -> tuple[Device, ...]:
        """Return the devices: first those with a sensor, then those with energy only."""
        counted = [sensor.id for sensor in self.metadata.sensors if sensor.counted]
        return tuple(map(self.device, dict.fromkeys([*counted, *self.energy.by_device])))

    def device(self, name: str) -> Device:
        """Return a device by its id, with its mean power over the run."""
        sensor = next((one for one in self.metadata.sensors if one.id == name), None)
        energy, total = self.energy.by_device.get(name, MISSING), self.energy.joules
        grams_per_joule = self.footprint.gco2eq / total if total > 0 else math.nan
        seconds = self.result.seconds
        kind, processor = (
            sensor.kind if sensor else kind_of(name),
            string(self.metadata.host.get("cpu")),
        )
        return Device(
            id=name,
            kind=kind,
            name=hardware_name(kind, sensor.name, processor) if sensor else "",
            source=sensor.source if sensor else "",
            quality=sensor.quality if sensor else "",
            energy=energy,
            gco2eq=energy.joules * grams_per_joule,
            watts=energy.joules / seconds if seconds > 0 else math.nan,
            readings_per_second=self.ending.readings_per_second.get(name, math.nan),
            uuid=gpu_uuid(sensor.domain) if sensor else "",
        )

    @property
    def checkpoints_s(self) -> list[float]:
        """Return when the state of the training was saved, s after the run began."""
        told = (seconds_of(one.get("seconds_after_start")) for one in self.of("checkpoint"))
        return [seconds for seconds in told if not math.isnan(seconds)]

    @property
    def windows(self) -> Iterator[WindowTotals]:
        """Yield the named windows of each event in order; a name may come again."""
        for event in self.of("windows"):
            yield from map(WindowTotals.from_dict, mappings(event.get("windows")))

    def of(self, event: str) -> Iterable[Mapping[str, Any]]:
        """Return the events of one name in order, such as ``windows`` or ``budget_exceeded``."""
        return (one for one in self.events if one["event"] == event)


# ---- carbon intensity over time ------------------------------------------------------------


@dataclass(frozen=True)
class IntensityPeriod:
    """A period with one carbon intensity."""

    start_s: float
    end_s: float
    gco2eq_per_kwh: float


def intensity_periods(run: RunRecord, footprint: Footprint) -> list[IntensityPeriod]:
    """Return the slots of a footprint on the run's time axis, without those that are unknown."""
    return [
        IntensityPeriod(
            (slot.start - run.started).total_seconds(),
            (slot.end - run.started).total_seconds(),
            slot.intensity.gco2eq_per_kwh,
        )
        for slot in footprint.slots
        if not math.isnan(slot.intensity.gco2eq_per_kwh)
    ]


def mean_during(periods: Sequence[IntensityPeriod], start_s: float, end_s: float) -> float:
    """Return the mean intensity of a period, gCO2eq/kWh; NaN if unknown."""
    parts = [(min(end_s, one.end_s) - max(start_s, one.start_s), one) for one in periods]
    inside = [(seconds, one.gco2eq_per_kwh) for seconds, one in parts if seconds > 0]
    total = math.fsum(seconds for seconds, _ in inside)
    return math.fsum(seconds * figure for seconds, figure in inside) / total if inside else math.nan
