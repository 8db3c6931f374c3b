"""The power of the processor from its utilisation, where no energy sensor can be read.

The line of the compiled core for a processor without a known power limit: P = idle + (full - idle)
x utilisation, for each hardware thread, from the table ``cpu_cores``. The core knows more of Linux
machines (chips, containers, power limits, memory); here the interval is the widest of the core's.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from carbontracker.data import rows
from carbontracker.guard import reason
from carbontracker.hostfiles import host_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RELATIVE_ERROR = 1.5
"""The true power is -60 % to +150 % of the line: the core's interval for an unknown processor."""

_APPLE = "0x61"
"""The implementer of Apple's cores, as Linux shows it."""
_USUAL = "virtual"
"""Word of the row with the mean of a cloud's machines, for a processor without a row."""

_SYSCTL = ("brand_string", "vendor", "family", "model", "stepping")
_SYSCTL_TIMEOUT_S = 2.0
_WINDOWS = re.compile(r"Family (\d+) Model (\d+) Stepping (\d+), (\w+)")
"""Of ``PROCESSOR_IDENTIFIER`` on x86: Intel64 Family 6 Model 140 Stepping 1, GenuineIntel."""

MAX_TICK_S = 0.1
"""Time in which the counts of a running system change, s: one CPU may show a tick only after
70 ms."""


class Cores(NamedTuple):
    """A kind of core by its codes; -1 for one that its maker does not use."""

    vendor: str = ""
    family: int = -1
    model: int = -1
    stepping: int = -1


class Processors(NamedTuple):
    """The processors of this machine."""

    name: str
    kinds: dict[Cores, int]
    """Logical CPUs of each kind; empty if the machine shows no codes."""
    logical: int


class Line(NamedTuple):
    """The power of all processors: linear in the utilisation."""

    name: str
    idle_watts: float
    full_watts: float
    assumption: str
    """The origin of the figures, for display."""

    def watts(self, utilisation: float) -> float:
        """Return the power, W, at a utilisation from 0 to 1."""
        return self.idle_watts + (self.full_watts - self.idle_watts) * utilisation


class CpuTimes(NamedTuple):
    """Processor time so far, summed over the logical CPUs; only ratios of its units are used."""

    busy: float
    total: float


def processors(root: Path) -> Processors:
    """Return what the machine says of its processors.

    Args:
        root: the folder above ``proc``, on Linux.
    """
    with suppress(OSError):
        return _of_cpuinfo(host_text(root / "proc/cpuinfo"))
    logical = os.cpu_count() or 1
    name = platform.processor() or platform.machine()
    codes: Cores | None = None
    if sys.platform == "darwin":
        name, codes = _of_sysctl(name)
    elif found := _WINDOWS.search(name):
        codes = Cores(found[4], *(int(found[group]) for group in (1, 2, 3)))
    return Processors(name, {codes: logical} if codes else {}, logical)


def power_line(machine: Processors) -> Line:
    """Return the power of the processors between idle and busy.

    Raises:
        TableError: the table is missing or damaged.
    """
    key = _squeezed(machine.name)
    idle_watts = full_watts = 0.0
    parts = []
    for codes, count in (machine.kinds or {Cores(): machine.logical}).items():
        row = _by_codes(codes) or _by_word(key) or _by_word(_USUAL)
        if row is None:
            raise LookupError(_USUAL)
        each = float(row["idle_watts"]), float(row["full_watts"])
        idle_watts += each[0] * count
        full_watts += each[1] * count
        parts.append(f"{row['name']}: {each[0]:g} to {each[1]:g} W for each of {count} CPUs")
    name = machine.name or "processor of unknown model"
    return Line(name, idle_watts, full_watts, "; ".join(parts))


def cpu_times(root: Path) -> tuple[Callable[[], CpuTimes], str]:
    """Return the best source of the processor time that works here, and what it lacks.

    The text is empty if the source counts the time of the whole machine. The source raises OSError
    or ValueError if it cannot be read.
    """
    stat = root / "proc/stat"
    lacks = f"{stat} does not change"
    for source in (lambda: _of_stat(stat), _psutil()):
        if isinstance(source, str):
            lacks = source
            continue
        try:
            if _runs(source):
                return source, ""
        except (OSError, ValueError) as error:
            lacks = reason(error)
    return _of_this_process(), lacks


