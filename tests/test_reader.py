"""The reader: every record loads, whole, torn, old, new or spoilt; and E(t) adds up."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from carbontracker.cli import main
from carbontracker.exceptions import NoSuchRun
from carbontracker.records.aggregate import add_runs
from carbontracker.records.reader import add_epoch, moment_at, read_run, read_runs
from carbontracker.records.run_record import Series
from carbontracker.records.series import rising
from carbontracker.records.validate import ERROR, check_file
from carbontracker.records.writer import Record
from carbontracker.report.tabular import run_row
from carbontracker.tracker import CarbonTracker
from tests.support.observing import waving_machine
from tests.support.programs import (
    CPU_WATTS,
    DEVICES,
    GPU_WATTS,
    hide_sensors,
    python,
    read_record,
    record_file,
)
from tests.support.records import GRAMS, PUE, Made

if TYPE_CHECKING:
    from carbontracker.records.reader import Event

OLD = Path(__file__).parent / "data" / "records"
SAME_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def lose(path: Path, size: int) -> Path:
    """Keep only so many bytes."""
    path.write_bytes(path.read_bytes()[:size])
    return path


def levels(path: Path) -> list[str]:
    return [finding.level for finding in check_file(path)]


# ---- what was written is what is read ------------------------------------------------------


def test_a_training_is_read_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_sensors(monkeypatch, tmp_path)
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_PROCID", "0")
    logs = tmp_path / "logs"
    tracker = CarbonTracker(
        3, verbose=0, log_dir=logs, location="DK", update_interval=0.004, pue=1.2, **DEVICES
    )
    for _ in tracker.epochs():
        time.sleep(0.03)
    result = tracker.result
    assert result is not None
    (run,) = read_runs(logs)
    assert run.id == read_record(logs)[0]["run_id"]
    assert run.path == record_file(logs)
    assert (run.complete, run.state, run.why_incomplete, run.notes) == (True, "finished", "", ())
    assert run.energy == result.energy
    assert run.energy.by_kind == result.energy.by_kind
    assert run.footprint.kwh == result.footprint.kwh
    assert run.footprint.intensity.zone == "DK"
    assert run.result.seconds == result.seconds
    assert run.result.between_epochs == result.between_epochs
    assert run.metadata.job == {"slurm": {"job_id": "17", "rank": "0"}}
    assert run.metadata.host["boot_id"]
    assert [sensor.id for sensor in run.metadata.sensors] == ["gpu:0", "cpu:0"]
    assert [one.index for one in run.epochs] == [1, 2, 3]
    assert run.forecasts[0].prediction.epochs == 3
    assert levels(run.path) == []


def test_epochs_of_a_finished_run_are_final(tmp_path: Path) -> None:
    # A counter that is renewed ten times a second: no epoch's end is known when it ends.
    with waving_machine(tmp_path, "constant:300", "constant:100") as machine:
        program = (
            "import time\n"
            "from carbontracker.tracker import CarbonTracker\n"
            "tracker = CarbonTracker(4, verbose=0, location='DK', update_interval=0.05)\n"
            "for _ in tracker.epochs(): time.sleep(0.33)\n"
            "print([[e.final, e.energy.joules] for e in tracker.result.epochs])\n"
        )
        logs = {"CARBONTRACKER_DIR": str(tmp_path / "logs")}
        done = python(program, **machine.environment, **logs)
    (file,) = (tmp_path / "logs").glob("*.jsonl")
    written = [json.loads(line) for line in file.read_text().splitlines()]
    assert not all(event["final"] for event in written if event["event"] == "epoch")
    run = read_run(tmp_path / "logs")
    known = json.loads(done.stdout.replace("True", "true").replace("False", "false"))
    assert [[epoch.final, epoch.energy.joules] for epoch in run.epochs] == known
    assert [epoch.index for epoch in run.epochs] == [1, 2, 3, 4]
    assert all(epoch.final for epoch in run.epochs)
    assert levels(file) == []
    for ends_s, power in (run.series.power(device) for device in ("gpu:0", "cpu:0")):
        assert len(ends_s) == len(power)
        assert min(b - a for a, b in pairwise([run.series.t_s[0], *ends_s])) > 0.02


def test_a_final_epoch_takes_the_place_of_the_provisional_one() -> None:
    def epoch(event: str, index: object, joules: float) -> Event:
        return {"event": event, "index": index, "energy": {"joules": joules}}

    for index, known in ((2, [10, 13]), (1, [13, 12]), (3, [10, 12, 13]), ("2", [10, 12, 13])):
        epochs: list[Event] = []
        for event in (
            epoch("epoch_so_far", 1, 5),
            epoch("epoch", 1, 10),
            epoch("epoch", 2, 12),
            epoch("epoch_final", index, 13),
        ):
            add_epoch(epochs, event)
        assert [one["energy"]["joules"] for one in epochs] == known


def test_a_final_epoch_comes_before_an_open_one() -> None:
    """The epoch so far stays the last, and holds until the next one."""
    epochs: list[Event] = []
    for event, index in (("epoch", 1), ("epoch_so_far", 2), ("epoch_final", 1), ("epoch", 2)):
        add_epoch(epochs, {"event": event, "index": index})
    assert [(one["event"], one["index"]) for one in epochs] == [("epoch_final", 1), ("epoch", 2)]


def test_the_record_of_short_epochs_grows_with_their_number_only(tmp_path: Path) -> None:
    """No line holds all epochs: the last one is as long after 400 of them as after 40."""
    lengths = []
    for epochs in (40, 400):
        folder = tmp_path / str(epochs)
        tracker = CarbonTracker(epochs, verbose=0, log_dir=folder, location="DK", **DEVICES)
        for _ in tracker.epochs():
            time.sleep(0.001)
        lines = record_file(folder).read_text().splitlines()
        lengths.append(len(lines[-1]))
        run = read_run(folder)
        assert tracker.result is not None
        assert [e.final for e in run.epochs] == [e.final for e in tracker.result.epochs]
        assert levels(run.path) == []
    assert lengths[1] < 1.5 * lengths[0]


def test_energy_over_time_is_what_the_epochs_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_sensors(monkeypatch, tmp_path)
    tracker = CarbonTracker(
        4, verbose=0, log_dir=tmp_path / "logs", location="DK", update_interval=0.004, **DEVICES
    )
    for _ in tracker.epochs():
        time.sleep(0.03)
    assert tracker.result is not None
    run = read_run(tmp_path / "logs")
    series = run.series
    assert list(series.t_s) == sorted(set(series.t_s))
    for device, watts in (("gpu:0", GPU_WATTS), ("cpu:0", CPU_WATTS)):
        for epoch, final in zip(run.epochs, tracker.result.epochs, strict=True):
            # The ends of epochs are moments of the series: nothing between two is guessed.
            assert {epoch.start_s, epoch.end_s} <= set(series.t_s)
            joules = series.between(device, epoch.start_s, epoch.end_s)
            true = final.energy.by_device[device]
            assert abs(joules - true.joules) <= true.error_joules + 1e-5
        ends_s, power = series.power(device)
        edges_s = [series.t_s[0], *ends_s]
        assert edges_s[-1] == series.t_s[-1]
        assert set(edges_s) <= set(series.t_s)
        total = math.fsum(
            watt * (b - a) for watt, (a, b) in zip(power, pairwise(edges_s), strict=True)
        )
        assert total == pytest.approx(series.joules[device][-1], abs=1e-5)
        assert total / series.seconds == pytest.approx(watts, rel=0.3)
    assert moment_at(run, 0.0) == run.started


def test_points_keep_the_spacing_and_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_sensors(monkeypatch, tmp_path)
    for spacing_s, most in ((0.02, 6), (1e-4, 130)):
        logs = tmp_path / str(spacing_s)
        tracker = CarbonTracker(
            1, verbose=0, log_dir=logs, location="DK", update_interval=spacing_s, **DEVICES
        )
        tracker.epoch_start()
        time.sleep(0.05)
        tracker.epoch_end()
        first = next(e for e in read_record(logs, series=True) if e["event"] == "series")
        length_s = first["t_s"][-1]
        assert len(first["t_s"]) <= max(most, 3 + length_s / spacing_s)
        assert len(first["t_s"]) <= 123


def test_runs_of_one_process_are_distinguished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_sensors(monkeypatch, tmp_path)
    outer = CarbonTracker(1, verbose=0, log_dir=tmp_path / "logs", location="DK", **DEVICES)
    outer.epoch_start()
    inner = CarbonTracker(2, verbose=0, log_dir=tmp_path / "logs", location="DK", **DEVICES)
    for _ in inner.epochs():
        pass
    outer.epoch_end()
    first, second = read_runs(tmp_path / "logs")  # as they ended
    assert (len(first.epochs), len(second.epochs)) == (2, 1)
    assert first.result.seconds < second.result.seconds
    assert levels(first.path) == []


def test_a_run_in_progress_is_reported_as_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_sensors(monkeypatch, tmp_path)
    tracker = CarbonTracker(2, verbose=0, log_dir=tmp_path / "logs", location="DK", **DEVICES)
    tracker.epoch_start()
    tracker.epoch_end()
    run = read_run(tmp_path / "logs")
    assert run.state == "running"
    assert run.why_incomplete == "the run goes on; it has 1 of 2 epochs"
    tracker.stop()
    assert read_run(tmp_path / "logs").state == "finished"


def test_warnings_of_the_console_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_sensors(monkeypatch, tmp_path)
    tracker = CarbonTracker(1, verbose=0, log_dir=tmp_path / "logs", location="DK", **DEVICES)
    tracker.epoch_end()
    tracker.stop()
    (warning,) = read_run(tmp_path / "logs").warnings
    assert warning == "WARNING: epoch_end() without epoch_start(): nothing to report"


def test_writers_at_once_do_not_mix(tmp_path: Path) -> None:
    def write(number: int) -> None:
        record = Record(tmp_path)
        record.write("run_started", schema=1, epochs=0)
        for index in range(100):
            record.write("note", index=index, text=str(number) * (index * 97 % 20_000))
        record.close()

    def write_in_threads() -> None:
        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    pids = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            try:
                write_in_threads()
            finally:
                os._exit(0)
        pids.append(pid)
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0
    assert len(list(tmp_path.iterdir())) == 3
    runs = list(read_runs(tmp_path))
    assert len(runs) == 12
    for run in runs:
        assert run.notes == ()
        assert [event["index"] for event in run.events] == list(range(100))
        assert len({event["text"][:1] for event in run.events if event["text"]}) == 1


def test_a_command_has_its_energy_over_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_sensors(monkeypatch, tmp_path)
    words = ["--sim-gpu", "A", "--sim-gpu-watts", "200", "--location", "DK", "-q", "sleep", "0.1"]
    assert main(["--log-dir", str(tmp_path / "logs"), *words]) == 0
    run = read_run(tmp_path / "logs")
    assert (run.complete, run.planned_epochs, run.metadata.command) == (
        True,
        None,
        ("sleep", "0.1"),
    )
    assert run.series.seconds == pytest.approx(run.result.seconds, abs=1e-9)
    assert run.series.joules["gpu:0"][-1] == pytest.approx(run.energy.joules, abs=1e-5)
    assert levels(run.path) == []


@given(st.lists(st.floats(0, 1e6) | st.just(math.nan), max_size=30))
def test_cumulative_joules_never_fall(column: list[float]) -> None:
    result = rising(column)
    assert [math.isnan(joules) for joules in result] == [math.isnan(joules) for joules in column]
    known = [joules for joules in result if not math.isnan(joules)]
    assert known == sorted(known)
    if known:
        assert known[-1] == next(joules for joules in reversed(column) if not math.isnan(joules))
    rose = [joules for joules in column if not math.isnan(joules)]
    if rose == sorted(rose):
        assert known == rose


# ---- damage --------------------------------------------------------------------------------

MADE = Made("a1b2c3d4e5f60718", (1000.0, 2000.0, 3000.0))
TEXT = "".join(MADE.lines()).encode()


@SAME_FOLDER
@given(st.integers(0, len(TEXT) - 1))
def test_a_record_cut_anywhere_has_every_line_before(tmp_path: Path, size: int) -> None:
    path = lose(MADE.write(tmp_path), size)
    kept = TEXT[:size]
    lines = [line for line in kept.split(b"\n") if line.strip()]
    whole = [line for line in lines if line in TEXT.split(b"\n")]
    runs = list(read_runs(path))
    assert len(runs) == bool(whole)
    assert ERROR not in levels(path)
    if runs:
        (run,) = runs
        epochs = sum(b'"event":"epoch"' in line for line in whole)
        assert len(run.epochs) == epochs
        ended = any(b'"event":"run_finished"' in line for line in whole)
        assert run.complete is ended
        if not ended:
            assert f"it has {epochs} of 3 epochs" in run.why_incomplete
            assert ("its last line is torn" in run.notes) is (len(whole) < len(lines))
            assert "warning" in levels(path)
        if epochs:
            assert run.energy.joules == sum((1000.0, 2000.0, 3000.0)[:epochs])
            assert run.footprint.gco2eq == pytest.approx(run.energy.joules * PUE / 3.6e6 * GRAMS)


@SAME_FOLDER
@example(TEXT.rindex(b"a1b2c3d4e5f60718", 0, TEXT.index(b'"event":"series"') + 40), b" ")
@given(st.integers(0, len(TEXT) - 1), st.binary(min_size=1, max_size=80))
def test_a_spoilt_record_is_read_as_far_as_it_can_be(
    tmp_path: Path, where: int, junk: bytes
) -> None:
    path = tmp_path / "spoilt.jsonl"
    path.write_bytes(TEXT[:where] + junk + TEXT[where + len(junk) :])
    list(check_file(path))
    for run in read_runs(path):
        assert isinstance(run.why_incomplete, str)
        assert run.state in ("finished", "incomplete")
        run.series.energy({})
    for run in read_runs(path, series=False, epochs=False):
        assert run.id


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from([*range(-5, 6), 10**400])
    | st.floats(-5, 5)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(parent=SAME_FOLDER, max_examples=60)
@given(st.sampled_from(MADE.events()), st.data())
def test_fields_of_any_other_kind_are_complained_of_not_tripped_over(
    tmp_path: Path, event: dict[str, Any], data: st.DataObject
) -> None:
    field = data.draw(st.sampled_from(sorted(set(event) - {"event", "run_id"})))
    value = data.draw(JSON)
    path = tmp_path / "odd.jsonl"
    odd = [one | {field: value} if one == event else one for one in MADE.events()]
    path.write_text("".join(json.dumps(one) + "\n" for one in odd))
    for finding in check_file(path):
        assert str(finding).startswith(f"{path}")
    for run in read_runs(path):
        assert isinstance(run.why_incomplete, str)
        assert isinstance(run_row(run), dict)
        add_runs([run])
    path.write_text("".join(json.dumps(one) + "\n" for one in odd[:-1]))
    for run in read_runs(path):
        assert isinstance(run.why_incomplete, str)


@pytest.mark.parametrize("field", ["seconds", "energy.joules", "epochs"])
def test_a_number_that_is_too_large_is_ignored(tmp_path: Path, field: str) -> None:
    events = MADE.events()
    *way, last = field.split(".")
    for event in events:
        for word in way:
            event = event.get(word, {})  # noqa: PLW2901
        event[last] = 10**400
    (tmp_path / "large.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    (run,) = read_runs(tmp_path)
    assert isinstance(run_row(run), dict)


def test_a_file_of_a_directory_that_cannot_be_read_hides_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As the private records of others in a directory that is shared."""
    (tmp_path / "a.jsonl").symlink_to(tmp_path / "gone")
    MADE.write(tmp_path, "b")
    assert [run.id for run in read_runs(tmp_path)] == [MADE.run_id]
    assert f"{tmp_path / 'a.jsonl'} is left out: it cannot be read: No such file" in caplog.text


