"""Attributes of the tracker that 2.4.x lets scripts set after the constructor."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from carbontracker.tracker import CarbonTracker
from tests.support.programs import hide_sensors

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def only_simulated_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hide_sensors(monkeypatch, tmp_path)


def make(epochs: float, **arguments: Any) -> CarbonTracker:
    gpu = {"sim_gpu": "GPU", "sim_gpu_watts": 200.0, "components": "gpu"}
    return CarbonTracker(epochs, **{"verbose": 0, **gpu, **arguments})


def train(tracker: CarbonTracker, epochs: int) -> None:
    for _ in range(epochs):
        tracker.epoch_start()
        tracker.epoch_end()


def finished(tracker: CarbonTracker) -> int | None:
    """Return how many epochs there were when monitoring ended; None before."""
    result = tracker.result
    return result.finished_epochs if result is not None and result.final else None


def test_a_new_number_of_epochs_is_predicted_and_ends_monitoring(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tracker = make(10, verbose=1, epochs_before_pred=2)
    train(tracker, 1)
    tracker.epochs = 3
    assert tracker.epochs == 3
    assert list(tracker.epochs()) == [0, 1, 2]
    assert finished(tracker) == 3
    assert "Predicted consumption for 3 epoch(s):" in capsys.readouterr().out


def test_a_larger_number_of_epochs_goes_on() -> None:
    tracker = make(1)
    tracker.epochs = 2.5
    train(tracker, 2)
    assert finished(tracker) is None
    train(tracker, 1)
    assert finished(tracker) == 3


def test_when_to_predict_and_to_end_can_change(capsys: pytest.CaptureFixture[str]) -> None:
    tracker = make(9, verbose=1)
    tracker.epochs_before_pred = 2
    tracker.monitor_epochs = 3
    tracker.decimal_precision = 2
    train(tracker, 1)
    assert "Predicted" not in capsys.readouterr().out
    train(tracker, 1)
    assert re.search(r"Energy:\t\d\.\d\d kWh", capsys.readouterr().out)
    train(tracker, 1)
    assert finished(tracker) == 3


def test_the_console_can_be_switched_on_and_off(capsys: pytest.CaptureFixture[str]) -> None:
    tracker = make(2)
    tracker.verbose = 1
    train(tracker, 1)
    assert "Predicted consumption" in capsys.readouterr().out
    tracker.verbose = 0
    train(tracker, 1)
    assert finished(tracker) == 2
    assert capsys.readouterr().out == ""


def test_what_the_constructor_refuses_is_refused_and_changes_nothing() -> None:
    tracker = make(4)
    for name, value in (("epochs", "many"), ("epochs", None), ("decimal_precision", "fine")):
        before = getattr(tracker, name)
        with pytest.raises(ValueError, match=name):
            setattr(tracker, name, value)
        assert getattr(tracker, name) == before
    tracker.stop()


def test_attributes_of_the_user_stay_the_users() -> None:
    tracker = make(1)
    tracker.model_name = "mine"
    assert tracker.model_name == "mine"
    tracker.stop()
