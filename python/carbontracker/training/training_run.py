"""The life of a run: it begins, is marked, and ends once; listeners are notified of each event.

``CarbonTracker`` marks the epochs of a training with it, ``carbontracker run`` a whole command.
"""

from __future__ import annotations

import functools
import math
import os
import sys
import threading
import traceback
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

import carbontracker
from carbontracker.energy.sensor_events import SensorEvent, SensorEvents
from carbontracker.energy.session import Mark, acquire, release
from carbontracker.exceptions import (
    BudgetExceeded,
    ComponentNameError,
    FetcherNameError,
    NoEpochError,
)
from carbontracker.guard import (
    ADVICE,
    JOB,
    LOCATION,
    PREDICTION,
    RESULT,
    nothing,
    optional,
    start_thread,
)
from carbontracker.jobs.launch import this_launch
from carbontracker.jobs.processes import boot_id
from carbontracker.model.run_ending import BUDGET, FAILED, FINISHED
from carbontracker.operating_system import host_name
from carbontracker.planning.background import BackgroundLookup
from carbontracker.settings import check_api_names
from carbontracker.training.attribution import Share
from carbontracker.training.forecaster import Forecaster
from carbontracker.training.lifetime import TrackerReference, in_worker, open_trainings
from carbontracker.training.run import Run
from carbontracker.training.steps import Steps
from carbontracker.training.synchronization import Synchronizer
from carbontracker.training.work_counter import WorkCounter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from carbontracker.carbon.factors import CarbonFactors
    from carbontracker.model.epoch import Epoch
    from carbontracker.model.measurement import Measurement
    from carbontracker.model.prediction import Forecast
    from carbontracker.model.result import Result
    from carbontracker.settings import Settings
    from carbontracker.training.budget import Budget
    from carbontracker.training.job_member import JobMember, Ratio
    from carbontracker.training.listeners import Listeners
    from carbontracker.training.window import Window

EXIT_SOFTWARE = 70
"""Exit code of a tracker that was asked for something it does not know, as upstream has it."""

MAX_CONCLUDE_S = 2.5
"""How long ``stop()`` and the exit of the interpreter wait for the end of a job, s."""

MAX_WAIT_S = 1.9
"""How long rank 0 waits for the records of others where there is no store, s."""
WITHOUT_STORE = (
    "limits are only reported: the ranks of this training cannot agree on where to stop without "
    "the store of torch.distributed"
)
NOT_ALL_STOP = (
    "limits are only reported so far: it is not known that all ranks of this training stop "
    "(on_budget='raise' on each), and one that stopped alone would leave the others waiting"
)
_Method = TypeVar("_Method", bound="Callable[..., Any]")
_Tracker = TypeVar("_Tracker")


def never_raise(method: _Method) -> _Method:
    """Let nothing but ``SystemExit`` out of ``method``: monitoring fails, the training goes on.

    ``BudgetExceeded`` is the other exception: raised only where the user asked to be stopped. Does
    nothing in a forked child and after the end.
    """
    return _guarded(method, is_mark=False)


def mark(method: _Method) -> _Method:
    """Make ``method`` a mark: it never raises, the first one begins the run, a fork is named."""
    return _guarded(method, is_mark=True)


def _guarded(method: _Method, *, is_mark: bool) -> _Method:
    @functools.wraps(method)
    def guarded(self: TrainingRun, *args: Any, **kwargs: Any) -> Any:
        if self.deleted:
            return None
        if os.getpid() != self.owner_pid:
            if is_mark:
                self.used_in_child()
            return None
        try:
            if is_mark:
                self.begin()
            return method(self, *args, **kwargs)
        except BudgetExceeded:
            raise
        except Exception:  # noqa: BLE001  # the outermost edge: see `never_raise`
            if not self.deleted:  # else a signal handler has ended monitoring meanwhile
                self.give_up(traceback.format_exc())
            return None

    return cast("_Method", guarded)


