"""A training of a day on eight GPUs as its record, from formulas: for reports and their pictures.

``python -m tests.support.simulated OUT.jsonl`` writes it.
"""

from __future__ import annotations

import json
import math
import random
import sys
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

BEGAN = datetime(2026, 3, 1, 6, 0, 0, tzinfo=timezone.utc)
PUE = 1.2
TOLERANCES = {"gpu": 0.05, "cpu": 0.02, "dram": 0.06}
"""95 % half-width as a share of the energy."""
HARDWARE = {
    "gpu": ("NVIDIA H100 80GB HBM3", "nvml", "integrated"),
    "cpu": ("Intel Xeon Platinum 8480C", "rapl", "measured"),
    "dram": ("32 x 64 GB DDR5", "model", "modelled"),
}


@dataclass
class Training:
    """A run with a validation after each epoch and dips of power while it saves."""

    run_id: str = "5e1fd0d0c0ffee42"
    epochs: int = 100
    seconds: float = 864.0
    """Of each epoch."""
    gpus: int = 8
    moments: int = 120
    """Of each epoch in the series."""
    finished: bool = True
    random: random.Random = field(default_factory=lambda: random.Random(7))

    @property
    def devices(self) -> list[str]:
        """Return the names of all devices."""
        return [*(f"gpu:{i}" for i in range(self.gpus)), "cpu:0", "cpu:1", "dram:0"]

    def watts(self, device: str, share: float, epoch: int) -> float:
        """Return the power of a device at a share of an epoch, W."""
        kind, _, index = device.partition(":")
        validating, saving = share > 0.9, share > 0.97
        warm = 1 - 0.12 * math.exp(-epoch / 4)
        if kind == "gpu":
            level = 110.0 if saving else 430.0 if validating else 640.0 - 9 * int(index)
            return level * warm + self.random.gauss(0, 14)
        if kind == "cpu":
            return (205.0 if saving else 240.0 if validating else 180.0) + self.random.gauss(0, 6)
        return 42.0 + 3 * math.sin(epoch) + self.random.gauss(0, 0.5)

    def intensity(self, hour: float) -> float:
        """Return the carbon intensity, gCO2eq/kWh: less by day, more in the evening."""
        return round(145 + 60 * math.cos((hour - 19) / 12 * math.pi) + 6 * math.sin(hour * 5), 1)

    def energy(self, by_device: dict[str, float]) -> dict[str, Any]:
        """Return an energy of the record."""
        parts: dict[str, dict[str, Any]] = {
            name: {
                "joules": joules,
                "error_joules": TOLERANCES[name.partition(":")[0]] * joules,
                "modelled_joules": joules if name.startswith("dram") else 0.0,
                "quality": HARDWARE[name.partition(":")[0]][2],
                "coverage": 1.0,
            }
            for name, joules in by_device.items()
        }
        sums = {
            key: math.fsum(part[key] for part in parts.values())
            for key in ("joules", "error_joules", "modelled_joules")
        }
        return sums | {"quality": "mixed", "coverage": 1.0, "by_device": parts}

    def slots(self, joules: float, start_s: float, end_s: float) -> list[dict[str, Any]]:
        """Return energy at constant power hour by hour, each with its intensity."""
        slots = []
        hour = math.floor(start_s / 3600)
        while hour * 3600 < end_s:
            first, last = max(start_s, hour * 3600), min(end_s, (hour + 1) * 3600)
            slots.append(
                {
                    "start": self.at(first),
                    "end": self.at(last),
                    "joules": joules * (last - first) / (end_s - start_s),
                    "gco2eq_per_kwh": self.intensity(6 + hour),
                }
            )
            hour += 1
        return slots

    def footprint(self, energy: dict[str, Any], slots: list[dict[str, Any]]) -> dict[str, Any]:
        """Return a footprint of the record."""
        kwh = energy["joules"] * PUE / 3.6e6
        grams = math.fsum(one["joules"] * one["gco2eq_per_kwh"] for one in slots) * PUE / 3.6e6
        intensity = {"gco2eq_per_kwh": grams / kwh, "zone": "DK-DK2", "name": "East Denmark"}
        intensity |= {"year": None, "scope": "lifecycle", "kind": "estimated"}
        intensity |= {"source": "a formula in tests/support/simulated.py", "licence": "MIT"}
        place = {"zone": "DK-DK2", "name": "East Denmark", "how": "argument", "note": ""}
        error_kwh = energy["error_joules"] * PUE / 3.6e6
        parts = {"intensity": intensity, "location": place, "slots": slots}
        return {"kwh": kwh, "error_kwh": error_kwh, "gco2eq": grams, "pue": PUE} | parts

    def at(self, seconds: float) -> str:
        """Return a time, s after the run began."""
        return (BEGAN + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the events of the run."""
        yield self._event("run_started", 0, **self._started())
        sofar = dict.fromkeys(self.devices, 0.0)
        done = 0
        slots: list[dict[str, Any]] = []
        for index in range(1, self.epochs + 1):
            start_s, end_s = (index - 1) * self.seconds, index * self.seconds
            series = self._series(index, sofar)
            last = {name: column[-1] for name, column in series["joules"].items()}
            spent = self.energy({name: last[name] - sofar[name] for name in last})
            sofar, done = last, done + 1
            facts: dict[str, Any] = {
                "index": index,
                "finished": True,
                "final": True,
                "seconds": self.seconds,
            }
            facts |= {"start_s": start_s, "end_s": end_s, "energy": spent}
            footprint = self.footprint(spent, self.slots(spent["joules"], start_s, end_s))
            slots += footprint["slots"]
            yield self._event("epoch", end_s, **facts, footprint=footprint)
            yield self._event("series", end_s, **series)
            yield self._event(
                "windows", end_s, epoch=index, windows=[self._validation(index, spent)]
            )
            if index in {1, 2, 3, 5, 8, 13, 21, 34, 55, 89}:
                yield self._event("prediction", end_s, **self._predicted(done, sofar))
        if self.finished:
            length_s = self.epochs * self.seconds
            total = self.energy(sofar)
            yield self._event(
                "run_finished",
                length_s,
                epochs=self.epochs,
                seconds=length_s,
                energy=total,
                between_epochs=self.energy(dict.fromkeys(self.devices, 0.0)),
                footprint=self.footprint(total, slots),
                tracker_cpu_seconds=41.3,
                readings_per_second=dict.fromkeys(self.devices, 10.0),
                successions=[],
            )

    def _started(self) -> dict[str, Any]:
        sensors = [
            {
                "id": name,
                "kind": name.partition(":")[0],
                "name": HARDWARE[name.partition(":")[0]][0],
                "source": HARDWARE[name.partition(":")[0]][1],
                "quality": HARDWARE[name.partition(":")[0]][2],
                "counted": True,
                "domain": name,
                "detail": "",
            }
            for name in self.devices
        ]
        missing = {
            "what": "energy of the memory",
            "source": "rapl",
            "reason": "this processor has no counter for it",
            "remedy": "",
        }
        host = {"name": "node7", "system": "Linux 6.8.0", "python": "3.12.3", "logical_cpus": 224}
        return {
            "schema": 1,
            "script": "train_llm.py",
            "version": "3.0.0",
            "pid": 4711,
            "began": self.at(0),
            "epochs": self.epochs,
            "host": host | {"cpu": "Intel Xeon Platinum 8480C"},
            "software": {"torch": "2.9.1", "numpy": "2.4.6"},
            "job": {"slurm": {"job_id": "812044", "job_name": "llm-small"}},
            "sensors": sensors,
            "missing": [missing],
            "pricing": {"pue": PUE},
            "pue_source": "argument",
        }

    def _series(self, index: int, before: dict[str, float]) -> dict[str, Any]:
        start_s = (index - 1) * self.seconds
        columns = {name: [joules] for name, joules in before.items()}
        step_s = self.seconds / self.moments
        for i in range(self.moments):
            for name, column in columns.items():
                watts = self.watts(name, (i + 0.5) / self.moments, index)
                column.append(round(column[-1] + watts * step_s, 6))
        times = [i * step_s for i in range(self.moments + 1)]
        return {"t0": self.at(start_s), "start_s": start_s, "t_s": times, "joules": columns}

    def _validation(self, index: int, spent: dict[str, Any]) -> dict[str, Any]:
        joules = 0.07 * spent["joules"]
        return {
            "name": "validation",
            "count": 1,
            "unknown": 0,
            "seconds": 0.1 * self.seconds,
            "joules": joules,
            "error_joules": 0.05 * joules,
            "every": 1,
            "start_s": [(index - 0.1) * self.seconds],
            "length_s": [0.1 * self.seconds],
            "joules_each": [joules],
        }

    def _predicted(self, done: int, sofar: dict[str, float]) -> dict[str, Any]:
        joules = math.fsum(sofar.values()) * self.epochs / done
        half = joules * 0.16 / math.sqrt(done) * (1 - done / self.epochs)
        seconds = self.epochs * self.seconds
        return {
            "epochs": self.epochs,
            "after_epochs": done,
            "seconds": seconds,
            "joules": joules,
            "joules_95": [joules - half, joules + 1.4 * half],
            "method": "steps",
            "footprint": self.footprint(
                {"joules": joules, "error_joules": 0.05 * joules}, self.slots(joules, 0, seconds)
            ),
        }

    def _event(self, name: str, at_s: float, **data: Any) -> dict[str, Any]:
        return {"event": name, "run_id": self.run_id, "time": self.at(at_s), **data}

    def write(self, path: Path) -> Path:
        """Write the record and return its file."""
        with path.open("w", encoding="utf-8") as file:
            for event in self.events():
                file.write(json.dumps(event, separators=(",", ":")) + "\n")
        return path


if __name__ == "__main__":
    print(Training().write(Path(sys.argv[1])))
