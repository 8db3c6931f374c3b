"""AMD GPUs: hwmon, the table gpu_metrics, and which of the two counts.

The tables are made here from the layout in the kernel's header.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from tests.support.fakehost import (
    Counter,
    cpuinfo,
    energy_key,
    fake_host,
    powercap_tree,
    proc_stat,
    running_powercap,
)
from tests.support.sensing import PCI, counted, joules, pci_card, pci_device, sensing

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.fakehost import Value

RX = "0000:03:00.0"
WATT = 1_000_000
COUNT_UJ = 1e6 / 65536
"""Of the counter, where the kernel's header states its unit."""
COUNTERS = {(1, 3): (120, 24), (1, 4): (288, 24), (1, 5): (360, 88)}
"""Size of the table and offset of the counter."""


def table(revision: tuple[int, int], counter: int, size: int | None = None) -> bytes:
    """Return a table with its header and its counter; every other field is absent."""
    whole, offset = COUNTERS[revision]
    data = bytearray(b"\xff" * whole)
    struct.pack_into("<HBB", data, 0, whole, *revision)
    struct.pack_into("<Q", data, offset, counter)
    return bytes(data[:size]) if size else bytes(data)


def chosen(rocr: str | None, hip: str | None = None) -> tuple[tuple[str, str], ...]:
    """Return the variables that are set."""
    variables = {"ROCR_VISIBLE_DEVICES": rocr, "HIP_VISIBLE_DEVICES": hip}
    return tuple((name, text) for name, text in variables.items() if text is not None)


def tree_of(*cards: dict[str, Value]) -> dict[str, Value]:
    """Return a machine with these cards."""
    tree: dict[str, Value] = {
        "proc/cpuinfo": cpuinfo("AMD Testium 7"),
        "proc/stat": proc_stat(4, 1_000, 9_000),
    }
    for card in cards:
        tree |= card
    return tree


def desktop(power: Value = 36 * WATT, **settings: object) -> dict[str, Value]:
    """Return a card of a desktop."""
    hwmon: dict[str, Value] = {
        "power1_average": power,
        "power1_label": "PPT",
        "power1_cap": 289 * WATT,
        "power1_cap_max": 332 * WATT,
    }
    return pci_card(RX, "0x73bf", hwmon, **settings)  # type: ignore[arg-type]


def put_table(root: Path, data: bytes, address: str = RX) -> Path:
    """Write the table of a card and return its path."""
    path = root / PCI / address / "gpu_metrics"
    path.write_bytes(data)
    return path


def test_power_is_integrated_where_there_is_no_table(tmp_path: Path) -> None:
    root = fake_host(tmp_path, tree_of(desktop()))
    with sensing(root) as session:
        (gpu,) = [one for one in session.entries if one.kind == "gpu"]
        assert (gpu.id, gpu.quality, gpu.source) == ("gpu:0", "integrated", "amdgpu")
        assert gpu.verified == "recorded dump"
        assert gpu.limit_watts == 289
        energy, start_ns, end_ns = joules(session, 2.0)
        assert energy["gpu:0"] == pytest.approx(36 * (end_ns - start_ns) / 1e9, rel=0.005)


@pytest.mark.parametrize("seen", [0, 17_691_682])
def test_a_counter_that_stands_still_is_never_0_watts(tmp_path: Path, seen: int) -> None:
    root = fake_host(tmp_path, tree_of(desktop(32 * WATT)))
    put_table(root, table((1, 3), seen))
    with sensing(root) as session:
        (gpu,) = [one for one in session.entries if one.kind == "gpu"]
        assert (gpu.id, gpu.quality) == ("gpu:0", "integrated")
        assert "stands still" in gpu.detail
        energy, start_ns, end_ns = joules(session, 1.0)
        assert energy["gpu:0"] == pytest.approx(32 * (end_ns - start_ns) / 1e9, rel=0.005)


