"""Values that all reports of one run share, derived from its record."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from statistics import median
from typing import TYPE_CHECKING

from carbontracker.energy.energy import MISSING
from carbontracker.jobs.launch import Launch
from carbontracker.json_values import whole
from carbontracker.model.result import Result
from carbontracker.model.window_totals import WindowTotals, add_known
from carbontracker.records.run_record import IntensityPeriod, intensity_periods, mean_during
from carbontracker.report.formatting import is_known, percent, plain
from carbontracker.report.sentences import (
    allocation_line,
    attribution_line,
    explained_lines,
    ranks_line,
    skew_line,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from carbontracker.records.run_record import RunRecord


def title_of(run: RunRecord) -> str:
    """Return the command, the script of a training, or "a training"."""
    return run.metadata.program or "a training"


def windows_of(run: RunRecord) -> list[WindowTotals]:
    """Return the named windows of all events, those with most energy first."""
    found: dict[str, WindowTotals] = {}
    for one in run.windows:
        found[one.name] = found[one.name].plus(one) if one.name in found else one
    return sorted(found.values(), key=lambda one: (math.isnan(one.joules), -one.joules))


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


@dataclass(frozen=True)
class TotalPower:
    """Power of all devices together, in intervals of the run's time.

    It is NaN where any device is unknown, because a part of a machine is not its total.
    """

    edges_s: Sequence[float]
    """Ends of the intervals (n + 1,), s after the run began; empty if there are no intervals."""
    watts: Sequence[float]
    """Mean of each interval (n,)."""
    lowest: Sequence[float]
    """Lowest mean power that the record has within each interval (n,), W."""
    highest: Sequence[float]
    """Highest of them (n,), W."""

    @property
    def interval_s(self) -> float:
        """Return the usual length of an interval, s; NaN if there are no intervals."""
        lengths_s = [end - start for start, end in pairwise(self.edges_s)]
        return median(lengths_s) if lengths_s else math.nan

    def thinned(self, pieces: int) -> TotalPower:
        """Return at most ``pieces`` intervals."""
        return self if len(self.watts) <= pieces else self.resampled(pieces)

    def resampled(self, pieces: int) -> TotalPower:
        """Return ``pieces`` intervals of one length; energy over time gives their means.

        So the area below the line stays the energy.
        """
        edges = self.edges_s
        if not edges:
            return self
        first_s, length_s = edges[0], edges[-1] - edges[0]
        ends = [*(first_s + length_s * i / pieces for i in range(pieces)), edges[-1]]
        means, lowest, highest = [], [], []
        for start_s, end_s in pairwise(ends):
            inside = range(bisect_right(edges, start_s) - 1, bisect_left(edges, end_s))
            parts = [(min(edges[i + 1], end_s) - max(edges[i], start_s), i) for i in inside]
            # The ends are rounded: a sliver of a neighbour says nothing about this interval.
            shares = [(s / (end_s - start_s), i) for s, i in parts if s > 1e-6 * (end_s - start_s)]
            mean = math.fsum(share * self.watts[i] for share, i in shares)
            means.append(mean)
            lowest.append(min(self.lowest[i] for _, i in shares) if is_known(mean) else math.nan)
            highest.append(max(self.highest[i] for _, i in shares) if is_known(mean) else math.nan)
        return TotalPower(ends, means, lowest, highest)


def total_power(run: RunRecord) -> TotalPower:
    """Return the power of all devices together as the record has it; without a series by epoch."""
    series = run.series
    if len(series) > 1:
        names = [name for name, column in series.joules.items() if any(map(is_known, column))]
        columns = [series.power(name) for name in names]
        edges = [series.t_s[0], *columns[0][0]] if columns else []
    else:
        names = _measured_names(run)
        columns = [_power_by_epoch(run, name) for name in names]
        edges = columns[0][0] if columns else []
    watts = [math.fsum(row) for row in zip(*(column for _, column in columns), strict=True)]
    return TotalPower(edges, watts, watts, watts)


def _measured_names(run: RunRecord) -> list[str]:
    """Return the devices of which any epoch has an energy."""
    parts = (part for epoch in run.epochs for part in epoch.energy.by_device.items())
    return list(dict.fromkeys(name for name, energy in parts if is_known(energy.joules)))


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


def intensities_of(run: RunRecord) -> list[IntensityPeriod]:
    """Return the carbon intensity over time: the record's slots, else one step per epoch."""
    slots = intensity_periods(run, run.footprint)
    if not slots:
        slots = [slot for epoch in run.epochs for slot in intensity_periods(run, epoch.footprint)]
    if not slots:
        slots = [
            IntensityPeriod(epoch.start_s, epoch.end_s, epoch.footprint.intensity.gco2eq_per_kwh)
            for epoch in run.epochs
            if math.isfinite(epoch.start_s)
            and math.isfinite(epoch.footprint.intensity.gco2eq_per_kwh)
        ]
    if (
        not slots
        and math.isfinite(length_of(run))
        and math.isfinite(run.footprint.intensity.gco2eq_per_kwh)
    ):
        slots = [IntensityPeriod(0.0, length_of(run), run.footprint.intensity.gco2eq_per_kwh)]
    return _joined(sorted(slots, key=lambda slot: slot.start_s))


def _joined(steps: Sequence[IntensityPeriod]) -> list[IntensityPeriod]:
    """Join neighbouring steps of one intensity."""
    joined: list[IntensityPeriod] = []
    for step in steps:
        if joined and joined[-1].gco2eq_per_kwh == step.gco2eq_per_kwh:
            joined[-1] = replace(joined[-1], end_s=step.end_s)
        else:
            joined.append(step)
    return joined


