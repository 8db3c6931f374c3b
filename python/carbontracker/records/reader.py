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
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carbontracker.energy.energy import MISSING, add_windows
from carbontracker.exceptions import NoSuchRun
from carbontracker.guard import logger
from carbontracker.records.json_values import count, mapping, mappings, number, seconds_of, whole
from carbontracker.records.recorded import (
    Origin,
    Outcome,
    RecordedEpoch,
    RecordedFootprint,
    RecordedPrediction,
    RunRecord,
    Sensor,
    Series,
    energy_from,
)
from carbontracker.records.writer import SCHEMA, record_directory
from carbontracker.times import parse_utc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Event = Mapping[str, Any]

SUFFIX = ".jsonl"
EPOCHS = ("epoch", "epoch_so_far", "epoch_final")
"""Events that hold an epoch: as it ended, or as far as it had come when it was written."""
_LAST_YEAR = 2200
"""A record of a later time is damaged."""
_HEAD = 64
"""Bytes of a line in which the name of its event is found: it is written first."""
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
            if wanted is not None and not _mentions(file, wanted):
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


def read_run(path: str | os.PathLike[str]) -> RunRecord:
    """Return the one run that is meant, the last one where a path has several.

    Raises:
        NoSuchRun: there is none.
    """
    newest = deque(read_runs(path), maxlen=1)
    if not newest:
        raise NoSuchRun(_no_such_run(path))
    return newest[0]


def files_in(path: Path) -> Iterator[Path]:
    """Yield a file itself, or the records in a directory and all below it, sorted by name."""
    if not path.is_dir():
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            file = Path(folder) / name
            # Not a pipe, which would be waited for; a link to nowhere is said to be one.
            if name.endswith(SUFFIX) and (file.is_file() or not file.exists()):
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
    """Return the event in a line; None if there is none."""
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


def _mentions(file: Path, run_id: str) -> bool:
    needle = f'"run_id":"{run_id}'.encode()
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
            yield runs.pop(run_id).record(file, damaged)
    for run in runs.values():
        run.take_up(damaged)
        yield run.record(file, damaged)


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
        elif kind == "series":
            self.series.extend(event)
        else:
            self.others.append(event)

    def record(self, file: Path, damaged: list[str]) -> RunRecord:
        """Return the run, as far as it is known."""
        started, finished = self._priced_start(), self.finished
        last = _moment(self.last)
        began = _moment(started.get("began") or started.get("time")) or last
        first = began or datetime.fromtimestamp(0, timezone.utc)
        epochs = tuple(_epoch(event, first) for event in self.epochs)
        return RunRecord(
            id=self.run_id,
            path=file,
            started=first,
            finished=_moment(finished.get("time")) if finished else None,
            last_seen=last or first,
            origin=_origin(started, tuple(self._of("sensor_joined"))),
            epochs=epochs,
            series=self.series,
            outcome=self._outcome(epochs),
            predictions=tuple(map(_prediction, self._of("prediction"))),
            warnings=tuple(self._warnings()),
            events=tuple(self.others),
            notes=tuple(self._notes(damaged)),
        )

    def _priced_start(self) -> Event:
        """Return ``run_started`` with the prices in force: those of the place that was found."""
        prices = ("pricing", "pue_source")
        found = {
            name: event[name] for event in self._of("located") for name in prices if name in event
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

    def _outcome(self, epochs: tuple[RecordedEpoch, ...]) -> Outcome:
        if self.finished is not None:
            event = self.finished
            return Outcome(
                seconds=seconds_of(event.get("seconds")),
                energy=energy_from(event.get("energy"), seconds_of(event.get("seconds"))),
                footprint=RecordedFootprint.of(event.get("footprint")),
                between_epochs=energy_from(event.get("between_epochs")),
                tracker_cpu_seconds=seconds_of(event.get("tracker_cpu_seconds")),
                exit_code=code if isinstance(code := event.get("exit_code"), int) else None,
                data=event,
            )
        return _outcome_so_far(epochs, self.series, self._priced_start())


def _outcome_so_far(epochs: tuple[RecordedEpoch, ...], series: Series, started: Event) -> Outcome:
    """Return what a run without an end has cost: its epochs, or a command's series."""
    if epochs:
        return Outcome(
            seconds=math.fsum(epoch.seconds for epoch in epochs),
            energy=add_windows([epoch.energy for epoch in epochs]),
            footprint=RecordedFootprint.sum([epoch.footprint for epoch in epochs]),
        )
    qualities = {
        sensor.id: sensor.quality for sensor in map(_sensor, mappings(started.get("sensors")))
    }
    energy = series.energy(qualities) if "command" in started else MISSING
    footprint = RecordedFootprint.of(started.get("pricing")).priced(
        energy.joules, energy.error_joules
    )
    return Outcome(seconds=series.seconds, energy=energy, footprint=footprint)


def _epoch(event: Event, began: datetime) -> RecordedEpoch:
    seconds = seconds_of(event.get("seconds"))
    end = _moment(event.get("time"))
    end_s = seconds_of(event.get("end_s"))
    if math.isnan(end_s) and end is not None:
        end_s = (end - began).total_seconds()  # the first writers told no more than when it ended
    start_s = seconds_of(event.get("start_s"))
    return RecordedEpoch(
        index=whole(event.get("index")),
        seconds=seconds,
        start_s=end_s - seconds if math.isnan(start_s) else start_s,
        energy=energy_from(event.get("energy"), seconds),
        footprint=RecordedFootprint.of(event.get("footprint")),
        finished=bool(event.get("finished", True)),
        final=bool(event.get("final", True)),
    )


def _prediction(event: Event) -> RecordedPrediction:
    return RecordedPrediction(
        epochs=count(event.get("epochs")) or 0,
        after_epochs=number(event.get("after_epochs"), 0.0),
        seconds=seconds_of(event.get("seconds")),
        joules=number(event.get("joules")),
        footprint=RecordedFootprint.of(event.get("footprint")),
        data=event,
    )


def _sensor(data: Event) -> Sensor:
    text: Callable[[str], str] = lambda name: str(data.get(name) or "")  # noqa: E731
    return Sensor(
        id=text("id"),
        kind=text("kind"),
        name=text("name"),
        source=text("source"),
        quality=text("quality"),
        counted=bool(data.get("counted", True)),
        domain=text("domain"),
        detail=text("detail"),
    )


def _origin(started: Event, joined: tuple[Event, ...]) -> Origin:
    command = started.get("command")
    pid, parent = started.get("pid"), started.get("parent_run_id")
    # One that joined while the run began may be in both.
    sensors = {one.id: one for one in map(_sensor, (*mappings(started.get("sensors")), *joined))}
    return Origin(
        schema=whole(started.get("schema")),
        version=str(started.get("version") or ""),
        host=mapping(started.get("host")),
        pid=pid if isinstance(pid, int) else None,
        parent_id=parent if isinstance(parent, str) else None,
        job={name: mapping(one) for name, one in mapping(started.get("job")).items()},
        command=tuple(map(str, command)) if isinstance(command, list) else (),
        sensors=tuple(sensors.values()),
        missing=tuple(mappings(started.get("missing"))),
        data=started,
    )


def _moment(text: object) -> datetime | None:
    try:
        moment = parse_utc(text, naive=timezone.utc)
    except ValueError:
        return None
    return moment if 1970 <= moment.year <= _LAST_YEAR else None


def moment_at(run: RunRecord, seconds: float) -> datetime:
    """Return the wall-clock time, UTC, so many seconds after a run began; at most 31 years."""
    return run.started + timedelta(seconds=seconds)