@pytest.mark.parametrize(
    ("revision", "unit_uj", "said"),
    [((1, 3), COUNT_UJ, "2^-16 J"), ((1, 3), 1000.0, "mJ"), ((1, 5), COUNT_UJ, "2^-16 J")],
)
def test_the_unit_of_a_counter_is_found_by_comparison(
    tmp_path: Path, revision: tuple[int, int], unit_uj: float, said: str
) -> None:
    root = fake_host(tmp_path, tree_of(desktop(140 * WATT)))
    path = put_table(root, table(revision, 17_691_682))
    counter = Counter(
        path, "constant:140", start_uj=270_000_000, unit_uj=unit_uj, offset=COUNTERS[revision][1]
    )
    with running_powercap(tmp_path, [counter], punctual=True) as moving, sensing(root) as session:
        owner, power = [one for one in session.entries if one.kind == "gpu"]
        assert (owner.id, owner.quality, owner.counted) == ("gpu:0", "measured", True)
        assert said in owner.detail
        assert (power.id, power.standby_for) == ("gpu:0/power", "gpu:0")
        energy, start_ns, end_ns = joules(session, 3.0)
        assert energy["gpu:0"] == pytest.approx(moving.truth(0, start_ns, end_ns), rel=0.005)
        assert [name for name in energy if name.startswith("gpu")] == ["gpu:0"]


@pytest.mark.parametrize(
    ("revision", "unit_uj"), [((1, 3), 100.0), ((1, 5), 1000.0)], ids=["neither", "not as stated"]
)
def test_a_counter_in_an_unknown_unit_never_owns_a_total(
    tmp_path: Path, revision: tuple[int, int], unit_uj: float
) -> None:
    root = fake_host(tmp_path, tree_of(desktop(140 * WATT)))
    path = put_table(root, table(revision, 1_000_000))
    counter = Counter(path, "constant:140", unit_uj=unit_uj, offset=COUNTERS[revision][1])
    counter = Counter(**(vars(counter) | {"start_uj": 1_000_000}))
    with running_powercap(tmp_path, [counter]), sensing(root) as session:
        (gpu,) = [one for one in session.entries if one.kind == "gpu"]
        assert (gpu.quality, gpu.counted) == ("integrated", True)
        assert "its energy counter is not used" in gpu.detail


@pytest.mark.parametrize(
    "data",
    [
        table((1, 3), 5, size=119),
        struct.pack("<HBB", 4096, 1, 3) + bytes(4092),
        struct.pack("<HBB", 400, 1, 6) + bytes(4092),
        b"\xff" * 120,
        b"",
        table((1, 3), 2**64 - 1),
    ],
    ids=["shorter", "another size", "newer", "all bits", "empty", "no counter"],
)
def test_a_table_of_another_shape_is_refused(tmp_path: Path, data: bytes) -> None:
    root = fake_host(tmp_path, tree_of(desktop()))
    put_table(root, data)
    with sensing(root) as session:
        assert [one.id for one in session.entries if one.kind == "gpu"] == ["gpu:0"]
        (gpu,) = [one for one in session.entries if one.kind == "gpu"]
        assert gpu.quality == "integrated"


def test_a_table_may_be_shown_as_a_page(tmp_path: Path) -> None:
    root = fake_host(tmp_path, tree_of(desktop(140 * WATT)))
    path = put_table(root, table((1, 5), 1).ljust(4096, b"\0"))
    counter = Counter(path, "constant:140", start_uj=10_000_000, unit_uj=COUNT_UJ, offset=88)
    with running_powercap(tmp_path, [counter]), sensing(root) as session:
        gpus = [one for one in session.entries if one.kind == "gpu"]
        assert [one.quality for one in gpus] == ["measured", "integrated"]


def test_whole_watts_widen_the_interval(tmp_path: Path) -> None:
    root = fake_host(tmp_path, tree_of(desktop(3 * WATT)))
    with sensing(root) as session:
        (gpu,) = [one for one in session.entries if one.kind == "gpu"]
        assert gpu.relative_error == pytest.approx(0.5 / 3)


def apu(power_uw: int = 3_103_000) -> dict[str, Value]:
    """Return the graphics of a processor, with the table of one."""
    hwmon: dict[str, Value] = {
        "power1_average": power_uw,
        "power1_input": power_uw + 1000,
        "power1_label": "PPT",
        "in1_label": "vddnb",
    }
    return pci_card("0000:c1:00.0", "0x15bf", hwmon, card=1)


