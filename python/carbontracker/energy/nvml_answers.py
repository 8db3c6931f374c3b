"""What NVIDIA's library answers on this machine and how long each call takes, for a snapshot."""

from __future__ import annotations

import ctypes
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

FIELDS = (83, 185, 186, 191)
"""Energy, mean and momentary power, energy."""
SCOPES = (0, 1)
"""The GPU and its module."""
COUNTER_S = 1.0
"""Time between two readings of the counter, s."""

_NAME_BYTES = 96
_VERSION_BYTES = 80
_SCALARS = {
    "nvmlDeviceGetPowerUsage": ctypes.c_uint,
    "nvmlDeviceGetTotalEnergyConsumption": ctypes.c_ulonglong,
    "nvmlDeviceGetEnforcedPowerLimit": ctypes.c_uint,
    "nvmlDeviceGetArchitecture": ctypes.c_uint,
    "nvmlDeviceGetVirtualizationMode": ctypes.c_int,
}
_RANGE = "nvmlDeviceGetPowerManagementLimitConstraints"
_NOT_FOUND = 13
"""NVML's status for a function that the library does not have."""


class _Value(ctypes.Union):
    _fields_ = (("double", ctypes.c_double), ("unsigned", ctypes.c_ulonglong))


class _Field(ctypes.Structure):
    """``nvmlFieldValue_t``: 40 bytes."""

    _fields_ = (
        ("field", ctypes.c_uint),
        ("scope", ctypes.c_uint),
        ("timestamp", ctypes.c_longlong),
        ("latency", ctypes.c_longlong),
        ("type", ctypes.c_int),
        ("status", ctypes.c_int),
        ("value", _Value),
    )


def nvml_answers(path: str) -> dict[str, Any] | None:
    """Return the answers of the library at ``path``, without serial numbers and UUIDs.

    None if there is no library. Each answer has NVML's status, the value in NVML's unit, and the
    time of the call in us.
    """
    try:
        library = ctypes.CDLL(path)
        init, count_of = library.nvmlInit_v2, library.nvmlDeviceGetCount_v2
    except (OSError, AttributeError):
        return None
    status, us = _timed(init)
    found: dict[str, Any] = {"init": {"status": status, "us": us}, "devices": []}
    if status != 0:
        return found
    for name in ("nvmlSystemGetDriverVersion", "nvmlSystemGetNVMLVersion"):
        found[name] = _text(library, name, None, _VERSION_BYTES)
    count = ctypes.c_uint()
    count_of(ctypes.byref(count))
    devices = []
    for index in range(count.value):
        device = ctypes.c_void_p()
        status, us = _timed(
            lambda i=index, d=device: library.nvmlDeviceGetHandleByIndex_v2(  # type: ignore[misc]
                ctypes.c_uint(i), ctypes.byref(d)
            )
        )
        found["devices"].append({"index": index, "opened": {"status": status, "us": us}})
        if status == 0:
            devices.append((found["devices"][-1], device))
    for answers, device in devices:
        answers.update(_answers_of(library, device))
    time.sleep(COUNTER_S)
    for answers, device in devices:
        later = _scalar(library, "nvmlDeviceGetTotalEnergyConsumption", device)
        answers["energy_after_a_second"] = later
    return found


def _answers_of(library: ctypes.CDLL, device: ctypes.c_void_p) -> dict[str, Any]:
    answers: dict[str, Any] = {
        "name": _text(library, "nvmlDeviceGetName", device, _NAME_BYTES),
        **{name: _scalar(library, name, device) for name in _SCALARS},
    }
    least, most = ctypes.c_uint(), ctypes.c_uint()
    status, us = _call(library, _RANGE, device, ctypes.byref(least), ctypes.byref(most))
    answers[_RANGE] = {"status": status, "value": [least.value, most.value], "us": us}
    for field in FIELDS:
        for scope in SCOPES:
            asked = _Field(field=field, scope=scope)
            whole, us = _call(
                library, "nvmlDeviceGetFieldValues", device, ctypes.c_int(1), ctypes.byref(asked)
            )
            value = asked.value.double if asked.type == 0 else asked.value.unsigned
            answers[f"field {field} scope {scope}"] = {
                "status": whole or asked.status,
                "type": asked.type,
                "value": value,
                "us": us,
            }
    return answers


def _scalar(library: ctypes.CDLL, name: str, device: ctypes.c_void_p) -> dict[str, Any]:
    value = _SCALARS[name]()
    status, us = _call(library, name, device, ctypes.byref(value))
    return {"status": status, "value": value.value, "us": us}


def _text(library: ctypes.CDLL, name: str, device: ctypes.c_void_p | None, size: int) -> str:
    buffer = ctypes.create_string_buffer(size)
    arguments = (buffer, ctypes.c_uint(size))
    _call(library, name, *(arguments if device is None else (device, *arguments)))
    return buffer.value.decode("utf-8", "replace")


def _call(library: ctypes.CDLL, name: str, *arguments: Any) -> tuple[int, float]:
    with suppress(AttributeError):
        function = getattr(library, name)
        return _timed(lambda: function(*arguments))
    return _NOT_FOUND, 0.0


def _timed(call: Callable[[], int]) -> tuple[int, float]:
    before_ns = time.perf_counter_ns()
    status = call()
    return status, round((time.perf_counter_ns() - before_ns) / 1e3, 1)
