"""The charts of a report, the same for a page and a PDF."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from carbontracker.report import derived
from carbontracker.report.drawing import (
    CHARACTER,
    NARROW,
    Box,
    Chart,
    Frame,
    Label,
    LivePlot,
    Path,
    area_below,
    area_between,
    axis_top,
    colour_of,
    shortened,
    staircase,
    tick_label,
    time_axis,
    value_axis,
)
from carbontracker.report.formatting import clean, duration, is_known, quantity, unit_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from carbontracker.model.device import Device
    from carbontracker.model.epoch import Epoch
    from carbontracker.model.prediction import Forecast, Interval
    from carbontracker.model.window_totals import WindowTotals
    from carbontracker.records.run_record import RunRecord
    from carbontracker.report.derived import TotalPower

    Power = Mapping[str, tuple[list[float], list[float]]]

_LEFT = 46.0
"""Room for the values of an axis."""
MAX_STRIPS = 12
"""Devices in one chart, so that each chart fits a printed page."""
_STRIP = 32.0
_NAME = 18.0
_LANE = 12.0
_MAX_WINDOWS = 6


def charts_of(run: RunRecord, width: float) -> Iterator[Chart]:
    """Yield all charts that the record has figures for, each with the name of its section."""
    yield from power_charts(run, width)
    for make in (epochs_chart, emissions_chart, prediction_chart):
        chart = make(run, width)
        if chart is not None:
            yield chart


# ---- power ---------------------------------------------------------------------------------


def power_charts(run: RunRecord, width: float) -> Iterator[Chart]:
    """Yield the power of all devices together, then one strip per device if there are several."""
    seconds = derived.length_of(run)
    if not (is_known(seconds) and run.devices):
        return
    yield _total_chart(run, seconds, width)
    if len(run.devices) > 1:
        yield from _device_charts(run, seconds, width)


def _total_chart(run: RunRecord, seconds: float, width: float) -> Chart:
    """Return the total power with its axis, and the windows below it."""
    room = width - _LEFT - 1
    recorded = derived.total_power(run)
    power = recorded.thinned(int(room))
    top = axis_top(power.highest)
    size, unit = unit_of(top / 1.05, "W")
    windows = shown_windows(run)
    height = 150 + len(windows) * (_NAME + _LANE)
    chart = Chart("power", f"{_what(run.devices)}, {unit}", "", "", width, height + 50)
    chart.add(Label(0, 11, shortened(chart.title, width), "name"))
    frame = Frame(_LEFT, 24, room, 150, (0, seconds), (0, top / size))
    axis = replace(frame, height=height)
    chart.live = LivePlot(replace(frame, y_range=(0, top)), axis.bottom)
    chart.add(*_epoch_bands(run, axis))
    value_axis(chart, frame)
    lines = staircase(frame, power.edges_s, [watts / size for watts in power.watts])
    chart.add(Path(area_below(frame, lines), "total-area"))
    if _has_band(power):
        low, high = ([watts / size for watts in ends] for ends in (power.lowest, power.highest))
        chart.add(Path(area_between(frame, power.edges_s, low, high), "total-band"))
    chart.add(Path(lines, "total-line"))
    if not lines:
        chart.add(Label(frame.left + 6, frame.bottom - 8, "no power over time of all devices"))
    _lanes(chart, axis, windows)
    time_axis(chart, axis)
    known = [watts for watts in power.watts if is_known(watts)]
    watts = run.energy.joules / run.result.seconds if run.result.seconds > 0 else math.nan
    chart.description = f"Over {duration(seconds)}, mean {quantity(watts, 'W')}"
    if known:
        chart.description += f", from {quantity(min(known), 'W')} to {quantity(max(known), 'W')}"
    chart.description += "."
    chart.caption = " ".join(_total_caption(recorded, power, bands=_shows_bands(run, axis)))
    return chart


def shown_windows(run: RunRecord) -> list[WindowTotals]:
    """Return the windows that the chart of total power shows, one lane for each name."""
    return [one for one in derived.windows_of(run) if one.spans][:_MAX_WINDOWS]


def _what(devices: Sequence[Device]) -> str:
    if len(devices) > 1:
        return f"Power of all {len(devices)} devices together"
    return f"Power of {_name(devices[0])}"


def _name(device: Device) -> str:
    return f"{clean(device.id)} {clean(device.name)}".strip()


def _has_band(power: TotalPower) -> bool:
    """Return whether a point stands for more than a second and for several of the record's."""
    return power.interval_s > 1 and power.lowest is not power.watts


