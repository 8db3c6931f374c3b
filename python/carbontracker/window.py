"""Energy of a window: figures, what they are the sum of, and nothing else."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from carbontracker.constants import JOULES_PER_KWH

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    _Figures = tuple[float, float, float, str, float]
    _Device = tuple[int, _Figures]
    """Index of a channel, and its energy."""


class ChannelInfo(NamedTuple):
    """What the arithmetic needs to know of a channel."""

    id: str
    kind: str
    quality: str
    """``measured``, ``integrated`` or ``modelled``."""
    relative_error: float
    """95 % half-width of the sensor's gain tolerance, as a share of the energy."""
    counted: bool
    """The channel is a root: it enters the totals."""


class Energy:
    """Energy of the machine over a window, without PUE; the sum of root channels only."""

    __slots__ = (
        "_by_device",
        "_by_kind",
        "_parts",
        "coverage",
        "error_joules",
        "joules",
        "modelled_joules",
        "quality",
    )

    joules: float
    """J; NaN if nothing could be read."""
    error_joules: float
    """95 % half-width, J."""
    modelled_joules: float
    """The part of ``joules`` that is an estimate, J."""
    quality: str
    """``measured``, ``integrated``, ``modelled``, or ``mixed``; ``missing`` if there is none."""
    coverage: float
    """Share of the window and channels in which energy is known, 0..1."""

    def __init__(  # the figures of one energy
        self,
        joules: float,
        error_joules: float,
        modelled_joules: float,
        quality: str,
        coverage: float,
        parts: tuple[Sequence[ChannelInfo], Sequence[_Device]] = ((), ()),
    ) -> None:
        self.joules = joules
        self.error_joules = error_joules
        self.modelled_joules = modelled_joules
        self.quality = quality
        self.coverage = coverage
        # What it is the sum of is only worked out for those who look: windows are asked often.
        self._parts = parts
        self._by_device: dict[str, Energy] | None = None
        self._by_kind: dict[str, Energy] | None = None

    @classmethod
    def of(cls, total: Energy, devices: dict[str, Energy], kinds: dict[str, Energy]) -> Energy:
        """Return ``total`` together with what it is the sum of."""
        energy = cls(*total.figures)
        energy._by_device, energy._by_kind = devices, kinds
        return energy

    @property
    def figures(self) -> tuple[float, float, float, str, float]:
        """Return the fields without the parts, in the order of the constructor."""
        return (
            self.joules,
            self.error_joules,
            self.modelled_joules,
            self.quality,
            self.coverage,
        )

    @property
    def by_device(self) -> dict[str, Energy]:
        """Return the same by channel: ``gpu:0``, ``cpu:0``, ``dram:0``."""
        if self._by_device is None:
            channels, devices = self._parts
            self._by_device = {channels[index].id: Energy(*part) for index, part in devices}
        return self._by_device

    @property
    def by_kind(self) -> dict[str, Energy]:
        """Return the same by kind: ``gpu``, ``cpu``, ``dram``."""
        if self._by_kind is None:
            channels, devices = self._parts
            kinds: dict[str, list[Energy]] = {}
            for index, part in devices:
                kinds.setdefault(channels[index].kind, []).append(Energy(*part))
            self._by_kind = {kind: _sum(parts) for kind, parts in kinds.items()}
        return self._by_kind

    @property
    def kwh(self) -> float:
        """Return the energy in kWh, without PUE."""
        return self.joules / JOULES_PER_KWH

    def __eq__(self, other: object) -> bool:
        """Return whether all figures are the same, those of the devices included."""
        if not isinstance(other, Energy):
            return NotImplemented
        return self.figures == other.figures and self.by_device == other.by_device

    def __hash__(self) -> int:
        """Return a hash of the figures."""
        return hash(self.figures)

    def __repr__(self) -> str:
        """Return the figures in short."""
        return (
            f"<Energy {self.joules:.3f} J +/- {self.error_joules:.3f} J, {self.quality}, "
            f"coverage {self.coverage:.3f}>"
        )


MISSING = Energy(math.nan, math.nan, 0.0, "missing", 0.0)
"""No channel could be read. Missing is not zero."""


def _sum(parts: Iterable[Energy]) -> Energy:
    everything = list(parts)
    known = [part for part in everything if not math.isnan(part.joules)]
    if not known:
        return MISSING
    qualities = {part.quality for part in known}
    joules = math.fsum(part.joules for part in known)
    # What is missing altogether is judged by the rest, like an uncovered stretch.
    lost = joules * (len(everything) - len(known)) / len(known)
    return Energy(
        joules=joules,
        # Tolerances of like sensors may all point one way, so they are added, not averaged out.
        error_joules=math.fsum(part.error_joules for part in known) + lost,
        modelled_joules=math.fsum(part.modelled_joules for part in known),
        quality=qualities.pop() if len(qualities) == 1 else "mixed",
        coverage=math.fsum(part.coverage for part in everything) / len(everything),
    )


def add_windows(windows: Sequence[Energy]) -> Energy:
    """Return the energy of several windows together, device by device.

    A device that is missing from every window stays missing; in some of them, its coverage says
    so. Coverage is the mean over the windows.
    """
    if not windows:
        return Energy(0.0, 0.0, 0.0, "missing", 1.0)  # no time, no energy, and no sensor's word
    devices = _collect_by(windows, "by_device")
    kinds = _collect_by(windows, "by_kind")
    return Energy.of(_sum(windows), devices, kinds)


def _collect_by(windows: Sequence[Energy], name: str) -> dict[str, Energy]:
    keys = dict.fromkeys(key for window in windows for key in getattr(window, name))
    return {
        key: _sum(getattr(window, name).get(key, MISSING) for window in windows) for key in keys
    }
