"""Many runs as one total, in which no joule of a machine is counted twice.

What a counter measures belongs to the machine: two runs on it at the same time, be they ranks of a
job, a tracker inside a measured command or two trainings side by side, see the same joules. So
each device's time is counted once: of the runs that saw it at a time, the first one that began.

Ranks of one training and its attempts are one job: that they saw the same joules is no overlap.

The time of a training is that of its epochs. Of a run that counts in part, each stretch of time
has the energy that its own ``series`` gives it.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from carbontracker.energy.energy import kind_of
from carbontracker.model.measurement import GPU
from carbontracker.model.work import UNCOUNTED, Work, add_beside
from carbontracker.records.jobs import Member, jobs_of, member
from carbontracker.records.reader import read_runs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from carbontracker.energy.energy import Energy
    from carbontracker.model.measurement import Measurement
    from carbontracker.records.jobs import Job
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
    member: Member | None = None
    """Which job it is part of; None of a command."""
    work: Work = UNCOUNTED
    marks_only: bool = False
    """Whether the energy is in the record of another rank."""

    def is_better_than(self, copy: Counted) -> bool:
        """Return whether this one of two copies of a record has more."""
        return (self.complete, self.end_ns) > (copy.complete, copy.end_ns)


class Spent(NamedTuple):
    """What of a total is of one run."""

    joules: float
    """Without PUE."""
    kwh: float
    """With PUE."""
    gco2eq: float
    """NaN if not known, as ``error_kwh``."""
    error_kwh: float
    modelled_joules: float
    gpu_seconds: float = 0.0
    """Time times the number of GPUs of which this run counts the energy, s."""
    after: Spent | None = None
    """The part of it after the moment that was asked for."""
    all_its_own: bool = True
    """Whether it lacks nothing that a run of another job counts."""


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
    gpu_seconds: float = 0.0
    """The part of it that is of GPUs."""
    runs: int = 0
    """With energy in the total, or ranks whose devices another rank of their job has measured."""
    jobs: int = 0
    """The same with the ranks and the attempts of one training as one."""
    jobs_resumed: int = 0
    """Those of several attempts."""
    jobs_with_part_of_node: int = 0
    """Those that their scheduler gave a part of the CPUs of a node, of which all counts."""
    shares_of_cpus: tuple[float, ...] = ()
    """The least and the largest of these parts, 0..1; empty without one."""
    log_trainings: int = 0
    """Trainings that only log files know."""
    log_kwh: float = 0.0
    """Their part of ``kwh``; its error is not known."""
    log_gco2eq: float = 0.0
    """Their part of ``gco2eq``."""
    work: dict[str, float] = field(default_factory=dict)
    """Tokens, samples and operations, of the jobs that counted them."""
    work_joules: dict[str, float] = field(default_factory=dict)
    """The energy of those jobs, J, without PUE."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Runs that are not, or not wholly, in it: how many, by the reason."""

    def __repr__(self) -> str:
        """Return the main values in one line."""
        text: str = import_module("carbontracker.report.brief").total(self)
        return text

    def add_logged(self, trainings: int, kwh: float, gco2eq: float) -> None:
        """Add trainings that only log files know."""
        self.log_trainings += trainings
        self.log_kwh += kwh
        self.log_gco2eq += gco2eq
        self.kwh += kwh
        self.gco2eq += gco2eq

    def leave_out(self, reason: str, runs: int = 1) -> None:
        """Note runs that are not, or not wholly, in it."""
        self.left_out[reason] = self.left_out.get(reason, 0) + runs

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
LATER = "that went on where no record has the energy"
SILENT = "of a job of which some ranks have no record here"


def counted(run: RunRecord) -> Counted:
    """Return what a total needs to know of a run, which is little."""
    energy, footprint = run.energy, run.footprint
    host = run.metadata.host
    machine = str(host.get("boot_id") or host.get("name") or run.id)
    things = {sensor.id: sensor.thing for sensor in run.metadata.sensors}
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
        None if run.metadata.command else member(run),
        run.result.work,
        run.metadata.marks_only,
    )


def _unix_ns(moment: datetime) -> int:
    return (moment - _UNIX) // _MICROSECOND * 1000


