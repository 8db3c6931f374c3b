"""Joules times intensity, with figures worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from carbontracker.carbon.equivalents import equivalent
from carbontracker.carbon.footprint import Footprint, footprint
from carbontracker.constants import PUE_2023
from carbontracker.intensity.base import Intensity
from carbontracker.intensity.providers.constant import Constant
from carbontracker.intensity.providers.table import Table
from carbontracker.location.location import Location

NOON = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
KWH = 3.6e6


def slot(grams: float, hour: int = 0, kind: str = "measured") -> Intensity:
    start = NOON + timedelta(hours=hour)
    end = start + timedelta(hours=1)
    return Intensity(
        grams, "DK", "Denmark", None, "lifecycle", kind, source="S", start=start, end=end
    )


def test_one_kilowatt_hour_in_denmark() -> None:
    (denmark,) = Table().between("DK", NOON, NOON)
    location = Location("DK", "Denmark", "argument")
    result = footprint([(KWH, denmark)], PUE_2023, location=location, error_joules=0.02 * KWH)
    assert result.kwh == pytest.approx(1.58, rel=1e-15)
    assert result.gco2eq == pytest.approx(1.58 * 114.41, rel=1e-15)
    assert result.error_kwh == pytest.approx(0.0316, rel=1e-15)
    assert result.intensity is denmark
    assert (result.pue, result.location) == (1.58, location)


def test_training_gpt3_as_published_with_carbontracker() -> None:
    (given,) = Constant(449.06).between("US", NOON, NOON)
    result = footprint([(188_701.92 * KWH, given)], 1.0)
    assert result.kwh == pytest.approx(188_701.92, rel=1e-12)
    assert round(result.gco2eq) == 84_738_484
    homes = equivalent("dk_home_year_carbontracker", result.gco2eq, result.kwh)
    assert round(homes.value) == 126
    assert homes.unit == "home-year"
    kilometres = equivalent("car_km_eu_new_2018", 84_738_480, result.kwh)
    assert round(kilometres.value) == 703_808


def test_each_slot_has_its_own_figure() -> None:
    result = footprint([(3 * KWH, slot(100)), (KWH, slot(300, 1, "forecast"))], 1.5)
    assert result.kwh == pytest.approx(6)
    assert result.gco2eq == pytest.approx(1.5 * (3 * 100 + 300))
    mean = result.intensity
    assert mean.gco2eq_per_kwh == pytest.approx(150)
    assert mean.gco2eq_per_kwh * result.kwh == pytest.approx(result.gco2eq)
    assert (mean.zone, mean.name, mean.scope, mean.source) == ("DK", "Denmark", "lifecycle", "S")
    assert mean.kind == "forecast"
    assert (mean.start, mean.end) == (NOON, NOON + timedelta(hours=2))
    assert mean.note == "mean of 2 figures, weighted by energy"


def test_two_grids_are_both_named() -> None:
    parts = [(KWH, Table().between(zone, NOON, NOON)[0]) for zone in ("DK", "WORLD", "DK")]
    mean = footprint(parts, 1).intensity
    assert mean.gco2eq_per_kwh == pytest.approx((2 * 114.41 + 458.29) / 3)
    assert (mean.zone, mean.name) == ("DK; WORLD", "Denmark; World")
    assert (mean.year, mean.start, mean.end) == (2025, None, None)
    assert mean.note.endswith("world average, not a local figure")
    older = replace(parts[0][1], year=2024)
    assert footprint([(KWH, older), parts[0]], 1).intensity.year is None


@pytest.mark.parametrize(
    "other", [replace(slot(100, 1), scope="direct"), replace(slot(100, 1), signal="marginal")]
)
def test_scopes_and_signals_do_not_mix(other: Intensity) -> None:
    with pytest.raises(ValueError, match="different scope or signal"):
        footprint([(KWH, slot(100)), (KWH, other)], 1.2)


def test_missing_is_not_zero() -> None:
    result = footprint([(KWH, slot(100)), (math.nan, slot(300, 1))], 1.2)
    assert math.isnan(result.kwh)
    assert math.isnan(result.gco2eq)
    assert math.isnan(result.error_kwh)
    assert all(math.isnan(same.value) for same in result.equivalents)
    assert result.intensity.gco2eq_per_kwh == pytest.approx(200)


def test_zero_is_zero() -> None:
    result = footprint([(0.0, slot(100))], 1.2, error_joules=0.0)
    assert (result.kwh, result.gco2eq, result.error_kwh) == (0, 0, 0)
    assert [same.value for same in result.equivalents] == [0, 0, 0]


@pytest.mark.parametrize("pue", [0.99, 0, -1.58, math.nan, math.inf])
def test_an_impossible_pue_is_refused(pue: float) -> None:
    with pytest.raises(ValueError, match="pue must be a finite ratio of at least 1"):
        footprint([(KWH, slot(100))], pue)


@pytest.mark.parametrize("joules", [-1.0, math.inf, -math.inf])
def test_impossible_energy_is_refused(joules: float) -> None:
    with pytest.raises(ValueError, match="finite and not negative"):
        footprint([(joules, slot(100))], 1.2)
    with pytest.raises(ValueError, match="at least one part"):
        footprint([], 1.2)


def test_everyday_equivalents() -> None:
    result = Footprint(kwh=2_000, gco2eq=1_068, intensity=slot(100), pue=1.0)
    car, phone, home = result.equivalents
    assert car.value == pytest.approx(10)  # 106.8 g/km
    assert (car.name, car.unit, car.year) == ("km travelled by car", "km", 2024)
    assert car.source.startswith("EEA CO2 performance of new passenger cars")
    assert phone.value == pytest.approx(1_068 / 12.4)
    assert (phone.unit, phone.year) == ("charge", 2026)
    assert home.value == pytest.approx(0.5)  # 4000 kWh a year
    assert (home.unit, home.year) == ("home-year", 2024)


def test_an_unknown_equivalent_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="bananas"):
        equivalent("bananas", 1, 1)
