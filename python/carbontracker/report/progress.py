"""The progress and cost of a training, in a terminal or a notebook.

In a terminal, a thread draws the line once a second on standard error and returns the cursor to its
beginning, so that the training's own output overwrites it. While tqdm shows bars, ``tqdm.write``
puts one line per epoch above them. In a notebook, one display is updated every epoch. Elsewhere,
as in a log file, nothing is written.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from carbontracker.guard import PROGRESS, start_thread
from carbontracker.report.brief import cost_line
from carbontracker.report.live import training_line
from carbontracker.report.work import work_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from carbontracker.jobs.launch import Launch
    from carbontracker.model.epoch import Epoch
    from carbontracker.model.live_status import LiveStatus
    from carbontracker.model.measurement import Measurement
    from carbontracker.model.result import Result

RENEWED_S = 1.0
_WIPE = "\r\x1b[K"


class StatusReader(Protocol):
    """The reader of a run's live status."""

    def take(self) -> LiveStatus:
        """Return the status now."""


class RunWithStatus(Protocol):
    """What the progress line needs of a run."""

    launch: Launch

    def status_reader(self) -> StatusReader:
        """Return a new reader."""

    def spent(self) -> Measurement:
        """Return the cost since the first epoch began."""


class Plan(Protocol):
    """The length of a training."""

    @property
    def epochs(self) -> float:
        """Return the planned number; 0 if it is not known."""

    @property
    def steps(self) -> int | None:
        """Return the planned steps; None if the plan is in epochs."""


class Progress:
    """A listener that shows the progress of a training.

    Args:
        plan: returns the length of the training, which may change.
    """

    def __init__(self, plan: Callable[[], Plan]) -> None:
        self._plan = plan
        self._done = self._steps_done = 0
        self._epoch_seconds = 0.0
        self._run: RunWithStatus | None = None
        self._reader: StatusReader | None = None
        self._display: Any = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def started(self, run: RunWithStatus) -> None:
        """Choose the output: a notebook display, a terminal, or nothing."""
        if run.launch.is_rank_of_training and run.launch.rank:
            return  # the line of rank 0 is that of the training
        self._run, self._reader = run, run.status_reader()
        self._display = notebook_display()
        if self._display is None and is_terminal(sys.stderr):
            self._thread = start_thread(PROGRESS, self._renew, "carbontracker-progress")

    def epoch(self, epoch: Epoch) -> None:
        """Show the state after an epoch."""
        if epoch.finished:
            self._done += 1
            self._steps_done += epoch.steps
            self._epoch_seconds += epoch.seconds
        if self._display is not None:
            self._display.update({"text/plain": self._line()}, raw=True)
        elif self._thread is not None:
            if (write := _tqdm_write()) is not None:
                write(self._line(), file=sys.stderr)
            else:
                _put(_WIPE)  # a prediction may follow, on a clean line

    def finished(self, result: Result) -> None:
        """Remove the line of a terminal: the result follows. A notebook keeps it, so it gets it."""
        if self._display is not None:
            total = f"carbontracker: epoch {self._done}/{self._plan().epochs}: {cost_line(result)}"
            self._display.update({"text/plain": total}, raw=True)
        self.close()

    def close(self) -> None:
        """Stop drawing and remove the line."""
        self._ended.set()
        if self._thread is None or self._thread is threading.current_thread():
            return
        self._thread.join(timeout=1.0)
        self._thread = None
        if _tqdm_write() is None:
            _put(_WIPE)

    def _renew(self) -> None:
        while not self._ended.wait(RENEWED_S):
            if _tqdm_write() is None:
                line = self._line()[: _columns() - 1]
                _put(f"{_WIPE}{line}\r")

    def _line(self) -> str:
        if self._reader is None or self._run is None:
            return ""
        plan, left_s = self._plan(), None
        steps = plan.steps
        done, planned = (self._done, plan.epochs) if steps is None else (self._steps_done, steps)
        if done:
            left_s = max(0, planned - done) * self._epoch_seconds / done
        what = f"epoch {self._done}/{plan.epochs}"
        if steps is not None:
            what = f"epoch {self._done}, step {self._steps_done}/{steps}"
        line = training_line(self._reader.take(), what, left_s)
        # Of one rank of several the work is its own, and the energy that of its machine.
        each = "" if self._run.launch.is_rank_of_training else work_line(self._run.spent())
        return f"{line}, {each}" if each else line


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether a standard stream is a terminal."""
    try:
        return stream is not None and stream.isatty()
    except (AttributeError, ValueError):  # closed, or replaced by another object
        return False


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (AttributeError, OSError, ValueError):
        return 80


def _put(text: str) -> None:
    with suppress(AttributeError, OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()


def _tqdm_write() -> Any:
    """Return ``tqdm.write`` while tqdm shows bars, else None."""
    for name in ("tqdm.std", "tqdm"):
        bar = getattr(sys.modules.get(name), "tqdm", None)
        if bar is not None:
            # Private, so read only if it exists: the bars that are shown now.
            return bar.write if len(getattr(bar, "_instances", ())) else None
    return None


def notebook_display() -> Any:
    """Return a display to update, in a notebook; None elsewhere."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if getattr(shell, "kernel", None) is None:
        return None
    from IPython.display import display

    return display({"text/plain": ""}, raw=True, display_id=True)
