"""What the reduction of a job costs: ``python -m bench.jobs [NODES ...]``.

Time is virtual: nothing sleeps, and the store is a dictionary. So the table shows our own work and
the size of what is told: of nodes of eight ranks that each see all devices (``all``), so that one
of them tells their energy, or one GPU and the processors (``one``). The records in the directory
are one a rank; those that are not whole have marks only (``tests/test_marks_only.py``).
"""

from __future__ import annotations

import sys
import time
from itertools import product

from carbontracker.energy.energy import Energy
from carbontracker.jobs.reduction import Node, energy_of_devices, epochs_of_any
from carbontracker.jobs.store import JobStore
from carbontracker.model.job import Curve, DeviceName, NodeReport, RankEpoch, RankReport
from tests.support.memory_store import MemoryStore

RANKS = 8
EPOCHS = 3
DEVICES = {**{f"gpu/GPU-{i}": 600.0 for i in range(8)}, "cpu/0": 200.0, "cpu/1": 200.0}
WATTS = sum(DEVICES.values())
EPOCH_S = 600.0
POINTS = 18
SIZES = (1, 8, 64, 1024)
NS = 10**9


def report(rank: int, epoch: int, node: int, sees: str) -> RankReport:
    """Return what a rank tells of an epoch."""
    place = rank % RANKS
    start_s = epoch * EPOCH_S
    moments = [start_s + EPOCH_S * i / (POINTS - 1) for i in range(POINTS)]
    told = {
        name: watts
        for name, watts in DEVICES.items()
        if place == 0 or (sees == "one" and name == f"gpu/GPU-{place}")
        if sees == "all" or name == f"gpu/GPU-{place}" or name.startswith("cpu")
    }
    domains = {f"{name}/{node}": watts for name, watts in told.items()}
    joules = {domain: watts * EPOCH_S for domain, watts in domains.items()}
    return RankReport(
        rank,
        [
            RankEpoch(
                epoch + 1,
                round((start_s + 1e-3 * (place)) * NS),
                round((start_s + EPOCH_S) * NS),
                True,
                {
                    domain: Energy(one, 0.02 * one, 0.0, "measured", 1.0, seconds=EPOCH_S)
                    for domain, one in joules.items()
                },
            )
        ],
        {domain: DeviceName(domain.partition("/")[0], domain) for domain in domains},
        {
            domain: Curve([round(t * NS) for t in moments], [watts * t for t in moments])
            for domain, watts in domains.items()
        },
    )


def measure(nodes: int, sees: str) -> tuple[float, ...]:
    """Return bytes and requests a node and epoch, and seconds of each part."""
    store, here = MemoryStore(), [Node(f"n{i}", f"n{i}") for i in range(nodes)]
    ends = [
        [JobStore(lambda: store, i * RANKS + j, f"n{i}") for j in range(RANKS)]
        for i in range(nodes)
    ]
    for ranks in ends:
        for one in ranks:
            one.join()
    root, told = ends[0][0], {0: NodeReport("n0", "n0")}
    telling_s = leading_s = rooting_s = 0.0
    before = store.requests
    for epoch in range(EPOCHS):
        for i, ranks in enumerate(ends):
            reports = [report(i * RANKS + j, epoch, i, sees) for j in range(RANKS)]
            began = time.perf_counter()
            for one, its in zip(ranks[1:], reports[1:], strict=True):
                one.tell_rank(its)
            telling_s += time.perf_counter() - began
            began = time.perf_counter()
            here[i].add(reports[0])
            for its in ranks[0].ranks():
                here[i].add(its)
            settled = here[i].settle()
            if i:
                ranks[0].tell_node(settled)
            else:
                told[0].extend(settled)
            leading_s += time.perf_counter() - began
        began = time.perf_counter()
        for place, node in root.nodes():
            told.setdefault(place, NodeReport(node.node, node.host)).extend(node)
        rooting_s += time.perf_counter() - began
    began = time.perf_counter()
    all_nodes = list(told.values())
    joules = energy_of_devices(all_nodes).joules
    epochs = epochs_of_any(all_nodes)
    end_s = time.perf_counter() - began
    assert abs(joules - nodes * WATTS * EPOCHS * EPOCH_S) < 1e-6 * joules
    assert len(epochs) == EPOCHS
    each = nodes * EPOCHS
    return (
        store.sent_bytes / each,
        (store.requests - before) / each,
        1e3 * telling_s / each / (RANKS - 1),
        1e3 * leading_s / each,
        1e3 * rooting_s / each,
        end_s,
        float(len(store.values)),
    )


def main() -> None:
    """Print the table."""
    head = (
        "nodes",
        "sees",
        "kB",
        "requests",
        "rank ms",
        "node ms",
        "rank 0 ms",
        "end s",
        "keys left",
        "records",
        "whole",
    )
    print("Of each node and epoch; the end, and the keys in the store, of the whole job.\n")
    print(f"| {' | '.join(head)} |\n|{' ---: |' * len(head)}")
    for nodes, sees in product(map(int, sys.argv[1:] or SIZES), ("all", "one")):
        sent, requests, *each_ms, end_s, left = measure(nodes, sees)
        times = " | ".join(f"{one:.2f}" for one in each_ms)
        print(
            f"| {nodes} | {sees} | {sent / 1e3:.1f} | {requests:.0f} | {times} | {end_s:.3f} "
            f"| {left:.0f} | {nodes * RANKS} | {nodes * (RANKS if sees == 'one' else 1)} |"
        )


if __name__ == "__main__":
    main()
