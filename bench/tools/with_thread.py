"""A sampling thread in pure Python beside a busy main thread, to compare the native one with."""

from __future__ import annotations

import threading
import time
from typing import Any

import with_none


class Tool(with_none.Tool):
    """Reads all GPUs with pynvml on absolute deadlines while the main thread computes."""

    def start(self, **_: Any) -> None:
        """Open the GPUs."""
        import pynvml

        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
        self._gpus = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(count)]
        self._read = pynvml.nvmlDeviceGetTotalEnergyConsumption

    def sample_and_spin(self, hz: float, seconds: float) -> dict[str, list[int]]:
        """Return due and actual times of the ticks, ns, taken while the main thread is busy."""
        due: list[int] = []
        taken: list[int] = []
        thread = threading.Thread(target=self._sample, args=(hz, seconds, due, taken))
        thread.start()
        number = 0
        while thread.is_alive():
            for _ in range(1000):
                number += 1
        return {"due": due, "taken": taken}

    def _sample(self, hz: float, seconds: float, due: list[int], taken: list[int]) -> None:
        period_ns = round(1e9 / hz)
        start_ns = time.monotonic_ns()
        next_ns = start_ns + period_ns
        while next_ns <= start_ns + seconds * 1e9:
            time.sleep(max(0, next_ns - time.monotonic_ns()) / 1e9)
            now_ns = time.monotonic_ns()
            for gpu in self._gpus:
                self._read(gpu)
            due.append(next_ns)
            taken.append(now_ns)
            next_ns += ((time.monotonic_ns() - next_ns) // period_ns + 1) * period_ns
