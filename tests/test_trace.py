"""Traces: of the format's shape, on the clock of torch.profiler, and not a joule off the record."""

from __future__ import annotations

import gzip
import json
import math
import time
import zlib
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import carbontracker
from carbontracker.cli import main
from carbontracker.records.clocks import Anchor, disagreement_ns, nearest, read_anchor
from carbontracker.records.reader import read_run
from carbontracker.records.run_record import Series
from carbontracker.report.trace import clock_note, write
from carbontracker.traces.chrome import METADATA_KEY, POWER_PID, power_in, read_trace, with_power
from carbontracker.traces.power import PowerTrace, Slice, power_of_record
from carbontracker.traces.profile import attribute, windows_named
from carbontracker.tracker import CarbonTracker
from tests.support.programs import DEVICES, hide_sensors, python
from tests.support.records import BEGAN, Made
from tests.support.traces import SECOND, Profiled, power

if TYPE_CHECKING:
    from pathlib import Path

BEGAN_NS = round(BEGAN.timestamp()) * SECOND
TWO = (("gpu:0", "gpu/GPU-1"), ("cpu:0", "cpu/0"))


@pytest.fixture(autouse=True)
def only_simulated_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hide_sensors(monkeypatch, tmp_path)
    monkeypatch.setenv("CARBONTRACKER_LOCATION", "DK")


def assert_valid(data: dict[str, Any]) -> None:
    """Hold a trace against what Chrome's format asks of each kind of event."""
    assert isinstance(data["baseTimeNanoseconds"], int)
    named = set()
    for event in data["traceEvents"]:
        assert event["ph"] in {"M", "X", "C", "i"}
        assert math.isfinite(event["ts"])
        if event["ph"] == "M" and event["pid"] == POWER_PID:
            named.add((event["name"], event["tid"]))
        if event["ph"] == "X":
            assert event["dur"] >= 0
            assert isinstance(event["name"], str)
        if event["ph"] == "C":
            assert event["pid"] == POWER_PID
            assert list(event["args"]) == ["watts"]
            assert math.isfinite(event["args"]["watts"])
    threads = {event["tid"] for event in ours(data, "X")}
    assert {("thread_name", tid) for tid in threads} <= named
    assert ("process_name", 0) in named
    assert "NaN" not in json.dumps(data)
    for tid in threads:  # slices of a thread are nested or apart
        opened: list[float] = []
        rows = [(e["ts"], e["ts"] + e["dur"]) for e in ours(data, "X") if e["tid"] == tid]
        for start, end in sorted(rows, key=lambda row: (row[0], -row[1])):
            while opened and opened[-1] <= start + 1e-3:
                opened.pop()
            assert not opened or end <= opened[-1] + 1e-3
            opened.append(end)


def ours(data: dict[str, Any], phase: str) -> list[dict[str, Any]]:
    return [e for e in data["traceEvents"] if e.get("pid") == POWER_PID and e["ph"] == phase]


def joules(data: dict[str, Any]) -> dict[str, float]:
    """Return the integral of each counter, straight from the events."""
    found: dict[str, float] = {}
    for name in {event["name"] for event in ours(data, "C")}:
        points = [(e["ts"], e["args"]["watts"]) for e in ours(data, "C") if e["name"] == name]
        steps = pairwise(points)
        device = data[METADATA_KEY]["tracks"][name]
        found[device] = math.fsum(watts * (t1 - t0) / 1e6 for (t0, watts), (t1, _) in steps)
    return found


# ---- a run alone ---------------------------------------------------------------------------


