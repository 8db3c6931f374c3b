"""The share of a process or job in the energy of its machine.

share = (dE - idle) x d(processor time of mine) / d(processor time of all) + idle x mine / all CPUs

for each package, over each epoch. The idle power is the published one of the micro-architecture,
because no sensor shows it while programs run. It is split by the CPUs that were allocated and not
by use: the CPUs that a job holds idle for it also while it waits. Without an allocation, it is
attributed to no process.
"""

from __future__ import annotations

import math
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from carbontracker.energy.cpu_usage import CpuUsage
from carbontracker.energy.processor_model import power_line, processors
from carbontracker.exceptions import TableError
from carbontracker.model.attribution import Attribution

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from carbontracker.energy.cpu_usage import Usage
    from carbontracker.energy.energy import Energy
    from carbontracker.energy.session import Session

    Used = tuple[Energy, Usage | None, Usage | None]
    """Energy of an epoch, and the processor time at its ends."""

_SPLIT_KINDS = ("cpu", "dram")
_PACKAGE = re.compile(r"[a-z]+:(\d+)")
NOT_READ = "the processor time could not be read at both ends of an epoch"


class Share:
    """Reads processor time at marks, and attributes the energy between them.

    Args:
        session: has the channels and the root folder.
        scope: ``job`` or ``process``.
        pid: of the process in the root folder; by default this one.
    """

    def __init__(self, session: Session, scope: str, pid: int | None = None) -> None:
        self._session = session
        self._scope = scope
        self._reason = ""
        self._usage: CpuUsage | None = None
        self._reading = threading.Lock()  # windows of several threads read in turn
        self._idle_watts = 0.0
        root = Path(session.config.root)
        try:
            self._usage = CpuUsage(root, scope, pid)
            machine = processors(root)
            # For each logical CPU, as the table has it.
            self._idle_watts = power_line(machine).idle_watts / max(1, machine.logical)
        except (LookupError, OSError, TableError, ValueError) as error:
            self._usage, self._reason = None, str(error)

    def read(self) -> Usage | None:
        """Return the processor time so far; None if it cannot be read."""
        if self._usage is None:
            return None
        with self._reading:
            return self._usage.read()

    def of(self, epochs: Iterable[Used]) -> Attribution:
        """Return the share in the energy of these epochs."""
        by_device: dict[str, float] = {}
        idle_joules = of_joules = 0.0
        others: dict[str, None] = {}
        reason = self._reason
        for energy, before, after in epochs:
            if self._usage is None:
                break
            if before is None or after is None:
                reason = NOT_READ
                break
            kinds = {info.id: info.kind for info in self._session.channels if info.counted}
            for name, part in energy.by_device.items():
                if kinds.get(name) not in _SPLIT_KINDS or math.isnan(part.joules):
                    others[name] = None
                    continue
                packages = self._packages_of(name, kinds)
                busy, idle = self._split(kinds[name], part, packages, before, after)
                by_device[name] = by_device.get(name, 0.0) + busy + idle
                idle_joules += idle
                of_joules += part.joules
        known = not reason and bool(by_device)
        return Attribution(
            scope=self._scope,
            joules=math.fsum(by_device.values()) if known else math.nan,
            idle_joules=idle_joules if known else math.nan,
            of_joules=of_joules if known else math.nan,
            by_device=by_device if known else {},
            not_attributed=tuple(others),
            how=self._how(),
            reason=reason if reason or known else "no processor or memory is measured",
        )

    def _packages_of(self, name: str, kinds: Mapping[str, str]) -> list[int]:
        """Return the packages that a channel measures: its own, or all of them."""
        packages = list(self._usage.cpus) if self._usage else []
        numbers = {
            other: int(found[1]) if (found := _PACKAGE.fullmatch(other)) else -1
            for other, kind in kinds.items()
            if kind == kinds[name]
        }
        has_each = sorted(numbers.values()) == sorted(packages)
        return [numbers[name]] if has_each else packages

    def _split(
        self, kind: str, energy: Energy, packages: list[int], before: Usage, after: Usage
    ) -> tuple[float, float]:
        """Return the joules by use and by allocation."""
        assert self._usage is not None
        cpus = sum(self._usage.cpus[package] for package in packages)
        busy_s, mine_s = (
            math.fsum(getattr(after, of)[one] - getattr(before, of)[one] for one in packages)
            for of in ("busy", "mine")
        )
        # Memory that no program uses is refreshed all the same, but no table has its idle power.
        watts = self._idle_watts * cpus if kind == "cpu" else 0.0
        idle = min(energy.joules, watts * energy.seconds)
        use = min(1.0, mine_s / busy_s) if busy_s > 0 else 0.0
        allocated = self._usage.allocation.cpus
        held = 0.0 if allocated is None else sum(allocated[one] for one in packages) / cpus
        return (energy.joules - idle) * use, idle * held

    def _how(self) -> str:
        if self._usage is None:
            return ""
        allocation, cpus = self._usage.allocation, sum(self._usage.cpus.values())
        if allocation.cpus is None:
            return f"{allocation.how}; no CPUs are allocated, so that no idle power is in it"
        held = math.fsum(allocation.cpus.values())
        return f"{allocation.how}, {held:g} of {cpus} CPUs"
