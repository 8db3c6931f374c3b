"""The listeners that keep a run on disk: its record, and its samples where those are wanted."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from carbontracker.guard import SAMPLES, nothing, optional
from carbontracker.records.writer import (
    Record,
    begin_record,
    record_wanted,
    run_ending,
    run_metadata,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from carbontracker.carbon.factors import CarbonFactors
    from carbontracker.energy.sensor_events import SensorEvent
    from carbontracker.exceptions import BudgetExceeded
    from carbontracker.model.epoch import Epoch
    from carbontracker.model.prediction import Forecast
    from carbontracker.model.result import Result
    from carbontracker.model.run_ending import RunEnding
    from carbontracker.model.run_metadata import RunMetadata
    from carbontracker.planning.background import Advice
    from carbontracker.settings import Settings
    from carbontracker.traces.samples import SampleWriter
    from carbontracker.training.run import Run


class Recorder:
    """Writes the events that every run has into its record, from the first to the last."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.record: Record | None = None
        """None before the run begins, and where no record is kept."""
        self._run: Run | None = None
        self._stopped_by: BudgetExceeded | None = None

    def started(self, run: Run) -> None:
        """Begin the record."""
        settings = self._settings
        if not record_wanted(settings.record):
            return
        self._run = run
        self.record = begin_record(settings.records, lambda: self.metadata(run))
        if self.record is not None:
            self.record.follow(run.session, run.began_mark, run.session.config.spacing_s)
            self.write_while_open(self.record, run)

    def located(self, factors: CarbonFactors) -> None:
        """Write the factors of the location that was found."""
        free = factors.zero_footprint().to_dict()
        self.write("located", pricing=free, pue_source=factors.pue_source)

    def sensor(self, event: SensorEvent) -> None:
        """Write what happened to a sensor."""
        self.write(event.event, **event.data)

    def warning(self, level: str, message: str) -> None:
        """Write a diagnostic."""
        if self.record is not None:
            self.record.write_warning(level, message)

    def budget(self, over: BudgetExceeded) -> None:
        """Write which limit is exceeded."""
        self.write("budget_exceeded", **over.to_dict())

    def interrupted(self, over: BudgetExceeded | None) -> None:
        """Keep why the run ends before its time."""
        self._stopped_by = over

    def finished(self, result: Result) -> None:
        """Write the end of the run."""
        run, record = self._run, self.record
        if run is None or record is None:
            return
        # Also what the last series could not know yet, and what came after it.
        record.write_series(run.end_mark or run.session.mark())
        record.finish(**self.ending(run, result))

    def ending(self, run: Run, result: Result) -> dict[str, Any]:
        """Return the data of ``run_finished``."""
        return self.finished_data(run, result) | self.run_ending(run).to_dict()

    def run_ending(self, run: Run) -> RunEnding:
        """Return how the run ended."""
        return replace(run_ending(run.session), stopped_by=self._stopped_by)

    def close(self) -> None:
        """End the record."""
        if self.record is not None:
            self.record.close()

    def write(self, event: str, **data: Any) -> None:
        """Append an event."""
        if self.record is not None:
            self.record.write(event, **data)

    def metadata(self, run: Run) -> RunMetadata:
        """Return which run it is, and the choices that were made."""
        return replace(
            run_metadata(run.session),
            zero_footprint=run.factors.zero_footprint(),
            pue_source=run.factors.pue_source,
        )

    def write_while_open(self, record: Record, run: Run) -> None:
        """Have a thread write what goes on, so that a kill does not lose it."""
        raise NotImplementedError

    def finished_data(self, run: Run, result: Result) -> dict[str, Any]:
        """Return what ``run_finished`` has; write first what belongs before it."""
        raise NotImplementedError


class TrainingRecorder(Recorder):
    """Writes a training: also its epochs, windows and predictions.

    Args:
        settings: of the tracker.
        logger_seconds: returns the time that loggers took of the training's thread, by name, s.
    """

    def __init__(self, settings: Settings, logger_seconds: Callable[[], dict[str, float]]) -> None:
        super().__init__(settings)
        self._logger_seconds = logger_seconds
        self._provisional: deque[int] = deque()
        """Epochs that the record has as provisional."""

    def epoch(self, epoch: Epoch) -> None:
        """Write an epoch, the energy over time up to its end, and its windows."""
        run, record = self._run, self.record
        if run is None or record is None:
            return
        start, end = run.ends_of(epoch)
        record.write("epoch", **epoch.to_dict())
        record.write_series(end, start)
        self._write_windows(run, epoch.index)
        self._write_final_epochs(run, record)
        if not epoch.final:
            self._provisional.append(epoch.index)

    def prediction(self, forecast: Forecast) -> None:
        """Write a prediction."""
        self.write("prediction", **forecast.to_dict())

    def advice(self, advice: Advice, _forecast: Forecast, _factors: CarbonFactors) -> None:
        """Write an advice."""
        self.write("advice", **advice.to_dict())

    def metadata(self, run: Run) -> RunMetadata:
        """Return which training it is, and the choices that were made."""
        return replace(
            super().metadata(run),
            began=run.began,
            planned_epochs=self._settings.epochs,
            components=self._settings.chosen_components,
        )

    def write_while_open(self, record: Record, run: Run) -> None:
        """Have a thread write the epoch that is open."""
        if run.session.owned_by_this_process:
            record.write_open_epochs(run.epoch_so_far, run.open_since_ns)

    def finished_data(self, run: Run, result: Result) -> dict[str, Any]:
        """Return what the training has cost; write the last windows and final epochs before."""
        if self.record is not None:
            self._write_windows(run, None)
            self._write_final_epochs(run, self.record)
        return result.to_dict()

    def run_ending(self, run: Run) -> RunEnding:
        """Return how the training ended."""
        return replace(super().run_ending(run), logger_seconds=self._logger_seconds())

    def _write_final_epochs(self, run: Run, record: Record) -> None:
        """Write again those epochs whose energy has become final."""
        while self._provisional:
            epoch = run.epoch(self._provisional[0])
            if not epoch.final:
                return
            self._provisional.popleft()
            record.write("epoch_final", **epoch.to_dict())

    def _write_windows(self, run: Run, epoch: int | None) -> None:
        windows = run.windows.take()
        if windows:
            self.write("windows", epoch=epoch, windows=[one.to_dict() for one in windows])


class SampleKeeper:
    """Keeps every sample on disk, in a file that the record names."""

    def __init__(self, settings: Settings, recorder: Recorder) -> None:
        self._settings = settings
        self._recorder = recorder
        self._writer: SampleWriter | None = None

    def started(self, run: Run) -> None:
        """Begin the file."""
        self._writer = optional(SAMPLES, lambda: self._begin(run), nothing)

    def close(self) -> None:
        """End the file."""
        if self._writer is not None:
            self._writer.close()

    def _begin(self, run: Run) -> SampleWriter | None:
        from carbontracker.traces.samples import samples_path, start_sample_writer

        trace, settings = self._settings.trace or True, self._settings
        path = settings.path(samples_path(trace, settings.records))
        return start_sample_writer(run.session, path, self._recorder.record)
