"""The core where an installation has no compiled one: it reads no energy sensor.

It has those names of ``carbontracker._core`` that this package uses. The power of the processor is
modelled (``processor_model``). The system sums up processor time by itself, so that nothing has to
be sampled: a mark, or a question about energy, takes a reading, and there is no thread.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from array import array
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from carbontracker.energy.energy import Energy, add_devices, missing
from carbontracker.energy.processor_model import (
    RELATIVE_ERROR,
    CpuTimes,
    Line,
    cpu_times,
    power_line,
    processors,
    unread_gpus,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    _Values = tuple[float, float, float, str, float, float, float, float]

_Self = TypeVar("_Self", bound="Span")

SOURCE = "cpu_load"
SIMULATED = "simulated"

_SPACING_NS = 50_000_000
"""Least time between readings: processor time is counted in ticks of about 10 ms."""
_STILL_NS = 2_000_000_000
"""Time without a change of the counts after which the utilisation is unknown."""
_MAX_READINGS = 1 << 17
"""More of them are thinned out, to every other one: 2 MB at most."""
_GPU_WATTS = 400.0
"""Power limit of a GPU that is not read: that of a large one, an A100."""


@dataclass(frozen=True)
class SimulatedDevice:
    """A device whose power is a formula; of the core's formulas only ``constant:W``."""

    kind: str
    name: str
    waveform: str


@dataclass(frozen=True)
class Host:
    """The machine as the sources see it."""

    root: Path
    nvml_library: str
    data_dir: Path
    environment: dict[str, str]
    simulated: list[SimulatedDevice]
    gpus_of_process: bool = False
    perf_library: str = ""


@dataclass(frozen=True)
class Entry:
    """A channel."""

    id: str
    kind: str
    name: str
    source: str
    quality: str
    detail: str
    domain: str = ""
    part_of: str = ""
    covers: tuple[str, ...] = ()
    verified: str = "documented layout"
    is_counter: bool = True
    relative_error: float = 0.0
    tick_ns: int = 0
    counted: bool = True
    standby_for: str = ""
    why: str = ""
    joined_ns: int = 0
    limit_watts: float = 0.0
    read: bool = True


@dataclass(frozen=True)
class SkippedSensor:
    """A sensor that is not read, with the reason and the remedy."""

    source: str
    what: str
    reason: str
    remedy: str = ""
    device: str = ""
    awaited: bool = False
    shortage: bool = False
    limit_watts: float = 0.0


def not_compiled() -> SkippedSensor:
    """Return what this core lacks, on this platform."""
    system = sys.platform
    if system == "linux":
        remedy = "install a wheel for Linux and this Python, or install from the sources"
        why = "this installation has none"
        return SkippedSensor("compiled core", "cpu, dram, gpu", why, remedy)
    name = {"darwin": "macOS", "win32": "Windows"}.get(system, system)
    why = f"sensors are read on Linux only, not on {name}"
    return SkippedSensor("compiled core", "cpu, dram, gpu", why)


@dataclass(frozen=True)
class SamplerStats:
    """The work of a source so far."""

    reads: int
    edge_reads: int
    late: int
    cpu_ns: int
    held_ns: int
    wall_ns: int
    lateness_p50_ns: int = 0
    lateness_p99_ns: int = 0


@dataclass(frozen=True)
class ChannelStats:
    """The readings of a channel so far."""

    readings: int
    last_read_ns: int
    errors: int = 0
    dropped: int = 0
    resets: int = 0
    tick_ns: int = 0
    gone: bool = False
    lost: bool = False
    refused_watts: float = 0.0


class _Constant:
    """The energy of a device of constant power, from ``began_ns`` on."""

    readings = 0
    thinned_to_ns = 0

    def __init__(self, watts: float, began_ns: int) -> None:
        self._watts = watts
        self._began_ns = began_ns

    def update(self) -> int:
        return time.monotonic_ns()

    def joules(self, t_ns: int) -> float:
        return self._watts * max(0, t_ns - self._began_ns) / 1e9

    def known_ns(self, start_ns: int, end_ns: int) -> int:
        return max(0, end_ns - max(start_ns, self._began_ns))

    def times_ns(self, start_ns: int, end_ns: int) -> list[int]:
        return [end_ns] if end_ns > max(start_ns, self._began_ns) else []


