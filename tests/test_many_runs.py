"""Many runs: no joule of a machine twice in a total, differences with intervals, tables, checks."""

from __future__ import annotations

import json
import math
import random
import re
import statistics
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carbontracker.cli import main
from carbontracker.records.aggregate import (
    COPY,
    INCOMPLETE,
    MEAN_POWER,
    NO_ERROR,
    OVERLAP,
    PARTLY,
    UNKNOWN,
    Total,
    add_runs,
)
from carbontracker.records.compare import Side, compare, student_quantile, welch_half_width
from carbontracker.records.reader import read_run, read_runs
from tests.support.records import GRAMS, PUE, Made, Rank, level

if TYPE_CHECKING:
    from pathlib import Path

KWH = PUE / 3.6e6
SAME_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
BOTH = (("gpu:0", "gpu/GPU-1"), ("cpu:0", "cpu/0"))


def total_of(directory: Path, *runs: Made) -> Total:
    for run in runs:
        run.write(directory)
    return add_runs(read_runs(directory, series=False, epochs=False))


def noted(total: Total) -> dict[str, int]:
    return total.left_out


# ---- totals --------------------------------------------------------------------------------


def test_runs_one_after_another_add_up(tmp_path: Path) -> None:
    total = total_of(
        tmp_path,
        Made("a1", (1000.0, 500.0)),
        Made("a2", (2000.0,), began_s=20.0),
        Made("a3", (4000.0,), began_s=100.0),
    )
    assert total.joules == pytest.approx(7500)
    assert total.kwh == pytest.approx(7500 * KWH)
    assert total.gco2eq == pytest.approx(7500 * KWH * GRAMS)
    assert total.error_kwh == pytest.approx(0.02 * 7500 * KWH)
    assert (total.runs, noted(total)) == (3, {})


def test_an_error_that_is_not_known_is_not_zero(tmp_path: Path) -> None:
    total = total_of(
        tmp_path, Made("a1"), Made("a2", (2000.0,), began_s=20.0, relative_error=math.nan)
    )
    assert total.joules == pytest.approx(3000)
    assert total.error_kwh == pytest.approx(0.02 * 1000 * KWH)
    assert noted(total) == {NO_ERROR: 1}


def test_ranks_of_a_job_that_see_one_node_count_once(tmp_path: Path) -> None:
    ranks = [Made(f"rank{i}", (8000.0,), began_s=0.0, boot_id="b1") for i in range(8)]
    other_node = Made("other", (5000.0,), boot_id="b2")
    total = total_of(tmp_path, *ranks, other_node)
    assert total.joules == pytest.approx(13_000)
    assert (total.runs, noted(total)) == (2, {OVERLAP: 7})


def test_ranks_with_a_gpu_of_their_own_share_the_processor(tmp_path: Path) -> None:
    ranks = [
        Made(f"rank{i}", (2000.0,), devices=(("gpu:0", f"gpu/GPU-{i}"), ("cpu:0", "cpu/0")))
        for i in range(4)
    ]
    total = total_of(tmp_path, *ranks)
    # Four GPUs of 1000 J each, and one processor of 1000 J that all of them saw.
    assert total.joules == pytest.approx(5000)
    assert (total.runs, noted(total)) == (4, {PARTLY: 3})


def test_a_training_in_a_measured_command_counts_once(tmp_path: Path) -> None:
    outer = Made("outer", (9000.0,), seconds=100.0, devices=BOTH)
    inner = Made("inner", (4000.0,), began_s=10.0, seconds=50.0, devices=BOTH, parent="outer")
    total = total_of(tmp_path, outer, inner)
    assert total.joules == pytest.approx(9000)
    assert noted(total) == {OVERLAP: 1}


def test_a_training_outlives_the_command_that_was_killed(tmp_path: Path) -> None:
    outer = Made("outer", (1000.0,), seconds=10.0, finished=False, planned=1)
    inner = Made("inner", (8000.0,), began_s=5.0, seconds=20.0, parent="outer")
    total = total_of(tmp_path, outer, inner)
    # 5 of the inner 20 s lie within what the outer one saw.
    assert total.joules == pytest.approx(1000 + 8000 * 15 / 20)
    assert noted(total) == {INCOMPLETE: 1, PARTLY: 1}


