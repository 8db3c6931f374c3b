"""What ranks and nodes of a job tell each other, and who belongs to a result."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from carbontracker.energy.energy import Energy
from carbontracker.json_values import (
    is_moment,
    mapping,
    mappings,
    number,
    seconds_of,
    string,
    whole,
)
from carbontracker.model.work import UNCOUNTED, Work

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Energies = dict[str, Energy]

JOB, NODE, PROCESS = EXTENTS = ("job", "node", "process")
"""What a result is of: all ranks that reported, the ranks of one node, or one process."""


class DeviceName(NamedTuple):
    """A device, beside its domain, which is its name among all ranks."""

    kind: str
    name: str


class Curve(NamedTuple):
    """E(t) of one device: joules since some beginning at moments of CLOCK_MONOTONIC."""

    t_ns: list[int]
    """(n,), increasing."""
    joules: list[float]
    """(n,), J, not falling."""

    def at(self, t_ns: int) -> float:
        """Return E(t) at a moment within the curve, J."""
        after = bisect_left(self.t_ns, t_ns)
        if self.t_ns[after] == t_ns:
            return self.joules[after]
        t0, t1 = self.t_ns[after - 1], self.t_ns[after]
        share = (t_ns - t0) / (t1 - t0)
        return self.joules[after - 1] + share * (self.joules[after] - self.joules[after - 1])


@dataclass(frozen=True)
class RankEpoch:
    """An epoch as one rank marked it."""

    index: int
    """From 1."""
    start_ns: int
    """CLOCK_MONOTONIC of the node, like all moments here."""
    end_ns: int
    finished: bool
    devices: Energies
    """By domain: the energy between the marks."""
    work: Work = UNCOUNTED
    """What this rank did in it."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {
            "index": self.index,
            "ns": [self.start_ns, self.end_ns],
            "finished": self.finished,
            "devices": values_of(self.devices),
            "work": self.work.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RankEpoch:
        """Return the epoch of such an object."""
        ends = data.get("ns")
        start_ns, end_ns = ends if isinstance(ends, list) and len(ends) == 2 else (0, 0)
        known = is_moment(start_ns) and is_moment(end_ns)
        return cls(
            whole(data.get("index")),
            start_ns if known else 0,
            end_ns if known else 0,
            bool(data.get("finished")),
            energies_of(data.get("devices")),
            Work.from_dict(data.get("work")),
        )


@dataclass
class RankReport:
    """What one rank has measured: its marks, and the energy of the devices that it sees."""

    rank: int
    epochs: list[RankEpoch] = field(default_factory=list)
    names: dict[str, DeviceName] = field(default_factory=dict)
    """By domain."""
    curves: dict[str, Curve] = field(default_factory=dict)
    """By domain."""
    steps: int = 0
    """Marked so far."""
    ended: bool = False
    """Nothing follows."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {
            "rank": self.rank,
            "epochs": [one.to_dict() for one in self.epochs],
            "names": self.names,
            "curves": self.curves,
            "steps": self.steps,
            "ended": self.ended,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RankReport:
        """Return the report of such an object; a damaged curve is left out."""
        return cls(
            whole(data.get("rank")),
            list(map(RankEpoch.from_dict, mappings(data.get("epochs")))),
            _names(data.get("names")),
            {
                domain: Curve([int(t_ns) for t_ns in curve[0]], list(map(number, curve[1])))
                for domain, curve in mapping(data.get("curves")).items()
                if _is_curve(curve)
            },
            whole(data.get("steps")),
            bool(data.get("ended")),
        )

    def extend(self, later: RankReport) -> None:
        """Add what the rank told later."""
        self.epochs += later.epochs
        self.names |= later.names
        self.steps, self.ended = later.steps, later.ended
        for domain, curve in later.curves.items():
            known = self.curves.setdefault(domain, Curve([], []))
            keep = bisect_left(known.t_ns, curve.t_ns[0])
            known.t_ns[keep:], known.joules[keep:] = curve.t_ns, curve.joules


@dataclass(frozen=True)
class NodeEpoch:
    """An epoch of a node: from the first mark of its ranks to the last one."""

    index: int
    seconds: float
    finished: bool
    kinds: Energies
    """By kind of device."""
    work: Work = UNCOUNTED
    """What its ranks did in it together."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {
            "index": self.index,
            "seconds": self.seconds,
            "finished": self.finished,
            "kinds": values_of(self.kinds),
            "work": self.work.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> NodeEpoch:
        """Return the epoch of such an object."""
        return cls(
            whole(data.get("index")),
            seconds_of(data.get("seconds")),
            bool(data.get("finished")),
            energies_of(data.get("kinds")),
            Work.from_dict(data.get("work")),
        )