def add_runs(runs: Iterable[RunRecord]) -> Total:
    """Return the total of all runs; each is read once and forgotten but for a few numbers.

    The records of those that saw a device at the same time as others are read again.

    Raises:
        NoSuchRun, OSError: such a record is not there any more.
    """
    known: dict[str, Counted] = {}
    copies = 0
    for run in runs:
        one, before = counted(run), known.get(run.id)
        copies += before is not None
        if before is None or one.is_better_than(before):
            known[run.id] = one
    total, _ = add_counted(known.values())
    if copies:
        total.leave_out(COPY, copies)
    return total


def add_counted(
    runs: Iterable[Counted],
    after_ns: Mapping[str, int] = MappingProxyType({}),
    *,
    inner_first: bool = False,
) -> tuple[Total, dict[str, Spent]]:
    """Return the total of runs without copies, and what of it is of each run.

    The records of those that saw a device at the same time as others are read again, and those in
    ``after_ns``.

    Args:
        runs: each once.
        after_ns: by the id of a run, the moment after which its part is counted apart, Unix time.
        inner_first: count a training inside a measured command before the command, which then has
            the rest; the total is the same.

    Raises:
        NoSuchRun, OSError: such a record is not there any more.
    """
    total = Total()
    # Of two that began together the longer one goes first: it has seen what the other has.
    chosen = sorted(runs, key=lambda run: (run.start_ns, -run.end_ns))
    jobs = jobs_of(one.member for one in chosen if one.member is not None)
    job_of = {one.id: place for place, job in enumerate(jobs) for one in job.members}
    shares = _shares(chosen, after_ns, _measured_by_others(chosen, jobs), inner_first=inner_first)
    if shares.lack_later:
        total.leave_out(LATER, len(shares.lack_later))
    total.device_seconds = math.fsum(shares.device_seconds.values())
    total.gpu_seconds = math.fsum(shares.gpu_seconds.values())
    crossed = _beside(chosen, job_of)
    added = {
        one.id: spent
        for one in chosen
        if not one.marks_only and (spent := _add(total, one, shares, one.id in crossed)) is not None
    }
    measured = {job_of[one] for one in added if one in job_of}
    for one in chosen:
        if one.marks_only and job_of.get(one.id) in measured:
            total.runs += 1
        elif one.marks_only:
            total.leave_out(UNKNOWN)
    commands = sum(run_id not in job_of for run_id in added)
    _count_jobs(total, [job for job in jobs if any(one.id in added for one in job.members)])
    total.jobs += commands
    _count_work(total, jobs, {one.id: one for one in chosen}, added)
    return total, added


def work_beside(attempt: Iterable[Counted], added: Mapping[str, Spent]) -> Work:
    """Return the work of the processes of an attempt whose joules are in a total.

    That is of those that were added, and of ranks whose devices one of those has measured.
    """
    runs = list(attempt)
    if not any(run.id in added for run in runs):
        return UNCOUNTED
    return add_beside(run.work for run in runs if run.id in added or run.marks_only)


def _count_work(
    total: Total,
    jobs: Sequence[Job],
    runs: Mapping[str, Counted],
    added: Mapping[str, Spent],
) -> None:
    """Add the work of jobs that counted it and of which no joule is another job's."""
    for job in jobs:
        ids = [one.id for one in job.members if one.id in added]
        if not all(added[run_id].all_its_own for run_id in ids):
            continue
        for attempt in job.attempts:
            mine = [one.id for one in attempt.members if one.id in added]
            work = work_beside((runs[one.id] for one in attempt.members), added)
            joules = math.fsum(added[run_id].joules for run_id in mine)
            for unit, count in work.to_dict().items():
                total.work[unit] = total.work.get(unit, 0.0) + count
                total.work_joules[unit] = total.work_joules.get(unit, 0.0) + joules


def _count_jobs(total: Total, jobs: Sequence[Job]) -> None:
    total.jobs = len(jobs)
    total.jobs_resumed = sum(len(job.attempts) > 1 for job in jobs)
    shares = [job.shares_of_cpus for job in jobs if job.shares_of_cpus]
    total.jobs_with_part_of_node = len(shares)
    if shares:
        total.shares_of_cpus = (min(min(one) for one in shares), max(max(one) for one in shares))
    for job in jobs:
        if job.lacks_ranks:
            total.leave_out(SILENT, len(list(job.members)))


