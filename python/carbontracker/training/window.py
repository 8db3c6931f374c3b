"""Windows: the energy of any piece of code, nested or overlapping, in any thread."""

from __future__ import annotations

import functools
import inspect
import time
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from carbontracker.carbon.factors import CarbonFactors, make_carbon_factors
from carbontracker.energy.config import Config, sampling_fields
from carbontracker.energy.session import Mark, Session, Span, acquire
from carbontracker.guard import logger
from carbontracker.model.measurement import Measurement
from carbontracker.model.work import UNCOUNTED
from carbontracker.operating_system import after_fork_in_child
from carbontracker.training.marked_energy import MarkedEnergy
from carbontracker.training.work_counter import WorkCounter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from typing_extensions import Self

    from carbontracker.carbon.footprint import Footprint
    from carbontracker.energy.cpu_usage import Usage
    from carbontracker.energy.energy import Energy
    from carbontracker.energy.power_series import PowerSeries
    from carbontracker.intensity.selection import IntensitySetting
    from carbontracker.model.attribution import Attribution
    from carbontracker.model.work import Work
    from carbontracker.training.attribution import Share

_Function = TypeVar("_Function", bound="Callable[..., Any]")


class Window(Span):
    """Two marks on the machine's energy; a context manager that may be used once.

    Entering and leaving only mark the time. The energy is worked out when it is asked for: at once
    a provisional value, and the final one as soon as every sensor has moved past the end.
    """

    __slots__ = ("_counter",)

    _counter: WorkCounter

    def work(
        self,
        *,
        tokens: float | None = None,
        samples: float | None = None,
        flops: float | None = None,
    ) -> Self:
        """Add what was done in the window, before, in or after it; return the window.

        Args:
            tokens: that were processed.
            samples: the same of samples.
            flops: the same of floating point operations.
        """
        if not hasattr(self, "_counter"):
            self._counter = WorkCounter()
        self._counter.add(tokens, samples, flops)
        return self

    @property
    def work_done(self) -> Work:
        """Return what ``work`` was told."""
        return self._counter.now() if hasattr(self, "_counter") else UNCOUNTED

    @property
    def measurement(self) -> Measurement:
        """Return time, energy, footprint and work as one value, as far as they are known now."""
        figures = self.seconds, self.energy, self.footprint
        return Measurement(*figures, final=self.final, work=self.work_done)

    @property
    def _session(self) -> Session:
        session: Session = self.context[0]
        return session

    @property
    def seconds(self) -> float:
        """Return the length, s; of a window that is still open, up to now."""
        if self.start is None:
            return 0.0
        end_ns = self.end.t_ns if self.end else time.monotonic_ns()
        return (end_ns - self.start.t_ns) / 1e9

    @property
    def energy(self) -> Energy:
        """Return the energy, as far as it is known now; never waits."""
        return self._session.energy(*self._marks())

    @property
    def coverage(self) -> float:
        """Return the share of the window in which energy is known, 0..1."""
        return self.energy.coverage

    @property
    def final(self) -> bool:
        """Return whether every sensor has moved past the end, so that the value will stay."""
        return self.end is not None and self._session.is_final(*self._marks())

    def wait(self, timeout_s: float = 0.5) -> bool:
        """Wait until the window is final, at most ``timeout_s`` seconds; return ``final``."""
        start, end = self._marks()
        return self._session.await_final(start, end, timeout_s=timeout_s) and self.final

    @property
    def attributed(self) -> Attribution | None:
        """Return the part of a job or process; None without ``measure(attribution=...)``."""
        return None

    def power(self) -> dict[str, PowerSeries]:
        """Return power over time by device: times (n,) int64 ns, watts (n,) float64.

        Times are CLOCK_MONOTONIC and end the interval whose mean the watts are. Samples older than
        ``keep_full_s`` are thinned: ``thinned_to_ns`` and ``spacing_s`` of each series state it.
        """
        start, end = self._marks()
        if not self._session.owned_by_this_process:
            return {}  # in a forked child nothing is known, and a lock there may never be free
        return {
            channel.id: self._session.power(index, start.t_ns, end.t_ns)
            for index, channel in enumerate(self._session.channels)
        }

    @property
    def footprint(self) -> Footprint:
        """Return kWh with PUE, gCO2eq, and how they came about."""
        return MarkedEnergy(self._session, *self._marks()).footprint(self.context[1])

    def __repr__(self) -> str:
        """Return name, length and energy in one line."""
        brief = import_module("carbontracker.report.brief")
        begun = self.start is not None
        text: str = brief.window(self.name, *((self.seconds, self.energy) if begun else ()))
        return text

    def _repr_html_(self) -> str:
        notebook = import_module("carbontracker.report.notebook")
        measured = None
        if self.start is not None:
            measured = self.measurement
        html: str = notebook.window_html(self.name, measured)
        return html

    def _marks(self) -> tuple[Mark, Mark]:
        if self.start is None:
            message = f"window {self.name!r} has not begun: use it as `with measure(...):`"
            raise RuntimeError(message)
        return self.start, self.end or self._session.mark()