def test_a_made_run_as_a_trace(tmp_path: Path) -> None:
    made = Made("0" * 16, [100.0, 300.0], devices=TWO)
    run = read_run(made.write(tmp_path))
    write(run, tmp_path / "trace.json")
    data = read_trace(tmp_path / "trace.json")
    assert_valid(data)
    assert joules(data) == pytest.approx({"gpu:0": 200, "cpu:0": 200})
    assert data["baseTimeNanoseconds"] == BEGAN_NS
    first = [e for e in ours(data, "C") if e["name"].startswith("gpu:0")]
    # 50 J in ten seconds, then 150 J in ten, a point every five, then the end.
    points = [(e["ts"] / 1e6, e["args"]["watts"]) for e in first]
    assert points == [(0, 5), (5, 5), (10, 15), (15, 15), (20, 0)]
    epochs = [(e["name"], e["ts"], e["dur"], e["args"]["joules"]) for e in ours(data, "X")]
    assert epochs == [("epoch 1", 0, 10e6, 100), ("epoch 2", 10e6, 10e6, 300)]
    assert data[METADATA_KEY]["run_id"] == "0" * 16
    assert data[METADATA_KEY]["host"] == "node1"
    # Records of before the clock was in their series know their beginning to a millisecond.
    assert data[METADATA_KEY]["clock"]["exact"] is False


def train(directory: Path, **more: Any) -> CarbonTracker:
    tracker = CarbonTracker(
        2, verbose=0, log_dir=directory, update_interval=0.01, **{**DEVICES, **more}
    )
    for _ in tracker.epochs():
        with tracker.window("outer"):
            time.sleep(0.03)
            with tracker.window("inner"):
                time.sleep(0.03)
    return tracker


def test_counters_integrate_to_the_joules_of_the_record(tmp_path: Path) -> None:
    train(tmp_path)
    run = read_run(tmp_path)
    write(run, tmp_path / "trace.json.gz")
    data = json.loads(gzip.decompress((tmp_path / "trace.json.gz").read_bytes()))
    assert_valid(data)
    for device, column in run.series.joules.items():
        assert joules(data)[device] == pytest.approx(column[-1], rel=1e-6)
    # Of any window too, not only of all: what power_in reads back, over each epoch.
    back = power_in(data)
    zero_ns = run.series.began_ns + run.series.anchors[0].offset_ns  # type: ignore[operator]
    for epoch in run.epochs:
        ends = [zero_ns + round(s * 1e9) for s in (epoch.start_s, epoch.end_s)]
        found = attribute(data | {"traceEvents": [slice_at(data, *ends)]}, back)
        expected = sum(run.series.between(d, epoch.start_s, epoch.end_s) for d in back.devices)
        assert found.joules == pytest.approx(expected, rel=1e-4)
    windows = [
        event["name"] for event in ours(data, "X") if event["cat"] == f"{METADATA_KEY}.window"
    ]
    assert windows.count("outer") == windows.count("inner") == 2


def slice_at(data: dict[str, Any], start_ns: int, end_ns: int) -> dict[str, Any]:
    ts = (start_ns - data["baseTimeNanoseconds"]) / 1e3
    dur = (end_ns - start_ns) / 1e3
    return {"ph": "X", "cat": "cpu_op", "name": "x", "pid": 1, "tid": 1, "ts": ts, "dur": dur}


def test_windows_that_overlap_go_to_threads_of_their_own(tmp_path: Path) -> None:
    spans = [(0, 4), (1, 3), (2, 6), (5, 7), (6, 8)]
    slices = tuple(
        Slice("window", f"w{i}", a * SECOND, b * SECOND, math.nan) for i, (a, b) in enumerate(spans)
    )
    trace = PowerTrace({"cpu:0": power([0, 8], [10])}, {}, slices, {"exact": True}, {})
    data = with_power({"traceEvents": []}, trace)
    assert_valid(data)
    tids = {"w0": 2, "w1": 2, "w2": 3, "w3": 2, "w4": 3}
    assert {e["name"]: e["tid"] for e in ours(data, "X")} == tids
    assert {e["args"]["joules"] for e in ours(data, "X")} == {None}


