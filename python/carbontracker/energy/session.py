"""Sampling of this machine in this process. No other module imports the core.

All trackers and windows with the same configuration share one session. It stops when the last of
them releases it, or at interpreter exit.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from contextlib import ExitStack
from functools import cache
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from carbontracker.address_space import MEASURING_BYTES, check_room
from carbontracker.energy.config import shares_on_request
from carbontracker.energy.energy import MISSING, ChannelInfo, Energy
from carbontracker.energy.power_series import PowerSeries
from carbontracker.guard import MEASURING, logger, optional
from carbontracker.operating_system import after_fork_in_child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from carbontracker import _core
    from carbontracker._core import Entry, Mark, Span
    from carbontracker.energy.config import Config

    not_compiled: tuple[_core.SkippedSensor, ...]
else:
    try:
        _core = import_module("carbontracker._core")
        not_compiled = ()
    except ModuleNotFoundError:
        # A core that is there and does not load is an error: no estimate takes its place unasked.
        from carbontracker.energy import python_core as _core

        not_compiled = (_core.not_compiled(),)
    Entry, Mark, Span = _core.Entry, _core.Mark, _core.Span

__all__ = ["Entry", "Mark", "Session", "Span", "acquire", "release"]
# Entry, Mark and Span: for modules that must not import the core.

INTERPRETER_ENDING = "the interpreter is ending"

PROBE_TIMEOUT_S = 2.0
"""How long a session waits for its sensors to answer before it starts without them, s."""

_POLL_INTERVAL_S = 0.002

_PLACE_VARIABLES = (
    "CARBONTRACKER_CPUS",
    "SLURM_CPU_BIND_LIST",
    "SLURM_CPU_BIND_TYPE",
    "SLURM_JOB_ID",
    "PBS_JOBID",
    "LSB_JOBID",
    "SGE_TASK_ID",
)
"""What decides on which CPUs the sampling threads run."""

_LIBRARY_VARIABLES = ("ROCM_PATH",)
"""Where the libraries of vendors are."""


def core_host(config: Config) -> _core.Host:
    """Return the machine and the environment as the sources of the core see them."""
    variables = {name: os.environ.get(name) for name in _PLACE_VARIABLES + _LIBRARY_VARIABLES} | {
        "CUDA_VISIBLE_DEVICES": config.visible_gpus,
        "CUDA_DEVICE_ORDER": config.cuda_order,
        **dict(config.visible_elsewhere),
    }
    return _core.Host(
        root=Path(config.root),
        nvml_library=config.nvml_library,
        data_dir=Path(__file__).parents[1] / "data",
        environment={name: text for name, text in variables.items() if text is not None},
        simulated=[_core.SimulatedDevice(d.kind, d.name, d.waveform) for d in config.simulated],
        gpus_of_process=config.gpus_of_process,
        perf_library=config.perf_library,
    )


class Session:
    """The sampling threads of one configuration, their measurements, and marks in time.

    A session without a core samples nothing: every mark works and every energy is missing.
    """

    def __init__(self, config: Config, core: _core.Session | None, reason: str = "") -> None:
        self.config = config
        self.core = core
        self.reason = reason
        """Why the session has no core; empty if it has one."""
        self._entries: Sequence[Entry] = []
        self._channels: tuple[ChannelInfo, ...] = ()
        self.closed = False

    @property
    def entries(self) -> Sequence[Entry]:
        """Return the channels. A sensor that answers late appends its own; indices never change."""
        self._refresh_entries()
        return self._entries

    @property
    def channels(self) -> tuple[ChannelInfo, ...]:
        """Return the properties of each entry that the arithmetic of energies needs."""
        self._refresh_entries()
        return self._channels

    def _refresh_entries(self) -> None:
        # A forked child keeps its parent's list: a lock of the core may be held there for ever.
        if (
            self.core is None
            or self.core.entry_count == len(self._entries)
            or not self.core.owned_by_this_process
        ):
            return
        entries = self.core.entries
        self._channels = tuple(
            ChannelInfo(e.id, e.kind, e.quality, e.relative_error, e.counted, e.read)
            for e in entries
        )
        self._entries = entries

    @classmethod
    def probe(
        cls,
        config: Config,
        probe_timeout_s: float = PROBE_TIMEOUT_S,
        while_waiting: Callable[[], None] | None = None,
    ) -> Session:
        """Probe the sensors; sampling begins with ``start``.

        Args:
            config: what to sample.
            probe_timeout_s: how long to wait for all sensors to answer, s; a sensor that answers
                later joins the session then.
            while_waiting: called every few milliseconds during that wait.

        Raises:
            ValueError: the waveform of a simulated device is not valid.
        """
        core = _core.Session(
            core_host(config),
            period_ns=round(1e9 / config.rate_hz) if config.rate_hz else 0,
            overhead_budget=config.overhead_budget,
            kinds=list(config.kinds),
            spacing_ns=max(1, int(config.spacing_s * 1e9)),
            patience_ns=round(probe_timeout_s * 1e9),
            while_waiting=while_waiting,
            share_directory=config.share,
            keep_full_ns=round(config.keep_full_s * 1e9),
        )
        return cls(config, core)

    def start(self) -> None:
        """Start sampling."""
        if self.core is not None and self.core.owned_by_this_process:
            self.core.start()

    @property
    def owned_by_this_process(self) -> bool:
        """Return False where this process does not sample: in a forked child, or at its end."""
        return self.core is not None and self.core.owned_by_this_process

    @property
    def failed(self) -> bool:
        """Return whether sampling could not start; a warning has named the reason."""
        return self.core is None and self.reason not in ("", INTERPRETER_ENDING)

    @property
    def missing(self) -> Sequence[_core.SkippedSensor]:
        """Return the sensors that are not read, with the reason and the remedy of each."""
        return [*not_compiled, *self.core.missing] if self.core else []

    @property
    def cpu_seconds(self) -> float:
        """Return the CPU time of all threads of the session so far, s."""
        return self.core.cpu_ns / 1e9 if self.core else 0.0

    def stats(self) -> dict[str, _core.SamplerStats]:
        """Return the statistics of each sampling thread, by source."""
        return dict(self.core.stats()) if self.core else {}

    def driver_seconds(self) -> dict[str, float]:
        """Return the time that this process has spent in calls of each driver so far, s, by source.

        A driver may hold a lock during a call that the training needs as well.
        """
        return {name: stats.held_ns / 1e9 for name, stats in self.stats().items()}

    def channel_stats(self, index: int) -> _core.ChannelStats | None:
        """Return errors, drops and resets of channel ``index``; None without a core."""
        return self.core.channel_stats(index) if self.core else None

    def rates_hz(self) -> dict[str, float]:
        """Return the mean readings per second of each channel so far, by channel id."""
        if self.core is None:
            return {}
        wall_s = {name: stats.wall_ns / 1e9 for name, stats in self.stats().items()}
        return {
            entry.id: self.core.channel_stats(index).readings / max(wall_s[entry.source], 1e-9)
            for index, entry in enumerate(self.entries)
            if entry.read
        }

    def reader_pids(self) -> Sequence[int]:
        """Return for each entry the process that reads it; 0 for this one."""
        return self.core.reader_pids() if self.core else []

    def read_by(self) -> dict[str, str]:
        """Return which process reads each channel, by id: ``this process``, ``process 4711``."""
        pids = self.reader_pids()  # first: entries may be added meanwhile
        return {
            entry.id: f"process {pid}" if pid else "this process"
            for entry, pid in zip(self.entries, pids, strict=False)
            if entry.read
        }

    @property
    def placement(self) -> str:
        """Return on which CPUs the sampling threads run, and why."""
        return self.core.placement if self.core else ""

    @property
    def share_failure(self) -> str:
        """Return why readings are not shared with other processes; empty if they may be."""
        return self.core.share_failure if self.core else ""

    def successions(self) -> Sequence[_core.FailoverEvent]:
        """Return the failovers: the channel that failed, its successor, the time and the reason."""
        return self.core.failovers() if self.core else []

    def mark(self) -> Mark:
        """Mark this moment and request a reading; never waits."""
        return Mark(self.core if self.owned_by_this_process else None, self.config.edge_reads)

    def mark_beginning(self) -> Mark:
        """Do the same at the beginning of something: the time is the last thing that it takes."""
        core = self.core if self.owned_by_this_process else None
        return Mark(core, self.config.edge_reads, begins=True)

    def energy(self, start: Mark, end: Mark) -> Energy:
        """Return the energy between two marks of this session, from the readings so far."""
        if not self.owned_by_this_process or self.core is None:
            return MISSING
        total, devices = self.core.energy(start, end)
        return Energy(*total, parts=(self.channels, devices))

    def energies(self, windows: Sequence[tuple[Mark, Mark]]) -> list[Energy]:
        """Return the energy of each window."""
        return [self.energy(start, end) for start, end in windows]

    def is_final(self, *marks: Mark) -> bool:
        """Return whether every counted sensor has been read after these marks."""
        if not self.owned_by_this_process or self.core is None:
            return True  # no reading will ever be added
        return all(map(self.core.is_final, marks))

    def await_final(self, *marks: Mark, timeout_s: float = 0.4) -> bool:
        """Wait at most ``timeout_s`` until the marks are final; return whether they are."""
        deadline = time.monotonic() + timeout_s
        while not self.is_final(*marks):
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_INTERVAL_S)
        return True

    def power(self, index: int, start_ns: int, end_ns: int) -> PowerSeries:
        """Return times (n,), ns, and power (n,), W, of channel ``index``, without a copy.

        Raises:
            LookupError: the session has no core.
        """
        if self.core is None:
            raise LookupError(index)
        import numpy as np

        t_ns, watts, thinned_to_ns = self.core.power(index, start_ns, end_ns)
        return PowerSeries(
            np.frombuffer(t_ns, np.int64), np.frombuffer(watts, np.float64), thinned_to_ns
        )

    def mean_watts(self, index: int, start_ns: int, end_ns: int) -> float | None:
        """Return the mean power of channel ``index`` where it is known; None if it is nowhere."""
        t_ns, watts = self.power(index, start_ns, end_ns)
        ends_ns = [start_ns, *t_ns.tolist()]
        lengths_ns = [max(1, b - a) for a, b in pairwise(ends_ns)]
        joules = sum(w * length for w, length in zip(watts.tolist(), lengths_ns, strict=True))
        return joules / sum(lengths_ns) if lengths_ns else None

    def close(self) -> None:
        """Take a last reading and stop the threads. The measurements stay readable."""
        if self.owned_by_this_process and not self.closed and self.core is not None:
            self.closed = True
            self.core.stop()


class _SharedSessions:
    """The sessions of this process, with the number of users of each."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.users: dict[Session, int] = {}
        self.ending = False
        """The interpreter is ending: no new session may sample."""

    def find(self, config: Config) -> Session | None:
        return next((session for session in self.users if session.config == config), None)

    def after_fork_in_child(self) -> None:
        # The sessions belong to the parent; the child gets new ones. The lock may have been held by
        # a thread that does not exist in the child.
        self.lock = threading.RLock()
        self.users.clear()


