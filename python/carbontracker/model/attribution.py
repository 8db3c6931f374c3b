"""The part of the machine's energy that is attributed to one process or its job."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from carbontracker.json_values import mapping, number, string

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Attribution:
    """A part of the energy of a run. The energy itself stays that of the machine."""

    scope: str
    """``job`` or ``process``."""
    joules: float
    """The part, without PUE, J; NaN if it is not known."""
    idle_joules: float
    """What is in it of the power that the machine draws when it is idle, J."""
    of_joules: float
    """The energy of the machine that was split, J: that of ``by_device``."""
    by_device: Mapping[str, float] = field(default_factory=dict)
    """The part of each device that was split, J."""
    not_attributed: tuple[str, ...] = ()
    """Counted devices that were not split: it is not known which process uses them."""
    how: str = ""
    """Whose processor time it is, and which CPUs it may use."""
    reason: str = ""
    """Why the part is not known; empty if it is."""

    @property
    def share(self) -> float:
        """Return the part as a share of the energy that was split."""
        return self.joules / self.of_joules if self.of_joules > 0 else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of the record."""
        return {
            "scope": self.scope,
            "joules": self.joules,
            "idle_joules": self.idle_joules,
            "of_joules": self.of_joules,
            "by_device": dict(self.by_device),
            "not_attributed": list(self.not_attributed),
            "how": self.how,
            "reason": self.reason,
        }

    @classmethod
    def from_dict(cls, data: object) -> Attribution | None:
        """Return the value of such an object; None if it is not one."""
        if not isinstance(data, dict):
            return None
        names = data.get("not_attributed")
        return cls(
            scope=string(data.get("scope")),
            joules=number(data.get("joules")),
            idle_joules=number(data.get("idle_joules")),
            of_joules=number(data.get("of_joules")),
            by_device={str(k): number(v) for k, v in mapping(data.get("by_device")).items()},
            not_attributed=tuple(map(str, names)) if isinstance(names, list) else (),
            how=string(data.get("how")),
            reason=string(data.get("reason")),
        )
