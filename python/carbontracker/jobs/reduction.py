"""From the reports of ranks to one number: arithmetic without a clock.

Epoch *i* of a node lasts from the first ``epoch_start`` of its ranks to the last ``epoch_end``, and
begins where epoch *i - 1* ended at the earliest. In that time each device counts once, whichever of
its ranks saw it. The job has the energy of all nodes, and the time of the slowest. So clocks of
different nodes are never compared.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import TYPE_CHECKING

from carbontracker.energy.energy import Energy, add_devices, add_windows, missing
from carbontracker.model.job import NodeEpoch, NodeReport, RankCost, RankReport
from carbontracker.model.work import add_beside

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from carbontracker.model.job import Curve, DeviceName

    Span = tuple[int, int]

EXTRAPOLATED_NS = 200_000_000
"""A device that no rank measured for so short a part of an epoch goes on at its mean power of the
epoch; for a longer part its energy is not known."""


class Node:
    """The ranks of one node, whose reports come bit by bit.

    Args:
        node: names the node.
        host: what people call it.
    """

    def __init__(self, node: str, host: str) -> None:
        self.node, self.host = node, host
        self._ranks: dict[int, RankReport] = {}
        self._settled = 0
        """Epochs that are added up."""
        self._last_ns = 0
        """Where the last one ended."""
        self._devices: dict[str, Energy] = {}
        self._spent: dict[tuple[int, str], float] = {}
        """Joules by rank and domain, as each rank saw them in its own epochs."""

    @property
    def ended(self) -> bool:
        """Return whether all ranks that have ever reported have ended."""
        return all(one.ended for one in self._ranks.values())

    @property
    def ranks(self) -> Sequence[int]:
        """Return the ranks that have reported."""
        return sorted(self._ranks)

    @property
    def end_ns(self) -> int:
        """Return when the last epoch ended that a rank has told; 0 before there is one."""
        last = (one.epochs[-1].end_ns for one in self._ranks.values() if one.epochs)
        return max(last, default=0)

    def add(self, report: RankReport) -> None:
        """Take what a rank has told since its last report."""
        known = self._ranks.get(report.rank)
        if known is None:
            known = self._ranks[report.rank] = RankReport(report.rank)
        known.extend(report)

    def settle(self, *, at_once: bool = False) -> NodeReport:
        """Return the epochs that all ranks have told and that were not returned before.

        Args:
            at_once: return what is known of all epochs, without what some ranks may tell later.
        """
        report = NodeReport(self.node, self.host)
        last = max((len(one.epochs) for one in self._ranks.values()), default=0)
        while self._settled < last and (at_once or self._all_told(self._settled)):
            report.epochs.append(self._epoch(self._settled))
            self._forget(self._settled)
            self._settled += 1
        report.ranks = tuple(self._cost(self._ranks[rank]) for rank in self.ranks)
        report.names = self._names()
        report.devices = dict(self._devices)
        return report

    def _forget(self, place: int) -> None:
        """Keep of an epoch that is added up, and of what was before, only what is still needed."""
        for rank, report in self._ranks.items():
            if place >= len(report.epochs):
                continue
            for domain, energy in report.epochs[place].devices.items():
                if not math.isnan(energy.joules):
                    before = self._spent.get((rank, domain), 0.0)
                    self._spent[rank, domain] = before + energy.joules
            if place:
                report.epochs[place - 1].devices.clear()
            for curve in report.curves.values():
                past = bisect_right(curve.t_ns, self._last_ns) - 1
                if past > 0:
                    del curve.t_ns[:past], curve.joules[:past]

    def _all_told(self, place: int) -> bool:
        return all(one.ended or len(one.epochs) > place for one in self._ranks.values())

    def _epoch(self, place: int) -> NodeEpoch:
        told = [one.epochs[place] for one in self._ranks.values() if len(one.epochs) > place]
        start_ns = max(min(one.start_ns for one in told), self._last_ns)
        end_ns = max(start_ns, *(one.end_ns for one in told))
        self._last_ns = end_ns
        found = {
            domain: self._energy(domain, place, (start_ns, end_ns)) for domain in self._names()
        }
        for domain, energy in found.items():
            before = self._devices.get(domain)
            self._devices[domain] = energy if before is None else add_windows([before, energy])
        kinds: dict[str, list[Energy]] = {}
        for domain, name in self._names().items():
            kinds.setdefault(name.kind, []).append(found[domain])
        return NodeEpoch(
            told[0].index,
            (end_ns - start_ns) / 1e9,
            all(one.finished for one in told),
            {kind: add_devices(parts) for kind, parts in kinds.items()},
            add_beside(one.work for one in told),
        )

    def _names(self) -> dict[str, DeviceName]:
        return {
            domain: name for rank in self.ranks for domain, name in self._ranks[rank].names.items()
        }

    def _energy(self, domain: str, place: int, span: Span) -> Energy:
        """Return the energy of a device in an epoch: by marks, or joined from what ranks saw."""
        if span[0] == span[1]:
            return add_windows([])
        whole = (_by_marks(self._ranks[rank], domain, place, span) for rank in self.ranks)
        if (energy := next((one for one in whole if one is not None), None)) is not None:
            return energy
        seconds = (span[1] - span[0]) / 1e9
        parts: dict[int, tuple[Curve, Span]] = {}
        for rank in self.ranks:
            curve = self._ranks[rank].curves.get(domain)
            part = None if curve is None else _part(curve, span)
            if curve is not None and part is not None:
                parts[rank] = (curve, part)
        if not parts:
            return missing(seconds)
        joules, share = _within(list(parts.values()), span)
        by_length = sorted(parts, key=lambda rank: parts[rank][1][0] - parts[rank][1][1])
        known = (_known_energy(self._ranks[rank], domain, place) for rank in by_length)
        like = next((one for one in known if one is not None), None)
        return _at_length(like, joules, share, seconds)

    def _cost(self, report: RankReport) -> RankCost:
        others = [one for one in self._ranks.values() if one is not report]
        own = [
            domain
            for domain, name in report.names.items()
            if name.kind == "gpu" and not any(domain in other.names for other in others)
        ]
        spent = (self._spent.get((report.rank, domain)) for domain in own)
        told = [joules for joules in spent if joules is not None]
        return RankCost(
            report.rank,
            self.host,
            len(report.epochs),
            math.fsum((one.end_ns - one.start_ns) / 1e9 for one in report.epochs),
            report.steps,
            math.fsum(told) if told else math.nan,
            report.ended,
        )


def _by_marks(report: RankReport, domain: str, place: int, span: Span) -> Energy | None:
    """Return the energy of a device by a rank whose marks are those of its node, if it knows it."""
    own = report.epochs[place] if len(report.epochs) > place else None
    if own is None or (own.start_ns, own.end_ns) != span:
        return None
    energy = own.devices.get(domain)
    return None if energy is None or math.isnan(energy.joules) else energy


def _known_energy(report: RankReport, domain: str, place: int) -> Energy | None:
    """Return the energy of a device in an epoch of a rank, this one if it is known."""
    epochs = [*report.epochs[place : place + 1], *report.epochs]
    known = (one.devices[domain] for one in epochs if domain in one.devices)
    return next((one for one in known if not math.isnan(one.joules)), None)


def _part(curve: Curve, span: Span) -> Span | None:
    """Return the part of a time that a curve covers."""
    start_ns, end_ns = max(span[0], curve.t_ns[0]), min(span[1], curve.t_ns[-1])
    return (start_ns, end_ns) if start_ns < end_ns else None


def _within(parts: Sequence[tuple[Curve, Span]], span: Span) -> tuple[float, float]:
    """Return the energy in a time, J, and the share of the time that is known.

    Each moment counts by one curve, and the energy of few curves is joined.

    Args:
        parts: curves of one device, each with the part of the time that it covers.
        span: the time.
    """
    joules, known_ns, at_ns = 0.0, 0, span[0]
    while going_on := [one for one in parts if one[1][1] > at_ns]:
        # Of those that cover this moment the one that goes on for longest, else the next to begin.
        curve, (start_ns, end_ns) = min(
            going_on, key=lambda one: (max(one[1][0], at_ns), -one[1][1])
        )
        start_ns = max(start_ns, at_ns)
        joules += curve.at(end_ns) - curve.at(start_ns)
        known_ns += end_ns - start_ns
        at_ns = end_ns
    length_ns = span[1] - span[0]
    lost_ns = length_ns - known_ns
    if 0 < lost_ns <= max(EXTRAPOLATED_NS, length_ns // 100):
        return joules * length_ns / known_ns, 1.0
    return joules, known_ns / length_ns


def _at_length(energy: Energy | None, joules: float, share: float, seconds: float) -> Energy:
    """Return ``joules`` with the relative error and the quality of ``energy``.

    What is not known is at most about what the rest has: the power limit is not told.
    """
    lost_joules = joules / share * (1.0 - share)
    if energy is None:
        return Energy(joules, math.nan, 0.0, "incomplete", share, lost_joules, seconds=seconds)
    ratio = joules / energy.joules if energy.joules > 0 else 1.0
    return Energy(
        joules,
        energy.error_joules * ratio,
        energy.modelled_joules * ratio,
        energy.quality if share == 1.0 else "incomplete",
        energy.coverage * share,
        energy.unknown_joules_max * ratio + lost_joules,
        energy.coverage_devices * share,
        seconds,
    )


# ---- nodes ---------------------------------------------------------------------------------


def epochs_of_all(nodes: Sequence[NodeReport]) -> list[NodeEpoch]:
    """Return the epochs that all nodes have told: the energy of all, the time of the slowest."""
    return [
        NodeEpoch(
            same[0].index,
            max(one.seconds for one in same),
            all(one.finished for one in same),
            _by_kind(one.kinds for one in same),
            add_beside(one.work for one in same),
        )
        for same in zip(*(node.epochs for node in nodes), strict=False)
    ]


def epochs_of_any(nodes: Sequence[NodeReport]) -> list[NodeEpoch]:
    """Return all epochs, each from the nodes that have told it."""
    longest = max((len(node.epochs) for node in nodes), default=0)
    whole = []
    for place in range(longest):
        told = [node for node in nodes if len(node.epochs) > place]
        whole += epochs_of_all([_one_epoch(node, place) for node in told])
    return whole


def _one_epoch(node: NodeReport, place: int) -> NodeReport:
    return NodeReport(node.node, node.host, [node.epochs[place]])


def _by_kind(parts: Iterable[Mapping[str, Energy]]) -> dict[str, Energy]:
    kinds: dict[str, list[Energy]] = {}
    for part in parts:
        for kind, energy in part.items():
            kinds.setdefault(kind, []).append(energy)
    return {kind: add_devices(found) for kind, found in kinds.items()}


def energy_of(epoch: NodeEpoch) -> Energy:
    """Return the energy of an epoch, by kind of device."""
    return Energy.of(add_devices(list(epoch.kinds.values())), {}, dict(epoch.kinds))


def energy_of_devices(nodes: Sequence[NodeReport]) -> Energy:
    """Return the energy of all devices in all epochs, each device with a name of its own.

    A device is called ``gpu:0``, and ``gpu:0@HOST`` if there are several nodes.
    """
    devices: dict[str, Energy] = {}
    for number, node in enumerate(nodes):
        twins = [one.host for one in nodes].count(node.host) > 1
        at = f"@{node.host}{f'#{number}' if twins else ''}" if len(nodes) > 1 else ""
        counts: dict[str, int] = {}
        for domain, name in sorted(node.names.items(), key=lambda item: (item[1].kind, item[0])):
            index = counts.setdefault(name.kind, 0)
            counts[name.kind] += 1
            if domain in node.devices:
                devices[f"{name.kind}:{index}{at}"] = node.devices[domain]
    kinds: dict[str, list[Energy]] = {}
    for device, energy in devices.items():
        kinds.setdefault(device.partition(":")[0], []).append(energy)
    return Energy.of(
        add_devices(list(devices.values())),
        devices,
        {kind: add_devices(parts) for kind, parts in kinds.items()},
    )
