"""Traces in Chrome's JSON format, which torch.profiler writes and Perfetto opens.

torch.profiler (Kineto) writes microseconds from ``baseTimeNanoseconds``; the sum is
CLOCK_REALTIME, nanoseconds since 1970. It reads the processor's time-stamp counter, and converts
with pairs of both clocks from the beginning and the end of a profile. Older versions write no base;
their microseconds are since 1970.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import re
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from carbontracker.guard import logger
from carbontracker.json_values import jsonable, mapping, mappings, number
from carbontracker.records.output import write_output
from carbontracker.traces.attribution import Power
from carbontracker.traces.power import PowerTrace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from carbontracker.traces.power import Slice

    Event = dict[str, Any]

BASE_TIME_KEY = "baseTimeNanoseconds"
METADATA_KEY = "carbontracker"
"""Key of our metadata in a trace; also the category of our slices."""
EVENTS_KEY = "traceEvents"
MAX_BYTES = 2**30
"""Of a decompressed trace: its objects take ten times as much memory."""
MAX_RATIO = 200
"""Ratio of the decompressed to the compressed size."""
_MAX_SMALL_BYTES = 2**26
_MAX_REASON = 200
_MAX_DIGITS = 400
"""Of an integer: no time in a trace is longer."""
_MAX_NS = 3e18
"""Of times since 1970 and of lengths, ns: their sums fit in 64 bits."""
POWER_PID = 5_000_000
"""The process id of our tracks: above the highest process id of Linux (2^22)."""


def read_trace(path: Path) -> dict[str, Any]:
    """Return a trace, from JSON or gzipped JSON.

    Every file that Chrome and Perfetto open is read, also an array without its end, with a comma
    before the end, or truncated within an event. So is the invalid JSON of profilers: ``inf`` and
    ``nan`` (as null), undefined escapes, control characters, bytes that are not UTF-8.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not a trace, or larger than ``MAX_BYTES``.
    """
    try:
        data = _parsed(_read_text(path))
    except RecursionError as error:
        message = f"{path} is not a trace: its objects are nested too deeply"
        raise ValueError(message) from error
    except (ValueError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        message = f"{path} is not a trace: {str(error)[:_MAX_REASON]}"
        raise ValueError(message) from error
    if isinstance(data, list):  # the other form of the format: only the events
        data = {EVENTS_KEY: data}
    if not isinstance(data, dict) or not isinstance(data.get(EVENTS_KEY), list):
        message = f"{path} is not a trace: it has no traceEvents"
        raise ValueError(message)
    events = mappings(data[EVENTS_KEY])
    if data[EVENTS_KEY] and not events:
        message = f"{path} is not a trace: its events are not objects"
        raise ValueError(message)
    untimed = sum(event.get("ph") == "X" and not _has_times(event) for event in events)
    lost = len(data[EVENTS_KEY]) - len(events) + untimed
    if lost:
        logger.warning(
            "carbontracker: %s: %d event(s) are ignored: they are not objects, or have no valid "
            "time",
            path,
            lost,
        )
    data[EVENTS_KEY] = events
    return data


def _read_text(path: Path) -> str:
    with path.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        message = f"it is larger than {MAX_BYTES // 2**20} MiB, the limit for a trace"
        raise ValueError(message)
    if raw[:2] == b"\x1f\x8b":
        raw = _decompressed(raw)
    encoding = json.detect_encoding(raw)
    return raw.decode(encoding, "replace").removeprefix("\ufeff")


def _decompressed(raw: bytes) -> bytes:
    """Return the decompressed bytes, in bounded memory.

    Raises:
        ValueError, EOFError, zlib.error, gzip.BadGzipFile: the data are damaged, or too large.
    """
    source, parts, size = io.BytesIO(raw), [], 0
    with gzip.GzipFile(fileobj=source) as packed:
        while part := packed.read(_MAX_SMALL_BYTES // 64):
            parts.append(part)
            size += len(part)
            # A decompression bomb has a ratio of a thousand, a trace one of ten to thirty.
            limit = max(_MAX_SMALL_BYTES, MAX_RATIO * source.tell())
            if size > min(MAX_BYTES, limit):
                message = f"it decompresses to more than {size // 2**20} MiB, the limit for a trace"
                raise ValueError(message)
    return b"".join(parts)


def _parsed(text: str) -> Any:
    """Return the content of a text; parse it strictly if possible.

    Raises:
        ValueError, RecursionError: the text cannot be parsed.
    """
    try:
        return json.loads(text, parse_constant=_to_null)
    except ValueError:
        pass
    try:
        return _parse_leniently(text)
    except ValueError:
        return _parse_leniently(_INVALID_JSON.sub(_repaired, text))


_INVALID_JSON = re.compile(
    r'"[^"\\]*(?:\\.[^"\\]*)*"|(?<![\w.])[-+]?(?:inf|nan)(?:inity)?(?![\w.])',
    re.DOTALL | re.IGNORECASE,
)
"""Strings, which may have invalid escapes, and numbers outside of strings that are not JSON."""
_ESCAPE = re.compile(r"\\(?:u(?![0-9a-fA-F]{4})|(?!u).)", re.DOTALL)


def _to_null(_: str) -> None:
    """Replace NaN and Infinity, which JSON does not have."""


def _repaired(found: re.Match[str]) -> str:
    text = found[0]
    if not text.startswith('"'):
        return "null"
    if "\\" not in text:
        return text
    return _ESCAPE.sub(lambda one: one[0] if one[0][1] in '"\\/bfnrt' else f"\\{one[0]}", text)


def _parse_int(text: str) -> int | None:
    return int(text) if len(text) <= _MAX_DIGITS else None


_LENIENT = json.JSONDecoder(strict=False, parse_constant=_to_null, parse_int=_parse_int)


def _parse_leniently(text: str) -> Any:
    """Return the events and the other fields of a text, up to its possibly truncated end."""
    start = _skip_space(text, 0)
    if text[start : start + 1] == "[":
        return _events(text, start + 1)[0]
    if text[start : start + 1] != "{":
        return _LENIENT.decode(text)  # its exception names the error
    data: dict[str, Any] = {}
    at = start + 1
    while True:
        at = _skip_space(text, at, ",")
        if at >= len(text) or text[at] == "}":
            return data
        try:
            key, at = _LENIENT.raw_decode(text, at)
            at = _skip_space(text, at, ":")
            if key == EVENTS_KEY and text[at : at + 1] == "[":
                data[EVENTS_KEY], at = _events(text, at + 1)
            else:
                data[str(key)], at = _LENIENT.raw_decode(text, at)
        except json.JSONDecodeError as error:
            if EVENTS_KEY in data and _is_truncated(text, error):
                return data
            raise


def _events(text: str, at: int) -> tuple[list[Any], int]:
    """Return the values of an array that starts at ``at``, and the position of its end."""
    events: list[Any] = []
    while True:
        at = _skip_space(text, at, ",")
        if at >= len(text):
            break
        if text[at] == "]":
            return events, at + 1
        try:
            event, at = _LENIENT.raw_decode(text, at)
        except json.JSONDecodeError as error:
            if events and _is_truncated(text, error):
                break
            raise
        events.append(event)
    return events, len(text)


def _skip_space(text: str, at: int, more: str = "") -> int:
    found = _SPACE.match(text, at) if not more else _SPACES[more].match(text, at)
    return found.end() if found else at


_SPACE = re.compile(r"\s*")
_SPACES = {mark: re.compile(rf"[\s{mark}]*") for mark in ",:"}


def _is_truncated(text: str, error: json.JSONDecodeError) -> bool:
    """Return whether the parser failed because the text is truncated."""
    return error.msg.startswith("Unterminated string") or "}" not in text[error.pos :]


def write_trace(data: dict[str, Any], path: Path) -> None:
    """Write a trace; gzipped if the name ends in ``.gz``. Numbers that are not finite become null.

    Raises:
        OSError: the file cannot be written.
        ValueError: the objects of the trace are nested too deeply, or a recording is there.
    """
    try:
        try:
            text = json.dumps(data, separators=(",", ":"), allow_nan=False).encode()
        except ValueError:
            text = json.dumps(jsonable(data), separators=(",", ":"), allow_nan=False).encode()
    except RecursionError as error:
        message = f"{path} is not written: the objects of the trace are nested too deeply"
        raise ValueError(message) from error
    write_output(path, gzip.compress(text) if path.suffix == ".gz" else text)


def base_time_ns(data: dict[str, Any]) -> int:
    """Return the zero of the times in a trace, ns since 1970, UTC."""
    base = data.get(BASE_TIME_KEY, 0)
    return base if isinstance(base, int) and abs(base) <= _MAX_NS else 0


def timed_slices(data: dict[str, Any]) -> Iterator[Event]:
    """Yield the slices of a trace that have valid times, ours included."""
    for event in data[EVENTS_KEY]:
        if event.get("ph") == "X" and _has_times(event):
            yield event


def slices_of(data: dict[str, Any]) -> Iterator[Event]:
    """Yield the slices of a trace without ours."""
    return (event for event in timed_slices(data) if event.get("pid") != POWER_PID)


def _has_times(event: Event) -> bool:
    start_us, length_us = number(event.get("ts")), number(event.get("dur", 0))
    return abs(start_us) <= _MAX_NS / 1e3 and 0 <= length_us <= _MAX_NS / 1e3  # False if NaN


def times_of(data: dict[str, Any], slices: list[Event]) -> tuple[Any, Any]:
    """Return starts (n,) and ends (n,) of slices with valid times, ns since 1970, UTC."""
    starts = np.round(np.array([event["ts"] for event in slices], float) * 1e3)
    lengths = np.round(np.array([event.get("dur", 0) for event in slices], float) * 1e3)
    first = starts.astype(np.int64) + base_time_ns(data)
    return first, first + lengths.astype(np.int64)


def time_range(data: dict[str, Any]) -> tuple[int, int]:
    """Return start and end of all slices without ours, ns since 1970.

    Raises:
        ValueError: the trace has no slices.
    """
    starts, ends = times_of(data, list(slices_of(data)))
    if not len(starts):
        message = "the trace has no slices (events of phase X), so power cannot be laid over it"
        raise ValueError(message)
    return int(starts.min()), int(ends.max())


# ---- our part of a trace ---------------------------------------------------------------------


def with_power(data: dict[str, Any], trace: PowerTrace) -> dict[str, Any]:
    """Return the trace with power, windows and epochs of a run added, on the clock of the trace.

    Power that was added earlier is replaced.
    """
    base_ns = base_time_ns(data)
    tracks = {device: _track_name(trace, device) for device in trace.devices}
    others = [event for event in data["traceEvents"] if event.get("pid") != POWER_PID]
    unknown = {
        device: [[int(a), int(b)] for a, b in _unknown_intervals(power)]
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
        *_metadata_events(trace),
        *(
            event
            for device, power in trace.devices.items()
            for event in _counter_events(power, tracks[device], base_ns)
        ),
        *_slice_events(trace.slices, base_ns),
    ]
    return {**data, BASE_TIME_KEY: base_ns, METADATA_KEY: about, "traceEvents": events}


def _track_name(trace: PowerTrace, device: str) -> str:
    label = trace.labels.get(device)
    return (
        f"{device} {label}" if label else device
    )  # viewers append the unit, which is the name of the argument


def _timestamp_us(moment_ns: int, base_ns: int) -> float:
    return round((moment_ns - base_ns) / 1e3, 3)


def _metadata_event(what: str, value: object, tid: int = 0) -> Event:
    key = "sort_index" if what.endswith("sort_index") else "name"
    return {"ph": "M", "name": what, "pid": POWER_PID, "tid": tid, "ts": 0, "args": {key: value}}


def _metadata_events(trace: PowerTrace) -> Iterator[Event]:
    yield _metadata_event(
        "process_name", f"carbontracker: power of {trace.about.get('host') or 'this run'}"
    )
    yield _metadata_event("process_sort_index", -1)
    kinds = {slice_.kind for slice_ in trace.slices}
    if "epoch" in kinds:
        yield _metadata_event("thread_name", "epochs", 1)
    for tid in sorted({tid for tid, _ in _with_tracks(trace.slices)} - {1}):
        yield _metadata_event("thread_name", "windows", tid)


def _unknown_intervals(power: Power) -> Any:
    lost = np.isnan(power.watts)
    return np.stack([power.edges_ns[:-1][lost], power.edges_ns[1:][lost]], axis=1)


def _counter_events(power: Power, name: str, base_ns: int) -> Iterator[Event]:
    """Yield the power from each edge to the next; 0 at the end and where the power is unknown."""
    if not len(power.watts):
        return
    levels = [*np.nan_to_num(power.watts).tolist(), 0.0]
    for moment_ns, watts in zip(power.edges_ns.tolist(), levels, strict=True):
        yield {
            "ph": "C",
            "name": name,
            "pid": POWER_PID,
            "tid": 0,
            "ts": _timestamp_us(moment_ns, base_ns),
            "args": {"watts": watts},
        }


def _with_tracks(slices: tuple[Slice, ...]) -> Iterator[tuple[int, Slice]]:
    """Yield each slice with its track. Slices on one track are nested or do not overlap."""
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


def _slice_events(slices: tuple[Slice, ...], base_ns: int) -> Iterator[Event]:
    for tid, one in _with_tracks(slices):
        joules = None if math.isnan(one.joules) else one.joules
        yield {
            "ph": "X",
            "cat": f"{METADATA_KEY}.{one.kind}",
            "name": one.name,
            "pid": POWER_PID,
            "tid": tid,
            "ts": _timestamp_us(one.start_ns, base_ns),
            "dur": _timestamp_us(one.end_ns, one.start_ns),
            "args": {"joules": joules, **one.about},
        }


def power_in(data: dict[str, Any]) -> PowerTrace:
    """Return the power that ``with_power`` added to a trace.

    Raises:
        ValueError: the trace contains no power.
    """
    about = data.get(METADATA_KEY)
    tracks = about.get("tracks") if isinstance(about, dict) else None
    if not isinstance(about, dict) or not isinstance(tracks, dict):
        message = (
            "the trace contains no power: name the run with --run, or add the power with "
            "`carbontracker trace RUN --merge TRACE --out OUT`"
        )
        raise ValueError(message)
    gathered: dict[str, list[tuple[float, float]]] = {}
    for event in data[EVENTS_KEY]:
        if event.get("ph") != "C" or event.get("pid") != POWER_PID:
            continue
        device = tracks.get(str(event.get("name")))
        point = number(event.get("ts")), number(mapping(event.get("args")).get("watts"))
        if isinstance(device, str) and abs(point[0]) <= _MAX_NS / 1e3 and math.isfinite(point[1]):
            gathered.setdefault(device, []).append(point)
    devices = {}
    for device, points in gathered.items():
        table = np.array(sorted(points))
        edges = np.round(table[:, 0] * 1e3).astype(np.int64) + base_time_ns(data)
        watts = table[:-1, 1].copy()
        for start, end in _intervals(mapping(about.get("unknown_ns")).get(device)):
            watts[(edges[:-1] >= start) & (edges[:-1] < end)] = np.nan
        devices[device] = Power(edges, watts)
    return PowerTrace(devices, {}, (), mapping(about.get("clock")), about)


def _intervals(value: object) -> Iterator[tuple[float, float]]:
    for pair in value if isinstance(value, list) else ():
        if isinstance(pair, list) and len(pair) == 2:
            yield number(pair[0]), number(pair[1])
