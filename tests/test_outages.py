"""Sensors that fail for a while, on a virtual clock: unknown energy is not booked, and reported."""

from __future__ import annotations

import math
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbontracker import _core
from tests.support.virtual import NS, RandomSteps

if TYPE_CHECKING:
    from collections.abc import Callable

MS = 1_000_000
LIMIT_W = 400.0
TICK_S = 0.1
READ_S = 0.02
EDGE_J = LIMIT_W * READ_S
"""When a sensor changed is known to the distance of two readings."""
BEGIN_S, END_S = 10.0, 30.0
NONSENSE = 2**40
"""A reading that no board can show: the same to a lane as one that failed."""


class Board:
    """A board whose sensors change every tenth of a second, and are read unless they fail."""

    def __init__(
        self,
        joules: Callable[[float, float], float],
        *,
        counts: bool,
        has_power: bool = True,
        restart_s: float = math.inf,
        stuck_s: float = math.inf,
        window_ms: int = 100,
        low_pass: bool = False,
    ) -> None:
        self.joules = joules
        self.restart_s = restart_s
        self.stuck_s = stuck_s
        self.lanes: dict[str, _core.LaneProbe] = {}
        if counts:
            self.lanes["counter"] = _core.LaneProbe(
                counter=True,
                units_per_raw=1e-3,
                modulus=2**32,
                tick_ns=100 * MS,
                limit_watts=LIMIT_W,
            )
        if has_power:
            self.lanes["power"] = _core.LaneProbe(
                counter=False,
                units_per_raw=1e-3,
                max_watts=1.5 * LIMIT_W,
                tick_ns=100 * MS,
                window_ns=window_ms * MS,
                low_pass=low_pass,
                limit_watts=LIMIT_W,
            )
        self.device = _core.DeviceProbe(list(self.lanes.values()))

    def _raw(self, name: str, t: float) -> int:
        t = math.floor(t / TICK_S) * TICK_S
        if name == "power":
            return round(1e3 * self.joules(t - TICK_S, t) / TICK_S)
        t = min(t, self.stuck_s)
        return round(1e3 * self.joules(self.restart_s if t >= self.restart_s else 0.0, t))

    def run(
        self,
        from_s: float,
        to_s: float,
        outages: tuple[tuple[float, float], ...] = (),
        *,
        stalls: bool = False,
    ) -> None:
        """Read; in an outage readings fail or, where it stalls, do not come."""
        read_ns = 0
        for k in range(round(from_s / READ_S), round(to_s / READ_S)):
            t = k * READ_S + 0.001
            t_ns = round(t * NS)
            out = any(a <= t < b for a, b in outages)
            for i, (name, lane) in enumerate(self.lanes.items()):
                self.device.silence(i, out)
                if not out:
                    lane.take(t_ns, self._raw(name, t))
                elif not stalls:
                    lane.take(t_ns, NONSENSE)
            if not out:
                read_ns = t_ns
                self.device.collect(read_ns)
            if k % 50 == 49:
                self.device.review(t_ns)

    def energy(self, a: float, b: float) -> tuple[float, float, float, str, float]:
        return self.device.energy(round(a * NS), round(b * NS))

    def is_right(self, a: float, b: float, *, bars: float = 3.0) -> bool:
        """Return whether the truth of a window lies within what is reported of it.

        A 95 % bar may be passed in one window of twenty. Three bars may not.
        """
        joules, error, _, _, unknown_joules_max = self.energy(a, b)
        joules = 0.0 if math.isnan(joules) else joules
        error = 0.0 if math.isnan(error) else error
        return abs(self.joules(a, b) - joules) <= bars * error + unknown_joules_max + EDGE_J


def steady(watts: float) -> Callable[[float, float], float]:
    return lambda a, b: watts * (b - a)


def restless(seed: int) -> Callable[[float, float], float]:
    return RandomSteps(Random(seed), END_S + 10, (60.0, 390.0), 0.4).joules


def bursts(outages: tuple[tuple[float, float], ...]) -> Callable[[float, float], float]:
    """80 W, and 350 W exactly while the sensor fails."""

    def joules(a: float, b: float) -> float:
        within = sum(max(0.0, min(b, end) - max(a, begin)) for begin, end in outages)
        return 80.0 * (b - a) + 270.0 * within

    return joules


