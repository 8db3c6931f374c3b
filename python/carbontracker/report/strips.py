"""Power over time as a strip for each device, with epochs behind and windows below."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from carbontracker.report import derived
from carbontracker.report.colours import of_kind
from carbontracker.report.drawing import (
    CHARACTER,
    NARROW,
    Box,
    Chart,
    Frame,
    Label,
    Path,
    down_to,
    fitting,
    staircase,
    time_axis,
    top_of,
)
from carbontracker.report.formatting import clean, duration, is_known, quantity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from carbontracker.records.recorded import RunRecord
    from carbontracker.report.derived import Device, Interval, Windows

    Power = Mapping[str, tuple[list[float], list[float]]]

MOST_STRIPS = 12
"""In one picture, so that each fits a printed page."""
_STRIP = 32.0
_NAME = 18.0
_LANE = 12.0
_MOST_WINDOWS = 6


def power_charts(run: RunRecord, width: float) -> Iterator[Chart]:
    """Yield power over time, so many devices a picture; the last one has the windows as well."""
    seconds, devices = derived.length_of(run), derived.devices_of(run)
    if not (is_known(seconds) and devices):
        return
    windows = [one for one in derived.windows_of(run) if one.spans][:_MOST_WINDOWS]
    power = {one.id: derived.power_of(run, one.id, int(width)) for one in devices}
    for first in range(0, len(devices), MOST_STRIPS):
        shown = devices[first : first + MOST_STRIPS]
        is_last = first + MOST_STRIPS >= len(devices)
        chart = _chart(shown, windows if is_last else [], width)
        chart.name = f"power-{first // MOST_STRIPS + 1}" if first else "power"
        axis = Frame(0, 0, width - 1, chart.height - 22, (0, seconds), (0, 1))
        chart.add(*_epoch_bands(run, axis))
        _fill(chart, axis, shown, power)
        _lanes(chart, axis, windows if is_last else [])
        time_axis(chart, axis)
        spoken = "; ".join(f"{clean(one.id)}: {_mean(one)}" for one in shown)
        chart.description = f"Over {duration(seconds)}. {spoken}."
        chart.caption = " ".join(_caption(run, seconds, int(width)))
        yield chart


def _chart(devices: Sequence[Device], windows: Sequence[Windows], width: float) -> Chart:
    height = len(devices) * (_STRIP + _NAME + 6) + len(windows) * (_NAME + _LANE) + 26
    return Chart("power", "Power over time by device", "", "", width, height)


def _caption(run: RunRecord, seconds: float, pieces: int) -> Iterator[str]:
    yield "Devices of a kind have one scale, from 0 W."
    if len(run.series) > pieces + 1:
        yield f"Each point is the mean of {duration(seconds / pieces)}."
    if run.epochs:
        yield "Every other epoch is shaded."


def _fill(chart: Chart, axis: Frame, devices: Sequence[Device], power: Power) -> None:
    """Draw the strips; devices of a kind can be compared, in this picture and the next."""
    for i, device in enumerate(devices):
        scale = (0, _top(power, device))
        top = i * (_STRIP + _NAME + 6) + _NAME
        frame = Frame(0, top, axis.width, _STRIP, axis.x_range, scale)
        _strip(chart, frame, device, power[device.id])


def _top(power: Power, device: Device) -> float:
    """Return the upper end of the scale of a device's kind, W."""
    kind = device.id.partition(":")[0]
    alike = (watts for name, (_, watts) in power.items() if name.partition(":")[0] == kind)
    return top_of(value for watts in alike for value in watts)


def _lanes(chart: Chart, axis: Frame, windows: Sequence[Windows]) -> None:
    top = axis.height - 4 - len(windows) * (_NAME + _LANE)
    for window in windows:
        name = fitting(f"window {clean(window.name)}", axis.width)
        chart.add(Label(0, top + 12, name, "name"))
        chart.add(*_lane(axis, window.spans, top + _NAME - 1))
        top += _NAME + _LANE


def _strip(
    chart: Chart, frame: Frame, device: Device, power: tuple[list[float], list[float]]
) -> None:
    colour = of_kind(device.kind)
    edges, watts = power
    scale = _mean(device)
    if watts and frame.width > NARROW:
        scale += f", scale to {quantity(frame.y_range[1], 'W')}"
    room = frame.width - len(scale) * CHARACTER - 8
    name = f"{clean(device.id)} {clean(device.name)}".strip()
    chart.add(Label(0, frame.top - 5, fitting(name, room), "name"))
    chart.add(Label(frame.width, frame.top - 5, scale, anchor="end"))
    lines = staircase(frame, edges, watts)
    chart.add(Path([[(frame.left, frame.bottom), (frame.right, frame.bottom)]], "grid"))
    if lines:
        chart.add(Path(down_to(frame, lines), f"{colour}-area"), Path(lines, f"{colour}-line"))
    else:
        chart.add(Label(frame.left, frame.bottom - 6, "no power over time"))


def _mean(device: Device) -> str:
    return f"mean {quantity(device.watts, 'W')}" if is_known(device.watts) else "not measured"


def _epoch_bands(run: RunRecord, frame: Frame) -> Iterator[Box]:
    """Yield a band behind every other epoch, as long as they are not too narrow to tell apart."""
    epochs = [one for one in run.epochs if is_known(one.start_s) and is_known(one.seconds)]
    if len(epochs) * 3 > frame.width:
        return
    for epoch in epochs[::2]:
        x = frame.x(epoch.start_s)
        width = frame.x(epoch.end_s) - x
        yield Box(x, frame.top, width, frame.height, "band", f"epoch {epoch.index}")


def _lane(frame: Frame, spans: Sequence[Interval], top: float) -> Iterator[Box]:
    """Yield where windows were, to the pixel: those that touch are drawn as one."""
    reached = -2.0
    begun = -2.0
    for start, end in sorted(spans):
        x0 = math.floor(frame.x(start))
        x1 = max(x0 + 1.0, math.ceil(frame.x(end)))
        if x0 > reached:
            if reached > begun:
                yield Box(begun, top, reached - begun, _LANE - 4, "window")
            begun = x0
        reached = max(reached, x1)
    if reached > begun:
        yield Box(begun, top, reached - begun, _LANE - 4, "window")
