"""Starting where something of the machine is missing: the program runs, and what can be told is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import carbontracker
from tests.support.programs import PRELUDE, TIMEOUT_S, WATTS, hide_sensors, python

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGE = Path(carbontracker.__file__).parent
EPOCHS = """
tracker = CarbonTracker(2, **DEVICES)
for _ in range(2):
    tracker.epoch_start(); time.sleep(0.05); tracker.epoch_end()
energy, footprint = tracker.result.energy, tracker.result.footprint
print("RESULT", json.dumps([energy.joules, energy.error_joules, tracker.result.seconds,
                            None if math.isnan(footprint.gco2eq) else footprint.gco2eq]))
"""
"""Trains for two epochs and prints J, J, s and gCO2eq (null if that is unknown)."""


@pytest.fixture(autouse=True)
def only_simulated_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hide_sensors(monkeypatch, tmp_path)
    monkeypatch.setenv("CARBONTRACKER_LOCATION", "DK")


def run_command(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run ``carbontracker`` with the arguments."""
    return subprocess.run(
        [sys.executable, "-m", "carbontracker", *arguments],
        env=os.environ | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=TIMEOUT_S,
        check=False,
    )


def result_of(program: subprocess.CompletedProcess[str]) -> list[Any]:
    """Return what ``EPOCHS`` printed; the joules must be those of constant power."""
    assert program.returncode == 0, program.stderr
    line = next(line for line in program.stdout.splitlines() if line.startswith("RESULT"))
    found: list[Any] = json.loads(line.removeprefix("RESULT"))
    joules, error_joules, seconds, _ = found
    assert abs(joules - WATTS * seconds) <= error_joules + 0.01 * WATTS * seconds
    return found


def lines_of_ours(text: str) -> list[str]:
    """Return the lines of diagnostics on standard error that begin with our name."""
    return [line for line in text.splitlines() if line.startswith("carbontracker: ")]


# ---- the package's tables ------------------------------------------------------------------


def copy_without_tables(tmp_path: Path) -> Path:
    """Return a folder to import the package from, that has everything but its tables."""
    folder = tmp_path / "frozen"
    ignored = shutil.ignore_patterns("*.csv", "__pycache__")
    shutil.copytree(PACKAGE, folder / "carbontracker", ignore=ignored)
    return folder


def test_without_tables_carbon_is_unknown_and_energy_measured(tmp_path: Path) -> None:
    folder = str(copy_without_tables(tmp_path))
    program = python(PRELUDE + EPOCHS, PYTHONPATH=folder)
    *_, gco2eq = result_of(program)
    assert gco2eq is None
    (line,) = lines_of_ours(program.stderr)
    assert f"{folder}/carbontracker/data/" in line
    assert ".csv" in line
    assert "Traceback" not in program.stderr
    assert "nan" not in program.stdout.lower()
    (record,) = (tmp_path / "records").glob("*.jsonl")
    finished = json.loads(record.read_text().splitlines()[-1])
    assert finished["event"] == "run_finished"
    assert finished["footprint"]["gco2eq"] is None
    assert finished["footprint"]["kwh"] > 0
    assert finished["footprint"]["intensity"]["kind"] == "missing"


def test_a_record_without_carbon_is_read_and_priced_later(tmp_path: Path) -> None:
    folder = copy_without_tables(tmp_path)
    result_of(python(PRELUDE + EPOCHS, PYTHONPATH=str(folder)))
    (record,) = (tmp_path / "records").glob("*.jsonl")
    shutil.rmtree(folder)  # from here on the tables are there
    assert run_command("check", str(record)).returncode == 0
    for form in ("html", "csv", "json", "markdown", "latex", "codecarbon"):
        ran = run_command("report", str(record), f"--{form}", str(tmp_path / form))
        assert (ran.returncode, ran.stderr) == (0, "")
    shown = run_command("report", str(record))
    assert shown.returncode == 0
    assert "nan" not in shown.stdout.lower().replace("finance", "")
    priced = run_command("report", str(record), "--intensity", "100", "--json", "-")
    footprint = json.loads(priced.stdout)["footprint"]
    assert footprint["gco2eq"] == pytest.approx(100 * footprint["kwh"])


