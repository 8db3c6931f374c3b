"""What a run was for, how it ended, and where its checkpoints were: in its record."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from carbontracker import CarbonTracker
from carbontracker.exceptions import BudgetExceeded
from carbontracker.records.ledger import make_ledger
from carbontracker.records.reader import read_run, read_runs
from carbontracker.records.validate import ERROR, check_file
from tests.support.programs import DEVICES, WATTS, hide_sensors

if TYPE_CHECKING:
    from pathlib import Path

    from carbontracker.records.run_record import RunRecord


@pytest.fixture(autouse=True)
def only_simulated_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hide_sensors(monkeypatch, tmp_path)
    monkeypatch.setenv("CARBONTRACKER_LOCATION", "DK")


def record_in(folder: Path) -> RunRecord:
    (file,) = folder.glob("*.jsonl")
    assert [one for one in check_file(file) if one.level == ERROR] == []
    return read_run(file)


def test_the_record_says_what_a_run_was_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARBONTRACKER_PROJECT", "tiny-lm")
    monkeypatch.setenv("CARBONTRACKER_STAGE", "development")
    monkeypatch.setenv("CARBONTRACKER_PARENT", " 0123abcd ")
    tracker = CarbonTracker(1, verbose=0, log_dir=tmp_path, stage="pretraining", **DEVICES)
    assert tracker.run_id == ""
    tracker.epoch_start()
    open_id = tracker.run_id
    tracker.epoch_end()
    about = record_in(tmp_path).metadata
    assert (about.project, about.stage, about.parent) == ("tiny-lm", "pretraining", "0123abcd")
    assert record_in(tmp_path).id == tracker.run_id == open_id


def test_a_checkpoint_is_a_moment_of_the_energy_over_time(tmp_path: Path) -> None:
    tracker = CarbonTracker(2, verbose=0, log_dir=tmp_path, **DEVICES)
    tracker.epoch_start()
    tracker.step(3)
    tracker.epoch_end()
    tracker.epoch_start()
    tracker.step(2)
    tracker.checkpoint()
    tracker.epoch_end()
    run = record_in(tmp_path)
    (saved,) = run.of("checkpoint")
    assert run.checkpoints_s == [saved["seconds_after_start"]]
    assert saved["steps"] == 5
    assert round(saved["seconds_after_start"], 9) in run.series.t_s
    assert run.epochs[1].start_s <= saved["seconds_after_start"] <= run.epochs[1].end_s


PROGRAM = """
from carbontracker import CarbonTracker
tracker = CarbonTracker(3, verbose=0, log_dir={folder!r}, **{devices!r})
def train():
    tracker.epoch_start()
    tracker.epoch_end()
    {then}
train()
"""
ENDINGS = {
    "pass": "finished",
    "tracker.stop()": "finished",
    "tracker.stop(failed=True)": "failed",
    "raise RuntimeError('no more memory')": "failed",
    "tracker.epoch_start(); raise KeyboardInterrupt": "failed",
    "tracker.epoch_start(); import os; os.kill(os.getpid(), 9)": "killed",
}


@pytest.mark.parametrize("then", ENDINGS)
def test_the_record_says_how_a_run_ended(then: str, tmp_path: Path) -> None:
    program = PROGRAM.format(folder=str(tmp_path), devices=DEVICES, then=then)
    subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
    assert record_in(tmp_path).outcome == ENDINGS[then]


def test_a_limit_is_an_outcome(tmp_path: Path) -> None:
    tracker = CarbonTracker(
        3, verbose=0, log_dir=tmp_path, max_kwh=1e-12, on_budget="raise", **DEVICES
    )
    with pytest.raises(BudgetExceeded):
        for _ in tracker.epochs():
            pass
    assert record_in(tmp_path).outcome == "budget"


@pytest.mark.parametrize(("code", "outcome"), [(0, "finished"), (3, "failed")])
def test_a_command_fails_by_its_exit_code(code: int, outcome: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "carbontracker", "run", "-q", "--log-dir", str(tmp_path)]
    subprocess.run([*command, "--", "sh", "-c", f"exit {code}"], check=False)
    assert record_in(tmp_path).outcome == outcome


def test_a_command_says_what_the_tracker_in_it_is_for(tmp_path: Path) -> None:
    program = PROGRAM.format(folder=str(tmp_path / "inner"), devices=DEVICES, then="tracker.stop()")
    options = [
        "--project",
        "tiny-lm",
        "--stage",
        "pretraining",
        "--log-dir",
        str(tmp_path / "outer"),
    ]
    command = [sys.executable, "-m", "carbontracker", "run", "-q", *options]
    subprocess.run([*command, "--", sys.executable, "-c", program], check=True, capture_output=True)
    for folder in ("inner", "outer"):
        about = record_in(tmp_path / folder).metadata
        assert (about.project, about.stage) == ("tiny-lm", "pretraining")


TRAINING = """
import os, time
from carbontracker import CarbonTracker
tracker = CarbonTracker({epochs}, verbose=0, log_dir={folder!r}, project="p", **{devices!r})
for index in range({epochs}):
    tracker.epoch_start()
    time.sleep(0.2)
    tracker.step(tokens=100)
    tracker.epoch_end()
    if index == 0:
        tracker.checkpoint()
        time.sleep(0.1)  # no part of any epoch: repeated by no one
    if index == {killed_after}:
        os.kill(os.getpid(), 9)
"""


def test_a_killed_training_that_is_resumed_repeats_watts_times_seconds(tmp_path: Path) -> None:
    def train(epochs: int, killed_after: int, parent: str) -> None:
        program = TRAINING.format(
            folder=str(tmp_path), devices=DEVICES, epochs=epochs, killed_after=killed_after
        )
        environment = {**os.environ, "CARBONTRACKER_PARENT": parent}
        subprocess.run(
            [sys.executable, "-c", program], env=environment, check=False, capture_output=True
        )

    train(9, 2, "")
    (killed,) = read_runs(tmp_path)
    train(2, -1, killed.id)
    runs = list(read_runs(tmp_path))
    cost = make_ledger(read_runs(tmp_path, series=False, epochs=False)).whole.cost
    seconds = [epoch.seconds for run in runs for epoch in run.epochs]
    assert len(seconds) == 5
    error = cost.error_kwh / cost.kwh * cost.joules
    assert cost.joules == pytest.approx(WATTS * sum(seconds), abs=error)
    kwh_per_joule = cost.kwh / cost.joules
    repeated = WATTS * sum(killed.epochs[i].seconds for i in (1, 2)) * kwh_per_joule
    assert cost.repeated_kwh == pytest.approx(repeated, abs=cost.repeated_error_kwh)
    assert (cost.failed_kwh, cost.repeats_unknown, cost.attempts) == (0, 0, 2)
    assert cost.work == {"tokens": 500}
    assert cost.joules_per("tokens")[0] == pytest.approx(cost.joules / 500)
