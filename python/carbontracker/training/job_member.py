"""One rank of a training on several processes: tells what it measures, and adds up what it hears.

A thread of ours does all of it. The training never waits, except that its end gives the others a
moment to report.
"""

from __future__ import annotations

import atexit
import math
import os
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from carbontracker.energy.energy import add_windows
from carbontracker.energy.sensor_events import sensor_data
from carbontracker.energy.session import Mark
from carbontracker.exceptions import BudgetExceeded
from carbontracker.guard import JOB, nothing, optional, start_thread
from carbontracker.jobs.reduction import Node, energy_of, epochs_of_all
from carbontracker.jobs.result import joined_result
from carbontracker.json_values import mapping, whole
from carbontracker.model.job import NODE, Curve, DeviceName, NodeReport, RankEpoch, RankReport
from carbontracker.model.run_metadata import Sensor
from carbontracker.records.series import rising

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from carbontracker.energy.energy import Energy
    from carbontracker.energy.session import Session
    from carbontracker.jobs.launch import Launch
    from carbontracker.jobs.store import JobStore
    from carbontracker.model.epoch import Epoch
    from carbontracker.model.result import Result
    from carbontracker.training.run import Run
    from carbontracker.training.steps import Steps

MAX_WAIT_S = 2.0
"""How long the end of rank 0 waits for the others, s."""
NODE_WAIT_S = 1.5
"""How long a node waits for its ranks, so that rank 0 hears of the node in time, s."""
TOTAL_WAIT_S = 1.7
"""After which a rank takes what its node knows, although not all of its ranks have ended, s."""
LINGER_S = 0.8
"""How long a rank that has ended measures on for the others of its node, s: less than they wait."""
_GOING_ON_S, _AFTER_RANK_0_S = 0.2, 1.2
"""Between two looks of a rank that has ended and adds up its node; how long it waits for others
after the end of rank 0, s."""
_LEAST_PAUSE_S, _MOST_PAUSE_S = 0.01, 1.0
"""Between two looks at what others have told, s."""
FINAL_LOOKS, FINAL_LOOK_S = 40, 0.01
"""The report of an epoch waits at most so often and so long for the sensors, s."""
MAX_ANSWER_S = 0.5
"""How long the end of an epoch waits for the store to say whether to stop there, s."""
STOP_AHEAD_S = 1.0
"""All ranks stop after an epoch that ends at least so long after the decision, s."""
_POINTS = 16
"""Of E(t) between two reports, besides those at marks."""


class Ratio(NamedTuple):
    """What a job uses beside one of its processes: how many times the energy and the time."""

    joules: float
    seconds: float


class Ended(NamedTuple):
    """What a rank knows at its end."""

    result: Result
    """Of the job for rank 0, of the node for the others, or of this process."""
    rank_0_came: bool


class Stop(NamedTuple):
    """What rank 0 tells all ranks where a limit is exceeded."""

    after: int
    """The epoch at whose end all of them stop."""
    over: BudgetExceeded

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {"after": self.after, "over": self.over.to_dict()}

    @classmethod
    def from_dict(cls, data: object) -> Stop | None:
        """Return what such an object tells; None if it is not one."""
        given = mapping(data)
        if not given:
            return None
        return cls(whole(given.get("after")), BudgetExceeded.from_dict(mapping(given.get("over"))))


