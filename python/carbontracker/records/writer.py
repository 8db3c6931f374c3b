"""The run as append-only JSON lines: the only data format, everything else is a view of it.

One file a process and directory, private to the user. Each line is one event, written by a single
system call, so that a process killed at any moment leaves every line before that whole.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import carbontracker
from carbontracker.energy.sensor_events import sensor_data
from carbontracker.environment import data_directory, enabled
from carbontracker.guard import RECORD, Part, nothing, optional
from carbontracker.jobs.launch import this_launch
from carbontracker.jobs.processes import process_start_ticks
from carbontracker.json_values import jsonable
from carbontracker.model.run_ending import RunEnding, Succession
from carbontracker.model.run_metadata import MissingSensor, RunMetadata, Sensor
from carbontracker.operating_system import BINARY, after_fork_in_child
from carbontracker.records.clocks import read_anchor
from carbontracker.records.environment import host_data, software_data

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from carbontracker.energy.session import Mark, Session
    from carbontracker.model.epoch import Epoch
    from carbontracker.records.series import PeriodicWriter, SeriesWriter

_LAST_STREAM = 2
SCHEMA = 1
"""Version of the record's shape; grows when a reader would have to change."""


def record_directory(log_dir: str | os.PathLike[str] | None) -> Path:
    """Return where records go: ``log_dir``, else ``CARBONTRACKER_DIR``, else the data directory.

    The last is the platform's own for user data (``~/.local/share/carbontracker`` on Linux).

    Raises:
        OSError: it is the last, and there is no home directory.
    """
    if log_dir is not None:
        return Path(log_dir)
    given = os.environ.get("CARBONTRACKER_DIR", "").strip()
    if given:
        return Path(given)
    return data_directory()


def record_wanted(argument: bool | None) -> bool:
    """Return whether to keep a record: the argument, else ``CARBONTRACKER_RECORD``, else yes."""
    return enabled("CARBONTRACKER_RECORD", default=True) if argument is None else argument


class Record:
    """The events of one run, appended to the process's file in a directory.

    Threads may write: one lock orders their events, and what is worked out for them.
    """

    def __init__(self, directory: Path, *, private: bool = True) -> None:
        self.run_id = os.urandom(8).hex()
        self.path: Path | None = None
        self._owner_pid = os.getpid()
        self._fd = -1
        # Reentrant: a signal handler may end the run in the middle of an event.
        self._lock = threading.RLock()
        self._series: SeriesWriter | None = None
        self._open_epoch: PeriodicWriter | None = None
        optional(RECORD, lambda: self._open(directory, private), nothing)
        if self._fd >= 0:
            _lineage.open.append(self.run_id)

    def write(self, event: str, **data: Any) -> None:
        """Append one event; never raises. A full disk ends the record, with one warning.

        A forked child writes nothing: the run is its parent's.
        """
        if not self._writable:
            return
        ends = Part(f"the record {self.path} ends here", "the run goes on")
        optional(ends, lambda: self._write(event, data), lambda _: self.close())

    def _write(self, event: str, data: dict[str, Any]) -> None:
        line = {"event": event, "run_id": self.run_id, "time": _now(), **data}
        if line["time"] is None:
            del line["time"]  # an event of which it is known otherwise
        # JSON text is one line by construction. Not-a-number does not exist in it: missing is null.
        whole = json.dumps(jsonable(line), allow_nan=False, separators=(",", ":")) + "\n"
        # A failure is logged after this block: a handler of the program's may do anything.
        with self._lock:
            try:
                self._append(whole.encode())
            except OSError:
                if self._fd >= 0:  # else a signal handler or another thread has ended the run
                    self.close()
                    raise

    def finish(self, **data: Any) -> None:
        """Append ``run_finished`` and end the record: nothing follows."""
        if not self._writable:
            return
        with self._lock:
            self.write("run_finished", **data)
            self.close()

    def write_warning(self, level: str, message: str) -> None:
        """Append a diagnostic that the console shows."""
        self.write("warning", level=level, message=message)

    def write_marks(self, epoch: list[Any]) -> None:
        """Append when an epoch was: index, start and end in s, and steps and work if it has any."""
        self.write("marks", time=None, epoch=epoch)

    def follow(self, session: Session, began: Mark, spacing_s: float) -> None:
        """Keep the energy of ``session`` over time from ``began`` on, a point every so often."""
        # Needs the core, which readers do not.
        from carbontracker.records.series import SeriesWriter

        self._series = SeriesWriter(session, began, spacing_s)

    def write_series(self, end: Mark, *exact: Mark) -> None:
        """Append the energy over time since the last time, up to ``end``.

        ``exact`` are moments on the way, such as the beginning of an epoch, that get their own
        point.
        """
        if self._series is None or not self._writable:
            return
        with self._lock:
            data = self._series.until(end, *exact)
            if data is not None:
                self.write("series", **data)

    def write_open_epochs(
        self,
        so_far: Callable[[], tuple[Epoch, Mark, Mark] | None],
        began_ns: Callable[[], int | None],
        first_s: float | None = None,
        often: Callable[[], bool] = bool,
    ) -> None:
        """Write each epoch while it is open, from a thread: a kill does not lose it.

        Args:
            so_far: returns the open epoch up to now with its ends; None if no epoch is open.
            began_ns: returns when the open epoch began, ns of CLOCK_MONOTONIC, or None.
            first_s: how long after its beginning an epoch is written first; 5 s by default.
            often: returns whether it is a rank of a job, which writes more often.
        """
        from carbontracker.records.series import FIRST_WRITE_S, PeriodicWriter

        self._open_epoch = PeriodicWriter(
            lambda: self._write_open_epoch(so_far), began_ns, first_s or FIRST_WRITE_S, often
        )

    def _write_open_epoch(self, so_far: Callable[[], tuple[Epoch, Mark, Mark] | None]) -> None:
        if not self._writable:
            return
        # Under the lock: the event of an epoch that ends meanwhile comes after this one.
        with self._lock:
            found = so_far()
            if found is None:
                return
            epoch, start, now = found
            self.write("epoch_so_far", **epoch.to_dict())
            self.write_series(now, start)

    @property
    def _writable(self) -> bool:
        # In a forked child the lock may be held by a thread that does not exist there.
        return self._fd >= 0 and os.getpid() == self._owner_pid

    def _append(self, line: bytes) -> None:
        written = os.write(self._fd, line)
        if written < len(line):
            # A disk that is filling up took a part: taken back, so that every line stays whole.
            os.ftruncate(self._fd, os.lseek(self._fd, 0, os.SEEK_CUR) - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """End the record."""
        if self._open_epoch is not None:
            self._open_epoch.stop()
        if not self._writable:
            return
        # Under the lock: the number of a closed file may be that of the program's next one.
        with self._lock:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)
                _lineage.open.remove(self.run_id)

    def _open(self, directory: Path, private: bool) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700 if private else 0o777)
        # Absolute: runs of one process share a file also after a change of directory.
        self.path = _file_in(directory.absolute())
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | BINARY
        self._fd = _above_streams(os.open(self.path, flags, 0o600 if private else 0o666))


