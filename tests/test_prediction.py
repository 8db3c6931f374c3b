"""Predictions of trainings whose cost is known in closed form, and their intervals."""

from __future__ import annotations

import importlib
import itertools
import math
import statistics
import sys
from collections import deque
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.training_traces import REGIMES, recorded_set, simulated_set
from carbontracker.prediction import Predictor, Prior, joules_between
from carbontracker.prediction.intervals import RATIOS, intervals
from carbontracker.prediction.predictor import (
    ALLOWANCE,
    ALLOWANCE_EPOCHS,
    AS_BEFORE,
    COLD,
    MAX_EPOCHS,
    MAX_PIECES,
    WARM_UP,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from _typeshed import TraceFunction

    from carbontracker.model.prediction import Prediction

NOON = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)

costs = st.lists(st.floats(0.5, 2.0), min_size=1, max_size=60)


def training(
    predictor: Predictor, epochs: int, steps: Sequence[float], extra: Sequence[float] = (0.0,)
) -> None:
    """Feed epochs of these steps at 10 W, with extras in turn at each epoch's end."""
    for index in range(epochs):
        for seconds in steps:
            predictor.step(seconds, 10 * seconds)
        whole = math.fsum(steps) + extra[index % len(extra)]
        predictor.epoch_ended(whole, 10 * whole)


def held(prediction: Prediction) -> bool:
    """Return whether the intervals nest around the prediction."""
    pairs = (
        (prediction.seconds, prediction.seconds_80, prediction.seconds_95),
        (prediction.joules, prediction.joules_80, prediction.joules_95),
    )
    return all(
        wide[0] <= narrow[0] <= value <= narrow[1] <= wide[1] for value, narrow, wide in pairs
    )


# ---- closed forms --------------------------------------------------------------------------


@pytest.mark.parametrize("done", [1, 2, 3, 7])
@pytest.mark.parametrize("with_steps", [True, False])
def test_constant_epochs_are_predicted_exactly(done: int, with_steps: bool) -> None:
    predictor = Predictor(12)
    training(predictor, done, [0.5] * (40 if with_steps else 0), [0.0 if with_steps else 20.0])
    prediction = predictor.predict()
    assert prediction.seconds == pytest.approx(240, rel=1e-9)
    assert prediction.joules == pytest.approx(2400, rel=1e-9)
    assert prediction.after_epochs == done
    assert isinstance(prediction.after_epochs, int)  # as records of before have it
    assert prediction.done_joules == pytest.approx(200 * done)
    assert held(prediction)


def test_within_the_first_epoch_its_end_is_allowed_for() -> None:
    predictor = Predictor(10, steps_per_epoch=100)
    for _ in range(25):
        predictor.step(1.0, 50.0)
    prediction = predictor.predict()
    assert prediction.after_epochs == 0.25
    assert prediction.joules == pytest.approx(50_000 * (1 + ALLOWANCE))
    low, high = prediction.joules_80
    assert low < 50_000 < high
    assert "allowance" in prediction.method


def test_a_warm_up_is_left_out() -> None:
    predictor = Predictor(10, steps_per_epoch=100)
    warm, steady = [5.0] * 8, [1.0] * 42
    for seconds in warm + steady:
        predictor.step(seconds, seconds)
    assert predictor.predict().seconds == pytest.approx(8 * 4 + 1000 * (1 + ALLOWANCE))


def test_a_warm_up_is_left_out_of_a_whole_first_epoch() -> None:
    predictor = Predictor(10)
    training(predictor, 1, [5.0] * 20 + [1.0] * 80)
    assert predictor.predict().seconds == pytest.approx(180 + 9 * 100)


def test_validation_every_third_epoch_is_expected_when_it_is_due() -> None:
    predictor = Predictor(10)
    training(predictor, 7, [1.0] * 20, [0.0, 0.0, 8.0])
    prediction = predictor.predict()
    assert prediction.seconds == pytest.approx(10 * 20 + 3 * 8, rel=1e-6)
    assert "every 3 epochs" in prediction.method


