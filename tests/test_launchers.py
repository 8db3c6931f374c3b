"""Which process of which job this is: launchers, schedulers, and frameworks that are loaded."""

from __future__ import annotations

import json
import os
import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from carbontracker.jobs.launch import Launch, this_launch
from carbontracker.jobs.launchers import LAUNCHERS, job_data
from carbontracker.jobs.processes import boot_id, process_start_ticks
from tests.support.programs import DEVICES, PRELUDE, hide_sensors, python, read_record

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("environ", "job"),
    [
        ({"PATH": "/bin"}, {}),
        ({"SLURM_NTASKS": "4"}, {}),  # an allocation's leftovers without a job
        (
            {"SLURM_JOB_ID": "7", "SLURM_PROCID": "3", "SLURM_NTASKS": "8", "SLURM_JOB_NAME": ""},
            {"slurm": {"job_id": "7", "rank": "3", "world_size": "8"}},
        ),
        (
            {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"},
            {"torchrun": {"job_id": "x", "rank": "1", "local_rank": "1", "world_size": "2"}},
        ),
        ({"RANK": "0", "WORLD_SIZE": "1"}, {"torchrun": {"rank": "0", "world_size": "1"}}),
        (
            {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOSTNAME": "train-0", "POD_UID": "u"},
            {"kubernetes": {"pod": "train-0", "pod_uid": "u"}},
        ),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, {"kubernetes": {}}),
        ({"OMPI_COMM_WORLD_RANK": "2"}, {"mpi": {"rank": "2"}}),
        ({"PMI_RANK": "1"}, {}),  # half of what a launcher sets
    ],
)
def test_jobs_are_recognised_by_their_variables(
    environ: dict[str, str], job: dict[str, dict[str, str]]
) -> None:
    assert job_data(environ) == job


ROWS: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "torchrun": (
        {
            "TORCHELASTIC_RUN_ID": "exp7",
            "RANK": "5",
            "WORLD_SIZE": "8",
            "LOCAL_RANK": "1",
            "LOCAL_WORLD_SIZE": "4",
            "GROUP_RANK": "1",
            "GROUP_WORLD_SIZE": "2",
            "TORCHELASTIC_RESTART_COUNT": "2",
        },
        {"rank": 5, "world_size": 8, "local_world_size": 4, "nodes": 2, "attempt": 2}
        | {"ids": ("torchrun exp7",)},
    ),
    "lightning": (
        {"NODE_RANK": "0", "LOCAL_RANK": "3", "WORLD_SIZE": "4"},
        {"rank": None, "world_size": 4, "ids": ()},
    ),
    "mpi": (
        {
            "OMPI_COMM_WORLD_RANK": "3",
            "OMPI_COMM_WORLD_SIZE": "4",
            "OMPI_COMM_WORLD_LOCAL_RANK": "1",
            "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
            "PMIX_NAMESPACE": "prterun-n1-77@1",
            "PMIX_RANK": "3",
        },
        {"rank": 3, "world_size": 4, "local_world_size": 2}
        | {"ids": ("mpi prterun-n1-77@1", "pmix prterun-n1-77@1")},
    ),
    "mpich": (
        {"PMI_RANK": "2", "PMI_SIZE": "4", "MPI_LOCALRANKID": "0", "MPI_LOCALNRANKS": "2"},
        {"rank": 2, "world_size": 4, "local_world_size": 2, "ids": ()},
    ),
    "pals": (
        {
            "PALS_APID": "a-1",
            "PALS_RANKID": "9",
            "PALS_LOCAL_RANKID": "1",
            "PALS_LOCAL_SIZE": "4",
            "PMI_RANK": "9",
            "PMI_SIZE": "12",
            "PALS_NODEID": "2",
        },
        {"rank": 9, "world_size": 12, "local_world_size": 4, "ids": ("pals a-1",)},
    ),
    "pmix": (
        {"PMIX_RANK": "1", "PMIX_NAMESPACE": "slurm.pmix.7.0"},
        {"rank": 1, "world_size": None, "ids": ("pmix slurm.pmix.7.0",)},
    ),
    "flux": (
        {
            "FLUX_JOB_ID": "f2",
            "FLUX_TASK_RANK": "1",
            "FLUX_TASK_LOCAL_ID": "1",
            "FLUX_JOB_SIZE": "4",
            "FLUX_JOB_NNODES": "2",
        },
        {"rank": 1, "world_size": 4, "nodes": 2, "ids": ("flux f2",)},
    ),
    "slurm": (
        {
            "SLURM_JOB_ID": "71",
            "SLURM_STEP_ID": "0",
            "SLURM_PROCID": "6",
            "SLURM_LOCALID": "2",
            "SLURM_NTASKS": "7",
            "SLURM_NODEID": "1",
            "SLURM_STEP_TASKS_PER_NODE": "4,3",
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_RESTART_COUNT": "1",
            "SLURM_CLUSTER_NAME": "big",
            "SLURM_JOB_USER": "ada",
            "SLURM_ARRAY_JOB_ID": "70",
            "SLURM_ARRAY_TASK_ID": "3",
        },
        {"rank": 6, "world_size": 7, "local_world_size": 3, "nodes": 2, "attempt": 1}
        | {"user": "ada", "ids": ("slurm big.71.0",)},
    ),
    "pbs": (
        {"PBS_JOBID": "12.head", "PBS_ARRAY_INDEX": "4", "PBS_O_LOGNAME": "ada"},
        {"rank": None, "user": "ada", "ids": ("pbs 12.head",)},
    ),
    "kubernetes": (
        {
            "KUBERNETES_SERVICE_HOST": "10.0.0.1",
            "JOB_COMPLETION_INDEX": "2",
            "JOBSET_NAME": "llm",
            "JOBSET_RESTART_ATTEMPT": "1",
            "HOSTNAME": "llm-2",
        },
        {"attempt": 1, "ids": ("kubernetes llm",)},
    ),
}


