"""What a form is about: one run, or several as one, in the figures that forms ask for."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from carbontracker.carbon.factors import PUE_SOURCE
from carbontracker.constants import JOULES_PER_KWH
from carbontracker.data import WORLD
from carbontracker.jobs.launch import Launch
from carbontracker.json_values import number, string
from carbontracker.model.job import JOB
from carbontracker.model.work import add_beside, add_in_turn
from carbontracker.records.aggregate import add_counted, add_runs, counted
from carbontracker.records.jobs import find_jobs
from carbontracker.report.formatting import percent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from carbontracker.carbon.footprint import Footprint
    from carbontracker.intensity.base import Intensity
    from carbontracker.location.location import Location
    from carbontracker.model.work import Work
    from carbontracker.records.aggregate import Spent, Total
    from carbontracker.records.run_record import RunRecord


@dataclass(frozen=True)
class Subject:
    """One run, or several as one, in which no joule counts twice."""

    name: str
    """The script or command of a run; the name of the project of several."""
    stages: tuple[str, ...]
    """What the runs were, such as ``pretraining``; empty if it was not stated of each."""
    runs: tuple[str, ...]
    """Ids."""
    began: datetime
    """Of the first run, UTC."""
    ended: datetime
    """Of the last run."""
    seconds: float
    """In epochs or commands, of all runs together; processes of one job count once."""
    joules: float
    """Energy of the machines, without PUE; NaN if not measured."""
    error_joules: float
    """95 % half-width."""
    modelled_joules: float
    """The estimated part of ``joules``."""
    unknown_joules_max: float
    """Upper limit of what is in neither."""
    kwh: float
    """With PUE."""
    error_kwh: float
    gco2eq: float
    pues: tuple[tuple[float, str], ...]
    """Each PUE and its source."""
    intensities: tuple[Intensity, ...]
    locations: tuple[Location | None, ...]
    hardware: Mapping[str, Counter[str]]
    """Names of distinct devices by kind: ``gpu``, ``cpu``, ``dram``."""
    gpu_seconds: float
    """Sum over GPUs of the time of their runs; 0 without GPUs."""
    sensors: Mapping[str, tuple[tuple[str, str], ...]]
    """Interface and quality of what was read, by kind of device."""
    not_read: tuple[str, ...]
    """What no sensor measured."""
    versions: tuple[str, ...]
    """Of carbontracker."""
    software: Mapping[str, str]
    system: str
    python: str
    memory_bytes: float
    """Of the machine of the first run; NaN if unknown."""
    epochs: int
    """Finished."""
    work: Work
    """Tokens, samples and operations, where all trainings counted them."""
    outcomes: Mapping[str, int]
    """How many runs ended in each way."""
    advice: tuple[str, ...]
    """What the user can do for better figures."""
    notes: tuple[str, ...]
    """What to know of the runs: incomplete, counted in part, damaged."""

    @property
    def machine_kwh(self) -> float:
        """Return the energy without PUE, kWh."""
        return self.joules / JOULES_PER_KWH

    @property
    def gpu_hours(self) -> float:
        """Return the GPU-hours."""
        return self.gpu_seconds / 3600

    @property
    def relative_error(self) -> float:
        """Return the half-width and the unknown energy, as a share of the energy."""
        if not self.joules > 0:
            return math.nan
        return (self.error_joules + self.unknown_joules_max) / self.joules

    @property
    def modelled_share(self) -> float:
        """Return the estimated part of the energy, 0..1."""
        return self.modelled_joules / self.joules if self.joules > 0 else math.nan

    @property
    def stage(self) -> str:
        """Return what all runs were; empty if not stated, or of several kinds."""
        return self.stages[0] if len(self.stages) == 1 else ""

    @property
    def gco2eq_per_kwh(self) -> float:
        """Return the carbon intensity, the mean weighted by energy; NaN if unknown."""
        return self.gco2eq / self.kwh if self.kwh > 0 else math.nan

    @property
    def location(self) -> Location | None:
        """Return where it was done, if that was stated and not guessed, and is one place."""
        places = {(one.zone, one.name) for one in self.locations if one is not None}
        first = self.locations[0] if self.locations else None
        known = len(places) == 1 and all(map(is_stated, self.locations))
        return first if known else None


def is_stated(location: Location | None) -> bool:
    """Return whether a location is the user's or a cloud's, and not that of a time zone."""
    if location is None or location.guess or not location.known or location.zone == WORLD:
        return False
    return not location.how.startswith("time zone")


def subject_of(runs: Sequence[RunRecord], name: str, beside: Iterable[RunRecord] = ()) -> Subject:
    """Return what runs have cost together.

    Args:
        runs: at least one; a run of which there are two records counts once.
        name: of all together, if there are several runs.
        beside: runs that are not part of it. What they and these measured at one time counts once
            among all of them, as in the ledger.
    """
    unique: dict[str, RunRecord] = {}
    for run in runs:
        if run.id not in unique or run.complete:
            unique[run.id] = run
    chosen = sorted(unique.values(), key=lambda run: run.started)
    first = chosen[0]
    attempts = _attempts(chosen)
    alone = [_longest(ranks) for ranks in attempts]
    stages = dict.fromkeys(run.metadata.stage for run in chosen)
    total = add_runs(chosen)
    others = [counted(run) for run in beside if run.id not in unique]
    elsewhere = 0.0
    if others:
        own = list(map(counted, chosen))
        _, spent = add_counted([*own, *others], inner_first=True)
        whole_kwh = total.kwh
        total = _of_ours(total, [spent[one.id] for one in own if one.id in spent])
        elsewhere = 1 - total.kwh / whole_kwh if whole_kwh > 0 else 0.0
    known = total.runs > 0
    footprints = [run.footprint for run in chosen if not math.isnan(run.footprint.kwh)]
    grams = math.nan if any(math.isnan(one.gco2eq) for one in footprints) else total.gco2eq
    error = math.nan if any(math.isnan(one.error_kwh) for one in footprints) else total.error_kwh
    ratio = total.joules / (total.kwh * JOULES_PER_KWH) if total.kwh > 0 else math.nan
    host = first.metadata.host
    return Subject(
        name=first.metadata.program if len(chosen) == 1 else name,
        stages=() if "" in stages else tuple(stages),
        runs=tuple(run.id for run in chosen),
        began=first.started,
        ended=max(run.end for run in chosen),
        seconds=_sum(run.result.seconds for run in alone),
        joules=total.joules if known else math.nan,
        error_joules=error * ratio * JOULES_PER_KWH if known else math.nan,
        modelled_joules=total.modelled_joules,
        unknown_joules_max=_sum(run.energy.unknown_joules_max for run in chosen),
        kwh=total.kwh if known else math.nan,
        error_kwh=error if known else math.nan,
        gco2eq=grams if known else math.nan,
        pues=tuple(
            dict.fromkeys(
                (one.footprint.pue, one.metadata.pue_source)
                for one in chosen
                if not math.isnan(one.footprint.pue)
            )
        ),
        intensities=tuple(dict.fromkeys(one.intensity for one in footprints)),
        locations=tuple(dict.fromkeys(run.footprint.location for run in chosen)),
        hardware=_hardware(chosen),
        gpu_seconds=total.gpu_seconds,
        sensors=_sensors(chosen),
        not_read=tuple(
            dict.fromkeys(one.what for run in chosen for one in run.metadata.missing if one.device)
        ),
        versions=tuple(dict.fromkeys(run.metadata.version for run in chosen)),
        software={k: str(v) for run in chosen for k, v in run.metadata.software.items()},
        system=string(host.get("system")),
        python=string(host.get("python")),
        memory_bytes=number(host.get("memory_bytes")),
        epochs=sum(run.result.finished_epochs for run in alone),
        work=add_in_turn(
            add_beside(rank.result.work for rank in ranks)
            for ranks in _attempts(chosen, inner=True)
        ),
        outcomes=Counter(run.outcome for run in alone),
        advice=(
            *_whole_job(chosen),
            *_one_stage(stages),
            *_unplaced(footprints),
            *_unmeasured_pue(chosen),
        ),
        notes=tuple(_notes(chosen, total.left_out, elsewhere)),
    )


def _sum(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) if known else math.nan


def _attempts(runs: Sequence[RunRecord], *, inner: bool = False) -> list[list[RunRecord]]:
    """Return the runs whose times add up, the processes of a job together.

    Args:
        runs: all of them.
        inner: of a command and the trainings that it has started, the trainings; else the command.
    """
    ids = {run.id: run for run in runs}
    parents = {run.metadata.parent_run_id for run in runs}
    attempts = [
        [ids[one.id] for one in attempt.members]
        for job in find_jobs(runs)
        for attempt in job.attempts
    ]
    if inner:
        return [ranks for ranks in attempts if not any(run.id in parents for run in ranks)]
    return [ranks for ranks in attempts if _longest(ranks).metadata.parent_run_id not in ids]


def _longest(ranks: Sequence[RunRecord]) -> RunRecord:
    return max(ranks, key=lambda run: (run.end - run.started, run.result.seconds))


def _hardware(runs: Sequence[RunRecord]) -> dict[str, Counter[str]]:
    """Return the names of distinct devices by kind: one that several runs used counts once."""
    seen: dict[tuple[str, str], tuple[str, str]] = {}
    for run in runs:
        machine = string(run.metadata.host.get("name")) or run.id
        things = {one.id: one.thing for one in run.metadata.sensors}
        for device in run.devices:
            key = machine, things.get(device.id, device.id)
            if device.name:
                seen[key] = device.kind, device.name
    found: dict[str, Counter[str]] = {}
    for kind, name in seen.values():
        found.setdefault(kind, Counter())[name] += 1
    return found


def _sensors(runs: Sequence[RunRecord]) -> dict[str, tuple[tuple[str, str], ...]]:
    found: dict[str, dict[tuple[str, str], None]] = {}
    for run in runs:
        for device in run.devices:
            if device.source and not math.isnan(device.energy.joules):
                quality = device.energy.quality or device.quality
                found.setdefault(device.kind, {})[device.source, quality] = None
    return {kind: tuple(each) for kind, each in found.items()}


def _of_ours(total: Total, spent: Sequence[Spent]) -> Total:
    """Return a total with the figures of some runs among others."""
    sums: dict[str, Any] = {
        name: _sum(getattr(one, name) for one in spent) if spent else 0.0
        for name in ("joules", "kwh", "gco2eq", "error_kwh", "modelled_joules", "gpu_seconds")
    }
    return replace(total, **sums)


def _processes(run: RunRecord) -> int:
    """Return how many processes the job had of which the run is one; 1 if it has all of it."""
    launch = Launch(run.metadata.job, run.metadata.one_training)
    own = not run.metadata.one_training or run.result.extent == JOB
    return 1 if own else launch.world_size or 1


def _whole_job(runs: Sequence[RunRecord]) -> Iterable[str]:
    if len(runs) == 1 and _processes(runs[0]) > 1:
        yield "declare the directory with the records of all processes for the whole job"


def _one_stage(stages: Iterable[str]) -> Iterable[str]:
    named = [stage or "(none)" for stage in stages]
    if len(named) > 1:
        yield f"the runs are of several stages ({', '.join(named)}): declare each with --stage"


def _unplaced(footprints: Sequence[Footprint]) -> Iterable[str]:
    """Yield why emissions are not those of a stated place."""
    used = {
        one.intensity.name or one.intensity.zone: one.location.how if one.location else "unknown"
        for one in footprints
        if not is_stated(one.location) and one.intensity.kind != "constant"
    }
    for name, how in used.items():
        yield (
            f"the emissions are those of {name}, and the location was not stated ({how}): give "
            "--location"
        )


def _unmeasured_pue(runs: Sequence[RunRecord]) -> Iterable[str]:
    """Yield that a PUE is not that of the site."""
    used = {run.footprint.pue for run in runs if run.metadata.pue_source == PUE_SOURCE}
    yield from (
        f"the PUE of {pue:g} is the average of a survey, not that of the site: give --pue"
        for pue in sorted(used)
    )


def _notes(
    runs: Sequence[RunRecord], left_out: Mapping[str, int], elsewhere: float
) -> Iterable[str]:
    if elsewhere > 1e-9:
        yield (
            f"{percent(elsewhere)} of the energy of these runs counts for runs that are not among "
            "them, which measured the same devices at the same time"
        )
    for run in runs:
        size = _processes(run)
        if len(runs) == 1 and size > 1:
            yield f"run {run.id} is one of {size} processes of a job"
        if len(runs) == 1 and run.why_incomplete:
            yield f"run {run.id} is incomplete: {run.why_incomplete}"
    if len(runs) > 1:
        yield from (f"{count} of {len(runs)} runs: {reason}" for reason, count in left_out.items())