@pytest.mark.parametrize("length", [0.6, 1.7, 2.2, 5.0])
def test_unreadable_power_is_unknown_and_not_interpolated(length: float) -> None:
    outages = tuple((begin, begin + length) for begin in (12.0, 18.0, 24.0))
    board = Board(bursts(outages), counts=False)
    board.run(BEGIN_S, END_S, outages)
    joules, error, coverage, quality, unknown_max = board.energy(11.0, 29.0)
    # From the last reading before to the first after it.
    lacking_s = 3 * (length + READ_S)
    assert coverage == pytest.approx(1 - lacking_s / 18.0, abs=0.002)
    assert unknown_max == pytest.approx(LIMIT_W * lacking_s, rel=0.01)
    # The first reading after one is a mean that may reach into it.
    assert joules == pytest.approx(80.0 * (18.0 - lacking_s), abs=3 * 135.0 * TICK_S)
    assert quality == "incomplete"
    assert board.is_right(11.0, 29.0)
    assert error <= LIMIT_W * 18.0


def test_a_reading_or_two_that_failed_are_bridged() -> None:
    board = Board(steady(200.0), counts=False)
    board.run(BEGIN_S, END_S, ((15.0, 15.05), (20.0, 20.11)))
    joules, _, coverage, quality, unknown_max = board.energy(12.0, 28.0)
    assert joules == pytest.approx(3200.0, rel=1e-6)
    assert (coverage, quality, unknown_max) == (1.0, "integrated", 0.0)