_shared = _SharedSessions()


def acquire(
    config: Config,
    probe_timeout_s: float = PROBE_TIMEOUT_S,
    while_waiting: Callable[[], None] | None = None,
) -> Session:
    """Return the started session of this process for ``config``. Give it back with ``release``.

    A forked child gets a session of its own. The other arguments are those of ``Session.probe``.
    If sampling cannot start, one warning names the reason, and every energy of the session is
    missing.
    """
    with _shared.lock:
        session = _shared.find(config)
        if session is None:
            session = optional(
                MEASURING,
                lambda: (
                    Session(config, None, INTERPRETER_ENDING)
                    if _shared.ending
                    else _started(config, probe_timeout_s, while_waiting)
                ),
                lambda why: Session(config, None, why),
            )
        _shared.users[session] = _shared.users.get(session, 0) + 1
        return session


def _started(
    config: Config, probe_timeout_s: float, while_waiting: Callable[[], None] | None
) -> Session:
    check_room(MEASURING_BYTES)
    session = Session.probe(config, probe_timeout_s, while_waiting)
    with ExitStack() as undo:
        undo.callback(session.close)  # some threads may have started
        session.start()
        undo.pop_all()
    if not_compiled and not config.simulated:
        _warn_of_missing_core()
    failed = [one for one in session.missing if one.shortage]
    if failed:
        logger.warning("carbontracker: not all energy is measured: %s", reasons(failed))
    if session.share_failure:
        log = logger.warning if shares_on_request() else logger.info
        log(
            "carbontracker: this process reads all sensors by itself, because readings cannot be "
            "shared: %s (CARBONTRACKER_SHARE=0 does not try it)",
            session.share_failure,
        )
    return session


@cache
def _warn_of_missing_core() -> None:
    logger.warning(
        "carbontracker: no sensor is read, and energy is estimated from the load of the processor: "
        "%s",
        reasons(not_compiled),
    )


def reasons(missing: Iterable[_core.SkippedSensor]) -> str:
    """Return the reasons in one line; sources with the same reason are named together."""
    sources: dict[tuple[str, str], list[str]] = {}
    for one in missing:
        sources.setdefault((one.reason, one.remedy), []).append(one.source)
    return "; ".join(
        f"{', '.join(dict.fromkeys(names))}: {why}" + (f" (remedy: {remedy})" if remedy else "")
        for (why, remedy), names in sources.items()
    )


def release(session: Session) -> None:
    """Give back a session. It stops with its last user."""
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
    _shared.ending = True  # a daemon thread may still ask for a session
    _close_all()


atexit.register(_end)
after_fork_in_child(_shared.after_fork_in_child)
