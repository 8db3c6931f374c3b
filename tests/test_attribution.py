"""Joules by what was running: against sums by hand, and against a count of every nanosecond."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontracker.report.trace import attributed_table
from carbontracker.traces.attribution import (
    Intervals,
    Power,
    energy_by_name,
    innermost,
    merge_windows,
)
from carbontracker.traces.chrome import with_power
from carbontracker.traces.power import PowerTrace, Slice
from carbontracker.traces.profile import ANNOTATION, activities_of, attribute, windows_named
from tests.support.traces import SECOND, Profiled, power

if TYPE_CHECKING:
    from collections.abc import Sequence

A, B, C = range(3)


def thread(*slices: tuple[float, float, int]) -> Intervals:
    """Return the pieces of slices (start s, end s, name)."""
    starts, ends, names = (np.array(column) for column in zip(*slices, strict=True))
    starts_ns, ends_ns = (np.round(one * SECOND).astype(np.int64) for one in (starts, ends))
    return innermost(starts_ns, ends_ns, names.astype(np.int64))


def seconds(*windows: tuple[float, float]) -> list[tuple[int, int]]:
    return [(round(a * SECOND), round(b * SECOND)) for a, b in windows]


# ---- one thread ----------------------------------------------------------------------------


def test_the_energy_of_an_inner_slice_is_not_counted_twice() -> None:
    found = energy_by_name(
        power([0, 10], [10]), [thread((0, 10, A), (2, 5, B))], seconds((0, 10)), 3
    )
    assert found.joules.tolist() == pytest.approx([70, 30, 0])
    assert found.seconds.tolist() == pytest.approx([7, 3, 0])
    assert (found.idle_joules, found.total_joules) == pytest.approx((0, 100))


def test_time_without_work_is_idle() -> None:
    found = energy_by_name(
        power([0, 12], [10]), [thread((1, 3, A), (5, 9, B))], seconds((0, 12)), 2
    )
    assert found.joules.tolist() == pytest.approx([20, 40])
    assert (found.idle_joules, found.idle_seconds) == pytest.approx((60, 6))


def test_power_that_changes_within_a_piece() -> None:
    # A runs from 1 to 4: two seconds at 10 W and one at 50 W.
    found = energy_by_name(power([0, 3, 6], [10, 50]), [thread((1, 4, A))], seconds((0, 6)), 1)
    assert found.joules.tolist() == pytest.approx([70])
    assert found.idle_joules == pytest.approx(10 + 100)


def test_slices_that_overlap_without_nesting_go_to_the_later_one() -> None:
    pieces = thread((0, 5, A), (3, 8, B), (4, 4, C))
    rows = zip(pieces.starts_ns, pieces.ends_ns, pieces.names, strict=True)
    assert [(a / SECOND, b / SECOND, name) for a, b, name in rows] == [(0, 3, A), (3, 8, B)]


def test_an_outer_slice_goes_on_after_each_inner_one() -> None:
    pieces = thread((0, 9, A), (1, 2, B), (1, 4, C), (6, 7, B))
    rows = zip(pieces.starts_ns, pieces.ends_ns, pieces.names, strict=True)
    assert [(a / SECOND, b / SECOND, name) for a, b, name in rows] == [
        *[(0, 1, A), (1, 2, B), (2, 4, C), (4, 6, A), (6, 7, B), (7, 9, A)]
    ]


# ---- several threads, windows, unknown power -------------------------------------------------


def test_threads_share_a_moment_equally() -> None:
    threads = [thread((0, 4, A)), thread((2, 6, B))]
    found = energy_by_name(power([0, 6], [100]), threads, seconds((0, 6)), 2)
    assert found.joules.tolist() == pytest.approx([300, 300])
    assert found.seconds.tolist() == pytest.approx([4, 4])
    assert found.idle_joules == 0


def test_two_threads_at_the_same_operator_are_one_row() -> None:
    threads = [thread((0, 4, A)), thread((0, 4, A)), thread((0, 2, B))]
    found = energy_by_name(power([0, 4], [30]), threads, seconds((0, 4)), 2)
    assert found.joules.tolist() == pytest.approx([40 + 60, 20])


def test_only_the_windows_count_and_what_two_share_counts_once() -> None:
    threads = [thread((0, 10, A), (2, 4, B))]
    windows = seconds((1, 3), (2, 5), (8, 9), (7, 7))
    found = energy_by_name(power([0, 10], [10]), threads, windows, 2)
    assert merge_windows(windows) == seconds((1, 5), (8, 9))
    assert found.joules.tolist() == pytest.approx([30, 20])
    assert (found.total_joules, found.window_seconds) == pytest.approx((50, 5))


def test_power_that_is_not_known_is_not_zero_watts() -> None:
    threads = [thread((0, 6, A))]
    found = energy_by_name(power([1, 2, 4, 5], [10, math.nan, 30]), threads, seconds((0, 6)), 1)
    assert found.joules.tolist() == pytest.approx([40])
    assert found.unknown_seconds == pytest.approx(4)
    assert found.seconds.tolist() == pytest.approx([6])


def test_nothing_running_and_no_window() -> None:
    idle = energy_by_name(power([0, 2], [10]), [], seconds((0, 2)), 0)
    assert (idle.idle_joules, idle.total_joules) == pytest.approx((20, 20))
    assert energy_by_name(power([0, 2], [10]), [], [], 2).joules.tolist() == [0, 0]


# ---- anything ------------------------------------------------------------------------------

LAST = 40
SLICES = st.lists(
    st.tuples(st.integers(0, LAST), st.integers(0, LAST), st.integers(0, 3)), max_size=8
)
WATTS = st.floats(0, 1000) | st.just(math.nan)
STEPS = st.lists(st.integers(0, LAST), min_size=2, max_size=8, unique=True).map(sorted)


def active(slices: Sequence[tuple[int, int, int]], moment: int) -> int | None:
    """Return the name of what began last of all that is open, the shorter of two that began so."""
    opened = [(start, -end, i) for i, (start, end, _) in enumerate(slices) if start <= moment < end]
    return slices[max(opened)[2]][2] if opened else None


@given(st.data())
def test_every_nanosecond_is_assigned_to_its_slice(data: st.DataObject) -> None:
    edges = data.draw(STEPS)
    watts = data.draw(st.lists(WATTS, min_size=len(edges) - 1, max_size=len(edges) - 1))
    threads = data.draw(st.lists(SLICES, max_size=4))
    windows = data.draw(st.lists(st.tuples(st.integers(0, LAST), st.integers(0, LAST)), max_size=3))
    names = 4
    made = Power(np.array(edges, dtype=np.int64), np.array(watts))
    pieces = [
        innermost(*(np.array([one[i] for one in slices], dtype=np.int64) for i in range(3)))
        for slices in threads
    ]
    found = energy_by_name(made, pieces, windows, names)

    joules, idle, total, unknown = [0.0] * names, 0.0, 0.0, 0
    for moment in range(LAST):
        if not any(start <= moment < end for start, end in windows):
            continue
        place = max((i for i, edge in enumerate(edges) if edge <= moment), default=-1)
        drawn = watts[place] if 0 <= place < len(watts) else math.nan
        if math.isnan(drawn):
            unknown += 1
            continue
        total += drawn
        at_work = [name for slices in threads if (name := active(slices, moment)) is not None]
        idle += 0.0 if at_work else drawn
        for name in at_work:
            joules[name] += drawn / len(at_work)
    ns = 1e-9
    assert found.joules.tolist() == pytest.approx([one * ns for one in joules], abs=1e-18)
    assert found.idle_joules == pytest.approx(idle * ns, abs=1e-18)
    assert found.total_joules == pytest.approx(total * ns, abs=1e-18)
    assert found.unknown_seconds == pytest.approx(unknown * ns, abs=1e-18)
    whole = float(found.joules.sum()) + found.idle_joules
    assert whole == pytest.approx(found.total_joules, rel=1e-9, abs=1e-18)


# ---- a profile -----------------------------------------------------------------------------


def cpu_power(*devices: str, watts: float = 100.0) -> PowerTrace:
    drawn = {device: power([0, 10], [watts]) for device in devices or ("cpu:0",)}
    return PowerTrace(drawn, {}, (), {"exact": True}, {})


def joules_of(found: Any) -> dict[str, float]:
    return {row.name: row.joules for row in (*found.rows, found.idle)}


def test_operators_of_two_threads() -> None:
    profile = Profiled()
    profile.add("aten::linear", 1, 5)
    profile.add("aten::addmm", 2, 4)
    profile.add("MmBackward0", 4, 7, tid=2)
    profile.add("step", 0, 10, cat="user_annotation")
    profile.add("torch/nn/linear.py", 0, 10, cat="python_function")
    found = attribute(profile.data, cpu_power())
    assert joules_of(found) == pytest.approx(
        {"aten::addmm": 200, "aten::linear": 150, "MmBackward0": 250, "(no operator)": 400}
    )
    assert [row.name for row in found.rows] == ["MmBackward0", "aten::addmm", "aten::linear"]
    assert found.joules == pytest.approx(1000)
    by_name = {row.name: row for row in found.rows}
    assert by_name["aten::linear"].cpu_seconds == pytest.approx(2)
    assert by_name["aten::linear"].calls == 1


def test_annotations_and_a_window() -> None:
    profile = Profiled()
    for step in range(2):
        profile.add(f"ProfilerStep#{step}", 4 * step, 4 * step + 4, cat="user_annotation")
        profile.add("forward", 4 * step + 1, 4 * step + 2, cat="user_annotation")
    profile.add("aten::mm", 1, 10)
    found = attribute(profile.data, cpu_power(), ANNOTATION)
    assert joules_of(found) == pytest.approx(
        {"ProfilerStep#*": 600, "forward": 200, "(no annotation)": 200}
    )
    windows = windows_named(profile.data, "forward")
    within = attribute(profile.data, cpu_power(), windows=windows)
    assert joules_of(within) == pytest.approx({"aten::mm": 200, "(no operator)": 0})
    with pytest.raises(ValueError, match=r"times of 'back' are not known: the trace has no window"):
        windows_named(profile.data, "back")


def test_a_selection_of_windows_is_not_taken_for_all_of_them() -> None:
    window = Slice("window", "step", 0, SECOND, 1.0, {"one_of": 2})
    trace = PowerTrace({"cpu:0": power([0, 10], [10])}, {}, (window,), {"exact": True}, {})
    profile = Profiled()
    profile.add("aten::mm", 0, 8)
    with pytest.raises(ValueError, match="kept only a selection"):
        windows_named(with_power(profile.data, trace), "step")
    profile.add("step", 0, 1, cat="user_annotation")
    profile.add("step", 2, 3, cat="user_annotation")
    data = with_power(profile.data, trace)
    assert windows_named(data, "step") == seconds((0, 1), (2, 3))


def test_a_gpus_power_goes_to_what_ran_on_it_by_the_operator_that_launched_it() -> None:
    profile = Profiled()
    profile.add("aten::mm", 0, 1, external=7)
    profile.add("sgemm_128x64", 2, 6, cat="kernel", tid=7, device=0, external=7)
    profile.add("relu_kernel", 4, 8, cat="kernel", tid=8, device=0)
    profile.add("aten::copy_", 9, 10)
    found = attribute(profile.data, cpu_power("cpu:0", "gpu:0"))
    rows = {row.name: row for row in (*found.rows, found.idle)}
    assert rows["aten::mm"].by_device == pytest.approx({"cpu:0": 100, "gpu:0": 300})
    assert rows["relu_kernel"].by_device == pytest.approx({"cpu:0": 0, "gpu:0": 300})
    assert rows["(no operator)"].by_device == pytest.approx({"cpu:0": 800, "gpu:0": 400})
    assert (rows["aten::mm"].cpu_seconds, rows["aten::mm"].gpu_seconds) == pytest.approx((1, 4))
    assert sum(row.joules for row in rows.values()) == pytest.approx(found.joules) == 2000


def test_a_gpu_that_the_profile_has_no_work_of_is_outside_of_it() -> None:
    """Three GPUs at 100 W each beside a processor at 100 W; the profile is of the first GPU."""
    profile = Profiled()
    profile.add("aten::mm", 0, 4, external=1)
    profile.add("aten::copy_", 9, 10)
    profile.add("sgemm", 2, 8, cat="kernel", tid=7, device=0, external=1)
    found = attribute(profile.data, cpu_power("cpu:0", "gpu:0", "gpu:1", "gpu:2"))
    rows = {row.name: row.by_device for row in (*found.rows, found.idle, *found.outside)}
    nothing = {"gpu:1": 0, "gpu:2": 0}
    assert rows["aten::mm"] == pytest.approx({"cpu:0": 400, "gpu:0": 600} | nothing)
    assert rows["aten::copy_"] == pytest.approx({"cpu:0": 100, "gpu:0": 0} | nothing)
    assert rows["(no operator)"] == pytest.approx({"cpu:0": 500, "gpu:0": 400} | nothing)
    assert rows["(devices not in this profile)"] == pytest.approx(
        {"cpu:0": 0, "gpu:0": 0, "gpu:1": 1000, "gpu:2": 1000}
    )
    assert sum(sum(row.values()) for row in rows.values()) == pytest.approx(found.joules) == 4000
    data = found.to_dict()
    assert sum(row["joules"] for row in data["rows"]) == pytest.approx(data["joules"])
    assert "(devices not in this profile)" in attributed_table(found, "operator", 5)


def test_without_work_of_gpus_all_of_them_are_outside() -> None:
    profile = Profiled()
    profile.add("aten::mm", 0, 4)
    profile.add("aten::add", 5, 10)
    found = attribute(profile.data, cpu_power("cpu:0", "gpu:0", "gpu:1"))
    assert joules_of(found) == pytest.approx(
        {"aten::mm": 400, "aten::add": 500, "(no operator)": 100}
    )
    (outside,) = found.outside
    assert outside.joules == pytest.approx(2000)
    assert outside.by_device == pytest.approx({"cpu:0": 0, "gpu:0": 1000, "gpu:1": 1000})
    assert found.joules == pytest.approx(3000)


def test_kernels_of_a_gpu_that_was_not_measured_have_unknown_joules() -> None:
    profile = Profiled()
    profile.add("aten::mm", 0, 10)
    profile.add("sgemm", 2, 6, cat="kernel", tid=7, device=0)
    profile.add("sgemm", 1, 9, cat="kernel", tid=7, device=1)
    found = attribute(profile.data, cpu_power("cpu:0", "gpu:0"))
    rows = {row.name: row for row in found.rows}
    assert rows["sgemm"].joules == pytest.approx(400)
    assert rows["sgemm"].gpu_seconds == pytest.approx(4)
    (outside,) = found.outside
    assert outside.name == "(kernels of devices that were not measured)"
    assert math.isnan(outside.joules)
    assert outside.gpu_seconds == pytest.approx(8)
    text = attributed_table(found, "operator", 5)
    assert "unknown" in text
    data = found.to_dict()
    known = [row["joules"] for row in data["rows"] if not math.isnan(row["joules"])]
    assert sum(known) == pytest.approx(found.joules) == 2000


def test_work_without_an_annotation_goes_to_those_of_the_processor() -> None:
    profile = Profiled()
    profile.add("forward", 0, 10, cat="user_annotation")
    profile.add("sgemm", 2, 6, cat="kernel", tid=7, device=0)
    found = attribute(profile.data, cpu_power("cpu:0", "gpu:0"), ANNOTATION)
    assert joules_of(found) == pytest.approx({"forward": 2000, "(no annotation)": 0})
    assert not found.outside


def test_power_of_another_time_is_refused() -> None:
    profile = Profiled()
    profile.add("aten::mm", 20, 24)
    with pytest.raises(ValueError, match="is this the run of this profile"):
        attribute(profile.data, cpu_power())


def test_the_table_adds_up_and_states_its_resolution() -> None:
    profile = Profiled()
    for i in range(5):
        profile.add(f"aten::op{i}", i, i + 1)
    profile.add("aten::last", 9, 12)
    found = attribute(profile.data, cpu_power())
    text = attributed_table(found, "operator", 2)
    assert "(4 more)" in text
    assert "(no operator)" in text
    assert [line for line in text.splitlines() if line.startswith("all of the window")]
    assert "power is known every: cpu:0 1e+04 ms" in text
    assert "The power of cpu:0 is not known for 2.000 s of it." in text
    data = found.to_dict()
    assert sum(row["joules"] for row in data["rows"]) == pytest.approx(data["joules"])
    assert sum(row["share"] for row in data["rows"]) == pytest.approx(1)


def test_names_are_counted_once() -> None:
    profile = Profiled()
    profile.add("aten::mm", 0, 1)
    profile.add("aten::mm", 2, 3, tid=2)
    activities = activities_of(profile.data, "operator")
    assert activities.names == ["aten::mm"]
    assert len(activities.cpu) == 2
