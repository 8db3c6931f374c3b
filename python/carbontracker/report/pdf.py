"""The report as PDF: the texts, tables and charts of the page, laid out by ReportLab.

A library and not a browser, because it also works on cluster nodes, in containers and as root.
"""

from __future__ import annotations

import io
from html import escape
from typing import TYPE_CHECKING, Any

from carbontracker.extras import optional_module
from carbontracker.report import document
from carbontracker.report.charts import charts_of
from carbontracker.report.drawing import FONT_SIZE, LIGHT, STYLES, Label, Path
from carbontracker.report.formatting import MAX_CELL, MAX_LINE, clean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from carbontracker.records.run_record import RunRecord
    from carbontracker.report.document import Section, Table
    from carbontracker.report.drawing import Chart, Shape

_WIDTH = 499.0
"""Width of the text on A4, pt: 595 - 2 * 48."""
_MARGIN = 48.0
_PADDING = 6.0
"""Padding of a page's frame, pt; ReportLab adds it to the margin."""
_CHARSET = "cp1252"
"""The characters of the standard PDF fonts."""


def render(run: RunRecord) -> bytes:
    """Return the document.

    Raises:
        MissingExtra: ReportLab is not installed.
    """
    platypus = optional_module("reportlab.platypus", "pdf")
    out = io.BytesIO()
    title = _text(document.heading(run))
    page = platypus.SimpleDocTemplate(
        out,
        pagesize=optional_module("reportlab.lib.pagesizes", "pdf").A4,
        leftMargin=_MARGIN - _PADDING,
        rightMargin=_MARGIN - _PADDING,
        topMargin=_MARGIN,
        bottomMargin=_MARGIN,
        title=title,
        author=f"carbontracker {_text(run.metadata.version)}",
        lang="en",
        invariant=1,
    )
    page.build(list(_story(run)), onFirstPage=_numbered, onLaterPages=_numbered)
    return out.getvalue()


def _numbered(canvas: Any, _document: Any) -> None:
    canvas.setFont("Helvetica", 8)
    canvas.setFillColor(LIGHT["quiet"])
    canvas.drawRightString(_MARGIN + _WIDTH, _MARGIN / 2, str(canvas.getPageNumber()))


def _story(run: RunRecord) -> Iterator[Any]:
    spacer = optional_module("reportlab.platypus", "pdf").Spacer
    yield _paragraph(document.heading(run), 17, bold=True)
    yield _paragraph(document.subtitle(run), 9, "quiet")
    for note in document.notes(run):
        yield _paragraph(note, 9, "warn")
    yield spacer(1, 8)
    yield _facts([(f"{one.name}", f"{one.value}  ({one.below})") for one in document.cards(run)])
    if document.compared(run):
        yield _paragraph(document.compared(run), 9)
    width = _WIDTH * 4 / 3  # px of pt
    pictures = list(charts_of(run, width))
    parts = list(document.sections(run))
    for section in parts:
        mine = [one for one in pictures if one.name.partition("-")[0] == section.name]
        if not mine and section.empty:
            continue
        yield from _section(section, mine)
    for table in (table for section in parts for table in section.tables if table.folded):
        yield optional_module("reportlab.platypus", "pdf").PageBreak()
        yield _paragraph(table.caption, 13, bold=True)
        yield _table(table)


def _section(section: Section, pictures: Sequence[Chart]) -> Iterator[Any]:
    platypus = optional_module("reportlab.platypus", "pdf")
    head = [platypus.Spacer(1, 14), _paragraph(section.title, 13, bold=True, with_next=True)]
    head += [_paragraph(line, 9) for line in section.lines]
    for chart in pictures:
        head += [platypus.Spacer(1, 6), drawn(chart), _paragraph(chart.caption, 8, "quiet")]
        yield platypus.KeepTogether(head)
        head = []
    yield from head
    if section.facts:
        yield platypus.Spacer(1, 4)
        yield _facts(section.facts)
    for table in section.tables:
        if table.rows and not table.folded:
            yield platypus.Spacer(1, 8)
            yield _paragraph(table.caption, 8, "quiet", with_next=True)
            yield _table(table)
    for code in section.code:
        yield _code(code)


def _paragraph(
    text: str, size: float, colour: str = "text", *, bold: bool = False, with_next: bool = False
) -> Any:
    """Return a paragraph; ``with_next`` keeps it on one page with what follows."""
    style = _style(size, colour, bold=bold)
    style.keepWithNext = with_next
    return optional_module("reportlab.platypus", "pdf").Paragraph(escape(_text(text)), style)


def _style(size: float, colour: str, *, bold: bool = False, right: bool = False) -> Any:
    return optional_module("reportlab.lib.styles", "pdf").ParagraphStyle(
        "",
        fontName="Helvetica-Bold" if bold else "Helvetica",
        fontSize=size,
        leading=size * 1.3,
        textColor=LIGHT[colour],
        alignment=2 if right else 0,
        spaceAfter=2,
        splitLongWords=1,
    )


