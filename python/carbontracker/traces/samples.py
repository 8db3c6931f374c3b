"""Every reading in a file, on request: an Arrow IPC stream, readable up to its last batch.

Once a second a thread appends the new samples of the session in one write. So memory is bounded by
the readings of a second, and a killed process loses one second at most. Needs pyarrow.
"""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

import carbontracker
from carbontracker.extras import optional_module
from carbontracker.guard import SAMPLES, logger, nothing, optional, start_thread
from carbontracker.operating_system import BINARY, host_name
from carbontracker.records.clocks import Anchor, read_anchor
from carbontracker.traces.attribution import Power
from carbontracker.traces.power import PowerTrace, power_of_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from carbontracker.energy.session import Session
    from carbontracker.records.run_record import RunRecord
    from carbontracker.records.writer import Record

SUFFIX = ".arrow"
WRITE_INTERVAL_S = 1.0
"""A killed process loses the samples of one interval at most."""
_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""The end marker of an Arrow stream."""
_METADATA_KEY = b"carbontracker"
"""Of the JSON in the metadata of the schema."""
_COUNTED_COLUMN = 4
"""Files of older versions do not have it."""
_PARQUET_GROUP_ROWS = 65_536


def arrow() -> Any:
    """Return pyarrow.

    Raises:
        MissingExtra: it is not installed.
    """
    return optional_module("pyarrow", "trace")


def check_new(path: Path) -> None:
    """Check that a new file of samples can be created.

    Raises:
        OSError: the file exists, or its directory does not.
        MissingExtra: pyarrow is not installed.
    """
    arrow()
    if path.exists():
        raise FileExistsError(errno.EEXIST, "the file exists and is not overwritten", str(path))
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "its directory does not exist", str(path))


class SampleWriter:
    """Writes the samples of a session to a new file until it is closed.

    The rows of one channel are in order of time. ``watts`` is the mean power since the row before;
    it is null in the first row of a channel.
    """

    def __init__(
        self,
        session: Session,
        path: Path,
        run_id: str | None = None,
        every_s: float = WRITE_INTERVAL_S,
    ) -> None:
        """Create the file and start the thread.

        Raises:
            OSError: the file cannot be created; an existing file is not changed.
            MissingExtra: pyarrow is not installed.
        """
        pa = arrow()
        self.path = path.absolute()
        self._session = session
        self._owner_pid = os.getpid()
        self._schema = pa.schema(
            [
                pa.field("t_ns", pa.int64()),
                pa.field("time", pa.timestamp("ns", "UTC")),
                pa.field("channel", pa.string()),
                pa.field("watts", pa.float64()),
                pa.field("counted", pa.bool_()),
            ],
            {_METADATA_KEY: json.dumps(_about(session, run_id))},
        )
        began_ns = time.monotonic_ns()
        self._began_ns = began_ns
        self._written_until_ns: dict[int, int] = {}
        """Time of the last written sample of each channel."""
        self._begun: set[int] = set()
        self._done = threading.Event()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | BINARY
        self._fd = os.open(self.path, flags, 0o600)
        if not self._append(self._schema.serialize().to_pybytes()):
            self._end()
        thread = start_thread(SAMPLES, self._run, "carbontracker-trace", every_s)
        if thread is None:
            self._end()
        self._thread = thread

    def close(self) -> None:
        """Write the last samples and end the file; in a forked child do nothing."""
        if self._fd < 0 or os.getpid() != self._owner_pid:
            return
        self._done.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        if self._write(last=True):
            self._append(_END)
        self._end()

    def _run(self, every_s: float) -> None:
        while not self._done.wait(every_s):
            if not self._write(last=False):
                self._end()
                return

    def _write(self, *, last: bool) -> bool:
        """Append the new samples; return False if the file cannot be written any more."""
        if self._fd < 0:
            return False
        columns = self._take(last=last)
        if not len(columns[0]):
            return True
        pa = arrow()
        batch = pa.record_batch(
            [
                pa.array(columns[0]),
                pa.array(columns[0] + read_anchor().offset_ns).cast(self._schema.field(1).type),
                pa.array(columns[1], pa.string()),
                pa.array(columns[2], from_pandas=True),  # NaN becomes null
                pa.array(columns[3]),
            ],
            schema=self._schema,
        )
        return self._append(batch.serialize().to_pybytes())

    def _take(self, *, last: bool) -> tuple[Any, list[str], Any, Any]:
        """Return times, channels and watts of all new samples, and whether they are in the totals.

        The newest sample of a channel may still change with the next reading, so it is left for
        the next call, unless this is the last one.
        """
        now_ns = time.monotonic_ns()
        times, names, watts, counted = [], [], [], []
        for index, channel in enumerate(self._session.channels):
            until_ns = self._written_until_ns.get(index, self._began_ns)
            t_ns, mean = self._session.power(index, until_ns, now_ns)
            new = t_ns > until_ns
            t_ns, mean = t_ns[new], mean[new]
            if not last:
                t_ns, mean = t_ns[:-1], mean[:-1]
            if not len(t_ns):
                continue
            if index not in self._begun:
                self._begun.add(index)
                mean[0] = np.nan
            self._written_until_ns[index] = int(t_ns[-1])
            times.append(t_ns)
            names += [channel.id] * len(t_ns)
            watts.append(mean)
            counted.append(np.full(len(t_ns), channel.counted))
        if not times:
            return np.zeros(0, np.int64), [], np.zeros(0), np.zeros(0, np.bool_)
        return np.concatenate(times), names, np.concatenate(watts), np.concatenate(counted)

    def _append(self, data: bytes) -> bool:
        if self._fd < 0:
            return False  # a signal handler has ended the run
        try:
            written = os.write(self._fd, data)
            if written < len(data):
                # A full disk took a part of the batch: remove it, so that every batch is whole.
                os.ftruncate(self._fd, os.lseek(self._fd, 0, os.SEEK_CUR) - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            logger.warning(
                "carbontracker: the samples in %s end here, because writing failed: %s",
                self.path,
                error,
            )
            return False
        return True

    def _end(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _about(session: Session, run_id: str | None) -> dict[str, Any]:
    return {
        "version": carbontracker.__version__,
        "run_id": run_id,
        "host": host_name(),
        "clock": read_anchor()._asdict(),
        "channels": [
            {"id": entry.id, "kind": entry.kind, "name": entry.name, "source": entry.source,
             "quality": entry.quality, "counted": entry.counted}
            for entry in session.entries
            if entry.read
        ],
    }  # fmt: skip


def samples_path(trace: bool | str | os.PathLike[str], folder: Callable[[], Path]) -> Path:
    """Return the path of the samples: the given one, else that of a new file in ``folder()``."""
    if not isinstance(trace, bool):
        return Path(trace)
    directory = folder()
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    return directory / f"{stamp}_{os.getpid()}_{os.urandom(3).hex()}{SUFFIX}"


def start_sample_writer(session: Session, path: Path, record: Record | None) -> SampleWriter | None:
    """Return a writer and name it in the record.

    If the file cannot be created, return None after a warning; the training goes on.
    """
    if not session.owned_by_this_process:
        return None

    def start() -> SampleWriter:
        check_new(path)
        return SampleWriter(session, path, record.run_id if record else None)

    writer = optional(SAMPLES, start, nothing)
    if writer is not None and record is not None:
        record.write("samples", path=str(writer.path))
    return writer


class SampleFile:
    """A file of samples, read in batches."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            OSError: the file cannot be read.
            ValueError: the file does not contain samples.
            MissingExtra: pyarrow is not installed.
        """
        self.path = path
        self._file: BinaryIO = path.open("rb")
        pa = arrow()
        try:
            self._reader = pa.ipc.open_stream(self._file)
            self.schema = self._reader.schema
            self.about: dict[str, Any] = json.loads((self.schema.metadata or {})[_METADATA_KEY])
        except (pa.ArrowInvalid, pa.ArrowTypeError, OSError, KeyError, ValueError) as error:
            self._file.close()
            message = f"{path} is not a file of samples of carbontracker ({error})"
            raise ValueError(message) from error

    def __enter__(self) -> SampleFile:
        """Return this file."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._file.close()

    @property
    def complete(self) -> bool:
        """Return whether the file has its end marker: its writer was not killed."""
        with self.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - len(_END)))
            return file.read() == _END

    def batches(self) -> Iterator[Any]:
        """Yield every complete batch; a truncated last batch is ignored."""
        pa = arrow()
        while True:
            try:
                batch = self._reader.read_next_batch()
            except (StopIteration, pa.ArrowInvalid, OSError):
                return
            yield batch