@pytest.mark.parametrize("stalls", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_the_gap_of_power_lies_where_it_was(seed: int, stalls: bool) -> None:
    """Energy reported before it stays; within it is unknown; afterwards it is right."""
    board = Board(restless(seed), counts=False)
    board.run(BEGIN_S, 15.0)
    before = [board.energy(t, t + 1.0) for t in (11.0, 12.0, 13.0)]
    board.run(15.0, END_S, ((15.0, 20.0),), stalls=stalls)
    for (joules, error, *_), t in zip(before, (11.0, 12.0, 13.0), strict=True):
        now = board.energy(t, t + 1.0)
        assert now[0] == pytest.approx(joules, abs=1e-6)
        assert now[1] <= error + 1e-6
        assert now[2] == 1.0
    for t in (15.0, 16.0, 17.0, 18.0):
        joules, _, coverage, quality, unknown_max = board.energy(t, t + 1.0)
        assert math.isnan(joules)
        assert (coverage, quality) == (0.0, "missing")
        assert unknown_max == pytest.approx(LIMIT_W)
    for t in (21.0, 24.0, 28.0):
        joules, error, coverage, *_ = board.energy(t, t + 1.0)
        assert joules == pytest.approx(board.joules(t, t + 1.0), abs=error + EDGE_J)
        assert error <= LIMIT_W
        assert coverage == 1.0
    assert board.is_right(11.0, 29.0)


def test_joules_and_coverage_of_a_stopped_process_agree() -> None:
    board = Board(steady(120.0), counts=False)
    board.run(BEGIN_S, END_S, ((14.0, 20.0),), stalls=True)
    joules, _, coverage, *_ = board.energy(12.0, 24.0)
    assert coverage == pytest.approx(1 - 6.02 / 12.0, abs=0.002)
    assert joules == pytest.approx(120.0 * 12.0 * coverage, rel=0.005)


@settings(max_examples=25)
@given(st.integers(0, 1000), st.sampled_from([0.7, 1.3, 2.0, 4.4]), st.floats(0.05, 0.95))
def test_a_counter_that_began_again_while_it_could_not_be_read_lacks_that_time(
    seed: int, length: float, when: float
) -> None:
    outage = (16.0, 16.0 + length)
    board = Board(restless(seed), counts=True, restart_s=16.0 + when * length)
    board.run(BEGIN_S, END_S, (outage,))
    _, error, coverage, _, unknown_max = board.energy(12.0, 28.0)
    assert coverage <= 1 - length / 16.0 + 0.001
    assert unknown_max >= LIMIT_W * length
    assert error <= LIMIT_W * 16.0
    assert board.is_right(12.0, 28.0)
    for t in range(12, 28):
        assert board.is_right(t, t + 1.0)
        joules, error, *_ = board.energy(t, t + 1.0)
        assert math.isnan(joules) or error <= LIMIT_W


def test_the_bars_around_an_outage_hold_in_19_of_20_windows() -> None:
    """Also in the window that ends in the outage, whose last tick may hide a step of the load."""
    right: list[bool] = []
    for seed in range(80):
        board = Board(restless(seed), counts=True, restart_s=16.5)
        board.run(BEGIN_S, END_S, ((16.0, 17.0),))
        right += [board.is_right(t, t + 1.0, bars=1.0) for t in (15, 16, 17)]
    assert sum(right) >= 0.95 * len(right)


@settings(max_examples=25)
@given(st.integers(0, 1000), st.sampled_from([0.7, 1.3, 2.0]), st.booleans(), st.floats(0, 1))
def test_a_window_that_ends_in_an_outage_of_a_counter_is_as_unsure_as_it_is(
    seed: int, length: float, has_power: bool, when: float
) -> None:
    """In the end the counter has lost nothing; but how it was spread over the outage is open."""
    board = Board(restless(seed), counts=True, has_power=has_power)
    board.run(BEGIN_S, END_S, ((16.0, 16.0 + length),))
    middle = 16.0 + when * length
    assert board.is_right(14.0, middle)
    assert board.is_right(middle, 20.0)
    joules, error, coverage, *_ = board.energy(12.0, 28.0)
    assert coverage == 1.0
    assert joules == pytest.approx(board.joules(12.0, 28.0), abs=error + EDGE_J)
    assert error <= 100.0


@settings(max_examples=25)
@given(st.integers(0, 1000), st.floats(16.0, 24.0), st.booleans())
def test_final_energy_of_a_lost_counter_stays(seed: int, asked_s: float, has_power: bool) -> None:
    """Its energy is final; what it counted later is not put into that time."""
    board = Board(restless(seed), counts=True, has_power=has_power)
    board.run(BEGIN_S, 25.0, ((16.0, 25.0),))
    asked_ns = round(asked_s * NS)
    assert board.device.is_final(asked_ns)
    told = board.energy(12.0, asked_s)
    assert told[2] < 1.0
    board.run(25.0, 40.0)
    assert board.energy(12.0, asked_s)[0] == pytest.approx(told[0], abs=1e-6)
    assert board.energy(12.0, asked_s)[2] == pytest.approx(told[2], abs=1e-9)
    whole, rest = board.energy(12.0, 38.0), board.energy(asked_s, 38.0)
    assert whole[0] == pytest.approx(told[0] + rest[0], abs=1e-6)
    assert whole[4] == pytest.approx(told[4] + rest[4], abs=1e-3)
    assert board.is_right(12.0, 38.0)
    assert board.is_right(asked_s, 38.0)


SENSORS: dict[str, Any] = {
    "counter": {"counts": True, "has_power": False},
    "counter and power": {"counts": True},
    "mean": {"counts": False},
    "mean over more": {"counts": False, "window_ms": 1000},
    "part": {"counts": False, "window_ms": 25},
    "low pass": {"counts": False, "window_ms": 200, "low_pass": True},
}


@settings(max_examples=60)
@given(
    seed=st.integers(0, 1000),
    sensor=st.sampled_from(sorted(SENSORS)),
    known_s=st.floats(0.02, 3.0),
    outages=st.integers(1, 3),
    stalls=st.booleans(),
)
def test_reported_energy_of_a_lost_sensor_stays(
    seed: int, sensor: str, known_s: float, outages: int, stalls: bool
) -> None:
    """Lost within its first readings or later, again and again, and thinned in the end."""
    random = Random(seed)
    board = Board(restless(seed), **SENSORS[sensor])
    told: list[tuple[float, tuple[float, float, bool]]] = []
    now_s = BEGIN_S
    for _ in range(outages):
        lost_s = now_s + known_s
        back_s = lost_s + random.uniform(6.0, 9.0)
        board.run(now_s, back_s, ((lost_s, back_s),), stalls=stalls)
        for moment_s in sorted(random.uniform(now_s, back_s - 1.1) for _ in range(4)):
            ns = round(moment_s * NS)
            if board.device.is_final(ns):
                told.append((moment_s, board.device.estimate(ns)))
        now_s = back_s
    assert told
    board.run(now_s, now_s + 8.0)
    for thinned in (False, True):
        if thinned:  # every second, which no outage is shorter than
            board.run(now_s + 8.0, now_s + 16.0)
            board.device.thin(round((now_s + 8.0) * NS), NS)
        for moment_s, (joules, *_) in told:
            later, _, final = board.device.estimate(round(moment_s * NS))
            assert final
            # Within a bucket of one second a thinned past is a straight line.
            assert later == pytest.approx(joules, abs=LIMIT_W if thinned else 1e-5)
    levels = [
        board.device.estimate(round(t / 10 * NS))[0] for t in range(90, 10 * round(now_s) + 70)
    ]
    assert levels == sorted(levels)


def test_a_sensor_lost_within_its_first_readings_has_reported_them() -> None:
    board = Board(steady(300.0), counts=False)
    board.run(BEGIN_S, 20.0, ((BEGIN_S + 0.15, 99.0),))
    assert board.device.is_final(round(10.14 * NS))
    joules, error, coverage, *_ = board.energy(10.001, 10.141)
    assert coverage == 1.0
    assert abs(joules - 42.0) <= error <= 25.0


@pytest.mark.parametrize("counts", [False, True])
def test_thinning_spreads_nothing_over_an_outage(counts: bool) -> None:
    """What was reported of the outage and of the time after it stays, however little is kept."""
    board = Board(steady(100.0), counts=counts, has_power=not counts)
    board.run(BEGIN_S, 40.0, ((20.0, 40.0),))
    assert board.device.is_final(35 * NS)
    board.run(40.0, 400.0)
    windows = ((12.0, 19.0), (12.0, 35.0), (22.0, 35.0), (42.0, 50.0), (12.0, 300.0))
    before = [board.energy(*window) for window in windows]
    size = board.device.size(0)
    board.device.thin(350 * NS, NS)
    assert board.device.size(0) < size / 2
    for window, told in zip(windows, before, strict=True):
        joules, _, coverage, *_ = board.energy(*window)
        assert joules == pytest.approx(told[0], abs=1.0, nan_ok=True)
        assert coverage == pytest.approx(told[2], abs=1e-6)


@settings(max_examples=20)
@given(st.sampled_from(sorted(SENSORS)), st.floats(20.0, 21.0), st.sampled_from([1, 4]))
def test_thinning_turns_no_known_energy_into_a_step(
    sensor: str, lost_s: float, spacing_s: int
) -> None:
    """Wherever in a bucket the loss was: between what stays, the line is straight."""
    board = Board(steady(300.0), **SENSORS[sensor])
    board.run(BEGIN_S, 40.0, ((lost_s, 40.0),))
    assert board.device.is_final(35 * NS)
    board.run(40.0, 200.0)
    before = {t / 4: board.device.estimate(t * NS // 4)[0] for t in range(48, 4 * 160)}
    board.device.thin(180 * NS, spacing_s * NS)
    for t, joules in before.items():
        if abs(t - lost_s) > spacing_s and abs(t - 40.0) > spacing_s:
            assert board.device.estimate(round(t * NS))[0] == pytest.approx(joules, abs=35.0)


@pytest.mark.parametrize("back_s", [18.0, 18.5, 19.89])
def test_buffered_readings_change_no_reported_energy(back_s: float) -> None:
    board = Board(steady(300.0), counts=False)
    board.run(BEGIN_S, 20.0, ((12.0, 99.0),))
    assert board.device.is_final(round(19.9 * NS))
    moments = (11.9, 13.0, 15.0, 18.0, 19.0, 19.5, 19.9)
    told = {t: board.device.estimate(round(t * NS)) for t in moments}
    assert all(final for _, _, final in told.values())
    lane = board.lanes["power"]
    for k in range(round((20.5 - back_s) / READ_S)):
        t_ns = round((back_s + k * READ_S) * NS)
        lane.take(t_ns, 300_000 + k // 5 % 2 * 50_000, t_ns)
    board.device.silence(0, False)
    board.device.collect(round(20.49 * NS))
    for t, (joules, _, _) in told.items():
        later, _, final = board.device.estimate(round(t * NS))
        assert final
        assert later == pytest.approx(joules, abs=1e-5)
    levels = [board.device.estimate(round(t / 100 * NS))[0] for t in range(1100, 2050)]
    assert levels == sorted(levels)
    assert board.energy(20.0, 20.4)[0] == pytest.approx(130.0, abs=10.0)


def test_a_counter_lost_after_its_first_reading_has_reported_nothing() -> None:
    board = Board(steady(300.0), counts=True, has_power=False)
    board.run(BEGIN_S, 15.0, ((BEGIN_S + 0.015, 99.0),))
    assert board.device.is_final(14 * NS)
    for window in ((BEGIN_S - 0.09, BEGIN_S), (BEGIN_S - 0.09, 14.0)):
        assert board.energy(*window)[2] == 0.0
    board.run(15.0, 20.0)
    assert board.energy(BEGIN_S - 0.09, 14.0)[2] == 0.0
    assert board.energy(16.0, 19.0)[0] == pytest.approx(900.0, rel=0.001)


def test_many_outages_leave_known_stretches_known() -> None:
    """Their joined list says how much is missing of each part of the past, and not all of it."""
    board = Board(steady(200.0), counts=False)
    last = 640
    board.run(6.0, 6.0 * last, tuple((6.0 * n + 2.0, 6.0 * n + 6.0) for n in range(1, last)))
    joules, _, coverage, _, unknown_joules_max = board.energy(12.0, 6.0 * last)
    length_s = 6.0 * last - 12.0
    assert coverage == pytest.approx(1 / 3, abs=0.01)
    assert joules == pytest.approx(200.0 * length_s * coverage, rel=0.01)
    assert unknown_joules_max == pytest.approx(LIMIT_W * length_s * (1 - coverage), rel=0.01)
    for n in range(2, last, 7):
        assert board.energy(6.0 * n + 0.1, 6.0 * n + 1.9)[2] >= 0.3


def test_a_lost_counter_without_earlier_queries_lacks_nothing() -> None:
    board = Board(steady(150.0), counts=True)
    board.run(BEGIN_S, END_S, ((14.0, 22.0),))
    joules, _, coverage, *_ = board.energy(12.0, 28.0)
    assert joules == pytest.approx(2400.0, rel=0.001)
    assert coverage == 1.0


@pytest.mark.parametrize("counts", [False, True])
def test_energy_of_a_silent_sensor_is_final(counts: bool) -> None:
    """From the start, or later for good: no call waits for it, and it is not covered."""
    never = Board(steady(100.0), counts=counts, has_power=not counts)
    never.run(BEGIN_S, 16.0, ((0.0, 99.0),), stalls=True)
    assert never.device.is_final(15 * NS)
    assert never.energy(12.0, 15.0)[2] == 0.0
    lost = Board(steady(100.0), counts=counts, has_power=not counts)
    lost.run(BEGIN_S, 14.0)
    assert not lost.device.is_final(round(13.99 * NS))
    lost.run(14.0, 20.0, ((14.0, 20.0),))
    assert lost.device.is_final(19 * NS)
    joules, _, coverage, *_ = lost.energy(12.0, 18.0)
    assert joules == pytest.approx(100.0 * 6.0 * coverage, rel=0.02)
    assert 0.3 <= coverage < 0.34


def test_energy_reported_as_missing_stays_missing_when_the_sensor_joins_late() -> None:
    board = Board(steady(100.0), counts=True, has_power=False)
    board.run(BEGIN_S, 20.0, ((0.0, 20.0),), stalls=True)
    assert board.device.is_final(round(19.85 * NS))
    board.run(20.0, END_S)
    joules, _, coverage, *_ = board.energy(15.0, 19.85)
    assert math.isnan(joules)
    assert coverage == 0.0
    assert board.energy(21.0, 25.0)[0] == pytest.approx(400.0, rel=0.001)


@pytest.mark.parametrize("seed", range(4))
def test_a_counter_that_is_stuck_under_a_restless_load_is_replaced(seed: int) -> None:
    """Power that is read now and then may have missed any burst, but it was never nothing."""
    board = Board(restless(seed), counts=True, stuck_s=15.0)
    random, seldom = Random(seed), [(BEGIN_S + 1.0, BEGIN_S + 1.3)]
    while seldom[-1][1] < 19.0:
        begin = seldom[-1][1] + READ_S
        seldom.append((begin, begin + random.uniform(0.2, 0.6)))
    board.run(BEGIN_S, 19.0, tuple(seldom), stalls=True)
    (why,) = board.device.failovers
    assert "stuck" in why
    assert board.is_right(16.0, 18.5)


@pytest.mark.parametrize("watts", [1.0, 400.0])
def test_a_counter_that_moves_is_not_taken_for_stuck(watts: float) -> None:
    board = Board(steady(watts), counts=True)
    board.run(BEGIN_S, END_S)
    assert board.device.failovers == []
