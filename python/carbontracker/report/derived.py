"""Values that all reports of one run share, derived from its record."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from carbontracker.energy.energy import MISSING
from carbontracker.model.window_totals import WindowTotals, add_known
from carbontracker.records.run_record import IntensityPeriod, intensity_periods, mean_during
from carbontracker.report.formatting import percent, plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from carbontracker.records.run_record import RunRecord


def title_of(run: RunRecord) -> str:
    """Return the command, or "a training"."""
    return " ".join(run.metadata.command) or "a training"


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
    """Return the emissions so far: at the ends of epochs, or of a command at each sample.

    Returns:
        Times (n,), s after the run began, and gCO2eq (n,). Unmeasured epochs add nothing, as
        in the run's total.
    """
    if run.epochs:
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


def why_not_comparable(run: RunRecord) -> str:
    """Return why the predictions cannot be compared with the run; ``""`` if they can."""
    if not run.forecasts:
        return "Nothing was predicted."
    if not run.complete:
        return "The record has no end of the run, so the predictions cannot be compared with it."
    done, planned = run.result.finished_epochs, run.forecasts[-1].prediction.epochs
    if done != math.ceil(planned):
        return f"The predictions are for {planned} epochs; {done} were finished."
    return ""


# ---- where figures come from ---------------------------------------------------------------


def provenance_of(run: RunRecord) -> Iterator[tuple[str, str]]:
    """Yield a name and a text for everything that the totals depend on."""
    footprint, about = run.footprint, run.metadata
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
    for scheduler, ids in about.job.items():
        yield f"Job ({scheduler})", ", ".join(f"{key} {value}" for key, value in ids.items())
    yield "Carbontracker", about.version or "not known"
