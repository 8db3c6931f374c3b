"""``--report`` of an old log file, and one total of a directory whichever way it is asked for."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from carbontracker.cli import main
from carbontracker.legacy.log_record import run_of_log
from carbontracker.report import derived, rendered
from tests.support.programs import DEVICES, TIMEOUT_S, hide_sensors, python
from tests.support.records import Made

LOGS = Path(__file__).parent / "data" / "oldlogs"
STOPPED = LOGS / "v2.3.1-stopped_carbontracker.log"
AVERAGED = LOGS / "v2.0.0-four-gpus-averaged_carbontracker.log"


# ---- a report of an old log ----------------------------------------------------------------


def test_a_log_becomes_a_run_with_its_figures() -> None:
    run = run_of_log(STOPPED)
    # 2.50 s at 240 + 120 W, 2.51 s at 241.5 + 120 W, ...: as the log has them.
    assert [epoch.seconds for epoch in run.epochs][:2] == [2.50, 2.51]
    assert run.epochs[0].energy.joules == pytest.approx(2.50 * 360.0)
    assert run.epochs[1].energy.by_device["gpu"].joules == pytest.approx(2.51 * 241.5)
    assert run.footprint.kwh == pytest.approx(0.001185072779)
    assert run.footprint.gco2eq == pytest.approx(0.570020006556)
    assert run.footprint.pue == 1.58
    assert [one.name for one in run.devices] == ["NVIDIA A100", "Intel Xeon Gold 6226R"]
    assert derived.total_power(run).watts[0] == pytest.approx(360.0)
    assert f"{run.started:%Y-%m-%d %H:%M:%S}" == "2023-05-04 10:11:12"
    assert run.state == "finished"


def test_either_file_of_a_pair_will_do() -> None:
    output = STOPPED.with_name(STOPPED.name.replace(".log", "_output.log"))
    assert run_of_log(output).footprint.kwh == run_of_log(STOPPED).footprint.kwh


def test_averaged_devices_are_added_and_the_report_says_so() -> None:
    run = run_of_log(AVERAGED)
    text = AVERAGED.read_text()
    first = float(re.search(r"power usage \(W\) for gpu: ([\d.]+)", text)[1])  # type: ignore[index]
    assert run.epochs[0].energy.by_device["gpu"].joules == pytest.approx(
        4 * first * run.epochs[0].seconds
    )
    assert "averaged the power of 4 devices of gpu" in rendered("html", run).decode()


EMPTY = "v2.4.7-nothing-run_carbontracker.log"


@pytest.mark.parametrize(
    "path",
    sorted(one for one in LOGS.glob("*_carbontracker.log") if one.name != EMPTY),
    ids=lambda one: one.stem,
)
def test_every_old_log_makes_a_page(path: Path) -> None:
    run = run_of_log(path)
    page = rendered("html", run).decode().replace(run.id, "")
    assert not re.search(r"\b(nan|inf|None)\b", page.partition("<body>")[2].partition("<script")[0])
    assert "from a log file of version" in page


def test_the_options_of_2_4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("reportlab")
    monkeypatch.chdir(tmp_path)
    assert main(["--report", str(STOPPED), "--output", "report.pdf"]) == 0
    assert capsys.readouterr().out == "Report generated: report.pdf\n"
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    assert main([f"--report={STOPPED}"]) == 0
    assert (tmp_path / "carbon_report.pdf").is_file()
    assert main(["--report", str(STOPPED), "--output", "report.html"]) == 0
    assert (tmp_path / "report.html").read_bytes().startswith(b"<!DOCTYPE html>")


def test_what_is_no_log_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--report", str(tmp_path / "none.log")]) == 2
    assert "no such file" in capsys.readouterr().err
    with pytest.raises(ValueError, match="with figures"):
        run_of_log(LOGS / EMPTY)
    other = tmp_path / "other.log"
    other.write_text("2023-05-04 10:11:12 - something else\n")
    assert main(["--report", str(other), "--output", str(tmp_path / "out.pdf")]) == 2
    assert "is not a log file of carbontracker" in capsys.readouterr().err
    assert not (tmp_path / "out.pdf").exists()


# ---- one total -----------------------------------------------------------------------------

SENTENCE = re.compile(
    r"is estimated to use ([\d.]+) kWh of electricity contributing to ([\d.]+) kg"
)


def total_of(*arguments: str) -> tuple[float, float]:
    """Return kWh and kg of the sentence that a command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "carbontracker", *arguments],
        capture_output=True, text=True, timeout=TIMEOUT_S, check=True,
    )  # fmt: skip
    (found,) = SENTENCE.findall(done.stdout)
    return float(found[0]), float(found[1])


def both(directory: Path) -> tuple[float, float]:
    """Return the total of a directory, which is the same both ways."""
    parsed = total_of("--parse", str(directory))
    assert total_of("aggregate", str(directory)) == parsed
    return parsed


def pair(name: str, to: Path) -> None:
    for path in LOGS.glob(f"{name}_carbontracker*.log"):
        shutil.copy(path, to)


def test_old_logs_have_one_total(tmp_path: Path) -> None:
    pair("v2.3.1-stopped", tmp_path)
    pair("v2.4.7-plain", tmp_path)
    kwh, kg = both(tmp_path)
    assert kwh >= 0.001185072779
    assert kg > 0


