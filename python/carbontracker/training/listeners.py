"""Who is told what a training does: telemetry, loggers of experiments, a progress line.

Our own followers are told on the training's thread: what they do there is quick. Those that the
user gives (``loggers=[...]``) are other people's programs. Each of them has a thread of ours, so
that one that is slow, hangs, fails or exits neither holds up nor ends the training.
"""

from __future__ import annotations

import functools
import queue
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from carbontracker.guard import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from carbontracker.settings import Settings
    from carbontracker.training.run import Epoch, Result, Run

    _Event = tuple["_Apart", str, tuple[Any, ...], dict[str, Any]]
    """Who is told, the name of a method, what it is told, and what was captured."""

MAX_PENDING = 64
"""Events that a follower may lag behind before it is dropped."""
MAX_WAIT_S = 5.0
"""The end of a training waits at most so long for all of its followers together, s."""
MAX_HAND_OVER_S = 0.1
"""An epoch's end waits at most so long for a follower with ``hands_over``, s."""


class Follower(Protocol):
    """What ``CarbonTracker(loggers=[...])`` takes; a follower may lack what it does not need.

    It may have two attributes: ``own_thread = False`` to be told on the training's thread, whose
    time is then in the record; ``hands_over = True`` to let the end of an epoch wait until the
    epoch is taken (at most 0.1 s, and not while the follower lags).
    """

    def capture(self) -> Any:
        """Return what only the training's thread knows, such as the active run of a logger.

        Called on that thread before each event, whose method gets the answer as ``captured=``.
        """

    def begin(self, run: Run) -> None:
        """Monitoring has begun."""

    def epoch(self, epoch: Epoch) -> None:
        """An epoch has ended; its energy may yet be provisional."""

    def end(self, result: Result) -> None:
        """Monitoring has ended, with this result."""

    def close(self) -> None:
        """Nothing follows: give back what is held. Called in any case, once."""


class _Told:
    """One follower, told on the thread that tells."""

    def __init__(self, follower: Any) -> None:
        self._follower = follower
        self.left_out = False
        self._closed = False
        self.name = type(follower).__name__
        self.seconds = 0.0
        """Time of the training's thread that the follower has taken, s."""

    @property
    def own_thread(self) -> bool:
        """Return whether the follower is to be told on a thread of its own."""
        return bool(self._asked("own_thread", default=True))

    def tell(self, what: str, *about: Any) -> None:
        """Call a method of the follower, if it has it; one that fails is left out from there on."""
        began_ns = time.monotonic_ns()
        do = self._method(what)
        if do is not None:
            self._guarded(what, lambda: do(*about, **self._captured()))
        self.seconds += (time.monotonic_ns() - began_ns) / 1e9

    def close(self) -> None:
        """Let the follower go."""
        do = self._method("close")
        if do is not None and not self._closed:
            self._guarded("close", do)
        self._closed = True

    def wait_closed(self, deadline_ns: int) -> None:
        """Wait until the follower has taken everything, at most until ``deadline_ns``."""

    def _method(self, what: str) -> Callable[..., Any] | None:
        method: Callable[..., Any] | None = self._asked(what, default=None)
        return method

    def _asked(self, name: str, *, default: Any) -> Any:
        """Return an attribute of the follower, which may be a program, too."""
        found = default

        def look() -> None:
            nonlocal found
            found = getattr(self._follower, name, default)

        self._guarded(name, look)
        return found

    def _captured(self) -> dict[str, Any]:
        capture = self._method("capture")
        return {} if capture is None else {"captured": capture()}

    def _guarded(self, what: str, do: Callable[[], Any]) -> None:
        if self.left_out and what != "close":
            return
        try:
            do()
        except (Exception, SystemExit) as error:  # noqa: BLE001  # the edge to a user's program
            self._leave_out(f"failed at {what}() and is left out: {type(error).__name__}: {error}")

    def _leave_out(self, why: str) -> None:
        if not self.left_out:
            self.left_out = True
            logger.warning("carbontracker: %s %s", self.name, why)


