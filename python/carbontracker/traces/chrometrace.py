"""Traces in Chrome's JSON format, as torch.profiler writes them and Perfetto opens them.

torch.profiler (Kineto) counts in microseconds from ``baseTimeNanoseconds``; their sum is
CLOCK_REALTIME, nanoseconds since 1970: it stamps with the processor's counter and converts with
pairs of both that it reads at the beginning and at the end of a profile. Older versions write no
base; their microseconds are since 1970 themselves.
"""

from __future__ import annotations

import gzip
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from carbontracker.traces.attribution import Power
from carbontracker.traces.powertrace import PowerTrace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from carbontracker.traces.powertrace import Slice

    Event = dict[str, Any]

BASE = "baseTimeNanoseconds"
ABOUT = "carbontracker"
"""Key of what a trace says of our part in it; also the category of our slices."""
PID = 5_000_000
"""The process our tracks appear under: above the highest number that Linux gives one (2^22)."""


def read_trace(path: Path) -> dict[str, Any]:
    """Return a trace, from JSON or gzipped JSON.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no trace.
    """
    raw = path.read_bytes()
    try:
        data = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
    except (ValueError, EOFError, gzip.BadGzipFile) as error:
        message = f"{path} is no trace: {error}"
        raise ValueError(message) from error
    if isinstance(data, list):  # the format's other shape: nothing but events
        data = {"traceEvents": data}
    if not isinstance(data, dict) or not isinstance(data.get("traceEvents"), list):
        message = f"{path} is no trace: it has no traceEvents"
        raise ValueError(message)
    return data


def write_trace(data: dict[str, Any], path: Path) -> None:
    """Write a trace; gzipped if the name ends in ``.gz``."""
    text = json.dumps(data, separators=(",", ":")).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


def base_of(data: dict[str, Any]) -> int:
    """Return the moment from which a trace counts, ns since 1970, UTC."""
    base = data.get(BASE, 0)
    return base if isinstance(base, int) else 0


def slices_of(data: dict[str, Any]) -> Iterator[Event]:
    """Yield the slices of a trace that are not ours."""
    for event in data["traceEvents"]:
        if isinstance(event, dict) and event.get("ph") == "X" and event.get("pid") != PID:
            yield event


def moments_of(data: dict[str, Any], slices: list[Event]) -> tuple[Any, Any]:
    """Return starts and ends (n,) of slices, ns since 1970, UTC."""
    starts = np.round(np.array([event.get("ts", 0) for event in slices], float) * 1e3)
    lengths = np.round(np.array([event.get("dur", 0) for event in slices], float) * 1e3)
    first = starts.astype(np.int64) + base_of(data)
    return first, first + lengths.astype(np.int64)


def span_of(data: dict[str, Any]) -> tuple[int, int]:
    """Return from when to when a trace has slices that are not ours, ns since 1970.

    Raises:
        ValueError: it has none.
    """
    starts, ends = moments_of(data, list(slices_of(data)))
    if not len(starts):
        message = "the trace has no slices (events of phase X) to lay power over"
        raise ValueError(message)
    return int(starts.min()), int(ends.max())


# ---- our part of a trace ---------------------------------------------------------------------


def with_power(data: dict[str, Any], trace: PowerTrace) -> dict[str, Any]:
    """Return a trace with the power, windows and epochs of a run in it, on its own clock.

    What was there of an earlier run's is replaced.
    """
    base_ns = base_of(data)
    tracks = {device: _track_name(trace, device) for device in trace.devices}
    others = [
        event
        for event in data["traceEvents"]
        if not (isinstance(event, dict) and event.get("pid") == PID)
    ]
    unknown = {
        device: [[int(a), int(b)] for a, b in _unknown(power)]
        for device, power in trace.devices.items()
    }
    about = {
        **trace.about,
        "clock": {"is": "CLOCK_REALTIME: baseTimeNanoseconds + 1000 ts", **trace.clock},
        "tracks": {name: device for device, name in tracks.items()},
        "unknown_ns": {device: stretches for device, stretches in unknown.items() if stretches},
    }
    events = [
        *others,
        *_names(trace),
        *(
            event
            for device, power in trace.devices.items()
            for event in _counters(power, tracks[device], base_ns)
        ),
        *_slices(trace.slices, base_ns),
    ]
    return {**data, BASE: base_ns, ABOUT: about, "traceEvents": events}


