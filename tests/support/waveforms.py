"""Power over time in closed form, with exact energy: the Python side of `waveform.h`.

The formulas and the order of their operations follow the C header, so that a double written in
C and the truth computed here differ by rounding only.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass

_64_BITS = 2**64 - 1


@dataclass(frozen=True)
class Wave:
    """A power curve. Nothing happens before t = 0: the power there is that at 0, the energy 0."""

    def __post_init__(self) -> None:
        numbers = astuple(self)
        if not all(math.isfinite(number) and number >= 0 for number in numbers):
            raise ValueError(f"{self}: every number must be finite and not negative")
        if not self._is_sound():
            raise ValueError(f"{self}: numbers out of range")

    def __str__(self) -> str:
        """Return the text form that the C side parses; `repr` keeps every bit of a float."""
        numbers = ",".join(repr(float(number)) for number in astuple(self))
        return f"{type(self).__name__.lower()}:{numbers}"

    def watts(self, t: float) -> float:
        """Return the power at `t` seconds."""
        return self._watts(max(t, 0.0))

    def joules(self, t0: float, t1: float) -> float:
        """Return the exact energy between two times in seconds."""
        return self._since_zero(t1) - self._since_zero(t0)

    def _since_zero(self, t: float) -> float:
        return self._joules(t) if t > 0 else 0.0

    def _is_sound(self) -> bool:
        return True

    def _watts(self, t: float) -> float:
        raise NotImplementedError

    def _joules(self, t: float) -> float:
        raise NotImplementedError


@dataclass(frozen=True)
class Constant(Wave):
    """The same power for ever."""

    level: float

    def _watts(self, t: float) -> float:
        return self.level

    def _joules(self, t: float) -> float:
        return self.level * t


@dataclass(frozen=True)
class Burst(Wave):
    """`peak` in the first `length_s` of each period, `idle` in the rest."""

    idle: float
    peak: float
    period_s: float
    length_s: float

    def _is_sound(self) -> bool:
        return self.period_s > 0 and self.length_s <= self.period_s

    def _watts(self, t: float) -> float:
        return self.peak if math.fmod(t, self.period_s) < self.length_s else self.idle

    def _joules(self, t: float) -> float:
        rest = math.fmod(t, self.period_s)
        whole = round((t - rest) / self.period_s)
        high = whole * self.length_s + min(rest, self.length_s)
        return self.idle * t + (self.peak - self.idle) * high


@dataclass(frozen=True)
class Square(Wave):
    """`high` in the first `duty` (0 to 1) of each period, `low` in the rest."""

    low: float
    high: float
    period_s: float
    duty: float

    def _is_sound(self) -> bool:
        return self.period_s > 0 and self.duty <= 1

    def _as_burst(self) -> Burst:
        return Burst(self.low, self.high, self.period_s, self.duty * self.period_s)

    def _watts(self, t: float) -> float:
        return self._as_burst()._watts(t)

    def _joules(self, t: float) -> float:
        return self._as_burst()._joules(t)


@dataclass(frozen=True)
class Sine(Wave):
    """Swings about `mean`, starting there and rising."""

    mean: float
    amplitude: float
    period_s: float

    def _is_sound(self) -> bool:
        return self.period_s > 0 and self.amplitude <= self.mean

    def _angle(self, t: float) -> float:
        return 2 * math.pi * math.fmod(t, self.period_s) / self.period_s

    def _watts(self, t: float) -> float:
        return self.mean + self.amplitude * math.sin(self._angle(t))

    def _joules(self, t: float) -> float:
        swing = self.amplitude * self.period_s / (2 * math.pi) * (1 - math.cos(self._angle(t)))
        return self.mean * t + swing


@dataclass(frozen=True)
class Ramp(Wave):
    """From `start` to `end` in `seconds`, then holds `end`."""

    start: float
    end: float
    seconds: float

    def _is_sound(self) -> bool:
        return self.seconds > 0

    def _watts(self, t: float) -> float:
        if t < self.seconds:
            return self.start + (self.end - self.start) * (t / self.seconds)
        return self.end

    def _joules(self, t: float) -> float:
        if t < self.seconds:
            return self.start * t + (self.end - self.start) * (t * (t / self.seconds)) / 2
        return (self.start + self.end) / 2 * self.seconds + self.end * (t - self.seconds)


@dataclass(frozen=True)
class Step(Wave):
    """`before` until `at_s`, `after` from then on."""

    before: float
    after: float
    at_s: float

    def _watts(self, t: float) -> float:
        return self.before if t < self.at_s else self.after

    def _joules(self, t: float) -> float:
        if t < self.at_s:
            return self.before * t
        return self.before * self.at_s + self.after * (t - self.at_s)


@dataclass(frozen=True)
class Random(Wave):
    """Another level every `dwell_s`, by chance; the second of each two mirrors the first."""

    low: float
    high: float
    dwell_s: float
    seed: float

    def _is_sound(self) -> bool:
        return self.dwell_s > 0 and self.seed < 2**32 and float(self.seed).is_integer()

    def _level(self, pair: int) -> float:
        """Return the level of the first step of a pair, from the finaliser of splitmix64."""
        x = ((int(self.seed) << 32) ^ pair) + 0x9E3779B97F4A7C15 & _64_BITS
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & _64_BITS
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB & _64_BITS
        x ^= x >> 31
        return self.low + (self.high - self.low) * ((x >> 11) / 2**53)

    def _watts(self, t: float) -> float:
        rest = math.fmod(t, 2 * self.dwell_s)
        level = self._level(round((t - rest) / (2 * self.dwell_s)))
        return level if rest < self.dwell_s else self.low + self.high - level

    def _joules(self, t: float) -> float:
        rest = math.fmod(t, 2 * self.dwell_s)
        pairs = round((t - rest) / (2 * self.dwell_s))
        level = self._level(pairs)
        first = min(rest, self.dwell_s)
        both = self.low + self.high
        return pairs * both * self.dwell_s + level * first + (both - level) * (rest - first)


KINDS: dict[str, type[Wave]] = {
    kind.__name__.lower(): kind for kind in (Constant, Square, Sine, Ramp, Step, Burst, Random)
}


def parse(text: str) -> Wave:
    """Read the text form, such as `square:50,300,1.0,0.5`."""
    name, _, numbers = text.partition(":")
    if name not in KINDS:
        raise ValueError(f"{text!r}: unknown wave")
    try:
        return KINDS[name](*(float(number) for number in numbers.split(",")))
    except TypeError:
        raise ValueError(f"{text!r}: wrong count of numbers") from None


def as_wave(wave: Wave | str) -> Wave:
    """Accept a wave or its text form."""
    return parse(wave) if isinstance(wave, str) else wave