def test_lines_of_others_are_passed_over(tmp_path: Path) -> None:
    path = MADE.write(tmp_path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(['{"loss": 1}\n', lines[0], "\0" * 50 + "\n", *lines[1:]]))
    run = read_run(path)
    assert (run.complete, len(run.epochs)) == (True, 3)
    assert run.notes == ("line 1 is damaged", "line 3 is damaged")
    assert [one.line for one in check_file(path) if one.level == ERROR] == [1, 3]


# ---- other versions ------------------------------------------------------------------------


def test_a_training_of_the_first_writer_is_read() -> None:
    run = read_run(OLD / "schema1_training.jsonl")
    assert run.complete
    assert (len(run.epochs), run.planned_epochs) == (3, 3)
    assert run.energy.joules == pytest.approx(15.477552107322598)
    assert len(run.series) == 0
    assert math.isnan(run.series.seconds)
    ends_s = [epoch.end_s for epoch in run.epochs]
    assert ends_s == sorted(ends_s)
    assert all(0 <= epoch.start_s < epoch.end_s < 0.2 for epoch in run.epochs)
    assert ERROR not in levels(run.path)


def test_a_command_of_the_first_writer_is_read(tmp_path: Path) -> None:
    run = read_run(OLD / "schema1_command.jsonl")
    assert (run.complete, run.metadata.command, run.result.exit_code) == (True, ("true",), 0)
    assert run.planned_epochs is None
    cut = tmp_path / "cut.jsonl"
    cut.write_text((OLD / "schema1_command.jsonl").read_text().splitlines(keepends=True)[0])
    run = read_run(cut)
    assert "it has nothing" in run.why_incomplete
    assert math.isnan(run.energy.joules)


