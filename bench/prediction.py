"""Errors and intervals of predictions beside rules that fit on a line.

Every training is replayed up to each point; the predictor sees its steps and epochs, a second one
its epochs only. The rules: the simple rule, with steps and with epochs only (the epochs to come
cost the mean of the finished ones, the first left out once it cost more than the others; within the
first, what its steps after the warm-up say), the mean epoch, an exponential average, and the steps
of the first epoch times all. Parts, constants and intervals were chosen on seeds 1 to 5
(``--calibrate`` prints the intervals); the tables are of another seed.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.common import Report, Spread, arguments_parser, percentile, table
from bench.training_traces import REGIMES, Trace, recorded_set, simulated_set
from carbontracker.prediction import Predictor, predictor
from carbontracker.prediction.intervals import RATIOS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from carbontracker.model.prediction import Prediction

CHOSEN_ON = (1, 2, 3, 4, 5)
SEED = 6174
TRACES = 576
QUICK_TRACES = 90
POINTS = ("25 % of epoch 1", "1 %", "5 %", "10 %", "25 %", "epoch 1", "epoch 2", "epoch 5")
SHARES = {"1 %": 0.01, "5 %": 0.05, "10 %": 0.10, "25 %": 0.25}
GOAL_POINTS = ("25 % of epoch 1", "epoch 1", "epoch 2", "epoch 5")
DEARER = 1.02
"""The simple rule leaves out a first epoch that cost so many times the mean of the others."""
WARM_UP = 0.25
"""And, while there is no other, this part of its steps."""
SMOOTHING = 0.3
"""Weight of the newest epoch in the exponential average."""
WORST = "Where ours is worst beside the mean epoch, in points of the mean error of joules"
CHANGING = ("growing", "warmstart")
"""Recorded trainings whose epochs do not ask for the same work."""
MIN_STEPS = 400_000
SIMPLE = ("simple rule", "simple rule, epochs only")
NAMES = ("ours", "ours, epochs only", *SIMPLE, "mean epoch", "exponential", "linear")
ALL = "mean of all"
PARTS = {
    "the first epoch counts in full": {"COLD": math.inf},
    "no warm-up": {"WARM_UP": 0.0},
    "pauses come again": {"PAUSE": math.inf},
    "nothing comes every k epochs": {"OCCASIONAL": math.inf},
    "no allowance": {"ALLOWANCE": 0.0},
    "steps are alike, however many": {"SIMILAR": math.inf},
}
"""What the predictor is without each of its parts, by its constants."""


@dataclass(frozen=True)
class Outcome:
    """One predictor at one point of one training; logs of predicted over true."""

    regime: str
    point: str
    who: str
    seconds: float
    """Relative error."""
    joules: float
    held: tuple[bool, bool, bool, bool] | None = None
    """Whether the truth lay in the intervals: seconds 80, 95, joules 80, 95."""
    width: float = math.nan
    """Of the 95 % interval of joules over the truth."""
    alone: bool = False
    """No epoch has ended yet, so that the rules say nothing."""
    scores: tuple[tuple[str, int, float], ...] = ()
    """Quantity, row of the intervals, and true over predicted remainder."""


# ---- replay --------------------------------------------------------------------------------


def stops(trace: Trace) -> dict[tuple[int, int], list[str]]:
    """Return the points by (finished epochs, steps of the next)."""
    found: dict[tuple[int, int], list[str]] = defaultdict(list)
    found[0, max(1, round(0.25 * len(trace.epochs[0].steps)))].append(POINTS[0])
    counts = [len(epoch.steps) for epoch in trace.epochs]
    for name, share in SHARES.items():
        left = max(1, round(share * sum(counts)))
        epoch = 0
        while left >= counts[epoch]:
            left -= counts[epoch]
            epoch += 1
        found[epoch, left].append(name)
    for epoch in (1, 2, 5):
        if epoch < len(trace.epochs):
            found[epoch, 0].append(f"epoch {epoch}")
    return found


def outcomes(trace: Trace) -> Iterator[Outcome]:
    """Yield what every predictor says at every point."""
    wanted = stops(trace)
    ours = Predictor(len(trace.epochs))
    plain = Predictor(len(trace.epochs))
    ended: list[tuple[float, float]] = []
    for index in range(max(epoch for epoch, _ in wanted) + 1):
        epoch = trace.epochs[index]
        plan = trace.planned(index)
        ours.epochs = plain.epochs = plan
        ours.epoch_started(len(epoch.steps))
        for step in range(len(epoch.steps) + 1):
            for name in wanted.get((index, step), ()) if step < len(epoch.steps) else ():
                truth = trace.truth(plan)
                yield replace(judged(trace, name, "ours", ours, truth), alone=not ended)
                if ended:
                    yield judged(trace, name, "ours, epochs only", plain, truth)
                yield simple_outcome(trace, name, (index, step, plan), ended, truth)
                yield from rules(trace, name, plan, ended, truth)
                if not ended:
                    yield linear(trace, name, plan, step, truth)
            for at, kind, seconds, joules in epoch.marked:
                if at == step:
                    ours.step(seconds, joules, kind)
            if step < len(epoch.steps):
                ours.step(*epoch.steps[step].tolist())
        ours.epoch_ended(*epoch.total)
        plain.epoch_ended(*epoch.total)
        ended.append(epoch.total)


def judged(
    trace: Trace, point: str, who: str, predictor: Predictor, truth: tuple[float, float]
) -> Outcome:
    """Return how good a prediction is."""
    prediction = predictor.predict()
    seconds, joules = truth
    held = tuple(
        low <= true <= high
        for true, (low, high) in (
            (seconds, prediction.seconds_80),
            (seconds, prediction.seconds_95),
            (joules, prediction.joules_80),
            (joules, prediction.joules_95),
        )
    )
    low, high = prediction.joules_95
    return Outcome(
        trace.regime,
        point,
        who,
        prediction.seconds / seconds - 1,
        prediction.joules / joules - 1,
        (held[0], held[1], held[2], held[3]),
        (high - low) / joules,
        scores=scores(prediction, truth),
    )


def scores(
    prediction: Prediction, truth: tuple[float, float]
) -> tuple[tuple[str, int, float], ...]:
    """Return true over predicted remainder, and the row of the intervals that it belongs to."""
    row = max(epochs for epochs in RATIOS["joules"] if epochs <= prediction.after_epochs)
    return tuple(
        (quantity, row, (true - done) / (whole - done))
        for quantity, done, whole, true in (
            ("seconds", prediction.done_seconds, prediction.seconds, truth[0]),
            ("joules", prediction.done_joules, prediction.joules, truth[1]),
        )
    )


def simple_rule(values: Sequence[float]) -> float:
    """Return the mean epoch; without the first where that was dearer than the others."""
    if len(values) > 1 and values[0] > DEARER * statistics.fmean(values[1:]):
        return statistics.fmean(values[1:])
    return statistics.fmean(values)


def simple_outcome(
    trace: Trace,
    point: str,
    place: tuple[int, int, int],
    ended: Sequence[tuple[float, float]],
    truth: tuple[float, float],
) -> Outcome:
    """Return what the simple rule says with steps, which tell as long as one epoch is known.

    Args:
        trace: the training.
        point: where it is.
        place: finished epochs, steps of the next, planned epochs.
        ended: totals of the finished epochs.
        truth: of the planned epochs.
    """
    finished, step, plan = place
    if finished > 1:
        whole = [
            sum(values) + (plan - finished) * simple_rule(values)
            for values in zip(*ended, strict=True)
        ]
        return plain_outcome(trace, point, SIMPLE[0], whole, truth)
    steps = trace.epochs[0].steps[: None if finished else step]
    settled = steps[int(WARM_UP * len(steps)) :].mean(axis=0)
    first = ended[0] if finished else settled * len(trace.epochs[0].steps)
    counts = [len(part.steps) for part in trace.epochs]
    beside = [
        total - float(of_steps) if finished else 0.0
        for total, of_steps in zip(first, steps.sum(axis=0), strict=True)
    ]
    whole = [
        total + (plan - 1) * (float(mean) * counts[finished] + more)
        for total, mean, more in zip(first, settled, beside, strict=True)
    ]
    return plain_outcome(trace, point, SIMPLE[0], whole, truth)


def rules(
    trace: Trace,
    point: str,
    plan: int,
    ended: Sequence[tuple[float, float]],
    truth: tuple[float, float],
) -> Iterator[Outcome]:
    """Yield the rules that know epochs only, if one has ended."""
    if not ended:
        return
    whole = [
        math.fsum(values) + (plan - len(values)) * simple_rule(values)
        for values in zip(*ended, strict=True)
    ]
    yield plain_outcome(trace, point, SIMPLE[1], whole, truth)
    means = [statistics.fmean(values) for values in zip(*ended, strict=True)]
    yield plain_outcome(trace, point, "mean epoch", [plan * mean for mean in means], truth)
    whole = []
    for values in zip(*ended, strict=True):
        average = values[0]
        for value in values[1:]:
            average += SMOOTHING * (value - average)
        whole.append(math.fsum(values) + (plan - len(values)) * average)
    yield plain_outcome(trace, point, "exponential", whole, truth)


def linear(trace: Trace, point: str, plan: int, step: int, truth: tuple[float, float]) -> Outcome:
    """Return what the steps of the first epoch, each alike, would make of all."""
    epoch = trace.epochs[0]
    so_far = epoch.steps[:step].sum(axis=0) / step
    counts = [len(part.steps) for part in trace.epochs[:plan]]
    return plain_outcome(trace, point, "linear", list(so_far * sum(counts)), truth)


def plain_outcome(
    trace: Trace, point: str, who: str, whole: Sequence[float], truth: tuple[float, float]
) -> Outcome:
    """Return the outcome of a rule without intervals."""
    seconds, joules = (value / true - 1 for value, true in zip(whole, truth, strict=True))
    return Outcome(trace.regime, point, who, float(seconds), float(joules))


def all_outcomes(traces: Iterable[Trace]) -> list[Outcome]:
    """Return the outcomes of all trainings."""
    return [outcome for trace in traces for outcome in outcomes(trace)]


# ---- tables --------------------------------------------------------------------------------


def percent(values: Sequence[float]) -> str:
    """Return the mean absolute error, and its 90th percentile, in percent."""
    sizes = [abs(value) for value in values]
    return (
        f"{100 * statistics.fmean(sizes):.1f} ({100 * percentile(sizes, 0.9):.1f})" if sizes else ""
    )


def errors(found: Sequence[Outcome], quantity: str) -> dict[tuple[str, str, str], list[float]]:
    """Return the errors by regime, point and predictor."""
    groups: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for outcome in found:
        groups[outcome.regime, outcome.point, outcome.who].append(getattr(outcome, quantity))
        if outcome.who == "ours" and not outcome.alone:
            groups[outcome.regime, outcome.point, "ours, beside"].append(getattr(outcome, quantity))
    return groups


def error_table(found: Sequence[Outcome], regimes: Sequence[str], quantity: str) -> str:
    """Return mean absolute errors of all predictors."""
    groups = errors(found, quantity)
    rows = []
    for regime in regimes:
        for point in POINTS:
            cells = [groups.get((regime, point, who), []) for who in NAMES]
            if any(cells):
                rows.append([regime, point, str(len(cells[0])), *map(percent, cells)])
    return table(["training", "at", "n", *NAMES], rows)


def held_share(found: Iterable[Outcome], index: int) -> float:
    """Return how often an interval held the truth, in percent."""
    held = [outcome.held[index] for outcome in found if outcome.held]
    return 100 * statistics.fmean(held) if held else math.nan


def coverage_table(found: Sequence[Outcome], rows: Sequence[tuple[str, str, str]]) -> str:
    """Return coverages of (label, field, value) of outcomes, "" for all, by predictor."""
    lines = []
    for who in NAMES[:2]:
        for label, name, value in rows:
            part = [o for o in found if o.who == who and (not name or getattr(o, name) == value)]
            if part:
                cells = [f"{held_share(part, index):.1f}" for index in (2, 3, 0, 1)]
                width = statistics.median([100 * outcome.width for outcome in part])
                lines.append([who, label, str(len(part)), *cells, f"{width:.1f}"])
    head = ["", "of", "n", "joules 80 %", "joules 95 %", "seconds 80 %", "seconds 95 %"]
    return table([*head, "width, % of the whole"], lines)


def size(values: Sequence[float]) -> float:
    """Return the mean absolute error in percent."""
    return 100 * statistics.fmean(map(abs, values))


def worst(found: Sequence[Outcome], who: str, quantity: str) -> str:
    """Return the three places where a predictor is worst beside the mean-epoch rule, in points."""
    groups = errors(found, quantity)
    places = sorted(
        (size(groups[regime, point, who]) - size(rule), regime, point)
        for (regime, point, name), rule in list(groups.items())
        if name == "mean epoch"
    )[:-4:-1]
    return ", ".join(f"{more:+.1f} ({regime}, {point})" for more, regime, point in places)


def parts_table(traces: Sequence[Trace], found: Sequence[Outcome]) -> str:
    """Return by how many points the error of joules grows without each part, with steps.

    In brackets the two kinds of training that it earns and costs the most in.
    """
    groups = errors(found, "joules")
    rows = []
    for name, constants in PARTS.items():
        kept = {constant: getattr(predictor, constant) for constant in constants}
        try:
            for constant, value in constants.items():
                setattr(predictor, constant, value)
            without = errors(all_outcomes(traces), "joules")
        finally:
            for constant, value in kept.items():
                setattr(predictor, constant, value)
        cells = []
        for point in GOAL_POINTS:
            more = {
                regime: size(without[regime, point, "ours"]) - size(groups[regime, point, "ours"])
                for regime in REGIMES
            }
            least, most = min(more, key=more.__getitem__), max(more, key=more.__getitem__)
            ends = (f"{most} {more[most]:+.1f}", f"{least} {more[least]:+.1f}")
            mean = statistics.fmean(more.values())
            cells.append(f"{mean:+.2f} ({', '.join(ends)})" if any(more.values()) else "")
        rows.append([name, *cells])
    return table(["without the part", *GOAL_POINTS], rows)


def goals(report: Report, found: Sequence[Outcome]) -> None:
    """Judge the goals on simulated trainings."""
    groups = errors(found, "joules")
    for what, regime, point, goal in (
        ("clean, after epoch 1", "clean", "epoch 1", 0.55),
        ("cold cache, after epoch 2", "cold cache", "epoch 2", 1 / 7),
    ):
        ratio = size(groups[regime, point, "ours"]) / size(groups[regime, point, "mean epoch"])
        count = len(groups[regime, point, "ours"])
        report.row(
            f"error of joules, {what}", Spread(ratio, ratio, ratio, count), "mean epoch", goal
        )
    early = size(groups["clean", POINTS[0], "ours"])
    lines = [
        f"Clean, at 25 % of the first epoch: {early:.1f} % (goal: 7 %).",
        f"{WORST} (goal: +1.0 at most): {worst(found, 'ours, beside', 'joules')}.",
        f"The same without step marks: {worst(found, NAMES[1], 'joules')}.",
        (
            f"Seconds: {worst(found, 'ours, beside', 'seconds')}; without step marks "
            f"{worst(found, NAMES[1], 'seconds')}."
        ),
    ]
    for label, index, low, high in (
        ("80 % interval of joules", 2, 76, 86),
        ("95 % interval of joules", 3, 91, 99),
        ("80 % interval of seconds", 0, 76, 86),
        ("95 % interval of seconds", 1, 91, 99),
    ):
        share = held_share(found, index)
        verdict = "met" if low <= share <= high else "missed"
        lines.append(f"The {label} holds {share:.1f} % ({low} to {high}: {verdict}).")
    report.say("\n".join(f"* {line}" for line in lines))


# ---- intervals and cost -------------------------------------------------------------------------


def calibrate(found: Iterable[Outcome]) -> None:
    """Print the table of ``carbontracker/prediction/intervals.py``."""
    groups: dict[tuple[str, int], list[float]] = defaultdict(list)
    for outcome in found:
        for quantity, row, ratio in outcome.scores:
            groups[quantity, row].append(ratio)
    for (quantity, row), values in sorted(groups.items()):
        shares = ", ".join(
            f"{percentile(values, share):.3f}" for share in (0.025, 0.10, 0.90, 0.975)
        )
        print(f"    {quantity} {row}: Ratios({shares}),")


def resident_kib() -> float:
    """Return the resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024