def power_of_run(run: RunRecord, near_ns: int | None = None) -> PowerTrace:
    """Return the power of a run from its file of samples if it has one, else from its record.

    For a sensor that was replaced during the run, the record counts: the file of samples still has
    its wrong values.

    Args:
        run: read with its series and epochs.
        near_ns: if the wall clock was set during the run, its setting at this time counts.
    """
    trace = power_of_record(run, near_ns)
    for event in run.of("samples"):
        path = Path(str(event.get("path")))
        if not path.is_file():
            continue
        try:
            sampled = read_power(path)
        except (OSError, ValueError, ModuleNotFoundError) as error:
            logger.warning(
                "carbontracker: the samples cannot be read, so the power is that of the record: %s",
                error,
            )
            continue
        shift_ns = 0
        if trace.clock["exact"]:
            ours, theirs = (Anchor(one.clock["monotonic_ns"], one.clock["unix_ns"])
                            for one in (trace, sampled))  # fmt: skip
            shift_ns = ours.offset_ns - theirs.offset_ns
        wrong = {one.owner for one in run.ending.successions}
        finer = {
            name: Power(power.edges_ns + shift_ns, power.watts)
            for name, power in sampled.devices.items()
            if name not in wrong
        }
        return replace(trace, devices=trace.devices | finer)
    return trace


