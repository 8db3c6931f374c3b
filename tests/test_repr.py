"""A run in notebooks, plots and terminals: self-contained, escaped, beside other output."""

from __future__ import annotations

import fcntl
import math
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from dataclasses import replace
from html.parser import HTMLParser
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

import carbontracker
from carbontracker.energy.energy import MISSING, Energy
from carbontracker.planning.estimate import estimate
from carbontracker.records import add_runs, read_run
from carbontracker.report.formatting import ranged
from carbontracker.report.notebook import result_html, status_html
from carbontracker.tracker import CarbonTracker
from tests.support.programs import DEVICES, PRELUDE, TIMEOUT_S, hide_sensors, python

if TYPE_CHECKING:
    from pathlib import Path

    from carbontracker.model.result import Result


@pytest.fixture(autouse=True)
def only_simulated_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hide_sensors(monkeypatch, tmp_path)
    monkeypatch.setenv("CARBONTRACKER_LOCATION", "DK")


def made(epochs: int = 3, **arguments: Any) -> CarbonTracker:
    return CarbonTracker(epochs, verbose=0, record=False, **{**DEVICES, **arguments})


def trained(epochs: int = 3) -> Result:
    tracker = made(epochs)
    for _ in range(epochs):
        tracker.epoch_start()
        tracker.epoch_end()
    assert tracker.result is not None
    return tracker.result


# ---- HTML ----------------------------------------------------------------------------------


class Page(HTMLParser):
    """Text, tags and attributes of a piece of HTML; complains if tags do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1] != "style":
            self.texts.append(data)


def test_a_tracker_shows_itself_while_it_monitors_and_after() -> None:
    tracker = made()
    running = Page(tracker._repr_html_()).texts
    assert running[0].startswith("Carbontracker: Monitoring for 0:0")
    assert {"gpu:0", "cpu:0", "total"} <= set(running)
    for _ in range(3):
        tracker.epoch_start()
        tracker.epoch_end()
    ended = Page(tracker._repr_html_()).texts
    assert ended[0].startswith("Carbontracker: 3 epoch(s) in 0:0")
    assert any(text.startswith("Predicted after 1 of 3 epochs: ") for text in ended)
    assert any("gCO2eq/kWh (Denmark" in text for text in ended)
    assert tracker.result is not None
    assert tracker.result._repr_html_() == tracker._repr_html_()


def test_a_tracker_that_does_not_monitor_shows_that() -> None:
    assert "Not monitored" in Page(status_html(None)).texts[0]


def test_it_needs_nothing_from_elsewhere_and_runs_no_script() -> None:
    html = result_html(trained())
    page = Page(html)
    assert page.tags <= {
        "div",
        "style",
        "table",
        "caption",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "p",
    }
    assert page.attributes <= {"class", "scope"}
    assert "url(" not in html
    assert "@import" not in html
    assert "http" not in html


def test_it_takes_its_colours_from_the_notebook() -> None:
    style = re.findall(r"<style>(.*)</style>", result_html(trained()))[0]
    assert not re.search(r"#[0-9a-f]{3}|rgb|hsl|white|black", style)
    assert "currentColor" in style
    assert "color:inherit" in style  # tables would not, in pages without a doctype
    assert all(rule.strip().startswith(".carbontracker") for rule in style.split("}") if rule)


def test_names_are_escaped() -> None:
    result = trained()
    odd = "<script>alert('1')</script>&"
    part = Energy(1.0, 0.1, 1.0, "<b>", 1.0)
    html = result_html(replace(result, energy=Energy.of(part, {odd: part}, {})))
    page = Page(html)
    assert odd in page.texts
    assert "<b>" in page.texts
    assert "script" not in page.tags


def test_missing_energy_is_not_zero() -> None:
    html = result_html(replace(trained(), energy=MISSING))
    cells = re.findall(r"<td>([^<]*)</td>", html)
    assert cells == ["not measured", "-", "missing"]


# ---- plots ---------------------------------------------------------------------------------


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="needs matplotlib")
def test_a_plot_has_the_energy_of_each_epoch_and_its_emissions(tmp_path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    result = trained()
    figure = result.plot()
    above, below = figure.axes
    heights: dict[float, float] = {}
    for bar in above.patches:
        middle = bar.get_x() + bar.get_width() / 2
        heights[middle] = heights.get(middle, 0.0) + bar.get_height()
    expected = {float(epoch.index): epoch.energy.joules for epoch in result.epochs}
    assert heights == {index: pytest.approx(joules) for index, joules in expected.items()}
    actual, predicted = below.get_lines()
    assert list(actual.get_xdata()) == [1, 2, 3]
    assert actual.get_ydata()[-1] == pytest.approx(result.footprint.gco2eq)
    assert result.forecast is not None
    grams = result.forecast.footprint.gco2eq  # not known if the first epoch was over too soon
    assert predicted.get_ydata()[-1] == pytest.approx(grams, nan_ok=True)
    figure.savefig(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    plt.close(figure)


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="needs matplotlib")
def test_a_plot_of_nothing_is_empty_and_no_error() -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    tracker = made()
    tracker.stop()
    assert tracker.result is not None
    figure = tracker.result.plot()
    assert not figure.axes[0].patches
    assert math.isnan(MISSING.joules)
    plt.close(figure)


@pytest.mark.skipif(find_spec("matplotlib") is not None, reason="matplotlib is installed")
def test_a_plot_names_the_extra_to_install() -> None:
    with pytest.raises(ImportError, match=r"pip install matplotlib"):
        trained().plot()


# ---- the progress line ---------------------------------------------------------------------

SHOWN = f"""\
{PRELUDE}
import carbontracker.report.progress as progress
progress.RENEWED_S = 0.1
tracker = CarbonTracker(3, progress=True, verbose=0, record=False, **DEVICES)
"""
PLAIN = (
    SHOWN
    + """\
