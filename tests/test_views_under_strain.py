"""Views where little is as it should be: streams and files that fail, figures that cannot be."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from carbontracker.cli import main
from carbontracker.records.reader import read_run
from carbontracker.records.recalculation import recalculated_as
from carbontracker.report import derived, document, rendered
from carbontracker.report.terminal import print_report
from tests.support.records import GRAMS, PUE, Made
from tests.support.simulated import Training

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMEOUT_S = 60
EVERY_COMMAND = (
    "runs LOGS",
    "runs LOGS --json",
    "report LOGS",
    "report LOGS --json -",
    "aggregate LOGS",
    "check LOGS",
    "compare LOGS LOGS",
    "top LOGS --once --interval 0",
    "sensors",
    "--parse LOGS",
)
SLOT = {
    "start": "2026-03-01T12:00:00+00:00",
    "end": "2026-03-01T12:00:20+00:00",
    "joules": 1500.0,
    "gco2eq_per_kwh": 100.0,
}
HOSTILE = "n\u00f6de\x1b[31m\udcff"


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Return a directory with one record, whose host has letters that few terminals have."""
    folder = tmp_path / "logs"
    folder.mkdir()
    Made("abcd1234", (1000.0, 2000.0), host=HOSTILE).write(folder)
    return folder


def words_of(command: str, logs: Path) -> list[str]:
    return [str(logs) if word == "LOGS" else word for word in command.split()]


def started(words: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "carbontracker", *words],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        **options,
    )


