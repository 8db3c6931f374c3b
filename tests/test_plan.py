"""A plan in steps, and epochs that are parts of one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from carbontracker.exceptions import BudgetExceeded
from carbontracker.prediction import Predictor
from carbontracker.records.reader import read_run
from carbontracker.records.validate import check_file
from carbontracker.report.progress import Progress
from carbontracker.tracker import CarbonTracker
from carbontracker.training.plan import Plan
from tests.support.programs import (
    DEVICES,
    WATTS,
    assert_power,
    hide_sensors,
    read_record,
    record_file,
)

if TYPE_CHECKING:
    from pathlib import Path

STEP_S = 0.01


@pytest.fixture(autouse=True)
def only_simulated_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hide_sensors(monkeypatch, tmp_path)
    monkeypatch.setenv("CARBONTRACKER_LOCATION", "DK")


def make(epochs: float = 0, **arguments: Any) -> CarbonTracker:
    return CarbonTracker(epochs, **DEVICES | {"verbose": 0} | arguments)


def train(tracker: CarbonTracker, *epochs: int) -> None:
    """Train epochs of so many steps each."""
    for steps in epochs:
        tracker.epoch_start()
        for _ in range(steps):
            time.sleep(STEP_S)
            tracker.step()
        tracker.epoch_end()


def ended(tracker: CarbonTracker) -> bool:
    return tracker.deleted


# ---- arithmetic ----------------------------------------------------------------------------


def add(predictor: Predictor, steps: int, beside: float, each: float = 1.0) -> None:
    for _ in range(steps):
        predictor.step(each, 10 * each)
    total = steps * each + beside
    predictor.epoch_ended(total, 10 * total)


def test_a_training_resumed_within_an_epoch_is_predicted_by_its_steps() -> None:
    """Of three epochs of 100 steps, one and a half are left: half of one, and a whole one."""
    predictor = Predictor(steps_per_epoch=100, steps=150)
    add(predictor, 50, beside=5.0)
    prediction = predictor.predict()
    assert (prediction.epochs, prediction.after_epochs) == (1.5, 0.5)
    assert prediction.seconds == pytest.approx(55 + 105)
    add(predictor, 100, beside=5.0)
    prediction = predictor.predict()
    assert (prediction.epochs, prediction.after_epochs) == (1.5, 1.5)
    assert prediction.seconds == pytest.approx(160)


def test_the_length_of_an_epoch_is_that_of_the_longest_so_far() -> None:
    """Resumed in the middle of an epoch of unknown length."""
    predictor = Predictor(steps=250)
    add(predictor, 50, beside=0.0)
    assert predictor.epochs == 5
    add(predictor, 100, beside=0.0)
    assert predictor.epochs == 2.5
    assert predictor.predict().seconds == pytest.approx(250)


def test_steps_of_an_epoch_need_not_be_a_multiple_of_the_pieces() -> None:
    predictor = Predictor(steps_per_epoch=96.25, steps=2.5 * 96.25)
    for _ in range(96):
        predictor.step(1.0, 10.0)
    predictor.epoch_ended(96.25, 962.5, steps=96.25)
    prediction = predictor.predict()
    assert (prediction.epochs, prediction.after_epochs) == (2.5, 1)
    assert prediction.seconds == pytest.approx(2.5 * 96.25)


def test_when_a_plan_is_reached() -> None:
    assert not Plan(0).known
    assert not Plan(0).reached(10**9, 10**9)
    assert Plan(0, 7).known
    assert [Plan(0, 7).reached(1, steps) for steps in (6, 7, 8)] == [False, True, True]
    assert not Plan(1, 7).reached(1, 6), "steps decide"
    assert [Plan(2.5).reached(epochs, 0) for epochs in (2, 3)] == [False, True]


# ---- trainings -----------------------------------------------------------------------------


def test_two_and_a_half_epochs_in_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tracker = make(max_steps=50, steps_per_epoch=20, verbose=1, log_dir=tmp_path)
    train(tracker, 20, 20)
    assert not ended(tracker)
    train(tracker, 10)
    assert ended(tracker)
    result = tracker.result
    assert result is not None
    assert_power(result.energy.joules, result.energy.error_joules, result.seconds)
    (first,) = [one.prediction for one in result.forecasts if one.prediction.after_epochs == 1]
    assert (first.epochs, first.steps) == (2.5, 50)
    assert first.joules == pytest.approx(2.5 * WATTS * result.epochs[0].seconds, rel=0.3)
    assert [epoch.steps for epoch in result.epochs] == [20, 20, 10]
    assert result.epochs_done == 2.5
    assert len(result.prediction_errors()) == len(result.forecasts)
    out, err = capsys.readouterr()
    assert "Predicted consumption for 2.5 epoch(s):" in out
    assert "Actual consumption for 2.5 epoch(s):" in out
    assert err == ""

    assert not list(check_file(record_file(tmp_path)))
    started = next(one for one in read_record(tmp_path) if one["event"] == "run_started")
    assert (started["epochs"], started["max_steps"]) == (0, 50)
    run = read_run(tmp_path)
    assert (run.metadata.planned_steps, run.planned_epochs, run.result.epochs_done) == (
        50,
        2.5,
        2.5,
    )
    assert [epoch.steps for epoch in run.epochs] == [20, 20, 10]
    assert len(run.result.prediction_errors()) == len(run.forecasts)


def test_a_resumed_training_ends_with_its_last_step_and_not_with_its_first_epoch() -> None:
    """Half of an epoch and half of the next one are one epoch, in two parts."""
    tracker = make(max_steps=20, steps_per_epoch=20)
    train(tracker, 10)
    assert not ended(tracker)
    train(tracker, 10)
    assert ended(tracker)
    result = tracker.result
    assert result is not None
    assert result.finished_epochs == 2
    assert result.epochs_done == 1
    assert result.forecast is not None
    assert result.forecast.prediction.epochs == 1


def test_epochs_in_parts_are_counted_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    tracker = make(1.5, verbose=1)
    train(tracker, 4, 2)
    assert ended(tracker)
    assert "Actual consumption for 1.5 epoch(s):" in capsys.readouterr().out


def test_a_training_without_epochs_is_predicted_within_its_one() -> None:
    tracker = make(max_steps=300)
    tracker.epoch_start()
    for _ in range(150):
        time.sleep(STEP_S)
        tracker.step()
    result = tracker._training.run
    assert result is not None
    forecast = result.forecast
    assert forecast is not None, "after a tenth of it"
    assert forecast.prediction.epochs == 1
    assert 0.1 <= forecast.prediction.after_epochs < 1
    tracker.stop()


def test_without_steps_a_plan_in_steps_predicts_nothing(caplog: pytest.LogCaptureFixture) -> None:
    tracker = make(max_steps=10)
    for _ in range(2):
        tracker.epoch_start()
        tracker.epoch_end()
    assert not ended(tracker)
    tracker.stop()
    assert tracker.result is not None
    assert not tracker.result.forecasts
    (record,) = caplog.records
    assert record.message == (
        "carbontracker: no prediction is made: max_steps is the length of the training, and "
        "step() was not called (ValueError); the energy is measured"
    )


@pytest.mark.parametrize("steps", [0, -1, 2.5, "many"])
def test_what_is_no_number_of_steps_is_refused(steps: object) -> None:
    with pytest.raises(ValueError, match="max_steps must be a whole number of at least 1"):
        make(max_steps=steps)


def test_a_budget_stops_a_training_of_unknown_length_after_an_epoch() -> None:
    tracker = make(max_seconds=1e-6, on_budget="raise")
    tracker.epoch_start()
    with pytest.raises(BudgetExceeded):
        tracker.epoch_end()
    assert ended(tracker)


def test_a_predicted_budget_looks_at_all_steps() -> None:
    """After 10 steps of 200, which take 0.1 s, the whole is known to take about 2 s."""
    limits: dict[str, Any] = {"max_seconds": 1.0, "budget_on": "predicted", "on_budget": "raise"}
    tracker = make(max_steps=200, **limits)
    tracker.epoch_start()
    for _ in range(10):
        time.sleep(STEP_S)
        tracker.step()
    with pytest.raises(BudgetExceeded) as caught:
        tracker.epoch_end()
    assert caught.value.basis == "predicted"


def test_the_progress_line_counts_steps() -> None:
    tracker = make(max_steps=30, steps_per_epoch=20)
    progress = Progress(lambda: tracker._settings.plan)
    training = tracker._training
    training.begin()
    assert training.run is not None
    progress.started(training.run)
    train(tracker, 20)
    progress.epoch(training.run.epoch(1))
    line = progress._line()
    assert line.startswith("carbontracker: epoch 1, step 20/30, ")
    assert " to go, " in line
    tracker.stop()
