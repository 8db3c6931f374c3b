"""The life of a run: it begins, is marked, and ends once; listeners are notified of each event.

``CarbonTracker`` marks the epochs of a training with it, ``carbontracker run`` a whole command.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import traceback
import weakref
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
from carbontracker.guard import ADVICE, LOCATION, PREDICTION, RESULT, nothing, optional
from carbontracker.planning.background import BackgroundLookup
from carbontracker.settings import check_api_names
from carbontracker.training.forecaster import Forecaster
from carbontracker.training.lifetime import TrackerReference, in_worker, open_trainings
from carbontracker.training.run import Run
from carbontracker.training.steps import Steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from carbontracker.carbon.factors import CarbonFactors
    from carbontracker.model.epoch import Epoch
    from carbontracker.model.measurement import Measurement
    from carbontracker.model.prediction import Forecast
    from carbontracker.model.result import Result
    from carbontracker.settings import Settings
    from carbontracker.training.listeners import Listeners
    from carbontracker.training.window import Window

EXIT_SOFTWARE = 70
"""Exit code of a tracker that was asked for something it does not know, as upstream has it."""

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
        self.run: Run | None = None
        """What is measured; None before sampling begins and after the end."""
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
        self.run = run = Run(acquire(self._settings.config()), self._factors)
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
        self._lookup = BackgroundLookup(
            factors, settings.locate, advise=settings.advise, api_keys=self._keys
        )
        factors = self._lookup.updated_factors(factors) or factors  # a look-up of last week
        factors = (factors.with_keys(self._keys) if self._keys else factors).start_polling()
        run.factors = factors
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
            self._listeners.notify("interrupted", over)
        _, run.end_mark = run.ends_of(run.end_epoch())
        self._end()

    # ---- marks ----

    @mark
    def begun_by_mark(self) -> None:
        """Begin the run, if this mark is the first one."""

    @mark
    def epoch_start(self) -> None:
        """Mark the beginning of an epoch."""
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
        run.start_epoch()
        self.steps.begin(early=self.epoch_counter == 1 and self._predicting)

    @mark
    def epoch_end(self) -> Epoch | None:
        """Mark the end of an epoch and return it; predict, or end monitoring, when it is time to.

        None if no epoch was open, or if nothing is monitored any more.
        """
        try:
            return self._finish_epoch()
        except NoEpochError:  # or another thread has just ended it
            self.warn("epoch_end() without epoch_start(): nothing to report")
            return None

    @mark
    def look(self) -> None:
        """Do what the mark of a step does once a second: predict if it is time to, and watch."""
        forecaster = self._forecaster
        if self.steps.early and forecaster is not None:
            epochs, steps = self._settings.epochs, self.steps
            early = optional(PREDICTION, lambda: forecaster.predict_early(epochs, steps), nothing)
            if early is not None:
                self._predicted(early)
        self._check_budget()

    @mark
    def window(self, name: str) -> Window:
        """Return a window that the record keeps."""
        run = self._monitored()
        return run.windows.window(name, run.factors)

    @never_raise
    def stop(self) -> None:
        """End monitoring before its time, and report."""
        if self._marked and not self._begun:
            self._stop_wanted = True  # a signal handler's, within the first mark: that will do it
            return
        self._interrupt()

    @never_raise
    def lost(self, t_ns: int) -> None:
        """End monitoring as of ``t_ns``, when the tracker went, ns of CLOCK_MONOTONIC."""
        self._interrupt(end=Mark(None, False, t_ns))

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

    # ---- epochs ----

    def _finish_epoch(self) -> Epoch:
        run, settings, forecaster = self._monitored(), self._settings, self._forecaster
        if not run.in_epoch or forecaster is None:
            raise NoEpochError
        self._relocate(run)
        self.steps.end()
        epoch = run.end_epoch()
        optional(PREDICTION, lambda: forecaster.epoch_ended(epoch, self.steps), nothing)
        self._listeners.notify("epoch", epoch)
        if epoch.index == 1:
            self._report_earlier()
        if forecaster.ready and settings.predicts_after(epoch.index):
            self._predict(run, forecaster)
            if settings.stop_and_confirm and not self._confirmed():
                self._end()
                sys.exit(0)
        self._check_budget_after(epoch, forecaster)
        if settings.ends_after(epoch.index):
            self._end()
        # After the end the sensors have answered: the result has the epoch's final energy.
        return epoch if self.result is None else self.result.epochs[epoch.index - 1]

    def _predict(self, run: Run, forecaster: Forecaster) -> None:
        forecast = optional(PREDICTION, lambda: forecaster.predict(self._settings.epochs), nothing)
        if forecast is not None:
            self._predicted(forecast)
            optional(ADVICE, lambda: self._advise(run, forecast), nothing)

    def _predicted(self, forecast: Forecast) -> None:
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
        try:
            for over in self.overruns(self.spent()):
                self._budget.act(over, training_over=training_over)
        except BudgetExceeded as over:
            self._interrupt(over)
            raise

    def _check_budget_after(self, epoch: Epoch, forecaster: Forecaster) -> None:
        """Check the budget after an epoch; a limit that the last one exceeds is only reported."""
        if self._budget is None:
            return
        epochs = self._settings.epochs
        if self._budget.needs_prediction and forecaster.ready:
            optional(PREDICTION, lambda: forecaster.renew(epochs), nothing)
        # Sensors that have not answered yet may still do so.
        for name in self._budget.blind(epoch.footprint) if epoch.final else ():
            self.warn(f"{name} cannot be watched, because no energy is measured")
        self._check_budget(training_over=epoch.index >= epochs)

    # ---- the end ----

    def _interrupt(self, stopped_by: BudgetExceeded | None = None, end: Mark | None = None) -> None:
        """End monitoring before its time: now, or at ``end``."""
        if not self._marked:
            self.result = self.run.result() if self.run is not None else None
            self._close()
            return
        run = self._monitored()
        run.end_mark = end
        self._listeners.notify("interrupted", stopped_by)
        if run.in_epoch:
            self._listeners.notify("epoch", run.end_epoch(finished=False, end=end))
        self._end()

    def _end(self) -> None:
        run = self._monitored()
        self._relocate(run)
        self._look_at_sensors()
        run.finished = True
        result = run.result()
        if self.deleted or not self._ending.acquire(blocking=False):
            return  # a signal handler has done it while this one waited for the sensors
        self.deleted = True  # from here on it is this one that ends it
        if self._sensor_events is not None:
            self._sensor_events.close()
        self.result = result
        self._listeners.notify("finished", result)
        self._close()

    def _close(self) -> None:
        self.deleted = True
        self.steps.stop()
        if self._sensor_events is not None:
            self._sensor_events.close()
        self._listeners.close()
        if self.run is not None:
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
