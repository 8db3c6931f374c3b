"""Power sensors of boards: the rails of Jetson, Ampere, and meters of whole machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.fakehost import (
    Gpu,
    Link,
    fake_host,
    fake_nvml,
)
from tests.support.sensing import counted, joules, machine, pci_device, sensing

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.fakehost import Value

I2C = "devices/platform/bus@0/c240000.i2c/i2c-1"


def ina3221(hwmon: int, address: str, rails: dict[int, tuple[str, int, int]]) -> dict[str, Value]:
    """Return a chip with labelled rails: (label, mV, mA)."""
    folder = f"{I2C}/{address}/hwmon/hwmon{hwmon}"
    tree: dict[str, Value] = {
        f"sys/{folder}/name": "ina3221",
        f"sys/{folder}/in7_label": "sum of shunt voltages",
        f"sys/{folder}/curr4_input": sum(current for _, _, current in rails.values()),
        f"sys/class/hwmon/hwmon{hwmon}": Link(f"../../{folder}"),
    }
    for number, (label, millivolts, milliamperes) in rails.items():
        is_wired = label != "NC"
        tree[f"sys/{folder}/in{number}_label"] = label
        tree[f"sys/{folder}/in{number}_enable"] = int(is_wired)
        if is_wired:
            tree[f"sys/{folder}/in{number}_input"] = millivolts
            tree[f"sys/{folder}/curr{number}_input"] = milliamperes
    return tree


AGX_ORIN = (
    ina3221(
        2,
        "1-0040",
        {
            1: ("VDD_GPU_SOC", 20_000, 240),
            2: ("VDD_CPU_CV", 20_000, 80),
            3: ("VIN_SYS_5V0", 5_000, 900),
        },
    ),
    ina3221(3, "1-0041", {1: ("NC", 0, 0), 2: ("VDDQ_VDD2_1V8AO", 5_000, 120), 3: ("NC", 0, 0)}),
)
ORIN_NX = ina3221(
    1,
    "1-0040",
    {
        1: ("VDD_IN", 5_000, 2_400),
        2: ("VDD_CPU_GPU_CV", 5_000, 800),
        3: ("VDD_SOC", 5_000, 500),
    },
)


def test_the_rails_of_two_chips_add_up(tmp_path: Path) -> None:
    with sensing(fake_host(tmp_path, machine(*AGX_ORIN))) as session:
        rails = {"gpu:0": 4.8, "cpu:0": 1.6, "other:VIN_SYS_5V0": 4.5, "dram:0": 0.6}
        assert counted(session) == set(rails)
        energy, start_ns, end_ns = joules(session, 2.0)
        seconds = (end_ns - start_ns) / 1e9
        for name, watts in rails.items():
            assert energy[name] == pytest.approx(watts * seconds, rel=0.005)
        assert len(energy) == len(rails)


def test_the_input_of_a_board_is_never_added_to_its_rails(tmp_path: Path) -> None:
    with sensing(fake_host(tmp_path, machine(ORIN_NX))) as session:
        entries = {one.id: one for one in session.entries}
        assert entries["node:VDD_IN"].kind == "node"
        assert not entries["node:VDD_IN"].counted
        # The rail of the GPU has that of the processor in it.
        assert entries["gpu:0"].covers == ["cpu"]
        assert counted(session) == {"gpu:0", "other:VDD_SOC", "dram:0"}
        energy, start_ns, end_ns = joules(session, 2.0)
        assert energy["gpu:0"] == pytest.approx(4.0 * (end_ns - start_ns) / 1e9, rel=0.005)


def test_the_number_of_a_hwmon_does_not_matter(tmp_path: Path) -> None:
    seen = []
    for place, hwmon in enumerate((2, 9)):
        rails = {1: ("VDD_GPU_SOC", 20_000, 240), 2: ("VDD_CPU_CV", 20_000, 80)}
        root = fake_host(tmp_path / str(place), machine(ina3221(hwmon, "1-0040", rails)))
        with sensing(root) as session:
            seen.append([(one.id, one.domain) for one in session.entries if one.read])
    assert seen[0] == seen[1]


def test_a_gpu_that_nvml_refuses_is_read_by_its_rails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = machine(*AGX_ORIN) | {"proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit"}
    root = fake_host(tmp_path, tree)
    gpu = Gpu(name="Orin (nvgpu)", energy=False, usage=False, fields=False, samples=False)
    with fake_nvml(tmp_path, [gpu]) as driver:
        for name, value in driver.environment.items():
            monkeypatch.setenv(name, value)
        for library in (str(driver.library), "/nonexistent"):
            with sensing(root, nvml_library=library) as session:
                assert "gpu:0" in counted(session)
                assert not [one for one in session.missing if one.device]
                assert any("ina3221" in one.reason for one in session.missing)


@pytest.mark.parametrize("library", ["", "/nonexistent"], ids=["NVML", "without NVML"])
def test_a_card_in_a_jetson_is_not_on_its_rails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    tree = machine(*AGX_ORIN, pci_device("0000:11:00.0", "0x10de", "0x2236", "0x030200"))
    tree["proc/device-tree/model"] = "NVIDIA Jetson AGX Orin Developer Kit"
    refusing = {"energy": False, "usage": False, "fields": False, "samples": False}
    boards = [Gpu(name=name, **refusing) for name in ("Orin (nvgpu)", "NVIDIA A10")]  # type: ignore[typeddict-item]
    with fake_nvml(tmp_path, boards) as driver:
        for name, value in driver.environment.items():
            monkeypatch.setenv(name, value)
        root = fake_host(tmp_path, tree)
        with sensing(root, nvml_library=library or str(driver.library)) as session:
            unread = [one.device for one in session.missing if one.device]
    assert unread == (["gpu:0000:11:00.0"] if library else ["gpu:1"])


@pytest.mark.parametrize(
    ("driver", "labels", "kept", "node"),
    [
        (
            "apm_xgene",
            {"CPU power": 61_000_000, "IO power": 24_000_000},
            {"cpu:0": 61.0, "cpu:1": 24.0},
            None,
        ),
        ("macsmc_hwmon", {"Total System Power": 12_500_000, "3.8 V Rail Power": 1}, {}, 12.5),
        ("corsairpsu", {"power total": 412_000_000, "power +12v": 380_000_000}, {}, 412.0),
        ("nct6775", {"CPU power": 61_000_000}, {}, None),
    ],
)
def test_only_what_a_rule_names_is_read(
    tmp_path: Path,
    driver: str,
    labels: dict[str, int],
    kept: dict[str, float],
    node: float | None,
) -> None:
    folder = "sys/class/hwmon/hwmon0"
    tree: dict[str, Value] = {f"{folder}/name": driver}
    for number, (label, power) in enumerate(labels.items(), 1):
        tree[f"{folder}/power{number}_label"] = label
        tree[f"{folder}/power{number}_input"] = power
    with sensing(fake_host(tmp_path, machine(tree))) as session:
        read = [one for one in session.entries if one.source == "hwmon"]
        assert {one.id for one in read if one.counted} == set(kept)
        assert [one.kind for one in read if not one.counted] == ["node"] * (node is not None)
        energy, start_ns, end_ns = joules(session, 1.0)
        for name, watts in kept.items():
            assert energy[name] == pytest.approx(watts * (end_ns - start_ns) / 1e9, rel=0.005)


def test_a_rail_that_is_switched_off_gives_no_value(tmp_path: Path) -> None:
    root = fake_host(tmp_path, machine(*AGX_ORIN))
    voltage = root / "sys" / I2C / "1-0040/hwmon/hwmon2/in1_input"
    with sensing(root) as session:
        voltage.write_text("\n")  # as a driver answers without a number
        energy, _, _ = joules(session, 1.0)
        assert energy["gpu:0"] != energy["gpu:0"] or energy["gpu:0"] > 0


def test_a_tree_that_was_copied_without_its_links_is_followed(tmp_path: Path) -> None:
    tree = machine(*AGX_ORIN)
    for hwmon, chip in ((2, "1-0040"), (3, "1-0041")):
        # A small file with the target in place of the link.
        del tree[f"sys/class/hwmon/hwmon{hwmon}"]
        tree[f"sys/class/hwmon/hwmon{hwmon}"] = f"../../{I2C}/{chip}/hwmon/hwmon{hwmon}"
    with sensing(fake_host(tmp_path, tree)) as session:
        assert counted(session) == {"gpu:0", "cpu:0", "other:VIN_SYS_5V0", "dram:0"}
