"""What a project has cost: its stages, their runs, and the attempts of each run.

An attempt is a run of a program from its beginning to its end, on one or many processes. A run is
one training, however often it began again. ``aggregate`` decides what counts of each process, so
that no joule is in the ledger twice; here it is only put into order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from carbontracker.model.run_ending import (
    BUDGET,
    FAILED,
    FINISHED,
    KILLED,
    RUNNING,
    SUPERSEDED,
)
from carbontracker.model.work import UNITS
from carbontracker.records.aggregate import COPY, Counted, Spent, add_counted, counted, work_beside
from carbontracker.records.jobs import jobs_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from carbontracker.records.aggregate import Total
    from carbontracker.records.run_record import RunRecord

LEDGER, PROJECT, STAGE, RUN, ATTEMPT = LEVELS = ("ledger", "project", "stage", "run", "attempt")
"""From the whole to the smallest part."""
UNNAMED = "(none)"
"""The name of a project or stage that was not given."""
DEVELOPMENT = "development"
"""The stage of which the share is shown."""
_LOST = (FAILED, KILLED, SUPERSEDED)
"""Outcomes without a result, unless another run goes on from a checkpoint."""
_WORST_FIRST = (SUPERSEDED, FAILED, KILLED, RUNNING, BUDGET, FINISHED)


class Entry(NamedTuple):
    """What the ledger needs to know of the record of one process."""

    counted: Counted
    project: str
    stage: str
    parent: str
    """Of the run that it continues, if it continues one."""
    outcome: str
    what: str
    uid: str
    """Of its job."""
    saved_ns: int | None
    """When its state was saved last, Unix time; None if that is not known."""


@dataclass
class Cost:
    """What a part of the ledger has cost. Parts add up to their whole."""

    attempts: int = 0
    kwh: float = 0.0
    """With PUE, as all energies here but ``joules``."""
    error_kwh: float = 0.0
    """95 % half-width from measuring alone; errors are added, as if all were one way."""
    gco2eq: float = 0.0
    joules: float = 0.0
    """Without PUE."""
    gpu_hours: float = 0.0
    development_kwh: float = 0.0
    """In the stage ``development``."""
    failed_kwh: float = 0.0
    """Of runs without a result, from which no other run goes on."""
    repeated_kwh: float = 0.0
    """After the last checkpoint of attempts from which another one goes on."""
    repeated_error_kwh: float = 0.0
    repeats_unknown: int = 0
    """Such attempts that marked no checkpoint: what was repeated is not known."""
    work: dict[str, float] = field(default_factory=dict)
    """How many tokens, samples and operations, where they were counted."""
    work_joules: dict[str, float] = field(default_factory=dict)
    """The energy of the attempts that counted them, without PUE."""
    work_error_joules: dict[str, float] = field(default_factory=dict)

    def add(self, part: Cost) -> None:
        """Add a part."""
        for name, value in vars(part).items():
            if isinstance(value, dict):
                mine = getattr(self, name)
                for unit, count in value.items():
                    mine[unit] = mine.get(unit, 0.0) + count
            else:
                setattr(self, name, getattr(self, name) + value)

    def joules_per(self, unit: str) -> tuple[float, float]:
        """Return the energy for a unit of work and its error, J; NaN if no work was counted."""
        count = self.work.get(unit, 0.0)
        if not count > 0:
            return math.nan, math.nan
        return self.work_joules[unit] / count, self.work_error_joules[unit] / count

    def share(self, kwh: float) -> float:
        """Return which part of it an energy is, 0..1; NaN of nothing."""
        return kwh / self.kwh if self.kwh > 0 else math.nan


@dataclass
class Node:
    """A part of the ledger."""

    level: str
    name: str
    cost: Cost
    parts: list[Node] = field(default_factory=list)
    outcome: str = ""
    """Of a run and an attempt."""
    what: str = ""
    """The program of a run."""
    began: datetime | None = None
    """Of a run and an attempt."""
    parent: str = ""
    """The run from whose checkpoint it started, if that is another one here."""
    counted: bool = True
    """False of a run or attempt whose cost is nothing because its energy is not known, or is
    counted with others; ``Ledger.total`` has which."""

    def walk(self, above: tuple[Node, ...] = ()) -> Iterator[tuple[tuple[Node, ...], Node]]:
        """Yield each node with those above it, the whole before its parts."""
        yield above, self
        for part in self.parts:
            yield from part.walk((*above, self))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        about = {"outcome": self.outcome, "what": self.what, "parent": self.parent}
        return {
            "level": self.level,
            "name": self.name,
            **{name: value for name, value in about.items() if value},
            **({"began": self.began.isoformat()} if self.began else {}),
            **({} if self.counted else {"counted": False}),
            "cost": vars(self.cost),
            "parts": [part.to_dict() for part in self.parts],
        }


class Ledger(NamedTuple):
    """Everything that the records have, in order."""

    whole: Node
    total: Total
    """The same as ``aggregate`` shows it, with what is not, or not wholly, in it."""

    def of_project(self, name: str) -> Ledger:
        """Return the ledger of one project; what it shared with others is counted as before.

        Raises:
            LookupError: there is no such project.
        """
        found = [part for part in self.whole.parts if part.name == name]
        if not found:
            raise LookupError(name)
        return Ledger(found[0], self.total)


class _Attempt(NamedTuple):
    entries: tuple[Entry, ...]

    @property
    def start_ns(self) -> int:
        return min(one.counted.start_ns for one in self.entries)

    @property
    def outcome(self) -> str:
        outcomes = {one.outcome for one in self.entries}
        return next(one for one in _WORST_FIRST if one in outcomes)

    @property
    def saved_ns(self) -> int | None:
        return max((one.saved_ns for one in self.entries if one.saved_ns is not None), default=None)

    def first(self, name: str) -> str:
        """Return what the first process says that says anything."""
        return next((said for one in self.entries if (said := getattr(one, name))), "")


def entry(run: RunRecord) -> Entry:
    """Return what the ledger needs to know of a run."""
    about, saved, one = run.metadata, run.checkpoints_s, counted(run)
    return Entry(
        one,
        about.project,
        about.stage,
        about.parent,
        run.outcome,
        about.program or "a training",
        about.job_uid,
        one.start_ns + round(max(saved) * 1e9) if saved else None,
    )


def make_ledger(runs: Iterable[RunRecord]) -> Ledger:
    """Return the ledger of all runs; each is read once and forgotten but for a few numbers.

    Raises:
        NoSuchRun, OSError: a record that is needed again is not there any more.
    """
    known: dict[str, Entry] = {}
    copies = 0
    for run in runs:
        one, before = entry(run), known.get(run.id)
        copies += before is not None
        if before is None or one.counted.is_better_than(before.counted):
            known[run.id] = one
    trainings = _with_lineage(_trainings(known))
    after_ns = {
        one.counted.id: saved_ns
        for training in trainings
        for attempt in training.cut_short
        if (saved_ns := attempt.saved_ns) is not None
        for one in attempt.entries
    }
    total, spent = add_counted((one.counted for one in known.values()), after_ns, inner_first=True)
    if copies:
        total.leave_out(COPY, copies)
    return Ledger(_tree(trainings, spent), total)


# ---- which attempts are one training -------------------------------------------------------


@dataclass
class _Training:
    """A run: its attempts in time order."""

    attempts: list[_Attempt]
    goes_on_in: bool = False
    """Whether another training starts from a checkpoint of its last attempt."""
    parent: str = ""

    @property
    def purpose(self) -> tuple[str, str]:
        first = self.attempts[0]
        return first.first("project"), first.first("stage")

    @property
    def outcome(self) -> str:
        return self.attempts[-1].outcome

    @property
    def lost(self) -> bool:
        """Return whether nothing is left of it."""
        return self.outcome == SUPERSEDED or (self.outcome in _LOST and not self.goes_on_in)

    @property
    def cut_short(self) -> list[_Attempt]:
        """Return the attempts whose work after the last checkpoint another one repeats."""
        if self.lost:
            return []
        continued = self.attempts if self.goes_on_in else self.attempts[:-1]
        return [one for one in continued if one.outcome not in (FINISHED, RUNNING)]


def _trainings(known: Mapping[str, Entry]) -> list[_Training]:
    """Return the trainings by what their ranks and schedulers tell; a command is one by itself."""
    members = [one.counted.member for one in known.values() if one.counted.member is not None]
    jobs = [
        _Training(
            [_Attempt(tuple(known[one.id] for one in attempt.members)) for attempt in job.attempts]
        )
        for job in jobs_of(members)
    ]
    commands = (one for one in known.values() if one.counted.member is None)
    return [*jobs, *(_Training([_Attempt((one,))]) for one in commands)]


def _with_lineage(trainings: Sequence[_Training]) -> list[_Training]:
    """Return the trainings with those together of which one goes on where the other stopped.

    A training that has finished is another one than what starts from its checkpoint, and so is one
    for another project or stage.
    """
    of_name: dict[str, _Training] = {}
    for training in trainings:
        for attempt in training.attempts:
            for one in attempt.entries:
                of_name[one.counted.id] = training
                if one.uid:
                    of_name[one.uid] = training
    joined: dict[int, _Training] = {}

    def whole(training: _Training) -> _Training:
        while id(training) in joined:
            training = joined[id(training)]
        return training

    for training in sorted(trainings, key=lambda one: one.attempts[0].start_ns):
        parent_id = training.attempts[0].first("parent")
        if parent_id not in of_name:
            continue
        mine, parent = whole(training), whole(of_name[parent_id])
        if mine is parent:
            continue
        if parent.outcome not in (FINISHED, RUNNING) and parent.purpose == mine.purpose:
            parent.attempts = sorted(
                [*parent.attempts, *mine.attempts], key=lambda one: one.start_ns
            )
            parent.goes_on_in = parent.goes_on_in or mine.goes_on_in
            joined[id(mine)] = parent
        else:
            mine.parent = parent.attempts[0].entries[0].counted.id
            parent.goes_on_in = True
    return [one for one in trainings if id(one) not in joined]


# ---- the tree ------------------------------------------------------------------------------


def _tree(trainings: Sequence[_Training], spent: Mapping[str, Spent]) -> Node:
    whole = Node(LEDGER, "all projects", Cost())
    places: dict[tuple[str, ...], Node] = {}
    for training in sorted(trainings, key=lambda one: one.attempts[0].start_ns):
        project, stage = training.purpose
        above = whole
        for level, path in ((PROJECT, (project,)), (STAGE, (project, stage))):
            if path not in places:
                places[path] = Node(level, path[-1] or UNNAMED, Cost())
                above.parts.append(places[path])
            above = places[path]
        above.parts.append(_run_node(training, spent))
    _add_up(whole)
    return whole


def _add_up(node: Node) -> None:
    for part in node.parts:
        if part.level != RUN:
            _add_up(part)
        node.cost.add(part.cost)


def _run_node(training: _Training, spent: Mapping[str, Spent]) -> Node:
    first = training.attempts[0].entries[0]
    found = Node(
        RUN,
        first.counted.id,
        Cost(),
        outcome=training.outcome,
        what=first.what,
        began=_moment(training.attempts[0].start_ns),
        parent=training.parent,
    )
    cut_short = set(map(id, training.cut_short))
    for attempt in training.attempts:
        cost = _cost(attempt, spent, training, cut_short=id(attempt) in cut_short)
        found.cost.add(cost)
        found.parts.append(
            Node(
                ATTEMPT,
                attempt.entries[0].counted.id,
                cost,
                outcome=attempt.outcome,
                began=_moment(attempt.start_ns),
                counted=any(one.counted.id in spent for one in attempt.entries),
            )
        )
    found.counted = any(part.counted for part in found.parts)
    return found


def _cost(
    attempt: _Attempt, spent: Mapping[str, Spent], training: _Training, *, cut_short: bool
) -> Cost:
    parts = [spent[one.counted.id] for one in attempt.entries if one.counted.id in spent]
    cost = Cost(
        attempts=1,
        kwh=math.fsum(one.kwh for one in parts),
        error_kwh=_known_sum(one.error_kwh for one in parts),
        gco2eq=_known_sum(one.gco2eq for one in parts),
        joules=math.fsum(one.joules for one in parts),
        gpu_hours=math.fsum(one.gpu_seconds for one in parts) / 3600,
    )
    if training.purpose[1].lower() == DEVELOPMENT:
        cost.development_kwh = cost.kwh
    if training.lost:
        cost.failed_kwh = cost.kwh
    if cut_short:
        repeated = [one.after for one in parts if one.after is not None]
        cost.repeated_kwh = math.fsum(one.kwh for one in repeated)
        cost.repeated_error_kwh = _known_sum(one.error_kwh for one in repeated)
        cost.repeats_unknown = int(attempt.saved_ns is None)
    work = work_beside((one.counted for one in attempt.entries), spent)
    error_joules = cost.error_kwh / cost.kwh * cost.joules if cost.kwh > 0 else math.nan
    for unit in UNITS if all(one.all_its_own for one in parts) else ():
        count = getattr(work, unit)
        if not math.isnan(count):
            cost.work[unit] = count
            cost.work_joules[unit] = cost.joules
            cost.work_error_joules[unit] = error_joules
    return cost


def _known_sum(values: Iterable[float]) -> float:
    return math.fsum(value for value in values if not math.isnan(value))


def _moment(unix_ns: int) -> datetime:
    return datetime.fromtimestamp(unix_ns / 1e9, timezone.utc)
