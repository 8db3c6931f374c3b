"""What a run runs on: host, hardware and software."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from carbontracker.hostfiles import host_text
from carbontracker.jobs.processes import boot_id, process_start_ticks
from carbontracker.operating_system import (
    host_name,
    memory_bytes,
    system_name,
    usable_cpus,
    user_name,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_FRAMEWORKS = ("torch", "tensorflow", "jax", "keras", "lightning", "transformers", "numpy")
"""Whose versions are told, if the program has loaded them already: nothing is imported for it."""


def host_data() -> dict[str, Any]:
    """Return the machine's name, system and hardware, from the kernel."""
    return {
        "name": host_name(),
        "user": user_name(),
        "system": system_name(),
        "python": sys.version.split()[0],
        "logical_cpus": os.cpu_count(),
        "usable_cpus": usable_cpus(),
        "memory_bytes": memory_bytes(),
        "cpu": processor_name(),
        # Tells machines of one name apart, and containers on one machine together.
        "boot_id": boot_id(),
    }


def software_data() -> dict[str, str]:
    """Return the versions of the frameworks that this program has loaded."""
    versions = {}
    for name in _FRAMEWORKS:
        version = getattr(sys.modules.get(name), "__version__", None)
        if version is not None:
            versions[name] = str(version)
    return versions


_NOT_SCRIPTS = {"", "-c", "-m", "ipykernel_launcher.py", "colab_kernel_launcher.py", "ipython"}
"""First words of programs that have no file of the user's."""


def script_name() -> str:
    """Return the name of the file or package that Python was started with.

    Empty in a notebook, a shell, and for a program given as text.
    """
    folder, name = os.path.split(sys.argv[0]) if sys.argv else ("", "")
    if name == "__main__.py":  # python -m package
        name = os.path.basename(folder)  # noqa: PTH119  # any text, also ""
    return "" if name in _NOT_SCRIPTS else name


def is_running(host: Mapping[str, Any], pid: int | None, start_ticks: int | None) -> bool:
    """Return whether the process that a record names is still there, on this machine."""
    boot = host.get("boot_id")
    if not boot or pid is None or start_ticks is None:
        return False
    here = boot == boot_id()
    return here and process_start_ticks(pid) == start_ticks


def processor_name() -> str | None:
    """Return the name of the processor, from the kernel; None if it does not say."""
    with suppress(OSError):
        for line in host_text("/proc/cpuinfo").split("\n"):
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model"):
                return value.strip()
    return None