class _Load:
    """The energy of the processors: the line at the utilisation between two readings."""

    def __init__(self, line: Line, source: Callable[[], CpuTimes]) -> None:
        self._line = line
        self._source = source
        self._lock = threading.RLock()
        self._times = source()
        self._utilisation = 0.5  # until the first two readings tell it
        # Times, ns, and joules. Joules are appended first: each time has its joules, also for
        # another thread or a signal handler.
        self._curve = array("q", [time.monotonic_ns()]), array("d", [0.0])
        self.readings = 1
        self.cpu_ns = 0
        self.thinned_to_ns = 0
        """Up to here, not every reading is kept; 0 if all are."""

    def update(self) -> int:
        """Take a reading if one is due; return the time of the newest one, ns."""
        with self._lock:
            newest_ns = self._curve[0][-1]
            if time.monotonic_ns() - newest_ns < _SPACING_NS:
                return newest_ns
            began_ns = time.thread_time_ns()
            try:
                times = self._source()
            except (OSError, ValueError):
                return newest_ns
            finally:
                self.cpu_ns += time.thread_time_ns() - began_ns
            t_ns = time.monotonic_ns()
            elapsed = times.total - self._times.total
            if elapsed <= 0:
                return newest_ns  # no tick since then, or a copy of the file
            self._utilisation = min(1.0, max(0.0, (times.busy - self._times.busy) / elapsed))
            self._times = times
            self._append(t_ns)
            return t_ns

    def _append(self, t_ns: int) -> None:
        at_ns, joules = self._curve
        if len(at_ns) >= _MAX_READINGS:
            at_ns, joules = at_ns[:1] + at_ns[1::2], joules[:1] + joules[1::2]
            self._curve = at_ns, joules
            self.thinned_to_ns = at_ns[-1]
        watts = self._line.watts(self._utilisation)
        joules.append(joules[-1] + watts * (t_ns - at_ns[-1]) / 1e9)
        at_ns.append(t_ns)
        self.readings += 1

    def joules(self, t_ns: int) -> float:
        """Return E(t), J: on a straight line between two readings."""
        at_ns, joules = self._curve
        count = len(at_ns)
        after = bisect_left(at_ns, t_ns, 0, count)
        if after == 0:
            return 0.0
        if after == count:
            since_ns = min(t_ns - at_ns[count - 1], _STILL_NS)
            return joules[count - 1] + self._line.watts(self._utilisation) * since_ns / 1e9
        share = (t_ns - at_ns[after - 1]) / (at_ns[after] - at_ns[after - 1])
        return joules[after - 1] + share * (joules[after] - joules[after - 1])

    def known_ns(self, start_ns: int, end_ns: int) -> int:
        at_ns, _ = self._curve
        return max(0, min(end_ns, at_ns[-1] + _STILL_NS) - max(start_ns, at_ns[0]))

    def times_ns(self, start_ns: int, end_ns: int) -> list[int]:
        at_ns, _ = self._curve
        return list(at_ns[bisect_left(at_ns, start_ns + 1) : bisect_left(at_ns, end_ns + 1)])


