"""Recorded runs in the terminal: one run as a report, many runs as a table, two compared."""

from __future__ import annotations

import math
import sys
from typing import IO, TYPE_CHECKING, Any

from carbontracker.carbon.equivalents import equivalents
from carbontracker.model.work import SAMPLES, TOKENS
from carbontracker.report import derived, document
from carbontracker.report.brief import MIN_COMPARED_G
from carbontracker.report.console_text import timestring
from carbontracker.report.formatting import (
    DASH,
    MAX_CELL,
    MAX_LINE,
    PLUS_MINUS,
    aligned,
    clean,
    duration,
    is_known,
    percent,
    quantity,
    rounded,
    unit_of,
    with_error,
)
from carbontracker.report.paper import sentence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    from carbontracker.records.aggregate import Total
    from carbontracker.records.compare import Difference, Side
    from carbontracker.records.run_record import RunRecord
    from carbontracker.report.document import Table

BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII = str.maketrans({"±": "+/-", **dict(zip(BLOCKS, ".:-=+*#@", strict=True))})
"""For terminals without these characters."""
_PIECES = 60
_MAX_ROWS = 12
"""Rows of a table: the terminal shows an overview."""
_MIN_TEXT = 12
"""Width of a column of free text, which wraps."""


def print_report(run: RunRecord, file: IO[str] | None = None, width: int | None = None) -> None:
    """Print the report.

    Args:
        run: the run.
        file: the output; standard output if None.
        width: in characters; the terminal's if None.
    """
    from rich.console import Console

    out = file or sys.stdout
    console = Console(file=out, width=width, highlight=False)
    with console.capture() as captured:
        _print_parts(console, run)
    print(captured.get(), file=out, end="")  # the caller handles a broken pipe, not rich


def _print_parts(console: Console, run: RunRecord) -> None:
    console.print(_text(console, document.heading(run), "bold"))
    console.print(_text(console, document.subtitle(run)))
    for note in document.notes(run):
        console.print(_text(console, note, "yellow"))
    console.print()
    for card in document.cards(run):
        below = f"  ({card.below})" if card.below else ""
        console.print(_text(console, f"{card.name + ':':<18} {card.value}{below}"))
    if document.compared(run):
        console.print(_text(console, document.compared(run)))
    _print_power(console, run)
    for section in document.sections(run):
        tables = [table for table in section.tables if table.rows]
        if section.facts or section.lines or tables:
            console.print()
            console.print(_text(console, section.title, "bold"))
        for line in section.lines:
            console.print(_text(console, line))
        for name, value in section.facts:
            console.print(_text(console, f"{name}: {value}"))
        for table in tables:
            _print_table(console, table)


def _text(console: Console, text: str, style: str = "") -> Text:
    from rich.text import Text

    shown = clean(text, MAX_LINE)
    return Text(shown if console.encoding.startswith("utf") else shown.translate(_ASCII), style)


def _print_power(console: Console, run: RunRecord) -> None:
    pieces = max(10, min(_PIECES, console.width - 12))
    watts = derived.total_power(run).resampled(pieces).watts
    if not any(map(is_known, watts)):
        return
    console.print()
    console.print(_text(console, f"Power      {sparkline(watts)}"))
    known = [value for value in watts if is_known(value)]
    span = f"{quantity(min(known), 'W')} to {quantity(max(known), 'W')}"
    console.print(_text(console, f"           {span}, over {duration(derived.length_of(run))}"))


def sparkline(values: Sequence[float]) -> str:
    """Return values as blocks from 0 to the highest value; blank where unknown."""
    highest = max((value for value in values if is_known(value)), default=0.0)
    if highest <= 0:
        return "".join(BLOCKS[0] if is_known(value) else " " for value in values)
    top = len(BLOCKS) - 1
    return "".join(
        BLOCKS[max(0, min(top, round(value / highest * top)))] if is_known(value) else " "
        for value in values
    )


def _print_table(console: Console, table: Table) -> None:
    """Print a table; if it is too wide, one line per cell, so that no figure is cut."""
    rows = list(table.rows)
    left_out = len(rows) - _MAX_ROWS
    if left_out > 1:
        rows = rows[: _MAX_ROWS - 1] + rows[-1:]
    bare = _least_width(console, table, rows)
    for padding in (1, 0):
        if bare + 2 * padding * len(table.columns) <= console.width:
            console.print(_grid(console, table, rows, padding))
            break
    else:
        _print_rows(console, table, rows)
    if left_out > 1:
        console.print(
            _text(console, f"{left_out} rows before the last are not shown; --csv has all epochs.")
        )


