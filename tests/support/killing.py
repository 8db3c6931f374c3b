"""Trainings that are killed at random moments: a program that forks, kills and counts.

    python -m tests.support.killing DIRECTORY COUNT SEED

Each training is a process of its own with a record in ``DIRECTORY/<number>``. It notes in shared
memory how many epochs had returned when it was killed, which is printed as one JSON list.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import signal
import struct
import sys
import time
from importlib import import_module
from pathlib import Path

from tests.support.programs import DEVICES

EPOCHS = 12
LONGEST_S = 0.2
"""A training takes about so long: some are killed while they begin, some not before they end."""


def train(directory: Path, returned: mmap.mmap) -> None:
    """Run a whole training, noting after each epoch that it has returned."""
    from carbontracker.tracker import CarbonTracker

    tracker = CarbonTracker(EPOCHS, log_dir=directory, verbose=0, update_interval=1e-3, **DEVICES)
    for epoch in range(1, EPOCHS + 1):
        tracker.epoch_start()
        time.sleep(0.005)
        tracker.epoch_end()
        returned[:4] = struct.pack("=i", epoch)


def killed_after(seconds: float, directory: Path) -> int:
    """Kill a training after so long; return how many of its epochs had returned."""
    returned = mmap.mmap(-1, 4)
    pid = os.fork()
    if pid == 0:
        try:
            train(directory, returned)
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    (count,) = struct.unpack("=i", returned[:4])
    return int(count)


def main(directory: str, count: str, seed: str) -> None:
    """Kill so many trainings."""
    import_module("carbontracker.tracker")  # once, before the forks; nothing is measured here
    draw = random.Random(int(seed))
    epochs = [
        killed_after(draw.uniform(0.0, LONGEST_S), Path(directory) / str(number))
        for number in range(int(count))
    ]
    print(json.dumps(epochs))


if __name__ == "__main__":
    main(*sys.argv[1:])