def test_copies_of_a_record_count_once_and_the_complete_one_is_used(tmp_path: Path) -> None:
    whole = Made("aaaa", (1000.0, 1000.0))
    total = total_of(tmp_path, whole)
    Made("aaaa", (1000.0,), finished=False).write(tmp_path / "backup", "a-part")
    whole.write(tmp_path / "backup", "z-copy")
    total = add_runs(read_runs(tmp_path))
    assert total.joules == pytest.approx(2000)
    assert noted(total) == {COPY: 2}


def test_unknown_energy_is_counted_as_unknown(tmp_path: Path) -> None:
    killed_early = Made("early", (), finished=False, planned=5)
    part = Made("part", (1000.0,), began_s=50, finished=False, planned=5)
    total = total_of(tmp_path, killed_early, part)
    assert total.joules == 1000
    assert (total.runs, noted(total)) == (1, {UNKNOWN: 1, INCOMPLETE: 1})
    assert math.isnan(Total().modelled_share)


RUN = st.tuples(
    st.integers(0, 60), st.integers(1, 60), st.integers(1, 1000), st.sampled_from(["n1", "n2"])
)


@SAME_FOLDER
@given(st.lists(RUN, min_size=1, max_size=8))
def test_at_constant_power_any_overlap_counts_each_second_once(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[int, int, int, str]]
) -> None:
    directory = tmp_path_factory.mktemp("runs")
    seconds: set[tuple[str, int]] = set()
    for number, (began_s, length_s, _, host) in enumerate(runs):
        joules = 100.0 * length_s  # each of them sees the same 100 W
        Made(f"r{number}", (joules,), float(began_s), float(length_s), host).write(directory)
        seconds |= {(host, second) for second in range(began_s, began_s + length_s)}
    total = add_runs(read_runs(directory))
    assert total.joules == pytest.approx(100.0 * len(seconds), rel=1e-6)
    assert total.device_seconds == pytest.approx(len(seconds), rel=1e-6)


@SAME_FOLDER
@given(st.lists(RUN, min_size=1, max_size=6), st.randoms())
def test_the_order_of_files_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory,
    runs: list[tuple[int, int, int, str]],
    shuffle: random.Random,
) -> None:
    made = [
        Made(f"r{i}", (float(joules),), float(began_s), float(length_s), host)
        for i, (began_s, length_s, joules, host) in enumerate(runs)
    ]
    totals = []
    for _ in range(2):
        directory = tmp_path_factory.mktemp("runs")
        for number, run in enumerate(made):
            run.write(directory, f"{number:02d}")
        totals.append(add_runs(read_runs(directory)).joules)
        shuffle.shuffle(made)
    most = sum(joules for _, _, joules, _ in runs)
    assert totals[0] <= most * (1 + 1e-9)
    begins = [(began_s, length_s, host) for began_s, length_s, _, host in runs]
    if len(set(begins)) == len(begins):
        assert totals[0] == pytest.approx(totals[1])


def union(ranks: list[Rank]) -> list[tuple[float, float]]:
    """Return the time of all epochs, s after the first run could begin, each second once."""
    spans = sorted(
        (rank.began_s + start_s, rank.began_s + end_s)
        for rank in ranks
        for start_s, end_s in rank.spans
    )
    joined: list[tuple[float, float]] = []
    for start_s, end_s in spans:
        if joined and start_s <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end_s))
        else:
            joined.append((start_s, end_s))
    return joined


