"""The result of a job, and of a node, beside the result of one of its ranks."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from carbontracker.carbon.footprint import footprint_of_slots, together
from carbontracker.energy.energy import MISSING
from carbontracker.jobs.reduction import energy_of, energy_of_devices, epochs_of_any
from carbontracker.model.epoch import Epoch
from carbontracker.model.job import JOB, Ranks
from carbontracker.model.work import add_in_turn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carbontracker.carbon.footprint import Footprint, Slot
    from carbontracker.model.job import NodeReport
    from carbontracker.model.result import Result


def joined_result(
    own: Result, nodes: Sequence[NodeReport], expected: int | None, extent: str = JOB
) -> Result:
    """Return the result of all nodes, with PUE and carbon intensity of one rank's own result.

    Args:
        own: of this rank. Its emissions are spread over time as those of all are taken to be.
            Of work that is not known of epochs, each rank has done as much.
        nodes: what they have told.
        expected: number of ranks.
        extent: what the result is of.
    """
    energy = energy_of_devices(nodes)
    epochs = []
    for place, one in enumerate(epochs_of_any(nodes)):
        mine = own.epochs[min(place, len(own.epochs) - 1)] if own.epochs else None
        spent = energy_of(one)
        footprint = own.footprint if mine is None else mine.footprint
        epochs.append(
            Epoch(
                one.seconds,
                spent,
                at_energy(footprint, spent.joules, spent.error_joules),
                one.index,
                one.finished,
                start_s=math.nan if mine is None else mine.start_s,
                work=one.work,
            )
        )
    costs = sorted((cost for node in nodes for cost in node.ranks), key=lambda cost: cost.rank)
    return replace(
        own,
        seconds=math.fsum(epoch.seconds for epoch in epochs),
        energy=energy,
        footprint=_sum(own.footprint, epochs, energy.error_joules),
        final=True,
        epochs=tuple(epochs),
        between_epochs=MISSING,
        work=add_in_turn(epoch.work for epoch in epochs).or_else(own.work.times(len(costs))),
        extent=extent,
        ranks=Ranks(expected, tuple(costs), len(nodes)),
    )


def at_energy(footprint: Footprint, joules: float, error_joules: float) -> Footprint:
    """Return the footprint of other energy that was drawn at the same times."""
    known = math.fsum(slot.joules for slot in footprint.slots)
    if not (known > 0 and joules >= 0):
        return footprint.of_joules(joules, error_joules)
    slots = [replace(slot, joules=slot.joules * joules / known) for slot in footprint.slots]
    return _of_slots(footprint, slots, error_joules)


def _sum(own: Footprint, epochs: Sequence[Epoch], error_joules: float) -> Footprint:
    known = [epoch for epoch in epochs if not math.isnan(epoch.energy.joules)]
    slots = [slot for epoch in known for slot in epoch.footprint.slots]
    if not slots:
        joules = math.fsum(epoch.energy.joules for epoch in known) if known else math.nan
        return own.of_joules(joules, error_joules)
    return _of_slots(own, together(slots), error_joules)


def _of_slots(own: Footprint, slots: Sequence[Slot], error_joules: float) -> Footprint:
    return footprint_of_slots(slots, own.pue, location=own.location, error_joules=error_joules)
