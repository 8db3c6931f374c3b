"""Power sensors of boards: the rails of Jetson, Ampere, and meters of whole machines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.build import build_shared
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


RAIL = f"sys/{I2C}/1-0040/hwmon/hwmon2"
UNREAD_RAILS: dict[str, dict[str, Value | None]] = {
    "another label": {f"{RAIL}/in1_label": "VDD_CPU_SOC_MSS"},
    "switched off": {f"{RAIL}/in1_enable": 0},
    "no current": {f"{RAIL}/curr1_input": None},
    "no label": {f"{RAIL}/in1_label": None},
}


@pytest.mark.parametrize("name", UNREAD_RAILS)
def test_a_gpu_whose_rail_is_not_read_is_missing(tmp_path: Path, name: str) -> None:
    tree = machine(*AGX_ORIN) | {"proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit"}
    for path, value in UNREAD_RAILS[name].items():
        if value is None:
            del tree[path]
        else:
            tree[path] = value
    with sensing(fake_host(tmp_path, tree)) as session:
        assert not any(one.startswith("gpu") for one in counted(session))
        assert [one.device for one in session.missing if one.device] == ["gpu:tegra"]
        rails = [one.what for one in session.missing if one.source == "hwmon"]
    named = {
        "another label": "VDD_CPU_SOC_MSS",
        "no current": "VDD_GPU_SOC",
        "no label": "channel 1",
    }
    assert rails == ([f"{named[name]} (ina3221)"] if name in named else [])


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
        (  # POWER9: the chip itself has no word after its number, and Vdd is a part of it
            "ibmpowernv",
            {
                "System": 412_000_000,
                "Chip 0 ": 95_000_000,
                "Chip 8 ": 91_000_000,
                "Chip 0 Vdd": 60_000_000,
                "Chip 0 Memory": 22_000_000,
                "Chip 0 GPU": 300_000_000,
                "Chip": 1,
                "Fan": 9_000_000,
            },
            {"cpu:0": 95.0, "cpu:1": 91.0, "dram:0": 22.0},
            412.0,
        ),
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


@pytest.mark.parametrize("prefix", ["", "cpu1 "])
def test_rails_of_a_processor_are_shown_and_do_not_replace_it(tmp_path: Path, prefix: str) -> None:
    folder = "sys/class/hwmon/hwmon0"
    tree: dict[str, Value] = {f"{folder}/name": "zenpower"}
    for number, (label, power) in enumerate((("Core", 31_280_000), ("SoC", 4_680_000)), 1):
        tree[f"{folder}/power{number}_label"] = f"{prefix}SVI2_P_{label}"
        tree[f"{folder}/power{number}_input"] = power
    with sensing(fake_host(tmp_path, machine(tree))) as session:
        rails = [one for one in session.entries if one.source == "hwmon"]
        assert [one.kind for one in rails] == ["cpu", "cpu"]
        assert not any(one.counted for one in rails)
        (cpu,) = [one for one in session.entries if one.kind == "cpu" and one.counted]
        assert cpu.quality == "modelled"


SLOW = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A read of the files of this driver takes 20 ms, as over USB. */
ssize_t pread(int descriptor, void *buffer, size_t size, off_t offset) {
    static ssize_t (*real)(int, void *, size_t, off_t);
    if (real == NULL) real = (ssize_t (*)(int, void *, size_t, off_t))dlsym(RTLD_NEXT, "pread");
    char link[64], path[512];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    const ssize_t length = readlink(link, path, sizeof path - 1);
    path[length > 0 ? length : 0] = '\\0';
    if (strstr(path, "hwmon9/power") != NULL) usleep(20000);
    return real(descriptor, buffer, size, offset);
}
ssize_t pread64(int descriptor, void *buffer, size_t size, off_t offset) {
    return pread(descriptor, buffer, size, offset);
}
"""

LANES = """
import json, sys
from pathlib import Path
from carbontracker.energy.config import Config
from carbontracker.energy.session import acquire, release
session = acquire(Config(root=sys.argv[1], nvml_library="/nonexistent"))
start = session.mark()
threads = [one.read_text().strip() for one in Path("/proc/self/task").glob("*/comm")]
session.await_final(start, session.mark(), timeout_s=5)
entries = [[one.id, one.counted] for one in session.entries if one.source == "hwmon"]
release(session)
left = len(list(Path("/proc/self/task").iterdir()))
print(json.dumps([threads.count("ct-hwmon"), entries, left]))
"""


@pytest.mark.parametrize("has_slow", [True, False])
def test_a_slow_reading_has_a_thread_of_its_own(tmp_path: Path, has_slow: bool) -> None:
    slow = build_shared(tmp_path / "slow", "slow", SLOW)
    folder = "sys/class/hwmon/hwmon9"
    meter: dict[str, Value] = {
        f"{folder}/name": "corsairpsu",
        f"{folder}/power1_label": "power total",
        f"{folder}/power1_input": 412_000_000,
    }
    root = fake_host(tmp_path, machine(*AGX_ORIN, meter))
    done = subprocess.run(
        [sys.executable, "-c", LANES, str(root)],
        env=os.environ | ({"LD_PRELOAD": str(slow)} if has_slow else {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    threads, entries, left = json.loads(done.stdout)
    assert threads == 1 + has_slow
    assert left == 1
    assert sorted(entries) == [
        ["cpu:0", True],
        ["dram:0", True],
        ["gpu:0", True],
        ["node:power_total", False],
        ["other:VIN_SYS_5V0", True],
    ]


def test_a_processor_of_0_watts_does_not_replace_the_estimate(tmp_path: Path) -> None:
    folder = "sys/class/hwmon/hwmon0"
    tree: dict[str, Value] = {f"{folder}/name": "apm_xgene"}
    for number, label in enumerate(("CPU power", "IO power"), 1):
        tree[f"{folder}/power{number}_label"] = label
        tree[f"{folder}/power{number}_input"] = 0
    with sensing(fake_host(tmp_path, machine(tree))) as session:
        (cpu,) = [one for one in session.entries if one.kind == "cpu" and one.counted]
        assert cpu.quality == "modelled"
        reasons = [one.reason for one in session.missing if one.source == "hwmon"]
    assert reasons == ["it shows 0 W, which is no reading"] * 2


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
