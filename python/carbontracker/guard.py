"""The guard around each part of the package: a failure is one line, and the program goes on.

The tracker, windows and commands make and use the parts listed here through ``optional``. A wrong
argument of the user (``location="Denmrk"``) is not a failure of a part: it is checked before, and
raises an exception.
"""

from __future__ import annotations

import atexit
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from carbontracker import address_space

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

_Made = TypeVar("_Made")

MAX_REASON = 300
"""Characters of a reason in a message, at most."""


_last_calls: list[Callable[[], None]] = []


def call_last(call: Callable[[], None]) -> None:
    """Have ``call`` called as the program ends, after what other modules of the package do then.

    Functions of ``atexit`` are called in reverse order, and this module is the first to register.
    """
    _last_calls.append(call)


@atexit.register
def _call_last() -> None:
    for call in _last_calls:
        call()


class _Log:
    """The logger ``carbontracker``. Its calls never raise, and the first one imports `logging`.

    The program may have closed its streams, or have given the logger handlers that fail.
    """

    def debug(self, message: object, *args: object) -> None:
        """Log a detail for debugging."""
        self._log("DEBUG", message, *args)

    def info(self, message: object, *args: object) -> None:
        """Log a normal event."""
        self._log("INFO", message, *args)

    def warning(self, message: object, *args: object) -> None:
        """Log a problem."""
        self._log("WARNING", message, *args)

    @staticmethod
    def _log(level: str, message: object, *args: object) -> None:
        with suppress(Exception):  # a message about a failed message would fail too
            import logging

            logging.getLogger("carbontracker").log(getattr(logging, level), message, *args)


logger = _Log()


class Part(NamedTuple):
    """A part of the package that the user's program does not need."""

    lost: str
    """The consequence if the part fails."""
    remedy: str
    """What to do, or what still works."""


MEASURING = Part("no energy is measured", "`carbontracker sensors` shows what can be read here")
RECORD = Part(
    "no record is kept",
    "name a directory with log_dir= or CARBONTRACKER_DIR, or switch it off: CARBONTRACKER_RECORD=0",
)
ENDS = Part("a deleted tracker is not ended at once", "it is ended when the program exits")
OPEN_EPOCH = Part(
    "the open epoch is not recorded before it ends", "a killed run would lose that epoch"
)
SENSOR_EVENTS = Part(
    "changes of sensors are not reported at once", "the next epoch and the end report them"
)
LOGS = Part("no log files are written", "name another directory with log_dir=")
SAMPLES = Part("no samples are kept", "name another file with trace=")
LOCATION = Part("the location is not looked up", "set it with CARBONTRACKER_LOCATION")
INTENSITY = Part("no live carbon intensity is requested", "the annual value is used")
TELEMETRY = Part("no metrics are published", "the run goes on without")
PROGRESS = Part("no progress line is shown", "the run goes on without")
PREDICTION = Part("no prediction is made", "the energy is measured")
ADVICE = Part("no advice is given", "run `carbontracker when` or `carbontracker where`")
SYNCHRONIZATION = Part(
    "marks do not wait for the accelerator any more",
    "work that is queued before a mark may count after it",
)
FRAMEWORK = Part("the training is not measured any more", "it goes on without")
JOB = Part(
    "this process does not report to the others of its job",
    "the records have what each of them measured",
)
LIMITS = Part("the budget cannot be checked", "the program goes on")
RESULT = Part(
    "the result is not shown", "the record has the results so far, unless it is switched off"
)


def optional(
    part: Part,
    make: Callable[[], _Made],
    otherwise: Callable[[str], _Made],
    errors_of_the_user: type[Exception] | tuple[type[Exception], ...] = (),
) -> _Made:
    """Return ``make()``; if it raises, log one warning and return ``otherwise(reason)``.

    Args:
        part: named in the warning.
        make: makes or uses the part.
        otherwise: makes a replacement for the part, from the reason.
        errors_of_the_user: exceptions for wrong arguments; they are raised again. A
            ``UnicodeError`` never is, although it is a ``ValueError``.
    """
    try:
        return make()
    except Exception as error:
        if isinstance(error, errors_of_the_user) and not isinstance(error, UnicodeError):
            raise
        why = reason(error)
    logger.warning("carbontracker: %s: %s; %s", part.lost, why, part.remedy)
    return otherwise(why)


def start_thread(
    part: Part, target: Callable[..., object], name: str, *arguments: object
) -> threading.Thread | None:
    """Return a daemon thread that runs ``target``; None, after one warning, if it cannot start.

    An exception in ``target`` ends the thread with one warning.
    """

    def run() -> None:
        optional(part, lambda: target(*arguments), nothing)

    import threading

    def make() -> threading.Thread:
        thread = threading.Thread(target=run, name=name, daemon=True)
        address_space.start_thread(thread)
        return thread

    return optional(part, make, nothing)


def nothing(_why: str = "") -> None:
    """Return None, the replacement for a part that is left out."""


def reason(error: BaseException) -> str:
    """Return the message of an exception in one line."""
    text = " ".join(str(error).split())[:MAX_REASON]
    kind = type(error).__name__
    if isinstance(error, OSError) and text:
        return text  # it names the error and the file
    return f"{text} ({kind})" if text else kind
