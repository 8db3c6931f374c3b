"""The jobs of a fleet as one table: Parquet files by date and cluster, for engines that exist.

One row a job. The queries are in ``docs/fleet.md``.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from carbontracker.energy.energy import kind_of
from carbontracker.extras import optional_module
from carbontracker.model.measurement import GPU
from carbontracker.model.run_ending import FAILED, FINISHED, KILLED
from carbontracker.records.jobs import cost_of, jobs_of, member

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from carbontracker.carbon.footprint import Footprint
    from carbontracker.energy.energy import Energy
    from carbontracker.records.jobs import Job, Member
    from carbontracker.records.run_record import RunRecord

    Row = dict[str, Any]

COLUMNS = {
    "job": str,
    "ids": str,
    "user_name": str,
    "project": str,
    "stage": str,
    "script": str,
    "started": datetime,
    "seconds": float,
    "attempts": int,
    "runs": int,
    "nodes": int,
    "outcome": str,
    "resumed": bool,
    "joules": float,
    "error_joules": float,
    "kwh": float,
    "error_kwh": float,
    "gco2eq": float,
    "coverage": float,
    "gpu_model": str,
    "gpus": int,
    "gpu_joules": float,
    "gpu_hours": float,
    "share_of_cpus": float,
    "zone": str,
    "version": str,
}
"""Columns of a file and their types; ``date`` and ``cluster`` are in the names of its folders."""
NO_CLUSTER = "none"
"""Where no scheduler names one."""


class Cost(NamedTuple):
    """What a job has cost."""

    seconds: float
    energy: Energy
    footprint: Footprint


@dataclass(frozen=True)
class Brief:
    """What the table needs of a run."""

    member: Member
    cost: Cost
    outcome: str
    project: str
    stage: str
    script: str
    continues: str
    zone: str
    version: str
    gpus: tuple[tuple[str, str], ...]
    """What names each on its machine, and its model."""
    marks_only: bool


def brief(run: RunRecord) -> Brief:
    """Return what the table needs of a run, which is little."""
    about, result = run.metadata, run.result
    return Brief(
        member(run),
        Cost(result.seconds, result.energy, result.footprint),
        run.outcome,
        about.project,
        about.stage,
        about.script,
        about.parent,
        result.footprint.intensity.zone,
        about.version,
        tuple((one.thing, one.name) for one in about.sensors if one.counted and one.kind == GPU),
        about.marks_only,
    )


def job_rows(runs: Iterable[RunRecord]) -> Iterator[Row]:
    """Yield one row a job, by their beginnings; None is unknown. Commands are left out.

    The records of jobs of several runs are read again.

    Raises:
        NoSuchRun, OSError: a record is not there any more.
    """
    known: dict[str, Brief] = {}
    for run in runs:
        if not run.metadata.command and (run.id not in known or run.complete):
            known[run.id] = brief(run)
    for job in jobs_of(one.member for one in known.values()):
        yield row_of(job, [known[one.id] for one in job.members])


def row_of(job: Job, runs: Sequence[Brief]) -> Row:
    """Return the row of a job."""
    first, last = runs[0], runs[-1]
    cost = first.cost
    if len(runs) > 1:
        joined = cost_of(job)
        cost = Cost(joined.seconds, joined.energy, joined.footprint)
    energy, footprint = cost.energy, cost.footprint
    gpus = {(one.member.node, thing): model for one in runs for thing, model in one.gpus}
    models = [model for model, _ in Counter(gpus.values()).most_common()]
    drawn = [
        part.joules
        for name, part in energy.by_device.items()
        if kind_of(name) == GPU and not math.isnan(part.joules)
    ]
    shares = job.shares_of_cpus
    row = {
        "job": job.id,
        "ids": ", ".join(sorted({one for run in runs for one in run.member.launch.ids})),
        "user_name": next((run.member.user for run in runs if run.member.user), ""),
        "project": first.project,
        "stage": first.stage,
        "script": first.script,
        "started": datetime.fromtimestamp(min(run.member.start_s for run in runs), timezone.utc),
        "seconds": cost.seconds,
        "attempts": len(job.attempts),
        "runs": len(runs),
        "nodes": len({run.member.node for run in runs}),
        "outcome": _outcome(job, runs),
        "resumed": len(job.attempts) > 1 or bool(first.continues),
        "joules": energy.joules,
        "error_joules": energy.error_joules,
        "kwh": footprint.kwh,
        "error_kwh": footprint.error_kwh,
        "gco2eq": footprint.gco2eq,
        "coverage": energy.coverage,
        "gpu_model": " + ".join(models),
        "gpus": len(gpus),
        "gpu_joules": math.fsum(drawn) if drawn else math.nan,
        "gpu_hours": cost.seconds / 3600 * len(gpus),
        "share_of_cpus": shares[0] if shares else math.nan,
        "zone": last.zone,
        "version": last.version,
        "date": f"{datetime.fromtimestamp(first.member.start_s, timezone.utc):%Y-%m-%d}",
        "cluster": _cluster(runs),
    }
    return {
        name: None if value == "" or (isinstance(value, float) and math.isnan(value)) else value
        for name, value in row.items()
    }


def _outcome(job: Job, runs: Sequence[Brief]) -> str:
    """Return how the last attempt ended: well if all of its ranks did."""
    last = {one.id for one in job.attempts[-1].members}
    ends = {run.outcome for run in runs if run.member.id in last}
    for bad in (FAILED, KILLED):
        if bad in ends:
            return bad
    return min(ends - {FINISHED}, default=FINISHED)


def _cluster(runs: Sequence[Brief]) -> str:
    said = (one for run in runs for one in run.member.launch.said.values())
    return next((one["cluster"] for one in said if one.get("cluster")), NO_CLUSTER)


def write_parquet(rows: Iterable[Row], directory: Path) -> int:
    """Write rows to ``DIRECTORY/date=2026-03-01/cluster=NAME/jobs.parquet``; return their number.

    A file that is there already is replaced as a whole. Files of other dates and clusters stay.

    Raises:
        MissingExtra: pyarrow is not installed.
        OSError: a file cannot be written.
    """
    arrow = optional_module("pyarrow", "parquet")
    parquet = optional_module("pyarrow.parquet", "parquet")
    kinds = {
        str: arrow.string(),
        int: arrow.int64(),
        float: arrow.float64(),
        bool: arrow.bool_(),
        datetime: arrow.timestamp("us", tz="UTC"),
    }
    schema = arrow.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])
    parts: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        parts.setdefault((row["date"], row["cluster"]), []).append(row)
    for (date, cluster), found in parts.items():
        folder = directory / f"date={date}" / f"cluster={quote(cluster, safe='')}"
        folder.mkdir(parents=True, exist_ok=True)
        data = {name: [row[name] for row in found] for name in COLUMNS}
        fresh = folder / f".jobs.{os.getpid()}.parquet"
        parquet.write_table(arrow.table(data, schema=schema), fresh)
        fresh.replace(folder / "jobs.parquet")
    return sum(map(len, parts.values()))
