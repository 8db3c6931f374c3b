"""Machines that are not ours: what their processors are called and may draw, by our tables.

Each stands for a kind: the expected watts are those of the table's row by hand, or the range that
published figures of such a machine lie in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from carbontracker.energy.config import Config
from carbontracker.energy.session import acquire, release
from tests.support.fakehost import (
    NO_CODES,
    arm_cpuinfo,
    cpuinfo,
    fake_host,
    meminfo,
    powercap_zone,
    proc_stat,
)

if TYPE_CHECKING:
    from pathlib import Path

GUEST = "fpu vme tsc msr hypervisor"


@dataclass(frozen=True)
class Said:
    """The description of the processors of a machine."""

    name: str
    detail: str
    idle_watts: float
    busy_watts: float
    below: float
    """How far below the estimate its interval goes, as a share of it."""
    above: float


def look(tmp_path: Path, files: dict[str, Any]) -> Said:
    """Return the description of an idle machine, so that both ends are in the detail."""
    tree = {"proc/stat": proc_stat(4, 1_000, 9_000), "proc/meminfo": meminfo(16), **files}
    root = fake_host(tmp_path, tree)
    session = acquire(Config(root=str(root), nvml_library="/nonexistent"))
    try:
        (entry,) = [one for one in session.entries if one.kind == "cpu"]
        found = re.search(
            r"; ([\d.]+) W idle to ([\d.]+) W busy, -(\d+) % to \+(\d+) %; utilisation unknown",
            entry.detail,
        )
        assert found, entry.detail
        idle, busy, below, above = (float(each) for each in found.groups())
        # Without a utilisation the error reaches from below idle to above busy, half way between.
        middle = (idle + busy) / 2
        ends = (idle * (1 - below / 100), busy * (1 + above / 100))
        reach = max(abs(end / middle - 1) for end in ends)
        assert entry.relative_error == pytest.approx(reach, rel=0.03)
        return Said(entry.name, entry.detail, idle, busy, below / 100, above / 100)
    finally:
        release(session)


NAMED, SLICE, KIND, UNKNOWN = (0.4, 0.4), (0.6, 0.6), (0.7, 0.7), (0.6, 1.5)

CLOUDS: list[tuple[str, dict[str, Any], tuple[float, float], tuple[float, float]]] = [
    # 16 vCPUs, two to a core, of a 205 W chip of 32 cores
    (
        "Intel(R) Xeon(R) Platinum 8352Y CPU @ 2.20GHz",
        {"cores": 8, "threads": 2, "codes": (6, 106, 6)},
        (0.2 * 205 / 4, 0.9 * 205 / 4),
        SLICE,
    ),
    # A row of the table without cores: per vCPU of Haswell
    (
        "Intel(R) Xeon(R) CPU E5-2676 v3 @ 2.40GHz",
        {"cores": 2, "threads": 2, "codes": (6, 63, 2)},
        (4 * 1.0, 4 * 4.74),
        KIND,
    ),
    # The number hidden: Broadwell, and Cascade Lake by its stepping
    (
        "Intel(R) Xeon(R) CPU @ 2.20GHz",
        {"cores": 1, "threads": 2, "codes": (6, 79, 0)},
        (2 * 0.71, 2 * 3.69),
        KIND,
    ),
    (
        "Intel(R) Xeon(R) CPU @ 2.80GHz",
        {"cores": 4, "threads": 2, "codes": (6, 85, 7)},
        (8 * 0.64, 8 * 3.97),
        KIND,
    ),
    # The name of a hypervisor
    (
        "AMD EPYC-Milan Processor",
        {"cores": 4, "threads": 2, "codes": (25, 1, 1)},
        (8 * 0.45, 8 * 2.02),
        KIND,
    ),
    # A processor made for one cloud, by the digits that tell its generation
    (
        "AMD EPYC 7K83 64-Core Processor",
        {"cores": 4, "threads": 2, "codes": NO_CODES},
        (8 * 0.45, 8 * 2.02),
        KIND,
    ),
    # The codes tell what the digits of its generation share: Turin's dense cores, Cooper Lake
    (
        "AMD EPYC 9T75 160-Core Processor",
        {"cores": 8, "threads": 2, "codes": (26, 17, 0)},
        (16 * 0.27, 16 * 1.2),
        KIND,
    ),
    (
        "Intel(R) Xeon(R) Platinum 8369HC CPU @ 3.30GHz",
        {"cores": 8, "threads": 2, "codes": (6, 85, 11)},
        (16 * 0.85, 16 * 3.9),
        KIND,
    ),
]


@pytest.mark.parametrize(("name", "options", "watts", "width"), CLOUDS)
def test_a_virtual_machine_is_never_a_whole_chip(
    tmp_path: Path,
    name: str,
    options: dict[str, Any],
    watts: tuple[float, float],
    width: tuple[float, float],
) -> None:
    said = look(tmp_path, {"proc/cpuinfo": cpuinfo(name, flags=GUEST, **options)})
    assert (said.idle_watts, said.busy_watts) == pytest.approx(watts, abs=0.06)
    assert (said.below, said.above) == pytest.approx(width)
    assert said.name == name


# A vCPU that is shown as a core with one thread: who sells it, what it is taken for.
SINGLE_THREADS: list[tuple[str, str, str, float]] = [
    ("Google", "Google Compute Engine", "", 2.0),
    ("Amazon EC2", "c7a.2xlarge", "", 2.0),
    ("Microsoft Corporation", "Virtual Machine", "", 2.0),
    ("DigitalOcean", "Droplet", "", 1.0),
    ("Vultr", "VX1", "", 1.0),
    ("UpCloud", "Cloud Server", "", 1.0),
    ("OpenStack Foundation", "OpenStack Nova", "", 1.0),
    ("", "", "", 1.0),  # Firecracker, Kata: no firmware
    ("", "", "Linux version 4.19.0-gvisor", 1.0),
    ("", "", "Linux version 6.6.87.2-microsoft-standard-WSL2", 2.0),
    ("QEMU", "Standard PC (Q35 + ICH9, 2009)", "", 1.5),
    ("VMware, Inc.", "VMware20,1", "", 1.5),
    ("Xen", "HVM domU", "", 1.5),
    ("A new cloud", "Its product", "", 1.5),
]


@pytest.mark.parametrize(("maker", "product", "kernel", "threads"), SINGLE_THREADS)
def test_one_thread_per_core_is_accepted_from_clouds_that_switch_smt_off(
    tmp_path: Path, maker: str, product: str, kernel: str, threads: float
) -> None:
    files = {
        "proc/version": kernel,
        "sys/class/dmi/id/sys_vendor": maker,
        "sys/class/dmi/id/product_name": product,
    }
    tree = {path: text for path, text in files.items() if text}
    # By the micro-architecture: Milan, per hardware thread.
    info = cpuinfo("AMD EPYC-Milan Processor", cores=8, threads=1, codes=(25, 1, 1), flags=GUEST)
    said = look(tmp_path / "kind", {"proc/cpuinfo": info, **tree})
    count = 8 * threads
    assert (said.idle_watts, said.busy_watts) == pytest.approx(
        (0.45 * count, 2.02 * count), abs=0.06
    )
    # By the model: 64 cores of two threads, 280 W.
    name = "AMD EPYC 7763 64-Core Processor"
    info = cpuinfo(name, cores=8, threads=1, codes=(25, 1, 1), flags=GUEST)
    said = look(tmp_path / "model", {"proc/cpuinfo": info, **tree})
    assert said.busy_watts == pytest.approx(0.9 * 280 * count / 128, abs=0.06)


@pytest.mark.parametrize("sockets", [1, 8, 240])
def test_invented_sockets_neither_multiply_nor_cap(tmp_path: Path, sockets: int) -> None:
    name = "AMD EPYC 9754 128-Core Processor"
    cores = 240 // sockets
    info = cpuinfo(name, sockets=sockets, cores=cores, threads=1, codes=(25, 160, 2), flags=GUEST)
    said = look(tmp_path, {"proc/cpuinfo": info, "sys/class/dmi/id/sys_vendor": "QEMU"})
    assert said.busy_watts == pytest.approx(0.9 * 360 * 240 * 0.75 / 128, abs=0.06)
    assert (said.below, said.above) == pytest.approx(SLICE)
    assert "the 240 CPUs of this virtual machine being 1.4 such processors" in said.detail


def test_a_guest_draws_no_more_than_the_one_chip_of_a_client(tmp_path: Path) -> None:
    # The table does not say how many cores it has; threads of its kind are mostly a desktop's.
    name = "13th Gen Intel(R) Core(TM) i9-13900HX"
    info = cpuinfo(name, cores=16, threads=2, codes=(6, 183, 1), flags=GUEST)
    said = look(tmp_path, {"proc/cpuinfo": info})
    most = (55 * 157) ** 0.5  # between its TDP and its turbo power
    assert said.busy_watts == pytest.approx(0.9 * most, abs=0.06)
    assert said.idle_watts == pytest.approx(0.1 * most, abs=0.06)
    assert (said.below, said.above) == pytest.approx(KIND)


def test_a_whole_laptop_under_windows_is_one_chip(tmp_path: Path) -> None:
    wsl = {"proc/version": "Linux version 6.6.87.2-microsoft-standard-WSL2"}
    # Six and eight cores of one or two threads: their position is not known.
    name = "13th Gen Intel(R) Core(TM) i7-13800HRE"
    info = cpuinfo(name, cores=10, threads=2, codes=(6, 186, 2), flags=GUEST)
    said = look(tmp_path / "mixed", {"proc/cpuinfo": info, **wsl})
    assert said.busy_watts == pytest.approx(0.9 * 45, abs=0.5)
    name = "AMD Ryzen 7 5800H with Radeon Graphics"
    info = cpuinfo(name, cores=8, threads=2, codes=(25, 80, 0), flags=GUEST)
    said = look(tmp_path / "equal", {"proc/cpuinfo": info, **wsl})
    assert said.idle_watts == pytest.approx(4.5, abs=0.06)
    assert (said.below, said.above) == pytest.approx(NAMED)
    # Without a model that is known: each CPU is a thread.
    info = cpuinfo("Intel(R) Core(TM) i7-13999H", cores=10, threads=2, codes=(6, 186, 2))
    said = look(tmp_path / "kind", {"proc/cpuinfo": info, **wsl})
    assert said.busy_watts == pytest.approx(20 * 2.6, abs=0.06)


POWER = "processor\t: {}\ncpu\t\t: POWER{}, altivec supported\n\n"


@pytest.mark.parametrize(
    ("info", "files", "watts"),
    [
        # Of 88 cores with four threads, one of each is online.
        ("".join(POWER.format(4 * i, 9) for i in range(88)), {"present": "0-351"}, 352 * 2.2),
        (
            "".join(POWER.format(8 * i, 8) for i in range(20)),
            {"present": "0-159", "online": ",".join(str(8 * i) for i in range(20))},
            160 * 2.0,
        ),
        ("".join(POWER.format(i, 9) for i in range(16)), {"smt/active": "0"}, 64 * 2.2),
        # Two of four threads are online.
        (
            "".join(POWER.format(i, 9) for i in range(32)),
            {"cpu0/topology/thread_siblings_list": "0-1", "present": "0-63"},
            64 * 2.2,
        ),
        ("".join(POWER.format(i, 9) for i in range(64)), {}, 64 * 2.2),
        (arm_cpuinfo((0xAF, 64), implementer=0x43), {}, 256 * 1.3),
        (
            arm_cpuinfo((0xAF, 224), implementer=0x43),
            {"cpu0/topology/thread_siblings_list": "0,56,112,168"},
            224 * 1.3,
        ),
    ],
)
def test_a_chip_draws_the_same_with_smt_off(
    tmp_path: Path, info: str, files: dict[str, str], watts: float
) -> None:
    tree = {f"sys/devices/system/cpu/{path}": text for path, text in files.items()}
    said = look(tmp_path, {"proc/cpuinfo": info, **tree})
    assert said.busy_watts == pytest.approx(watts, abs=0.06)


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({"online": "0-5,8-9", "present": "0-15"}, 8),
        ({"present": "0-15"}, 16),
        ({}, 1),
    ],
)
@pytest.mark.parametrize("info", ["", None])
def test_cpus_are_counted_where_cpuinfo_is_empty(
    tmp_path: Path, info: str | None, files: dict[str, str], count: int
) -> None:
    tree: dict[str, Any] = {f"sys/devices/system/cpu/{name}": text for name, text in files.items()}
    said = look(tmp_path, tree if info is None else {"proc/cpuinfo": info, **tree})
    assert said.busy_watts == pytest.approx(3.5 * count, abs=0.06)


@pytest.mark.parametrize(
    ("name", "codes", "tdp_watts", "cores"),
    [
        ("AMD EPYC 7543 32-Core Processor", (25, 1, 1), 225, 32),
        ("Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz", (6, 85, 7), 150, 20),
    ],
)
def test_a_container_has_the_cpus_that_it_lists(
    tmp_path: Path, name: str, codes: tuple[int, int, int], tdp_watts: float, cores: int
) -> None:
    info = cpuinfo(name, sockets=2, cores=cores, threads=2, listed=4, codes=codes)
    said = look(tmp_path, {"proc/cpuinfo": info})
    # All four lie on one of the two sockets.
    idle_share = 0.25 if "EPYC" in name else 0.2
    part = 4 / (2 * cores) * tdp_watts
    assert (said.idle_watts, said.busy_watts) == pytest.approx(
        (idle_share * part, 0.9 * part), abs=0.06
    )
    assert "the 4 CPUs of this container being" in said.detail
    assert (said.below, said.above) == pytest.approx(SLICE)


@pytest.mark.parametrize(
    ("name", "idle_watts", "busy_watts"),
    [
        ("AMD Ryzen Threadripper PRO 5965WX 24-Cores", 70.0, 252.0),
        ("AMD Ryzen 7 7700X 8-Core Processor", 10.5, 0.9 * 142),  # PPT of 105 W
        ("12th Gen Intel(R) Core(TM) i7-12700KF", 12.5, 0.9 * 190),
        ("AMD EPYC 4344P 8-Core Processor", 6.5, 0.9 * 88),  # of the same socket
        ("AMD EPYC 9654 96-Core Processor", 90.0, 324.0),
        ("Intel(R) Core(TM) i7-9700K CPU @ 3.60GHz", 9.5, 85.5),
        # Notebooks: between their TDP and their turbo power
        ("13th Gen Intel(R) Core(TM) i7-13650HX", 5.5, 0.9 * (55 * 157) ** 0.5),
        ("12th Gen Intel(R) Core(TM) i7-12650H", 4.5, 0.9 * (45 * 115) ** 0.5),
        ("Intel(R) Core(TM) Ultra 5 135H", 2.8, 0.9 * (28 * 115) ** 0.5),
        ("Intel(R) Core(TM) Ultra 5 238V", 1.7, 0.9 * (17 * 37) ** 0.5),
    ],
)
def test_a_whole_machine_draws_what_its_model_may(
    tmp_path: Path, name: str, idle_watts: float, busy_watts: float
) -> None:
    said = look(tmp_path, {"proc/cpuinfo": cpuinfo(name, codes=NO_CODES)})
    assert (said.idle_watts, said.busy_watts) == pytest.approx((idle_watts, busy_watts), rel=0.01)
    assert (said.below, said.above) == pytest.approx(NAMED)


def limited(watts: int) -> dict[str, Any]:
    """Return the files of a package with a long-term limit, whose counter is not to be read."""
    zone = powercap_zone("intel-rapl:0", "package-0")
    folder = next(path for path in zone if path.endswith("/name")).removesuffix("/name")
    return {
        **{path: value for path, value in zone.items() if not path.endswith("energy_uj")},
        f"{folder}/constraint_0_power_limit_uw": f"{watts}000000\n",
    }


def test_the_power_limit_of_a_desktop_holds(tmp_path: Path) -> None:
    info = cpuinfo("12th Gen Intel(R) Core(TM) i7-12700KF", codes=NO_CODES)
    said = look(tmp_path, {"proc/cpuinfo": info, **limited(125)})
    assert said.busy_watts == pytest.approx(0.9 * 125.0, abs=0.06)
    assert "at most 125.0 W (the limit that powercap shows)" in said.detail


NO_LIMIT = (0.6, 0.6)


@pytest.mark.parametrize(
    ("name", "limit", "watts", "width"),
    [
        ("13th Gen Intel(R) Core(TM) i5-13500", 4095, 154, NO_LIMIT),
        ("12th Gen Intel(R) Core(TM) i9-12900", 300, 202, NO_LIMIT),
        ("13th Gen Intel(R) Core(TM) i5-13500", 95, 95, NAMED),
        ("13th Gen Intel(R) Core(TM) i9-13900K", 4095, 253, NAMED),  # as such boards do
        # Its turbo power is not known.
        ("Intel(R) Core(TM) i9-10900 CPU @ 2.80GHz", 4095, 2.5 * 65, NO_LIMIT),
        ("Intel(R) Core(TM) i9-10900 CPU @ 2.80GHz", 125, 125, NAMED),
        # Between its TDP and its turbo power: a notebook's limit stands elsewhere as well.
        ("Intel(R) Core(TM) Ultra 9 285H", 200, (45 * 115) ** 0.5, NAMED),
        # A server's firmware that writes none leaves its TDP.
        ("Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz", 4095, 150, NAMED),
    ],
)
def test_firmware_without_a_limit_lets_a_desktop_draw_its_turbo_power(
    tmp_path: Path, name: str, limit: int, watts: float, width: tuple[float, float]
) -> None:
    said = look(tmp_path, {"proc/cpuinfo": cpuinfo(name, codes=NO_CODES), **limited(limit)})
    assert said.busy_watts == pytest.approx(0.9 * watts, abs=0.06)
    assert (said.below, said.above) == pytest.approx(width)


@pytest.mark.parametrize(("limit", "watts"), [(35, 0.9 * 35), (4095, 12 * 2.6)])
def test_the_power_limit_holds_where_only_the_kind_of_core_is_known(
    tmp_path: Path, limit: int, watts: float
) -> None:
    info = cpuinfo("Genuine Intel(R) 0000", cores=6, threads=2, codes=(6, 154, 1))
    said = look(tmp_path, {"proc/cpuinfo": info, **limited(limit)})
    assert said.busy_watts == pytest.approx(watts, abs=0.06)
    assert (said.below, said.above) == pytest.approx(KIND)
    assert said.idle_watts <= 0.2 * 35


@pytest.mark.parametrize(
    ("vendor", "watts"), [("0x489", 0.9), ("0x710", 0.7), ("0x5b7", 1.6), ("0x999", 1.3)]
)
def test_the_makers_of_risc_v_are_known_by_their_numbers(
    tmp_path: Path, vendor: str, watts: float
) -> None:
    hart = "processor\t: {0}\nhart\t\t: {0}\nisa\t\t: rv64imafdc_zba_zbb\nmvendorid\t: {1}\n\n"
    said = look(tmp_path, {"proc/cpuinfo": "".join(hart.format(i, vendor) for i in range(4))})
    assert said.busy_watts == pytest.approx(4 * watts, abs=0.06)


BOARDS: list[tuple[str, str, tuple[float, float], tuple[float, float]]] = [
    ("Raspberry Pi 3 Model B Plus Rev 1.3", arm_cpuinfo((0xD03, 4)), (0.3, 1.2), (1.5, 4)),
    ("Raspberry Pi 4 Model B Rev 1.5", arm_cpuinfo((0xD08, 4)), (0.8, 2.5), (4, 8)),
    ("Orange Pi 5 Plus", arm_cpuinfo((0xD05, 4), (0xD0B, 4)), (0.8, 3), (5, 12)),
    ("NVIDIA Jetson Xavier NX", arm_cpuinfo((0x004, 6), implementer=0x4E), (1, 4), (6, 15)),
    (
        "Apple MacBook Air (M2)",
        arm_cpuinfo((0x32, 4), (0x33, 4), implementer=0x61),
        (0.2, 2),
        (12, 25),
    ),
    ("SolidRun LX2160A Honeycomb", arm_cpuinfo((0xD08, 16)), (4, 12), (18, 32)),
]


@pytest.mark.parametrize(("board", "info", "idle", "busy"), BOARDS)
def test_a_board_is_named_and_draws_what_such_boards_do(
    tmp_path: Path,
    board: str,
    info: str,
    idle: tuple[float, float],
    busy: tuple[float, float],
) -> None:
    said = look(tmp_path, {"proc/cpuinfo": info, "proc/device-tree/model": f"{board}\0"})
    assert said.name.startswith(f"{board} (")
    assert idle[0] <= said.idle_watts <= idle[1], said
    assert busy[0] <= said.busy_watts <= busy[1], said
    assert (said.below, said.above) == pytest.approx(KIND)


@pytest.mark.parametrize(
    ("maker", "product", "part", "name"),
    [
        ("Amazon EC2", "c6g.2xlarge", 0xD0C, "AWS Graviton2"),
        ("Amazon EC2", "r8g.2xlarge", 0xD4F, "AWS Graviton4"),
        ("Google", "Google Compute Engine", 0xD4F, "Google Axion"),
        ("Microsoft Corporation", "Virtual Machine", 0xD49, "Azure Cobalt 100"),
        ("Supermicro", "ARS-111GL-NHR", 0xD4F, "NVIDIA Grace"),
        ("Amazon EC2", "p6e-gb200.36xlarge", 0xD4F, "NVIDIA Grace"),
    ],
)
def test_an_arm_server_is_identified_by_its_cores_and_its_seller(
    tmp_path: Path, maker: str, product: str, part: int, name: str
) -> None:
    said = look(
        tmp_path,
        {
            "proc/cpuinfo": arm_cpuinfo((part, 8)),
            "sys/class/dmi/id/sys_vendor": f"{maker}\n",
            "sys/class/dmi/id/product_name": f"{product}\n",
        },
    )
    assert said.name.startswith(f"{product} (8 x Neoverse-")
    assert name in said.name
    assert 8 * 0.2 <= said.idle_watts <= 8 * 0.6, said
    assert 8 * 1.2 <= said.busy_watts <= 8 * 3.0, said


GUESTS: dict[str, dict[str, Any]] = {
    "ARM of a cloud": {
        "proc/cpuinfo": arm_cpuinfo((0xD0C, 4)),
        "sys/class/dmi/id/sys_vendor": "Hetzner\n",
        "sys/class/dmi/id/product_name": "vServer\n",
    },
    "gVisor": {
        "proc/cpuinfo": re.sub(
            r"(stepping\s*): 8", r"\1: unknown", cpuinfo("unknown", cores=4, codes=(6, 143, 8))
        )
    },
    "Firecracker": {
        "proc/cpuinfo": arm_cpuinfo((0xD40, 2)),
        "proc/device-tree/model": "linux,dummy-virt\0",
    },
    "POWER": {
        "proc/cpuinfo": "processor\t: 0\ncpu\t\t: POWER9 (architected)\n\nplatform\t: pSeries\n"
    },
}


@pytest.mark.parametrize("name", GUESTS)
def test_the_reason_for_missing_counters_names_a_virtual_machine(tmp_path: Path, name: str) -> None:
    tree = {"proc/stat": proc_stat(4, 1_000, 9_000), "proc/meminfo": meminfo(16), **GUESTS[name]}
    session = acquire(Config(root=str(fake_host(tmp_path, tree)), nvml_library="/nonexistent"))
    try:
        missing = {one.source: one for one in session.missing if one.source != "nvml"}
    finally:
        release(session)
    assert "virtual machine: only its host" in missing["powercap"].reason
    assert not any(missing[source].remedy for source in ("powercap", "rapl_perf", "rapl_msr"))


@pytest.mark.parametrize(
    ("name", "codes", "idle_watts", "memory_watts"),
    [
        ("Intel(R) Xeon(R) E-2286M  CPU @ 2.40GHz", (6, 158, 13), 0.1 * 45, (0.8, 2.4)),
        ("Intel(R) Xeon(R) W-1290P CPU @ 3.70GHz", (6, 165, 5), 0.1 * 125, (1, 3)),
        ("AMD EPYC 4364P 8-Core Processor", (25, 97, 2), 0.1 * 105, (1, 3)),
    ],
)
def test_a_desktops_processor_under_a_servers_name_is_a_desktops(
    tmp_path: Path,
    name: str,
    codes: tuple[int, int, int],
    idle_watts: float,
    memory_watts: tuple[float, float],
) -> None:
    info = cpuinfo(name, cores=8, threads=2, codes=codes)
    assert look(tmp_path, {"proc/cpuinfo": info}).idle_watts == pytest.approx(idle_watts, abs=0.06)
    assert memory_watts_of(tmp_path) == pytest.approx(memory_watts, abs=0.06)


def memory_watts_of(tmp_path: Path) -> tuple[float, float]:
    """Return both ends of what the memory of the machine that was looked at may draw."""
    session = acquire(Config(root=str(tmp_path / "host"), nvml_library="/nonexistent"))
    try:
        (detail,) = [one.detail for one in session.entries if one.kind == "dram"]
    finally:
        release(session)
    found = re.search(r", ([\d.]+) to ([\d.]+) W together; half way", detail)
    assert found, detail
    return float(found[1]), float(found[2])


@pytest.mark.parametrize(
    "name",
    ["AMD Ryzen 5 8600G w/ Radeon 760M Graphics", "AMD Ryzen 5 PRO 8500G with Radeon 740M"],
)
def test_graphics_in_the_name_of_a_desktop_make_no_notebook(tmp_path: Path, name: str) -> None:
    look(tmp_path, {"proc/cpuinfo": cpuinfo(name, cores=6, threads=2, codes=(25, 117, 2))})
    assert memory_watts_of(tmp_path) == pytest.approx((1, 3), abs=0.06)


@pytest.mark.parametrize(
    ("name", "codes"),
    [("AMD Eng Sample: 100-000000001-01", (25, 17, 0)), ("Genuine Intel(R) 0000", (6, 207, 1))],
)
def test_several_packages_are_a_server(
    tmp_path: Path, name: str, codes: tuple[int, int, int]
) -> None:
    files = {"proc/cpuinfo": cpuinfo(name, sockets=2, codes=codes), "proc/meminfo": meminfo(256)}
    look(tmp_path, files)
    assert memory_watts_of(tmp_path) == pytest.approx((24, 80), abs=0.06)


def test_other_architectures_are_named(tmp_path: Path) -> None:
    threads = range(160)
    power = "".join(f"processor\t: {i}\ncpu\t\t: POWER10, altivec supported\n\n" for i in threads)
    said = look(tmp_path / "power", {"proc/cpuinfo": power + "machine\t\t: PowerNV\n"})
    assert said.name == "PowerNV (POWER10)"
    assert 200 <= said.busy_watts <= 500  # 160 threads are one or two sockets
    later = power.replace("POWER10,", "Power11 (raw),") + "machine\t\t: PowerNV\n"
    assert look(tmp_path / "later", {"proc/cpuinfo": later}).name == "PowerNV (Power11)"
    hart = "processor\t: {0}\nhart\t\t: {0}\nisa\t\t: rv64imafdcv\nuarch\t\t: {1}\n\n"
    riscv = "".join(hart.format(i, "thead,c920") for i in range(64))
    said = look(tmp_path / "riscv", {"proc/cpuinfo": riscv})
    assert 80 <= said.busy_watts <= 120  # an SG2042 of 120 W
    silent = riscv.replace("uarch\t\t: thead,c920", "mvendorid\t: 0x5b7")
    said = look(tmp_path / "silent", {"proc/cpuinfo": silent})
    assert said.name == "rv64imafdcv vendor 0x5b7"
    assert 80 <= said.busy_watts <= 120
    small = "".join(hart.format(i, "sifive,u74-mc") for i in range(4))
    files = {"proc/cpuinfo": small, "proc/device-tree/model": "StarFive VisionFive 2 v1.3B\0"}
    said = look(tmp_path / "small", files)
    assert said.name == "StarFive VisionFive 2 v1.3B (sifive,u74-mc)"
    assert 1.5 <= said.busy_watts <= 4.5


@pytest.mark.parametrize("info", ["", "processor\t: 0\n", cpuinfo("", codes=NO_CODES)])
def test_unknown_parts_are_named_and_widen_the_error(tmp_path: Path, info: str) -> None:
    said = look(tmp_path, {"proc/cpuinfo": info})
    assert "no TDP known for '" in said.detail
    assert "''" not in said.detail
    assert (said.below, said.above) == pytest.approx(UNKNOWN)


NAMES = [
    "AMD Ryzen Threadripper 7980X 64-Cores",
    "AMD Opteron(TM) Processor 6272                 ",
    "AMD FX(tm)-8350 Eight-Core Processor",
    "AMD A10-7850K Radeon R7, 12 Compute Cores 4C+8G",
    "AMD EPYC-Genoa Processor",
    "AMD EPYC 9T24 96-Core Processor",
    "Intel(R) Xeon(R) Platinum 8369B CPU @ 2.90GHz",
    "Intel(R) Xeon(R) CPU E5-4650 0 @ 2.70GHz",
    "Intel(R) Xeon(R) CPU E5-2686 v4 @ 2.30GHz",
    "Intel Core Processor (Haswell, no TSX, IBRS)",
    "Westmere E56xx/L56xx/X56xx (Nehalem-C)",
    "Intel Xeon Processor (SapphireRapids)",
    "Intel(R) Core(TM) i7 CPU       Q 720  @ 1.60GHz",
    "11th Gen Intel(R) Core(TM) i7-1165G7 @ 2.80GHz",
    "Hygon C86 7185 32-core Processor",
    "Loongson-3A6000-HV",
    "Common 32-bit KVM processor",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_as_kernels_print_them_give_a_figure(tmp_path: Path, name: str) -> None:
    said = look(tmp_path, {"proc/cpuinfo": cpuinfo(name, codes=NO_CODES)})
    assert "no TDP known" not in said.detail
