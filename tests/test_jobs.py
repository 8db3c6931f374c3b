"""Several processes, one training, one number: on a simulated node of 1103 W."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from carbontracker.cli import main
from carbontracker.records.reader import read_runs
from carbontracker.report.document import cards
from tests.support.intensity_server import Reply, serving
from tests.support.jobs import (
    BESIDE,
    FILES,
    NODE_WATTS,
    PRELUDE,
    TIMEOUT_S,
    TORCH,
    WITHOUT_TORCH,
    Ended,
    Node,
    ranks_environment,
    run_ranks,
    simulated_node,
    torchrun,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

TWO_EPOCHS = """
tracker = CarbonTracker(2, epochs_before_pred=0, **json.loads(os.environ.get("ARGUMENTS", "{}")))
dist.barrier()  # all of them measure
for epoch in range(2):
    tracker.epoch_start()
    time.sleep(1.0 + 0.3 * (rank == 1))
    dist.barrier()
    tracker.epoch_end()
"""
STOPPED = """
tracker.stop()
said_result(tracker)
"""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    folder = tmp_path / "node"
    folder.mkdir()
    with simulated_node(folder) as one:
        yield one


def run(
    node: Node, program: str, world: int = 4, *, one_gpu: bool = False, **more: str
) -> list[Ended]:
    environments = [
        environment | node.environment | node.of_rank(rank, one_gpu=one_gpu) | more
        for rank, environment in enumerate(ranks_environment(world))
    ]
    return run_ranks(program, environments)


def records(node: Node) -> list[list[dict[str, Any]]]:
    return [
        list(map(json.loads, file.read_text().splitlines()))
        for file in sorted(node.records.glob("*.jsonl"))
    ]


def assert_whole(word: dict[str, Any], world: int = 4) -> None:
    assert word["joules"] == pytest.approx(NODE_WATTS * word["seconds"], rel=0.005)
    assert (word["seen"], word["silent"], word["nodes"]) == (list(range(world)), [], 1)


@pytest.mark.parametrize("one_gpu", [False, True])
def test_ranks_of_a_training_show_one_number(node: Node, one_gpu: bool) -> None:
    ended = run(node, PRELUDE + WITHOUT_TORCH + TWO_EPOCHS + STOPPED, one_gpu=one_gpu)
    assert [one.code for one in ended] == [0] * 4, ended
    (word,) = node.words(0)
    assert_whole(word)
    assert word["extent"] == "job"
    assert word["seconds"] >= 2.6  # rank 1 is the slowest
    assert sum(word["epochs"]) == pytest.approx(word["joules"])
    assert set(word["devices"]) == {
        *(f"gpu:{i}" for i in range(4)),
        *("cpu:0", "cpu:1", "dram:0", "dram:1"),
    }
    for rank in (1, 2, 3):
        (other,) = node.words(rank)
        assert other["extent"] == "node"
        assert_whole(other)
    assert [one.blocks for one in ended] == [1, 0, 0, 0]
    assert "This is the whole job: 4 processes on 1 node." in ended[0].out
    assert [one.out + one.err for one in ended[1:]] == [""] * 3
    of_jobs = [[e for e in events if e["event"] == "joined_result"] for events in records(node)]
    assert sorted(one[0]["extent"] for one in of_jobs) == ["job", "node", "node", "node"]
    uids = {e["job_uid"] for events in records(node) for e in events if e.get("job_uid")}
    assert len(uids) == 1
    (rank_0,) = [
        one for one in read_runs(node.records) if one.metadata.job["torchrun"]["rank"] == "0"
    ]
    first = next(cards(rank_0))
    assert (first.name, "4 of 4 ranks" in first.below) == ("The whole job", True)
    wh = 1000 * word["kwh"]
    assert float(first.value.split()[0]) == pytest.approx(wh, rel=0.1)


def test_ranks_that_share_their_readings_show_the_same_number(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    folder.mkdir()
    with simulated_node(folder, shared=True) as node:
        ended = run(node, PRELUDE + WITHOUT_TORCH + TWO_EPOCHS + STOPPED, one_gpu=True)
        assert [one.code for one in ended] == [0] * 4, ended
        assert_whole(node.words(0)[0])
        assert [one.blocks for one in ended] == [1, 0, 0, 0]


def test_what_the_end_of_others_may_be(node: Node) -> None:
    """Rank 3 never calls stop(), rank 2 raises, rank 0 destroys the group before stop()."""
    ends = """
