"""Whether a record is as ``docs/record.md`` says, line by line."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from carbontracker.json_values import count, number
from carbontracker.model.run_metadata import PURPOSE
from carbontracker.model.work import UNITS
from carbontracker.records.reader import lines_of, parse_line
from carbontracker.records.writer import SCHEMA
from carbontracker.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    Event = Mapping[str, Any]
    Test = Callable[[object], bool]

ERROR = "error"
WARNING = "warning"


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be."""

    path: Path
    line: int
    """From 1; 0 for the whole file."""
    level: str
    """``error``: the record breaks its schema. ``warning``: it is sound but not whole."""
    message: str

    def __str__(self) -> str:
        """Return ``file:line: level: message``, as compilers write it."""
        where = f"{self.path}:{self.line}" if self.line else str(self.path)
        return f"{where}: {self.level}: {self.message}"


def is_number(value: object) -> TypeGuard[float]:
    """Return whether a value is a finite number: Python reads NaN, which is no JSON."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) <= sys.float_info.max


def is_amount(value: object) -> bool:
    """Return whether a value is a number of at least 0, or null."""
    return value is None or (is_number(value) and value >= 0)


def is_share(value: object) -> bool:
    """Return whether a value is a number from 0 to 1, or null."""
    return value is None or (is_number(value) and -1e-9 <= value <= 1 + 1e-9)


def is_count(value: object) -> bool:
    """Return whether a value is a whole number of at least 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_text(value: object) -> bool:
    """Return whether a value is a text."""
    return isinstance(value, str)


def is_time(value: object) -> bool:
    """Return whether a value is a time in ISO 8601 with its zone."""
    try:
        parse_time(value)
    except ValueError:
        return False
    return True


def is_dict(value: object) -> bool:
    """Return whether a value is an object."""
    return isinstance(value, dict)


def is_list(value: object) -> bool:
    """Return whether a value is a list."""
    return isinstance(value, list)


def is_flag(value: object) -> bool:
    """Return whether a value is true or false."""
    return isinstance(value, bool)


_WORDS: dict[Test, str] = {
    is_number: "a number",
    is_amount: "a number of at least 0, or null",
    is_share: "a share from 0 to 1, or null",
    is_count: "a whole number of at least 0",
    is_text: "a text",
    is_time: "a time in ISO 8601 with its zone",
    is_dict: "an object",
    is_list: "a list",
    is_flag: "true or false",
}

_EPOCH: dict[str, Test] = {
    "index": is_count,
    "finished": is_flag,
    "final": is_flag,
    "seconds": is_amount,
    "energy": is_dict,
    "footprint": is_dict,
}
REQUIRED: dict[str, dict[str, Test]] = {
    "run_started": {
        "schema": is_count,
        "version": is_text,
        "pid": is_count,
        "host": is_dict,
        "sensors": is_list,
        "missing": is_list,
    },
    "epoch": _EPOCH,
    "epoch_so_far": {**_EPOCH, "start_s": is_amount},
    "epoch_final": _EPOCH,
    "marks": {"epoch": is_list},
    "prediction": {
        "epochs": is_number,
        "after_epochs": is_amount,
        "seconds": is_amount,
        "joules": is_amount,
        "footprint": is_dict,
    },
    "series": {"t0": is_time, "start_s": is_amount, "t_s": is_list, "joules": is_dict},
    "sensor_joined": {
        "id": is_text,
        "source": is_text,
        "counted": is_flag,
        "seconds_after_start": is_amount,
    },
    "sensor_lost": {"id": is_text, "seconds_after_start": is_amount, "why": is_text},
    "sensor_returned": {"id": is_text, "seconds_after_start": is_amount},
    "windows": {"windows": is_list},
    "samples": {"path": is_text},
    "checkpoint": {"seconds_after_start": is_amount, "steps": is_count},
    "warning": {"level": is_text, "message": is_text},
    "run_finished": {
        "seconds": is_amount,
        "energy": is_dict,
        "footprint": is_dict,
        "tracker_cpu_seconds": is_amount,
    },
}
"""What each event must have. Events and fields that are not named here are let pass: a newer
version may add some without the schema growing."""

