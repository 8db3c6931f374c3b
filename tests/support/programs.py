"""Programs that tests run as processes of their own, and what they leave behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

TIMEOUT_S = 60
"""After which a program that should have ended is killed and its test fails."""

DEVICES: dict[str, Any] = {
    "sim_gpu": "NVIDIA A100",
    "sim_gpu_watts": 400.0,
    "sim_gpu_util": 0.6,
    "sim_cpu": "Xeon 6226R",
    "sim_cpu_tdp": 150.0,
    "sim_cpu_util": 0.8,
}
GPU_WATTS = 240.0
CPU_WATTS = 120.0
WATTS = GPU_WATTS + CPU_WATTS
"""What ``DEVICES`` draw together."""

PRELUDE = f"""\
import json, math, os, signal, sys, threading, time
from carbontracker.tracker import CarbonTracker
DEVICES = {DEVICES!r}

def spent(tracker):
    energy = tracker.result.energy
    return [energy.joules, energy.error_joules, tracker.result.seconds]
"""
"""Beginning of a program that uses the tracker; ``spent`` is for ``assert_power``."""


def hide_sensors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Leave only simulated devices to be measured, here and in programs started from here."""
    root = tmp_path / "bare-root"
    root.mkdir()
    monkeypatch.setenv("CARBONTRACKER_ROOT", str(root))
    monkeypatch.setenv("CARBONTRACKER_NVML", str(root / "no-such-library.so"))


def assert_power(joules: float, error_joules: float, seconds: float, watts: float = WATTS) -> None:
    """Hold an energy against constant power: it must lie within its own error bar.

    The bar is wide where the machine kept the sampling thread from running. The other bound
    tells a right sum from a mean, and from one that lacks a device, however wide the bar.
    """
    true = watts * seconds
    assert abs(joules - true) <= error_joules + 0.01 * true
    assert abs(joules - true) <= 0.3 * true


def python(program: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the text of a Python program to its end."""
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=os.environ | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def record_file(directory: Path) -> Path:
    """Return the one record there is in a directory."""
    (path,) = directory.glob("*.jsonl")
    return path


def read_record(directory: Path, *, series: bool = False) -> list[dict[str, Any]]:
    """Return the events of the one record in a directory, whose every line must be whole.

    Energy over time is left out unless it is asked for.
    """
    text = record_file(directory).read_text()
    assert text.endswith("\n")
    events = [json.loads(line) for line in text.splitlines()]
    return [event for event in events if series or event["event"] != "series"]
