"""The energy of a run: its epochs, and its result."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from carbontracker.carbon.footprint import footprint_of_slots, together
from carbontracker.energy.components import NODE
from carbontracker.energy.energy import add_windows
from carbontracker.energy.session import Mark
from carbontracker.exceptions import NoEpochError
from carbontracker.jobs.launch import Launch
from carbontracker.model.epoch import Epoch
from carbontracker.model.measurement import Measurement
from carbontracker.model.result import Result
from carbontracker.model.work import add_in_turn
from carbontracker.times import wall_time
from carbontracker.training.live_status import StatusReader
from carbontracker.training.marked_energy import MarkedEnergy
from carbontracker.training.window_log import WindowLog
from carbontracker.training.work_counter import WorkCounter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from carbontracker.carbon.factors import CarbonFactors
    from carbontracker.carbon.footprint import Footprint
    from carbontracker.energy.cpu_usage import Usage
    from carbontracker.energy.energy import Energy
    from carbontracker.energy.session import Session
    from carbontracker.model.attribution import Attribution
    from carbontracker.model.prediction import Forecast
    from carbontracker.model.work import Work
    from carbontracker.training.attribution import Share


class _Ends(NamedTuple):
    """An epoch that has ended."""

    start: Mark
    end: Mark
    finished: bool
    steps: int
    used: tuple[Usage | None, Usage | None]
    """The processor time at both ends, if a share is attributed."""
    work: Work


class Run:
    """Marks at the ends of epochs, and arithmetic on the energy between them.

    Listeners and threads of ours may hold it: it refers to nothing of the user's. A wrapped
    command is a run with one epoch.

    Args:
        session: what samples.
        factors: what turns the energy into grams.
        launch: the place of this process in its job.
        share: attributes a part of the energy, if that is wanted.
    """

    def __init__(
        self,
        session: Session,
        factors: CarbonFactors,
        launch: Launch | None = None,
        share: Share | None = None,
    ) -> None:
        self.session = session
        self.launch = launch or Launch({})
        """The place of this process in its job, as it was known last."""
        self.factors = factors
        self._share = share
        self._used_before: Usage | None = None
        self.record_id = ""
        """Of its record; empty if none is kept."""
        self.forecasts: list[Forecast] = []
        """Those that listeners were notified of."""
        self._bounds: list[_Ends] = []
        self._open: Mark | None = None
        self._first: Mark | None = None
        self.restarted = False
        """Whether an epoch has begun again before its end."""
        self.outcome = ""
        """How it has ended, one of ``model.run_ending.OUTCOMES``; empty before."""
        self.finished = False
        """Whether monitoring has ended: what is known of its epochs now is what is kept."""
        self.end_mark: Mark | None = None
        """The mark at which monitoring ended, if that was earlier than now."""
        self._began = session.mark()
        self.windows = WindowLog(session, self._began)
        self.work = WorkCounter()
        self._work_done: Work | None = None
        """Of all epochs that have ended: asked for once a second, so not added up each time."""

    @property
    def forecast(self) -> Forecast | None:
        """Return the newest forecast that listeners were notified of, if there is one."""
        return self.forecasts[-1] if self.forecasts else None

    def status_reader(self) -> StatusReader:
        """Return a reader of the status of this run, for displays and exporters."""
        return StatusReader(self.session, self.began_mark, lambda: self.factors)

    @property
    def in_epoch(self) -> bool:
        """Return whether an epoch is open."""
        return self._open is not None

    @property
    def epochs_done(self) -> int:
        """Return how many epochs have run to their end so far."""
        return sum(ends.finished for ends in self._bounds)

    @property
    def steps_done(self) -> int:
        """Return how many steps the epochs that have ended had."""
        return sum(ends.steps for ends in self._bounds)

    @property
    def work_so_far(self) -> Work:
        """Return the work of all epochs, with the open one. For any thread."""
        parts = [] if self._work_done is None else [self._work_done]
        if self.in_epoch:
            parts.append(self.work.now())
        return add_in_turn(parts).or_else(self.work.of_whole)

    @property
    def began(self) -> datetime:
        """Return when monitoring began, UTC."""
        return wall_time(self._began.t_ns)

    @property
    def began_mark(self) -> Mark:
        """Return the mark at which monitoring began."""
        return self._began

    @property
    def first_epoch_mark(self) -> Mark:
        """Return the mark at which the first epoch began; before it, that of monitoring."""
        return self._first or self._began

    def ends_of(self, epoch: Epoch) -> tuple[Mark, Mark]:
        """Return the marks at the beginning and end of an epoch."""
        ends = self._bounds[epoch.index - 1]
        return ends.start, ends.end

    def start_epoch(self, start: Mark | None = None) -> None:
        """Mark the beginning of an epoch; one that is open begins again, with the same index.

        Args:
            start: the beginning, if it is past; by default now.
        """
        self.restarted = self.restarted or self.in_epoch
        if self._share is not None:
            follows = bool(self._bounds) and start is self._bounds[-1].end
            self._used_before = self._bounds[-1].used[1] if follows else self._share.read()
        if start is None:
            start = self.session.mark_beginning()
        self._open = start
        self._first = self._first or start

    def end_epoch(self, *, finished: bool = True, end: Mark | None = None, steps: int = 0) -> Epoch:
        """Mark its end and return it, as far as its energy is known now.

        Args:
            finished: whether it ran to its end.
            steps: how many were marked in it.
            end: that end, where it is past; else now.

        Raises:
            NoEpochError: no epoch is open.
        """
        end = self.session.mark() if end is None else end
        # In this order: a thread that finds an epoch open finds the number of those before it.
        start, self._open = self._open, None
        if start is None:
            message = "epoch_end() without epoch_start()"
            raise NoEpochError(message)
        used = self._used_before, self._share.read() if self._share else None
        self._bounds.append(_Ends(start, end, finished, steps, used, self.work.now()))
        work = self._bounds[-1].work
        before = self._work_done
        self._work_done = work if before is None else add_in_turn((before, work))
        return self.epoch(len(self._bounds))

    def epoch(self, index: int) -> Epoch:
        """Return an epoch that has ended, by its index from 1, as far as it is known now."""
        return self.epochs(index - 1, index)[0]

    def open_since_ns(self) -> int | None:
        """Return when the open epoch began, ns of CLOCK_MONOTONIC; None if none is open."""
        start = self._open
        return None if start is None else start.t_ns

    def epoch_so_far(self) -> tuple[Epoch, Mark, Mark] | None:
        """Return the open epoch up to now, and its ends; None if none is open. For any thread."""
        start, index = self._open, len(self._bounds) + 1
        if start is None or self._open is not start:
            return None
        now = self.session.mark()
        marked = MarkedEnergy(self.session, start, now)
        return self._epoch(index, marked, self.factors), start, now

    def spent(self) -> Measurement:
        """Return the cost since the first epoch began, as far as known now; asks no sensor."""
        now = Mark(None, False)
        marked = MarkedEnergy(self.session, self._first or now, now)
        footprint = marked.footprint(self.factors)
        work = self.work_so_far
        return Measurement(marked.seconds, marked.energy, footprint, final=False, work=work)

    def result(self) -> Result:
        """Return the result; waits a moment for the sensors' last tick."""
        self.factors.refresh_soon()
        if self._bounds:
            self.session.await_final(self._bounds[-1][1])
        return self._result()

    def result_so_far(self) -> Result | None:
        """Return what is known now of the epochs that have ended, without waiting.

        None before the first one has ended.
        """
        return replace(self._result(), final=False) if self._bounds else None

    def _result(self) -> Result:
        factors = self.factors.snapshot()  # all epochs by what is known at one moment
        epochs = self.epochs(factors=factors)
        between = self.session.energies(self._pauses())
        energies = [epoch.energy for epoch in epochs]
        energy = energies[0] if len(energies) == 1 else add_windows(energies)
        return Result(
            seconds=math.fsum(epoch.seconds for epoch in epochs),
            energy=energy,
            footprint=self._footprint(factors, epochs, energy.error_joules),
            final=all(epoch.final for epoch in epochs),
            work=add_in_turn(epoch.work for epoch in epochs).or_else(self.work.of_whole),
            epochs=epochs,
            between_epochs=add_windows(between),
            forecasts=tuple(self.forecasts),
            tracker_cpu_seconds=self.session.cpu_seconds,
            attributed=self._attributed(energies),
            node_watts=self._node_watts(),
        )

    def _node_watts(self) -> dict[str, float]:
        """Return the mean power that each meter of the whole machine shows, with the pauses."""
        bounds = list(self._bounds)
        nodes = [i for i, one in enumerate(self.session.entries) if one.kind == NODE and one.read]
        if not (bounds and nodes and self.session.owned_by_this_process):
            return {}
        start_ns, end_ns = bounds[0].start.t_ns, bounds[-1].end.t_ns
        means = {i: self.session.mean_watts(i, start_ns, end_ns) for i in nodes}
        return {
            self.session.entries[i].id: watts for i, watts in means.items() if watts is not None
        }

    def _attributed(self, energies: Sequence[Energy]) -> Attribution | None:
        if self._share is None:
            return None
        pairs = zip(energies, list(self._bounds), strict=False)  # one more may end meanwhile
        return self._share.of((energy, *ends.used) for energy, ends in pairs)

    def _pauses(self) -> list[tuple[Mark, Mark]]:
        """Return what lies between epochs, and before a first one that began again."""
        bounds = list(self._bounds)
        pauses = [(one.end, following.start) for one, following in pairwise(bounds)]
        if bounds and self._first is not None and self._first is not bounds[0].start:
            pauses.insert(0, (self._first, bounds[0].start))
        return pauses

    def epochs(
        self, first: int = 0, last: int | None = None, factors: CarbonFactors | None = None
    ) -> tuple[Epoch, ...]:
        """Return epochs as far as their energy is known now, all from the same readings."""
        factors = factors or self.factors
        bounds = self._bounds[first:last]  # a copy: a signal handler may end one more meanwhile
        # Asked for first, or a reading that comes in between makes an older figure final.
        finals = [self.finished or self.session.is_final(one.start, one.end) for one in bounds]
        energies = self.session.energies([(one.start, one.end) for one in bounds])
        marked = (
            MarkedEnergy(self.session, one.start, one.end, energy)
            for one, energy in zip(bounds, energies, strict=True)
        )
        return tuple(
            self._epoch(index, one, factors, ends, final=final)
            for index, (one, ends, final) in enumerate(
                zip(marked, bounds, finals, strict=True), first + 1
            )
        )

    def _epoch(
        self,
        index: int,
        marked: MarkedEnergy,
        factors: CarbonFactors,
        ends: _Ends | None = None,
        *,
        final: bool = False,
    ) -> Epoch:
        """Return an epoch; ``ends`` is None if it is open."""
        start_s = (marked.start.t_ns - self._began.t_ns) / 1e9
        figures = marked.seconds, marked.energy, marked.footprint(factors)
        finished, steps = (False, 0) if ends is None else (ends.finished, ends.steps)
        work = self.work.now() if ends is None else ends.work
        return Epoch(*figures, index, finished, steps, start_s=start_s, final=final, work=work)

    @staticmethod
    def _footprint(
        factors: CarbonFactors, epochs: Sequence[Epoch], error_joules: float
    ) -> Footprint:
        """Return the footprint of all epochs, each with the intensity of its own time."""
        if not epochs:
            return factors.zero_footprint()
        # As with devices, what is missing widens the error and does not undo the rest.
        known = [epoch for epoch in epochs if not math.isnan(epoch.energy.joules)] or epochs
        slots = together(slot for epoch in known for slot in epoch.footprint.slots)
        return footprint_of_slots(
            slots, factors.pue, location=factors.location, error_joules=error_joules
        )
