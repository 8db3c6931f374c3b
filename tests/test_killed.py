"""Records of runs that were killed, or stopped by a full disk: what is left is whole."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from carbontracker.carbon.factors import make_carbon_factors
from carbontracker.cli import main
from carbontracker.energy.config import Config, SimulatedDevice
from carbontracker.energy.session import acquire, release
from carbontracker.records.aggregate import add_runs
from carbontracker.records.reader import events_of, read_run, read_runs
from carbontracker.records.recalculation import recalculate
from carbontracker.records.series import FIRST_WRITE_S, next_write_s
from carbontracker.records.validate import ERROR, check_file
from carbontracker.records.writer import Record, run_metadata
from carbontracker.training.run import Run
from tests.support.killing import EPOCHS
from tests.support.programs import (
    PRELUDE,
    TIMEOUT_S,
    WATTS,
    assert_power,
    hide_sensors,
    python,
    record_file,
)

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def only_simulated_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hide_sensors(monkeypatch, tmp_path)
    monkeypatch.setenv("CARBONTRACKER_LOCATION", "DK")


def kill(directory: Path, count: int, seed: int) -> list[int]:
    """Kill so many trainings; return how many epochs of each had returned."""
    subprocess.run(
        [sys.executable, "-m", "tests.support.killing", str(directory), str(count), str(seed)],
        capture_output=True,
        timeout=5 * TIMEOUT_S,
        check=True,
        cwd=ROOT,
    )
    counts: list[int] = json.loads((directory / "returned.json").read_text())
    return counts


def assert_nothing_lost(directory: Path, returned: int) -> str:
    """Hold what a killed training left against how far it came; return the run's state."""
    for file in directory.glob("*.jsonl"):
        assert [str(one) for one in check_file(file) if one.level == ERROR] == []
    runs = list(read_runs(directory)) if directory.exists() else []
    if not runs:
        assert returned == 0  # killed before it could begin
        return "nothing"
    (run,) = runs
    # An epoch may be written already and not have returned yet.
    assert returned <= len(run.epochs) <= returned + 1
    assert [epoch.index for epoch in run.epochs] == list(range(1, len(run.epochs) + 1))
    if run.complete:
        assert len(run.epochs) == EPOCHS
        assert run.why_incomplete == ""
        return "finished"
    assert run.state == "incomplete"
    assert f"it has {len(run.epochs)} of {EPOCHS} epochs" in run.why_incomplete
    if run.epochs:
        joules = math.fsum(epoch.energy.joules for epoch in run.epochs)
        assert run.energy.joules == pytest.approx(joules, rel=1e-12, nan_ok=True)
        assert run.footprint.kwh == pytest.approx(joules * 1.58 / 3.6e6, rel=1e-9)
    if len(run.epochs) > 1:  # the series of the last one may not have been written any more
        assert run.series.seconds >= run.epochs[-2].end_s
    return "incomplete"


def assert_all_load(tmp_path: Path, count: int, seed: int) -> None:
    returned = kill(tmp_path / "killed", count, seed)
    states = [
        assert_nothing_lost(tmp_path / "killed" / str(number), epochs)
        for number, epochs in enumerate(returned)
    ]
    assert states.count("incomplete") > count // 3  # the moments were well chosen


def test_killed_at_forty_random_moments(tmp_path: Path) -> None:
    assert_all_load(tmp_path, 40, seed=1)


@pytest.mark.slow
def test_killed_at_two_hundred_random_moments(tmp_path: Path) -> None:
    assert_all_load(tmp_path, 200, seed=2)


def test_a_killed_command_has_its_series(tmp_path: Path) -> None:
    program = (
        PRELUDE
        + """
from pathlib import Path
from carbontracker.carbon.factors import make_carbon_factors
from carbontracker.records.writer import Record, run_metadata
from carbontracker.records.series import PeriodicWriter
from carbontracker.energy.config import Config, SimulatedDevice
from carbontracker.energy.session import acquire
gpu = SimulatedDevice("gpu", "A", "constant:100")
config = Config.from_environment(simulated=(gpu,), spacing_s=0.01)
session = acquire(config)
record = Record(Path(sys.argv[1]))
record.write("run_started", **run_metadata(session).to_dict(), command=["train"],
             pricing=make_carbon_factors().zero_footprint().to_dict())
began = session.mark()
record.follow(session, began, 0.01)
PeriodicWriter(lambda: record.write_series(session.mark()), lambda: began.t_ns, 0.05)
while sum(1 for _ in record.path.open()) < 3:
    time.sleep(0.01)
os.kill(os.getpid(), signal.SIGKILL)
"""
    )
    assert python(program, str(tmp_path)).returncode == -9
    run = read_run(tmp_path)
    assert (run.state, run.metadata.command) == ("incomplete", ("train",))
    seconds = run.result.seconds
    assert seconds >= 0.1  # written after 0.05 and again after 0.1 s
    assert run.energy.joules == pytest.approx(100 * seconds, rel=0.05)
    assert run.energy.quality == "modelled"
    assert run.footprint.kwh == pytest.approx(run.energy.joules * 1.58 / 3.6e6)
    assert run.footprint.gco2eq == pytest.approx(run.footprint.kwh * 114.41)
    assert f"it has the first {seconds:.1f} s" in run.why_incomplete