def to_parquet(path: Path, out: Path) -> int:
    """Write the samples of a file as Parquet, in groups of rows; return the number of rows.

    Raises:
        OSError, ValueError, ModuleNotFoundError: see ``SampleFile``.
    """
    pa = arrow()
    from pyarrow import parquet

    from carbontracker.records.output import check_output

    check_output(out)
    rows = 0
    with SampleFile(path) as samples, parquet.ParquetWriter(out, samples.schema) as writer:
        pending: list[Any] = []
        for batch in samples.batches():
            rows += batch.num_rows
            pending.append(batch)
            if sum(one.num_rows for one in pending) >= _PARQUET_GROUP_ROWS:
                writer.write_table(pa.Table.from_batches(pending))
                pending.clear()
        if pending:
            writer.write_table(pa.Table.from_batches(pending))
    return rows


def read_power(path: Path) -> PowerTrace:
    """Return the power of the counted devices in a file of samples.

    A device that joined late is in the rows and not in the list at the start of the file.

    Raises:
        OSError, ValueError, ModuleNotFoundError: see ``SampleFile``.
    """
    with SampleFile(path) as samples:
        about = samples.about
        counted = {one["id"]: one["name"] for one in about["channels"] if one["counted"]}
        anchor = Anchor(**about["clock"])
        gathered: dict[str, list[tuple[Any, Any]]] = {}
        for batch in samples.batches():
            t_ns, watts = (batch.column(i).to_numpy(zero_copy_only=False) for i in (0, 3))
            channels = batch.column(2).to_numpy(zero_copy_only=False)
            if batch.num_columns > _COUNTED_COLUMN:
                joined = channels[batch.column(_COUNTED_COLUMN).to_numpy(zero_copy_only=False)]
                counted |= {name: name for name in set(joined) - counted.keys()}
            for device in counted:
                mine = channels == device
                gathered.setdefault(device, []).append((t_ns[mine], watts[mine]))
    devices: dict[str, Power] = {}
    for device, parts in gathered.items():
        times = np.concatenate([part[0] for part in parts]) + anchor.offset_ns
        if len(times) > 1:
            devices[device] = Power(times, np.concatenate([part[1] for part in parts])[1:])
    return PowerTrace(
        devices=devices,
        labels=counted,
        slices=(),
        clock={**anchor._asdict(), "disagreement_ns": 0, "exact": True},
        about={name: about.get(name) for name in ("run_id", "host", "version")},
    )
