"""The jobs of ``carbontracker aggregate --job``: as lines of text, and as rows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from carbontracker.report.console_text import timestring
from carbontracker.report.formatting import clean, quantity
from carbontracker.report.sentences import allocation_line, numbers_of_ranks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carbontracker.records.jobs import JobCost

_MAX_LINE = 300


def job_lines(cost: JobCost) -> Iterator[str]:
    """Yield the cost of a job, and what is missing."""
    job, footprint = cost.job, cost.footprint
    ids = sorted({one for member in job.members for one in member.launch.ids})
    names = f" ({', '.join(ids)})" if ids else ""
    electricity = quantity(1000 * footprint.kwh, "Wh", 1000 * footprint.error_kwh)
    emissions = quantity(footprint.gco2eq, "g", footprint.error_gco2eq)
    yield clean(
        f"job {job.id}{names}: {_ranks(cost)}: {electricity}, {emissions} CO2eq, "
        f"{timestring(cost.seconds)}.",
        _MAX_LINE,
    )
    for number, result in enumerate(cost.results, 1):
        if result.ranks is not None and result.ranks.silent:
            which = f"attempt {number}: " if len(cost.results) > 1 else ""
            yield f"  {which}no record of {numbers_of_ranks(result.ranks.silent)}."
        if result.ranks is not None and result.ranks.unended:
            which = f"attempt {number}: " if len(cost.results) > 1 else ""
            unended = numbers_of_ranks(result.ranks.unended)
            yield f"  {which}no end in the record of {unended}: killed, or still running."
    if job.shares_of_cpus:
        yield f"  {allocation_line(*job.shares_of_cpus)}"
    ambiguous = sorted({one for member in job.members for one in member.launch.ambiguous})
    alone = len({member.id for member in job.members}) == 1
    if alone and ambiguous and next(iter(job.members)).launch.several:
        yield clean(
            f"  not joined with others: many jobs are called {', '.join(ambiguous)}; join them by "
            "hand: --job A,B",
            _MAX_LINE,
        )


def _ranks(cost: JobCost) -> str:
    last = cost.results[-1].ranks
    nodes = 1 if last is None else last.nodes
    seen = 1 if last is None else len(last.seen)
    expected = seen if last is None or last.expected is None else max(last.expected, seen)
    text = f"{seen} of {expected} rank{'s' if expected > 1 else ''} on {nodes} node"
    text += "s" if nodes > 1 else ""
    attempts = len(cost.job.attempts)
    return f"{text}, {attempts} attempts" if attempts > 1 else text


def job_row(cost: JobCost) -> dict[str, Any]:
    """Return a job as one flat object; None is unknown."""
    job, energy, footprint = cost.job, cost.energy, cost.footprint
    members = list(job.members)
    return {
        "job": job.id,
        "ids": sorted({one for member in members for one in member.launch.ids}),
        "user": next((one.user for one in members if one.user), None),
        "attempts": len(job.attempts),
        "runs": [member.id for member in members],
        "nodes": sorted({member.node for member in members}),
        "shares_of_cpus": list(job.shares_of_cpus),
        "seconds": None if math.isnan(cost.seconds) else cost.seconds,
        "joules": energy.joules,
        "error_joules": energy.error_joules,
        "kwh": footprint.kwh,
        "error_kwh": footprint.error_kwh,
        "gco2eq": footprint.gco2eq,
        "coverage": energy.coverage,
        "ranks": [result.ranks.to_dict() if result.ranks else None for result in cost.results],
    }