class TrainingRun:
    """One run being monitored: what outlives the user's tracker until its end is written.

    Nothing that is global, and no thread, may refer to it but weakly, except to end it: it has the
    user's functions and loggers, and those may have the tracker. What threads may hold is its
    ``run``.

    Args:
        settings: checked ones.
        factors: what turns the energy into grams.
        listeners: notified of all events.
        confirmed: asks the user after a prediction whether to go on.
    """

    def __init__(
        self,
        settings: Settings,
        factors: CarbonFactors,
        listeners: Listeners,
        confirmed: Callable[[], bool] = lambda: True,
    ) -> None:
        self._settings = settings
        self._factors = factors
        self._listeners = listeners
        self._confirmed = confirmed
        self._keys: dict[str, str] = {}
        self.owner_pid = os.getpid()
        self._warned_pid = self.owner_pid
        """The process that was warned last of a fork."""
        self.deleted = False
        self.epoch_counter = 0
        self.result: Result | None = None
        self.reported_open = False
        """Whether a later run has reported that this one is still open."""
        self.steps = Steps(self.look)
        if settings.steps_per_epoch is not None:
            self.steps.per_epoch = int(settings.steps_per_epoch)
        self.steps.planned = settings.plan.steps
        self.work = WorkCounter()
        self.synchronize = Synchronizer(settings.sync)
        """Called at a mark, waits for the accelerator if the user wants that."""
        self.run: Run | None = None
        """What is measured; None before sampling begins and after the end."""
        self._record_id = ""
        """Of the run, once it has ended."""
        self._forecaster: Forecaster | None = None
        self._marked = False
        self._begun = False
        self._stop_wanted = False
        self._beginning = threading.RLock()
        self._ending = threading.Lock()
        self._thread: threading.Thread | None = None
        self._references: weakref.WeakSet[TrackerReference[Any]] = weakref.WeakSet()
        self._lookup: BackgroundLookup | None = None
        self._sensor_events: SensorEvents | None = None
        self._budget = settings.budget()
        self._member: JobMember | None = None
        """Of a training on several processes: what connects this one to the others."""
        self._warned_of_others = False
        """Whether a line has said that limits are only reported."""
        self._is_rank = False
        """Whether this is one of several ranks that have no store."""
        self._concludes_later = False
        """Whether a thread ends it, after the others of its job."""
        self._concluded = threading.Event()

    # ---- the beginning ----

    def prepare(self) -> None:
        """Refuse what cannot be, and begin to sample: the sensors are known by the first mark.

        A worker of ``multiprocessing`` that may never mark anything samples from its first mark on.

        Raises:
            SystemExit: code 70 for what cannot be, unless ``ignore_errors``.
        """
        try:
            self._settings.check_names()
        except (ComponentNameError, FetcherNameError, TypeError, ValueError):
            self._refuse(traceback.format_exc())
            return
        self._open()

    @never_raise
    def _open(self) -> None:
        _ = carbontracker.__version__  # imports a lot: not at the first mark, nor within a signal
        self._keys |= self._settings.api_keys or {}
        if not in_worker():
            self._sample_until_end()

    def _sample_until_end(self) -> Run:
        """Begin to sample; the end comes with the tracker or the interpreter at the latest."""
        run = self._sample()
        open_trainings().add(self)
        if self._settings.forecasting and self._forecaster is not None:
            self._forecaster.prepare(advise=self._settings.advise)
        return run

    def _sample(self) -> Run:
        session, scope = acquire(self._settings.config()), self._settings.attribution
        share = Share(session, scope) if scope else None
        self.run = run = Run(session, self._factors, share=share)
        run.work = self.work
        self._forecaster = Forecaster(run)
        return run

    def begin(self) -> None:
        """Begin the run, at its first mark: what others see of it."""
        if self._begun:
            return
        with self._beginning:  # marks of other threads wait until there is a run
            if self._marked:
                return  # a signal handler's, within the first one
            self._marked = True
            self._thread = threading.current_thread()
            try:
                for reference in self._references:
                    reference.weaken()
                self._begin(self.run or self._sample_until_end())
                open_trainings().last_at_exit()
            finally:
                self._begun = True  # as far as it came, if a signal handler raised
            if self._stop_wanted:
                self._interrupt()

    def _begin(self, run: Run) -> None:
        settings, factors = self._settings, self._factors
        run.launch = this_launch(settings.job)
        # Once a job: its number has the location and the intensity of rank 0.
        asks = not (run.launch.is_rank_of_training and run.launch.rank)
        self._lookup = BackgroundLookup(
            factors,
            settings.locate if asks else "never",
            advise=settings.advise and asks,
            api_keys=self._keys,
        )
        factors = self._lookup.updated_factors(factors) or factors  # a look-up of last week
        factors = factors.with_keys(self._keys) if self._keys else factors
        run.factors = factors = factors.start_polling() if asks else factors
        self._listeners.notify("started", run)
        self._use_previous_run()  # its warning is in the record
        self._listeners.notify("intensity", factors, bool(self._keys))
        # Weakly: a callback among the settings may have the tracker, which is to end with its last
        # reference, whatever thread of ours goes on.
        weak_notify = weakref.WeakMethod(self._notify_of_sensor)

        def notify(event: SensorEvent) -> None:
            if (call := weak_notify()) is not None:
                call(event)

        self._sensor_events = SensorEvents(run.session, run.began_mark, notify)

    def _notify_of_sensor(self, event: SensorEvent) -> None:
        """Notify listeners; also called on a thread of ours."""
        if self.run is not None:
            self._listeners.notify("sensor", event)

    def _use_previous_run(self) -> None:
        """Begin predictions with the previous run; without it there is a warning and no more."""
        previous = self._settings.previous_run
        if previous is None or self._forecaster is None:
            return
        from carbontracker.prediction.previous_run import previous_run

        try:
            path = self._settings.path(previous)
            self._forecaster.prior = previous_run(path if path.exists() else previous)
        except (LookupError, OSError, ValueError) as error:
            self.warn(f"previous_run ignored: {error}")

    def reference(self, tracker: _Tracker) -> TrackerReference[_Tracker]:
        """Return a reference to the tracker that is weak from the first mark on."""
        made = TrackerReference(tracker, strong=not (self._marked or self.deleted))
        self._references.add(made)
        return made

    # ---- a whole command ----

    def begin_whole(self) -> None:
        """Begin a run that is measured as a whole: now, with everything that others see of it."""
        self._marked = self._begun = True
        run = self._sample()
        self._begin(run)
        if self._lookup is not None:
            self._lookup.start(run.factors)
        run.start_epoch(run.began_mark)  # where the record's energy over time begins

    def end_whole(self, over: BudgetExceeded | None) -> None:
        """End it now; ``over`` is the limit that ended it, if one did."""
        run = self._monitored()
        if over is not None:
            run.outcome = BUDGET
            self._listeners.notify("interrupted", over)
        _, run.end_mark = run.ends_of(run.end_epoch())
        self._end()

    # ---- marks ----

    @mark
    def begun_by_mark(self) -> None:
        """Begin the run, if this mark is the first one."""

    @contextmanager
    def phase(self, kind: str) -> Iterator[None]:
        """Keep a part of an epoch apart from its steps."""
        self.begun_by_mark()
        self.synchronize()
        with self.steps.phase(kind), self.work.phase():
            yield
            self.synchronize()

    @mark
    def epoch_start(self, start: Mark | None = None) -> None:
        """Mark the beginning of an epoch.

        Args:
            start: the beginning, where it is the end of the epoch before; else now.
        """
        run = self._monitored()
        restarts = run.in_epoch
        self._look_at_sensors()
        self._check_budget()
        if not restarts:
            self.epoch_counter += 1
        elif not run.restarted:
            self.warn(
                f"epoch_start() twice without epoch_end(): epoch {self.epoch_counter} begins "
                "again here; the energy before counts as between epochs"
            )
        if self._lookup is not None:
            # Not earlier: a tracker that is only constructed makes no request.
            self._lookup.start(run.factors)
        if self.epoch_counter == 1:
            self._join_job(run)
        self.steps.begin(early=self.epoch_counter == 1 and self._predicting)
        self.work.begin()
        self.synchronize()
        run.start_epoch(start)  # last: what comes before is not the training's

    def mark_end(self) -> Mark | None:
        """Mark the end of what is measured; None where nothing is measured. Never raises."""
        run = self.run
        if run is None or os.getpid() != self.owner_pid:
            return None
        try:
            self.synchronize()
            return run.session.mark()
        except (MemoryError, RuntimeError):
            return None  # the end is marked a little later

    @mark
    def name_training(self, training_id: str) -> None:
        """Record what the training is called in all its attempts."""
        self._listeners.notify("training_named", training_id)

    @mark
    def epoch_end(self, end: Mark | None = None) -> Epoch | None:
        """Mark the end of an epoch and return it; predict, or end monitoring, when it is time to.

        None if no epoch was open, or if nothing is monitored any more.

        Args:
            end: the end, if it was marked before.
        """
        try:
            return self._finish_epoch(end)
        except NoEpochError:  # or another thread has just ended it
            self.warn("epoch_end() without epoch_start(): nothing to report")
            return None

    @mark
    def look(self) -> None:
        """Do what the mark of a step does once a second: predict if it is time to, and watch."""
        forecaster = self._forecaster
        if self.steps.early and forecaster is not None:
            plan, steps = self._settings.plan, self.steps
            early = optional(PREDICTION, lambda: forecaster.predict_early(plan, steps), nothing)
            if early is not None:
                self._predicted(early)
        self._check_budget()

    @mark
    def checkpoint(self) -> None:
        """Mark that the state of the training has been saved."""
        run = self._monitored()
        self._listeners.notify("checkpoint", run.session.mark(), run.steps_done + self._open_steps)

    @mark
    def window(self, name: str) -> Window:
        """Return a window that the record keeps."""
        run = self._monitored()
        return run.windows.window(name, run.factors, self.synchronize)

    def stop(self, *, failed: bool = False) -> None:
        """End monitoring before its time, and report; wait a moment for others of a job."""
        self._stop_and_wait(FAILED if failed else FINISHED)

    def end_at_exit(self) -> None:
        """End monitoring where the program has left it; wait a moment for others of a job."""
        self._stop_and_wait(self._outcome_if_left())
        if self._member is not None and os.getpid() == self.owner_pid:
            self._member.leave()

    def _stop_and_wait(self, outcome: str) -> None:
        self._stop(outcome)
        if self._concludes_later and os.getpid() == self.owner_pid:
            self._concluded.wait(MAX_CONCLUDE_S)

    @never_raise
    def _stop(self, outcome: str) -> None:
        if self._marked and not self._begun:
            self._stop_wanted = True  # a signal handler's, within the first mark: that will do it
            return
        self._interrupt(outcome=outcome)

    @never_raise
    def lost(self, t_ns: int) -> None:
        """End monitoring as of ``t_ns``, when the tracker went, ns of CLOCK_MONOTONIC."""
        self._interrupt(end=Mark(None, False, t_ns), outcome=self._outcome_if_left())

    @never_raise
    def set_api_keys(self, api_keys: Mapping[str, str]) -> None:
        """Take keys of live intensity providers."""
        try:
            check_api_names(api_keys)
        except FetcherNameError:
            self._refuse(traceback.format_exc())
            return
        if not api_keys:
            return
        self._keys |= api_keys
        if self._lookup is None or self.run is None:
            return  # they are used when the run begins
        self._lookup.use_keys(api_keys)
        self.run.factors = self.run.factors.with_keys(api_keys).start_polling()
        self._listeners.notify("intensity", self.run.factors, True)

    # ---- what is known of it ----

    def result_so_far(self) -> Result | None:
        """Return the result, or what is known of the epochs that have ended, without waiting.

        None before the first one has ended, and in a forked child.
        """
        run = self.run
        if run is None or os.getpid() != self.owner_pid:
            return self.result
        return optional(RESULT, run.result_so_far, nothing)

    @property
    def factors(self) -> CarbonFactors:
        """Return the factors in use."""
        return self._factors if self.run is None else self.run.factors

    @property
    def record_id(self) -> str:
        """Return the id of the record; empty before the first mark, and if none is kept."""
        return self._record_id if self.run is None else self.run.record_id

    @property
    def in_epoch(self) -> bool:
        """Return whether an epoch is open, whose energy is being counted."""
        return self.run is not None and self.run.in_epoch

    def idle_beside(self, thread: threading.Thread | None) -> bool:
        """Return whether this run has no thread of its own: it has ended, or is ``thread``."""
        mine = self._thread
        return mine is None or mine is thread or not mine.is_alive()

    @property
    def _predicting(self) -> bool:
        ready = self._forecaster is not None and self._forecaster.ready
        return self._settings.predicting and ready

    def _monitored(self) -> Run:
        if self.run is None:
            message = "the tracker is not monitoring"
            raise RuntimeError(message)
        return self.run

    # ---- the job ----

    def _join_job(self, run: Run) -> None:
        """Report to the other ranks, if this process is one rank of a training."""
        if self._member is not None:
            return
        run.launch = this_launch(self._settings.job)
        if run.launch.is_rank_of_training:
            optional(JOB, lambda: self._join(run), nothing)

    def _join(self, run: Run) -> None:
        from carbontracker.jobs.store import torch_store
        from carbontracker.training.job_member import JobMember

        host = host_name()
        if not self._is_rank:
            self._listeners.notify("joined", run.launch)
        store = torch_store(run.launch.rank or 0, boot_id() or host)
        if store is None:
            if self._budget is not None and self._budget.may_stop and not self._is_rank:
                self.warn(WITHOUT_STORE)
            self._is_rank = True
            return
        may_stop = self._budget is not None and self._budget.may_stop
        self._member = JobMember(run, run.launch, store, host, self.steps, may_stop=may_stop)
        self._listeners.add(self._member)
        weak_notify = weakref.WeakMethod(self._notify_of_uid)

        def notify(uid: str) -> None:
            if (call := weak_notify()) is not None:
                call(uid)

        self._member.begin(notify)

    def _notify_of_uid(self, uid: str) -> None:
        self._listeners.notify("job_named", uid)

    # ---- epochs ----

    def _finish_epoch(self, end: Mark | None) -> Epoch:
        run, settings, forecaster = self._monitored(), self._settings, self._forecaster
        if not run.in_epoch or forecaster is None:
            raise NoEpochError
        if end is None:
            self.synchronize()
            end = run.session.mark()
        self.steps.end(end.t_ns)
        self._relocate(run)
        epoch = run.end_epoch(end=end, steps=self.steps.done)
        if epoch.index == 1:
            self._join_job(run)
        optional(PREDICTION, lambda: forecaster.epoch_ended(epoch, self.steps), nothing)
        self._listeners.notify("epoch", epoch)
        if epoch.index == 1:
            self._report_earlier()
        done = epoch.index, run.steps_done
        if forecaster.ready and settings.predicts_after(*done):
            self._predict(run, forecaster)
            # One rank that asks, or ends alone, would leave the others waiting for it.
            asks = settings.stop_and_confirm and not run.launch.is_rank_of_training
            if asks and not self._confirmed():
                run.outcome = BUDGET  # what it would cost was too much
                self._end()
                sys.exit(0)
        self._check_budget_after(epoch, forecaster)
        self._stop_with_others(epoch)
        result = self._end() if settings.ends_after(*done) else None
        # After the end the sensors have answered: the result has the epoch's final energy.
        return epoch if result is None else result.epochs[epoch.index - 1]

    def _predict(self, run: Run, forecaster: Forecaster) -> None:
        forecast = optional(PREDICTION, lambda: forecaster.predict(self._settings.plan), nothing)
        if forecast is not None:
            self._predicted(forecast)
            optional(ADVICE, lambda: self._advise(run, forecast), nothing)

    def _predicted(self, forecast: Forecast) -> None:
        member = self._member
        if member is None or not member.is_rank_0:
            self._notify_of_prediction(forecast)
            return
        weak_notify = weakref.WeakMethod(self._notify_of_prediction)

        def notify(ratio: Ratio | None) -> None:
            if (call := weak_notify()) is not None:
                call(forecast if ratio is None else forecast.of_job(ratio.joules, ratio.seconds))

        member.when_told(math.floor(forecast.prediction.after_epochs), notify)

    def _notify_of_prediction(self, forecast: Forecast) -> None:
        """Notify listeners; of a job on a thread of ours, when the other nodes have reported."""
        if self.run is None:
            return
        self._monitored().forecasts.append(forecast)
        self._listeners.notify("prediction", forecast)

    def _advise(self, run: Run, forecast: Forecast) -> None:
        if self._lookup is not None and self._settings.advise:
            advice = self._lookup.advice(run.factors, forecast.prediction.seconds / 3600)
            self._listeners.notify("advice", advice, forecast, run.factors)

    def _relocate(self, run: Run) -> None:
        """Count the whole run with the factors of its location, if that was found meanwhile."""
        lookup = self._lookup
        if lookup is None or lookup.found is None:
            return
        factors = optional(LOCATION, lambda: lookup.updated_factors(run.factors), nothing)
        if factors is not None:
            run.factors = factors
            self._listeners.notify("located", factors)

    def _look_at_sensors(self) -> None:
        if self._sensor_events is not None:
            self._sensor_events.look()

    def _report_earlier(self) -> None:
        """Report, once of each, the trackers that count the same energy and seem left behind."""
        earlier = [
            one
            for one in open_trainings().before(self)
            if one.in_epoch and one.idle_beside(self._thread) and not one.reported_open
        ]
        for one in earlier:
            one.reported_open = True
        if earlier:
            which = "an earlier tracker is" if len(earlier) == 1 else "earlier trackers are"
            self.warn(
                f"{which} still open and counting the same energy: call stop(), or let go of what "
                "holds it, such as a traceback or a notebook's Out[]"
            )

    # ---- the budget ----

    def overruns(self, spent: Measurement) -> Iterator[BudgetExceeded]:
        """Yield the limits that are exceeded now and were not before; listeners are notified."""
        if self._budget is None:
            return
        newest = self._forecaster.newest if self._forecaster is not None else None
        for over in self._budget.check(spent, newest):
            self._listeners.notify("budget", over)
            yield over

    def spent(self) -> Measurement:
        """Return the cost so far, as far as known now."""
        return self._monitored().spent()

    def _check_budget(self, *, training_over: bool = False) -> None:
        if self._budget is None:
            return
        launch = self._monitored().launch
        if launch.is_rank_of_training:
            if launch.rank == 0:
                self._check_budget_of_job(self._budget, training_over=training_over)
            return
        try:
            for over in self.overruns(self.spent()):
                self._budget.act(over, training_over=training_over)
        except BudgetExceeded as over:
            self._interrupt(over)
            raise

    def _check_budget_of_job(self, budget: Budget, *, training_over: bool) -> None:
        """Check the budget of all ranks, and have all of them stop after an epoch to come."""
        member = self._member
        spent = self.spent()
        if member is not None and (ratio := member.ratio()) is not None:
            spent = spent.of_job(ratio.joules)
        try:
            for over in self.overruns(spent):
                budget.act(over, training_over=training_over)
        except BudgetExceeded as over:
            if member is not None:
                member.request_stop(over)

    def _stop_with_others(self, epoch: Epoch) -> None:
        """Stop here if rank 0 has told all ranks to.

        Raises:
            BudgetExceeded: it has.
        """
        if self._member is None or self._budget is None or not self._budget.may_stop:
            return
        over = self._member.stops_after(epoch.index)
        if over is None and self._member.is_to_stop_all and not self._warned_of_others:
            self._warned_of_others = True
            self.warn(NOT_ALL_STOP)
        if over is not None and not self._settings.ends_after(epoch.index, self._steps_so_far):
            self._interrupt(over)
            raise over

    @property
    def _open_steps(self) -> int:
        return self.steps.done if self.in_epoch else 0

    @property
    def _steps_so_far(self) -> int:
        return self._monitored().steps_done

    def _check_budget_after(self, epoch: Epoch, forecaster: Forecaster) -> None:
        """Check the budget after an epoch; a limit that the last one exceeds is only reported."""
        if self._budget is None:
            return
        plan = self._settings.plan
        if self._budget.needs_prediction and forecaster.ready:
            optional(PREDICTION, lambda: forecaster.renew(plan), nothing)
        # Sensors that have not answered yet may still do so.
        for name in self._budget.blind(epoch.footprint) if epoch.final else ():
            self.warn(f"{name} cannot be watched, because no energy is measured")
        over = plan.reached(epoch.index, self._monitored().steps_done)
        self._check_budget(training_over=over)

    # ---- the end ----

    def _interrupt(
        self,
        stopped_by: BudgetExceeded | None = None,
        end: Mark | None = None,
        outcome: str = FINISHED,
    ) -> None:
        """End monitoring before its time: now, or at ``end``."""
        if not self._marked:
            self.result = self.run.result() if self.run is not None else None
            self._close()
            return
        run = self._monitored()
        run.end_mark = end
        run.outcome = outcome if stopped_by is None else BUDGET
        self._listeners.notify("interrupted", stopped_by)
        if run.in_epoch:
            steps = self.steps.done
            self._listeners.notify("epoch", run.end_epoch(finished=False, end=end, steps=steps))
        self._end()

    def _outcome_if_left(self) -> str:
        """Return how a training has ended whose tracker has gone without ``stop()``."""
        run = self.run
        if run is None or run.in_epoch:
            return FAILED
        plan = self._settings.plan
        ended = not plan.known or plan.reached(run.epochs_done, run.steps_done)
        # Set by the interpreter where an exception has ended the program.
        raised = getattr(sys, "last_value", None) is not None
        return FAILED if raised and not ended else FINISHED

    def _end(self) -> Result | None:
        """End monitoring and return the result of this process; None if it has ended already."""
        run = self._monitored()
        run.outcome = run.outcome or FINISHED
        self._relocate(run)
        self._look_at_sensors()
        run.finished = True
        result = run.result()
        if self.deleted or not self._ending.acquire(blocking=False):
            return None  # a signal handler has done it while this one waited for the sensors
        self.deleted = True  # from here on it is this one that ends it
        if self._sensor_events is not None:
            self._sensor_events.close()
        self.result = result
        adds_up_records = self._is_rank and run.launch.rank == 0 and bool(run.record_id)
        if self._member is None and not adds_up_records:
            self._conclude(result)
            return result
        self._concludes_later = True
        if self._member is not None:
            self._member.end()
        if start_thread(JOB, self._conclude_job, "carbontracker-job-end", result) is None:
            self._conclude(result)
        return result

    def _conclude_job(self, result: Result) -> None:
        """End once the others of the job have reported; in a thread, so that no mark waits."""
        member = self._member
        if member is not None:
            member.wait()
            ended = optional(JOB, lambda: member.ended(result), nothing)
            if ended is not None:
                self.result = ended.result
                self._listeners.notify("joined_result", ended.result, ended.rank_0_came)
        elif (joined := optional(JOB, self._result_of_records, nothing)) is not None:
            self.result = joined
            self._listeners.notify("joined_result", joined, True)
        self._conclude(result)

    def _result_of_records(self) -> Result | None:
        """Return the result of the job from the records of its ranks; waits a moment for them."""
        from carbontracker.records.jobs import result_of_siblings

        run = self._monitored()
        return result_of_siblings(
            run.record_id,
            self._settings.records(),
            run.launch.world_size or 1,
            run.began.timestamp(),
            MAX_WAIT_S,
            lambda: self._listeners.notify("adding_up"),
        )

    def _conclude(self, result: Result) -> None:
        try:
            self._listeners.notify("finished", result)
            self._close()
        finally:
            self._concluded.set()

    def _close(self) -> None:
        self.deleted = True
        self.steps.stop()
        if self._sensor_events is not None:
            self._sensor_events.close()
        self._listeners.close()
        if self.run is not None:
            self._record_id = self.run.record_id
            self.run.factors.close()
            release(self.run.session)
            self.run = None
        open_trainings().remove(self)

    # ---- what is not as it should be ----

    def warn(self, message: str, level: str = "WARNING") -> None:
        """Notify listeners of a diagnostic."""
        self._listeners.notify("warning", level, message)

    def used_in_child(self) -> None:
        """Warn, once in a process, that a tracker from before a fork measures nothing here."""
        if self._warned_pid != os.getpid():
            self._warned_pid = os.getpid()
            self.warn(
                f"this tracker was made in process {self.owner_pid}, before a fork: in this "
                "process it measures nothing; make a CarbonTracker here"
            )

    def give_up(self, details: str) -> None:
        """End because of what happened here: the training goes on."""
        self._end_without_result(details, ignored=True)

    def _refuse(self, details: str) -> None:
        """End because of what was asked for: with exit code 70, unless errors are ignored."""
        self._end_without_result(details, ignored=self._settings.ignore_errors)
        if not self._settings.ignore_errors:
            sys.exit(EXIT_SOFTWARE)

    def _end_without_result(self, details: str, *, ignored: bool) -> None:
        if ignored:
            details = f"Ignored error: {details}Continued training without monitoring..."
        self.warn(details, "CRITICAL")
        self._close()