def _add(total: Total, run: Counted, shares: _Shares, crossed: bool) -> Spent | None:
    """Add a run, or its share, and return what was added; None if it is no part of the total.

    Args:
        crossed: whether a run that is not of its job measured a device of it at the same time.
    """
    if not run.seen or math.isnan(run.kwh):
        total.leave_out(UNKNOWN)
        return None
    share = shares.of_run.get(run.id)
    spent = _spent(run, share)._replace(gpu_seconds=shares.gpu_seconds[run.id])
    if run.id in shares.after:
        spent = spent._replace(after=_spent(run, shares.after[run.id]))
    all_joules = math.fsum(part.joules for part in run.seen)
    energy_share = spent.joules / all_joules if all_joules > 0 else 1.0
    if not run.complete:
        total.leave_out(INCOMPLETE)
    if energy_share < 1e-9:
        if crossed:
            total.leave_out(OVERLAP)
            return None
        total.runs += 1
        return spent
    if energy_share < 1.0 - 1e-9:
        if crossed:
            total.leave_out(PARTLY)
            spent = spent._replace(all_its_own=False)
        if share is not None and share.at_mean_power:
            total.leave_out(MEAN_POWER)
    total.runs += 1
    total.joules += spent.joules
    total.kwh += spent.kwh
    total.modelled_joules += spent.modelled_joules
    if math.isnan(spent.gco2eq):
        total.leave_out(NO_GRAMS)
    else:
        total.gco2eq += spent.gco2eq
    if math.isnan(spent.error_kwh):
        total.leave_out(NO_ERROR)
    else:
        total.error_kwh += spent.error_kwh
    return spent


def _spent(run: Counted, share: _Share | None) -> Spent:
    """Return what a share of a run has cost; the whole run without one."""
    joules = all_joules = math.fsum(part.joules for part in run.seen)
    energy_share = grams_share = 1.0
    if share is not None:
        joules = math.fsum(part.joules * share.by_device[part.name] for part in run.seen)
        energy_share = joules / all_joules if all_joules > 0 else 1.0
        grams_share = energy_share if math.isnan(share.gco2eq) else share.gco2eq
    return Spent(
        joules,
        run.kwh * energy_share,
        run.gco2eq * grams_share,
        run.error_kwh * energy_share,
        run.modelled_joules * energy_share,
    )


# ---- which run counts when -----------------------------------------------------------------


class _Shares(NamedTuple):
    """What counts of runs, by their ids."""

    of_run: dict[str, _Share]
    """Of each run that saw a device while others did."""
    after: dict[str, _Share]
    """Of the part after a moment."""
    device_seconds: dict[str, float]
    gpu_seconds: dict[str, float]
    lack_later: set[str]
    """Without the energy while other ranks went on."""


def _measured_by_others(chosen: Sequence[Counted], jobs: Sequence[Job]) -> dict[str, list[str]]:
    """Return the ranks of marks only, by the run beside them that has the energy of their node."""
    by_id = {one.id: one for one in chosen}
    found: dict[str, list[str]] = {}
    for attempt in (attempt for job in jobs for attempt in job.attempts):
        ranks = [by_id[one.id] for one in attempt.members]
        nodes = {one.id: one.node for one in attempt.members}
        for rank in (one for one in ranks if one.marks_only):
            here = [one for one in ranks if one.seen and nodes[one.id] == nodes[rank.id]]
            # The one that measured longest knows most of what came after the others.
            if here:
                found.setdefault(max(here, key=lambda one: one.end_ns).id, []).append(rank.id)
    return found