def said(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Return the exit code and the text on standard error."""
    _, err = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, err.decode()


# ---- streams -------------------------------------------------------------------------------


@pytest.mark.parametrize("command", EVERY_COMMAND)
def test_a_reader_that_closes_early_is_not_a_failure(command: str, logs: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = started(words_of(command, logs), stdout=writer)
    os.close(writer)
    assert said(process) == (0, "")


@pytest.mark.parametrize("command", [one for one in EVERY_COMMAND if "parse" not in one])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_reported_in_one_line(command: str, logs: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        code, err = said(started(words_of(command, logs), stdout=full))
    assert code == 2
    assert "No space left on device" in err
    assert len(err.splitlines()) == 1


def test_a_closed_standard_output_is_reported(logs: Path) -> None:
    program = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "carbontracker"]
    done = subprocess.run(
        [*program, "report", str(logs), "--json", "-"],
        stderr=subprocess.PIPE,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == b"carbontracker: --json -: standard output is closed\n"


@pytest.mark.parametrize("command", ["runs", "aggregate", "report", "top --once", "--parse"])
def test_units_are_shown_on_any_terminal(tmp_path: Path, command: str) -> None:
    """A question mark in place of a prefix would leave the size of a figure open."""
    Made("aa11", (0.001, 0.002), relative_error=0.1).write(tmp_path)
    environment = os.environ | {"PYTHONIOENCODING": "ascii:backslashreplace", "PYTHONUTF8": "0"}
    words = [sys.executable, "-m", "carbontracker", *command.split(), str(tmp_path)]
    done = subprocess.run(
        words, capture_output=True, text=True, env=environment, timeout=TIMEOUT_S, check=True
    )
    both = done.stdout + done.stderr
    assert re.search(r"([\d.]+|CO2eq) u(Wh|g)\b", both)  # or in the head of a column
    assert "?Wh" not in both
    assert "? " not in both
    assert "\\x" not in both


@pytest.mark.parametrize("command", [one for one in EVERY_COMMAND if "parse" not in one])
def test_names_are_shown_on_any_terminal_without_control_characters(
    command: str, logs: Path
) -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    process = started(words_of(command, logs), stdout=subprocess.PIPE, env=environment)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, err) == (0, b"")
    assert b"\x1b" not in out


def test_interrupted_commands_end_without_a_trace(tmp_path: Path) -> None:
    pipe = tmp_path / "slow"
    os.mkfifo(pipe)
    process = subprocess.Popen(
        [sys.executable, "-m", "carbontracker", "aggregate", str(pipe)], stderr=subprocess.PIPE
    )
    writer = os.open(pipe, os.O_WRONLY)  # waits until the command reads
    process.send_signal(signal.SIGINT)
    code, err = said(process)
    os.close(writer)
    assert (code, err) == (130, "")


# ---- files ---------------------------------------------------------------------------------


def test_one_file_that_cannot_be_read_does_not_hide_the_others(
    logs: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (logs / "nowhere.jsonl").symlink_to("gone")
    os.mkfifo(logs / "pipe.jsonl")
    assert main(["aggregate", str(logs), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["joules"] == pytest.approx(3000.0)
    (told,) = caplog.messages
    assert told.startswith(f"carbontracker: {logs / 'nowhere.jsonl'} is left out: it cannot be re")

    assert main(["check", str(logs)]) == 2
    out, err = capsys.readouterr()
    assert f"{logs / 'nowhere.jsonl'}: unreadable: No such file" in err
    assert out.endswith("2 record(s): 0 error(s), 0 warning(s)\n")


def test_a_file_without_a_run_is_not_reported_as_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    garbage = tmp_path / "garbage.jsonl"
    garbage.write_bytes(bytes(range(256)))
    assert main(["report", str(garbage)]) == 2
    assert f"{garbage} holds no run that can be read: `carbontracker check" in (
        capsys.readouterr().err
    )


# ---- figures -------------------------------------------------------------------------------


def spoilt(path: Path, event: str, *where: str, value: object) -> Path:
    """Put a value into the first event of a name."""
    events = [json.loads(line) for line in path.read_text().splitlines()]
    inside = next(one for one in events if one["event"] == event)
    for key in where[:-1]:
        inside = inside[key]
    inside[where[-1]] = value
    path.write_text("".join(f"{json.dumps(one)}\n" for one in events))
    return path


@pytest.mark.parametrize("epochs", [1, 2])
@pytest.mark.parametrize(
    ("event", "where", "value"),
    [
        ("epoch", ("seconds",), 10**400),
        ("epoch", ("seconds",), 1e308),
        ("series", ("joules",), {"gpu:0": [0.0, 10**400, 1.0]}),
        ("series", ("joules",), {"gpu:0": [0.0, math.inf, 1.0]}),
        ("series", ("joules",), {"gpu:0": [0.0, 1e308, -1e308]}),
        ("series", ("joules",), {}),
        ("run_finished", ("seconds",), None),
        ("series", ("t_s",), [0.0, 0.0, 0.0]),
        ("series", ("t_s",), [0.0, None, 5.0]),
        ("run_finished", ("energy", "by_device"), "x"),
        ("run_finished", ("footprint",), []),
        ("run_finished", ("footprint",), {}),
        ("run_finished", ("footprint", "slots"), [{"joules": [1], "start": 0}]),
        ("run_finished", ("footprint", "slots"), [7]),
        ("run_finished", ("footprint", "slots"), [SLOT | {"zone": True}, SLOT | {"source": [1]}]),
        ("run_finished", ("footprint", "location"), 7),
    ],
)
def test_no_value_of_a_record_breaks_a_view(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    event: str,
    where: tuple[str, ...],
    value: object,
    epochs: int,
) -> None:
    made = Made("abcd1234", (1000.0, 2000.0)[:epochs])
    path = spoilt(made.write(tmp_path), event, *where, value=value)
    for command in ("check", "runs", "report", "aggregate", "top --once --interval 0"):
        name, *more = command.split()
        assert main([name, str(path), *more]) in (0, 1)
    assert main(["compare", str(path), str(path)]) == 0
    assert main(["report", str(path), "--html", str(tmp_path / "page.html")]) == 0
    capsys.readouterr()
    code = main(["report", str(path), "--pue", "1.2"])
    assert code == 0 or "record" in capsys.readouterr().err


def test_a_scope_beside_an_intensity_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Made("abcd1234").write(tmp_path)
    assert main(["report", str(path), "--intensity", "100", "--scope", "direct"]) == 2
    assert "leave it or the intensity out" in capsys.readouterr().err


def test_emissions_of_a_command_follow_the_intensity_of_their_time(tmp_path: Path) -> None:
    """A dirty half after a clean one, of equal energy: a quarter of the grams, and the rest."""
    path = Made("abcd1234", (1000.0, 1000.0)).write(tmp_path)
    events = [json.loads(line) for line in path.read_text().splitlines()]
    events = [one for one in events if one["event"] != "epoch"]
    del events[0]["epochs"]
    events[0]["command"] = ["python", "train.py"]
    began = datetime.fromisoformat(events[0]["time"])
    footprint = events[-1]["footprint"]
    moments = [(began + timedelta(seconds=10 * i)).isoformat() for i in range(3)]
    footprint["slots"] = [
        {"start": moments[i], "end": moments[i + 1], "joules": 1000.0, "gco2eq_per_kwh": figure}
        for i, figure in enumerate((GRAMS / 2, GRAMS * 3 / 2))
    ]
    path.write_text("".join(f"{json.dumps(one)}\n" for one in events))
    times, grams = derived.emissions_of(read_run(path))
    assert times == [0.0, 5.0, 10.0, 15.0, 20.0]
    shares = [0.0, 0.125, 0.25, 0.625, 1.0]
    assert grams == pytest.approx([share * footprint["gco2eq"] for share in shares])


def test_a_report_with_other_factors_states_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Made("abcd1234").write(tmp_path)
    assert main(["report", str(path)]) == 0
    assert "Recalculated" not in capsys.readouterr().out
    assert main(["report", str(path), "--pue", "1.25"]) == 0
    out = capsys.readouterr().out
    assert f"Recalculated: the record has {GRAMS:.1f} gCO2eq/kWh, PUE {PUE:g}" in out
    assert "PUE: 1.25 (given for this report)" in out


def test_a_killed_run_has_the_mean_intensity_of_its_epochs(tmp_path: Path) -> None:
    path = Made("abcd1234", (1000.0, 3000.0), finished=False).write(tmp_path)
    kwh = 1000.0 * PUE / 3.6e6
    cheap = {"kwh": kwh, "error_kwh": 0.0, "gco2eq": kwh * 100.0, "pue": PUE}
    spoilt(
        path,
        "epoch",
        "footprint",
        value=cheap | {"intensity": {"gco2eq_per_kwh": 100.0, "zone": "DK"}},
    )
    footprint = read_run(path).footprint
    assert footprint.gco2eq == pytest.approx(kwh * (100.0 + 3 * GRAMS))
    mean = footprint.intensity.gco2eq_per_kwh
    assert mean == pytest.approx((100.0 + 3 * GRAMS) / 4)
    assert mean * footprint.kwh == pytest.approx(footprint.gco2eq)


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_figure_is_cut_off_in_a_narrow_terminal(
    width: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = read_run(predicted(Made("abcd1234", (1000.0, 2000.0)).write(tmp_path)))
    print_report(run, width=width)
    page = capsys.readouterr().out
    assert max(map(len, page.splitlines())) <= width
    words = " ".join(page.split())
    for part in document.sections(run):
        for table in part.tables:
            for row in table.rows:
                for column, cell in zip(table.columns, row, strict=True):
                    assert column.kind == "t" or cell in words, (column.name, cell)


# ---- predictions ---------------------------------------------------------------------------


def predicted(path: Path) -> Path:
    """Write into a record of two epochs what was predicted after a quarter of the first."""
    kwh = 3000.0 * PUE / 3.6e6
    footprint = {"kwh": kwh, "gco2eq": kwh * GRAMS, "pue": PUE, "error_kwh": None}
    lines = path.read_text().splitlines()
    first = json.loads(lines[0])
    event = {
        "event": "prediction",
        "run_id": first["run_id"],
        "time": first["time"],
        "epochs": 2,
        "after_epochs": 0.25,
        "method": "steps",
        "seconds": 20.0,
        "seconds_80": [19.0, 21.0],
        "seconds_95": [18.0, 23.0],
        "joules": 3000.0,
        "joules_80": [2900.0, 3100.0],
        "joules_95": [2700.0, 3600.0],
        "footprint": footprint | {"intensity": {"gco2eq_per_kwh": GRAMS, "zone": "DK"}},
        "gco2eq_80": [0.05, 0.2],
        "gco2eq_95": [0.025, 0.375],
    }
    path.write_text("\n".join([lines[0], json.dumps(event), *lines[1:]]) + "\n")
    return path


def test_a_prediction_within_the_first_epoch_is_in_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = predicted(Made("abcd1234", (1000.0, 2000.0)).write(tmp_path))
    assert main(["check", str(path), "--strict"]) == 0, capsys.readouterr().out
    (one,) = read_run(path).forecasts
    assert one.prediction.after_epochs == 0.25


@pytest.mark.parametrize("name", ["html", "terminal"])
def test_predictions_show_each_interval_as_recorded(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = read_run(predicted(Made("abcd1234", (1000.0, 2000.0)).write(tmp_path)))
    if name == "html":
        page = rendered("html", run).decode()
    else:
        print_report(run, width=200)
        page = capsys.readouterr().out
    for text in ("0.25 of 2", "25.00 mg to 375.0 mg", "1.125 Wh to 1.500 Wh", "actual"):
        assert text in page


def test_json_has_every_interval(tmp_path: Path) -> None:
    run = read_run(predicted(Made("abcd1234", (1000.0, 2000.0)).write(tmp_path)))
    (one,) = json.loads(rendered("json", run))["predictions"]
    assert one["seconds_80"] == [19.0, 21.0]
    assert one["gco2eq_95"] == [0.025, 0.375]
    assert one["kwh_80"] == pytest.approx([2900.0 * PUE / 3.6e6, 3100.0 * PUE / 3.6e6])


def test_other_factors_remove_the_interval_of_emissions(tmp_path: Path) -> None:
    run = read_run(predicted(Made("abcd1234", (1000.0, 2000.0)).write(tmp_path)))
    (one,) = recalculated_as(run, run.footprint).forecasts
    assert all(map(math.isnan, one.gco2eq_95))
    assert one.kwh_95 == pytest.approx([2700.0 * PUE / 3.6e6, 3600.0 * PUE / 3.6e6])


# ---- records that hold anything ------------------------------------------------------------

EVIL: tuple[Any, ...] = (
    None, True, -1, 1e17, -1e17, 2**63, 2**64, 10**300, math.inf, "", "x", "=1+1", "\x1b[2J",
    "y" * 200_000, [], [1], {}, {"a": {"b": [None]}}, "0001-01-01T00:00:00+00:00",
    "9999-12-31T23:59:59-14:00",
)  # fmt: skip
EVERY_VIEW = (
    *("runs", "runs --json", "aggregate", "aggregate --json", "check", "report", "report --csv -"),
    *("report --json -", "report --html -", "report --codecarbon -", "report --latex -"),
    *("report --markdown -", "report --trace -", "report --pue 1.2", "compare", "trace"),
)
ON_A_TERMINAL = {"runs", "aggregate", "check", "report", "compare"}
Way = tuple[Any, ...]


def full_record() -> list[dict[str, Any]]:
    """Return the events of a run that has some of everything."""
    events = list(Training(epochs=2, gpus=1, moments=3).events())
    first = events[0]
    clock = {"monotonic_ns": 8215001902114, "unix_ns": 1772366420004881209}
    for event in events:
        if event["event"] == "series":
            event.update(t0_ns=8205001771230, clock=clock)
    first.update(clock=clock, parent_run_id="abc", components=["gpu"])
    about = {"run_id": first["run_id"], "time": first["time"]}
    so_far = next(event for event in events if event["event"] == "epoch")
    return [
        first,
        {"event": "warning", **about, "level": "WARNING", "message": "m"},
        {"event": "samples", **about, "path": "/x"},
        {"event": "located", **about, "pricing": first["pricing"], "pue_source": "a"},
        so_far | {"event": "epoch_so_far", "finished": False, "final": False},
        *events[1:],
    ]


def ways_of(value: Any, way: Way = ()) -> list[Way]:
    """Return how to get to every field, and to the first of each list."""
    if isinstance(value, dict):
        inner: list[tuple[Any, Any]] = list(value.items())
    else:
        inner = [(0, value[0])] if isinstance(value, list) and value else []
    return [one for key, item in inner for one in [(*way, key), *ways_of(item, (*way, key))]]


def with_field(events: Sequence[dict[str, Any]], index: int, way: Way, evil: object) -> str:
    """Return a record in which one field holds something else."""
    event = json.loads(json.dumps(events[index]))
    target = event
    for key in way[:-1]:
        target = target[key]
    target[way[-1]] = evil
    changed = [*events[:index], event, *events[index + 1 :]]
    return "".join(json.dumps(one) + "\n" for one in changed)


def assert_no_view_fails(
    logs: Path, text: str, capsys: pytest.CaptureFixture[str], views: Sequence[str] = EVERY_VIEW
) -> None:
    logs.mkdir(exist_ok=True)
    path = logs / "evil.jsonl"
    path.write_text(text)
    for view in views:
        command, *rest = view.split()
        more = {"compare": [str(path)], "trace": ["--out", str(logs / "out.json")]}
        code = main([command, str(path), *more.get(command, []), *rest])
        shown, err = capsys.readouterr()
        assert code in {0, 1, 2}, view
        if view in ON_A_TERMINAL:
            assert max(map(len, shown.splitlines()), default=0) <= 1100, view
            assert len(shown) < 60_000, view
            assert "\x1b[2J" not in shown, view
        assert max(map(len, err.splitlines()), default=0) < 2100, view


FULL = full_record()
FIELDS = [
    (index, way)
    for index, event in enumerate(FULL)
    for way in ways_of(event)
    if way not in {("event",), ("run_id",)}
    and event["event"] not in {one["event"] for one in FULL[:index]}
]


@pytest.mark.parametrize("seed", range(8))
def test_no_view_fails_for_any_value_of_a_field(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    draw = random.Random(seed)
    for index, way in draw.sample(FIELDS, 8):
        assert_no_view_fails(
            tmp_path, with_field(FULL, index, way, draw.choice(EVIL)), capsys, EVERY_VIEW
        )


@pytest.mark.parametrize(
    ("event", "way", "evil"),
    [
        ("epoch", ("start_s",), 1e17),
        ("epoch", ("start_s",), -1e17),
        ("epoch", ("seconds",), 1e17),
        ("series", ("start_s",), 1e17),
        ("series", ("t0_ns",), 2**63),
        ("series", ("t0_ns",), -(2**63)),
        ("series", ("clock", "monotonic_ns"), 2**64),
        ("series", ("clock", "unix_ns"), 2**63),
        ("series", ("t_s", 0), -1e17),
        ("windows", ("windows", 0, "start_s", 0), 1e17),
        ("run_finished", ("seconds",), 1e17),
        ("run_started", ("began",), "0001-01-01T00:00:00+14:00"),
        ("run_started", ("began",), "9999-12-31T23:59:59-14:00"),
        ("run_started", ("host", "name"), "y" * 200_000),
        ("run_started", ("sensors", 0, "name"), "y" * 200_000),
        ("prediction", ("method",), "y" * 200_000),
    ],
)
def test_moments_beyond_time_and_texts_without_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], event: str, way: Way, evil: object
) -> None:
    index = next(i for i, one in enumerate(FULL) if one["event"] == event)
    text = with_field(FULL, index, way, evil)
    assert_no_view_fails(tmp_path, text, capsys)
    if importlib.util.find_spec("reportlab") is not None:
        pdf = tmp_path / "out.pdf"
        assert main(["report", str(tmp_path / "evil.jsonl"), "--pdf", str(pdf)]) == 0
        assert pdf.read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r"])
def test_text_is_never_a_formula_and_numbers_stay(tmp_path: Path, sign: str) -> None:
    made = Made(f"{sign}aaaa", (1000.0, 2000.0), host=f"{sign}h", devices=((f"{sign}gpu", "g/1"),))
    events = made.events()
    events[0]["host"] |= {"cpu": f"{sign}cmd|' /C calc'!A0", "system": f"{sign}1"}
    events[1]["energy"]["joules"] = -1000.0
    path = tmp_path / "run.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    run = read_run(path)
    for name in ("csv", "codecarbon"):
        header, *table = csv.reader(io.StringIO(rendered(name, run).decode(), newline=""))
        cells = [*header, *(cell for row in table for cell in row)]
        formulas = [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
        assert [cell for cell in formulas if not cell.startswith("-1000")] == []
        assert any(cell.startswith("'") for cell in cells)
    header, first, *_ = csv.reader(io.StringIO(rendered("csv", run).decode(), newline=""))
    assert float(first[header.index("joules")]) == -1000.0