def _total_caption(recorded: TotalPower, power: TotalPower, *, bands: bool) -> Iterator[str]:
    if is_known(power.interval_s):
        yield f"Each point is the mean of {duration(power.interval_s)}."
    if _has_band(power):
        yield (
            "The band goes from the lowest to the highest mean power within it, "
            f"of the record's intervals of {duration(recorded.interval_s)}."
        )
    elif recorded.interval_s > 1:
        yield "The record has no shorter intervals, so peaks within them do not show."
    if not all(map(is_known, power.watts)):
        yield "No line where a device was not measured."
    if bands:
        yield "Every other epoch is shaded."


def _device_charts(run: RunRecord, seconds: float, width: float) -> Iterator[Chart]:
    """Yield power over time, one strip per device; a device of constant power has only a line."""
    devices = run.devices
    power = {one.id: derived.power_of(run, one.id, int(width)) for one in devices}
    for first in range(0, len(devices), MAX_STRIPS):
        shown = devices[first : first + MAX_STRIPS]
        number = f"-{first // MAX_STRIPS + 1}" if first else ""
        height = sum(_NAME + _strip_height(power[one.id]) + 6 for one in shown) + 26
        title = "Power of each device"
        chart = Chart(f"power-devices{number}", title, "", "", width, height, folded=True)
        axis = Frame(0, 0, width - 1, chart.height - 22, (0, seconds), (0, 1))
        chart.add(*_epoch_bands(run, axis))
        _fill(chart, axis, shown, power)
        time_axis(chart, axis)
        means = "; ".join(f"{clean(one.id)}: {_mean_power(one)}" for one in shown)
        chart.description = f"Over {duration(seconds)}. {means}."
        chart.caption = " ".join(_devices_caption(run, seconds, int(width)))
        yield chart


def _devices_caption(run: RunRecord, seconds: float, pieces: int) -> Iterator[str]:
    yield "Devices of a kind have one scale, from 0 W."
    if len(run.series) > pieces + 1:
        yield f"Each point is the mean of {duration(seconds / pieces)}."


def _is_constant(power: tuple[list[float], list[float]]) -> bool:
    """Return whether a power is known all the time and never changes by more than 0.1 %."""
    watts = power[1]
    known = bool(watts) and all(map(is_known, watts))
    return known and max(watts) - min(watts) <= 1e-3 * max(watts)


def _strip_height(power: tuple[list[float], list[float]]) -> float:
    return 2.0 if _is_constant(power) else _STRIP


def _fill(chart: Chart, axis: Frame, devices: Sequence[Device], power: Power) -> None:
    """Draw the strips; devices of one kind have one scale in all charts."""
    top = 0.0
    for device in devices:
        scale = (0, _power_top(power, device))
        height = _strip_height(power[device.id])
        frame = Frame(0, top + _NAME, axis.width, height, axis.x_range, scale)
        _strip(chart, frame, device, power[device.id])
        top += _NAME + height + 6


def _power_top(power: Power, device: Device) -> float:
    """Return the upper end of the scale of a device's kind, W."""
    kind = device.id.partition(":")[0]
    alike = (watts for name, (_, watts) in power.items() if name.partition(":")[0] == kind)
    return axis_top(value for watts in alike for value in watts)


def _lanes(chart: Chart, axis: Frame, windows: Sequence[WindowTotals]) -> None:
    top = axis.bottom - len(windows) * (_NAME + _LANE)
    for window in windows:
        name = shortened(f"window {clean(window.name)}", axis.width)
        chart.add(Label(axis.left, top + 13, name, "name"))
        chart.add(*_lane(axis, window.spans, top + _NAME - 1))
        top += _NAME + _LANE


def _strip(
    chart: Chart, frame: Frame, device: Device, power: tuple[list[float], list[float]]
) -> None:
    colour = colour_of(device.kind)
    edges, watts = power
    constant = _is_constant(power)
    scale = f"constant {quantity(watts[0], 'W')}" if constant else _mean_power(device)
    if watts and not constant and frame.width > NARROW:
        scale += f", scale to {quantity(frame.y_range[1], 'W')}"
    room = frame.width - len(scale) * CHARACTER - 8
    chart.add(Label(0, frame.top - 5, shortened(_name(device), room), "name"))
    chart.add(Label(frame.width, frame.top - 5, scale, anchor="end"))
    lines = staircase(frame, edges, watts)
    if constant:
        ends = [(frame.x(edges[0]), frame.bottom), (frame.x(edges[-1]), frame.bottom)]
        chart.add(Path([ends], f"{colour}-line"))
        return
    chart.add(Path([[(frame.left, frame.bottom), (frame.right, frame.bottom)]], "grid"))
    if lines:
        chart.add(Path(area_below(frame, lines), f"{colour}-area"), Path(lines, f"{colour}-line"))
    else:
        chart.add(Label(frame.left, frame.bottom - 6, "no power over time"))


