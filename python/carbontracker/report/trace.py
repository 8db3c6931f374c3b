"""A run as a trace for Perfetto or chrome://tracing, alone or laid over one of torch.profiler."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carbontracker.traces.chrome import BASE, read_trace, span_of, with_power, write_trace
from carbontracker.traces.power import MILLISECOND_NS, PowerTrace
from carbontracker.traces.samples import power_of

if TYPE_CHECKING:
    import os

    from carbontracker.records.recorded import RunRecord

_SECOND_NS = 1_000_000_000


def write(
    run: RunRecord | PowerTrace,
    out: str | os.PathLike[str],
    merge: str | os.PathLike[str] | None = None,
) -> PowerTrace:
    """Write the power, windows and epochs of a run as a trace; return what was written.

    Args:
        run: read with its series and epochs; or its power, as ``samples.read_power`` has it.
        out: where to; gzipped if it ends in ``.gz``.
        merge: a trace of torch.profiler, to have both in one file and on one clock.

    Raises:
        OSError: something cannot be read or written.
        ValueError: the run has no power over time, ``merge`` is no trace, or the two do not
            overlap in time.
    """
    if merge is None:
        trace = power_for(run, None)
        data = _empty(trace)
    else:
        data = read_trace(Path(merge))
        span_ns = span_of(data)
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
    return {"displayTimeUnit": "ms", BASE: base_ns, "traceEvents": []}


def power_for(run: RunRecord | PowerTrace, near_ns: int | None) -> PowerTrace:
    """Return the power of a run by the wall clock of a moment; power itself as it is."""
    return run if isinstance(run, PowerTrace) else power_of(run, near_ns)


def check_overlap(trace: PowerTrace, span_ns: tuple[int, int]) -> None:
    """Refuse a run and a profile that have no moment in common.

    Raises:
        ValueError: they have none, or the run has no power.
    """
    start_ns, end_ns = trace.span_ns
    if span_ns[0] < end_ns and start_ns < span_ns[1]:
        return
    apart_s = max(span_ns[0] - end_ns, start_ns - span_ns[1]) / 1e9
    message = (
        f"the profile and run {trace.about.get('run_id')} have no moment in common: they are "
        f"{apart_s:.3f} s apart. Is it the run of that profile, on that machine?"
    )
    raise ValueError(message)


def clock_note(trace: PowerTrace) -> str:
    """Return how well the power lies on the trace's clock, in a sentence."""
    if not trace.clock.get("exact"):
        return "the record is of an older version: its clock is known to a millisecond only"
    if trace.clock.get("disagreement_ns", 0) > MILLISECOND_NS:
        moved_s = trace.clock["disagreement_ns"] / 1e9
        return (
            f"the wall clock was set by {moved_s:.3f} s during the run, or the machine slept: what "
            "is far from the profile may be off by that"
        )
    return "both are on CLOCK_REALTIME"
