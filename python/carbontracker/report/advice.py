"""When and where to run, for the terminal: a line, a chart, a table."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING

from carbontracker.report.columns import aligned

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from carbontracker.carbon.background import Advice
    from carbontracker.carbon.footprint import Footprint
    from carbontracker.location.location import Location
    from carbontracker.planning.regions import Option

WORTH_SAYING = 0.01
"""Shares below this are no advice."""

_CHART_ROWS = 8
_MOST_COLUMNS = 72
_EIGHTHS = " ▁▂▃▄▅▆▇█"


def advice_line(advice: Advice, footprint: Footprint, location: Location) -> str:
    """Return what the greenest hour or region would have saved of ``footprint``."""
    parts = []
    if advice.start is not None and advice.start_saves >= WORTH_SAYING:
        ahead = (advice.start - advice.now).total_seconds() / 3600
        when = f"a start at {_clock(advice.start)} (in {ahead:.1f} h)"
        parts.append(f"{when} would save {_saving(advice.start_saves, footprint.gco2eq)}")
    region = advice.region
    if region is not None and advice.region_saves >= WORTH_SAYING:
        against = (
            " against the world average, as the location is unknown," if not location.known else ""
        )
        year = "" if region.year is None else f", by {region.year} figures"
        parts.append(
            f"{region.name} ({region.key}) would save{against} "
            f"{_saving(advice.region_saves, footprint.gco2eq)}{year}"
        )
    if not parts:
        return "Advice: no greener hour or region is known."
    return f"Advice: {'; '.join(parts)}."


def chart(hours: Sequence[float], best: tuple[float, float], now: datetime, *, plain: bool) -> str:
    """Return a column chart of intensity against the hours ahead, with the best window marked.

    Args:
        hours: gCO2eq/kWh of each hour from ``now`` on; NaN where there is no figure.
        best: begin and end of the best window, in hours from ``now``.
        now: the beginning, in the time zone to show.
        plain: draw with ASCII characters only.
    """
    shown = list(hours[:_MOST_COLUMNS])
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
    """Return regions as a table: figure, its age, PUE, and what they save against ``here``."""
    head = ["", "region", "place", "g/kWh", "of", "PUE", "g/kWh x PUE"]
    if kwh is not None:
        head.append("kg CO2eq")
    head.append("saves")
    numbered = [(str(rank), option) for rank, option in enumerate(options, 1)]
    if here is not None:
        numbered.append(("here", here))
    body = [_row(label, option, here, kwh, year_now) for label, option in numbered]
    return "\n".join(aligned([head, *body], right=set(range(len(head))) - {1, 2}))


def _row(
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
    cells.append("" if label == "here" else _percent(share))
    return cells


def _age(year: int | None, year_now: int) -> str:
    if year is None:
        return "?"
    years = year_now - year
    return f"{year} ({years} y)" if years > 0 else str(year)


def _number(value: float) -> str:
    return "?" if math.isnan(value) else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _percent(share: float) -> str:
    return "?" if math.isnan(share) else f"{100 * share:.0f} %"


def _saving(share: float, grams: float) -> str:
    amount = "" if math.isnan(grams) else f" ({share * grams:.3g} g)"
    return f"{100 * share:.0f} %{amount}"


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone():%a %H:%M}"


def _cell(height: float, plain: bool) -> str:
    """Return what a column of ``height`` rows, counted from this row's foot, shows in this row."""
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
