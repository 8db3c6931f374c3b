"""Many runs in the terminal: a table, a total, two sides beside one another."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from carbontracker.carbon.equivalents import equivalents
from carbontracker.legacy.console_text import timestring
from carbontracker.report.columns import aligned
from carbontracker.report.formatting import MAX_LINE, clean
from carbontracker.report.sentence import sentence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carbontracker.records.aggregate import Total
    from carbontracker.records.compare import Difference, Side
    from carbontracker.records.recorded import RunRecord

COLUMNS = ("id", "started", "host", "what", "epochs", "time", "kwh", "gco2eq", "quality", "state")


def row_of(run: RunRecord) -> dict[str, Any]:
    """Return what the table and its filters know of a run; None for what is not known."""
    origin, outcome = run.origin, run.outcome
    return {
        "id": run.id,
        "started": run.started.isoformat(timespec="seconds"),
        "host": origin.host.get("name"),
        "what": " ".join(origin.command) or "training",
        "epochs": None if run.planned_epochs is None else _epochs_done(run),
        "planned_epochs": run.planned_epochs,
        "seconds": _known(outcome.seconds),
        "joules": _known(run.energy.joules),
        "error_joules": _known(run.energy.error_joules),
        "kwh": _known(run.footprint.kwh),
        "gco2eq": _known(run.footprint.gco2eq),
        "quality": run.energy.quality,
        "zone": run.footprint.intensity.get("zone"),
        "job": next((one["job_id"] for one in origin.job.values() if "job_id" in one), None),
        "parent": origin.parent_id,
        "version": origin.version,
        "state": run.state,
        "why": run.why_incomplete or None,
        "file": str(run.path),
    }


def _epochs_done(run: RunRecord) -> int:
    done = run.outcome.data.get("epochs")
    return done if isinstance(done, int) else sum(epoch.finished for epoch in run.epochs)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def runs_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as a table."""
    if not rows:
        return "no runs"
    cells = [list(COLUMNS), *([_cell(row, name) for name in COLUMNS] for row in rows)]
    right = {COLUMNS.index(name) for name in ("epochs", "time", "kwh", "gco2eq")}
    return "\n".join(aligned(cells, right))


def _cell(row: Mapping[str, Any], name: str) -> str:
    if name == "time":
        return "-" if row["seconds"] is None else timestring(row["seconds"])
    if name == "epochs" and row["planned_epochs"] is not None:
        done, planned = row["epochs"], row["planned_epochs"]
        return str(done) if done == math.ceil(planned) else f"{done}/{planned}"
    value = row[name]
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    if name == "started":
        return text[:19].replace("T", " ")
    return text if len(text) <= 32 else text[:31] + "…"


def total_lines(total: Total) -> list[str]:
    """Return the sentence for a paper on a total, and what has to be said of it."""
    left_out = [f"{count} run(s) {reason}." for reason, count in sorted(total.left_out.items())]
    if not total.runs:
        return ["No run with energy: there is nothing to add up.", *left_out]
    compared = equivalents(total.gco2eq, total.kwh)[:1]
    lines = [sentence(total.kwh, total.gco2eq, {one.name: one.value for one in compared})]
    error = f"+/- {total.error_kwh:.3g} kWh from measuring"
    if total.modelled_joules > 0:
        error += f"; {100 * total.modelled_share:.0f} % of the energy is modelled, not measured"
    return [*lines, f"{total.runs} run(s), {error}.", *left_out]


def comparison(a: Side, b: Side, differences: Sequence[Difference]) -> str:
    """Return two sides beside one another, with the difference, its interval and a verdict."""
    head = ("", "A", "B", "B - A", "", "95 % interval", "")
    lines = [f"{name}: {_described(side)}" for name, side in (("A", a), ("B", b))]
    lines += ["", *aligned([head, *map(_difference_row, differences)], right=range(1, 6))]
    verdicts = [one for one in differences if one.significant is not None]
    bases = dict.fromkeys(one.basis for one in verdicts)
    lines += ["", "Intervals are of " + "; of ".join(bases) + "."] if bases else []
    return "\n".join(lines)


def _described(side: Side) -> str:
    run = side.runs[-1]
    whole = "" if all(one.complete for one in side.runs) else " (not whole)"
    count = f"{len(side.runs)} runs, the last " if len(side.runs) > 1 else ""
    host = run.origin.host.get("name") or "?"
    line = f"{side.label}: {count}{run.id} of {run.started:%Y-%m-%d %H:%M} on {host}{whole}"
    return clean(line, MAX_LINE)


def _difference_row(one: Difference) -> tuple[str, ...]:
    interval = verdict = ""
    if one.significant is not None:
        low, high = one.change - one.half_width, one.change + one.half_width
        interval = f"{low:+.4g} to {high:+.4g}"
        verdict = "differs" if one.significant else "no difference shown"
    percent = "" if math.isnan(one.percent) else f"{one.percent:+.1f} %"
    name = f"{one.name}, {one.unit}"
    return (name, *(_figure(x) for x in (one.a, one.b, one.change)), percent, interval, verdict)


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.6g}"
