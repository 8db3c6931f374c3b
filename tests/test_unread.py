"""Accelerators that are there and not read: named at the start, in the record, and by `sensors`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from carbontracker.cli import main
from carbontracker.tracker import CarbonTracker
from tests.support.fakehost import Link, cpuinfo, fake_host

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.fakehost import Value

AMD = "card0: AMD GPU (amdgpu), vendor 0x1002 device 0x744c"
NVIDIA = "0000:41:00.0: NVIDIA GPU, vendor 0x10de device 0x20b2"


def pci_device(address: str, vendor: str, model: str, code: str) -> dict[str, Value]:
    """Return a device where the kernel has it, and its link on the bus."""
    folder = f"sys/devices/pci0000:00/{address}"
    return {
        f"{folder}/vendor": vendor,
        f"{folder}/device": model,
        f"{folder}/class": code,
        f"sys/bus/pci/devices/{address}": Link(f"../../../devices/pci0000:00/{address}"),
    }


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the machine one with cards that cannot be read, and one that is in the processor."""
    card = "sys/devices/pci0000:00/0000:03:00.0"
    tree: dict[str, Value] = {
        "proc/cpuinfo": cpuinfo("Testium One"),
        "proc/stat": "cpu  1 0 1 9 0 0 0 0 0 0",
    }
    tree |= pci_device("0000:03:00.0", "0x1002", "0x744c", "0x030000")
    tree |= pci_device("0000:41:00.0", "0x10de", "0x20b2", "0x030200")
    tree |= pci_device("0000:00:02.0", "0x8086", "0xa780", "0x030000")
    tree[f"{card}/driver"] = Link("/sys/bus/pci/drivers/amdgpu")
    tree[f"{card}/drm/card0/device"] = Link("../../")
    tree["sys/class/drm/card0"] = Link("../../devices/pci0000:00/0000:03:00.0/drm/card0")
    monkeypatch.setenv("CARBONTRACKER_ROOT", str(fake_host(tmp_path, tree)))
    monkeypatch.setenv("CARBONTRACKER_NVML", "/nonexistent")
    monkeypatch.setenv("CARBONTRACKER_DIR", str(tmp_path / "records"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path / "records"


def train(**settings: object) -> None:
    """Run a training of one epoch."""
    tracker = CarbonTracker(epochs=1, **settings)  # type: ignore[arg-type]
    tracker.epoch_start()
    tracker.epoch_end()
    tracker.stop()


def test_a_tracker_names_what_its_total_lacks(
    records: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train()
    (line,) = [line for line in capsys.readouterr().err.splitlines() if AMD in line]
    assert NVIDIA in line
    assert "not in the total" in line
    assert "0000:00:02.0" not in line  # its energy is in the processor's
    (path,) = records.glob("*.jsonl")
    started = json.loads(path.read_text().splitlines()[0])
    devices = {one["what"]: one["device"] for one in started["missing"]}
    assert devices[AMD] == "gpu:card0"
    assert devices[NVIDIA] == "gpu:0000:41:00.0"
    assert devices["0000:00:02.0: Intel GPU, vendor 0x8086 device 0xa780"] is None


@pytest.mark.usefixtures("records")
@pytest.mark.parametrize(
    "settings", [{"components": "cpu"}, {"sim_gpu": "A", "sim_gpu_watts": 100}]
)
def test_a_tracker_of_other_things_does_not(
    settings: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    train(**settings)
    assert AMD not in capsys.readouterr().err


@pytest.mark.usefixtures("records")
def test_sensors_names_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sensors"]) == 0
    told = "".join(capsys.readouterr())
    for what in (AMD, NVIDIA):
        assert what in told
    assert "a part of the processor" in told
