"""Values that all reports of one run share, derived from its record."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from datetime import timezone
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from carbontracker.energy.energy import MISSING, Energy
from carbontracker.records.json_values import mapping, mappings, number, seconds_of, whole
from carbontracker.report.formatting import percent, plain
from carbontracker.times import parse_utc

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from carbontracker.records.recorded import RecordedFootprint, RecordedPrediction, RunRecord

Interval = tuple[float, float]


@dataclass(frozen=True)
class Device:
    """A device and its energy; a sensor without a reading is included."""

    id: str
    kind: str
    name: str
    source: str
    energy: Energy
    watts: float
    """Mean power over the run, W."""
    readings_per_second: float


@dataclass
class Windows:
    """All windows of one name."""

    name: str
    count: int = 0
    unknown: int = 0
    """Windows whose energy is unknown."""
    seconds: float = 0.0
    joules: float = math.nan
    error_joules: float = math.nan
    spans: list[Interval] = field(default_factory=list)
    """Start and end of the windows that the record kept, s after the run began."""


@dataclass(frozen=True)
class Step:
    """A period with one carbon intensity."""

    start_s: float
    end_s: float
    gco2eq_per_kwh: float


@dataclass(frozen=True)
class Predicted:
    """A prediction of the whole run, kWh with PUE, beside its intervals."""

    after_epochs: float
    """A fraction within the first epoch."""
    epochs: float
    seconds: float
    kwh: float
    gco2eq: float
    intervals: Mapping[str, Interval]
    """``seconds_80``, ``kwh_95``, ``gco2eq_95`` and so on; NaN if the record has no value."""
    method: str


def title_of(run: RunRecord) -> str:
    """Return the command, or "a training"."""
    return " ".join(run.origin.command) or "a training"


def devices_of(run: RunRecord) -> list[Device]:
    """Return the devices: first those with a sensor, then those with energy only."""
    energies = dict(run.energy.by_device)
    rates = mapping(run.outcome.data.get("readings_per_second"))
    sensors = {sensor.id: sensor for sensor in run.origin.sensors}
    found: list[Device] = []
    for name in [*(s.id for s in sensors.values() if s.counted), *energies]:
        if any(one.id == name for one in found):
            continue
        energy, sensor = energies.get(name, MISSING), sensors.get(name)
        seconds = run.outcome.seconds
        found.append(
            Device(
                id=name,
                kind=sensor.kind if sensor else name.partition(":")[0],
                name=sensor.name if sensor else "",
                source=sensor.source if sensor else "",
                energy=energy,
                watts=energy.joules / seconds if seconds > 0 else math.nan,
                readings_per_second=number(rates.get(name)),
            )
        )
    return found


def windows_of(run: RunRecord) -> list[Windows]:
    """Return the named windows of all events, those with most energy first."""
    found: dict[str, Windows] = {}
    for event in run.of("windows"):
        for data in mappings(event.get("windows")):
            name = str(data.get("name") or "")
            _add(found.setdefault(name, Windows(name)), data)
    return sorted(found.values(), key=lambda one: (math.isnan(one.joules), -one.joules))


def _add(windows: Windows, data: Mapping[str, Any]) -> None:
    windows.count += whole(data.get("count"))
    windows.unknown += whole(data.get("unknown"))
    windows.seconds += seconds_of(data.get("seconds"), 0.0)
    windows.joules = _plus(windows.joules, number(data.get("joules")))
    windows.error_joules = _plus(windows.error_joules, number(data.get("error_joules")))
    starts, lengths = data.get("start_s"), data.get("length_s")
    if isinstance(starts, list) and isinstance(lengths, list):
        for start, length in zip(map(seconds_of, starts), map(seconds_of, lengths), strict=False):
            if math.isfinite(start + length):
                windows.spans.append((start, start + length))


def _plus(sum_so_far: float, more: float) -> float:
    """Return the sum of the known values; NaN if both are unknown."""
    known = [value for value in (sum_so_far, more) if not math.isnan(value)]
    return math.fsum(known) if known else math.nan


# ---- time ----------------------------------------------------------------------------------


def length_of(run: RunRecord) -> float:
    """Return the length of the run's time axis, s; NaN if unknown."""
    ends = [run.series.seconds, *(epoch.end_s for epoch in run.epochs)]
    known = [value for value in ends if math.isfinite(value) and value > 0]
    return max(known) if known else math.nan


