"""Records of ranks that read no device: small, and the energy of the job is still whole."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest

from carbontracker.cli import main
from carbontracker.records.aggregate import add_runs
from carbontracker.records.reader import read_runs
from tests.support.jobs import (
    NODE_WATTS,
    PRELUDE,
    WITHOUT_TORCH,
    Ended,
    Node,
    ranks_environment,
    run_ranks,
    simulated_node,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EPOCHS = 8
PROGRAM = f"""
if rank:
    while not os.path.exists(os.path.join(os.environ["SAID"], "reads")):
        time.sleep(0.01)
tracker = CarbonTracker({EPOCHS}, epochs_before_pred=0)
if rank == 0:
    open(os.path.join(os.environ["SAID"], "reads"), "w").close()
dist.barrier()
for epoch in range({EPOCHS}):
    tracker.epoch_start()
    time.sleep(0.15)
    dist.barrier()
    tracker.epoch_end()
    if epoch == 3 and os.environ.get("KILLED") == str(rank):
        os.kill(os.getpid(), signal.SIGKILL)
tracker.stop()
"""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    folder = tmp_path / "node"
    folder.mkdir()
    with simulated_node(folder, shared=True) as one:
        yield one


def run(node: Node, world: int = 4, **more: str) -> list[Ended]:
    environments = [one | node.environment | more for one in ranks_environment(world)]
    return run_ranks(PRELUDE + WITHOUT_TORCH + PROGRAM, environments)


def records(node: Node) -> dict[int, list[dict[str, Any]]]:
    """Return the events of each rank."""
    found = {}
    for file in node.records.glob("*.jsonl"):
        events = list(map(json.loads, file.read_text().splitlines()))
        found[int(next(iter(events[0]["job"].values()))["rank"])] = events
    return found


def seconds_of(node: Node) -> float:
    """Return how long at least one rank was in an epoch, s."""
    spans = sorted(
        (run.started.timestamp() + one.start_s, run.started.timestamp() + one.end_s)
        for run in read_runs(node.records, series=False)
        for one in run.epochs
    )
    seconds, until_s = 0.0, 0.0
    for start_s, end_s in spans:
        seconds += max(0.0, end_s - max(start_s, until_s))
        until_s = max(until_s, end_s)
    return seconds


def test_ranks_that_read_nothing_keep_their_marks(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = run(node)
    assert [one.code for one in ended] == [0] * 4, ended
    found = records(node)
    assert [bool(found[rank][0].get("marks_only")) for rank in range(4)] == [False, *[True] * 3]
    for rank in (1, 2, 3):
        names = [event["event"] for event in found[rank]]
        assert set(names) <= {"run_started", "job", "marks", "run_finished"}
        assert names.count("marks") == EPOCHS
    for file in node.records.glob("*.jsonl"):
        lines = file.read_bytes().splitlines(keepends=True)
        marks = [line for line in lines if line.startswith(b'{"event":"marks"')]
        assert not marks or sum(map(len, lines)) <= 2000 + 100 * EPOCHS
        assert all(len(line) <= 100 for line in marks)
        assert main(["check", str(file)]) == 0
    total = add_runs(read_runs(node.records, series=False, epochs=False))
    assert total.joules == pytest.approx(NODE_WATTS * seconds_of(node), rel=0.005)
    assert (total.jobs, total.runs, total.left_out) == (1, 4, {})
    capsys.readouterr()
    assert main(["aggregate", str(node.records), "--job", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["joules"] == pytest.approx(NODE_WATTS * row["seconds"], rel=0.005)
    assert [one["rank"] for one in row["ranks"][0]["costs"]] == [0, 1, 2, 3]
    assert row["ranks"][0]["silent"] == []


def test_a_rank_that_keeps_no_record_is_silent_and_the_others_keep_the_energy(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rank 0 reads all devices and keeps no record: the others write what they know."""
    program = PROGRAM.replace("epochs_before_pred=0", "epochs_before_pred=0, record=rank > 0")
    environments = [one | node.environment for one in ranks_environment(3)]
    ended = run_ranks(PRELUDE + WITHOUT_TORCH + program, environments)
    assert [one.code for one in ended] == [0] * 3, ended
    found = records(node)
    assert sorted(found) == [1, 2]
    for events in found.values():
        assert [e["event"] for e in events].count("run_completed") == 1
        assert [e["event"] for e in events].count("epoch") == EPOCHS
    total = add_runs(read_runs(node.records, series=False, epochs=False))
    assert total.joules == pytest.approx(NODE_WATTS * seconds_of(node), rel=0.005)
    assert main(["aggregate", str(node.records), "--job", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["ranks"][0]["silent"] == [0]
    assert row["joules"] == pytest.approx(NODE_WATTS * row["seconds"], rel=0.005)


def test_where_the_reader_is_killed_another_rank_keeps_the_energy(node: Node) -> None:
    """The barrier of the others ends with a killed rank missing: they go on alone."""
    program = PROGRAM.replace(
        "    dist.barrier()\n    tracker.epoch_end()", "    tracker.epoch_end()"
    )
    environments = [one | node.environment | {"KILLED": "0"} for one in ranks_environment(3)]
    ended = run_ranks(PRELUDE + WITHOUT_TORCH + program, environments)
    assert [one.code for one in ended] == [-signal.SIGKILL, 0, 0], ended
    found = records(node)
    assert found[0][-1]["event"] != "run_finished"
    assert any(event["event"] == "run_completed" for rank in (1, 2) for event in found[rank])
    total = add_runs(read_runs(node.records, series=False, epochs=False))
    assert total.joules == pytest.approx(NODE_WATTS * seconds_of(node), rel=0.005)
