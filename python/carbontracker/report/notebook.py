"""A run as HTML for notebooks: self-contained, in the colours of the notebook."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

from carbontracker.report import planning, sentences
from carbontracker.report.brief import cost_line, forecast_text, joules
from carbontracker.report.console_text import timestring
from carbontracker.report.formatting import DASH, clean, duration, is_known, quantity, rounded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from carbontracker.carbon.footprint import Footprint
    from carbontracker.model.live_status import LiveStatus
    from carbontracker.model.measurement import Measurement
    from carbontracker.model.result import Result
    from carbontracker.planning.estimate import Estimate

# Text and lines take the colour of the surrounding text: right in light and in dark.
_STYLE = (
    ".carbontracker{max-width:46em}"
    ".carbontracker table{border-collapse:collapse;background:none;color:inherit;font:inherit;"
    "font-variant-numeric:tabular-nums}"
    ".carbontracker caption{text-align:left;font-weight:bold;padding:0 0 .3em}"
    ".carbontracker th,.carbontracker td{padding:.15em .9em .15em 0;text-align:right;"
    "background:none;border:0}"
    ".carbontracker th:first-child,.carbontracker td:last-child{text-align:left}"
    ".carbontracker thead th{border-bottom:1px solid currentColor}"
    ".carbontracker tr.total td,.carbontracker tr.total th{border-top:1px solid currentColor}"
    ".carbontracker p{margin:.4em 0}"
)


def status_html(status: LiveStatus | None) -> str:
    """Return the state of a training so far; None if monitoring could not begin."""
    if status is None:
        return _page("Not monitored", [], ["Monitoring could not begin; the console says why."])
    caption = f"Monitoring for {timestring(status.seconds)}"
    return _page(caption, list(_rows(status)), _notes(status))


def result_html(result: Result) -> str:
    """Return the result of a training as HTML."""
    caption = f"{result.finished_epochs} epoch(s) in {timestring(result.seconds)}"
    notes = _notes(result)
    if result.forecast is not None:
        notes.append(f"Predicted {forecast_text(result.forecast)}")
    return _page(caption, list(_rows(result)), notes)


def window_html(name: str, measured: Measurement | None) -> str:
    """Return a window as HTML; None if it has not begun."""
    if measured is None:
        return _page(f"window {name!r}", [], ["It has not begun."])
    return _page(
        f"window {name!r}, {duration(measured.seconds)}", list(_rows(measured)), _notes(measured)
    )


def cell_text(name: str, measured: Measurement) -> str:
    """Return what a cell costs, in one line."""
    return f"carbontracker: {clean(name)}: {cost_line(measured)}"


def cell_html(name: str, measured: Measurement, ended_with: str) -> str:
    """Return the cost of a cell as HTML.

    Args:
        name: of the cell.
        measured: its cost.
        ended_with: name of the exception that ended it; empty if none did.
    """
    early = [f"The cell ended with {ended_with}; this is what it used until then."]
    notes = [*(early if ended_with else []), *_notes(measured)]
    return _page(f"{clean(name)}, {cost_line(measured)}", list(_rows(measured)), notes)


def footprint_html(footprint: Footprint) -> str:
    """Return a footprint as HTML."""
    return _facts(
        "footprint",
        (
            ("electricity", quantity(1e3 * footprint.kwh, "Wh", 1e3 * footprint.error_kwh)),
            ("CO2eq", quantity(footprint.gco2eq, "g", footprint.error_gco2eq)),
        ),
        [sentences.price_line(footprint), *sentences.live_lines(footprint)],
    )


def estimate_html(found: Estimate) -> str:
    """Return an estimate as HTML."""
    heading, rows, notes = planning.estimate_parts(found)
    return _facts(heading, rows, notes)


def _facts(caption: str, facts: Sequence[tuple[str, str]], notes: Sequence[str]) -> str:
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'
        for name, value in facts
    )
    return _whole(caption, f"<tbody>{body}</tbody>", notes)


def _notes(measured: Measurement) -> list[str]:
    return [sentences.price_line(measured.footprint), *sentences.gap_lines(measured.energy)]


def _rows(measured: Measurement) -> Iterator[tuple[str, ...]]:
    energy, gco2eq = measured.energy, measured.footprint.gco2eq
    grams_per_joule = gco2eq / energy.joules if energy.joules > 0 else math.nan
    for name, part in {**energy.by_device, "total": energy}.items():
        grams, error = (one * grams_per_joule for one in (part.joules, part.error_joules))
        emissions = rounded(grams, "g", error) if is_known(grams) else DASH
        yield name, joules(part), emissions, part.quality


def _page(caption: str, rows: Sequence[tuple[str, ...]], notes: Sequence[str]) -> str:
    heads = ("device", "energy", "CO2eq", "known as")
    head = "".join(f'<th scope="col">{escape(one)}</th>' for one in heads)
    body = "".join(map(_row, rows))
    return _whole(caption, f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>", notes)


def _whole(caption: str, table: str, notes: Sequence[str]) -> str:
    below = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return (
        f'<div class="carbontracker"><style>{_STYLE}</style>'
        f"<table><caption>Carbontracker: {escape(caption)}</caption>{table}</table>{below}</div>"
    )


def _row(cells: tuple[str, ...]) -> str:
    name, *rest = map(escape, cells)
    kind = ' class="total"' if name == "total" else ""
    figures = "".join(f"<td>{cell}</td>" for cell in rest)
    return f'<tr{kind}><th scope="row">{name}</th>{figures}</tr>'