def test_staggered_ranks_count_what_was_drawn_then(tmp_path: Path) -> None:
    """The mean power of a whole run would give 3,032 J: the first seconds were the dear ones."""

    def dear_first(t_s: float) -> float:
        return 500 * min(t_s, 4.0) + 20 * max(0.0, t_s - 4.0)

    ranks = [
        Rank("first", began_s=0.0, spans=((0.0, 8.0),), machine=dear_first),
        Rank("second", began_s=2.0, spans=((0.0, 20.0),), machine=dear_first),
    ]
    total = total_of(tmp_path, *ranks)
    assert total.joules == pytest.approx(dear_first(22.0))
    assert total.kwh == pytest.approx(dear_first(22.0) * KWH)
    assert total.gco2eq == pytest.approx(dear_first(22.0) * KWH * GRAMS)
    assert total.device_seconds == pytest.approx(22.0)
    assert noted(total) == {PARTLY: 1}


def test_energy_between_epochs_belongs_to_another_run(tmp_path: Path) -> None:
    ranks = [
        Rank("first", spans=((0.0, 5.0), (15.0, 20.0))),
        Rank("second", began_s=3.0, spans=((0.0, 4.0), (9.0, 13.0))),
    ]
    total = total_of(tmp_path, *ranks)
    assert union(ranks) == [(0.0, 7.0), (12.0, 20.0)]
    assert total.joules == pytest.approx(sum(level(b) - level(a) for a, b in union(ranks)))
    assert total.device_seconds == pytest.approx(15.0)


def test_without_energy_over_time_the_mean_of_the_epoch_counts(tmp_path: Path) -> None:
    first = Rank("first", spans=((0.0, 10.0),))
    second = Rank("second", began_s=5.0, spans=((0.0, 5.0), (5.0, 25.0)), series=False)
    total = total_of(tmp_path, first, second)
    assert total.joules == pytest.approx(level(30.0))  # the second epoch was its own
    third = Rank("third", began_s=20.0, spans=((0.0, 20.0),), series=False)
    total = total_of(tmp_path, third)
    assert total.joules == pytest.approx(level(30.0) + (level(40.0) - level(20.0)) / 2)
    assert noted(total) == {PARTLY: 2, MEAN_POWER: 1}


def test_an_epoch_that_one_run_could_not_measure_is_the_others(tmp_path: Path) -> None:
    first = Rank("first", spans=((0.0, 5.0), (5.0, 10.0)))
    events = first.events()
    unknown = events[3] | {"energy": first.energy(math.nan)}
    lines = [json.dumps(event) for event in (*events[:3], unknown, *events[4:])]
    (tmp_path / "first.jsonl").write_text("\n".join(lines).replace("NaN", "null") + "\n")
    total = total_of(tmp_path, Rank("second", began_s=1.0, spans=((0.0, 9.0),)))
    finished = level(10.0)  # what run_finished says of the first one
    assert total.joules == pytest.approx(finished + level(10.0) - level(5.0))


SPANS = st.lists(st.tuples(st.integers(0, 6), st.integers(1, 9)), min_size=1, max_size=5)
RANK = st.tuples(st.integers(0, 30), SPANS, st.sampled_from(["n1", "n2"]), st.booleans())


@SAME_FOLDER
@given(st.lists(RANK, min_size=1, max_size=6))
def test_at_any_power_each_second_of_an_epoch_counts_once(
    tmp_path_factory: pytest.TempPathFactory,
    runs: list[tuple[int, list[tuple[int, int]], str, bool]],
) -> None:
    directory = tmp_path_factory.mktemp("ranks")
    made: dict[str, list[Rank]] = {"n1": [], "n2": []}
    for number, (began_s, pauses, host, finished) in enumerate(runs):
        spans, at_s = [], 0.0
        for pause_s, length_s in pauses:
            spans.append((at_s + pause_s, at_s + pause_s + length_s))
            at_s += pause_s + length_s
        rank = Rank(f"r{number}", (), float(began_s), host=host, finished=finished, spans=spans)
        rank.write(directory)
        made[host].append(rank)
    total = add_runs(read_runs(directory, series=False, epochs=False))
    times = [span for ranks in made.values() for span in union(ranks)]
    assert total.joules == pytest.approx(sum(level(b) - level(a) for a, b in times))
    assert total.device_seconds == pytest.approx(sum(b - a for a, b in times))


