"""The drop-in: ``CarbonTracker`` with the arguments, console and logs of carbontracker 2.4.x."""

from __future__ import annotations

import os
import sys
import threading
import traceback
import weakref
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import carbontracker
from carbontracker.carbon.background import BackgroundLookup
from carbontracker.energy.sensor_events import SensorEvent, SensorEvents
from carbontracker.energy.session import Mark, acquire, release
from carbontracker.exceptions import (
    BudgetExceeded,
    ComponentNameError,
    FetcherNameError,
    NoEpochError,
)
from carbontracker.guard import ADVICE, LOCATION, PREDICTION, SAMPLES, nothing, optional
from carbontracker.records.window_log import unmeasured
from carbontracker.records.writer import (
    Record,
    advice_dict,
    begin_record,
    epoch_dict,
    footprint_dict,
    forecast_dict,
    record_directory,
    record_wanted,
    result_dict,
    run_started_data,
    sampling_data,
)
from carbontracker.report.console import Console
from carbontracker.settings import Settings, check_api_names
from carbontracker.training.budget import overrun_dict
from carbontracker.training.conduct import (
    EpochCount,
    Grip,
    PartialEpochCount,
    epoch_count,
    harmless,
    mark,
)
from carbontracker.training.lifetime import Hold, in_worker, open_trainings
from carbontracker.training.listeners import Followers
from carbontracker.training.run import Run
from carbontracker.training.steps import Steps, length_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from carbontracker.carbon.factors import CarbonFactors
    from carbontracker.energy.session import Session
    from carbontracker.intensity.selection import IntensitySetting
    from carbontracker.training.budget import OnBudget
    from carbontracker.training.run import Epoch, Forecast, Result
    from carbontracker.training.window import Window

_Item = TypeVar("_Item")

EXIT_SOFTWARE = 70
"""Exit code of a tracker that was asked for something it does not know, as upstream has it."""


