"""Machines from snapshots: ``python -m tests.support.replay MACHINE.tar.gz`` prints what is found.

The output belongs into ``tests/data/machines``, beside the archive.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tarfile
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carbontracker.cli import main
from tests.support.running import Gpu, fake_nvml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MOVING = frozenset(("watts", "readings_per_second", "refresh_seconds", "read_by"))
"""What ``sensors --json`` measures, which is not the same each time."""


def inventory() -> dict[str, Any]:
    """Return the whole ``sensors --json`` of the machine in the environment, without readings."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(["sensors", "--json", "--seconds", "0.1"]) == 0
    found = json.loads(out.getvalue().replace(os.environ["CARBONTRACKER_ROOT"], ""))
    readable = [{k: v for k, v in one.items() if k not in MOVING} for one in found["readable"]]
    return {"readable": readable, "absent": found["absent"]}


@contextmanager
def replayed(archive: Path, folder: Path) -> Iterator[dict[str, str]]:
    """Extract a snapshot, and yield the environment in which it is this machine."""
    root = folder / "machine"
    with tarfile.open(archive) as snapshot:
        snapshot.extractall(root, filter="fully_trusted")
    environment = {"CARBONTRACKER_ROOT": str(root), "CARBONTRACKER_NVML": "/nonexistent"}
    answers = root / "nvml.json"
    boards = boards_of(json.loads(answers.read_text())) if answers.exists() else []
    with contextlib.ExitStack() as stack:
        if boards:
            driver = stack.enter_context(fake_nvml(folder, boards))
            environment |= driver.environment | {"CARBONTRACKER_NVML": str(driver.library)}
        yield environment


def boards_of(answers: Mapping[str, Any]) -> list[Gpu]:
    """Return boards that answer as those in a snapshot did."""
    return [board_of(one) for one in answers["devices"] if one["opened"]["status"] == 0]


def board_of(one: Mapping[str, Any]) -> Gpu:
    """Return a board of which each call has the same status, value and time."""

    def value(name: str) -> float:
        answer = one[name]
        return answer["value"] if answer["status"] == 0 else 0

    power = value("field 186 scope 0") or value("field 185 scope 0")
    module = value("field 186 scope 1") or value("field 185 scope 1")
    usage = value("nvmlDeviceGetPowerUsage")
    energy = one["nvmlDeviceGetTotalEnergyConsumption"]
    rate = one["energy_after_a_second"]["value"] - energy["value"]  # mJ in a second: mW
    watts = (power or usage or 100_000) / 1000
    least, most = one["nvmlDeviceGetPowerManagementLimitConstraints"]["value"]
    board = Gpu(
        name=one["name"],
        power=f"constant:{watts}",
        energy=energy["status"] == 0,
        usage=one["nvmlDeviceGetPowerUsage"]["status"] == 0,
        fields=bool(power or module),
        samples=False,
        start_j=energy["value"] / 1000,
        latency_us=max(answer["us"] for answer in one.values() if _has_time(answer)),
        limits=one["nvmlDeviceGetEnforcedPowerLimit"]["status"] == 0,
        limit_w=value("nvmlDeviceGetEnforcedPowerLimit") / 1000,
        min_w=least / 1000,
        max_w=most / 1000,
        virtual=int(value("nvmlDeviceGetVirtualizationMode")),
    )
    if one["nvmlDeviceGetArchitecture"]["status"] == 0:
        board["arch"] = int(value("nvmlDeviceGetArchitecture"))
    if module:
        board["module"] = f"constant:{module / 1000}"
        board["gpu_scope"] = bool(power)
        board["module_counter"] = abs(rate - module) < abs(rate - power)
    return board


def _has_time(answer: object) -> bool:
    return isinstance(answer, dict) and "us" in answer


if __name__ == "__main__":
    with (
        tempfile.TemporaryDirectory() as name,
        replayed(Path(sys.argv[1]), Path(name)) as variables,
    ):
        os.environ.update(variables)
        print(json.dumps(inventory(), indent=2))
