"""Marks of steps: exact counts, bounded blocks, and a prediction within the first epoch."""

from __future__ import annotations

import math
import os
import time
import tracemalloc
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from carbontracker.prediction.predictor import STEP
from carbontracker.prediction.previous_run import previous_run
from carbontracker.records.reader import read_run
from carbontracker.records.validate import check_file
from carbontracker.tracker import CarbonTracker
from carbontracker.training.forecaster import pieces
from carbontracker.training.steps import EARLY_SHARE, MAX_BLOCKS, Block, Steps, length_of
from tests.support.programs import DEVICES, WATTS, hide_sensors, read_record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def only_simulated_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hide_sensors(monkeypatch, tmp_path)
    monkeypatch.setenv("CARBONTRACKER_LOCATION", "DK")


def never() -> None:
    raise AssertionError("looked up before it was time")


NEVER_NS = 10**18


# ---- blocks --------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, MAX_BLOCKS - 1, MAX_BLOCKS, 10_007])
def test_every_step_is_in_one_block_and_blocks_are_few(count: int) -> None:
    steps = Steps(never, NEVER_NS)
    steps.begin()
    for _ in range(count):
        steps.mark()
    assert steps.done == count
    steps.end(time.monotonic_ns())
    blocks = steps.blocks()
    assert sum(block.steps for block in blocks) == count
    assert len(blocks) < MAX_BLOCKS or count == 0
    assert {block.kind for block in blocks} <= {STEP}
    for before, after in pairwise(blocks):
        assert before.end_ns == after.start_ns
    assert all(block.start_ns <= block.end_ns for block in blocks)


def test_a_long_epoch_keeps_at_least_half_as_many() -> None:
    steps = Steps(never, NEVER_NS)
    steps.begin()
    for _ in range(20_000):
        steps.mark()
    assert MAX_BLOCKS // 2 <= len(steps.blocks()) < MAX_BLOCKS


def test_steps_may_come_in_numbers() -> None:
    steps = Steps(never, NEVER_NS)
    steps.begin()
    for _ in range(1000):
        steps.mark(64)
    steps.end(time.monotonic_ns())
    assert sum(block.steps for block in steps.blocks()) == 64_000


def test_phases_are_kept_apart() -> None:
    steps = Steps(never, NEVER_NS)
    steps.begin()
    for _ in range(3):
        steps.mark()
    with steps.phase("validation"):
        steps.mark(5)  # of something else: it does not count
    steps.mark()
    steps.end(time.monotonic_ns())
    kinds = [(block.kind, block.steps) for block in steps.blocks()]
    assert kinds == [(STEP, 1)] * 3 + [("validation", 0), (STEP, 1)]
    blocks = steps.blocks()
    assert all(a.end_ns <= b.start_ns for a, b in pairwise(blocks))


def test_a_phase_after_every_step_takes_no_more_room() -> None:
    steps = Steps(never, NEVER_NS)
    steps.begin()
    for _ in range(20_000):
        steps.mark()
        with steps.phase("checkpoint"):
            pass
    assert steps.done == 20_000
    kinds = [block.kind for block in steps.blocks()]
    assert len(kinds) < MAX_BLOCKS
    assert min(kinds.count(STEP), kinds.count("checkpoint")) > MAX_BLOCKS // 8


def test_memory_does_not_grow() -> None:
    steps = Steps(never, NEVER_NS)
    steps.begin()
    for _ in range(10 * MAX_BLOCKS):
        steps.mark()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(50_000):
            steps.mark()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 100 * MAX_BLOCKS  # bytes: the blocks themselves, new ones


def test_outside_an_epoch_nothing_is_kept() -> None:
    steps = Steps(never, NEVER_NS)
    steps.begin()
    steps.end(time.monotonic_ns())
    steps.mark(7)
    with steps.phase("validation"):
        pass
    assert steps.blocks() == []
    steps.begin()
    assert steps.done == 0


