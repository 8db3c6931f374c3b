"""carbontracker 2.4.7: epochs of its tracker.

Adaptations: its constant for the RAPL folder shows the fake one; energy by device is worked out by
its own formula from the readings of each device, because its result has only the total (in which
2.4.7 takes the mean over the devices of a kind for their sum).
"""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import with_none

JOULES_PER_KWH = 3.6e6
FIRST_EPOCH_S = 2.5


class Tool(with_none.Tool):
    """`epoch_start` and `epoch_end` at the default settings, without log files."""

    def start(self, **_: Any) -> None:
        """Make the tracker and let one epoch go by, which is long enough for a reading."""
        import time

        from carbontracker.energy.components.cpu import intel

        from carbontracker.tracker import CarbonTracker

        intel.RAPL_DIR = os.environ["BENCH_ROOT"] + "/sys/class/powercap/"
        self._tracker = CarbonTracker(
            epochs=1_000_000_000, epochs_before_pred=0, verbose=0, ignore_errors=True
        )
        self._thread = self._tracker.tracker
        self.begin("first")
        time.sleep(FIRST_EPOCH_S)
        self.end("first")

    def devices(self) -> list[str]:
        """Return the devices of its components."""
        return sorted(name for part in self._thread.components for name in self._names(part))

    def begin(self, _name: str) -> None:
        """Begin an epoch."""
        self._tracker.epoch_start()

    def end(self, _name: str) -> None:
        """End it."""
        self._tracker.epoch_end()

    def resume(self) -> None:
        """Begin an epoch: its thread takes readings only then."""
        self.begin("training")

    def pause(self) -> None:
        """End it."""
        self.end("training")

    def energies(self) -> list[dict[str, list[float]]]:
        """Return the energy of each epoch but the first."""
        by_device = {}
        for part in self._thread.components:
            names = self._names(part)
            for place, name in enumerate(names):
                # All readings of an epoch stand in one flat list, the devices in turn.
                own = [epoch[place :: len(names)] for epoch in part.power_usages]
                alone = SimpleNamespace(power_usages=own)
                kwh = type(part).energy_usage(alone, self._thread.epoch_times)
                by_device[name] = [float(one) * JOULES_PER_KWH for one in kwh]
        count = len(self._thread.epoch_times)
        nan = float("nan")
        return [
            {name: [joules[epoch], nan] for name, joules in by_device.items()}
            for epoch in range(1, count)
        ]

    def close(self) -> None:
        """Stop."""
        self._tracker.stop()

    @staticmethod
    def _names(part: Any) -> list[str]:
        names = part.devices()
        if part.name == "gpu":
            return [f"gpu:{place}" for place in range(len(names))]
        return list(names)  # "cpu:0", "dram:0", in the order of its readings