def test_a_record_of_a_newer_schema_is_read_with_a_note(tmp_path: Path) -> None:
    events = MADE.events()
    events[0]["schema"] = 2
    events[0]["host"]["gravity"] = 9.81
    events.insert(2, {"event": "seance", "run_id": MADE.run_id, "time": MADE.at(1), "ghosts": 3})
    path = tmp_path / "new.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    run = read_run(path)
    assert len(run.epochs) == 3
    assert [event["ghosts"] for event in run.of("seance")] == [3]
    assert "newer version (schema 2)" in run.notes[0]
    assert levels(path) == ["warning"]


# ---- finding -------------------------------------------------------------------------------


def test_a_run_is_found_by_the_beginning_of_its_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARBONTRACKER_DIR", str(tmp_path))
    Made("aaaa111122223333").write(tmp_path / "one")
    Made("bbbb111122223333").write(tmp_path / "two" / "deep")
    assert [run.id for run in read_runs("bbbb1111")] == ["bbbb111122223333"]
    assert [run.id[:4] for run in read_runs()] == ["aaaa", "bbbb"]
    for unknown in ("cccc", "bbb", "1111", str(tmp_path / "none")):
        with pytest.raises(NoSuchRun, match="no record is called"):
            list(read_runs(unknown))
    monkeypatch.setenv("CARBONTRACKER_DIR", str(tmp_path / "not-yet"))
    assert list(read_runs()) == []
    with pytest.raises(NoSuchRun):
        read_run("bbbb1111")