def test_the_power_of_an_apu_is_that_of_its_package(tmp_path: Path) -> None:
    root = fake_host(tmp_path, tree_of(apu()))
    # The power of the table is in mW, or in W, by its firmware: it is not read.
    put_table(root, struct.pack("<HBB", 120, 2, 1) + b"\x49\x0d" * 58, "0000:c1:00.0")
    with sensing(root) as session:
        (cpu,) = [one for one in session.entries if one.kind == "cpu"]
        assert (cpu.id, cpu.source, cpu.quality) == ("cpu:0", "amdgpu", "integrated")
        assert not [one for one in session.entries if one.kind == "gpu"]
        assert any("part of the processor" in one.reason for one in session.missing)
        energy, start_ns, end_ns = joules(session, 2.0)
        assert energy["cpu:0"] == pytest.approx(3.103 * (end_ns - start_ns) / 1e9, rel=0.005)


@pytest.mark.parametrize("ppt_watts", [3.1, 20.0])
def test_beside_rapl_it_is_shown_and_never_replaces_it(tmp_path: Path, ppt_watts: float) -> None:
    tree = tree_of(apu(round(ppt_watts * 1e6)))
    tree |= powercap_tree(1, children=(), psys=False, mmio=False)
    root = fake_host(tmp_path, tree)
    counter = Counter(root / energy_key("intel-rapl:0"), "constant:10")
    with running_powercap(tmp_path, [counter]), sensing(root) as session:
        cpus = {one.source: one for one in session.entries if one.kind == "cpu"}
        assert cpus["powercap"].id == "cpu:0"
        assert cpus["powercap"].counted
        assert not cpus["amdgpu"].counted
        energy, start_ns, end_ns = joules(session, 4.0)
        assert energy["cpu:0"] == pytest.approx(10.0 * (end_ns - start_ns) / 1e9, rel=0.005)
        assert not session.successions()


def test_a_sleeping_card_is_not_read(tmp_path: Path) -> None:
    root = fake_host(tmp_path, tree_of(desktop(status="suspended")))
    with sensing(root) as session:
        (card,) = [one for one in session.missing if one.device]
        assert card.device == "gpu:card0"
        assert "would wake it" in card.reason
        assert "power/control" in card.remedy


@pytest.mark.parametrize(
    ("hwmon", "driver", "said"),
    [
        ({}, "radeon", "radeon shows no power"),
        ({"power1_label": "PPT"}, "amdgpu", "names a power without a value"),
        ({"temp1_input": 40_000}, "amdgpu", "shows no power"),
    ],
)
def test_a_card_without_power_is_named(
    tmp_path: Path, hwmon: dict[str, Value], driver: str, said: str
) -> None:
    root = fake_host(tmp_path, tree_of(pci_card(RX, "0x6611", hwmon, driver=driver)))
    with sensing(root) as session:
        (card,) = [one for one in session.missing if one.device]
        assert said in card.reason
        assert "its energy is not in the total" in card.reason


def mi300(address: str, card: int, model: str = "0x74a1") -> dict[str, Value]:
    """Return an accelerator in a socket."""
    hwmon: dict[str, Value] = {"power1_input": 140 * WATT, "power1_cap": 750 * WATT}
    return pci_card(address, model, hwmon, card=card)


MANY = [f"0000:{bus:02x}:00.0" for bus in (0x05, 0x25, 0x45, 0x65)]


def topology(*addresses: str) -> dict[str, Value]:
    """Return ROCm's order of the GPUs: the processor first."""
    nodes = "sys/class/kfd/kfd/topology/nodes"
    tree: dict[str, Value] = {f"{nodes}/0/properties": "cpu_cores_count 8\nsimd_count 0"}
    for number, address in enumerate(addresses, 1):
        tree[f"{nodes}/{number}/properties"] = (
            f"cpu_cores_count 0\nsimd_count 304\nlocation_id {int(address[5:7], 16) << 8}\n"
            f"domain 0\nunique_id {0xABC0 + number}"
        )
    return tree


