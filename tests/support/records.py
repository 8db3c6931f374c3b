"""Records made of nothing but numbers, for tests of what reads them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

BEGAN = datetime(2026, 3, 1, 12, 0, 0, tzinfo=timezone.utc)
PUE = 1.5
GRAMS = 100.0
"""Of every made run, gCO2eq/kWh."""


@dataclass(frozen=True)
class Made:
    """A run of given epochs; its ``lines`` are those of its record."""

    run_id: str
    epochs: Sequence[float] = (1000.0,)
    """Joules of each."""
    began_s: float = 0.0
    """After ``BEGAN``."""
    seconds: float = 10.0
    """Of each epoch."""
    host: str = "node1"
    boot_id: str | None = None
    devices: tuple[tuple[str, str], ...] = (("gpu:0", "gpu/GPU-1"),)
    """Id and domain; the energy is shared equally."""
    parent: str | None = None
    finished: bool = True
    planned: int | None = None
    relative_error: float = 0.02
    about: Mapping[str, str] = field(default_factory=dict)
    """More of ``run_started``: what the run was for."""
    outcome: str = ""
    saved_s: tuple[float, ...] = ()
    """When its state was saved, s after it began."""
    tokens: int | None = None
    """That each epoch processed."""

    def at(self, seconds: float) -> str:
        """Return a time, s after the run began."""
        moment = BEGAN + timedelta(seconds=self.began_s + seconds)
        return moment.isoformat(timespec="milliseconds")

    def energy(self, joules: float) -> dict[str, Any]:
        """Return an energy of the record."""
        share = joules / len(self.devices)
        return self._figures(joules) | {
            "by_device": {name: self._figures(share) for name, _ in self.devices}
        }

    def _figures(self, joules: float) -> dict[str, Any]:
        return {
            "joules": joules,
            "error_joules": self.relative_error * joules,
            "modelled_joules": 0.0,
            "quality": "measured",
            "coverage": 1.0,
        }

    def footprint(self, joules: float) -> dict[str, Any]:
        """Return a footprint of the record."""
        kwh = joules * PUE / 3.6e6
        return {
            "kwh": kwh,
            "error_kwh": self.relative_error * kwh,
            "gco2eq": kwh * GRAMS,
            "pue": PUE,
            "intensity": {"gco2eq_per_kwh": GRAMS, "zone": "DK"},
            "location": None,
        }

    def events(self) -> list[dict[str, Any]]:
        """Return the events of the run."""
        started = {
            "schema": 1,
            "version": "3.0.0",
            "pid": 4711,
            "parent_run_id": self.parent,
            "host": {"name": self.host, "boot_id": self.boot_id},
            "sensors": [
                {"id": name, "kind": name.partition(":")[0], "name": "X", "source": "nvml",
                 "domain": domain, "quality": "measured", "counted": True, "detail": ""}
                for name, domain in self.devices
            ],
            "missing": [],
            "epochs": self.planned or len(self.epochs),
            "pricing": self.footprint(0.0),
            **self.about,
        }  # fmt: skip
        events = [self._event("run_started", 0.0, **started)]
        for index, joules in enumerate(self.epochs, 1):
            end_s = index * self.seconds
            epoch = {"index": index, "finished": True, "final": True, "seconds": self.seconds}
            epoch |= {"start_s": end_s - self.seconds, "end_s": end_s}
            parts = {"energy": self.energy(joules), "footprint": self.footprint(joules)}
            events.append(self._event("epoch", end_s, **epoch, **parts, **self._work(1)))
            events.append(self._series(index))
        for at_s in self.saved_s:
            saved = {"seconds_after_start": at_s, "steps": 1}
            events.append(self._event("checkpoint", at_s, **saved))
        if self.finished:
            total = sum(self.epochs)
            seconds = self.seconds * len(self.epochs)
            events.append(
                self._event(
                    "run_finished",
                    seconds,
                    epochs=len(self.epochs),
                    seconds=seconds,
                    energy=self.energy(total),
                    footprint=self.footprint(total),
                    tracker_cpu_seconds=0.1,
                    **({"outcome": self.outcome} if self.outcome else {}),
                    **self._work(len(self.epochs)),
                )
            )
        return events

    def _work(self, epochs: int) -> dict[str, Any]:
        return {} if self.tokens is None else {"work": {"tokens": self.tokens * epochs}}

    def _series(self, index: int) -> dict[str, Any]:
        before, after = sum(self.epochs[: index - 1]), sum(self.epochs[:index])
        start_s = (index - 1) * self.seconds
        return self._event(
            "series",
            index * self.seconds,
            t0=self.at(start_s),
            start_s=start_s,
            t_s=[0.0, self.seconds / 2, self.seconds],
            joules={
                name: [
                    round(joules / len(self.devices), 6)
                    for joules in (before, (before + after) / 2, after)
                ]
                for name, _ in self.devices
            },
        )

    def _event(self, name: str, at_s: float, **data: Any) -> dict[str, Any]:
        return {"event": name, "run_id": self.run_id, "time": self.at(at_s), **data}

    def lines(self) -> list[str]:
        """Return the lines of its record."""
        return [json.dumps(event, separators=(",", ":")) + "\n" for event in self.events()]

    def write(self, directory: Path, name: str | None = None) -> Path:
        """Write the record and return its file."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{name or self.run_id}.jsonl"
        path.write_text("".join(self.lines()))
        return path


