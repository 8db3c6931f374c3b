"""The listeners that the user gives: ``CarbonTracker(loggers=[...])``.

They are programs of others. Each has a thread of ours, so that one that is slow, hangs, fails or
exits neither delays nor ends the training.
"""

from __future__ import annotations

import functools
import queue
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from carbontracker.address_space import start_thread
from carbontracker.guard import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from carbontracker.model.epoch import Epoch
    from carbontracker.model.result import Result
    from carbontracker.training.run import Run

    _Event = tuple["_OnOwnThread", str, tuple[Any, ...], dict[str, Any]]
    """The listener, the name of its method, the arguments, and what was captured."""

MAX_PENDING = 64
"""Events that a listener may lag behind before it is dropped."""
MAX_WAIT_S = 5.0
"""The end of a training waits at most so long for all of these listeners together, s."""
MAX_HAND_OVER_S = 0.1
"""The end of an epoch waits at most so long for a listener with ``hands_over``, s."""


class UserListener(Protocol):
    """What ``CarbonTracker(loggers=[...])`` takes. Methods that are not needed may be missing.

    Two attributes are optional: with ``own_thread = False`` the listener is called on the thread
    of the training, and the record has the time that this took; with ``hands_over = True`` the end
    of an epoch waits until the listener has taken the epoch (at most 0.1 s, and not while it lags).
    """

    def capture(self) -> Any:
        """Return what only the thread of the training knows, such as the active run of a logger.

        Called on that thread before each event, whose method gets the answer as ``captured=``.
        """

    def begin(self, run: Run) -> None:
        """Monitoring has begun."""

    def epoch(self, epoch: Epoch) -> None:
        """An epoch has ended; its energy may still be provisional."""

    def end(self, result: Result) -> None:
        """Monitoring has ended, with this result."""

    def close(self) -> None:
        """No event follows: release what is held. Called in any case, once."""


class UserListeners:
    """A listener that passes the events of a run on to those that the user gives."""

    def __init__(self, listeners: Sequence[Any]) -> None:
        self._given = listeners
        self._all: list[_OnThisThread] = []
        self._finished = False

    def started(self, run: Run) -> None:
        """Choose the thread of each listener, and pass on that monitoring has begun."""
        for listener in self._given:
            direct = _OnThisThread(listener)
            own_thread = direct.own_thread and not direct.dropped
            self._all.append(_OnOwnThread(listener) if own_thread else direct)
        self._call("begin", run)

    def epoch(self, epoch: Epoch) -> None:
        """Pass on an epoch."""
        self._call("epoch", epoch)

    def finished(self, result: Result) -> None:
        """Pass on the result."""
        self._finished = True
        self._call("end", result)

    def close(self) -> None:
        """Close all of them; after the end of a run, wait for them, at most ``MAX_WAIT_S``."""
        closing, self._all = self._all, []
        deadline_ns = time.monotonic_ns() + round(MAX_WAIT_S * 1e9)
        for listener in closing:
            listener.close()
        for listener in closing if self._finished else ():
            listener.wait_closed(deadline_ns)

    def seconds(self) -> dict[str, float]:
        """Return the time of the training's thread that they took, by name, s."""
        taken: dict[str, float] = {}
        for listener in self._all:
            if listener.seconds:
                taken[listener.name] = taken.get(listener.name, 0.0) + listener.seconds
        return taken

    def _call(self, method: str, *about: Any) -> None:
        for listener in list(self._all):
            listener.call(method, *about)


