"""How the drop-in behaves inside somebody's training: harmless, and countable by epochs."""

from __future__ import annotations

import functools
import math
import os
import traceback
import weakref
from typing import TYPE_CHECKING, Any, TypeVar, cast

from carbontracker.exceptions import BudgetExceeded
from carbontracker.training.steps import length_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from carbontracker.tracker import CarbonTracker, Training

_Method = TypeVar("_Method", bound="Callable[..., Any]")


def harmless(method: _Method) -> _Method:
    """Let nothing but ``SystemExit`` out of ``method``: monitoring fails, the training goes on.

    ``BudgetExceeded`` is the other exception: raised only where the user asked to be stopped. Does
    nothing in a forked child and after the end.
    """
    return _guarded(method, is_mark=False)


def mark(method: _Method) -> _Method:
    """Make ``method`` a mark: harmless, the first one begins the run, a forked child is told."""
    return _guarded(method, is_mark=True)


def _guarded(method: _Method, *, is_mark: bool) -> _Method:
    @functools.wraps(method)
    def guarded(self: Training, *args: Any, **kwargs: Any) -> Any:
        if self.deleted:
            return None
        if os.getpid() != self.owner_pid:
            if is_mark:
                self.used_in_child()
            return None
        try:
            if is_mark:
                self.begin()
            return method(self, *args, **kwargs)
        except BudgetExceeded:
            raise
        except Exception:  # noqa: BLE001  # the outermost edge: see `harmless`
            if not self.deleted:  # else a signal handler has ended monitoring meanwhile
                self.give_up(traceback.format_exc())
            return None

    return cast("_Method", guarded)


class Grip:
    """What counts of epochs have of their tracker: until the first mark they keep it.

    So ``for epoch in CarbonTracker(5).epochs():`` works, and yet a count that is kept somewhere
    keeps no training from ending.
    """

    __slots__ = ("__weakref__", "_kept", "_known")

    def __init__(self, tracker: CarbonTracker, *, keep: bool) -> None:
        self._known = weakref.ref(tracker)
        self._kept = tracker if keep else None

    def loosen(self) -> None:
        """Keep the tracker no longer."""
        self._kept = None

    def tracker(self) -> CarbonTracker | None:
        """Return the tracker; None if it is gone."""
        return self._known()


class _Countable:
    """A number of epochs; calling it iterates over them, marked."""

    _grip: Grip

    def __call__(self, batches: object = None) -> Iterator[int]:
        """Yield 0, 1, … up to the count, marking the beginning and end of each epoch.

        Args:
            batches: what every epoch goes through; its length tells the steps of an epoch.
        """
        tracker = self._grip.tracker()  # which goes on as long as the loop does
        epochs = range(math.ceil(self))  # type: ignore[call-overload]  # a number, too
        if tracker is None:
            yield from epochs
            return
        tracker.expect_steps(length_of(batches))
        for index in epochs:
            tracker.epoch_start()
            try:
                yield index
            except GeneratorExit:
                # The loop was left by break or an exception: so is the training.
                tracker.stop()
                raise
            tracker.epoch_end()


class EpochCount(_Countable, int):
    """The number of epochs, as upstream's attribute."""

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        """Return what copies and other processes get: a number."""
        return int, (int(self),)


class PartialEpochCount(_Countable, float):
    """The same where the last epoch is a part of one."""

    def __reduce__(self) -> tuple[type[float], tuple[float]]:
        """Return what copies and other processes get: a number."""
        return float, (float(self),)


def epoch_count(epochs: float, grip: Grip) -> EpochCount | PartialEpochCount:
    """Return the count, bound to its tracker."""
    count = EpochCount(epochs) if isinstance(epochs, int) else PartialEpochCount(epochs)
    count._grip = grip
    return count