def test_looking_up_is_rare_and_the_early_prediction_comes_once() -> None:
    early: list[int] = []
    steps = Steps(lambda: early.append(steps.done) if steps.early else None, 0)
    steps.per_epoch = 200
    steps.begin(early=True)
    for _ in range(200):
        steps.mark()
    assert early == [EARLY_SHARE * 200]

    looks: list[int] = []
    steps = Steps(lambda: looks.append(steps.done), NEVER_NS)
    steps.mark()  # before any epoch: the first one looks
    for _ in range(1000):
        steps.mark()
    assert len(looks) == 1


class Refusing:
    def __init__(self, error: Exception) -> None:
        self._error = error

    def __len__(self) -> int:
        raise self._error


class Endless:
    def __len__(self) -> int:
        return 10**20  # len() takes no such number


@pytest.mark.parametrize(
    ("items", "length"),
    [
        *(([1, 2], 2), (range(7), 7), ([], None), (iter([1]), None), (None, None)),
        *((Refusing(TypeError()), None), (Refusing(ValueError()), None), (Endless(), None)),
    ],
)
def test_the_number_of_steps_if_it_is_known(items: object, length: int | None) -> None:
    assert length_of(items) == length


# ---- what the forecaster gets --------------------------------------------------------------


def block(steps: int, start_s: int, end_s: int, kind: str = STEP) -> Block:
    return Block(steps, start_s * 10**9, end_s * 10**9, kind)


def test_pieces_have_as_many_steps_each_and_lose_nothing() -> None:
    blocks = [block(3, 0, 3), block(5, 3, 13), block(0, 13, 20, "validation"), block(4, 20, 24)]
    joules = [30.0, 100.0, 700.0, 40.0]
    made = list(pieces(blocks, joules, 12, 4))
    assert made == [
        pytest.approx((3 + 2, 30 + 20, STEP)),  # three steps of 1 s, one of 2 s
        pytest.approx((8, 80, STEP)),
        (7.0, 700.0, "validation"),
        pytest.approx((4, 40, STEP)),
    ]


@pytest.mark.parametrize(("steps", "expected"), [(5, 1), (6, 2), (7, 2)])
def test_half_a_piece_at_the_end_counts_as_one(steps: int, expected: int) -> None:
    made = list(pieces([block(steps, 0, steps)], [1.0 * steps], steps, 4))
    assert [one[:2] for one in made] == [pytest.approx((4.0, 4.0))] * expected


def test_the_rest_stand_for_blocks_that_were_dropped() -> None:
    made = list(pieces([block(4, 0, 4), block(4, 8, 12)], [4.0, 4.0], 16, 4))
    assert [one[:2] for one in made] == [pytest.approx((4.0, 4.0))] * 4


# ---- in a training -------------------------------------------------------------------------


def make(epochs: int, **arguments: Any) -> CarbonTracker:
    return CarbonTracker(epochs, **{"verbose": 0, **DEVICES, **arguments})


def lasting(items: int, seconds: float) -> Iterator[int]:
    for item in range(items):
        time.sleep(seconds)
        yield item


def test_items_pass_through_and_their_number_is_learnt() -> None:
    tracker = make(2)
    seen = [list(tracker.steps("abc")) for _ in tracker.epochs()]
    assert seen == [["a", "b", "c"]] * 2
    assert tracker._steps.per_epoch == 3

    tracker = make(1)
    batches = [10, 20]
    assert [list(tracker.steps(batches)) for _ in tracker.epochs(batches)] == [batches]
    assert tracker._steps.per_epoch == 2

    tracker = make(1, steps_per_epoch=5)
    list(tracker.steps(batches))
    assert tracker._steps.per_epoch == 5  # the argument counts
    tracker.stop()


@pytest.mark.parametrize("wrong", [0, -1, 2.5, "many"])
def test_an_impossible_number_of_steps_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="steps_per_epoch must be a whole number of at least 1"):
        make(1, steps_per_epoch=wrong)


