"""The end of a training that was not stopped: with its tracker, or with the interpreter.

A training must outlive its tracker until its end is written. So the tracker is a shell around it,
and global objects have weak references to trainings only. The tracker has a ``Hold``. When the
last reference to the ``Hold`` goes, the time is stored, and a thread ends the training as of that
time. Trainings that are open when the interpreter exits are ended there.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import weakref
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from carbontracker.guard import ENDS, start_thread
from carbontracker.operating_system import after_fork_in_child

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carbontracker.training.steps import Steps

    Left = SimpleQueue[tuple["Training", int] | None]

_Tracker = TypeVar("_Tracker")

EXIT_WAIT_S = 10.0
"""How long the interpreter's exit waits for the thread to write the ends that it has begun, s."""


class Training(Protocol):
    """What is ended here: a ``TrainingRun``."""

    deleted: bool
    owner_pid: int
    reported_open: bool
    steps: Steps

    @property
    def in_epoch(self) -> bool:
        """Return whether an epoch is open."""
        ...

    def idle_beside(self, thread: threading.Thread | None) -> bool:
        """Return whether it has no thread of its own."""
        ...

    def end_at_exit(self) -> None:
        """End it now: the program ends."""

    def lost(self, t_ns: int) -> None:
        """End it as of ``t_ns``, ns of CLOCK_MONOTONIC."""


class Hold:
    """The reference of a tracker to its training; copies of a tracker share it."""

    __slots__ = ("training",)

    def __init__(self, training: Training) -> None:
        self.training = training

    def __del__(self) -> None:
        # Runs in any thread, within any allocation, in a forked child, while the interpreter exits.
        # So it takes no lock and does no I/O: `SimpleQueue.put` may interrupt itself.
        training = getattr(self, "training", None)  # a copy that failed lacks it
        if training is not None and not training.deleted and training.owner_pid == os.getpid():
            _open.left.put((training, time.monotonic_ns()))


class TrackerReference(Generic[_Tracker]):
    """A reference to a tracker: strong until the first mark, weak from then on.

    A count of epochs has it. So ``for epoch in CarbonTracker(5).epochs():`` works, and a count that
    is kept somewhere does not keep a training from ending.
    """

    __slots__ = ("__weakref__", "_strong", "_weak")

    def __init__(self, tracker: _Tracker, *, strong: bool) -> None:
        self._weak = weakref.ref(tracker)
        self._strong = tracker if strong else None

    def weaken(self) -> None:
        """Keep the tracker alive no longer."""
        self._strong = None

    def tracker(self) -> _Tracker | None:
        """Return the tracker; None if it has gone."""
        return self._weak()


class OpenTrainings:
    """The trainings of this process that have not ended, in the order in which they began."""

    def __init__(self) -> None:
        self._known: dict[int, weakref.ref[Training]] = {}
        self.left: Left = SimpleQueue()
        """Trainings that lost their tracker, each with the time, ns of CLOCK_MONOTONIC."""
        self._thread: threading.Thread | None = None
        self._lock = threading.RLock()  # a signal handler may come in between
        self._asked_multiprocessing = False

    def __iter__(self) -> Iterator[Training]:
        """Yield the trainings, the oldest first."""
        for known in list(self._known.values()):
            training = known()
            if training is not None:
                yield training

    def before(self, training: Training) -> Iterator[Training]:
        """Yield the trainings that began earlier than this one."""
        for one in self:
            if one is training:
                return
            yield one

    def add(self, training: Training) -> None:
        """End this training with its tracker or at exit, whichever comes first."""
        with self._lock:
            self._known[id(training)] = weakref.ref(training)
            if self._thread is None:
                self._thread = start_thread(ENDS, _end_left, "carbontracker-end", self.left)
        self.last_at_exit()

    def last_at_exit(self) -> None:
        """Run at exit before all functions registered so far: those of loggers among them."""
        atexit.unregister(self.end_all)
        atexit.register(self.end_all)
        if not self._asked_multiprocessing and in_worker():
            # Workers of multiprocessing exit without calling the functions of `atexit`.
            self._asked_multiprocessing = True
            sys.modules["multiprocessing.util"].Finalize(None, self.end_all, exitpriority=100)

    def remove(self, training: Training) -> None:
        """Forget a training that has ended; the thread goes with the last one."""
        with self._lock:
            self._known.pop(id(training), None)
            if self._known or self._thread is None:
                return
            atexit.unregister(self.end_all)
            self._thread = None
            self.left.put(None)
            self.left = SimpleQueue()

    def end_all(self) -> None:
        """End the open trainings, the newest first."""
        thread = self._thread
        if thread is not None:
            self.left.put(None)
            thread.join(EXIT_WAIT_S)
        _end_left(self.left, wait=False)  # where no thread could be made
        for training in reversed(list(self)):
            training.end_at_exit()

    def after_fork_in_child(self) -> None:
        """Leave the parent's trainings to the parent."""
        for training in self:
            training.steps.look_soon()  # so that a child that marks steps is warned
        self._known.clear()
        self.left = SimpleQueue()
        self._thread = None
        self._lock = threading.RLock()  # a thread that does not exist here may have held it
        self._asked_multiprocessing = False


def _end_left(left: Left, *, wait: bool = True) -> None:
    """End the trainings that lost their trackers, each when it did, until there is a None."""
    while True:
        try:
            found = left.get(block=wait)
        except Empty:
            return
        if found is None:
            return
        training, t_ns = found
        with suppress(SystemExit):  # of a logger: those to come are ended all the same
            training.lost(t_ns)
        del training, found  # or it would be kept until the next one


def in_worker() -> bool:
    """Return whether this process is a worker of ``multiprocessing``, or prepares to be one.

    Such a process may have imported the main module, trackers included, only to find a function.
    """
    process = sys.modules.get("multiprocessing.process")  # in a worker it is loaded
    if process is None:
        return False
    return process.parent_process() is not None or hasattr(process.current_process(), "_inheriting")


_open = OpenTrainings()
after_fork_in_child(_open.after_fork_in_child)


def open_trainings() -> OpenTrainings:
    """Return the open trainings of this process."""
    return _open
