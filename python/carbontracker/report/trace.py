"""Views of power over time: a trace for Perfetto or chrome://tracing, and joules by operator.

A trace is of a run alone, or laid over one of torch.profiler.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carbontracker.report.formatting import aligned, clean
from carbontracker.traces.chrome import (
    BASE_TIME_KEY,
    read_trace,
    time_range,
    with_power,
    write_trace,
)
from carbontracker.traces.power import MILLISECOND_NS, PowerTrace
from carbontracker.traces.samples import power_of_run

if TYPE_CHECKING:
    import os

    from carbontracker.records.run_record import RunRecord
    from carbontracker.traces.profile import Attribution, Row

_SECOND_NS = 1_000_000_000
_MAX_NAME = 48


def write(
    run: RunRecord | PowerTrace,
    out: str | os.PathLike[str],
    merge: str | os.PathLike[str] | None = None,
) -> PowerTrace:
    """Write the power, windows and epochs of a run as a trace; return what was written.

    Args:
        run: read with its series and epochs; or its power, as ``samples.read_power`` has it.
        out: the file; compressed if its name ends in ``.gz``.
        merge: a trace of torch.profiler; the file then has both on one clock.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: the run has no power over time, ``merge`` is not a trace, or the two do not
            overlap in time.
    """
    if merge is None:
        trace = power_for(run, None)
        data = _empty(trace)
    else:
        data = read_trace(Path(merge))
        span_ns = time_range(data)
        trace = power_for(run, sum(span_ns) // 2)
        check_overlap(trace, span_ns)
    write_trace(with_power(data, trace), Path(out))
    return trace


def render(run: RunRecord) -> bytes:
    """Return the trace of a run alone, as JSON; without power it has no events."""
    trace = power_for(run, None)
    if not any(len(power.watts) for power in trace.devices.values()):
        return json.dumps({"displayTimeUnit": "ms", "traceEvents": []}).encode()
    return json.dumps(with_power(_empty(trace), trace), separators=(",", ":")).encode()


def _empty(trace: PowerTrace) -> dict[str, Any]:
    base_ns = trace.span_ns[0] // _SECOND_NS * _SECOND_NS
    return {"displayTimeUnit": "ms", BASE_TIME_KEY: base_ns, "traceEvents": []}


def power_for(run: RunRecord | PowerTrace, near_ns: int | None) -> PowerTrace:
    """Return the power of a run on the wall clock near a moment; a ``PowerTrace`` unchanged."""
    return run if isinstance(run, PowerTrace) else power_of_run(run, near_ns)


def check_overlap(trace: PowerTrace, span_ns: tuple[int, int]) -> None:
    """Check that a run and a profile overlap in time.

    Raises:
        ValueError: they do not overlap, or the run has no power.
    """
    start_ns, end_ns = trace.span_ns
    if span_ns[0] < end_ns and start_ns < span_ns[1]:
        return
    apart_s = max(span_ns[0] - end_ns, start_ns - span_ns[1]) / 1e9
    message = (
        f"the profile and run {trace.about.get('run_id')} do not overlap in time: they are "
        f"{apart_s:.3f} s apart. Check that this run is the profiled one, on the same machine"
    )
    raise ValueError(message)


def clock_note(trace: PowerTrace) -> str:
    """Return how exact the clock of the power is, in a sentence."""
    if not trace.clock.get("exact"):
        return "the record is of an older version: its clock is exact to a millisecond only"
    if trace.clock.get("disagreement_ns", 0) > MILLISECOND_NS:
        moved_s = trace.clock["disagreement_ns"] / 1e9
        return (
            f"the wall clock was set by {moved_s:.3f} s during the run, or the machine slept: "
            "power far from the profile may be shifted by that much"
        )
    return "both are on CLOCK_REALTIME"


# ---- joules by operator --------------------------------------------------------------------


def attributed_table(found: Attribution, by: str, top: int) -> str:
    """Return the rows with most joules, the rest as one, unattributed energy, and the sum."""
    with_gpu = any(row.gpu_seconds for row in (*found.rows, *found.outside))
    devices = list(found.idle.by_device)
    heads = [by, "J", "%", "calls", "CPU s"] + ["GPU s"] * with_gpu
    heads += [f"{device} J" for device in devices] if len(devices) > 1 else []
    shown = list(found.rows[:top])
    rest = found.rows[top:]
    lines = [(row.name, row) for row in shown]
    if rest:
        lines.append((f"({len(rest)} more)", _together(rest)))
    lines.append((found.idle.name, found.idle))
    lines += [(row.name, row) for row in found.outside]
    lines.append(("all of the window", _together([*found.rows, found.idle, *found.outside])))
    cells = [heads]
    for name, row in lines:
        known = not math.isnan(row.joules)
        share = f"{100 * row.joules / found.joules:.1f}" if found.joules and known else "-"
        joules = f"{row.joules:.3f}" if known else "unknown"
        line = [_short(name), joules, share, str(row.calls or "")]
        line += [f"{row.cpu_seconds:.3f}"] + [f"{row.gpu_seconds:.3f}"] * with_gpu
        if len(devices) > 1:
            line += [f"{row.by_device[device]:.3f}" for device in devices]
        cells.append(line)
    return "\n".join([*aligned(cells, right=range(1, len(heads))), "", *_notes(found)])


def _together(rows: list[Row] | tuple[Row, ...]) -> Row:
    from carbontracker.traces.profile import Row

    return Row(
        "",
        sum(row.joules for row in rows if not math.isnan(row.joules)),
        {device: sum(row.by_device[device] for row in rows) for device in rows[0].by_device},
        sum(row.cpu_seconds for row in rows),
        sum(row.gpu_seconds for row in rows),
        sum(row.calls for row in rows),
    )


def _notes(found: Attribution) -> list[str]:
    finest = ", ".join(
        f"{device} {seconds * 1e3:.3g} ms" for device, seconds in found.resolution_seconds.items()
    )
    first = (
        f"{found.joules:.3f} J in {found.window_seconds:.3f} s; power is known every: {finest}. "
        "Work that is shorter has the mean power of its surroundings."
    )
    notes = [first]
    for device, seconds in found.unknown_seconds.items():
        if seconds > 1e-6:
            notes.append(f"The power of {device} is not known for {seconds:.3f} s of it.")
    return notes


def _short(name: str) -> str:
    shown = clean(name[: _MAX_NAME + 1])
    return shown if len(shown) <= _MAX_NAME else f"{shown[: _MAX_NAME - 1]}…"