class Session:
    """The channels of this process, their energy, and marks in time."""

    def __init__(  # noqa: PLR0913  # of the compiled core
        self,
        host: Host,
        *,
        period_ns: int = 0,  # noqa: ARG002  # of the compiled core
        overhead_budget: float = 0.005,  # noqa: ARG002
        kinds: list[str] | None = None,
        spacing_ns: int = 0,  # noqa: ARG002
        patience_ns: int = 0,  # noqa: ARG002
        while_waiting: Callable[[], None] | None = None,  # noqa: ARG002
        share_directory: Path | str = "",  # noqa: ARG002
        keep_full_ns: int = 0,  # noqa: ARG002
    ) -> None:
        self._pid = os.getpid()
        self._kinds = kinds or []
        self._began_ns = time.monotonic_ns()
        self.entries: list[Entry] = []
        self.missing: list[SkippedSensor] = []
        self._channels: list[_Load | _Constant | None] = []
        """The energy of each entry; None if it is not read."""
        for device in host.simulated:
            self._add_simulated(device)
        simulated = {device.kind for device in host.simulated}
        if self._wants("cpu") and "cpu" not in simulated:
            self._add_processors(host.root)
        if self._wants("gpu") and "gpu" not in simulated:
            self._add_unread_gpus(host.root)

    def _wants(self, kind: str) -> bool:
        return not self._kinds or kind in self._kinds

    def _add_simulated(self, device: SimulatedDevice) -> None:
        shape, _, watts = device.waveform.partition(":")
        if shape != "constant":
            message = f"{device.waveform!r} needs the compiled core; write for example constant:250"
            raise ValueError(message)
        number = sum(entry.kind == device.kind for entry in self.entries)
        name = f"{device.kind}:{number}"
        self._add(
            Entry(name, device.kind, device.name, SIMULATED, "modelled", device.waveform),
            _Constant(float(watts), self._began_ns),
        )

    def _add_processors(self, root: Path) -> None:
        try:
            line = power_line(processors(root))
            source, lacks = cpu_times(root)
            load = _Load(line, source)
        except (OSError, ValueError, LookupError) as error:
            self.missing.append(SkippedSensor(SOURCE, "cpu", str(error)))
            return
        detail = (
            f"modelled: {line.assumption}; {line.idle_watts:.1f} W idle to {line.full_watts:.1f} W "
            "busy, -60 % to +150 %"
        )
        if lacks:
            only = "only the processor time of this process and its ended children is known"
            detail += f"; {only}"
            self.missing.append(
                SkippedSensor(SOURCE, "utilisation", f"{lacks}: {only}", "pip install psutil")
            )
        entry = Entry(
            "cpu:0", "cpu", line.name, SOURCE, "modelled", detail, relative_error=RELATIVE_ERROR
        )
        self._add(entry, load)
        self.missing.append(SkippedSensor(SOURCE, "dram", "its power is not modelled here"))

    def _add_unread_gpus(self, root: Path) -> None:
        for number, name in enumerate(unread_gpus(root)):
            device = f"gpu:{number}"
            entry = Entry(
                device, "gpu", name, "", "missing", "", limit_watts=_GPU_WATTS, read=False
            )
            self._add(entry, None)
            why = "no compiled core reads it"
            self.missing.append(SkippedSensor("nvml", name, why, device=device))

    def _add(self, entry: Entry, channel: _Load | _Constant | None) -> None:
        if self._wants(entry.kind):
            self.entries.append(entry)
            self._channels.append(channel)

    @property
    def entry_count(self) -> int:
        """Return the number of entries, which never changes."""
        return len(self.entries)

    @property
    def owned_by_this_process(self) -> bool:
        """Return False in a forked child, where a lock may be held for ever."""
        return os.getpid() == self._pid

    @property
    def cpu_ns(self) -> int:
        """Return the CPU time of all readings so far, ns."""
        return sum(one.cpu_ns for one in self._channels if isinstance(one, _Load))

    @property
    def share_failure(self) -> str:
        """Return an empty text: readings are never shared."""
        return ""

    @property
    def placement(self) -> str:
        """Return an empty text: no thread is placed."""
        return ""

    @property
    def skipped_rounds(self) -> int:
        """Return zero: there are no rounds."""
        return 0

    def start(self) -> None:
        """Take a reading."""
        self.update()

    def stop(self) -> None:
        """Take a last reading."""
        self.update()

    def update(self) -> int:
        """Take the readings that are due; return the time up to which all energy is known, ns."""
        newest = [one.update() for one in self._channels if one is not None]
        return min(newest, default=time.monotonic_ns())

    def energy(self, start: Mark, end: Mark) -> tuple[_Values, tuple[tuple[int, _Values], ...]]:
        """Return the values of the total, and those of each counted channel by its index."""
        self.update()
        parts = {
            index: self._energy_of(index, start.t_ns, end.t_ns) for index in range(self.entry_count)
        }
        total = add_devices(list(parts.values()))
        return total.values, tuple((index, part.values) for index, part in parts.items())

    def _energy_of(self, index: int, start_ns: int, end_ns: int) -> Energy:
        entry, channel = self.entries[index], self._channels[index]
        seconds = (end_ns - start_ns) / 1e9
        known_s = channel.known_ns(start_ns, end_ns) / 1e9 if channel else 0.0
        unknown_joules_max = entry.limit_watts * max(0.0, seconds - known_s)
        if channel is None or (known_s <= 0 < seconds):
            return missing(seconds, unknown_joules_max)
        joules = channel.joules(end_ns) - channel.joules(start_ns)
        return Energy(
            joules=joules,
            error_joules=entry.relative_error * joules,
            modelled_joules=joules,
            quality=entry.quality,
            coverage=known_s / seconds if seconds > 0 else 1.0,
            unknown_joules_max=unknown_joules_max,
            seconds=seconds,
        )

    def is_final(self, mark: Mark) -> bool:
        """Return whether every channel has been read after the mark."""
        return self.update() >= mark.t_ns

    def power(self, index: int, t0_ns: int, t1_ns: int) -> tuple[array[int], array[float], int]:
        """Return times, int64 ns, and the mean power up to each of them, float64 W.

        The third is the time up to which readings were thinned; 0 if all are kept.
        """
        channel = self._channels[index]
        times = channel.times_ns(t0_ns, t1_ns) if channel else []
        watts = array("d")
        before_ns = t0_ns
        for t_ns in times if channel else []:
            joules = channel.joules(t_ns) - channel.joules(before_ns) if channel else math.nan
            watts.append(joules * 1e9 / (t_ns - before_ns))
            before_ns = t_ns
        thinned_to_ns = channel.thinned_to_ns if channel else 0
        if thinned_to_ns <= t0_ns:
            thinned_to_ns = 0
        return array("q", times), watts, min(thinned_to_ns, t1_ns)

    def failovers(self) -> list[Any]:
        """Return an empty list: no channel has a second sensor."""
        return []

    def changes(self, since: int) -> list[Any]:  # noqa: ARG002  # of the compiled core
        """Return an empty list: sensors neither join nor get lost."""
        return []

    def channel_stats(self, index: int) -> ChannelStats:
        """Return the readings of a channel so far."""
        channel = self._channels[index]
        if channel is None:
            return ChannelStats(0, 0)
        return ChannelStats(channel.readings, channel.update())

    def reader_pids(self) -> list[int]:
        """Return 0, this process, for each entry."""
        return [0] * self.entry_count

    def stats(self) -> list[tuple[str, SamplerStats]]:
        """Return the work of each source so far."""
        wall_ns = time.monotonic_ns() - self._began_ns
        return [
            (
                entry.source,
                SamplerStats(
                    channel.readings, channel.readings, 0, self.cpu_ns, self.cpu_ns, wall_ns
                ),
            )
            for entry, channel in zip(self.entries, self._channels, strict=True)
            if channel is not None
        ]


