"""The time of a mark: the last thing at a beginning, the first thing at an end."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from carbontracker import CarbonTracker, measure
from tests.support.programs import DEVICES

if TYPE_CHECKING:
    from collections.abc import Callable


def calls_during(action: Callable[[], object]) -> list[tuple[int, str]]:
    """Return when each function of Python or of C was called during ``action``, and its name."""
    calls: list[tuple[int, str]] = []

    def note(frame: Any, event: str, argument: Any) -> None:
        if event == "call":
            calls.append((time.monotonic_ns(), frame.f_code.co_name))
        elif event == "c_call":
            calls.append((time.monotonic_ns(), argument.__qualname__))

    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(None)
    return [call for call in calls if call[1] != "setprofile"]


@pytest.fixture
def tracker() -> Any:
    made = CarbonTracker(9, verbose=0, record=False, **DEVICES)
    for _ in range(2):  # what only a first epoch does is not counted
        made.epoch_start()
        made.epoch_end()
    yield made
    made.stop()


def test_nothing_is_called_after_an_epoch_has_begun(tracker: CarbonTracker) -> None:
    calls = calls_during(tracker.epoch_start)
    run = tracker._training.run
    assert run is not None
    begun_ns = run.open_since_ns()
    assert begun_ns is not None
    assert len(calls) > 20
    assert [name for t_ns, name in calls if t_ns > begun_ns] == []


def test_almost_nothing_is_called_before_an_epoch_has_ended(tracker: CarbonTracker) -> None:
    tracker.epoch_start()
    calls = calls_during(tracker.epoch_end)
    run = tracker._training.run
    assert run is not None
    ended_ns = run._bounds[-1][1].t_ns
    before = [name for t_ns, name in calls if t_ns <= ended_ns]
    assert len(before) <= 6, before
    assert len(calls) > 20 * len(before)


def test_nothing_is_called_within_a_window() -> None:
    window = measure()
    entered = calls_during(window.__enter__)
    left = calls_during(lambda: window.__exit__(None, None, None))
    assert window.start is not None
    assert window.end is not None
    assert all(t_ns <= window.start.t_ns for t_ns, _ in entered)
    assert [name for t_ns, name in left if t_ns <= window.end.t_ns][-1].endswith("__exit__")


def test_a_step_without_work_calls_nothing_for_it(tracker: CarbonTracker) -> None:
    tracker.epoch_start()
    for _ in range(1000):  # a block is over only now and then
        tracker.step()
    each = [tuple(name for _, name in calls_during(tracker.step)) for _ in range(9)]
    usual = max(set(each), key=each.count)
    assert usual[:2] == ("step", "mark")
    assert len(usual) <= 3  # and the clock
    assert "add" in [name for _, name in calls_during(lambda: tracker.step(tokens=5))]