class JobMember:
    """A listener of a run that is one rank of a training.

    Args:
        run: of this rank.
        launch: its place.
        store: connects the ranks.
        host: what people call this node.
        steps: of the epoch that is open.
        may_stop: whether a limit may stop this rank.
    """

    def __init__(
        self,
        run: Run,
        launch: Launch,
        store: JobStore,
        host: str,
        steps: Steps,
        *,
        may_stop: bool = False,
    ) -> None:
        self._may_stop = may_stop
        self._run, self.launch, self._store = run, launch, store
        self._steps, self._steps_done = steps, 0
        self._node = Node(store.node, host)
        self._nodes: dict[int, NodeReport] = {}
        self._total = NodeReport(store.node, host)
        """What this node has told, if this rank speaks for it."""
        self._ranks_told: list[tuple[int, bool]] = []
        self._node_told_all = False
        self._told = 0
        self._greeted = self._told_end = self._end_said = self._end_counted = False
        self._rank_0_came = True
        self._seen: frozenset[str] = frozenset()
        """Domains that this rank, which adds up its node, has told to the others."""
        self._awaited: list[tuple[int, int, Callable[[Ratio | None], None]]] = []
        self._question: threading.Event | None = None
        """Of the end of an epoch, until the thread takes it."""
        self._asked = threading.Event()
        """Whether the last one was answered."""
        self._asked.set()
        self._exceeded: BudgetExceeded | None = None
        """Of rank 0: why all ranks are to stop."""
        self._stop: Stop | None = None
        """What rank 0 has told."""
        self._goes_on = self._leaving = False
        """Whether this rank has ended and adds up its node for others; whether it may no more."""
        self._left = threading.Event()
        self._rank_0_ended_ns: int | None = None
        """When this rank saw it."""
        self._heard_all = False
        self._told_until: Mark = run.began_mark
        self._wake = threading.Event()
        self._ended_ns: int | None = None
        self._done = threading.Event()
        self._lock = threading.Lock()
        self.uid = ""
        """Names the job, once it is known."""
        self._on_uid: Callable[[str], None] = lambda _: None

    @property
    def is_rank_0(self) -> bool:
        """Return whether this rank adds up the job."""
        return self.launch.rank == 0

    def begin(self, on_uid: Callable[[str], None]) -> None:
        """Join the job, in a thread; ``on_uid`` is called there with the name of the job."""
        self._on_uid = on_uid
        thread = start_thread(JOB, self._talk, "carbontracker-job")
        if thread is None:
            self._done.set()
            self._left.set()

    def epoch(self, _: Epoch) -> None:
        """Tell of an epoch soon."""
        self._steps_done += self._steps.done
        self._wake.set()

    def ratio(self) -> Ratio | None:
        """Return the energy and the time of the job beside those of this process, of rank 0.

        By the epochs that all nodes have told; None before there is one.
        """
        with self._lock:
            told = epochs_of_all(list(self._nodes.values())) if self._all_came() else []
        mine = self._run.epochs(0, len(told))
        own_joules = math.fsum(one.energy.joules for one in mine)
        job_joules = math.fsum(energy_of(one).joules for one in told[: len(mine)])
        own_seconds = math.fsum(one.seconds for one in mine)
        job_seconds = math.fsum(one.seconds for one in told[: len(mine)])
        if not (own_joules > 0 and job_joules > 0 and own_seconds > 0):
            return None
        return Ratio(job_joules / own_joules, job_seconds / own_seconds)

    def when_told(self, epochs: int, call: Callable[[Ratio | None], None]) -> None:
        """Call with ``ratio()`` when all nodes have told so many epochs; with None after 2 s."""
        due_ns = time.monotonic_ns() + round(MAX_WAIT_S * 1e9)
        self._awaited.append((epochs, due_ns, call))
        self._wake.set()

    def request_stop(self, over: BudgetExceeded) -> None:
        """Have all ranks stop after an epoch that none of them has finished; of rank 0.

        Told as soon as all ranks are known to stop then: one alone would leave others waiting.
        """
        if self._exceeded is None:
            self._exceeded = over
            self._wake.set()

    @property
    def is_to_stop_all(self) -> bool:
        """Return whether rank 0 is to stop all ranks, and has not told them."""
        return self._exceeded is not None and self._stop is None

    def stops_after(self, epoch: int) -> BudgetExceeded | None:
        """Return why all ranks stop after this epoch, or stopped after one before; else None.

        Asks the store, and waits for its answer a moment: not for other ranks.
        """
        # A thread that has ended, or that hangs with the store, does not answer: it is not waited
        # for at each epoch.
        if self._asked.is_set() and not self._done.is_set():
            self._asked = answered = threading.Event()
            self._question = answered
            self._wake.set()
            answered.wait(MAX_ANSWER_S)
        stop = self._stop
        return stop.over if stop is not None and epoch >= stop.after else None

    def end(self) -> None:
        """Tell that nothing follows; does not wait."""
        atexit.register(self.leave)
        self._ended_ns = time.monotonic_ns()
        self._wake.set()

    def wait(self) -> None:
        """Wait until all others have reported, at most a moment."""
        self._done.wait(MAX_WAIT_S)

    def ended(self, own: Result) -> Ended:
        """Return what is known at the end, beside the result of this process."""
        with self._lock:
            expected = self.launch.world_size
            if not self._heard_all:
                return Ended(own, True)
            if self.is_rank_0 and self._nodes:
                return Ended(joined_result(own, list(self._nodes.values()), expected), True)
            mine = self._nodes.get(0)
            result = own if mine is None else joined_result(own, [mine], expected, NODE)
            return Ended(result, self._rank_0_came)

    # ---- in the thread ----

    def _talk(self) -> None:
        try:
            optional(JOB, self._until_end, nothing)
        finally:
            self._done.set()
            self._asked.set()
            self._left.set()
            atexit.unregister(self.leave)

    def _until_end(self) -> None:
        # A store that has gone, with rank 0 or with its time limit, is silence.
        with suppress(RuntimeError, OSError):
            self._join_and_talk()
            self._heard_all = True

    def _join_and_talk(self) -> None:
        store = self._store
        store.join()
        if self._may_stop:
            store.may_stop()
        if self.is_rank_0:
            self.uid = os.urandom(8).hex()
            store.set("uid", self.uid)
            self._on_uid(self.uid)
        self._exchange()
        pause_s = _LEAST_PAUSE_S
        while not self._over():
            if self._wake.wait(pause_s if self._outstanding() else None):
                self._wake.clear()
                pause_s = _LEAST_PAUSE_S
            else:
                pause_s = min(2 * pause_s, _MOST_PAUSE_S)
            if self._ended_ns is not None or self._awaited:
                pause_s = min(pause_s, _GOING_ON_S if self._goes_on else 0.05)
            self._exchange()
        if self._goes_on:
            return
        if self.is_rank_0 and not store.leads_node:
            self._stand_in()
        if not self.uid:
            self._rank_0_came = not store.first("rank 0 missed")
            store.withdraw()

    def _stand_in(self) -> None:
        """Count what rank 0 has measured since the rank that adds up its node has gone."""
        run, here = self._run, self._store.node
        with self._lock:
            told = next((one for one in self._nodes.values() if one.node == here), None)
            if told is None:
                told = self._nodes[0] = NodeReport(here, self._node.host)
            mine = [one for one in told.ranks if one.rank == 0]
            # Who has told all has added up all epochs that it knew of each rank.
            new = run.epochs(sum(one.epochs for one in mine) if told.ended else len(told.epochs))
            if not new:
                return
            alone = Node(here, told.host)
            names = device_names(run.session)
            alone.add(RankReport(0, self._epochs(new, names), dict(names.values()), ended=True))
            since = alone.settle(at_once=True)
            mine = mine or list(since.ranks)
            others = [one for one in told.ranks if one.rank]
            told.ranks = (replace(mine[0], epochs=run.epochs_done, ended=True), *others)
            told.epochs += since.epochs
            told.names |= since.names
            for domain, energy in since.devices.items():
                before = told.devices.get(domain)
                told.devices[domain] = energy if before is None else add_windows([before, energy])

    def _answer(self) -> None:
        """Learn whether to stop, or tell it; then answer who asked."""
        asked, self._question = self._question, None
        if self.is_rank_0:
            over = self._exceeded
            if self.is_to_stop_all and over is not None and self._all_may_stop():
                stop = Stop(self._next_stop(), over)
                self._store.set("stop", stop.to_dict())
                self._stop = stop
        elif asked is not None:
            self._stop = Stop.from_dict(self._store.get("stop"))
        if asked is not None:
            asked.set()

    def _all_may_stop(self) -> bool:
        return self._store.all_may_stop(self.launch.world_size or 1)

    def _next_stop(self) -> int:
        """Return the number of an epoch that ends at least a moment from now."""
        done = self._run.epochs_done
        last = self._run.epochs(max(0, done - 1))
        seconds = last[0].seconds if last else math.inf
        return done + (1 + math.ceil(STOP_AHEAD_S / seconds) if 0 < seconds < STOP_AHEAD_S else 1)

    def _tell_awaited(self) -> None:
        """Call those that wait for epochs of all nodes."""
        now_ns = time.monotonic_ns()
        with self._lock:
            told = min((len(one.epochs) for one in self._nodes.values()), default=0)
            complete = self._all_came()
        for one in list(self._awaited):
            epochs, due_ns, call = one
            if (complete and told >= epochs > 0) or now_ns >= due_ns:
                self._awaited.remove(one)
                call(self.ratio())

    def _exchange(self) -> None:
        store = self._store
        self._answer()
        if not self.uid:
            self.uid = str(store.get("uid") or "")
            if self.uid:
                store.has_rank_0()
                self._on_uid(self.uid)
        ended = self._is_to_tell_end()
        if store.leads_node:
            self._tell_seen(ended=ended)
        report = self._report(ended=ended)
        if store.leads_node:
            if report is not None:
                self._node.add(report)
            for other in store.ranks():
                self._node.add(other)
            self._catch_up()
            self._tell_node()
        elif report is not None:
            store.tell_rank(report)
        if self.is_rank_0:
            self._hear_nodes()
        elif self._ended_ns is not None and 0 not in self._nodes:
            total = store.get(f"total/{store.node}")
            if total is not None:
                node = NodeReport.from_dict(total)
                if node.ended or self._waited_s() > TOTAL_WAIT_S:
                    self._nodes[0] = node

    def _hear_nodes(self) -> None:
        """Take what other nodes have told; tell the end of rank 0."""
        store = self._store
        if self._ended_ns is not None and not self._end_said:
            self._end_said = True
            store.set("ended", True)
        for place, node in store.nodes():
            with self._lock:
                self._nodes.setdefault(place, NodeReport(node.node, node.host)).extend(node)
        self._tell_awaited()

    def _is_to_tell_end(self) -> bool:
        """Return whether the last report is to be made: the ranks of this node have all ended.

        Until then a rank that has ended measures on, at most a moment: the last epoch of the node
        may go on, and what only this rank sees nobody else can tell.
        """
        if self._ended_ns is None:
            return False
        if not self._end_counted:
            self._end_counted = True
            self._store.tell_end()
        return self._told_end or self._waited_s() > LINGER_S or self._store.node_has_ended()

    def _tell_seen(self, *, ended: bool) -> None:
        """Tell the others of this node which devices they need not report.

        At the end before the last report: so it has the energy up to a moment when they know that
        they are to report them.
        """
        names = {} if ended else device_names(self._run.session)
        seen = frozenset(domain for domain, _ in names.values())
        if seen != self._seen:
            self._seen = seen
            self._store.set(f"seen/{self._store.node}", sorted(seen))

    def _tell_node(self) -> None:
        """Tell what is new of the node: to rank 0, or to itself."""
        if self._node_told_all:
            return
        due = self._is_due()
        last = self._ended_ns is not None and self._node_is_complete()
        last = last or (due and not (self._awaits_ranks() and self._may_go_on()))
        report = self._node.settle(at_once=last or due)
        report.ended = last
        ranks = [(one.rank, one.ended) for one in report.ranks]
        if not (report.epochs or last or due or ranks != self._ranks_told):
            return
        self._ranks_told, self._node_told_all = ranks, last
        with self._lock:
            self._total.extend(report)
            if self.is_rank_0 or last or due:
                self._nodes[0] = self._total
        if not self.is_rank_0:
            self._store.tell_node(report)
        if self._ended_ns is not None:
            self._store.set(f"total/{self._store.node}", self._total.to_dict())
        if due and not last:
            self._go_on()

    def _is_due(self) -> bool:
        """Return whether what the node knows is to be told now, whatever some ranks may yet tell.

        Once so long after the end of this rank, and once after that of rank 0.
        """
        if self._ended_ns is None:
            return False
        if not self._goes_on:
            return self._waited_s() > NODE_WAIT_S
        if self._rank_0_ended_ns is None and self._store.get("ended"):
            self._rank_0_ended_ns = time.monotonic_ns()
        ended_ns = self._rank_0_ended_ns
        return ended_ns is not None and time.monotonic_ns() - ended_ns > 1e9 * _AFTER_RANK_0_S

    def _may_go_on(self) -> bool:
        """Return whether this rank can still add up its node after its own end."""
        alive = threading.main_thread().is_alive()  # else the interpreter exits
        return alive and not self._goes_on and not self.is_rank_0

    def _go_on(self) -> None:
        """Add up the node for those that go on; the end of this rank does not wait for it."""
        self._goes_on = True
        self._heard_all = True
        self._done.set()

    def leave(self) -> None:
        """End the thread before the interpreter does, or wait a moment for it.

        A call of the store that returns while the interpreter ends aborts the program.
        """
        self._done.wait(max(0.0, MAX_WAIT_S - self._waited_s()))
        self._leaving = True
        self._wake.set()
        self._left.wait(MAX_ANSWER_S)

    def _node_is_complete(self) -> bool:
        """Return whether all ranks of this node have ended, as far as their number is known."""
        return self._node.ended and not self._lacks_ranks()

    def _awaits_ranks(self) -> bool:
        """Return whether ranks of this node go on, or may come later: a node goes on for both."""
        return not self._node.ended or (bool(self.uid) and self._lacks_ranks())

    def _lacks_ranks(self) -> bool:
        here = self.launch.local_world_size
        return here is not None and len(self._node.ranks) < here

    def _all_came(self) -> bool:
        seen = sum(len(node.ranks) for node in self._nodes.values())
        return seen >= (self.launch.world_size or 1)

    def _outstanding(self) -> bool:
        """Return whether others are to tell something that this rank waits for."""
        if not self.uid or self._ended_ns is not None or self._awaited:
            return True
        if self.is_rank_0:
            told = [len(node.epochs) for node in self._nodes.values()]
            return not self._all_came() or min(told, default=0) < self._run.epochs_done
        return self._store.leads_node and len(self._total.epochs) < self._run.epochs_done

    def _over(self) -> bool:
        if self._ended_ns is None:
            return False
        if self._leaving:
            return True
        waited_s = self._waited_s()
        if self.is_rank_0:
            complete = self._all_came() and all(node.ended for node in self._nodes.values())
            return complete or waited_s > MAX_WAIT_S - 0.1
        if self._store.leads_node:
            return self._node_told_all
        return 0 in self._nodes or waited_s > MAX_WAIT_S - 0.1

    def _waited_s(self) -> float:
        return 0.0 if self._ended_ns is None else (time.monotonic_ns() - self._ended_ns) / 1e9

    # ---- what this rank has measured ----

    def _report(self, *, ended: bool) -> RankReport | None:
        """Return what this rank has not told yet; None if there is nothing."""
        run = self._run
        new = run.epochs(self._told)
        if self._told_end or not (new or ended or not self._greeted):
            return None
        if new:
            self._await_final(run.ends_of(new[-1])[1])
            new = run.epochs(self._told, self._told + len(new))
        now = run.session.mark()
        names = device_names(run.session)
        # The first report is of all devices: the rank that adds up may have begun later.
        told = names if self._store.leads_node or not self._greeted else self._unseen(names)
        self._greeted, self._told_end = True, ended
        self._told += len(new)
        report = RankReport(
            self.launch.rank or 0,
            self._epochs(new, told),
            dict(names.values()),
            self._curves(told, now, [mark for epoch in new for mark in run.ends_of(epoch)]),
            self._steps_done,
            ended,
        )
        self._told_until = now
        return report

    def _catch_up(self) -> None:
        """Add what this rank, which adds up its node, has measured until the marks of others."""
        session, until_ns = self._run.session, self._node.end_ns
        if self._told_end or until_ns <= self._told_until.t_ns:
            return
        mark = Mark(None, False, until_ns)
        self._await_final(mark)
        now, names = session.mark(), device_names(session)
        curves = self._curves(names, now, [mark])
        self._node.add(RankReport(self.launch.rank or 0, curves=curves, steps=self._steps_done))
        self._told_until = now

    def _epochs(
        self, epochs: Sequence[Epoch], names: Mapping[str, tuple[str, DeviceName]]
    ) -> list[RankEpoch]:
        """Return epochs with the energy of these devices."""
        return [
            RankEpoch(
                epoch.index,
                self._run.ends_of(epoch)[0].t_ns,
                self._run.ends_of(epoch)[1].t_ns,
                epoch.finished,
                by_domain(epoch.energy, names),
                epoch.work,
            )
            for epoch in epochs
        ]

    def _unseen(
        self, names: Mapping[str, tuple[str, DeviceName]]
    ) -> dict[str, tuple[str, DeviceName]]:
        """Return the devices that the rank which adds up this node does not see itself."""
        seen = frozenset(map(str, self._store.get(f"seen/{self._store.node}") or ()))
        return {device: one for device, one in names.items() if one[0] not in seen}

    def _await_final(self, mark: Mark) -> None:
        """Wait until the sensors have answered after a mark; questions are answered meanwhile."""
        for _ in range(FINAL_LOOKS):
            if self._run.session.await_final(mark, timeout_s=FINAL_LOOK_S):
                return
            self._answer()

    def _curves(
        self, names: Mapping[str, tuple[str, DeviceName]], now: Mark, marks: Sequence[Mark]
    ) -> dict[str, Curve]:
        """Return E(t) of each device since the last report."""
        run, first = self._run, self._told_until
        length_ns = now.t_ns - first.t_ns
        if length_ns <= 0:
            return {}
        grid = [first.t_ns + length_ns * i // _POINTS for i in range(1, _POINTS)]
        inside = {t_ns: Mark(None, False, t_ns) for t_ns in grid}
        inside |= {mark.t_ns: mark for mark in marks if first.t_ns < mark.t_ns < now.t_ns}
        moments = [first, *(inside[t_ns] for t_ns in sorted(inside)), now]
        moments = [one for one in moments if one.t_ns > run.began_mark.t_ns]
        energies = run.session.energies([(run.began_mark, one) for one in moments])
        curves = {}
        for device, (domain, _) in names.items():
            joules = [one.by_device[device].joules if device in one.by_device else float("nan")
                      for one in energies]  # fmt: skip
            known = [i for i, one in enumerate(joules) if one == one]  # noqa: PLR0124  # not NaN
            if known:
                column = rising([round(joules[i], 6) for i in known])
                curves[domain] = Curve([moments[i].t_ns for i in known], column)
        return curves


def device_names(session: Session) -> dict[str, tuple[str, DeviceName]]:
    """Return what names the physical thing, and how it is called, of each counted device by id."""
    found = [Sensor.from_dict(sensor_data(entry)) for entry in session.entries if entry.read]
    return {one.id: (one.thing, DeviceName(one.kind, one.name)) for one in found if one.counted}


def by_domain(energy: Energy, names: Mapping[str, tuple[str, DeviceName]]) -> dict[str, Energy]:
    """Return the energy of each device by its domain."""
    return {names[device][0]: part for device, part in energy.by_device.items() if device in names}