@pytest.mark.parametrize("first", [1, 2, 3])
@pytest.mark.parametrize("done", [3, 4, 7, 9])
def test_validation_is_due_wherever_the_first_one_was(first: int, done: int) -> None:
    """A training that was resumed counts from elsewhere."""
    extra = [8.0 if number % 3 == first % 3 else 1.0 for number in range(1, 11)]
    predictor = Predictor(10)
    training(predictor, done, [1.0] * 20, extra)
    if done > first + 3:  # it has come twice
        assert predictor.predict().seconds == pytest.approx(200 + math.fsum(extra))


def test_validation_without_a_period_is_the_mean() -> None:
    predictor = Predictor(12)
    training(predictor, 6, [1.0] * 20, [0.0, 4.0, 4.0, 0.0, 0.0, 4.0])
    assert predictor.predict().seconds == pytest.approx(12 * 20 + 12 * 2)


@pytest.mark.parametrize("done", [1, 2, 4, 5, 8])
def test_an_epoch_that_held_little_may_not_show_its_validation_yet(done: int) -> None:
    predictor = Predictor(10)
    training(predictor, done, [1.0] * 100, [1.0])
    fades = max(0.0, 1 - done / ALLOWANCE_EPOCHS)
    rest = (10 - done) * (101 + 100 * ALLOWANCE * fades)
    assert predictor.predict().seconds == pytest.approx(101 * done + rest)


def test_a_part_of_an_epoch_may_be_planned() -> None:
    predictor = Predictor(2.5)
    training(predictor, 1, [1.0] * 20, [4.0])
    assert predictor.predict().seconds == pytest.approx(2.5 * 24)
    for _ in range(15):
        predictor.step(1.0, 10.0)
    assert predictor.predict().seconds == pytest.approx(2.5 * 24)


def test_a_plan_may_be_in_steps() -> None:
    """One epoch of so many, until the first has ended; then as many epochs as they make."""
    predictor = Predictor(steps=250)
    for _ in range(50):
        predictor.step(1.0, 10.0)
    early = predictor.predict()
    assert early.after_epochs == pytest.approx(0.2)
    assert early.seconds == pytest.approx(250 * (1 + ALLOWANCE))
    for _ in range(50):
        predictor.step(1.0, 10.0)
    predictor.epoch_ended(105.0, 1050.0)
    assert predictor.epochs == 2.5
    assert predictor.predict().seconds == pytest.approx(2.5 * 105)
    training(predictor, 2, [1.0] * 75)
    assert predictor.predict().seconds_95 == pytest.approx((255, 255))


def test_a_plan_may_be_in_epochs_and_steps() -> None:
    predictor = Predictor(4, steps=400)
    for _ in range(50):
        predictor.step(1.0, 10.0)
    assert predictor.predict().after_epochs == 0.5
    assert predictor.predict().seconds == pytest.approx(400 * (1 + ALLOWANCE))


def test_a_prediction_needs_a_plan() -> None:
    with pytest.raises(ValueError, match="epochs, steps or both"):
        Predictor()


def test_validation_that_is_marked_is_the_same() -> None:
    marked, unmarked = Predictor(10), Predictor(10)
    training(unmarked, 4, [1.0] * 20, [3.0])
    for _ in range(4):
        for _ in range(20):
            marked.step(1.0, 10.0)
        marked.step(3.0, 30.0, "validation")
        marked.epoch_ended(23.0, 230.0)
    assert marked.predict() == unmarked.predict()
    assert marked.predict().seconds == pytest.approx(230)


def test_within_a_later_epoch_what_is_spent_is_not_expected_again() -> None:
    predictor = Predictor(4)
    training(predictor, 2, [1.0] * 20, [5.0])
    for _ in range(20):
        predictor.step(1.0, 10.0)
    before = predictor.predict()
    predictor.step(5.0, 50.0, "validation")
    after = predictor.predict()
    assert before.seconds == pytest.approx(100, rel=1e-6)
    assert after.seconds == pytest.approx(100, rel=1e-6)
    assert after.done_seconds == pytest.approx(75)


