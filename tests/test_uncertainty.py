"""How far priced predictions may be off for the intensities' sake."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontracker.intensity.base import KINDS, Intensity
from carbontracker.prediction.carbon_interval import (
    ANNUAL_SIGMA,
    gram_interval,
    intensity_sigma,
    relative_sigma,
)

NOW = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)


def slot(kind: str, hours: float, grams: float = 100.0) -> Intensity:
    """Return a figure for the hour that is centred so many hours from now."""
    middle, half = NOW + timedelta(hours=hours), timedelta(minutes=30)
    return Intensity(
        grams,
        "DK1",
        "West Denmark",
        None,
        "lifecycle",
        kind,
        start=middle - half,
        end=middle + half,
    )


def test_the_users_own_figure_is_exact() -> None:
    assert intensity_sigma([(1.0, slot("constant", 50))], NOW) == 0.0


def test_an_annual_figure_is_uncertain_at_any_time() -> None:
    year = Intensity(100.0, "DK", "Denmark", 2024, "lifecycle", "annual")
    assert intensity_sigma([(5.0, year)], NOW) == ANNUAL_SIGMA


def test_what_was_measured_is_certain_then_and_not_tomorrow() -> None:
    assert intensity_sigma([(1.0, slot("measured", -1))], NOW) == 0.0
    tomorrow = intensity_sigma([(1.0, slot("measured", 24))], NOW)
    assert tomorrow == pytest.approx(0.20 * math.sqrt(math.pi / 2))


def test_the_published_errors_of_forecasts() -> None:
    normal = math.sqrt(math.pi / 2)
    for hours, mape in ((-1, 0.071), (0, 0.071), (24, 0.096), (96, 0.165), (1000, 0.20)):
        assert relative_sigma("forecast", hours) == pytest.approx(mape * normal)
    assert relative_sigma("forecast", 12) == pytest.approx((0.071 + 0.096) / 2 * normal)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="guessed"):
        relative_sigma("guessed", 0)


def test_hours_are_weighed_by_their_grams() -> None:
    parts = [(3.0, slot("constant", 1, 100.0)), (1.0, slot("forecast", 24, 300.0))]
    assert intensity_sigma(parts, NOW) == pytest.approx(relative_sigma("forecast", 24) / 2)


def test_no_grams_have_no_error() -> None:
    assert intensity_sigma([(0.0, slot("forecast", 1))], NOW) == 0.0
    assert intensity_sigma([(math.nan, slot("forecast", 1))], NOW) == 0.0


@given(st.sampled_from([kind for kind in KINDS if kind != "constant"]), st.floats(0, 500))
def test_uncertainty_never_falls_with_time(kind: str, hours: float) -> None:
    assert relative_sigma(kind, hours) <= relative_sigma(kind, hours + 1) + 1e-12


def test_grams_are_as_uncertain_as_their_energy_and_intensity() -> None:
    energy = (100 / 1.2, 120.0)
    assert gram_interval(50.0, 100.0, energy, 0.0, 0.95) == pytest.approx((50 / 1.2, 60))
    exact = gram_interval(50.0, 100.0, (100.0, 100.0), 0.1, 0.95)
    assert exact == pytest.approx((50 * math.exp(-0.196), 50 * math.exp(0.196)))
    both = gram_interval(50.0, 100.0, energy, 0.1, 0.95)
    assert both[0] < min(exact[0], 50 / 1.2)
    assert both[1] > max(exact[1], 60)


def test_grams_of_unknown_energy_are_unknown() -> None:
    low, high = gram_interval(math.nan, math.nan, (math.nan, math.nan), 0.1, 0.8)
    assert math.isnan(low)
    assert math.isnan(high)
