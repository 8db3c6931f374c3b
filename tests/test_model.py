"""The values of a run: each reads the JSON that it wrote, also where that is damaged."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbontracker.carbon.footprint import Footprint, Slot, add_footprints
from carbontracker.energy.energy import MISSING as MISSING_ENERGY
from carbontracker.energy.energy import Energy
from carbontracker.exceptions import BudgetExceeded
from carbontracker.intensity.base import (
    KINDS,
    MAX_GCO2EQ_PER_KWH,
    MISSING,
    SCOPES,
    SIGNALS,
    Intensity,
)
from carbontracker.json_values import jsonable
from carbontracker.location.location import Location
from carbontracker.model.epoch import Epoch
from carbontracker.model.prediction import Forecast, Prediction
from carbontracker.model.prediction_error import PredictionError
from carbontracker.model.result import Result
from carbontracker.model.run_ending import RunEnding, Succession
from carbontracker.model.run_metadata import MissingSensor, RunMetadata, Sensor
from carbontracker.model.window_totals import MAX_KEPT, WindowTotals

if TYPE_CHECKING:
    from collections.abc import Callable

# ---- values of every shape -----------------------------------------------------------------

DAY = datetime(2026, 3, 1, tzinfo=timezone.utc)
amounts = st.floats(0, 1e12) | st.just(math.nan)
seconds = st.floats(0, 1e6).map(lambda value: round(value, 9)) | st.just(math.nan)
shares = st.floats(0, 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
names = texts.filter(bool)
times = st.integers(0, 10**9).map(lambda s: DAY + timedelta(seconds=s))
intervals = st.tuples(amounts, amounts)
qualities = st.sampled_from(["measured", "integrated", "modelled", "incomplete", "missing"])


@st.composite
def energies(draw: st.DrawFn) -> Energy:
    length = draw(st.floats(0, 1e6))

    def figures() -> Energy:
        known = st.floats(0, 1e12)
        return Energy(
            draw(amounts),
            draw(amounts),
            draw(known),
            draw(qualities),
            draw(shares),
            draw(known),
            draw(shares),
            length,
        )

    devices = {name: figures() for name in draw(st.lists(names, max_size=2, unique=True))}
    return Energy.of(figures(), devices, {"gpu": figures()} if devices else {})


@st.composite
def intensities(draw: st.DrawFn, *, timed: bool = True) -> Intensity:
    kind = draw(st.sampled_from(KINDS))
    figure = draw(st.floats(0, MAX_GCO2EQ_PER_KWH))
    start, end = (
        sorted((draw(times), draw(times))) if timed and draw(st.booleans()) else (None,) * 2
    )
    return Intensity(
        math.nan if kind == MISSING else figure,
        draw(texts),
        draw(texts),
        draw(st.none() | st.integers(1990, 2030)),
        draw(st.sampled_from(SCOPES)),
        kind,
        draw(st.sampled_from(SIGNALS)),
        draw(texts),
        draw(texts),
        None if start == end else start,
        None if start == end else end,
        draw(texts),
        draw(texts),
        draw(st.none() | times),
    )


locations = st.builds(Location, names, texts, texts, texts, texts, texts, guess=st.booleans())
slots = st.builds(Slot, times, times, amounts, intensities(timed=False))
footprints = st.builds(
    Footprint,
    kwh=amounts,
    gco2eq=amounts,
    intensity=intensities(),
    pue=st.floats(1, 3),
    location=st.none() | locations,
    error_kwh=amounts,
    slots=st.lists(slots, max_size=2).map(tuple),
    mean_gco2eq_per_kwh=amounts,
)
epochs = st.builds(
    Epoch,
    index=st.integers(1, 1000),
    seconds=seconds,
    energy=energies(),
    footprint=footprints,
    finished=st.booleans(),
    final=st.booleans(),
    start_s=seconds,
)
predictions = st.builds(
    Prediction,
    epochs=st.integers(1, 1000) | st.floats(0.5, 1000),
    after_epochs=st.floats(0, 1000),
    seconds=seconds,
    joules=amounts,
    method=texts,
    seconds_80=intervals,
    seconds_95=intervals,
    joules_80=intervals,
    joules_95=intervals,
    done_seconds=st.floats(0, 1e6),
    done_joules=st.floats(0, 1e12),
)
forecasts = st.builds(  # the slots of a forecast are not written
    Forecast, predictions, footprints.map(lambda one: replace(one, slots=())), intervals, intervals
)
errors = st.builds(PredictionError, st.floats(0, 99), texts, intervals, intervals, intervals)
results = st.builds(
    Result,
    epochs=st.just(()),
    seconds=seconds,
    energy=energies(),
    footprint=footprints,
    between_epochs=energies(),
    tracker_cpu_seconds=seconds,
) | st.builds(
    Result,
    epochs=st.just(()),
    seconds=seconds,
    energy=energies(),
    footprint=footprints,
    exit_code=st.integers(0, 255),
)
sensors = st.builds(Sensor, *[texts] * 5, st.booleans(), *[texts] * 4)
missing_sensors = st.builds(MissingSensor, *[texts] * 5)
objects = st.dictionaries(names, texts, max_size=2)
metadata = st.builds(
    RunMetadata,
    schema=st.integers(1, 9),
    version=texts,
    pid=st.none() | st.integers(1, 10**6),
    pid_start_ticks=st.none() | st.integers(0, 10**9),
    parent_run_id=st.none() | texts,
    host=objects,
    software=objects,
    job=st.dictionaries(names, objects, max_size=2),
    sensors=st.lists(sensors, max_size=2).map(tuple),
    missing=st.lists(missing_sensors, max_size=2).map(tuple),
    clock=st.dictionaries(names, st.integers(0, 10**18), max_size=2),
    began=st.none() | times,
    planned_epochs=st.none() | st.integers(1, 1000),
    command=st.lists(texts, max_size=2).map(tuple),
    script=texts,
    zero_footprint=st.none() | footprints,
    pue_source=texts,
)
rates = st.dictionaries(names, amounts, max_size=2)
endings = st.builds(
    RunEnding,
    readings_per_second=rates,
    successions=st.lists(
        st.builds(Succession, texts, texts, st.integers(0, 10**15), texts), max_size=2
    ).map(tuple),
    unanswered=st.lists(st.builds(MissingSensor, texts, texts), max_size=2).map(tuple),
    stopped_by=st.none() | st.builds(BudgetExceeded, texts, amounts, amounts, texts),
    logger_seconds=rates,
    read_by=st.dictionaries(names, texts, max_size=2),
    placement=texts,
)
windows = st.builds(
    WindowTotals,
    name=texts,
    count=st.integers(0, 10**6),
    unknown=st.integers(0, 10**6),
    seconds=st.floats(0, 1e6),
    joules=amounts,
    error_joules=amounts,
    unknown_joules_max=st.floats(0, 1e12),
    every=st.integers(1, 1000),
    kept=st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6), amounts), max_size=3).map(tuple),
)

VALUES: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], Any]]] = {
    "energy": (energies(), Energy.from_dict),
    "location": (locations, Location.from_dict),
    "slot": (slots, Slot.from_dict),
    "footprint": (footprints, Footprint.from_dict),
    "epoch": (epochs, Epoch.from_dict),
    "prediction": (predictions, Prediction.from_dict),
    "forecast": (forecasts, Forecast.from_dict),
    "prediction error": (errors, PredictionError.from_dict),
    "result": (results, Result.from_dict),
    "sensor": (sensors, Sensor.from_dict),
    "run metadata": (metadata, RunMetadata.from_dict),
    "run ending": (endings, RunEnding.from_dict),
    "window totals": (windows, WindowTotals.from_dict),
}
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.just("2026-03-01T00:00Z"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2),
    max_leaves=4,
)


def written(value: Any) -> Any:
    """Return a value as the record has it."""
    return json.loads(json.dumps(jsonable(value.to_dict()), allow_nan=False))


# ---- there and back ------------------------------------------------------------------------


@pytest.mark.parametrize("name", VALUES)
@settings(max_examples=20)
@given(data=st.data())
def test_what_was_written_is_read(name: str, data: st.DataObject) -> None:
    strategy, read = VALUES[name]
    once = written(data.draw(strategy))
    assert written(read(once)) == once


@given(intensities())
def test_an_intensity_is_read_as_it_was(intensity: Intensity) -> None:
    once = json.loads(json.dumps(jsonable(intensity.to_dict())))
    assert jsonable(Intensity.from_dict(once).to_dict()) == once


@given(intensities())
def test_a_strict_reader_takes_what_was_written(intensity: Intensity) -> None:
    once = json.loads(json.dumps(jsonable(intensity.to_dict())))
    assert jsonable(Intensity.from_dict(once, strict=True).to_dict()) == once


@pytest.mark.parametrize(
    "damage",
    [
        {"gco2eq_per_kwh": None},
        {"gco2eq_per_kwh": "100"},
        {"gco2eq_per_kwh": -1.0},
        {"kind": "sometimes"},
        {"scope": "all"},
        {"signal": 1},
        {"year": "2025"},
        {"start": "noon"},
        {"start": "2026-03-02T00:00:00Z", "end": "2026-03-01T00:00:00Z"},
        {"fetched_at": 5},
    ],
)
def test_a_strict_reader_refuses_damage(damage: dict[str, object]) -> None:
    whole = {"gco2eq_per_kwh": 100.0, "zone": "DK", "scope": "lifecycle", "kind": "measured"}
    assert Intensity.from_dict(whole, strict=True).gco2eq_per_kwh == 100.0
    with pytest.raises(ValueError, match="carbon intensity"):
        Intensity.from_dict(whole | damage, strict=True)
    Intensity.from_dict(whole | damage)  # what a view shows


@pytest.mark.parametrize("name", VALUES)
@settings(max_examples=20)
@given(data=st.data())
def test_damage_is_missing_or_unknown_and_raises_nothing(name: str, data: st.DataObject) -> None:
    strategy, read = VALUES[name]
    once = written(data.draw(strategy))
    for key in data.draw(st.lists(st.sampled_from(sorted(once)), max_size=4)):
        if data.draw(st.booleans()):
            once.pop(key, None)
        else:
            once[key] = data.draw(ANYTHING)
    found = read(once)
    if found is not None:
        written(found)  # a view may be made of it


# ---- footprints ----------------------------------------------------------------------------


def footprint(kwh: float, figure: float) -> Footprint:
    return Footprint.from_dict(
        {"kwh": kwh, "gco2eq": kwh * figure, "error_kwh": 0.1 * kwh, "pue": 1.5}
        | {"intensity": {"gco2eq_per_kwh": figure, "zone": "DK"}}
    )


def test_footprints_add_up_with_their_mean_intensity() -> None:
    total = add_footprints(
        [footprint(1.0, 100.0), footprint(math.nan, 500.0), footprint(3.0, 300.0)]
    )
    assert (total.kwh, total.gco2eq) == (4.0, 1000.0)
    assert total.error_kwh == pytest.approx(0.4)
    assert total.intensity.gco2eq_per_kwh == 250.0
    assert total.intensity.zone == "DK"
    unknown = add_footprints([])
    assert math.isnan(unknown.kwh)
    assert unknown.intensity.kind == MISSING


def test_the_footprint_of_other_joules_has_the_same_pue_and_intensity() -> None:
    other = footprint(1.0, 100.0).of_joules(7.2e6, 3.6e6)
    assert (other.kwh, other.gco2eq, other.error_kwh) == pytest.approx((3.0, 300.0, 1.5))
    assert other.error_gco2eq == pytest.approx(150.0)


@pytest.mark.parametrize("figure", [-1.0, 2001.0, math.nan, math.inf])
def test_a_figure_that_cannot_be_is_missing(figure: float) -> None:
    found = footprint(1.0, 100.0).at_figure(figure).intensity
    assert found.kind == MISSING
    assert math.isnan(found.gco2eq_per_kwh)


# ---- windows -------------------------------------------------------------------------------


def test_windows_of_several_events_add_up() -> None:
    one = WindowTotals("a", 2, 0, 1.0, 10.0, 1.0, 0.0, 1, ((0.0, 0.5, 5.0), (1.0, 0.5, 5.0)))
    lost = WindowTotals("a", 1, 1, 0.5, math.nan, math.nan, 7.0, 2)
    total = one.plus(lost)
    # By their text: to Python 3.13 no value with a NaN equals another.
    expected = WindowTotals("a", 3, 1, 1.5, 10.0, 1.0, 7.0, 2)
    assert repr(replace(total, kept=())) == repr(expected)
    assert total.spans == [(0.0, 0.5), (1.0, 1.5)]


def test_many_windows_are_totals_and_every_nth_window() -> None:
    totals = WindowTotals("a")
    for i in range(1000):
        lost = i % 10 == 9
        energy = MISSING_ENERGY if lost else Energy(2.0, 0.1, 0.0, "measured", 1.0)
        totals = totals.with_window(float(i), 0.5, energy)
    assert (totals.count, totals.unknown, totals.seconds) == (1000, 100, 500.0)
    assert (totals.joules, totals.error_joules) == pytest.approx((1800.0, 90.0))
    starts = [start_s for start_s, _, _ in totals.kept]
    assert starts == [float(i) for i in range(0, 1000, totals.every)]
    assert MAX_KEPT // 2 <= len(starts) <= MAX_KEPT


@pytest.mark.parametrize("damaged", [{}, [], ["x"], True, None])
def test_a_damaged_name_of_a_location_gives_way_to_its_zone(damaged: object) -> None:
    assert Location.from_dict({"zone": "DK", "name": damaged}) == Location.from_dict({"zone": "DK"})


def test_the_place_of_a_footprint_is_its_location() -> None:
    location = Location.from_dict({"zone": "DK"})
    given = {"kwh": 1.0, "intensity": {"gco2eq_per_kwh": 50.0}, "location": {"zone": "DK"}}
    footprint = Footprint.from_dict(given)
    with pytest.warns(DeprecationWarning, match=r"Footprint\.location"):
        assert footprint.place == footprint.location == location
    with pytest.deprecated_call(match="Intensity.to_dict"):
        assert footprint.intensity.as_dict() == footprint.intensity.to_dict()