def power_of(run: RunRecord, device: str, pieces: int) -> tuple[list[float], list[float]]:
    """Return the mean power of a device in at most ``pieces`` intervals of the run's time.

    The energy is conserved: a mean is E(end) - E(start) over the length of its interval. Without a
    series, it is the mean power of each epoch.

    Returns:
        Edges (n + 1,), s after the run began, and watts (n,), NaN where unknown.
    """
    series = run.series
    if device in series.joules and len(series) > 1:
        first, last = series.t_s[0], series.t_s[-1]
        if len(series) <= pieces + 1:
            ends_s, watts = series.power(device)
            return [first, *ends_s], watts
        edges = [first + (last - first) * i / pieces for i in range(pieces)] + [last]
        at = [series.at(device, t_s) for t_s in edges]
        spans = zip(pairwise(at), pairwise(edges), strict=True)
        return edges, [(b - a) / (t1 - t0) if t1 > t0 else math.nan for (a, b), (t0, t1) in spans]
    return _power_by_epoch(run, device)


def _power_by_epoch(run: RunRecord, device: str) -> tuple[list[float], list[float]]:
    edges: list[float] = []
    watts: list[float] = []
    for epoch in run.epochs:
        if not (epoch.seconds > 0 and math.isfinite(epoch.start_s)):
            continue
        if not edges:
            edges.append(epoch.start_s)
        elif epoch.start_s > edges[-1]:
            edges.append(epoch.start_s)
            watts.append(math.nan)
        edges.append(epoch.end_s)
        watts.append(epoch.energy.by_device.get(device, MISSING).joules / epoch.seconds)
    return edges, watts


def intensities_of(run: RunRecord) -> list[Step]:
    """Return the carbon intensity over time: the record's slots, else one step per epoch."""
    slots = slots_of(run, run.footprint)
    if not slots:
        slots = [slot for epoch in run.epochs for slot in slots_of(run, epoch.footprint)]
    if not slots:
        slots = [
            Step(epoch.start_s, epoch.end_s, gco2eq_per_kwh_of(epoch.footprint))
            for epoch in run.epochs
            if math.isfinite(epoch.start_s) and math.isfinite(gco2eq_per_kwh_of(epoch.footprint))
        ]
    if (
        not slots
        and math.isfinite(length_of(run))
        and math.isfinite(gco2eq_per_kwh_of(run.footprint))
    ):
        slots = [Step(0.0, length_of(run), gco2eq_per_kwh_of(run.footprint))]
    return _joined(sorted(slots, key=lambda slot: slot.start_s))


def gco2eq_per_kwh_of(footprint: RecordedFootprint) -> float:
    return number(footprint.intensity.get("gco2eq_per_kwh"))


def slots_of(run: RunRecord, footprint: RecordedFootprint) -> list[Step]:
    found = []
    for slot in mappings(footprint.data.get("slots")):
        start, end = (_seconds(run, slot.get(name)) for name in ("start", "end"))
        figure = number(slot.get("gco2eq_per_kwh"))
        if math.isfinite(start + end + figure):
            found.append(Step(start, end, figure))
    return found


def _seconds(run: RunRecord, moment: object) -> float:
    try:
        return (parse_utc(moment, naive=timezone.utc) - run.started).total_seconds()
    except ValueError:
        return math.nan


def _joined(steps: Sequence[Step]) -> list[Step]:
    """Join neighbouring steps of one intensity."""
    joined: list[Step] = []
    for step in steps:
        if joined and joined[-1].gco2eq_per_kwh == step.gco2eq_per_kwh:
            joined[-1] = replace(joined[-1], end_s=step.end_s)
        else:
            joined.append(step)
    return joined


