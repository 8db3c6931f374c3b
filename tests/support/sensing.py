"""What the sensors of a pretended machine are found to be, and what they measure."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from carbontracker.energy.config import Config
from carbontracker.energy.session import acquire, release
from tests.support.fakehost import Link, cpuinfo, meminfo, proc_stat

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from carbontracker.energy.session import Session
    from tests.support.fakehost import Value

PCI = "sys/devices/pci0000:00"


def machine(*parts: dict[str, Value], cpus: int = 4, gigabytes: int = 32) -> dict[str, Value]:
    """Return a machine of unknown make with these sensors."""
    tree: dict[str, Value] = {
        "proc/cpuinfo": cpuinfo("Testium One"),
        "proc/stat": proc_stat(cpus, 1_000, 9_000),
        "proc/meminfo": meminfo(gigabytes),
    }
    for part in parts:
        tree |= part
    return tree


def acpi_meter(number: int, label: str, watts: float, **files: Value) -> dict[str, Value]:
    """Return a power meter of ACPI: its files are in the folder of its device."""
    folder = f"sys/class/hwmon/hwmon{number}"
    named: dict[str, Value] = {"power1_oem_info": label} if label else {}
    inside: dict[str, Value] = {
        "power1_average": round(watts * 1e6),
        "power1_average_interval": 50,
        "power1_is_battery": 0,
        "power1_accuracy": "100.0%",
        **named,
        **files,
    }
    tree = {f"{folder}/device/{name}": value for name, value in inside.items()}
    return tree | {f"{folder}/name": "power_meter"}


def pci_device(address: str, vendor: str, model: str, code: str) -> dict[str, Value]:
    """Return a device where the kernel has it, and its link on the bus."""
    folder = f"{PCI}/{address}"
    return {
        f"{folder}/vendor": vendor,
        f"{folder}/device": model,
        f"{folder}/class": code,
        f"sys/bus/pci/devices/{address}": Link(f"../../../devices/pci0000:00/{address}"),
    }


def pci_card(
    address: str,
    model: str,
    hwmon: dict[str, Value],
    *,
    vendor: str = "0x1002",
    driver: str = "amdgpu",
    card: int = 0,
    status: str = "active",
) -> dict[str, Value]:
    """Return a graphics card with its node and the files of its hwmon folder."""
    folder = f"{PCI}/{address}"
    tree = pci_device(address, vendor, model, "0x030000")
    tree[f"{folder}/driver"] = Link(f"../../../bus/pci/drivers/{driver}")
    tree[f"{folder}/power/runtime_status"] = status
    tree[f"{folder}/drm/card{card}/device"] = Link("../..")
    tree[f"sys/class/drm/card{card}"] = Link(f"../../devices/pci0000:00/{address}/drm/card{card}")
    number = 3 + card
    if hwmon:
        for name, value in {"name": driver, **hwmon}.items():
            tree[f"{folder}/hwmon/hwmon{number}/{name}"] = value
        tree[f"sys/class/hwmon/hwmon{number}"] = Link(
            f"../../devices/pci0000:00/{address}/hwmon/hwmon{number}"
        )
    return tree


@contextmanager
def sensing(root: Path, **settings: object) -> Iterator[Session]:
    """Measure a pretended machine without NVIDIA's library until the block ends."""
    config: dict[str, object] = {"root": str(root), "nvml_library": "/nonexistent"}
    session = acquire(Config(**(config | settings)))  # type: ignore[arg-type]
    try:
        yield session
    finally:
        release(session)


def counted(session: Session) -> set[str]:
    """Return the ids of what is added to the total."""
    return {one.id for one in session.entries if one.counted and one.read}


def joules(session: Session, seconds: float) -> tuple[dict[str, float], int, int]:
    """Return the energy of every counted device over a window, and its two ends."""
    start = session.mark()
    time.sleep(seconds)
    end = session.mark()
    energy = session.energy(start, end)
    return {name: part.joules for name, part in energy.by_device.items()}, start.t_ns, end.t_ns
