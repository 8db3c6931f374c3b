"""Predictions of trainings whose cost is known in closed form, and their intervals."""

from __future__ import annotations

import itertools
import math
import statistics
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.training_traces import REGIMES, recorded_set, simulated_set
from carbontracker.prediction import Estimator, Prior, joules_between
from carbontracker.prediction.cells import MOST_CELLS, Cells
from carbontracker.prediction.shape import extras_of, warm_up
from carbontracker.prediction.track import ALLOWANCE, AS_BEFORE, MOST_EPOCHS, RECURS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carbontracker.model.prediction import Prediction

NOON = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)

costs = st.lists(st.floats(0.5, 2.0), min_size=1, max_size=60)


def training(
    estimator: Estimator, epochs: int, steps: Sequence[float], extra: Sequence[float] = (0.0,)
) -> None:
    """Feed epochs of these steps at 10 W, with extras in turn at each epoch's end."""
    for index in range(epochs):
        for seconds in steps:
            estimator.step(seconds, 10 * seconds)
        whole = math.fsum(steps) + extra[index % len(extra)]
        estimator.epoch_ended(whole, 10 * whole)


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
    estimator = Estimator(12)
    training(estimator, done, [0.5] * (40 if with_steps else 0), [0.0 if with_steps else 20.0])
    prediction = estimator.predict()
    assert prediction.seconds == pytest.approx(240, rel=1e-9)
    assert prediction.joules == pytest.approx(2400, rel=1e-9)
    assert prediction.after_epochs == done
    assert prediction.done_joules == pytest.approx(200 * done)
    assert held(prediction)


def test_within_the_first_epoch_its_end_is_allowed_for() -> None:
    estimator = Estimator(10, steps_per_epoch=100)
    for _ in range(25):
        estimator.step(1.0, 50.0)
    prediction = estimator.predict()
    assert prediction.after_epochs == 0.25
    assert prediction.joules == pytest.approx(50_000 * (1 + ALLOWANCE))
    low, high = prediction.joules_80
    assert low < 50_000 < high
    assert "allowance" in prediction.method


def test_a_warm_up_is_not_taken_for_the_rule() -> None:
    estimator = Estimator(10, steps_per_epoch=100)
    warm, steady = [5.0] * 8, [1.0] * 42
    for seconds in warm + steady:
        estimator.step(seconds, seconds)
    again = 9 * 32 * RECURS  # each later epoch may begin like this
    whole = 32 + 1000 * (1 + ALLOWANCE) + again
    assert estimator.predict().seconds == pytest.approx(whole, rel=0.01)


def test_validation_every_third_epoch_is_expected_when_it_is_due() -> None:
    estimator = Estimator(10)
    training(estimator, 7, [1.0] * 20, [0.0, 0.0, 8.0])
    prediction = estimator.predict()
    assert prediction.seconds == pytest.approx(10 * 20 + 3 * 8, rel=1e-6)
    assert "every 3 epochs" in prediction.method


def test_validation_that_is_marked_is_the_same() -> None:
    marked, unmarked = Estimator(10), Estimator(10)
    training(unmarked, 4, [1.0] * 20, [3.0])
    for _ in range(4):
        for _ in range(20):
            marked.step(1.0, 10.0)
        marked.step(3.0, 30.0, "validation")
        marked.epoch_ended(23.0, 230.0)
    assert marked.predict() == unmarked.predict()
    assert marked.predict().seconds == pytest.approx(230)


def test_within_a_later_epoch_what_is_spent_is_not_expected_again() -> None:
    estimator = Estimator(4)
    training(estimator, 2, [1.0] * 20, [5.0])
    for _ in range(20):
        estimator.step(1.0, 10.0)
    before = estimator.predict()
    estimator.step(5.0, 50.0, "validation")
    after = estimator.predict()
    assert before.seconds == pytest.approx(100, rel=1e-6)
    assert after.seconds == pytest.approx(100, rel=1e-6)
    assert after.done_seconds == pytest.approx(75)


def test_a_cold_first_epoch_is_left_out_as_soon_as_there_is_a_second() -> None:
    estimator = Estimator(20)
    training(estimator, 1, [], [14.0])
    training(estimator, 1, [], [10.0])
    assert estimator.predict().seconds == pytest.approx(204, rel=0.02)


