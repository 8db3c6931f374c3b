"""The channels of this machine, sampled in this process: the only part that knows the core.

One session is shared by all trackers and windows that ask for the same thing; it stops when the
last of them is done, or at interpreter exit.
"""

from __future__ import annotations

import atexit
import functools
import os
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from carbontracker import _core
from carbontracker._core import Entry, Mark, Span
from carbontracker.arguments import as_number, shown
from carbontracker.energy.energy import MISSING, ChannelInfo, Energy
from carbontracker.environment import enabled
from carbontracker.guard import MEASURING, logger, optional

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    Int64s = NDArray[np.int64]
    Floats = NDArray[np.float64]

__all__ = [
    "Config",
    "Entry",
    "Mark",
    "Session",
    "Simulated",
    "Span",
    "acquire",
    "check_pace",
    "release",
]  # Entry, Mark and Span for those who may not know the core

HIGHEST_RATE_HZ = 1e4
LOWEST_RATE_HZ = 0.5
"""As the core has it: a power sensor read more rarely would leave gaps."""

ENDING = "the interpreter is ending"

PATIENCE_S = 2.0
"""How long a session waits for its sensors to answer before it begins without them, s."""

OVERHEAD_BUDGET, _OLD_BUDGET = "CARBONTRACKER_OVERHEAD_BUDGET", "CARBONTRACKER_BUDGET"

_LOOK_AGAIN_S = 0.002


def check_pace(rate_hz: float | None, overhead_budget: float | None) -> dict[str, float]:
    """Return the fields of ``Config`` for what was given.

    Raises:
        ValueError: a rate or a budget that cannot be.
    """
    fields: dict[str, float] = {}
    given: dict[str, float] = {}
    for name, value in (("rate_hz", rate_hz), ("overhead_budget", overhead_budget)):
        number = as_number(value)
        if isinstance(number, (int, float)):
            given[name] = float(number)
        elif value is not None:
            message = f"{name} must be a number, not {shown(value)}"
            raise ValueError(message)
    if rate_hz is not None:
        if not LOWEST_RATE_HZ <= given["rate_hz"] <= HIGHEST_RATE_HZ:
            message = f"rate_hz must be from {LOWEST_RATE_HZ:g} to {HIGHEST_RATE_HZ:g} Hz"
            raise ValueError(message)
        fields["rate_hz"] = given["rate_hz"]
    if overhead_budget is not None:
        if not 0.0 <= given["overhead_budget"] <= 1.0:
            message = "overhead_budget is a fraction of one core, from 0 (no limit) to 1"
            raise ValueError(message)
        fields["overhead_budget"] = given["overhead_budget"]
    return fields


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
    perf_library: str = ""
    """Stands in for the kernel's perf events; empty for the kernel itself."""
    gpus_of_process: bool = False
    """Only the GPUs that this process works on when sampling begins."""
    kinds: tuple[str, ...] = ()
    """Only these kinds of channel; empty for all."""
    simulated: tuple[Simulated, ...] = ()
    rate_hz: float = 0.0
    """Readings per second of every sensor, whatever it costs; 0 to follow the sensors' own
    rhythms within the budget."""
    overhead_budget: float = 0.005
    """Most of one core that all of sampling may use, as a fraction; 0 for no limit."""
    edge_reads: bool = True
    """Marks ask the sensors for a reading where that sharpens the ends of a window."""
    spacing_s: float = field(default=1.0, compare=False)
    """Spacing of the stored time series once it is a minute old, s. Totals do not depend on it."""
    visible_gpus: str | None = None
    """``CUDA_VISIBLE_DEVICES``, if it is set."""
    cuda_order: str | None = None
    """``CUDA_DEVICE_ORDER``, if it is set."""

    @classmethod
    def from_environment(cls, **settings: object) -> Config:
        """Return a configuration with the environment's answers where nothing else is said.

        ``CARBONTRACKER_ROOT``: folder above ``sys`` and ``proc`` (a container's mount of the
        host); ``CARBONTRACKER_NVML``: path of the NVML library, ``CARBONTRACKER_PERF``: of one that
        stands in for perf events; ``CARBONTRACKER_RATE_HZ``: a fixed rate of reading;
        ``CARBONTRACKER_OVERHEAD_BUDGET``: share of a core; ``CARBONTRACKER_EDGE_READS=0``: marks
        ask for no readings. A number out of range is ignored with a warning on standard error: the
        environment must not stop a training.
        """
        environ = os.environ
        found: dict[str, object] = {
            "root": environ.get("CARBONTRACKER_ROOT") or "/",
            "nvml_library": environ.get("CARBONTRACKER_NVML") or "libnvidia-ml.so.1",
            "perf_library": environ.get("CARBONTRACKER_PERF") or "",
            "visible_gpus": environ.get("CUDA_VISIBLE_DEVICES"),
            "cuda_order": environ.get("CUDA_DEVICE_ORDER"),
            "edge_reads": enabled("CARBONTRACKER_EDGE_READS", default=True),
            **_numbers("rate_hz", "CARBONTRACKER_RATE_HZ", LOWEST_RATE_HZ, HIGHEST_RATE_HZ),
            **_numbers("overhead_budget", _overhead_variable(), 0.0, 1.0),
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
            data_dir=Path(__file__).parents[1] / "data",
            environment={name: text for name, text in variables.items() if text is not None},
            simulated=[_core.SimulatedDevice(d.kind, d.name, d.waveform) for d in self.simulated],
            gpus_of_process=self.gpus_of_process,
            perf_library=self.perf_library,
        )


