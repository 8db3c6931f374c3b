"""Threads of ours within C or C++ code of others: they leave it before the interpreter ends.

A thread whose call returns while the interpreter ends may not run Python again: Python unwinds its
stack. C++ that is on that stack ends the program by SIGABRT then, and OpenSSL may be in use after
it was freed. So at the end of the program each such call is given up, and waited for a moment.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Protocol, TypeVar

from carbontracker.guard import call_last
from carbontracker.operating_system import after_fork_in_child

if TYPE_CHECKING:
    from collections.abc import Callable

LEAVE_S = 2.0
"""The end of the program waits so long, at most, for threads to leave, s. Without a connection they
do within milliseconds; to load the certificates of OpenSSL takes 50 ms."""
_AGAIN_S = 0.1
"""A call that has not ended by then is given up once more, s: it may have connected again."""

_Value = TypeVar("_Value")


class Caller(Protocol):
    """Who calls code of others."""

    def abandon(self) -> None:
        """Make its call return soon, from another thread. It must not raise."""


class ForeignCalls:
    """The callers that are within code of others."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._within: list[Caller] = []
        self._ending = False

    def enter(self, caller: Caller) -> None:
        """Take note of a caller before it calls.

        Raises:
            TimeoutError: the program ends.
        """
        with self._changed:
            if self._ending:
                raise TimeoutError("the program ends")
            self._within.append(caller)

    def leave(self, caller: Caller) -> None:
        """Take note that the caller is within no longer, if it was."""
        with self._changed:
            if caller in self._within:
                self._within.remove(caller)
                self._changed.notify_all()

    def call(self, caller: Caller, call: Callable[[], _Value]) -> _Value:
        """Return what ``call`` returns.

        Raises:
            TimeoutError: the program ends.
        """
        self.enter(caller)
        try:
            return call()
        finally:
            self.leave(caller)

    def end(self) -> None:
        """Let nobody enter, and wait until all have left."""
        due_s = time.monotonic() + LEAVE_S
        with self._changed:
            self._ending = True
            while self._within and time.monotonic() < due_s:
                for caller in self._within:
                    caller.abandon()
                self._changed.wait_for(lambda: not self._within, _AGAIN_S)

    def after_fork_in_child(self) -> None:
        """Forget the parent's threads: they don't exist here, and their connections are its own."""
        self._changed = threading.Condition()
        self._within = []


foreign_calls = ForeignCalls()
call_last(foreign_calls.end)
after_fork_in_child(foreign_calls.after_fork_in_child)
