"""The record: whole lines, private files, and nothing about it that could hurt a training."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import carbontracker
from carbontracker.json_values import jsonable
from carbontracker.records.writer import Record, record_directory, record_wanted
from carbontracker.tracker import CarbonTracker
from tests.support.programs import (
    CPU_WATTS,
    DEVICES,
    GPU_WATTS,
    PRELUDE,
    TIMEOUT_S,
    hide_sensors,
    python,
    read_record,
    record_file,
)

if TYPE_CHECKING:
    from collections.abc import Callable

ENERGY = {"joules", "error_joules", "modelled_joules", "quality", "coverage"}
ENERGY |= {"coverage_devices", "unknown_joules_max"}
FOOTPRINT = {"kwh", "error_kwh", "gco2eq", "pue", "intensity", "location"}
FOOTPRINT |= {"mean_gco2eq_per_kwh", "shares", "slots"}


@pytest.fixture(autouse=True)
def only_simulated_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hide_sensors(monkeypatch, tmp_path)
    monkeypatch.setenv("CARBONTRACKER_LOCATION", "DK")


def train(epochs: int, **arguments: Any) -> CarbonTracker:
    tracker = CarbonTracker(epochs, verbose=0, **{**DEVICES, **arguments})
    for _ in range(epochs):
        tracker.epoch_start()
        tracker.epoch_end()
    return tracker


# ---- shape ---------------------------------------------------------------------------------


def test_the_events_of_a_training(tmp_path: Path) -> None:
    tracker = train(3, log_dir=tmp_path, epochs_before_pred=2, pue=1.2)
    events = read_record(tmp_path)
    names = ["run_started", "epoch", "epoch", "prediction", "epoch", "run_finished"]
    assert [event["event"] for event in events if event["event"] != "epoch_final"] == names
    assert len({event["run_id"] for event in events}) == 1
    assert re.fullmatch("[0-9a-f]{16}", events[0]["run_id"])
    times = [datetime.fromisoformat(event["time"]) for event in events]
    assert times == sorted(times)
    assert {time.utcoffset() for time in times} == {timedelta(0)}

    started, finished = events[0], events[-1]
    assert (started["schema"], started["pid"]) == (1, os.getpid())
    assert started["version"] == carbontracker.__version__
    assert (started["epochs"], started["components"]) == (3, ["gpu", "cpu"])
    assert started["parent_run_id"] is None
    assert started["pricing"]["intensity"]["zone"] == "DK"
    assert started["pricing"]["pue"] == 1.2
    assert started["pue_source"] == "given"
    assert {"name", "system", "python", "logical_cpus"} <= set(started["host"])
    sensors = {sensor["id"]: sensor for sensor in started["sensors"]}
    assert set(sensors) == {"gpu:0", "cpu:0"}
    assert sensors["gpu:0"]["name"] == "NVIDIA A100"
    assert sensors["gpu:0"]["quality"] == "modelled"
    assert all(
        {"source", "what", "reason", "remedy", "device"} == set(m) for m in started["missing"]
    )

    epochs = [event for event in events if event["event"] == "epoch"]
    assert [(epoch["index"], epoch["finished"]) for epoch in epochs] == [
        (1, True),
        (2, True),
        (3, True),
    ]
    for event in [*epochs, finished]:
        assert set(event["energy"]) >= ENERGY
        assert set(event["footprint"]) == FOOTPRINT
        assert set(event["energy"]["by_device"]) == {"gpu:0", "cpu:0"}
        assert set(event["energy"]["by_kind"]) == {"gpu", "cpu"}
    (predicted,) = [event for event in events if event["event"] == "prediction"]
    assert (predicted["after_epochs"], predicted["epochs"]) == (2, 3)

    result = tracker.result
    assert result is not None
    assert finished["epochs"] == 3
    assert finished["seconds"] == result.seconds
    assert finished["energy"]["joules"] == result.energy.joules
    assert finished["energy"]["by_device"]["cpu:0"]["joules"] == (
        result.energy.by_device["cpu:0"].joules
    )
    assert finished["footprint"]["kwh"] == result.footprint.kwh
    assert finished["footprint"]["location"]["how"] == "CARBONTRACKER_LOCATION"
    assert finished["between_epochs"]["joules"] == result.between_epochs.joules
    assert finished["tracker_cpu_seconds"] >= 0


def test_what_was_not_measured_is_null(tmp_path: Path) -> None:
    tracker = CarbonTracker(1, verbose=0, log_dir=tmp_path)
    tracker.epoch_start()
    tracker.epoch_end()
    text = record_file(tmp_path).read_text()
    assert "NaN" not in text
    finished = read_record(tmp_path)[-1]
    assert finished["energy"]["joules"] is None
    assert finished["energy"]["quality"] == "missing"
    assert finished["footprint"]["kwh"] is None
    assert finished["footprint"]["gco2eq"] is None


NOT_NUMBERS = st.sampled_from([math.nan, math.inf, -math.inf])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | NOT_NUMBERS | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.tuples(inner, inner)
    ),
    max_leaves=20,
)


@given(VALUES)
def test_anything_becomes_json_and_stays_what_it_is(value: Any) -> None:
    text = json.dumps(jsonable(value), allow_nan=False)
    assert "\n" not in text
    back = json.loads(text)
    if isinstance(value, float):
        assert back == (value if math.isfinite(value) else None)
    elif value is None or isinstance(value, (str, int)):
        assert back == value
    elif isinstance(value, (list, tuple)):
        assert len(back) == len(value)


def test_things_json_has_no_word_for_are_written_out() -> None:
    assert jsonable({1: Path("a"), "b": (math.nan, True)}) == {"1": "a", "b": [None, True]}


def test_windows_of_a_training_are_kept_by_name(tmp_path: Path) -> None:
    tracker = CarbonTracker(2, verbose=0, log_dir=tmp_path, **DEVICES)
    for _ in tracker.epochs():
        for step in range(500):
            with tracker.window("step") as window:
                pass
            if step == 0:
                with tracker.window("first"):
                    time.sleep(0.02)
    windows = [event for event in read_record(tmp_path) if event["event"] == "windows"]
    assert [event["epoch"] for event in windows] == [1, 2]
    epochs = [event for event in read_record(tmp_path) if event["event"] == "epoch"]
    for event, epoch in zip(windows, epochs, strict=True):
        steps, first = event["windows"]
        assert (steps["name"], steps["count"], steps["unknown"]) == ("step", 500, 0)
        assert (steps["every"], len(steps["joules_each"])) == (8, 63)
        assert len(steps["start_s"]) == len(steps["length_s"]) == 63
        assert steps["start_s"] == sorted(steps["start_s"])
        assert epoch["start_s"] <= steps["start_s"][0]
        assert first["joules_each"] == [first["joules"]]
        true = (GPU_WATTS + CPU_WATTS) * first["seconds"]
        assert first["joules"] == pytest.approx(true, abs=first["error_joules"] + 0.01 * true)
    assert window.final


def test_a_window_that_is_open_at_the_end_of_an_epoch_is_kept_with_the_next(
    tmp_path: Path,
) -> None:
    tracker = CarbonTracker(2, verbose=0, log_dir=tmp_path, **DEVICES)
    tracker.epoch_start()
    with tracker.window("across"):
        tracker.epoch_end()
        tracker.epoch_start()
    tracker.epoch_end()
    (event,) = [event for event in read_record(tmp_path) if event["event"] == "windows"]
    assert (event["epoch"], event["windows"][0]["count"]) == (2, 1)


def test_windows_of_a_tracker_that_has_ended_raise_nothing(tmp_path: Path) -> None:
    tracker = train(1, log_dir=tmp_path)
    with tracker.window("late") as window:
        pass
    assert math.isnan(window.energy.joules)
    assert math.isnan(window.footprint.kwh)


# ---- files ---------------------------------------------------------------------------------


def test_one_file_a_process_and_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    for _ in range(3):
        train(1, log_dir="mine")
    train(1, log_dir="other")
    monkeypatch.chdir(tmp_path / "elsewhere")
    train(1, log_dir="mine")  # the same words for another directory

    events = read_record(tmp_path / "mine")
    assert len({event["run_id"] for event in events}) == 3
    assert [event["event"] for event in events].count("run_finished") == 3
    there = record_file(tmp_path / "elsewhere" / "mine")
    assert len({path.name for path in (record_file(tmp_path / "mine"), there)}) == 2
    assert re.fullmatch(
        rf"\d{{8}}T\d{{6}}Z_{os.getpid()}_[0-9a-f]{{6}}\.jsonl",
        record_file(tmp_path / "other").name,
    )


def test_runs_at_the_same_time_share_the_file(tmp_path: Path) -> None:
    outer = CarbonTracker(1, verbose=0, log_dir=tmp_path, **DEVICES)
    outer.epoch_start()
    train(2, log_dir=tmp_path)
    outer.epoch_end()
    names = [(event["run_id"], event["event"]) for event in read_record(tmp_path)]
    first, second = names[0][0], names[1][0]
    assert [name for run, name in names if run == first].count("epoch") == 1
    assert [name for run, name in names if run == second].count("epoch") == 2
    assert names[-1] == (first, "run_finished")


def test_files_and_directories_are_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARBONTRACKER_DIR", str(tmp_path / "data" / "records"))
    before = os.umask(0)
    try:
        train(1)
    finally:
        os.umask(before)
    path = record_file(tmp_path / "data" / "records")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(("text", "kept"), [("0", False), ("false", False), ("No ", False)])
def test_no_record_is_kept_if_it_is_switched_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, kept: bool
) -> None:
    monkeypatch.setenv("CARBONTRACKER_RECORD", text)
    assert record_wanted(None) is kept
    assert record_wanted(True)
    train(1, log_dir=tmp_path / "by-variable")
    assert list((tmp_path / "by-variable").glob("*.jsonl")) == []
    train(1, log_dir=tmp_path / "by-argument", record=True)
    assert read_record(tmp_path / "by-argument")
    monkeypatch.delenv("CARBONTRACKER_RECORD")
    assert record_wanted(None)
    assert not record_wanted(False)
    train(1, record=False)
    assert not Path(os.environ["CARBONTRACKER_DIR"]).exists()


def test_where_records_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("CARBONTRACKER_DIR", str(tmp_path / "variable"))
    assert record_directory(tmp_path / "argument") == tmp_path / "argument"
    assert record_directory(str(tmp_path / "argument")) == tmp_path / "argument"
    assert record_directory(None) == tmp_path / "variable"
    for unset in (" ", None):
        if unset is None:
            monkeypatch.delenv("CARBONTRACKER_DIR")
        else:
            monkeypatch.setenv("CARBONTRACKER_DIR", unset)
        assert record_directory(None) == tmp_path / "xdg" / "carbontracker"
    train(1)
    assert read_record(tmp_path / "xdg" / "carbontracker")


# ---- misfortunes ---------------------------------------------------------------------------


def test_a_killed_process_leaves_every_finished_epoch(tmp_path: Path) -> None:
    program = (
        PRELUDE
        + """