# ---- comparisons ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    # Two-sided 95 %: tan(0.475 pi); 2 / sqrt(2 / 0.975 ...) in closed form; tables.
    [(1, 12.7062), (2, 4.30265), (3, 3.18245), (5, 2.57058), (10, 2.22814), (30, 2.04227),
     (120, 1.97993), (1999, 1.96116), (1e6, 1.95996)],
)  # fmt: skip
def test_students_quantile_is_that_of_the_tables(freedom: float, quantile: float) -> None:
    assert student_quantile(freedom) == pytest.approx(quantile, rel=2e-5)


def test_students_quantile_of_one_degree_is_a_tangent() -> None:
    assert student_quantile(1) == pytest.approx(math.tan(0.95 * math.pi / 2), rel=1e-6)


def test_welch_on_a_worked_case() -> None:
    a, b = [10.0, 12.0, 14.0], [20.0, 20.0, 26.0, 22.0]
    spread = 4 / 3 + 8 / 4
    freedom = spread**2 / ((4 / 3) ** 2 / 2 + 2**2 / 3)
    expected = student_quantile(freedom) * math.sqrt(spread)
    assert welch_half_width(a, b) == pytest.approx(expected)
    assert math.isnan(welch_half_width([1.0], b))
    assert welch_half_width([1.0, 1.0], [2.0, 2.0]) == 0.0


def test_about_ninety_five_of_a_hundred_equal_pairs_do_not_differ() -> None:
    draw = random.Random(3)
    wrong = 0
    for _ in range(100):
        a, b = ([draw.gauss(100, 5) for _ in range(6)] for _ in range(2))
        wrong += abs(statistics.fmean(a) - statistics.fmean(b)) > welch_half_width(a, b)
    assert wrong <= 14  # 5 expected


def sides(directory: Path, a: list[Made], b: list[Made]) -> tuple[Side, Side]:
    for name, runs in (("a", a), ("b", b)):
        for run in runs:
            run.write(directory / name)
    one, other = (Side(name, tuple(read_runs(directory / name))) for name in "ab")
    return one, other


def test_two_runs_are_compared_by_their_epochs(tmp_path: Path) -> None:
    draw = random.Random(1)
    a = Made("aa", [draw.gauss(1000, 10) for _ in range(8)], relative_error=0.001)
    b = Made("bb", [draw.gauss(900, 10) for _ in range(8)], relative_error=0.001)
    found = {one.name: one for one in compare(*sides(tmp_path, [a], [b]))}
    energy = found["energy"]
    assert energy.change == pytest.approx(sum(b.epochs) - sum(a.epochs))
    assert energy.half_width == pytest.approx(
        math.hypot(0.001 * sum(a.epochs), 0.001 * sum(b.epochs))
    )
    assert energy.significant
    mean = found["energy by epoch"]
    assert mean.significant
    assert mean.half_width >= welch_half_width(a.epochs, b.epochs)
    assert found["time by epoch"].significant is False
    assert found["time"].significant is None
    assert found["emissions"].half_width == pytest.approx(energy.half_width * KWH * GRAMS)
    assert found["emissions"].significant
    assert found["mean power"].a == pytest.approx(sum(a.epochs) / 80)
    grams = found["emissions by epoch"]
    assert grams.a == pytest.approx(mean.a * KWH * GRAMS)


def test_measuring_errors_hide_small_differences(tmp_path: Path) -> None:
    a = Made("aa", (1000.0,) * 8, relative_error=0.05)
    b = Made("bb", (990.0,) * 8, relative_error=0.05)
    found = {one.name: one for one in compare(*sides(tmp_path, [a], [b]))}
    assert found["energy by epoch"].significant is False
    assert found["energy by epoch"].half_width == pytest.approx(math.hypot(50, 49.5))


def test_groups_are_compared_by_their_runs(tmp_path: Path) -> None:
    a = [Made(f"a{i}", (1000.0 + i, 500.0), relative_error=0) for i in range(4)]
    b = [Made(f"b{i}", (1100.0 + i, 500.0), relative_error=0) for i in range(3)]
    found = {one.name: one for one in compare(*sides(tmp_path, a, b))}
    mean = found["energy by run"]
    assert (mean.a, mean.b) == (1501.5, 1601.0)
    assert mean.half_width == pytest.approx(
        welch_half_width([1500.0, 1501.0, 1502.0, 1503.0], [1600.0, 1601.0, 1602.0])
    )
    assert mean.significant
    assert "(4 and 3)" in mean.basis