def emissions_of(run: RunRecord) -> tuple[list[float], list[float]]:
    """Return the emissions so far: at the ends of epochs, or of a command at each sample.

    Returns:
        Times (n,), s after the run began, and gCO2eq (n,). Unmeasured epochs add nothing, as
        in the run's total.
    """
    if run.epochs:
        times, grams = [run.epochs[0].start_s], [0.0]
        for epoch in run.epochs:
            times.append(epoch.end_s)
            grams.append(_plus(grams[-1], epoch.footprint.gco2eq))
    else:
        times, grams = _emissions_along(run)
    known = [pair for pair in zip(times, grams, strict=False) if math.isfinite(sum(pair))]
    return [t_s for t_s, _ in known], [value for _, value in known]


def _emissions_along(run: RunRecord) -> tuple[list[float], list[float]]:
    """Return times, s, and gCO2eq so far: each joule has the intensity of its own time."""
    times = list(run.series.t_s)
    rows = zip(*run.series.joules.values(), strict=True)
    joules = [math.fsum(one for one in row if not math.isnan(one)) for row in rows]
    slots = intensities_of(run)
    mean = gco2eq_per_kwh_of(run.footprint)
    weights = joules[:1]
    for (t0, t1), (before, after) in zip(pairwise(times), pairwise(joules), strict=True):
        figure = mean_during(slots, t0, t1)
        weights.append((after - before) * (1.0 if math.isnan(figure / mean) else figure / mean))
    weighed = math.fsum(weights)
    known = joules[-1] / run.energy.joules if joules and run.energy.joules > 0 else math.nan
    scale = run.footprint.gco2eq * known / weighed if weighed > 0 else math.nan
    return times, [one * scale for one in accumulate(weights)]


def mean_during(slots: Sequence[Step], start_s: float, end_s: float) -> float:
    """Return the mean intensity of a period, gCO2eq/kWh; NaN if unknown."""
    parts = [(min(end_s, one.end_s) - max(start_s, one.start_s), one) for one in slots]
    inside = [(seconds, one.gco2eq_per_kwh) for seconds, one in parts if seconds > 0]
    total = math.fsum(seconds for seconds, _ in inside)
    return math.fsum(seconds * figure for seconds, figure in inside) / total if inside else math.nan


# ---- the same energy with another footprint ------------------------------------------------


def recalculated_as(run: RunRecord, footprint: RecordedFootprint) -> RunRecord:
    """Return the run with the same energy and another footprint, for all of its parts.

    Epochs get the mean intensity over their time where the footprint has slots. Predictions get its
    PUE and intensity, and lose the interval of their emissions, which belonged to the intensity of
    the record.
    """
    slots = slots_of(run, footprint)
    epochs = (
        replace(
            one,
            footprint=_during(footprint, slots, one.start_s, one.end_s).priced(
                one.energy.joules, one.energy.error_joules
            ),
        )
        for one in run.epochs
    )
    predictions = (
        replace(
            one,
            footprint=footprint.priced(one.joules, math.nan),
            data={name: value for name, value in one.data.items() if "gco2eq" not in name},
        )
        for one in run.predictions
    )
    before = f"{plain(gco2eq_per_kwh_of(run.footprint))} gCO2eq/kWh, PUE {run.footprint.pue:g}"
    source = {} if footprint.pue == run.footprint.pue else {"pue_source": "given for this report"}
    data = {**run.origin.data, **source, "recalculated": f"the record has {before}"}
    return replace(
        run,
        origin=replace(run.origin, data=data),
        epochs=tuple(epochs),
        predictions=tuple(predictions),
        outcome=replace(run.outcome, footprint=footprint),
    )


def _during(
    footprint: RecordedFootprint, slots: Sequence[Step], start_s: float, end_s: float
) -> RecordedFootprint:
    """Return the footprint at the mean intensity of a period; unchanged if that is unknown."""
    mean = mean_during(slots, start_s, end_s)
    if math.isnan(mean):
        return footprint
    return replace(footprint, intensity={**footprint.intensity, "gco2eq_per_kwh": mean})


