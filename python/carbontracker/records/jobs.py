"""The jobs among recorded runs: which runs are ranks of one training, and its cost as a whole.

Ranks share the name that rank 0 gave the job. Where that did not reach them, they are joined by
what their scheduler or the process that started them is called, by the user, and because their
times overlap. Names that many jobs share join nothing. A job that was requeued, or began again
after a failure, is one job of several attempts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from carbontracker.carbon.footprint import add_footprints
from carbontracker.energy.energy import add_windows
from carbontracker.jobs.launch import Launch
from carbontracker.jobs.reduction import Node
from carbontracker.jobs.result import joined_result
from carbontracker.json_values import whole
from carbontracker.model.job import Curve, DeviceName, RankEpoch, RankReport
from carbontracker.records.reader import SUFFIX, files_in, read_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence, Set
    from pathlib import Path

    from carbontracker.carbon.footprint import Footprint
    from carbontracker.energy.energy import Energy
    from carbontracker.model.result import Result
    from carbontracker.records.run_record import RunRecord

_One = TypeVar("_One")

LOOK_S = 0.1
"""Between two looks at the records of other ranks, s."""


class Member(NamedTuple):
    """What is needed of a run to see which job it is part of."""

    id: str
    path: Path
    start_s: float
    """Unix time, like the next."""
    end_s: float
    launch: Launch
    uid: str
    """The name of the job, if it reached this rank."""
    user: str
    node: str
    """Names the machine."""
    training_id: str = ""
    """The name that checkpoints carry from attempt to attempt."""
    share_of_cpus: float | None = None
    """Of its node, as its scheduler gave it; None if all, or not known."""

    @property
    def names(self) -> set[tuple[str, str, str]]:
        """Return what it has in common with the other ranks of one attempt."""
        attempt = str(self.launch.attempt)
        starter = (self.launch.starter,) if self.launch.starter else ()
        return {(self.user, attempt, name) for name in (*self.launch.ids, *starter)}

    @property
    def names_of_job(self) -> set[tuple[str, str]]:
        """Return the same of the attempts of a job."""
        carried = {("", self.training_id)} if self.training_id else set()
        return {(user, name) for user, _, name in self.names} | carried


class Attempt(NamedTuple):
    """The ranks of a training from one beginning to its end."""

    members: tuple[Member, ...]
    """By rank."""

    @property
    def uid(self) -> str:
        """Return the name of the job in this attempt; empty if it reached no record."""
        return next((one.uid for one in self.members if one.uid), "")

    @property
    def start_s(self) -> float:
        """Return when its first rank began, Unix time."""
        return min(one.start_s for one in self.members)


class Job(NamedTuple):
    """The attempts of one training, in time order."""

    attempts: tuple[Attempt, ...]

    @property
    def members(self) -> Iterator[Member]:
        """Yield the runs of all attempts."""
        return (one for attempt in self.attempts for one in attempt.members)

    @property
    def id(self) -> str:
        """Return what people call it: its uid, or the id of its first run."""
        uids = [attempt.uid for attempt in self.attempts if attempt.uid]
        return uids[0] if uids else self.attempts[0].members[0].id

    @property
    def shares_of_cpus(self) -> tuple[float, ...]:
        """Return the least and the largest share of the CPUs of a node; empty if it has all."""
        found = {one.share_of_cpus for one in self.members if one.share_of_cpus is not None}
        return (min(found), max(found)) if found else ()

    @property
    def lacks_ranks(self) -> bool:
        """Return whether some ranks of an attempt have no record here."""
        return any(
            max((one.launch.world_size or 0 for one in attempt.members), default=0)
            > len({one.launch.rank for one in attempt.members})
            for attempt in self.attempts
            if any(one.launch.is_rank_of_training for one in attempt.members)
        )

    @property
    def ids(self) -> set[str]:
        """Return all names under which it may be asked for."""
        found = {attempt.uid for attempt in self.attempts} - {""}
        for one in self.members:
            found |= {one.id, *one.launch.ids, *(name.split()[-1] for name in one.launch.ids)}
            found |= {said["job_id"] for said in one.launch.said.values() if "job_id" in said}
        return found

    def is_called(self, name: str) -> bool:
        """Return whether it is asked for by a name, or by the beginning of a uid or a run's id."""
        return name in self.ids or (
            len(name) >= 4 and any(one.startswith(name) for one in self.ids if " " not in one)
        )


