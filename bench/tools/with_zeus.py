"""Zeus: `ZeusMonitor` windows.

Adaptations: its constant for the RAPL folder shows the fake one; boards without a counter are
polled every 50 ms, which it intends, and not without a pause, which 0.16.0 does (the period that it
infers starts as the least of zero and what it finds) and which would disturb everybody else.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from typing import Any

import with_none

POLL_S = 0.05


class Tool(with_none.Tool):
    """`begin_window` and `end_window`, without waiting for CUDA, which is absent."""

    def __init__(self) -> None:
        self._found: list[Any] = []

    def start(self, **_: Any) -> None:
        """Make the monitor; the first window starts its helper processes."""
        from zeus.device.cpu import rapl
        from zeus.monitor import ZeusMonitor, power

        rapl.RAPL_DIR = os.environ["BENCH_ROOT"] + "/sys/class/powercap/intel-rapl"
        power.infer_counter_update_period = lambda _: POLL_S
        self._monitor = ZeusMonitor()
        self.begin("first")
        self.end("first")
        self._first = self._found.pop()

    def devices(self) -> list[str]:
        """Return the GPUs and processors of the first window."""
        return sorted(self._parts(self._first))

    def begin(self, name: str) -> None:
        """Begin a window."""
        self._monitor.begin_window(name, sync_execution=False)

    def end(self, name: str) -> None:
        """End it; the result is there at once."""
        self._found.append(self._monitor.end_window(name, sync_execution=False))

    def resume(self) -> None:
        """Begin a window and let the helper processes go on."""
        self._signal_helpers(signal.SIGCONT)
        self.begin("training")

    def pause(self) -> None:
        """End it and stop the helpers, which have no switch."""
        self.end("training")
        self._signal_helpers(signal.SIGSTOP)

    def close(self) -> None:
        """Let the helpers hear that they are to end."""
        self._signal_helpers(signal.SIGCONT)

    @staticmethod
    def _signal_helpers(number: int) -> None:
        for helper in multiprocessing.active_children():
            if helper.pid is not None:
                os.kill(helper.pid, number)

    def energies(self) -> list[dict[str, list[float]]]:
        """Return what the windows have returned."""
        return [self._parts(one) for one in self._found]

    def forget(self) -> None:
        """Drop the windows of a latency bench."""
        self._found.clear()

    @staticmethod
    def _parts(one: Any) -> dict[str, list[float]]:
        nan = float("nan")
        parts = {f"gpu:{index}": [joules, nan] for index, joules in one.gpu_energy.items()}
        parts |= {f"cpu:{i}": [joules, nan] for i, joules in (one.cpu_energy or {}).items()}
        return parts | {f"dram:{i}": [joules, nan] for i, joules in (one.dram_energy or {}).items()}
