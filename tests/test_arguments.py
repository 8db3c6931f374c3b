"""The constructor's arguments as scripts give them: what runs with 2.4.x runs, and says so once."""

from __future__ import annotations

import decimal
import fractions
import json
import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import carbontracker
from carbontracker.conversion import as_count, as_flag, as_number, as_path
from carbontracker.energy.config import Config
from carbontracker.tracker import CarbonTracker
from tests.support.programs import DEVICES, WATTS, assert_power, hide_sensors, read_record

if TYPE_CHECKING:
    from pathlib import Path

EPOCH_S = 0.03


@pytest.fixture(autouse=True)
def only_simulated_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hide_sensors(monkeypatch, tmp_path)
    monkeypatch.setenv("CARBONTRACKER_LOCATION", "DK")


def make(epochs: Any = 2, **arguments: Any) -> CarbonTracker:
    return CarbonTracker(epochs, **{"verbose": 0, **DEVICES, **arguments})


def train(tracker: CarbonTracker, epochs: int, seconds: float = EPOCH_S) -> None:
    for _ in range(epochs):
        tracker.epoch_start()
        time.sleep(seconds)
        tracker.epoch_end()


class Scalar:
    """A number as frameworks hold it: no subclass of anything."""

    def __init__(self, value: float) -> None:
        self._value = value

    def item(self) -> float:
        return self._value

    def __repr__(self) -> str:
        return f"tensor({self._value})"


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("3", 3),
        (" 2.5 ", 2.5),
        (b"4", 4),
        ("1e3", 1000),
        (True, 1),
        (np.int64(3), 3),
        (np.float32(2.5), 2.5),
        (np.bool_(True), 1),
        (np.array(3), 3),
        (Scalar(3), 3),
        (Scalar(2.0), 2),
        (fractions.Fraction(5, 2), 2.5),
        (decimal.Decimal("2.5"), 2.5),
        (10**13, 10**13),
    ],
)
def test_numbers_are_understood(given: object, taken: float) -> None:
    found = as_count(given)
    assert found == taken
    assert type(found) is type(taken)


@pytest.mark.parametrize("given", [None, "many", [1], np.array([1, 2]), object(), {}, 1j])
def test_values_that_are_not_numbers_are_left_to_the_check(given: object) -> None:
    assert as_number(given) is given


def test_words_of_flags() -> None:
    for no in ("False", "no", "OFF", "0", "", 0, None, np.bool_(False)):
        assert as_flag("x", no) is False
    for yes in ("True", "yes", "on", "1", 1, np.bool_(True)):
        assert as_flag("x", yes) is True
    with pytest.raises(ValueError, match="x must be True or False"):
        as_flag("x", np.array([1, 2]))
    assert [as_path("x", none) for none in (None, False, "", b"")] == [None] * 4
    with pytest.raises(ValueError, match="x must be the path"):
        as_path("x", 5)


