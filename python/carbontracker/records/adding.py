"""Many runs as one total, in which no joule of a machine is counted twice.

What a counter measures belongs to the machine: two runs on it at the same time, be they ranks of a
job, a tracker inside a measured command or two trainings side by side, see the same joules. So
each device's time is counted once: of the runs that saw it at a time, the first one that began.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from carbontracker.records.recorded import RunRecord, Sensor
    from carbontracker.window import Energy


class Seen(NamedTuple):
    """What one run saw of one device."""

    machine: str
    device: str
    joules: float


class Counted(NamedTuple):
    """What a total needs to know of a run."""

    id: str
    start_s: float
    """Unix time."""
    end_s: float
    complete: bool
    seen: tuple[Seen, ...]
    kwh: float
    gco2eq: float
    error_kwh: float
    modelled_joules: float


@dataclass
class Total:
    """What several runs have cost together."""

    kwh: float = 0.0
    """With PUE."""
    gco2eq: float = 0.0
    error_kwh: float = 0.0
    """95 % half-width from measuring alone; errors of runs are added, as if all were one way."""
    joules: float = 0.0
    """Without PUE."""
    modelled_joules: float = 0.0
    device_seconds: float = 0.0
    runs: int = 0
    """With energy in the total."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Runs that are not, or not wholly, in it: how many, by the reason."""

    def leave_out(self, reason: str) -> None:
        """Note a run that is not, or not wholly, in it."""
        self.left_out[reason] = self.left_out.get(reason, 0) + 1

    @property
    def modelled_share(self) -> float:
        """Return the part of the energy that is an estimate, 0..1."""
        return self.modelled_joules / self.joules if self.joules > 0 else math.nan


COPY = "copies of a record that is there already"
UNKNOWN = "without energy"
OVERLAP = "wholly within the time of others on the same devices"
PARTLY = "partly within the time of others on the same devices"
NO_GRAMS = "without emissions, which the total lacks"
NO_ERROR = "without an error of measuring, which that of the total lacks"
INCOMPLETE = "without an end, counted as far as they came"


def counted(run: RunRecord) -> Counted:
    """Return what a total needs to know of a run, which is little."""
    energy, footprint = run.energy, run.footprint
    host = run.origin.host
    machine = str(host.get("boot_id") or host.get("name") or run.id)
    things = {sensor.id: _thing(sensor) for sensor in run.origin.sensors}
    parts: Iterable[tuple[str, Energy]] = energy.by_device.items() or [("", energy)]
    return Counted(
        run.id,
        run.started.timestamp(),
        run.end.timestamp(),
        run.complete,
        tuple(
            Seen(machine, things.get(name, name), part.joules)
            for name, part in parts
            if not math.isnan(part.joules)
        ),
        footprint.kwh,
        footprint.gco2eq,
        footprint.error_kwh,
        energy.modelled_joules,
    )


def _thing(sensor: Sensor) -> str:
    """Return what names the physical thing; simulated ones are told apart by their names only."""
    if sensor.domain and sensor.source != "simulated":
        return sensor.domain
    return f"{sensor.id} {sensor.name}"


def add_runs(runs: Iterable[RunRecord]) -> Total:
    """Return the total of all runs; each is read once and forgotten but for a few numbers."""
    known: dict[str, Counted] = {}
    total = Total()
    for run in runs:
        one, before = counted(run), known.get(run.id)
        if before is not None:
            total.leave_out(COPY)
        if before is None or (one.complete, one.end_s) > (before.complete, before.end_s):
            known[run.id] = one
    timetable = _Timetable()
    # Of two that began together the longer one goes first: it has seen what the other has.
    for one in sorted(known.values(), key=lambda run: (run.start_s, -run.end_s)):
        _add(total, one, timetable)
    return total


def _add(total: Total, run: Counted, timetable: _Timetable) -> None:
    if not run.seen or math.isnan(run.kwh):
        total.leave_out(UNKNOWN)
        return
    all_joules = math.fsum(part.joules for part in run.seen)
    length_s = max(run.end_s - run.start_s, 1e-3)
    new_joules = 0.0
    for part in run.seen:
        free_s = timetable.book(part.machine, part.device, run.start_s, run.end_s)
        total.device_seconds += free_s
        new_joules += part.joules * (free_s / length_s if run.end_s > run.start_s else 1.0)
    share = new_joules / all_joules if all_joules > 0 else float(bool(new_joules))
    if not run.complete:
        total.leave_out(INCOMPLETE)
    if share < 1e-9 < all_joules:
        total.leave_out(OVERLAP)
        return
    if share < 1.0 - 1e-9 and all_joules > 0:
        total.leave_out(PARTLY)
    total.runs += 1
    total.joules += new_joules
    total.kwh += run.kwh * share
    total.modelled_joules += run.modelled_joules * share
    if math.isnan(run.gco2eq):
        total.leave_out(NO_GRAMS)
    else:
        total.gco2eq += run.gco2eq * share
    if math.isnan(run.error_kwh):
        total.leave_out(NO_ERROR)
    else:
        total.error_kwh += run.error_kwh * share


class _Timetable:
    """When each device of each machine was measured already: intervals that do not overlap."""

    def __init__(self) -> None:
        self._taken: dict[tuple[str, str], list[tuple[float, float]]] = {}

    def book(self, machine: str, device: str, start_s: float, end_s: float) -> float:
        """Take a time for a device and return how much of it was free, s."""
        taken = self._taken.setdefault((machine, device), [])
        first = max(0, bisect_right(taken, (start_s, math.inf)) - 1)
        over = list(_overlapping(taken, first, start_s, end_s))
        busy_s = math.fsum(min(b, end_s) - max(a, start_s) for a, b in over)
        for interval in over:
            taken.remove(interval)
        merged = [(start_s, end_s), *over]
        insort(taken, (min(a for a, _ in merged), max(b for _, b in merged)))
        return max(0.0, end_s - start_s - busy_s)


def _overlapping(
    taken: list[tuple[float, float]], first: int, start_s: float, end_s: float
) -> Iterator[tuple[float, float]]:
    for a, b in taken[first:]:
        if a >= end_s:
            return
        if b > start_s:
            yield (a, b)
