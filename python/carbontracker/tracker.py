"""The drop-in: ``CarbonTracker`` with the arguments, console and logs of carbontracker 2.4.x."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

from carbontracker.guard import PROGRESS, TELEMETRY, nothing, optional
from carbontracker.report.console import Console
from carbontracker.settings import CHANGEABLE, Settings
from carbontracker.training.lifetime import Hold
from carbontracker.training.listeners import Listeners
from carbontracker.training.recorder import SampleKeeper, TrainingRecorder
from carbontracker.training.steps import length_of
from carbontracker.training.training_run import TrainingRun
from carbontracker.training.user_listeners import UserListeners
from carbontracker.training.window_log import unmeasured

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from carbontracker.intensity.selection import IntensitySetting
    from carbontracker.legacy.threads import CarbonIntensityThread as CarbonIntensityThread  # noqa: PLC0414  # public here
    from carbontracker.legacy.threads import CarbonTrackerThread as CarbonTrackerThread  # noqa: PLC0414
    from carbontracker.model.epoch import Epoch
    from carbontracker.model.result import Result
    from carbontracker.training.budget import OnBudget
    from carbontracker.training.lifetime import TrackerReference
    from carbontracker.training.synchronization import Sync
    from carbontracker.training.window import Window

_Item = TypeVar("_Item")


class CarbonTracker:
    """Measures the epochs of a training, predicts all of them, prints and records the footprint.

    Sampling begins here. Visible effects (console, record, log files, ports, loggers) begin with
    the first mark: an epoch, a step, a phase or a window. The run ends with ``stop()``, with the
    last epoch, with the last reference to the tracker, or when the interpreter exits, whichever
    comes first.

    The first twenty arguments are those of carbontracker 2.4.x in their order; all are readable as
    attributes. What is deliberately different is listed in ``docs/migrating.md``.

    Args:
        epochs: the planned number; the last epoch may be a part of one (2.5). 0 if it is not known.
        epochs_before_pred: predict after so many; -1 for all, 0 for never.
        monitor_epochs: stop monitoring after so many; -1 for all.
        update_interval: spacing of the stored time series, s. Totals do not depend on it.
        interpretable: show what the emissions are equivalent to.
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
        record: whether to keep a record; default yes, unless ``CARBONTRACKER_RECORD=0``.
        rate_hz: a fixed number of readings per second for every sensor, outside the overhead
            budget; by default each sensor is read in its own rhythm.
        overhead_budget: most of one core that sampling may use, as a fraction (default 0.005).
        keep_full_s: how long every sample is kept in memory, s (default 60): see ``measure``.
        locate: ``auto``: if no location is given, a background thread asks the cloud's metadata
            and, if the time zone is no help either, a service that knows the country of the public
            address; ``never``: no request is made.
        advise: after the prediction, show what the greenest hour or region would save.
        steps_per_epoch: the number of ``step()`` calls in an epoch; by default the length of the
            argument of ``epochs`` or ``steps``. If it is known, a first prediction is made within
            the first epoch.
        max_steps: the length of the training in ``step()`` calls, where the number of epochs is
            not known (``epochs=0``) or an epoch may be cut short; it decides, and not ``epochs``.
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
        progress: show progress and cost, on standard error of a terminal or in a notebook.
        loggers: listeners of the run, such as ``carbontracker.loggers`` has for W&B, MLflow and
            TensorBoard.
        trace: keep every sample on disk: a path, or True for a file beside the record (needs the
            extra ``trace``).
        previous_run: of the same training, for the first predictions: its record, a directory with
            records, or the beginning of its id.
        job: whether the processes of this launch are the ranks of one training, which has one
            number; else ``CARBONTRACKER_JOB``, else what ``torch.distributed`` and
            ``jax.distributed`` say. See ``docs/jobs.md``.
        sync: ``torch``, ``jax`` or a function: wait at the ends of epochs, windows and phases until
            the accelerator has done what was queued before; never at a step. See
            ``docs/frameworks.md`` for when it matters.
        attribution: ``job`` or ``process``: show also the part of processor and memory that the
            job, or this process and its children, used; ``result.attributed``. The energy stays
            that of the machine. See ``docs/sensors.md``.
        project: what the run contributes to, such as a model; else ``CARBONTRACKER_PROJECT``.
        stage: ``pretraining``, ``fine-tuning``, ``evaluation``, ``development`` or a word of your
            own; else ``CARBONTRACKER_STAGE``. See ``docs/ledger.md``.
        parent: ``run_id`` of the run whose checkpoint this one starts from; else
            ``CARBONTRACKER_PARENT``. The callbacks of frameworks know it from the checkpoint.

    Raises:
        ValueError: arguments that contradict each other, an impossible PUE or intensity, an
            unknown location (the message has the nearest).
        SystemExit: code 70 for an unknown component or API name or an impossible simulated
            device, unless ``ignore_errors``. Any other failure ends monitoring only.
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
        keep_full_s: float | None = None,
        locate: str = "auto",
        advise: bool = False,
        steps_per_epoch: int | None = None,
        max_steps: int | None = None,
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
        job: bool | None = None,
        sync: Sync | None = None,
        attribution: str | None = None,
        project: str | None = None,
        stage: str | None = None,
        parent: str | None = None,
    ) -> None:
        given = {name: value for name, value in locals().items() if name != "self"}
        self._settings = Settings(**given)
        self._settings.check()
        factors = self._settings.factors()
        listeners = Listeners()
        console = Console(self._settings, listeners.notify)
        _add_listeners(self._settings, listeners, console)
        self._training = TrainingRun(self._settings, factors, listeners, console.confirmed)
        self._hold = Hold(self._training)
        self._steps = self._training.steps
        self._work = self._training.work
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
        """Return the number of epochs that have begun."""
        return self._training.epoch_counter

    @epoch_counter.setter
    def epoch_counter(self, count: int) -> None:
        self._training.epoch_counter = count

    @property
    def result(self) -> Result | None:
        """Return what the epochs so far have cost; None until the first one has ended.

        ``final`` is False until monitoring has ended. Until then each access computes the result
        from all epochs.
        """
        return self._training.result_so_far()

    @property
    def tracker(self) -> CarbonTrackerThread:
        """Return the energy and the time of each epoch, as scripts for 2.4.x read them."""
        from carbontracker.legacy.threads import CarbonTrackerThread

        return CarbonTrackerThread.of(self._training)

    @property
    def intensity_updater(self) -> CarbonIntensityThread:
        """Return the carbon intensity, as scripts for 2.4.x read it."""
        from carbontracker.legacy.threads import CarbonIntensityThread

        return CarbonIntensityThread.of(self._training)

    @property
    def epochs(self) -> EpochCount | PartialEpochCount:
        """Return the number of epochs, which called yields them: ``for i in tracker.epochs():``."""
        count = self._settings.epochs
        made = EpochCount(count) if isinstance(count, int) else PartialEpochCount(count)
        made._tracker = self._training.reference(self)
        return made

    @epochs.setter
    def epochs(self, count: float) -> None:
        self._settings.change("epochs", count)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; when to predict and to end, and what to show, may change at any time.

        Raises:
            ValueError: the constructor would refuse the value.
        """
        if name in CHANGEABLE:
            self._settings.change(name, value)
        else:
            super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        """Return an argument of the constructor by its name."""
        if not name.startswith("_") and name in Settings.__dataclass_fields__:
            return getattr(self._settings, name)
        message = f"'CarbonTracker' object has no attribute {name!r}"
        raise AttributeError(message)

    def epoch_start(self) -> None:
        """Mark the beginning of an epoch."""
        self._training.epoch_start()

    def epoch_end(self) -> Epoch | None:
        """Mark the end of an epoch; predict, or end monitoring, when it is time to.

        Returns:
            The epoch, with its energy as far as it is known now (``final``). None if no epoch was
            open, or if nothing is monitored any more.
        """
        end = self._training.mark_end()  # first: what comes after it is not the training's
        return self._training.epoch_end(end)

    def step(
        self,
        n: int = 1,
        tokens: float | None = None,  # by position, too: a default by keyword costs a look-up
        samples: float | None = None,
        flops: float | None = None,
    ) -> None:
        """Mark the end of ``n`` steps; costs a fraction of a microsecond.

        Args:
            n: how many steps.
            tokens: that this process has processed in them. See ``docs/units.md``.
            samples: the same of samples.
            flops: the same of floating point operations.

        Raises:
            BudgetExceeded: a budget is spent and ``on_budget="raise"``.
        """
        if tokens is not None or samples is not None or flops is not None:
            self._work.add(tokens, samples, flops)
        self._steps.mark(n)

    def steps(self, items: Iterable[_Item]) -> Iterator[_Item]:
        """Yield the items of an epoch, with the mark of a step after each."""
        self.expect_steps(length_of(items))
        return self._marked(items)

    def phase(self, kind: str) -> AbstractContextManager[None]:
        """Keep a ``validation`` or ``checkpoint`` inside an epoch apart from its steps."""
        return self._training.phase(kind)

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

    def checkpoint(self) -> None:
        """Mark that the state of the training has been saved: a resume repeats what comes after."""
        self._training.checkpoint()

    @property
    def run_id(self) -> str:
        """Return the id of the record; empty before the first mark, and if none is kept.

        A checkpoint may keep it, as the ``parent`` of the run that continues from there.
        """
        return self._training.record_id

    def stop(self, *, failed: bool = False) -> None:
        """End monitoring and report; an epoch that is open is reported as far as it came.

        Where nothing was marked nothing is reported.

        Args:
            failed: whether an error ends the training, which the record notes.
        """
        self._training.stop(failed=failed)

    def set_api_keys(self, api_keys: Mapping[str, str]) -> None:
        """Set the keys of live intensity providers, ``{"electricitymaps": "..."}``.

        Raises:
            SystemExit: code 70 for an unknown provider, unless ``ignore_errors``.
        """
        self._training.set_api_keys(api_keys)

    def __repr__(self) -> str:
        """Return the epochs so far, and what they have cost, in one line."""
        from carbontracker.report.brief import tracker

        if "_training" not in vars(self):  # the constructor raised
            return "<CarbonTracker, not begun>"
        run = self._training
        planned = self._settings.epochs
        return tracker(run.epoch_counter, planned, run.result_so_far(), ended=run.deleted)

    def _repr_html_(self) -> str:
        from carbontracker.report.notebook import result_html, status_html

        ended = self._training.result
        if ended is not None:
            return result_html(ended)
        run = self._training.run
        return status_html(None if run is None else run.status_reader().take())

    def _marked(self, items: Iterable[_Item]) -> Iterator[_Item]:
        for item in items:
            yield item
            self.step()


def __getattr__(name: str) -> Any:
    """Return a class of 2.4.x that scripts import; loaded only for them."""
    if name in {"CarbonIntensityThread", "CarbonTrackerThread"}:
        from carbontracker.legacy import threads

        return getattr(threads, name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)


def _add_listeners(settings: Settings, listeners: Listeners, console: Console) -> None:
    """Add the listeners of the run, in the order in which they are to be notified."""
    loggers = UserListeners(settings.loggers)
    recorder = TrainingRecorder(settings, loggers.seconds)
    listeners.add(recorder)
    if settings.trace:
        listeners.add(SampleKeeper(settings, recorder))
    listeners.add(console)
    if settings.prometheus is not None or settings.otlp:
        listeners.add(optional(TELEMETRY, lambda: _publisher(settings), nothing))
    if settings.progress:
        listeners.add(optional(PROGRESS, lambda: _progress(settings), nothing))
    if settings.loggers:
        listeners.add(loggers)


def _publisher(settings: Settings) -> object:
    from carbontracker.telemetry.exporters import Publisher

    return Publisher(settings.prometheus, settings.otlp)


def _progress(settings: Settings) -> object:
    from carbontracker.report.progress import Progress

    return Progress(lambda: settings.plan)


class _Countable:
    """A number of epochs; calling it iterates over them, marked."""

    _tracker: TrackerReference[CarbonTracker]

    def __call__(self, batches: object = None) -> Iterator[int]:
        """Yield 0, 1, … up to the count, marking the beginning and end of each epoch.

        Args:
            batches: what every epoch goes through; its length is the number of steps of an epoch.
        """
        tracker = self._tracker.tracker()  # which goes on as long as the loop does
        epochs = range(math.ceil(self))  # type: ignore[call-overload]  # a number, too
        if tracker is None:
            yield from epochs
            return
        tracker.expect_steps(length_of(batches))
        for index in epochs:
            tracker.epoch_start()
            try:
                yield index
            except GeneratorExit:
                # The loop was left by break or an exception: so is the training.
                tracker.stop()
                raise
            tracker.epoch_end()


class EpochCount(_Countable, int):
    """The number of epochs, as upstream's attribute."""

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        """Return what copies and other processes get: a number."""
        return int, (int(self),)


class PartialEpochCount(_Countable, float):
    """The same where the last epoch is a part of one."""

    def __reduce__(self) -> tuple[type[float], tuple[float]]:
        """Return what copies and other processes get: a number."""
        return float, (float(self),)
