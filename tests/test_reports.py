"""Reports: every view has the record's figures, shows nothing that is not there, and is safe."""

from __future__ import annotations

import base64
import csv
import errno
import io
import json
import math
import re
import time
import zlib
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from carbontracker.carbon.footprint import Footprint
from carbontracker.cli import main
from carbontracker.exceptions import MissingExtra
from carbontracker.extras import optional_module
from carbontracker.json_values import jsonable
from carbontracker.records.output import write_output
from carbontracker.records.reader import read_run
from carbontracker.records.recalculation import recalculated_as
from carbontracker.report import (
    FORMATS,
    charts,
    derived,
    drawing,
    rendered,
    write,
)
from carbontracker.report.charts import MAX_STRIPS, power_charts
from carbontracker.report.drawing import DARK, LIGHT
from carbontracker.report.formatting import clean, duration, plain, quantity, with_error
from carbontracker.report.tabular import CODECARBON_COLUMNS
from carbontracker.report.terminal import print_report, sparkline
from carbontracker.tracker import CarbonTracker
from tests.support import chromium
from tests.support.programs import DEVICES, hide_sensors
from tests.support.records import GRAMS, PUE, Made
from tests.support.simulated import PUE as DAY_PUE
from tests.support.simulated import Training

if TYPE_CHECKING:
    from carbontracker.records.run_record import RunRecord

BOTH = (("gpu:0", "gpu/GPU-1"), ("cpu:0", "cpu/0"))
THREE = Made("aa11", (1000.0, 2000.0, 3000.0), devices=BOTH)
KWH = 6000 * PUE / 3.6e6
ELECTRICITY, EMISSIONS = "2.500 ± 0.050 Wh", "250.0 ± 5.0 mg"
"""What 6000 J at that PUE and intensity are, with an error of 2 %."""
EXTRAS = {"pdf": "reportlab", "parquet": "pyarrow"}
HOSTILE = '<script>alert("x")</script>&\x1b[31m\u202e`|\\$_%{}#~^'


def run_of(folder: Path, events: list[dict[str, Any]]) -> RunRecord:
    path = folder / "made.jsonl"
    lines = (json.dumps(jsonable(event), separators=(",", ":")) for event in events)
    path.write_text("".join(f"{line}\n" for line in lines))
    return read_run(path)


def view(name: str, run: RunRecord) -> bytes:
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name])
    return rendered(name, run)


def text_of(name: str, run: RunRecord) -> str:
    return pdf_text(view(name, run)) if name == "pdf" else view(name, run).decode()


def terminal(run: RunRecord, width: int = 200) -> str:
    out = io.StringIO()
    print_report(run, out, width)
    return out.getvalue()


def pdf_text(data: bytes) -> str:
    """Return what ReportLab wrote as text: strings in brackets, in the standard encoding."""
    found = []
    for stream in re.findall(rb"stream\r?\n(.*?)endstream", data, re.DOTALL):
        content = zlib.decompress(base64.a85decode(b"<~" + stream.strip(), adobe=True))
        for part in re.findall(rb"\(((?:[^()\\]|\\.)*)\)\s*Tj", content, re.DOTALL):
            plain = re.sub(rb"\\(\d{3})", lambda octal: bytes([int(octal[1], 8)]), part)
            found.append(re.sub(rb"\\(.)", rb"\1", plain).decode("cp1252"))
    return "\n".join(found)


class Tags(HTMLParser):
    """Every element and attribute, and whether elements are closed in their order."""

    VOID = ("meta", "link", "br", "img", "input")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


# ---- numbers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (144.93157, 6.8765, "144.9 ± 6.9"),
        (1234.0, 120.0, "1230 ± 120"),
        (0.00123456, 0.000021, "0.001235 ± 0.000021"),
        (5.0, 0.0, "5.000 ± 0"),
        (5.0, math.nan, "5.000"),
        (0.0, math.nan, "0"),
        (1.0, 30.0, "1 ± 30"),
        (1082.621, 0.054, "1082.62 ± 0.05"),
        (1.0, 1e-9, "1.00000 ± <0.00001"),
        (123456789.0, 1.0, "123457000 ± <1000"),
        (0.0, 0.013, "0.000 ± 0.013"),
        (math.nan, 1.0, "not measured"),
        (math.inf, 1.0, "not measured"),
    ],
)
def test_a_number_has_the_digits_that_its_error_allows(
    value: float, error: float, text: str
) -> None:
    assert with_error(value, error) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0, "J", "0 J"),
        (0.0025, "Wh", "2.500 mWh"),
        (999.0, "J", "999.0 J"),
        (1234.0, "J", "1.234 kJ"),
        (4.2e9, "J", "4.200 GJ"),
        (1500.0, "g", "1.500 kg"),
        (2.5e6, "g", "2.500 t"),
        (5e8, "g", "500.0 t"),
        (1e-9, "W", "0.001000 µW"),
        (math.nan, "W", "not measured"),
    ],
)
def test_a_quantity_has_a_unit_of_fitting_size(value: float, unit: str, text: str) -> None:
    assert quantity(value, unit) == text


