"""Jobs by the real torchrun (gloo, 4 processes) on a simulated node of 1103 W."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from carbontracker.cli import main
from carbontracker.records.ledger import make_ledger
from carbontracker.records.reader import read_runs
from tests.support.endings import LIMITED, ending
from tests.support.jobs import (
    NODE_WATTS,
    PRELUDE,
    TORCH,
    TORCH_WITHOUT_TORCHRUN,
    Node,
    simulated_node,
    torchrun,
)
from tests.support.snippets import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("torch", reason="needs torch")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    folder = tmp_path / "node"
    folder.mkdir()
    with simulated_node(folder, shared=True) as one:
        yield one


def the_job(node: Node, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["aggregate", str(node.records), "--job", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert isinstance(row, dict)
    return row


KILLED = """
tracker = CarbonTracker(3, epochs_before_pred=0)
dist.barrier()
began = time.monotonic()
tracker.epoch_start()
time.sleep(2.0)
dist.barrier()
tracker.epoch_end()
tracker.epoch_start()
time.sleep(16.0)
if rank == 0:
    say(measured=time.monotonic() - began)
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(60.0)
"""


def test_a_job_whose_rank_0_is_killed_is_counted_until_shortly_before(
    node: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "train.py"
    program.write_text(PRELUDE + TORCH + KILLED)
    ended = torchrun(node, program)
    assert ended.code != 0
    (word,) = node.words(0)
    job = the_job(node, capsys)
    assert len(job["runs"]) == 4
    assert word["measured"] - 10.0 < job["seconds"]
    assert job["joules"] == pytest.approx(NODE_WATTS * job["seconds"], rel=0.01)


WORK = """
tracker = CarbonTracker(2, epochs_before_pred=0)
dist.barrier()
for epoch in range(2):
    tracker.epoch_start()
    for _ in range(10):
        time.sleep(0.1)
        tracker.step(tokens=1000 + rank, samples=2)
    dist.barrier()
    tracker.epoch_end()
tracker.stop()
say(work=tracker.result.work.to_dict())
"""


def test_the_tokens_of_all_ranks_are_added_once(
    node: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "train.py"
    program.write_text(PRELUDE + TORCH + WORK)
    ended = torchrun(node, program, world=2)
    assert ended.code == 0, ended
    work = {"tokens": 2 * 10 * (1000 + 1001), "samples": 2 * 10 * 2 * 2}
    (word,) = node.words(0)
    assert word["work"] == work
    cost = make_ledger(read_runs(node.records)).whole.cost
    assert cost.work == work
    assert cost.joules_per("tokens")[0] == pytest.approx(cost.joules / work["tokens"])
    job = the_job(node, capsys)
    assert job["joules"] == pytest.approx(NODE_WATTS * job["seconds"], rel=0.02)
    assert cost.joules == pytest.approx(job["joules"], rel=0.001)


TRAINER = f"""
sys.path.insert(0, {str(ROOT)!r})
from tests.support.train_ranks import train
say(**train())
"""


@pytest.mark.slow
def test_what_a_trainer_counts_of_all_ranks_is_not_multiplied(node: Node, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="needs transformers")
    pytest.importorskip("accelerate", reason="needs accelerate")
    program = tmp_path / "train.py"
    program.write_text(PRELUDE + TRAINER)
    ended = torchrun(node, program, world=2)
    assert ended.code == 0, ended
    (word,) = node.words(0)
    assert word["trainer"] == 2 * 32 * 16  # epochs, rows, tokens of a row
    assert word["ours"] == {"tokens": word["trainer"], "samples": 2 * 32} | {
        "flops": pytest.approx(word["flops"])
    }
    assert word["accelerate"] == {"samples": 2 * 32}
    cost = make_ledger(read_runs(node.records)).whole.cost
    assert cost.work["tokens"] == word["trainer"]


AGAIN = """
again = os.environ["TORCHELASTIC_RESTART_COUNT"] != "0"
tracker = CarbonTracker(2, epochs_before_pred=0)
dist.barrier()
for epoch in range(2):
    tracker.epoch_start()
    time.sleep(1.5)
    dist.barrier()
    tracker.epoch_end()
    if not again and epoch == 0:
        time.sleep(1.0)
        dist.barrier()
        if rank == 1:
            os._exit(1)