@pytest.mark.parametrize("launcher", [one.name for one in LAUNCHERS])
def test_each_launcher_tells_the_place_of_a_process(launcher: str) -> None:
    environ, expected = ROWS[launcher]
    said = job_data(environ)
    assert launcher in said
    launch = Launch(said)
    assert {name: getattr(launch, name) for name in expected} == expected


def test_an_array_is_named_in_the_record() -> None:
    said = job_data(ROWS["slurm"][0])["slurm"]
    assert (said["array_job_id"], said["array_task_id"]) == ("70", "3")


@pytest.mark.parametrize(
    ("tasks", "node", "here"),
    [
        *(("4(x2),3", "1", 4), ("4(x2),3", "2", 3), ("4", "0", 4), ("", "0", None)),
        *(("4(x9)", "9", None), ("2(x99999999999)", "1", 2), ("a,4", "0", 4)),
    ],
)
def test_tasks_of_each_node_in_a_step_of_slurm(tasks: str, node: str, here: int | None) -> None:
    slurm = {"job_id": "7", "step_id": "0", "tasks_per_node": tasks, "node_rank": node}
    assert Launch({"slurm": slurm}).local_world_size == here


def test_the_script_of_an_allocation_is_one_process() -> None:
    environ = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_PROCID": "0"}
    launch = Launch(job_data(environ))
    assert (launch.rank, launch.world_size, launch.shares_node) == (None, None, False)


@pytest.mark.parametrize(
    ("said", "usable", "share"),
    [
        ({"slurm": {"job_id": "7", "cpus_on_node": "16"}}, 4, 0.25),
        ({"slurm": {"job_id": "7", "cpus_on_node": "64"}}, 4, None),
        ({"pbs": {"job_id": "7"}}, 32, 0.5),
        ({"pbs": {"job_id": "7"}}, None, None),
        ({"torchrun": {"rank": "0"}}, 4, None),  # bound by the user, not by a scheduler
        ({}, 4, None),
    ],
)
def test_a_job_may_have_a_part_of_its_node(
    said: dict[str, dict[str, str]], usable: int | None, share: float | None
) -> None:
    assert Launch(said).share_of_cpus(usable, 64) == share
    assert Launch(said).share_of_cpus(usable, None) is None


def test_ids_that_many_jobs_share_name_no_job() -> None:
    launch = Launch({"torchrun": {"job_id": "none"}, "ray": {"job_id": "01000000"}})
    assert launch.ids == ()
    assert launch.ambiguous == ("torchrun none", "ray 01000000")


def test_what_starts_the_processes_is_believed_before_what_gave_the_nodes() -> None:
    launch = Launch(job_data(ROWS["slurm"][0] | ROWS["torchrun"][0]))
    assert (launch.rank, launch.world_size) == (5, 8)
    assert launch.attempt == 3
    assert launch.ids == ("torchrun exp7", "slurm big.71.0")


def test_an_unnamed_launch_is_told_by_the_process_that_started_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (ROWS["torchrun"][0] | {"TORCHELASTIC_RUN_ID": "none"}).items():
        monkeypatch.setenv(name, value)
    ticks = process_start_ticks(os.getppid())
    assert this_launch(None).ids == ()
    assert this_launch(None).starter == f"{boot_id()}:{os.getppid()}:{ticks}"


# ---- frameworks ----------------------------------------------------------------------------


