"""Joules by operator or annotation, as a table and as JSON."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from carbontracker.report.formatting import clean

if TYPE_CHECKING:
    from carbontracker.traces.profile import Attributed, Row

_WIDEST_NAME = 48


def as_dict(found: Attributed) -> dict[str, Any]:
    """Return everything as JSON-ready values; NaN is for ``jsonable`` to replace."""
    return {
        "joules": found.joules,
        "window_seconds": found.window_seconds,
        "rows": [_row(row, found.joules) for row in (*found.rows, found.idle, *found.outside)],
        "unknown_seconds": found.unknown_seconds,
        "resolution_seconds": found.resolution_seconds,
    }


def _row(row: Row, total: float) -> dict[str, Any]:
    return {
        "name": row.name,
        "joules": row.joules,
        "share": row.joules / total if total else None,
        "by_device": row.by_device,
        "cpu_seconds": row.cpu_seconds,
        "gpu_seconds": row.gpu_seconds,
        "calls": row.calls,
    }


def table(found: Attributed, by: str, top: int) -> str:
    """Return the rows with most joules, the rest as one, what belongs to none, and the sum."""
    with_gpu = any(row.gpu_seconds for row in (*found.rows, *found.outside))
    devices = list(found.idle.by_device)
    heads = [by, "J", "%", "calls", "CPU s"] + ["GPU s"] * with_gpu
    heads += [f"{device} J" for device in devices] if len(devices) > 1 else []
    shown = list(found.rows[:top])
    rest = found.rows[top:]
    lines = [(row.name, row) for row in shown]
    if rest:
        lines.append((f"({len(rest)} more)", _together(rest)))
    lines.append((found.idle.name, found.idle))
    lines += [(row.name, row) for row in found.outside]
    lines.append(("all of the window", _together([*found.rows, found.idle, *found.outside])))
    cells = [heads]
    for name, row in lines:
        known = not math.isnan(row.joules)
        share = f"{100 * row.joules / found.joules:.1f}" if found.joules and known else "-"
        joules = f"{row.joules:.3f}" if known else "unknown"
        line = [_short(name), joules, share, str(row.calls or "")]
        line += [f"{row.cpu_seconds:.3f}"] + [f"{row.gpu_seconds:.3f}"] * with_gpu
        if len(devices) > 1:
            line += [f"{row.by_device[device]:.3f}" for device in devices]
        cells.append(line)
    return "\n".join([*_aligned(cells), "", *_notes(found)])


def _together(rows: list[Row] | tuple[Row, ...]) -> Row:
    from carbontracker.traces.profile import Row

    return Row(
        "",
        sum(row.joules for row in rows if not math.isnan(row.joules)),
        {device: sum(row.by_device[device] for row in rows) for device in rows[0].by_device},
        sum(row.cpu_seconds for row in rows),
        sum(row.gpu_seconds for row in rows),
        sum(row.calls for row in rows),
    )


def _notes(found: Attributed) -> list[str]:
    finest = ", ".join(
        f"{device} {seconds * 1e3:.3g} ms" for device, seconds in found.resolution_seconds.items()
    )
    first = (
        f"{found.joules:.3f} J in {found.window_seconds:.3f} s; power is known every: {finest}. "
        "Work that is shorter has the mean power of its surroundings."
    )
    notes = [first]
    for device, seconds in found.unknown_seconds.items():
        if seconds > 1e-6:
            notes.append(f"The power of {device} is not known for {seconds:.3f} s of it.")
    return notes


def _short(name: str) -> str:
    shown = clean(name[: _WIDEST_NAME + 1])
    return shown if len(shown) <= _WIDEST_NAME else f"{shown[: _WIDEST_NAME - 1]}…"


def _aligned(cells: list[list[str]]) -> list[str]:
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
