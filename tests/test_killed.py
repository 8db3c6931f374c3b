"""Records of runs that were killed, or stopped by a full disk: what is left is whole."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from carbontracker.records.checking import ERROR, check_file
from carbontracker.records.reading import read_run, read_runs
from tests.support.killing import EPOCHS
from tests.support.programs import PRELUDE, TIMEOUT_S, WATTS, hide_sensors, python

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
from carbontracker.pricing import make_pricing
from carbontracker.records.record import Record, footprint_dict, run_started_data
from carbontracker.records.series import written_now_and_then
from carbontracker.session import Config, Simulated, acquire
config = Config.from_environment(simulated=(Simulated("gpu", "A", "constant:100"),), spacing_s=0.01)
session = acquire(config)
record = Record(Path(sys.argv[1]))
record.write("run_started", **run_started_data(session), command=["train"],
             pricing=footprint_dict(make_pricing().of_nothing()))
record.follow(session, session.mark(), 0.01)
with written_now_and_then(record, session, first_s=0.05):
    while sum(1 for _ in record.path.open()) < 3:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    )
    assert python(program, str(tmp_path)).returncode == -9
    run = read_run(tmp_path)
    assert (run.state, run.origin.command) == ("incomplete", ("train",))
    seconds = run.outcome.seconds
    assert seconds > 0.14  # written after 0.05 and again after 0.1 s
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