# ---- the command line ----------------------------------------------------------------------


@pytest.fixture
def three(tmp_path: Path) -> Path:
    directory = tmp_path / "three"
    Made("aaaa000011112222", (1000.0, 1000.0), host="n1").write(directory)
    Made("bbbb000011112222", (5000.0,), 100.0, host="n2", finished=False, planned=3).write(
        directory
    )
    Made("cccc000011112222", (3000.0,), 200.0, host="n1").write(directory / "below")
    return directory


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_runs_lists_them(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(capsys, "runs", three)
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split()[:3] == ["id", "started", "host"]
    assert [line.split()[0][:4] for line in lines[1:]] == ["aaaa", "bbbb", "cccc"]
    assert "1/3" in lines[2]
    assert lines[2].endswith("incomplete")


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        (["--filter", "host=n1"], "ac"),
        (["--filter", "host!=n1"], "b"),
        (["--filter", "state=incomplete"], "b"),
        (["--filter", "joules>=3000", "--filter", "host~N1"], "c"),
        (["--filter", "kwh<0.001"], "a"),
        (["--filter", "job=17"], ""),
        (["--sort", "-joules"], "bca"),
        (["--sort", "joules"], "acb"),
        (["--sort=started"], "abc"),
        (["--sort", "why"], "bac"),
    ],
)
def test_runs_are_chosen_and_sorted(
    three: Path, capsys: pytest.CaptureFixture[str], words: list[str], ids: str
) -> None:
    code, out, _ = said(capsys, "runs", three, "--json", *words)
    assert code == 0
    assert "".join(row["id"][0] for row in rows(out)) == ids