class Mark:
    """A moment. It takes a reading, if one is due: at a beginning before the time."""

    __slots__ = ("_t_ns",)

    def __init__(
        self,
        session: Session | None,
        edge_reads: bool = True,
        t_ns: int = 0,
        begins: bool = False,
    ) -> None:
        self._t_ns = t_ns or time.monotonic_ns()
        if session is None or not edge_reads or t_ns or not session.owned_by_this_process:
            return
        session.update()
        if begins:
            self._t_ns = time.monotonic_ns()

    @property
    def t_ns(self) -> int:
        """Return the time, ns of the monotonic clock."""
        return self._t_ns


class Span:
    """Two marks around code; a context manager."""

    __slots__ = ("__edge_reads", "__session", "context", "end", "name", "start")

    def __init__(
        self, session: Session | None, name: str, context: Any = None, edge_reads: bool = True
    ) -> None:
        self.__session = session
        self.__edge_reads = edge_reads
        self.name = name
        self.context = context
        self.start: Mark | None = None
        self.end: Mark | None = None

    def __enter__(self: _Self) -> _Self:
        """Mark the start."""
        self.end = None
        self.start = Mark(self.__session, self.__edge_reads, begins=True)
        return self

    def __exit__(self, *_error: object) -> None:
        """Mark the end; an exception passes through."""
        self.end = Mark(self.__session, self.__edge_reads)