@pytest.mark.parametrize("more", [1.1, 1.3, 2.0, 5.0])
def test_a_dearer_second_epoch_is_no_cold_first_one(more: float) -> None:
    """A validation every second epoch, a pause: nothing makes the first cheaper than the rest."""
    estimator = Estimator(20)
    training(estimator, 1, [], [10.0])
    training(estimator, 1, [], [10.0 * more])
    rule = 20 * 5.0 * (1 + more)
    assert 200.0 < estimator.predict().seconds < 1.02 * rule


def test_an_incomplete_last_batch_comes_again_with_every_epoch() -> None:
    estimator = Estimator(10)
    training(estimator, 1, [*[1.0] * 30, 0.25])
    assert estimator.predict().seconds == pytest.approx(10 * 30.25, rel=1e-3)


@pytest.mark.parametrize("slower", [1.0, 3.0, 10.0])
def test_cheap_steps_are_as_large_a_part_of_those_to_come(slower: float) -> None:
    """The last of ten steps is a tenth of one, and a first epoch that is slower is so in all."""
    estimator = Estimator(10)
    for factor in (slower, 1.0, 1.0):
        training(estimator, 1, [*[factor] * 9, factor * 0.1])
    prediction = estimator.predict()
    assert prediction.seconds == pytest.approx(9.1 * (9 + slower), rel=0.02)
    assert held(prediction)


def test_a_cheap_last_step_of_few_leaves_more_of_them_their_cost() -> None:
    estimator = Estimator(5, 20)
    training(estimator, 1, [*[1.0] * 9, 0.1, *[1.0] * 9, 0.1])
    estimator.epoch_started(2000)
    prediction = estimator.predict()
    assert prediction.seconds > prediction.done_seconds
    assert held(prediction)


def test_throttling_is_followed_to_where_it_goes() -> None:
    def cost(step: int) -> float:
        return 1.2 - 0.2 * math.exp(-step / 50)

    estimator = Estimator(20)
    whole = math.fsum(cost(step) for step in range(1000))
    for epoch in range(3):
        steps = [cost(50 * epoch + step) for step in range(50)]
        training(estimator, 1, steps)
    prediction = estimator.predict()
    assert prediction.seconds == pytest.approx(whole, rel=0.01)
    assert "drift" in prediction.method


def test_a_pause_is_counted_once() -> None:
    estimator = Estimator(10)
    steps = [1.0] * 50
    training(estimator, 2, steps)
    training(estimator, 1, [*steps[:-1], 101.0])
    assert estimator.predict().seconds == pytest.approx(600, rel=0.01)


def test_outliers_that_come_again_are_expected_again() -> None:
    estimator = Estimator(10)
    training(estimator, 4, ([1.0] * 49 + [11.0]) * 2)
    assert estimator.predict().seconds == pytest.approx(1200, rel=0.02)


def test_a_new_number_of_steps_counts_from_the_epoch_that_has_it() -> None:
    estimator = Estimator(4)
    training(estimator, 2, [1.0] * 40)
    estimator.epoch_started(steps=80)
    for _ in range(40):
        estimator.step(1.0, 10.0)
    assert estimator.predict().seconds == pytest.approx(80 + 2 * 80, rel=1e-6)


def test_half_as_many_steps_are_expected_to_be_twice_as_large() -> None:
    estimator = Estimator(4)
    training(estimator, 2, [1.0] * 40)
    estimator.epoch_started(steps=20)
    assert estimator.predict().seconds == pytest.approx(160, rel=1e-6)
    for _ in range(10):
        estimator.step(2.0, 20.0)
    assert estimator.predict().seconds == pytest.approx(160, rel=0.05)


def test_a_plan_may_be_cut() -> None:
    estimator = Estimator(100)
    training(estimator, 3, [1.0] * 10)
    estimator.epochs = 5
    assert estimator.predict().seconds == pytest.approx(50)
    estimator.epochs = 3
    assert estimator.predict().joules_95 == pytest.approx((300, 300))


def test_one_epoch_of_many_steps_is_enough() -> None:
    estimator = Estimator(1, steps_per_epoch=100_000)
    estimator.add_steps([0.5] * 20_000, [100.0] * 20_000)
    prediction = estimator.predict()
    assert prediction.joules == pytest.approx(1e7 * (1 + ALLOWANCE))


# ---- what is not known -----------------------------------------------------------------------


def test_nothing_finished_is_no_prediction() -> None:
    with pytest.raises(ValueError, match="finished epoch"):
        Estimator(10).predict()
    estimator = Estimator(10)
    estimator.step(1.0, 1.0)
    with pytest.raises(ValueError, match="finished epoch"):
        estimator.predict()  # how many steps an epoch has is not known