def _mean_power(device: Device) -> str:
    return f"mean {quantity(device.watts, 'W')}" if is_known(device.watts) else "not measured"


def _epoch_bands(run: RunRecord, frame: Frame) -> Iterator[Box]:
    """Yield a band behind every other epoch, unless the bands would be too narrow to see."""
    if not _shows_bands(run, frame):
        return
    for epoch in _placed(run)[::2]:
        x = frame.x(epoch.start_s)
        width = frame.x(epoch.end_s) - x
        yield Box(x, frame.top, width, frame.height, "band", f"epoch {epoch.index}")


def _shows_bands(run: RunRecord, frame: Frame) -> bool:
    return 1 < len(_placed(run)) <= frame.width / 3


def _placed(run: RunRecord) -> list[Epoch]:
    return [one for one in run.epochs if is_known(one.start_s) and is_known(one.seconds)]


def _lane(frame: Frame, spans: Sequence[Interval], top: float) -> Iterator[Box]:
    """Yield where windows were; windows that touch within a pixel are drawn as one."""
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


# ---- epochs --------------------------------------------------------------------------------


def label_step(count: int, width: float) -> int:
    """Return the distance between labels so that ``count`` of them fit: 1, 2, 5, 10, 20, ..."""
    least = max(1.0, count * 40 / width)
    power = round(10.0 ** math.floor(math.log10(least)))
    return next(power * one for one in (1, 2, 5, 10) if power * one >= least)


def epochs_chart(run: RunRecord, width: float) -> Chart | None:
    """Return the energy of each epoch with its error; an unmeasured epoch is a dashed frame."""
    epochs = run.epochs
    if len(epochs) < 2:  # the totals say it all
        return None
    room = width - _LEFT - 1
    together = max(1, math.ceil(len(epochs) * 3 / room))
    bars = [_bar(epochs[i : i + together]) for i in range(0, len(epochs), together)]
    highest = axis_top(joules + (error if is_known(error) else 0) for joules, error in bars)
    size, unit = unit_of(highest / 1.05, "J")
    chart = Chart("epochs", f"Energy of each epoch, {unit}", "", "", width, 204)
    frame = Frame(_LEFT, 24, room, 150, (0, len(bars)), (0, highest / size))
    chart.add(Label(0, 11, chart.title, "name"))
    value_axis(chart, frame)
    for i, (joules, error) in enumerate(bars):
        first = epochs[i * together].index
        last = epochs[min((i + 1) * together, len(epochs)) - 1].index
        name = f"epoch {first}" if first == last else f"mean of epochs {first} to {last}"
        name += "" if epochs[i * together].finished else ", unfinished"
        chart.add(*_bar_shapes(frame, i, joules / size, error / size))
        note = f"{name}: {quantity(joules, 'J', error)}"
        chart.add(Box(frame.x(i), frame.top, room / len(bars), frame.height, "hit", note))
    _epoch_axis(
        chart,
        frame,
        [epochs[min((i + 1) * together, len(epochs)) - 1].index for i in range(len(bars))],
    )
    known = [one.energy.joules for one in epochs if is_known(one.energy.joules)]
    unfinished = sum(not one.finished for one in epochs)
    spread = f" from {quantity(min(known), 'J')} to {quantity(max(known), 'J')}" if known else ""
    missing = len(epochs) - len(known)
    chart.description = f"{len(known)} epoch(s){spread}, with 95 % errors of measuring."
    if missing:
        chart.description += f" {missing} not measured (dashed)."
    if unfinished:
        chart.description += f" {unfinished} unfinished."
    if together > 1:
        chart.description += f" Each bar is the mean of {together} epochs."
    chart.caption = chart.description
    return chart


def _bar(epochs: Sequence[Epoch]) -> tuple[float, float]:
    """Return the mean energy of the measured epochs, and its error."""
    known = [one.energy for one in epochs if is_known(one.energy.joules)]
    if not known:
        return math.nan, math.nan
    joules = math.fsum(one.joules for one in known) / len(known)
    return joules, math.fsum(one.error_joules for one in known) / len(known)