@dataclass(frozen=True)
class JobCost:
    """What a job has cost."""

    job: Job
    results: tuple[Result, ...]
    """Of each attempt."""

    @property
    def energy(self) -> Energy:
        """Return the energy of all attempts, without PUE."""
        return add_windows([result.energy for result in self.results])

    @property
    def footprint(self) -> Footprint:
        """Return the footprint of all attempts."""
        return add_footprints([result.footprint for result in self.results])

    @property
    def seconds(self) -> float:
        """Return the time in epochs of all attempts, s."""
        return sum(result.seconds for result in self.results)


def member(run: RunRecord) -> Member:
    """Return what is needed of a run to see which job it is part of."""
    about = run.metadata
    launch = Launch(about.job, about.one_training)
    host = about.host
    return Member(
        run.id,
        run.path,
        run.started.timestamp(),
        run.end.timestamp(),
        launch,
        about.job_uid,
        launch.user or str(host.get("user") or ""),
        str(host.get("boot_id") or host.get("name") or run.id),
        about.training_id,
        launch.share_of_cpus(whole(host.get("usable_cpus")), whole(host.get("logical_cpus"))),
    )


def find_jobs(runs: Iterable[RunRecord]) -> list[Job]:
    """Return the jobs among runs, by their beginnings; a run alone is a job of one rank."""
    return jobs_of({run.id: member(run) for run in runs}.values())


def jobs_of(members: Iterable[Member]) -> list[Job]:
    """Return the jobs of runs, by their beginnings; a run alone is a job of one rank."""
    members = sorted(members, key=lambda one: one.start_s)
    attempts = [
        Attempt(tuple(sorted(group, key=lambda one: (one.launch.rank or 0, one.start_s))))
        for group in _ranks_together(members)
    ]
    attempts.sort(key=lambda one: one.start_s)
    jobs = [
        Job(tuple(sorted(group, key=lambda one: one.start_s)))
        for group in _joined(attempts, _job_names, _same_job)
    ]
    return sorted(jobs, key=lambda job: job.attempts[0].start_s)


def jobs_called(jobs: Sequence[Job], name: str) -> list[Job]:
    """Return the jobs that are called so; those whose names begin so if none is.

    Several, each apart, where many have the name: ``none`` is the id of every plain ``torchrun``.

    Raises:
        LookupError: nothing is called so.
    """
    found = [job for job in jobs if name in job.ids]
    found = found or [job for job in jobs if job.is_called(name)]
    if not found:
        raise LookupError(name)
    return found


def job_by_hand(jobs: Sequence[Job], names: Sequence[str]) -> Job:
    """Return the one job that has all that is called by these names.

    Raises:
        LookupError: nothing is called so.
        ValueError: several jobs are called so.
    """
    found: list[Attempt] = []
    for name in names:
        called = jobs_called(jobs, name)
        if len(called) > 1:
            raise ValueError(name)
        found += [one for one in called[0].attempts if one not in found]
    ranks = [one for attempt in found for one in attempt.members]
    groups = _joined(ranks, lambda _: (None,), _overlap)
    return Job(tuple(Attempt(tuple(group)) for group in groups))


def cost_of(job: Job) -> JobCost:
    """Return what a job has cost; its records are read again.

    Raises:
        NoSuchRun, OSError: a record is not there any more.
    """
    return JobCost(job, tuple(_cost_of(attempt) for attempt in job.attempts))


def _cost_of(attempt: Attempt, ends: str = "") -> Result:
    """Return what an attempt has cost; ``ends`` is a run whose end is about to be written."""
    wanted = {one.id: one for one in attempt.members}
    nodes: dict[str, Node] = {}
    chief: RunRecord | None = None
    for path in dict.fromkeys(one.path for one in attempt.members):
        for run in read_runs(path):
            known = wanted.pop(run.id, None)
            if known is None:
                continue
            place = attempt.members.index(known)
            if chief is None or place == 0 or chief.metadata.marks_only:
                chief = run
            host = str(run.metadata.host.get("name") or known.node)
            node = nodes.setdefault(known.node, Node(known.node, host))
            rank = known.launch.rank
            report = report_of(run, place if rank is None else rank)
            report.ended = run.complete or run.id == ends
            node.add(report)
    assert chief is not None
    expected = max((one.launch.world_size or 0 for one in attempt.members), default=0)
    told = [node.settle(at_once=True) for node in nodes.values()]
    return joined_result(chief.result, told, expected or None)


