"""Results in the process: during a training, at its end, and as scripts for 2.4.x read them."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import pytest

from carbontracker.constants import JOULES_PER_KWH
from carbontracker.tracker import CarbonTracker
from tests.support.programs import DEVICES, PRELUDE, assert_power, hide_sensors, python

if TYPE_CHECKING:
    from pathlib import Path

    from carbontracker.model.epoch import Epoch

PUE = 1.25
GRAMS = 100.0
EPOCH_S = 0.03


@pytest.fixture(autouse=True)
def only_simulated_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hide_sensors(monkeypatch, tmp_path)


def make(epochs: int, **arguments: Any) -> CarbonTracker:
    given = {"verbose": 0, "record": False, "pue": PUE, "intensity": GRAMS, **DEVICES}
    return CarbonTracker(epochs, **given | arguments)


def epoch(tracker: CarbonTracker) -> Epoch:
    tracker.epoch_start()
    time.sleep(EPOCH_S)
    ended = tracker.epoch_end()
    assert ended is not None
    return ended


def test_the_end_of_an_epoch_returns_it() -> None:
    tracker = make(3, monitor_epochs=2)
    first, second = epoch(tracker), epoch(tracker)
    assert [first.index, second.index] == [1, 2]
    assert first.finished
    assert second.finished
    for one in (first, second):
        assert_power(one.energy.joules, one.energy.error_joules, one.seconds)
        assert one.footprint.kwh == pytest.approx(one.energy.joules * PUE / JOULES_PER_KWH)
        assert one.footprint.gco2eq == pytest.approx(one.footprint.kwh * GRAMS)
    assert tracker.result is not None
    assert tracker.result.epochs[1] == second  # the last one is as final as the result
    tracker.epoch_start()
    assert tracker.epoch_end() is None  # after the end of monitoring


def test_no_open_epoch_and_no_epoch_returned() -> None:
    tracker = make(2)
    assert tracker.epoch_end() is None
    assert epoch(tracker).index == 1
    assert tracker.epoch_end() is None
    assert epoch(tracker).index == 2


def test_an_epoch_without_energy_is_returned_as_not_measured() -> None:
    tracker = CarbonTracker(1, verbose=0, record=False, components="gpu")
    ended = epoch(tracker)
    assert math.isnan(ended.energy.joules)
    assert ended.seconds >= EPOCH_S


def test_the_result_is_live_from_the_first_epoch_on() -> None:
    tracker = make(3)
    seen: list[float] = []
    for count in (1, 2):
        tracker.epoch_start()
        before = tracker.result
        assert (0 if before is None else before.finished_epochs) == count - 1  # not the open one
        time.sleep(EPOCH_S)
        tracker.epoch_end()
        result = tracker.result
        assert result is not None
        assert not result.final
        assert result.finished_epochs == count == len(result.epochs)
        assert result.seconds == math.fsum(one.seconds for one in result.epochs)
        assert_power(result.energy.joules, result.energy.error_joules, result.seconds)
        seen.append(result.seconds)
    last = epoch(tracker)
    result = tracker.result
    assert result is not None
    assert result.final
    assert result.finished_epochs == 3
    assert result.seconds == pytest.approx(seen[-1] + last.seconds)
    assert tracker.result is result


def test_the_result_of_a_training_that_was_stopped_stays() -> None:
    tracker = make(5)
    epoch(tracker)
    tracker.stop()
    assert tracker.result is not None
    assert tracker.result.final
    assert tracker.result.finished_epochs == 1


def test_scripts_read_energy_times_and_intensity_while_it_goes_on_and_after() -> None:
    tracker = make(2)
    assert tracker.intensity_updater.average_carbon_intensity() == GRAMS  # before an epoch
    assert tracker.tracker.epoch_times == []
    assert tracker.tracker.total_energy_per_epoch().sum() == 0.0
    early = tracker.tracker
    for count in (1, 2):
        ended = epoch(tracker)
        kwh = tracker.tracker.total_energy_per_epoch()
        assert kwh.shape == (count,)
        assert kwh[-1] == pytest.approx(ended.energy.kwh * PUE, rel=0.3)
        assert len(tracker.tracker.epoch_times) == count
        assert tracker.tracker.epoch_times[-1] == ended.seconds
        average = tracker.intensity_updater.average_carbon_intensity()
        assert isinstance(average, float)
        assert average == average.carbon_intensity == GRAMS
    result = tracker.result
    assert result is not None
    assert kwh.sum() * average == pytest.approx(result.footprint.gco2eq)
    assert early.epoch_times == tracker.tracker.epoch_times


def test_an_epoch_that_was_not_measured_is_not_zero_for_scripts() -> None:
    tracker = CarbonTracker(2, verbose=0, record=False, components="gpu")
    epoch(tracker)
    assert list(map(math.isnan, tracker.tracker.total_energy_per_epoch())) == [True]
    tracker.stop()


def test_scripts_import_and_patch_the_threads() -> None:
    from carbontracker.tracker import CarbonIntensityThread, CarbonTrackerThread

    tracker = make(1)
    assert isinstance(tracker.tracker, CarbonTrackerThread)
    assert isinstance(tracker.intensity_updater, CarbonIntensityThread)
    CarbonTrackerThread([], None, False, None, update_interval=1)
    assert callable(CarbonTrackerThread._log_components_info)
    assert math.isnan(CarbonIntensityThread(None, None).average_carbon_intensity())
    assert CarbonTrackerThread().epoch_times == []
    tracker.stop()


def test_what_scripts_read_is_loaded_only_for_them() -> None:
    program = """
import sys
from carbontracker.tracker import CarbonTracker
assert "numpy" not in sys.modules and "carbontracker.legacy.threads" not in sys.modules
try:
    from carbontracker.tracker import CarbonTrackerThreads
except ImportError as error:
    assert "CarbonTrackerThreads" in str(error), error
else:
    raise AssertionError
assert "carbontracker.legacy.threads" not in sys.modules
"""
    done = python(program)
    assert done.returncode == 0, done.stderr


def test_a_forked_child_knows_no_result_of_its_parent() -> None:
    program = (
        PRELUDE
        + """
tracker = CarbonTracker(2, verbose=0, record=False, **DEVICES)
tracker.epoch_start(); tracker.epoch_end()
pid = os.fork()
if pid == 0:
    os._exit(0 if tracker.result is None and tracker.tracker.epoch_times == [] else 1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert tracker.result is not None
"""
    )
    done = python(program)
    assert done.returncode == 0, done.stderr


def test_what_a_script_keeps_does_not_keep_the_tracker() -> None:
    tracker = make(3)
    epoch(tracker)
    figures = tracker.tracker
    tracker.epoch_start()
    time.sleep(EPOCH_S)
    del tracker
    deadline = time.monotonic() + 30
    while figures._result() is None or not figures._result().final:  # type: ignore[union-attr]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert len(figures.epoch_times) == 1