def test_unknown_power_is_named() -> None:
    made = power([0, 1, 2, 3, 4], [0, math.nan, math.nan, 5])
    trace = PowerTrace({"cpu:0": made}, {}, (), {"exact": True}, {})
    data = with_power({"traceEvents": [], "baseTimeNanoseconds": -SECOND}, trace)
    assert_valid(data)
    assert data[METADATA_KEY]["unknown_ns"] == {
        "cpu:0": [[SECOND, 2 * SECOND], [2 * SECOND, 3 * SECOND]]
    }
    back = power_in(data).devices["cpu:0"]
    assert back.edges_ns.tolist() == made.edges_ns.tolist()
    np.testing.assert_array_equal(back.watts, made.watts)


def test_a_run_without_power_is_refused(tmp_path: Path) -> None:
    for _ in CarbonTracker(1, verbose=0, log_dir=tmp_path).epochs():
        pass
    with pytest.raises(ValueError, match="no power over time"):
        write(read_run(tmp_path), tmp_path / "trace.json")
    assert not (tmp_path / "trace.json").exists()


# ---- laid over a profile ---------------------------------------------------------------------


def profile_of(zero_ns: int, base_ns: int) -> Profiled:
    profile = Profiled(zero_ns, base_ns)
    profile.add("aten::mm", 5, 15)
    profile.add("step", 4, 16, cat="user_annotation")
    return profile


def test_a_run_laid_over_a_profile_keeps_it_and_its_clock(tmp_path: Path) -> None:
    run = read_run(Made("0" * 16, [100.0, 300.0], devices=TWO).write(tmp_path))
    base_ns = BEGAN_NS - 3600 * SECOND
    profile = profile_of(BEGAN_NS, base_ns)
    merge = profile.write(tmp_path / "profile.json")
    write(run, tmp_path / "both.json", merge)
    data = read_trace(tmp_path / "both.json")
    assert_valid(data)
    assert data["baseTimeNanoseconds"] == base_ns
    theirs = [event for event in data["traceEvents"] if event["pid"] != POWER_PID]
    assert theirs == profile.data["traceEvents"]
    assert min(event["ts"] for event in ours(data, "C")) == 3600e6
    assert joules(data) == pytest.approx({"gpu:0": 200, "cpu:0": 200})
    # 5 s at 10 W and 5 s at 30 W of the processor; the profile's own window is 12 s long.
    found = attribute(data, power_in(data))
    assert found.rows[0].joules == pytest.approx(100)
    assert found.joules == pytest.approx(60 + 180)
    # Laying another run in replaces the first.
    write(run, tmp_path / "again.json", tmp_path / "both.json")
    again = read_trace(tmp_path / "again.json")
    assert again == data


def test_a_trace_of_an_old_profiler_counts_from_1970(tmp_path: Path) -> None:
    run = read_run(Made("0" * 16, [100.0]).write(tmp_path))
    profile = Profiled(BEGAN_NS, 0)
    profile.add("aten::mm", 1, 2)
    del profile.data["baseTimeNanoseconds"]
    write(run, tmp_path / "both.json", profile.write(tmp_path / "profile.json"))
    data = read_trace(tmp_path / "both.json")
    assert data["baseTimeNanoseconds"] == 0
    assert attribute(data, power_in(data)).joules == pytest.approx(10, rel=1e-4)


def test_a_profile_of_another_time_is_refused(tmp_path: Path) -> None:
    run = read_run(Made("0" * 16, [100.0]).write(tmp_path))
    merge = profile_of(BEGAN_NS + 60 * SECOND, BEGAN_NS).write(tmp_path / "profile.json")
    with pytest.raises(ValueError, match=r"do not overlap in time: they are 54\.000 s apart"):
        write(run, tmp_path / "both.json", merge)


@pytest.mark.parametrize("text", ["", "[1", "{}", '{"traceEvents": 3}', "\x1f\x8b"])
def test_files_that_are_not_traces_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "trace.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match="is not a trace"):
        read_trace(path)


# ---- clocks --------------------------------------------------------------------------------


