"""Invariants of E(t), held on the real meter and ring and on timelines and windows."""

from __future__ import annotations

import math
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from carbontracker.timeline import GAP, STOOD_STILL, Timeline
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from carbontracker import _core
from carbontracker.window import ChannelInfo, window_energy

if TYPE_CHECKING:
    from random import Random

settings.register_profile("default", deadline=None, max_examples=100)
settings.load_profile("default")

MS = 1_000_000
CHANNEL = ChannelInfo("cpu:0", "cpu", "measured", 0.0, counted=True)

# A run of a counter: milliwatts and milliseconds between one reading and the next.
steps = st.lists(st.tuples(st.integers(0, 1_500_000), st.integers(1, 50)), min_size=2, max_size=200)


def energies(steps: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Times (ns) and true cumulative energy (uJ) of a run."""
    t_ns, energy_uj = [1_000 * MS], [0]
    for milliwatts, milliseconds in steps:
        t_ns.append(t_ns[-1] + milliseconds * MS)
        energy_uj.append(energy_uj[-1] + milliwatts * milliseconds)
    return t_ns, energy_uj


def feed(bench: _core.MeterProbe, t_ns: list[int], raw: list[int]) -> None:
    for t, value in zip(t_ns, raw, strict=True):
        bench.take(t, value)


def timeline_of(bench: _core.MeterProbe, seen_ns: int, *, counter: bool = True) -> Timeline:
    timeline = Timeline(counter=counter, tick_ns=MS)
    timeline.extend(*bench.drain(), seen_ns=seen_ns)
    return timeline


@given(steps, st.integers(0, 300_000_000))
def test_wraps_are_invisible(run: list[tuple[int, int]], start_uj: int) -> None:
    modulus = 300_000_001  # a 300 J range: wraps within seconds
    t_ns, energy_uj = energies(run)
    bench = _core.MeterProbe(counter=True, units_per_raw=1e-6, modulus=modulus)
    feed(bench, t_ns, [(start_uj + e) % modulus for e in energy_uj])
    _, total_uj, _, flags = bench.drain()
    assert total_uj[-1] == pytest.approx(energy_uj[-1], abs=2)
    assert not np.any(flags & GAP)


@given(steps, st.randoms(use_true_random=False))
def test_dropped_readings_cost_no_energy(run: list[tuple[int, int]], random: Random) -> None:
    t_ns, energy_uj = energies(run)
    kept = [i for i in range(len(t_ns)) if i in {0, len(t_ns) - 1} or random.random() < 0.3]
    bench = _core.MeterProbe(counter=True, units_per_raw=1e-6)
    feed(bench, [t_ns[i] for i in kept], [energy_uj[i] for i in kept])
    _, total_uj, _, _ = bench.drain()
    assert total_uj[-1] == pytest.approx(energy_uj[-1], abs=2)


@given(steps, st.integers(2, 16))
def test_a_full_ring_costs_resolution_only(run: list[tuple[int, int]], capacity: int) -> None:
    t_ns, energy_uj = energies(run)
    assume(energy_uj[-1] > energy_uj[-2])  # the last reading is a change and will be a sample
    bench = _core.MeterProbe(counter=True, units_per_raw=1e-6, capacity=capacity)
    feed(bench, t_ns[:-1], energy_uj[:-1])
    held = len(bench.drain()[0])
    assert held <= max(2, 1 << (capacity - 1).bit_length())
    assert bench.take(t_ns[-1], energy_uj[-1])  # there is room again
    _, total_uj, _, _ = bench.drain()
    assert total_uj[-1] == pytest.approx(energy_uj[-1], abs=2)


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=60), st.integers(0, 2**40))
def test_energy_never_falls_whatever_the_sensor_says(raw: list[int], modulus: int) -> None:
    bench = _core.MeterProbe(counter=True, units_per_raw=1e-6, modulus=modulus)
    feed(bench, [(i + 1) * 10 * MS for i in range(len(raw))], raw)
    _, total_uj, _, _ = bench.drain()
    assert np.all(np.diff(total_uj) >= 0)
    # Nor is more booked than a device could draw: ten times the limit, one tick in advance.
    most_uj = 10 * 2000.0 * (len(raw) * 0.010 + 0.001 * len(raw)) * 1e6
    assert not len(total_uj) or total_uj[-1] <= most_uj


@given(st.lists(st.tuples(st.integers(0, 900_000), st.integers(1, 500)), min_size=2, max_size=100))
def test_power_is_integrated_by_trapezoids(run: list[tuple[int, int]]) -> None:
    bench = _core.MeterProbe(counter=False, units_per_raw=1e-3)
    t, truth, last = MS, 0.0, run[0][0]
    bench.take(t, last)
    for milliwatts, milliseconds in run[1:]:
        t += milliseconds * MS
        truth += 0.5e-6 * (last + milliwatts) * milliseconds
        last = milliwatts
        bench.take(t, milliwatts)
    _, total_uj, _, _ = bench.drain()
    assert total_uj[-1] * 1e-6 == pytest.approx(truth, abs=2e-6 * len(run))


moments = st.lists(st.integers(0, 12_000), min_size=3, max_size=8)


@given(steps, moments, st.sampled_from([1, 7, 20, 100]))
def test_windows_add_up_and_never_go_negative(
    run: list[tuple[int, int]], at_ms: list[int], poll_ms: int
) -> None:
    """Whatever the marks: E(a, b) + E(b, c) = E(a, c) and E(a, b) >= 0."""
    t_ns, energy_uj = energies(run)
    bench = _core.MeterProbe(counter=True, units_per_raw=1e-6)
    for t in range(t_ns[0], t_ns[-1] + poll_ms * MS, poll_ms * MS):
        ticked = int(np.searchsorted(t_ns, t, side="right")) - 1
        bench.take(t, energy_uj[ticked])
    timeline = timeline_of(bench, t_ns[-1])
    marks = sorted(t_ns[0] + ms * MS for ms in at_ms)
    levels = [timeline.at(mark) for mark in marks]
    joules = [level.joules for level in levels]
    assert all(b >= a - 1e-9 for a, b in pairwise(joules))
    whole = window_energy([CHANNEL], [levels[0]], [levels[-1]], [1.0])
    parts = [window_energy([CHANNEL], [a], [b], [1.0]) for a, b in pairwise(levels)]
    assert math.fsum(part.joules for part in parts) == pytest.approx(whole.joules, abs=1e-9)
    assert all(level.error_joules >= 0 for level in levels)


@given(steps, st.integers(1, 2_000), st.integers(0, 10_000))
def test_thinning_changes_no_total_between_samples_that_stay(
    run: list[tuple[int, int]], spacing_ms: int, horizon_ms: int
) -> None:
    t_ns, energy_uj = energies(run)
    bench = _core.MeterProbe(counter=True, units_per_raw=1e-6)
    feed(bench, t_ns, energy_uj)
    full, thin = Timeline(counter=True, tick_ns=MS), Timeline(counter=True, tick_ns=MS)
    columns = bench.drain()
    for timeline in (full, thin):
        timeline.extend(*columns, seen_ns=t_ns[-1] + 10_000 * MS)
    horizon_ns = t_ns[0] + horizon_ms * MS
    thin.thin(horizon_ns, spacing_ms * MS)
    assert len(thin) <= len(full)
    assert thin.at(t_ns[-1] + 5_000 * MS).joules == pytest.approx(energy_uj[-1] * 1e-6, abs=3e-6)
    for moment in t_ns:
        if moment >= horizon_ns:
            assert thin.at(moment).joules == pytest.approx(full.at(moment).joules, abs=1e-9)
    values = [thin.at(moment).joules for moment in t_ns]
    assert all(b >= a - 1e-9 for a, b in pairwise(values))


@given(st.integers(1, 1_000), st.integers(1, 40), st.integers(2, 140), st.data())
def test_a_steady_counter_is_exact_between_its_ticks(
    watts: int, poll_ms: int, tick_ms: int, data: st.DataObject
) -> None:
    """Under constant power a regular counter gives any window to the width of a poll."""
    assume(poll_ms < tick_ms)
    phase_ms = data.draw(st.integers(0, tick_ms - 1))
    bench = _core.MeterProbe(counter=True, units_per_raw=1e-6)
    length_ms = 12 * tick_ms
    for t_ms in range(1, length_ms, poll_ms):
        ticks = (t_ms + phase_ms) // tick_ms
        bench.take(t_ms * MS, ticks * tick_ms * watts * 1_000)
    timeline = timeline_of(bench, length_ms * MS)
    a_ms = data.draw(st.integers(1, length_ms - tick_ms - 1))
    b_ms = data.draw(st.integers(a_ms, length_ms - tick_ms))
    a, b = timeline.at(a_ms * MS), timeline.at(b_ms * MS)
    truth = watts * (b_ms - a_ms) * 1e-3
    assert b.joules - a.joules == pytest.approx(truth, abs=2e-3 * poll_ms * watts)


def test_a_counter_without_rhythm_moves_in_steps() -> None:
    """What was written between two marks belongs to them, however far apart the changes are."""
    timeline = Timeline(counter=True, tick_ns=MS)
    t_ns = np.array([0, 1_000, 1_700]) * MS
    energy_uj = np.array([0, 100, 300]) * 1_000_000
    span_ns = np.array([0, 10, 10]) * MS
    flags = np.array([1, STOOD_STILL, STOOD_STILL])
    timeline.extend(t_ns, energy_uj, span_ns, flags, seen_ns=2_500 * MS)
    assert timeline.at(900 * MS).joules == 0.0
    assert timeline.at(1_400 * MS).joules == 100.0
    assert timeline.at(2_000 * MS).joules == 300.0
    assert timeline.at(2_000 * MS).final


def test_provisional_becomes_final_with_the_next_tick() -> None:
    timeline = Timeline(counter=True, tick_ns=100 * MS)
    ticks = np.arange(6)
    timeline.extend(
        ticks * 100 * MS, ticks * 10_000_000, np.full(6, 10 * MS), np.full(6, STOOD_STILL), 0
    )
    early = timeline.at(560 * MS)
    assert not early.final
    assert early.joules == pytest.approx(56.5, abs=1.0)
    timeline.extend(
        np.array([600 * MS]), np.array([60_000_000]), np.array([10 * MS]), np.array([4]), 0
    )
    late = timeline.at(560 * MS)
    assert late.final
    assert late.joules == pytest.approx(56.5, abs=0.1)
    assert late.error_joules < early.error_joules


def test_missing_is_not_zero() -> None:
    level = Timeline(counter=True, tick_ns=MS).at(0)
    energy = window_energy([CHANNEL], [level], [level], [0.0])
    assert math.isnan(energy.joules)
    assert energy.quality == "missing"
    assert energy.coverage == 0.0
    assert math.isnan(energy.by_device["cpu:0"].joules)


def test_a_gap_is_stated() -> None:
    timeline = Timeline(counter=True, tick_ns=MS)
    timeline.extend(
        np.array([0, 1_000, 4_000]) * MS,
        np.array([0, 10, 11]) * 1_000_000,
        np.array([0, 10, 3_000]) * MS,
        np.array([1, 0, GAP]),
        seen_ns=4_000 * MS,
    )
    assert timeline.coverage(0, 4_000 * MS) == pytest.approx(0.25)
    assert timeline.coverage(0, 1_000 * MS) == 1.0


def test_core_and_python_mean_the_same() -> None:
    assert (GAP, STOOD_STILL) == (_core.GAP, _core.STOOD_STILL)
    before_ns = time.monotonic_ns()
    core_ns = _core.now_ns()
    assert before_ns <= core_ns <= time.monotonic_ns()  # one clock