tracker = CarbonTracker(100, log_dir=sys.argv[1], **DEVICES)
for _ in range(3):
    tracker.epoch_start(); time.sleep(0.02); tracker.epoch_end()
tracker.epoch_start()
print("in the fourth epoch", flush=True)
time.sleep(600)
"""
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "in the fourth epoch\n" in iter(process.stdout.readline, "")
        process.kill()
        assert process.wait(TIMEOUT_S) == -signal.SIGKILL
    events = read_record(tmp_path)
    epochs = [event for event in events if event["event"] == "epoch"]
    assert [epoch["index"] for epoch in epochs] == [1, 2, 3]
    assert [event for event in events if event["event"] != "epoch_final"][-1] is epochs[-1]
    assert all(epoch["energy"]["joules"] > 0 for epoch in epochs)


@pytest.mark.parametrize("limit", [2_000, 8_192, 20_000])
def test_a_full_disk_ends_the_record_and_nothing_else(tmp_path: Path, limit: int) -> None:
    program = (
        PRELUDE
        + f"""
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
for _ in range(2):
    tracker = CarbonTracker(20, verbose=0, **DEVICES)
    for _ in tracker.epochs():
        pass
print(tracker.result.finished_epochs)
"""
    )
    done = python(program, CARBONTRACKER_DIR=str(tmp_path / "records"), CARBONTRACKER_SHARE="0")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "20"
    assert re.findall(r"carbontracker: the record \S+ ends here: .*", done.stderr) == (
        done.stderr.splitlines()
    )
    assert 1 <= len(done.stderr.splitlines()) <= 2  # once a run
    path = record_file(tmp_path / "records")
    if path.stat().st_size > 0:
        events = read_record(tmp_path / "records")  # every line is whole
        assert events[0]["event"] == "run_started"
    assert path.stat().st_size <= limit


def test_a_disk_that_is_full_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("carbontracker.records.writer._file_in", lambda _: Path("/dev/full"))
    assert train(2, log_dir=tmp_path).result is not None
    (warning,) = caplog.messages
    assert warning.startswith("carbontracker: the record /dev/full ends here: ")


def test_a_directory_that_cannot_be_written_is_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CARBONTRACKER_DIR", str(tmp_path / "file"))
    assert train(2).result is not None
    (warning,) = caplog.messages
    assert warning.startswith("carbontracker: no record is kept: ")


def test_a_closed_record_takes_no_more(tmp_path: Path) -> None:
    record = Record(tmp_path)
    record.write("one", value=math.nan)
    record.close()
    record.write("two")
    record.close()
    (event,) = read_record(tmp_path)
    assert (event["event"], event["value"]) == ("one", None)


def test_a_forked_child_writes_nothing(tmp_path: Path) -> None:
    program = (
        PRELUDE
        + """