def _least_width(console: Console, table: Table, rows: Sequence[Sequence[str]]) -> int:
    """Return the width without padding, in characters; free text may wrap."""
    width = len(table.columns) + 1
    for i, column in enumerate(table.columns):
        texts = (clean(cell, MAX_CELL) for cell in (column.name, *(row[i] for row in rows)))
        cells = [_text(console, cell).plain for cell in texts]
        if column.kind == "t":
            words = [word for cell in cells for word in cell.split()]
            width += min(_MIN_TEXT, max(map(len, words)))
        else:
            width += max(map(len, cells))
    return width


def _grid(console: Console, table: Table, rows: Sequence[Sequence[str]], padding: int) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable

    grid = RichTable(
        title=_text(console, table.caption),
        box=box.SIMPLE_HEAD,
        title_justify="left",
        padding=(0, padding),
    )
    for column in table.columns:
        grid.add_column(
            _text(console, column.name),
            justify="right" if column.kind == "n" else "left",
            no_wrap=column.kind != "t",
            overflow="fold",
        )
    for row in rows:
        grid.add_row(*(_text(console, clean(cell, MAX_CELL)) for cell in row))
    return grid


def _print_rows(console: Console, table: Table, rows: Sequence[Sequence[str]]) -> None:
    console.print(_text(console, table.caption, "italic"))
    for row in rows:
        console.print()
        for column, cell in zip(table.columns, row, strict=True):
            if cell:
                console.print(_text(console, f"{column.name}: {clean(cell, MAX_CELL)}"))
    console.print()


# ---- many runs -----------------------------------------------------------------------------

_COLUMNS = (
    "id",
    "started",
    "host",
    "what",
    "epochs",
    "time",
    "electricity",
    "CO2eq",
    "quality",
    "state",
)


