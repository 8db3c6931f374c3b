"""From ranks to one number: joules of a job against a closed form, without processes."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbontracker.carbon.footprint import Footprint
from carbontracker.energy.energy import MISSING, Energy
from carbontracker.jobs.reduction import Node, energy_of_devices, epochs_of_all, epochs_of_any
from carbontracker.jobs.result import joined_result
from carbontracker.jobs.store import JobStore
from carbontracker.model.job import (
    Curve,
    DeviceName,
    NodeReport,
    RankCost,
    RankEpoch,
    RankReport,
    Ranks,
)
from carbontracker.model.result import Result
from carbontracker.model.work import Work
from tests.support.memory_store import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NS = 1_000_000_000
WATTS = {"gpu/A": 300.0, "gpu/B": 250.0, "cpu/0": 80.0}
Span = tuple[float, float]


def energy(watts: float, span: Span) -> Energy:
    joules = watts * (span[1] - span[0])
    return Energy(joules, 0.02 * joules, 0.0, "measured", 1.0, seconds=span[1] - span[0])


def told(
    rank: int, spans: Sequence[Span], *domains: str, until_s: float | None = None, **more: Any
) -> RankReport:
    """Return what a rank tells that sees these devices from 0 s on; E(t) has few points."""
    last = max([0.0, *(end for _, end in spans)]) if until_s is None else until_s
    points = sorted({0.0, last, *(moment for span in spans for moment in span)})
    return RankReport(
        rank,
        [
            RankEpoch(
                index,
                round(span[0] * NS),
                round(span[1] * NS),
                True,
                {domain: energy(WATTS[domain], span) for domain in domains},
            )
            for index, span in enumerate(spans, 1)
        ],
        {domain: DeviceName(domain.partition("/")[0], domain) for domain in domains},
        {
            domain: Curve([round(t * NS) for t in points], [WATTS[domain] * t for t in points])
            for domain in domains
        },
        **more,
    )


def node_of(*reports: RankReport) -> Node:
    node = Node("n1", "host1")
    for report in reports:
        node.add(report)
    return node


def joules(report: NodeReport) -> list[float]:
    return [sum(part.joules for part in epoch.kinds.values()) for epoch in report.epochs]


def test_each_device_counts_once_whoever_saw_it() -> None:
    spans = [(1.0, 5.0), (6.0, 9.0)]
    report = node_of(*(told(rank, spans, *WATTS) for rank in range(4))).settle()
    assert joules(report) == pytest.approx([630.0 * 4, 630.0 * 3])
    assert [epoch.seconds for epoch in report.epochs] == pytest.approx([4.0, 3.0])
    assert report.devices["gpu/A"].joules == pytest.approx(300.0 * 7)
    assert report.devices["gpu/A"].error_joules == pytest.approx(0.02 * 300.0 * 7)


def test_ranks_with_a_gpu_of_their_own_share_the_processor() -> None:
    report = node_of(
        told(0, [(1.0, 5.0)], "gpu/A", "cpu/0"), told(1, [(1.0, 5.0)], "gpu/B", "cpu/0")
    ).settle()
    assert joules(report) == pytest.approx([630.0 * 4])
    assert [cost.gpu_joules for cost in report.ranks] == pytest.approx([1200.0, 1000.0])


def test_an_epoch_of_a_node_is_from_the_first_mark_to_the_last() -> None:
    """Rank 0 evaluates for 3 s more while rank 1 has begun the next epoch and waits for it."""
    report = node_of(
        told(0, [(1.0, 8.0), (8.1, 12.0)], "gpu/A", "cpu/0"),
        told(1, [(0.5, 5.0), (5.1, 12.2)], "gpu/B", until_s=12.2),
    ).settle()
    assert [epoch.seconds for epoch in report.epochs] == pytest.approx([7.5, 4.2])
    assert joules(report) == pytest.approx([630.0 * 7.5, 630.0 * 4.2], rel=1e-9)


def test_a_device_is_not_known_after_its_rank_has_ended() -> None:
    report = node_of(
        told(0, [(0.0, 10.0)], "cpu/0"), told(1, [(0.0, 4.0)], "gpu/B", ended=True)
    ).settle()
    assert joules(report) == pytest.approx([80.0 * 10 + 250.0 * 4])
    gpu = report.epochs[0].kinds["gpu"]
    assert gpu.coverage == pytest.approx(0.4)
    assert gpu.quality == "incomplete"


def test_what_two_ranks_saw_one_after_the_other_is_joined() -> None:
    """Rank 0 leaves at 4 s; rank 1 tells the device from 3 s on. Their counters differ."""
    late = told(1, [(0.0, 10.0)], until_s=10.0)
    late.names["gpu/B"] = DeviceName("gpu", "gpu/B")
    late.curves["gpu/B"] = Curve([3 * NS, 10 * NS], [9e6, 9e6 + 250.0 * 7])
    report = node_of(told(0, [(0.0, 4.0)], "gpu/B", ended=True), late).settle()
    gpu = report.epochs[0].kinds["gpu"]
    assert gpu.joules == pytest.approx(250.0 * 10)
    assert (gpu.coverage, gpu.quality) == (1.0, "measured")
    assert gpu.error_joules == pytest.approx(0.02 * 2500.0)


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(5, 200)), min_size=1, max_size=6))
def test_each_moment_counts_once_whichever_ranks_saw_it(parts: list[tuple[int, int]]) -> None:
    """The joules are those of the union of what the ranks saw, in an epoch from 5 s to 15 s.

    Args:
        parts: beginning and length of what each rank saw, in tenths of a second.
    """
    reports, seen = [], set()
    for rank, (start, length) in enumerate(parts):
        moments = range(start, start + length + 1)
        curve = Curve([t * NS // 10 for t in moments], [7.0 * rank + drawn(t) for t in moments])
        names = {"gpu/B": DeviceName("gpu", "gpu/B")}
        reports.append(RankReport(rank, [], names, {"gpu/B": curve}))
        seen |= {t for t in moments[:-1] if 50 <= t < 150}
    reports[0].epochs.append(RankEpoch(1, 5 * NS, 15 * NS, True, {}))
    report = node_of(*reports).settle(at_once=True)
    gpu = report.epochs[0].kinds["gpu"]
    if not seen:
        assert math.isnan(gpu.joules)
        return
    share = 1.0 if len(seen) >= 98 else len(seen) / 100  # 0.2 s are taken to be like the rest
    truth = sum(drawn(t + 1) - drawn(t) for t in seen) * 100 * share / len(seen)
    assert gpu.joules == pytest.approx(truth, abs=1e-6)
    assert gpu.coverage == pytest.approx(share)


def drawn(tenths: int) -> float:
    """Return the joules of a device of 250 W that draws nothing before 8 s."""
    return 25.0 * max(0, tenths - 80)


def test_a_rank_that_ended_a_moment_earlier_lacks_nothing() -> None:
    report = node_of(
        told(0, [(0.0, 10.0)], "cpu/0"), told(1, [(0.0, 9.95)], "gpu/B", ended=True)
    ).settle()
    assert joules(report) == pytest.approx([330.0 * 10])
    assert report.epochs[0].kinds["gpu"].coverage == 1.0


def test_an_epoch_waits_for_the_ranks_that_are_there() -> None:
    node = node_of(told(0, [(0.0, 2.0)], "cpu/0"), told(1, [], "gpu/A", until_s=0.1))
    assert node.settle().epochs == []
    node.add(told(1, [(0.0, 2.0)], "gpu/A"))
    assert joules(node.settle()) == pytest.approx([380.0 * 2])
    assert node.settle().epochs == []
    node.add(told(0, [(0.0, 1.0)], "cpu/0"))
    assert len(node.settle(at_once=True).epochs) == 1


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.floats(0.1, 5.0), st.floats(0.0, 1.0), st.integers(0, 3)),
        min_size=1,
        max_size=6,
    ),
    st.integers(1, 4),
)
def test_epochs_of_any_ranks_tile_the_time_of_the_node(
    lengths: list[tuple[float, float, int]], ranks: int
) -> None:
    """Told bit by bit: the joules are those of the union of all epochs, each second once."""
    spans: list[list[Span]] = [[] for _ in range(ranks)]
    at_s = 0.0
    for length_s, late_s, which in lengths:
        for rank in range(ranks):
            lag_s = late_s if rank == which % ranks else 0.0
            start_s = max(at_s, spans[rank][-1][1] if spans[rank] else 0.0)
            spans[rank].append((start_s, max(start_s, at_s + length_s) + lag_s))
        at_s += length_s
    last_s = max(span[-1][1] for span in spans) + 1
    node, total, seconds = Node("n1", "host1"), 0.0, 0.0
    domains = ["cpu/0", "gpu/A", "gpu/B", "gpu/B"]
    for place in range(len(lengths)):
        for rank in range(ranks):
            one = told(rank, spans[rank][: place + 1], domains[rank], until_s=last_s)
            one.epochs = one.epochs[place:]
            node.add(one)
        report = node.settle()
        total += sum(joules(report))
        seconds += sum(epoch.seconds for epoch in report.epochs)
    watts = sum(WATTS[domain] for domain in set(domains[:ranks]))
    first_s = min(span[0][0] for span in spans)
    assert seconds == pytest.approx(last_s - 1 - first_s)
    assert total == pytest.approx(watts * seconds, rel=1e-6)
    assert sum(one.joules for one in node.settle().devices.values()) == pytest.approx(total)


def test_what_is_added_up_is_forgotten() -> None:
    node = Node("n1", "host1")
    for epoch in range(200):
        report = told(0, [(float(i), i + 1.0) for i in range(epoch + 1)], "cpu/0")
        report.epochs = report.epochs[epoch:]
        node.add(report)
        node.settle()
    kept = node._ranks[0]
    assert len(kept.curves["cpu/0"].t_ns) <= 3
    assert sum(bool(one.devices) for one in kept.epochs) <= 1


# ---- nodes ---------------------------------------------------------------------------------


def report_of(name: str, seconds: Sequence[float], watts: float = 330.0) -> NodeReport:
    spans, at_s = [], 100.0
    for length_s in seconds:
        spans.append((at_s, at_s + length_s))
        at_s += length_s
    assert watts == 330.0
    report = node_of(told(0, spans, "cpu/0", "gpu/B")).settle()
    report.node, report.host = name, name
    return report


def test_work_of_ranks_is_summed_once_and_a_silent_rank_adds_nothing() -> None:
    nodes = []
    for host in range(2):
        node = Node(f"n{host}", f"n{host}")
        for rank in (2 * host, 2 * host + 1):
            report = told(rank, [(0, 10), (10, 20)], "gpu/A")
            # Each rank counts 100 tokens; only rank 0 knows the samples, of all of them.
            works = [Work(tokens=100, samples=40.0 if rank == 0 else math.nan)] * 2
            report.epochs = [
                replace(epoch, work=work) for epoch, work in zip(report.epochs, works, strict=True)
            ]
            node.add(RankReport.from_dict(json.loads(json.dumps(report.to_dict()))))
        nodes.append(
            NodeReport.from_dict(json.loads(json.dumps(node.settle(at_once=True).to_dict())))
        )
    epochs = epochs_of_all(nodes)
    assert [epoch.work for epoch in epochs] == [Work(tokens=400, samples=40)] * 2


def test_a_count_of_the_whole_training_is_that_of_all_its_ranks() -> None:
    node = Node("n0", "n0")
    for rank in range(4):
        node.add(told(rank, [(0, 10)], "gpu/A"))
    # A framework counted 20 operations in all, of which each of four ranks took its share.
    free = Footprint.from_dict(None)
    own = Result(10.0, energy(300.0, (0, 10)), free, work=Work(flops=5))
    assert joined_result(own, [node.settle(at_once=True)], 4).work.flops == 20


def test_nodes_add_up_and_the_slowest_takes_the_time() -> None:
    nodes = [report_of("a", (4.0, 5.0)), report_of("b", (6.0,)), report_of("c", (3.0, 3.0))]
    (first,) = epochs_of_all(nodes)
    assert (first.seconds, sum(one.joules for one in first.kinds.values())) == (6.0, 330.0 * 13)
    both = epochs_of_any(nodes)
    assert [one.seconds for one in both] == [6.0, 5.0]
    whole = energy_of_devices(nodes)
    assert whole.joules == pytest.approx(330.0 * 21)
    assert set(whole.by_device) == {f"{kind}:0@{n}" for kind in ("cpu", "gpu") for n in "abc"}
    assert whole.by_kind["gpu"].joules == pytest.approx(250.0 * 21)


def test_devices_of_one_node_are_numbered_and_nodes_of_one_name_told_apart() -> None:
    (node,) = [node_of(told(0, [(0.0, 1.0)], "gpu/A"), told(1, [(0.0, 1.0)], "gpu/B")).settle()]
    assert set(energy_of_devices([node]).by_device) == {"gpu:0", "gpu:1"}
    twins = [report_of("a", (1.0,)), report_of("a", (1.0,))]
    assert len(energy_of_devices(twins).by_device) == 4


# ---- what is told --------------------------------------------------------------------------


def test_reports_survive_json() -> None:
    one = told(3, [(1.0, 2.0)], *WATTS, steps=7, ended=True)
    one.epochs[0].devices["gpu/A"] = MISSING
    back = RankReport.from_dict(json.loads(json.dumps(one.to_dict())))
    assert math.isnan(back.epochs[0].devices.pop("gpu/A").joules)
    one.epochs[0].devices.pop("gpu/A")
    assert back == one
    node = report_of("a", (1.0, 2.0))
    node.ranks = (RankCost(0, "a", 2, 3.0, 5, 12.0),)
    assert NodeReport.from_dict(json.loads(json.dumps(node.to_dict()))) == node
    ranks = Ranks(4, node.ranks, 1)
    assert Ranks.from_dict(json.loads(json.dumps(ranks.to_dict()))) == ranks
    assert ranks.silent == (1, 2, 3)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda parts: (
        st.lists(parts, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["rank", "epochs", "names", "curves", "ns", "devices", "kinds", "ranks", "gpu/A"]
            ),
            parts,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=50)
@given(JSON)
def test_damaged_reports_are_read_as_far_as_they_can_be(data: Any) -> None:
    for kind in (RankReport, NodeReport, RankEpoch, RankCost):
        kind.from_dict(data if isinstance(data, dict) else {})
    Ranks.from_dict(data)


# ---- the store -----------------------------------------------------------------------------


def joined(store: MemoryStore, nodes: Sequence[str]) -> Iterator[JobStore]:
    for rank, node in enumerate(nodes):
        one = JobStore(lambda: store, rank, node)
        one.join()
        yield one


def test_messages_arrive_once_in_order_and_are_deleted() -> None:
    store = MemoryStore()
    first, second, third, other = joined(store, ("n1", "n1", "n1", "n2"))
    assert [one.leads_node for one in (first, second, third, other)] == [True, False, False, True]
    for steps in range(3):
        second.tell_rank(RankReport(1, steps=steps))
    third.tell_rank(RankReport(2))
    assert [(one.rank, one.steps) for one in first.ranks()] == [(1, 0), (1, 1), (1, 2), (2, 0)]
    assert list(first.ranks()) == []
    second.tell_rank(RankReport(1, steps=9))
    assert [(one.rank, one.steps) for one in first.ranks()] == [(1, 9)]
    other.tell_node(NodeReport("n2", "h2"))
    other.tell_node(NodeReport("n2", "h2", ended=True))
    assert [(place, node.ended) for place, node in first.nodes()] == [(2, False), (2, True)]
    assert not [key for key in store.values if key.startswith(("rank/", "node/"))]


def test_a_key_that_is_not_there_is_not_waited_for() -> None:
    store = JobStore(MemoryStore, 0, "n1")
    store.join()
    assert store.get("uid") is None
    assert (list(store.ranks()), list(store.nodes())) == ([], [])
    store.set("uid", "ab")
    assert store.get("uid") == "ab"
    assert [store.first("said"), store.first("said")] == [True, False]
