"""The ledger of projects as text, as a page, and as rows."""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING, Any

from carbontracker.model.work import SAMPLES, TOKENS, UNITS
from carbontracker.records.ledger import ATTEMPT, LEDGER, LEVELS, RUN
from carbontracker.report.document import ERRORS, Card, Column, Section, Table
from carbontracker.report.formatting import (
    aligned,
    csv_text,
    cut,
    is_known,
    percent,
    plain,
    quantity,
)
from carbontracker.report.html import page
from carbontracker.report.work import SHOWN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carbontracker.records.ledger import Cost, Ledger, Node

MAX_RUNS = 20
"""Runs of a stage that the text shows; files have all."""
MAX_ROWS = 5000
"""Runs and attempts that the page shows; CSV and JSON have all."""
_COLUMNS = (
    Column("What"),
    Column("Outcome"),
    Column("Attempts", "n"),
    Column("Electricity", "n"),
    Column("CO2eq", "n"),
    Column("GPU-h", "n"),
    Column("Failed", "n"),
    Column("Repeated", "n"),
    Column("Each", "n"),
)
_MAX_PROGRAM = 40
"""Characters of a program's name that are shown."""
_INDENT, _INDENT_HTML = "  ", "\u2003"
"""A page shows several spaces as one, but not these."""
_ABOUT = (
    "Failed: runs that failed, were killed or superseded, and from which no other run goes on. "
    "Repeated: after the last checkpoint of attempts that another one continues. Electricity is "
    "with PUE; the energy of a token or sample is that of the machines. No joule counts twice."
)


def ledger_lines(ledger: Ledger, level: str = RUN) -> Iterator[str]:
    """Yield the tree as lines of text.

    Args:
        ledger: of all projects, or of one.
        level: the smallest parts that are shown, one of ``LEVELS``.
    """
    head = [column.name for column in _COLUMNS]
    rows = [head, *_text_rows(ledger.whole, 0, LEVELS.index(level))]
    yield from aligned(rows, range(2, len(_COLUMNS)))
    yield from _shares(ledger.whole.cost)
    yield from _notes(ledger)


def _text_rows(node: Node, depth: int, deepest: int) -> Iterator[list[str]]:
    yield _row(node, depth)
    shown = [part for part in node.parts if LEVELS.index(part.level) <= deepest]
    if node.level == RUN and len(shown) == 1:
        return  # the attempt says no more than its run
    most = MAX_RUNS if shown and shown[0].level == RUN else len(shown)
    for part in shown[:most]:
        yield from _text_rows(part, depth + 1, deepest)
    if len(shown) > most:
        more = f"{'  ' * (depth + 1)}{len(shown) - most} more runs"
        yield [more, *[""] * (len(_COLUMNS) - 1)]


def _row(node: Node, depth: int, indent: str = _INDENT) -> list[str]:
    cost = node.cost
    name = node.name
    if node.level == RUN:
        name = f"{node.name[:8]} {cut(node.what, _MAX_PROGRAM)}"
    elif node.level == ATTEMPT:
        name = f"attempt {node.name[:8]}"
    return [
        indent * depth + name,
        node.outcome,
        str(cost.attempts),
        quantity(1000 * cost.kwh, "Wh", 1000 * cost.error_kwh) if node.counted else "not counted",
        quantity(cost.gco2eq, "g") if node.counted else "",
        plain(cost.gpu_hours, 3),
        _part(cost, cost.failed_kwh),
        "not known" if _unknown_repeats(cost) else _part(cost, cost.repeated_kwh),
        _each(cost),
    ]


def _unknown_repeats(cost: Cost) -> bool:
    return bool(cost.repeats_unknown) and not cost.repeated_kwh


def _part(cost: Cost, kwh: float) -> str:
    return percent(cost.share(kwh), ".3g") if kwh > 0 else ""


def _each(cost: Cost) -> str:
    for unit in (TOKENS, SAMPLES):
        value, error = cost.joules_per(unit)
        if is_known(value):
            return f"{quantity(value, 'J', error)}/{SHOWN[unit][0]}"
    return ""


def _shares(cost: Cost) -> Iterator[str]:
    words = [
        f"{percent(cost.share(kwh))} {what}"
        for kwh, what in (
            (cost.development_kwh, "development"),
            (cost.failed_kwh, "failed"),
            (cost.repeated_kwh, "repeated"),
        )
        if kwh > 0
    ]
    if words:
        yield f"Of the electricity: {', '.join(words)}."


