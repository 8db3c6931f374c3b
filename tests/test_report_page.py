"""The page's chart of total power: its numbers, its script, and what it does in a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from carbontracker.records.reader import read_run
from carbontracker.report import derived, drawing, rendered, write
from carbontracker.report.charts import charts_of
from carbontracker.report.page_script import MAX_INTERVALS, SCRIPT
from tests.support import chromium
from tests.support.records import Made, Rank
from tests.support.simulated import Training
from tests.test_reports import pdf_text, run_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from carbontracker.records.run_record import RunRecord

TWO = (("gpu:0", "gpu/GPU-1"), ("gpu:1", "gpu/GPU-2"))
WATTS = (100.0, 300.0, 500.0, 200.0, 50.0)
"""What `Rank` draws: each for a second, over and over."""


def page_of(run: RunRecord) -> str:
    return rendered("html", run).decode()


def numbers(page: str) -> dict[str, Any]:
    (text,) = re.findall(r'<script type="application/json" id="power-data">(.*?)</script>', page)
    found: dict[str, Any] = json.loads(text)
    return found


def joules(data: dict[str, Any]) -> float:
    spans = [end - start for start, end in pairwise(data["edges_s"])]
    return math.fsum(w * s for w, s in zip(data["watts"], spans, strict=True))


# ---- its numbers ---------------------------------------------------------------------------


def test_the_numbers_are_the_power_of_the_machine(tmp_path: Path) -> None:
    run = read_run(Rank("aa11", spans=((0.0, 5.0), (5.0, 20.0)), devices=TWO).write(tmp_path))
    data = numbers(page_of(run))
    assert data["edges_s"] == list(range(21))
    assert data["watts"] == pytest.approx(list(WATTS) * 4)
    assert data["lowest"] is data["highest"] is None
    assert data["epochs"] == [[1, 0, 5], [2, 5, 20]]
    assert joules(data) == pytest.approx(run.energy.joules)


@pytest.mark.parametrize("pieces", [3, 7, 20, 100])
def test_a_band_holds_the_lowest_and_the_highest(pieces: int, tmp_path: Path) -> None:
    run = read_run(Rank("aa11", spans=((0.0, 100.0),)).write(tmp_path))
    whole = derived.total_power(run)
    thin = whole.thinned(pieces)
    assert len(thin.watts) == pieces
    for i, (start, end) in enumerate(pairwise(thin.edges_s)):
        inside = [WATTS[s % 5] for s in range(math.floor(start), math.ceil(end - 1e-9))]
        assert (thin.lowest[i], thin.highest[i]) == (min(inside), max(inside))
    lengths = [end - start for start, end in pairwise(thin.edges_s)]
    area = math.fsum(w * s for w, s in zip(thin.watts, lengths, strict=True))
    assert area == pytest.approx(23_000.0)  # 1150 J in five seconds


def test_a_part_of_the_machine_is_not_its_total(tmp_path: Path) -> None:
    events = Rank("aa11", spans=((0.0, 10.0),), devices=TWO).events()
    for event in events:
        if event["event"] == "series":
            event["joules"]["gpu:1"][3:6] = [None] * 3
    run = run_of(tmp_path, events)
    watts = numbers(page_of(run))["watts"]
    assert [i for i, one in enumerate(watts) if one is None] == [2, 3, 4, 5]
    assert [watts[i] for i in (0, 1, 6)] == pytest.approx([100.0, 300.0, 300.0])
    assert "No line where a device was not measured." in page_of(run)


def test_without_a_series_the_intervals_are_the_epochs(tmp_path: Path) -> None:
    run = read_run(Rank("aa11", spans=((0.0, 5.0), (10.0, 15.0)), series=False).write(tmp_path))
    data = numbers(page_of(run))
    assert data["edges_s"] == [0, 5, 10, 15]
    assert data["watts"] == [230, None, 230]


def test_times_of_a_short_run_are_not_rounded_away(tmp_path: Path) -> None:
    run = read_run(Made("aa11", (0.001,) * 4, seconds=0.0004).write(tmp_path))
    assert joules(numbers(page_of(run))) == pytest.approx(0.004)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    """A day of 10,000 epochs."""
    training = Training(epochs=10_000, seconds=8.64, gpus=2, moments=3)
    return read_run(training.write(tmp_path_factory.mktemp("long") / "long.jsonl"))


def test_a_day_of_ten_thousand_epochs_is_a_small_page(long: RunRecord) -> None:
    page = page_of(long)
    assert len(page) <= 1_000_000
    data = numbers(page)
    assert len(data["watts"]) == MAX_INTERVALS
    assert data["epochs"] == []
    assert joules(data) == pytest.approx(long.energy.joules, rel=1e-5)
    inside = zip(data["lowest"], data["watts"], data["highest"], strict=True)
    assert all(low <= mean <= high for low, mean, high in inside)


def caption(run: RunRecord, width: float = drawing.WIDE) -> str:
    return next(iter(charts_of(run, width))).caption


def test_the_caption_says_what_a_point_stands_for(long: RunRecord, tmp_path: Path) -> None:
    assert caption(long).startswith(
        "Each point is the mean of 2:08 min. The band goes from the lowest to the highest mean "
        "power within it, of the record's intervals of 2.88 s."
    )
    assert 'class="s-total-band"' in page_of(long)
    coarse = read_run(Made("aa11", (1000.0,) * 3).write(tmp_path))
    assert caption(coarse).startswith(
        "Each point is the mean of 5.00 s. The record has no shorter intervals, so peaks within "
        "them do not show."
    )
    fine = read_run(Rank("bb22", spans=((0.0, 60.0),)).write(tmp_path))
    assert caption(fine) == "Each point is the mean of 1.00 s."
    assert 'class="s-total-band"' not in page_of(fine)


# ---- safety --------------------------------------------------------------------------------

HOSTILE = "</script><script>document.title='owned'</script>\"'<!--&lt;\u2028"


def hostile(tmp_path: Path) -> RunRecord:
    events = list(Training(epochs=2, gpus=1).events())
    events[0] |= {"script": HOSTILE, "host": {"name": HOSTILE, "cpu": HOSTILE}}
    events[0]["sensors"][0] |= {"name": HOSTILE, "source": HOSTILE}
    for event in events:
        if event["event"] == "windows":
            event["windows"][0]["name"] = HOSTILE
    return run_of(tmp_path, events)


def test_the_policy_allows_our_script_alone(tmp_path: Path) -> None:
    page = page_of(hostile(tmp_path))
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy.endswith(f"script-src 'sha256-{digest}'")
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; ")
    assert page.count("<script") == page.count("</script") == 2
    assert f"<script>{SCRIPT}</script>" in page
    assert "innerHTML" not in SCRIPT
    assert not re.search(
        r"https?:|fetch|XMLHttp|import\b|eval|document\.write|\bnew \w*Socket", SCRIPT
    )


# ---- the rest of the page ------------------------------------------------------------------


def test_the_title_has_the_name_of_the_script(tmp_path: Path) -> None:
    events = Made("aa11", (1000.0,) * 3).events()
    assert "<h1>Energy and carbon of a training</h1>" in page_of(run_of(tmp_path, events))
    events[0]["script"] = "train_vit.py"
    assert "<h1>Energy and carbon of train_vit.py</h1>" in page_of(run_of(tmp_path, events))


def headings(page: str) -> list[str]:
    return re.findall(r"<h2[^>]*>(.*?)</h2>", page)


def test_a_run_of_one_epoch_has_no_empty_parts(tmp_path: Path) -> None:
    run = run_of(tmp_path, list(Training(epochs=1, gpus=1).events()))
    page = page_of(run)
    assert headings(page) == [
        "Power",
        "Carbon intensity and emissions",
        "Where the figures come from",
        "What the tracker cost",
        "How to cite",
    ]
    for part in page.split("<section")[1:]:
        assert re.search(r"<svg|<p>|<dl|<table", part)
    times, grams = derived.emissions_of(run)
    assert len(times) > 10  # along its own time, not one step from 0 to the end
    assert grams[-1] == pytest.approx(run.footprint.gco2eq)


def test_nothing_known_is_no_heading(tmp_path: Path) -> None:
    started = Made("aa11").events()[0]
    started |= {"sensors": [], "pricing": None}
    assert "Power" not in headings(page_of(run_of(tmp_path, [started])))


def test_a_constant_device_is_a_line(tmp_path: Path) -> None:
    events = list(Training(epochs=2, gpus=1, moments=10).events())
    for event in events:
        if event["event"] == "series":
            start_s = event["start_s"]
            event["joules"]["dram:0"] = [42.0 * (start_s + t_s) for t_s in event["t_s"]]
    run = run_of(tmp_path, events)
    devices = next(one for one in charts_of(run, drawing.WIDE) if one.name == "power-devices")
    paths = [one for one in devices.shapes if isinstance(one, drawing.Path)]
    styles = [one.style for one in paths]
    assert "dram-area" not in styles
    (line,) = (one.lines for one in paths if one.style == "dram-line")
    ((left, right),) = line
    assert left[1] == right[1]
    assert right[0] - left[0] == devices.width - 1
    texts = [one.text for one in devices.shapes if isinstance(one, drawing.Label)]
    assert "constant 42.00 W" in texts
    assert "gpu-area" in styles


def test_a_processor_has_its_own_name(tmp_path: Path) -> None:
    events = list(Training(epochs=2, gpus=1).events())
    names = {"cpu:0": "package-0", "cpu:1": "package-1-die-0", "dram:0": "dram"}
    for sensor in events[0]["sensors"]:
        sensor["name"] = names.get(sensor["id"], sensor["name"])
    events[0]["host"]["cpu"] = "Intel Xeon Gold 6226R"
    run = run_of(tmp_path, events)
    assert {one.id: one.name for one in run.devices} == {
        "gpu:0": "NVIDIA H100 80GB HBM3",
        "cpu:0": "Intel Xeon Gold 6226R",
        "cpu:1": "Intel Xeon Gold 6226R, die 0",
        "dram:0": "dram",
    }
    assert "package-" not in page_of(run)
    card = rendered("markdown", run).decode()
    assert 'hardware_used: "NVIDIA H100, Intel Xeon Gold 6226R, Intel Xeon' in card
    # The record is as it was.
    assert [one.name for one in run.metadata.sensors][1:3] == ["package-0", "package-1-die-0"]
    del events[0]["host"]["cpu"]
    assert run_of(tmp_path, events).device("cpu:0").name == "package-0"


def test_no_caption_of_the_pdf_is_left_alone(tmp_path: Path) -> None:
    pytest.importorskip("reportlab")
    captions = re.compile(
        r"Energy by device.*|Energy of windows.*|Predictions of the whole.*|Their emissions.*|"
        r"What could not be read|Warnings|Power|Epochs|Carbon intensity and emissions|How to cite|"
        r"Predicted and actual|Where the figures come from|What the tracker cost|All \d+ epochs"
    )
    for gpus in (1, 4, 8):  # each length of the tables ends elsewhere on its page
        run = read_run(Training(epochs=9, gpus=gpus, moments=20).write(tmp_path / "run.jsonl"))
        for page in pages(rendered("pdf", run)):
            *_, last, _number = page.splitlines()
            assert not captions.fullmatch(last), (gpus, last)


def pages(data: bytes) -> Iterator[str]:
    """Yield the text of each page of a PDF."""
    for stream in re.findall(rb"stream\r?\n.*?endstream", data, re.DOTALL):
        if text := pdf_text(stream):
            yield text


# ---- in a browser --------------------------------------------------------------------------


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[chromium.Page]:
    if chromium.found() is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with chromium.browser(tmp_path / "profile") as page:
        yield page


PICTURE = "document.querySelector('figure[data-power] svg.wide')"
READOUT = "document.querySelector('.live p').textContent"
LABELS = (
    f"[...{PICTURE}.querySelectorAll('text')].filter(t => getComputedStyle(t).display !== 'none')"
    ".map(t => t.textContent).filter(t => /^[0-9:.]+( [a-z]+)?$/.test(t))"
)


class Mouse:
    """A pointer over the picture of total power; places are shares of its axis."""

    def __init__(self, page: chromium.Page) -> None:
        self._page = page
        box = page.value(
            f"(b => [b.left, b.top, b.width, b.height])({PICTURE}.getBoundingClientRect())"
        )
        left, top, width, height = box
        scale = width / drawing.WIDE
        self._left, self._width = left + 46 * scale, (drawing.WIDE - 47) * scale
        self._y = top + height / 3

    def go(self, kind: str, share: float, **more: Any) -> None:
        x = self._left + share * self._width
        self._page.ask("Input.dispatchMouseEvent", type=kind, x=x, y=self._y, **more)

    def drag(self, start: float, end: float) -> None:
        held = {"button": "left", "clickCount": 1}
        self.go("mousePressed", start, **held)
        self.go("mouseMoved", (start + end) / 2, button="left")
        self.go("mouseReleased", end, **held)


def test_the_pointer_reads_values_and_a_drag_zooms(browser: chromium.Page, tmp_path: Path) -> None:
    run = read_run(Rank("aa11", spans=((0.0, 40.0), (40.0, 100.0))).write(tmp_path))
    out = tmp_path / "page.html"
    write("html", run, out)
    browser.open(out)
    mouse = Mouse(browser)
    mouse.go("mouseMoved", 0.425)
    assert browser.value(READOUT) == "0:00:42, epoch 2: 500.0 W"
    assert browser.value(LABELS)[-1] == "100 s"
    mouse.drag(0.40, 0.50)  # 40 s to 50 s
    labels = browser.value(LABELS)
    assert {f"0:00:{s}" for s in (42, 44, 46, 48)} <= set(labels)
    assert "100 s" not in labels
    assert browser.value("document.querySelector('.live button').hidden") is False
    mouse.go("mouseMoved", 0.35)
    assert browser.value(READOUT) == "0:00:43.50, epoch 2: 200.0 W"
    mouse.go("mouseMoved", 0.45)
    assert browser.value(READOUT) == "0:00:44.50, epoch 2: 50.00 W"
    browser.value("document.querySelector('.live button').click()")
    assert browser.value(LABELS)[-1] == "100 s"
    assert browser.complaints() == []


def test_names_do_not_run(browser: chromium.Page, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    write("html", hostile(tmp_path), out)
    browser.open(out)
    assert "</script>" in browser.value("document.title")
    assert browser.value("document.title") != "owned"
    assert browser.complaints() == []
    assert browser.value(READOUT).startswith("Point at the chart")


def test_devices_fold_and_a_narrow_table_shows_that_it_scrolls(
    browser: chromium.Page, tmp_path: Path
) -> None:
    out = tmp_path / "page.html"
    write("html", read_run(Training(epochs=3, gpus=2, moments=20).write(tmp_path / "r.jsonl")), out)
    browser.open(out, 360)
    assert browser.value("document.querySelector('details').open") is True
    shown = "document.querySelector('details').getBoundingClientRect().height"
    assert browser.value(shown) > 100
    browser.value("document.querySelector('details summary').click()")
    assert browser.value(shown) < 50
    table = "document.querySelector('.scroll')"
    assert browser.value(f"{table}.scrollWidth > {table}.clientWidth") is True
    assert browser.value(f"getComputedStyle({table}).backgroundImage").count("gradient") == 4
    attached = f"getComputedStyle({table}).backgroundAttachment"
    assert browser.value(attached) == "local, local, scroll, scroll"