OPTIONAL: dict[str, dict[str, Test]] = {
    "run_started": dict.fromkeys(PURPOSE, is_text),
    **{name: {"work": is_dict} for name in ("epoch", "epoch_so_far", "epoch_final")},
    "run_finished": {"work": is_dict, "outcome": is_text},
}
"""What an event may have besides."""

WORK: dict[str, Test] = dict.fromkeys(UNITS, is_amount)
"""What ``work`` may have."""

WITHOUT_TIME = ("marks",)
"""Events whose time follows from what they tell."""
ENERGY: dict[str, Test] = {
    "joules": is_amount,
    "error_joules": is_amount,
    "modelled_joules": is_amount,
    "quality": is_text,
    "coverage": is_share,
}
_NONE: dict[str, Test] = {}
NEWER_ENERGY: dict[str, Test] = {"coverage_devices": is_share, "unknown_joules_max": is_amount}
"""What an energy of an older version lacks."""
FOOTPRINT: dict[str, Test] = {
    "kwh": is_amount,
    "gco2eq": is_amount,
    "pue": is_amount,
    "intensity": is_dict,
}
_INSIDE = {"energy": ENERGY, "between_epochs": ENERGY, "footprint": FOOTPRINT}
_OPTIONAL = {"energy": NEWER_ENERGY, "between_epochs": NEWER_ENERGY}


def check_file(path: Path) -> Iterator[Finding]:
    """Yield all findings on a file.

    Raises:
        OSError: it cannot be read.
    """
    runs: dict[str, _Run] = {}
    empty = True
    for line, text, whole in lines_of(path):
        empty = False
        event = parse_line(text)
        if event is None:
            if whole:
                yield Finding(path, line, ERROR, "this is no event: not a JSON object with "
                              "'event' and 'run_id'")  # fmt: skip
            else:
                yield Finding(path, line, WARNING, "the last line is torn: it was being written "
                              "when the process or the machine stopped")  # fmt: skip
            continue
        run = runs.setdefault(event["run_id"], _Run())
        for level, message in [*_field_findings(event), *run.order_findings(event)]:
            yield Finding(path, line, level, f"{event['event']}: {message}")
    if empty:
        yield Finding(path, 0, WARNING, "the file is empty")
    for run_id, run in runs.items():
        if not run.ended:
            message = (
                f"run {run_id} has no run_finished: it was killed, could not write, or still runs; "
                f"it has {run.epochs} epoch(s)"
                + (" and an unfinished one" if run.open_epoch else "")
            )
            yield Finding(path, 0, WARNING, message)


def _field_findings(event: Event) -> Iterator[tuple[str, str]]:
    if event["event"] not in WITHOUT_TIME and not is_time(event.get("time")):
        yield ERROR, f"time is {event.get('time')!r}, not {_WORDS[is_time]}"
    kind = event["event"]
    yield from _wrong(event, REQUIRED.get(kind, {}), "", OPTIONAL.get(kind, {}))
    if isinstance(event.get("work"), dict):
        yield from _wrong(event["work"], {}, "work.", WORK)
    for name, tests in _INSIDE.items():
        part = event.get(name)
        if isinstance(part, dict):
            newer = _OPTIONAL.get(name, {})
            yield from _wrong(part, tests, f"{name}.", newer)
            for group in ("by_device", "by_kind"):
                inside = part.get(group)
                if inside is not None and not isinstance(inside, dict):
                    yield ERROR, f"{name}.{group} is {inside!r}, not {_WORDS[is_dict]}"
                    continue
                for key, inner in (inside or {}).items():
                    yield from _wrong(inner, tests, f"{name}.{group}.{key}.", newer)
    if event["event"] == "series":
        yield from _series_findings(event)
    schema = event.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        yield WARNING, f"schema {schema} is newer than this version, which knows {SCHEMA}"


