"""Polls one GPU without a pause and writes what changed: the reference of `gpu_check`.

    python -m bench.gpu_poll GPU SECONDS FILE

The file gets one line of JSON: for energy, power, instant and average power the CLOCK_MONOTONIC
times, ns, at which a new value was first seen, with the value.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench.nvml import ENERGY, POWER_AVERAGE, POWER_INSTANT, open_gpus

if TYPE_CHECKING:
    from collections.abc import Callable

Change = tuple[int, int]


def poll(index: int, seconds: float) -> dict[str, list[Change]]:
    """Return (time, value) of each change of each reading."""
    gpu = open_gpus()[0][index]
    doors: dict[str, Callable[[], int | None]] = {
        "energy": gpu.energy_mj,
        "power": gpu.power_mw,
        "instant": lambda: gpu.field(POWER_INSTANT),
        "average": lambda: gpu.field(POWER_AVERAGE),
        "energy field": lambda: gpu.field(ENERGY),
    }
    doors = {name: read for name, read in doors.items() if read() is not None}
    last = dict.fromkeys(doors, -1)
    found: dict[str, list[Change]] = {name: [] for name in doors}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name, read in doors.items():
            value = read()
            if value is not None and value != last[name]:
                last[name] = value
                found[name].append((time.monotonic_ns(), value))
    return found


def main() -> None:
    """Poll and write."""
    index, seconds, path = int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3])
    print("ready", flush=True)
    path.write_text(json.dumps(poll(index, seconds)))


if __name__ == "__main__":
    main()
