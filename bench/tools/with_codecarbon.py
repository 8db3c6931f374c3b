"""CodeCarbon: tasks of an offline tracker.

Adaptations: the folders in which it looks for RAPL are replaced by the fake ones; `nvidia-smi`,
which it wants to find before it uses the library, is taken to be there; calls that the fake library
does not have are answered in Python; energy by device is read from its hardware objects right after
`stop_task`, because its results show sums only.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import with_none

JOULES_PER_KWH = 3.6e6
FOLDERS = (
    "/sys/class/powercap/intel-rapl/subsystem",
    "/sys/class/powercap/intel-rapl",
    "/sys/class/powercap",
    "/sys/devices/virtual/powercap",
)
"""Where it looks for RAPL; the first is its default."""


class Tool(with_none.Tool):
    """`start_task` and `stop_task` at the default settings, without network and files."""

    def __init__(self) -> None:
        self._found: list[dict[str, list[float]]] = []

    def start(self, **_: Any) -> None:
        """Make the tracker and run the first task, which probes the machine."""
        from codecarbon import OfflineEmissionsTracker
        from codecarbon.core import cpu, gpu
        from codecarbon.external import hardware

        root = os.environ["BENCH_ROOT"]
        cpu._get_candidate_bases = lambda _: [
            moved for moved in (root + f for f in FOLDERS) if Path(moved).exists()
        ]
        hardware.CPU.__init__.__defaults__ = tuple(
            root + FOLDERS[2] if default == FOLDERS[0] else default
            for default in hardware.CPU.__init__.__defaults__
        )
        gpu.is_nvidia_system = lambda: True
        gpu.pynvml.nvmlDeviceGetMemoryInfo = lambda _: SimpleNamespace(total=1, used=0, free=1)
        for name in ("Temperature", "PowerManagementLimit", "ComputeMode"):
            setattr(gpu.pynvml, f"nvmlDeviceGet{name}", lambda *_: 0)
        self._make_tracker = lambda: OfflineEmissionsTracker(
            country_iso_code="DNK",
            save_to_file=False,
            log_level="critical",
            allow_multiple_runs=True,
        )
        self._tracker = self._make_tracker()
        self.begin("first")
        self.end("first")
        self._names = sorted(self._found.pop())

    def devices(self) -> list[str]:
        """Return what the first task had energy of."""
        return self._names

    def resume(self) -> None:
        """Measure as a whole training is measured: a tracker of its own, every 15 seconds."""
        self._training = self._make_tracker()
        self._training.start()

    def pause(self) -> None:
        """Stop it."""
        self._training.stop()

    def begin(self, name: str) -> None:
        """Begin a task."""
        self._tracker.start_task(name)

    def end(self, name: str) -> None:
        """End it."""
        data = self._tracker.stop_task(name)
        self._found.append(self._parts(data))

    def energies(self) -> list[dict[str, list[float]]]:
        """Return what the tasks had."""
        return self._found

    def forget(self) -> None:
        """Drop the tasks of a latency bench."""
        self._found.clear()
        self._tracker._tasks.clear()

    def close(self) -> None:
        """Stop."""
        self._tracker.stop()

    def _parts(self, data: Any) -> dict[str, list[float]]:
        nan = float("nan")
        parts = {"gpu": [data.gpu_energy * JOULES_PER_KWH, nan]}
        for hardware in self._tracker._hardware:
            if type(hardware).__name__ == "GPU":
                for place, device in enumerate(hardware.devices.devices):
                    parts[f"gpu:{place}"] = [device.energy_delta.kWh * JOULES_PER_KWH, nan]
            elif type(hardware).__name__ == "CPU" and hardware._mode == "intel_rapl":
                for place, file in enumerate(hardware._intel_interface._rapl_files):
                    parts[f"cpu:{place}"] = [file.energy_delta.kWh * JOULES_PER_KWH, nan]
        return parts
