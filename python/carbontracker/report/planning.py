"""Views of planning in the terminal: an estimate, when to start, and where to run."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING

from carbontracker.report.brief import MIN_COMPARED_G, estimated
from carbontracker.report.formatting import aligned, is_known, percent, ranged

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from carbontracker.planning.estimate import Assumption, Estimate, Range
    from carbontracker.planning.regions import Option

_LABEL_WIDTH = 14
_TIMES = ((86_400.0, "days"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))
_CHART_ROWS = 8
_MAX_COLUMNS = 72
_EIGHTHS = " ▁▂▃▄▅▆▇█"


def estimate_text(found: Estimate) -> str:
    """Return an estimate as text."""
    heading, figures, notes = estimate_parts(found)
    lines = [
        f"Estimate before training: {heading}",
        *_siblings(found),
        *(f"  {label:<{_LABEL_WIDTH}}{text}" for label, text in figures),
        *(_equivalents(found) if found.footprint.gco2eq >= MIN_COMPARED_G else ()),
        "Assumed:",
        *(f"  {_assumption(each)}" for each in found.assumptions),
        *notes,
    ]
    return "\n".join(lines)


def _equivalents(found: Estimate) -> list[str]:
    return [
        "Equivalent to:",
        *(f"  {_number(one.value)} {one.name}" for one in found.footprint.equivalents),
        *(
            f"  {_number(each.value)} {each.unit}, {each.name}"
            for each in found.further_equivalents
        ),
    ]


def estimate_parts(found: Estimate) -> tuple[str, list[tuple[str, str]], list[str]]:
    """Return heading, figures by name, and notes of an estimate."""
    device = found.accelerator
    electricity, grams = estimated(found)
    work = [] if math.isnan(found.flops) else [("Work", f"{found.flops:.4g} operations")]
    figures = [
        *work,
        ("GPU-hours", ranged(*found.gpu_hours, "")),
        ("Time", _time(found.seconds)),
        ("Energy", f"{electricity}, PUE {found.footprint.pue:g} included"),
        ("CO2eq", f"{grams}, {_price(found)}"),
    ]
    notes = [
        "Brackets: every assumption at its own end.",
        f"Board power and peak: {device.source}; {device.evidence}.",
    ]
    return f"{found.count} x {device.model}, {device.tdp_watts:g} W each", figures, notes


def _siblings(found: Estimate) -> list[str]:
    others = found.accelerator.siblings
    return [f"  (the name also fits {', '.join(others)})"] if others else []


def _time(seconds: Range) -> str:
    """Return a time in the unit that fits it."""
    fitting = (one for one in _TIMES if seconds.value >= one[0])
    size, unit = next(fitting, _TIMES[-1])
    return f"{ranged(*seconds.times(1 / size), '')} {unit}"


def _price(found: Estimate) -> str:
    intensity = found.footprint.intensity
    year = f" {intensity.year}" if intensity.year else ""
    where = f" ({intensity.name}{year})" if intensity.name else ""
    return f"{intensity.gco2eq_per_kwh:.2f} gCO2eq/kWh{where}"


def _number(value: float) -> str:
    """Return three significant digits, or whole numbers with separators; ``?`` if unknown."""
    if not is_known(value):
        return "?"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _assumption(each: Assumption) -> str:
    figure = f"{each.range.value:g}"
    if each.range.low != each.range.high:
        figure += f" [{each.range.low:g} to {each.range.high:g}]"
    return f"{each.name} {figure}: {each.meaning}; {each.source}"


def chart(hours: Sequence[float], best: tuple[float, float], now: datetime, *, plain: bool) -> str:
    """Return a column chart of intensity against the hours ahead, with the best window marked.

    Args:
        hours: gCO2eq/kWh of each hour from ``now`` on; NaN where there is no figure.
        best: begin and end of the best window, in hours from ``now``.
        now: the beginning, in the time zone to show.
        plain: draw with ASCII characters only.
    """
    shown = list(hours[:_MAX_COLUMNS])
    known = [figure for figure in shown if not math.isnan(figure)]
    top = max(known, default=1.0) or 1.0
    lines = []
    for row in range(_CHART_ROWS, 0, -1):
        cells = "".join(_cell(figure / top * _CHART_ROWS - row + 1, plain) for figure in shown)
        label = f"{top * row / _CHART_ROWS:5.0f}" if row % 2 == 0 else " " * 5
        lines.append(f"{label} {'|' if plain else '┤'}{cells}".rstrip())
    lines.append(f"    0 {'+' if plain else '└'}" + ("-" if plain else "─") * len(shown))
    first, last = math.floor(best[0]), min(math.ceil(best[1]), len(shown))
    lines.append((" " * (7 + first) + ("^" if plain else "▲") * (last - first)).rstrip())
    lines.append(" " * 7 + _hour_labels(now, len(shown)))
    return "\n".join(lines)


def where_table(
    options: Sequence[Option], here: Option | None, *, kwh: float | None, year_now: int
) -> str:
    """Return regions as a table: intensity, its age, PUE, and the saving against ``here``."""
    head = ["", "region", "place", "g/kWh", "of", "PUE", "g/kWh x PUE"]
    if kwh is not None:
        head.append("kg CO2eq")
    head.append("saves")
    numbered = [(str(rank), option) for rank, option in enumerate(options, 1)]
    if here is not None:
        numbered.append(("here", here))
    body = [_region_row(label, option, here, kwh, year_now) for label, option in numbered]
    return "\n".join(aligned([head, *body], right=set(range(len(head))) - {1, 2}))


def _region_row(
    label: str, option: Option, here: Option | None, kwh: float | None, year_now: int
) -> list[str]:
    wider = "*" if option.wider else ""
    average = "" if option.pue_how.partition(",")[0] == option.key else "~"
    cells = [
        label,
        option.key,
        option.name,
        f"{option.gco2eq_per_kwh:.0f}{wider or ' '}",
        _age(option.year, year_now),
        f"{average}{option.pue:.2f}",
        f"{option.gco2eq_per_machine_kwh:.0f}",
    ]
    if kwh is not None:
        grams = option.grams(kwh, here) if here is not None else math.nan
        cells.append(_number(grams / 1000))
    share = option.saves(here) if here is not None else math.nan
    cells.append("" if label == "here" else percent(share, ".0f", "?"))
    return cells


def _age(year: int | None, year_now: int) -> str:
    if year is None:
        return "?"
    years = year_now - year
    return f"{year} ({years} y)" if years > 0 else str(year)


def _cell(height: float, plain: bool) -> str:
    """Return the character of a column that is ``height`` rows high above this row's bottom."""
    if math.isnan(height):
        return " "
    if plain:
        return "#" if height >= 0.5 else " "
    return _EIGHTHS[round(8 * min(max(height, 0.0), 1.0))]


def _hour_labels(now: datetime, columns: int) -> str:
    """Return the hour of day under every sixth column."""
    return "".join(
        f"{now + timedelta(hours=column):%H}".ljust(6) for column in range(0, columns, 6)
    ).rstrip()
