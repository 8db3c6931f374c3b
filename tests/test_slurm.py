"""Jobs by the real Slurm, on a simulated node of 1103 W: ``apt-get install slurm-wlm munge``."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from carbontracker.cli import main
from tests.support.jobs import (
    BESIDE,
    FILES,
    NODE_WATTS,
    PRELUDE,
    TORCH_WITHOUT_TORCHRUN,
    Node,
    simulated_node,
)
from tests.support.slurm import missing_program, slurm_cluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.slurm import Slurm

pytestmark = pytest.mark.skipif(
    bool(missing_program()),
    reason=f"needs {missing_program()}: apt-get install slurm-wlm munge",
)
CPUS = 8


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with slurm_cluster(tmp_path_factory.mktemp("slurm"), CPUS) as cluster:
        yield cluster


@pytest.fixture
def node(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Node]:
    folder = tmp_path / "node"
    folder.mkdir()
    with simulated_node(folder, shared=getattr(request, "param", True)) as one:
        yield one


def events(node: Node) -> list[list[dict[str, Any]]]:
    files = sorted(node.records.glob("*.jsonl"))
    return [list(map(json.loads, file.read_text().splitlines())) for file in files]


def jobs(node: Node, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["aggregate", str(node.records), "--job", "--json"]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return rows


def whole(joules: float, seconds: float) -> bool:
    return joules == pytest.approx(NODE_WATTS * seconds, rel=0.005)


WITH_TORCH = BESIDE.replace(", job=True", "").replace("wait_for_all", "dist.barrier")


@pytest.mark.parametrize(
    ("node", "by_torch"),
    [
        (True, False),
        pytest.param(False, False, marks=pytest.mark.slow),
        pytest.param(True, True, marks=pytest.mark.slow),
        pytest.param(False, True, marks=pytest.mark.slow),
    ],
    indirect=["node"],
)
def test_ranks_of_srun_are_one_job(
    slurm: Slurm, node: Node, by_torch: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    program = PRELUDE + FILES + BESIDE
    if by_torch:
        pytest.importorskip("torch", reason="needs torch")
        program = PRELUDE + TORCH_WITHOUT_TORCHRUN + WITH_TORCH
    srun = ("srun", "--overcommit", "-n", "4", sys.executable, "-c", program)
    ended = slurm.run(*srun, **node.environment)
    assert ended.code == 0, ended
    (word,) = node.words(0)
    assert (word["extent"], word["seen"], word["silent"]) == ("job", [0, 1, 2, 3], [])
    assert whole(word["joules"], word["seconds"])
    assert ended.blocks == 1
    assert "This is the whole job: 4 processes on 1 node." in ended.out
    told = [record[0]["job"]["slurm"] for record in events(node)]
    assert {one["rank"] for one in told} == set("0123")
    (job,) = jobs(node, capsys)
    assert (len(job["runs"]), job["attempts"]) == (4, 1)
    assert whole(job["joules"], job["seconds"])


ALONE = """
tracker = CarbonTracker(1, epochs_before_pred=0)
tracker.epoch_start()
time.sleep(2.0)
tracker.epoch_end()
tracker.stop()
said_result(tracker)
"""


@pytest.mark.slow
def test_a_farm_shows_a_block_for_each_training(
    slurm: Slurm, node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    program = PRELUDE + ALONE
    srun = ("srun", "--overcommit", "-n", "8", sys.executable, "-c", program)
    ended = slurm.run(*srun, **node.environment)
    assert ended.code == 0, ended
    assert ended.blocks == 8
    shared = "This is the energy of the whole node, shared by 8 processes of this launch"
    assert ended.out.count(shared) == 8
    for rank in range(8):
        (word,) = node.words(rank)
        assert word["extent"] == "process"
        assert word["joules"] == pytest.approx(NODE_WATTS * word["seconds"], rel=0.01)
    assert len(jobs(node, capsys)) == 8


@pytest.mark.slow
def test_tasks_of_an_array_are_jobs_of_their_own(
    slurm: Slurm, node: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "train.py"
    program.write_text(PRELUDE + ALONE)
    script = tmp_path / "job.sh"
    script.write_text(f"#!/bin/sh\n#SBATCH --array=0-3\nexec srun {sys.executable} {program}\n")
    out = tmp_path / "%A_%a.out"
    ended = slurm.run("sbatch", "--wait", f"--output={out}", str(script), **node.environment)
    assert ended.code == 0, ended
    texts = [file.read_text() for file in tmp_path.glob("*.out")]
    assert [text.count("Actual consumption") for text in texts] == [1] * 4, texts
    told = [record[0]["job"]["slurm"] for record in events(node)]
    assert {one["array_task_id"] for one in told} == set("0123")
    assert len({one["array_job_id"] for one in told}) == 1
    found = jobs(node, capsys)
    assert [len(job["runs"]) for job in found] == [1] * 4
    for job in found:
        assert job["joules"] == pytest.approx(NODE_WATTS * job["seconds"], rel=0.01)


REQUEUED = """
tracker = CarbonTracker(2, epochs_before_pred=0, job=True)
again = os.environ.get("SLURM_RESTART_COUNT", "0") != "0"
for epoch in range(2 if again else 100):
    tracker.epoch_start()
    time.sleep(1.0)
    tracker.epoch_end()
    say(again=again)
tracker.stop()
"""


@pytest.mark.slow
def test_a_job_that_is_requeued_is_one_of_two_attempts(
    slurm: Slurm, node: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "train.py"
    program.write_text(PRELUDE + REQUEUED)
    script = tmp_path / "job.sh"
    script.write_text(
        f"#!/bin/sh\n#SBATCH --requeue --ntasks=2 --overcommit\nsrun {sys.executable} {program}\n"
    )
    batch = ("sbatch", "--parsable", f"--output={tmp_path}/out", str(script))
    job_id = slurm.run(*batch, **node.environment).out.strip()
    assert job_id
    slurm.await_true(lambda: all(len(node.words(rank)) > 1 for rank in range(2)))
    assert slurm.run("scontrol", "requeue", job_id).code == 0
    slurm.await_true(lambda: slurm.state(job_id) in {"COMPLETED", "FAILED"})
    assert slurm.state(job_id) == "COMPLETED"
    (job,) = jobs(node, capsys)
    assert (job["attempts"], len(job["runs"])) == (2, 4)
    assert {record[0]["job"]["slurm"].get("restart_count", "0") for record in events(node)} == {
        "0",
        "1",
    }
    assert whole(job["joules"], job["seconds"])
    assert job["seconds"] > 4.0
