"""When to start: against brute force, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbontracker.planning.start_time import IntensityCurve, Start, best_start, ranks, saved_share

HOURLY = IntensityCurve([(0, 1, 300), (1, 2, 100), (2, 3, 200), (3, 4, 400)])


@pytest.mark.parametrize(
    ("start", "duration", "mean"),
    [
        (0, 1, 300),
        (0, 4, 250),
        (0.5, 1, 200),
        (0.5, 2, (150 + 100 + 100) / 2),
        (1.25, 1.5, (75 + 150) / 1.5),
        (3.5, 0.25, 400),
    ],
)
def test_means_by_hand(start: float, duration: float, mean: float) -> None:
    assert HOURLY.mean(start, duration) == pytest.approx(mean, abs=1e-9)


@pytest.mark.parametrize(("start", "duration"), [(-0.5, 1), (3.5, 1), (5, 1), (0, 5)])
def test_time_outside_the_forecast_has_no_mean(start: float, duration: float) -> None:
    assert math.isnan(HOURLY.mean(start, duration))


@pytest.mark.parametrize(
    ("duration", "latest", "best"),
    [
        (1, 3, Start(1, 100)),
        (2, 2, Start(1, 150)),
        (4, 0, Start(0, 250)),
        (1.5, 2.5, Start(1, (100 + 100) / 1.5)),  # ends inside the third hour
        (3, 1, Start(0, 200)),
        (1, 0.25, Start(0.25, (225 + 25) / 1)),  # the best hour is out of reach
    ],
)
def test_best_starts_by_hand(duration: float, latest: float, best: Start) -> None:
    found = best_start(HOURLY, 0, latest, duration)
    assert found is not None
    assert found.t_s == best.t_s
    assert found.gco2eq_per_kwh == pytest.approx(best.gco2eq_per_kwh, abs=1e-9)


def test_a_run_that_ends_with_a_low_hour_begins_inside_a_high_one() -> None:
    steep = IntensityCurve([(0, 10, 500), (10, 11, 400), (11, 12, 10), (12, 22, 450)])
    found = best_start(steep, 0, 20, 1.5)
    assert found is not None
    assert found.t_s == 10.5
    assert found.gco2eq_per_kwh == pytest.approx((200 + 10) / 1.5)


def test_of_equally_good_starts_the_earliest() -> None:
    flat = IntensityCurve([(i, i + 1, 100 if i % 2 else 100.0000000001) for i in range(8)])
    found = best_start(flat, 0.5, 5, 2)
    assert found is not None
    assert found.t_s == 0.5


def test_no_window_across_a_gap_or_an_unknown_figure() -> None:
    gap = IntensityCurve([(0, 2, 300), (3, 5, 10), (5, 6, math.nan), (6, 9, 200)])
    assert best_start(gap, 0, 9, 2) == Start(3, 10)
    assert best_start(gap, 0, 9, 3) == Start(6, 200)
    assert best_start(gap, 0, 9, 3.5) is None
    assert best_start(IntensityCurve([]), 0, 9, 1) is None


def test_slots_in_any_order_each_ending_where_the_next_begins() -> None:
    mixed = IntensityCurve([(2, 9, 50), (0, 9, 100), (3, 3, 1), (4, 6, 10)])
    assert mixed.mean(0, 2) == 100
    assert mixed.mean(2, 2) == 50
    assert mixed.mean(3, 2) == pytest.approx(30)
    assert math.isnan(mixed.mean(6, 1))


@pytest.mark.parametrize("duration", [0, -1, math.nan, math.inf])
def test_an_impossible_duration_is_refused(duration: float) -> None:
    with pytest.raises(ValueError, match="duration must be positive"):
        best_start(HOURLY, 0, 1, duration)


@settings(max_examples=60)
@given(
    figures=st.lists(st.one_of(st.integers(0, 900), st.just(math.nan)), min_size=1, max_size=12),
    duration=st.integers(1, 60),
    latest=st.integers(0, 100),
)
def test_no_start_on_a_fine_grid_is_better(
    figures: list[float], duration: int, latest: int
) -> None:
    # Slots of 10, everything else whole: an integral by units is exact, and tries every start.
    forecast = IntensityCurve([(10 * i, 10 * i + 10, figure) for i, figure in enumerate(figures)])
    units = np.repeat(np.array(figures, dtype=float), 10)
    means = [
        float(np.mean(units[start : start + duration]))
        for start in range(latest + 1)
        if start + duration <= len(units)
    ]
    known = [mean for mean in means if not math.isnan(mean)]
    found = best_start(forecast, 0, latest, duration)
    if found is None:
        assert known == []
    else:
        assert found.gco2eq_per_kwh == pytest.approx(min(known), abs=1e-6)
        assert found.gco2eq_per_kwh == pytest.approx(forecast.mean(found.t_s, duration))


def test_a_week_from_now_is_as_exact_as_today() -> None:
    later = IntensityCurve([(6e5 + 300 * i, 6e5 + 300 * i + 300, 100 + i) for i in range(576)])
    assert later.mean(6e5 + 300, 600) == pytest.approx(101.5, abs=1e-6)


def test_shares() -> None:
    assert saved_share(200, 50) == 0.75
    assert saved_share(50, 200) == -3
    assert math.isnan(saved_share(0, 50))


def test_ranks_by_the_product_and_keeps_equals_in_order() -> None:
    assert ranks([100, 50, math.nan, 10, 50], [1, 2, 1, 1.5, 2]) == [3, 0, 1, 4, 2]