class SynchronizedWindow(Window):
    """A window that waits at both ends until the accelerator has done what was queued."""

    __slots__ = ("synchronize",)

    synchronize: Callable[[], object]

    def __enter__(self) -> Self:
        """Wait, and begin."""
        self.synchronize()
        return super().__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait, and end."""
        self.synchronize()
        super().__exit__(kind, error, trace)


class AttributedWindow(Window):
    """A window that also reads the processor time of a job or process at both ends."""

    __slots__ = ("share", "_used_before", "_used_after")  # noqa: RUF023  # in the order of time

    share: Share
    _used_before: Usage | None
    _used_after: Usage | None

    def __enter__(self) -> Self:
        """Read the processor time, and begin."""
        self._used_before = self.share.read()
        return super().__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End, and read the processor time."""
        super().__exit__(kind, error, trace)
        self._used_after = self.share.read()

    @property
    def attributed(self) -> Attribution | None:
        """Return the part of the job or process, up to now in a window that is still open."""
        energy = self.energy
        used = self._used_after if self.end else self.share.read()
        return self.share.of([(energy, self._used_before, used)])


_shares: dict[tuple[Session, str], Share] = {}
"""Of each session and scope: one reads the processor time of all windows, so that a child that ends
in one of them is known in all."""


def _share_of(session: Session, scope: str) -> Share:
    from carbontracker.training.attribution import Share

    known = _shares.get((session, scope))
    if known is None:
        known = _shares[session, scope] = Share(session, scope)
    return known


def _check_attribution(scope: str | None) -> None:
    from carbontracker.energy.cpu_usage import SCOPES

    if scope is not None and scope not in SCOPES:
        message = f"attribution must be {' or '.join(SCOPES)}, got {scope!r}"
        raise ValueError(message)


@functools.cache
def _default_factors() -> CarbonFactors:
    return make_carbon_factors().start_polling()


_watched: dict[tuple[Any, ...], CarbonFactors] = {}
"""Pricings with a live provider, each made once: every window would ask for itself otherwise."""


def _factors_for(
    location: str | None, pue: float | None, intensity: IntensitySetting
) -> CarbonFactors:
    wanted = (
        intensity
        if intensity is None or isinstance(intensity, (int, float, str))
        else id(intensity)
    )  # whose provider the pricing keeps alive
    key = (location, pue, type(intensity), wanted)
    if key in _watched:
        return _watched[key]
    factors = make_carbon_factors(location, pue, intensity)
    if factors.live:
        _watched[key] = factors.start_polling()
    return factors


@functools.cache
def _default_config() -> Config:
    return Config.from_environment()


_held: list[Session] = []
"""The sessions that windows use, held until the process ends: windows come back."""

_NO_OPTIONS = (None,) * 7

_usual: list[tuple[Any, tuple[Session, CarbonFactors]]] = []
"""What a window without options needs, so that it costs next to nothing."""


def _session_for(config: Config) -> Session:
    for session in _held:
        if session.config == config and not session.closed:
            return session
    session = acquire(config)
    for one in session.missing:
        if one.awaited:
            logger.warning("carbontracker: %s (%s): %s", one.what, one.source, one.reason)
    _held.append(session)
    return session


def _usual_context() -> tuple[Any, tuple[Session, CarbonFactors]]:
    session = _session_for(_default_config())
    _usual[:] = [
        (session.core if session.owned_by_this_process else None, (session, _default_factors()))
    ]
    return _usual[0]


def _begin_anew() -> None:
    """Have a forked child look for itself: the threads behind what is known are its parent's."""
    _usual.clear()
    _held.clear()
    _watched.clear()
    _shares.clear()
    _default_factors.cache_clear()


after_fork_in_child(_begin_anew)