def test_a_field_of_another_kind_is_sorted_behind(
    three: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = json.dumps(Made("dddd").events()[0] | {"host": {"name": 5}})
    (three / "odd.jsonl").write_text(odd + "\n")
    code, out, _ = said(capsys, "runs", three, "--json", "--sort", "host")
    assert code == 0
    assert rows(out)[0]["host"] == 5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--filter", "mood=good"], "unknown field 'mood': choose from id, started"),
        (["--filter", "kwh"], "is not FIELD=VALUE"),
        (["--filter", "kwh>much"], "could not convert string to float"),
        (["--sort", "mood"], "unknown field 'mood'"),
    ],
)
def test_impossible_requests_are_reported(
    three: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    code, _, err = said(capsys, "runs", three, *words)
    assert code == 2
    assert message in err


def test_no_runs_yet(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "runs")[:2] == (0, "no runs\n")
    code, out, _ = said(capsys, "aggregate")
    assert code == 0
    assert out.startswith("No run with energy")  # and no sentence on nothing
    code, _, err = said(capsys, "runs", "nowhere")
    assert code == 2
    assert "no record is called 'nowhere'" in err


def test_aggregate_prints_the_sentence(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(capsys, "aggregate", three)
    kwh = 10_000 * KWH
    assert code == 0
    assert out.startswith(
        f"The training of models in this work is estimated to use {kwh:.16f}"[:-4]
    )
    assert f"contributing to {kwh * GRAMS / 1000:.16f}"[:-4] in out
    assert re.search(r"^3 run\(s\): [\d.]+ ± [\d.]+ k?Wh, [\d.]+ m?g CO2eq\.$", out, re.MULTILINE)
    assert "1 run(s) without an end, counted as far as they came." in out
    code, out, _ = said(capsys, "aggregate", "--json", three, three / "below")
    data = json.loads(out)
    assert data["joules"] == pytest.approx(10_000)
    assert data["left_out"] == {INCOMPLETE: 1, COPY: 1}


def test_compare_prints_both_sides(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, c = three / "aaaa000011112222.jsonl", three / "below"
    code, out, _ = said(capsys, "compare", a, c)
    assert code == 0
    assert out.splitlines()[0].endswith("aaaa000011112222 of 2026-03-01 12:00 on n1")
    (energy,) = [line for line in out.splitlines() if line.startswith("energy  ")]
    assert re.match(r"energy +2\.\d+ kJ +3\.\d+ kJ +\+1\.\d+ kJ +\+50\.0 %", energy)
    assert energy.endswith("differs")
    code, out, _ = said(capsys, "compare", "--json", a, c)
    data = json.loads(out)
    assert data["a"] == ["aaaa000011112222"]
    assert {row["name"]: row["significant"] for row in data["differences"]}["energy"] is True
    assert said(capsys, "compare", a, "nowhere")[0] == 2


def test_check_separates_valid_from_damaged_records(
    three: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = said(capsys, "check", three)
    assert code == 0
    assert "warning: run bbbb000011112222 has no run_finished" in out
    assert out.endswith("3 record(s): 0 error(s), 1 warning(s)\n")
    assert said(capsys, "check", "--strict", three)[0] == 1
    assert said(capsys, "check", "--quiet", three) == (0, "", "")
    assert said(capsys, "check", three / "nowhere")[0] == 2
    (three / "empty").mkdir()
    assert said(capsys, "check", three / "empty")[0] == 2


def spoil(event: dict[str, Any], path: str, value: object) -> None:
    *way, last = path.split(".")
    for word in way:
        event = event[word]
    if value is ...:
        del event[last]
    else:
        event[last] = value


@pytest.mark.parametrize(
    ("line", "path", "value", "message"),
    [
        (1, "version", ..., "run_started: version is missing"),
        (1, "pid", -1, "run_started: pid is -1, not a whole number of at least 0"),
        (1, "time", "noon", "run_started: time is 'noon', not a time in ISO 8601"),
        (2, "index", 2, "epoch: index is 2 where 1 follows"),
        (2, "seconds", "5", "epoch: seconds is '5', not a number of at least 0, or null"),
        (2, "energy.joules", -5, "epoch: energy.joules is -5, not a number"),
        (2, "energy.by_device.gpu:0.coverage", 2, "energy.by_device.gpu:0.coverage is 2, not a sh"),
        (2, "footprint.pue", ..., "epoch: footprint.pue is missing"),
        (3, "t_s", [0, 5, 4], "series: t_s does not increase"),
        (3, "joules.gpu:0", [0, 1], "series: joules.gpu:0 has not as many values as t_s"),
        (3, "joules.gpu:0", [0, 2, 1], "series: joules.gpu:0 falls: energy is cumulative"),
        (2, "energy.by_device", 5, "epoch: energy.by_device is 5, not an object"),
        (2, "seconds", math.inf, "epoch: seconds is inf, not a number of at least 0, or null"),
        (6, "energy.joules", 10**400, "run_finished: energy.joules is 1000"),
        (6, "energy.joules", 5e4, "run_finished: its 50000.000 J are not what its epochs add"),
    ],
)
def test_check_names_what_is_wrong(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    line: int,
    path: str,
    value: object,
    message: str,
) -> None:
    events = Made("aaaa", (1000.0, 1000.0)).events()
    spoil(events[line - 1], path, value)
    file = tmp_path / "bad.jsonl"
    file.write_text("".join(json.dumps(event) + "\n" for event in events))
    code, out, _ = said(capsys, "check", "--strict", file)
    assert code == 1
    assert f"{file}:{line}: " in out
    assert message in out


def test_check_sees_what_is_out_of_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = Made("aaaa", (1000.0,)).lines()
    file = tmp_path / "order.jsonl"
    file.write_text("".join([lines[1], lines[0], lines[3], lines[0]]))
    out = said(capsys, "check", file)[1]
    assert f"{file}:1: error: epoch: it comes before run_started" in out
    assert f"{file}:2: error: run_started: the run has begun already" in out
    assert f"{file}:4: error: run_started: it comes after run_finished" in out
    assert read_run(file).complete
