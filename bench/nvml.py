"""The few NVML calls that `gpu_check` makes itself, by ctypes: no package is needed for them."""

from __future__ import annotations

import ctypes
import os
from typing import Any

POWER_AVERAGE, POWER_INSTANT, ENERGY = 185, 186, 83
TOTAL_POWER_SAMPLES = 0
MAX_SAMPLES = 1024


class _Value(ctypes.Union):
    _fields_ = (
        ("double", ctypes.c_double),
        ("u32", ctypes.c_uint),
        ("u64", ctypes.c_ulonglong),
        ("i64", ctypes.c_longlong),
    )


class _Field(ctypes.Structure):
    _fields_ = (
        ("field_id", ctypes.c_uint),
        ("scope_id", ctypes.c_uint),
        ("timestamp_us", ctypes.c_longlong),
        ("latency_us", ctypes.c_longlong),
        ("value_type", ctypes.c_uint),
        ("status", ctypes.c_uint),
        ("value", _Value),
    )


class _Sample(ctypes.Structure):
    _fields_ = (("timestamp_us", ctypes.c_ulonglong), ("value", _Value))


class NvmlError(RuntimeError):
    """NVML is not there or says no; the message holds its code."""


class Gpu:
    """One board. Each reading returns None where the board does not offer it."""

    def __init__(self, library: Any, index: int) -> None:
        self._library = library
        self.index = index
        self._handle = ctypes.c_void_p()
        code = library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(self._handle))
        if code:
            raise NvmlError(f"GPU {index} cannot be opened: NVML error {code}")
        self._fields = {number: _Field(number) for number in (POWER_AVERAGE, POWER_INSTANT, ENERGY)}
        self._samples = (_Sample * MAX_SAMPLES)()

    def _text(self, function: str) -> str:
        buffer = ctypes.create_string_buffer(96)
        code = getattr(self._library, function)(self._handle, buffer, 96)
        return buffer.value.decode() if code == 0 else "unknown"

    @property
    def name(self) -> str:
        """Return the model."""
        return self._text("nvmlDeviceGetName")

    @property
    def uuid(self) -> str:
        """Return the UUID."""
        return self._text("nvmlDeviceGetUUID")

    def power_mw(self) -> int | None:
        """Return `nvmlDeviceGetPowerUsage`, mW."""
        value = ctypes.c_uint()
        code = self._library.nvmlDeviceGetPowerUsage(self._handle, ctypes.byref(value))
        return value.value if code == 0 else None

    def energy_mj(self) -> int | None:
        """Return `nvmlDeviceGetTotalEnergyConsumption`, mJ."""
        value = ctypes.c_ulonglong()
        call = self._library.nvmlDeviceGetTotalEnergyConsumption
        return value.value if call(self._handle, ctypes.byref(value)) == 0 else None

    def field(self, number: int) -> int | None:
        """Return a field value: power in mW, energy in mJ."""
        field = self._fields[number]
        call = self._library.nvmlDeviceGetFieldValues
        if call(self._handle, 1, ctypes.byref(field)) != 0 or field.status != 0:
            return None
        return int(field.value.u32 if field.value_type == 1 else field.value.u64)

    def samples(self, since_us: int = 0) -> list[tuple[int, int]] | None:
        """Return (driver's time us, power mW) of the samples that the driver has kept."""
        call = getattr(self._library, "nvmlDeviceGetSamples", None)
        if call is None:
            return None
        kind, count = ctypes.c_uint(), ctypes.c_uint(MAX_SAMPLES)
        since = ctypes.c_ulonglong(since_us)
        arguments = (ctypes.byref(kind), ctypes.byref(count), self._samples)
        if call(self._handle, TOTAL_POWER_SAMPLES, since, *arguments) != 0:
            return None
        return [(one.timestamp_us, one.value.u32) for one in self._samples[: count.value]]


def open_library() -> tuple[Any, str]:
    """Load and start NVML; return it with the driver's version.

    Raises:
        NvmlError: there is no driver here.
    """
    path = os.environ.get("CARBONTRACKER_NVML") or "libnvidia-ml.so.1"
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise NvmlError(f"no NVIDIA driver library: {error}") from None
    code = library.nvmlInit_v2()
    if code:
        raise NvmlError(f"NVML does not start: error {code}")
    buffer = ctypes.create_string_buffer(96)
    library.nvmlSystemGetDriverVersion(buffer, 96)
    return library, buffer.value.decode()


def open_gpus() -> tuple[list[Gpu], str]:
    """Return all boards and the driver's version.

    Raises:
        NvmlError: there is no GPU.
    """
    library, version = open_library()
    count = ctypes.c_uint()
    library.nvmlDeviceGetCount_v2(ctypes.byref(count))
    if count.value == 0:
        raise NvmlError("the NVIDIA driver shows no GPU")
    return [Gpu(library, index) for index in range(count.value)], version