def test_without_tables_commands_windows_and_functions_go_on(tmp_path: Path) -> None:
    folder = str(copy_without_tables(tmp_path))
    ran = run_command("run", "--", "sh", "-c", "echo TRAINED; exit 3", PYTHONPATH=folder)
    assert (ran.returncode, ran.stdout) == (3, "TRAINED\n")
    assert len(lines_of_ours(ran.stderr)) == 1
    program = """
import carbontracker as ct
@ct.track
def work(): return 5
with ct.measure("x") as window: pass
print(work(), window.energy.quality, window.footprint.gco2eq)
"""
    ran = python(program, PYTHONPATH=folder)
    assert (ran.stdout, ran.returncode) == ("5 missing nan\n", 0)
    for command in (["estimate", "--gpu", "A100", "--gpu-hours", "1"], ["where"], ["sensors"]):
        ran = run_command(*command, PYTHONPATH=folder)
        assert "Traceback" not in ran.stderr, ran.stderr
        assert ran.stderr == "" or lines_of_ours(ran.stderr)


def test_what_the_user_states_needs_no_tables(tmp_path: Path) -> None:
    folder = str(copy_without_tables(tmp_path))
    program = python(
        PRELUDE + EPOCHS.replace("**DEVICES", "**DEVICES, intensity=100.0, pue=1.5"),
        PYTHONPATH=folder,
    )
    joules, _, _, gco2eq = result_of(program)
    assert gco2eq == pytest.approx(joules / 3.6e6 * 1.5 * 100)


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: b"\n".join(whole.split(b"\n")[:50]) + b"\n",
        lambda whole: bytes(range(256)) * 8,
        lambda whole: whole.replace(b"2024", b"20x4"),
        lambda whole: b"<html>404</html>\n" * 500,
        lambda whole: whole.replace(b",", b";"),
    ],
)
def test_a_damaged_table_is_as_none(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(PACKAGE, folder / "carbontracker", ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "carbontracker" / "data" / "grid_intensity.csv"
    path.write_bytes(damage(path.read_bytes()))
    program = python(PRELUDE + EPOCHS, PYTHONPATH=str(folder))
    assert result_of(program)[-1] is None
    (line,) = lines_of_ours(program.stderr)
    assert str(path) in line


@pytest.mark.parametrize(
    ("table", "variables"),
    [
        ("zone_aliases", {"CARBONTRACKER_LOCATION": "Åland"}),
        ("cloud_regions", {"CARBONTRACKER_LOCATION": "aws:eu-north-1"}),
        ("timezone_zones", {"CARBONTRACKER_LOCATION": "", "TZ": "Europe/Copenhagen"}),
    ],
)
def test_a_place_that_needs_a_missing_table_is_unknown(
    tmp_path: Path, table: str, variables: dict[str, str]
) -> None:
    """Neither another place nor the world's average, and no error of the user's."""
    folder = tmp_path / "partly"
    shutil.copytree(PACKAGE, folder / "carbontracker", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "carbontracker" / "data" / f"{table}.csv").unlink()
    program = python(PRELUDE + EPOCHS, **variables, PYTHONPATH=str(folder))
    assert result_of(program)[-1] is None
    (line,) = lines_of_ours(program.stderr)
    assert f"{table}.csv" in line


def test_only_what_needs_a_table_is_unknown(tmp_path: Path) -> None:
    folder = tmp_path / "partly"
    shutil.copytree(PACKAGE, folder / "carbontracker", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "carbontracker" / "data" / "equivalents.csv").unlink()
    program = python(PRELUDE + EPOCHS, PYTHONPATH=str(folder))
    assert result_of(program)[-1] is not None
    assert "km travelled" not in program.stdout
    (line,) = lines_of_ours(program.stderr)
    assert "equivalents.csv" in line


def test_tables_are_read_from_an_archive(tmp_path: Path) -> None:
    archive = tmp_path / "app.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for name in ("__init__.py", "guard.py", "data/__init__.py", "data/grid_intensity.csv"):
            packed.write(PACKAGE / name, f"carbontracker/{name}")
    program = (
        "import carbontracker.data as d\nprint(d.__file__, len(d.rows('grid_intensity')))\n"
        "try: d.rows('pue')\nexcept d.TableError as e: print(e)"
    )
    ran = python(program, PYTHONPATH=str(archive))
    first, second = ran.stdout.splitlines()
    assert first.startswith(f"{archive}/")
    assert int(first.split()[-1]) > 300
    assert "pue.csv" in second
