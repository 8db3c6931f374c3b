"""The place of a process in the job that it was started for."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carbontracker.environment import is_yes
from carbontracker.jobs.frameworks import ONE_TRAINING, framework_data
from carbontracker.jobs.launchers import LAUNCHERS, job_data
from carbontracker.jobs.processes import boot_id, process_start_ticks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Said = Mapping[str, Mapping[str, str]]

_AMBIGUOUS = {one.name: one.ambiguous_ids for one in LAUNCHERS} | {"ray": ("01000000",)}
"""Values of ``job_id`` that many jobs share: of every plain ``torchrun``, and of every local
cluster of Ray."""
_RANKS_NEED = {one.name: "step_id" for one in LAUNCHERS if one.ranks_need}
_STARTED_BY_ONE = {"torchrun", "mpi", "mpich"}
"""Launchers of which one process starts all ranks of a node, also again after a failure: where they
have no name for the job, the ranks of a node are told by it."""
_SCHEDULERS = ("slurm", "pbs", "flux", "kubernetes")
"""What may give a job a part of a node."""
_REPEATED = re.compile(r"(\d+)(?:\(x(\d+)\))?")


@dataclass(frozen=True)
class Launch:
    """Which of how many processes this one is; None where it is not known."""

    said: Said
    """What schedulers, launchers and frameworks told, by their names; believed in this order."""
    one_training: bool = False
    """Whether the ranks are one training, and not many that were launched together."""

    @property
    def rank(self) -> int | None:
        """Return the number of this process, from 0."""
        return self._number("rank")

    @property
    def world_size(self) -> int | None:
        """Return the number of processes."""
        return self._number("world_size")

    @property
    def local_rank(self) -> int | None:
        """Return the number of this process on its node, from 0."""
        return self._number("local_rank")

    @property
    def local_world_size(self) -> int | None:
        """Return the number of processes on this node."""
        found = self._number("local_world_size")
        return self._of_slurm() if found is None else found

    @property
    def nodes(self) -> int | None:
        """Return the number of nodes."""
        return self._number("nodes")

    @property
    def several(self) -> bool:
        """Return whether there are other processes of the same launch."""
        return (self.world_size or 1) > 1

    @property
    def is_rank_of_training(self) -> bool:
        """Return whether this process is one of several ranks of one training."""
        return self.one_training and self.several and self.rank is not None

    @property
    def shares_node(self) -> bool:
        """Return whether other processes of the same launch are on this node, as far as known."""
        here = self.local_world_size
        if here is None:
            return self.several and self.world_size != self.nodes
        return here > 1

    def share_of_cpus(self, usable: int | None, installed: int | None) -> float | None:
        """Return the share of the node's CPUs that a scheduler gave this job; None if all or none.

        Args:
            usable: CPUs that this process may use.
            installed: CPUs of the node.
        """
        if not installed or not any(name in self.said for name in _SCHEDULERS):
            return None
        given = _whole(self.said.get("slurm", {}).get("cpus_on_node"))
        # What the scheduler says, because a rank may be bound to a part of what its job has.
        share = (given or usable or installed) / installed
        return share if 0.0 < share < 1.0 else None

    @property
    def attempt(self) -> int:
        """Return how often the job was started before: requeued, or begun again after a failure."""
        counts = (_whole(one.get("restart_count")) for one in self.said.values())
        return sum(count or 0 for count in counts)

    @property
    def user(self) -> str:
        """Return whose job it is, as its scheduler says; empty if it says nothing."""
        return next((one["user"] for one in self.said.values() if one.get("user")), "")

    @property
    def ids(self) -> tuple[str, ...]:
        """Return what names the job, of each that has a name for it; empty if nothing does.

        An id that many jobs share is left out.
        """
        return tuple(self._ids())

    @property
    def ambiguous(self) -> tuple[str, ...]:
        """Return the ids that many jobs share."""
        return tuple(
            f"{name} {one['job_id']}"
            for name, one in self.said.items()
            if one.get("job_id") in _AMBIGUOUS.get(name, ())
        )

    @property
    def starter(self) -> str:
        """Return what names the process that started the ranks of this node; empty if unknown."""
        return next((one["starter"] for one in self.said.values() if one.get("starter")), "")

    def _ids(self) -> Iterator[str]:
        for name, one in self.said.items():
            job_id = one.get("job_id")
            if job_id and job_id not in _AMBIGUOUS.get(name, ()):
                words = (one.get("cluster"), job_id, one.get("step_id"))
                yield f"{name} {'.'.join(word for word in words if word)}"

    def _number(self, field: str) -> int | None:
        for name, one in self.said.items():
            needed = _RANKS_NEED.get(name)
            if field in one and (needed is None or needed in one):
                found = _whole(one[field])
                if found is not None:
                    return found
        return None

    def _of_slurm(self) -> int | None:
        """Return how many tasks of the step Slurm put on this node: of "4(x2),3"."""
        slurm = self.said.get("slurm", {})
        index, texts = _whole(slurm.get("node_rank")), slurm.get("tasks_per_node", "")
        tasks = [
            int(found[1])
            for found in map(_REPEATED.fullmatch, texts.split(","))
            if found is not None
            for _ in range(min(int(found[2] or 1), (index or 0) + 1))
        ]
        return tasks[index] if index is not None and index < len(tasks) else None


def this_launch(job: bool | None) -> Launch:
    """Return the place of this process, as it is known now.

    Args:
        job: whether the ranks are one training; None to take ``CARBONTRACKER_JOB``, and without it
            what frameworks say.
    """
    frameworks, launched = framework_data(), job_data(os.environ)
    for name in _STARTED_BY_ONE & launched.keys():
        launched[name]["starter"] = _parent()
    said = frameworks | launched
    if job is None:
        text = os.environ.get("CARBONTRACKER_JOB", "").strip()
        job = is_yes(text) if text else any(name in frameworks for name in ONE_TRAINING)
    return Launch(said, one_training=job)


def _parent() -> str:
    """Return what names the process that started this one; empty if the kernel does not say."""
    boot, ticks = boot_id(), process_start_ticks(os.getppid())
    return f"{boot}:{os.getppid()}:{ticks}" if boot and ticks else ""


def _whole(text: object) -> int | None:
    return int(text) if isinstance(text, str) and text.isdecimal() else None
