"""A sensor, a sampling thread and a clock that exist only as arithmetic.

The lanes and ledgers are the real ones of the core; what they read, and when, is made up: sensor
models with a refresh period, a window, jitter and gain, read with the lateness of a thread that
wakes up. Energies can then be held against the closed form over seconds or weeks, in no time.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from carbontracker import _core

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random
    from typing import Protocol

    class Truth(Protocol):
        """A power curve with an exact integral."""

        def joules(self, t0: float, t1: float) -> float:
            """Return the energy between two times in seconds."""
            ...


NS = 1_000_000_000
_MICRO = 1e6


class RandomSteps:
    """Powers that change at random moments, each random; exact like any wave."""

    def __init__(self, random: Random, seconds: float, watts: tuple[float, float], hold: float):
        self._at, self._watts, self._sum = [0.0], [random.uniform(*watts)], [0.0]
        while self._at[-1] < seconds:
            length = random.expovariate(1.0 / hold)
            self._sum.append(self._sum[-1] + self._watts[-1] * length)
            self._at.append(self._at[-1] + length)
            self._watts.append(random.uniform(*watts))

    def _since_zero(self, t: float) -> float:
        if t <= 0.0:
            return 0.0
        k = bisect_right(self._at, t) - 1
        return self._sum[k] + self._watts[k] * (t - self._at[k])

    def joules(self, t0: float, t1: float) -> float:
        """Return the exact energy between two times in seconds."""
        return self._since_zero(t1) - self._since_zero(t0)


@dataclass
class Sensor:
    """One channel of a device. Periods and windows in seconds."""

    counter: bool
    period: float
    window: float = 0.0
    """Power: the mean over so long before each refresh."""
    phase: float = 0.0
    jitter: float = 0.0
    """Standard deviation of the moment of a refresh, s; each by itself, the grid does not drift."""
    gain: float = 1.0
    usual_tick: float | None = None
    usual_window: float | None = None
    lag: float = 0.0
    """Power: no mean, but a low pass of this time constant, s."""
    quantum: float = 1e-3
    """J or W per count."""
    missed: float = 0.0
    """Share of refreshes that are left out."""
    stuck_at: float = math.inf
    seed: int = 0
    _offsets: dict[int, float] = field(default_factory=dict)

    def lane(self) -> _core.LaneProbe:
        """Return the core's side of it."""
        tick = self.period if self.usual_tick is None else self.usual_tick
        window = self.window if self.usual_window is None else self.usual_window
        window = 2.0 * self.lag or window
        return _core.LaneProbe(
            counter=self.counter,
            units_per_raw=self.quantum,
            max_watts=5000.0,
            tick_ns=round(tick * NS),
            window_ns=round(window * NS),
            low_pass=self.lag > 0.0,
            capacity=1 << 16,
        )

    def _noise(self, k: int) -> float:
        """Return the deviation of refresh k: the same whenever asked."""
        if k not in self._offsets:
            u = math.sin((k * 12.9898 + self.seed * 78.233 + 1.0) * 43758.5453)
            v = math.sin((k * 39.3467 + self.seed * 11.135 + 2.0) * 24634.6345)
            u, v = abs(math.fmod(u * 1e4, 1.0)) + 1e-12, math.fmod(v * 1e4, 1.0)
            self._offsets[k] = self.jitter * math.sqrt(-2 * math.log(u)) * math.cos(6.2831853 * v)
            if len(self._offsets) > 4096:
                self._offsets.pop(next(iter(self._offsets)))
        return self._offsets[k]

    def _is_missed(self, k: int) -> bool:
        """Return whether refresh k is left out: the same whenever asked."""
        chance = math.fmod(
            abs(math.sin((k * 3.7719 + self.seed * 5.123 + 3.0) * 91234.567)) * 1e4, 1
        )
        return chance < self.missed

    def refreshed(self, t: float) -> float:
        """Return when the value on show at t was taken, s."""
        k = math.floor((t - self.phase) / self.period)
        at = self.phase + k * self.period + self._noise(k)
        while at > t or self._is_missed(k):
            k -= 1
            at = self.phase + k * self.period + self._noise(k)
        return at

    def raw(self, truth: Truth, t: float) -> int:
        """Return the reading at t, s."""
        at = min(self.refreshed(t), self.stuck_at)
        if self.counter:
            return max(0, int(self.gain * truth.joules(0.0, max(0.0, at)) / self.quantum))
        if self.lag > 0.0:
            return int(self.gain * _low_pass_watts(truth, at, self.lag) / self.quantum)
        if self.window <= 0.0:
            return int(self.gain * truth.joules(at - 1e-6, at) / 1e-6 / self.quantum)
        return int(self.gain * truth.joules(at - self.window, at) / self.window / self.quantum)


