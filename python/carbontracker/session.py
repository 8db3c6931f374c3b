"""The channels of this machine, sampled in this process: the only part that knows the core.

One session is shared by all trackers and windows that ask for the same thing; it stops when the
last of them is done, or at interpreter exit.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from carbontracker import _core
from carbontracker.timeline import Timeline
from carbontracker.window import MISSING, ChannelInfo, Energy, window_energy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carbontracker.timeline import Floats, Int64s, Level

logger = logging.getLogger("carbontracker")

SHORTEST_PERIOD_S = 1e-4
LONGEST_PERIOD_S = 2.0
"""As the core has it: a power sensor read more rarely would leave gaps."""

_COLLECT_EVERY_S = 2.0
_LOOK_AGAIN_S = 0.005
_KEEP_FULL_NS = 120_000_000_000
"""Samples younger than this keep the resolution they were taken at."""


@dataclass(frozen=True)
class Simulated:
    """A device that exists only as a formula."""

    kind: str
    name: str
    waveform: str
    """``constant:W``, or a shape of ``cpp/src/sources/simulated.cpp``."""


@dataclass(frozen=True)
class Config:
    """What to sample and how. The defaults sample everything on this machine."""

    root: str = "/"
    """The folder above ``sys`` and ``proc``."""
    nvml_library: str = "libnvidia-ml.so.1"
    kinds: tuple[str, ...] = ()
    """Only these kinds of channel; empty for all."""
    simulated: tuple[Simulated, ...] = ()
    period_s: float = 0.0
    """Seconds between readings; 0 for each sensor's own default."""
    budget: float = 0.005
    """Most of one core that a sampling thread may use; its period stretches to keep it."""
    spacing_s: float = field(default=1.0, compare=False)
    """Spacing of the stored time series once it is two minutes old, s. Totals do not depend on
    it."""
    visible_gpus: str | None = None
    """``CUDA_VISIBLE_DEVICES``, if it is set."""
    cuda_order: str | None = None
    """``CUDA_DEVICE_ORDER``, if it is set."""

    @classmethod
    def from_environment(cls, **settings: object) -> Config:
        """Return a configuration with the environment's answers where nothing else is said.

        ``CARBONTRACKER_ROOT``: folder above ``sys`` and ``proc`` (a container's mount of the
        host); ``CARBONTRACKER_NVML``: path of the NVML library; ``CARBONTRACKER_PERIOD``: seconds
        between readings; ``CARBONTRACKER_BUDGET``: share of a core. A number that cannot be is
        said on stderr and not used: the environment must not stop a training.
        """
        environ = os.environ
        found: dict[str, object] = {
            "root": environ.get("CARBONTRACKER_ROOT") or "/",
            "nvml_library": environ.get("CARBONTRACKER_NVML") or "libnvidia-ml.so.1",
            "visible_gpus": environ.get("CUDA_VISIBLE_DEVICES"),
            "cuda_order": environ.get("CUDA_DEVICE_ORDER"),
            **_numbers("period_s", "CARBONTRACKER_PERIOD", SHORTEST_PERIOD_S, LONGEST_PERIOD_S),
            **_numbers("budget", "CARBONTRACKER_BUDGET", 0.0, 1.0),
        }
        return cls(**(found | settings))  # type: ignore[arg-type]  # names are fields of Config

    def host(self) -> _core.Host:
        """Return the world as the core's sources see it."""
        variables = {
            "CUDA_VISIBLE_DEVICES": self.visible_gpus,
            "CUDA_DEVICE_ORDER": self.cuda_order,
        }
        return _core.Host(
            root=Path(self.root),
            nvml_library=self.nvml_library,
            data_dir=Path(__file__).parent / "data",
            environment={name: text for name, text in variables.items() if text is not None},
            simulated=[_core.SimulatedDevice(d.kind, d.name, d.waveform) for d in self.simulated],
        )


def _numbers(field_name: str, variable: str, least: float, most: float) -> dict[str, float]:
    """Return the number in ``variable`` as a field, or nothing if it holds none in range."""
    text = os.environ.get(variable, "").strip()
    if not text:
        return {}
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if least <= value <= most:
        return {field_name: value}
    logger.warning(
        "carbontracker: %s=%r is not a number from %g to %g and is not used",
        variable,
        text,
        least,
        most,
    )
    return {}


