"""Power by device over time, with windows and epochs, in wall-clock time.

A record has E(t) on a thinned grid. A file of samples (``trace=``) has each reading.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from carbontracker.records.clocks import Anchor, disagreement_ns, nearest
from carbontracker.traces.attribution import Power

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carbontracker.records.run_record import RunRecord

MILLISECOND_NS = 1_000_000


@dataclass(frozen=True)
class Slice:
    """A window or an epoch."""

    kind: str
    """``epoch`` or ``window``."""
    name: str
    start_ns: int
    """Since 1970, UTC."""
    end_ns: int
    joules: float
    about: dict[str, Any] = field(default_factory=dict)
    """Further fields, for the viewer."""


@dataclass(frozen=True)
class PowerTrace:
    """Power by device in wall-clock time, ns since 1970, UTC."""

    devices: dict[str, Power]
    """By id; only devices that are in the totals."""
    labels: dict[str, str]
    """The name of each device, by id."""
    slices: tuple[Slice, ...]
    clock: dict[str, Any]
    """The source of the wall-clock time: ``monotonic_ns`` and ``unix_ns`` of one moment; the range
    of these pairs in this run, ``disagreement_ns``; and ``exact`` (False: the record has only the
    time of its start, in milliseconds)."""
    about: dict[str, Any]
    """Id, host and version of the run."""

    @property
    def span_ns(self) -> tuple[int, int]:
        """Return start and end of the power.

        Raises:
            ValueError: the trace has no power.
        """
        edges = [power.edges_ns for power in self.devices.values() if len(power.watts)]
        if not edges:
            message = "the run has no power over time: no sensor was read, or it was killed early"
            raise ValueError(message)
        return min(int(one[0]) for one in edges), max(int(one[-1]) for one in edges)


def power_of_record(run: RunRecord, near_ns: int | None = None) -> PowerTrace:
    """Return the power in the record of a run.

    Args:
        run: read with its series and epochs.
        near_ns: if the wall clock was set during the run, its setting at this time counts.
    """
    series = run.series
    began_unix_ns = round(run.started.timestamp() * 1e3) * MILLISECOND_NS
    if series.began_ns is not None and series.anchors:
        anchor = nearest(series.anchors, began_unix_ns if near_ns is None else near_ns)
        zero_ns, exact = series.began_ns + anchor.offset_ns, True
    else:
        anchor, zero_ns, exact = Anchor(0, 0), began_unix_ns, False
    edges = zero_ns + np.round(np.asarray(series.t_s) * 1e9).astype(np.int64)
    last = np.append(np.diff(edges) > 0, True)[: len(edges)]  # of several values at one time
    edges, devices = edges[last], {}
    for device, column in series.joules.items():
        joules = np.asarray(column)[last]
        if len(edges) > 1:
            devices[device] = Power(edges, np.diff(joules) / (np.diff(edges) / 1e9))
    return PowerTrace(
        devices=devices,
        labels={sensor.id: sensor.name for sensor in run.metadata.sensors},
        slices=tuple(_slices(run, zero_ns)),
        clock=_clock(anchor, disagreement_ns(series.anchors), exact),
        about={
            "run_id": run.id,
            "host": run.metadata.host.get("name"),
            "version": run.metadata.version,
        },
    )


def _clock(anchor: Anchor, disagreement: int, exact: bool) -> dict[str, Any]:
    given = anchor._asdict() if exact else {}
    return {**given, "disagreement_ns": disagreement, "exact": exact}


def _slices(run: RunRecord, zero_ns: int) -> Iterator[Slice]:
    def unix_ns(seconds: float) -> int:
        return zero_ns + round(seconds * 1e9)

    for epoch in run.epochs:
        if math.isfinite(epoch.start_s + epoch.seconds):
            about = {"finished": epoch.finished, "final": epoch.final}
            start_ns, end_ns = unix_ns(epoch.start_s), unix_ns(epoch.end_s)
            name = f"epoch {epoch.index}"
            yield Slice("epoch", name, start_ns, end_ns, epoch.energy.joules, about)
    for windows in run.windows:
        one_of = {"one_of": windows.every} if windows.every > 1 else {}
        for start_s, seconds, joules in windows.kept:
            start_ns = unix_ns(start_s)
            end_ns = start_ns + round(seconds * 1e9)
            yield Slice("window", windows.name or "window", start_ns, end_ns, joules, one_of)