def _code(code: str) -> Any:
    style = _style(7.5, "text")
    style.fontName = "Courier"
    lines = "<br/>".join(
        escape(_text(line)).replace("  ", "\N{NO-BREAK SPACE} ") for line in code.splitlines()
    )
    return optional_module("reportlab.platypus", "pdf").Paragraph(lines, style)


def _facts(facts: Any) -> Any:
    rows = [
        (_paragraph(name, 9, "quiet"), _paragraph(clean(value, MAX_LINE), 9))
        for name, value in facts
    ]
    return optional_module("reportlab.platypus", "pdf").Table(
        rows,
        colWidths=(125, _WIDTH - 125),
        style=[("VALIGN", (0, 0), (-1, -1), "TOP"), *_close(0)],
    )


def _table(table: Table) -> Any:
    platypus = optional_module("reportlab.platypus", "pdf")
    styles = [
        (_style(7.5, "quiet", bold=True, right=column.kind == "n"),
         _style(7.5, "text", right=column.kind == "n"))
        for column in table.columns
    ]  # fmt: skip
    rows = [
        [
            platypus.Paragraph(escape(_text(column.name)), head)
            for column, (head, _) in zip(table.columns, styles, strict=True)
        ]
    ]
    rows += [
        [
            platypus.Paragraph(escape(_text(clean(cell, MAX_CELL))), body)
            for cell, (_, body) in zip(row, styles, strict=True)
        ]
        for row in table.rows
    ]
    line = ("LINEBELOW", (0, 0), (-1, -1), 0.4, LIGHT["rule"])
    return platypus.Table(
        rows,
        colWidths=_widths(table),
        repeatRows=1,
        style=[line, ("VALIGN", (0, 0), (-1, -1), "TOP"), *_close(2)],
    )


def _close(padding: float) -> list[Any]:
    sides = ("LEFTPADDING", 0), ("RIGHTPADDING", 6), ("TOPPADDING", padding), ("BOTTOMPADDING", 2)
    return [(name, (0, 0), (-1, -1), value) for name, value in sides]


def _widths(table: Table) -> list[float]:
    """Return widths, pt, in proportion to the longest text of each column, within bounds."""
    wanted = []
    for i, column in enumerate(table.columns):
        longest = max(len(column.name), *(len(row[i]) for row in table.rows))
        wanted.append(min(max(longest, 7), 40) * 4.2 + 8)
    return [_WIDTH * width / sum(wanted) for width in wanted]


def _text(text: object) -> str:
    """Return text in the characters of the fonts; others become ``?``."""
    return clean(text).encode(_CHARSET, "replace").decode(_CHARSET)


# ---- pictures ------------------------------------------------------------------------------


def drawn(chart: Chart) -> Any:
    """Return a chart as a drawing as wide as the text."""
    shapes = optional_module("reportlab.graphics.shapes", "pdf")
    scale = _WIDTH / chart.width
    drawing = shapes.Drawing(_WIDTH, chart.height * scale)
    group = shapes.Group(transform=(scale, 0, 0, scale, 0, 0))
    for shape in chart.shapes:
        for one in _shapes(shapes, shape, chart.height):
            group.add(one)
    drawing.add(group)
    return drawing


def _shapes(shapes: Any, shape: Shape, height: float) -> Iterator[Any]:
    style = STYLES[shape.style]
    fill = _colour(style.fill, style.opacity)
    if isinstance(shape, Path):
        stroke = {"strokeColor": _colour(style.stroke), "strokeWidth": style.width}
        for line in shape.lines:
            points = [part for x, y in line for part in (x, height - y)]
            if style.fill:
                yield shapes.Polygon(points, fillColor=fill, strokeColor=None)
            else:
                yield shapes.PolyLine(points, **stroke)
    elif isinstance(shape, Label):
        yield shapes.String(
            shape.x,
            height - shape.y,
            _text(shape.text),
            fontName="Helvetica",
            fontSize=FONT_SIZE,
            fillColor=fill,
            textAnchor=shape.anchor,
        )
    elif style.fill or style.stroke:
        yield shapes.Rect(
            shape.x,
            height - shape.y - shape.height,
            shape.width,
            shape.height,
            fillColor=fill,
            strokeColor=_colour(style.stroke),
            strokeWidth=style.width,
            strokeDashArray=style.dash or None,
        )


def _colour(name: str, opacity: float = 1.0) -> Any:
    if not name:
        return None
    colours = optional_module("reportlab.lib.colors", "pdf")
    return colours.HexColor(f"{LIGHT[name]}{round(255 * opacity):02x}", hasAlpha=True)