def test_times_and_tiny_numbers_are_readable() -> None:
    assert [duration(s) for s in (0.5, 59.99, 61, 86400, math.nan)] == [
        "500 ms", "1:00 min", "1:01 min", "24:00:00 h", "not measured",
    ]  # fmt: skip
    assert plain(1.5e-12) == "1.5e-12"
    assert clean("a\tb\x1b[0m\u202e") == "a b\ufffd[0m\ufffd"
    assert clean("日本語 é") == "日本語 é"


def test_ticks_are_round_and_few() -> None:
    assert drawing.steps(0, 4.4, 4) == [0, 2, 4]
    assert drawing.steps(112.0, 158.0, 4) == [120, 140]
    assert drawing.steps(1.0, 1.0, 4) == [1.0]
    assert drawing.times(86400, 10) == (
        [3 * 3600 * i for i in range(9)],
        [f"{3 * i} h" for i in range(9)],
    )
    for seconds in (1e-3, 0.7, 3.0, 59.0, 3601.0, 1e5, 1e7):
        at, labels = drawing.times(seconds, 6)
        assert 1 <= len(at) <= 9
        assert at[0] == 0
        assert at[-1] <= seconds * (1 + 1e-9)
        assert len(set(labels)) == len(labels)


# ---- figures of the record in each view ----------------------------------------------------


@pytest.mark.parametrize("name", ["html", "pdf", "markdown", "latex"])
def test_words_have_the_totals_of_the_record(name: str, tmp_path: Path) -> None:
    text = text_of(name, read_run(THREE.write(tmp_path)))
    text = text.replace(r"$\pm$", "±")
    assert ELECTRICITY in text
    assert EMISSIONS in text
    assert "3.000 ± 0.060 kJ" in text  # of each device
    assert "anthony2020carbontracker" in text or "Anthony, Kanding and Selvan" in text


def test_the_terminal_has_totals_devices_epochs_and_power(tmp_path: Path) -> None:
    text = terminal(read_run(THREE.write(tmp_path)))
    assert ELECTRICITY in text
    assert EMISSIONS in text
    assert text.count("3.000 ± 0.060 kJ") == 3  # two devices, and the last epoch
    assert "3 of 3 epochs" in text
    assert "\x1b" not in text
    # 100, 200 and 300 W: thirds of the highest of eight blocks.
    assert "▃" * 20 + "▆" * 20 + "█" * 20 in text
    assert max(map(len, terminal(read_run(tmp_path), 60).splitlines())) <= 60


def test_a_terminal_of_plain_letters_has_them_all(tmp_path: Path) -> None:
    out = io.BytesIO()
    with io.TextIOWrapper(out, encoding="ascii") as file:
        print_report(read_run(THREE.write(tmp_path)), file, 100)
        file.flush()
        text = out.getvalue().decode("ascii")
    assert "2.500 +/- 0.050 Wh" in text
    assert "-" * 20 + "*" * 20 + "@" * 20 in text
    assert "?" not in text


def test_epochs_are_rows_of_the_csv(tmp_path: Path) -> None:
    run = read_run(THREE.write(tmp_path))
    rows = list(csv.DictReader(io.StringIO(view("csv", run).decode())))
    assert [(row["epoch"], row["finished"], row["quality"]) for row in rows] == [
        (str(i), "True", "measured") for i in (1, 2, 3)
    ]
    assert [float(row["joules"]) for row in rows] == [1000, 2000, 3000]
    assert [float(row["gpu:0 joules"]) for row in rows] == [500, 1000, 1500]
    assert math.fsum(float(row["kwh"]) for row in rows) == pytest.approx(KWH)
    assert math.fsum(float(row["gco2eq"]) for row in rows) == pytest.approx(KWH * GRAMS)
    assert rows[1]["start"] == "2026-03-01T12:00:10+00:00"


