"""A recorded run as if its energy had had another price."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from carbontracker.report.derived import figure_of, mean_during, slots_of
from carbontracker.report.formatting import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carbontracker.records.recorded import RecordedFootprint, RunRecord
    from carbontracker.report.derived import Step


def priced_as(run: RunRecord, footprint: RecordedFootprint) -> RunRecord:
    """Return the run as if its energy had had another footprint, its parts in proportion.

    Predictions get its PUE and intensity, and lose the interval of their emissions, which was that
    of the intensity's own; epochs get the mean over their time, where the footprint has slots.
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
    before = f"{plain(figure_of(run.footprint))} gCO2eq/kWh, PUE {run.footprint.pue:g}"
    source = {} if footprint.pue == run.footprint.pue else {"pue_source": "asked for here"}
    data = {**run.origin.data, **source, "priced_anew": f"the record has {before}"}
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
    """Return the footprint at the mean intensity of a time; as it is if that is not known."""
    mean = mean_during(slots, start_s, end_s)
    if math.isnan(mean):
        return footprint
    return replace(footprint, intensity={**footprint.intensity, "gco2eq_per_kwh": mean})