EVENT = '{"ph":"X","cat":"cpu_op","name":"aten::%s","pid":1,"tid":1,"ts":%d,"dur":2%s}'
A, B = EVENT % ("mm", 10, ""), EVENT % ("add", 20, "")
WHOLE = f'{{"schemaVersion":1,"traceEvents":[{A},{B}],"deviceProperties":[{{"id":0}}]}}'


def read(directory: Path, text: str | bytes) -> list[Any]:
    """Return the events that are read from a text."""
    path = directory / "trace.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    events: list[Any] = read_trace(path)["traceEvents"]
    return events


def read_or_why(directory: Path, text: str) -> list[Any] | str:
    """Return the events that are read from a text, or the message of the error."""
    try:
        return read(directory, text)
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize(
    "text",
    [
        f"[{A},{B}",
        f"[{A},{B},",
        f"[{A},\n{B},\n",
        f"[{A},{B},]",
        f"[\n{A},\n{B}\n,\n]",
        f'{{"traceEvents":[{A},{B}',
        f'{{"traceEvents":[{A},{B},],}}',
        f'{{"traceEvents":[{A},{B}],"displayTimeUnit":"ms',
        f"[{A},{B},{A[:-20]}",
        f"\ufeff[{A},{B},",
    ],
)
def test_traces_that_viewers_open_are_read(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == [json.loads(A), json.loads(B)]


def test_a_trace_torn_anywhere_is_a_part_of_itself(tmp_path: Path) -> None:
    """Wherever it was cut there is a beginning of its events, or one line that says why not."""
    whole = json.loads(WHOLE)["traceEvents"]
    counts = []
    for end in range(1, len(WHOLE)):
        found = read_or_why(tmp_path, WHOLE[:end])
        if isinstance(found, str):
            assert "is not a trace" in found
            assert "\n" not in found
        else:
            assert found == whole[: len(found)]
            counts.append(len(found))
    assert counts == sorted(counts)
    assert counts[-1] == 2


@pytest.mark.parametrize(
    ("more", "read_as"),
    [
        (',"args":{"memory bandwidth (GB/s)": inf}', {"memory bandwidth (GB/s)": None}),
        (',"args":{"x": -Inf, "y": NaN, "z": nan}', dict.fromkeys("xyz")),
        (',"args":{"x": Infinity}', {"x": None}),
        (',"args":{"x": "inf, nan\\\\"}', {"x": "inf, nan\\"}),
        (',"args":{"file": "lib\\cuda\\init.py(2)"}', {"file": r"lib\cuda\init.py(2)"}),
        (',"args":{"file": "C:\\users\\n"}', {"file": "C:\\users\n"}),
        (',"args":{"file": "config.py(0): \x01\x02"}', {"file": "config.py(0): \x01\x02"}),
    ],
)
def test_invalid_json_of_profilers_is_read(
    tmp_path: Path, more: str, read_as: dict[str, Any]
) -> None:
    (event,) = read(tmp_path, f"[{EVENT % ('mm', 10, more)}]")
    assert event["args"] == read_as


def test_bytes_that_are_not_text_are_replaced(tmp_path: Path) -> None:
    (event,) = read(tmp_path, f"[{A}]".encode().replace(b"aten", b"ke\xff\xfern"))
    assert event["name"] == "ke\ufffd\ufffdrn::mm"


def bomb(mebibytes: int) -> bytes:
    """Return a gzip file that unpacks to so much."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = b" " * 2**20
    return b"".join([*(packer.compress(block) for _ in range(mebibytes)), packer.flush()])


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "bomb.json.gz").write_bytes(bomb(2048))
    program = f"""
import pathlib, resource
from carbontracker.cli import main
resource.setrlimit(resource.RLIMIT_AS, (2 * 2**30, 2 * 2**30))
code = main(["attribute", {str(tmp_path / "bomb.json.gz")!r}])
# Not ru_maxrss: that begins with the memory of the process that started this one.
status = pathlib.Path("/proc/self/status").read_text()
print(code, int(status.partition("VmHWM:")[2].split()[0]) // 1024)
"""
    done = python(program, OPENBLAS_NUM_THREADS="1")
    code, peak_mib = map(int, done.stdout.split())
    assert code == 2
    assert peak_mib < 700  # 200 times its size are 400, the interpreter and its libraries 100
    assert done.stderr.count("\n") == 1
    assert "the limit for a trace" in done.stderr


@pytest.mark.parametrize(
    "raw",
    [
        gzip.compress(WHOLE.encode())[:-20],
        gzip.compress(WHOLE.encode())[:-4] + b"abcd",
        b"\x1f\x8b\x08\x00" + b"\xff" * 40,
        b"[" * 100_000,
        b'{"traceEvents":[{"args":' + b"[" * 100_000,
        b'{"traceEvents":[' + b'{"a":' * 100_000,
        b"\x00" * 1000,
        b"9" * 100_000,
    ],
)
def test_a_damaged_trace_is_reported_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], raw: bytes
) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(raw)
    assert main(["attribute", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert len(err) < 1000


EVIL = [
    None, True, -1, 1e17, -1e17, 1e300, 2**63, 10**300, "", "x", "1e5", "=1+1", "\x1b[2J",
    "y" * 200_000, [], [1], {}, {"a": {"b": [None]}}, math.inf,
]  # fmt: skip
FIELDS = ("ph", "cat", "name", "pid", "tid", "ts", "dur", "args", "args.External id", "args.device")


@pytest.mark.parametrize("field", FIELDS)
def test_events_of_other_kinds_are_skipped(
    tmp_path: Path, field: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside them, the events that are sound keep every joule."""
    made = Made("aaaa000011112222", (1000.0, 3000.0), devices=TWO)
    record = made.write(tmp_path)
    profile = profile_of(BEGAN_NS, 0)
    sound = json.loads(json.dumps(profile.data["traceEvents"]))
    for evil in EVIL:
        event = json.loads(json.dumps(next(one for one in sound if one.get("ph") == "X")))
        *way, last = field.split(".")
        target = event
        for word in way:
            target = target.setdefault(word, {})
        target[last] = evil
        data = profile.data | {"traceEvents": [*sound, event, None, 3, "x", [], {}]}
        path, out = tmp_path / "profile.json", tmp_path / "out.json"
        path.write_text(json.dumps(data).replace("Infinity", "1e400"))
        for command in (
            ["trace", str(record), "--merge", str(path), "--out", str(out)],
            ["attribute", str(path), "--run", str(record)],
            ["attribute", str(path), "--run", str(record), "--by", "annotation"],
            ["attribute", str(path), "--run", str(record), "--window", "epoch 1"],
            ["attribute", str(out), "--json"],
        ):
            assert main(command) in {0, 2}, (command, evil)
            shown, err = capsys.readouterr()
            assert "Traceback" not in err
            if command[-1] != "--json":
                assert max(map(len, shown.splitlines()), default=0) < 500
                assert "\x1b" not in shown
        written = json.loads(out.read_text(), parse_constant=pytest.fail)
        assert sum(joules(written).values()) == pytest.approx(4000, rel=1e-6)


@pytest.mark.parametrize("evil", EVIL)
def test_impossible_power_in_a_trace_is_skipped(
    tmp_path: Path, evil: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    record = Made("aaaa000011112222", (1000.0, 3000.0), devices=TWO).write(tmp_path)
    path = profile_of(BEGAN_NS, 0).write(tmp_path / "profile.json")
    out = tmp_path / "out.json"
    assert main(["trace", str(record), "--merge", str(path), "--out", str(out)]) == 0
    whole = out.read_text()
    for key in ("tracks", "unknown_ns", "clock", "run_id"):
        data = json.loads(whole)
        data[METADATA_KEY][key] = evil
        out.write_text(json.dumps(data))
        assert main(["attribute", str(out)]) in {0, 2}
    for key in ("ts", "args", "name", "pid"):
        data = json.loads(whole)
        counter = next(one for one in data["traceEvents"] if one["ph"] == "C")
        counter[key] = evil
        out.write_text(json.dumps(data))
        assert main(["attribute", str(out)]) in {0, 2}
    for key in ("baseTimeNanoseconds", METADATA_KEY, "traceEvents"):
        data = json.loads(whole) | {key: evil}
        out.write_text(json.dumps(data))
        assert main(["attribute", str(out)]) in {0, 2}
    assert "Traceback" not in capsys.readouterr().err


def test_an_anchor_is_one_moment_on_both_clocks() -> None:
    before = time.time_ns()
    anchor = read_anchor()
    assert before <= anchor.unix_ns <= time.time_ns()
    offsets = [read_anchor().offset_ns for _ in range(50)]
    assert max(offsets) - min(offsets) < 1e6


def test_the_anchor_closest_to_the_profile_counts() -> None:
    anchors = [Anchor(100, 1100), Anchor(200, 1200), Anchor(300, 6300)]
    assert nearest(anchors, 0).offset_ns == 1000
    assert nearest(anchors, 6000).offset_ns == 6000
    assert disagreement_ns(anchors) == 5000
    assert disagreement_ns([]) == 0


def test_a_clock_that_was_set_on_the_way(tmp_path: Path) -> None:
    made = Made("0" * 16, [100.0, 100.0])
    path = tmp_path / "run.jsonl"
    lines = []
    for event in made.events():
        if event["event"] == "series":
            second = event["start_s"] > 0
            t0_ns = 10**12 + round(event["start_s"] * 1e9)
            unix_ns = BEGAN_NS + (3600 * SECOND if second else 0) + round(event["start_s"] * 1e9)
            event |= {"t0_ns": t0_ns, "clock": {"monotonic_ns": t0_ns, "unix_ns": unix_ns}}
        lines.append(json.dumps(event) + "\n")
    path.write_text("".join(lines))
    run = read_run(path)
    assert (run.series.began_ns, len(run.series.anchors)) == (10**12, 2)
    early, late = power_of_record(run, BEGAN_NS), power_of_record(run, BEGAN_NS + 3600 * SECOND)
    assert early.span_ns[0] == BEGAN_NS
    assert late.span_ns[0] == BEGAN_NS + 3600 * SECOND
    assert early.clock["exact"]
    assert early.clock["disagreement_ns"] == 3600 * SECOND
    assert "the wall clock was set by 3600.000 s" in clock_note(early)


@pytest.mark.parametrize("clock", [None, 3, {}, {"monotonic_ns": "a", "unix_ns": 1}])
def test_a_clock_that_makes_no_sense_is_not_used(clock: Any) -> None:
    series = Series()
    series.extend({"start_s": 0.0, "t_s": [0.0], "joules": {}, "t0_ns": "x", "clock": clock})
    assert (series.began_ns, series.anchors) == (None, [])


# ---- the command line ------------------------------------------------------------------------


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = str(Made("0" * 16, [100.0, 300.0], devices=TWO).write(tmp_path))
    profile = str(profile_of(BEGAN_NS, BEGAN_NS).write(tmp_path / "profile.json"))
    both = str(tmp_path / "both.json")
    assert main(["trace", record, "--out", both, "--merge", profile]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "both.json: 8 points of 2 device(s); the record is of an older version" in said.err
    assert main(["attribute", both, "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert main(["attribute", profile, "--run", record, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == whole
    outside = "(devices not in this profile)"
    assert [row["name"] for row in whole["rows"]] == ["aten::mm", "(no operator)", outside]
    assert main(["attribute", both, "--window", "epoch 2", "--by", "annotation", "--json"]) == 0
    second = json.loads(capsys.readouterr().out)
    assert second["joules"] == pytest.approx(300)
    # Half of it is the GPU's, of which the profile has no work.
    assert {row["name"]: row["joules"] for row in second["rows"]} == pytest.approx(
        {"step": 90, "(no annotation)": 60, outside: 150}
    )
    assert main(["attribute", both, "--top", "0"]) == 0
    assert "(1 more)" in capsys.readouterr().out


def test_the_commands_name_the_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = str(Made("0" * 16, [100.0]).write(tmp_path))
    profile = str(profile_of(BEGAN_NS, BEGAN_NS).write(tmp_path / "profile.json"))
    for arguments, said in [
        (["trace", "nowhere", "--out", "x"], "no record is called 'nowhere'"),
        (["attribute", str(tmp_path / "none.json")], "No such file"),
        (["attribute", profile], "the trace contains no power: name the run with --run"),
        (["attribute", profile, "--run", record, "--window", "w"], "the trace has no window"),
        (["trace", record, "--out", str(tmp_path / "no" / "x.json")], "No such file"),
    ]:
        assert main(arguments) == 2
        assert said in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["trace", record])


# ---- torch.profiler --------------------------------------------------------------------------


def test_a_real_profile_and_a_run_beside_it(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from torch.profiler import ProfilerActivity, profile, record_function

    matrix = torch.randn(192, 192, requires_grad=True)
    tracker = CarbonTracker(1, verbose=0, log_dir=tmp_path, update_interval=0.01, **DEVICES)
    measured, kept = [], []
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in tracker.epochs():
            for _ in range(12):
                kept.append(tracker.window("marker"))
                with kept[-1], record_function("marker"):
                    with carbontracker.measure("marker") as window:
                        (matrix @ matrix).relu().sum().backward()
                        time.sleep(0.01)
                    measured.append(window)
            time.sleep(0.02)
    profiler.export_chrome_trace(str(tmp_path / "profile.json"))
    run = read_run(tmp_path)
    write(run, tmp_path / "both.json", tmp_path / "profile.json")
    data = read_trace(tmp_path / "both.json")
    assert_valid({**data, "traceEvents": ours(data, "C") + ours(data, "X") + ours(data, "M")})

    # One clock: what was marked at the same time lies at the same place, and our inner window,
    # theirs and our outer one lie within each other. The first call of each warms it up.
    base_ns = data["baseTimeNanoseconds"]
    theirs = [e for e in data["traceEvents"] if e.get("cat") == "user_annotation"]
    outer = [e for e in ours(data, "X") if e["name"] == "marker"]
    assert len(theirs) == len(outer) == len(measured) == 12
    offset_ns = run.series.anchors[-1].offset_ns
    begins, ends = [], []
    for mine, their, window in list(zip(outer, theirs, measured, strict=True))[2:]:
        assert window.start is not None
        assert window.end is not None
        start_us, end_us = ((mark.t_ns + offset_ns - base_ns) / 1e3
                            for mark in (window.start, window.end))  # fmt: skip
        begins.append((their["ts"] - mine["ts"], start_us - their["ts"]))
        their_end, my_end = their["ts"] + their["dur"], mine["ts"] + mine["dur"]
        ends.append((their_end - end_us, my_end - their_end))
    before_us, after_us = (np.median(np.array(one), axis=0) for one in (begins, ends))
    assert (before_us > -50).all()
    assert (after_us > -50).all()
    assert before_us.sum() < 500
    assert after_us.sum() < 500

    # The joules by operator, and what belongs to none, are those of the window, asked for when
    # they were final.
    power_there = power_in(data)
    assert tracker.result is not None
    for windows, expected in [
        (windows_named(data, "epoch 1"), tracker.result.epochs[0].energy.joules),
        (windows_named(data, "marker"), sum(window.energy.joules for window in kept)),
    ]:
        for by in ("operator", "annotation"):
            found = attribute(data, power_there, by, windows)
            # The simulated GPU did no work of the profile: its energy is apart.
            shown = (*found.rows, found.idle, *found.outside)
            joules = sum(one.joules for one in shown)
            assert joules == pytest.approx(found.joules, rel=1e-9)
            assert joules == pytest.approx(expected, rel=0.01)
    names = {row.name for row in attribute(data, power_there).rows}
    assert {"aten::mm", "aten::relu"} <= names
