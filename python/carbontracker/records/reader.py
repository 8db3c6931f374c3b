"""The one reader of records: what every view of them is made from.

Streams: one run at a time, one file at a time. Whatever a record lacks (the end of a killed run, a
torn last line, fields that an older version did not write) is missing from what is returned, and
said there.
"""

from __future__ import annotations

import json
import math
import os
from collections import deque
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carbontracker.carbon.footprint import Footprint, add_footprints
from carbontracker.energy.energy import MISSING, add_windows
from carbontracker.exceptions import NoSuchRun
from carbontracker.guard import logger
from carbontracker.json_values import seconds_of, time_of
from carbontracker.model.epoch import Epoch
from carbontracker.model.prediction import Forecast
from carbontracker.model.result import Result
from carbontracker.model.run_ending import RunEnding
from carbontracker.model.run_metadata import PURPOSE, RunMetadata, Sensor
from carbontracker.model.work import add_in_turn
from carbontracker.records.labels import SUFFIX as LABELS
from carbontracker.records.labels import labels_of
from carbontracker.records.run_record import RunRecord, Series
from carbontracker.records.writer import SCHEMA, record_directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    Event = Mapping[str, Any]

SUFFIX = ".jsonl"
EPOCHS = ("epoch", "epoch_so_far", "epoch_final")
"""Events that hold an epoch: as it ended, or as far as it had come when it was written."""
_HEAD = 64
"""Bytes of a line in which the name of its event is found: it is written first."""
_UNIX = datetime.fromtimestamp(0, timezone.utc)
_JOB = ("job", "one_training", "job_uid", "training_id")
"""What an event ``job`` may know better than the beginning of the run."""
MARKS = "marks"
"""Event with the times of an epoch, of a rank that has no energy of its own."""
COMPLETED = "run_completed"
"""Event that tells again what ``run_started`` left out: from here on a rank has its own energy."""
_ENVELOPE = ("event", "run_id", "time", *_JOB)
_SERIES = b'"event":"series"'
_EPOCH = b'"event":"epoch'
"""Of an epoch that ended, and of one so far."""


def read_runs(
    path: str | os.PathLike[str] | None = None, *, series: bool = True, epochs: bool = True
) -> Iterator[RunRecord]:
    """Yield every run below ``path``, in the order of the files' names and of the runs' starts.

    Args:
        path: a file, a directory with all below it, or the id (or its beginning) of a run in the
            default directory; that directory, which may not be there yet, if None. Of a directory,
            files that cannot be read are left out with a warning.
        series: False to pass over energy over time, which is most of a record. Of a command
            without an end it is all there is, and read anyway.
        epochs: False to pass over the epochs of runs that have their totals.

    Raises:
        NoSuchRun: there is neither such a file nor such a run.
        OSError: the file cannot be read; one of several is left out with a warning.
    """
    wanted = None
    where = record_directory(None) if path is None else Path(path)
    if path is None and not where.exists():
        return
    if not where.exists():
        wanted, where = str(path), record_directory(None)
        if os.sep in wanted or len(wanted) < 4 or not where.is_dir():
            raise NoSuchRun(_no_such_run(path))
    found = False
    for file in files_in(where):
        try:
            if wanted is not None and not _mentions(file, "run_id", wanted):
                continue
            for run in _runs_of(file, _passed_over(series, epochs)):
                if wanted is None or run.id.startswith(wanted):
                    found = True
                    yield run
        except OSError as error:
            if file == where:
                raise
            logger.warning(
                "carbontracker: %s is left out: it cannot be read: %s", file, error.strerror
            )
    if wanted is not None and not found:
        raise NoSuchRun(_no_such_run(path))


def read_all(paths: Iterable[str | os.PathLike[str] | None]) -> Iterator[RunRecord]:
    """Yield every run below each path with its totals: without what totals do not need.

    Raises:
        NoSuchRun, OSError: see ``read_runs``.
    """
    for path in paths:
        yield from read_runs(path, series=False, epochs=False)


