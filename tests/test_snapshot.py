"""Snapshots of machines: what is in them, and that they show the same sensors elsewhere."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from carbontracker.cli import main
from carbontracker.energy.snapshot import Snapshot, take_snapshot
from tests.support.fakehost import (
    CARDS,
    Gpu,
    Link,
    cpuinfo,
    fake_host,
    fake_nvml,
    meminfo,
    powercap_tree,
    proc_stat,
)
from tests.support.replay import inventory as whole_inventory
from tests.support.replay import replayed
from tests.support.sensing import pci_card

if TYPE_CHECKING:
    from tests.support.fakehost import Value

MACHINES = sorted((Path(__file__).parent / "data" / "machines").glob("*.tar.gz"))
WHAT = ("id", "kind", "name", "source", "quality", "counted", "part_of", "covers", "verified")


def inventory(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[dict[str, object]]:
    """Return the sensors that are found below a root, without their readings."""
    monkeypatch.setenv("CARBONTRACKER_ROOT", str(root))
    monkeypatch.setenv("CARBONTRACKER_NVML", "/nonexistent")
    assert main(["sensors", "--json", "--seconds", "0.1"]) == 0
    found = json.loads(capsys.readouterr().out)
    return [{key: one[key] for key in WHAT} for one in found["readable"]]


def desktop() -> dict[str, Value]:
    """Return a machine with RAPL, a card, and names in its files."""
    hwmon: dict[str, Value] = {"power1_average": 32_000_000, "power1_cap": 236_000_000}
    nodes = "sys/class/kfd/kfd/topology/nodes"
    return {
        "proc/cpuinfo": cpuinfo("AMD Testium 7") + "Serial\t\t: 10000000abcdef\n",
        "proc/stat": proc_stat(4, 1_000, 9_000),
        "proc/meminfo": meminfo(62),
        f"{nodes}/1/properties": "simd_count 60\nlocation_id 768\ndomain 0\nunique_id 81985529",
        "sys/class/drm/loop": Link("loop"),
        **powercap_tree(1, psys=False, mmio=False),
        **pci_card("0000:03:00.0", "0x747e", hwmon),
    }


def test_a_snapshot_shows_the_same_sensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = fake_host(tmp_path, desktop())
    before = inventory(root, monkeypatch, capsys)
    assert {one["source"] for one in before} == {"amdgpu", "powercap"}
    archive = tmp_path / "machine.tar.gz"
    assert main(["sensors", "--snapshot", str(archive)]) == 0
    listed = capsys.readouterr().out
    with tarfile.open(archive) as snapshot:
        names = [one.name for one in snapshot.getmembers() if one.isfile()]
        snapshot.extractall(tmp_path / "elsewhere", filter="fully_trusted")
    assert all(name in listed for name in names)  # all of it is listed before it is sent
    assert inventory(tmp_path / "elsewhere", monkeypatch, capsys) == before


def test_a_radio_address_is_in_no_name_link_or_text(tmp_path: Path) -> None:
    mouse = "sys/class/power_supply/hid-a4:b1:c1:00:11:22-battery"
    headset = "sys/class/power_supply/headset"
    tree = desktop() | {
        f"{mouse}/type": "Battery",
        f"{mouse}/status": "Discharging",
        f"{headset}/type": "Battery",
        f"{headset}/scope": "Device",
        "sys/devices/hid/hwmon7/name": "hid_a4:b1:c1:00:11:22_battery",
        "sys/devices/hid/hwmon7/power1_input": 1,
        "sys/class/hwmon/hwmon7": Link("../../devices/hid/hwmon7"),
        "sys/class/power_supply/BAT0/type": "Battery",
        "sys/class/power_supply/BAT0/status": "Discharging",
    }
    archive = tmp_path / "machine.tar.gz"
    take_snapshot(fake_host(tmp_path, tree)).write(archive)
    with tarfile.open(archive) as snapshot:
        members = snapshot.getmembers()
        names = {one.name for one in members} | {one.linkname for one in members}
        texts = [snapshot.extractfile(one).read() for one in members if one.isfile()]  # type: ignore[union-attr]
    assert "sys/class/power_supply/BAT0/status" in names
    assert not [one for one in names if "headset" in one or "hid" in one]
    assert not [text for text in texts if b"a4:b1:c1" in text]


def test_a_file_that_may_not_be_read_is_closed_in_it(tmp_path: Path) -> None:
    archive = tmp_path / "machine.tar.gz"
    Snapshot({}, {}, ("sys/class/powercap/intel-rapl:0/energy_uj",)).write(archive)
    with tarfile.open(archive) as snapshot:
        (member,) = snapshot.getmembers()
    assert (member.mode, member.size) == (0, 0)


def test_names_and_serial_numbers_are_not_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.node", lambda: "lab-7.example.org")
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    tree = desktop()
    tree["proc/device-tree/model"] = "Board of ada at lab-7.example.org, lab-7"
    found = take_snapshot(fake_host(tmp_path, tree))
    whole = b"\n".join(found.files.values())
    for private in (b"10000000abcdef", b"81985529", b"lab-7", b"ada "):
        assert private not in whole
    assert b"Testium" in whole


def test_an_archive_that_cannot_be_written_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CARBONTRACKER_ROOT", str(fake_host(tmp_path, desktop())))
    assert main(["sensors", "--snapshot", str(tmp_path / "no" / "such.tar.gz")]) == 1
    assert "cannot write" in capsys.readouterr().err


@pytest.mark.parametrize("machine", MACHINES, ids=lambda path: path.name.removesuffix(".tar.gz"))
def test_machines_that_were_sent_keep_their_inventory(
    machine: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = json.loads(machine.with_name(machine.name.replace(".tar.gz", ".json")).read_text())
    with replayed(machine, tmp_path) as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert whole_inventory() == expected


GPUS = (
    Gpu(**CARDS["a100"], power="constant:212.5", limit_w=400, min_w=100, max_w=400),
    Gpu(
        name="NVIDIA Testium 480GB",
        arch=9,
        period_ms=100,
        power="constant:100",
        module="constant:165.6",
        module_counter=True,
    ),
    Gpu(**CARDS["k80"], power="constant:60"),
)


def test_the_answers_of_nvml_are_in_it_and_show_the_same_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = fake_host(tmp_path, {key: value for key, value in desktop().items() if "pci" not in key})
    with fake_nvml(tmp_path, GPUS) as driver:
        here = driver.environment | {
            "CARBONTRACKER_ROOT": str(root),
            "CARBONTRACKER_NVML": str(driver.library),
        }
        for name, value in here.items():
            monkeypatch.setenv(name, value)
        before = whole_inventory()
        archive = tmp_path / "machine.tar.gz"
        assert main(["sensors", "--snapshot", str(archive)]) == 0
        uuids = [driver.uuid(place) for place in range(len(GPUS))]
    with tarfile.open(archive) as snapshot:
        file = snapshot.extractfile("nvml.json")
        assert file is not None
        text = file.read().decode()
    assert not [uuid for uuid in uuids if uuid in text]
    answers = json.loads(text)["devices"]
    assert answers[0]["field 186 scope 0"]["value"] == pytest.approx(212_500, rel=0.01)
    assert all(one["nvmlDeviceGetPowerUsage"]["us"] > 0 for one in answers)
    with replayed(archive, tmp_path / "again") as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        after = whole_inventory()
    for what in ("id", "name", "quality", "counted", "covers", "part_of", "source"):
        assert [one[what] for one in after["readable"]] == [one[what] for one in before["readable"]]