def _wrong(
    data: object, tests: Mapping[str, Test], where: str, optional: Mapping[str, Test] = _NONE
) -> Iterator[tuple[str, str]]:
    if not isinstance(data, dict):
        yield ERROR, f"{where.rstrip('.')} is {data!r}, not an object"
        return
    present = {name: test for name, test in optional.items() if name in data}
    for name, test in {**tests, **present}.items():
        if name not in data:
            yield ERROR, f"{where}{name} is missing"
        elif not test(data[name]):
            yield ERROR, f"{where}{name} is {data[name]!r}, not {_WORDS[test]}"


def _series_findings(event: Event) -> Iterator[tuple[str, str]]:
    times, columns = event.get("t_s"), event.get("joules")
    if not isinstance(times, list) or not isinstance(columns, dict):
        return  # reported already
    if not all(map(is_number, times)) or any(b <= a for a, b in zip(times, times[1:])):  # noqa: B905, RUF007
        yield ERROR, "t_s does not increase"
    for device, joules in columns.items():
        if not isinstance(joules, list) or len(joules) != len(times):
            yield ERROR, f"joules.{device} has not as many values as t_s"
        elif not all(map(is_amount, joules)):
            yield ERROR, f"joules.{device} has values that are neither joules nor null"
        else:
            known = [value for value in joules if value is not None]
            if any(b < a for a, b in zip(known, known[1:])):  # noqa: B905, RUF007
                yield ERROR, f"joules.{device} falls: energy is cumulative"


class _Run:
    """What has been seen of one run, for what only the order of its events tells."""

    def __init__(self) -> None:
        self.begun = False
        self.ended = False
        self.epochs = 0
        self.open_epoch = False
        self.joules: dict[float | None, float] = {}
        """Of each epoch, as it was written last."""

    def order_findings(self, event: Event) -> Iterator[tuple[str, str]]:
        """Yield what is out of order in the next event."""
        kind = event["event"]
        if kind == "run_started":
            if self.begun:
                yield ERROR, "the run has begun already"
            self.begun = True
        elif not self.begun:
            yield ERROR, "it comes before run_started"
            self.begun = True  # one finding is enough
        if self.ended:
            yield ERROR, "it comes after run_finished"
        if kind == "epoch_so_far":
            self.open_epoch = True
            if event.get("index") != self.epochs + 1:
                yield ERROR, f"index is {event.get('index')!r} where {self.epochs + 1} is open"
        if kind == "epoch":
            self.open_epoch = False
            yield from self._epoch_findings(event)
        if kind == "marks":
            self.epochs += 1
            self.joules[self.epochs] = math.nan
        if kind == "epoch_final":
            yield from self._final_findings(event)
        if kind == "run_finished":
            self.ended = True
            yield from self._total_findings(event)

    def _epoch_findings(self, event: Event) -> Iterator[tuple[str, str]]:
        self.epochs += 1
        if event.get("index") != self.epochs:
            yield ERROR, f"index is {event.get('index')!r} where {self.epochs} follows"
        self.joules[self.epochs] = _joules(event, "joules")

    def _final_findings(self, event: Event) -> Iterator[tuple[str, str]]:
        index = count(event.get("index"))
        if index in self.joules:
            self.joules[index] = _joules(event, "joules")
        else:
            yield ERROR, f"index is {event.get('index')!r}, of which there is no epoch"

    def _total_findings(self, event: Event) -> Iterator[tuple[str, str]]:
        joules = _joules(event, "joules")
        if not self.epochs or not math.isfinite(joules + sum(self.joules.values())):
            return
        # Epochs may have been written before their last readings came in.
        error = _joules(event, "error_joules")
        allowed = 0.02 * joules + (0.1 * joules if math.isnan(error) else 2 * error) + 1.0
        of_epochs = math.fsum(self.joules.values())
        if abs(joules - of_epochs) > allowed:
            yield (
                WARNING,
                (f"its {joules:.3f} J are not what its epochs add up to, {of_epochs:.3f} J"),
            )


def _joules(event: Event, name: str) -> float:
    energy = event.get("energy")
    value = energy.get(name) if isinstance(energy, dict) else None
    return number(value)