def read_run(path: str | os.PathLike[str]) -> RunRecord:
    """Return the one run that is meant, the last one where a path has several.

    Raises:
        NoSuchRun: there is no such run.
    """
    newest = deque(read_runs(path), maxlen=1)
    if not newest:
        raise NoSuchRun(_no_such_run(path))
    return newest[0]


def ended_within(run_id: str, since: datetime, beside: Path | None) -> bool:
    """Return whether a run that ``run_id`` has started has ended, by the records written since.

    Looks into the directory of the record ``beside`` and the default directory, which other nodes
    may share; a record elsewhere is not found.
    """
    own = () if beside is None else (beside.parent,)
    for where in {record_directory(None), *own}:
        for file in files_in(where) if where.is_dir() else ():
            try:
                if file.stat().st_mtime < since.timestamp() or not _mentions(
                    file, "parent_run_id", run_id
                ):
                    continue
                runs = _runs_of(file, _passed_over(series=False, epochs=False))
                if any(run.metadata.parent_run_id == run_id and run.complete for run in runs):
                    return True
            except OSError:
                continue
    return False


def files_in(path: Path) -> Iterator[Path]:
    """Yield a file itself, or the records in a directory and all below it, sorted by name."""
    if not path.is_dir():
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            file = Path(folder) / name
            # Not a pipe, which would block; a broken link is reported when it is opened.
            named = name.endswith(SUFFIX) and not name.endswith(LABELS)
            if named and (file.is_file() or not file.exists()):
                yield file


def lines_of(path: Path) -> Iterator[tuple[int, bytes, bool]]:
    """Yield number, bytes and wholeness of each line; only the last can be torn."""
    with path.open("rb") as file:
        for index, line in enumerate(file, 1):
            yield index, line, line.endswith(b"\n")


def events_of(run: RunRecord) -> Iterator[Event]:
    """Yield the events of a run as its record has them, in order."""
    for _, line, _ in lines_of(run.path):
        event = parse_line(line)
        if event is not None and event["run_id"] == run.id:
            yield event