# ---- predictions ---------------------------------------------------------------------------


def predictions_of(run: RunRecord) -> list[Predicted]:
    """Return all predictions, the oldest first."""
    return list(map(_predicted, run.predictions))


def _predicted(one: RecordedPrediction) -> Predicted:
    footprint = one.footprint
    kwh_per_joule = footprint.kwh / one.joules if one.joules > 0 else math.nan
    intervals = {}
    for level in (80, 95):
        low, high = _interval(one.data.get(f"joules_{level}"))
        intervals[f"kwh_{level}"] = low * kwh_per_joule, high * kwh_per_joule
        for name in (f"gco2eq_{level}", f"seconds_{level}"):
            intervals[name] = _interval(one.data.get(name))
    return Predicted(
        after_epochs=one.after_epochs,
        epochs=one.epochs,
        seconds=one.seconds,
        kwh=footprint.kwh,
        gco2eq=footprint.gco2eq,
        intervals=intervals,
        method=str(one.data.get("method") or ""),
    )


def _interval(value: object) -> Interval:
    if not isinstance(value, list) or len(value) != 2:
        return math.nan, math.nan
    return number(value[0]), number(value[1])


def why_not_comparable(run: RunRecord) -> str:
    """Return why the predictions cannot be compared with the run; ``""`` if they can."""
    if not run.predictions:
        return "Nothing was predicted."
    if not run.complete:
        return "The record has no end of the run, so the predictions cannot be compared with it."
    done, planned = len([one for one in run.epochs if one.finished]), run.predictions[-1].epochs
    if done != math.ceil(planned):
        return f"The predictions are for {planned} epochs; {done} were finished."
    return ""


# ---- where figures come from ---------------------------------------------------------------


def provenance_of(run: RunRecord) -> Iterator[tuple[str, str]]:
    """Yield a name and a text for everything that the totals depend on."""
    footprint, origin = run.footprint, run.origin
    intensity, location = footprint.intensity, footprint.location
    figure = number(intensity.get("gco2eq_per_kwh"))
    words = [
        "not known" if math.isnan(figure) else f"{figure:.2f} gCO2eq/kWh",
        *(str(intensity[key]) for key in ("name", "zone", "year") if intensity.get(key)),
        *(f"{key}: {intensity[key]}" for key in ("scope", "kind") if intensity.get(key)),
    ]
    yield "Carbon intensity", ", ".join(dict.fromkeys(words))
    for key, name in (("source", "Its source"), ("licence", "Its licence"), ("note", "Note")):
        if intensity.get(key):
            yield name, str(intensity[key])
    if location:
        found = f"{location.get('name') or location.get('zone')}, found by {location.get('how')}"
        yield "Location", found + (f" ({location['note']})" if location.get("note") else "")
    if origin.data.get("recalculated"):
        yield "Recalculated", str(origin.data["recalculated"])
    pue = "not known" if math.isnan(footprint.pue) else f"{footprint.pue:g}"
    source = origin.data.get("pue_source")
    yield "PUE", pue + (f" ({source})" if source else "")
    modelled = run.energy.modelled_joules
    if run.energy.joules > 0 and modelled > 0:
        share = percent(modelled / run.energy.joules)
        yield "Modelled, not measured", f"{share} of the energy"
    host = origin.host
    words = [str(host[key]) for key in ("name", "system", "cpu") if host.get(key)]
    words += [f"Python {host['python']}"] if host.get("python") else []
    yield "Host", ", ".join(words) or "not known"
    software = mapping(origin.data.get("software"))
    if software:
        yield "Software", ", ".join(f"{name} {version}" for name, version in software.items())
    for scheduler, ids in origin.job.items():
        yield f"Job ({scheduler})", ", ".join(f"{key} {value}" for key, value in ids.items())
    yield "Carbontracker", origin.version or "not known"
