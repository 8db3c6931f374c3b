"""Power meters of ACPI: the modules of Grace, beside NVML and alone, and those of servers."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

import pytest

from carbontracker.energy import sensors
from carbontracker.report.sentences import sensors_table
from tests.support.fakehost import (
    Counter,
    Gpu,
    fake_host,
    fake_nvml,
    running_powercap,
)
from tests.support.sensing import PCI, counted, joules, machine, pci_device, sensing
from tests.support.sensing import acpi_meter as meter

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.fakehost import Value

WATTS = {"Module": 165.627, "Grace": 31.9, "CPU": 30.3, "SysIO": 0.107}
"""Of one socket, as jpwr's documentation shows them."""


def sockets(count: int, *labels: str) -> dict[str, Value]:
    """Return the meters of modules, in no order."""
    named = [(label, socket) for label in labels or WATTS for socket in range(count)]
    return machine(
        *(
            meter(7 * place % 97, f"{label} Power Socket {socket}", WATTS[label])
            for place, (label, socket) in enumerate(named, 1)
        )
    )


def test_a_module_counts_once_in_place_of_its_parts(tmp_path: Path) -> None:
    with sensing(fake_host(tmp_path, sockets(4))) as session:
        assert counted(session) == {f"module:{socket}" for socket in range(4)}
        nested = {one.id: one.part_of for one in session.entries if one.source == "grace"}
        for socket in range(4):
            assert nested[f"cpu:{socket}"] == f"module:{socket}"
            assert nested[f"cpu:{socket}/cpu"] == f"cpu:{socket}"
            assert nested[f"cpu:{socket}/sysio"] == f"cpu:{socket}"
        energy, start_ns, end_ns = joules(session, 2.0)
        whole = 4 * WATTS["Module"] * (end_ns - start_ns) / 1e9
        assert sum(energy.values()) == pytest.approx(whole, rel=0.005)


@pytest.mark.parametrize(
    ("labels", "kept"),
    [
        (("Grace", "CPU", "SysIO"), {"cpu:0", "cpu:1"}),
        (("CPU", "SysIO"), {"cpu:0/cpu", "cpu:0/sysio", "cpu:1/cpu", "cpu:1/sysio", "dram:0"}),
    ],
)
def test_without_a_module_its_parts_count(
    tmp_path: Path, labels: tuple[str, ...], kept: set[str]
) -> None:
    with sensing(fake_host(tmp_path, sockets(2, *labels))) as session:
        assert counted(session) == kept


def test_names_that_are_not_unique_are_sockets(tmp_path: Path) -> None:
    tree = machine(
        *(meter(number, f"{label} Power Socket 0", WATTS[label])
          for number, label in enumerate(["Grace", "Grace", "CPU", "CPU"]))
    )  # fmt: skip
    with sensing(fake_host(tmp_path, tree)) as session:
        assert counted(session) == {"cpu:0", "cpu:0.2"}
        nested = {one.id: one.part_of for one in session.entries if one.source == "grace"}
        assert nested["cpu:0.2/cpu"] == "cpu:0.2"


@pytest.mark.parametrize("is_module", [True, False], ids=["module", "GPU alone"])
@pytest.mark.parametrize("name", ["NVIDIA GH200 480GB", "NVIDIA Testium 480GB"])
def test_what_the_counter_has_is_asked_and_not_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, is_module: bool
) -> None:
    root = fake_host(tmp_path, sockets(1))
    gpu = superchip(name, is_module=is_module)
    with fake_nvml(tmp_path, [gpu]) as driver:
        for key, value in driver.environment.items():
            monkeypatch.setenv(key, value)
        with sensing(root, nvml_library=str(driver.library)) as session:
            energy, start_ns, end_ns = joules(session, 3.0)
            seconds = (end_ns - start_ns) / 1e9
            entries = {one.id: one for one in session.entries}
            if is_module:
                assert counted(session) == {"gpu:0"}
                assert "in the reading of gpu:0" in entries["cpu:0"].why
                watts = WATTS["Module"]
            else:
                assert counted(session) == {"gpu:0", "cpu:0"}
                watts = 100 + WATTS["Grace"]
            assert not entries["module:0"].counted
            assert sum(energy.values()) == pytest.approx(watts * seconds, rel=0.02)


def superchip(name: str, *, is_module: bool = True) -> Gpu:
    """Return a GPU of 100 W on a module of 165.6 W."""
    return Gpu(
        name=name,
        arch=9,
        period_ms=100,
        average_ms=1000,
        instant_ms=100,
        power="constant:100",
        module=f"constant:{WATTS['Module']}",
        module_counter=is_module,
    )


def gpus(*nodes: int) -> dict[str, Value]:
    """Return GPUs at the addresses of the pretended driver, each at a memory node."""
    tree: dict[str, Value] = {}
    for place, node in enumerate(nodes):
        address = f"0000:{0x10 + place:02x}:00.0"
        tree |= pci_device(address, "0x10de", "0x2342", "0x030200")
        tree[f"{PCI}/{address}/numa_node"] = node
    return tree