def parse_line(line: bytes) -> Event | None:
    """Return the event in a line; None if the line is not an event."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    named = isinstance(event, dict) and isinstance(event.get("event"), str)
    return event if named and isinstance(event.get("run_id"), str) else None


def add_epoch(epochs: list[Event], event: Event) -> None:
    """Add an event of ``EPOCHS`` to those before it.

    An epoch so far holds until the next one, a provisional epoch until it is written as final.
    """
    if event["event"] == "epoch_final":
        for place in range(len(epochs) - 1, -1, -1):
            if epochs[place].get("index") == event.get("index"):
                epochs[place] = event
                return
    elif epochs and epochs[-1]["event"] == "epoch_so_far":
        epochs.pop()
    epochs.append(event)


def _no_such_run(path: str | os.PathLike[str] | None) -> str:
    if path is not None and Path(path).exists():
        return f"{path} holds no run that can be read: `carbontracker check {path}` says why"
    return (
        f"no record is called {str(path)!r}: give a file, a directory, or the first characters of "
        f"a run's id (`carbontracker runs` lists those in {record_directory(None)})"
    )


def _mentions(file: Path, name: str, value: str) -> bool:
    needle = f'"{name}":"{value}'.encode()
    with file.open("rb") as lines:
        return any(needle in line for line in lines)


def _passed_over(series: bool, epochs: bool) -> tuple[bytes, ...]:
    wanted = {_SERIES: series, _EPOCH: epochs}
    return tuple(name for name, is_wanted in wanted.items() if not is_wanted)


def _runs_of(file: Path, passed_over: tuple[bytes, ...]) -> Iterator[RunRecord]:
    """Yield the runs of one file as they end; those without an end last."""
    runs: dict[str, _Gathered] = {}
    ended: set[str] = set()
    damaged: list[str] = []
    labels = _labels_beside(file)
    for number_of_line, line, ended_well in lines_of(file):
        head = line[:_HEAD]
        if any(name in head for name in passed_over):
            run_id = _run_id_in(head)
            if run_id in runs:
                # Needed only if the run has no end.
                runs[run_id].put_by.append(line)
                continue
        event = parse_line(line)
        if event is None:
            where = (
                "its last line is torn" if not ended_well else f"line {number_of_line} is damaged"
            )
            damaged.append(where)
            continue
        run_id = event["run_id"]
        if run_id in ended:
            continue
        run = runs.setdefault(run_id, _Gathered(run_id))
        run.add(event)
        if event["event"] == "run_finished":
            ended.add(run_id)
            yield _labelled(runs.pop(run_id).record(file, damaged), labels)
    for run in runs.values():
        run.take_up(damaged)
        yield _labelled(run.record(file, damaged), labels)


def _labels_beside(file: Path) -> dict[str, dict[str, str]]:
    """Return what is said of the runs of a record; without labels it is still read."""
    try:
        return labels_of(file)
    except OSError as error:
        why = error.strerror or error
        logger.warning("carbontracker: the labels of %s are left out: %s", file, why)
        return {}


def _labelled(run: RunRecord, labels: Mapping[str, Mapping[str, str]]) -> RunRecord:
    """Return the run with what is said of it in the file beside its record."""
    mine = labels.get(run.id)
    if not mine:
        return run
    purpose = {name: mine[name] for name in PURPOSE if name in mine}
    return replace(run, labels=mine, metadata=run.metadata.with_purpose(**purpose))


def _run_id_in(head: bytes) -> str:
    """Return the id of the run in the beginning of a line, as the writer puts it."""
    return head.partition(b'"run_id":"')[2].partition(b'"')[0].decode("ascii", "replace")


class _Gathered:
    """What has been read of one run so far."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.started: Event = {}
        self.finished: Event | None = None
        self.last = ""
        self.epochs: list[Event] = []
        self.series = Series()
        self.others: list[Event] = []
        self.put_by: list[bytes] = []
        """Lines that are only read if the run has no end."""

    def take_up(self, damaged: list[str]) -> None:
        """Read what was put by, of a run that has no end: its epochs, or a command's series."""
        needed = _EPOCH if "command" not in self.started else b'"event":"'
        for line in self.put_by:
            if needed not in line[:_HEAD]:
                continue
            event = parse_line(line)
            if event is None:
                damaged.append("its last line is torn")
            else:
                self.add(event)
        self.put_by.clear()

    def add(self, event: Event) -> None:
        kind = event["event"]
        self.last = max(self.last, str(event.get("time", "")))  # ISO 8601, all in UTC
        if kind == "run_started" and not self.started:
            self.started = event
        elif kind == "run_finished":
            self.finished = event
        elif kind in EPOCHS:
            add_epoch(self.epochs, event)
        elif kind == MARKS:
            add_epoch(self.epochs, _epoch_of_marks(event))
        elif kind == "series":
            self.series.extend(event)
        else:
            self.others.append(event)

    def record(self, file: Path, damaged: list[str]) -> RunRecord:
        """Return the run, as far as it is known."""
        started, finished = self._located_start(), self.finished
        metadata = self._metadata(started)
        last = time_of(self.last)
        first = metadata.began or time_of(started.get("time")) or last or _UNIX
        epochs = tuple(_epoch(event, first) for event in self.epochs)
        if metadata.marks_only and epochs and epochs[-1].end_s == epochs[-1].end_s:  # not NaN
            # Events of marks have no time of their own.
            last = max(last or first, first + timedelta(seconds=epochs[-1].end_s))
        forecasts = tuple(map(Forecast.from_dict, self._of("prediction")))
        return RunRecord(
            id=self.run_id,
            path=file,
            started=first,
            finished=time_of(finished.get("time")) if finished else None,
            last_seen=last or first,
            metadata=metadata,
            series=self.series,
            result=Result.from_dict(finished, epochs, forecasts)
            if finished is not None
            else _result_so_far(epochs, forecasts, self.series, metadata),
            ending=RunEnding.from_dict(finished or {}),
            warnings=tuple(self._warnings()),
            events=tuple(self.others),
            notes=tuple(self._notes(damaged)),
        )

    def _metadata(self, started: Event) -> RunMetadata:
        told = {name: event[name] for event in self._of("job") for name in _JOB if name in event}
        for event in self._of(COMPLETED):
            told |= {name: event[name] for name in event if name not in _ENVELOPE}
        found = RunMetadata.from_dict({**started, **told})
        joined = map(Sensor.from_dict, self._of("sensor_joined"))
        # One that joined while the run began may be in both.
        sensors = {one.id: one for one in (*found.sensors, *joined)}
        return replace(found, sensors=tuple(sensors.values()))

    def _located_start(self) -> Event:
        """Return ``run_started`` with the footprint in force: that of the location found last."""
        names = ("pricing", "pue_source")
        found = {
            name: event[name] for event in self._of("located") for name in names if name in event
        }
        return {**self.started, **found} if self.started else self.started

    def _of(self, kind: str) -> Iterator[Event]:
        return (event for event in self.others if event["event"] == kind)

    def _warnings(self) -> Iterator[str]:
        for event in self._of("warning"):
            yield f"{event.get('level', 'WARNING')}: {event.get('message', '')}"

    def _notes(self, damaged: list[str]) -> Iterator[str]:
        schema = self.started.get("schema")
        if not self.started:
            yield "its beginning (run_started) is missing"
        elif isinstance(schema, int) and schema > SCHEMA:
            yield f"it was written by a newer version (schema {schema}); some may not be understood"
        yield from dict.fromkeys(damaged)


