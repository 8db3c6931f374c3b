"""How the drop-in behaves inside somebody's training: harmless, and countable by epochs."""

from __future__ import annotations

import functools
import math
import os
import traceback
from typing import TYPE_CHECKING, Any, TypeVar, cast

from carbontracker.exceptions import BudgetExceeded
from carbontracker.steps import length_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from carbontracker.tracker import CarbonTracker

_Method = TypeVar("_Method", bound="Callable[..., Any]")


def harmless(method: _Method) -> _Method:
    """Let nothing but ``SystemExit`` out of ``method``: monitoring fails, the training goes on.

    ``BudgetExceeded`` is the other exception: raised only where the user asked to be stopped. Does
    nothing in a forked child and after the end.
    """

    @functools.wraps(method)
    def guarded(self: CarbonTracker, *args: Any, **kwargs: Any) -> Any:
        if self.deleted or os.getpid() != self._owner_pid:
            return None
        try:
            return method(self, *args, **kwargs)
        except BudgetExceeded:
            raise
        except Exception:  # noqa: BLE001  # the outermost edge: see the docstring
            if not self.deleted:  # else a signal handler has ended monitoring meanwhile
                self._give_up(traceback.format_exc())
            return None

    return cast("_Method", guarded)


class _Countable:
    """A number of epochs; calling it iterates over them, marked."""

    _tracker: CarbonTracker

    def __call__(self, batches: object = None) -> Iterator[int]:
        """Yield 0, 1, … up to the count, marking the beginning and end of each epoch.

        Args:
            batches: what every epoch goes through; its length tells the steps of an epoch.
        """
        self._tracker.expect_steps(length_of(batches))
        for index in range(math.ceil(self)):  # type: ignore[call-overload]  # a number, too
            self._tracker.epoch_start()
            try:
                yield index
            except GeneratorExit:
                # The loop was left by break or an exception: so is the training.
                self._tracker.stop()
                raise
            self._tracker.epoch_end()


class EpochCount(_Countable, int):
    """The number of epochs, as upstream's attribute."""


class PartialEpochCount(_Countable, float):
    """The same where the last epoch is a part of one."""


def epoch_count(epochs: float, tracker: CarbonTracker) -> EpochCount | PartialEpochCount:
    """Return the count, bound to its tracker."""
    count = EpochCount(epochs) if isinstance(epochs, int) else PartialEpochCount(epochs)
    count._tracker = tracker
    return count
