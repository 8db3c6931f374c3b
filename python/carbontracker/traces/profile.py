"""What a profile was doing when, and the joules of it: power laid over operators or annotations."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from carbontracker.records.json_values import mapping
from carbontracker.traces.attribution import Pieces, Split, innermost, merged, split
from carbontracker.traces.chrome import PID, moments_of, slices_of, span_of, timed_slices

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from carbontracker.traces.attribution import Power
    from carbontracker.traces.power import PowerTrace

    Event = dict[str, Any]
    Windows = Sequence[tuple[int, int]]

OPERATOR = "operator"
ANNOTATION = "annotation"
_CPU = {OPERATOR: ("cpu_op",), ANNOTATION: ("user_annotation",)}
_GPU = {
    OPERATOR: ("kernel", "gpu_memcpy", "gpu_memset"),
    ANNOTATION: ("gpu_user_annotation",),
}
_ANY_GPU = frozenset(category for categories in _GPU.values() for category in categories)
NOT_PROFILED = "(devices not in this profile)"
NOT_MEASURED = "(kernels of devices that were not measured)"
_STEP = re.compile(r"(ProfilerStep)#\d+")


@dataclass(frozen=True)
class Activities:
    """The slices of one category, by who does them."""

    names: list[str]
    cpu: list[Pieces]
    """One for each thread."""
    gpus: dict[int, list[Pieces]]
    """By number of the device in the profile: one for each stream. A device that the profile has
    other work of is there without any."""
    starts_ns: Any
    """When each call began (calls,)."""
    called: Any
    """Its name (calls,): an index."""


@dataclass(frozen=True)
class Row:
    """The joules of one name."""

    name: str
    joules: float
    by_device: dict[str, float]
    cpu_seconds: float
    """Time that threads were at it, self time; two threads for a second are two seconds."""
    gpu_seconds: float
    """The same of the streams of GPUs."""
    calls: int


@dataclass(frozen=True)
class Attributed:
    """The energy of a window by what was running in it. The known joules of all rows, ``idle`` and
    ``outside`` add up to it."""

    rows: tuple[Row, ...]
    """Most joules first."""
    idle: Row
    """Drawn while nothing was running on the device."""
    outside: tuple[Row, ...]
    """What the profile and the measurement do not have in common: energy of GPUs that the profile
    has no work of, and work, of unknown joules, of GPUs that were not measured."""
    joules: float
    window_seconds: float
    unknown_seconds: dict[str, float]
    """By device: how much of the window its power is not known for."""
    resolution_seconds: dict[str, float]
    """By device: the median distance of what is known of its power. Shorter work has the mean power
    of its surroundings."""


def activities_of(data: dict[str, Any], by: str) -> Activities:
    """Return what the threads and streams of a profile did.

    Work of a GPU goes by the operator that launched it, where the profile says which (``External
    id``), else by its own name.
    """
    wanted = [event for event in slices_of(data) if event.get("cat") in _CPU[by] + _GPU[by]]
    launched = {
        _id(mapping(event.get("args")).get("External id")): event.get("name")
        for event in wanted
        if event["cat"] == "cpu_op"
    }
    launched.pop(None, None)  # of those without
    starts, ends = moments_of(data, wanted)
    numbers: dict[str, int] = {}
    doers: dict[tuple[int | None, Any, Any], list[int]] = defaultdict(list)
    named = np.zeros(len(wanted), dtype=np.int64)
    for i, event in enumerate(wanted):
        arguments = mapping(event.get("args"))
        on_gpu = event["cat"] in _GPU[by]
        name = launched.get(_id(arguments.get("External id"))) if on_gpu else None
        label = _STEP.sub(r"\1#*", str(name or event.get("name")))
        named[i] = numbers.setdefault(label, len(numbers))
        device = _device_of(event) if on_gpu else None
        doers[device, _id(event.get("pid")), _id(event.get("tid"))].append(i)
    pieces: dict[int | None, list[Pieces]] = defaultdict(list)
    for (device, _, _), indices in doers.items():
        pieces[device].append(innermost(starts[indices], ends[indices], named[indices]))
    on_cpu = pieces.pop(None, [])
    gpus: dict[int, list[Pieces]] = {
        _device_of(event): [] for event in slices_of(data) if _id(event.get("cat")) in _ANY_GPU
    }
    gpus |= {device: streams for device, streams in pieces.items() if device is not None}
    counts = np.array([event["cat"] in _CPU[by] for event in wanted], dtype=bool)
    return Activities(list(numbers), on_cpu, gpus, starts[counts], named[counts])


def _id(value: object) -> float | str | None:
    """Return what tells processes, threads and calls apart; None where there is no such thing."""
    return value if isinstance(value, (int, float, str)) else None


def _device_of(event: Event) -> int:
    device = mapping(event.get("args")).get("device", event.get("pid"))
    return device if isinstance(device, int) else 0


def windows_named(data: dict[str, Any], name: str) -> Windows:
    """Return the windows, epochs or annotations of one name in a trace.

    Windows of the record, unless it kept a selection of them only: then the profile's annotations.

    Raises:
        ValueError: there are none, or the selection is all there is.
    """
    found = [
        event
        for event in timed_slices(data)
        if event.get("name") == name
        and (event.get("pid") == PID or event.get("cat") == "user_annotation")
    ]
    ours = [event for event in found if event.get("pid") == PID]
    theirs = [event for event in found if event.get("pid") != PID]
    selected = any("one_of" in mapping(event.get("args")) for event in ours)
    if not found or (selected and not theirs):
        why = "it has a selection only, of very many windows" if found else "it has none"
        message = f"the trace cannot say when {name!r} was, neither window nor annotation: {why}"
        raise ValueError(message)
    starts, ends = moments_of(data, theirs if selected or not ours else ours)
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def attribute(
    data: dict[str, Any], trace: PowerTrace, by: str = OPERATOR, windows: Windows = ()
) -> Attributed:
    """Return the joules by operator or annotation.

    The power of a GPU that the profile has work of goes to that work, or, where none of it has an
    annotation, to those of the processor. The power of any other GPU is outside the profile; that
    of processor and memory goes to what the threads of the processor were at. A profile's GPU k is
    the k-th that was measured.

    Args:
        data: the profile.
        trace: power, on the same clock.
        by: ``operator`` or ``annotation``.
        windows: (start, end) in ns since 1970; all of the profile if there are none.

    Raises:
        ValueError: the profile is empty, or the power is not of its time.
    """
    whole = merged(windows or [span_of(data)])
    activities = activities_of(data, by)
    count = len(activities.names)
    workers = _workers(activities, list(trace.devices))
    splits = {
        device: split(power, workers.get(device, []), whole, count)
        for device, power in trace.devices.items()
    }
    profiled = {device: one for device, one in splits.items() if device in workers}
    measured = sum(device.startswith("gpu") for device in trace.devices)
    if all(one.unknown_seconds >= one.window_seconds for one in splits.values()):
        message = "nothing is known of the power in that window: is it the run of this profile?"
        raise ValueError(message)
    anything = next(iter(trace.devices.values()))
    on_cpu = split(anything, activities.cpu, whole, count)
    streams = [one for k, streams in activities.gpus.items() if k < measured for one in streams]
    others = [one for k, streams in activities.gpus.items() if k >= measured for one in streams]
    on_gpu = split(anything, streams, whole, count)
    on_others = split(anything, others, whole, count)
    return Attributed(
        rows=_rows(activities, splits, (on_cpu, on_gpu), whole),
        outside=tuple(_outside(splits, workers, float(on_others.seconds.sum()))),
        idle=Row(
            "(no operator)" if by == OPERATOR else "(no annotation)",
            sum(one.idle_joules for one in profiled.values()),
            {
                device: profiled[device].idle_joules if device in profiled else 0.0
                for device in splits
            },
            on_cpu.idle_seconds,
            on_gpu.idle_seconds if streams else 0.0,
            0,
        ),
        joules=sum(one.total_joules for one in splits.values()),
        window_seconds=on_cpu.window_seconds,
        unknown_seconds={device: one.unknown_seconds for device, one in splits.items()},
        resolution_seconds=_resolution(trace.devices, whole),
    )


def _workers(activities: Activities, devices: Sequence[str]) -> dict[str, list[Pieces]]:
    """Return what draws the power of each device, without GPUs that the profile has no work of."""
    gpus = [device for device in devices if device.startswith("gpu")]
    numbers = {device: number for number, device in enumerate(gpus)}
    return {
        device: activities.gpus.get(numbers.get(device, -1)) or activities.cpu
        for device in devices
        if device not in numbers or numbers[device] in activities.gpus
    }


def _outside(
    splits: Mapping[str, Split], workers: Mapping[str, object], unmeasured_seconds: float
) -> Iterator[Row]:
    unseen = {
        device: 0.0 if device in workers else one.total_joules for device, one in splits.items()
    }
    if len(workers) < len(splits):
        yield Row(NOT_PROFILED, sum(unseen.values()), unseen, 0.0, 0.0, 0)
    if unmeasured_seconds > 0:
        unknown = dict.fromkeys(splits, 0.0)
        yield Row(NOT_MEASURED, float("nan"), unknown, 0.0, unmeasured_seconds, 0)


def _rows(
    activities: Activities, splits: Mapping[str, Split], times: tuple[Split, Split], whole: Windows
) -> tuple[Row, ...]:
    starts = activities.starts_ns
    inside = np.zeros(len(starts), dtype=bool)
    for start_ns, end_ns in whole:
        inside |= (starts >= start_ns) & (starts < end_ns)
    calls = np.bincount(activities.called[inside], minlength=len(activities.names))
    on_cpu, on_gpu = times
    rows = [
        Row(
            name,
            sum(float(one.joules[i]) for one in splits.values()),
            {device: float(one.joules[i]) for device, one in splits.items()},
            float(on_cpu.seconds[i]),
            float(on_gpu.seconds[i]),
            int(calls[i]),
        )
        for i, name in enumerate(activities.names)
    ]
    ran = (row for row in rows if row.cpu_seconds + row.gpu_seconds > 0)
    return tuple(sorted(ran, key=lambda row: -row.joules))


def _resolution(devices: Mapping[str, Power], whole: Iterable[tuple[int, int]]) -> dict[str, float]:
    found = {}
    for device, power in devices.items():
        steps = [
            np.diff(power.edges_ns)[(power.edges_ns[1:] > start) & (power.edges_ns[:-1] < end)]
            for start, end in whole
        ]
        all_steps = np.concatenate(steps)
        found[device] = float(np.median(all_steps)) / 1e9 if len(all_steps) else float("nan")
    return found