if rank == 0:
    dist.destroy_process_group()
if rank == 2:
    raise RuntimeError("in the user's code")
if rank != 3:
    tracker.stop()
    said_result(tracker)
"""
    program = PRELUDE + WITHOUT_TORCH + TWO_EPOCHS.replace("(2,", "(3,") + ends
    ended = run(node, program, one_gpu=True)
    assert [one.code for one in ended] == [0, 0, 1, 0]
    (word,) = node.words(0)
    assert_whole(word)
    assert [one.blocks for one in ended] == [1, 0, 0, 0]


def test_only_rank_0_tracks(node: Node) -> None:
    program = (
        PRELUDE
        + WITHOUT_TORCH
        + """
if rank == 0:
    tracker = CarbonTracker(1, epochs_before_pred=0)
    tracker.epoch_start()
time.sleep(1.0)
dist.barrier()
if rank == 0:
    tracker.epoch_end()
    say(still=tracker.result.extent)  # it does not wait for the others
    tracker.stop()
    said_result(tracker)
"""
    )
    ended = run(node, program)
    at_once, word = node.words(0)
    assert (at_once["still"], word["extent"]) == ("process", "job")
    assert word["joules"] == pytest.approx(NODE_WATTS * word["seconds"], rel=0.005)
    assert (word["seen"], word["silent"]) == ([0], [1, 2, 3])
    assert "Not reported: ranks 1-3; devices that only they see are missing" in ended[0].out


def test_a_rank_that_is_killed_counts_as_far_as_it_has_told(node: Node) -> None:
    killed = """
if rank == 2:
    time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    program = PRELUDE + WITHOUT_TORCH + TWO_EPOCHS.replace("(2,", "(3,") + killed + STOPPED
    ended = run(node, program, one_gpu=True)
    assert [one.code for one in ended] == [0, 0, -9, 0]
    (word,) = node.words(0)
    assert word["joules"] == pytest.approx(NODE_WATTS * word["seconds"], rel=0.01)
    assert word["seen"] == [0, 1, 2, 3]


def test_without_rank_0_one_line_says_so(node: Node) -> None:
    program = (
        PRELUDE
        + WITHOUT_TORCH
        + """
if rank == 0:
    sys.exit()
tracker = CarbonTracker(1, epochs_before_pred=0)
tracker.epoch_start()
time.sleep(0.5)
tracker.epoch_end()
"""
        + STOPPED
    )
    ended = run(node, program)
    said = "".join(one.err for one in ended)
    assert said.count("rank 0 has not reported: no number of the whole job is shown") == 1
    assert [one.blocks for one in ended] == [0] * 4
    assert {word["extent"] for rank in (1, 2, 3) for word in node.words(rank)} == {"node"}


def test_every_rank_shows_its_text_if_it_is_asked_to(node: Node) -> None:
    program = PRELUDE + WITHOUT_TORCH + TWO_EPOCHS + STOPPED
    ended = run(node, program, world=2, ARGUMENTS='{"verbose": 2}')
    assert [one.blocks for one in ended] == [1, 1]
    assert "This is one node of a job: ranks 0-1." in ended[1].out


def test_a_store_that_goes_away_is_silence(node: Node) -> None:
    program = (
        PRELUDE
        + WITHOUT_TORCH
        + """
import shutil
tracker = CarbonTracker(2, epochs_before_pred=0)
for epoch in range(2):
    tracker.epoch_start()
    time.sleep(0.7)
    tracker.epoch_end()
    if epoch == 0:
        shutil.rmtree(os.environ["FAKE_STORE"], ignore_errors=True)
"""
        + STOPPED
    )
    ended = run(node, program, world=2)
    assert [one.code for one in ended] == [0, 0], ended
    assert "Traceback" not in ended[0].err + ended[1].err
    for rank in range(2):
        (word,) = node.words(rank)
        assert word["seconds"] > 0.6