@dataclass(frozen=True)
class RankCost:
    """What one rank took: to see which is slow, and which draws much."""

    rank: int
    host: str
    epochs: int
    seconds: float
    """In epochs."""
    steps: int
    gpu_joules: float
    """Of the GPUs that only this rank of its node sees, J; NaN if it has none of its own."""
    ended: bool = True
    """Whether nothing of it is missing: it had told its end."""

    @property
    def gpu_joules_per_step(self) -> float:
        """Return the energy of its own GPUs for each step, J; NaN if it marked none."""
        return self.gpu_joules / self.steps if self.steps else math.nan

    @property
    def gpu_watts(self) -> float:
        """Return the mean power of its own GPUs in epochs, W; NaN if it is not known."""
        return self.gpu_joules / self.seconds if self.seconds > 0 else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of the record."""
        return {
            "rank": self.rank,
            "host": self.host,
            "epochs": self.epochs,
            "seconds": self.seconds,
            "steps": self.steps,
            "gpu_joules": None if math.isnan(self.gpu_joules) else self.gpu_joules,
            "ended": self.ended,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RankCost:
        """Return the cost of such an object."""
        return cls(
            whole(data.get("rank")),
            string(data.get("host")),
            whole(data.get("epochs")),
            seconds_of(data.get("seconds")),
            whole(data.get("steps")),
            number(data.get("gpu_joules")),
            data.get("ended") is not False,
        )


@dataclass
class NodeReport:
    """What the ranks of one node have measured together."""

    node: str
    """Names the node."""
    host: str
    """What people call it."""
    epochs: list[NodeEpoch] = field(default_factory=list)
    ranks: tuple[RankCost, ...] = ()
    names: dict[str, DeviceName] = field(default_factory=dict)
    """By domain."""
    devices: Energies = field(default_factory=dict)
    """By domain: the energy in all epochs so far."""
    ended: bool = False
    """Nothing follows."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {
            "node": self.node,
            "host": self.host,
            "epochs": [one.to_dict() for one in self.epochs],
            "ranks": [one.to_dict() for one in self.ranks],
            "names": self.names,
            "devices": values_of(self.devices),
            "ended": self.ended,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> NodeReport:
        """Return the report of such an object."""
        return cls(
            string(data.get("node")),
            string(data.get("host")),
            list(map(NodeEpoch.from_dict, mappings(data.get("epochs")))),
            tuple(map(RankCost.from_dict, mappings(data.get("ranks")))),
            _names(data.get("names")),
            energies_of(data.get("devices")),
            bool(data.get("ended")),
        )

    def extend(self, later: NodeReport) -> None:
        """Add what the node told later."""
        self.epochs += later.epochs
        self.ranks, self.ended = later.ranks, later.ended
        self.names, self.devices = later.names, later.devices


@dataclass(frozen=True)
class Ranks:
    """Whose energy a result has."""

    expected: int | None
    """Number of ranks of the job; None if it is not known."""
    costs: tuple[RankCost, ...]
    """Of those that reported, by rank."""
    nodes: int
    """On which those are."""

    @property
    def seen(self) -> tuple[int, ...]:
        """Return the ranks that reported."""
        return tuple(one.rank for one in self.costs)

    @property
    def silent(self) -> tuple[int, ...]:
        """Return the ranks that did not."""
        return tuple(sorted(set(range(self.expected or 0)).difference(self.seen)))

    @property
    def unended(self) -> tuple[int, ...]:
        """Return the ranks that reported, and not their end."""
        return tuple(one.rank for one in self.costs if not one.ended)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of the record."""
        return {
            "expected": self.expected,
            "nodes": self.nodes,
            "silent": self.silent,
            "costs": [one.to_dict() for one in self.costs],
        }

    @classmethod
    def from_dict(cls, data: object) -> Ranks | None:
        """Return the ranks of such an object; None if it is not one."""
        given = mapping(data)
        if not given:
            return None
        expected = given.get("expected")
        return cls(
            expected if isinstance(expected, int) else None,
            tuple(map(RankCost.from_dict, mappings(given.get("costs")))),
            whole(given.get("nodes")),
        )


def values_of(energies: Mapping[str, Energy]) -> dict[str, list[Any]]:
    """Return energies as lists of their values; an unknown one is null."""
    return {
        name: [
            None if isinstance(value, float) and not math.isfinite(value) else value
            for value in energy.values
        ]
        for name, energy in energies.items()
    }


def energies_of(data: object) -> Energies:
    """Return the energies in such an object; what is damaged is left out."""
    return {
        name: _energy(values)
        for name, values in mapping(data).items()
        if isinstance(values, list) and len(values) == 8
    }


def _energy(values: list[Any]) -> Energy:
    joules, error, modelled, quality, coverage, unknown, by_device, seconds = values
    return Energy(
        number(joules),
        number(error),
        number(modelled, 0.0),
        string(quality),
        number(coverage, 0.0),
        number(unknown, 0.0),
        number(by_device, 0.0),
        number(seconds),
    )


def _names(data: object) -> dict[str, DeviceName]:
    return {
        domain: DeviceName(*map(string, words))
        for domain, words in mapping(data).items()
        if isinstance(words, (list, tuple)) and len(words) == 2
    }


def _is_curve(curve: object) -> bool:
    if not isinstance(curve, list) or len(curve) != 2:
        return False
    times, joules = curve
    return (
        isinstance(times, list)
        and isinstance(joules, list)
        and len(times) == len(joules) > 0
        and all(map(is_moment, times))
        and _increasing(times)
    )


def _increasing(values: Sequence[int]) -> bool:
    return all(a < b for a, b in pairwise(values))
