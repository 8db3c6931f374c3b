"""Log files of carbontracker 1.1 to 2.4.7 as a run, for reports.

They give the mean power and the time of each epoch, and the total with PUE. They do not give
errors, nor how each figure was known: this is named in the run's warnings.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carbontracker.constants import JOULES_PER_KWH
from carbontracker.json_values import time_of
from carbontracker.legacy import log_text
from carbontracker.model.epoch import Epoch
from carbontracker.model.result import Result
from carbontracker.model.run_ending import RunEnding
from carbontracker.model.run_metadata import RunMetadata
from carbontracker.records.run_record import RunRecord, Series

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

QUALITY = "integrated"
"""Of the energy of a log: mean power times time."""


def run_of_log(path: str | os.PathLike[str]) -> RunRecord:
    """Return the training of a log file.

    Args:
        path: ``..._carbontracker.log``, with ``..._carbontracker_output.log`` beside it; or the
            other way round.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no log file of carbontracker, or its epochs have no power.
    """
    return _Log(Path(path)).run()


@dataclass(frozen=True)
class _Component:
    """A component of the machine, with the power of each epoch."""

    name: str
    devices: tuple[str, ...]
    watts: tuple[float, ...]
    """By epoch; NaN where unknown."""

    def joules(self, durations_s: list[float]) -> list[float]:
        return [watts * s for watts, s in zip(self.watts, durations_s, strict=False)]


class _Log:
    def __init__(self, path: Path) -> None:
        self._path = path
        stem = next(
            (path.name[: -len(end)] for end in (log_text.OUTPUT, log_text.STANDARD)
             if path.name.endswith(end)),
            None,
        )  # fmt: skip
        texts = [log_text.sections(log_text.decode(path.read_bytes()))[0]]
        if stem is not None:
            for end in (log_text.STANDARD, log_text.OUTPUT):
                beside = path.with_name(f"{stem}{end}")
                if beside != path and beside.is_file():
                    texts.append(log_text.sections(log_text.decode(beside.read_bytes()))[0])
        self._id = (stem or path.stem).rstrip("_") or path.stem
        self._text = "\n".join(texts)
        self._blocks = list(log_text.blocks_of(self._text))
        self._durations = log_text.durations_of(self._text)
        self._averaged = log_text.averaged_counts(self._text)
        self._components = tuple(self._read_components())
        if not self._blocks and not self._components:
            raise ValueError(f"{path} is not a log file of carbontracker with figures")

    def _read_components(self) -> Iterator[_Component]:
        devices, powers = log_text.devices_of(self._text), log_text.powers_of(self._text)
        for name, rows in powers.items():
            count = self._averaged.get(name, 1)
            watts = tuple(count * math.fsum(row) for row in rows)
            yield _Component(name, tuple(devices.get(name, ())), watts)

    def run(self) -> RunRecord:
        """Return it as a run."""
        version = log_text.version_of(self._text)
        words = ".".join(map(str, version or ())) or "unknown"
        epochs = tuple(self._epochs())
        stamps = self._stamps()
        actual = self._actual()
        finished = stamps[-1] if actual is not None else None
        return RunRecord(
            id=self._id,
            path=self._path,
            started=stamps[0],
            finished=finished,
            last_seen=stamps[-1],
            metadata=self._metadata(words),
            series=Series(),
            result=self._result(epochs, actual),
            ending=RunEnding(),
            warnings=tuple(self._warnings(words)),
            events=(),
            notes=(),
        )

    def _actual(self) -> log_text.Block | None:
        return next((block for block in self._blocks if block.actual), None)

    def _stamps(self) -> list[datetime]:
        """Return the first and the last time of the log, as if it was in UTC."""
        moments = [time_of(line[:19]) for line in self._text.splitlines()]
        if found := [one for one in moments if one is not None]:
            return [min(found), max(found)]
        changed = datetime.fromtimestamp(self._path.stat().st_mtime, tz=timezone.utc)
        return [changed - timedelta(seconds=math.fsum(self._durations)), changed]

    def _energy(self, joules: dict[str, float]) -> dict[str, Any]:
        """Return an energy as the record has it."""

        def one(value: float) -> dict[str, Any]:
            known = math.isfinite(value)
            return {
                "joules": value if known else None,
                "error_joules": None,
                "modelled_joules": 0.0,
                "quality": QUALITY if known else "missing",
                "coverage": float(known),
            }

        known = [value for value in joules.values() if math.isfinite(value)]
        total = one(math.fsum(known) if known else math.nan)
        return {**total, "by_device": {name: one(value) for name, value in joules.items()}}

    def _footprint(self, kwh: float, gco2eq: float) -> dict[str, Any]:
        """Return a footprint as the record has it."""
        figure = log_text.mean_intensity_of(self._text)
        if math.isnan(figure) and kwh > 0:
            figure = gco2eq / kwh
        if math.isnan(gco2eq):
            gco2eq = kwh * figure
        pue = log_text.pue_of(self._text)
        return {
            "kwh": kwh,
            "error_kwh": None,
            "gco2eq": gco2eq,
            "pue": pue,
            "intensity": {"gco2eq_per_kwh": figure, "source": "the log file", "kind": "mean"},
            "location": None,
        }

    def _epochs(self) -> Iterator[Epoch]:
        pue = log_text.pue_of(self._text)
        columns = {one.name: one.joules(self._durations) for one in self._components}
        end_s = 0.0
        for i, seconds in enumerate(self._durations):
            joules = {
                name: column[i] if i < len(column) else math.nan for name, column in columns.items()
            }
            energy = self._energy(joules)
            kwh = (math.nan if energy["joules"] is None else energy["joules"]) / JOULES_PER_KWH
            start_s, end_s = end_s, end_s + seconds
            yield Epoch.from_dict(
                {
                    "index": i + 1,
                    "seconds": seconds,
                    "start_s": start_s,
                    "end_s": end_s,
                    "energy": energy,
                    "footprint": self._footprint(kwh * pue, math.nan),
                }
            )

    def _result(self, epochs: tuple[Epoch, ...], actual: log_text.Block | None) -> Result:
        """Return the total: that of the log, with averaged devices added; else of its epochs."""
        joules = {
            one.name: math.fsum(
                value for value in one.joules(self._durations) if math.isfinite(value)
            )
            for one in self._components
        }
        seconds = math.fsum(self._durations)
        total = math.fsum(joules.values())
        pue = log_text.pue_of(self._text)
        kwh, gco2eq = total * pue / JOULES_PER_KWH, math.nan
        if actual is not None:
            factor = log_text.averaged_factor(self._text)
            kwh, gco2eq = actual.kwh * factor, actual.gco2eq * factor
            seconds = actual.seconds if math.isfinite(actual.seconds) else seconds
            if not joules and pue > 0:
                joules = {"machine": kwh / pue * JOULES_PER_KWH}
        done = len(epochs) or (actual.epochs if actual else None)
        return Result.from_dict(
            {
                "seconds": seconds,
                "energy": self._energy(joules),
                "footprint": self._footprint(kwh, gco2eq),
                "epochs": done,
            },
            epochs,
        )

    def _metadata(self, version: str) -> RunMetadata:
        sensors = [
            {
                "id": one.name,
                "kind": one.name,
                "name": ", ".join(
                    f"{count} x {name}" if count > 1 else name
                    for name, count in Counter(one.devices).items()
                ),
                "source": "log file",
                "quality": QUALITY,
                "counted": True,
            }
            for one in self._components
        ]
        predicted = [block.epochs for block in self._blocks if not block.actual]
        planned = predicted[0] if predicted else None
        return RunMetadata.from_dict(
            {
                "schema": 1,
                "version": version,
                "sensors": sensors,
                "epochs": planned or len(self._durations) or None,
            }
        )

    def _warnings(self, version: str) -> Iterator[str]:
        yield (
            f"LOG: these figures are from a log file of version {version}. It gives no errors, and "
            "does not say which power was read and which was assumed. Its times are taken as UTC."
        )
        if self._averaged:
            of = " and ".join(f"{count} devices of {one}" for one, count in self._averaged.items())
            yield (
                f"LOG: version {version} averaged the power of {of} instead of adding it. Here it "
                "is added."
            )
        for block in self._blocks:
            if not block.actual:
                after = f" for {block.epochs} epoch(s)" if block.epochs is not None else ""
                figures = ((block.kwh, "kWh"), (block.gco2eq, "gCO2eq"), (block.seconds, "s"))
                known = [f"{value:.4g} {unit}" for value, unit in figures if math.isfinite(value)]
                yield f"LOG: predicted{after}: {', '.join(known) or 'no figure'}"