RUNS: list[tuple[dict[str, Any], str, object]] = [
    ({"epochs_before_pred": "1"}, "epochs_before_pred", 1),
    ({"epochs_before_pred": None}, "epochs_before_pred", 1),
    ({"epochs_before_pred": True}, "epochs_before_pred", 1),
    ({"epochs_before_pred": np.int64(1)}, "epochs_before_pred", 1),
    ({"epochs_before_pred": Scalar(1)}, "epochs_before_pred", 1),
    ({"monitor_epochs": "2"}, "monitor_epochs", 2),
    ({"monitor_epochs": None}, "monitor_epochs", -1),
    ({"update_interval": "0.5"}, "update_interval", 0.5),
    ({"update_interval": None}, "update_interval", 1),
    ({"update_interval": -1}, "update_interval", 1),
    ({"update_interval": math.nan}, "update_interval", 1),
    ({"interpretable": "False"}, "interpretable", False),
    ({"interpretable": None}, "interpretable", False),
    ({"stop_and_confirm": "no"}, "stop_and_confirm", False),
    ({"components": ["gpu", "cpu"]}, "components", "gpu,cpu"),
    ({"components": None}, "components", "all"),
    ({"log_dir": False}, "log_dir", None),
    ({"log_dir": ""}, "log_dir", None),
    ({"log_file_prefix": None}, "log_file_prefix", ""),
    ({"log_file_prefix": 7}, "log_file_prefix", "7"),
    ({"verbose": "0"}, "verbose", 0),
    ({"verbose": None, "log_dir": "x"}, "verbose", 1),
    ({"decimal_precision": "3"}, "decimal_precision", 3),
    ({"decimal_precision": 400}, "decimal_precision", 30),
    ({"api_keys": {"electricitymaps": None}}, "api_keys", {}),
    ({"api_keys": {"electricitymaps": ""}}, "api_keys", {}),
    ({"sim_cpu_tdp": "150"}, "sim_cpu_tdp", 150),
    ({"sim_gpu_util": "0.6"}, "sim_gpu_util", 0.6),
    ({"sim_gpu_watts": np.float32(400)}, "sim_gpu_watts", 400),
    ({"pue": "1.2"}, "pue", 1.2),
    ({"intensity": np.float32(100)}, "intensity", 100),
    ({"record": "off"}, "record", False),
    ({"rate_hz": "50"}, "rate_hz", 50),
    ({"overhead_budget": "0.01"}, "overhead_budget", 0.01),
    ({"keep_full_s": "600"}, "keep_full_s", 600),
    ({"locate": " Never "}, "locate", "never"),
    ({"advise": "off"}, "advise", False),
    ({"steps_per_epoch": "10"}, "steps_per_epoch", 10),
    ({"steps_per_epoch": np.float64(10)}, "steps_per_epoch", 10),
    ({"max_kwh": "5"}, "max_kwh", 5),
    ({"max_seconds": Scalar(1e6)}, "max_seconds", 1e6),
    ({"budget_on": "Measured"}, "budget_on", "measured"),
    ({"on_budget": "WARN"}, "on_budget", "warn"),
    ({"default_answer": "Yes"}, "default_answer", "y"),
    ({"default_answer": False}, "default_answer", "n"),
    ({"progress": "false"}, "progress", False),
    ({"loggers": None}, "loggers", ()),
]


@pytest.mark.parametrize(("arguments", "name", "taken"), RUNS)
def test_values_with_a_meaning_are_converted_with_one_warning(
    arguments: dict[str, Any],
    name: str,
    taken: object,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    tracker = make(2, **arguments)
    assert getattr(tracker, name) == taken
    train(tracker, 2)
    assert tracker.result is not None
    assert tracker.result.finished_epochs == 2
    energy = tracker.result.energy
    assert_power(energy.joules, energy.error_joules, tracker.result.seconds, WATTS)
    warnings = [line for line in capsys.readouterr().err.splitlines() if "WARNING" in line]
    assert len(warnings) == 1, warnings
    assert name in warnings[0]


def test_several_conversions_are_one_warning(capsys: pytest.CaptureFixture[str]) -> None:
    tracker = make(1, epochs_before_pred="1", pue="1.2", sim_cpu_tdp="150")
    train(tracker, 1)
    assert tracker.result is not None
    assert tracker.result.footprint.pue == 1.2
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if "WARNING" in line]
    for part in ("epochs_before_pred='1' is taken as 1", "pue='1.2' is taken as 1.2"):
        assert part in warning


def test_valid_numbers_cause_no_warning(capsys: pytest.CaptureFixture[str]) -> None:
    tracker = make(2.0, update_interval=1.0, decimal_precision=12, sim_cpu_tdp=150)
    assert tracker.epochs == 2
    train(tracker, 2)
    assert tracker.deleted
    assert capsys.readouterr().err == ""


WRONG: dict[str, tuple[Any, ...]] = {
    "epochs": (math.nan, -math.inf, "3", None, [3], "many", 1j),
    "epochs_before_pred": ("many", math.nan, [1], object()),
    "monitor_epochs": ("all", math.nan, []),
    "update_interval": ("soon", [1]),
    "interpretable": (np.array([0, 1]),),
    "components": (5, {}),
    "log_dir": (5, True, ["logs"]),
    "verbose": ("loud", []),
    "decimal_precision": ("few", -1, 2.5, math.nan),
    "api_keys": ("abc", ["electricitymaps"], 5),
    "location": (5, ["DK"], "Denmrk"),
    "pue": ("low", 0.5, math.nan, math.inf, "nan", [1.2]),
    "intensity": (True, -1, "1e9", math.nan, "nosuch"),
    "rate_hz": ("fast", 0, math.nan, "0"),
    "overhead_budget": ("little", 2, "-1"),
    "keep_full_s": ("long", 0, 1e6, math.nan),
    "locate": ("ip", 5),
    "steps_per_epoch": ("many", 0, -1, 2.5, math.nan),
    "max_kwh": ("much", 0, -1, math.nan, "0"),
    "budget_on": ("guess", 5),
    "default_answer": ("maybe", 5),
    "prometheus": ("here", -1, 70000, True),
    "loggers": ("wandb",),
    "trace": (5,),
    "previous_run": (5, ""),
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_values_without_a_meaning_are_refused_by_name_in_the_constructor(
    name: str, value: object
) -> None:
    with pytest.raises(ValueError) as refusal:  # noqa: PT011  # the message is looked at below
        make(**{name: value}) if name != "epochs" else make(value)
    said = str(refusal.value)
    assert name in said or (name == "location" and "unknown location" in said)
    assert "\n" not in said


def test_a_key_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="api_keys must map") as refusal:
        make(1, api_keys="s3cret")
    assert "s3cret" not in str(refusal.value)


