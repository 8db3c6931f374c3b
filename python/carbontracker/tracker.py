"""The drop-in: ``CarbonTracker`` with the arguments, console and logs of carbontracker 2.4.x."""

from __future__ import annotations

import atexit
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

from carbontracker.advising.aside import Aside
from carbontracker.budget import overrun_dict
from carbontracker.conduct import EpochCount, PartialEpochCount, epoch_count, harmless
from carbontracker.exceptions import BudgetExceeded, ComponentNameError, FetcherNameError
from carbontracker.guard import ADVICE, LOCATION, PREDICTION, SAMPLES, nothing, optional
from carbontracker.records.record import (
    Record,
    advice_dict,
    begin_record,
    epoch_dict,
    footprint_dict,
    record_directory,
    record_wanted,
    result_dict,
    run_started_data,
    sampling_data,
)
from carbontracker.report.console import Console
from carbontracker.run import Run
from carbontracker.session import acquire, release
from carbontracker.settings import Settings, check_api_names
from carbontracker.steps import Steps
from carbontracker.watchful import Watchful

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carbontracker.budget import OnBudget
    from carbontracker.intensity.choice import Wanted
    from carbontracker.pricing import Pricing
    from carbontracker.run import Epoch, Forecast, Result
    from carbontracker.session import Session

EXIT_SOFTWARE = 70
"""Exit code of a tracker that was asked for something it does not know, as upstream has it."""