def emissions_of(run: RunRecord) -> tuple[list[float], list[float]]:
    """Return the emissions so far: at the ends of epochs, or of a single piece at each sample.

    Returns:
        Times (n,), s after the run began, and gCO2eq (n,). Unmeasured epochs add nothing, as
        in the run's total.
    """
    if run.epochs and (len(run.epochs) > 1 or not len(run.series)):
        times, grams = [run.epochs[0].start_s], [0.0]
        for epoch in run.epochs:
            times.append(epoch.end_s)
            grams.append(add_known(grams[-1], epoch.footprint.gco2eq))
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
    mean = run.footprint.intensity.gco2eq_per_kwh
    weights = joules[:1]
    for (t0, t1), (before, after) in zip(pairwise(times), pairwise(joules), strict=True):
        figure = mean_during(slots, t0, t1)
        weights.append((after - before) * (1.0 if math.isnan(figure / mean) else figure / mean))
    weighed = math.fsum(weights)
    known = joules[-1] / run.energy.joules if joules and run.energy.joules > 0 else math.nan
    scale = run.footprint.gco2eq * known / weighed if weighed > 0 else math.nan
    return times, [one * scale for one in accumulate(weights)]


# ---- predictions ---------------------------------------------------------------------------


def has_predictions(run: RunRecord) -> bool:
    """Return whether anything was predicted before the last epoch."""
    return any(one.prediction.after_epochs < one.prediction.epochs for one in run.forecasts)


def why_not_comparable(run: RunRecord) -> str:
    """Return why the predictions cannot be compared with the run; ``""`` if they can."""
    if not run.forecasts:
        return "Nothing was predicted."
    if not run.complete:
        return "The record has no end of the run, so the predictions cannot be compared with it."
    done, planned = run.result.epochs_done, run.forecasts[-1].prediction.epochs
    if done != planned:
        return f"The predictions are for {planned} epochs; {done} were finished."
    return ""


# ---- where figures come from ---------------------------------------------------------------


def _purpose_of(run: RunRecord) -> Iterator[tuple[str, str]]:
    """Yield what the run was for, what it started from, and how it ended."""
    about, labels = run.metadata, run.labels
    said = {
        "Contributes to": ", ".join(filter(None, (about.project, about.stage))),
        "Starts from": f"a checkpoint of run {about.parent}" if about.parent else "",
        "Outcome": f"{run.outcome}{', by a label' if labels.get('outcome') else ''}",
        "Remark": labels.get("note", ""),
    }
    yield from ((name, text) for name, text in said.items() if text)


def provenance_of(run: RunRecord) -> Iterator[tuple[str, str]]:
    """Yield a name and a text for everything that the totals depend on."""
    footprint, about = run.footprint, run.metadata
    yield from _purpose_of(run)
    intensity, location = footprint.intensity, footprint.location
    figure = intensity.gco2eq_per_kwh
    words = [
        "not known" if math.isnan(figure) else f"{figure:.2f} gCO2eq/kWh",
        *(str(one) for one in (intensity.name, intensity.zone, intensity.year) if one),
        f"scope: {intensity.scope}",
        f"kind: {intensity.kind}",
    ]
    yield "Carbon intensity", ", ".join(dict.fromkeys(words))
    for text, name in (
        (intensity.source, "Its source"),
        (intensity.licence, "Its licence"),
        (intensity.note, "Note"),
    ):
        if text:
            yield name, text
    if location:
        found = f"{location.name or location.zone}, found by {location.how}"
        yield "Location", found + (f" ({location.note})" if location.note else "")
    if (before := about.recalculated_from) is not None:
        was = plain(before.intensity.gco2eq_per_kwh)
        yield "Recalculated", f"the record has {was} gCO2eq/kWh, PUE {before.pue:g}"
    pue = "not known" if math.isnan(footprint.pue) else f"{footprint.pue:g}"
    yield "PUE", pue + (f" ({about.pue_source})" if about.pue_source else "")
    modelled = run.energy.modelled_joules
    if run.energy.joules > 0 and modelled > 0:
        share = percent(modelled / run.energy.joules)
        yield "Modelled, not measured", f"{share} of the energy"
    host = about.host
    words = [str(host[key]) for key in ("name", "system", "cpu") if host.get(key)]
    words += [f"Python {host['python']}"] if host.get("python") else []
    yield "Host", ", ".join(words) or "not known"
    if about.software:
        versions = (f"{name} {version}" for name, version in about.software.items())
        yield "Software", ", ".join(versions)
    allocated = Launch(about.job).share_of_cpus(
        whole(host.get("usable_cpus")), whole(host.get("logical_cpus"))
    )
    if allocated is not None:
        yield "Allocation", allocation_line(allocated)
    yield from _beside_total(run.result)
    for event in run.of("joined_result"):
        result = Result.from_dict(event)
        if result.ranks is not None:
            cost = f"{result.footprint.kwh * 1000:.3g} Wh, {result.footprint.gco2eq:.3g} g CO2eq"
            yield (
                "Job as a whole",
                f"{cost}. {ranks_line(result.extent, result.ranks, result.energy.coverage)}",
            )
            if skew := skew_line(result.ranks):
                yield "Ranks", skew
    for scheduler, ids in about.job.items():
        yield f"Job ({scheduler})", ", ".join(f"{key} {value}" for key, value in ids.items())
    yield "Carbontracker", about.version or "not known"


def _beside_total(result: Result) -> Iterator[tuple[str, str]]:
    if explained := explained_lines(result.components_watts, result.node_watts):
        yield "Whole machine", " ".join(explained)
    if result.attributed is not None:
        yield "Attributed", attribution_line(result.attributed)
