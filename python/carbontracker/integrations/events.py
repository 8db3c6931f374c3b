"""Which calls of a callback are events of the training that it measures.

One object may be twice in a list of callbacks: then each event is called twice. And it may be given
to a training that runs within the one that it measures: the events of the inner one are none of
the outer one, whose epoch has the energy of both.

Who calls is seen from the stack: frameworks announce no end of a training that an exception has
left, so that a begin alone may be that of the next one.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from carbontracker.guard import logger

if TYPE_CHECKING:
    from types import CodeType, FrameType

TWICE = (
    "carbontracker: one CarbonTrackerCallback is more than once in the list of callbacks: each "
    "event is counted once; give it once"
)
INNER = (
    "carbontracker: a training within another one has the same CarbonTrackerCallback: its energy "
    "is in the epoch of the outer one, and its steps are not counted; for its own numbers, give it "
    "a callback of its own"
)


class Events:
    """The events of one callback."""

    def __init__(self) -> None:
        self._training: tuple[CodeType, ...] = ()
        """The calls, from the first one of the thread, to the one that trains; empty if none is
        open, or if that is not known."""
        self._inner: tuple[CodeType, ...] = ()
        """Those to the training within it; empty if there is none."""
        self._beginning: FrameType | None = None
        """What has called the begin, until another event comes."""
        self._copies = 1
        """How often the callback is in the list."""
        self._calls: dict[str, int] = {}
        """Of each event since the begin, with those of copies."""
        self._warned: set[str] = set()

    def end(self) -> None:
        """Take note that the training has ended."""
        self._training = self._inner = ()

    def is_to_be_left_out(self, name: str, packages: frozenset[str], *, begins: bool) -> bool:
        """Return whether a call of a hook is no event of the training that is measured.

        Args:
            name: of the hook.
            packages: of the framework.
            begins: the hook is that of the begin of a training.
        """
        if self._inner:
            if _calls(sys._getframe())[: len(self._inner)] == self._inner:
                return True
            self._inner = ()
        if begins:
            return self._is_no_begin(packages)
        self._beginning = None
        if self._copies == 1:
            return False
        calls = self._calls[name] = self._calls.get(name, 0) + 1
        return calls % self._copies != 1

    def _is_no_begin(self, packages: frozenset[str]) -> bool:
        caller = _caller(sys._getframe(), packages)
        if caller is not None and caller is self._beginning:
            self._copies += 1
            self._warn(TWICE)
            return True
        training = () if caller is None else _calls(_entry(caller))
        outer = self._training
        if outer and len(training) > len(outer) and training[: len(outer)] == outer:
            self._inner = training
            self._warn(INNER)
            return True
        self._training, self._beginning = training, caller
        self._copies, self._calls = 1, {}
        return False

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            logger.warning(text)


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _caller(frame: FrameType | None, packages: frozenset[str]) -> FrameType | None:
    """Return the newest call of the framework: the one that goes through its callbacks."""
    while frame is not None and _package(frame) not in packages:
        frame = frame.f_back
    return frame


def _entry(frame: FrameType) -> FrameType:
    """Return the call of the framework by others that has led to this one."""
    package = _package(frame)
    while frame.f_back is not None and _package(frame.f_back) == package:
        frame = frame.f_back
    return frame


def _calls(frame: FrameType | None) -> tuple[CodeType, ...]:
    """Return the calls that have led to this one, the first one first."""
    found = []
    while frame is not None:
        found.append(frame.f_code)
        frame = frame.f_back
    return tuple(reversed(found))
