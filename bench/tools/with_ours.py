"""This package, by its public interface; settings come from the environment."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path
from typing import Any

import with_none

WAIT_S = 3.0


class Tool(with_none.Tool):
    """`carbontracker.measure`."""

    def __init__(self) -> None:
        self._windows: list[Any] = []
        self._session: Any = None

    def start(self, settle_s: float = 1.0, **_: Any) -> None:
        """Open the session of all windows and let it learn the rhythm of the sensors."""
        import carbontracker

        self._measure = carbontracker.measure
        with self._measure("first") as window:
            time.sleep(settle_s)
        window.wait(WAIT_S)
        self._first = window
        self._session = window._session  # there is no public door to statistics

    def devices(self) -> list[str]:
        """Return the names of what counts in the total."""
        return sorted(self._first.energy.by_device)

    def begin(self, name: str) -> None:
        """Enter a window."""
        self._open = self._measure(name)
        self._open.__enter__()

    def end(self, _name: str) -> None:
        """Leave it."""
        self._open.__exit__(None, None, None)
        self._windows.append(self._open)

    def resume(self) -> None:
        """Track a training; needs no `start`, whose session would never end."""
        from carbontracker import CarbonTracker

        self._tracker = CarbonTracker(epochs=1_000_000_000, epochs_before_pred=0, verbose=0)
        self._tracker.epoch_start()

    def pause(self) -> None:
        """End it, and with it the sampling."""
        self._tracker.epoch_end()
        self._tracker.stop()

    def energies(self) -> list[dict[str, list[float]]]:
        """Wait for each window to be final, then read it."""
        found = []
        for window in self._windows:
            window.wait(WAIT_S)
            energy = window.energy
            parts = {
                device: [part.joules, part.error_joules]
                for device, part in energy.by_device.items()
            }
            found.append(parts | {"total": [energy.joules, energy.error_joules]})
        return found

    def forget(self) -> None:
        """Drop the windows of a latency bench."""
        self._windows.clear()

    def cpu_seconds(self) -> float:
        """Return the CPU time of the sampling threads, s."""
        return float(self._session.cpu_seconds) if self._session is not None else 0.0

    def stats(self) -> dict[str, dict[str, float]]:
        """Return what each sampling thread says of itself, with every attribute that it has."""
        return {
            source: {
                name: getattr(one, name)
                for name in dir(one)
                if not name.startswith("_") and isinstance(getattr(one, name), int | float)
            }
            for source, one in dict(self._session.stats()).items()
        }

    def seconds(self, count: int, sessions: int = 1) -> list[list[list[float]]]:
        """Return, for each of so many sessions in a row, its cost second by second.

        A second has the CPU time of all threads of the session, s, and the calls of the driver.
        """
        from carbontracker.energy.config import Config
        from carbontracker.energy.session import acquire, release

        found = []
        for _ in range(sessions):
            session = acquire(Config.from_environment())
            start_ns, calls, cpu_s = time.monotonic_ns(), _driver_calls(), 0.0
            rows = []
            for second in range(1, count + 1):
                time.sleep(max(0.0, (start_ns - time.monotonic_ns()) / 1e9 + second))
                now_calls, now_cpu_s = _driver_calls(), session.cpu_seconds
                rows.append([now_cpu_s - cpu_s, now_calls - calls])
                calls, cpu_s = now_calls, now_cpu_s
            release(session)
            found.append(rows)
        return found

    def sample_times(self, index: int, start_ns: int, end_ns: int) -> list[int]:
        """Return the times of the samples of a channel, ns; empty where they are not offered."""
        try:
            times, _ = self._session.power(index, start_ns, end_ns)
        except (AttributeError, TypeError):
            return []
        return [int(t) for t in times]

    def spin(self, seconds: float) -> dict[str, Any]:
        """Keep the main thread busy in pure Python; return statistics of before and after."""
        before, start_ns = self.stats(), time.monotonic_ns()
        end_ns = start_ns + round(seconds * 1e9)
        number = 0
        while time.monotonic_ns() < end_ns:
            for _ in range(1000):
                number += 1
        after, end_ns = self.stats(), time.monotonic_ns()
        return {"before": before, "after": after, "start_ns": start_ns, "end_ns": end_ns}

    def marks(self, count: int) -> list[int]:
        """Return how long each of `count` marks took, ns; empty without marks."""
        mark = getattr(self._session, "mark", None)
        if mark is None:
            return []
        clock, took = time.perf_counter_ns, []
        for _ in range(count):
            a = clock()
            mark()
            took.append(clock() - a)
        return took

    def withs(self, count: int) -> list[int]:
        """Return how long each empty `with measure()` took, ns."""
        measure, clock, took = self._measure, time.perf_counter_ns, []
        for _ in range(count):
            a = clock()
            with measure("w"):
                pass
            took.append(clock() - a)
        return took

    def resolutions(self, count: int, length_s: float) -> list[int]:
        """Return how long `window.energy.joules` took for `count` fresh, final windows, ns."""
        clock, took = time.perf_counter_ns, []
        for _ in range(count):
            with self._measure("r") as window:
                time.sleep(length_s)
            window.wait(WAIT_S)
            a = clock()
            _ = window.energy.joules
            took.append(clock() - a)
        return took

    def again(self, count: int) -> list[int]:
        """Return how long each further look at one final window took, ns."""
        clock, took = time.perf_counter_ns, []
        for _ in range(count):
            a = clock()
            _ = self._first.energy.joules
            took.append(clock() - a)
        return took


def _driver_calls() -> int:
    """Return how many functions of the pretended driver this process has called."""
    (calls,) = struct.unpack("=Q", Path(os.environ["FAKE_NVML_CALLS"]).read_bytes()[:8])
    return int(calls)