def _bar_shapes(frame: Frame, index: int, value: float, error: float) -> Iterator[Box | Path]:
    left, right = frame.x(index), frame.x(index + 1)
    gap = min(4.0, (right - left) * 0.2)
    width = min(60.0, right - left - gap)
    x = (left + right - width) / 2
    if not is_known(value):
        yield Box(x, frame.top + 2, width, frame.height - 2, "hollow")
        return
    yield Box(x, frame.y(value), width, frame.bottom - frame.y(value), "bar")
    if is_known(error):
        middle = x + width / 2
        low, high = frame.y(value - error), frame.y(value + error)
        half = min(4.0, width / 3)
        lines = [[(middle, low), (middle, high)]]
        lines += [[(middle - half, y), (middle + half, y)] for y in (low, high)]
        yield Path(lines, "error")


def _epoch_axis(chart: Chart, frame: Frame, indices: Sequence[int]) -> None:
    every = label_step(len(indices), frame.width)
    for i in dict.fromkeys((0, *range(every - 1, len(indices), every))):
        chart.add(tick_label(chart, frame.x(i + 0.5), frame.bottom + 15, str(indices[i])))
    chart.add(Path([[(frame.left, frame.bottom), (frame.right, frame.bottom)]], "axis"))
    chart.add(Label(frame.right, frame.bottom + 28, "epoch", anchor="end"))


# ---- emissions -----------------------------------------------------------------------------


def emissions_chart(run: RunRecord, width: float) -> Chart | None:
    """Return the carbon intensity over time, with the emissions so far below it."""
    seconds = derived.length_of(run)
    steps = derived.intensities_of(run)
    times, grams = derived.emissions_of(run)
    if not is_known(seconds) or not (steps or times):
        return None
    chart = Chart("emissions", "Carbon intensity and emissions so far", "", "", width, 276)
    room = width - _LEFT - 1
    figures = [step.gco2eq_per_kwh for step in steps]
    upper = Frame(_LEFT, 20, room, 84, (0, seconds), (0, axis_top(figures)))
    chart.add(Label(0, 11, "Intensity, gCO2eq/kWh", "name"))
    value_axis(chart, upper, 3)
    lines = [
        [(upper.x(one.start_s), upper.y(one.gco2eq_per_kwh)),
         (upper.x(one.end_s), upper.y(one.gco2eq_per_kwh))]
        for one in steps
    ]  # fmt: skip
    chart.add(Path(_connected(lines), "intensity-line"))
    size, unit = unit_of(max(grams, default=0.0), "g")
    top = axis_top(grams) / size
    lower = Frame(_LEFT, 142, room, 110, (0, seconds), (0, top))
    chart.add(Label(0, 133, f"Emissions so far, {unit}CO2eq", "name"))
    value_axis(chart, lower, 3)
    line = [(lower.x(t_s), lower.y(one / size)) for t_s, one in _thinned(times, grams, int(room))]
    if len(line) > 1:
        chart.add(Path(area_below(lower, [line]), "carbon-area"), Path([line], "carbon-line"))
    time_axis(chart, lower)
    chart.description = chart.caption = " ".join(_emissions_words(run, figures, grams))
    return chart


def _emissions_words(
    run: RunRecord, figures: Sequence[float], grams: Sequence[float]
) -> Iterator[str]:
    low, high = (f"{end:.4g}" for end in (min(figures), max(figures))) if figures else ("", "")
    if not figures:
        yield "The intensity is not known."
    else:
        yield f"Intensity {low if low == high else f'from {low} to {high}'} gCO2eq/kWh."
    yield f"Emissions reach {quantity(grams[-1], 'g')}." if grams else "Emissions not measured."
    lost = sum(not is_known(one.footprint.gco2eq) for one in run.epochs)
    if lost:
        yield f"{lost} epoch(s) without a measurement are not included."


def _connected(lines: Sequence[Sequence[tuple[float, float]]]) -> list[list[tuple[float, float]]]:
    """Join lines that begin where the previous one ends."""
    joined: list[list[tuple[float, float]]] = []
    for line in lines:
        if joined and abs(joined[-1][-1][0] - line[0][0]) < 1:
            joined[-1] += line
        else:
            joined.append(list(line))
    return joined


