"""Which run it was: program, machine, sensors, and the choices that were made."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from carbontracker.carbon.footprint import Footprint
from carbontracker.json_values import count, mapping, mappings, string, time_of, whole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


PURPOSE = ("project", "stage", "parent")
"""Fields that say what a run was for, and which run it continues."""
_OF_NODE = ("name", "user", "boot_id", "logical_cpus", "usable_cpus")


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

    @property
    def thing(self) -> str:
        """Return what names the physical thing on its machine; of a simulated one, its own name."""
        if self.domain and self.source != "simulated":
            return self.domain
        return f"{self.id} {self.name}"

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
    """What schedulers, launchers and frameworks told, by their names: ``slurm``, ``torchrun``."""
    sensors: tuple[Sensor, ...]
    missing: tuple[MissingSensor, ...]
    one_training: bool = False
    """Whether the ranks of that job are one training, and not many that were launched together."""
    job_uid: str = ""
    """The name that the ranks of that training share; empty if it did not reach this one."""
    training_id: str = ""
    """The name that a framework's checkpoints carry from attempt to attempt; empty without one."""
    clock: Mapping[str, Any] = field(default_factory=dict)
    """One moment as ``monotonic_ns`` and ``unix_ns``."""
    began: datetime | None = None
    """When monitoring began, UTC; None of a command."""
    planned_epochs: float | None = None
    """None of a command; 0 if the number is not known."""
    planned_steps: int | None = None
    """None if the plan is in epochs."""
    components: tuple[str, ...] = ()
    """Kinds of devices that a training chose."""
    command: tuple[str, ...] = ()
    """Empty of a training."""
    script: str = ""
    """Name of the file that a training was started with, without its directory; empty of a command,
    and where there is no file, as in a notebook."""
    zero_footprint: Footprint | None = None
    """Its intensity, PUE and location are the choices made."""
    pue_source: str = ""
    project: str = ""
    """What the run contributes to, such as a model; empty if it was not said, like the next two."""
    stage: str = ""
    """Part of the project: ``pretraining``, ``fine-tuning``, ``evaluation``, ``development``."""
    parent: str = ""
    """Id of the run whose checkpoint this run started from."""
    marks_only: bool = False
    """Whether the record has the times of a rank only: another rank's has the energy."""
    recalculated_from: Footprint | None = None
    """The footprint in the record, if another one was calculated under other assumptions."""

    def __repr__(self) -> str:
        """Return the main values in one line."""
        text: str = import_module("carbontracker.report.brief").run_metadata(self)
        return text

    @property
    def of_marks_only(self) -> RunMetadata:
        """Return what a record of marks only needs to know: what joins it to the other ranks."""
        host = {name: self.host[name] for name in _OF_NODE if self.host.get(name) is not None}
        short = replace(self, host=host, software={}, sensors=(), missing=())
        return replace(short, zero_footprint=None, pue_source="", marks_only=True)

    @property
    def program(self) -> str:
        """Return the command, or the script of a training; empty if neither is known."""
        return " ".join(self.command) or self.script

    def with_purpose(
        self, project: str | None = None, stage: str | None = None, parent: str | None = None
    ) -> RunMetadata:
        """Return the same with another project, stage or parent; None changes nothing."""
        return replace(
            self,
            project=self.project if project is None else project,
            stage=self.stage if stage is None else stage,
            parent=self.parent if parent is None else parent,
        )

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
            "one_training": self.one_training,
            "clock": self.clock,
            "sensors": [one.to_dict() for one in self.sensors],
            "missing": [one.to_dict() for one in self.missing],
        }
        if self.job_uid:
            result["job_uid"] = self.job_uid
        if self.training_id:
            result["training_id"] = self.training_id
        if self.began is not None:
            result["began"] = self.began.isoformat(timespec="microseconds")
        if self.planned_epochs is not None:
            result |= {"epochs": self.planned_epochs, "components": self.components}
        if self.planned_steps is not None:
            result["max_steps"] = self.planned_steps
        if self.command:
            result["command"] = self.command
        if self.script:
            result["script"] = self.script
        result |= {name: getattr(self, name) for name in PURPOSE if getattr(self, name)}
        if self.marks_only:
            result["marks_only"] = True
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
            one_training=bool(data.get("one_training")),
            job_uid=string(data.get("job_uid")),
            training_id=string(data.get("training_id")),
            sensors=tuple(map(Sensor.from_dict, mappings(data.get("sensors")))),
            missing=tuple(map(MissingSensor.from_dict, mappings(data.get("missing")))),
            clock=mapping(data.get("clock")),
            began=time_of(data.get("began")),
            planned_epochs=count(data.get("epochs")),
            planned_steps=whole(data.get("max_steps")) or None,
            components=tuple(map(str, components)) if isinstance(components, list) else (),
            command=tuple(map(str, command)) if isinstance(command, list) else (),
            script=string(data.get("script")),
            marks_only=bool(data.get("marks_only")),
            zero_footprint=Footprint.from_dict(data["pricing"]) if "pricing" in data else None,
            pue_source=string(data.get("pue_source")),
            project=string(data.get("project")),
            stage=string(data.get("stage")),
            parent=string(data.get("parent")),
        )
