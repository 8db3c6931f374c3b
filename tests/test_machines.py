"""Machines that are not ours: what their processors are called and may draw, by our tables.

Each stands for a kind: the expected watts are those of the table's row by hand, or the range that
published figures of such a machine lie in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from carbontracker.session import Config, acquire, release
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
    """What is said of the processors of a machine."""

    name: str
    detail: str
    idle_watts: float
    busy_watts: float
    below: float
    """How far below the estimate its interval goes, as a share of it."""
    above: float


def look(tmp_path: Path, files: dict[str, Any]) -> Said:
    """Return what is said of a machine that stands still, so that both ends are in the detail."""
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
    # The name of a hypervisor; one thread a core means that a vCPU is two threads
    (
        "AMD EPYC-Milan Processor",
        {"cores": 8, "threads": 1, "codes": (25, 1, 1)},
        (16 * 0.45, 16 * 2.02),
        KIND,
    ),
    # Each vCPU a socket of its own, as QEMU has it: between a thread and a core
    (
        "AMD EPYC-Milan Processor",
        {"sockets": 4, "cores": 1, "threads": 1, "codes": (25, 1, 1)},
        (6 * 0.45, 6 * 2.02),
        KIND,
    ),
    # A processor made for one cloud, by the digits that tell its generation
    (
        "AMD EPYC 7K83 64-Core Processor",
        {"cores": 4, "threads": 2, "codes": NO_CODES},
        (8 * 0.45, 8 * 2.02),
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
        ("AMD EPYC 9654 96-Core Processor", 90.0, 324.0),
        ("Intel(R) Core(TM) i7-9700K CPU @ 3.60GHz", 9.5, 85.5),
    ],
)
def test_a_whole_machine_draws_what_its_model_may(
    tmp_path: Path, name: str, idle_watts: float, busy_watts: float
) -> None:
    said = look(tmp_path, {"proc/cpuinfo": cpuinfo(name, codes=NO_CODES)})
    assert (said.idle_watts, said.busy_watts) == pytest.approx((idle_watts, busy_watts), rel=0.01)
    assert (said.below, said.above) == pytest.approx(NAMED)


def test_the_power_limit_of_a_desktop_holds(tmp_path: Path) -> None:
    name = "12th Gen Intel(R) Core(TM) i7-12700KF"
    zone = powercap_zone("intel-rapl:0", "package-0")
    folder = next(path for path in zone if path.endswith("/name")).removesuffix("/name")
    tree = {
        "proc/cpuinfo": cpuinfo(name, codes=NO_CODES),
        **{path: value for path, value in zone.items() if not path.endswith("energy_uj")},
        f"{folder}/constraint_0_power_limit_uw": "125000000\n",
    }
    said = look(tmp_path, tree)
    assert said.busy_watts == pytest.approx(0.9 * 125.0, abs=0.06)
    assert "at most 125.0 W (the limit that powercap shows)" in said.detail


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
def test_an_arm_server_is_told_by_its_cores_and_its_seller(
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
def test_what_is_said_of_counters_knows_a_virtual_machine(tmp_path: Path, name: str) -> None:
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
    session = acquire(Config(root=str(tmp_path / "host"), nvml_library="/nonexistent"))
    try:
        (detail,) = [one.detail for one in session.entries if one.kind == "dram"]
    finally:
        release(session)
    found = re.search(r", ([\d.]+) to ([\d.]+) W together; half way", detail)
    assert found, detail
    assert (float(found[1]), float(found[2])) == pytest.approx(memory_watts, abs=0.06)


def test_other_architectures_are_named(tmp_path: Path) -> None:
    threads = range(160)
    power = "".join(f"processor\t: {i}\ncpu\t\t: POWER10, altivec supported\n\n" for i in threads)
    said = look(tmp_path / "power", {"proc/cpuinfo": power + "machine\t\t: PowerNV\n"})
    assert said.name == "PowerNV (POWER10)"
    assert 200 <= said.busy_watts <= 500  # 160 threads are one or two sockets
    hart = "processor\t: {0}\nhart\t\t: {0}\nisa\t\t: rv64imafdcv\nuarch\t\t: {1}\n\n"
    riscv = "".join(hart.format(i, "thead,c920") for i in range(64))
    said = look(tmp_path / "riscv", {"proc/cpuinfo": riscv})
    assert 80 <= said.busy_watts <= 120  # an SG2042 of 120 W
    silent = riscv.replace("uarch\t\t: thead,c920", "mvendorid\t: 0x5b7")
    said = look(tmp_path / "silent", {"proc/cpuinfo": silent})
    assert said.name == "rv64imafdcv, vendor 0x5b7"
    assert 80 <= said.busy_watts <= 120
    small = "".join(hart.format(i, "sifive,u74-mc") for i in range(4))
    files = {"proc/cpuinfo": small, "proc/device-tree/model": "StarFive VisionFive 2 v1.3B\0"}
    said = look(tmp_path / "small", files)
    assert said.name == "StarFive VisionFive 2 v1.3B (sifive,u74-mc)"
    assert 1.5 <= said.busy_watts <= 4.5


@pytest.mark.parametrize("info", ["", "processor\t: 0\n", cpuinfo("", codes=NO_CODES)])
def test_what_is_not_known_is_said_and_wide(tmp_path: Path, info: str) -> None:
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
