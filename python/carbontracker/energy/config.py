"""What a session samples and how: the arguments of ``measure`` and of the tracker, checked."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from carbontracker.conversion import as_number, shown
from carbontracker.environment import enabled
from carbontracker.guard import logger

MAX_RATE_HZ = 1e4
MIN_RATE_HZ = 0.5
"""A limit of the core: a power sensor that is read less often would leave gaps."""

SHARES = True
"""Whether readings are shared unless ``CARBONTRACKER_SHARE`` says otherwise."""
SHARE_DIRECTORY = "/dev/shm"
"""Memory that all processes of a machine see, on Linux."""

OVERHEAD_BUDGET = "CARBONTRACKER_OVERHEAD_BUDGET"
OLD_OVERHEAD_BUDGET = "CARBONTRACKER_BUDGET"
"""The name until version 3; it goes on working, with a warning."""


MIN_KEEP_FULL_S = 10.0
MAX_KEEP_FULL_S = 86_400.0


def sampling_fields(
    rate_hz: float | None, overhead_budget: float | None, keep_full_s: float | None = None
) -> dict[str, float]:
    """Return the fields of ``Config`` for these arguments; None leaves a field out.

    Raises:
        ValueError: an argument is not a number, or out of range.
    """
    fields: dict[str, float] = {}
    given = {
        "rate_hz": rate_hz,
        "overhead_budget": overhead_budget,
        "keep_full_s": keep_full_s,
    }
    for name, value in given.items():
        number = as_number(value)
        if isinstance(number, (int, float)):
            fields[name] = float(number)
        elif value is not None:
            message = f"{name} must be a number, not {shown(value)}"
            raise ValueError(message)
    if not MIN_RATE_HZ <= fields.get("rate_hz", MIN_RATE_HZ) <= MAX_RATE_HZ:
        message = f"rate_hz must be from {MIN_RATE_HZ:g} to {MAX_RATE_HZ:g} Hz"
        raise ValueError(message)
    if not 0.0 <= fields.get("overhead_budget", 0.0) <= 1.0:
        message = "overhead_budget is a fraction of one core, from 0 (no limit) to 1"
        raise ValueError(message)
    if not MIN_KEEP_FULL_S <= fields.get("keep_full_s", MIN_KEEP_FULL_S) <= MAX_KEEP_FULL_S:
        message = f"keep_full_s must be from {MIN_KEEP_FULL_S:g} to {MAX_KEEP_FULL_S:g} s"
        raise ValueError(message)
    return fields


@dataclass(frozen=True)
class SimulatedDevice:
    """A device whose power is a formula."""

    kind: str
    name: str
    waveform: str
    """``constant:W``, or a shape of ``cpp/src/sources/simulated.cpp``."""


VISIBLE_ELSEWHERE = (
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ZE_AFFINITY_MASK",
    "ZE_FLAT_DEVICE_HIERARCHY",
)
"""Variables of AMD and Intel that say which GPUs a process has."""


@dataclass(frozen=True)
class Config:
    """What to sample and how. The defaults sample everything on this machine."""

    root: str = "/"
    """The folder above ``sys`` and ``proc``."""
    nvml_library: str = "libnvidia-ml.so.1"
    perf_library: str = ""
    """Library to use in place of the kernel's perf events; empty for the kernel itself."""
    gpus_of_process: bool = False
    """Only the GPUs that this process uses when sampling starts."""
    kinds: tuple[str, ...] = ()
    """Only these kinds of channel; empty for all."""
    simulated: tuple[SimulatedDevice, ...] = ()
    rate_hz: float = 0.0
    """Readings per second of every sensor, at any cost; 0 to follow the update period of each
    sensor within the overhead budget."""
    overhead_budget: float = 0.005
    """Largest share of one core that all sampling threads together may use, those of all processes
    that share readings; 0 for no limit."""
    edge_reads: bool = True
    """A mark asks the sensors for a reading where that sharpens the ends of a window."""
    share: str = ""
    """The folder in which the sessions of this user on this machine share their readings; empty
    if this session reads by itself."""
    keep_full_s: float = 60.0
    """How long every sample is kept in memory, s; older ones are thinned to one in ``spacing_s``.
    A sample takes 16 to 32 bytes: a minute at 1 kHz about 1.5 MB a channel."""
    spacing_s: float = field(default=1.0, compare=False)
    """Spacing of the stored time series once it is older than that, s. Totals do not depend on
    it."""
    visible_gpus: str | None = None
    """Value of ``CUDA_VISIBLE_DEVICES``; None if it is not set."""
    cuda_order: str | None = None
    """Value of ``CUDA_DEVICE_ORDER``; None if it is not set."""
    visible_elsewhere: tuple[tuple[str, str], ...] = ()
    """Those of ``VISIBLE_ELSEWHERE`` that are set: name and value."""

    @classmethod
    def from_environment(cls, **settings: object) -> Config:
        """Return a configuration from ``settings``, and from the environment for all other fields.

        ``CARBONTRACKER_ROOT``: folder above ``sys`` and ``proc`` (a container's mount of the
        host). ``CARBONTRACKER_NVML``: path of the NVML library. ``CARBONTRACKER_PERF``: path of a
        library to use in place of perf events. ``CARBONTRACKER_RATE_HZ``: a fixed rate of reading.
        ``CARBONTRACKER_OVERHEAD_BUDGET``: share of a core. ``CARBONTRACKER_EDGE_READS=0``: marks
        ask for no readings. ``CARBONTRACKER_SHARE``: whether sessions share their readings, or in
        which folder. An impossible number is one warning and is ignored: the environment
        must not stop a training.
        """
        environ = os.environ
        found: dict[str, object] = {
            "root": environ.get("CARBONTRACKER_ROOT") or "/",
            "nvml_library": environ.get("CARBONTRACKER_NVML") or "libnvidia-ml.so.1",
            "perf_library": environ.get("CARBONTRACKER_PERF") or "",
            "visible_gpus": environ.get("CUDA_VISIBLE_DEVICES"),
            "cuda_order": environ.get("CUDA_DEVICE_ORDER"),
            "visible_elsewhere": tuple(
                (name, environ[name]) for name in VISIBLE_ELSEWHERE if name in environ
            ),
            "share": _share_directory(),
            "edge_reads": enabled("CARBONTRACKER_EDGE_READS", default=True),
            **_number("rate_hz", "CARBONTRACKER_RATE_HZ", MIN_RATE_HZ, MAX_RATE_HZ),
            **_number("overhead_budget", _overhead_variable(), 0.0, 1.0),
        }
        return cls(**(found | settings))  # type: ignore[arg-type]  # names are fields of Config


