"""Traces in Chrome's JSON format, as torch.profiler writes them and Perfetto opens them.

torch.profiler (Kineto) counts in microseconds from ``baseTimeNanoseconds``; their sum is
CLOCK_REALTIME, nanoseconds since 1970: it stamps with the processor's counter and converts with
pairs of both that it reads at the beginning and at the end of a profile. Older versions write no
base; their microseconds are since 1970 themselves.
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
from carbontracker.records.json_values import mapping, mappings, number
from carbontracker.records.writer import jsonable
from carbontracker.traces.attribution import Power
from carbontracker.traces.power import PowerTrace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from carbontracker.traces.power import Slice

    Event = dict[str, Any]

BASE = "baseTimeNanoseconds"
ABOUT = "carbontracker"
"""Key of what a trace says of our part in it; also the category of our slices."""
EVENTS = "traceEvents"
MAX_BYTES = 2**30
"""Of a trace, unpacked: its objects take ten times as much memory."""
MAX_RATIO = 200
"""Of the sizes of a trace, unpacked and packed."""
_MAX_SMALL_BYTES = 2**26
_MAX_REASON = 200
_MAX_DIGITS = 400
"""Of a whole number: there is no longer one that is a moment."""
_MAX_NS = 3e18
"""Of moments since 1970, and of lengths, ns: their sums fit in 64 bits."""
PID = 5_000_000
"""The process our tracks appear under: above the highest number that Linux gives one (2^22)."""


def read_trace(path: Path) -> dict[str, Any]:
    """Return a trace, from JSON or gzipped JSON.

    What Chrome and Perfetto open is read: an array without its end, with a comma before the end, or
    torn in an event. So is what profilers write against the rules of JSON: ``inf`` and ``nan`` (as
    null), escapes that there are not, control characters, bytes that are not UTF-8.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no trace, or larger than ``MAX_BYTES``.
    """
    try:
        data = _parsed(_text_of(path))
    except RecursionError as error:
        message = f"{path} is no trace: its objects are nested too deeply"
        raise ValueError(message) from error
    except (ValueError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        message = f"{path} is no trace: {str(error)[:_MAX_REASON]}"
        raise ValueError(message) from error
    if isinstance(data, list):  # the format's other shape: nothing but events
        data = {EVENTS: data}
    if not isinstance(data, dict) or not isinstance(data.get(EVENTS), list):
        message = f"{path} is no trace: it has no traceEvents"
        raise ValueError(message)
    events = mappings(data[EVENTS])
    if data[EVENTS] and not events:
        message = f"{path} is no trace: none of its events is an object"
        raise ValueError(message)
    untimed = sum(event.get("ph") == "X" and not _has_times(event) for event in events)
    lost = len(data[EVENTS]) - len(events) + untimed
    if lost:
        logger.warning(
            "carbontracker: %s: %d event(s) are no objects, or say no usable time, and are passed "
            "over",
            path,
            lost,
        )
    data[EVENTS] = events
    return data


def _text_of(path: Path) -> str:
    with path.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        message = f"it has more than {MAX_BYTES // 2**20} MiB, which is too much to be read"
        raise ValueError(message)
    if raw[:2] == b"\x1f\x8b":
        raw = _unpacked(raw)
    encoding = json.detect_encoding(raw)
    return raw.decode(encoding, "replace").removeprefix("\ufeff")


def _unpacked(raw: bytes) -> bytes:
    """Return what is packed, in memory that is bounded.

    Raises:
        ValueError, EOFError, zlib.error, gzip.BadGzipFile: it is damaged, or too large.
    """
    source, parts, size = io.BytesIO(raw), [], 0
    with gzip.GzipFile(fileobj=source) as packed:
        while part := packed.read(_MAX_SMALL_BYTES // 64):
            parts.append(part)
            size += len(part)
            # A bomb unpacks to a thousand times its size, a trace to ten or thirty times.
            most = max(_MAX_SMALL_BYTES, MAX_RATIO * source.tell())
            if size > min(MAX_BYTES, most):
                message = (
                    f"it unpacks to more than {size // 2**20} MiB, which is too much to be read"
                )
                raise ValueError(message)
    return b"".join(parts)


def _parsed(text: str) -> Any:
    """Return what a text holds, strictly if that works.

    Raises:
        ValueError, RecursionError: it cannot be read at all.
    """
    try:
        return json.loads(text, parse_constant=_nothing)
    except ValueError:
        pass
    try:
        return _read_leniently(text)
    except ValueError:
        return _read_leniently(_MISTAKES.sub(_mended, text))


_MISTAKES = re.compile(
    r'"[^"\\]*(?:\\.[^"\\]*)*"|(?<![\w.])[-+]?(?:inf|nan)(?:inity)?(?![\w.])',
    re.DOTALL | re.IGNORECASE,
)
"""Strings, in which an escape may be wrong, and outside of them numbers that are no JSON."""
_ESCAPE = re.compile(r"\\(?:u(?![0-9a-fA-F]{4})|(?!u).)", re.DOTALL)


def _nothing(_: str) -> None:
    """Stand in for NaN and Infinity: JSON has no word for them."""


def _mended(found: re.Match[str]) -> str:
    text = found[0]
    if not text.startswith('"'):
        return "null"
    if "\\" not in text:
        return text
    return _ESCAPE.sub(lambda one: one[0] if one[0][1] in '"\\/bfnrt' else f"\\{one[0]}", text)


def _whole_number(text: str) -> int | None:
    return int(text) if len(text) <= _MAX_DIGITS else None


_LENIENT = json.JSONDecoder(strict=False, parse_constant=_nothing, parse_int=_whole_number)


def _read_leniently(text: str) -> Any:
    """Return the events of a text, and what else it holds, as far as it goes."""
    start = _after_space(text, 0)
    if text[start : start + 1] == "[":
        return _events(text, start + 1)[0]
    if text[start : start + 1] != "{":
        return _LENIENT.decode(text)  # says what is wrong
    data: dict[str, Any] = {}
    at = start + 1
    while True:
        at = _after_space(text, at, ",")
        if at >= len(text) or text[at] == "}":
            return data
        try:
            key, at = _LENIENT.raw_decode(text, at)
            at = _after_space(text, at, ":")
            if key == EVENTS and text[at : at + 1] == "[":
                data[EVENTS], at = _events(text, at + 1)
            else:
                data[str(key)], at = _LENIENT.raw_decode(text, at)
        except json.JSONDecodeError as error:
            if EVENTS in data and _is_torn(text, error):
                return data
            raise


def _events(text: str, at: int) -> tuple[list[Any], int]:
    """Return the values of an array from ``at`` on, and where it ends."""
    events: list[Any] = []
    while True:
        at = _after_space(text, at, ",")
        if at >= len(text):
            break
        if text[at] == "]":
            return events, at + 1
        try:
            event, at = _LENIENT.raw_decode(text, at)
        except json.JSONDecodeError as error:
            if events and _is_torn(text, error):
                break
            raise
        events.append(event)
    return events, len(text)


def _after_space(text: str, at: int, more: str = "") -> int:
    found = _SPACE.match(text, at) if not more else _SPACES[more].match(text, at)
    return found.end() if found else at


_SPACE = re.compile(r"\s*")
_SPACES = {mark: re.compile(rf"[\s{mark}]*") for mark in ",:"}


def _is_torn(text: str, error: json.JSONDecodeError) -> bool:
    """Return whether a text ends in the middle of what could not be read."""
    return error.msg.startswith("Unterminated string") or "}" not in text[error.pos :]


def write_trace(data: dict[str, Any], path: Path) -> None:
    """Write a trace; gzipped if the name ends in ``.gz``. A number that is not finite is null.

    Raises:
        OSError: it cannot be written.
        ValueError: its objects are nested too deeply.
    """
    try:
        try:
            text = json.dumps(data, separators=(",", ":"), allow_nan=False).encode()
        except ValueError:
            text = json.dumps(jsonable(data), separators=(",", ":"), allow_nan=False).encode()
    except RecursionError as error:
        message = f"{path} is not written: the objects of the trace are nested too deeply"
        raise ValueError(message) from error
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


def base_of(data: dict[str, Any]) -> int:
    """Return the moment from which a trace counts, ns since 1970, UTC."""
    base = data.get(BASE, 0)
    return base if isinstance(base, int) and abs(base) <= _MAX_NS else 0


def timed_slices(data: dict[str, Any]) -> Iterator[Event]:
    """Yield the slices of a trace that say when they were, ours among them."""
    for event in data[EVENTS]:
        if event.get("ph") == "X" and _has_times(event):
            yield event


def slices_of(data: dict[str, Any]) -> Iterator[Event]:
    """Yield the slices of a trace that are not ours."""
    return (event for event in timed_slices(data) if event.get("pid") != PID)


def _has_times(event: Event) -> bool:
    start_us, length_us = number(event.get("ts")), number(event.get("dur", 0))
    return abs(start_us) <= _MAX_NS / 1e3 and 0 <= length_us <= _MAX_NS / 1e3  # NaN is not


def moments_of(data: dict[str, Any], slices: list[Event]) -> tuple[Any, Any]:
    """Return starts and ends (n,) of slices that have times, ns since 1970, UTC."""
    starts = np.round(np.array([event["ts"] for event in slices], float) * 1e3)
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
    others = [event for event in data["traceEvents"] if event.get("pid") != PID]
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
    for event in data[EVENTS]:
        if event.get("ph") != "C" or event.get("pid") != PID:
            continue
        device = tracks.get(str(event.get("name")))
        point = number(event.get("ts")), number(mapping(event.get("args")).get("watts"))
        if isinstance(device, str) and abs(point[0]) <= _MAX_NS / 1e3 and math.isfinite(point[1]):
            gathered.setdefault(device, []).append(point)
    devices = {}
    for device, points in gathered.items():
        table = np.array(sorted(points))
        edges = np.round(table[:, 0] * 1e3).astype(np.int64) + base_of(data)
        watts = table[:-1, 1].copy()
        for start, end in _stretches(mapping(about.get("unknown_ns")).get(device)):
            watts[(edges[:-1] >= start) & (edges[:-1] < end)] = np.nan
        devices[device] = Power(edges, watts)
    return PowerTrace(devices, {}, (), mapping(about.get("clock")), about)


def _stretches(value: object) -> Iterator[tuple[float, float]]:
    for pair in value if isinstance(value, list) else ():
        if isinstance(pair, list) and len(pair) == 2:
            yield number(pair[0]), number(pair[1])
