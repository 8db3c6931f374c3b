"""Many runs as one total, in which no joule of a machine is counted twice.

What a counter measures belongs to the machine: two runs on it at the same time, be they ranks of a
job, a tracker inside a measured command or two trainings side by side, see the same joules. So
each device's time is counted once: of the runs that saw it at a time, the first one that began.

The time of a training is that of its epochs. Of a run that counts in part, each stretch of time
has the energy that its own ``series`` gives it.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, NamedTuple

from carbontracker.records.reader import read_runs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from carbontracker.energy.energy import Energy
    from carbontracker.model.measurement import Measurement
    from carbontracker.model.run_metadata import Sensor
    from carbontracker.records.run_record import RunRecord

    Span = tuple[int, int]
    Spans = list[Span]
    Free = dict[int, Spans]
    """What is free of each part, by its beginning."""

_UNIX = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


class Seen(NamedTuple):
    """What one run saw of one device."""

    machine: str
    device: str
    """Names the physical thing."""
    name: str
    """What the run calls it."""
    joules: float


class Counted(NamedTuple):
    """What a total needs to know of a run."""

    id: str
    path: Path
    start_ns: int
    """Unix time, as all that follow."""
    end_ns: int
    seconds: float
    """In epochs, or of the whole command."""
    complete: bool
    seen: tuple[Seen, ...]
    kwh: float
    gco2eq: float
    error_kwh: float
    modelled_joules: float


class _Part(NamedTuple):
    """An epoch, or a whole command, and when it was."""

    start_ns: int
    end_ns: int
    measured: Measurement

    def joules(self, device: str) -> float:
        """Return the energy of a device, or of all where devices are not told apart; J."""
        energy = self.measured.energy
        if device in energy.by_device:
            return energy.by_device[device].joules
        return math.nan if energy.by_device or device else energy.joules


class _Share(NamedTuple):
    """What counts of a run."""

    by_device: Mapping[str, float]
    """Share of the energy of each device, 0..1."""
    gco2eq: float = math.nan
    """Share of the emissions, 0..1; that of the energy if it is not known."""
    at_mean_power: bool = False
    """Some of it had no energy over time."""


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
MEAN_POWER = "counted in part, at the mean power of an epoch: they have no energy over time"
NO_GRAMS = "without emissions, which the total lacks"
NO_ERROR = "without an error of measuring, which that of the total lacks"
INCOMPLETE = "without an end, counted as far as they came"


def counted(run: RunRecord) -> Counted:
    """Return what a total needs to know of a run, which is little."""
    energy, footprint = run.energy, run.footprint
    host = run.metadata.host
    machine = str(host.get("boot_id") or host.get("name") or run.id)
    things = {sensor.id: _thing(sensor) for sensor in run.metadata.sensors}
    parts: Iterable[tuple[str, Energy]] = energy.by_device.items() or [("", energy)]
    start_ns = _unix_ns(run.started)
    return Counted(
        run.id,
        run.path,
        start_ns,
        max(start_ns, _unix_ns(run.end)),
        run.result.seconds,
        run.complete,
        tuple(
            Seen(machine, things.get(name, name), name, part.joules)
            for name, part in parts
            if not math.isnan(part.joules)
        ),
        footprint.kwh,
        footprint.gco2eq,
        footprint.error_kwh,
        energy.modelled_joules,
    )


def _unix_ns(moment: datetime) -> int:
    return (moment - _UNIX) // _MICROSECOND * 1000


def _thing(sensor: Sensor) -> str:
    """Return what names the physical thing; simulated ones are told apart by their names only."""
    if sensor.domain and sensor.source != "simulated":
        return sensor.domain
    return f"{sensor.id} {sensor.name}"


def add_runs(runs: Iterable[RunRecord]) -> Total:
    """Return the total of all runs; each is read once and forgotten but for a few numbers.

    The records of those that saw a device at the same time as others are read again.

    Raises:
        NoSuchRun, OSError: such a record is not there any more.
    """
    known: dict[str, Counted] = {}
    total = Total()
    for run in runs:
        one, before = counted(run), known.get(run.id)
        if before is not None:
            total.leave_out(COPY)
        if before is None or (one.complete, one.end_ns) > (before.complete, before.end_ns):
            known[run.id] = one
    # Of two that began together the longer one goes first: it has seen what the other has.
    chosen = sorted(known.values(), key=lambda run: (run.start_ns, -run.end_ns))
    shares = _shares(chosen, total)
    for one in chosen:
        _add(total, one, shares.get(one.id))
    return total


def _add(total: Total, run: Counted, share: _Share | None) -> None:
    """Add a run, or its share."""
    if not run.seen or math.isnan(run.kwh):
        total.leave_out(UNKNOWN)
        return
    all_joules = math.fsum(part.joules for part in run.seen)
    new_joules, energy_share = all_joules, 1.0
    if share is not None:
        new_joules = math.fsum(part.joules * share.by_device[part.name] for part in run.seen)
        energy_share = new_joules / all_joules if all_joules > 0 else 1.0
    if not run.complete:
        total.leave_out(INCOMPLETE)
    if energy_share < 1e-9:
        total.leave_out(OVERLAP)
        return
    if energy_share < 1.0 - 1e-9:
        total.leave_out(PARTLY)
        if share is not None and share.at_mean_power:
            total.leave_out(MEAN_POWER)
    total.runs += 1
    total.joules += new_joules
    total.kwh += run.kwh * energy_share
    total.modelled_joules += run.modelled_joules * energy_share
    if math.isnan(run.gco2eq):
        total.leave_out(NO_GRAMS)
    else:
        known = share is not None and not math.isnan(share.gco2eq)
        total.gco2eq += run.gco2eq * (share.gco2eq if share and known else energy_share)
    if math.isnan(run.error_kwh):
        total.leave_out(NO_ERROR)
    else:
        total.error_kwh += run.error_kwh * energy_share


# ---- which run counts when -----------------------------------------------------------------


def _shares(chosen: Sequence[Counted], total: Total) -> dict[str, _Share]:
    """Return what counts of each run that saw a device while others did; notes the time."""
    beside = _beside(chosen)
    times = {run.id: _times(run) for run in _again([r for r in chosen if r.id in beside])}
    timetable = _Timetable()
    shares: dict[str, _Share] = {}
    partly: dict[str, dict[str, Free]] = {}
    for run in chosen:
        if run.id not in times:
            total.device_seconds += len(run.seen) * _length_s(run)
            continue
        free: dict[str, Free] = {}
        counts: dict[str, float] = {}
        for part in run.seen:
            spans = times[run.id].get(part.name, [(run.start_ns, run.end_ns)])
            free[part.name] = {
                start_ns: timetable.book(part.machine, part.device, start_ns, end_ns)
                for start_ns, end_ns in spans
            }
            free_ns = sum(map(_length_ns, free[part.name].values()))
            total.device_seconds += free_ns / 1e9
            all_ns = _length_ns(spans)
            counts[part.name] = free_ns / all_ns if all_ns else 1.0
        if all(share in {0.0, 1.0} for share in counts.values()):
            shares[run.id] = _Share(counts)
        else:
            partly[run.id] = free
    for record in _again([run for run in chosen if run.id in partly], series=True):
        shares[record.id] = _share(record, partly[record.id])
    return shares


def _beside(chosen: Sequence[Counted]) -> set[str]:
    """Return the ids of runs that measured a device while another run measured it too.

    ``chosen`` is in the order of the starts.
    """
    newest: dict[tuple[str, str], Counted] = {}
    found: set[str] = set()
    for run in chosen:
        for part in run.seen:
            key = part.machine, part.device
            last = newest.get(key)
            if last is not None and run.start_ns < last.end_ns:
                found |= {run.id, last.id}
            if last is None or run.end_ns > last.end_ns:
                newest[key] = run
    return found


def _again(runs: Sequence[Counted], *, series: bool = False) -> Iterator[RunRecord]:
    """Read runs again, each file once, with their epochs."""
    wanted: dict[Path, set[str]] = {}
    for run in runs:
        wanted.setdefault(run.path, set()).add(run.id)
    for path, ids in wanted.items():
        yield from (run for run in read_runs(path, series=series) if run.id in ids)


def _length_s(run: Counted) -> float:
    return (run.end_ns - run.start_ns) / 1e9 if math.isnan(run.seconds) else run.seconds


def _length_ns(spans: Spans) -> int:
    return sum(end_ns - start_ns for start_ns, end_ns in spans)


def _parts(run: RunRecord) -> list[_Part]:
    """Return the periods of a run with their energy: its epochs.

    A command, and a run whose epochs have no times, is one period.
    """
    start_ns = _unix_ns(run.started)
    if run.epochs and all(math.isfinite(one.start_s + one.seconds) for one in run.epochs):
        ends = [(round(one.start_s * 1e9), round(one.end_s * 1e9)) for one in run.epochs]
        return [
            _Part(start_ns + a, start_ns + max(a, b), one)
            for (a, b), one in zip(ends, run.epochs, strict=True)
        ]
    seconds = run.result.seconds
    known = run.metadata.command and math.isfinite(seconds)
    end_ns = start_ns + round(seconds * 1e9) if known else _unix_ns(run.end)
    return [_Part(start_ns, max(start_ns, end_ns), run.result)]


def _times(run: RunRecord) -> dict[str, Spans]:
    """Return when the energy of each device is known."""
    parts = _parts(run)
    return {
        name: [(one.start_ns, one.end_ns) for one in parts if not math.isnan(one.joules(name))]
        for name in run.energy.by_device or [""]
    }


def _share(run: RunRecord, free: Mapping[str, Free]) -> _Share:
    """Return what counts of a run of which some time is free."""
    parts = _parts(run)
    counted = [0.0] * len(parts)
    seen = [0.0] * len(parts)
    by_device = {}
    at_mean_power = False
    for name, free_of_part in free.items():
        counts = whole = 0.0
        for index, part in enumerate(parts):
            spans, joules = free_of_part.get(part.start_ns), part.joules(name)
            if spans is None or math.isnan(joules):
                continue
            share = _share_of(run, name, part, spans)
            if math.isnan(share):
                at_mean_power = True
                share = _length_ns(spans) / max(part.end_ns - part.start_ns, 1)
            counts += joules * share
            whole += joules
            counted[index] += joules * share
            seen[index] += joules
        by_device[name] = counts / whole if whole > 0 else 1.0
    grams = [
        (part.measured.footprint.gco2eq, new / all_)
        for part, new, all_ in zip(parts, counted, seen, strict=True)
        if all_
    ]
    all_grams = math.fsum(one for one, _ in grams)
    gco2eq = (
        math.fsum(one * share for one, share in grams) / all_grams if all_grams > 0 else math.nan
    )
    return _Share(by_device, gco2eq, at_mean_power)


def _share_of(run: RunRecord, device: str, part: _Part, spans: Spans) -> float:
    """Return the fraction of the device's energy in ``part`` within ``spans``; NaN if unknown."""
    if not spans or spans == [(part.start_ns, part.end_ns)]:
        return float(bool(spans))
    series, began_ns = run.series, _unix_ns(run.started)
    if device not in series.joules:
        return math.nan

    def joules(start_ns: int, end_ns: int) -> float:
        return series.between(device, (start_ns - began_ns) / 1e9, (end_ns - began_ns) / 1e9)

    whole = joules(part.start_ns, part.end_ns)
    found = math.fsum(joules(*span) for span in spans) / whole if whole > 0 else math.nan
    return min(max(found, 0.0), 1.0) if not math.isnan(found) else math.nan


class _Timetable:
    """When each device of each machine was measured already: intervals that do not overlap."""

    def __init__(self) -> None:
        self._taken: dict[tuple[str, str], Spans] = {}

    def book(self, machine: str, device: str, start_ns: int, end_ns: int) -> Spans:
        """Take a time for a device and return what of it was free."""
        taken = self._taken.setdefault((machine, device), [])
        first = bisect_left(taken, (start_ns,))
        if first and taken[first - 1][1] > start_ns:
            first -= 1
        after = bisect_left(taken, (end_ns,), first)
        over = taken[first:after]
        ends = [start_ns, *(b for _, b in over)]
        begins = [*(a for a, _ in over), end_ns]
        merged = min(start_ns, *begins), max(end_ns, *ends)
        taken[first:after] = [merged]
        return [(a, b) for a, b in zip(ends, begins, strict=True) if a < b]