def runs_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as a table."""
    if not rows:
        return "no runs"
    cells = [list(_COLUMNS), *([_run_cell(row, name) for name in _COLUMNS] for row in rows)]
    right = {_COLUMNS.index(name) for name in ("epochs", "time", "electricity", "CO2eq")}
    return "\n".join(aligned(cells, right))


def _run_cell(row: Mapping[str, Any], name: str) -> str:
    if name == "time":
        return DASH if row["seconds"] is None else timestring(row["seconds"])
    if name == "epochs" and row["planned_epochs"] is not None:
        done, planned = row["epochs"], row["planned_epochs"]
        return str(done) if done >= math.ceil(planned) else f"{done}/{planned}"
    if name in {"electricity", "CO2eq"}:
        return _run_cost(row, name)
    value = row[name]
    if value is None:
        return DASH
    text = str(value)
    if name == "started":
        return text[:19].replace("T", " ")
    return text if len(text) <= 32 else text[:31] + "…"


def _run_cost(row: Mapping[str, Any], name: str) -> str:
    """Return electricity or emissions of a run, to the digit that the error allows."""
    figures = [row[key] for key in ("joules", "error_joules", "kwh", "gco2eq")]
    joules, error, kwh, grams = (math.nan if one is None else one for one in figures)
    share = error / joules if joules > 0 else math.nan
    if name == "CO2eq":
        return rounded(grams, "g", share * grams) if is_known(grams) else DASH
    return quantity(1000 * kwh, "Wh", share * 1000 * kwh) if is_known(kwh) else DASH


def total_lines(total: Total) -> list[str]:
    """Return the sentence for a paper on a total, with its error and what is left out."""
    left_out = [f"{count} run(s) {reason}." for reason, count in sorted(total.left_out.items())]
    if not total.runs:
        return ["No run with energy: there is nothing to add up.", *left_out]
    is_compared = total.gco2eq >= MIN_COMPARED_G
    compared = equivalents(total.gco2eq, total.kwh)[:1] if is_compared else []
    lines = [sentence(total.kwh, total.gco2eq, {one.name: one.value for one in compared})]
    kwh, gco2eq = total.kwh - total.log_kwh, total.gco2eq - total.log_gco2eq
    error_gco2eq = gco2eq * total.error_kwh / kwh if kwh > 0 else math.nan
    electricity = quantity(1000 * kwh, "Wh", 1000 * total.error_kwh)
    counted = f"{electricity}, {rounded(gco2eq, 'g', error_gco2eq)} CO2eq"
    if total.modelled_joules > 0:
        share = percent(total.modelled_share, ".0f")
        counted += f"; {share} of the energy is modelled, not measured"
    lines.append(f"{_jobs_and_runs(total)}: {counted}.")
    each = [
        f"{quantity(total.work_joules[unit] / count, 'J')} per {unit[:-1]}"
        for unit, count in total.work.items()
        if count > 0 and unit in (TOKENS, SAMPLES)
    ]
    if each:
        lines.append(f"Of the runs that counted them: {', '.join(each)}, without PUE.")
    if total.jobs_with_part_of_node:
        low, high = (percent(one, ".0f") for one in total.shares_of_cpus)
        share = low if low == high else f"{low} to {high}"
        lines.append(
            f"{total.jobs_with_part_of_node} job(s) had {share} of the CPUs of their nodes: CPU "
            "and memory are those of the whole nodes."
        )
    if total.log_trainings:
        grams = quantity(total.log_gco2eq, "g")
        logged = f"{quantity(1000 * total.log_kwh, 'Wh')}, {grams} CO2eq, their error is not known"
        lines.append(f"{total.log_trainings} training(s) of log files without a record: {logged}.")
    return [*lines, *left_out]


def _jobs_and_runs(total: Total) -> str:
    if total.jobs == total.runs and not total.jobs_resumed:
        return f"{total.runs} run(s)"
    resumed = f", {total.jobs_resumed} of them in several attempts" if total.jobs_resumed else ""
    return f"{total.jobs} job(s) of {total.runs} run(s){resumed}"


def comparison(a: Side, b: Side, differences: Sequence[Difference]) -> str:
    """Return two sides as a table with the difference, its interval and a verdict."""
    head = ("", "A", "B", "B - A", "", "95 % interval", "")
    lines = [f"{name}: {_described(side)}" for name, side in (("A", a), ("B", b))]
    lines += ["", *aligned([head, *map(_difference_row, differences)], right=range(1, 6))]
    verdicts = [one for one in differences if one.significant is not None]
    bases = dict.fromkeys(one.basis for one in verdicts)
    lines += ["", "Intervals are of " + "; of ".join(bases) + "."] if bases else []
    return "\n".join(lines)


def _described(side: Side) -> str:
    run = side.runs[-1]
    whole = "" if all(one.complete for one in side.runs) else " (incomplete)"
    count = f"{len(side.runs)} runs, the last " if len(side.runs) > 1 else ""
    host = run.metadata.host.get("name") or "?"
    line = f"{side.label}: {count}{run.id} of {run.started:%Y-%m-%d %H:%M} on {host}{whole}"
    return clean(line, MAX_LINE)


_UNITS = {
    "s": (1.0, "s"),
    "J": (1.0, "J"),
    "kWh": (1e3, "Wh"),
    "gCO2eq": (1.0, "g"),
    "W": (1.0, "W"),
}
"""Factor and unit in which a difference is shown."""


def _difference_row(one: Difference) -> tuple[str, ...]:
    factor, unit = _UNITS[one.unit]
    size, name = unit_of(max(abs(one.a), abs(one.b)) * factor, unit)

    def shown(value: float, sign: str = "") -> str:
        if not is_known(value):
            return DASH
        scaled, error = value * factor / size, one.half_width * factor / size
        text = with_error(scaled, error).partition(f" {PLUS_MINUS}")[0]
        return f"+{text}" if sign and scaled > 0 else text

    interval = verdict = ""
    if one.significant is not None:
        low, high = one.change - one.half_width, one.change + one.half_width
        interval = f"{shown(low, '+')} to {shown(high, '+')} {name}"
        verdict = "differs" if one.significant else "no difference shown"
    relative = percent(one.percent / 100, "+.1f")
    return (
        one.name,
        *(f"{shown(value)} {name}" if is_known(value) else DASH for value in (one.a, one.b)),
        f"{shown(one.change, '+')} {name}" if is_known(one.change) else DASH,
        relative,
        interval,
        verdict,
    )
