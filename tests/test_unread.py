"""Accelerators that are there and not read: named at the start, in the record, and by `sensors`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from carbontracker.cli import main
from carbontracker.energy import sensors
from carbontracker.tracker import CarbonTracker
from tests.support.fakehost import Gpu, Link, Mode, cpuinfo, fake_host, fake_nvml
from tests.support.programs import TIMEOUT_S, python
from tests.support.sensing import pci_device

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.fakehost import Value

AMD = "card0: AMD GPU (amdgpu), vendor 0x1002 device 0x744c"
NVIDIA = "0000:41:00.0: NVIDIA GPU, vendor 0x10de device 0x20b2"


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


def test_a_tracker_names_devices_missing_from_its_total(
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
def test_a_tracker_of_other_components_does_not_name_them(
    settings: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    train(**settings)
    assert AMD not in capsys.readouterr().err


@pytest.mark.usefixtures("records")
def test_sensors_names_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sensors"]) == 0
    output = "".join(capsys.readouterr())
    for what in (AMD, NVIDIA):
        assert what in output
    assert "part of the processor" in output


UNCOUNTED = "2 GPUs not counted: gpu:0000:41:00.0, gpu:card0"


def test_every_report_says_how_many_devices_the_total_lacks(
    records: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = CarbonTracker(epochs=1)
    tracker.epoch_start()
    time.sleep(0.2)
    tracker.epoch_end()
    assert UNCOUNTED in capsys.readouterr().out  # beside the total of the last epoch
    tracker.stop()
    assert UNCOUNTED in tracker._repr_html_()
    (path,) = records.glob("*.jsonl")
    assert main(["report", str(path)]) == 0
    assert UNCOUNTED in capsys.readouterr().out
    for form in ("html", "markdown", "latex"):
        out = tmp_path / form
        assert main(["report", str(path), f"--{form}", str(out)]) == 0
        assert UNCOUNTED in out.read_text(), form
    assert main(["report", str(path), "--json", str(tmp_path / "json")]) == 0
    found = json.loads((tmp_path / "json").read_text())
    assert [one["device"] for one in found["missing"] if one["device"]] == [
        "gpu:0000:41:00.0",
        "gpu:card0",
    ]


@pytest.mark.usefixtures("records")
def test_a_command_names_how_many_devices_its_total_lacks(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert main(["run", "-q", "--json", "-", "--", "sleep", "0.2"]) == 0
    assert UNCOUNTED not in capfd.readouterr().err
    assert main(["run", "--", "sleep", "0.2"]) == 0
    assert UNCOUNTED in capfd.readouterr().err


def test_like_cards_are_one_line_and_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tree: dict[str, Value] = {"proc/cpuinfo": cpuinfo("Testium One")}
    for bus in range(3, 11):
        address = f"0000:{bus:02x}:00.0"
        tree |= pci_device(address, "0x1002", "0x74a1", "0x120000")
    monkeypatch.setenv("CARBONTRACKER_ROOT", str(fake_host(tmp_path, tree)))
    monkeypatch.setenv("CARBONTRACKER_NVML", "/nonexistent")
    assert main(["sensors"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if "0000:03:00.0: AMD accelerator" in line]
    assert "0000:0a:00.0: AMD accelerator" in line
    assert lines[-1].startswith("8 GPUs not counted: gpu:0000:03:00.0, ")
    assert main(["sensors", "--json"]) == 0
    absent = json.loads(capsys.readouterr().out)["absent"]
    devices = [one["device"] for one in absent if one["device"]]
    assert devices == [f"gpu:0000:{bus:02x}:00.0" for bus in range(3, 11)]


LOOK = """
import json, os
from carbontracker.energy.config import Config
from carbontracker.energy.session import Session
# The tests' directories are closed to others, so the pretended machine is the working directory.
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
session = Session.probe(Config(root=".", nvml_library="/nonexistent"))
print(json.dumps({one.what: one.remedy for one in session.missing if one.device}))
"""


def test_a_card_whose_power_is_not_for_this_user_is_named_with_its_file(tmp_path: Path) -> None:
    tree: dict[str, Value] = {"proc/cpuinfo": cpuinfo("Testium One")}
    tree |= pci_device("0000:03:00.0", "0x1002", "0x744c", "0x030000")
    card = "sys/devices/pci0000:00/0000:03:00.0"
    tree[f"{card}/drm/card0/device"] = Link("../../")
    tree["sys/class/drm/card0"] = Link("../../devices/pci0000:00/0000:03:00.0/drm/card0")
    tree[f"{card}/hwmon/hwmon3/power1_average"] = Mode("30000000", 0o000)
    done = subprocess.run(
        [sys.executable, "-c", LOOK],
        cwd=fake_host(tmp_path, tree),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ((what, remedy),) = json.loads(done.stdout).items()
    assert what.startswith("card0: AMD GPU")
    assert remedy.startswith("sudo chmod a+r ")
    assert "hwmon/hwmon3/power1_average   (until then, count it by an assumption" in remedy


PROBE = """
import json, os, sys, time
from carbontracker.energy.config import Config
from carbontracker.energy.session import Session, acquire, release