def begin_record(
    directory: Callable[[], Path], metadata: Callable[[], RunMetadata], *, private: bool = True
) -> Record | None:
    """Return a record with its first event; None, and one line, where there cannot be one.

    Args:
        directory: returns where it goes.
        metadata: returns what the first event says of the run.
        private: only the user can read it; else the umask says who can.
    """

    def begin() -> Record:
        record = Record(directory(), private=private)
        with ExitStack() as undo:
            undo.callback(record.close)
            record.write("run_started", **metadata().to_dict())
            undo.pop_all()
        return record

    return optional(RECORD, begin, nothing)


def _above_streams(fd: int) -> int:
    """Return a descriptor that is not one of the standard streams'.

    Where those are closed the next file gets their number, and what libraries write to "standard
    error" would land in it.
    """
    low = []
    try:
        while fd <= _LAST_STREAM:
            low.append(fd)
            fd = os.dup(fd)
        return fd
    finally:
        for one in low:
            os.close(one)


class _Lineage:
    """The runs that this process is recording, and the one it was forked from."""

    def __init__(self) -> None:
        self.open: list[str] = []
        """Ids, the newest last."""
        self.forked_from: str | None = None

    @property
    def parent_run_id(self) -> str | None:
        """Return the run that the runs of this process are part of, if there is one."""
        return self.forked_from or os.environ.get("CARBONTRACKER_RUN_ID")

    def after_fork_in_child(self) -> None:
        if self.open:
            self.forked_from = self.open[-1]
            self.open.clear()


_lineage = _Lineage()
after_fork_in_child(_lineage.after_fork_in_child)

_files: dict[tuple[int, Path], Path] = {}


def _file_in(directory: Path) -> Path:
    """Return this process's file in ``directory``: all its runs share one."""
    key = (os.getpid(), directory)
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    new = directory / f"{stamp}_{os.getpid()}_{os.urandom(3).hex()}.jsonl"
    return _files.setdefault(key, new)  # in one step: several threads may begin their first run


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def run_metadata(session: Session, job: bool | None = None) -> RunMetadata:
    """Return what is known of the process and the machine; the caller adds the choices made.

    Args:
        session: has the sensors.
        job: whether the ranks of a launch are one training, as far as the user says.
    """
    launch = this_launch(job)
    return RunMetadata(
        schema=SCHEMA,
        version=carbontracker.__version__,
        pid=os.getpid(),
        pid_start_ticks=process_start_ticks(os.getpid()),
        parent_run_id=_lineage.parent_run_id,
        host=host_data(),
        software=software_data(),
        job=launch.said,
        one_training=launch.one_training,
        clock=read_anchor()._asdict(),
        sensors=tuple(
            Sensor.from_dict(sensor_data(entry)) for entry in session.entries if entry.read
        ),
        missing=tuple(_missing(session)),
    )


def _missing(session: Session) -> Iterator[MissingSensor]:
    if session.reason:
        yield MissingSensor("session", "everything", session.reason)
    for one in session.missing:
        yield MissingSensor(one.source, one.what, one.reason, one.remedy, one.device)


def run_ending(session: Session) -> RunEnding:
    """Return what is known of the sensors at the end of a run; the caller adds the rest."""
    return RunEnding(
        readings_per_second=session.rates_hz(),
        read_by=session.read_by(),
        placement=session.placement,
        driver_seconds=session.driver_seconds(),
        successions=tuple(
            Succession(one.owner, one.successor, one.from_ns, one.why)
            for one in session.successions()
        ),
        unanswered=unanswered_sensors(session),
    )


def unanswered_sensors(session: Session) -> tuple[MissingSensor, ...]:
    """Return which sensors have never answered."""
    return tuple(MissingSensor(one.source, one.what) for one in session.missing if one.awaited)