@pytest.mark.parametrize("steps", [1, 20])
@pytest.mark.parametrize("dearer", [0.0, 0.3 * COLD, 0.8 * COLD, COLD, 4.0, 100.0])
def test_a_first_epoch_counts_less_the_dearer_it_was(dearer: float, steps: int) -> None:
    predictor = Predictor(20)
    first = 10 * (1 + dearer)
    for whole in (first, 10.0, 10.0):
        training(
            predictor,
            1,
            [whole / steps] * (steps if steps > 1 else 0),
            [0.0 if steps > 1 else whole],
        )
    weight = max(0.0, 1 - dearer / COLD) * (1 - WARM_UP if steps > 1 else 1)
    mean = (weight * first + 20) / (weight + 2)
    assert predictor.predict().seconds == pytest.approx(first + 20 + 17 * mean)


@pytest.mark.parametrize("more", [1.1, 1.3, 2.0, 5.0])
def test_a_costlier_second_epoch_is_not_a_cold_first_one(more: float) -> None:
    """A validation every second epoch, a pause: nothing makes the first cheaper than the rest."""
    predictor = Predictor(20)
    training(predictor, 1, [], [10.0])
    training(predictor, 1, [], [10.0 * more])
    rule = 20 * 5.0 * (1 + more)
    assert predictor.predict().seconds == pytest.approx(rule)


def test_an_incomplete_last_batch_comes_again_with_every_epoch() -> None:
    predictor = Predictor(10)
    training(predictor, 1, [*[1.0] * 30, 0.25])
    assert predictor.predict().seconds == pytest.approx(10 * 30.25, rel=0.01)
    training(predictor, 1, [*[1.0] * 30, 0.25])
    assert predictor.predict().seconds == pytest.approx(10 * 30.25, rel=0.005)


@pytest.mark.parametrize("slower", [1.0, 3.0, 10.0])
def test_cheap_steps_are_as_large_a_part_of_those_to_come(slower: float) -> None:
    """The last of ten steps is a tenth of one, and a first epoch that is slower is so in all."""
    predictor = Predictor(10)
    for factor in (slower, 1.0, 1.0):
        training(predictor, 1, [*[factor] * 9, factor * 0.1])
    prediction = predictor.predict()
    assert prediction.seconds == pytest.approx(9.1 * (9 + slower), rel=0.02)
    assert held(prediction)


def test_a_cheap_last_step_of_few_leaves_more_of_them_their_cost() -> None:
    predictor = Predictor(5, 20)
    training(predictor, 1, [*[1.0] * 9, 0.1, *[1.0] * 9, 0.1])
    predictor.epoch_started(2000)
    prediction = predictor.predict()
    assert prediction.seconds > prediction.done_seconds
    assert held(prediction)


def test_a_pause_is_counted_once() -> None:
    predictor = Predictor(10)
    steps = [1.0] * 50
    training(predictor, 2, steps)
    training(predictor, 1, [*steps[:-1], 101.0])
    assert predictor.predict().seconds == pytest.approx(600)


def test_all_pauses_but_the_largest_are_expected_again() -> None:
    predictor = Predictor(10)
    training(predictor, 2, [1.0] * 50)
    for pause in (5.0, 10.0, 100.0):
        training(predictor, 1, [*[1.0] * 49, 1.0 + pause])
    counted = 5 * 50 - 12  # without the warm-up: the first pieces of one step each
    rest = 5 * 50 * (1 + 15 / counted)
    assert predictor.predict().seconds == pytest.approx(5 * 50 + 115 + rest, rel=1e-3)


def test_outliers_that_come_again_are_expected_again() -> None:
    predictor = Predictor(10)
    training(predictor, 4, ([1.0] * 49 + [11.0]) * 2)
    assert predictor.predict().seconds == pytest.approx(1200, rel=0.01)


def test_a_new_number_of_steps_counts_from_the_epoch_that_has_it() -> None:
    predictor = Predictor(4)
    training(predictor, 2, [1.0] * 40)
    predictor.epoch_started(steps=80)
    for _ in range(40):
        predictor.step(1.0, 10.0)
    assert predictor.predict().seconds == pytest.approx(80 + 2 * 80, rel=1e-6)


def test_half_as_many_steps_are_expected_to_be_twice_as_large() -> None:
    predictor = Predictor(4)
    training(predictor, 2, [1.0] * 40)
    predictor.epoch_started(steps=20)
    assert predictor.predict().seconds == pytest.approx(160, rel=1e-6)
    for _ in range(10):
        predictor.step(2.0, 20.0)
    assert predictor.predict().seconds == pytest.approx(160)