def _low_pass_watts(truth: Truth, t: float, lag: float) -> float:
    """Return the power at t through a first-order low pass: means of slices by their weight."""
    slices_per_lag, watts, weight, later = 24, 0.0, 1.0, t
    for i in range(1, 10 * slices_per_lag + 1):
        earlier = t - i * lag / slices_per_lag
        rest = math.exp(-i / slices_per_lag)
        watts += (weight - rest) * truth.joules(earlier, later) / (later - earlier)
        weight, later = rest, earlier
    return watts


class Device:
    """Sensors of one thing that are read together, sampled on a virtual clock from `start_s` on."""

    def __init__(
        self, truth: Truth, sensors: Sequence[Sensor], random: Random, start_s: float = 5.0
    ) -> None:
        self.truth = truth
        self.sensors = sensors
        self.lanes = [sensor.lane() for sensor in sensors]
        self.probe = _core.DeviceProbe(self.lanes)
        self.random = random
        self.now_ns = round(start_s * NS)
        self.readings = 0
        self._due = [0] * len(sensors)
        self._marks: list[int] = []

    def mark(self, t_s: float) -> None:
        """Note a mark that will be made at t."""
        self._marks.append(round(t_s * NS))
        self._marks.sort()

    def run(self, until_s: float, spacing_s: float = 0.1) -> None:
        """Sample until then, review as the supervisor does."""
        until_ns, review_ns = round(until_s * NS), self.now_ns + NS
        while self.now_ns < until_ns:
            due_ns = min(self._due)
            if self._marks and self._marks[0] < due_ns:
                mark_ns = self._marks.pop(0)
                at_once = [lane.mark(mark_ns) for lane in self.lanes]
                self.now_ns = max(self.now_ns, mark_ns)
                self._plan(round(spacing_s * NS))
                due_ns = mark_ns if any(at_once) else min(self._due)
            self._read(max(due_ns, self.now_ns + 2_000), round(spacing_s * NS))
            if self.now_ns >= review_ns:
                self.probe.collect(self.now_ns)
                self.probe.review(self.now_ns)
                review_ns += NS
        self.probe.collect(self.now_ns)
        self.probe.review(self.now_ns)

    def _read(self, due_ns: int, spacing_ns: int) -> None:
        lateness = 20e-6 + self.random.expovariate(1 / 40e-6)
        self.now_ns = due_ns + round(lateness * NS)
        self.readings += 1
        for lane, sensor in zip(self.lanes, self.sensors, strict=True):
            lane.take(self.now_ns, sensor.raw(self.truth, self.now_ns / NS))
        self._plan(spacing_ns)

    def _plan(self, spacing_ns: int) -> None:
        self._due = [lane.next_read_ns(self.now_ns + 1_000, spacing_ns) for lane in self.lanes]

    def energy(self, t0_s: float, t1_s: float) -> tuple[float, float]:
        """Return joules and their error bar between two times, s."""
        return self.probe.energy(round(t0_s * NS), round(t1_s * NS))[:2]
