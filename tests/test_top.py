"""``carbontracker top``: what is drawn right now, of this machine and of a run that is recorded."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from carbontracker.cli import main
from carbontracker.records import read_run
from carbontracker.report.live import view_of_run
from tests.support.observing import wait_for, waving_machine
from tests.support.programs import (
    CPU_WATTS,
    GPU_WATTS,
    PRELUDE,
    TIMEOUT_S,
    WATTS,
    hide_sensors,
    record_file,
)
from tests.support.records import Made

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TOP = [sys.executable, "-m", "carbontracker", "top"]


def top(
    *arguments: str, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TOP, *arguments],
        env={**os.environ, **(variables or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


# ---- this machine --------------------------------------------------------------------------


def test_it_samples_by_itself(tmp_path: Path) -> None:
    asked = ["--seconds", "3", "--interval", "1", "--json", "--location", "DK"]
    with waving_machine(tmp_path, "constant:250", "constant:100") as machine:
        done = top(*asked, variables=machine.environment)
    assert (done.returncode, done.stderr) == (0, "")
    views = [json.loads(line) for line in done.stdout.splitlines()]
    at_s = [view["seconds"] for view in views]
    # A busy machine draws later, and less often, but never sooner.
    assert 1 <= len(at_s) <= 3
    assert all(second >= first + 0.5 for first, second in pairwise([0.0, *at_s]))
    for view in views:
        seconds, devices, total = view["seconds"], view["devices"], view["total"]
        for name, watts in (("gpu:0", 250.0), ("cpu:0", 100.0)):
            assert devices[name]["watts"] == pytest.approx(watts, rel=0.03)
            assert devices[name]["joules"] == pytest.approx(watts * seconds, rel=0.05)
            assert devices[name]["quality"] == "measured"
            assert devices[name]["readings_per_second"] > 1
        assert total["watts"] == pytest.approx(350.0, rel=0.03)
        assert total["joules"] == pytest.approx(sum(one["joules"] for one in devices.values()))
        grams_per_joule = view["pue"] * view["gco2eq_per_kwh"] / 3.6e6
        assert total["gco2eq"] == pytest.approx(total["joules"] * grams_per_joule)
        hourly = view["forecast"]["gco2eq_per_hour"]
        assert hourly == pytest.approx(total["watts"] * 3600 * grams_per_joule)


def test_a_table_without_a_terminal_is_plain_text(tmp_path: Path) -> None:
    with waving_machine(tmp_path, "constant:250", "constant:100") as machine:
        done = top("--once", "--location", "DK", variables=machine.environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    heading, head, *rows = done.stdout.splitlines()
    assert re.fullmatch(r"carbontracker: this machine, 0:00:\d\d", heading)
    units = r"device +power W +energy J +error J +CO2eq [mµ]?g +readings/s +quality +name"
    assert re.fullmatch(units, head)
    # Every cell ends below its heading, and has the decimals of its column.
    ends = [match.end() for match in re.finditer(r"power W|energy J|error J|CO2eq \w+", head)]
    for row in rows[:3]:
        assert re.match(r"(gpu:0|cpu:0|total) +(\d+\.\d+ +){4}", row)
        assert all(row[end - 1].isdigit() and row[end] == " " for end in ends)
    decimals = [[len(one.partition(".")[2]) for one in row.split()[1:5]] for row in rows[:3]]
    assert decimals == [decimals[0]] * 3
    assert [row.split()[0] for row in rows[:3]] == ["gpu:0", "cpu:0", "total"]
    assert rows[0].endswith("NVIDIA A100-SXM4-80GB")
    assert re.fullmatch(r"114\.\d gCO2eq/kWh, PUE 1\.58 in CO2eq", rows[3])
    assert re.fullmatch(r"at this power [\d.]+ Wh and [\d.]+ g an hour", rows[4])


def test_a_message_states_that_nothing_can_be_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hide_sensors(monkeypatch, tmp_path)
    done = top("--once", "--interval", "0.1")
    assert done.returncode == 0
    assert "nothing can be read here: `carbontracker sensors` says why" in done.stdout
    view = json.loads(top("--once", "--json", "--interval", "0.1").stdout)
    assert view["total"]["watts"] is None
    assert view["total"]["joules"] is None
    assert view["devices"] == {}


@contextmanager
def watching(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    hide_sensors(monkeypatch, tmp_path)
    with subprocess.Popen(
        [*TOP, "--interval", "0.1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("carbontracker: this machine")
        yield process


def test_an_interrupt_is_how_one_leaves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with watching(monkeypatch, tmp_path) as process:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, errors) == (0, "")


def test_a_reader_that_goes_away_is_not_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with watching(monkeypatch, tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(timeout=TIMEOUT_S) == 0
        assert process.stderr.read() == ""


# ---- a run ---------------------------------------------------------------------------------

TRAINING = f"""\
{PRELUDE}
tracker = CarbonTracker(10, verbose=0, location="DK", update_interval=0.05, **DEVICES)
for epoch in range(10):
    tracker.epoch_start()
    time.sleep(0.3)
    if epoch == 2:
        print("there", flush=True)
        sys.stdin.readline()
        break
    tracker.epoch_end()