def test_epochs_of_about_as_many_steps_are_alike() -> None:
    predictor = Predictor(6)
    for count in (40, 42, 38, 40):
        training(predictor, 1, [0.5] * count)
    assert predictor.predict().seconds == pytest.approx(80 + 2 * 20)


def test_a_plan_may_be_cut() -> None:
    predictor = Predictor(100)
    training(predictor, 3, [1.0] * 10)
    predictor.epochs = 5
    assert predictor.predict().seconds == pytest.approx(50)
    predictor.epochs = 3
    assert predictor.predict().joules_95 == pytest.approx((300, 300))


def test_one_epoch_of_many_steps_is_enough() -> None:
    predictor = Predictor(1, steps_per_epoch=100_000)
    predictor.add_steps([0.5] * 20_000, [100.0] * 20_000)
    prediction = predictor.predict()
    assert prediction.joules == pytest.approx(1e7 * (1 + ALLOWANCE))


# ---- what is not known -----------------------------------------------------------------------


def test_nothing_finished_is_no_prediction() -> None:
    with pytest.raises(ValueError, match="finished epoch"):
        Predictor(10).predict()
    predictor = Predictor(10)
    predictor.step(1.0, 1.0)
    with pytest.raises(ValueError, match="finished epoch"):
        predictor.predict()  # how many steps an epoch has is not known


def test_unmeasured_energy_is_missing_and_not_zero() -> None:
    predictor = Predictor(10)
    for _ in range(3):
        predictor.epoch_ended(5.0, math.nan)
    prediction = predictor.predict()
    assert prediction.seconds == pytest.approx(50)
    assert math.isnan(prediction.joules)
    assert math.isnan(prediction.joules_95[0])


def test_one_unmeasured_epoch_is_filled_in_by_the_others() -> None:
    predictor = Predictor(10)
    for joules in (50.0, math.nan, 50.0, 50.0):
        predictor.epoch_ended(5.0, joules)
    prediction = predictor.predict()
    assert prediction.joules == pytest.approx(500)
    assert "1 unmeasured" in prediction.method


def test_unmeasured_steps_are_filled_in_by_the_others() -> None:
    predictor = Predictor(10, 40)
    for index in range(20):
        predictor.step(1.0, 50.0 if index % 4 else math.nan)
    prediction = predictor.predict()
    assert prediction.done_joules == pytest.approx(20 * 50)
    assert prediction.joules == pytest.approx(400 * 50 * (1 + ALLOWANCE))
    assert "5 unmeasured" in prediction.method


def test_unmeasured_steps_are_in_a_measured_total() -> None:
    predictor = Predictor(10)
    for index in range(40):
        predictor.step(1.0, 50.0 if index % 4 else math.nan)
    predictor.epoch_ended(40.0, 2000.0)
    prediction = predictor.predict()
    assert prediction.done_joules == pytest.approx(2000)
    assert prediction.joules == pytest.approx(20_000)
    assert "unmeasured" not in prediction.method


def test_a_total_that_is_not_known_is_that_of_the_steps() -> None:
    predictor = Predictor(10)
    for _ in range(40):
        predictor.step(1.0, 50.0)
    predictor.step(2.0, 100.0, "validation")
    predictor.epoch_ended(42.0, math.nan)
    assert predictor.predict().joules == pytest.approx(21_000)


@pytest.mark.parametrize("steps", [0, 40])
def test_epochs_without_steps_between_others(steps: int) -> None:
    """An epoch without a mark is as many steps as the others."""
    predictor = Predictor(6)
    training(predictor, 2, [1.0] * 40)
    training(predictor, 1, [1.0] * steps, [40.0 - steps])
    assert predictor.predict().seconds == pytest.approx(240)


# ---- a previous run --------------------------------------------------------------------------


def test_a_previous_run_gives_the_first_prediction() -> None:
    prior = Prior.of_epochs("a1b2", [14.0, 10.0, 10.0], [140.0, 100.0, math.nan])
    prediction = Predictor(10, prior=prior).predict()
    assert prediction.seconds == 104
    assert prediction.joules == 1040
    assert "a1b2" in prediction.method
    assert held(prediction)


