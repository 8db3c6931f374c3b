"""How a run ended, and what the tracker did until then."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from carbontracker.exceptions import BudgetExceeded
from carbontracker.json_values import mapping, mappings, number, string, whole
from carbontracker.model.run_metadata import MissingSensor

if TYPE_CHECKING:
    from collections.abc import Mapping


FINISHED, FAILED, BUDGET, KILLED, SUPERSEDED, RUNNING = OUTCOMES = (
    *("finished", "failed", "budget", "killed", "superseded", "running"),
)
"""How a run can have ended: as the program wanted, by an error, by a limit, without a chance to
say so, or such that another run replaces its result; or not yet."""


class Succession(NamedTuple):
    """A sensor that was found wrong or dead, and the one that replaced it."""

    owner: str
    """Id of its channel."""
    successor: str
    t_ns: int
    """The last moment at which the first was right, ns of CLOCK_MONOTONIC."""
    why: str


@dataclass(frozen=True)
class RunEnding:
    """What the end of a record has beside the cost of the run."""

    readings_per_second: Mapping[str, float] = field(default_factory=dict)
    """Of each channel, by id."""
    successions: tuple[Succession, ...] = ()
    unanswered: tuple[MissingSensor, ...] = ()
    """Sensors that have not answered until the end."""
    stopped_by: BudgetExceeded | None = None
    """The limit that ended the run."""
    logger_seconds: Mapping[str, float] = field(default_factory=dict)
    """Time that the user's loggers took of the training's thread, by name, s."""
    read_by: Mapping[str, str] = field(default_factory=dict)
    """The process that read each channel at the end, by id: ``this process``, ``process 4711``."""
    placement: str = ""
    """On which CPUs the sampling threads ran, and why."""
    outcome: str = ""
    """One of ``OUTCOMES``; empty of records that older versions wrote."""
    driver_seconds: Mapping[str, float] = field(default_factory=dict)
    """Time of the sampling threads within calls of each driver, by source, s."""

    def to_dict(self) -> dict[str, Any]:
        """Return the part of the JSON object ``run_finished``."""
        taken = {"logger_seconds": self.logger_seconds} if self.logger_seconds else {}
        said = {"outcome": self.outcome} if self.outcome else {}
        return (
            taken
            | said
            | {
                "readings_per_second": self.readings_per_second,
                "read_by": self.read_by,
                "placement": self.placement,
                "driver_seconds": self.driver_seconds,
                "successions": [one._asdict() for one in self.successions],
                "unanswered": [{"source": one.source, "what": one.what} for one in self.unanswered],
                "stopped_by": self.stopped_by.to_dict() if self.stopped_by else None,
            }
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RunEnding:
        """Return the ending in such an object; what is missing or damaged is empty or NaN."""
        rates, taken, held = (
            {str(name): number(value) for name, value in mapping(data.get(key)).items()}
            for key in ("readings_per_second", "logger_seconds", "driver_seconds")
        )
        stopped_by = mapping(data.get("stopped_by"))
        return cls(
            rates,
            tuple(
                Succession(
                    string(one.get("owner")),
                    string(one.get("successor")),
                    whole(one.get("t_ns")),
                    string(one.get("why")),
                )
                for one in mappings(data.get("successions"))
            ),
            tuple(map(MissingSensor.from_dict, mappings(data.get("unanswered")))),
            BudgetExceeded.from_dict(stopped_by) if stopped_by else None,
            taken,
            {str(name): string(value) for name, value in mapping(data.get("read_by")).items()},
            string(data.get("placement")),
            data["outcome"] if data.get("outcome") in OUTCOMES else "",
            held,
        )
