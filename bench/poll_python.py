"""A sampling thread as it is usually written in Python: sleep, open and read, pynvml.

    python poll_python.py GPUS [FILE...]

Each line of standard input, `HZ SECONDS`, is answered by `CPU_NS WALL_NS TICKS`, the CPU time
being that of the sampling thread by its own clock.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any


def poll(hz: float, seconds: float, gpus: list[Any], files: list[str]) -> tuple[int, int, int]:
    """Read everything `hz` times a second, on absolute deadlines; return the costs."""
    import pynvml

    start, cpu = time.monotonic(), time.thread_time_ns()
    samples, ticks, due = [], 0, start + 1 / hz
    while due <= start + seconds:
        time.sleep(max(0.0, due - time.monotonic()))
        for path in files:
            with Path(path).open() as file:
                samples.append((time.monotonic_ns(), int(file.read())))
        for gpu in gpus:
            energy = pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu)
            samples.append((time.monotonic_ns(), energy))
        ticks += 1
        due += (int(max(0.0, time.monotonic() - due) * hz) + 1) / hz
    cpu = time.thread_time_ns() - cpu
    return cpu, round((time.monotonic() - start) * 1e9), ticks


def main() -> None:
    """Serve until the input ends."""
    gpus, files = [], sys.argv[2:]
    if int(sys.argv[1]):
        import pynvml

        pynvml.nvmlInit()
        gpus = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(int(sys.argv[1]))]
    for line in sys.stdin:
        hz, seconds = map(float, line.split())
        found: list[tuple[int, int, int]] = []
        thread = threading.Thread(
            target=lambda hz, seconds, found: found.append(poll(hz, seconds, gpus, files)),
            args=(hz, seconds, found),
        )
        thread.start()
        thread.join()
        print(*found[0], flush=True)


if __name__ == "__main__":
    main()