@pytest.mark.parametrize(("nodes", "modules"), [((0, 0), 1), ((0, 1), 2), ((0, 0, 1, 1), 2)])
def test_gpus_of_one_module_count_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nodes: tuple[int, ...], modules: int
) -> None:
    root = fake_host(tmp_path, machine(sockets(modules), gpus(*nodes)))
    boards = [superchip("NVIDIA GH200 480GB") for _ in nodes]
    with fake_nvml(tmp_path, boards) as driver:
        for key, value in driver.environment.items():
            monkeypatch.setenv(key, value)
        with sensing(root, nvml_library=str(driver.library)) as session:
            energy, start_ns, end_ns = joules(session, 3.0)
            watts = modules * WATTS["Module"]
            total = sum(part for part in energy.values() if part == part)
            assert total == pytest.approx(watts * (end_ns - start_ns) / 1e9, rel=0.02)
            assert len(counted(session)) == modules


def test_without_nvidias_library_the_gpu_is_in_its_module(tmp_path: Path) -> None:
    with sensing(fake_host(tmp_path, machine(sockets(1), gpus(0)))) as session:
        assert counted(session) == {"module:0"}
        assert not [one for one in session.missing if one.device]
        assert any("module's power meter" in one.reason for one in session.missing)


def test_more_gpus_than_modules_hold_are_not_in_them(tmp_path: Path) -> None:
    with sensing(fake_host(tmp_path, machine(sockets(1), gpus(0, 0, 0)))) as session:
        assert len([one for one in session.missing if one.device]) == 3


def test_a_meter_without_a_name_is_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = machine(
        meter(3, "", 412.0, power1_average_interval=1000),
        meter(4, "", 9.0, power1_is_battery=1),
        meter(5, "Grace Power Socket 0", 292.5),
    )
    root = fake_host(tmp_path, tree)
    with sensing(root) as session:
        (node,) = [one for one in session.entries if one.kind == "node"]
        assert node.id == "node:hwmon3"
        assert counted(session) == {"cpu:0"}
        assert "never added" in node.why
        assert node.tick_ns == 1_000_000_000
    monkeypatch.setenv("CARBONTRACKER_ROOT", str(root))
    monkeypatch.setenv("CARBONTRACKER_NVML", "/nonexistent")
    text = sensors_table(sensors.sensors(2.5))
    assert "The components explain 71% of the 412 W of node:hwmon3." in text


def test_a_load_that_changes_is_integrated(tmp_path: Path) -> None:
    root = fake_host(tmp_path, machine(meter(0, "Grace Power Socket 0", 40)))
    path = root / "sys/class/hwmon/hwmon0/device/power1_average"
    wave = Counter(path, "square:40,240,1.0,0.5", period_us=50_000, watts=1)
    with running_powercap(tmp_path, [wave], punctual=True) as running, sensing(root) as session:
        energy, start_ns, end_ns = joules(session, 5.0)
        truth = running.truth(0, start_ns, end_ns)
        assert energy["cpu:0"] == pytest.approx(truth, rel=0.05)


def test_more_than_a_module_draws_is_no_reading(tmp_path: Path) -> None:
    tree = machine(meter(0, "Grace Power Socket 0", 0, power1_average=4_294_967_295_000))
    with sensing(fake_host(tmp_path, tree)) as session:
        energy, _, _ = joules(session, 0.5)
        assert energy["cpu:0"] != energy["cpu:0"]  # NaN: unknown


@pytest.mark.parametrize("text", ["0", ""])
def test_no_value_is_not_0_watts(tmp_path: Path, text: str) -> None:
    tree = machine(meter(0, "Grace Power Socket 0", 0, power1_average=text))
    with sensing(fake_host(tmp_path, tree)) as session:
        (cpu,) = [one for one in session.entries if one.kind == "cpu" and one.counted]
        assert cpu.quality == "modelled"
        assert [one.what for one in session.missing if one.source == "grace"] == [
            "cpu:0 (Grace Power Socket 0)"
        ]


@pytest.mark.parametrize("text", [None, "0"], ids=["no file", "0 W"])
def test_a_module_whose_meter_is_not_read_leaves_its_parts(
    tmp_path: Path, text: str | None
) -> None:
    tree = machine(sockets(2), gpus(0, 1))
    (folder,) = [
        one.parent for one in map(PurePath, tree) if tree[str(one)] == "Module Power Socket 1"
    ]
    if text is None:
        del tree[f"{folder}/power1_average"]
    else:
        tree[f"{folder}/power1_average"] = text
    with sensing(fake_host(tmp_path, tree)) as session:
        assert counted(session) == {"module:0", "cpu:1"}
        assert len([one for one in session.missing if one.device]) == 1
        energy, start_ns, end_ns = joules(session, 1.0)
        whole = (WATTS["Module"] + WATTS["Grace"]) * (end_ns - start_ns) / 1e9
        read = energy["module:0"] + energy["cpu:1"]  # the GPU that is missing is NaN
        assert read == pytest.approx(whole, rel=0.005)
