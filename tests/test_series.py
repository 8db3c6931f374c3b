"""Which figure holds when, footprints by slots, recalculated records: all worked out by hand."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontracker.carbon.equivalents import equivalent
from carbontracker.carbon.factors import CarbonFactors
from carbontracker.carbon.footprint import Slot, footprint_of_slots, shares_by_kind
from carbontracker.exceptions import IntensityUnavailable, UnknownLocation
from carbontracker.intensity.base import Intensity
from carbontracker.intensity.cache import Cache
from carbontracker.intensity.live_provider import LiveProvider
from carbontracker.intensity.providers import provider
from carbontracker.intensity.series import Series, merged
from carbontracker.json_values import jsonable
from carbontracker.location.location import Location
from carbontracker.records.recalculation import recalculate

DAY0 = datetime(2026, 11, 23, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
ANNUAL = provider("table").now("DK")
KWH = 3.6e6


def at(hour: float) -> datetime:
    return DAY0 + hour * HOUR


def slot(
    hour: float, grams: float, kind: str = "measured", hours: float = 1, **more: Any
) -> Intensity:
    return Intensity(
        grams,
        "DK",
        "DK",
        None,
        "lifecycle",
        kind,
        start=at(hour),
        end=at(hour + hours),
        provider="test",
        **more,
    )


def covered(series: Series, start: float, end: float, now: float) -> list[tuple[Any, ...]]:
    """Return (from hour, to hour, grams, kind) of what covers the time, clipped to it."""
    found = []
    for one in series.cover(at(start), at(end), at(now)):
        begin, finish = max(at(start), one.start or at(start)), min(at(end), one.end or at(end))
        hours = ((begin - DAY0) / HOUR, (finish - DAY0) / HOUR)
        found.append((*hours, one.gco2eq_per_kwh, one.kind))
    assert found[0][0] == start
    assert found[-1][1] == max(end, start)
    assert all(a[1] == b[0] for a, b in pairwise(found))
    return found


PAST = (slot(8, 100), slot(9, 200), slot(11, 400))


def test_slots_and_a_gap_that_is_held() -> None:
    series = Series(PAST, fallback=ANNUAL)
    assert covered(series, 8.5, 11.5, 12) == [
        (8.5, 9, 100, "measured"),
        (9, 10, 200, "measured"),
        (10, 11, 200, "estimated"),
        (11, 11.5, 400, "measured"),
    ]
    held = series.cover(at(10.2), at(10.4), at(12))[0]
    assert held.note == "held from 2026-11-23 09:00 UTC"


def test_a_forecast_goes_before_a_stale_figure_and_after_a_fresh_one() -> None:
    ahead = tuple(slot(hour, 1000 + hour, "forecast") for hour in range(8, 20))
    series = Series(PAST, ahead, ANNUAL, fresh=HOUR / 2, last_resort=3 * HOUR)
    assert covered(series, 10, 14, 13.5) == [
        (10, 10.5, 200, "estimated"),
        (10.5, 11, 1010, "forecast"),
        (11, 12, 400, "measured"),
        (12, 12.5, 400, "estimated"),
        (12.5, 13, 1012, "forecast"),
        (13, 14, 1013, "forecast"),
    ]


def test_an_old_figure_holds_to_its_limit_and_then_the_table_answers() -> None:
    series = Series(PAST[:1], (), ANNUAL, "down", HOUR, 5 * HOUR)
    assert covered(series, 8, 16, 16) == [
        (8, 9, 100, "measured"),
        (9, 10, 100, "estimated"),
        (10, 14, 100, "estimated"),
        (14, 16, 114.41, "annual"),
    ]
    assert series.cover(at(14), at(16), at(16))[0].note == "down: annual figure of the table"


def test_before_the_first_slot() -> None:
    series = Series(PAST[:1], (), ANNUAL, fresh=2 * HOUR)
    assert covered(series, 5, 8.5, 9) == [
        (5, 6, 114.41, "annual"),
        (6, 8, 100, "estimated"),
        (8, 8.5, 100, "measured"),
    ]


def test_nothing_but_the_table_is_one_open_slot_as_without_a_provider() -> None:
    (only,) = Series(fallback=ANNUAL, reason="down").cover(at(1), at(9), at(9))
    assert (only.start, only.end, only.kind) == (None, None, "annual")
    with pytest.raises(IntensityUnavailable, match="down"):
        Series(reason="down").cover(at(1), at(9), at(9))


def test_without_a_figure_in_the_table_the_nearest_slot_stands_in() -> None:
    series = Series(PAST, fresh=timedelta(0), last_resort=timedelta(0))
    assert covered(series, 10, 20, 20) == [
        (10, 11, 200, "estimated"),
        (11, 12, 400, "measured"),
        (12, 20, 400, "estimated"),
    ]
    assert "no lifecycle figure in the table" in series.cover(at(13), at(14), at(20))[0].note


def test_beyond_the_horizon_the_same_hours_come_again_and_are_marked() -> None:
    ahead = tuple(slot(hour, 100 + hour, "forecast") for hour in range(10, 40))
    series = Series((slot(9, 99),), ahead, ANNUAL)
    # The last day of the forecast is from hour 16 to hour 40.
    assert covered(series, 38.5, 41.5, 9.5) == [
        (38.5, 39, 138, "forecast"),
        (39, 40, 139, "forecast"),
        (40, 41, 116, "extrapolated"),
        (41, 41.5, 117, "extrapolated"),
    ]
    far = covered(series, 16 + 24 * 7, 18 + 24 * 7, 9.5)
    assert [grams for _, _, grams, _ in far] == [116, 117]
    assert {kind for *_, kind in far} == {"extrapolated"}


def test_after_a_week_of_that_its_mean_is_enough() -> None:
    ahead = tuple(slot(hour, 100 + hour, "forecast") for hour in range(10, 40))
    year = Series((slot(9, 99),), ahead, ANNUAL).cover(at(9), at(24 * 365), at(9.5))
    assert len(year) == 1 + 30 + 7 * 24 + 1
    assert year[-1].gco2eq_per_kwh == pytest.approx(100 + sum(range(16, 40)) / 24)
    assert year[-1].end == at(24 * 365)
    assert all(a.end == b.start for a, b in pairwise(year))


def test_a_short_forecast_is_completed_by_the_past_and_the_newest() -> None:
    ahead = tuple(slot(hour, 100 + hour, "forecast") for hour in range(12, 15))
    series = Series(PAST, ahead, ANNUAL)
    # Hours 8, 9, 11 to 14 are known; from hour 15 on they come a day later, the rest is the newest.
    assert covered(series, 14, 36, 12.5) == [
        (14, 15, 114, "forecast"),
        (15, 32, 400, "extrapolated"),
        (32, 33, 100, "extrapolated"),
        (33, 34, 200, "extrapolated"),
        (34, 35, 400, "extrapolated"),
        (35, 36, 400, "extrapolated"),
    ]


def test_without_a_forecast_the_newest_figure_is_taken_for_the_future() -> None:
    series = Series(PAST, (), ANNUAL)
    assert covered(series, 11.5, 300, 12.5) == [
        (11.5, 12, 400, "measured"),
        (12, 12.5, 400, "estimated"),
        (12.5, 300, 400, "extrapolated"),
    ]
    assert covered(series, 100, 110, 90) == [(100, 110, 114.41, "annual")]


def test_a_moment_has_one_figure() -> None:
    series = Series(PAST, (), ANNUAL)
    assert [s.gco2eq_per_kwh for s in series.cover(at(9), at(9), at(12))] == [200]


def test_revised_values_replace_and_forecasts_never_what_was_measured() -> None:
    old = (slot(8, 100, "estimated"), slot(9, 200))
    new = (slot(8, 110), slot(9, 999, "forecast"), slot(10, 300, "forecast"))
    assert [(s.gco2eq_per_kwh, s.kind) for s in merged(old, new)] == [
        (110, "measured"),
        (200, "measured"),
        (300, "forecast"),
    ]
    long, short = slot(8, 1, hours=3), slot(9, 2)
    assert [(s.start, s.end) for s in merged((short,), (long,))] == [
        (at(8), at(9)),
        (at(9), at(10)),
    ]


@given(
    st.lists(st.tuples(st.integers(0, 48), st.integers(1, 4)), max_size=12),
    st.lists(st.integers(0, 80), max_size=6),
    st.floats(0, 60),
    st.floats(0, 60),
    st.floats(0, 60),
)
def test_every_moment_has_exactly_one_figure_for_any_input(
    past: list[tuple[int, int]], ahead: list[int], start: float, length: float, now: float
) -> None:
    series = Series(
        merged((), [slot(hour, 100, hours=hours) for hour, hours in past]),
        merged((), [slot(hour, 200, "forecast") for hour in ahead]),
        ANNUAL,
        fresh=2 * HOUR,
        last_resort=9 * HOUR,
    )
    found = series.cover(at(start), at(start + length), at(now))
    for a, b in pairwise(found):
        assert a.end == b.start
    assert found[0].start is None or found[0].start <= at(start)
    assert found[-1].end is None or found[-1].end >= at(start + length)


# ---- footprints ------------------------------------------------------------------------------


class Fixed:
    """A provider of the user's own: what it is given, and nothing else."""

    name = "fixed"
    scope = "lifecycle"

    def __init__(self, slots: tuple[Intensity, ...], ahead: tuple[Intensity, ...] = ()) -> None:
        self.slots, self.ahead = slots, ahead

    def between(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        return list(self.slots)

    def forecast(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        if not self.ahead:
            raise IntensityUnavailable("fixed foresees nothing")
        return list(self.ahead)


def factors_of(
    now: float, *slots: Intensity, limits_s: float | None = None, **more: Any
) -> CarbonFactors:
    own = Fixed(slots, **more)
    if limits_s is not None:
        own.fresh_s = own.last_resort_s = limits_s  # type: ignore[attr-defined]
    live = LiveProvider(own, "DK", ANNUAL, cache=Cache(None), clock=lambda: at(now))  # type: ignore[arg-type]
    live.refresh()
    return CarbonFactors(Location("DK", "Denmark", "argument"), live, 1.5, "given")


def kilowatt(start: datetime, end: datetime) -> float:
    return 1000.0 * (end - start).total_seconds()


def test_three_hourly_slots_and_a_gap_by_hand() -> None:
    # 8.5 to 11.5 h at 1 kW and a PUE of 1.5; the hour from 10 has no figure of its own.
    held = factors_of(12, *PAST).footprint(kilowatt, at(8.5), at(11.5), 3600.0)
    assert held.kwh == pytest.approx(4.5, abs=1e-12)
    assert held.gco2eq == pytest.approx(1.5 * (50 + 200 + 200 + 200), abs=1e-9)
    assert held.intensity.gco2eq_per_kwh == pytest.approx(650 / 3, abs=1e-9)
    assert held.mean_gco2eq_per_kwh == pytest.approx(650 / 3, abs=1e-9)
    assert held.shares == pytest.approx({"measured": 2 / 3, "estimated": 1 / 3})

    table = factors_of(12, *PAST, limits_s=0).footprint(kilowatt, at(8.5), at(11.5))
    assert table.gco2eq == pytest.approx(1.5 * (50 + 200 + 114.41 + 200), abs=1e-9)
    assert table.shares == pytest.approx({"measured": 2 / 3, "annual": 1 / 3})
    gap = table.slots[2]
    assert (gap.start, gap.end) == (at(10), at(11))
    assert gap.joules == pytest.approx(KWH)
    assert gap.intensity.note == "no figure for that time: annual figure of the table"


def test_the_mean_over_energy_is_not_that_over_time() -> None:
    def burst(start: datetime, end: datetime) -> float:
        """Nine kilowatts in the hour from 9, one in the rest."""
        busy = max(timedelta(0), min(end, at(10)) - max(start, at(9)))
        return kilowatt(start, end) + 8000 * busy.total_seconds()

    result = factors_of(12, slot(8, 100), slot(9, 300)).footprint(burst, at(8), at(10))
    assert result.mean_gco2eq_per_kwh == pytest.approx(200)
    assert result.intensity.gco2eq_per_kwh == pytest.approx((100 + 9 * 300) / 10)


def test_a_prediction_meets_the_forecast_hour_by_hour() -> None:
    ahead = tuple(slot(hour, 10 * hour, "forecast") for hour in range(10, 14))
    factors = factors_of(10, slot(9, 90), ahead=ahead)
    result = factors.footprint(kilowatt, at(9), at(12))
    assert result.gco2eq == pytest.approx(1.5 * (90 + 100 + 110), abs=1e-9)
    assert [s.gco2eq_per_kwh for s in factors.forecast(at(11), at(13))] == [110, 120, 130]
    with pytest.raises(IntensityUnavailable, match="fixed foresees nothing"):
        factors_of(10, slot(9, 90)).forecast(at(11), at(13))


def test_shares_add_up_and_the_world_is_a_kind_of_its_own() -> None:
    world = provider("table").now("WORLD")
    found = shares_by_kind([(1.0, slot(1, 1)), (2.0, slot(2, 1, "forecast")), (1.0, world)])
    assert found == {"measured": 0.25, "forecast": 0.5, "world": 0.25}
    assert sum(shares_by_kind([(0.0, slot(1, 1)), (0.0, world)]).values()) == 1


# ---- recalculated ----------------------------------------------------------------------------


def events(*, finished: bool = True, slots: bool = True) -> list[dict[str, Any]]:
    result = factors_of(12, *PAST).footprint(kilowatt, at(8.5), at(11.5), 36_000.0)
    told = result.to_dict()
    if not slots:
        for newer in ("slots", "shares", "mean_gco2eq_per_kwh"):
            del told[newer]
    parts = [
        {"event": "run_started", "time": at(8.5).isoformat()},
        {"event": "epoch", "time": at(11.5).isoformat(), "footprint": told},
    ]
    if finished:
        parts.append({"event": "run_finished", "time": at(11.5).isoformat(), "footprint": told})
    found: list[dict[str, Any]] = jsonable(parts)
    return found


@pytest.mark.parametrize("finished", [True, False])
def test_a_record_recalculated_with_its_own_factors(finished: bool) -> None:
    same = recalculate(events(finished=finished))
    assert same.kwh == pytest.approx(4.5, abs=1e-12)
    assert same.gco2eq == pytest.approx(975, abs=1e-9)
    assert same.error_kwh == pytest.approx(0.015)
    assert same.location == Location("DK", "Denmark", "argument")
    assert same.shares == pytest.approx({"measured": 2 / 3, "estimated": 1 / 3})


def test_another_pue_figure_scope_and_place() -> None:
    assert recalculate(events(), pue=1.0).gco2eq == pytest.approx(650, abs=1e-9)
    assert recalculate(events(), intensity=449.06).gco2eq == pytest.approx(4.5 * 449.06, abs=1e-9)
    assert recalculate(events(), scope="direct").gco2eq == pytest.approx(4.5 * 64, abs=1e-9)
    moved = recalculate(events(), location="Namibia", pue=1.0)
    assert moved.gco2eq == pytest.approx(3 * 48.78, abs=1e-9)
    assert moved.location is not None
    assert moved.location.zone == "NA"
    assert moved.error_kwh == pytest.approx(0.01)


def test_the_slots_of_another_provider_cut_the_energy() -> None:
    other = Fixed((slot(8, 10, hours=2), slot(10.25, 20, hours=0.5), slot(10.75, 40, hours=9)))
    told = recalculate(events(), intensity=other, pue=1.0)  # type: ignore[arg-type]
    # 8.5 to 10 at 10, the gap to 10.25 held at 10, half an hour at 20, and 0.75 h at 40.
    assert told.gco2eq == pytest.approx(1.5 * 10 + 0.25 * 10 + 0.5 * 20 + 0.75 * 40, abs=1e-9)
    assert math.fsum(s.joules for s in told.slots) == pytest.approx(3 * KWH)


def test_a_record_from_before_there_were_slots() -> None:
    told = recalculate(events(slots=False), intensity=100.0)
    assert told.gco2eq == pytest.approx(450, abs=1e-9)
    assert (told.slots[0].start, told.slots[0].end) == (at(8.5), at(11.5))


def test_records_that_cannot_be_recalculated() -> None:
    with pytest.raises(ValueError, match="has no energy"):
        recalculate([])
    missing = events()
    for event in missing[1:]:
        event["footprint"]["kwh"] = None
    with pytest.raises(ValueError, match="has no energy"):
        recalculate(missing)
    with pytest.raises(UnknownLocation):
        recalculate(events(), location="Atlantis")
    with pytest.raises(ValueError, match="no scope"):
        recalculate(events(), scope="cradle")
    with pytest.raises(ValueError, match="pue"):
        recalculate(events(), pue=0.9)
    with pytest.raises(IntensityUnavailable):
        recalculate(events(), scope="consumption")


@pytest.mark.parametrize(
    "damage",
    [{"kind": "sometimes"}, {"gco2eq_per_kwh": None}, {"start": "noon"}, {"joules": "many"}],
)
def test_a_damaged_slot_is_not_recalculated(damage: dict[str, object]) -> None:
    damaged = events()
    for event in damaged[1:]:
        event["footprint"]["slots"][0] |= damage
    with pytest.raises(ValueError, match="damaged and cannot be recalculated"):
        recalculate(damaged)


@pytest.mark.parametrize("damage", [{"slots": 7}, {"slots": ["a"]}, {"pue": None}])
def test_a_damaged_footprint_is_not_recalculated(damage: dict[str, object]) -> None:
    damaged = events()
    for event in damaged[1:]:
        event["footprint"] |= damage
    with pytest.raises(ValueError, match="damaged and cannot be recalculated"):
        recalculate(damaged)


def test_gpt3_as_published() -> None:
    start, end = at(0), at(24)
    given_figure = provider("constant", gco2eq_per_kwh=449.06).now("US")
    result = footprint_of_slots([Slot(start, end, 188_701.92 * KWH, given_figure)], 1.0)
    assert result.kwh == pytest.approx(188_701.92, rel=1e-12)
    assert round(result.gco2eq / 1000, 2) == 84_738.48
    car = equivalent("car_km_eu_new_2018", result.gco2eq, result.kwh)
    home = equivalent("dk_home_year_carbontracker", result.gco2eq, result.kwh)
    assert (round(car.value), round(home.value)) == (703_808, 126)
