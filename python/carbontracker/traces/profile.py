"""The energy of a profile's operators or annotations: its intervals of work, and their power."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from carbontracker.json_values import mapping
from carbontracker.traces.attribution import (
    EnergyByName,
    Intervals,
    energy_by_name,
    innermost,
    merge_windows,
)
from carbontracker.traces.chrome import POWER_PID, slices_of, time_range, timed_slices, times_of

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
    """The work in a profile, by thread and by stream of a GPU."""

    names: list[str]
    cpu: list[Intervals]
    """One for each thread."""
    gpus: dict[int, list[Intervals]]
    """By number of the device in the profile: one for each stream. The list is empty if the profile
    has only work of other categories on the device."""
    starts_ns: Any
    """(calls,), start of each call, ns."""
    called: Any
    """(calls,), index of the name of each call."""


@dataclass(frozen=True)
class Row:
    """The energy of one name."""

    name: str
    joules: float
    by_device: dict[str, float]
    cpu_seconds: float
    """Self time of threads, s: two threads for one second are two seconds."""
    gpu_seconds: float
    """Self time of the streams of GPUs, s."""
    calls: int

    def to_dict(self, total_joules: float) -> dict[str, Any]:
        """Return the row as a JSON object, with its share of the total."""
        share = self.joules / total_joules if total_joules else None
        return {"name": self.name, "joules": self.joules, "share": share} | asdict(self)


@dataclass(frozen=True)
class Attribution:
    """The energy of a window by the work in it. The known joules of ``rows``, ``idle`` and
    ``outside`` add up to ``joules``."""

    rows: tuple[Row, ...]
    """Most joules first."""
    idle: Row
    """Energy of each device while it had no work."""
    outside: tuple[Row, ...]
    """Differences between profile and measurement: the energy of GPUs without work in the profile,
    and work, with unknown joules, on GPUs that were not measured."""
    joules: float
    window_seconds: float
    unknown_seconds: dict[str, float]
    """By device: length of the parts of the window without known power, s."""
    resolution_seconds: dict[str, float]
    """By device: median interval of its power, s. Shorter work gets the mean power of that
    interval."""

    def to_dict(self) -> dict[str, Any]:
        """Return all rows as one JSON object; NaN stays, and ``jsonable`` replaces it."""
        rows = (*self.rows, self.idle, *self.outside)
        return {
            "joules": self.joules,
            "window_seconds": self.window_seconds,
            "rows": [one.to_dict(self.joules) for one in rows],
            "unknown_seconds": self.unknown_seconds,
            "resolution_seconds": self.resolution_seconds,
        }


def activities_of(data: dict[str, Any], by: str) -> Activities:
    """Return the work of the threads and streams of a profile.

    Work of a GPU has the name of the operator that launched it, if the profile contains it
    (``External id``), else its own name.
    """
    wanted = [event for event in slices_of(data) if event.get("cat") in _CPU[by] + _GPU[by]]
    launched = {
        _id(mapping(event.get("args")).get("External id")): event.get("name")
        for event in wanted
        if event["cat"] == "cpu_op"
    }
    launched.pop(None, None)  # events without an id
    starts, ends = times_of(data, wanted)
    numbers: dict[str, int] = {}
    by_worker: dict[tuple[int | None, Any, Any], list[int]] = defaultdict(list)
    named = np.zeros(len(wanted), dtype=np.int64)
    for i, event in enumerate(wanted):
        arguments = mapping(event.get("args"))
        on_gpu = event["cat"] in _GPU[by]
        name = launched.get(_id(arguments.get("External id"))) if on_gpu else None
        label = _STEP.sub(r"\1#*", str(name or event.get("name")))
        named[i] = numbers.setdefault(label, len(numbers))
        device = _device_of(event) if on_gpu else None
        by_worker[device, _id(event.get("pid")), _id(event.get("tid"))].append(i)
    intervals: dict[int | None, list[Intervals]] = defaultdict(list)
    for (device, _, _), indices in by_worker.items():
        intervals[device].append(innermost(starts[indices], ends[indices], named[indices]))
    on_cpu = intervals.pop(None, [])
    gpus: dict[int, list[Intervals]] = {
        _device_of(event): [] for event in slices_of(data) if _id(event.get("cat")) in _ANY_GPU
    }
    gpus |= {device: streams for device, streams in intervals.items() if device is not None}
    counts = np.array([event["cat"] in _CPU[by] for event in wanted], dtype=bool)
    return Activities(list(numbers), on_cpu, gpus, starts[counts], named[counts])


def _id(value: object) -> float | str | None:
    """Return the id of a process, thread or call; None if it is missing."""
    return value if isinstance(value, (int, float, str)) else None


def _device_of(event: Event) -> int:
    device = mapping(event.get("args")).get("device", event.get("pid"))
    return device if isinstance(device, int) else 0


def windows_named(data: dict[str, Any], name: str) -> Windows:
    """Return the windows, epochs or annotations with this name in a trace.

    Windows of the record have priority. If the record kept only a selection of them, the
    annotations of the profile are used.

    Raises:
        ValueError: the trace has none, or only a selection.
    """
    found = [
        event
        for event in timed_slices(data)
        if event.get("name") == name
        and (event.get("pid") == POWER_PID or event.get("cat") == "user_annotation")
    ]
    ours = [event for event in found if event.get("pid") == POWER_PID]
    theirs = [event for event in found if event.get("pid") != POWER_PID]
    selected = any("one_of" in mapping(event.get("args")) for event in ours)
    if not found or (selected and not theirs):
        why = (
            "the record kept only a selection of these windows"
            if found
            else "the trace has no window and no annotation with this name"
        )
        message = f"the times of {name!r} are not known: {why}"
        raise ValueError(message)
    starts, ends = times_of(data, theirs if selected or not ours else ours)
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def attribute(
    data: dict[str, Any], trace: PowerTrace, by: str = OPERATOR, windows: Windows = ()
) -> Attribution:
    """Return the energy by operator or annotation.

    The power of a GPU with work in the profile goes to that work. If this work has no annotations,
    it goes to the annotations of the threads. The power of any other GPU is outside the profile.
    The power of processor and memory goes to the work of the threads. GPU k of the profile is the
    k-th measured GPU.

    Args:
        data: the profile.
        trace: power, on the same clock.
        by: ``operator`` or ``annotation``.
        windows: (start, end), ns since 1970; empty for the whole profile.

    Raises:
        ValueError: the profile is empty, or its time and that of the power do not overlap.
    """
    whole = merge_windows(windows or [time_range(data)])
    activities = activities_of(data, by)
    count = len(activities.names)
    workers = _work_by_device(activities, list(trace.devices))
    energies = {
        device: energy_by_name(power, workers.get(device, []), whole, count)
        for device, power in trace.devices.items()
    }
    profiled = {device: one for device, one in energies.items() if device in workers}
    measured = sum(device.startswith("gpu") for device in trace.devices)
    if all(one.unknown_seconds >= one.window_seconds for one in energies.values()):
        message = "no power is known in that window: is this the run of this profile?"
        raise ValueError(message)
    any_power = next(iter(trace.devices.values()))
    on_cpu = energy_by_name(any_power, activities.cpu, whole, count)
    streams = [one for k, streams in activities.gpus.items() if k < measured for one in streams]
    others = [one for k, streams in activities.gpus.items() if k >= measured for one in streams]
    on_gpu = energy_by_name(any_power, streams, whole, count)
    on_others = energy_by_name(any_power, others, whole, count)
    return Attribution(
        rows=_rows(activities, energies, (on_cpu, on_gpu), whole),
        outside=tuple(_outside(energies, workers, float(on_others.seconds.sum()))),
        idle=Row(
            "(no operator)" if by == OPERATOR else "(no annotation)",
            sum(one.idle_joules for one in profiled.values()),
            {
                device: profiled[device].idle_joules if device in profiled else 0.0
                for device in energies
            },
            on_cpu.idle_seconds,
            on_gpu.idle_seconds if streams else 0.0,
            0,
        ),
        joules=sum(one.total_joules for one in energies.values()),
        window_seconds=on_cpu.window_seconds,
        unknown_seconds={device: one.unknown_seconds for device, one in energies.items()},
        resolution_seconds=_resolution(trace.devices, whole),
    )


def _work_by_device(activities: Activities, devices: Sequence[str]) -> dict[str, list[Intervals]]:
    """Return the work on each device, without GPUs that have no work in the profile."""
    gpus = [device for device in devices if device.startswith("gpu")]
    numbers = {device: number for number, device in enumerate(gpus)}
    return {
        device: activities.gpus.get(numbers.get(device, -1)) or activities.cpu
        for device in devices
        if device not in numbers or numbers[device] in activities.gpus
    }


def _outside(
    energies: Mapping[str, EnergyByName], workers: Mapping[str, object], unmeasured_seconds: float
) -> Iterator[Row]:
    outside = {
        device: 0.0 if device in workers else one.total_joules for device, one in energies.items()
    }
    if len(workers) < len(energies):
        yield Row(NOT_PROFILED, sum(outside.values()), outside, 0.0, 0.0, 0)
    if unmeasured_seconds > 0:
        unknown = dict.fromkeys(energies, 0.0)
        yield Row(NOT_MEASURED, float("nan"), unknown, 0.0, unmeasured_seconds, 0)


def _rows(
    activities: Activities,
    energies: Mapping[str, EnergyByName],
    times: tuple[EnergyByName, EnergyByName],
    whole: Windows,
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
            sum(float(one.joules[i]) for one in energies.values()),
            {device: float(one.joules[i]) for device, one in energies.items()},
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