def test_ranks_that_are_no_training_are_not_joined(node: Node) -> None:
    program = PRELUDE + WITHOUT_TORCH + TWO_EPOCHS + STOPPED
    ended = run(node, program, world=2, ARGUMENTS='{"job": false}')
    assert [one.blocks for one in ended] == [1, 1]
    assert [word["extent"] for rank in range(2) for word in node.words(rank)] == ["process"] * 2


def test_rank_0_counts_on_where_the_rank_that_adds_up_its_node_is_killed(node: Node) -> None:
    """Rank 1 comes first, so that it adds up the node."""
    program = (
        PRELUDE
        + WITHOUT_TORCH
        + """
if rank == 0:
    time.sleep(0.8)
tracker = CarbonTracker(4, epochs_before_pred=0)
for epoch in range(4):
    tracker.epoch_start()
    time.sleep(1.0)
    tracker.epoch_end()
    if rank == 1 and epoch == 1:
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)
"""
        + STOPPED
    )
    ended = run(node, program, world=2)
    assert [one.code for one in ended] == [0, -9], ended
    (word,) = node.words(0)
    assert (word["extent"], len(word["epochs"])) == ("job", 4)
    assert word["joules"] == pytest.approx(NODE_WATTS * word["seconds"], rel=0.005)
    assert "Without an end: rank 1; later epochs are missing." in ended[0].out


LEAVING = """
def said(end):
    return [name for name in os.listdir(os.environ["SAID"]) if name.endswith(end)]

while rank != LEAVER and not any("ranks" in name for name in os.listdir(os.environ["FAKE_STORE"])):
    time.sleep(0.01)
tracker = CarbonTracker(6, epochs_before_pred=0)
for epoch in range(2 if rank == LEAVER else 6):
    tracker.epoch_start()
    if not epoch and rank != LEAVER:
        open(os.path.join(os.environ["SAID"], f"{rank}.measures"), "w").close()
        time.sleep(0.25)
    while not epoch and len(said(".measures")) < world - 1:  # however long the others take to begin
        time.sleep(0.01)
    time.sleep(1.0)
    tracker.epoch_end()
tracker.stop()
said_result(tracker)
while rank == LEAVER and len(said(".jsonl")) < world:
    time.sleep(0.05)
"""


SLOW_HANDING_ON = """
from carbontracker.jobs.store import JobStore
fast = JobStore.set

def slow(self, key, value):
    time.sleep(0.7 * (key.startswith("seen/") and not value))
    fast(self, key, value)

JobStore.set = slow
"""


def test_a_rank_that_ends_early_still_adds_up_its_node(node: Node) -> None:
    """Rank 1 comes first, so that it adds up the node, and stops after two epochs.

    Each of its epochs ends half a second before those of the others, and the store is slow where
    it hands on its devices.
    """
    program = PRELUDE + WITHOUT_TORCH + SLOW_HANDING_ON + LEAVING.replace("LEAVER", "1")
    ended = run(node, program, world=3)
    assert [one.code for one in ended] == [0] * 3, ended
    (word,) = node.words(0)
    assert word["seconds"] > 6.0
    # Its devices are handed to the others at its end: what each saw is joined.
    assert word["joules"] == pytest.approx(NODE_WATTS * word["seconds"], rel=0.005)
    assert (word["quality"] != "incomplete", word["coverage"]) == (True, 1.0)
    assert "This is the whole job: 3 processes on 1 node." in ended[0].out
    (other,) = node.words(2)
    assert other["joules"] == pytest.approx(word["joules"])