class CarbonTracker:
    """Measures the epochs of a training, predicts all of them, prints and records the footprint.

    Sampling begins here. What others see of the run, a word on the console, the record, log files,
    ports and loggers, begins with the first mark: an epoch, a step, a phase or a window. The run
    ends with ``stop()``, with the last epoch, with the last reference to the tracker, or when the
    interpreter exits, whichever comes first.

    The first twenty arguments are those of carbontracker 2.4.x in their order; all are readable as
    attributes. What is deliberately different is listed in ``docs/migrating.md``.

    Args:
        epochs: how many there will be; a part of the last one counts as such (2.5).
        epochs_before_pred: predict after so many; -1 for all, 0 for never.
        monitor_epochs: stop monitoring after so many; -1 for all.
        update_interval: spacing of the stored time series, s. Totals do not depend on it.
        interpretable: say what the emissions are equivalent to.
        stop_and_confirm: ask after the prediction whether to go on (only in a terminal).
        ignore_errors: go on unmonitored where an impossible request would exit with code 70.
        components: ``all``, or a comma-separated choice of ``gpu`` and ``cpu`` (with memory).
        devices_by_pid: only the GPUs that this process or its descendants work on at the start.
        log_dir: where the log files go, and the record; None for no log files.
        log_file_prefix: in front of the names of the log files.
        verbose: 0 for a silent console.
        decimal_precision: decimals of energy, emissions and equivalents.
        api_keys: of live intensity providers, ``{"electricitymaps": "..."}``; names one to ask.
        sim_cpu: name of a simulated processor, with ``sim_cpu_tdp`` (W) and ``sim_cpu_util``
            (0 to 1, default 0.5); replaces the real one.
        sim_cpu_tdp: see ``sim_cpu``.
        sim_cpu_util: see ``sim_cpu``.
        sim_gpu: the same for a GPU, with ``sim_gpu_watts`` and ``sim_gpu_util``.
        sim_gpu_watts: see ``sim_gpu``.
        sim_gpu_util: see ``sim_gpu``.
        location: country, ISO code, zone or cloud region; else ``CARBONTRACKER_LOCATION``, else
            what can be found out: see ``locate`` and ``docs/location.md``.
        pue: power usage effectiveness, ratio; else ``CARBONTRACKER_PUE``, else the cloud
            region's, else 1.58.
        intensity: a carbon intensity of your own, gCO2eq/kWh; the name of a live provider or
            ``auto``; or a provider of your own. Else ``CARBONTRACKER_INTENSITY``, else the table.
        record: keep a record; else unless ``CARBONTRACKER_RECORD=0``.
        rate_hz: read every sensor so often, whatever it costs; else each in its own rhythm.
        overhead_budget: most of one core that sampling may use, as a fraction (default 0.005).
        locate: ``auto``: where nobody says where this is, a thread of its own asks the cloud's
            metadata and, where the time zone says nothing either, a service that knows the
            country of our address; ``never``: nobody is asked.
        advise: after the prediction say what the greenest hour or region would save.
        steps_per_epoch: how many ``step()`` an epoch has; else the length of what ``epochs`` or
            ``steps`` is given. Known, a first prediction is made within the first epoch.
        max_kwh: budget of electricity with PUE, kWh; ``max_gco2eq`` of emissions, gCO2eq;
            ``max_seconds`` of time since the first epoch began, s. See ``docs/budgets.md``.
        budget_on: ``measured``, or ``predicted`` to look at the whole training.
        on_budget: ``warn``, ``raise`` (``BudgetExceeded`` at the next mark, the record written), or
            a function that is called with the ``BudgetExceeded``.
        default_answer: to ``stop_and_confirm`` without a terminal, ``y`` or ``n``; else
            ``CARBONTRACKER_ANSWER``, else ``y``.
        prometheus: port, or ``host:port``, at which Prometheus may scrape the run; loopback unless
            a host is named. See ``docs/telemetry.md``.
        otlp: URL of an OpenTelemetry receiver to push metrics to; True for the environment's.
        progress: show how far the training is and what it costs, on stderr of a terminal or in a
            notebook.
        loggers: followers of the run, such as ``carbontracker.loggers`` has for W&B, MLflow and
            TensorBoard.
        trace: keep every sample on disk: a path, or True for a file beside the record (needs the
            extra ``trace``).
        previous_run: of the same training, for the first predictions: its record, a directory with
            records, or the beginning of its id.

    Raises:
        ValueError: arguments that contradict each other, an impossible PUE or intensity, an
            unknown location (the message has the nearest).
        SystemExit: code 70 for an unknown component or API name or an impossible simulated
            device, unless ``ignore_errors``. What else goes wrong ends monitoring only.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # upstream's signature
        self,
        epochs: float,
        epochs_before_pred: int = 1,
        monitor_epochs: int = -1,
        update_interval: float = 1,
        interpretable: bool = True,
        stop_and_confirm: bool = False,
        ignore_errors: bool = False,
        components: str = "all",
        devices_by_pid: bool = False,
        log_dir: str | os.PathLike[str] | None = None,
        log_file_prefix: str = "",
        verbose: int = 1,
        decimal_precision: int = 12,
        api_keys: Mapping[str, str] | None = None,
        sim_cpu: str | None = None,
        sim_cpu_tdp: float | None = None,
        sim_cpu_util: float | None = None,
        sim_gpu: str | None = None,
        sim_gpu_watts: float | None = None,
        sim_gpu_util: float | None = None,
        *,
        location: str | None = None,
        pue: float | None = None,
        intensity: IntensitySetting = None,
        record: bool | None = None,
        rate_hz: float | None = None,
        overhead_budget: float | None = None,
        locate: str = "auto",
        advise: bool = False,
        steps_per_epoch: int | None = None,
        max_kwh: float | None = None,
        max_gco2eq: float | None = None,
        max_seconds: float | None = None,
        budget_on: str = "measured",
        on_budget: OnBudget = "warn",
        default_answer: str | None = None,
        prometheus: int | str | None = None,
        otlp: str | bool | None = None,
        progress: bool = False,
        loggers: Sequence[Any] = (),
        trace: bool | str | os.PathLike[str] | None = None,
        previous_run: str | os.PathLike[str] | None = None,
    ) -> None:
        given = {name: value for name, value in locals().items() if name != "self"}
        self._settings = Settings(**given)
        self._settings.check()
        self._training = Training(self._settings, self._settings.factors())
        self._hold = Hold(self._training)
        self._steps = self._training.steps
        self._training.prepare()

    @property
    def deleted(self) -> bool:
        """Return whether monitoring has ended, or could not begin."""
        return self._training.deleted

    @deleted.setter
    def deleted(self, ended: bool) -> None:
        self._training.deleted = ended

    @property
    def epoch_counter(self) -> int:
        """Return how many epochs have begun."""
        return self._training.epoch_counter

    @epoch_counter.setter
    def epoch_counter(self, count: int) -> None:
        self._training.epoch_counter = count

    @property
    def result(self) -> Result | None:
        """Return what the training has cost; None until it has ended."""
        return self._training.result

    @property
    def epochs(self) -> EpochCount | PartialEpochCount:
        """Return the number of epochs, which called yields them: ``for i in tracker.epochs():``."""
        return epoch_count(self._settings.epochs, self._training.grip(self))

    def __getattr__(self, name: str) -> Any:
        """Return an argument of the constructor by its name."""
        if not name.startswith("_") and name in Settings.__dataclass_fields__:
            return getattr(self._settings, name)
        message = f"'CarbonTracker' object has no attribute {name!r}"
        raise AttributeError(message)

    def epoch_start(self) -> None:
        """Mark the beginning of an epoch."""
        self._training.epoch_start()

    def epoch_end(self) -> None:
        """Mark the end of an epoch; predict, or end monitoring, when it is time to."""
        self._training.epoch_end()

    def step(self, n: int = 1) -> None:
        """Mark the end of ``n`` steps; costs a fraction of a microsecond.

        Raises:
            BudgetExceeded: a budget is spent and ``on_budget="raise"``.
        """
        self._steps.mark(n)

    def steps(self, items: Iterable[_Item]) -> Iterator[_Item]:
        """Yield the items of an epoch, with the mark of a step after each."""
        self.expect_steps(length_of(items))
        return self._marked(items)

    def phase(self, kind: str) -> AbstractContextManager[None]:
        """Keep a ``validation`` or ``checkpoint`` inside an epoch apart from its steps."""
        self._training.begun_by_mark()
        return self._steps.phase(kind)

    def expect_steps(self, count: int | None) -> None:
        """Take ``count`` for the steps of an epoch, unless it is known already."""
        if self._steps.per_epoch is None:
            self._steps.per_epoch = count

    def window(self, name: str = "") -> Window:
        """Return a window to put around a part of the training, which the record keeps.

        As ``carbontracker.measure``, but on the devices of this tracker. The record has, for each
        epoch and name, the sums of all windows and a selection of at most 120 single ones.
        """
        made: Window | None = self._training.window(name)
        return unmeasured(name, self._settings.factors()) if made is None else made

    def stop(self) -> None:
        """End monitoring and report; an epoch that is open is reported as far as it came.

        Where nothing was marked nothing is reported.
        """
        self._training.stop()

    def set_api_keys(self, api_keys: Mapping[str, str]) -> None:
        """Set the keys of live intensity providers, ``{"electricitymaps": "..."}``.

        Raises:
            SystemExit: code 70 for an unknown provider, unless ``ignore_errors``.
        """
        self._training.set_api_keys(api_keys)

    def _repr_html_(self) -> str:
        return self._training.html()

    def _marked(self, items: Iterable[_Item]) -> Iterator[_Item]:
        for item in items:
            yield item
            self.step()


class Training:
    """One training being monitored: what outlives the user's tracker until its end is written.

    Nothing that is global, and no thread, may refer to it but weakly, except to end it: it has the
    user's functions and loggers, and those may have the tracker.
    """

    def __init__(self, settings: Settings, factors: CarbonFactors) -> None:
        self._settings = settings
        self._factors = factors
        self._keys: dict[str, str] = {}
        self._made_in = Path()
        """Where relative paths begin: the program may go elsewhere before its first mark."""
        self.owner_pid = os.getpid()
        self.deleted = False
        self.epoch_counter = 0
        self.result: Result | None = None
        self.told_of = False
        """Whether a later tracker has said that this one is still open."""
        self.steps = Steps(self.look)
        if settings.steps_per_epoch is not None:
            self.steps.per_epoch = int(settings.steps_per_epoch)
        self._run: Run | None = None
        self._marked = False
        self._begun = False
        self._stop_wanted = False
        self._beginning = threading.RLock()
        self._ending = threading.Lock()
        self._grips: weakref.WeakSet[Grip] = weakref.WeakSet()
        self._told_pid = self.owner_pid
        self._thread: threading.Thread | None = None
        self._record: Record | None = None
        self._provisional: deque[int] = deque()
        """Epochs that the record has as provisional."""
        self._lookup: BackgroundLookup | None = None
        self._sensor_events: SensorEvents | None = None
        self._budget = settings.budget()
        self._followers = Followers()
        self._console = Console(settings)

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

    @harmless
    def _open(self) -> None:
        _ = carbontracker.__version__  # imports a lot: not at the first mark, nor within a signal
        self._keys |= self._settings.api_keys or {}
        with suppress(OSError):  # the directory that the program is in is gone
            self._made_in = Path.cwd()
        if not in_worker():
            self._sample()

    def _sample(self) -> Run:
        session = acquire(self._settings.config())
        self._run = run = Run(session, self._factors)
        open_trainings().add(self)
        if self._settings.foresees:
            run.ahead.foresight.prepare(advise=self._settings.advise)
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
                self._begin(self._run or self._sample())
            finally:
                self._begun = True  # as far as it came, if a signal handler raised
            if self._stop_wanted:
                self._interrupt()

    def _begin(self, run: Run) -> None:
        settings, session, factors = self._settings, run.session, self._factors
        for grip in self._grips:
            grip.loosen()
        self._lookup = BackgroundLookup(
            factors, settings.locate, advise=settings.advise, api_keys=self._keys
        )
        factors = self._lookup.updated_factors(factors) or factors  # a look-up of last week
        factors = (factors.with_keys(self._keys) if self._keys else factors).start_polling()
        run.factors = factors
        self._learn(run)
        if record_wanted(settings.record):
            self._record = begin_record(self._records, lambda: self._started(run, factors))
        if self._record is not None:
            self._record.follow(session, run.began_mark, session.config.spacing_s)
            self._record.write_open_epochs(run)
            self._console.listener = self._record.write_warning
        if settings.trace:
            self._followers.add(optional(SAMPLES, lambda: self._samples(session), nothing))
        self._console.begin(session, factors, keys_given=bool(self._keys))
        # Weakly: a callback among the settings may have the tracker, which is to end with its last
        # reference, whatever thread of ours goes on.
        teller = weakref.WeakMethod(self._tell_sensor_event)

        def tell(event: SensorEvent) -> None:
            if (now := teller()) is not None:
                now(event)

        self._sensor_events = SensorEvents(session, run.began_mark, tell)
        self._followers.begin(settings, run)
        open_trainings().last_at_exit()

    def grip(self, tracker: CarbonTracker) -> Grip:
        """Return what a count of epochs has of its tracker."""
        made = Grip(tracker, keep=not (self._marked or self.deleted))
        self._grips.add(made)
        return made

    @property
    def in_epoch(self) -> bool:
        """Return whether an epoch is open, whose energy is being counted."""
        return self._run is not None and self._run.in_epoch

    def idle_beside(self, thread: threading.Thread | None) -> bool:
        """Return whether this training has no thread of its own: it has ended, or is ``thread``."""
        mine = self._thread
        return mine is None or mine is thread or not mine.is_alive()

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
            self._console.warn(
                f"epoch_start() twice without epoch_end(): epoch {self.epoch_counter} begins "
                "again here; the energy before counts as between epochs"
            )
        if self._lookup is not None:
            # Not earlier: who only constructs a tracker asks no network.
            self._lookup.start(run.factors)
        run.start_epoch()
        self.steps.begin(early=self.epoch_counter == 1 and self._predicting)

    @mark
    def epoch_end(self) -> None:
        """Mark the end of an epoch; predict, or end monitoring, when it is time to."""
        try:
            self._finish_epoch()
        except NoEpochError:  # or another thread has just ended it
            self._console.warn("epoch_end() without epoch_start(): nothing to report")

    @mark
    def look(self) -> None:
        """Do what the mark of a step does once a second: predict if it is time to, and watch."""
        if self.steps.early:
            run, epochs = self._monitored(), self._settings.epochs
            early = optional(PREDICTION, lambda: run.predict_early(epochs, self.steps), nothing)
            if early is not None:
                self._predicted(early)
        self._look_at_sensors()
        self._check_budget()

    @mark
    def window(self, name: str) -> Window:
        """Return a window that the record keeps."""
        run = self._monitored()
        return run.windows.window(name, run.factors)

    @harmless
    def stop(self) -> None:
        """End monitoring before its time, and report."""
        if self._marked and not self._begun:
            self._stop_wanted = True  # a signal handler's, within the first mark: that will do it
            return
        self._interrupt()

    @harmless
    def lost(self, t_ns: int) -> None:
        """End monitoring as of ``t_ns``, when the tracker went, ns of CLOCK_MONOTONIC."""
        self._interrupt(end=Mark(None, False, t_ns))

    @harmless
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
        if self._lookup is None or self._run is None:
            return  # they are used when the run begins
        self._lookup.use_keys(api_keys)
        self._run.factors = self._run.factors.with_keys(api_keys).start_polling()
        self._console.intensity(self._run.factors, keys_given=True)

    def html(self) -> str:
        """Return the result, or how things stand, for a notebook."""
        from carbontracker.report.notebook import result_html, status_html

        if self.result is not None:
            return result_html(self.result)
        return status_html(None if self._run is None else self._run.status_reader().take())

    def used_in_child(self) -> None:
        """Say, once in a process, that a tracker from before a fork measures nothing here."""
        if self._told_pid != os.getpid():
            self._told_pid = os.getpid()
            self._console.warn(
                f"this tracker was made in process {self.owner_pid}, before a fork: in this "
                "process it measures nothing; make a CarbonTracker here"
            )

    def give_up(self, details: str) -> None:
        """End because of what happened here: the training goes on."""
        self._console.refused(details, ignored=True)
        self._close()

    def _samples(self, session: Session) -> Any:
        from carbontracker.traces.samples import samples_path, start_sample_writer

        trace = self._settings.trace or True
        return start_sample_writer(
            session, self._made_in / samples_path(trace, self._records), self._record
        )

    def _records(self) -> Path:
        return self._made_in / record_directory(self._settings.log_dir)

    def _started(self, run: Run, factors: CarbonFactors) -> dict[str, Any]:
        settings = self._settings
        return {
            **run_started_data(run.session),
            "began": run.began.isoformat(timespec="milliseconds"),
            "epochs": settings.epochs,
            "components": settings.chosen_components,
            "pricing": footprint_dict(factors.zero_footprint()),
            "pue_source": factors.pue_source,
        }

    def _monitored(self) -> Run:
        if self._run is None:
            message = "the tracker is not monitoring"
            raise RuntimeError(message)
        return self._run

    def _finish_epoch(self) -> None:
        run, settings = self._monitored(), self._settings
        if not run.in_epoch:
            raise NoEpochError
        self._relocate(run)
        self._look_at_sensors()
        self.steps.end()
        epoch = run.end_epoch()
        ahead = run.ahead.foresight
        optional(PREDICTION, lambda: ahead.epoch_ended(epoch, self.steps), nothing)
        self._write_epoch(epoch)
        if epoch.index == 1:
            self._tell_of_earlier()
        if ahead.ready and settings.predicts_after(epoch.index):
            self._foresee(run)
            if settings.stop_and_confirm and not self._console.confirmed():
                self._end()
                sys.exit(0)
        self._watch(epoch)
        if settings.ends_after(epoch.index):
            self._end()

    def _foresee(self, run: Run) -> None:
        forecast = optional(PREDICTION, lambda: run.predict(self._settings.epochs), nothing)
        if forecast is not None:
            self._predicted(forecast)
            optional(ADVICE, lambda: self._advise(run, forecast), nothing)

    def _tell_sensor_event(self, event: SensorEvent) -> None:
        """Write and say it; also called on a thread of ours."""
        run = self._run
        if run is not None:
            self._write(event.event, **event.data)
            self._console.sensor_event(run.session, event)

    def _look_at_sensors(self) -> None:
        if self._sensor_events is not None:
            self._sensor_events.look()

    def _relocate(self, run: Run) -> None:
        """Reprice everything for the place, if it has been found out meanwhile."""
        lookup = self._lookup
        if lookup is None:
            return
        factors = optional(LOCATION, lambda: lookup.updated_factors(run.factors), nothing)
        if factors is None:
            return
        run.factors = factors
        self._console.located(factors)
        free = footprint_dict(factors.zero_footprint())
        self._write("located", pricing=free, pue_source=factors.pue_source)

    def _advise(self, run: Run, forecast: Forecast) -> None:
        if self._lookup is not None and self._settings.advise:
            advice = self._lookup.advice(run.factors, forecast.prediction.seconds / 3600)
            self._console.advised(advice, forecast, run.factors)
            self._write("advice", **advice_dict(advice))

    def _interrupt(self, stopped_by: BudgetExceeded | None = None, end: Mark | None = None) -> None:
        """End monitoring before its time: now, or at ``end``."""
        if not self._marked:
            self.result = self._run.result() if self._run is not None else None
            self._close()
            return
        run = self._monitored()
        self._console.interrupted(self._settings.epochs)
        if run.in_epoch:
            epoch = run.end_epoch(finished=False, end=end)
            self._write_epoch(epoch)
            self._console.unfinished(epoch)
        self._end(stopped_by, end)

    def _tell_of_earlier(self) -> None:
        """Say, once of each, which trackers count the same energy and were perhaps left behind."""
        earlier = [
            one
            for one in open_trainings().before(self)
            if one.in_epoch and one.idle_beside(self._thread) and not one.told_of
        ]
        for one in earlier:
            one.told_of = True
        if earlier:
            which = "an earlier tracker is" if len(earlier) == 1 else "earlier trackers are"
            self._console.warn(
                f"{which} still open and counting the same energy: call stop(), or let go of what "
                "holds it, such as a traceback or a notebook's Out[]"
            )

    def _write_epoch(self, epoch: Epoch) -> None:
        self._console.epoch(epoch)
        self._followers.epoch(epoch)
        if self._record is None:
            return
        start, end = self._monitored().ends_of(epoch)
        self._record.write("epoch", **epoch_dict(epoch), **self._record.span(start, end))
        self._record.write_series(end, start)
        self._write_windows(epoch.index)
        self._write_final_epochs()
        if not epoch.final:
            self._provisional.append(epoch.index)

    def _write_final_epochs(self) -> None:
        """Write again those epochs of which all sensors have told by now."""
        run = self._monitored()
        while self._record is not None and self._provisional:
            epoch = run.epoch(self._provisional[0])
            if not epoch.final:
                return
            self._provisional.popleft()
            span = self._record.span(*run.ends_of(epoch))
            self._record.write("epoch_final", **epoch_dict(epoch), **span)

    def _write_windows(self, epoch: int | None) -> None:
        windows = self._monitored().windows.take()
        if windows:
            self._write("windows", epoch=epoch, windows=windows)

    def _write(self, event: str, **data: Any) -> None:
        if self._record is not None:
            self._record.write(event, **data)

    def _end(self, stopped_by: BudgetExceeded | None = None, end: Mark | None = None) -> None:
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
        self._followers.end(result)
        self._console.actual(self.result, run.session)
        if self._record is not None:
            # Also what the last epoch's series could not know yet, and what came after it.
            self._record.write_series(run.session.mark() if end is None else end)
            self._write_windows(None)
            self._write_final_epochs()
        why = overrun_dict(stopped_by) if stopped_by else None
        if self._record is not None:
            self._record.finish(
                **result_dict(self.result),
                **sampling_data(run.session),
                **self._followers.cost_data(),
                stopped_by=why,
            )
        self._close()

    def _close(self) -> None:
        self.deleted = True
        self.steps.stop()
        if self._sensor_events is not None:
            self._sensor_events.close()
        if self._record is not None:
            self._record.close()
        self._followers.close()
        if self._run is not None:
            self._run.factors.close()
            release(self._run.session)
            self._run = None
        open_trainings().remove(self)

    @property
    def _predicting(self) -> bool:
        return self._settings.predicting and self._monitored().ahead.foresight.ready

    def _learn(self, run: Run) -> None:
        """Take the previous run into account; without it there is a warning and no more."""
        previous = self._settings.previous_run
        if previous is None:
            return
        from carbontracker.prediction.previous_run import previous_run

        try:
            path = self._made_in / previous
            run.ahead.foresight.prior = previous_run(path if path.exists() else previous)
        except (LookupError, OSError, ValueError) as error:
            self._console.warn(f"previous_run tells nothing: {error}")

    def _predicted(self, forecast: Forecast) -> None:
        self._console.predicted(forecast)
        self._write("prediction", **forecast_dict(forecast))

    def _watch(self, epoch: Epoch) -> None:
        """Look at the budget after an epoch; one that the last has passed is only said."""
        run, epochs = self._monitored(), self._settings.epochs
        budget = self._budget
        if budget.needs_outlook and run.ahead.foresight.ready:
            optional(PREDICTION, lambda: run.renew_outlook(epochs), nothing)
        # What the sensors have not told yet, they may tell yet.
        for name in budget.blind(epoch.footprint) if epoch.final else ():
            self._console.warn(f"{name} cannot be watched, because no energy is measured")
        self._check_budget(trained=epoch.index >= epochs)

    def _check_budget(self, *, trained: bool = False) -> None:
        run = self._monitored()
        try:
            self._budget.look(run, self._over_budget, only_say=trained)
        except BudgetExceeded as over:
            self._interrupt(over)
            raise

    def _over_budget(self, over: BudgetExceeded) -> None:
        self._write("budget_exceeded", **overrun_dict(over))
        self._console.warn(str(over))

    def _refuse(self, details: str) -> None:
        """End because of what was asked for: with exit code 70, unless errors are ignored."""
        self._console.refused(details, ignored=self._settings.ignore_errors)
        self._close()
        if not self._settings.ignore_errors:
            sys.exit(EXIT_SOFTWARE)
