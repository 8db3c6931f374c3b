"""A copy of what the sensors look at on this machine, for a report about it.

A developer without such a machine extracts it and sets ``CARBONTRACKER_ROOT`` to the folder: the
same sensors are found there.
"""

from __future__ import annotations

import getpass
import io
import json
import platform
import re
import tarfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from carbontracker.energy.nvml_answers import nvml_answers

HWMON = (
    "name",
    "*_label",
    "*_enable",
    "*_oem_info",
    "*_is_battery",
    "energy*_input",
    "power*_input",
    "power*_average",
    "power*_average_interval",
    "power*_cap",
    "power*_cap_max",
    "power*_max",
    "power*_rated_max",
    "power*_crit",
    "in*_input",
    "curr*_input",
)
DEVICE = (
    "vendor",
    "device",
    "class",
    "driver",
    "gpu_metrics",
    "product_name",
    "power/runtime_status",
)
PATTERNS = (
    "proc/cpuinfo",
    "proc/meminfo",
    "proc/stat",
    "proc/device-tree/model",
    "proc/device-tree/compatible",
    "sys/devices/system/cpu/online",
    "sys/devices/system/cpu/possible",
    "sys/devices/system/cpu/cpu[0-9]*/topology/*_id",
    "sys/class/powercap/*/name",
    "sys/class/powercap/*/enabled",
    "sys/class/powercap/*/energy_uj",
    "sys/class/powercap/*/max_energy_range_uj",
    "sys/class/powercap/*/constraint_*_uw",
    "sys/bus/event_source/devices/power/type",
    "sys/bus/event_source/devices/power/cpumask",
    "sys/bus/event_source/devices/power/events/*",
    "sys/class/kfd/kfd/topology/nodes/*/properties",
    "sys/bus/pci/devices/*/numa_node",
    "sys/cray/pm_counters/*",
    "sys/class/power_supply/*/type",
    "sys/class/power_supply/*/status",
    "sys/class/power_supply/*/scope",
    "sys/class/power_supply/*/present",
    "sys/class/dmi/id/sys_vendor",
    "sys/class/dmi/id/product_name",
    "sys/class/power_supply/*/*_now",
    *(f"sys/class/hwmon/hwmon*/{name}" for name in HWMON),
    *(f"sys/class/hwmon/hwmon*/device/{name}" for name in HWMON[1:]),
    *(f"sys/class/drm/card[0-9]*/device/{name}" for name in DEVICE),
    *(f"sys/class/drm/card[0-9]*/device/hwmon/hwmon*/{name}" for name in HWMON),
    *(f"sys/class/accel/*/device/{name}" for name in DEVICE),
)
"""Files that the sensors read. None of them has the serial number of a device."""

NVML_ANSWERS = "nvml.json"
"""Name of the answers of NVIDIA's library."""

MAX_BYTES = 1 << 20

_UNIQUE_ID = re.compile(rb"(?m)^(unique_id) \d+$")
_SERIAL = re.compile(rb"(?mi)^Serial\s*:.*\n")
_RADIO_ADDRESS = re.compile(rb"(?i)(?<![0-9a-f])[0-9a-f]{2}(?:[:_-][0-9a-f]{2}){5}(?![0-9a-f])")
"""Of Bluetooth and network devices: the batteries of mice and headsets are called by it."""


@dataclass(frozen=True)
class Snapshot:
    """The files of a machine by their path below its root, and its symbolic links."""

    files: dict[str, bytes]
    links: dict[str, str]
    unreadable: tuple[str, ...]
    """Files that this user may not read: empty in the archive, and closed to all users."""

    def write(self, path: Path) -> None:
        """Write it as a compressed archive.

        Raises:
            OSError: the file cannot be written.
        """
        with tarfile.open(path, "w:gz") as archive:
            for name, target in sorted(self.links.items()):
                link = tarfile.TarInfo(name)
                link.type = tarfile.SYMTYPE
                link.linkname = target
                archive.addfile(link)
            for name, data in sorted(self.files.items()):
                file = tarfile.TarInfo(name)
                file.size = len(data)
                archive.addfile(file, io.BytesIO(data))
            for name in self.unreadable:
                closed = tarfile.TarInfo(name)
                closed.mode = 0
                archive.addfile(closed)


def take_snapshot(root: Path, nvml_library: str = "") -> Snapshot:
    """Return a copy of what the sensors look at below ``root``, and the answers of NVML.

    Serial numbers, unique ids, radio addresses, and the names of the host and of the user are
    replaced. A device that is called by its radio address is left out.
    """
    files: dict[str, bytes] = {}
    links: dict[str, str] = {}
    unreadable = []
    private = _private_names()
    for pattern in PATTERNS:
        for found in sorted(root.glob(pattern)):
            if _is_of_another_device(found):
                continue
            name = _follow(root, found.relative_to(root), links)
            if name is None or name in files or not (root / name).is_file():
                continue
            try:
                with (root / name).open("rb") as file:
                    data = file.read(MAX_BYTES)
            except OSError:
                unreadable.append(name)
                continue
            files[name] = data if name.endswith("gpu_metrics") else _without_names(data, private)
    answers = nvml_answers(nvml_library) if nvml_library else None
    if answers is not None:
        files[NVML_ANSWERS] = json.dumps(answers, indent=1).encode()
    return Snapshot(files, links, tuple(sorted(set(unreadable))))


def _follow(root: Path, path: Path, links: dict[str, str]) -> str | None:
    """Return where ``path`` really lies below the root, and add the links on the way."""
    left = list(PurePosixPath(path.as_posix()).parts)
    done = PurePosixPath()
    for _ in range(256):  # a circle of links
        if not left:
            return str(done)
        part = left.pop(0)
        if part == "..":
            done = done.parent
            continue
        done = done / part
        if not (root / done).is_symlink():
            continue
        target = PurePosixPath((root / done).readlink())
        if target.is_absolute():
            inside = [str(part) for part in target.parts[1:]]
            target = PurePosixPath(*[".."] * (len(done.parts) - 1), *inside)
        links[str(done)] = str(target)
        done = done.parent
        left = [*target.parts, *left]
    return None


def _is_of_another_device(path: Path) -> bool:
    """Return whether a file is that of a mouse or a headset: no sensor reads those."""
    texts = [str(path.parent).encode()]
    with suppress(OSError):
        texts.append((path.parent / "name").read_bytes())
    with suppress(OSError):
        if (path.parent / "scope").read_text().strip() == "Device":
            return True
    return any(_RADIO_ADDRESS.search(text) for text in texts)


def _private_names() -> list[bytes]:
    host = platform.node()
    names = {host, host.partition(".")[0]}
    with suppress(KeyError, OSError):  # a container's user may have no name
        names.add(getpass.getuser())
    common = {"", "root", "localhost"}
    return sorted((name.encode() for name in names - common), key=len, reverse=True)


def _without_names(data: bytes, private: list[bytes]) -> bytes:
    data = _SERIAL.sub(b"", _UNIQUE_ID.sub(rb"\1 1", data))
    data = _RADIO_ADDRESS.sub(b"ADDRESS", data)
    for name in private:
        data = re.sub(rb"(?<![\w-])" + re.escape(name) + rb"(?![\w-])", b"NAME", data)
    return data