def test_views_of_totals_read_no_more_than_they_need(tmp_path: Path) -> None:
    path = Made("aaaa111122223333", (10.0, 20.0)).write(tmp_path)
    quick = read_runs(path, series=False, epochs=False)
    (run,) = quick
    assert (run.energy.joules, len(run.epochs), len(run.series)) == (30.0, 0, 0)
    unfinished = Made("bbbb111122223333", (10.0, 20.0), finished=False, planned=9)
    (run,) = read_runs(unfinished.write(tmp_path), series=False, epochs=False)
    assert (run.energy.joules, len(run.epochs), len(run.series)) == (30.0, 2, 0)


# ---- energy over time ----------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.floats(0.01, 100), st.floats(0, 1e5)), min_size=2, max_size=30),
    st.data(),
)
def test_windows_of_a_series_add_up(steps: list[tuple[float, float]], data: st.DataObject) -> None:
    times, joules = [0.0], [0.0]
    for seconds, energy in steps:
        times.append(times[-1] + seconds)
        joules.append(joules[-1] + energy)
    cut = data.draw(st.integers(1, len(times) - 1))
    guess = data.draw(st.floats(0, 1e4))
    series = Series()
    # What the first event says of its own end the second one knows better.
    series.extend(
        {"start_s": 0.0, "t_s": times[: cut + 1], "joules": {"x": [*joules[:cut], guess]}}
    )
    rest = [t_s - times[cut] for t_s in times[cut:]]
    series.extend({"start_s": times[cut], "t_s": rest, "joules": {"x": joules[cut:]}})
    assert len(series) == len(times)
    assert list(series.joules["x"]) == joules
    ends = sorted(data.draw(st.lists(st.floats(0, 1), min_size=1, max_size=5)))
    moments = [0.0, *(share * series.seconds for share in ends), series.seconds]
    parts = [series.between("x", a, b) for a, b in pairwise(moments)]
    assert math.fsum(parts) == pytest.approx(joules[-1], rel=1e-9, abs=1e-6)
    assert all(part >= -1e-6 for part in parts)