def result_of_siblings(
    run_id: str,
    directory: Path,
    world_size: int,
    since_s: float,
    wait_s: float,
    complete: Callable[[], None] = lambda: None,
) -> Result | None:
    """Return the result of the job that a run is a rank of, from the records beside its own.

    Waits until all ranks have ended, at most ``wait_s``. None if there are no siblings.

    Args:
        run_id: of one rank.
        directory: has the records of all ranks.
        world_size: number of ranks.
        since_s: records that were written last before that are not looked at, Unix time.
        wait_s: at most so long, s.
        complete: writes to the record of this run what it lacks.

    Raises:
        OSError: the records cannot be read.
    """
    due_s = time.monotonic() + wait_s
    while True:
        files = [file for file in files_in(directory) if file.stat().st_mtime >= since_s]
        runs = {run.id: run for file in files for run in read_runs(file, series=False)}
        (attempt,) = (
            attempt
            for job in find_jobs(runs.values())
            for attempt in job.attempts
            if any(one.id == run_id for one in attempt.members)
        )
        others = [runs[one.id] for one in attempt.members if one.id != run_id]
        ended = len(others) >= world_size - 1 and all(one.complete for one in others)
        if ended or time.monotonic() >= due_s:
            complete()
            return _cost_of(attempt, run_id) if others else None
        time.sleep(LOOK_S)


def is_measured_by(run_id: str, path: Path, pids: Set[int], things: Set[str]) -> bool:
    """Return whether one of these processes keeps a record of the energy of a rank.

    Args:
        run_id: of the rank, whose own record is ``path``; theirs are beside it.
        path: see above.
        pids: of the processes that read its devices.
        things: what names those devices.

    Raises:
        OSError: the records cannot be read.
    """
    beside = (path.parent.glob(f"*_{pid}_*{SUFFIX}") for pid in sorted(pids))
    files = dict.fromkeys([path, *(file for each in beside for file in each)])
    found = (run for file in files for run in read_runs(file, series=False, epochs=False))
    runs = {run.id: run for run in found}
    for job in find_jobs(runs.values()):
        for attempt in job.attempts:
            nodes = {one.id: one.node for one in attempt.members}
            if run_id in nodes:
                others = [runs[one] for one in nodes if nodes[one] == nodes[run_id]]
                return any(_measures(other, pids, things) for other in others)
    return False


def _measures(run: RunRecord, pids: Set[int], things: Set[str]) -> bool:
    about = run.metadata
    counted = {sensor.thing for sensor in about.sensors if sensor.counted}
    return about.pid in pids and not (about.marks_only or run.complete) and things <= counted


def report_of(run: RunRecord, rank: int) -> RankReport:
    """Return what a rank would have told of its run."""
    things = {one.id: one for one in run.metadata.sensors}
    began_ns = run.series.began_ns
    if began_ns is None:
        began_ns = _began_ns(run)

    def thing(device: str) -> str:
        return things[device].thing if device in things else device

    curves = {}
    for device, column in run.series.joules.items():
        known = [
            (began_ns + round(t_s * 1e9), joules)
            for t_s, joules in zip(run.series.t_s, column, strict=True)
            if joules == joules  # noqa: PLR0124  # not NaN
        ]
        if known:
            curves[thing(device)] = Curve([t for t, _ in known], [joules for _, joules in known])
    return RankReport(
        rank,
        [
            RankEpoch(
                epoch.index,
                began_ns + round(epoch.start_s * 1e9),
                began_ns + round(epoch.end_s * 1e9),
                epoch.finished,
                {thing(name): part for name, part in epoch.energy.by_device.items()},
                epoch.work,
            )
            for epoch in run.epochs
            if epoch.start_s == epoch.start_s  # not NaN
        ],
        {one.thing: DeviceName(one.kind, one.name) for one in things.values() if one.counted},
        curves,
        sum(epoch.steps for epoch in run.epochs),
        ended=True,
    )


