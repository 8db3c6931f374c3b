"""What a recorded run would have cost under another intensity, scope, PUE or place.

Nothing is measured again: the record has the energy by slots of time. Within a slot power is taken
as constant, so that it can be cut where another provider's slots begin.
"""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timezone
from typing import TYPE_CHECKING, Any

from carbontracker.carbon.footprint import Footprint, Slot, add_footprints, footprint_of_slots
from carbontracker.constants import JOULES_PER_KWH
from carbontracker.data import WORLD
from carbontracker.intensity.providers import provider
from carbontracker.intensity.selection import table_fallback
from carbontracker.intensity.series import FORECAST_KINDS, Series, merged
from carbontracker.location.location import locate
from carbontracker.model.prediction import Forecast
from carbontracker.records.reader import EPOCHS, add_epoch
from carbontracker.records.run_record import intensity_periods, mean_during
from carbontracker.times import parse_utc

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from carbontracker.intensity.base import Intensity, Provider
    from carbontracker.model.epoch import Epoch
    from carbontracker.records.run_record import RunRecord

    Event = Mapping[str, Any]


def recalculate(
    events: Iterable[Event],
    *,
    intensity: float | Provider | None = None,
    scope: str | None = None,
    pue: float | None = None,
    location: str | None = None,
) -> Footprint:
    """Return the footprint of a recorded run under other assumptions; what is not given stays.

    Args:
        events: of one run, as the record has them; those after a kill are not missed.
        intensity: a figure, gCO2eq/kWh, or a provider, which is asked for the run's own time.
        scope: of the table's figures, ``lifecycle``, ``direct`` or ``consumption``.
        pue: power usage effectiveness, ratio.
        location: country, ISO code or zone.

    Raises:
        ValueError: the events hold no energy, or are damaged; an impossible figure, scope or PUE;
            a scope beside an intensity; figures of more than one scope.
        UnknownLocation: the location names no place.
        IntensityUnavailable: neither the provider nor the table has a figure.
    """
    if scope is not None and intensity is not None:
        raise ValueError("a scope chooses among the table's figures: leave it or the intensity out")
    recorded = _recorded(list(events))
    slots: Sequence[Slot] = recorded.slots
    found = recorded.location if location is None else locate(location, {})
    chosen = _provider(intensity, scope, moved=location is not None)
    if chosen is not None:
        slots = _under(slots, chosen, found.zone if found else WORLD)
    return footprint_of_slots(
        slots,
        recorded.pue if pue is None else pue,
        location=found,
        error_joules=recorded.error_kwh * JOULES_PER_KWH / recorded.pue,
    )


def recalculated_as(run: RunRecord, footprint: Footprint) -> RunRecord:
    """Return the run with the same energy and another footprint, for all of its parts.

    Epochs get the mean intensity over their time where the footprint has slots. Predictions get its
    PUE and intensity, and lose the interval of their emissions, which belonged to the intensity of
    the record. So did the advice, which is left out.
    """
    periods = intensity_periods(run, footprint)

    def during(epoch: Epoch) -> Footprint:
        mean = mean_during(periods, epoch.start_s, epoch.end_s)
        known = footprint if math.isnan(mean) else footprint.at_figure(mean)
        return known.of_joules(epoch.energy.joules, epoch.energy.error_joules)

    metadata = replace(run.metadata, recalculated_from=run.footprint)
    if footprint.pue != run.footprint.pue:
        metadata = replace(metadata, pue_source="given for this report")
    result = replace(
        run.result,
        footprint=footprint,
        epochs=tuple(replace(one, footprint=during(one)) for one in run.epochs),
        forecasts=tuple(
            Forecast(one.prediction, footprint.of_joules(one.prediction.joules))
            for one in run.forecasts
        ),
    )
    events = tuple(one for one in run.events if one["event"] != "advice")
    return replace(run, metadata=metadata, result=result, events=events)


def _recorded(events: Sequence[Event]) -> Footprint:
    """Return the footprint of the run, with the slots that were measured.

    Raises:
        ValueError: the events hold no energy, or are damaged.
    """
    try:
        parts = _footprints(events)
        # As in the run, what was not measured widens the error and undoes nothing.
        slots = tuple(one for part in parts for one in part.slots if not math.isnan(one.joules))
        if slots:
            return replace(add_footprints(parts), slots=slots)
    except (AttributeError, KeyError, TypeError, ValueError, ArithmeticError) as error:
        message = (
            "the record is damaged and cannot be recalculated: `carbontracker check` shows where "
            f"({type(error).__name__}: {error})"
        )
        raise ValueError(message) from error
    raise ValueError("the record has no energy to recalculate: was the run cut short?")


def _footprints(events: Sequence[Event]) -> list[Footprint]:
    """Return the footprint of the whole run, or of its epochs if it did not come to its end."""
    ends = [event for event in events if event.get("event") == "run_finished"]
    whole = [_footprint(end, events[0]) for end in ends[-1:]]
    if whole and not math.isnan(whole[0].kwh):
        return whole
    epochs: list[Event] = []
    for event in events:
        if event.get("event") in EPOCHS:
            add_epoch(epochs, event)
    found = (_footprint(event, event) for event in epochs)
    return [one for one in found if not math.isnan(one.kwh)]


def _footprint(event: Event, first: Event) -> Footprint:
    """Return the footprint of an event; one without slots gets one, from the first event on."""
    found = Footprint.from_dict(event["footprint"], strict=True)
    if found.slots or math.isnan(found.kwh):
        return found
    start, end = (parse_utc(one["time"], naive=timezone.utc) for one in (first, event))
    intensity = replace(found.intensity, start=None, end=None)
    slot = Slot(start, end, found.kwh * JOULES_PER_KWH / found.pue, intensity)
    return replace(found, slots=(slot,))


def _provider(
    intensity: float | Provider | None, scope: str | None, *, moved: bool
) -> Provider | None:
    """Return the provider to recalculate with; None to keep the intensities of the record."""
    if isinstance(intensity, (int, float)):
        return provider("constant", gco2eq_per_kwh=intensity)
    if intensity is not None:
        return intensity
    if scope is not None or moved:
        return provider("table", scope=scope or "lifecycle")
    return None


def _under(slots: Sequence[Slot], chosen: Provider, zone: str) -> list[Slot]:
    """Return the energy anew by the slots of another provider."""
    first, last = min(slot.start for slot in slots), max(slot.end for slot in slots)
    figures = chosen.between(zone, first, last)
    if len(figures) == 1 and figures[0].start is None:
        return [Slot(slot.start, slot.end, slot.joules, figures[0]) for slot in slots]
    series = Series(
        past=merged((), [figure for figure in figures if figure.kind not in FORECAST_KINDS]),
        forecast=merged((), [figure for figure in figures if figure.kind in FORECAST_KINDS]),
        fallback=table_fallback(zone, figures[0].scope) if figures else None,
        reason=f"{chosen.name} has no figure for that time",
    )
    return [part for slot in slots for part in _cut(slot, series.cover(slot.start, slot.end, last))]


def _cut(slot: Slot, figures: Sequence[Intensity]) -> list[Slot]:
    """Return the slot cut where the figures change, its energy shared by time."""
    seconds = (slot.end - slot.start).total_seconds()
    parts = []
    for figure in figures:
        start = max(slot.start, figure.start or slot.start)
        end = min(slot.end, figure.end or slot.end)
        share = (end - start).total_seconds() / seconds if seconds > 0 else 1 / len(figures)
        parts.append(Slot(start, end, slot.joules * share, figure))
    return parts