def cost(report: Report, steps: int) -> None:
    """Time single steps, and watch memory over many."""
    one = Predictor(1, steps)
    step, clock = one.step, time.perf_counter_ns
    empty, times = [], []
    for _ in range(200_000):
        begin = clock()
        end = clock()
        empty.append(end - begin)
    for index in range(200_000):
        seconds = 0.1 + 0.001 * (index % 7)
        begin = clock()
        step(seconds, 20.0)
        times.append(clock() - begin)
    shares = (0.5, 0.99, 0.999)
    taken = [percentile(times, share) - percentile(empty, 0.5) for share in shares]
    marks = []
    begin = time.process_time()
    for index in range(steps - 200_000):
        if index % max(1, steps // 20) == 0:
            marks.append(resident_kib())
        step(0.1 + 0.001 * (index % 7), 20.0)
    marks.append(resident_kib())
    spent = time.process_time() - begin
    begin_predict = time.process_time()
    for _ in range(20):
        one.predict()
    predict_ms = (time.process_time() - begin_predict) / 20 * 1e3
    report.say(
        f"`step()`: p50 {taken[0]:.0f} ns, p99 {taken[1]:.0f} ns, p99.9 {taken[2]:.0f} ns, less "
        f"the clock's own {percentile(empty, 0.5):.0f} ns. "
        f"{steps:,} steps took {spent:.1f} s of CPU. Resident memory grew by "
        f"{marks[-1] - marks[1]:.0f} KiB from a twentieth of them to the end (at most "
        f"{max(marks) - marks[1]:.0f} KiB). `predict()`: {predict_ms:.1f} ms."
    )


def main() -> None:
    """Print the tables, or the factors."""
    parser = arguments_parser(__doc__)
    seeds = ", ".join(map(str, CHOSEN_ON))
    parser.add_argument(
        "--calibrate", action="store_true", help=f"print the intervals, found on seeds {seeds}"
    )
    parser.add_argument("--seed", type=int, default=SEED, help="of the simulated trainings")
    parser.add_argument("--traces", type=int, help="simulated trainings")
    parser.add_argument("--steps", type=int, help=f"steps for the cost, {MIN_STEPS} or more")
    arguments = parser.parse_args()
    if arguments.steps and arguments.steps < MIN_STEPS:
        parser.error(f"--steps: at least {MIN_STEPS}, or there is no growth of memory to see")
    count = arguments.traces or (QUICK_TRACES if arguments.quick else TRACES)
    if arguments.calibrate:
        sets = (simulated_set(seed, count) for seed in CHOSEN_ON)
        calibrate(outcome for traces in sets for trace in traces for outcome in outcomes(trace))
        return
    report = Report("prediction", "Prediction", arguments.quick)
    simulated = list(simulated_set(arguments.seed, count))
    found = all_outcomes(simulated)
    report.say(
        f"`python -m bench.prediction --seed {arguments.seed} --traces {count}`\n\n"
        f"{count} simulated trainings of seed {arguments.seed}; parts, constants and intervals "
        f"were chosen on seeds {seeds}. Absolute error "
        "of the joules of the whole training in percent: mean (90th percentile). Where only some "
        "of the trainings have ended an epoch, the rules are of these. `linear`: the mean step so "
        "far, times all steps."
    )
    together = [*found, *(replace(outcome, regime=ALL) for outcome in found)]
    report.say(error_table(together, (*REGIMES, ALL), "joules"))
    report.say(
        "What each part earns: by how many points the mean error of joules over the kinds, with "
        "steps, grows without it (in brackets: the kinds in which that is most and least)."
    )
    report.say(parts_table(simulated, found))
    report.say("The same as the first table, for seconds:")
    report.say(error_table(together, (*REGIMES, ALL), "seconds"))
    report.say("How often intervals held the truth, in percent, and their median width:")
    rows = [("all", "", ""), *((name, "point", name) for name in POINTS)]
    report.say(coverage_table(found, [*rows, *((name, "regime", name) for name in REGIMES)]))
    goals(report, found)
    recorded = list(recorded_set())
    real = all_outcomes(recorded)
    alike = [replace(o, regime="all alike") for o in real if o.regime not in CHANGING]
    report.say(
        "Recorded trainings (see `bench/record_traces.py`), joules. The last rows are the mean of "
        f"all but {' and '.join(CHANGING)}, in which the work of an epoch changes later."
    )
    names = [trace.regime for trace in recorded]
    report.say(error_table([*real, *alike], [*names, "all alike"], "joules"))
    report.say(coverage_table(real, [("all", "", ""), *((n, "regime", n) for n in names)]))
    report.say(
        f"* {WORST}, all alike: {worst(alike, 'ours, beside', 'joules')}; without step marks "
        f"{worst(alike, NAMES[1], 'joules')}.\n"
        f"* The 95 % interval of joules holds {held_share(alike, 3):.1f} %, the 80 % interval "
        f"{held_share(alike, 2):.1f} % of these."
    )
    cost(report, arguments.steps or (1_000_000 if arguments.quick else 10_000_000))
    report.finish(arguments)


if __name__ == "__main__":
    main()