def shares_on_request() -> bool:
    """Return whether the user has asked for shared readings: then a failure is worth a warning."""
    return bool(os.environ.get("CARBONTRACKER_SHARE", "").strip())


def _share_directory() -> str:
    """Return the folder for shared readings; empty if they are not shared."""
    text = os.environ.get("CARBONTRACKER_SHARE", "").strip()
    if Path(text).is_absolute():
        return text
    return SHARE_DIRECTORY if enabled("CARBONTRACKER_SHARE", default=SHARES) else ""


def _overhead_variable() -> str:
    """Return the variable with the share of a core: the old one only if it alone is set."""
    new, old = (os.environ.get(name, "").strip() for name in (OVERHEAD_BUDGET, OLD_OVERHEAD_BUDGET))
    if new or not old:
        return OVERHEAD_BUDGET
    _warn_of_old_name()
    return OLD_OVERHEAD_BUDGET


@cache
def _warn_of_old_name() -> None:
    logger.warning(
        "carbontracker: %s is now called %s; set the new name, because a later version will ignore "
        "the old one",
        OLD_OVERHEAD_BUDGET,
        OVERHEAD_BUDGET,
    )


def _number(field_name: str, variable: str, minimum: float, maximum: float) -> dict[str, float]:
    """Return the number in ``variable`` as a field; an empty dict if it holds none in range."""
    text = os.environ.get(variable, "").strip()
    if not text:
        return {}
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if minimum <= value <= maximum:
        return {field_name: value}
    logger.warning(
        "carbontracker: %s=%r is not a number from %g to %g and is not used",
        variable,
        text,
        minimum,
        maximum,
    )
    return {}