def test_a_previous_run_shows_a_cold_first_epoch() -> None:
    prior = Prior.of_epochs("a1b2", [14.0, 10.0, 10.0], [140.0, 100.0, 100.0])
    predictor, alone = Predictor(10, prior=prior), Predictor(10)
    for one in (predictor, alone):
        one.epoch_ended(28.0, 280.0)  # the same shape, on a machine half as fast
    prediction = predictor.predict()
    # One epoch cannot say which is right: the log of the rest is their mean, by AS_BEFORE.
    assert prediction.seconds == pytest.approx(28 + 9 * 20 * 1.4 ** (1 - AS_BEFORE), rel=1e-9)
    assert alone.predict().seconds == pytest.approx(280)
    assert "previous run a1b2" in prediction.method


def test_a_previous_run_counts_until_a_quarter_of_another_epoch_is_known() -> None:
    prior = Prior.of_epochs("a1b2", [14.0, 10.0, 10.0], [140.0, 100.0, 100.0])
    predictor = Predictor(10, prior=prior)
    training(predictor, 1, [1.4] * 40)
    for _ in range(9):
        predictor.step(1.4, 14.0)
    assert predictor.predict().seconds == pytest.approx(49 * 1.4 + 351 * 1.4 ** (1 - AS_BEFORE))
    predictor.step(1.4, 14.0)
    assert predictor.predict().seconds == pytest.approx(400 * 1.4)


def test_a_previous_run_is_left_when_this_one_is_unlike_it() -> None:
    """Its files were in no cache, and now they are."""
    prior = Prior.of_epochs("a1b2", [30.0, 10.0, 10.0], [300.0, 100.0, 100.0])
    predictor = Predictor(20, prior=prior)
    training(predictor, 2, [], [10.0])
    assert predictor.predict().seconds == pytest.approx(200, rel=0.01)


@pytest.mark.parametrize("first", [1e-6, 1e6, math.nan, -1.0])
def test_an_outlier_of_a_previous_run_is_ignored(first: float) -> None:
    prior = Prior.of_epochs("a1b2", [first, 1.0, 1.0], [math.nan, 1.0, 1.0])
    predictor = Predictor(10, prior=prior)
    assert predictor.prior is prior
    training(predictor, 1, [], [1.0])
    assert predictor.predict().seconds == pytest.approx(10)


def test_a_previous_run_of_one_epoch_says_nothing_about_the_first() -> None:
    one, alone = Predictor(10, prior=Prior.of_epochs("a1b2", [14.0], [140.0])), Predictor(10)
    assert one.predict().seconds == 140
    for predictor in (one, alone):
        training(predictor, 2, [], [14.0, 10.0])
    assert one.predict().seconds == alone.predict().seconds


def test_a_previous_run_may_show_that_the_first_epoch_costs_less() -> None:
    prior = Prior.of_epochs("a1b2", [8.0, 10.0, 10.0], [80.0, 100.0, 100.0])
    predictor = Predictor(10, prior=prior)
    predictor.epoch_ended(16.0, 160.0)
    rest = 9 * 20 * 0.8 ** (1 - AS_BEFORE)
    assert predictor.predict().seconds == pytest.approx(16 + rest)


def test_a_previous_run_without_epochs_is_refused() -> None:
    with pytest.raises(ValueError, match="a1b2"):
        Prior.of_epochs("a1b2", [], [])


# ---- bounds ----------------------------------------------------------------------------------


def kept(value: object) -> int:
    """Return how many values an object holds, those of its parts included."""
    if isinstance(value, dict):
        return sum(map(kept, value.values()))
    if isinstance(value, tuple | list | deque):
        return sum(map(kept, value))
    return kept(vars(value)) if hasattr(value, "__dict__") else 1


def test_memory_is_bounded() -> None:
    predictor = Predictor(10_000)
    for _ in range(1000):
        training(predictor, 1, [1.0] * 30)
    for _ in range(1000):
        predictor.step(1.0, 10.0)
    before = kept(predictor)
    assert before < 2 * (8 * MAX_EPOCHS + 2 * MAX_PIECES) + 100
    assert predictor.predict().seconds == pytest.approx(300_000, rel=0.01)
    for _ in range(1000 * 30):
        predictor.step(1.0, 10.0)
    assert kept(predictor) <= before + 2 * 2 * MAX_PIECES