class Mark:
    """A moment in the life of a session. Making one is cheap; its energy is resolved later."""

    __slots__ = ("__weakref__", "final", "levels", "t_ns")

    def __init__(self, t_ns: int) -> None:
        self.t_ns = t_ns
        self.levels: tuple[Level, ...] = ()
        self.final = False


class Session:
    """Sampling threads, their timelines, and marks on them.

    Without a core it is the session of a process in which nothing may be sampled: every mark works
    and every energy is missing.
    """

    def __init__(self, config: Config, core: _core.Session | None) -> None:
        self.config = config
        self._core = core
        self.entries = core.entries if core else []
        self.channels = tuple(
            ChannelInfo(e.id, e.kind, e.quality, e.relative_error, e.counted) for e in self.entries
        )
        self._timelines = [Timeline(counter=e.is_counter, tick_ns=e.tick_ns) for e in self.entries]
        self._pending: deque[weakref.ref[Mark]] = deque()
        # Re-entrant, because a signal handler may stop the tracker in the middle of a resolution.
        self._lock = threading.RLock()
        self._collecting = False
        self._closing = threading.Event()
        self._collector = threading.Thread(
            target=self._collect_periodically, name="carbontracker-collect", daemon=True
        )

    @classmethod
    def probe(cls, config: Config) -> Session:
        """Find what can be read; nothing is sampled before ``start``.

        Raises:
            ValueError: a simulated device's waveform cannot be read.
        """
        core = _core.Session(
            config.host(),
            period_ns=int(config.period_s * 1e9),
            budget=config.budget,
            kinds=list(config.kinds),
        )
        return cls(config, core)

    def start(self) -> None:
        """Start sampling, and collecting what was sampled."""
        if self._core is not None and self._core.here:
            self._core.start()
            self._collector.start()

    @property
    def here(self) -> bool:
        """Return False where nothing is sampled: in a child of a process that measures."""
        return self._core is not None and self._core.here

    @property
    def closed(self) -> bool:
        """Return whether sampling has ended."""
        return self._closing.is_set()

    @property
    def missing(self) -> Sequence[_core.Unavailable]:
        """Return what cannot be read or is not used, why, and what mends it."""
        return self._core.missing if self._core else []

    @property
    def cpu_seconds(self) -> float:
        """Return the CPU time that the sampling threads have used so far, s."""
        return sum(stats.cpu_ns for stats in self.stats().values()) / 1e9

    def stats(self) -> dict[str, _core.SamplerStats]:
        """Return what each sampling thread says of itself, by source."""
        return dict(self._core.stats()) if self._core else {}

    def channel_stats(self, index: int) -> _core.ChannelStats | None:
        """Return errors, drops and resets of channel ``index``; None where nothing is sampled."""
        return self._core.channel_stats(index) if self._core else None

    def mark(self) -> Mark:
        """Mark this moment and ask for a reading at it; never waits."""
        mark = Mark(time.monotonic_ns())
        if self._core is not None and self._core.here and not self.closed:
            self._core.poke()
            self._pending.append(weakref.ref(mark))
        return mark

    def energy(self, start: Mark, end: Mark) -> Energy:
        """Return the energy between two marks of this session, as far as it is known now."""
        return self.energies([(start, end)])[0]

    def energies(self, windows: Sequence[tuple[Mark, Mark]]) -> list[Energy]:
        """Return the energy of each window, all from the same readings."""
        if not self.here:
            return [MISSING] * len(windows)
        with self._lock:
            self._collect()
            return [self._energy(start, end) for start, end in windows]

    def is_final(self, *marks: Mark) -> bool:
        """Return whether every counted sensor has moved past these marks."""
        if not self.here:
            return True  # nothing will ever be added
        with self._lock:
            self._collect()
            return all(
                level.final
                for mark in marks
                for channel, level in zip(self.channels, self._resolve(mark), strict=True)
                if channel.counted
            )

    def await_final(self, *marks: Mark, timeout_s: float = 0.4) -> bool:
        """Wait until every sensor has moved past the marks, at most so long; return whether."""
        deadline = time.monotonic() + timeout_s
        while not self.is_final(*marks):
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK_AGAIN_S)
        return True

    def power(self, index: int, start_ns: int, end_ns: int) -> tuple[Int64s, Floats]:
        """Return times (n,) ns and watts (n,) of channel ``index``."""
        with self._lock:
            self._collect()
            return self._timelines[index].power(start_ns, end_ns)

    def close(self) -> None:
        """Take a last reading, stop the threads, keep the timelines."""
        if not self.here or self.closed or self._core is None:
            return
        self._closing.set()
        self._core.stop()
        if self._collector.is_alive():
            self._collector.join()
        with self._lock:
            self._collect()

    def _collect_periodically(self) -> None:
        while not self._closing.wait(_COLLECT_EVERY_S):
            with self._lock:
                self._collect()

    def _collect(self) -> None:
        if self._core is None or not self.here or self._collecting:
            return  # interrupted by a signal handler that asks: what is there has to do
        self._collecting = True
        try:
            for index, timeline in enumerate(self._timelines):
                # The time first: all samples up to it are in the ring by then.
                seen_ns = self._core.channel_stats(index).last_read_ns
                timeline.extend(*self._core.drain(index), seen_ns=seen_ns)
            self._thin(time.monotonic_ns() - _KEEP_FULL_NS)
        finally:
            self._collecting = False

    def _energy(self, start: Mark, end: Mark) -> Energy:
        a, b = self._resolve(start), self._resolve(end)
        coverage = [line.coverage(start.t_ns, end.t_ns) for line in self._timelines]
        return window_energy(self.channels, a, b, coverage)

    def _thin(self, horizon_ns: int) -> None:
        # A mark that is about to lose its neighbourhood is resolved first, so that thinning
        # changes no window. Others may append meanwhile: one round over what is there now.
        for _ in range(len(self._pending)):
            pending = self._pending.popleft()
            mark = pending()
            if mark is None or mark.final:
                continue
            if mark.t_ns > horizon_ns:
                self._pending.append(pending)
                continue
            self._resolve(mark)
            mark.final = True
        for timeline in self._timelines:
            timeline.thin(horizon_ns, int(self.config.spacing_s * 1e9))

    def _resolve(self, mark: Mark) -> tuple[Level, ...]:
        if not mark.final:
            mark.levels = tuple(timeline.at(mark.t_ns) for timeline in self._timelines)
            mark.final = all(level.final for level in mark.levels)
        return mark.levels


