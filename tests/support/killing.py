"""Trainings that are killed at random moments: a program that forks, kills and counts.

    python -m tests.support.killing DIRECTORY COUNT SEED

Each training is a process of its own with a record in ``DIRECTORY/<number>``. It notes in shared
memory how many epochs had returned when it was killed: ``DIRECTORY/returned.json`` has them all.
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

from tests.support.programs import DEVICES, TIMEOUT_S

EPOCHS = 12
MAX_DELAY_S = 0.012
"""After an epoch; about two of them: the moment may be anywhere in an epoch or at its end."""


def train(directory: Path, returned: mmap.mmap) -> None:
    """Run a whole training, noting after each epoch that it has returned."""
    from carbontracker.tracker import CarbonTracker

    tracker = CarbonTracker(EPOCHS, log_dir=directory, verbose=0, update_interval=1e-3, **DEVICES)
    for epoch in range(1, EPOCHS + 1):
        tracker.epoch_start()
        time.sleep(0.005)
        tracker.epoch_end()
        returned[:4] = struct.pack("=i", epoch)


def killed(directory: Path, after_epochs: int, seconds: float) -> int:
    """Kill a training so long after so many epochs; return how many had returned by then."""
    returned = mmap.mmap(-1, 4)
    pid = os.fork()
    if pid == 0:
        try:
            train(directory, returned)
        finally:
            os._exit(0)
    deadline = time.monotonic() + TIMEOUT_S
    while _count(returned) < after_epochs and time.monotonic() < deadline:
        time.sleep(0.0005)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return _count(returned)


def _count(returned: mmap.mmap) -> int:
    (count,) = struct.unpack("=i", returned[:4])
    return int(count)


def main(directory: str, count: str, seed: str) -> None:
    """Kill so many trainings."""
    import_module("carbontracker.tracker")  # once, before the forks; nothing is measured here
    draw = random.Random(int(seed))
    epochs = [
        killed(
            Path(directory) / str(number),
            draw.randrange(EPOCHS + 1),
            draw.uniform(0.0, MAX_DELAY_S),
        )
        for number in range(int(count))
    ]
    (Path(directory) / "returned.json").write_text(json.dumps(epochs))


if __name__ == "__main__":
    main(*sys.argv[1:])