def test_a_previous_run_shows_a_first_epoch_unlike_the_others(tmp_path: Path) -> None:
    """First 0.6 s, then 0.15 s each: after the first, the others are known to be shorter."""
    runs = []
    for previous in (None, tmp_path):
        tracker = make(4, log_dir=tmp_path, previous_run=previous)
        for epoch in tracker.epochs():
            time.sleep(0.6 if epoch == 0 else 0.15)
        assert tracker.result is not None
        runs.append(tracker.result)
    alone, told = (run.forecasts[0].prediction for run in runs)
    assert alone.seconds > 4 * 0.6
    assert "previous run" in told.method
    # Beside its own first epoch, so that a machine that was busier does not count.
    first = runs[1].epochs[0]
    assert first.seconds < told.seconds < 0.75 * 4 * first.seconds
    assert told.joules < 0.75 * 4 * first.energy.joules


@pytest.mark.parametrize("previous", ["nowhere.jsonl", ".", "pipe", "a\udc80bcd"])
def test_a_previous_run_that_cannot_be_used_is_ignored(
    previous: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    tracker = make(1, previous_run=previous, verbose=1)
    for _ in tracker.epochs():
        pass
    assert "previous_run ignored: " in capsys.readouterr().err
    warnings = [one for one in read_record(tmp_path / "records") if one["event"] == "warning"]
    assert any(one["message"].startswith("previous_run ignored: ") for one in warnings)
    assert tracker.result is not None
    assert tracker.result.finished_epochs == 1


@pytest.mark.parametrize("wrong", [7, b"logs", ""])
def test_values_that_are_not_a_previous_run_are_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="previous_run must be a record"):
        make(1, previous_run=wrong)


def test_the_first_epoch_of_a_previous_run_is_the_one_with_that_number(tmp_path: Path) -> None:
    tracker = make(3, log_dir=tmp_path)
    for _ in tracker.epochs():
        time.sleep(0.02)
    (file,) = tmp_path.glob("*.jsonl")
    assert previous_run(file).seconds.first > 0
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if '"index":1,' not in line))
    assert math.isnan(previous_run(file).seconds.first)
    assert previous_run(file).seconds.later > 0


def test_a_prediction_within_the_first_epoch(tmp_path: Path) -> None:
    tracker = make(2, steps_per_epoch=30, log_dir=tmp_path)
    for epoch in tracker.epochs():
        for _ in tracker.steps(lasting(30, 0.05 if epoch == 0 else 0.0)):
            pass
    assert tracker.result is not None
    early, after_one = tracker.result.forecasts
    prediction = early.prediction
    assert 0.1 < prediction.after_epochs < 1
    assert prediction.method.startswith("steps")
    assert prediction.joules_95[0] < prediction.joules < prediction.joules_95[1]
    assert prediction.epochs == 2
    # Power is constant, so that energy is to time as it is.
    assert prediction.joules / prediction.seconds == pytest.approx(WATTS, rel=0.1)
    # Sleeps are never shorter than asked for: 2 epochs of 30 steps of 50 ms.
    assert prediction.seconds > 0.95 * 3.0
    assert after_one.prediction.after_epochs == 1
    for forecast in (early, after_one):
        grams = forecast.footprint.gco2eq
        low, high = forecast.gco2eq_95
        assert low < forecast.gco2eq_80[0] < grams < forecast.gco2eq_80[1] < high
        # An annual figure used for certain hours is itself no better than some 30 %.
        assert high / grams > prediction.joules_95[1] / prediction.joules

    events = read_record(tmp_path)
    made = [event["after_epochs"] for event in events if event["event"] == "prediction"]
    assert made == [prediction.after_epochs, 1]
    (file,) = tmp_path.glob("*.jsonl")
    assert list(check_file(file)) == []
    assert [one.prediction.after_epochs for one in read_run(file).forecasts] == made
    compared = events[-1]["predicted_against_actual"]
    assert [one["after_epochs"] for one in compared] == made
    for one, forecast in zip(compared, tracker.result.forecasts, strict=True):
        assert one["kwh"]["predicted"] == forecast.footprint.kwh
        assert one["kwh"]["actual"] == tracker.result.footprint.kwh
        assert one["kwh"]["relative_error"] == pytest.approx(
            forecast.footprint.kwh / tracker.result.footprint.kwh - 1.0
        )
        assert one["seconds"]["predicted"] == forecast.prediction.seconds