class _Shared:
    """The sessions of this process, counted by their users."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.users: dict[Session, int] = {}
        self.inert = False
        """Nothing is sampled here any more: a parent measures, or the interpreter is ending."""

    def find(self, config: Config) -> Session | None:
        return next((session for session in self.users if session.config == config), None)

    def after_fork_in_child(self) -> None:
        # The counters are the machine's: what the parent already counts the child must not count
        # again. The lock may have been held by a thread that does not exist here.
        self.inert = self.inert or bool(self.users)
        self.lock = threading.RLock()
        self.users.clear()


_shared = _Shared()


def acquire(config: Config) -> Session:
    """Return the process's session for ``config``, started; give it back with ``release``.

    Raises:
        ValueError: a simulated device's waveform cannot be read.
    """
    with _shared.lock:
        session = _shared.find(config)
        if session is None:
            session = Session(config, None) if _shared.inert else Session.probe(config)
            session.start()
        _shared.users[session] = _shared.users.get(session, 0) + 1
        return session


def release(session: Session) -> None:
    """Give back a session; the last user stops it."""
    with _shared.lock:
        if session not in _shared.users:
            return
        _shared.users[session] -= 1
        if _shared.users[session] > 0:
            return
        del _shared.users[session]
    session.close()


def _close_all() -> None:
    with _shared.lock:
        sessions = list(_shared.users)
        _shared.users.clear()
    for session in sessions:
        session.close()


def _end() -> None:
    _shared.inert = True  # a daemon thread may yet ask
    _close_all()


atexit.register(_end)
os.register_at_fork(after_in_child=_shared.after_fork_in_child)