def test_parquet_has_the_rows_and_types_of_the_csv(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    run = read_run(THREE.write(tmp_path))
    table = parquet.read_table(io.BytesIO(view("parquet", run)))
    assert table["joules"].to_pylist() == [1000.0, 2000.0, 3000.0]
    assert table["epoch"].to_pylist() == [1, 2, 3]
    header = next(csv.reader(io.StringIO(view("csv", run).decode())))
    assert table.schema.names == header
    assert json.loads(table.schema.metadata[b"carbontracker"])["joules"] == 6000


def test_json_has_all_totals(tmp_path: Path) -> None:
    found = json.loads(view("json", read_run(THREE.write(tmp_path))))
    assert found["id"] == "aa11"
    assert found["footprint"]["kwh"] == pytest.approx(KWH)
    assert found["footprint"]["gco2eq"] == pytest.approx(KWH * GRAMS)
    assert found["energy"]["by_device"]["cpu:0"]["joules"] == 3000
    assert [one["joules"] for one in found["epoch_energies"]] == [1000, 2000, 3000]
    assert found["tracker_cpu_seconds"] == 0.1


def test_codecarbon_has_its_columns_and_units(tmp_path: Path) -> None:
    run = read_run(THREE.write(tmp_path))
    (row,) = csv.DictReader(io.StringIO(view("codecarbon", run).decode()))
    assert tuple(row) == CODECARBON_COLUMNS
    assert len(CODECARBON_COLUMNS) == 38
    assert float(row["emissions"]) == pytest.approx(KWH * GRAMS / 1000)
    assert float(row["emissions_rate"]) == pytest.approx(KWH * GRAMS / 1000 / 30)
    assert float(row["energy_consumed"]) == pytest.approx(KWH)
    assert float(row["duration"]) == 30
    assert row["timestamp"] == "2026-03-01T12:00:30"
    assert (row["gpu_count"], row["gpu_model"]) == ("1", "1 x X")
    assert float(row["gpu_power"]) == float(row["cpu_power"]) == pytest.approx(3000 * PUE / 30)
    # Nothing was measured there, and 0 would be a figure.
    assert {row[name] for name in ("ram_energy", "ram_power", "latitude", "wue")} == {""}


def test_codecarbon_joins_a_file_that_is_there(tmp_path: Path) -> None:
    other = Made("bb22", (500.0,))
    out = tmp_path / "out" / "emissions.csv"
    out.parent.mkdir()
    backwards = ",".join(reversed(CODECARBON_COLUMNS)) + "\n"
    out.write_text(backwards)
    for made in (THREE, other, THREE):
        write("codecarbon", read_run(made.write(tmp_path)), out)
    assert out.read_text().startswith(backwards)
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert [row["run_id"] for row in rows] == ["bb22", "aa11"]
    assert float(rows[0]["energy_consumed"]) == pytest.approx(500 * PUE / 3.6e6)
    assert list(out.parent.iterdir()) == [out]


def test_a_file_of_something_else_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = THREE.write(tmp_path)
    out = tmp_path / "emissions.csv"
    out.write_text("my,own,table\n1,2,3\n")
    assert main(["report", str(record), "--codecarbon", str(out)]) == 2
    assert "choose another name" in capsys.readouterr().err
    assert out.read_text() == "my,own,table\n1,2,3\n"


# ---- over time -----------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [7, 100, 330, 5000])
def test_thinned_power_keeps_the_energy(pieces: int, tmp_path: Path) -> None:
    run = read_run(Training(epochs=4, gpus=2).write(tmp_path / "run.jsonl"))
    for name, energy in run.energy.by_device.items():
        edges, watts = derived.power_of(run, name, pieces)
        assert len(edges) == len(watts) + 1 <= max(pieces, 2) + 1
        spans = [b - a for a, b in pairwise(edges)]
        joules = math.fsum(w * s for w, s in zip(watts, spans, strict=True))
        assert joules == pytest.approx(energy.joules, rel=1e-9)


def test_without_a_series_power_is_that_of_the_epochs(tmp_path: Path) -> None:
    events = [event for event in THREE.events() if event["event"] != "series"]
    run = run_of(tmp_path, events)
    assert derived.power_of(run, "gpu:0", 100) == ([0, 10, 20, 30], [50, 100, 150])
    total = derived.total_power(run)
    assert (total.edges_s, total.watts) == ([0, 10, 20, 30], [100, 200, 300])


def test_emissions_and_intensity_over_time(tmp_path: Path) -> None:
    training = Training(epochs=6, gpus=1, seconds=1800.0)
    run = read_run(training.write(tmp_path / "run.jsonl"))
    moments, grams = derived.emissions_of(run)
    assert moments == [1800.0 * i for i in range(7)]
    assert grams[-1] == pytest.approx(run.footprint.gco2eq)
    assert [step.gco2eq_per_kwh for step in derived.intensities_of(run)] == [
        training.intensity(hour) for hour in (6, 7, 8)
    ]
    by_hour = [
        math.fsum(one.energy.joules for one in run.epochs[i : i + 2]) * DAY_PUE / 3.6e6
        for i in (0, 2, 4)
    ]
    priced = (kwh * training.intensity(6 + i) for i, kwh in enumerate(by_hour))
    assert run.footprint.gco2eq == pytest.approx(math.fsum(priced))


def test_a_command_has_emissions_in_step_with_its_energy(tmp_path: Path) -> None:
    events = [e for e in THREE.events() if e["event"] != "epoch"]
    events[0]["command"] = ["python", "train.py"]
    run = run_of(tmp_path, events)
    moments, grams = derived.emissions_of(run)
    assert moments == [0, 5, 10, 15, 20, 25, 30]
    assert grams == pytest.approx(
        [KWH * GRAMS * joules / 6000 for joules in (0, 500, 1000, 2000, 3000, 4500, 6000)]
    )
    (row,) = csv.DictReader(io.StringIO(view("csv", run).decode()))
    assert (row["epoch"], float(row["joules"])) == ("", 6000)
    assert "python train.py" in text_of("html", run)


def test_windows_of_all_epochs_are_one_row(tmp_path: Path) -> None:
    run = read_run(Training(epochs=5, gpus=1).write(tmp_path / "run.jsonl"))
    (window,) = derived.windows_of(run)
    assert (window.name, window.count, len(window.spans)) == ("validation", 5, 5)
    assert window.joules == pytest.approx(0.07 * run.energy.joules)
    assert window.seconds == pytest.approx(0.1 * run.result.seconds)


def test_predictions_keep_their_interval(tmp_path: Path) -> None:
    run = read_run(Training(epochs=8, gpus=1).write(tmp_path / "run.jsonl"))
    found = run.forecasts
    assert [one.prediction.after_epochs for one in found] == [1, 2, 3, 5, 8]
    for one in found:
        joules = [end * DAY_PUE / 3.6e6 for end in one.prediction.joules_95]
        assert one.kwh_95 == pytest.approx(joules)
    assert found[-1].footprint.kwh == pytest.approx(run.footprint.kwh)
    assert derived.why_not_comparable(run) == ""


def test_a_prediction_for_other_epochs_is_not_held_against_the_run(tmp_path: Path) -> None:
    events = list(Training(epochs=4, gpus=1).events())
    for event in events:
        if event["event"] == "prediction":
            event["epochs"] = 100
    text = text_of("html", run_of(tmp_path, events))
    assert "The predictions are for 100 epochs; 4 were finished." in text
    assert "Actual (line)" not in text


def test_another_intensity_changes_all_emissions(tmp_path: Path) -> None:
    run = read_run(THREE.write(tmp_path))
    kwh = 6000 * 1.1 / 3.6e6
    other = Footprint.from_dict(
        {"kwh": kwh, "gco2eq": kwh * 50, "error_kwh": 0.02 * kwh, "pue": 1.1}
        | {"intensity": {"gco2eq_per_kwh": 50.0}}
    )
    priced = recalculated_as(run, other)
    assert priced.energy == run.energy
    assert [epoch.footprint.gco2eq for epoch in priced.epochs] == pytest.approx(
        [joules * 1.1 / 3.6e6 * 50 for joules in (1000, 2000, 3000)]
    )
    assert quantity(1000 * kwh, "Wh", 20 * kwh) in text_of("html", priced)


def test_the_advice_belongs_to_the_intensity_of_the_record(tmp_path: Path) -> None:
    *events, end = Training(epochs=4, gpus=1).events()
    advice = {"region": {"name": "Oslo"}, "region_saves": 0.82, "start": None, "start_saves": None}
    events += [{"event": "advice", "run_id": end["run_id"], **advice}, end]
    run = run_of(tmp_path, events)
    assert "the region Oslo would have saved 82 % of the emissions" in text_of("html", run)
    assert "Oslo" not in text_of("html", recalculated_as(run, run.footprint))


def test_another_intensity_over_time_goes_to_each_epoch(tmp_path: Path) -> None:
    run = read_run(THREE.write(tmp_path))
    begins = ("2026-03-01T12:00:00Z", "2026-03-01T12:00:15Z", "2026-03-01T12:00:30Z")
    slots = [
        {"start": begins[i], "end": begins[i + 1], "gco2eq_per_kwh": figure}
        for i, figure in enumerate((100.0, 300.0))
    ]
    other = Footprint.from_dict(
        {"kwh": KWH, "pue": PUE, "intensity": {"gco2eq_per_kwh": 200.0}, "slots": slots}
    )
    grams = [epoch.footprint.gco2eq for epoch in recalculated_as(run, other).epochs]
    # The second epoch lies half in the first slot and half in the second.
    wanted = zip((1000, 2000, 3000), (100, 200, 300), strict=True)
    assert grams == pytest.approx([j * PUE / 3.6e6 * figure for j, figure in wanted])


def test_blocks_are_values_and_blanks_are_missing_ones() -> None:
    assert sparkline([0, 1, 3.5, 7, math.nan]) == "▁▂▅█ "
    assert sparkline([0.0, math.nan]) == "▁ "
    assert sparkline([]) == ""


# ---- what is not there ---------------------------------------------------------------------


def lost(event: dict[str, Any]) -> None:
    """Make an event one of which nothing is known."""
    energy = {"joules": None, "error_joules": None, "modelled_joules": 0.0}
    event["energy"] = energy | {"quality": "missing", "coverage": 0.0}
    event["footprint"] |= {"kwh": None, "error_kwh": None, "gco2eq": None}


def odd_runs() -> dict[str, list[dict[str, Any]]]:
    """Return runs that lack something."""
    whole = THREE.events()
    one_lost, all_lost, nameless = THREE.events(), THREE.events(), THREE.events()
    for event in one_lost:
        if event["event"] == "epoch" and event["index"] == 2:
            lost(event)
    for event in all_lost:
        if event["event"] in ("epoch", "run_finished"):
            lost(event)
        if event["event"] == "series":
            event["joules"] = {name: [None] * 3 for name in event["joules"]}
    for event in nameless:
        event.pop("host", None)
        event.pop("sensors", None)
        event.pop("version", None)
        event.get("footprint", {}).pop("intensity", None)
    command = [event for event in whole if event["event"] == "run_started"]
    return {
        "started only": whole[:1],
        "unfinished": whole[:4],
        "one epoch": Made("cc33", (1000.0,)).events(),
        "one epoch lost": one_lost,
        "all lost": all_lost,
        "end only": whole[-1:],
        "nameless": nameless,
        "command killed": [command[0] | {"command": ["sleep", "1"]}],
        "no time": Made("dd44", (0.0,), seconds=0.0).events(),
        "no epochs": [whole[0], whole[-1]],
    }


@pytest.mark.parametrize("name", list(odd_runs()))
def test_missing_values_are_never_numbers(name: str, tmp_path: Path) -> None:
    run = run_of(tmp_path, odd_runs()[name])
    texts = {form: text_of(form, run) for form in FORMATS if form not in EXTRAS}
    texts["terminal"] = terminal(run)
    for form, text in texts.items():
        assert not re.search(r"\b(nan|inf|None)\b", text), form
    Tags(texts["html"])
    json.loads(texts["json"])
    for form in EXTRAS:
        view(form, run)
    for width in (drawing.WIDE, drawing.NARROW):
        for chart in charts.charts_of(run, width):
            assert chart.title
            assert chart.description


def test_an_unknown_epoch_is_blank_dashed_and_named(tmp_path: Path) -> None:
    run = run_of(tmp_path, odd_runs()["one epoch lost"])
    page = text_of("html", run)
    assert "1 of 3 epochs were not measured." in page
    assert page.count('class="s-hollow"') == 2  # wide and narrow
    rows = list(csv.DictReader(io.StringIO(view("csv", run).decode())))
    assert [row["joules"] for row in rows] == ["1000.0", "", "3000.0"]
    assert (rows[1]["modelled_joules"], rows[1]["gco2eq"], rows[1]["quality"]) == (
        "",
        "",
        "missing",
    )


def test_without_a_name_the_newest_run_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CARBONTRACKER_DIR", str(tmp_path / "store"))
    assert main(["report"]) == 2
    assert "no run is recorded in" in capsys.readouterr().err
    for name, joules in (("20260301T060000Z_1", 1000.0), ("20260302T060000Z_2", 2000.0)):
        Made(name[-1] * 16, (joules,)).write(tmp_path / "store", name)
    assert main(["report"]) == 0
    assert "Run 2222222222222222" in capsys.readouterr().out


RUN = "20260301T060000Z_1_aa.jsonl"
OLD_LOG = "1_2024_carbontracker.log"


@pytest.mark.parametrize(
    "arguments",
    [
        *(["report", RUN, f"--{name}", RUN] for name in FORMATS),
        ["report", RUN, "--html", "link.jsonl"],
        ["report", RUN, "--json", f"{RUN}.seal.json"],
        ["report", RUN, "--json", "samples.arrow"],
        ["report", RUN, "--json", "damaged"],
        ["sensors", "--snapshot", RUN],
        ["ledger", "--records", ".", "--csv", RUN],
        ["declare", RUN, "--form", "hf", "-o", RUN],
        ["declare", RUN, "--form", "hf", "--answers", "answers.toml", "-o", "answers.toml"],
        ["trace", RUN, "--out", RUN],
        ["run", "--json", RUN, "true"],
        ["--report", OLD_LOG, "--output", OLD_LOG],
    ],
    ids=" ".join,
)
def test_no_output_replaces_what_was_recorded_or_read(
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    THREE.write(tmp_path, RUN.removesuffix(".jsonl"))
    (tmp_path / "link.jsonl").symlink_to(RUN)
    for name in (f"{RUN}.seal.json", "samples.arrow", OLD_LOG):
        (tmp_path / name).write_bytes(b"{}")
    (tmp_path / "answers.toml").write_bytes(b"")
    (tmp_path / "damaged").write_bytes(b"\0" + (tmp_path / RUN).read_bytes())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(arguments) == 2
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert after == before
    assert (tmp_path / "link.jsonl").is_symlink()
    error = capsys.readouterr().err
    assert any(word in error for word in ("not overwritten", "pip install", "columns")), error


def test_a_file_that_is_replaced_keeps_its_mode_and_its_links(tmp_path: Path) -> None:
    path, link = tmp_path / "out.json", tmp_path / "link.json"
    path.write_bytes(b"before")
    path.chmod(0o640)
    link.symlink_to(path)
    write_output(link, b"after")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"after", 0o640)
    assert link.is_symlink()


def test_a_file_that_cannot_be_replaced_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is mounted by itself into a container."""
    path = tmp_path / "out.json"
    path.write_bytes(b"before")

    def busy(*_: object) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(Path, "replace", busy)
    write_output(path, b"after")
    assert path.read_bytes() == b"after"
    with pytest.raises(OSError, match="busy"):
        write_output(tmp_path / "new.json", b"after")
    assert [one.name for one in tmp_path.iterdir()] == ["out.json"]


def test_a_run_without_energy_is_reported_as_such(tmp_path: Path) -> None:
    run = run_of(tmp_path, odd_runs()["all lost"])
    for text in (text_of("html", run), terminal(run), text_of("markdown", run)):
        assert "No energy was measured: what is missing is not zero." in text
    (row,) = csv.DictReader(io.StringIO(view("codecarbon", run).decode()))
    assert {row[name] for name in ("emissions", "energy_consumed", "gpu_power")} == {""}
    assert "▁" not in terminal(run)


def test_a_run_without_an_end_states_how_far_it_came(tmp_path: Path) -> None:
    run = run_of(tmp_path, odd_runs()["unfinished"])
    for text in (text_of("html", run), terminal(run), text_of("latex", run)):
        assert "Incomplete: " in text
        assert "2 of 3 epochs" in text


# ---- hostile names -------------------------------------------------------------------------


def hostile(tmp_path: Path) -> RunRecord:
    events = list(Training(epochs=2, gpus=1).events())
    for event in events:
        if event["event"] == "run_started":
            event["host"] |= {"name": HOSTILE, "cpu": HOSTILE}
            event["sensors"][0]["name"] = HOSTILE
            event["missing"][0] |= {"reason": HOSTILE, "remedy": HOSTILE}
            event["command"] = ["python", HOSTILE]
        if event["event"] == "windows":
            event["windows"][0]["name"] = HOSTILE
        if event["event"] == "run_finished":
            by_device = event["energy"]["by_device"]
            by_device[HOSTILE] = by_device["gpu:0"]
            event["footprint"]["intensity"] |= {"name": HOSTILE, "note": HOSTILE}
            event["footprint"]["location"]["name"] = HOSTILE
    events.insert(1, events[0] | {"event": "warning", "level": "WARNING", "message": HOSTILE})
    return run_of(tmp_path, events)


def test_hostile_names_stay_text_in_the_page(tmp_path: Path) -> None:
    page = text_of("html", hostile(tmp_path))
    tags = Tags(page)
    assert tags.elements["script"] == 2  # ours, and its numbers
    assert "<script>alert" in "".join(tags.texts)
    assert not {"\x1b", "\u202e"} & set(page)
    assert [name for _, name, _ in tags.attributes if name.startswith("on")] == []


def test_hostile_names_stay_text_elsewhere(tmp_path: Path) -> None:
    run = hostile(tmp_path)
    for form in [*(name for name in FORMATS if name not in EXTRAS and name != "json"), "terminal"]:
        text = terminal(run) if form == "terminal" else text_of(form, run)
        assert not {"\x1b", "\u202e"} & set(text), form
    assert json.loads(view("json", run))["windows"][0]["name"] == HOSTILE  # data as it is
    markdown = text_of("markdown", run)
    assert "<script>" not in markdown.partition("```yaml")[0].replace(r"\<", "")
    assert r"\textbackslash{}\$\_\%\{\}\#" in text_of("latex", run)
    for form in EXTRAS:
        view(form, run)


# ---- the page ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    """A day on eight GPUs, 100 epochs."""
    return read_run(Training().write(tmp_path_factory.mktemp("day") / "day.jsonl"))


def test_a_day_on_eight_gpus_is_one_small_page_that_asks_for_nothing(day: RunRecord) -> None:
    page = view("html", day)
    assert len(page) <= 3_000_000
    tags = Tags(page.decode())
    loading = {"src", "href", "srcset", "data", "action", "poster", "background", "xlink:href"}
    assert [one for one in tags.attributes if one[1] in loading] == []
    assert not re.search(r"url\(|@import|https?://|javascript:", page.decode())
    assert tags.elements["link"] + tags.elements["iframe"] == 0
    assert tags.elements["svg"] == 10  # five pictures, for wide and narrow windows
    ids = [value for _, name, value in tags.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    named = [
        part for _, name, value in tags.attributes if name == "aria-labelledby"
        for part in value.split()
    ]  # fmt: skip
    assert set(named) <= set(ids)
    assert tags.elements["table"] == tags.elements["caption"]


def test_lines_have_no_more_points_than_pixels(day: RunRecord) -> None:
    for chart in power_charts(day, drawing.NARROW):
        lines = [
            one for one in chart.shapes
            if isinstance(one, drawing.Path) and one.style != "total-band"
        ]  # fmt: skip
        longest = max(len(line) for path in lines for line in path.lines)
        assert longest <= 2 * drawing.NARROW + 2
        for shape in chart.shapes:
            if isinstance(shape, drawing.Box):
                assert 0 <= shape.x <= shape.x + shape.width <= chart.width + 1


def test_many_devices_take_several_pictures_of_one_scale(tmp_path: Path) -> None:
    run = read_run(Training(epochs=2, gpus=64, moments=20).write(tmp_path / "run.jsonl"))
    pictures = list(power_charts(run, drawing.WIDE))
    more = (f"power-devices-{i}" for i in range(2, 7))
    assert [one.name for one in pictures] == ["power", "power-devices", *more]
    strips = 67 / MAX_STRIPS
    assert len(pictures) == 1 + math.ceil(strips)
    texts = [
        shape.text for one in pictures for shape in one.shapes if isinstance(shape, drawing.Label)
    ]
    gpus = [text for text in texts if text.startswith("gpu:")]
    assert len(gpus) == 64
    scales = {text.partition("scale to ")[2] for text in texts if "scale to" in text}
    assert len(scales) == 3  # GPUs, processors, memory
    Tags(text_of("html", run))
    view("pdf", run)


def luminance(colour: str) -> float:
    """Return the relative luminance of ``#rrggbb``, 0..1 (WCAG 2.2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, 1..21 (WCAG 2.2)."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_colours_have_the_contrast_of_wcag_aa(palette: dict[str, str]) -> None:
    for ground in ("ground", "card", "band"):
        for text in ("text", "quiet", "link", "warn"):
            assert contrast(palette[text], palette[ground]) >= 4.5, (text, ground)
        for drawn in ("gpu", "cpu", "dram", "other", "carbon"):
            assert contrast(palette[drawn], palette[ground]) >= 3, (drawn, ground)
    assert contrast("#ffffff", "#000000") == pytest.approx(21)


@pytest.mark.skipif(chromium.found() is None, reason="no Chromium here")
def test_chromium_shows_it_without_complaint(day: RunRecord, tmp_path: Path) -> None:
    out = tmp_path / "day.html"
    write("html", day, out)
    with chromium.browser(tmp_path / "profile") as page:
        for width, dark in ((360, False), (768, True), (1280, False)):
            page.open(out, width, dark=dark)
            assert page.complaints() == []
            assert page.requests() == [out.as_uri()]
            assert page.value("document.documentElement.scrollWidth") == width
            shown = "[...document.querySelectorAll('svg')].filter(s => s.clientWidth > 0).length"
            assert page.value(shown) == 5
            colour = page.value("getComputedStyle(document.body).backgroundColor")
            assert colour == ("rgb(18, 23, 21)" if dark else "rgb(255, 255, 255)")
        nodes = page.ask("Accessibility.getFullAXTree")["nodes"]
        roles = [(n["role"]["value"], n.get("name", {}).get("value")) for n in nodes if "role" in n]
        # Chromium calls an image "image" in newer versions.
        pictures = [name for role, name in roles if role in {"img", "image"}]
        assert len(pictures) == 5
        assert all(pictures)
        assert all(name for role, name in roles if role in {"table", "region", "heading"})


# ---- the command ---------------------------------------------------------------------------


def test_a_real_training_in_every_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hide_sensors(monkeypatch, tmp_path)
    logs = tmp_path / "logs"
    tracker = CarbonTracker(
        2, verbose=0, log_dir=logs, location="DK", update_interval=0.004, pue=1.2, **DEVICES
    )
    for _ in tracker.epochs():
        with tracker.window("work"):
            time.sleep(0.02)
    result = tracker.result
    assert result is not None
    wanted = [name for name in FORMATS if name not in EXTRAS]
    options = [part for name in wanted for part in (f"--{name}", str(tmp_path / name))]
    monkeypatch.setenv("CARBONTRACKER_DIR", str(logs))
    run_id = read_run(logs).id
    assert main(["report", run_id[:6], *options]) == 0
    kwh = quantity(1000 * result.footprint.kwh, "Wh", 1000 * result.footprint.error_kwh)
    assert kwh in (tmp_path / "html").read_text()
    assert json.loads((tmp_path / "json").read_text())["kwh"] == result.footprint.kwh
    capsys.readouterr()
    assert main(["report", str(logs)]) == 0
    assert kwh in capsys.readouterr().out


def test_the_command_names_the_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = str(THREE.write(tmp_path))
    assert main(["report", str(tmp_path / "none.jsonl")]) == 2
    assert "no record is called" in capsys.readouterr().err
    assert main(["report", record, "--html", str(tmp_path / "no" / "out.html")]) == 2
    assert "--html" in capsys.readouterr().err


def test_a_dash_is_the_standard_output(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    record = THREE.write(tmp_path)
    assert main(["report", str(record), "--csv", "-"]) == 0
    assert capfdbinary.readouterr().out == rendered("csv", read_run(record))


def test_a_missing_extra_names_the_command_that_installs_it() -> None:
    with pytest.raises(MissingExtra, match=r"pip install reportlab"):
        optional_module("no_such_module_anywhere", "pdf")
