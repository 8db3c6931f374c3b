"""Charts as SVG inside a page, with titles and descriptions for screen readers."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from carbontracker.report.drawing import FONT_SIZE, STYLES, Box, Label, Path
from carbontracker.report.formatting import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carbontracker.report.drawing import Chart, Point, Shape


def svg(chart: Chart, variant: str) -> str:
    """Return the ``svg`` element; ``variant`` is its class and the end of its ids."""
    key = f"{chart.name}-{variant}"
    size = f'viewBox="0 0 {_px(chart.width)} {_px(chart.height)}"'
    head = (
        f'<svg class="{variant}" {size}{_frame(chart)} role="img" '
        f'aria-labelledby="{key}-t {key}-d">'
        f'<title id="{key}-t">{text(chart.title)}</title>'
        f'<desc id="{key}-d">{text(chart.description)}</desc>'
    )
    return head + "".join(map(_shape, chart.shapes)) + "</svg>"


def _frame(chart: Chart) -> str:
    """Return an attribute with left, top, width, height, y of the axis, and the highest value."""
    if chart.live is None:
        return ""
    frame = chart.live.frame
    sizes = (frame.left, frame.top, frame.width, frame.height)
    numbers = (*sizes, chart.live.axis_y, frame.y_range[1])
    return f' data-frame="{" ".join(f"{one:.6g}" for one in numbers)}"'


def css() -> str:
    """Return the CSS rules of all styles; colours are custom properties."""
    rules = [f"svg{{display:block;width:100%;height:auto;font-size:{FONT_SIZE:g}px}}"]
    for name, style in STYLES.items():
        fill = f"var(--{style.fill})" if style.fill else "transparent"
        rule = f"fill:{fill}"
        if style.opacity < 1:
            rule += f";fill-opacity:{style.opacity:g}"
        if style.stroke:
            rule += f";stroke:var(--{style.stroke});stroke-width:{style.width:g}"
        if style.dash:
            rule += f";stroke-dasharray:{' '.join(f'{x:g}' for x in style.dash)}"
        rules.append(f".s-{name}{{{rule}}}")
    return "".join(rules)


def text(value: object) -> str:
    """Return ``value`` as text, cleaned and escaped for HTML."""
    return escape(clean(value))


def _shape(shape: Shape) -> str:
    if isinstance(shape, Path):
        return f'<path class="s-{shape.style}" d="{"".join(map(_line, shape.lines))}"/>'
    if isinstance(shape, Label):
        anchor = "" if shape.anchor == "start" else f' text-anchor="{shape.anchor}"'
        place = f'x="{_px(shape.x)}" y="{_px(shape.y)}"'
        return f'<text class="s-{shape.style}" {place}{anchor}>{text(shape.text)}</text>'
    return _box(shape)


def _box(box: Box) -> str:
    place = f'x="{_px(box.x)}" y="{_px(box.y)}" width="{_px(box.width)}" height="{_px(box.height)}"'
    note = f"<title>{text(box.note)}</title></rect>" if box.note else ""
    return f'<rect class="s-{box.style}" {place}{">" + note if note else "/>"}'


def _line(points: Sequence[Point]) -> str:
    """Return path data; points on a straight horizontal line are left out."""
    commands: list[str] = []
    here: tuple[str, str] | None = None
    for x, y in points:
        at = (_px(x), _px(y))
        if here is None:
            commands.append(f"M{at[0]} {at[1]}")
        elif at == here:
            continue
        elif at[1] == here[1]:
            if commands[-1][0] == "H":
                commands.pop()
            commands.append(f"H{at[0]}")
        elif at[0] == here[0]:
            commands.append(f"V{at[1]}")
        else:
            commands.append(f"L{at[0]} {at[1]}")
        here = at
    return "".join(commands)


def _px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
