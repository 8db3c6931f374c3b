"""How charts and pages look: one palette in light and in dark, and the style of each shape.

Text keeps a contrast of at least 4.5 to its ground, lines and areas that carry meaning one of 3
(WCAG 2.2, success criteria 1.4.3 and 1.4.11).
"""

from __future__ import annotations

from typing import NamedTuple

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
    "name": Style(fill="text"),
    "error": Style(stroke="text", width=1.2),
    "bar": Style(fill="gpu"),
    "hollow": Style(stroke="quiet", dash=(3, 2)),
    "hit": Style(),
    "window": Style(fill="other", opacity=0.8),
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


def of_kind(kind: str) -> str:
    """Return the colour of a kind of device."""
    return kind if kind in KINDS else "other"


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