def test_a_device_that_comes_later_is_unknown_before() -> None:
    series = Series()
    series.extend({"start_s": 0.0, "t_s": [0.0, 1.0], "joules": {"a": [0.0, 5.0]}})
    series.extend(
        {"start_s": 1.0, "t_s": [0.0, 1.0], "joules": {"a": [5.0, 6.0], "b": [None, 1.0]}}
    )
    assert math.isnan(series.at("b", 0.5))
    assert math.isnan(series.at("b", 1.0))
    assert series.at("b", 2.0) == 1.0
    assert series.at("a", 1.5) == 5.5
    assert math.isnan(series.at("a", 2.5))
    assert list(series.within(0.5, 2.0)) == [1, 2]
    energy = series.energy({"a": "measured", "b": "modelled"})
    assert (energy.joules, energy.modelled_joules, energy.quality) == (7.0, 1.0, "mixed")


@SAME_FOLDER
@given(st.lists(st.tuples(st.text(max_size=8), JSON), max_size=8))
def test_everything_written_is_read_back(tmp_path: Path, events: list[tuple[str, Any]]) -> None:
    record = Record(tmp_path / os.urandom(4).hex())
    record.write("run_started", schema=1, epochs=1)
    for name, value in events:
        record.write(f"x{name}", value=value)
    record.close()
    assert record.path is not None
    run = read_run(record.path)
    assert [(one["event"], one["value"]) for one in run.events] == [
        (f"x{name}", value) for name, value in events
    ]


def test_times_are_utc_in_any_notation(tmp_path: Path) -> None:
    events = MADE.events()
    path = tmp_path / "times.jsonl"
    for text in ("2026-03-01T12:00:00Z", "2026-03-01T12:00:00", "2026-03-01T13:00:00+01:00"):
        events[0]["time"] = text
        path.write_text("".join(json.dumps(event) + "\n" for event in events))
        run = read_run(path)
        assert run.started == datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
    assert moment_at(run, 90.0) - run.started == timedelta(seconds=90)