def threads(): return len(os.listdir("/proc/self/task"))
def files():
    paths = [f"/proc/self/fd/{one}" for one in os.listdir("/proc/self/fd")]
    return sorted(os.readlink(path) for path in paths if os.path.islink(path))
def settled(count):  # a thread that has answered takes a moment to end
    deadline = time.monotonic() + 30
    while threads() > count and time.monotonic() < deadline: time.sleep(0.01)
    return threads() - count

config = Config(root=sys.argv[1], nvml_library="/nonexistent")
at_first, open_before = threads(), files()
Session.probe(config)
left = [settled(at_first), [one for one in files() if one not in open_before]]
for _ in range(3):
    session = acquire(config)
    start = session.mark()
    session.energy(start, session.mark())
    release(session)
    del session, start
print(json.dumps([left, [settled(at_first), [one for one in files() if one not in open_before]]]))
"""


@pytest.mark.parametrize("has_stat", [False, True])
def test_probing_a_machine_without_accelerators_reports_nothing(
    tmp_path: Path, has_stat: bool
) -> None:
    tree: dict[str, Value] = {"proc/cpuinfo": cpuinfo("Testium One"), "sys/": ""}
    if has_stat:
        tree["proc/stat"] = "cpu  1 0 1 9 0 0 0 0 0 0"
    root = fake_host(tmp_path, tree)
    done = python(PROBE, str(root))
    assert done.returncode == 0, done.stderr
    # Neither after a look, whose session has gone, nor after three that sampled.
    assert json.loads(done.stdout) == [[0, []], [0, []]]


def test_gpus_of_windows_that_its_nvidia_library_lists_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree: dict[str, Value] = {
        "proc/cpuinfo": cpuinfo("AMD Ryzen 7 5800H with Radeon Graphics", flags="fpu hypervisor"),
        "proc/stat": "cpu  1 0 1 9 0 0 0 0 0 0",
        "dev/dxg": "",
        "usr/lib/wsl/lib/libnvidia-ml.so.1": "",
    }
    # Windows shows the graphics of the processor in the same way.
    addresses = ("4a3c:00:00.0", "9f21:00:00.0")
    for address in addresses:
        tree |= pci_device(address, "0x1414", "0x008e", "0x030200")
    monkeypatch.setenv("CARBONTRACKER_ROOT", str(fake_host(tmp_path, tree)))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with fake_nvml(tmp_path, [Gpu()]) as driver:
        for name, value in driver.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("CARBONTRACKER_NVML", str(driver.library))
        found = sensors.sensors(0.0)
    assert [one.id for one in found.readable if one.kind == "gpu" and one.counted] == ["gpu:0"]
    (unread,) = [one for one in found.absent if one.device]
    assert unread.device == f"gpu:{addresses[1]}"
    assert "GPU of Windows" in unread.what