def _overhead_variable() -> str:
    """Return the variable that holds the share of a core: the old one only if it alone is set."""
    if os.environ.get(OVERHEAD_BUDGET, "").strip() or not os.environ.get(_OLD_BUDGET, "").strip():
        return OVERHEAD_BUDGET
    _notice_old_budget()
    return _OLD_BUDGET


@functools.cache
def _notice_old_budget() -> None:
    """Name the new variable, once in a process."""
    logger.warning("carbontracker: %s is now called %s", _OLD_BUDGET, OVERHEAD_BUDGET)


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


class Session:
    """Sampling threads, what they have found, and marks on it.

    Without a core it is the session of a process in which nothing may be sampled: every mark works
    and every energy is missing.
    """

    def __init__(self, config: Config, core: _core.Session | None, reason: str = "") -> None:
        self.config = config
        self.core = core
        self.reason = reason
        """Why there is no core; empty if there is one."""
        self._entries: Sequence[Entry] = []
        self._channels: tuple[ChannelInfo, ...] = ()
        self.closed = False

    @property
    def entries(self) -> Sequence[Entry]:
        """Return what is read here. A sensor that answers late adds to it; indices stay."""
        self._look_for_latecomers()
        return self._entries

    @property
    def channels(self) -> tuple[ChannelInfo, ...]:
        """Return what the arithmetic needs to know of each entry."""
        self._look_for_latecomers()
        return self._channels

    def _look_for_latecomers(self) -> None:
        # A forked child keeps what its parent knew: the core's list is locked there for good.
        if self.core is None or self.core.entry_count == len(self._entries) or not self.core.here:
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
        patience_s: float = PATIENCE_S,
        while_waiting: Callable[[], None] | None = None,
    ) -> Session:
        """Find what can be read; nothing is sampled before ``start``.

        Args:
            config: what to sample.
            patience_s: how long to wait for all sensors to answer, s; what answers later joins
                late.
            while_waiting: called every few milliseconds while they are waited for.

        Raises:
            ValueError: a simulated device's waveform cannot be read.
        """
        core = _core.Session(
            config.host(),
            period_ns=round(1e9 / config.rate_hz) if config.rate_hz else 0,
            budget=config.overhead_budget,
            kinds=list(config.kinds),
            spacing_ns=max(1, int(config.spacing_s * 1e9)),
            patience_ns=round(patience_s * 1e9),
            while_waiting=while_waiting,
        )
        return cls(config, core)

    def start(self) -> None:
        """Start sampling."""
        if self.core is not None and self.core.here:
            self.core.start()

    @property
    def here(self) -> bool:
        """Return False where it is not sampled: in a forked child, or when the interpreter ends."""
        return self.core is not None and self.core.here

    @property
    def failed(self) -> bool:
        """Return whether sampling could not begin, which has been said."""
        return self.core is None and self.reason not in ("", ENDING)

    @property
    def missing(self) -> Sequence[_core.Unavailable]:
        """Return what cannot be read or is not used, why, and what mends it."""
        return self.core.missing if self.core else []

    @property
    def cpu_seconds(self) -> float:
        """Return the CPU time that all threads of the session have used so far, s."""
        return self.core.cpu_ns / 1e9 if self.core else 0.0

    def stats(self) -> dict[str, _core.SamplerStats]:
        """Return what each sampling thread says of itself, by source."""
        return dict(self.core.stats()) if self.core else {}

    def channel_stats(self, index: int) -> _core.ChannelStats | None:
        """Return errors, drops and resets of channel ``index``; None where nothing is sampled."""
        return self.core.channel_stats(index) if self.core else None

    def rates_hz(self) -> dict[str, float]:
        """Return how often each channel was read per second so far, by its id."""
        if self.core is None:
            return {}
        wall_s = {name: stats.wall_ns / 1e9 for name, stats in self.stats().items()}
        return {
            entry.id: self.core.channel_stats(index).readings / max(wall_s[entry.source], 1e-9)
            for index, entry in enumerate(self.entries)
            if entry.read
        }

    def successions(self) -> Sequence[_core.Succession]:
        """Return which channels were found wrong or dead, who took over, when, and why."""
        return self.core.successions() if self.core else []

    def mark(self) -> Mark:
        """Mark this moment and ask for a reading at it; never waits."""
        return Mark(self.core if self.here else None, self.config.edge_reads)

    def energy(self, start: Mark, end: Mark) -> Energy:
        """Return the energy between two marks of this session, as far as it is known now."""
        if not self.here or self.core is None:
            return MISSING
        total, devices = self.core.energy(start, end)
        return Energy(*total, parts=(self.channels, devices))

    def energies(self, windows: Sequence[tuple[Mark, Mark]]) -> list[Energy]:
        """Return the energy of each window."""
        return [self.energy(start, end) for start, end in windows]

    def is_final(self, *marks: Mark) -> bool:
        """Return whether every counted sensor has moved past these marks."""
        if not self.here or self.core is None:
            return True  # nothing will ever be added
        return all(map(self.core.is_final, marks))

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
        if self.core is None:
            raise LookupError(index)
        import numpy as np

        t_ns, watts = self.core.power(index, start_ns, end_ns)
        return np.frombuffer(t_ns, np.int64), np.frombuffer(watts, np.float64)

    def close(self) -> None:
        """Take a last reading and stop the threads; what was measured stays."""
        if self.here and not self.closed and self.core is not None:
            self.closed = True
            self.core.stop()