class CarbonTracker(Watchful):
    """Measures the epochs of a training, predicts all of them, prints and records the footprint.

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
        intensity: Wanted = None,
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
        self._owner_pid = os.getpid()
        self.deleted = False
        self.epoch_counter = 0
        self.result: Result | None = None
        self._run: Run | None = None
        self._record: Record | None = None
        self._steps = Steps(self._look)
        if self._settings.steps_per_epoch is not None:
            self._steps.per_epoch = int(self._settings.steps_per_epoch)
        self._aside: Aside | None = None
        pricing = self._settings.pricing()
        self._console = Console(self._settings)
        try:
            self._settings.check_names()
        except (ComponentNameError, FetcherNameError, TypeError, ValueError):
            self._refuse(traceback.format_exc())
            return
        try:
            self._begin(pricing)
        except Exception:  # noqa: BLE001  # the outermost edge of the constructor
            self._give_up(traceback.format_exc())

    @property
    def epochs(self) -> EpochCount | PartialEpochCount:
        """Return the number of epochs, which called yields them: ``for i in tracker.epochs():``."""
        return epoch_count(self._settings.epochs, self)

    def __getattr__(self, name: str) -> Any:
        """Return an argument of the constructor by its name."""
        if not name.startswith("_") and name in Settings.__dataclass_fields__:
            return getattr(self._settings, name)
        message = f"'CarbonTracker' object has no attribute {name!r}"
        raise AttributeError(message)

    @harmless
    def epoch_start(self) -> None:
        """Mark the beginning of an epoch."""
        run = self._monitored()
        restarts = run.in_epoch
        self._check_budget()
        if not restarts:
            self.epoch_counter += 1
        elif not run.restarted:
            self._console.warn(
                f"epoch_start() twice without epoch_end(): epoch {self.epoch_counter} begins "
                "again here; the energy before counts as between epochs"
            )
        if self._aside is not None:
            # Not earlier: who only constructs a tracker asks no network.
            self._aside.start(run.pricing)
        run.start_epoch()
        self._steps.begin(early=self.epoch_counter == 1 and self._predicting)

    @harmless
    def epoch_end(self) -> None:
        """Mark the end of an epoch; predict, or end monitoring, when it is time to."""
        if not self._monitored().in_epoch:
            self._console.warn("epoch_end() without epoch_start(): nothing to report")
            return
        self._finish_epoch()

    def _repr_html_(self) -> str:
        from carbontracker.report.notebook import tracker_html

        return tracker_html(self.result, self._run)

    @harmless
    def stop(self) -> None:
        """End monitoring and report; an epoch that is open is reported as far as it came."""
        self._interrupt()

    @harmless
    def set_api_keys(self, api_keys: Mapping[str, str]) -> None:
        """Set the keys of live intensity providers, ``{"electricitymaps": "..."}``.

        Raises:
            SystemExit: code 70 for an unknown provider, unless ``ignore_errors``.
        """
        run = self._monitored()
        try:
            check_api_names(api_keys)
        except FetcherNameError:
            self._refuse(traceback.format_exc())
            return
        if api_keys:
            if self._aside is not None:
                self._aside.with_keys(api_keys)
            run.pricing = run.pricing.with_keys(api_keys)
            self._console.intensity(run.pricing, keys_given=True)

    def _begin(self, pricing: Pricing) -> None:
        settings = self._settings
        session = acquire(settings.config())
        self._aside = Aside(
            pricing, settings.locate, advise=settings.advise, api_keys=settings.api_keys
        )
        pricing = self._aside.repriced(pricing) or pricing  # a look-up of last week
        pricing = pricing.with_keys(settings.api_keys) if settings.api_keys else pricing.watch()
        self._run = run = Run(session, pricing, settings.budget())
        if settings.foresees:
            self._run.ahead.foresight.prepare()
        self._learn()
        if record_wanted(settings.record):
            self._record = begin_record(
                lambda: record_directory(settings.log_dir), lambda: self._started(run, pricing)
            )
        if self._record is not None:
            self._record.follow(session, self._run.began_mark, session.config.spacing_s)
            self._record.write_open_epochs(self._run)
            self._console.listener = self._record.write_warning
        if settings.trace:
            self._run.followers.add(optional(SAMPLES, lambda: self._samples(session), nothing))
        self._console.begin(session, pricing)
        self._run.followers.begin(settings, self._run)
        # A training that crashes or never calls stop() still gets its result.
        atexit.register(self.stop)

    def _samples(self, session: Session) -> Any:
        from carbontracker.traces.samples import begin_samples, place_for

        trace = self._settings.trace or True
        path = place_for(trace, lambda: record_directory(self._settings.log_dir))
        return begin_samples(session, path, self._record)

    def _started(self, run: Run, pricing: Pricing) -> dict[str, Any]:
        settings = self._settings
        return {
            **run_started_data(run.session),
            "began": run.began.isoformat(timespec="milliseconds"),
            "epochs": settings.epochs,
            "components": settings.chosen_components,
            "pricing": footprint_dict(pricing.of_nothing()),
            "pue_source": pricing.pue_how,
        }

    def _monitored(self) -> Run:
        if self._run is None:
            message = "the tracker is not monitoring"
            raise RuntimeError(message)
        return self._run

    def _finish_epoch(self) -> None:
        run, settings = self._monitored(), self._settings
        self._relocate(run)
        self._steps.end()
        epoch = run.end_epoch()
        ahead = run.ahead.foresight
        optional(PREDICTION, lambda: ahead.epoch_ended(epoch, self._steps), nothing)
        self._write_epoch(epoch)
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

    def _relocate(self, run: Run) -> None:
        """Reprice everything for the place, if it has been found out meanwhile."""
        aside = self._aside
        if aside is None:
            return
        pricing = optional(LOCATION, lambda: aside.repriced(run.pricing), nothing)
        if pricing is None:
            return
        run.pricing = pricing
        self._console.located(pricing)
        free = footprint_dict(pricing.of_nothing())
        self._write("located", pricing=free, pue_source=pricing.pue_how)

    def _advise(self, run: Run, forecast: Forecast) -> None:
        if self._aside is not None and self._settings.advise:
            advice = self._aside.advice(run.pricing, forecast.prediction.seconds / 3600)
            self._console.advised(advice, forecast, run.pricing)
            self._write("advice", **advice_dict(advice))

    def _interrupt(self, stopped_by: BudgetExceeded | None = None) -> None:
        """End monitoring before its time."""
        run = self._monitored()
        self._console.interrupted(self._settings.epochs)
        if run.in_epoch:
            epoch = run.end_epoch(finished=False)
            self._write_epoch(epoch)
            self._console.unfinished(epoch)
        self._end(stopped_by)

    def _write_epoch(self, epoch: Epoch) -> None:
        self._console.epoch(epoch)
        self._monitored().followers.epoch(epoch)
        if self._record is None:
            return
        start, end = self._monitored().ends_of(epoch)
        self._record.write("epoch", **epoch_dict(epoch), **self._record.span(start, end))
        self._record.write_series(end, start)
        self._write_windows(epoch.index)

    def _write_windows(self, epoch: int | None) -> None:
        windows = self._monitored().windows.take()
        if windows:
            self._write("windows", epoch=epoch, windows=windows)

    def _write(self, event: str, **data: Any) -> None:
        if self._record is not None:
            self._record.write(event, **data)

    def _end(self, stopped_by: BudgetExceeded | None = None) -> None:
        run = self._monitored()
        self._relocate(run)
        result = run.result()
        if self.deleted:
            return  # a signal handler has done it while this one waited for the sensors
        self.deleted = True  # from here on it is this one that ends it
        self.result = result
        run.followers.end(result)
        self._console.actual(self.result)
        if self._record is not None:
            # Also what the last epoch's series could not know yet, and what came after it.
            self._record.write_series(run.session.mark())
            self._write_windows(None)
        why = overrun_dict(stopped_by) if stopped_by else None
        if self._record is not None:
            self._record.finish(
                **result_dict(self.result),
                **self._sampling(),
                **run.followers.cost_data(),
                stopped_by=why,
            )
        self._close()

    def _sampling(self) -> dict[str, Any]:
        return sampling_data(self._run.session) if self._run is not None else {}

    def _close(self) -> None:
        self.deleted = True
        self._steps.stop()
        atexit.unregister(self.stop)
        if self._record is not None:
            self._record.close()
        if self._run is not None:
            self._run.followers.close()
            self._run.pricing.close()
            release(self._run.session)
            self._run = None

    def _refuse(self, details: str) -> None:
        """End because of what was asked for: with exit code 70, unless errors are ignored."""
        self._console.refused(details, ignored=self._settings.ignore_errors)
        self._close()
        if not self._settings.ignore_errors:
            sys.exit(EXIT_SOFTWARE)

    def _give_up(self, details: str) -> None:
        """End because of what happened here: the training goes on."""
        self._console.refused(details, ignored=True)
        self._close()