def loaded(monkeypatch: pytest.MonkeyPatch, name: str, **content: Any) -> None:
    module = ModuleType(name)
    vars(module).update(content)
    monkeypatch.setitem(sys.modules, name, module)


def torch(rank: int, world_size: int, *, initialised: bool = True) -> dict[str, Any]:
    return {
        "is_available": lambda: True,
        "is_initialized": lambda: initialised,
        "get_rank": lambda: rank,
        "get_world_size": lambda: world_size,
    }


def test_an_initialised_torch_beats_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "7")
    monkeypatch.setenv("WORLD_SIZE", "9")
    loaded(monkeypatch, "torch.distributed", **torch(1, 2, initialised=False))
    assert (this_launch(None).rank, this_launch(None).one_training) == (7, False)
    loaded(monkeypatch, "torch.distributed", **torch(1, 2))
    launch = this_launch(None)
    assert (launch.rank, launch.world_size, launch.one_training) == (1, 2, True)
    assert not this_launch(job=False).one_training


def test_jax_is_asked_without_starting_its_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    state = SimpleNamespace(client=None, process_id=0, num_processes=1)
    loaded(monkeypatch, "jax._src.distributed", global_state=state)
    assert this_launch(None).world_size is None
    state.client, state.process_id, state.num_processes = object(), 3, 4
    launch = this_launch(None)
    assert (launch.rank, launch.world_size, launch.one_training) == (3, 4, True)


def test_an_initialised_mpi4py_tells_rank_and_node(monkeypatch: pytest.MonkeyPatch) -> None:
    world = SimpleNamespace(Get_rank=lambda: 2, Get_size=lambda: 4)
    ended = [False]
    loaded(
        monkeypatch,
        "mpi4py.MPI",
        COMM_WORLD=world,
        Is_initialized=lambda: True,
        Is_finalized=lambda: ended[0],
        Get_processor_name=lambda: "n3",
    )
    launch = this_launch(None)
    assert (launch.rank, launch.world_size, launch.said["mpi4py"]["node"]) == (2, 4, "n3")
    assert not launch.one_training  # a farm may use MPI, too
    ended[0] = True
    assert this_launch(None).rank is None


def test_ray_is_named_where_it_is_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    context = SimpleNamespace(get_job_id=lambda: "01000000", get_node_id=lambda: "ab12")
    loaded(monkeypatch, "ray", is_initialized=lambda: True, get_runtime_context=lambda: context)
    assert this_launch(None).ambiguous == ("ray 01000000",)


def test_a_framework_that_is_only_half_there_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise RuntimeError("Default process group has not been initialized")

    loaded(monkeypatch, "torch.distributed", **(torch(0, 2) | {"get_rank": fails}))
    loaded(monkeypatch, "mpi4py.MPI")
    loaded(monkeypatch, "ray")
    monkeypatch.setitem(sys.modules, "jax._src.distributed", None)
    assert this_launch(None) == Launch({})


@pytest.mark.parametrize(
    ("variable", "argument", "one"),
    [
        *(("1", None, True), ("0", None, False), ("", None, False), ("yes", False, False)),
        ("no", True, True),
    ],
)
def test_the_user_says_whether_the_ranks_are_one_training(
    monkeypatch: pytest.MonkeyPatch, variable: str, argument: bool | None, one: bool
) -> None:
    monkeypatch.setenv("CARBONTRACKER_JOB", variable)
    assert this_launch(argument).one_training is one


# ---- a farm of trainings -------------------------------------------------------------------


FARM = (
    PRELUDE
    + """\
tracker = CarbonTracker(1, **DEVICES, **json.loads(sys.argv[1]))
tracker.epoch_start()
time.sleep(0.05)
tracker.epoch_end()
"""
)


@pytest.mark.parametrize(("arguments", "shown"), [({}, True), ({"job": False}, True)])
def test_each_training_of_a_farm_says_what_it_shares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, bool], shown: bool
) -> None:
    hide_sensors(monkeypatch, tmp_path)
    variables = ROWS["slurm"][0] | {"SLURM_NODEID": "0", "SLURM_STEP_TASKS_PER_NODE": "8"}
    ended = python(FARM, json.dumps(arguments), **variables)
    assert "Actual consumption for 1 epoch(s):" in ended.stdout, ended
    line = "the energy of the whole node, shared by 8 processes of this launch"
    assert (line in ended.stdout) is shown
    started = read_record(tmp_path / "records")[0]
    assert started["job"]["slurm"]["rank"] == "6"
    assert started["one_training"] is False


def test_a_training_alone_says_nothing_of_sharing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_sensors(monkeypatch, tmp_path)
    assert "whole node" not in python(FARM, "{}").stdout
    assert DEVICES
