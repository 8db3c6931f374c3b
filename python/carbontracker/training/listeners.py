"""What a run notifies of its events: record, console, telemetry, progress line, loggers.

A listener is an object that has a method for each event that it handles. The listeners that the
user gives (``loggers=[...]``) are programs of others: see ``training/user_listeners.py``.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Protocol

from carbontracker.guard import Part, optional

if TYPE_CHECKING:
    from carbontracker.carbon.factors import CarbonFactors
    from carbontracker.energy.sensor_events import SensorEvent
    from carbontracker.energy.session import Mark
    from carbontracker.exceptions import BudgetExceeded
    from carbontracker.jobs.launch import Launch
    from carbontracker.model.epoch import Epoch
    from carbontracker.model.prediction import Forecast
    from carbontracker.model.result import Result
    from carbontracker.planning.background import Advice
    from carbontracker.training.run import Run


class Listener(Protocol):
    """All events of a run, in the order in which they can come first.

    Events come on the thread that marks, but those of sensors and warnings come on any thread.
    """

    def started(self, run: Run) -> None:
        """The run has begun."""

    def intensity(self, factors: CarbonFactors, keys_given: bool) -> None:
        """This carbon intensity is used from now on, because of API keys if there are any."""

    def located(self, factors: CarbonFactors) -> None:
        """The location was found; the whole run is counted with these factors."""

    def sensor(self, event: SensorEvent) -> None:
        """A sensor joined, was lost, or is read again."""

    def epoch(self, epoch: Epoch) -> None:
        """An epoch has ended or was cut short. Its energy may still be provisional."""

    def adding_up(self) -> None:
        """The records of all ranks are about to be added up: this one's is to be complete."""

    def checkpoint(self, mark: Mark, steps: int) -> None:
        """The state of the training was saved after so many steps in all epochs."""

    def prediction(self, forecast: Forecast) -> None:
        """The cost of the whole training was predicted."""

    def advice(self, advice: Advice, forecast: Forecast, factors: CarbonFactors) -> None:
        """Better times and places for a run like the forecast's were looked up."""

    def warning(self, level: str, message: str) -> None:
        """Something is not as it should be; ``level`` is that of the module ``logging``."""

    def budget(self, over: BudgetExceeded) -> None:
        """A limit was exceeded; each limit once."""

    def interrupted(self, over: BudgetExceeded | None) -> None:
        """Monitoring ends before its time, because of a limit or for another reason."""

    def joined(self, launch: Launch) -> None:
        """The run is one rank of a training on several processes."""

    def job_named(self, uid: str) -> None:
        """The job of those ranks is called so. On any thread."""

    def training_named(self, training_id: str) -> None:
        """The training is called so in all its attempts: a checkpoint carries the name."""

    def joined_result(self, result: Result, rank_0_came: bool) -> None:
        """What the whole job has cost, of rank 0; of the others what their node has.

        Comes before ``finished``, which has the result of this process, both on one thread.
        """

    def finished(self, result: Result) -> None:
        """Monitoring has ended. Listeners that were added last are notified first."""

    def close(self) -> None:
        """No event follows: release what is held. Called in any case, at least once."""


class Listeners:
    """The listeners of one run. One that fails is dropped and named; the run goes on."""

    def __init__(self) -> None:
        self._all: list[Any] = []

    def add(self, listener: object) -> None:
        """Notify one more listener from now on; None is ignored."""
        if listener is not None:
            self._all.append(listener)

    def notify(self, event: str, *about: Any) -> None:
        """Notify each listener that has a method of this name."""
        listeners = list(self._all)
        # The result is written and shown on top of what began later: a progress line, for example.
        for listener in reversed(listeners) if event == "finished" else listeners:
            method = getattr(listener, event, None)
            if method is not None:
                name = type(listener).__name__
                failed = Part(f"{name} failed at {event}() and is left out", "the run goes on")
                call = functools.partial(method, *about)
                optional(failed, call, functools.partial(self._drop, listener))

    def close(self) -> None:
        """Close all listeners, the newest first, and drop them."""
        while self._all:
            self._drop(self._all[-1])

    def _drop(self, listener: Any, _why: str = "") -> None:
        if listener in self._all:
            self._all.remove(listener)
            if hasattr(listener, "close"):
                failed = Part(f"{type(listener).__name__} failed at close()", "the run goes on")
                optional(failed, listener.close, lambda _: None)
