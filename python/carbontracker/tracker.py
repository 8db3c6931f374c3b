"""The drop-in: ``CarbonTracker`` with the arguments, console and logs of carbontracker 2.4.x."""

from __future__ import annotations

import atexit
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

from carbontracker.conduct import EpochCount, harmless
from carbontracker.exceptions import ComponentNameError, FetcherNameError
from carbontracker.record import (
    Record,
    energy_dict,
    footprint_dict,
    forecast_dict,
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
from carbontracker.windowlog import unmeasured

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carbontracker.measurement import Window
    from carbontracker.pricing import Pricing
    from carbontracker.run import Epoch, Result
    from carbontracker.samples import SampleWriter

EXIT_SOFTWARE = 70
"""Exit code of a tracker that was asked for something it does not know, as upstream has it."""


class CarbonTracker:
    """Measures the epochs of a training, predicts all of them, prints and records the footprint.

    The first twenty arguments are those of carbontracker 2.4.x in their order; all are readable as
    attributes. What is deliberately different is listed in ``docs/migrating.md``.

    Args:
        epochs: how many there will be.
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
        api_keys: of live intensity providers, ``{"electricitymaps": "..."}``.
        sim_cpu: name of a simulated processor, with ``sim_cpu_tdp`` (W) and ``sim_cpu_util``
            (0 to 1, default 0.5); replaces the real one.
        sim_cpu_tdp: see ``sim_cpu``.
        sim_cpu_util: see ``sim_cpu``.
        sim_gpu: the same for a GPU, with ``sim_gpu_watts`` and ``sim_gpu_util``.
        sim_gpu_watts: see ``sim_gpu``.
        sim_gpu_util: see ``sim_gpu``.
        location: country, ISO code or zone; else ``CARBONTRACKER_LOCATION``, else the time zone.
        pue: power usage effectiveness, ratio; else ``CARBONTRACKER_PUE``, else 1.58.
        intensity: a carbon intensity of your own, gCO2eq/kWh.
        record: keep a record; else unless ``CARBONTRACKER_RECORD=0``.
        rate_hz: read every sensor so often, whatever it costs; else each in its own rhythm.
        overhead_budget: most of one core that sampling may use, as a fraction (default 0.005).
        trace: keep every sample on disk: a path, or True for a file beside the record (needs the
            extra ``trace``).

    Raises:
        ValueError: arguments that contradict each other, an impossible PUE or intensity, an
            unknown location (the message has the nearest).
        SystemExit: code 70 for an unknown component or API name or an impossible simulated
            device, unless ``ignore_errors``. What else goes wrong ends monitoring only.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # upstream's signature
        self,
        epochs: int,
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
        intensity: float | None = None,
        record: bool | None = None,
        rate_hz: float | None = None,
        overhead_budget: float | None = None,
        trace: bool | str | os.PathLike[str] | None = None,
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
        self._samples: SampleWriter | None = None
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
    def epochs(self) -> EpochCount:
        """Return the number of epochs, which called yields them: ``for i in tracker.epochs():``."""
        return EpochCount(int(self._settings.epochs), self)

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
        if run.in_epoch:
            self._console.warn("epoch_start() twice without epoch_end(): the first epoch ends here")
            self._finish_epoch()
            if self.deleted:
                return
        self.epoch_counter += 1
        run.start_epoch()

    @harmless
    def epoch_end(self) -> None:
        """Mark the end of an epoch; predict, or end monitoring, when it is time to."""
        if not self._monitored().in_epoch:
            self._console.warn("epoch_end() without epoch_start(): nothing to report")
            return
        self._finish_epoch()

    def window(self, name: str = "") -> Window:
        """Return a window to put around a part of the training, which the record keeps.

        As ``carbontracker.measure``, but on the devices of this tracker. The record has, for each
        epoch and name, the sums of all windows and a selection of at most 120 single ones.
        """
        made: Window | None = self._noted_window(name)
        return unmeasured(name, self._settings.pricing()) if made is None else made

    @harmless
    def _noted_window(self, name: str) -> Window:
        run = self._monitored()
        return run.windows.window(name, run.pricing)

    @harmless
    def stop(self) -> None:
        """End monitoring and report; an epoch that is open is reported as far as it came."""
        run = self._monitored()
        self._console.interrupted(self._settings.epochs)
        if run.in_epoch:
            epoch = run.end_epoch(finished=False)
            self._write_epoch(epoch)
            self._console.unfinished(epoch)
        self._end()

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
            run.pricing = run.pricing.with_keys(api_keys)
            self._console.intensity(run.pricing, keys_given=True)

    def _begin(self, pricing: Pricing) -> None:
        settings = self._settings
        session = acquire(settings.config())
        if settings.api_keys:
            pricing = pricing.with_keys(settings.api_keys)
        self._run = Run(session, pricing)
        if record_wanted(settings.record):
            self._record = Record(record_directory(settings.log_dir))
            self._record.write(
                "run_started",
                **run_started_data(session),
                began=self._run.began.isoformat(timespec="milliseconds"),
                epochs=settings.epochs,
                components=settings.chosen_components,
                pricing=footprint_dict(pricing.of_nothing()),
                pue_source=pricing.pue_how,
            )
            self._record.follow(session, self._run.began_mark, session.config.spacing_s)
            self._console.listener = self._record.write_warning
        if settings.trace:
            self._keep_samples(self._run, settings.trace)
        self._console.begin(session, pricing)
        # A training that crashes or never calls stop() still gets its result.
        atexit.register(self.stop)

    def _keep_samples(self, run: Run, trace: bool | str | os.PathLike[str]) -> None:
        from carbontracker.samples import begin_samples, place_for

        path = place_for(trace, record_directory(self._settings.log_dir))
        self._samples = begin_samples(run.session, path, self._record)

    def _monitored(self) -> Run:
        if self._run is None:
            message = "the tracker is not monitoring"
            raise RuntimeError(message)
        return self._run

    def _finish_epoch(self) -> None:
        run, settings = self._monitored(), self._settings
        epoch = run.end_epoch()
        self._write_epoch(epoch)
        if epoch.index == settings.predict_after and settings.epochs > 0:
            forecast = run.predict(int(settings.epochs))
            self._console.predicted(forecast)
            self._write("prediction", **forecast_dict(forecast))
            if settings.stop_and_confirm and not self._console.confirmed():
                self._end()
                sys.exit(0)
        if epoch.index == settings.monitor_until:
            self._end()

    def _write_epoch(self, epoch: Epoch) -> None:
        self._console.epoch(epoch)
        if self._record is None:
            return
        start, end = self._monitored().ends_of(epoch)
        self._record.write(
            "epoch",
            index=epoch.index,
            finished=epoch.finished,
            final=epoch.final,
            seconds=epoch.seconds,
            **self._record.span(start, end),
            energy=energy_dict(epoch.energy),
            footprint=footprint_dict(epoch.footprint),
        )
        self._record.write_series(end, start)
        self._write_windows(epoch.index)

    def _write_windows(self, epoch: int | None) -> None:
        windows = self._monitored().windows.take()
        if windows:
            self._write("windows", epoch=epoch, windows=windows)

    def _write(self, event: str, **data: Any) -> None:
        if self._record is not None:
            self._record.write(event, **data)

    def _end(self) -> None:
        run = self._monitored()
        result = run.result()
        if self.deleted:
            return  # a signal handler has done it while this one waited for the sensors
        self.deleted = True  # from here on it is this one that ends it
        self.result = result
        self._console.actual(self.result)
        if self._record is not None:
            # Also what the last epoch's series could not know yet, and what came after it.
            self._record.write_series(run.session.mark())
            self._write_windows(None)
        self._write("run_finished", **result_dict(self.result), **self._sampling())
        self._close()

    def _sampling(self) -> dict[str, Any]:
        return sampling_data(self._run.session) if self._run is not None else {}

    def _close(self) -> None:
        self.deleted = True
        atexit.unregister(self.stop)
        if self._samples is not None:
            self._samples.close()
        if self._record is not None:
            self._record.close()
        if self._run is not None:
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