tracker = CarbonTracker(3, log_dir=sys.argv[1], **DEVICES)
tracker.epoch_start(); tracker.epoch_end()
pid = os.fork()
if pid == 0:
    tracker.epoch_start(); tracker.epoch_end(); tracker.stop()
    tracker._training.warn("from the child")  # to the record, the console and the log files
    sys.exit(0)
_, status = os.waitpid(pid, 0)
tracker.epoch_start(); tracker.epoch_end(); tracker.stop()
sys.exit(os.waitstatus_to_exitcode(status))
"""
    )
    assert python(program, str(tmp_path)).returncode == 0
    events = read_record(tmp_path)
    names = ["run_started", "epoch", "prediction", "epoch", "run_finished"]
    assert [event["event"] for event in events if event["event"] != "epoch_final"] == names
    for path in tmp_path.glob("*.log"):
        assert "from the child" not in path.read_text()


def test_a_run_within_a_run_names_its_parent(tmp_path: Path) -> None:
    program = (
        PRELUDE
        + """
tracker = CarbonTracker(1, log_dir=sys.argv[1], **DEVICES)
tracker.epoch_start(); tracker.epoch_end()
"""
    )
    outside = [sys.executable, "-m", "carbontracker", "-q", "--log-dir", str(tmp_path / "outer")]
    command = [sys.executable, "-c", program, str(tmp_path / "inner")]
    subprocess.run(outside + command, check=True, capture_output=True, timeout=TIMEOUT_S)
    outer = read_record(tmp_path / "outer")
    inner = read_record(tmp_path / "inner")
    assert inner[0]["parent_run_id"] == outer[0]["run_id"]
    assert inner[0]["run_id"] != outer[0]["run_id"]
    assert outer[0]["command"] == command
    assert [event["event"] for event in outer] == ["run_started", "run_finished"]


# ---- secrets -------------------------------------------------------------------------------

KEY = "zx-81-very-secret"


def _good_key(directory: Path) -> None:
    tracker = CarbonTracker(
        1, log_dir=directory, location="WORLD", api_keys={"electricitymaps": KEY}, **DEVICES
    )
    tracker.set_api_keys({"electricitymaps": KEY})
    tracker.epoch_start()
    tracker.epoch_end()


def _wrong_name(directory: Path) -> None:
    with pytest.raises(SystemExit):
        CarbonTracker(1, log_dir=directory, api_keys={"nosuchservice": KEY}, **DEVICES)


def _wrong_name_later(directory: Path) -> None:
    tracker = CarbonTracker(1, log_dir=directory, ignore_errors=True, **DEVICES)
    tracker.set_api_keys({"nosuchservice": KEY})


@pytest.mark.parametrize("use", [_good_key, _wrong_name, _wrong_name_later])
def test_keys_are_written_nowhere(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    use: Callable[[Path], None],
) -> None:
    monkeypatch.setenv("CARBONTRACKER_OFFLINE", "1")
    logs = tmp_path / "logs"
    use(logs)
    out, err = capsys.readouterr()
    assert KEY not in out + err + caplog.text
    files = list(logs.iterdir())
    assert files
    for path in files:
        assert KEY not in path.read_text()


def test_simulated_power_is_what_the_record_says(tmp_path: Path) -> None:
    train(1, log_dir=tmp_path)
    details = {s["id"]: s["detail"] for s in read_record(tmp_path)[0]["sensors"]}
    assert details == {
        "gpu:0": f"simulated: constant:{GPU_WATTS}",
        "cpu:0": f"simulated: constant:{CPU_WATTS}",
    }