def _notes(ledger: Ledger) -> Iterator[str]:
    unknown = ledger.whole.cost.repeats_unknown
    if unknown:
        yield (
            f"{unknown} attempt(s) marked no checkpoint: what was repeated of them is not known."
        )
    for reason, count in ledger.total.left_out.items():
        yield f"{count} run(s) {reason}."


# ---- the page ------------------------------------------------------------------------------


def ledger_html(ledger: Ledger) -> bytes:
    """Return the ledger as one page."""
    whole = ledger.whole
    title = "The ledger of all projects" if whole.level == LEDGER else f"The ledger of {whole.name}"
    runs = sum(node.level == RUN for _, node in whole.walk())
    return page(
        title,
        f"{runs} runs, {whole.cost.attempts} attempts",
        tuple(_notes(ledger)),
        tuple(_cards(whole.cost)),
        tuple(_sections(whole)),
    )


def _cards(cost: Cost) -> Iterator[Card]:
    yield Card(
        "Electricity",
        quantity(1000 * cost.kwh, "Wh", 1000 * cost.error_kwh),
        f"machines: {quantity(cost.joules, 'J')}",
    )
    yield Card("Emissions, CO2eq", quantity(cost.gco2eq, "g"), "")
    yield Card("GPU-hours", plain(cost.gpu_hours, 3), "")
    below = f"development {percent(cost.share(cost.development_kwh)) or '0 %'}"
    lost = cost.share(cost.failed_kwh + cost.repeated_kwh)
    yield Card("Failed and repeated", percent(lost) or "0 %", below)


def _sections(whole: Node) -> Iterator[Section]:
    upper = [
        _row(node, len(above), _INDENT_HTML)
        for above, node in whole.walk()
        if node.level not in (RUN, ATTEMPT)
    ]
    lines = (*_shares(whole.cost), _ABOUT, ERRORS)
    yield Section("projects", "Projects and stages", lines, tables=(_table("All runs", upper),))
    shown = 0
    for above, node in whole.walk():
        runs = [part for part in node.parts if part.level == RUN]
        if not runs or shown >= MAX_ROWS:
            continue
        rows = [
            _row(one, len(path), _INDENT_HTML)
            for part in runs
            for path, one in part.walk()
            if one.level == RUN or len(path[-1].parts) > 1  # else it says no more than its run
        ]
        shown += len(rows)
        names = " / ".join(one.name for one in (*above, node) if one.level != LEDGER)
        caption = "Runs and their attempts"
        if len(rows) > MAX_ROWS:
            caption += f", the first {MAX_ROWS} rows; --csv has all"
        table = _table(caption, rows[:MAX_ROWS])
        yield Section(f"stage-{shown}", names, tables=(table,))


def _table(caption: str, rows: list[list[str]]) -> Table:
    """Return a table without the columns in which no row has anything."""
    used = [i for i in range(len(_COLUMNS)) if any(row[i] for row in rows)]
    return Table(caption, [_COLUMNS[i] for i in used], [[row[i] for i in used] for row in rows])


# ---- rows ----------------------------------------------------------------------------------


def ledger_rows(ledger: Ledger) -> Iterator[dict[str, Any]]:
    """Yield one flat row for each attempt: rows add up to the ledger."""
    for above, node in ledger.whole.walk():
        if node.level != ATTEMPT:
            continue
        run, cost = above[-1], node.cost
        names = {one.level: one.name for one in above}
        yield {
            "project": names.get("project", ledger.whole.name),
            "stage": names.get("stage", ""),
            "run": run.name,
            "attempt": node.name,
            "began": node.began.isoformat() if node.began else None,
            "program": run.what,
            "parent": run.parent or None,
            "run_outcome": run.outcome,
            "outcome": node.outcome,
            "counted": node.counted,
            **{
                name: getattr(cost, name) if node.counted else None
                for name in ("kwh", "error_kwh", "gco2eq", "joules", "gpu_hours")
            },
            "failed_kwh": cost.failed_kwh,
            "repeated_kwh": None if _unknown_repeats(cost) else cost.repeated_kwh,
            **{unit: cost.work.get(unit) for unit in UNITS},
            "joules_per_token": _or_none(cost.joules_per(TOKENS)[0]),
            "joules_per_sample": _or_none(cost.joules_per(SAMPLES)[0]),
        }


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def ledger_csv(ledger: Ledger) -> bytes:
    """Return one row for each attempt as CSV."""
    rows = list(ledger_rows(ledger))
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]) if rows else ["project"], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {name: csv_text(one) if isinstance(one, str) else one for name, one in row.items()}
        )
    return out.getvalue().encode()