@given(costs)
@settings(max_examples=30)
def test_joined_pieces_lose_nothing(values: list[float]) -> None:
    many = [*values, *values] * (1 + 3 * MAX_PIECES // len(values))
    predictor = Predictor(1, len(many))
    for value in many:
        predictor.step(value, 2 * value)
    found = predictor.predict()
    assert found.done_seconds == pytest.approx(math.fsum(many))
    assert found.done_joules == pytest.approx(2 * math.fsum(many))


def test_a_step_costs_as_much_after_many_as_after_few() -> None:
    """In lines of Python that are run, which no other load changes."""

    def lines(steps: int) -> int:
        predictor, run = Predictor(1, 10**6), 0

        def trace(_frame: FrameType, event: str, _argument: object) -> TraceFunction:
            nonlocal run
            run += event == "line"
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            for _ in range(steps):
                predictor.step(1.0, 10.0)
        finally:
            sys.settrace(before)
        return run

    few, many = lines(1000), lines(8000)
    assert many < 8.5 * few


# ---- properties ------------------------------------------------------------------------------


def fed(values: Sequence[float], factor: float = 1.0) -> Predictor:
    """Return an predictor after two epochs of these steps and a part of a third."""
    predictor = Predictor(8)
    for part in (values, values, values[: len(values) // 2]):
        for value in part:
            predictor.step(value, factor * value)
        if part is not values[: len(values) // 2] or len(part) == len(values):
            predictor.epoch_ended(math.fsum(part), factor * math.fsum(part))
    return predictor


@given(costs, st.floats(1e-3, 1e6))
@settings(max_examples=30)
def test_scaled_joules_scale_the_prediction(values: list[float], factor: float) -> None:
    one, many = fed(values).predict(), fed(values, factor).predict()
    assert many.joules == pytest.approx(factor * one.joules, rel=1e-6)
    assert many.joules_95[1] == pytest.approx(factor * one.joules_95[1], rel=1e-6)
    assert many.seconds == one.seconds


@given(costs)
@settings(max_examples=30)
def test_intervals_hold_their_prediction(values: list[float]) -> None:
    prediction = fed(values).predict()
    assert held(prediction)
    assert prediction.joules_95[0] >= prediction.done_joules


@given(costs)
@settings(max_examples=20)
def test_batches_are_steps_one_after_the_other(values: list[float]) -> None:
    one, batch = Predictor(3, 60), Predictor(3, 60)
    for value in values:
        one.step(value, 2 * value)
    batch.add_steps(values, [2 * value for value in values])
    assert one.predict() == batch.predict()


@pytest.mark.parametrize("with_steps", [True, False])
def test_intervals_narrow_with_evidence(with_steps: bool) -> None:
    predictor = Predictor(40)
    widths = []
    for _ in range(20):
        training(predictor, 1, [1.0] * (30 if with_steps else 0), [0.0 if with_steps else 30.0])
        low, high = predictor.predict().joules_95
        widths.append(high - low)
    assert widths[0] > widths[1] > widths[4] > widths[19]


def test_intervals_are_of_what_remains() -> None:
    low_95, low_80, high_80, high_95 = RATIOS["joules"][2]
    found = intervals("joules", 3.5, 100.0, 1000.0)
    assert found == (
        (100 + 1000 * low_80, 100 + 1000 * high_80),
        (100 + 1000 * low_95, 100 + 1000 * high_95),
    )


@pytest.mark.parametrize("quantity", RATIOS)
def test_intervals_nest_and_hold_the_prediction(quantity: str) -> None:
    for low_95, low_80, high_80, high_95 in RATIOS[quantity].values():
        assert 0 < low_95 < low_80 <= 1 <= high_80 < high_95


def test_the_old_name_goes_on_working() -> None:
    with pytest.warns(DeprecationWarning, match="Predictor"):
        from carbontracker.prediction import Estimator
    assert Estimator is Predictor
    sys.modules.pop("carbontracker.ahead.prediction", None)  # another test may have loaded it
    with pytest.warns(DeprecationWarning, match=r"carbontracker\.prediction"):
        old = importlib.import_module("carbontracker.ahead.prediction")
    with pytest.warns(DeprecationWarning, match="Predictor"):
        assert old.Estimator is Predictor
    assert old.Prior is Prior


# ---- over time -------------------------------------------------------------------------------


def test_the_parts_of_the_timeline_are_the_whole() -> None:
    predictor = Predictor(4)
    predictor.epoch_ended(3600.0, 7200.0)
    predictor.epoch_ended(1800.0, 7200.0)
    prediction = predictor.predict()
    between = joules_between(prediction, NOON)
    hours = [NOON + timedelta(hours=hour) for hour in range(-1, 9)]
    parts = [between(a, b) for a, b in itertools.pairwise(hours)]
    assert math.fsum(parts) == pytest.approx(prediction.joules)
    assert parts[0] == 0.0
    done = between(NOON, NOON + timedelta(seconds=5400))
    assert done == pytest.approx(prediction.done_joules)


# ---- simulated and recorded trainings --------------------------------------------------------


def test_simulated_trainings_are_the_same_for_the_same_seed() -> None:
    first, again = (list(simulated_set(5, len(REGIMES))) for _ in range(2))
    assert [trace.regime for trace in first] == list(REGIMES)
    assert [trace.truth(10) for trace in first] == [trace.truth(10) for trace in again]


def test_predictions_of_simulated_trainings_hold() -> None:
    """After two epochs, of 48 trainings: error beside the mean-epoch rule, and coverage."""
    ours, rule, inside = [], [], []
    for trace in simulated_set(seed=77, count=48):
        predictor = Predictor(len(trace.epochs))
        for epoch in trace.epochs[:2]:
            predictor.add_steps(epoch.steps[:, 0], epoch.steps[:, 1])
            predictor.epoch_ended(*epoch.total)
        _, truth = trace.truth(len(trace.epochs))
        prediction = predictor.predict()
        mean = statistics.fmean(epoch.total[1] for epoch in trace.epochs[:2])
        ours.append(abs(prediction.joules / truth - 1))
        rule.append(abs(len(trace.epochs) * mean / truth - 1))
        low, high = prediction.joules_95
        inside.append(low <= truth <= high)
    assert statistics.fmean(ours) < 0.8 * statistics.fmean(rule)
    assert statistics.fmean(inside) > 0.85


def test_recorded_trainings_can_be_read() -> None:
    traces = list(recorded_set())
    for trace in traces:
        seconds, joules = trace.truth(len(trace.epochs))
        assert seconds > 0
        assert joules > 0
        assert all(len(epoch.steps) for epoch in trace.epochs)


def test_the_number_of_steps_may_be_learned_from_the_first_epoch() -> None:
    told, learned = Predictor(6, steps_per_epoch=300), Predictor(6)
    steps = [2.0 - 0.5 * math.exp(-step / 80) for step in range(300)]
    for predictor in (told, learned):
        training(predictor, 2, steps)
    assert learned.predict().seconds == pytest.approx(told.predict().seconds, rel=1e-3)


@pytest.mark.parametrize("epochs", [10**6, 10**12, 10**18])
@pytest.mark.parametrize("steps", [0, 50])
def test_a_plan_without_an_end_is_still_predicted(epochs: int, steps: int) -> None:
    """Who trains until it is good enough says 10**12 epochs."""
    predictor = Predictor(epochs, steps or None)
    for number in (1.0, 1.3):
        for _ in range(steps):
            predictor.step(number / steps, number)
        predictor.epoch_ended(number, 50 * number)
    found = predictor.predict()
    for value, (low, high) in (
        (found.seconds, found.seconds_95),
        (found.joules, found.joules_95),
    ):
        assert 0 < low <= value <= high < math.inf


def test_a_phase_that_cost_more_than_its_epoch_makes_no_negative_step() -> None:
    # Two readings of one epoch err apart: its validation is known as 3.1 J, all of it as 3.0 J.
    predictor = Predictor(10)
    predictor.step(1.0, math.nan)
    predictor.step(1.0, math.nan, "validation")
    predictor.epoch_ended(2.0, math.nan)
    predictor.step(1.0, math.nan)
    predictor.step(1.0, 3.1, "validation")
    predictor.epoch_ended(2.0, 3.0)
    found = predictor.predict()
    assert found.seconds == pytest.approx(20.0)
    assert found.joules >= found.done_joules == pytest.approx(3.0)
