"""What an installed wheel must do anywhere: `python tests/smoke.py`. Needs no package of tests.

`--pure`: the wheel without the compiled core.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from carbontracker.tracker import CarbonTracker


def errors_cross_the_border_of_the_core() -> None:
    from carbontracker import _core

    host = _core.Host(
        root=Path("/"),
        nvml_library="no-such-library.so",
        data_dir=Path("/"),
        environment={},
        simulated=[],
    )
    session = _core.Session(host)
    try:
        session.energy(1, 2)  # type: ignore[arg-type]
    except TypeError:
        return
    raise AssertionError("an error within the core did not reach Python")


THREADS_AT_THE_END = """
import threading
from carbontracker import _core
from carbontracker.energy.config import Config, SimulatedDevice
from carbontracker.energy.session import core_host

def measure():
    config = Config.from_environment(simulated=(SimulatedDevice("gpu", "g", "constant:250"),))
    while True:
        core = _core.Session(core_host(config))
        core.start()
        core.energy(_core.Mark(core), _core.Mark(core))
        core.stop()
        started.set()

started = threading.Event()
for _ in range(3):
    threading.Thread(target=measure, daemon=True).start()
started.wait()
"""


def threads_that_measure_end_with_the_program() -> None:
    """Python ends them within the core: it must have the unwinder of the C library."""
    for _ in range(5):
        subprocess.run([sys.executable, "-c", THREADS_AT_THE_END], check=True)


def a_simulated_gpu_of_400_watts_at_half_load_uses_200() -> None:
    tracker = CarbonTracker(
        epochs=2, components="gpu", location="DK", sim_gpu="A", sim_gpu_watts=400, sim_gpu_util=0.5
    )
    for _ in tracker.epochs():
        time.sleep(0.5)
    result = tracker.result
    assert result is not None
    watts = result.energy.joules / result.seconds
    assert abs(watts / 200 - 1) < 0.01, watts


def the_command_lists_sensors() -> None:
    command = [sys.executable, "-m", "carbontracker", "sensors"]
    assert subprocess.run(command, check=True, capture_output=True).stdout


if __name__ == "__main__":
    if sys.argv[1:] != ["--pure"]:
        errors_cross_the_border_of_the_core()
        threads_that_measure_end_with_the_program()
    a_simulated_gpu_of_400_watts_at_half_load_uses_200()
    the_command_lists_sensors()