tracker.stop()
said_result(tracker)
"""


@pytest.mark.slow
def test_a_job_that_torchrun_begins_again_is_one_of_two_attempts(
    node: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "train.py"
    # Not by the agent's store: with it gloo of torch 2.13 finds the addresses of the first attempt.
    program.write_text(PRELUDE + TORCH_WITHOUT_TORCHRUN + AGAIN)
    ended = torchrun(node, program, "--max-restarts=1")
    assert ended.code == 0, ended
    assert ended.blocks == 1
    job = the_job(node, capsys)
    assert (job["attempts"], len(job["runs"])) == (2, 8)
    assert job["joules"] == pytest.approx(NODE_WATTS * job["seconds"], rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("only rank 0 tracks", "Not reported: ranks 1-3"),
        ("rank 3 never stops", "This is the whole job: 4 processes on 1 node."),
        ("rank 3 is gone", "Without an end: rank 3"),
        ("rank 2 raises", ""),  # torchrun ends the others, and they may have no time to print
        ("group destroyed", "This is the whole job: 4 processes on 1 node."),
    ],
)
def test_what_the_end_of_others_may_be(
    node: Node, tmp_path: Path, name: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "train.py"
    program.write_text(ending(name))
    ended = torchrun(node, program)
    assert (ended.code == 0) == (name != "rank 2 raises"), ended
    assert words in ended.out
    assert ended.blocks == 1 or not words
    job = the_job(node, capsys)
    assert job["joules"] == pytest.approx(NODE_WATTS * job["seconds"], rel=0.01)


@pytest.mark.slow
def test_all_ranks_stop_at_a_limit_of_the_job(node: Node, tmp_path: Path) -> None:
    program = tmp_path / "train.py"
    program.write_text(LIMITED.replace("KWH", str(3000 * 1.58 / 3.6e6)))
    ended = torchrun(node, program)
    assert ended.code == 0, ended
    words = [word for rank in range(4) for word in node.words(rank)]
    assert [word["limit"] for word in words] == ["max_kwh"] * 4
    assert len({word["done"] for word in words}) == 1
    assert words[0]["done"] < 59
    assert ended.blocks == 1


STALLED = """
tracker = CarbonTracker(2, epochs_before_pred=0)
for epoch in range(2):
    tracker.epoch_start()
    time.sleep(0.7)
    dist.barrier()
    if epoch == 0 and rank == 0:
        os.kill(os.getppid(), signal.SIGSTOP)  # torchrun has the store
    tracker.epoch_end()
tracker.stop()
said_result(tracker)
if rank == 0:
    os.kill(os.getppid(), signal.SIGCONT)
"""


@pytest.mark.slow
def test_a_store_that_answers_when_the_program_ends_does_not_abort_it(
    node: Node, tmp_path: Path
) -> None:
    program = tmp_path / "train.py"
    program.write_text(PRELUDE + TORCH + STALLED)
    ended = torchrun(node, program, world=2)
    assert ended.code == 0, ended
    assert "The other ranks were not heard of: carbontracker aggregate --job." in ended.out
    for rank in range(2):
        (word,) = node.words(rank)
        assert word["joules"] == pytest.approx(NODE_WATTS * word["seconds"], rel=0.01)


SILENT = """
class Last:
    def __del__(self, kill=os.kill, agent=os.getppid(), go_on=signal.SIGCONT, sleep=time.sleep):
        kill(agent, go_on)
        sleep(1.0)

last = Last()  # goes when the interpreter ends, and no other thread may run Python any more
tracker = CarbonTracker(2, epochs_before_pred=0)
for epoch in range(2):
    tracker.epoch_start()
    time.sleep(0.7)
    dist.barrier()
    if epoch == 0 and rank == 0:
        os.kill(os.getppid(), signal.SIGSTOP)  # torchrun has the store
    tracker.epoch_end()
tracker.stop()
say(joules=tracker.result.energy.joules, seconds=tracker.result.seconds)
"""


@pytest.mark.slow
def test_a_store_that_answers_after_the_end_of_python_does_not_abort_the_program(
    node: Node, tmp_path: Path
) -> None:
    program = tmp_path / "train.py"
    program.write_text(PRELUDE + TORCH + SILENT)
    ended = torchrun(node, program, world=2)
    assert ended.code == 0, ended
    for rank in range(2):
        (word,) = node.words(rank)
        assert word["joules"] == pytest.approx(NODE_WATTS * word["seconds"], rel=0.01)
