"""A training of Ray actors on a simulated node of 1103 W."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.jobs import NODE_WATTS, TIMEOUT_S, simulated_node

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("ray", reason="needs ray")

PROGRAM = """\
import json, os, time
import ray

RANKS = 4

@ray.remote(num_cpus=0.1)
class Rank:
    def __init__(self, rank):
        self.rank = rank
        os.environ["RANK"], os.environ["WORLD_SIZE"] = str(rank), str(RANKS)

    def begin(self):
        from carbontracker.tracker import CarbonTracker
        self.tracker = CarbonTracker(2, epochs_before_pred=0, job=True)

    def train(self):
        for epoch in range(2):
            self.tracker.epoch_start()
            time.sleep(1.5)
            self.tracker.epoch_end()

    def end(self):
        self.tracker.stop()
        result = self.tracker.result
        seen = result.ranks and result.ranks.seen
        return result.extent, result.energy.joules, result.seconds, seen

ray.init(num_cpus=2, include_dashboard=False, _temp_dir=os.environ["RAY_FOLDER"])
ranks = [Rank.remote(rank) for rank in range(RANKS)]
for step in ("begin", "train"):
    ray.get([getattr(rank, step).remote() for rank in ranks])
found = ray.get([rank.end.remote() for rank in ranks])
print("FOUND", json.dumps(found[0]))
ray.shutdown()
"""


def test_actors_are_one_job(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path / "node"
    folder.mkdir()
    program = tmp_path / "train.py"
    program.write_text(PROGRAM)
    short = tmp_path_factory.mktemp("ray")  # the names of its sockets are limited
    with simulated_node(folder, shared=True) as node:
        ended = subprocess.run(
            [sys.executable, str(program)],
            env=os.environ
            | node.environment
            | {"RAY_FOLDER": str(short), "RAY_USAGE_STATS_ENABLED": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=2 * TIMEOUT_S,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        found = ended.stdout.partition("FOUND ")[2].partition("\n")[0]
        extent, joules, seconds, seen = json.loads(found)
        assert (extent, seen) == ("job", [0, 1, 2, 3])
        assert joules == pytest.approx(NODE_WATTS * seconds, rel=0.005)
        assert (ended.stdout + ended.stderr).count("Actual consumption") == 1