TAIL = """
tracker = CarbonTracker(2, epochs_before_pred=0)
wait_for_all()  # all of them measure
while rank != FIRST and not any("ranks" in name for name in os.listdir(os.environ["FAKE_STORE"])):
    time.sleep(0.01)
for epoch in range(2):
    tracker.epoch_start()
    time.sleep(1.0)
    if epoch and rank != EARLY:
        time.sleep(0.4)
    tracker.epoch_end()
tracker.stop()
said_result(tracker)
"""


@pytest.mark.slow  # not beside other work: a rank that ended waits 0.8 s for the others
@pytest.mark.parametrize(("first", "early"), [(1, 3), (3, 3), (1, 0)])
def test_a_device_of_one_rank_counts_until_its_node_has_ended(
    node: Node, first: int, early: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """One rank ends 0.4 s before the others, and only it sees its GPU; it may add up its node."""
    training = TAIL.replace("FIRST", str(first)).replace("EARLY", str(early))
    ended = run(node, PRELUDE + WITHOUT_TORCH + FILES + training, one_gpu=True)
    assert [one.code for one in ended] == [0] * 4, ended
    (word,) = node.words(0)
    assert_whole(word)
    assert (word["quality"] != "incomplete", word["coverage"]) == (True, 1.0)
    assert main(["aggregate", str(node.records), "--job", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["joules"] == pytest.approx(NODE_WATTS * row["seconds"], rel=0.005)


LATE = """
def said(word):
    return any(word in name for name in os.listdir(os.environ["SAID"]))

if rank == 0:
    while not said("over"):
        time.sleep(0.05)
tracker = CarbonTracker(1, epochs_before_pred=0)
tracker.epoch_start()
time.sleep(0.8)
tracker.epoch_end()
tracker.stop()
open(os.path.join(os.environ["SAID"], "over"), "w").close()
said_result(tracker)
"""


def test_rank_0_counts_itself_where_it_comes_after_the_others(node: Node) -> None:
    ended = run(node, PRELUDE + WITHOUT_TORCH + LATE, world=2)
    assert [one.code for one in ended] == [0, 0], ended
    (word,) = node.words(0)
    assert (word["seen"], word["silent"]) == ([0], [1])
    assert 0.8 <= word["seconds"] < node.words(1)[0]["seconds"] + word["seconds"]
    assert word["joules"] == pytest.approx(NODE_WATTS * word["seconds"], rel=0.01)
    assert "Not reported: rank 1" in ended[0].out


TWO_TRAININGS = """
def train():
    tracker = CarbonTracker(1, epochs_before_pred=0)
    dist.barrier()
    tracker.epoch_start()
    time.sleep(0.8)
    dist.barrier()
    tracker.epoch_end()
    tracker.stop()
    said_result(tracker)

train()
if rank == 1:
    probe = CarbonTracker(1, epochs_before_pred=0, verbose=0)
    probe.epoch_start()
    time.sleep(0.3)
    probe.epoch_end()
    probe.stop()
dist.barrier()
train()
"""


def test_a_tracker_that_only_one_rank_has_is_in_no_training_of_rank_0(node: Node) -> None:
    ended = run(node, PRELUDE + WITHOUT_TORCH + TWO_TRAININGS, world=2)
    assert [one.code for one in ended] == [0, 0], ended
    assert len(node.words(0)) == 2
    for word in node.words(0):
        assert word["seconds"] >= 0.8
        assert_whole(word, 2)
    assert [one.blocks for one in ended] == [2, 0]


def test_ranks_that_go_on_after_rank_0_are_named(node: Node) -> None:
    ended = run(node, PRELUDE + WITHOUT_TORCH + LEAVING.replace("LEAVER", "0"), world=2)
    assert "as far as it has reported: 2 of 2 processes, on 1 node." in ended[0].out
    assert "Without an end: rank 1; later epochs are missing." in ended[0].out


# ---- killed, and begun again ---------------------------------------------------------------

KILLED = """
tracker = CarbonTracker(3, epochs_before_pred=0)
dist.barrier()
tracker.epoch_start()
time.sleep(1.0)
tracker.epoch_end()
dist.barrier()
tracker.epoch_start()
time.sleep(8.0)
os.kill(os.getpid(), signal.SIGTERM if rank else signal.SIGKILL)
"""


def test_a_job_that_is_killed_with_rank_0_is_in_the_records(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    """As torchrun does where rank 0 is killed: the others get a SIGTERM, and write no end."""
    ended = run(node, PRELUDE + WITHOUT_TORCH + KILLED, one_gpu=True)
    assert [one.code for one in ended] == [-9, -15, -15, -15]
    assert main(["aggregate", str(node.records), "--job", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert len(row["runs"]) == 4
    assert row["seconds"] > 1.0 + 4.0  # an open epoch is written 5 s after its beginning
    assert row["joules"] == pytest.approx(NODE_WATTS * row["seconds"], rel=0.02)


AGAIN = """
tracker = CarbonTracker(2, epochs_before_pred=0)
dist.barrier()
for epoch in range(2):
    tracker.epoch_start()
    time.sleep(1.0)
    dist.barrier()
    tracker.epoch_end()
    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and rank == 1:
        time.sleep(1.0)
        os._exit(1)
"""


def test_a_job_that_begins_again_is_one_of_two_attempts(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    program = PRELUDE + WITHOUT_TORCH + AGAIN
    first = AGAIN.replace("range(2)", "range(1)").replace("dist.barrier()\n    tracker", "tracker")
    run(node, PRELUDE + WITHOUT_TORCH + first, world=2, TORCHELASTIC_RESTART_COUNT="0")
    store = Path(node.environment["FAKE_STORE"])
    for file in store.iterdir():
        file.unlink()
    run(node, program, world=2, TORCHELASTIC_RESTART_COUNT="1")
    assert main(["aggregate", str(node.records), "--job", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["attempts"], len(row["runs"])) == (2, 4)
    assert row["joules"] == pytest.approx(NODE_WATTS * row["seconds"], rel=0.05)


# ---- without a store -----------------------------------------------------------------------


def test_without_a_store_rank_0_adds_up_the_records(node: Node) -> None:
    """As by ``srun`` with ``CARBONTRACKER_JOB=1``: one GPU a rank, and no torch."""
    environments = [
        node.environment
        | node.of_rank(rank, one_gpu=True)
        | {"SLURM_JOB_ID": "71", "SLURM_STEP_ID": "0", "SLURM_PROCID": str(rank)}
        | {"SLURM_NTASKS": "4", "RANK": str(rank), "WORLD_SIZE": "4"}
        for rank in range(4)
    ]
    ended = run_ranks(PRELUDE + FILES + BESIDE, environments)
    assert [one.code for one in ended] == [0] * 4, ended
    (word,) = node.words(0)
    assert word["extent"] == "job"
    assert_whole(word)
    assert [one.blocks for one in ended] == [1, 0, 0, 0]
    assert "This is the whole job: 4 processes on 1 node." in ended[0].out
    assert [one.out + one.err for one in ended[1:]] == [""] * 3


def test_without_siblings_rank_0_names_who_is_silent(node: Node) -> None:
    program = PRELUDE + FILES.replace("< world", "< 1") + BESIDE
    (alone,) = run_ranks(program, [node.environment | {"RANK": "0", "WORLD_SIZE": "3"}])
    assert alone.blocks == 1
    (word,) = node.words(0)
    assert word["extent"] == "process"


MPI = """
from mpi4py import MPI
rank, world = MPI.COMM_WORLD.Get_rank(), MPI.COMM_WORLD.Get_size()
wait_for_all = MPI.COMM_WORLD.Barrier
"""


def test_mpirun(node: Node, tmp_path: Path) -> None:
    if shutil.which("mpirun") is None:
        pytest.skip("needs mpirun: apt-get install openmpi-bin")
    pytest.importorskip("mpi4py", reason="needs mpi4py")
    program = tmp_path / "train.py"
    program.write_text(PRELUDE + MPI + BESIDE)
    ended = subprocess.run(
        [
            *("mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "4"),
            *("--mca", "btl", "self,vader", sys.executable, str(program)),
        ],
        env=os.environ | node.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if ended.returncode and "mpi4py" in ended.stderr and "RuntimeError" in ended.stderr:
        pytest.skip(f"mpi4py does not work with this MPI: {ended.stderr[-300:]}")
    assert ended.returncode == 0, ended.stderr
    (word,) = node.words(0)
    assert_whole(word)
    assert ended.stdout.count("Actual consumption") == 1
    assert {events[0]["job"]["mpi"]["rank"] for events in records(node)} == set("0123")


# ---- one request for all -------------------------------------------------------------------


def test_only_rank_0_asks_the_network(node: Node) -> None:
    program = PRELUDE + WITHOUT_TORCH + TWO_EPOCHS
    common = {
        "CARBONTRACKER_INTENSITY": "electricitymaps",
        "CARBONTRACKER_LOCATION": "Denmark",
        "CARBONTRACKER_ELECTRICITYMAPS_KEY": "k",
    }
    with serving(Reply(status=503)) as first, serving(Reply(status=503)) as others:
        environments = [
            environment
            | node.environment
            | common
            | {"CARBONTRACKER_ELECTRICITYMAPS_URL": (others if rank else first).url}
            for rank, environment in enumerate(ranks_environment(3))
        ]
        ended = run_ranks(program, environments)
    assert [one.code for one in ended] == [0] * 3, ended
    assert first.asked
    assert not others.asked


# ---- predictions and budgets ---------------------------------------------------------------

LIMITED = """
tracker = CarbonTracker(40, epochs_before_pred=0, **json.loads(os.environ["ARGUMENTS"]))
dist.barrier()
done = 0
try:
    for epoch in range(40):
        tracker.epoch_start()
        time.sleep(0.4)
        dist.barrier()
        tracker.epoch_end()
        done = epoch + 1
    say(raised=None, done=done)
except BaseException as error:
    say(raised=type(error).__name__, done=done, limit=getattr(error, "limit", ""))
"""


def test_all_ranks_stop_after_one_epoch_where_a_limit_of_the_job_is_exceeded(node: Node) -> None:
    """1103 W of 4 ranks that see one GPU each: no rank alone draws 3 kJ before epoch 8."""
    kwh = 3000 * 1.58 / 3.6e6
    arguments = json.dumps({"max_kwh": kwh, "on_budget": "raise"})
    program = PRELUDE + WITHOUT_TORCH + LIMITED
    ended = run(node, program, one_gpu=True, ARGUMENTS=arguments)
    assert [one.code for one in ended] == [0] * 4, ended
    words = [word for rank in range(4) for word in node.words(rank)]
    assert {word["raised"] for word in words} == {"BudgetExceeded"}
    assert {word["limit"] for word in words} == {"max_kwh"}
    assert len({word["done"] for word in words}) == 1  # all at the end of one epoch
    assert words[0]["done"] < 39
    assert [one.blocks for one in ended] == [1, 0, 0, 0]
    (stopped,) = {
        json.dumps(events[-1]["stopped_by"]["limit"])
        for events in records(node)
        if events[-1]["event"] == "run_finished"
    }
    assert stopped == '"max_kwh"'


def test_without_a_store_a_limit_is_only_reported(node: Node) -> None:
    program = PRELUDE + LIMITED.replace("dist.barrier()", "pass").replace("range(40)", "range(2)")
    arguments = json.dumps({"max_seconds": 0.1, "on_budget": "raise", "job": True})
    ended = run(node, program, world=2, ARGUMENTS=arguments)
    assert [word["raised"] for rank in range(2) for word in node.words(rank)] == [None, None]
    assert ended[0].err.count("limits are only reported") == 1
    assert "max_seconds" in ended[0].err
    assert ended[1].out + ended[1].err == ""


def test_a_prediction_is_of_the_whole_job(node: Node) -> None:
    program = (
        PRELUDE
        + WITHOUT_TORCH
        + """
tracker = CarbonTracker(5, stop_and_confirm=True, default_answer="n")
dist.barrier()
for epoch in range(2):
    tracker.epoch_start()
    time.sleep(1.5)
    dist.barrier()
    tracker.epoch_end()
tracker.stop()
"""
    )
    ended = run(node, program, world=2, one_gpu=True)
    assert [one.code for one in ended] == [0, 0], ended
    assert "This prediction is of the whole job: 2 processes." in ended[0].out
    (made,) = [e for events in records(node) for e in events if e.get("extent") == "job"
               and e["event"] == "prediction"]  # fmt: skip
    (word,) = [e for events in records(node) for e in events if e.get("extent") == "job"
               and e["event"] == "joined_result"]  # fmt: skip
    watts = word["energy"]["joules"] / word["seconds"]
    assert made["joules"] / made["seconds"] == pytest.approx(watts, rel=0.02)
    assert "Continue training" not in ended[0].out  # nor does the answer end one rank alone


ALONE = """
if rank == 0:
    tracker = CarbonTracker(40, epochs_before_pred=0, max_seconds=0.5, on_budget="raise")
for epoch in range(10):
    if rank == 0:
        tracker.epoch_start()
    time.sleep(0.4)
    dist.barrier()
    if rank == 0:
        tracker.epoch_end()
say(done=True)
"""


def test_no_rank_stops_alone_where_others_have_no_limit(node: Node) -> None:
    ended = run(node, PRELUDE + WITHOUT_TORCH + ALONE, world=2)
    assert [one.code for one in ended] == [0, 0], ended
    assert [node.words(rank) for rank in range(2)] == [[{"done": True}]] * 2
    assert ended[0].err.count("it is not known that all ranks of this training stop") == 1


def test_a_store_that_hangs_is_waited_for_at_one_epoch(node: Node) -> None:
    program = (
        PRELUDE
        + WITHOUT_TORCH
        + """
def hang(self, *words):
    time.sleep(600)
for name in HANG:
    setattr(fake_torch.FileStore, name, hang)
limit = {"max_seconds": 1000.0, "on_budget": "raise"}
tracker = CarbonTracker(8, epochs_before_pred=0, **limit)
slow = 0
for epoch in range(8):
    began = time.monotonic()
    tracker.epoch_start()
    tracker.epoch_end()
    slow += time.monotonic() - began > 0.4
tracker.stop()
say(slow=slow)
"""
    )
    for names in (("clone",), ("check", "get", "set", "add"), ()):
        text = program.replace("HANG", repr(names))
        if not names:  # it fails
            text = text.replace("time.sleep(600)", 'raise RuntimeError("closed")')
            text = text.replace("in ()", 'in ("clone",)')
        (ended,) = run_ranks(text, [ranks_environment(2)[0] | node.environment])
        assert ended.code == 0, ended
        assert node.words(0).pop()["slow"] <= 1, names


# ---- the real one --------------------------------------------------------------------------

MODEL = """
import torch
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(64, 64))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
tracker = CarbonTracker(3, epochs_before_pred=0)
for epoch in tracker.epochs():
    until = time.monotonic() + 1.0
    going = torch.ones(1)
    while going.item():
        loss = model(torch.randn(32, 64)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        tracker.step()
        going = torch.tensor([float(time.monotonic() < until)])
        dist.all_reduce(going, dist.ReduceOp.MIN)
dist.destroy_process_group()
tracker.stop()
said_result(tracker)
"""


def test_torchrun_with_a_small_model(node: Node, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs torch")
    program = tmp_path / "train.py"
    program.write_text(PRELUDE + TORCH + MODEL)
    ended = torchrun(node, program)
    assert ended.code == 0, ended.err
    (word,) = node.words(0)
    assert_whole(word)
    assert word["extent"] == "job"
    assert ended.blocks == 1
    assert "This is the whole job: 4 processes on 1 node." in ended.out
    started = [events[0] for events in records(node)]
    assert {one["job"]["torchrun"]["rank"] for one in started} == set("0123")
    assert {one["job"]["torch.distributed"]["world_size"] for one in started} == {"4"}