def level(seconds: float) -> float:
    """Return E of a machine whose power repeats 100, 300, 500, 200 and 50 W, J after ``BEGAN``."""
    watts = (100.0, 300.0, 500.0, 200.0, 50.0)
    periods, rest = divmod(seconds, len(watts))
    whole = int(rest)
    return periods * sum(watts) + sum(watts[:whole]) + (rest - whole) * watts[whole]


@dataclass(frozen=True)
class Rank(Made):
    """A run on a machine of which the power changes: its epochs are where they are given."""

    spans: Sequence[tuple[float, float]] = ((0.0, 10.0),)
    """Beginning and end of each epoch, s after the run began."""
    machine: Callable[[float], float] = level
    """E of the machine, J after so many seconds since ``BEGAN``."""
    series: bool = True

    def events(self) -> list[dict[str, Any]]:
        """Return the events of the run."""
        events = [Made.events(self)[0] | {"epochs": self.planned or len(self.spans)}]
        written_s = 0.0
        for index, (start_s, end_s) in enumerate(self.spans, 1):
            joules = self._between(start_s, end_s)
            times = {"start_s": start_s, "end_s": end_s, "seconds": end_s - start_s}
            parts = {"energy": self.energy(joules), "footprint": self.footprint(joules)}
            about = {"index": index, "finished": True, "final": True}
            events.append(self._event("epoch", end_s, **about, **times, **parts))
            if self.series:
                events.append(self._event("series", end_s, **self._points(written_s, end_s)))
            written_s = end_s
        if self.finished:
            total = sum(self._between(*span) for span in self.spans)
            events.append(
                self._event(
                    "run_finished",
                    written_s,
                    epochs=len(self.spans),
                    seconds=sum(end_s - start_s for start_s, end_s in self.spans),
                    energy=self.energy(total),
                    footprint=self.footprint(total),
                    tracker_cpu_seconds=0.1,
                )
            )
        return events

    def _between(self, start_s: float, end_s: float) -> float:
        return self.machine(self.began_s + end_s) - self.machine(self.began_s + start_s)

    def _points(self, start_s: float, end_s: float) -> dict[str, Any]:
        inner = range(math.floor(start_s) + 1, math.ceil(end_s))
        moments = [start_s, *map(float, inner), end_s]
        joules = [self._between(0.0, t_s) / len(self.devices) for t_s in moments]
        return {
            "t0": self.at(start_s),
            "start_s": start_s,
            "t_s": [t_s - start_s for t_s in moments],
            "joules": {name: joules for name, _ in self.devices},
        }
