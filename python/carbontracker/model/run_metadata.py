"""Which run it was: program, machine, sensors, and the choices that were made."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from carbontracker.carbon.footprint import Footprint
from carbontracker.json_values import count, mapping, mappings, string, time_of, whole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


@dataclass(frozen=True)
class Sensor:
    """A channel as the run found it."""

    id: str
    kind: str
    name: str
    source: str
    quality: str
    counted: bool
    domain: str
    """Names the physical thing: what two sensors of one domain measure must not be added."""
    detail: str
    alternate_of: str = ""
    """The channel that measures the same thing; this one stands by for it."""
    part_of: str = ""
    """The channel whose energy includes that of this one."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of the record."""
        names = ("alternate_of", "domain", "part_of")
        return asdict(self) | {name: getattr(self, name) or None for name in names}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Sensor:
        """Return the sensor of such an object; what is missing is empty."""
        texts = {one.name: string(data.get(one.name)) for one in fields(cls)}
        del texts["counted"]
        return cls(**texts, counted=bool(data.get("counted", True)))


@dataclass(frozen=True)
class MissingSensor:
    """A sensor that is not read."""

    source: str
    what: str
    """What it would measure."""
    reason: str = ""
    remedy: str = ""
    device: str = ""
    """Id of the device that the total lacks; empty if it lacks none."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of the record."""
        return asdict(self) | {"device": self.device or None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> MissingSensor:
        """Return the sensor of such an object; what is missing is empty."""
        return cls(*(string(data.get(one.name)) for one in fields(cls)))


@dataclass(frozen=True)
class RunMetadata:
    """Which run it was, on what machine, and with which choices."""

    schema: int
    """Version of the record's shape."""
    version: str
    """Of carbontracker."""
    pid: int | None
    pid_start_ticks: int | None
    """When the process began, clock ticks since boot: with ``pid`` and the boot it names one."""
    parent_run_id: str | None
    """The run of the command that started this run."""
    host: Mapping[str, Any]
    software: Mapping[str, Any]
    """Versions of frameworks that the program had loaded."""
    job: Mapping[str, Mapping[str, str]]
    """Identifiers by scheduler: ``slurm``, ``torchrun``, ``kubernetes``, ``mpi``."""
    sensors: tuple[Sensor, ...]
    missing: tuple[MissingSensor, ...]
    clock: Mapping[str, Any] = field(default_factory=dict)
    """One moment as ``monotonic_ns`` and ``unix_ns``."""
    began: datetime | None = None
    """When monitoring began, UTC; None of a command."""
    planned_epochs: float | None = None
    """None of a command."""
    components: tuple[str, ...] = ()
    """Kinds of devices that a training chose."""
    command: tuple[str, ...] = ()
    """Empty of a training."""
    zero_footprint: Footprint | None = None
    """Its intensity, PUE and location are the choices made."""
    pue_source: str = ""
    recalculated_from: Footprint | None = None
    """The footprint in the record, if another one was calculated under other assumptions."""

    def to_dict(self) -> dict[str, Any]:
        """Return the data of the event ``run_started``."""
        result: dict[str, Any] = {
            "schema": self.schema,
            "version": self.version,
            "pid": self.pid,
            "pid_start_ticks": self.pid_start_ticks,
            "parent_run_id": self.parent_run_id,
            "host": self.host,
            "software": self.software,
            "job": self.job,
            "clock": self.clock,
            "sensors": [one.to_dict() for one in self.sensors],
            "missing": [one.to_dict() for one in self.missing],
        }
        if self.began is not None:
            result["began"] = self.began.isoformat(timespec="milliseconds")
        if self.planned_epochs is not None:
            result |= {"epochs": self.planned_epochs, "components": self.components}
        if self.command:
            result["command"] = self.command
        if self.zero_footprint is not None:
            result |= {"pricing": self.zero_footprint.to_dict(), "pue_source": self.pue_source}
        return result

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RunMetadata:
        """Return the metadata of an event ``run_started``; what is missing is empty or None."""
        pid, ticks, parent = (
            data.get(name) for name in ("pid", "pid_start_ticks", "parent_run_id")
        )
        command, components = data.get("command"), data.get("components")
        return cls(
            schema=whole(data.get("schema")),
            version=string(data.get("version")),
            pid=pid if isinstance(pid, int) else None,
            pid_start_ticks=ticks if isinstance(ticks, int) else None,
            parent_run_id=parent if isinstance(parent, str) else None,
            host=mapping(data.get("host")),
            software=mapping(data.get("software")),
            job={name: mapping(one) for name, one in mapping(data.get("job")).items()},
            sensors=tuple(map(Sensor.from_dict, mappings(data.get("sensors")))),
            missing=tuple(map(MissingSensor.from_dict, mappings(data.get("missing")))),
            clock=mapping(data.get("clock")),
            began=time_of(data.get("began")),
            planned_epochs=count(data.get("epochs")),
            components=tuple(map(str, components)) if isinstance(components, list) else (),
            command=tuple(map(str, command)) if isinstance(command, list) else (),
            zero_footprint=Footprint.from_dict(data["pricing"]) if "pricing" in data else None,
            pue_source=string(data.get("pue_source")),
        )
