"""Two namespaces of this machine as two nodes of 1103 W each, whose ranks are one job.

Each has a ``/dev/shm``, a ``boot_id`` and a network of its own, and shares only a directory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from carbontracker.cli import main
from tests.support.jobs import (
    BESIDE,
    FILES,
    NODE_WATTS,
    PRELUDE,
    TIMEOUT_S,
    WITHOUT_TORCH,
    simulated_node,
)

if TYPE_CHECKING:
    from pathlib import Path

NODES, RANKS_HERE = 2, 2
BOOT_ID = "/proc/sys/kernel/random/boot_id"
UNSHARE = ("unshare", "--mount", "--net", "sh", "-ec")
SAID_TIMES = """
class CarbonTracker(CarbonTracker):
    def epoch_start(self):
        super().epoch_start()
        say(start=time.monotonic())

    def epoch_end(self):
        say(end=time.monotonic())
        super().epoch_end()
"""


def may_unshare() -> bool:
    try:
        tried = subprocess.run(
            [*UNSHARE, "mount -t tmpfs tmpfs /dev/shm"], check=False, capture_output=True
        )
    except OSError:
        return False
    return tried.returncode == 0


@pytest.mark.parametrize("by_store", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_nodes_add_up_to_one_job(
    tmp_path: Path, by_store: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    if not may_unshare():
        pytest.skip("needs root: unshare --mount --net")
    program = PRELUDE + SAID_TIMES + FILES + BESIDE
    if by_store:
        training = BESIDE.replace(", job=True", "").replace("wait_for_all", "dist.barrier")
        program = PRELUDE + SAID_TIMES + WITHOUT_TORCH + training
    with ExitStack() as stack:
        running, first = [], None
        for number in range(NODES):
            folder = tmp_path / f"n{number}"
            folder.mkdir()
            node = stack.enter_context(simulated_node(folder))
            first = first or node
            boot_id = folder / "boot_id"
            boot_id.write_text(f"{number:08}-1111-4222-8333-444444444444\n")
            ranks = range(number * RANKS_HERE, (number + 1) * RANKS_HERE)
            script = [
                "mount -t tmpfs tmpfs /dev/shm",
                f"mount --bind {boot_id} {BOOT_ID}",
                *(f'RANK={i} SLURM_PROCID={i} "$0" -c "$1" & p{i}=$!' for i in ranks),
                *(f"wait $p{i}" for i in ranks),
            ]
            shared = ("CARBONTRACKER_DIR", "SAID", "FAKE_STORE")
            environment = node.environment | {name: first.environment[name] for name in shared}
            environment |= {"WORLD_SIZE": "4", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "77"}
            environment |= {"SLURM_STEP_ID": "0", "SLURM_NODEID": str(number)}
            environment |= {"LOCAL_WORLD_SIZE": str(RANKS_HERE), "CARBONTRACKER_SHARE": "1"}
            one = subprocess.Popen(
                [*UNSHARE, "\n".join(script), sys.executable, program],
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            running.append(one)
            stack.callback(one.wait)
            stack.callback(one.kill)
        outs = [one.communicate(timeout=TIMEOUT_S) for one in running]
    assert [one.returncode for one in running] == [0, 0], outs
    assert first is not None
    seconds = 0.0
    for number in range(NODES):
        here = range(number * RANKS_HERE, (number + 1) * RANKS_HERE)
        words = [word for rank in here for word in first.words(rank)]
        starts = [word["start"] for word in words if "start" in word]
        ends = [word["end"] for word in words if "end" in word]
        seconds += max(ends) - min(starts)
    word = first.words(0)[-1]
    assert (word["extent"], word["nodes"]) == ("job", NODES)
    assert (word["seen"], word["silent"]) == ([0, 1, 2, 3], [])
    assert word["joules"] == pytest.approx(NODE_WATTS * seconds, rel=0.005)
    assert sum(out.count("Actual consumption") for out, _ in outs) == 1
    assert main(["aggregate", str(first.records), "--job", "--json"]) == 0
    (job,) = json.loads(capsys.readouterr().out)
    assert (len(job["runs"]), len(job["nodes"])) == (4, NODES)
    assert job["joules"] == pytest.approx(NODE_WATTS * seconds, rel=0.005)
