"""Budgets: a training stops at the next mark with its record complete, a command at once."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import carbontracker
from carbontracker.exceptions import BudgetExceeded
from carbontracker.records.reader import read_run
from carbontracker.report.document import notes
from carbontracker.tracker import CarbonTracker
from tests.support.programs import DEVICES, TIMEOUT_S, hide_sensors, python, read_record

TINY_KWH = 1e-12


@pytest.fixture(autouse=True)
def only_simulated_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hide_sensors(monkeypatch, tmp_path)
    monkeypatch.setenv("CARBONTRACKER_LOCATION", "DK")


def make(epochs: int, **arguments: Any) -> CarbonTracker:
    return CarbonTracker(epochs, **{"verbose": 0, **DEVICES, **arguments})


def train(tracker: CarbonTracker, epochs: int, seconds: float = 0.1) -> None:
    for _ in range(epochs):
        tracker.epoch_start()
        time.sleep(seconds)
        tracker.epoch_end()


def assert_complete(directory: Path, tracker: CarbonTracker, limit: str) -> None:
    """Hold that the training is over and its record says why, with everything it has cost."""
    assert tracker.deleted
    assert tracker.result is not None
    events = read_record(directory)
    assert events[0]["event"] == "run_started"
    (passed,) = [event for event in events if event["event"] == "budget_exceeded"]
    last = events[-1]
    assert last["event"] == "run_finished"
    assert last["stopped_by"] == {key: passed[key] for key in ("limit", "most", "value", "basis")}
    assert last["stopped_by"]["limit"] == limit
    assert last["stopped_by"]["value"] > last["stopped_by"]["most"]
    assert last["energy"]["joules"] == tracker.result.energy.joules
    epochs = [event for event in events if event["event"] == "epoch"]
    assert len(epochs) == len(tracker.result.epochs)


# ---- the tracker ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "most"), [("max_kwh", TINY_KWH), ("max_gco2eq", 1e-9), ("max_seconds", 1e-6)]
)
def test_the_end_of_an_epoch_is_a_mark(tmp_path: Path, limit: str, most: float) -> None:
    tracker = make(5, log_dir=tmp_path, on_budget="raise", **{limit: most})
    with pytest.raises(carbontracker.BudgetExceeded) as stopped:
        train(tracker, 5)
    over = stopped.value
    assert (over.limit, over.most, over.basis) == (limit, most, "measured")
    assert str(over).startswith(f"{limit}={most:g} is exceeded: ")
    assert_complete(tmp_path, tracker, limit)
    assert tracker.epoch_counter == 1
    train(tracker, 2, seconds=0.0)  # a training that continues is not measured
    assert tracker.epoch_counter == 1


def test_a_step_is_a_mark(tmp_path: Path) -> None:
    tracker = make(5, log_dir=tmp_path, on_budget="raise", max_kwh=TINY_KWH)
    taken: list[int] = []

    def training() -> None:
        for _ in tracker.epochs():
            for step in tracker.steps(range(1000)):
                time.sleep(0.05)
                taken.append(step)

    with pytest.raises(BudgetExceeded):
        training()
    assert 0 < len(taken) < 1000
    assert_complete(tmp_path, tracker, "max_kwh")
    assert tracker.result is not None
    assert [epoch.finished for epoch in tracker.result.epochs] == [False]


def test_a_training_with_torch_stops(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 1)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    inputs, targets = torch.randn(64, 8), torch.randn(64, 1)
    tracker = make(1000, log_dir=tmp_path, on_budget="raise", max_kwh=TINY_KWH)
    before = model.weight.detach().clone()

    def training() -> None:
        for _ in tracker.epochs():
            for batch in tracker.steps(range(8)):
                rows = slice(8 * batch, 8 * batch + 8)
                loss = torch.nn.functional.mse_loss(model(inputs[rows]), targets[rows])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()

    with pytest.raises(BudgetExceeded):
        training()
    assert not torch.equal(before, model.weight)
    assert_complete(tmp_path, tracker, "max_kwh")


def test_a_warning_comes_once_and_stops_no_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = make(4, log_dir=tmp_path, max_kwh=TINY_KWH, max_seconds=1e6)
    train(tracker, 4)
    assert tracker.result is not None
    assert tracker.result.finished_epochs == 4
    assert capsys.readouterr().err.count("WARNING - max_kwh=1e-12 is exceeded: ") == 1
    events = read_record(tmp_path)
    assert [event["event"] for event in events].count("budget_exceeded") == 1
    assert events[-1]["stopped_by"] is None


def test_a_function_is_called_once_for_each_limit() -> None:
    called: list[BudgetExceeded] = []
    tracker = make(4, on_budget=called.append, max_kwh=TINY_KWH, max_seconds=1e-6)
    train(tracker, 4)
    assert sorted(over.limit for over in called) == ["max_kwh", "max_seconds"]
    assert all(over.value > over.most for over in called)
    assert tracker.result is not None
    assert tracker.result.finished_epochs == 4


def test_a_function_may_stop_the_training(tmp_path: Path) -> None:
    def stop(over: BudgetExceeded) -> None:
        raise over

    tracker = make(4, on_budget=stop, max_kwh=TINY_KWH, log_dir=tmp_path)
    with pytest.raises(BudgetExceeded):
        train(tracker, 4)
    assert_complete(tmp_path, tracker, "max_kwh")


def test_a_function_that_fails_does_not_end_the_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(over: BudgetExceeded) -> None:
        raise OSError("no such mail server")

    tracker = make(4, on_budget=fail, max_kwh=TINY_KWH, log_dir=tmp_path)
    train(tracker, 4)
    assert tracker.result is not None
    assert tracker.result.finished_epochs == 4
    assert read_record(tmp_path)[-1]["event"] == "run_finished"
    assert "on_budget failed, monitoring goes on: OSError: no such mail server" in caplog.text


def test_a_limit_exceeded_by_the_last_epoch_is_only_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = make(1, log_dir=tmp_path, on_budget="raise", max_kwh=TINY_KWH)
    train(tracker, 1)
    assert "max_kwh=1e-12 is exceeded" in capsys.readouterr().err
    assert read_record(tmp_path)[-1]["stopped_by"] is None


@pytest.mark.parametrize("predict_after", [0, 1, 50])
def test_a_prediction_over_the_budget(tmp_path: Path, predict_after: int) -> None:
    tracker = make(
        100_000,
        epochs_before_pred=predict_after,
        log_dir=tmp_path,
        on_budget="raise",
        budget_on="predicted",
        max_seconds=600.0,
    )
    with pytest.raises(BudgetExceeded, match=r"^max_seconds=600 is exceeded: .* predicted$"):
        train(tracker, 3)
    assert tracker.epoch_counter == 1
    assert_complete(tmp_path, tracker, "max_seconds")


def test_measured_figures_count_with_budget_on_predicted() -> None:
    tracker = make(
        2, epochs_before_pred=0, budget_on="predicted", max_seconds=1e-6, on_budget="raise"
    )
    tracker.epoch_start()
    with pytest.raises(BudgetExceeded, match="measured"):
        tracker.epoch_end()


def test_within_the_budget_nothing_happens(tmp_path: Path) -> None:
    called: list[BudgetExceeded] = []
    tracker = make(
        3, on_budget=called.append, max_kwh=1.0, max_gco2eq=1e3, max_seconds=3600, log_dir=tmp_path
    )
    train(tracker, 3)
    assert tracker.result is not None
    assert called == []
    assert "budget_exceeded" not in {event["event"] for event in read_record(tmp_path)}


def test_limits_that_cannot_be_checked_are_reported_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tracker = CarbonTracker(3, verbose=0, max_kwh=1.0, max_seconds=3600, on_budget="raise")
    train(tracker, 3)
    err = capsys.readouterr().err
    assert err.count("max_kwh cannot be watched, because no energy is measured") == 1
    assert "max_seconds cannot" not in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_kwh": 0}, "max_kwh must be a finite number of kWh above 0, not 0"),
        ({"max_gco2eq": float("nan")}, "max_gco2eq must be a finite number of gCO2eq above 0"),
        ({"max_kwh": True}, "max_kwh must be a finite number of kWh above 0, not True"),
        ({"max_seconds": "long"}, "max_seconds must be a finite number of s above 0, not 'long'"),
        ({"budget_on": "guessed"}, "budget_on must be measured or predicted, not 'guessed'"),
        ({"on_budget": "explode"}, "on_budget must be warn, raise or a function, not 'explode'"),
    ],
)
def test_an_impossible_budget_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(1, **arguments)


def test_the_exception_crosses_processes() -> None:
    over = pickle.loads(pickle.dumps(BudgetExceeded("max_kwh", 1.0, 2.0, "measured")))
    assert (over.limit, over.most, over.value, over.basis) == ("max_kwh", 1.0, 2.0, "measured")
    assert str(over) == "max_kwh=1 is exceeded: 2 measured"


def test_a_training_that_lets_it_out_ends_with_its_result(tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from carbontracker.tracker import CarbonTracker\n"
        f"tracker = CarbonTracker(9, log_dir=sys.argv[1], max_kwh=1e-12, on_budget='raise', "
        f"**{DEVICES!r})\n"
        "for _ in tracker.epochs(): time.sleep(0.02)\n"
    )
    done = python(program, str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "carbontracker.exceptions.BudgetExceeded: max_kwh=1e-12 is exceeded: "
    )
    assert "Actual consumption for 1 epoch(s):" in done.stdout
    assert read_record(tmp_path)[-1]["event"] == "run_finished"


# ---- the command ---------------------------------------------------------------------------

GPU = ["--sim-gpu", "NVIDIA A100", "--sim-gpu-watts", "400"]


def carbontrack(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "carbontracker", "run", *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


STUBBORN = """\
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"asked\\n"))
print(os.getpid(), flush=True)
while True:
    time.sleep(0.05)