class Screen:
    def __init__(self, stream):
        self.stream, self.lines = stream, 0

    def write(self, text):
        self.lines += text.count("carbontracker: epoch")
        return self.stream.write(text)

    def __getattr__(self, name):
        return getattr(self.stream, name)

sys.stderr = screen = Screen(sys.stderr)
for epoch in range(3):
    tracker.epoch_start()
    while screen.isatty() and screen.lines <= epoch:
        time.sleep(0.01)  # until the line is drawn
    sys.stderr.write("training's own\\n")
    tracker.epoch_end()
"""
)
BARS = (
    SHOWN
    + """\
from tqdm import tqdm
for epoch in tqdm(range(3), desc="epochs"):
    tracker.epoch_start()
    time.sleep(0.3)
    tracker.epoch_end()
"""
)
LINE = re.compile(
    r"carbontracker: epoch (\d)/3, \d:\d\d:\d\d(?:, \d:\d\d:\d\d to go)?, [\d.]+ W, "
    r"[\d.]+ ± [\d.]+ [mµ]?Wh, [\d.]+ [mµ]?g CO2eq"
)


def in_terminal(program: str) -> str:
    """Return what a program writes to standard error, which is a terminal."""
    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=inner,
    ) as process:
        os.close(inner)
        parts = []
        while True:
            try:
                part = os.read(outer, 65_536)
            except OSError:  # how Linux reports that the other end is closed
                break
            if not part:
                break
            parts.append(part)
        process.wait(timeout=TIMEOUT_S)
    os.close(outer)
    assert process.returncode == 0
    return b"".join(parts).decode().replace("\r\n", "\n")


class Screen:
    """What is left on a terminal in the end: lines, carriage returns, and erasing to the right."""

    def __init__(self, text: str) -> None:
        self.lines = [""]
        column = 0
        for token in re.findall(r"\x1b\[\d*[A-Z]|[^\x1b]", text):
            if token == "\n":
                self.lines.append("")
                column = 0
            elif token == "\r":
                column = 0
            elif token == "\x1b[K":
                self.lines[-1] = self.lines[-1][:column]
            elif token == "\x1b[A":
                raise AssertionError("one bar goes back over no line")
            else:
                line = self.lines[-1].ljust(column)
                self.lines[-1] = line[:column] + token + line[column + 1 :]
                column += 1


def test_a_terminal_shows_a_line_that_is_wiped_away_in_the_end() -> None:
    shown = in_terminal(PLAIN)
    drawn = [match[1] for match in LINE.finditer(shown)]
    assert len(drawn) >= 3
    assert drawn == sorted(drawn)
    left = [line.rstrip() for line in Screen(shown).lines if line.strip()]
    assert [line[: len("training's own")] for line in left] == ["training's own"] * 3


@pytest.mark.skipif(find_spec("tqdm") is None, reason="needs tqdm")
def test_beside_the_bars_of_tqdm_there_is_a_line_an_epoch() -> None:
    shown = in_terminal(BARS)
    left = [line for line in Screen(shown).lines if line.strip()]
    *lines, bar = left
    assert bar.startswith("epochs: 100%")
    assert [LINE.fullmatch(line.rstrip()) is not None for line in lines] == [True] * 3
    assert [line[len("carbontracker: epoch ")] for line in lines] == ["1", "2", "3"]


def test_without_a_terminal_nothing_is_written() -> None:
    done = python(PLAIN)
    assert done.returncode == 0
    assert done.stderr == "training's own\n" * 3


@pytest.mark.skipif(
    find_spec("nbclient") is None or find_spec("ipykernel") is None,
    reason="needs nbclient and ipykernel",
)
@pytest.mark.filterwarnings("ignore")  # of the notebook's own machinery
def test_a_real_notebook_shows_progress_and_result() -> None:
    import nbformat
    from nbclient import NotebookClient

    loop = (
        "for epoch in range(3):\n    tracker.epoch_start()\n    time.sleep(0.1)\n"
        "    tracker.epoch_end()"
    )
    cells = [nbformat.v4.new_code_cell(text) for text in (SHOWN, loop, "tracker")]
    book = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(book, timeout=TIMEOUT_S, kernel_name="python3").execute()
    shown = [one["data"] for one in book.cells[1].outputs if one.output_type == "display_data"]
    assert len(shown) == 1
    line = shown[0]["text/plain"]  # at the end: what the training has cost
    assert re.fullmatch(rf"carbontracker: epoch 3/3: {AMOUNT} in {NUMBER} m?s", line)
    (result,) = book.cells[2].outputs
    assert "Carbontracker: 3 epoch(s)" in result["data"]["text/html"]


# ---- reprs ---------------------------------------------------------------------------------

POWER: dict[str, Any] = {"sim_gpu_watts": 400, "components": "gpu"}
NUMBER = r"\d+(?:\.\d+)?"
AMOUNT = rf"{NUMBER} ± {NUMBER} [mµ]?Wh, {NUMBER} [mµ]?g CO2eq"


def test_a_result_and_its_parts_are_one_line_each() -> None:
    result = trained(50)
    assert re.fullmatch(rf"<Result 50 epochs: {NUMBER} [mµ]?s, {AMOUNT}, modelled>", repr(result))
    assert re.fullmatch(
        rf"<Epoch 50: {NUMBER} [mµ]?s, {AMOUNT}, modelled>",
        repr(replace(result.epochs[-1], final=True)),
    )
    assert re.fullmatch(rf"<Energy {NUMBER} ± {NUMBER} [mk]?J, modelled>", repr(result.energy))
    assert re.fullmatch(
        rf"<Footprint {AMOUNT}, PUE 1\.58, {NUMBER} gCO2eq/kWh \(Denmark \d{{4}}\)>",
        repr(result.footprint),
    )
    assert result.forecast is not None
    for one in (result.forecast, result.forecast.prediction):
        assert re.match(rf"<{type(one).__name__} after 1 of 50 epochs: {NUMBER} ", repr(one))
        assert len(repr(one)) < 160
    assert len(repr(result.epochs)) < 60 + 100 * 50


def test_a_tracker_says_how_far_it_is_and_what_it_has_cost() -> None:
    tracker = made()
    assert repr(tracker) == "<CarbonTracker 0 of 3 epochs, not begun>"
    tracker.epoch_start()
    assert repr(tracker) == "<CarbonTracker 1 of 3 epochs, monitoring>"
    tracker.epoch_end()
    figures = rf"{NUMBER} [mµ]?s, {AMOUNT}, modelled"
    one = rf"<CarbonTracker 1 of 3 epochs: {figures}, monitoring>"
    assert re.fullmatch(one, repr(tracker))
    tracker.epoch_start()
    assert re.fullmatch(one, repr(tracker))
    tracker.stop()
    assert re.fullmatch(rf"<CarbonTracker 1 of 3 epochs: {figures}, ended>", repr(tracker))
    endless = made(0, max_steps=7)
    assert repr(endless) == "<CarbonTracker 0 epochs, not begun>"
    assert repr(CarbonTracker.__new__(CarbonTracker)) == "<CarbonTracker, not begun>"
    endless.stop()


def test_every_public_value_has_a_short_repr(tmp_path: Path) -> None:
    """Names come from drivers, commands and scripts, and a long training has many parts."""
    with carbontracker.measure("n" * 500) as window:
        pass
    tracker = CarbonTracker(50, verbose=0, log_dir=tmp_path, sim_gpu="g" * 500, **POWER)
    for _ in tracker.epochs():
        pass
    result = tracker.result
    assert result is not None
    footprint = result.footprint
    run = read_run(tmp_path)
    machine = carbontracker.sensors(0.0)
    values: list[object] = [
        *(window, tracker, tracker.tracker, tracker.intensity_updater, result, result.forecast),
        *(result.energy, footprint, footprint.slots[0], footprint.intensity, footprint.location),
        *(run, run.metadata, run.devices[0], add_runs([run])),
        estimate(flops=3.14e23, gpu="V100", location="DK"),
        *(machine, *machine.readable, *machine.absent, *machine.failed),
    ]
    for value in values:
        assert len(repr(value)) <= 250, repr(value)
        assert "\n" not in repr(value)
    assert re.fullmatch(
        rf"<RunRecord {run.id} .*, finished: {NUMBER} [mµ]?s, {AMOUNT}, modelled>", repr(run)
    )
    assert (
        repr(footprint.intensity) == "<Intensity Denmark 2025: 114.4 gCO2eq/kWh, annual, lifecycle>"
    )
    assert re.fullmatch(rf"<Total 1 run: {AMOUNT}>", repr(add_runs([run])))


def of_figures(joules: float, error: float, **other: Any) -> Energy:
    given: dict[str, Any] = {"modelled_joules": 0.0, "quality": "measured", "coverage": 1.0} | other
    return Energy(joules, error, **given)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (of_figures(7.2345, 3.14), "<Energy 7.2 ± 3.1 J, measured>"),
        (of_figures(123456.0, 78.0), "<Energy 123.456 ± 0.078 kJ, measured>"),
        (of_figures(9.0, 0.5, coverage=0.98), "<Energy 9.00 ± 0.50 J, measured, known for 98 %>"),
        (
            of_figures(9.0, 0.5, coverage=0.9994),
            "<Energy 9.00 ± 0.50 J, measured, known for 99.9 %>",
        ),
        (MISSING, "<Energy not measured>"),
    ],
)
def test_an_energy_in_human_units(value: Energy, text: str) -> None:
    assert repr(value) == text


def test_what_was_not_measured_says_so_in_a_repr() -> None:
    tracker = CarbonTracker(2, verbose=0, record=False, components="gpu")
    tracker.epoch_start()
    epoch = tracker.epoch_end()
    so_far = tracker.result
    tracker.stop()
    assert re.fullmatch(rf"<Epoch 1: {NUMBER} [mµ]?s, not measured(, provisional)?>", repr(epoch))
    assert re.fullmatch(
        rf"<Result 1 epoch: {NUMBER} [mµ]?s, not measured, provisional>", repr(so_far)
    )


def test_a_window_is_one_line() -> None:
    tracker = made()
    with tracker.window("forward") as window:
        pass
    window.wait()
    assert re.fullmatch(rf"<Window 'forward': {NUMBER} [mµ]?s, .*>", repr(window))
    page = Page(window._repr_html_())
    assert "Carbontracker: window 'forward', " in " ".join(page.texts)
    assert {"gpu:0", "cpu:0", "total"} <= set(page.texts)
    assert "It has not begun." in Page(tracker.window("<b>")._repr_html_()).texts
    tracker.stop()


def test_a_footprint_and_an_estimate_show_themselves_in_a_notebook() -> None:
    footprint = trained(1).footprint
    texts = Page(footprint._repr_html_()).texts
    assert {"electricity", "CO2eq"} <= set(texts)
    assert any("Denmark" in text for text in texts)
    found = estimate(flops=3.14e23, gpu="V100", location="DK")
    assert re.fullmatch(
        rf"<Estimate 1 x [^:]*V100[^:]*: {NUMBER} \[{NUMBER} to {NUMBER}\] [MG]Wh, .* CO2eq>",
        repr(found),
    )
    texts = Page(found._repr_html_()).texts
    assert {"Energy", "CO2eq", "GPU-hours", "Time"} <= set(texts)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ((118162.39, 56717.95, 378119.66), "118 [57 to 378] kWh"),
        ((1.0, 1.0, 1.0), "1.000 Wh"),
        ((math.nan, math.nan, math.nan), "not measured"),
        ((5.0, math.nan, math.nan), "5.000 Wh"),
        ((2.0, 2.0, 3.0), "2.0 [2.0 to 3.0] Wh"),
        ((1e9, 1e9 - 1, 1e9 + 1), "1.00000 [1.00000 to 1.00000] GWh"),
    ],
)
def test_a_range_has_the_digits_of_its_nearer_limit(
    value: tuple[float, float, float], text: str
) -> None:
    assert ranged(*value, "Wh") == text