def _result_so_far(
    epochs: tuple[Epoch, ...],
    forecasts: tuple[Forecast, ...],
    series: Series,
    metadata: RunMetadata,
) -> Result:
    """Return what a run without an end has cost: its epochs, or a command's series."""
    if epochs:
        return Result(
            seconds=math.fsum(epoch.seconds for epoch in epochs),
            energy=add_windows([epoch.energy for epoch in epochs]),
            footprint=add_footprints([epoch.footprint for epoch in epochs]),
            final=False,
            epochs=epochs,
            forecasts=forecasts,
            work=add_in_turn(epoch.work for epoch in epochs),
        )
    qualities = {sensor.id: sensor.quality for sensor in metadata.sensors}
    energy = series.energy(qualities) if metadata.command else MISSING
    free = metadata.zero_footprint or Footprint.from_dict(None)
    footprint = free.of_joules(energy.joules, energy.error_joules)
    return Result(series.seconds, energy, footprint, final=False, forecasts=forecasts)


def _epoch(event: Event, began: datetime) -> Epoch:
    epoch = Epoch.from_dict(event)
    end = time_of(event.get("time"))
    if math.isnan(epoch.start_s) and end is not None:
        # The first versions wrote no more than when the epoch ended.
        return replace(epoch, start_s=(end - began).total_seconds() - epoch.seconds)
    return epoch


def _epoch_of_marks(event: Event) -> Event:
    """Return the epoch of an event of marks: index, start and end in s, steps and work if any."""
    values = event.get("epoch")
    given = values if isinstance(values, list) else []
    index, start_s, end_s, steps, work = [*given, *[None] * 5][:5]
    times = {"start_s": start_s, "end_s": end_s}
    seconds = seconds_of(end_s) - seconds_of(start_s)
    about = {"event": "epoch", "index": index, "steps": steps, "work": work, "seconds": seconds}
    return {"time": event.get("time"), **times, **about}


def moment_at(run: RunRecord, seconds: float) -> datetime:
    """Return the wall-clock time, UTC, so many seconds after a run began; at most 31 years."""
    return run.started + timedelta(seconds=seconds)