def _began_ns(run: RunRecord) -> int:
    """Return when a run without energy over time began, ns of its machine's clock."""
    clock = run.metadata.clock
    monotonic_ns, unix_ns = clock.get("monotonic_ns"), clock.get("unix_ns")
    start_ns = round(run.started.timestamp() * 1e9)
    if isinstance(monotonic_ns, int) and isinstance(unix_ns, int):
        return monotonic_ns + start_ns - unix_ns
    return start_ns


# ---- who belongs together ------------------------------------------------------------------


def _overlap(one: Member, other: Member) -> bool:
    return one.start_s <= other.end_s and other.start_s <= one.end_s


def _ranks_together(members: Sequence[Member]) -> list[list[Member]]:
    """Return the ranks of each attempt: by the name of the job, and the others beside them.

    A rank that the name did not reach joins one attempt, so that it joins no two of other names.
    """
    named: dict[str, list[Member]] = {}
    nameless = []
    for one in members:
        if one.uid and one.launch.is_rank_of_training:
            named.setdefault(one.uid, []).append(one)
        else:
            nameless.append(one)
    groups = list(named.values())
    for ranks in _joined(nameless, lambda one: one.names, _same_attempt):
        if _has_a_rank_twice(
            ranks
        ):  # of several trainings that one process started: not known which
            groups += [[one] for one in ranks]
            continue
        mine = {name for one in ranks for name in one.names}
        near = (
            group
            for group in named.values()
            if any(not mine.isdisjoint(one.names) for one in group)
            and any(_same_attempt(one, other) for one in ranks for other in group)
            and not _has_a_rank_twice([*ranks, *group])
        )
        if (found := next(near, None)) is not None:
            found += ranks
        else:
            groups.append(ranks)
    return groups


def _has_a_rank_twice(ranks: Sequence[Member]) -> bool:
    """Return whether two runs of one rank overlap, which ranks of one attempt do not."""
    known: dict[int | None, list[Member]] = {}
    for one in ranks:
        before = known.setdefault(one.launch.rank, [])
        if any(_overlap(one, other) for other in before):
            return True
        before.append(one)
    return False


def _same_attempt(one: Member, other: Member) -> bool:
    if not (one.launch.is_rank_of_training and other.launch.is_rank_of_training):
        return False
    return not one.names.isdisjoint(other.names) and _overlap(one, other)


def _same_job(one: Attempt, other: Attempt) -> bool:
    """Return whether two attempts are of one job: equal names, other counts of restarts.

    Of equal names that a checkpoint carried: whether one came after the other.
    """
    carried = [{member.training_id for member in each.members} - {""} for each in (one, other)]
    if not carried[0].isdisjoint(carried[1]):
        return not any(_overlap(a, b) for a in one.members for b in other.members)
    counts = [{member.launch.attempt for member in each.members} for each in (one, other)]
    if not counts[0].isdisjoint(counts[1]):
        return False
    return not _job_names(one).isdisjoint(_job_names(other))


def _job_names(attempt: Attempt) -> set[object]:
    return {name for member in attempt.members for name in member.names_of_job}


def _joined(
    ones: Sequence[_One],
    names: Callable[[_One], Iterable[object]],
    same: Callable[[_One, _One], bool],
) -> list[list[_One]]:
    """Return groups in which each has a name in common with another that it is the same as."""
    groups: dict[int, list[_One]] = {}
    joined_to: dict[int, int] = {}
    """Of a group that is part of another: that one."""
    known: dict[object, set[int]] = {}

    def place_of(group: int) -> int:
        while group in joined_to:
            group = joined_to[group]
        return group

    for number, one in enumerate(ones):
        its = set(names(one))
        for name in its:
            known[name] = {place_of(group) for group in known.get(name, ())}
        near = sorted(
            group
            for group in {group for name in its for group in known[name]}
            if any(same(one, other) for other in groups[group])
        )
        first = near[0] if near else number
        for group in near[1:]:
            joined_to[group] = first
            groups[first] += groups.pop(group)
        groups.setdefault(first, []).append(one)
        for name in its:
            known[name].add(first)
    return list(groups.values())