tracker.stop()
"""


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Yield a training in its third epoch of ten; a line lets it end."""
    hide_sensors(monkeypatch, tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", TRAINING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert wait_for(process.stdout.readline).startswith(("there", "Using"))
        yield process
        process.kill()


def once(*arguments: str) -> dict[str, Any]:
    done = top("--once", "--json", "--interval", "0.1", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    view: dict[str, Any] = json.loads(done.stdout)
    return view


def reach(training: subprocess.Popen[str]) -> str:
    """Wait until two epochs are recorded; return the id of the run."""
    directory = Path(os.environ["CARBONTRACKER_DIR"])

    def epochs() -> bool:
        return directory.is_dir() and "prediction" in _text(directory) and _epochs(directory) == 2

    wait_for(epochs)
    run_id: str = json.loads(_text(directory).splitlines()[0])["run_id"]
    return run_id


def _text(directory: Path) -> str:
    return record_file(directory).read_text() if list(directory.glob("*.jsonl")) else ""


def _epochs(directory: Path) -> int:
    return _text(directory).count('"event":"epoch"')


def test_it_attaches_to_a_run_that_goes_on(training: subprocess.Popen[str]) -> None:
    run_id = reach(training)
    view = once(run_id[:8])
    assert view["what"] == f"{run_id} training, running"
    assert view["forecast"]["epochs_done"] == 2
    assert view["forecast"]["epochs_planned"] == 10
    directory = Path(os.environ["CARBONTRACKER_DIR"])
    events = [json.loads(line) for line in _text(directory).splitlines()]
    done_s = [event["seconds"] for event in events if event["event"] == "epoch"]
    predicted_s = next(e["seconds"] for e in events if e["event"] == "prediction")
    assert view["forecast"]["seconds"] == pytest.approx(predicted_s)
    assert 0 < view["forecast"]["seconds_left"] < predicted_s
    assert view["devices"]["gpu:0"]["watts"] == pytest.approx(GPU_WATTS, rel=0.05)
    assert view["devices"]["cpu:0"]["watts"] == pytest.approx(CPU_WATTS, rel=0.05)
    assert view["total"]["joules"] >= 0.95 * sum(done_s) * WATTS
    assert view["notes"][0].startswith("joules and grams as recorded 0:00:0")
    assert training.stdin is not None
    with subprocess.Popen([*TOP, run_id, "--interval", "0.1"], stdout=subprocess.PIPE) as attached:
        assert attached.stdout is not None
        assert b", running, " in attached.stdout.readline()
        training.stdin.write("\n")
        training.stdin.flush()
        shown, _ = attached.communicate(timeout=TIMEOUT_S)
    assert attached.returncode == 0  # it leaves when the run ends
    assert b", finished, " in shown
    training.wait(timeout=TIMEOUT_S)
    ended = once(run_id[:8])
    assert ended["what"] == f"{run_id} training, finished"
    assert ended["total"]["watts"] is None
    assert ended["devices"]["gpu:0"]["readings_per_second"] > 0
    assert ended["total"]["joules"] > view["total"]["joules"]
    assert ended["notes"] == []


def test_power_of_this_machine_is_not_that_of_simulated_devices(
    training: subprocess.Popen[str],
) -> None:
    reach(training)
    run = read_run(os.environ["CARBONTRACKER_DIR"])
    view = view_of_run(run, 1.0, {"gpu:0": 9.0, "dram:0": 4.8})
    watts = {device.id: device.watts for device in view.status.devices}
    assert watts["gpu:0"] == pytest.approx(GPU_WATTS, rel=0.05)
    assert "dram:0" not in watts
    assert not any("beside the run" in note for note in view.notes)


def test_it_leaves_when_the_run_it_is_attached_to_is_killed(
    training: subprocess.Popen[str],
) -> None:
    run_id = reach(training)
    with subprocess.Popen([*TOP, run_id, "--interval", "0.1"], stdout=subprocess.PIPE) as attached:
        assert attached.stdout is not None
        assert b", running, " in attached.stdout.readline()
        training.kill()
        training.wait(timeout=TIMEOUT_S)
        shown, _ = attached.communicate(timeout=TIMEOUT_S)
    assert attached.returncode == 0
    assert b", incomplete, " in shown


@pytest.mark.parametrize("option", ["--seconds", "--interval"])
@pytest.mark.parametrize("value", ["nan", "-1", "inf", "soon"])
def test_an_impossible_interval_is_refused(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["top", f"{option}={value}"])
    assert "is not a number of seconds" in capsys.readouterr().err


def test_a_killed_run_is_reported_as_killed(training: subprocess.Popen[str]) -> None:
    run_id = reach(training)
    training.kill()
    training.wait(timeout=TIMEOUT_S)
    done = top(run_id, "--once")
    assert f"carbontracker: {run_id} training, incomplete, " in done.stdout
    assert "it ends without run_finished: the process was killed" in done.stdout
    assert "epoch 2 of 10" in done.stdout
    assert "predicted in all " in done.stdout


def test_a_run_that_has_been_silent_for_long_has_no_time_to_go(tmp_path: Path) -> None:
    """Its machine may be another one, which cannot be asked. Records grow every ten minutes."""
    made = Made(
        "5e1f" * 4, (1000.0, 1000.0), finished=False, planned=4, boot_id="of another machine"
    )
    run = read_run(made.write(tmp_path))
    late, soon = view_of_run(run, 40 * 86_400.0), view_of_run(run, 25.0)
    assert (soon.goes_on, soon.status.seconds, soon.forecast["seconds_left"]) == (True, 25.0, 20.0)
    assert (late.goes_on, late.status.seconds) == (False, 20.0)
    assert "seconds_left" not in late.forecast
    assert all(math.isnan(device.watts) for device in late.status.devices)


def test_an_unknown_run(tmp_path: Path) -> None:
    done = top("no-such-run")
    assert done.returncode == 2
    assert done.stderr.startswith("carbontracker: no record is called 'no-such-run'")


def test_an_unknown_location(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hide_sensors(monkeypatch, tmp_path)
    done = top("--once", "--location", "Atlantis")
    assert done.returncode == 2
    assert done.stderr.startswith("carbontracker: ")
