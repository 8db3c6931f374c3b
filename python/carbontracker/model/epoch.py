"""One epoch: when it was, and what it has cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from carbontracker.json_values import seconds_of, whole
from carbontracker.model.measurement import Measurement

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, repr=False)
class Epoch(Measurement):
    """One epoch, finished or cut short."""

    index: int
    """From 1."""
    finished: bool
    """False of one that was stopped, and of one that is still open."""
    steps: int = 0
    """Steps that were marked in it; 0 while it is open."""

    def __repr__(self) -> str:
        """Return the main values in one line."""
        # By name: views know this module, and it does not know them.
        text: str = import_module("carbontracker.report.brief").epoch(self)
        return text

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of the record."""
        span = {"start_s": self.start_s, "end_s": self.end_s}
        return {
            "index": self.index,
            "finished": self.finished,
            "final": self.final,
            **super().to_dict(),
            **({} if math.isnan(self.start_s) else span),
            **({"steps": self.steps} if self.steps else {}),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Epoch:
        """Return the epoch of such an object; what is missing or damaged becomes NaN."""
        values = cls.values_of(data)
        start_s = seconds_of(data.get("end_s")) - values["seconds"]
        return cls(
            **values,
            start_s=seconds_of(data.get("start_s"), start_s),
            final=bool(data.get("final", True)),
            index=whole(data.get("index")),
            finished=bool(data.get("finished", True)),
            steps=whole(data.get("steps")),
        )