def _track_name(trace: PowerTrace, device: str) -> str:
    label = trace.labels.get(device)
    return f"{device} {label}" if label else device  # viewers add the unit, the argument's name


def _ts(moment_ns: int, base_ns: int) -> float:
    return round((moment_ns - base_ns) / 1e3, 3)


def _named(what: str, value: object, tid: int = 0) -> Event:
    key = "sort_index" if what.endswith("sort_index") else "name"
    return {"ph": "M", "name": what, "pid": PID, "tid": tid, "ts": 0, "args": {key: value}}


def _names(trace: PowerTrace) -> Iterator[Event]:
    yield _named("process_name", f"carbontracker: power of {trace.about.get('host') or 'this run'}")
    yield _named("process_sort_index", -1)
    kinds = {slice_.kind for slice_ in trace.slices}
    if "epoch" in kinds:
        yield _named("thread_name", "epochs", 1)
    for tid in sorted({tid for tid, _ in _laid_out(trace.slices)} - {1}):
        yield _named("thread_name", "windows", tid)


def _unknown(power: Power) -> Any:
    lost = np.isnan(power.watts)
    return np.stack([power.edges_ns[:-1][lost], power.edges_ns[1:][lost]], axis=1)


def _counters(power: Power, name: str, base_ns: int) -> Iterator[Event]:
    """Yield power at each edge, until the next one; 0 at the end, and where ``unknown_ns`` says."""
    if not len(power.watts):
        return
    drawn = [*np.nan_to_num(power.watts).tolist(), 0.0]
    for moment_ns, watts in zip(power.edges_ns.tolist(), drawn, strict=True):
        yield {
            "ph": "C",
            "name": name,
            "pid": PID,
            "tid": 0,
            "ts": _ts(moment_ns, base_ns),
            "args": {"watts": watts},
        }


def _laid_out(slices: tuple[Slice, ...]) -> Iterator[tuple[int, Slice]]:
    """Yield slices with the thread they go to: on one, slices are nested or apart."""
    threads: dict[int, list[int]] = {}
    for one in sorted(slices, key=lambda s: (s.start_ns, -s.end_ns)):
        tid = 1 if one.kind == "epoch" else 2
        while True:
            ends = threads.setdefault(tid, [])
            while ends and ends[-1] <= one.start_ns:
                ends.pop()
            if not ends or one.end_ns <= ends[-1]:
                break
            tid += 1
        ends.append(one.end_ns)
        yield tid, one


def _slices(slices: tuple[Slice, ...], base_ns: int) -> Iterator[Event]:
    for tid, one in _laid_out(slices):
        joules = None if math.isnan(one.joules) else one.joules
        yield {
            "ph": "X",
            "cat": f"{ABOUT}.{one.kind}",
            "name": one.name,
            "pid": PID,
            "tid": tid,
            "ts": _ts(one.start_ns, base_ns),
            "dur": _ts(one.end_ns, one.start_ns),
            "args": {"joules": joules, **one.about},
        }


def power_in(data: dict[str, Any]) -> PowerTrace:
    """Return the power that a trace has, as ``with_power`` put it there.

    Raises:
        ValueError: it has none.
    """
    about = data.get(ABOUT)
    tracks = about.get("tracks") if isinstance(about, dict) else None
    if not isinstance(about, dict) or not isinstance(tracks, dict):
        message = (
            "the trace has no power in it: name the run with --run, or lay it in with "
            "`carbontracker trace RUN --merge TRACE --out OUT`"
        )
        raise ValueError(message)
    gathered: dict[str, list[tuple[float, float]]] = {}
    for event in data["traceEvents"]:
        if event.get("ph") == "C" and event.get("pid") == PID and event.get("name") in tracks:
            point = (event["ts"], event["args"]["watts"])
            gathered.setdefault(tracks[event["name"]], []).append(point)
    devices = {}
    for device, points in gathered.items():
        table = np.array(sorted(points))
        edges = np.round(table[:, 0] * 1e3).astype(np.int64) + base_of(data)
        watts = table[:-1, 1].copy()
        for start, end in about.get("unknown_ns", {}).get(device, []):
            watts[(edges[:-1] >= start) & (edges[:-1] < end)] = np.nan
        devices[device] = Power(edges, watts)
    return PowerTrace(devices, {}, (), about.get("clock", {}), about)
