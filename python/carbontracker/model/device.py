"""One device of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carbontracker.energy.energy import Energy


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
