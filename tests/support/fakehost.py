"""A pretended host: sysfs and procfs trees, and, from `running`, sensors that move.

Trees are plain dicts from a path relative to the root to a file's text, so a test can build the
usual one and then bend it: replace a value, delete a key, or put a `Link` or a `Mode` there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.running import (
    CARDS,
    DRAM_RANGE_UJ,
    RANGE_UJ,
    Counter,
    Driver,
    FakeNvml,
    Gpu,
    RunningPowercap,
    fake_nvml,
    running_powercap,
)

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "CARDS",
    "DRAM_RANGE_UJ",
    "RANGE_UJ",
    "Counter",
    "Driver",
    "FakeNvml",
    "Gpu",
    "Link",
    "Mode",
    "RunningPowercap",
    "Tree",
    "Value",
    "cpuinfo",
    "energy_key",
    "fake_host",
    "fake_nvml",
    "meminfo",
    "powercap_control_type",
    "powercap_tree",
    "powercap_zone",
    "proc_stat",
    "running_powercap",
]

# ---- files ---------------------------------------------------------------------------------


class Link(str):
    """The target of a symbolic link, absolute or relative to the link's directory."""

    __slots__ = ()


@dataclass(frozen=True)
class Mode:
    """A file's text together with its permissions. Root reads the file whatever they say."""

    text: str
    bits: int


Value = str | int | Mode  # a Link is a str
Tree = Mapping[str, Value]


def fake_host(tmp_path: Path, tree: Tree) -> Path:
    """Write `tree` under a new root in `tmp_path` and return the root.

    A key that ends in a slash makes an empty directory. Texts get a final newline.
    """
    root = tmp_path / "host"
    root.mkdir(parents=True, exist_ok=True)
    for name, value in tree.items():
        _put(root / name, value, is_directory=name.endswith("/"))
    return root


def _put(path: Path, value: Value, *, is_directory: bool) -> None:
    if is_directory:
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(value, Link):
        path.symlink_to(value)
        return
    text = value.text if isinstance(value, Mode) else str(value)
    whole = text if text.endswith("\n") or not text else text + "\n"
    path.write_text(whole, encoding="utf-8", errors="surrogateescape")
    if isinstance(value, Mode):
        path.chmod(value.bits)


# ---- powercap ------------------------------------------------------------------------------

POWERCAP = "sys/class/powercap"


def powercap_zone(
    zone: str, name: str, *, energy_uj: int = 0, range_uj: int = RANGE_UJ, max_power_w: int = 0
) -> dict[str, Value]:
    """Return the files of one zone: its real directory and its link in the class directory.

    `zone` is the kernel's name (`intel-rapl:0`, `intel-rapl:0:1`, `intel-rapl-mmio:0`), `name`
    the text in the zone's file of that name. The `device` and `subsystem` links are there too,
    because following these links makes a loop.
    """
    parents = _lineage(zone)
    inside = "devices/virtual/powercap/" + "/".join(parents)
    up = "../" * (inside.count("/") + 1)
    directory = f"sys/{inside}"
    return {
        f"{directory}/name": name,
        f"{directory}/energy_uj": energy_uj,
        f"{directory}/max_energy_range_uj": range_uj,
        f"{directory}/enabled": 1,
        f"{directory}/uevent": "",
        f"{directory}/constraint_0_name": "long_term",
        f"{directory}/constraint_0_max_power_uw": max_power_w * 1_000_000,
        f"{directory}/constraint_0_power_limit_uw": max_power_w * 1_000_000,
        f"{directory}/constraint_0_time_window_us": 999_424,
        f"{directory}/device": Link(f"../../{parents[-2]}"),
        f"{directory}/subsystem": Link(f"{up}class/powercap"),
        f"{POWERCAP}/{zone}": Link(f"../../{inside}"),
    }


def powercap_control_type(name: str) -> dict[str, Value]:
    """Return the directory that stands above the zones of one driver, and its class link."""
    inside = f"devices/virtual/powercap/{name}"
    return {
        f"sys/{inside}/enabled": 1,
        f"sys/{inside}/uevent": "",
        f"{POWERCAP}/{name}": Link(f"../../{inside}"),
    }


def powercap_tree(
    packages: int = 2,
    *,
    dies: int = 1,
    children: Sequence[str] = ("core", "dram"),
    psys: bool = True,
    mmio: bool = True,
    order: Sequence[str] | None = None,
    range_uj: int = RANGE_UJ,
    energy_uj: Mapping[str, int] | None = None,
) -> dict[str, Value]:
    """Return the tree of a machine whose RAPL driver offers these zones.

    `order` lists the top-level names in the order of registration, which is all the kernel's
    numbers mean: `("package-0", "psys", "package-1")` makes psys `intel-rapl:1`. `energy_uj` is
    keyed by name, a child as `package-0/dram`, the MMIO twin as `mmio/package-0`. A zone it does
    not name starts at a value of its own, so that no two counters look like one.
    """
    top = list(order) if order is not None else _top_level(packages, dies, psys)
    zones = [place for number, name in enumerate(top) for place in _zones(number, name, children)]
    values = {path: 1_000_003 * (place + 1) for place, (path, _) in enumerate(zones)}
    values |= energy_uj or {}
    tree: dict[str, Value] = powercap_control_type("intel-rapl")
    if mmio:
        tree |= powercap_control_type("intel-rapl-mmio")
        first = next(path for path, _ in zones if path.startswith("package-0"))
        values.setdefault("mmio/package-0", values[first])
        zones.append(("mmio/package-0", "intel-rapl-mmio:0"))
    for path, zone in zones:
        tree |= _zone(zone, path, values[path], range_uj)
    return tree