"""


def test_a_command_reports_a_limit_that_cannot_be_checked() -> None:
    done = carbontrack("--max-kwh", "1", "--no-record", "--components", "gpu", "--", "sleep", "3")
    assert done.returncode == 0
    said = "max_kwh cannot be watched, because no energy is measured"
    assert done.stderr.count(said) == 1


def test_a_program_that_will_not_end_is_ended(tmp_path: Path) -> None:
    done = carbontrack(
        *("--max-kwh", "1e-9", "--grace", "0.3", "--json", str(tmp_path / "result.json"), *GPU),
        *("--log-dir", str(tmp_path / "records"), "--", sys.executable, "-c", STUBBORN),
    )
    assert done.returncode == 124
    pid, asked = done.stdout.splitlines()
    assert asked == "asked"
    assert not is_running(int(pid))
    first = done.stderr.splitlines()[0]
    assert first.startswith("carbontracker: ended the program: max_kwh=1e-09 is exceeded: ")
    result = json.loads((tmp_path / "result.json").read_text())
    last = read_record(tmp_path / "records")[-1]
    for said in (result, last):
        assert said["exit_code"] == 124
        assert said["stopped_by"]["limit"] == "max_kwh"
        assert said["stopped_by"]["value"] > said["stopped_by"]["most"] == 1e-9
    assert result["joules"] > 0
    (passed,) = [
        event for event in read_record(tmp_path / "records") if event["event"] == "budget_exceeded"
    ]
    assert last["stopped_by"] == {key: passed[key] for key in ("limit", "most", "value", "basis")}
    (note,) = budget_notes(tmp_path / "records")
    value = last["stopped_by"]["value"]
    assert note == (
        f"The budget max_kwh=1e-09 was exceeded and ended the run: {value:.6g} measured."
    )


def test_a_report_names_the_budgets_that_were_exceeded(tmp_path: Path) -> None:
    tracker = make(3, log_dir=tmp_path, max_kwh=1e-12, max_gco2eq=1e6)
    train(tracker, 3)
    (passed,) = [event for event in read_record(tmp_path) if event["event"] == "budget_exceeded"]
    assert budget_notes(tmp_path) == [
        f"The budget max_kwh=1e-12 was exceeded: {passed['value']:.6g} measured."
    ]


def budget_notes(directory: Path) -> list[str]:
    return [note for note in notes(read_run(directory)) if "budget" in note]


def test_a_program_that_ends_when_asked_has_its_time(tmp_path: Path) -> None:
    marker = tmp_path / "saved"
    program = (
        "import signal, sys, time\n"
        "def save(*_):\n"
        f"    time.sleep(0.2); open({str(marker)!r}, 'w').close(); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "while True: time.sleep(0.05)\n"
    )
    done = carbontrack("--max-seconds", "1", "--quiet", "--", sys.executable, "-c", program)
    assert done.returncode == 124
    assert marker.exists()
    assert done.stderr.startswith("carbontracker: ended the program: max_seconds=1 is exceeded: ")
    assert len(done.stderr.splitlines()) == 1


def test_children_of_a_shell_end_with_it() -> None:
    done = carbontrack(
        *("--max-seconds", "0.2", "--grace", "0.3", "-q", "--"),
        *("sh", "-c", "trap '' TERM; sleep 600 >/dev/null 2>&1 & echo $!; wait; sleep 600"),
    )
    assert done.returncode == 124
    assert not is_running(int(done.stdout))


def test_a_daemon_ends_with_what_has_started_it() -> None:
    daemon = "trap '' TERM; echo $$; exec >/dev/null 2>&1; while :; do sleep 0.1; done"
    done = carbontrack(
        *("--max-seconds", "1", "--grace", "0.3", "-q", "--"),
        *("sh", "-c", '(setsid sh -c "$0" &); (true &); exec sleep 600', daemon),
    )
    assert done.returncode == 124
    assert not is_running(int(done.stdout))


def test_a_program_within_its_budget_keeps_its_exit_code(tmp_path: Path) -> None:
    done = carbontrack(
        *("--max-kwh", "1", "--max-gco2eq", "1e6", "--max-seconds", "600", *GPU),
        *("--log-dir", str(tmp_path), "-q", "--", "sh", "-c", "exit 7"),
    )
    assert (done.returncode, done.stderr) == (7, "")
    assert read_record(tmp_path)[-1]["stopped_by"] is None


def is_running(pid: int) -> bool:
    """Return whether there is such a process that has not ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def test_a_signal_from_outside_is_still_passed_on() -> None:
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "carbontracker", "run", "-q", "--max-seconds", "600", "--"),
            *("sh", "-c", "echo ready; exec sleep 600"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=dict(os.environ),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == 128 + signal.SIGTERM