@pytest.mark.parametrize(
    ("rocr", "hip", "kept"),
    [
        (None, None, "0123"),
        ("1,0", None, "01"),
        ("2,3", "1", "3"),
        ("2,3", "2", ""),
        (None, "0,x,1", "0"),
        ("", None, ""),
        (None, "", "0123"),
        ("GPU-abc2", None, "1"),
        ("GPU-abc9,0", None, ""),
        ("0,0,1", None, "01"),
        ("-1", None, ""),
    ],
)
def test_the_variables_of_rocm_compose(
    tmp_path: Path, rocr: str | None, hip: str | None, kept: str
) -> None:
    cards = [mi300(address, card) for card, address in enumerate(MANY)]
    root = fake_host(tmp_path, tree_of(*cards) | topology(*MANY))
    with sensing(root, visible_elsewhere=chosen(rocr, hip)) as session:
        found = {one for one in counted(session) if one.startswith("gpu")}
        assert found == {f"gpu:{digit}" for digit in kept}


def test_the_order_is_that_of_rocm(tmp_path: Path) -> None:
    cards = [mi300(address, card) for card, address in enumerate(MANY)]
    order = topology(MANY[3], MANY[0], MANY[1], MANY[2])
    root = fake_host(tmp_path, tree_of(*cards) | order)
    with sensing(root, visible_elsewhere=chosen("0")) as session:
        assert "gpu:3" in counted(session)
        assert "gpu:0" not in counted(session)


def test_the_second_die_of_a_module_is_in_the_power_of_the_first(tmp_path: Path) -> None:
    dies = [
        pci_card("0000:c1:00.0", "0x7408", {"power1_average": 180 * WATT}, card=0),
        pci_card("0000:c6:00.0", "0x7408", {"power1_average": 0}, card=1),
    ]
    order = topology("0000:c1:00.0", "0000:c6:00.0")
    root = fake_host(tmp_path, tree_of(*dies) | order)
    for visible in (None, "1"):  # a job may have been given one die
        with sensing(root, visible_elsewhere=chosen(visible)) as session:
            assert {one for one in counted(session) if one.startswith("gpu")} == {"gpu:0"}
            assert not [one for one in session.missing if one.device]


def test_a_socket_with_processor_and_memory_replaces_their_sensors(tmp_path: Path) -> None:
    tree = tree_of(mi300(MANY[0], 0, "0x74a0"))
    root = fake_host(tmp_path, tree | powercap_tree(1, children=("dram",), psys=False, mmio=False))
    with sensing(root) as session:
        energy, start_ns, end_ns = joules(session, 1.0)
        seconds = (end_ns - start_ns) / 1e9
        total = sum(one for one in energy.values() if one == one)
        assert total == pytest.approx(140 * seconds, rel=0.005)


def test_a_container_that_was_not_given_the_card(tmp_path: Path) -> None:
    root = fake_host(tmp_path, tree_of(desktop()) | {".dockerenv": ""})
    with sensing(root) as session:
        assert not [one for one in session.entries if one.kind == "gpu"]
    (root / "dev/dri").mkdir(parents=True)
    (root / "dev/dri/card0").touch()
    with sensing(root) as session:
        assert "gpu:0" in counted(session)


@pytest.mark.parametrize("average", ["", 0])
def test_a_power_file_without_a_value_does_not_hide_another(tmp_path: Path, average: Value) -> None:
    hwmon: dict[str, Value] = {"power1_average": average, "power1_input": 50 * WATT}
    root = fake_host(tmp_path, tree_of(pci_card(RX, "0x73bf", hwmon)))
    with sensing(root) as session:
        energy, start_ns, end_ns = joules(session, 1.0)
        assert energy["gpu:0"] == pytest.approx(50 * (end_ns - start_ns) / 1e9, rel=0.005)


def test_a_card_beside_an_unreadable_one(tmp_path: Path) -> None:
    bare = pci_device("0000:83:00.0", "0x1002", "0x744c", "0x030000")
    root = fake_host(tmp_path, tree_of(desktop(), bare))
    with sensing(root) as session:
        assert "gpu:0" in counted(session)
        (card,) = [one for one in session.missing if one.device]
        assert card.device == "gpu:0000:83:00.0"
        assert card.remedy == "sudo modprobe amdgpu"  # an assumption would replace the other