def test_windows_take_the_same_numbers() -> None:
    given: dict[str, Any] = {"rate_hz": "50", "pue": "1.5", "intensity": np.float32(100)}
    with carbontracker.measure("x", **given) as window:
        pass
    assert window.footprint.pue == 1.5
    assert window.footprint.intensity.gco2eq_per_kwh == 100
    for wrong in ({"pue": "low"}, {"rate_hz": "fast"}, {"location": 5}, {"intensity": True}):
        with pytest.raises(ValueError, match="must be"):
            carbontracker.measure("x", **wrong)
    assert Config.from_environment().rate_hz == 0


def test_the_overhead_budget_of_the_environment_by_its_new_name_and_its_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CARBONTRACKER_BUDGET", "0.25")
    assert Config.from_environment().overhead_budget == 0.25
    monkeypatch.setenv("CARBONTRACKER_OVERHEAD_BUDGET", " ")  # as templates leave it: not set
    assert Config.from_environment().overhead_budget == 0.25
    monkeypatch.setenv("CARBONTRACKER_OVERHEAD_BUDGET", "0.125")
    assert Config.from_environment().overhead_budget == 0.125


def test_a_decorator_refuses_its_options_where_it_stands() -> None:
    for wrong in ({"pue": "low"}, {"rate_hz": "fast"}, {"location": "Denmrk"}):
        with pytest.raises(ValueError, match=r"pue|rate_hz|unknown location"):
            carbontracker.track(name="x", **wrong)(len)
    with pytest.raises(TypeError):
        carbontracker.track(nosuch=1)(len)


# ---- two and a half epochs -----------------------------------------------------------------