def test_unmeasured_energy_is_missing_and_not_zero() -> None:
    estimator = Estimator(10)
    for _ in range(3):
        estimator.epoch_ended(5.0, math.nan)
    prediction = estimator.predict()
    assert prediction.seconds == pytest.approx(50)
    assert math.isnan(prediction.joules)
    assert math.isnan(prediction.joules_95[0])


def test_one_unmeasured_epoch_is_filled_in_by_the_others() -> None:
    estimator = Estimator(10)
    for joules in (50.0, math.nan, 50.0, 50.0):
        estimator.epoch_ended(5.0, joules)
    prediction = estimator.predict()
    assert prediction.joules == pytest.approx(500)
    assert "1 unmeasured" in prediction.method


# ---- a previous run --------------------------------------------------------------------------


def test_a_previous_run_speaks_before_anything_is_seen() -> None:
    prior = Prior.of_epochs("a1b2", [14.0, 10.0, 10.0], [140.0, 100.0, math.nan])
    prediction = Estimator(10, prior=prior).predict()
    assert prediction.seconds == 104
    assert prediction.joules == 1040
    assert "a1b2" in prediction.method
    assert held(prediction)


def test_a_previous_run_tells_a_cold_first_epoch() -> None:
    prior = Prior.of_epochs("a1b2", [14.0, 10.0, 10.0], [140.0, 100.0, 100.0])
    estimator, alone = Estimator(10, prior=prior), Estimator(10)
    for one in (estimator, alone):
        one.epoch_ended(28.0, 280.0)  # the same shape, on a machine half as fast
    prediction = estimator.predict()
    # One epoch cannot say which idea is right: the log of the rest is (nearly) their mean.
    assert prediction.seconds == pytest.approx(28 + 9 * 20 * 1.4 ** (1 - AS_BEFORE), rel=5e-3)
    assert alone.predict().seconds == pytest.approx(280)
    assert "previous run a1b2" in prediction.method


def test_a_previous_run_is_left_when_this_one_is_unlike_it() -> None:
    """Its files were in no cache, and now they are."""
    prior = Prior.of_epochs("a1b2", [30.0, 10.0, 10.0], [300.0, 100.0, 100.0])
    estimator = Estimator(20, prior=prior)
    training(estimator, 2, [], [10.0])
    assert estimator.predict().seconds == pytest.approx(200, rel=0.01)


@pytest.mark.parametrize("first", [1e-6, 1e6, math.nan, -1.0])
def test_an_accident_of_a_previous_run_tells_nothing(first: float) -> None:
    prior = Prior.of_epochs("a1b2", [first, 1.0, 1.0], [math.nan, 1.0, 1.0])
    estimator = Estimator(10, prior=prior)
    assert estimator.prior is prior
    training(estimator, 1, [], [1.0])
    assert estimator.predict().seconds == pytest.approx(10)


def test_a_previous_run_of_one_epoch_tells_nothing_of_the_first() -> None:
    one, alone = Estimator(10, prior=Prior.of_epochs("a1b2", [14.0], [140.0])), Estimator(10)
    assert one.predict().seconds == 140
    for estimator in (one, alone):
        training(estimator, 2, [], [14.0, 10.0])
    assert one.predict().seconds == alone.predict().seconds


def test_a_previous_run_may_tell_that_the_first_epoch_is_cheaper() -> None:
    prior = Prior.of_epochs("a1b2", [8.0, 10.0, 10.0], [80.0, 100.0, 100.0])
    estimator = Estimator(10, prior=prior)
    estimator.epoch_ended(16.0, 160.0)
    rest = 9 * 20 * 0.8 ** (1 - AS_BEFORE)
    assert estimator.predict().seconds == pytest.approx(16 + rest, rel=5e-3)


def test_a_previous_run_without_epochs_is_refused() -> None:
    with pytest.raises(ValueError, match="a1b2"):
        Prior.of_epochs("a1b2", [], [])


# ---- parts -----------------------------------------------------------------------------------


def test_warm_up_is_cut_where_the_rest_is_alike() -> None:
    assert warm_up([3.0, 2.0, 1.5, *[1.0] * 20], [1] * 23) == 3
    assert warm_up([1.0], [1]) == 0
    assert warm_up([5.0, 1.0], [1, 1]) <= 1