class _Shared:
    """The sessions of this process, counted by their users."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.users: dict[Session, int] = {}
        self.ending = False
        """The interpreter is ending: nothing is sampled any more."""

    def find(self, config: Config) -> Session | None:
        return next((session for session in self.users if session.config == config), None)

    def after_fork_in_child(self) -> None:
        # The sessions stay the parent's; who asks for one here gets a new one. The lock may have
        # been held by a thread that does not exist here.
        self.lock = threading.RLock()
        self.users.clear()


_shared = _Shared()


def acquire(
    config: Config,
    patience_s: float = PATIENCE_S,
    while_waiting: Callable[[], None] | None = None,
) -> Session:
    """Return the process's session for ``config``, started; give it back with ``release``.

    A forked child gets one of its own. Other arguments are those of ``Session.probe``. Where
    sampling cannot begin, one line says why, and every energy of the session is missing.
    """
    with _shared.lock:
        session = _shared.find(config)
        if session is None:
            session = optional(
                MEASURING,
                lambda: (
                    Session(config, None, ENDING)
                    if _shared.ending
                    else _started(config, patience_s, while_waiting)
                ),
                lambda why: Session(config, None, why),
            )
        _shared.users[session] = _shared.users.get(session, 0) + 1
        return session


def _started(
    config: Config, patience_s: float, while_waiting: Callable[[], None] | None
) -> Session:
    session = Session.probe(config, patience_s, while_waiting)
    with ExitStack() as undo:
        undo.callback(session.close)  # some of the threads may run
        session.start()
        undo.pop_all()
    short = [one for one in session.missing if one.shortage]
    if short:
        logger.warning("carbontracker: not all energy is measured: %s", reasons(short))
    return session


def reasons(missing: Iterable[_core.Unavailable]) -> str:
    """Return why these are not measured; sources that say the same are named together."""
    sources: dict[tuple[str, str], list[str]] = {}
    for one in missing:
        sources.setdefault((one.reason, one.remedy), []).append(one.source)
    return "; ".join(
        f"{', '.join(dict.fromkeys(names))}: {why}" + (f" (remedy: {remedy})" if remedy else "")
        for (why, remedy), names in sources.items()
    )


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
    _shared.ending = True  # a daemon thread may yet ask
    _close_all()


atexit.register(_end)
os.register_at_fork(after_in_child=_shared.after_fork_in_child)