def _thinned(
    times: Sequence[float], values: Sequence[float], most: int
) -> list[tuple[float, float]]:
    every = max(1, len(times) // max(1, most))
    kept = list(zip(times, values, strict=True))[::every]
    return [*kept, (times[-1], values[-1])] if times else []


# ---- predictions ---------------------------------------------------------------------------


def prediction_chart(run: RunRecord, width: float) -> Chart | None:
    """Return each prediction with its interval, beside what the run used."""
    found = [one for one in run.forecasts if is_known(one.footprint.kwh)]
    if not found or not derived.has_predictions(run):
        return None
    comparable = not derived.why_not_comparable(run)
    actual = run.footprint.kwh if comparable else math.nan
    error = run.footprint.error_kwh
    low, high = _range(found, actual, error)
    size, unit = unit_of(high * 1000, "Wh")
    scale = 1000 / size
    chart = Chart(
        "prediction", f"Predicted and actual electricity of the run, {unit}", "", "", width, 230
    )
    predictions = [one.prediction for one in found]
    last = math.ceil(max(1, *(max(one.after_epochs, one.epochs) for one in predictions)))
    chart.add(Label(0, 11, chart.title, "name"))
    frame = Frame(_LEFT, 24, width - _LEFT - 1, 168, (0, last * 1.02), (low * scale, high * scale))
    value_axis(chart, frame)
    if is_known(actual):
        chart.add(*_actual(frame, actual * scale, error * scale))
    for one in _fewer(found, int(frame.width / 8)):
        chart.add(*_point(frame, one, scale))
    _done_axis(chart, frame, last)
    final = found[-1]
    chart.description = (
        f"{len(found)} prediction(s); "
        f"the last, after {final.prediction.after_epochs:.3g} epoch(s), "
        f"{quantity(1000 * final.footprint.kwh, 'Wh')}{interval_text(final)}."
    )
    if is_known(actual):
        chart.description += f" Actual (line): {quantity(1000 * actual, 'Wh', 1000 * error)}."
    else:
        chart.description += f" {derived.why_not_comparable(run)}"
    chart.caption = f"{chart.description} The scale does not begin at 0."
    return chart


def _range(found: Sequence[Forecast], actual: float, error: float) -> Interval:
    """Return the ends of a scale that holds all values, kWh."""
    ends = [end for one in found for end in (one.footprint.kwh, *one.kwh_95)]
    ends += [actual, actual - error, actual + error]
    known = [end for end in ends if is_known(end)]
    low, high = min(known), max(known)
    room = 0.08 * (high - low) or 0.05 * high or 1.0
    return max(0.0, low - room), high + room


def interval_text(one: Forecast) -> str:
    """Return the 95 % interval of the electricity in words, or ``""`` if the record has none."""
    low, high = one.kwh_95
    words = range_text((1000 * low, 1000 * high), "Wh")
    return f" (95 %: {words})" if words else ""


def range_text(interval: Interval, unit: str) -> str:
    """Return an interval in words, or ``""`` if it is unknown."""
    if not all(map(is_known, interval)):
        return ""
    return " to ".join(quantity(end, unit) for end in interval)


def _actual(frame: Frame, value: float, error: float) -> Iterator[Box | Path]:
    if is_known(error):
        top, bottom = frame.y(value + error), frame.y(value - error)
        yield Box(frame.left, top, frame.width, bottom - top, "actual-area", "actual")
    yield Path([[(frame.left, frame.y(value)), (frame.right, frame.y(value))]], "actual")


def _point(frame: Frame, one: Forecast, scale: float) -> Iterator[Box | Path]:
    after, kwh = one.prediction.after_epochs, one.footprint.kwh
    x, y = frame.x(after), frame.y(kwh * scale)
    ends = one.kwh_95
    if all(map(is_known, ends)):
        low, high = (frame.y(end * scale) for end in ends)
        yield Path([[(x, low), (x, high)], *([(x - 3, end), (x + 3, end)] for end in (low, high))],
                   "interval")  # fmt: skip
    note = f"after {after:.3g}: {quantity(1000 * kwh, 'Wh')}{interval_text(one)}"
    yield Box(x - 3, y - 3, 6, 6, "predicted", note)


def _fewer(found: Sequence[Forecast], most: int) -> Sequence[Forecast]:
    every = max(1, math.ceil(len(found) / max(1, most)))
    return found[::-1][::every][::-1]


def _done_axis(chart: Chart, frame: Frame, last: int) -> None:
    for done in range(0, last + 1, label_step(last, frame.width)):
        chart.add(tick_label(chart, frame.x(done), frame.bottom + 15, str(done)))
    chart.add(Path([[(frame.left, frame.bottom), (frame.right, frame.bottom)]], "axis"))
    chart.add(Label(frame.right, frame.bottom + 30, "predicted after epochs", anchor="end"))
