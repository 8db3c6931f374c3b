"""Who is told what a training does: telemetry, loggers of experiments, a progress line.

A follower is somebody else's program as a rule. One that fails is left out from there on and said
once; neither the training nor the measurement suffers.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from carbontracker.run import Epoch, Result, Run
    from carbontracker.settings import Settings

logger = logging.getLogger("carbontracker")


class Follower(Protocol):
    """What ``CarbonTracker(loggers=[...])`` takes; a follower may lack what it does not need."""

    def begin(self, run: Run) -> None:
        """Monitoring has begun."""

    def epoch(self, epoch: Epoch) -> None:
        """An epoch has ended; its energy may yet be provisional."""

    def end(self, result: Result) -> None:
        """Monitoring has ended, with this result."""

    def close(self) -> None:
        """Nothing follows: give back what is held. Called in any case, once."""


class Followers:
    """The followers of one run."""

    def __init__(self) -> None:
        self._all: list[Any] = []

    def add(self, follower: Any) -> None:
        """Tell one more from here on; None is nobody."""
        if follower is not None:
            self._all.append(follower)

    def begin(self, settings: Settings, run: Run) -> None:
        """Make those that were asked for, and tell all that the run has begun."""
        for make in _wanted(settings):
            self._guarded(lambda make=make: self._all.append(make()), "begin")
        self._all += settings.loggers
        self._tell("begin", run)

    def epoch(self, epoch: Epoch) -> None:
        """Tell of an epoch."""
        self._tell("epoch", epoch)

    def end(self, result: Result) -> None:
        """Tell of the result."""
        self._tell("end", result)

    def close(self) -> None:
        """Let all of them go."""
        leaving, self._all = self._all, []
        for follower in leaving:
            self._guarded(getattr(follower, "close", _nothing), "close")

    def _tell(self, what: str, *about: Any) -> None:
        self._all = [
            follower
            for follower in list(self._all)
            if self._guarded(getattr(follower, what, _nothing), what, *about)
        ]

    @staticmethod
    def _guarded(do: Callable[..., Any], what: str, *about: Any) -> bool:
        try:
            do(*about)
        except Exception as error:  # noqa: BLE001  # the edge to somebody else's program
            who = getattr(do, "__self__", None)
            name = type(who).__name__ if who is not None else "telemetry"
            logger.warning(
                "carbontracker: %s failed at %s() and is left out: %s", name, what, error
            )
            return False
        return True


def _nothing(*_: Any) -> None:
    """Stand in for what a follower lacks."""


def _wanted(settings: Settings) -> Iterator[Callable[[], Any]]:
    """Yield what makes each follower that an argument asks for, so that others cost no import."""
    if settings.prometheus is not None or settings.otlp:
        from carbontracker.telemetry.publishing import Publisher

        yield lambda: Publisher(settings.prometheus, settings.otlp)
    if settings.progress:
        from carbontracker.report.progress import Progress

        yield lambda: Progress(int(settings.epochs))