class _Apart(_Told):
    """One follower, told on a thread of ours.

    A signal handler may interrupt ``tell`` and call it again: ``SimpleQueue`` allows that, and no
    other lock is taken on the training's thread.
    """

    def __init__(self, follower: Any) -> None:
        super().__init__(follower)
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._taken: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._untaken = 0
        self._hands_over = bool(self._asked("hands_over", default=False))
        self._thread: threading.Thread | None = None

    def tell(self, what: str, *about: Any) -> None:
        """Queue an event; a follower that lags too far is left out."""
        if self.left_out or self._closed:
            return
        began_ns = time.monotonic_ns()
        if self._method(what) is None:
            return
        if self._events.qsize() >= MAX_PENDING:
            self._leave_out(f"is {MAX_PENDING} events behind and is left out from here on")
            return
        self._guarded(what, lambda: self._send(what, *about, **self._captured()))
        if self._hands_over:
            self._hand_over()
        self.seconds += (time.monotonic_ns() - began_ns) / 1e9

    def close(self) -> None:
        """Queue the last event."""
        if not self._closed:
            self._guarded("close", lambda: self._send("close"))
        self._closed = True

    def wait_closed(self, deadline_ns: int) -> None:
        """Wait for the thread; one that does not end in time is left behind."""
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return
        thread.join(max(0.0, (deadline_ns - time.monotonic_ns()) / 1e9))
        if thread.is_alive():
            self._leave_out(
                f"has not taken everything {MAX_WAIT_S:g} s after the end and is left behind: "
                "its last figures may be missing"
            )

    def _send(self, what: str, *about: Any, **captured: Any) -> None:
        if self._thread is None:
            name = f"carbontracker-{self.name}"
            thread = threading.Thread(target=_take, args=(self._events,), name=name, daemon=True)
            thread.start()
            self._thread = thread
        self._events.put((self, what, about, captured))
        self._untaken += 1

    def _hand_over(self) -> None:
        """Wait a moment until all is taken; not again while the follower has yet to catch up."""
        patience_s = MAX_HAND_OVER_S if self._untaken == 1 else 0.0
        deadline_ns = time.monotonic_ns() + round(patience_s * 1e9)
        while self._untaken:
            left_s = max(0.0, (deadline_ns - time.monotonic_ns()) / 1e9)
            try:
                self._taken.get(left_s > 0, left_s)
            except queue.Empty:
                return
            self._untaken -= 1

    def take(self, what: str, about: tuple[Any, ...], captured: dict[str, Any]) -> None:
        """Tell the follower, on its thread."""
        do = self._method(what)
        if do is not None:
            self._guarded(what, functools.partial(do, *about, **captured))
        if self._hands_over:
            self._taken.put(None)


def _take(events: queue.SimpleQueue[_Event]) -> None:
    """Tell a follower what is queued for it, until it is closed.

    While the thread waits it has no reference to the follower, which may have the tracker: a
    tracker without other references is to end.
    """
    what = ""
    while what != "close":
        told, what, about, captured = events.get()
        told.take(what, about, captured)
        del told, about, captured


class Followers:
    """The followers of one run."""

    def __init__(self) -> None:
        self._all: list[_Told] = []
        self._of_users: list[_Told] = []
        self._ended = False

    def add(self, follower: Any) -> None:
        """Tell one more of ours from here on; None is ignored."""
        if follower is not None:
            self._all.append(_Told(follower))

    def begin(self, settings: Settings, run: Run) -> None:
        """Make those that were asked for, and tell all that the run has begun."""
        for make in _wanted(settings):
            self.add(_made(make))
        for follower in settings.loggers:
            told = _Told(follower)
            apart = told.own_thread
            self._of_users.append(_Apart(follower) if apart and not told.left_out else told)
        self._all += self._of_users
        self._tell("begin", run)

    def epoch(self, epoch: Epoch) -> None:
        """Tell of an epoch."""
        self._tell("epoch", epoch)

    def end(self, result: Result) -> None:
        """Tell of the result."""
        self._ended = True
        self._tell("end", result)

    def close(self) -> None:
        """Let all of them go; after the end of a run, wait up to ``MAX_WAIT_S`` until they have
        taken it."""
        leaving, self._all = self._all, []
        deadline_ns = time.monotonic_ns() + round(MAX_WAIT_S * 1e9)
        for follower in leaving:
            follower.close()
        for follower in leaving if self._ended else ():
            follower.wait_closed(deadline_ns)

    def cost_data(self) -> dict[str, Any]:
        """Return for the record what loggers took of the training's thread, s; nothing if none."""
        taken: dict[str, float] = {}
        for told in self._of_users:
            if told.seconds:
                taken[told.name] = taken.get(told.name, 0.0) + told.seconds
        return {"logger_seconds": taken} if taken else {}

    def _tell(self, what: str, *about: Any) -> None:
        for follower in list(self._all):
            follower.tell(what, *about)


def _made(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except Exception as error:  # noqa: BLE001  # telemetry may fail; the training goes on
        logger.warning("carbontracker: telemetry is left out: %s", error)
        return None


def _wanted(settings: Settings) -> Iterator[Callable[[], Any]]:
    """Yield what makes each follower that an argument asks for, so that others cost no import."""
    if settings.prometheus is not None or settings.otlp:
        from carbontracker.telemetry.exporters import Publisher

        yield lambda: Publisher(settings.prometheus, settings.otlp)
    if settings.progress:
        from carbontracker.training.progress import Progress

        yield lambda: Progress(settings.epochs)