def _of_cpuinfo(text: str) -> Processors:
    name = ""
    logical = 0
    kinds: dict[Cores, int] = {}
    for block in text.split("\n\n"):
        pairs = (line.partition(":") for line in block.split("\n"))
        found = {key.strip(): value.strip() for key, _, value in pairs}
        if not any(key.partition(" ")[0] == "processor" for key in found):
            continue
        logical += 1
        name = name or found.get("model name", "")
        vendor = found.get("vendor_id") or found.get("CPU implementer", "").lower()
        model = _code(found.get("model") or found.get("CPU part"))
        if vendor and model >= 0:
            family, stepping = _code(found.get("cpu family")), _code(found.get("stepping"))
            codes = Cores(vendor, family, model, stepping)
            kinds[codes] = kinds.get(codes, 0) + 1
    # Some kernels list one block for all of their CPUs, or none.
    logical = logical or os.cpu_count() or 1
    return Processors(name, kinds if sum(kinds.values()) == logical else {}, logical)


def _of_sysctl(otherwise: str) -> tuple[str, Cores | None]:
    """Return name and codes on macOS; only processors of Intel have codes there."""
    import subprocess  # not with the package: only here is a program started

    command = ["sysctl", "-n", *(f"machdep.cpu.{key}" for key in _SYSCTL)]
    try:
        ran = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_SYSCTL_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError):
        return otherwise, None
    name, *codes = ran.stdout.splitlines() or [otherwise]
    if name.startswith("Apple"):
        return name, Cores(_APPLE, model=0)
    if len(codes) + 1 != len(_SYSCTL):
        return name, None
    return name, Cores(codes[0], *map(_code, codes[1:]))


def _code(text: str | None) -> int:
    with suppress(TypeError, ValueError):
        return int(text or "", 0)
    return -1


def _squeezed(name: str) -> str:
    """Return the letters and digits of a name, without marks: ``intelcorei71165g7``."""
    return re.sub(r"[^a-z0-9+]", "", re.sub(r"\((r|tm)\)", "", name.lower()))


def _by_codes(codes: Cores) -> dict[str, str] | None:
    """Return the row of a kind of core, the narrowest of those that hold it."""
    found = [
        row
        for row in rows("cpu_cores")
        if row["vendor"] == codes.vendor
        and _code(row["family"]) == codes.family
        and _code(row["first_model"]) <= codes.model <= _code(row["last_model"])
        and _code(row["first_stepping"]) <= codes.stepping
        and not row["seller"]
    ]
    return max(found, key=_narrowness, default=None)


def _narrowness(row: dict[str, str]) -> tuple[int, int]:
    return _code(row["first_model"]) - _code(row["last_model"]), _code(row["first_stepping"])


def _by_word(key: str) -> dict[str, str] | None:
    """Return the row with the longest word in the name; of a model rather than of a brand."""
    found: list[tuple[bool, int, dict[str, str]]] = []
    for row in rows("cpu_cores"):
        if row["vendor"] in ("name", "brand"):
            lengths = [len(word) for word in row["words"].split(";") if word and word in key]
            found += [(row["vendor"] == "name", max(lengths), row)] if lengths else []
    return max(found, key=lambda one: one[:2])[2] if found else None


def _runs(source: Callable[[], CpuTimes]) -> bool:
    first = source().total
    deadline = time.monotonic() + MAX_TICK_S
    while time.monotonic() < deadline:
        time.sleep(MAX_TICK_S / 50)
        if source().total > first:
            return True
    return source().total > first


def _of_stat(path: Path) -> CpuTimes:
    """Return the sum over the CPUs of Linux; stolen time was not used here.

    Raises:
        OSError, ValueError: the file cannot be read, or has no such line.
    """
    label, *fields = host_text(path, 4096).partition("\n")[0].split()
    values = [int(field) for field in fields[:7]]
    if label != "cpu" or len(values) < 5:
        raise ValueError(f"{path} has no line of all CPUs")
    total = sum(values)
    return CpuTimes(total - values[3] - values[4], total)  # idle and iowait


def _psutil() -> Callable[[], CpuTimes] | str:
    """Return the processor time by psutil; if it cannot be imported, why."""
    try:
        import psutil
    except (ImportError, NotImplementedError) as error:  # a system that it does not know
        return reason(error)

    def read() -> CpuTimes:
        times = psutil.cpu_times()
        # Time in interrupts is part of the system's on some platforms, and small on all.
        busy = times.user + times.system + getattr(times, "nice", 0.0)
        return CpuTimes(busy, busy + times.idle + getattr(times, "iowait", 0.0))

    return read


def _of_this_process() -> Callable[[], CpuTimes]:
    """Return the processor time of this process and of its children that have ended."""
    cpus = os.cpu_count() or 1
    return lambda: CpuTimes(sum(os.times()[:4]), time.monotonic() * cpus)


def unread_gpus(root: Path) -> Iterator[str]:
    """Yield the name of each NVIDIA GPU that the driver shows: without the core none is read."""
    with suppress(OSError):
        for folder in sorted((root / "proc/driver/nvidia/gpus").iterdir()):
            yield f"NVIDIA GPU at {folder.name}"
    library = Path(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "nvml.dll")
    if sys.platform == "win32" and library.exists():
        yield "NVIDIA GPU"
