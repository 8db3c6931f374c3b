"""Energy of a window: its values, and those of its devices. Nothing else."""

from __future__ import annotations

import math
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from carbontracker.constants import JOULES_PER_KWH
from carbontracker.json_values import mapping, number

if TYPE_CHECKING:
    from collections.abc import Sequence

    _Values = tuple[float, float, float, str, float, float, float, float]
    _Device = tuple[int, _Values]
    """Index of a channel, and its energy."""


class ChannelInfo(NamedTuple):
    """The properties of a channel that the arithmetic of energies needs."""

    id: str
    kind: str
    quality: str
    """``measured``, ``integrated`` or ``modelled``."""
    relative_error: float
    """95 % half-width of the sensor's gain tolerance, as a share of the energy."""
    counted: bool
    """The channel is a root: its energy is in the totals."""
    read: bool = True
    """False if the device is present and cannot be read: the total lacks its energy."""


class Energy:
    """Energy of the machine over a window, without PUE: the sum of the root channels."""

    __slots__ = (
        "_by_device",
        "_by_kind",
        "_parts",
        "coverage",
        "coverage_devices",
        "error_joules",
        "joules",
        "modelled_joules",
        "quality",
        "seconds",
        "unknown_joules_max",
    )

    joules: float
    """J; NaN if no channel could be read."""
    error_joules: float
    """95 % half-width, J."""
    modelled_joules: float
    """The estimated part of ``joules``, J."""
    quality: str
    """``measured``, ``integrated``, ``modelled``, or ``mixed``; ``incomplete`` if
    ``unknown_joules_max`` is more than ``error_joules``; ``missing`` if ``joules`` is NaN."""
    coverage: float
    """Of one device: the share of the window in which its energy is known, 0..1. Of several
    devices: the known share of their expected energy. The expected energy of a device is its mean
    power times the window; without a known mean power, its power limit, or that of a large device
    of its kind."""
    unknown_joules_max: float
    """Upper bound of the unknown energy, J: power limit times the unknown time. It is in neither
    ``joules`` nor ``error_joules``."""
    coverage_devices: float
    """``coverage`` with the same weight for every device, 0..1."""
    seconds: float
    """Length of the window, s; NaN if unknown."""

    def __init__(  # noqa: PLR0913  # the values of one energy
        self,
        joules: float,
        error_joules: float,
        modelled_joules: float,
        quality: str,
        coverage: float,
        unknown_joules_max: float = 0.0,
        coverage_devices: float | None = None,
        seconds: float = math.nan,
        *,
        parts: tuple[Sequence[ChannelInfo], Sequence[_Device]] = ((), ()),
    ) -> None:
        self.joules = joules
        self.error_joules = error_joules
        self.modelled_joules = modelled_joules
        self.quality = quality
        self.coverage = coverage
        self.unknown_joules_max = unknown_joules_max
        self.coverage_devices = coverage if coverage_devices is None else coverage_devices
        self.seconds = seconds
        # The parts become objects only on access, because windows are read often.
        self._parts = parts
        self._by_device: dict[str, Energy] | None = None
        self._by_kind: dict[str, Energy] | None = None

    @classmethod
    def of(cls, total: Energy, devices: dict[str, Energy], kinds: dict[str, Energy]) -> Energy:
        """Return ``total`` with the energies of its devices and kinds."""
        energy = cls(*total.values)
        energy._by_device, energy._by_kind = devices, kinds
        return energy

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of the record: joules without PUE, and how they are known."""
        return {"seconds": self.seconds} | self._parts_dict()

    def _parts_dict(self) -> dict[str, Any]:
        result: dict[str, Any] = {
            "joules": self.joules,
            "error_joules": self.error_joules,
            "modelled_joules": self.modelled_joules,
            "quality": self.quality,
            "coverage": self.coverage,
            "coverage_devices": self.coverage_devices,
            "unknown_joules_max": self.unknown_joules_max,
        }
        for name, parts in (("by_device", self.by_device), ("by_kind", self.by_kind)):
            if parts:
                result[name] = {key: part._parts_dict() for key, part in parts.items()}
        return result

    @classmethod
    def from_dict(cls, data: object, seconds: float = math.nan) -> Energy:
        """Return the energy of such an object; missing if it is not an object.

        Args:
            data: of the record; its parts have no ``seconds`` of their own.
            seconds: length of the window, s, if ``data`` has none.
        """
        if not isinstance(data, dict):
            return missing(seconds)
        seconds = number(data.get("seconds"), seconds)
        coverage = number(data.get("coverage"), 0.0)
        total = cls(
            number(data.get("joules")),
            number(data.get("error_joules")),
            number(data.get("modelled_joules"), 0.0),
            str(data.get("quality") or "missing"),
            coverage,
            number(data.get("unknown_joules_max"), 0.0),  # older versions did not write it
            number(data.get("coverage_devices"), coverage),
            seconds,
        )
        devices, kinds = (
            {str(key): cls.from_dict(part, seconds) for key, part in mapping(parts).items()}
            for parts in (data.get("by_device"), data.get("by_kind"))
        )
        return cls.of(total, devices, kinds)

    @property
    def values(self) -> _Values:
        """Return the fields without the parts, in the order of the constructor."""
        return (
            self.joules,
            self.error_joules,
            self.modelled_joules,
            self.quality,
            self.coverage,
            self.unknown_joules_max,
            self.coverage_devices,
            self.seconds,
        )

    @property
    def by_device(self) -> dict[str, Energy]:
        """Return the energy of each channel: ``gpu:0``, ``cpu:0``, ``dram:0``."""
        if self._by_device is None:
            channels, devices = self._parts
            self._by_device = {channels[index].id: Energy(*part) for index, part in devices}
        return self._by_device

    @property
    def by_kind(self) -> dict[str, Energy]:
        """Return the energy of each kind: ``gpu``, ``cpu``, ``dram``."""
        if self._by_kind is None:
            channels, devices = self._parts
            kinds: dict[str, list[Energy]] = {}
            for index, part in devices:
                kinds.setdefault(channels[index].kind, []).append(Energy(*part))
            self._by_kind = {kind: add_devices(parts) for kind, parts in kinds.items()}
        return self._by_kind

    @property
    def kwh(self) -> float:
        """Return the energy in kWh, without PUE."""
        return self.joules / JOULES_PER_KWH

    def __eq__(self, other: object) -> bool:
        """Return whether all values are equal, those of the devices included."""
        if not isinstance(other, Energy):
            return NotImplemented
        return self.values == other.values and self.by_device == other.by_device

    def __hash__(self) -> int:
        """Return a hash of the values."""
        return hash(self.values)

    def __repr__(self) -> str:
        """Return the main values in one line."""
        # By name: views know this module, and it does not know them.
        text: str = import_module("carbontracker.report.brief").energy(self)
        return text


def missing(seconds: float = math.nan, unknown_joules_max: float = 0.0) -> Energy:
    """Return the energy of a window without any known energy."""
    return Energy(
        math.nan, math.nan, 0.0, "missing", 0.0, unknown_joules_max, coverage_devices=0.0,
        seconds=seconds,
    )  # fmt: skip


MISSING = missing()
"""The energy if no channel could be read. Missing is not zero."""


def add_devices(devices: Sequence[Energy]) -> Energy:
    """Return the energy of several devices in one window."""
    known = [part for part in devices if not math.isnan(part.joules)]
    unknown_joules_max = math.fsum(part.unknown_joules_max for part in devices)
    seconds = devices[0].seconds if devices else math.nan
    if not known:
        return missing(seconds, unknown_joules_max)
    joules = math.fsum(part.joules for part in known)
    expected = math.fsum(map(_expected, devices))
    coverage_devices = math.fsum(part.coverage_devices for part in devices) / len(devices)
    # Gain errors of identical sensors are correlated: add them linearly.
    error_joules = math.fsum(part.error_joules for part in known)
    return Energy(
        joules=joules,
        error_joules=error_joules,
        modelled_joules=math.fsum(part.modelled_joules for part in known),
        quality=_quality(known, unknown_joules_max, error_joules),
        coverage=joules / expected if expected > 0 else coverage_devices,
        unknown_joules_max=unknown_joules_max,
        coverage_devices=coverage_devices,
        seconds=seconds,
    )


def _expected(device: Energy) -> float:
    """Return the expected energy of a device over the whole window, J."""
    if math.isnan(device.joules):
        return device.unknown_joules_max
    return device.joules / device.coverage if device.coverage > 0 else device.joules


def add_windows(windows: Sequence[Energy]) -> Energy:
    """Return the sum of several windows, device by device.

    A device that is missing from every window stays missing. If it is missing from some of them,
    its coverage is lower, and the error contains its energy in those windows, estimated from its
    mean power in the others. Windows are weighted by their length, or equally if a length is
    unknown.
    """
    if not windows:
        return Energy(
            0.0, 0.0, 0.0, "missing", 1.0, seconds=0.0
        )  # zero seconds: the energy is known to be zero
    names = dict.fromkeys(name for window in windows for name in window.by_device)
    if not names:
        return _add_windows_of_one_device(windows)
    devices = {
        name: _add_windows_of_one_device(
            [window.by_device.get(name) or missing(window.seconds) for window in windows]
        )
        for name in names
    }
    kinds: dict[str, list[Energy]] = {}
    for name, energy in devices.items():
        kinds.setdefault(kind_of(name), []).append(energy)
    by_kind = {kind: add_devices(parts) for kind, parts in kinds.items()}
    return Energy.of(add_devices(list(devices.values())), devices, by_kind)


def kind_of(device: str) -> str:
    """Return the kind in the id of a device: ``gpu`` of ``gpu:0``."""
    return device.partition(":")[0]


def _add_windows_of_one_device(windows: Sequence[Energy]) -> Energy:
    """Return the sum of several windows of one device."""
    known = [part for part in windows if not math.isnan(part.joules)]
    unknown_joules_max = math.fsum(part.unknown_joules_max for part in windows)
    seconds = math.fsum(part.seconds for part in windows)
    if not known:
        return missing(seconds, unknown_joules_max)
    by_length = seconds > 0  # False if NaN
    lengths = [part.seconds if by_length else 1.0 for part in windows]
    whole = math.fsum(lengths)
    joules = math.fsum(part.joules for part in known)

    def mean(shares: list[float]) -> float:
        pairs = zip(shares, lengths, strict=True)
        return math.fsum(share * length for share, length in pairs) / whole

    lost = mean([float(math.isnan(part.joules)) for part in windows]) * whole
    coverage = mean([part.coverage for part in windows])
    lost_joules = joules / (coverage * whole) * lost if coverage > 0 else 0.0
    error_joules = math.fsum(part.error_joules for part in known) + lost_joules
    return Energy(
        joules=joules,
        error_joules=error_joules,
        modelled_joules=math.fsum(part.modelled_joules for part in known),
        quality=_quality(known, unknown_joules_max, error_joules),
        coverage=coverage,
        unknown_joules_max=unknown_joules_max,
        coverage_devices=mean([part.coverage_devices for part in windows]),
        seconds=seconds,
    )


def _quality(known: Sequence[Energy], unknown_joules_max: float, error_joules: float) -> str:
    if unknown_joules_max > error_joules:
        return "incomplete"
    qualities = {part.quality for part in known} - {"incomplete"}
    return qualities.pop() if len(qualities) == 1 else "mixed"