def test_a_part_of_an_epoch_is_predicted_and_monitored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As Hugging Face counts: the third epoch is half as long, and ends the training."""
    tracker = make(2.5, verbose=1, log_dir=tmp_path)
    assert tracker.epochs == 2.5
    for part in (1.0, 1.0, 0.5):
        assert not tracker.deleted
        tracker.epoch_start()
        time.sleep(0.2 * part)
        tracker.epoch_end()
    assert tracker.deleted
    result = tracker.result
    assert result is not None
    assert result.finished_epochs == 3
    forecast = result.forecast
    assert forecast is not None
    first = result.epochs[0]
    assert forecast.prediction.epochs == 2.5
    # From one epoch: so much again, one and a half times more.
    assert forecast.prediction.seconds == pytest.approx(2.5 * first.seconds, rel=0.2)
    out, err = capsys.readouterr()
    assert "Predicted consumption for 2.5 epoch(s):" in out
    assert "Predicted after 1 epoch(s), beside the actual:" in out
    assert err == ""
    started = next(one for one in read_record(tmp_path) if one["event"] == "run_started")
    assert started["epochs"] == 2.5


def test_a_part_of_an_epoch_is_read_back(tmp_path: Path) -> None:
    from carbontracker.records.reader import read_run

    train(make(1.5, log_dir=tmp_path), 2)
    run = read_run(tmp_path)
    assert run.planned_epochs == 1.5
    assert [one.prediction.epochs for one in run.forecasts] == [1.5]
    assert json.loads(json.dumps(run.planned_epochs)) == 1.5


@pytest.mark.parametrize(
    ("arguments", "ends", "predicts"),
    [
        ({"epochs": 4, "monitor_epochs": 1.5}, 2, 1),
        ({"epochs": 3, "epochs_before_pred": 1.5}, 3, 2),
        ({"epochs": 2.5, "epochs_before_pred": -1}, 3, 3),
        ({"epochs": 2, "epochs_before_pred": 0}, 2, None),
        ({"epochs": 3, "epochs_before_pred": -2}, 3, None),
        ({"epochs": 0}, None, None),
        ({"epochs": -1}, None, None),
        ({"epochs": 2, "monitor_epochs": math.inf}, None, 1),
    ],
)
def test_when_it_predicts_and_ends(
    arguments: dict[str, Any], ends: int | None, predicts: int | None
) -> None:
    tracker = make(**arguments)
    ended = None
    for index in range(1, 5):
        train(tracker, 1, seconds=0.001)
        if tracker.deleted:
            ended = index
            break
    assert ended == ends
    tracker.stop()
    assert tracker.result is not None
    predicted = [forecast.prediction.after_epochs for forecast in tracker.result.forecasts]
    assert predicted == ([] if predicts is None else [predicts])


def test_counting_goes_through_the_part_of_an_epoch() -> None:
    assert list(make(2.5).epochs()) == [0, 1, 2]


# ---- an epoch that begins twice ------------------------------------------------------------


def test_a_second_start_begins_the_epoch_again(capsys: pytest.CaptureFixture[str]) -> None:
    """Before the loop and again in each turn, as some scripts have it."""
    tracker = make(2)
    tracker.epoch_start()
    time.sleep(0.1)
    again_s = time.monotonic()
    train(tracker, 2, seconds=0.05)
    assert tracker.deleted
    assert tracker.epoch_counter == 2
    result = tracker.result
    assert result is not None
    assert [epoch.index for epoch in result.epochs] == [1, 2]
    assert result.seconds <= time.monotonic() - again_s
    assert_power(result.energy.joules, result.energy.error_joules, result.seconds)
    # What lay before the second start is kept, apart from the epochs.
    assert result.between_epochs.joules >= 0.7 * WATTS * 0.1
    assert result.forecast is not None
    assert result.forecast.prediction.epochs == 2
    assert capsys.readouterr().err.count("epoch_start() twice") == 1


def test_later_epochs_begin_again_too(capsys: pytest.CaptureFixture[str]) -> None:
    tracker = make(3)
    for _ in range(3):
        tracker.epoch_start()
        tracker.step()
        time.sleep(0.02)
        tracker.epoch_start()
        time.sleep(0.02)
        tracker.epoch_end()
    result = tracker.result
    assert result is not None
    assert result.finished_epochs == tracker.epoch_counter == 3
    assert result.between_epochs.joules >= 0.7 * WATTS * 3 * 0.02
    assert capsys.readouterr().err.count("epoch_start() twice") == 1


# ---- the user's text as a file's name ---------------------------------------------------------


@pytest.mark.parametrize(
    "prefix",
    [
        "resnet/50 lr=1e-3",
        "/etc/passwd",
        "../../outside",
        "..",
        "a\0b",
        "line\nend\r\t\x1b[31m",
        "x" * 300,
        "é" * 300,
        "\ud800\udcff",
        b"caf\xe9",
    ],
)
def test_a_prefix_makes_log_files_in_their_folder(
    tmp_path: Path, prefix: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = tmp_path / "deep" / "logs"
    train(make(1, log_dir=logs, log_file_prefix=prefix), 1)
    err = capsys.readouterr().err
    assert err.count("WARNING") == 1
    assert "log_file_prefix=" in err
    kinds = sorted(file.name.partition("_carbontracker")[2] for file in logs.iterdir())
    assert kinds == ["", ".log", "_err.log", "_output.log"]  # the first is the record
    assert [one.name for one in (tmp_path / "deep").iterdir()] == ["logs"]
    for file in logs.iterdir():
        assert file.name.isprintable()
        assert len(file.name.encode()) <= 255


@pytest.mark.parametrize("prefix", ["", "exp1", "größe 7", ".hidden", "a..b", "-x"])
def test_a_prefix_that_is_a_name_stays(
    tmp_path: Path, prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    train(make(1, log_dir=tmp_path, log_file_prefix=prefix), 1)
    assert "log_file_prefix" not in capsys.readouterr().err
    begin = f"{prefix}_" if prefix else ""
    logs = [one.name for one in tmp_path.iterdir() if one.suffix == ".log"]
    assert len(logs) == 2
    assert all(name.startswith(begin) for name in logs)
