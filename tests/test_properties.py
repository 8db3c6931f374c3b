"""Invariants of E(t), held on the real lanes, rings, timelines and ledgers of the core."""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from itertools import pairwise
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from carbontracker import _core

MS = 1_000_000
T, ENERGY, SPAN, UNSURE, TICK, FLAGS = range(6)  # of a drained sample

# A run of a counter: milliwatts and milliseconds between one reading and the next.
steps = st.lists(st.tuples(st.integers(0, 1_500_000), st.integers(1, 50)), min_size=2, max_size=200)


def energies(steps: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Times (ns) and true cumulative energy (uJ) of a run."""
    t_ns, energy_uj = [1_000 * MS], [0]
    for milliwatts, milliseconds in steps:
        t_ns.append(t_ns[-1] + milliseconds * MS)
        energy_uj.append(energy_uj[-1] + milliwatts * milliseconds)
    return t_ns, energy_uj


def counter(modulus: int = 0, tick_ns: int = 0, capacity: int = 4096) -> _core.LaneProbe:
    """Make the lane of a counter of microjoules; without a tick it moves at every reading."""
    return _core.LaneProbe(
        counter=True, units_per_raw=1e-6, modulus=modulus, tick_ns=tick_ns, capacity=capacity
    )


def power(tick_ns: int = 0, window_ns: int = 0) -> _core.LaneProbe:
    """Make the lane of a power sensor of milliwatts."""
    return _core.LaneProbe(counter=False, units_per_raw=1e-3, tick_ns=tick_ns, window_ns=window_ns)


def feed(lane: _core.LaneProbe, t_ns: list[int], raw: list[int]) -> None:
    for t, value in zip(t_ns, raw, strict=True):
        lane.take(t, value)


def device_of(lane: _core.LaneProbe, seen_ns: int) -> _core.DeviceProbe:
    device = _core.DeviceProbe([lane])
    device.collect(seen_ns)
    return device


def joules(device: _core.DeviceProbe, t_ns: int) -> float:
    return device.estimate(t_ns)[0]


@given(steps, st.integers(0, 300_000_000))
def test_wraps_are_invisible(run: list[tuple[int, int]], start_uj: int) -> None:
    modulus = 300_000_001  # a 300 J range: wraps within seconds
    t_ns, energy_uj = energies(run)
    lane = counter(modulus)
    feed(lane, t_ns, [(start_uj + e) % modulus for e in energy_uj])
    samples = lane.drain()
    assert samples[-1][ENERGY] == pytest.approx(energy_uj[-1], abs=2)
    assert not any(sample[FLAGS] & _core.GAP for sample in samples)


@given(steps, st.randoms(use_true_random=False))
def test_dropped_readings_cost_no_energy(run: list[tuple[int, int]], random: Random) -> None:
    t_ns, energy_uj = energies(run)
    kept = [i for i in range(len(t_ns)) if i in {0, len(t_ns) - 1} or random.random() < 0.3]
    lane = counter(tick_ns=MS)
    feed(lane, [t_ns[i] for i in kept], [energy_uj[i] for i in kept])
    assert lane.drain()[-1][ENERGY] == pytest.approx(energy_uj[-1], abs=2)


@given(steps, st.integers(2, 16))
def test_a_full_ring_costs_resolution_only(run: list[tuple[int, int]], capacity: int) -> None:
    t_ns, energy_uj = energies(run)
    assume(energy_uj[-1] > energy_uj[-2])  # the last reading is a change and will be a sample
    lane = counter(tick_ns=MS, capacity=capacity)
    feed(lane, t_ns[:-1], energy_uj[:-1])
    assert len(lane.drain()) <= max(2, 1 << (capacity - 1).bit_length())
    assert lane.take(t_ns[-1], energy_uj[-1])  # there is room again
    assert lane.drain()[-1][ENERGY] == pytest.approx(energy_uj[-1], abs=2)


@given(
    st.lists(st.integers(0, 2**40), min_size=1, max_size=60),
    st.integers(0, 2**40),
    st.sampled_from([0, MS, 100 * MS]),
)
def test_energy_and_time_never_fall_for_any_readings(
    raw: list[int], modulus: int, tick_ns: int
) -> None:
    lane = counter(modulus, tick_ns)
    feed(lane, [(i + 1) * 10 * MS for i in range(len(raw))], raw)
    samples = lane.drain()
    for before, after in pairwise(samples):
        assert after[ENERGY] >= before[ENERGY]
        assert after[T] >= before[T]
    # Nor is more booked than a device could draw: ten times the limit, one tick in advance.
    most_uj = 10 * 2000.0 * len(raw) * (0.010 + tick_ns * 1e-9) * 1e6
    assert not samples or samples[-1][ENERGY] <= most_uj


@given(st.lists(st.tuples(st.integers(0, 900_000), st.integers(1, 500)), min_size=2, max_size=100))
def test_power_that_is_seen_in_moments_is_integrated_by_trapezoids(
    run: list[tuple[int, int]],
) -> None:
    lane = power()
    assume(all(a[0] != b[0] for a, b in pairwise(run)))  # else the newest may still be open
    t, truth, last = MS, 0.0, run[0][0]
    lane.take(t, last)
    for milliwatts, milliseconds in run[1:]:
        t += milliseconds * MS
        truth += 0.5e-6 * (last + milliwatts) * milliseconds
        last = milliwatts
        lane.take(t, milliwatts)
    assert lane.drain()[-1][ENERGY] * 1e-6 == pytest.approx(truth, abs=2e-6 * len(run))


@given(st.lists(st.integers(1, 900_000), min_size=20, max_size=100, unique=True))
def test_means_over_the_whole_period_are_summed(means: list[int]) -> None:
    """A sensor that shows the mean of each 100 ms tells what was drawn, however restless."""
    lane = power(100 * MS, 100 * MS)
    for i, milliwatts in enumerate(means):
        t = (i + 1) * 100 * MS
        if i:
            lane.take(t - MS // 10, means[i - 1])  # one reading just before, one just after
        lane.take(t + MS // 10, milliwatts)
    truth = sum(means[1:]) * 100 * 1e-6
    slack = 1e-3 * max(means) * 0.5e-3 * 4  # the time of an edge, within its pair of readings
    assert lane.drain()[-1][ENERGY] * 1e-6 == pytest.approx(truth, rel=5e-3, abs=slack)


moments = st.lists(st.integers(0, 12_000), min_size=3, max_size=8)


@given(steps, moments, st.sampled_from([1, 7, 20, 100]), st.sampled_from([0, MS, 20 * MS]))
def test_windows_add_up_and_never_go_negative(
    run: list[tuple[int, int]], at_ms: list[int], poll_ms: int, tick_ns: int
) -> None:
    """Whatever the marks: E(a, b) + E(b, c) = E(a, c) and E(a, b) >= 0."""
    t_ns, energy_uj = energies(run)
    lane = counter(tick_ns=tick_ns)
    for t in range(t_ns[0], t_ns[-1] + poll_ms * MS, poll_ms * MS):
        lane.take(t, energy_uj[bisect_right(t_ns, t) - 1])
    device = device_of(lane, t_ns[-1])
    marks = sorted(t_ns[0] + ms * MS for ms in at_ms)
    levels = [device.estimate(mark) for mark in marks]
    assert all(b[0] >= a[0] - 1e-9 for a, b in pairwise(levels))
    assert all(level[1] >= 0 for level in levels)
    whole = levels[-1][0] - levels[0][0]
    parts = [device.energy(a, b) for a, b in pairwise(marks)]
    for known, (a, b) in zip(parts, pairwise(levels), strict=True):
        assert math.isnan(known[0]) or known[0] == pytest.approx(b[0] - a[0], abs=1e-9)
        assert math.isnan(known[0]) or known[0] >= 0
        assert math.isnan(known[1]) or known[1] >= 0
        assert 0.0 <= known[2] <= 1.0
    if not any(math.isnan(part[0]) for part in parts):
        assert math.fsum(part[0] for part in parts) == pytest.approx(whole, abs=1e-9)


@given(steps, st.integers(1, 2_000), st.integers(0, 10_000))
def test_thinning_changes_no_total_between_samples_that_stay(
    run: list[tuple[int, int]], spacing_ms: int, horizon_ms: int
) -> None:
    t_ns, energy_uj = energies(run)
    lanes = [counter(), counter()]
    devices = []
    for lane in lanes:
        feed(lane, t_ns, energy_uj)
        devices.append(device_of(lane, t_ns[-1] + 10_000 * MS))
    full, thin = devices
    horizon_ns = t_ns[0] + horizon_ms * MS
    thin.thin(horizon_ns, spacing_ms * MS)
    assert thin.size(0) <= full.size(0)
    assert joules(thin, t_ns[-1]) == pytest.approx(joules(full, t_ns[-1]), abs=1e-9)
    for moment in t_ns:
        if moment >= horizon_ns:
            assert joules(thin, moment) == pytest.approx(joules(full, moment), abs=1e-9)
    values = [joules(thin, moment) for moment in t_ns]
    assert all(b >= a - 1e-9 for a, b in pairwise(values))


@given(st.integers(1, 1_000), st.integers(1, 40), st.integers(2, 140), st.data())
def test_a_steady_counter_is_exact_between_its_ticks(
    watts: int, poll_ms: int, tick_ms: int, data: st.DataObject
) -> None:
    """Under constant power a regular counter is right to a tick and its own error bar."""
    assume(poll_ms < tick_ms)
    phase_ms = data.draw(st.integers(0, tick_ms - 1))
    lane = counter(tick_ns=tick_ms * MS)
    length_ms = 16 * tick_ms
    for t_ms in range(1, length_ms, poll_ms):
        ticks = (t_ms + phase_ms) // tick_ms
        lane.take(t_ms * MS, ticks * tick_ms * watts * 1_000)
    device = device_of(lane, length_ms * MS)
    first, last = 2 * tick_ms, length_ms - 2 * tick_ms - poll_ms
    a_ms = data.draw(st.integers(first, last))
    b_ms = data.draw(st.integers(a_ms, last))
    a, b = device.estimate(a_ms * MS), device.estimate(b_ms * MS)
    slack = 1e-3 * max(tick_ms, 2 * poll_ms) * watts + a[1] + b[1]
    assert b[0] - a[0] == pytest.approx(watts * (b_ms - a_ms) * 1e-3, abs=slack)


def test_a_counter_without_a_period_states_its_error() -> None:
    """What always draws does not stand still: its counter is late, and by how much is open."""
    lane = counter()
    for t_ms in range(10, 2_510, 10):
        lane.take(t_ms * MS, 0 if t_ms < 1_000 else 100_000_000 if t_ms < 1_700 else 300_000_000)
    device = device_of(lane, 2_500 * MS)
    assert joules(device, 1_000 * MS) == pytest.approx(100.0, abs=3.0)
    between, error, _ = device.estimate(1_350 * MS)
    assert 100.0 < between < 300.0
    assert error >= 50.0
    assert device.energy(1_050 * MS, 1_650 * MS)[1] >= 20.0


def test_provisional_becomes_final_with_the_next_tick() -> None:
    lane = counter(tick_ns=100 * MS)
    device = _core.DeviceProbe([lane])

    def run(from_ms: int, to_ms: int) -> None:  # 100 W, a tick every 100 ms, read every 5 ms
        for t_ms in range(from_ms, to_ms, 5):
            lane.take(t_ms * MS + MS // 2, t_ms // 100 * 10_000_000)
        device.collect(to_ms * MS)

    run(0, 1_950)
    begin = joules(device, 1_000 * MS)
    early = device.estimate(1_940 * MS)
    assert not early[2]
    assert early[0] - begin == pytest.approx(94.0, abs=3.0)
    run(1_950, 2_200)
    late = device.estimate(1_940 * MS)
    assert late[2]
    assert late[0] - begin == pytest.approx(94.0, abs=1.0)
    assert late[1] < early[1]


@given(
    st.integers(1, 1_000),
    st.lists(st.integers(1, 120), min_size=2, max_size=40),
    st.sampled_from([0, 1]),
    st.integers(0, 240),
)
def test_a_steady_counter_is_extrapolated_until_it_is_read(
    watts: int, gaps_ms: list[int], tick_ms: int, ahead_ms: int
) -> None:
    """However close its newest readings were together, and as far as there was a past."""
    lane = counter(tick_ns=tick_ms * MS)
    t_ms = 1_000
    for gap_ms in (300, *gaps_ms):
        lane.take(t_ms * MS, t_ms * watts * 1_000)
        t_ms += gap_ms
    lane.take(t_ms * MS, t_ms * watts * 1_000)
    device = device_of(lane, t_ms * MS)
    level, error, final = device.estimate((t_ms + ahead_ms) * MS)
    true = (t_ms + ahead_ms - 1_000) * watts * 1e-3
    # An error of 95 % may be passed, not by much: 2.3 % of 60,000 random histories passed it, one
    # passed it twice over. They were read evenly, which looks like a rhythm of the counter.
    assert abs(level - true) <= 3.0 * error + 1e-6
    if tick_ms == 0:  # else it is not known yet when it ticks
        assert level == pytest.approx(true, abs=1e-6)
    assert not final or ahead_ms == 0


@given(steps, st.integers(0, 400))
def test_what_is_not_known_yet_never_falls(steps: list[tuple[int, int]], ahead_ms: int) -> None:
    t_ns, energy_uj = energies(steps)
    lane = counter()
    feed(lane, t_ns, energy_uj)
    device = device_of(lane, t_ns[-1])
    times = range(t_ns[-1], t_ns[-1] + ahead_ms * MS, 3 * MS)
    assert all(b >= a - 1e-9 for a, b in pairwise(joules(device, t) for t in times))


def test_missing_is_not_zero() -> None:
    lane = counter()
    device = device_of(lane, 0)
    total, _, coverage, quality, _ = device.energy(0, 1_000 * MS)
    assert math.isnan(total)
    assert quality == "missing"
    assert coverage == 0.0


def test_a_gap_is_stated() -> None:
    lane = power()
    lane.take(1_000 * MS, 100_000)
    lane.take(2_000 * MS, 110_000)
    lane.take(6_000 * MS, 120_000)  # longer than a power sensor may be silent
    assert [bool(sample[FLAGS] & _core.GAP) for sample in lane.drain()] == [False, False, True]
    lane = power()
    feed(lane, [1_000 * MS, 2_000 * MS, 6_000 * MS], [100_000, 110_000, 120_000])
    device = device_of(lane, 6_000 * MS)
    assert device.energy(1_000 * MS, 5_000 * MS)[2] == pytest.approx(0.25)
    assert device.energy(1_000 * MS, 2_000 * MS)[2] == 1.0


def test_an_alternate_goes_on_where_the_owner_is_gone() -> None:
    owner, alternate = counter(tick_ns=100 * MS), power(100 * MS, 100 * MS)
    device = _core.DeviceProbe([owner, alternate])
    for t_ms in range(0, 5_000, 10):
        owner.take(t_ms * MS + MS, t_ms // 100 * 20_000_000)
        alternate.take(t_ms * MS + MS, 200_000 + t_ms // 100 % 2)
    device.collect(5_000 * MS)
    assert device.review(5_000 * MS) == 0
    device.lose(0)
    assert device.review(5_000 * MS) == 1
    for t_ms in range(5_000, 10_000, 10):
        alternate.take(t_ms * MS + MS, 200_000 + t_ms // 100 % 2)
    device.collect(10_000 * MS)
    assert device.review(10_000 * MS) == 1
    assert len(device.failovers) == 1
    assert joules(device, 9_000 * MS) - joules(device, 1_000 * MS) == pytest.approx(1_600, rel=0.01)


def test_core_and_python_mean_the_same() -> None:
    flags = (_core.FIRST, _core.GAP, _core.STOOD_STILL, _core.RESTART)
    assert flags == (1, 2, 4, 8)  # distinct in any combination
    lane = counter()
    lane.take(MS, 7)
    assert lane.drain()[0][FLAGS] == _core.FIRST
    before_ns = time.monotonic_ns()
    core_ns = _core.now_ns()
    assert before_ns <= core_ns <= time.monotonic_ns()  # one clock


# ---- error bars of windows that contain one another ------------------------------------------

SECONDS = 40
"""Length of a run with a fault in its middle, s."""


def troubled(fault: str, seed: int, *, stands_by: bool) -> _core.DeviceProbe:
    """Return a device of restless load whose counter meets a fault from 15 s to 20 s.

    Args:
        fault: ``restart``, ``silence``, ``stuck``, ``gap`` or ``none``.
        seed: of the load.
        stands_by: there is a power sensor as well, which sees a quarter of the time.
    """
    random = Random(seed)
    owner = _core.LaneProbe(
        counter=True, units_per_raw=1e-3, tick_ns=100 * MS, limit_watts=400.0, relative_error=0.05
    )
    lanes = [owner]
    if stands_by:
        lanes.append(
            _core.LaneProbe(
                counter=False,
                units_per_raw=1e-3,
                tick_ns=100 * MS,
                window_ns=25 * MS,
                relative_error=0.05,
            )
        )
    device = _core.DeviceProbe(lanes)
    counted_mj = base_mj = shown_mj = 0
    for tick in range(10 * SECONDS):
        watts = random.choice((100, 150, 400))
        t_ns = 10_000 * MS + tick * 100 * MS + MS
        troubled_now = 150 <= tick < 200
        counted_mj += watts * 100
        if fault == "restart" and tick == 150:
            base_mj = counted_mj
        if not (fault == "stuck" and troubled_now):
            shown_mj = counted_mj - base_mj
        if not (fault in {"silence", "gap"} and troubled_now):
            owner.take(t_ns, shown_mj)
        if stands_by and not (fault == "gap" and troubled_now):
            lanes[1].take(t_ns, watts * 1_000)
        device.silence(0, troubled_now and fault in {"silence", "gap"})
        if stands_by:
            device.silence(1, troubled_now and fault == "gap")
        if tick % 10 == 9:
            device.collect(t_ns)
            device.review(t_ns)
    device.collect(10_000 * MS + SECONDS * 1_000 * MS)
    return device


@given(
    st.sampled_from(["none", "restart", "silence", "stuck", "gap"]),
    st.integers(0, 5),
    st.booleans(),
    st.lists(st.integers(0, 1_000 * SECONDS), min_size=4, max_size=4, unique=True),
)
def test_a_longer_window_is_no_surer_than_its_parts_allow(
    fault: str, seed: int, stands_by: bool, at_ms: list[int]
) -> None:
    """E(b, c) = E(a, d) - E(a, b) - E(c, d): what is open in a part is open in the whole.

    And the whole is as sure as all of its parts together.
    """
    device = troubled(fault, seed, stands_by=stands_by)
    a, b, c, d = (10_000 * MS + at * MS for at in sorted(at_ms))
    whole = device.energy(a, d)
    inner = device.energy(b, c)
    parts = [device.energy(a, b), inner, device.energy(c, d)]
    if any(math.isnan(part[0]) for part in [whole, *parts]):
        return
    ends = device.estimate(b)[1] + device.estimate(c)[1]
    assert inner[1] <= whole[1] + ends + 1e-6
    assert whole[1] <= math.fsum(part[1] for part in parts) + 1e-6
    assert whole[0] == pytest.approx(math.fsum(part[0] for part in parts), abs=1e-6)
    assert whole[4] == pytest.approx(math.fsum(part[4] for part in parts), abs=1e-6)