def test_no_early_prediction_if_it_is_switched_off(tmp_path: Path) -> None:
    tracker = make(2, steps_per_epoch=3, epochs_before_pred=0, log_dir=tmp_path)
    for _ in tracker.epochs():
        for _ in tracker.steps(lasting(3, 0.4)):
            pass
    assert tracker.result is not None
    assert tracker.result.forecasts == ()
    assert read_record(tmp_path)[-1]["predicted_against_actual"] == []


def test_a_training_that_was_cut_short_is_compared_with_nothing(tmp_path: Path) -> None:
    tracker = make(5, log_dir=tmp_path)
    tracker.epoch_start()
    tracker.epoch_end()
    tracker.stop()
    assert read_record(tmp_path)[-1]["predicted_against_actual"] == []


def test_marks_after_the_end_and_of_a_refused_tracker_do_nothing() -> None:
    tracker = make(1, components="tpu", ignore_errors=True)
    tracker.step()
    with tracker.phase("validation"):
        tracker.step(3)
    assert list(tracker.steps([1, 2])) == [1, 2]
    tracker = make(1)
    tracker.stop()
    for _ in range(1000):
        tracker.step()
    assert tracker.deleted


@pytest.mark.parametrize("count", [0, -1, -(10**6), math.nan, math.inf, "four", None, 0.5])
def test_an_invalid_number_of_steps_is_ignored(count: Any) -> None:
    steps = Steps(lambda: None)
    steps.begin()
    steps.mark(2)
    steps.mark(count)
    steps.mark()
    assert steps.done == 3
    assert sum(block.steps for block in steps.blocks()) == 3


def test_a_phase_called_step_is_still_a_phase() -> None:
    tracker = CarbonTracker(2, verbose=0, **DEVICES)
    for _ in range(2):
        tracker.epoch_start()
        tracker.step()
        with tracker.phase(STEP):
            time.sleep(0.01)
        tracker.step()
        tracker.epoch_end()
    assert tracker.result is not None
    assert tracker.result.finished_epochs == 2
    assert tracker.result.forecast is not None
    assert tracker.result.forecast.prediction.seconds > 0.01


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    tracker = CarbonTracker(
        np.int64(2),  # what len(loader) // k often is
        steps_per_epoch=np.int64(4),
        log_dir=tmp_path,
        verbose=0,
        **DEVICES,
    )
    for _ in range(2):
        tracker.epoch_start()
        for _ in range(2):
            time.sleep(0.01)
            tracker.step(np.int64(2))
        tracker.epoch_end()
    assert tracker.result is not None
    assert tracker.result.forecast is not None
    assert type(tracker.result.forecast.prediction.seconds) is float
    assert tracker.result.finished_epochs == 2


@pytest.mark.parametrize("epochs", [math.nan, math.inf, "3", None])
def test_epochs_that_cannot_be_counted_are_refused_at_once(epochs: Any) -> None:
    with pytest.raises(ValueError, match="epochs must be a finite number"):
        CarbonTracker(epochs, verbose=0, **DEVICES)


def test_a_training_of_a_thousand_years_is_predicted_and_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tracker = CarbonTracker(10**13, verbose=0, **DEVICES)
    for _ in range(2):
        tracker.epoch_start()
        time.sleep(0.01)
        tracker.epoch_end()
    tracker.stop()
    assert "Ignored error" not in capsys.readouterr().err
    assert tracker.result is not None
    assert tracker.result.forecast is not None
    assert tracker.result.forecast.prediction.seconds > 1000 * 365 * 86_400
    price = tracker.result.forecast.footprint
    joules = tracker.result.forecast.prediction.joules
    assert price.kwh == pytest.approx(joules / 3.6e6 * price.pue)
    assert price.gco2eq == pytest.approx(price.kwh * price.intensity.gco2eq_per_kwh)
