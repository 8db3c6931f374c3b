"""The full screen of ``carbontracker top``: a graph, and a table with one unit for each column."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from carbontracker.report.console_text import timestring
from carbontracker.report.formatting import (
    clean,
    columns_of,
    compact,
    cut,
    encodable,
    is_known,
    padded,
    quantity,
)
from carbontracker.report.live import device_columns, forecast_lines, total_of, work_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from carbontracker.model.device import Device
    from carbontracker.report.live import View

    Line = list[tuple[str, str]]
    """Pieces of text, each with the name of its style."""

_STYLES = {
    "title": "1",
    "head": "2",
    "total": "1",
    "key": "7",
    "gpu": "32",
    "cpu": "36",
    "dram": "33",
    "other": "35",
    "weak": "33",
    "bad": "31",
}
"""Parameters of SGR by style (ECMA-48): the 16 colours follow the theme of the terminal."""
_BAR = " ▏▎▍▌▋▊▉█"
_GRAPH = " ▁▂▃▄▅▆▇█"
_MIN_BAR = 8
_MIN_NAME = 12
_MAX_GRAPH = 6
_GAP = "  "
_SORTS: dict[str, Callable[[Device], float]] = {
    "device": lambda _: 0.0,
    "power": lambda device: -device.watts if is_known(device.watts) else math.inf,
    "energy": lambda device: -device.energy.joules if is_known(device.energy.joules) else math.inf,
}
_HELP = (
    ("q, Ctrl-C", "quit; the last figures stay in the terminal"),
    ("s", "sort by device, power or energy"),
    ("u", "show energy in joules or watt-hours"),
    ("up, down", "scroll the devices"),
    ("? or h", "this help"),
    ("", ""),
    ("power", "mean of the last second; bars go to the highest power of a device so far"),
    ("energy", "of the machine, without PUE; its error is the 95 % half-width"),
    ("CO2eq", "with PUE"),
    ("quality", "measured, integrated (from power), modelled, or missing"),
)


@dataclass
class TopScreen:
    """What ``top`` has seen, and what the user has chosen to see."""

    colour: bool = True
    ascii_only: bool = False
    sort: str = "device"
    energy_unit: str = "J"
    first: int = 0
    """Index of the first device that is shown."""
    helping: bool = False
    _watts: deque[float] = field(default_factory=lambda: deque(maxlen=500))
    _highest_watts: float = 0.0

    def add(self, view: View) -> None:
        """Keep the power of a new view for the graph and the scale of the bars."""
        self._watts.append(view.status.watts)
        known = [one.watts for one in view.status.devices if is_known(one.watts)]
        self._highest_watts = max([self._highest_watts, *known])

    def press(self, key: str) -> bool:
        """Apply a key; return False if it ends the program."""
        if key == "s":
            names = list(_SORTS)
            self.sort = names[(names.index(self.sort) + 1) % len(names)]
        elif key == "u":
            self.energy_unit = "Wh" if self.energy_unit == "J" else "J"
        elif key in {"?", "h"}:
            self.helping = not self.helping
        elif key == "up":
            self.first -= 1
        elif key == "down":
            self.first += 1
        return key not in {"q", "Q"}

    def lines(self, view: View | None, columns: int, rows: int) -> list[str]:
        """Return at most ``rows`` lines that fit into ``columns``, with colours if wanted.

        Args:
            view: None before the first figures are known.
            columns: width of the terminal, characters.
            rows: its height.
        """
        if view is None:
            body: list[Line] = [[("measuring ...", "")]]
        elif self.helping:
            width = max(len(name) for name, _ in _HELP)
            body = [[(f"{name:<{width}}", "total"), (_GAP + what, "")] for name, what in _HELP]
        else:
            body = self._body(view, columns, rows - 2)
        title = "carbontracker top" if view is None else f"carbontracker  {view.heading}"
        clock = "" if view is None else timestring(view.status.seconds)
        room = max(0, columns - len(clock) - 1)
        head: Line = [(f"{padded(_cut(title, room), room)} {clock}", "title")]
        lines = [head, *body[: max(0, rows - 2)]]
        lines += [[] for _ in range(rows - 1 - len(lines))]
        lines = [*lines[: rows - 1], self._keys(columns)]
        return [self._painted(line, columns) for line in lines[-rows:]]

    def _keys(self, columns: int) -> Line:
        line: Line = []
        used = 0
        for key, what in (
            ("q", "quit"),
            ("s", f"sort: {self.sort}"),
            ("u", f"unit: {self.energy_unit}"),
            ("?", "help"),
        ):
            used += len(key) + len(what) + 5
            if used <= columns:
                line += [(f" {key} ", "key"), (f" {what} ", "")]
        return line

    def _body(self, view: View, columns: int, rows: int) -> list[Line]:
        devices = sorted(view.status.devices, key=_SORTS[self.sort])
        footprint = view.status.footprint
        per_kwh = compact(footprint.intensity.gco2eq_per_kwh)
        below = [
            f"{per_kwh} gCO2eq/kWh, PUE {compact(footprint.pue)} in CO2eq",
            *forecast_lines(view.forecast),
            *work_lines(view),
            *view.notes,
        ]
        notes: list[Line] = [[(note, "")] for note in below]
        # Besides devices there are a heading and the total. The graph gives way, then the notes.
        room = rows - 2
        shown = max(1, min(len(devices), room - 1))
        notes = notes[: max(0, room - shown - 1)]
        graph = self._graph(columns, min(_MAX_GRAPH, room - shown - len(notes) - 3))
        visible = shown if shown == len(devices) else max(1, shown - 1)
        self.first = max(0, min(self.first, len(devices) - visible))
        head, *body, total = self._table(view, devices, columns)
        part = body[self.first : self.first + visible]
        more: list[Line] = []
        if visible < len(devices):
            of_all = f"{self.first + 1} to {self.first + visible} of {len(devices)} devices"
            more = [[(f"{of_all}: up, down", "head")]]
        blank: list[Line] = [[]] if graph else []
        return [*graph, *blank, head, *part, *more, total, *blank, *notes]

    def _graph(self, columns: int, rows: int) -> list[Line]:
        """Return the total power so far as columns, the newest on the right."""
        if rows < 2:
            return []
        known = [watts for watts in self._watts if is_known(watts)]
        top = max(known, default=0.0) or 1.0
        labels = [quantity(top, "W"), "0 W"]
        width = max(map(len, labels))
        cells = max(1, columns - width - 1)
        newest = list(self._watts)[-cells:]
        lines: list[Line] = []
        for row in range(rows, 0, -1):
            text = "".join(self._cell(watts / top * rows - row + 1) for watts in newest)
            label = labels[0] if row == rows else labels[1] if row == 1 else ""
            lines.append([(f"{text:>{cells}}", "gpu"), (f" {label:>{width}}", "head")])
        return lines

    def _cell(self, height: float) -> str:
        """Return the character of a column that is ``height`` rows high above this row's bottom."""
        if not is_known(height):
            return " "
        if self.ascii_only:
            return "#" if height >= 0.5 else " "
        return _GRAPH[round(8 * min(max(height, 0.0), 1.0))]

    def _bar(self, watts: float, cells: int) -> str:
        """Return a bar for a power; its full length is the highest power of a device so far."""
        if not is_known(watts) or self._highest_watts <= 0:
            return " " * cells
        eighths = round(8 * cells * min(1.0, max(0.0, watts / self._highest_watts)))
        if self.ascii_only:
            return ("#" * round(eighths / 8)).ljust(cells)
        return ("█" * (eighths // 8) + _BAR[eighths % 8].strip()).ljust(cells)

    def _table(self, view: View, devices: Sequence[Device], columns: int) -> list[Line]:
        """Return the heading, one line per device, and the total; columns that fit."""
        every = [*devices, total_of(view.status)]
        cells_of = device_columns(every, self.energy_unit)
        ids, quality, names = (_padded(cells_of[name]) for name in ("device", "quality", "name"))
        power, energy, errors = (cells_of[name] for name in ("power", "energy", "error"))
        grams, rates = cells_of["CO2eq"], cells_of["readings/s"]
        left = columns - columns_of(_joined([ids, power, energy])[0])
        bar = left >= _MIN_BAR + len(_GAP)
        left -= (_MIN_BAR + len(_GAP)) if bar else 0
        parts = [ids, power, energy]
        longest = columns_of(names[0])
        for part in (grams, names, quality, errors, rates):
            width = columns_of(part[0]) + len(_GAP)
            if part is names and longest and left < width and left >= _MIN_NAME + len(_GAP):
                width = left
                names = [padded(_cut(name, width - len(_GAP)), width - len(_GAP)) for name in names]
                parts.append(names)
                left = 0
            elif width <= left:
                parts.append(part)
                left -= width
        order = [one for one in (energy, errors, grams, rates, quality, names) if one in parts]
        cells = min(30, _MIN_BAR + left) if bar else 0
        lines: list[Line] = []
        for i in range(len(every) + 1):
            device = every[i - 1] if i else None
            last = i == len(every)
            style = "head" if not i else "total" if last else ""
            line: Line = [(ids[i] + _GAP + power[i], style)]
            if bar:
                drawn = self._bar(device.watts, cells) if device and not last else " " * cells
                line += [(_GAP, ""), (drawn, _kind_of(device))]
            for part in order:
                mark = _quality_style(device) if part is quality and device else ""
                line.append((_GAP + part[i], mark or style))
            lines.append(line)
        return lines

    def _painted(self, line: Line, columns: int) -> str:
        """Return a line cut to the width, with colours; names cannot control the terminal."""
        result = []
        left = columns
        for piece, style in line:
            shown = clean(piece)
            if self.ascii_only:
                shown = encodable(shown, "ascii")
            shown = cut(shown, left)
            left -= columns_of(shown)
            code = _STYLES.get(style) if self.colour else None
            result.append(f"\x1b[{code}m{shown}\x1b[0m" if code and shown else shown)
        return "".join(result)


def _kind_of(device: Device | None) -> str:
    kind = device.kind if device else ""
    return kind if kind in _STYLES else "other"


def _quality_style(device: Device) -> str:
    return {"modelled": "weak", "missing": "bad", "incomplete": "weak"}.get(device.quality, "")


def _cut(text: str, width: int) -> str:
    shown = clean(text)
    return shown if columns_of(shown) <= width else f"{cut(shown, width - 1)}…"


def _padded(cells: Sequence[str]) -> list[str]:
    """Return a column of text, all of one width."""
    shown = [clean(cell) for cell in cells]
    width = max(map(columns_of, shown))
    return [padded(cell, width) for cell in shown]


def _joined(parts: Sequence[Sequence[str]]) -> list[str]:
    return [_GAP.join(row) for row in zip(*parts, strict=True)]