def energy_key(zone: str) -> str:
    """Return the tree key of a zone's counter, such as that of `intel-rapl:0:1`."""
    return "sys/devices/virtual/powercap/" + "/".join(_lineage(zone)) + "/energy_uj"


def _lineage(zone: str) -> list[str]:
    """Return the directories from the control type down to the zone."""
    parts = zone.split(":")
    return [":".join(parts[: length + 1]) for length in range(len(parts))]


def _top_level(packages: int, dies: int, psys: bool) -> list[str]:
    if dies == 1:
        names = [f"package-{package}" for package in range(packages)]
    else:
        names = [f"package-{p}-die-{d}" for p in range(packages) for d in range(dies)]
    return names + ["psys"] * psys


def _zones(number: int, name: str, children: Sequence[str]) -> list[tuple[str, str]]:
    """Return (name with its parent's, zone) of a top-level zone and its children."""
    zone = f"intel-rapl:{number}"
    below = children if name.startswith("package") else ()
    inner = [(f"{name}/{child}", f"{zone}:{place}") for place, child in enumerate(below)]
    return [(name, zone), *inner]


def _zone(zone: str, path: str, energy_uj: int, range_uj: int) -> dict[str, Value]:
    name = path.rpartition("/")[2]
    return powercap_zone(
        zone,
        name,
        energy_uj=energy_uj,
        range_uj=DRAM_RANGE_UJ if name == "dram" else range_uj,
        max_power_w=205 if name.startswith("package") else 0,
    )


# ---- procfs --------------------------------------------------------------------------------


def proc_stat(cpus: int, busy_ticks: int, idle_ticks: int) -> str:
    """Return `/proc/stat` where each CPU has been busy and idle for so many ticks."""

    def line(label: str, count: int) -> str:
        return f"{label} {busy_ticks * count} 0 0 {idle_ticks * count} 0 0 0 0 0 0\n"

    each = "".join(line(f"cpu{number}", 1) for number in range(cpus))
    return line("cpu ", cpus) + each + "intr 0\nctxt 0\nbtime 1700000000\nprocesses 1\n"


ICE_LAKE = (6, 106, 6)
"""Family, model and stepping of a server of 2021."""
NO_CODES = (0, 0, 0)
"""Those that no table knows."""


def cpuinfo(
    model_name: str,
    sockets: int = 1,
    cores: int = 4,
    threads: int = 2,
    *,
    listed: int = 0,
    codes: tuple[int, int, int] = ICE_LAKE,
    flags: str = "fpu vme tsc msr",
) -> str:
    """Return `/proc/cpuinfo` with `cores` per socket and `threads` per core.

    Numbers run as Linux gives them out: first thread of every core of every socket, then the
    second threads. `listed`: only so many of them, as a container of lxcfs shows it.
    """
    places = [(t, s, c) for t in range(threads) for s in range(sockets) for c in range(cores)]
    vendor = "AuthenticAMD" if "AMD" in model_name else "GenuineIntel"
    family, model, stepping = codes
    blocks = []
    for number, (_, socket, core) in enumerate(places[: listed or None]):
        rows = {
            "processor": number,
            "vendor_id": vendor,
            "cpu family": family,
            "model": model,
            "model name": model_name,
            "stepping": stepping,
            "physical id": socket,
            "siblings": cores * threads,
            "core id": core,
            "cpu cores": cores,
            "flags": flags,
        }
        blocks.append("".join(f"{key.ljust(15)}\t: {value}\n" for key, value in rows.items()))
    return "\n".join(blocks) + "\n"


def arm_cpuinfo(*cores: tuple[int, int], implementer: int = 0x41) -> str:
    """Return `/proc/cpuinfo` of an ARM machine with so many cores of each part: (part, count)."""
    parts = [part for part, count in cores for _ in range(count)]
    return "".join(
        f"processor\t: {number}\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd\n"
        f"CPU implementer\t: 0x{implementer:02x}\nCPU architecture: 8\nCPU variant\t: 0x1\n"
        f"CPU part\t: 0x{part:03x}\nCPU revision\t: 1\n\n"
        for number, part in enumerate(parts)
    )


def meminfo(total_gb: float) -> str:
    """Return `/proc/meminfo` of a machine with so many GiB, half of them free."""
    total = round(total_gb * 1024 * 1024)
    rows = {"MemTotal": total, "MemFree": total // 2, "MemAvailable": total // 2}
    return "".join(f"{key + ':':<16}{value:>8} kB\n" for key, value in rows.items())
