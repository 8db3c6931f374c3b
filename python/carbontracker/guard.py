"""The one guard: a part that fails is named in one line, and the user's program goes on without it.

Every part that is listed here is made or used through ``optional``, in the tracker, in windows and
in the commands alike. What the user asked for and cannot be (``location="Denmrk"``) is no failure
of a part: it is checked before, and raised.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

_Made = TypeVar("_Made")

MAX_REASON = 300
"""Characters of a reason in a message."""


class _Log:
    """The logger ``carbontracker``, whose calls never raise, and which loads `logging` when used.

    A program may close its streams, or give the logger handlers that fail.
    """

    def debug(self, message: object, *args: object) -> None:
        """Log for those who look for a fault."""
        self._log("DEBUG", message, *args)

    def info(self, message: object, *args: object) -> None:
        """Log what happens."""
        self._log("INFO", message, *args)

    def warning(self, message: object, *args: object) -> None:
        """Log what the user should know."""
        self._log("WARNING", message, *args)

    @staticmethod
    def _log(level: str, message: object, *args: object) -> None:
        with suppress(Exception):  # if it does not work, there is no place left to say it
            import logging

            logging.getLogger("carbontracker").log(getattr(logging, level), message, *args)


logger = _Log()


class Part(NamedTuple):
    """A part that the user's program can do without."""

    lost: str
    """What the user does not get."""
    remedy: str
    """What to do about it."""


MEASURING = Part("no energy is measured", "`carbontracker sensors` shows what can be read here")
RECORD = Part(
    "no record is kept",
    "name a directory with log_dir= or CARBONTRACKER_DIR, or switch it off: CARBONTRACKER_RECORD=0",
)
ENDS = Part("a tracker that nothing refers to is not ended there", "it is when the program exits")
OPEN_EPOCH = Part(
    "what goes on is not recorded before it ends", "a kill would lose it; its end is recorded"
)
SENSOR_EVENTS = Part(
    "sensors that join or are lost are not told at once", "they are at the next mark and at the end"
)
LOGS = Part("no log files are written", "name another directory with log_dir=")
SAMPLES = Part("no samples are kept", "name another file with trace=, or do without it")
CARBON = Part("the carbon footprint is unknown", "the energy is measured")
LOCATION = Part("the location is not looked up", "name it with CARBONTRACKER_LOCATION")
INTENSITY = Part("no live carbon intensity is asked for", "the annual figure is used")
TELEMETRY = Part("no metrics are published", "the run goes on without")
PROGRESS = Part("no progress line is shown", "the run goes on without")
PREDICTION = Part("no prediction is made", "the energy is measured all the same")
ADVICE = Part("no advice is given", "`carbontracker when` and `where` give it, too")
LIMITS = Part("the budget cannot be looked at", "the program goes on")
RESULT = Part("the result is not shown", "the record, if there is one, has what came before")


def optional(
    part: Part,
    make: Callable[[], _Made],
    otherwise: Callable[[str], _Made],
    errors_of_the_user: type[Exception] | tuple[type[Exception], ...] = (),
) -> _Made:
    """Return what ``make`` returns; if it fails, log one line and return ``otherwise(why)``.

    Args:
        part: named in the line.
        make: makes or uses the part.
        otherwise: makes what stands in for the part, from the reason.
        errors_of_the_user: exceptions that tell of a wrong argument; they are raised. Text that
            cannot be decoded is no such thing.
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
    """Return a daemon thread that runs ``target``; None, and one line, if none can be made.

    What ``target`` raises ends the thread, with one line.
    """

    def run() -> None:
        optional(part, lambda: target(*arguments), nothing)

    import threading

    def make() -> threading.Thread:
        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread

    return optional(part, make, nothing)


def nothing(_why: str = "") -> None:
    """Stand in for a part with nothing."""


def reason(error: BaseException) -> str:
    """Return why an exception was raised, in one line."""
    said = " ".join(str(error).split())[:MAX_REASON]
    kind = type(error).__name__
    if isinstance(error, OSError) and said:
        return said  # it says what happened to which file
    return f"{said} ({kind})" if said else kind