@given(st.integers(2, 9), st.integers(1, 40), st.integers(0, 60))
def test_what_is_expected_between_epochs_is_the_sum_over_them(
    every: int, first: int, count: int
) -> None:
    values = [5.0 if number % every == 0 else 1.0 for number in range(1, 4 * every + 1)]
    seen = extras_of(values, scale=10.0)
    assert seen.every == every
    last = first + count - 1
    each = math.fsum(seen.of(number) for number in range(first, last + 1))
    assert seen.between(first, last) == pytest.approx(each)
    assert [seen.of(number) for number in range(1, len(values) + 1)] == pytest.approx(values)


@given(st.lists(costs, min_size=1, max_size=40))
@settings(max_examples=30)
def test_cells_lose_nothing(folds: list[list[float]]) -> None:
    cells = Cells()
    for index, values in enumerate(folds):
        cells.fold(values, index, 0.01)
    total = math.fsum(cell.bulk + cell.excess for cell in cells.cells)
    assert total == pytest.approx(math.fsum(map(math.fsum, folds)))
    assert sum(cell.count for cell in cells.cells) == sum(map(len, folds))
    assert len(cells.cells) <= MOST_CELLS


def test_memory_is_bounded() -> None:
    estimator = Estimator(10_000)
    for _ in range(1000):
        training(estimator, 1, [1.0] * 30)
    tracks = vars(estimator)["_seconds"], vars(estimator)["_joules"]
    assert all(len(track.cells.cells) <= MOST_CELLS for track in tracks)
    assert all(len(vars(track)["_totals"]) == MOST_EPOCHS for track in tracks)
    assert estimator.predict().seconds == pytest.approx(300_000)


# ---- properties ------------------------------------------------------------------------------


def fed(values: Sequence[float], factor: float = 1.0) -> Estimator:
    """Return an estimator after two epochs of these steps and a part of a third."""
    estimator = Estimator(8)
    for part in (values, values, values[: len(values) // 2]):
        for value in part:
            estimator.step(value, factor * value)
        if part is not values[: len(values) // 2] or len(part) == len(values):
            estimator.epoch_ended(math.fsum(part), factor * math.fsum(part))
    return estimator


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
    one, batch = Estimator(3, 60), Estimator(3, 60)
    for value in values:
        one.step(value, 2 * value)
    batch.add_steps(values, [2 * value for value in values])
    assert one.predict() == batch.predict()


@pytest.mark.parametrize("with_steps", [True, False])
def test_intervals_narrow_with_evidence(with_steps: bool) -> None:
    estimator = Estimator(40)
    widths = []
    for _ in range(20):
        training(estimator, 1, [1.0] * (30 if with_steps else 0), [0.0 if with_steps else 30.0])
        low, high = estimator.predict().joules_95
        widths.append(high - low)
    assert widths[0] > widths[1] > widths[4] > widths[19]


# ---- over time -------------------------------------------------------------------------------


def test_the_parts_of_the_timeline_are_the_whole() -> None:
    estimator = Estimator(4)
    estimator.epoch_ended(3600.0, 7200.0)
    estimator.epoch_ended(1800.0, 7200.0)
    prediction = estimator.predict()
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
        estimator = Estimator(len(trace.epochs))
        for epoch in trace.epochs[:2]:
            estimator.add_steps(epoch.steps[:, 0], epoch.steps[:, 1])
            estimator.epoch_ended(*epoch.total)
        _, truth = trace.truth(len(trace.epochs))
        prediction = estimator.predict()
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
    told, learned = Estimator(6, steps_per_epoch=300), Estimator(6)
    steps = [2.0 - 0.5 * math.exp(-step / 80) for step in range(300)]
    for estimator in (told, learned):
        training(estimator, 2, steps)
    assert learned.predict().seconds == pytest.approx(told.predict().seconds, rel=1e-3)


@pytest.mark.parametrize("epochs", [10**6, 10**12, 10**18])
@pytest.mark.parametrize("steps", [0, 50])
def test_a_plan_without_an_end_is_still_predicted(epochs: int, steps: int) -> None:
    """Who trains until it is good enough says 10**12 epochs."""
    estimator = Estimator(epochs, steps or None)
    for number in (1.0, 1.3):
        for _ in range(steps):
            estimator.step(number / steps, number)
        estimator.epoch_ended(number, 50 * number)
    found = estimator.predict()
    for value, (low, high) in (
        (found.seconds, found.seconds_95),
        (found.joules, found.joules_95),
    ):
        assert 0 < low <= value <= high < math.inf
