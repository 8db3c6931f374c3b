"""What charts are made of: plain shapes and colours, the same for a page and a PDF.

Lengths are CSS pixels, x to the right and y downwards. There is one palette for light and one for
dark. Text has a contrast of at least 4.5 to its ground, lines and areas that carry meaning one of 3
(WCAG 2.2, success criteria 1.4.3 and 1.4.11).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Point = tuple[float, float]
Range = tuple[float, float]

FONT_SIZE = 11.0
WIDE = 720.0
NARROW = 330.0
"""Widths of charts, px: on a page, and on a telephone."""
CHARACTER = 6.4
"""Mean width of a character at that size, px: a rough measure of what fits."""


@dataclass(frozen=True)
class Path:
    """Lines through points, several of them where there are gaps."""

    lines: Sequence[Sequence[Point]]
    style: str


@dataclass(frozen=True)
class Box:
    """A rectangle; ``note`` is its tooltip."""

    x: float
    y: float
    width: float
    height: float
    style: str
    note: str = ""


@dataclass(frozen=True)
class Label:
    """A line of text; ``anchor`` is ``start``, ``middle`` or ``end``."""

    x: float
    y: float
    text: str
    style: str = "label"
    anchor: str = "start"


Shape = Path | Box | Label


@dataclass(frozen=True)
class LivePlot:
    """Where a script finds the plot of a chart."""

    frame: Frame
    """The area of the values, which are in base units."""
    axis_y: float
    """Where the time axis is."""


@dataclass
class Chart:
    """A picture, with a description for screen readers."""

    name: str
    """That of its section; the second chart of a section adds ``-2``."""
    title: str
    description: str
    """What the chart shows, in words."""
    caption: str
    """What a reader must know to read it."""
    width: float
    height: float
    shapes: list[Shape] = field(default_factory=list)
    folded: bool = False
    """Whether the reader may close it."""
    live: LivePlot | None = None
    """The plot that a script may redraw; None of a chart that stays as it is."""

    def add(self, *shapes: Shape) -> None:
        """Put shapes on top."""
        self.shapes.extend(shapes)


@dataclass(frozen=True)
class Frame:
    """The area of a plot, and the values at its edges."""

    left: float
    top: float
    width: float
    height: float
    x_range: Range
    y_range: Range

    def x(self, value: float) -> float:
        """Return the x of a value, px, limited to the frame."""
        return self.left + self.width * _share(value, self.x_range)

    def y(self, value: float) -> float:
        """Return the y of a value, px, limited to the frame."""
        return self.top + self.height * (1 - _share(value, self.y_range))

    @property
    def bottom(self) -> float:
        """Return the lower edge."""
        return self.top + self.height

    @property
    def right(self) -> float:
        """Return the right edge."""
        return self.left + self.width


def _share(value: float, span: Range) -> float:
    low, high = span
    return min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 0.0


# ---- colours -------------------------------------------------------------------------------

LIGHT = {
    "ground": "#ffffff",
    "card": "#f4f6f5",
    "rule": "#d5dbd8",
    "text": "#17201c",
    "quiet": "#505b56",
    "link": "#0b5cad",
    "gpu": "#137a4b",
    "cpu": "#2563a8",
    "dram": "#9a5a00",
    "other": "#7a3f98",
    "total": "#0b6e74",
    "carbon": "#a3341f",
    "band": "#f0f3f2",
    "warn": "#8a4b00",
}
DARK = {
    "ground": "#121715",
    "card": "#1b2320",
    "rule": "#37423d",
    "text": "#e8edea",
    "quiet": "#a9b5af",
    "link": "#7db8f2",
    "gpu": "#4cc38a",
    "cpu": "#7ab2f0",
    "dram": "#e0a458",
    "other": "#c79be0",
    "total": "#4fc3c9",
    "carbon": "#f0907c",
    "band": "#1d2522",
    "warn": "#f0b561",
}
KINDS = ("gpu", "cpu", "dram")


class Style(NamedTuple):
    """Names of colours, opacity of the filling, and width of the line in px."""

    stroke: str = ""
    fill: str = ""
    opacity: float = 1.0
    width: float = 1.0
    dash: tuple[float, ...] = ()


STYLES = {
    "axis": Style(stroke="quiet"),
    "grid": Style(stroke="rule"),
    "band": Style(fill="band"),
    "label": Style(fill="quiet"),
    "tick": Style(stroke="quiet"),
    "time": Style(fill="quiet"),
    "chosen": Style(fill="link", opacity=0.2),
    "name": Style(fill="text"),
    "error": Style(stroke="text", width=1.2),
    "bar": Style(fill="gpu"),
    "hollow": Style(stroke="quiet", dash=(3, 2)),
    "hit": Style(),
    "window": Style(fill="other", opacity=0.8),
    "total-line": Style(stroke="total", width=1.4),
    "total-area": Style(fill="total", opacity=0.12),
    "total-band": Style(fill="total", opacity=0.3),
    "carbon-line": Style(stroke="carbon", width=1.6),
    "carbon-area": Style(fill="carbon", opacity=0.15),
    "intensity-line": Style(stroke="dram", width=1.6),
    "actual": Style(stroke="gpu", width=2),
    "actual-area": Style(fill="gpu", opacity=0.2),
    "predicted": Style(fill="cpu"),
    "interval": Style(stroke="cpu", width=1.4),
    **{f"{kind}-line": Style(stroke=kind, width=1.2) for kind in (*KINDS, "other")},
    **{f"{kind}-area": Style(fill=kind, opacity=0.18) for kind in (*KINDS, "other")},
}


def colour_of(kind: str) -> str:
    """Return the colour of a kind of device."""
    return kind if kind in KINDS else "other"


# ---- axes ----------------------------------------------------------------------------------

TIMES = (
    *((s, 1.0, "s") for s in (1, 2, 5, 10, 20)),
    *((60 * m, 60.0, "min") for m in (0.5, 1, 2, 5, 10, 20, 30)),
    *((3600 * h, 3600.0, "h") for h in (1, 2, 3, 6, 12, 24)),
    *((86400 * d, 86400.0, "d") for d in (2, 5, 10, 20, 50, 100, 200)),
)
"""Distances of ticks in s, and the unit of their labels."""


def steps(low: float, high: float, most: int) -> list[float]:
    """Return round values from ``low`` to ``high``, at most ``most + 1`` of them."""
    width = (high - low) / max(1, most)
    if not (width > 0 and math.isfinite(width)):
        return [low]
    power = 10.0 ** math.floor(math.log10(width))
    step = next(power * one for one in (1, 2, 5, 10) if power * one >= width * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first + 1
    return [(first + i) * step for i in range(count)]


def times(seconds: float, most: int) -> tuple[list[float], list[str]]:
    """Return round moments from 0 to ``seconds`` and their labels."""
    if seconds < most:  # below a second apart
        at = steps(0, seconds, most)
        return at, [f"{t_s:g} s" for t_s in at]
    step, size, unit = next((one for one in TIMES if one[0] * most >= seconds), TIMES[-1])
    if step * most < seconds:  # a very long run, or a damaged record
        step = size * math.ceil(seconds / size / most)
    at = [step * i for i in range(int(seconds / step + 1e-9) + 1)]
    return at, [f"{t_s / size:g} {unit}" for t_s in at]


def time_axis(chart: Chart, frame: Frame) -> None:
    """Draw the time below a frame."""
    at, labels = times(frame.x_range[1], max(2, int(frame.width / 70)))
    for t_s, text in zip(at, labels, strict=True):
        x = frame.x(t_s)
        chart.add(Path([[(x, frame.bottom), (x, frame.bottom + 4)]], "tick"))
        chart.add(tick_label(chart, x, frame.bottom + 16, text, "time"))
    chart.add(Path([[(frame.left, frame.bottom), (frame.right, frame.bottom)]], "axis"))


def tick_label(chart: Chart, x: float, y: float, text: str, style: str = "label") -> Label:
    """Return a label centred at x, moved where it would leave the chart."""
    half = len(text) * CHARACTER / 2
    if x - half < 0:
        return Label(0, y, text, style)
    if x + half > chart.width:
        return Label(chart.width, y, text, style, anchor="end")
    return Label(x, y, text, style, anchor="middle")


def value_axis(chart: Chart, frame: Frame, most: int = 4) -> None:
    """Draw grid lines with their values to the left of a frame."""
    for value in steps(*frame.y_range, most):
        y = frame.y(value)
        chart.add(Path([[(frame.left, y), (frame.right, y)]], "grid"))
        chart.add(Label(frame.left - 6, y + 4, f"{value:.6g}", anchor="end"))


def axis_top(values: Iterable[float], least: float = 0.0) -> float:
    """Return the upper end of an axis that holds all finite values."""
    known = [value for value in values if math.isfinite(value)]
    highest = max([*known, least])
    return highest * 1.05 if highest > 0 else 1.0


# ---- lines with gaps -----------------------------------------------------------------------


def staircase(frame: Frame, edges: Sequence[float], values: Sequence[float]) -> list[list[Point]]:
    """Return step lines for values that hold between edges, one line per stretch without NaN."""
    lines: list[list[Point]] = []
    line: list[Point] = []
    for i, value in enumerate(values):
        if math.isnan(value):
            line = []
            continue
        if not line:
            lines.append(line)
        y = frame.y(value)
        line += [(frame.x(edges[i]), y), (frame.x(edges[i + 1]), y)]
    return lines


def area_between(
    frame: Frame, edges: Sequence[float], low: Sequence[float], high: Sequence[float]
) -> list[list[Point]]:
    """Return the outlines of the areas between two step lines with the same gaps."""
    lows, highs = staircase(frame, edges, low), staircase(frame, edges, high)
    return [[*above, *reversed(below)] for above, below in zip(highs, lows, strict=True)]


def area_below(frame: Frame, lines: Sequence[Sequence[Point]]) -> list[list[Point]]:
    """Return the outlines of the areas between the lines and the bottom of the frame."""
    return [
        [(line[0][0], frame.bottom), *line, (line[-1][0], frame.bottom)] for line in lines if line
    ]


def shortened(text: str, width: float) -> str:
    """Return the text, cut if it would be wider than ``width`` px."""
    most = max(4, int(width / CHARACTER))
    return text if len(text) <= most else text[: most - 1] + "…"