class _OnThisThread:
    """A listener that is called on the thread of the training."""

    def __init__(self, listener: Any) -> None:
        self._listener = listener
        self.dropped = False
        self._closed = False
        self.name = type(listener).__name__
        self.seconds = 0.0
        """Time of the training's thread that the listener has taken, s."""

    @property
    def own_thread(self) -> bool:
        """Return whether the listener wants a thread of its own."""
        return bool(self._attribute("own_thread", default=True))

    def call(self, method: str, *about: Any) -> None:
        """Call a method of the listener, if it has it. A listener that fails is dropped."""
        began_ns = time.monotonic_ns()
        do = self._method(method)
        if do is not None:
            self._guarded(method, lambda: do(*about, **self._captured()))
        self.seconds += (time.monotonic_ns() - began_ns) / 1e9

    def close(self) -> None:
        """Close the listener."""
        do = self._method("close")
        if do is not None and not self._closed:
            self._guarded("close", do)
        self._closed = True

    def wait_closed(self, deadline_ns: int) -> None:
        """Wait until the listener has taken everything, at most until ``deadline_ns``."""

    def _method(self, name: str) -> Callable[..., Any] | None:
        method: Callable[..., Any] | None = self._attribute(name, default=None)
        return method

    def _attribute(self, name: str, *, default: Any) -> Any:
        """Return an attribute of the listener; looking it up may run code of the listener."""
        found = default

        def look() -> None:
            nonlocal found
            found = getattr(self._listener, name, default)

        self._guarded(name, look)
        return found

    def _captured(self) -> dict[str, Any]:
        capture = self._method("capture")
        return {} if capture is None else {"captured": capture()}

    def _guarded(self, what: str, do: Callable[[], Any]) -> None:
        if self.dropped and what != "close":
            return
        try:
            do()
        except (Exception, SystemExit) as error:  # noqa: BLE001  # the edge to a user's program
            self._drop(f"failed at {what}() and is left out: {type(error).__name__}: {error}")

    def _drop(self, why: str) -> None:
        if not self.dropped:
            self.dropped = True
            logger.warning("carbontracker: %s %s", self.name, why)


class _OnOwnThread(_OnThisThread):
    """A listener that is called on a thread of ours.

    A signal handler may interrupt ``call`` and call it again: ``SimpleQueue`` allows that, and no
    other lock is taken on the thread of the training.
    """

    def __init__(self, listener: Any) -> None:
        super().__init__(listener)
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._taken: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._untaken = 0
        self._hands_over = bool(self._attribute("hands_over", default=False))
        self._thread: threading.Thread | None = None

    def call(self, method: str, *about: Any) -> None:
        """Queue an event. A listener that lags too far is dropped."""
        if self.dropped or self._closed:
            return
        began_ns = time.monotonic_ns()
        if self._method(method) is None:
            return
        if self._events.qsize() >= MAX_PENDING:
            self._drop(f"is {MAX_PENDING} events behind and is left out from here on")
            return
        self._guarded(method, lambda: self._send(method, *about, **self._captured()))
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
            self._drop(
                f"has not taken everything {MAX_WAIT_S:g} s after the end and is left behind: "
                "its last figures may be missing"
            )

    def _send(self, method: str, *about: Any, **captured: Any) -> None:
        if self._thread is None:
            name = f"carbontracker-{self.name}"
            thread = threading.Thread(target=_take, args=(self._events,), name=name, daemon=True)
            start_thread(thread)
            self._thread = thread
        self._events.put((self, method, about, captured))
        self._untaken += 1

    def _hand_over(self) -> None:
        """Wait a moment until all is taken; not again while the listener has yet to catch up."""
        patience_s = MAX_HAND_OVER_S if self._untaken == 1 else 0.0
        deadline_ns = time.monotonic_ns() + round(patience_s * 1e9)
        while self._untaken:
            left_s = max(0.0, (deadline_ns - time.monotonic_ns()) / 1e9)
            try:
                self._taken.get(left_s > 0, left_s)
            except queue.Empty:
                return
            self._untaken -= 1

    def take(self, method: str, about: tuple[Any, ...], captured: dict[str, Any]) -> None:
        """Call the listener, on its thread."""
        do = self._method(method)
        if do is not None:
            self._guarded(method, functools.partial(do, *about, **captured))
        if self._hands_over:
            self._taken.put(None)


def _take(events: queue.SimpleQueue[_Event]) -> None:
    """Call a listener for each event in its queue, until it is closed.

    While the thread waits it has no reference to the listener, which may have the tracker: a
    tracker without other references is to end.
    """
    method = ""
    while method != "close":
        listener, method, about, captured = events.get()
        listener.take(method, about, captured)
        del listener, about, captured