def test_records_alone_have_one_total(tmp_path: Path) -> None:
    Made("aa11", (3.6e6,)).write(tmp_path)
    assert both(tmp_path) == pytest.approx((1.5, 0.15))


def test_a_record_without_energy_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Made("aa11", (math.nan,)).write(tmp_path)
    assert main(["--parse", str(tmp_path)]) == 1
    assert "contains 1 training(s) without energy" in capsys.readouterr().err


def test_records_and_old_logs_are_added(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Made("aa11", (3.6e6,)).write(tmp_path)
    pair("v2.3.1-stopped", tmp_path)
    kwh, kg = both(tmp_path)
    assert kwh == pytest.approx(1.5 + 0.001185072779)
    assert kg == pytest.approx(0.15 + 0.000570020006556)
    assert main(["aggregate", str(tmp_path)]) == 0
    assert "1 training(s) of log files without a record: 1.185 Wh" in capsys.readouterr().out
    assert main(["aggregate", "--json", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kwh"] == pytest.approx(1.5 + 0.001185072779)
    assert (found["runs"], found["log_trainings"]) == (1, 1)


def test_a_run_with_logs_and_record_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the command line and a tracker write: three log files and a record of each run."""
    hide_sensors(monkeypatch, tmp_path)
    logs = tmp_path / "logs"
    program = f"""
import time
from carbontracker.tracker import CarbonTracker
for _ in range(2):
    tracker = CarbonTracker(2, log_dir={str(logs)!r}, location="DK", verbose=0, **{DEVICES!r})
    for _ in tracker.epochs():
        time.sleep(0.05)
"""
    assert python(program).returncode == 0
    done = subprocess.run(
        [sys.executable, "-m", "carbontracker", "--log_dir", str(logs), "--location", "DK",
         "--sim-gpu", "X", "--sim-gpu-watts", "100", "sleep", "0.1"],
        timeout=TIMEOUT_S, check=True, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0
    assert len(list(logs.glob("*_carbontracker.log"))) == 3
    records = [
        json.loads(line) for path in logs.glob("*.jsonl") for line in path.read_text().splitlines()
    ]
    ends = [one["footprint"] for one in records if one["event"] == "run_finished"]
    assert len(ends) == 3
    kwh, kg = both(logs)
    assert kwh == pytest.approx(sum(one["kwh"] for one in ends))
    assert kg == pytest.approx(sum(one["gco2eq"] for one in ends) / 1000)
    for path in logs.glob("*.jsonl"):  # without the records, the logs have the same total
        path.unlink()
    assert both(logs) == pytest.approx((kwh, kg), rel=1e-6)


def test_a_directory_named_twice_and_a_copy_of_a_record_count_once(tmp_path: Path) -> None:
    """The copy has no log of its own, so the log beside it still counts."""
    record = Made("aa11", (3.6e6,)).write(tmp_path)
    shutil.copy(record, tmp_path / "copy.jsonl")
    for path in LOGS.glob("v2.3.1-stopped_carbontracker*.log"):
        text = path.read_text().replace(
            "carbontracker version 2.3.1", "carbontracker version 3.0.0"
        )
        for year in (2020, 2021):  # the record has the newer one
            name = path.name.replace("v2.3.1-stopped", f"4711.1_{year}-01-01T000000Z")
            (tmp_path / name).write_text(text.replace("2023-05-04", f"{year}-01-01"))
    pair("v2.4.7-plain", tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    record.rename(tmp_path / "aside")
    (tmp_path / "copy.jsonl").rename(tmp_path / "aside.copy")
    logged = total_of("aggregate", str(tmp_path))
    assert total_of("aggregate", str(tmp_path), f"{tmp_path}/", str(tmp_path / "link")) == logged
    (tmp_path / "aside").rename(record)
    with_one = both(tmp_path)
    (tmp_path / "aside.copy").rename(tmp_path / "copy.jsonl")
    assert both(tmp_path) == with_one
    twice = total_of("aggregate", str(tmp_path), str(tmp_path / "link"))
    assert twice == pytest.approx(with_one)


@pytest.mark.parametrize("killed", [False, True])
def test_a_log_without_a_record_counts_beside_a_record_of_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """A container gives each of its programs the same process id."""
    hide_sensors(monkeypatch, tmp_path)
    logs = tmp_path / "logs"
    program = f"""
import os, time
from carbontracker.tracker import CarbonTracker
for record, seconds in ((False, 0.05), (True, 0.2)):
    tracker = CarbonTracker(2, log_dir={str(logs)!r}, location="DK", verbose=0, record=record,
                            **{DEVICES!r})
    for epoch in tracker.epochs():
        time.sleep(seconds)
        if {killed} and record and epoch == 1:
            os._exit(0)
    time.sleep(1.1)
"""
    assert python(program).returncode == 0
    (record,) = logs.glob("*.jsonl")
    outputs = sorted(logs.glob("*_output.log"), key=lambda path: path.name.partition("_")[2])
    assert len(outputs) == 2
    aside = tmp_path / "aside"
    aside.mkdir()
    for path in logs.glob(outputs[1].name.replace("_output.log", "*")):
        path.rename(aside / path.name)
    record.rename(aside / record.name)
    (first, _), (second, _) = both(logs), both(aside)
    for path in aside.iterdir():
        path.rename(logs / path.name)
    assert both(logs)[0] == pytest.approx(first + second)
