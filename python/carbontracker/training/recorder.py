"""The listeners that keep a run on disk: its record, and its samples where those are wanted."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from carbontracker.energy.energy import MISSING
from carbontracker.exceptions import NoSuchRun
from carbontracker.guard import SAMPLES, nothing, optional
from carbontracker.records.environment import script_name
from carbontracker.records.jobs import is_measured_by
from carbontracker.records.reader import COMPLETED
from carbontracker.records.writer import (
    Record,
    begin_record,
    record_wanted,
    run_ending,
    run_metadata,
)
from carbontracker.training.job_member import device_names

if TYPE_CHECKING:
    from collections.abc import Callable

    from carbontracker.carbon.factors import CarbonFactors
    from carbontracker.energy.sensor_events import SensorEvent
    from carbontracker.energy.session import Mark
    from carbontracker.exceptions import BudgetExceeded
    from carbontracker.jobs.launch import Launch
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
        private = settings.log_dir is None  # else a group may share the directory
        self.record = begin_record(
            settings.records, lambda: self.first_metadata(run), private=private
        )
        if self.record is not None:
            run.record_id = self.record.run_id
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

    def joined(self, launch: Launch) -> None:
        """Write that this is one rank of a training."""
        self.write("job", job=launch.said, one_training=launch.one_training)

    def job_named(self, uid: str) -> None:
        """Write what the job is called."""
        self.write("job", job_uid=uid)

    def training_named(self, training_id: str) -> None:
        """Write what the training is called in all its attempts."""
        self.write("job", training_id=training_id)

    def checkpoint(self, mark: Mark, steps: int) -> None:
        """Write that the state was saved, and the energy up to then."""
        run, record = self._run, self.record
        if run is None or record is None:
            return
        seconds = (mark.t_ns - run.began_mark.t_ns) / 1e9
        record.write("checkpoint", seconds_after_start=seconds, steps=steps)
        record.write_series(mark)

    def adding_up(self) -> None:
        """Write the energy up to now: other ranks may have ended later than this one."""
        run, record = self._run, self.record
        if run is not None and record is not None:
            record.write_series(run.end_mark or run.session.mark())

    def joined_result(self, result: Result, _rank_0_came: bool) -> None:
        """Write what the job has cost, or this node."""
        self.write("joined_result", **result.to_dict())

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
        return replace(run_ending(run.session), stopped_by=self._stopped_by, outcome=run.outcome)

    def close(self) -> None:
        """End the record."""
        if self.record is not None:
            self.record.close()

    def write(self, event: str, **data: Any) -> None:
        """Append an event."""
        if self.record is not None:
            self.record.write(event, **data)

    def first_metadata(self, run: Run) -> RunMetadata:
        """Return what the record begins with."""
        return self.metadata(run)

    def metadata(self, run: Run) -> RunMetadata:
        """Return which run it is, and the choices that were made."""
        project, stage, parent = self._settings.purpose
        return replace(
            run_metadata(run.session, self._settings.job),
            zero_footprint=run.factors.zero_footprint(),
            pue_source=run.factors.pue_source,
            project=project,
            stage=stage,
            parent=parent,
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
        """Epochs that the record has as provisional, or by their marks."""
        self._other: OtherRank | None = None
        """Whose record has the energy; None if this one has it."""

    def started(self, run: Run) -> None:
        """Begin the record: of marks only if another rank reads all devices and keeps a record."""
        if is_follower(run):
            self._other = OtherRank(run)
        super().started(run)

    def epoch(self, epoch: Epoch) -> None:
        """Write an epoch, the energy over time up to its end, and its windows."""
        run, record = self._run, self.record
        if run is None or record is None:
            return
        start, end = run.ends_of(epoch)
        if self._other is not None and self._other.measures(record):
            record.write_marks(marks_of(epoch))
            self._write_windows(run, epoch.index)
            return
        self._complete(run, record, epoch.index)
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
            planned_steps=self._settings.plan.steps,
            components=self._settings.chosen_components,
            script=script_name(),
        )

    def first_metadata(self, run: Run) -> RunMetadata:
        """Return what the record begins with."""
        found = self.metadata(run)
        return found if self._other is None else found.of_marks_only

    def finished(self, result: Result) -> None:
        """Write the end of the run."""
        run, record = self._run, self.record
        if run is None or record is None:
            return
        if self._other is None or not self._other.measures(record):
            self._complete(run, record, len(result.epochs) + 1)
            super().finished(result)
            return
        self._write_windows(run, None)
        record.finish(
            seconds=result.seconds,
            epochs=result.finished_epochs,
            energy=MISSING.to_dict(),
            footprint={"kwh": None, "gco2eq": None, "pue": None, "intensity": {}},
            tracker_cpu_seconds=result.tracker_cpu_seconds,
            stopped_by=self._stopped_by and self._stopped_by.to_dict(),
            **({"outcome": run.outcome} if run.outcome else {}),
            **({"work": result.work.to_dict()} if result.work else {}),
        )

    def checkpoint(self, mark: Mark, steps: int) -> None:
        """Write that the state was saved, and the energy up to then."""
        if self._other is None:
            super().checkpoint(mark, steps)

    def joined(self, launch: Launch) -> None:
        """Write that this is one rank of a training, unless the record began with that."""
        if self._other is None:
            super().joined(launch)

    def warning(self, level: str, message: str) -> None:
        """Write a diagnostic; those of a rank whose energy another has are of that energy."""
        if self._other is None:
            super().warning(level, message)

    def write(self, event: str, **data: Any) -> None:
        """Append an event; of a rank whose energy another has, only what is its own."""
        if self._other is None or event in _OF_RANK:
            super().write(event, **data)

    def _complete(self, run: Run, record: Record, index: int) -> None:
        """Write what a record of marks has not, up to the epoch before ``index``."""
        if self._other is None:
            return
        self._other = None
        record.write(COMPLETED, **self.metadata(run).to_dict(), marks_only=False)
        before = [one for one in run.epochs(0) if one.index < index]
        marks = [mark for one in before for mark in run.ends_of(one)]
        if marks:
            record.write_series(marks[-1], *marks[:-1])
        self._provisional.extend(one.index for one in before)
        self.write_while_open(record, run)

    def write_while_open(self, record: Record, run: Run) -> None:
        """Have a thread write the epoch that is open."""
        if self._other is None and run.session.owned_by_this_process:
            record.write_open_epochs(
                run.epoch_so_far, run.open_since_ns, often=lambda: run.launch.is_rank_of_training
            )

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


_OF_RANK = ("job", "budget_exceeded", "windows")
"""Events that also a record of marks has."""


def marks_of(epoch: Epoch) -> list[Any]:
    """Return index, start and end in s, and steps and work as far as any were marked."""
    marks = [epoch.index, round(epoch.start_s, 6), round(epoch.end_s, 6)]
    if epoch.steps or epoch.work:
        marks.append(epoch.steps)
    return [*marks, epoch.work.to_dict()] if epoch.work else marks


def is_follower(run: Run) -> bool:
    """Return whether a run is a rank beside others of its node, which read all devices for it.

    Not the first one there, whose record has the node whatever becomes of the others.
    """
    launch = run.launch
    if not launch.is_rank_of_training or not launch.rank or not launch.local_rank:
        return False
    pids = reader_pids(run)
    return bool(pids) and 0 not in pids


def reader_pids(run: Run) -> frozenset[int]:
    """Return which processes read the devices that a run counts; 0 is this one."""
    pids = run.session.reader_pids()  # first: entries may be added meanwhile
    entries = zip(run.session.entries, pids, strict=False)
    return frozenset(pid for entry, pid in entries if entry.read)


class OtherRank:
    """The rank whose record has the energy of this one.

    Looked for again when other processes read the devices, or more devices count.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._found: tuple[frozenset[int], frozenset[str]] | None = None

    def measures(self, record: Record) -> bool:
        """Return whether there is such a rank."""
        pids = reader_pids(self._run)
        things = frozenset(domain for domain, _ in device_names(self._run.session).values())
        if 0 in pids or record.path is None:
            return False
        if self._found != (pids, things):
            with suppress(OSError, NoSuchRun):
                if is_measured_by(record.run_id, record.path, pids, things):
                    self._found = pids, things
        return self._found == (pids, things)


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