def _shares(
    chosen: Sequence[Counted],
    after_ns: Mapping[str, int],
    measured: Mapping[str, Sequence[str]],
    *,
    inner_first: bool,
) -> _Shares:
    """Return what counts of each run.

    Args:
        chosen: in the order of the starts.
        after_ns: see ``add_counted``.
        measured: by a run, the ranks of marks only whose energy it has.
        inner_first: see ``add_counted``.
    """
    marks = {one for ranks in measured.values() for one in ranks}
    epochs = {run.id: _parts(run) for run in _again([one for one in chosen if one.id in marks])}
    beside = _beside(chosen) | measured.keys()
    times = {run.id: _times(run) for run in _again([r for r in chosen if r.id in beside])}
    timetable = _Timetable()
    shares = _Shares({}, {}, {}, {}, set())
    partly: dict[str, dict[str, Free]] = {}
    commands_last = sorted(chosen, key=lambda run: run.member is None)
    for run in commands_last if inner_first else chosen:
        gpus = sum(kind_of(part.name) == GPU for part in run.seen)
        if run.id not in times:
            shares.device_seconds[run.id] = len(run.seen) * _length_s(run)
            shares.gpu_seconds[run.id] = gpus * _length_s(run)
            continue
        free: dict[str, Free] = {}
        seconds = {True: 0.0, False: 0.0}
        counts: dict[str, float] = {}
        for part in run.seen:
            spans = times[run.id].get(part.name, [(run.start_ns, run.end_ns)])
            free[part.name] = {
                start_ns: timetable.book(part.machine, part.device, start_ns, end_ns)
                for start_ns, end_ns in spans
            }
            free_ns = sum(map(_length_ns, free[part.name].values()))
            seconds[kind_of(part.name) == GPU] += free_ns / 1e9
            all_ns = _length_ns(spans)
            counts[part.name] = free_ns / all_ns if all_ns else 1.0
        shares.device_seconds[run.id] = sum(seconds.values())
        shares.gpu_seconds[run.id] = seconds[True]
        if all(share in {0.0, 1.0} for share in counts.values()):
            shares.of_run[run.id] = _Share(counts)
        if run.id in after_ns or run.id not in shares.of_run:
            partly[run.id] = free
    longer: dict[str, dict[str, Spans]] = {}
    for run in (one for one in chosen if one.id in measured):
        for part in run.seen:
            spans = [
                span
                for rank in measured[run.id]
                for one in epochs[rank]
                for span in timetable.book(part.machine, part.device, one.start_ns, one.end_ns)
            ]
            if spans:
                longer.setdefault(run.id, {})[part.name] = spans
    again = [run for run in chosen if run.id in partly or run.id in longer or run.id in after_ns]
    for record in _again(again, series=True):
        free = partly[record.id] if record.id in partly else _all_of(record)
        if record.id in partly and record.id not in shares.of_run:
            shares.of_run[record.id] = _share(record, free)
        if record.id in after_ns:
            shares.after[record.id] = _share(record, _after(free, after_ns[record.id]))
        if record.id in longer:
            _add_later(shares, record, longer[record.id])
    return shares


def _add_later(shares: _Shares, run: RunRecord, longer: Mapping[str, Spans]) -> None:
    """Add to the share of a run the energy while only ranks of marks were in an epoch."""
    share, began_ns = shares.of_run[run.id], _unix_ns(run.started)
    counts = dict(share.by_device)
    for name, spans in longer.items():
        found = math.nan
        if name in run.series.joules:
            found = math.fsum(
                run.series.between(name, (a - began_ns) / 1e9, (b - began_ns) / 1e9)
                for a, b in spans
            )
        whole = run.energy.by_device[name].joules if name in run.energy.by_device else math.nan
        if whole > 0 and not math.isnan(found):
            counts[name] += found / whole
            shares.device_seconds[run.id] += _length_ns(spans) / 1e9
            shares.gpu_seconds[run.id] += _length_ns(spans) / 1e9 * (kind_of(name) == GPU)
        else:
            shares.lack_later.add(run.id)
    shares.of_run[run.id] = _Share(counts, at_mean_power=share.at_mean_power)


def _all_of(run: RunRecord) -> dict[str, Free]:
    """Return all the time of a run, as free: no other run saw its devices then."""
    return {name: {a: [(a, b)] for a, b in spans} for name, spans in _times(run).items()}


def _after(free: Mapping[str, Free], moment_ns: int) -> dict[str, Free]:
    """Return what is free after a moment."""
    return {
        name: {
            start_ns: [(max(a, moment_ns), b) for a, b in spans if b > moment_ns]
            for start_ns, spans in of_part.items()
        }
        for name, of_part in free.items()
    }


def _beside(chosen: Sequence[Counted], job_of: Mapping[str, int] | None = None) -> set[str]:
    """Return the ids of runs that measured a device while another run measured it too.

    Args:
        chosen: in the order of the starts.
        job_of: only runs of other jobs are others: the job of each run that is part of one.
    """
    # The run that ends last, and the one of another job that does.
    newest: dict[tuple[str, str], list[Counted]] = {}
    found: set[str] = set()
    groups = job_of or {}
    for run in chosen:
        group = groups.get(run.id, run.id)
        for part in run.seen:
            last = newest.setdefault((part.machine, part.device), [])
            for one in last:
                if run.start_ns < one.end_ns and group != groups.get(one.id, one.id):
                    found |= {run.id, one.id}
            best: dict[object, Counted] = {}
            for one in sorted([*last, run], key=lambda one: one.end_ns):
                best[groups.get(one.id, one.id)] = one
            last[:] = sorted(best.values(), key=lambda one: one.end_ns)[-2:]
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
