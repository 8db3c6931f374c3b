"""One device of a run."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carbontracker.energy.energy import Energy


def hardware_name(kind: str, name: str, processor: str) -> str:
    """Return what people call a device.

    A processor's counter is named after its socket, ``package-0`` or ``package-0-die-1``. The name
    of the processor is used instead, if it is known.

    Args:
        kind: of the device, such as ``cpu``.
        name: of its sensor.
        processor: of this machine; empty if unknown.
    """
    if kind != "cpu" or not name.startswith("package-") or not processor:
        return name
    die = name.partition("-die-")[2]
    return f"{processor}, die {die}" if die else processor


def gpu_uuid(domain: str) -> str:
    """Return how the driver calls the GPU that a domain names, ``gpu/GPU-4f2...``; else empty."""
    kind, _, uuid = domain.partition("/")
    return uuid if kind == "gpu" else ""


@dataclass(frozen=True)
class Device:
    """A counted device: its energy, its power, and how they are known."""

    id: str
    """``gpu:0``, ``cpu:0``, ``dram:0``."""
    kind: str
    name: str
    """What the hardware calls itself; empty if unknown, like the next two."""
    source: str
    """The interface that is read."""
    quality: str
    """``measured``, ``integrated`` or ``modelled``: how its channel knows; ``missing`` of a device
    that cannot be read."""
    energy: Energy
    """Since the beginning of the run, without PUE."""
    gco2eq: float
    """The same with PUE, gCO2eq."""
    watts: float
    """Mean power of the last second, or of a run that was read, W; NaN if unknown."""
    readings_per_second: float
    """As achieved so far; NaN if unknown."""
    uuid: str = ""
    """Of a GPU: how its driver calls it; empty if unknown."""

    def __repr__(self) -> str:
        """Return the main values in one line."""
        text: str = import_module("carbontracker.report.brief").device(self)
        return text