def measure(  # noqa: PLR0913  # options, by name
    name: str = "",
    *,
    rate_hz: float | None = None,
    overhead_budget: float | None = None,
    keep_full_s: float | None = None,
    edge_reads: bool | None = None,
    location: str | None = None,
    pue: float | None = None,
    intensity: IntensitySetting = None,
    attribution: str | None = None,
) -> Window:
    """Return a window to put around code: ``with measure("forward") as window: ...``.

    The first call probes the machine and starts the sampling threads, which go on until the
    process ends; every later one costs less than a microsecond.

    Args:
        name: kept with the window.
        rate_hz: read every sensor so often, whatever it costs (for power traces); by default each
            is read in its own rhythm, which is as exact and far cheaper.
        overhead_budget: most of one core that sampling may use, as a fraction (default 0.005).
        keep_full_s: how long every sample is kept in memory for ``power()``, s (default 60; a
            minute at 1 kHz takes about 1.5 MB a channel); of older ones one a second is kept.
        edge_reads: False to ask for no readings at the ends of the window.
        location: where the electricity is drawn: country, ISO code or zone.
        pue: power usage effectiveness, ratio >= 1.
        intensity: a carbon intensity of your own, gCO2eq/kWh; a live provider's name, ``auto``, or
            a provider of your own, asked in the background until the process ends.
        attribution: ``job`` or ``process``: ``attributed`` has its part in the machine's energy,
            for which the processor time is read at both ends (some 0.1 ms a process).

    Raises:
        UnknownLocation, ValueError: an argument that cannot be.
    """
    if attribution is not None:
        _check_attribution(attribution)
    options = (rate_hz, overhead_budget, keep_full_s, edge_reads, location, pue, intensity)
    if options == _NO_OPTIONS and attribution is None:
        core, context = _usual[0] if _usual and not _usual[0][1][0].closed else _usual_context()
        return Window(core, name, context)
    given = location is not None or pue is not None or intensity is not None
    factors = _factors_for(location, pue, intensity) if given else _default_factors()
    config = replace(_default_config(), **sampling_fields(rate_hz, overhead_budget, keep_full_s))  # type: ignore[arg-type]  # fields by name
    if edge_reads is not None:
        config = replace(config, edge_reads=edge_reads)
    session = _session_for(config)
    core = session.core if session.owned_by_this_process else None
    if attribution is None:
        return Window(core, name, (session, factors), config.edge_reads)
    window = AttributedWindow(core, name, (session, factors), config.edge_reads)
    window.share = _share_of(session, attribution)
    return window


def _check_options(
    *,
    rate_hz: float | None = None,
    overhead_budget: float | None = None,
    keep_full_s: float | None = None,
    edge_reads: bool | None = None,  # noqa: ARG001  # any value will do
    location: str | None = None,
    pue: float | None = None,
    intensity: IntensitySetting = None,
    attribution: str | None = None,
) -> None:
    """Refuse options of ``measure`` that cannot be.

    Raises:
        UnknownLocation, ValueError: an argument that cannot be.
    """
    sampling_fields(rate_hz, overhead_budget, keep_full_s)
    _check_attribution(attribution)
    if not (location is None and pue is None and intensity is None):
        make_carbon_factors(location, pue, intensity)


@overload
def track(function: _Function, /) -> _Function: ...
@overload
def track(*, name: str = "", **options: Any) -> Callable[[_Function], _Function]: ...


def track(function: Any = None, /, *, name: str = "", **options: Any) -> Any:
    """Measure every call of a function, generator or coroutine; bare or with arguments.

    The newest finished call's window is the attribute ``window`` of the decorated function. What
    the function returns or raises is untouched.

    Args:
        function: given when used bare, ``@track``.
        name: of the windows; the function's own by default.
        options: as for ``measure``.

    Raises:
        UnknownLocation, ValueError: an option that cannot be, where the function is decorated.
    """
    if function is None:
        return lambda decorated: _tracked(decorated, name, options)
    return _tracked(function, name, options)


def _tracked(function: Any, name: str, options: dict[str, Any]) -> Callable[..., Any]:
    if not callable(function):
        message = f"track needs a function, not a {type(function).__name__}: put @track below it"
        raise TypeError(message)
    label = name or getattr(function, "__qualname__", type(function).__name__)
    if options:
        _check_options(**options)  # here, and not when the function is called for the first time

    def finish(window: Window) -> None:
        cast("Any", wrapper).window = window
        logger.info("carbontracker: %r", window)

    wrapper = _wrap(function, lambda: measure(label, **options), finish)
    cast("Any", wrapper).window = None
    return wrapper


def _wrap(
    function: Callable[..., Any], begin: Callable[[], Window], finish: Callable[[Window], None]
) -> Callable[..., Any]:
    """Wrap ``function`` after its own kind, so that what is measured is its run, not its call."""

    @contextmanager
    def measured() -> Iterator[None]:
        window = begin()
        try:
            with window:
                yield
        finally:
            finish(window)

    if inspect.isasyncgenfunction(function):
        message = "track cannot follow an asynchronous generator; put measure() inside it"
        raise TypeError(message)
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def run_async(*args: Any, **kwargs: Any) -> Any:
            with measured():
                return await function(*args, **kwargs)

        return run_async
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def run_generator(*args: Any, **kwargs: Any) -> Any:
            with measured():
                return (yield from function(*args, **kwargs))

        return run_generator

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        with measured():
            return function(*args, **kwargs)

    return run