FULL = """
import logging
tracker = CarbonTracker(200, verbose=0, log_dir=sys.argv[1], **DEVICES)
for _ in tracker.epochs():
    time.sleep(0.003)
print("RESULT", tracker.result.finished_epochs)
"""


def test_a_full_file_system_ends_the_record_and_nothing_else(tmp_path: Path) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("no unshare: the same is tested with a limit of file size in test_record.py")
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    script = (
        f"mount -t tmpfs -o size=64k none {disk} || exit 77; "
        f'"$0" -c "$1" {disk}; code=$?; mkdir {kept}; cp {disk}/*.jsonl {kept}; exit $code'
    )
    done = subprocess.run(
        [
            "unshare",
            "--mount",
            "--map-root-user",
            "sh",
            "-c",
            script,
            sys.executable,
            PRELUDE + FULL,
        ],
        env=os.environ | {"CARBONTRACKER_LOCATION": "DK"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"no mounting here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert "RESULT 200" in done.stdout
    ends = [line for line in done.stderr.splitlines() if "the record" in line]
    assert len(ends) == 1
    assert "ends here: " in ends[0]
    (file,) = kept.iterdir()
    assert [str(one) for one in check_file(file) if one.level == ERROR] == []
    run = read_run(kept)
    assert 0 < len(run.epochs) < 200
    assert run.energy.joules == pytest.approx(
        WATTS * math.fsum(epoch.seconds for epoch in run.epochs), rel=0.1
    )
    assert "could not write" in run.why_incomplete


def test_an_epoch_that_ends_while_it_is_written_is_whole(tmp_path: Path) -> None:
    config = Config.from_environment(simulated=(SimulatedDevice("gpu", "A", "constant:100"),))
    session = acquire(config)
    run = Run(session, make_carbon_factors())
    record = Record(tmp_path)
    record.write("run_started", **run_metadata(session).to_dict(), epochs=200)
    record.follow(session, run.began_mark, 1.0)
    record.write_open_epochs(run.epoch_so_far, run.open_since_ns, first_s=1e-4)
    for _ in range(200):
        run.start_epoch()
        time.sleep(0.001)
        epoch = run.end_epoch()
        start, end = run.ends_of(epoch)
        record.write("epoch", **epoch.to_dict())
        record.write_series(end, start)
    record.close()
    release(session)
    (file,) = tmp_path.glob("*.jsonl")
    assert [str(one) for one in check_file(file) if one.level == ERROR] == []
    assert b'"event":"epoch_so_far"' in file.read_bytes()
    found = read_run(file)
    assert [epoch.index for epoch in found.epochs] == list(range(1, 201))
    assert all(epoch.finished for epoch in found.epochs)
    for one in found.epochs:
        assert {one.start_s, one.end_s} <= set(found.series.t_s)


def test_a_series_up_to_an_earlier_moment_is_written_again(tmp_path: Path) -> None:
    session = acquire(
        Config.from_environment(
            simulated=(SimulatedDevice("gpu", "A", "constant:100"),), spacing_s=1e-3
        )
    )
    began = session.mark()
    record = Record(tmp_path)
    record.write("run_started", **run_metadata(session).to_dict(), epochs=1)
    record.follow(session, began, 1e-3)
    marks = []
    for _ in range(4):
        time.sleep(0.01)
        marks.append(session.mark())
    first, end_of_epoch, written_to, last = marks
    for mark in (first, written_to, end_of_epoch, last):
        record.write_series(mark)
    record.close()
    release(session)
    series = read_run(tmp_path).series
    assert list(series.t_s) == sorted(set(series.t_s))
    for mark in (first, end_of_epoch, last):
        assert (mark.t_ns - began.t_ns) / 1e9 in series.t_s


def test_the_moments_of_writing() -> None:
    moments = [FIRST_WRITE_S]
    while moments[-1] < 2000:
        moments.append(next_write_s(moments[-1]))
    assert moments == [5, 10, 20, 40, 80, 160, 320, 640, 1240, 1840, 2440]


OPEN = """
tracker = CarbonTracker(3, verbose=0, log_dir=sys.argv[1], **DEVICES)
for _ in range(int(sys.argv[2])):
    tracker.epoch_start()
    time.sleep(0.1)
    tracker.epoch_end()
tracker.epoch_start()
print("open", flush=True)
while True:
    sum(range(1000))
"""


def _has_its_series(file: Path) -> bool:
    """Return whether the open epoch is written, and the series that follows it."""
    whole = file.read_bytes().rpartition(b"\n")[0].splitlines()
    kinds = [json.loads(line)["event"] for line in whole]
    return "epoch_so_far" in kinds and "series" in kinds[kinds.index("epoch_so_far") :]


def killed_in_an_epoch(directory: Path, finished: int) -> None:
    """Kill a training in an epoch that no mark has touched, once something is written of it."""
    command = [sys.executable, "-c", PRELUDE + OPEN, str(directory), str(finished)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert "open\n" in iter(process.stdout.readline, "")
            (file,) = directory.glob("*.jsonl")
            deadline = time.monotonic() + TIMEOUT_S
            while not _has_its_series(file) and time.monotonic() < deadline:
                time.sleep(0.1)
        finally:
            process.kill()


@pytest.mark.parametrize("finished", [0, 2])
def test_a_killed_training_has_its_open_epoch(
    tmp_path: Path, finished: int, capsys: pytest.CaptureFixture[str]
) -> None:
    killed_in_an_epoch(tmp_path, finished)
    assert [str(one) for one in check_file(record_file(tmp_path)) if one.level == ERROR] == []
    run = read_run(tmp_path)
    assert [epoch.finished for epoch in run.epochs] == [True] * finished + [False]
    last = run.epochs[-1]
    assert (last.index, last.final) == (finished + 1, False)
    assert last.seconds >= 5
    assert f"it has {finished} of 3 epochs and the first {last.seconds:.1f} s" in run.why_incomplete
    assert_power(last.energy.joules, last.energy.error_joules, last.seconds)
    joules = math.fsum(epoch.energy.joules for epoch in run.epochs)
    assert run.energy.joules == pytest.approx(joules)
    assert run.footprint.kwh == pytest.approx(joules * 1.58 / 3.6e6)
    series = math.fsum(
        run.series.between(name, last.start_s, last.end_s) for name in run.series.joules
    )
    assert series == pytest.approx(last.energy.joules, rel=1e-3)
    # What the views say.
    for total in (
        add_runs(read_runs(tmp_path, series=False, epochs=False)).joules,
        next(read_runs(tmp_path, series=False, epochs=False)).energy.joules,
        recalculate(events_of(run), intensity=100.0).kwh * 3.6e6 / 1.58,
    ):
        assert total == pytest.approx(joules)
    assert main(["report", str(tmp_path), "--csv", "-"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 1 + len(run.epochs)
    assert f"{finished + 1},False,False" in rows[-1]
    assert main(["report", str(tmp_path), "--markdown", "-"]) == 0
    assert f"the first {last.seconds:.1f} s of the next" in capsys.readouterr().out
    assert main(["report", str(tmp_path), "--html", "-"]) == 0
    assert "unfinished" in capsys.readouterr().out
    assert main(["check", str(tmp_path)]) == 0
    assert f"it has {finished} epoch(s) and an unfinished one" in capsys.readouterr().out


def test_an_epoch_and_its_prediction_are_on_disk_when_epoch_end_returns(tmp_path: Path) -> None:
    program = (
        PRELUDE
        + """
tracker = CarbonTracker(5, verbose=0, log_dir=sys.argv[1], **DEVICES)
tracker.epoch_start()
tracker.epoch_end()
os.kill(os.getpid(), signal.SIGKILL)
"""
    )
    assert python(program, str(tmp_path)).returncode == -9
    run = read_run(tmp_path)
    assert [epoch.finished for epoch in run.epochs] == [True]
    assert len(run.forecasts) == 1
