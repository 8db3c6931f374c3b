"""The table of launchers and schedulers: which variables tell a process its place in a job.

One row a launcher. Frameworks that the program has loaded know better, and are asked in
``frameworks``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Launcher(NamedTuple):
    """One launcher or scheduler."""

    name: str
    present: tuple[tuple[str, ...], ...]
    """Sets of variables; it is there if all of one set are."""
    variables: Mapping[str, str]
    """By the name of a field: the variable."""
    ambiguous_ids: tuple[str, ...] = ()
    """Values of ``job_id`` that many jobs share."""
    ranks_need: str = ""
    """Without this variable ranks and sizes are those of the allocation, not of this process."""


LAUNCHERS = (
    Launcher(
        # torch.distributed.elastic.agent. A program that sets RANK itself counts as torchrun.
        "torchrun",
        (("TORCHELASTIC_RUN_ID",), ("RANK",)),
        {
            "job_id": "TORCHELASTIC_RUN_ID",
            "restart_count": "TORCHELASTIC_RESTART_COUNT",
            "max_restarts": "TORCHELASTIC_MAX_RESTARTS",
            "node_rank": "GROUP_RANK",
            "nodes": "GROUP_WORLD_SIZE",
            "rank": "RANK",
            "local_rank": "LOCAL_RANK",
            "world_size": "WORLD_SIZE",
            "local_world_size": "LOCAL_WORLD_SIZE",
        },
        ambiguous_ids=("none",),
    ),
    Launcher(
        # The launcher of Lightning itself; its LightningEnvironment reads the same.
        "lightning",
        (("NODE_RANK", "LOCAL_RANK"),),
        {"node_rank": "NODE_RANK", "local_rank": "LOCAL_RANK", "world_size": "WORLD_SIZE"},
    ),
    Launcher(
        # Open MPI, mpirun(1). PMIX_NAMESPACE names the job; PRRTE 3 sets it too.
        "mpi",
        (("OMPI_COMM_WORLD_RANK",),),
        {
            "job_id": "PMIX_NAMESPACE",
            "rank": "OMPI_COMM_WORLD_RANK",
            "local_rank": "OMPI_COMM_WORLD_LOCAL_RANK",
            "world_size": "OMPI_COMM_WORLD_SIZE",
            "local_world_size": "OMPI_COMM_WORLD_LOCAL_SIZE",
        },
    ),
    Launcher(
        # MPICH's Hydra and Intel MPI; Slurm with --mpi=pmi2 sets PMI_RANK too.
        "mpich",
        (("PMI_RANK", "PMI_SIZE"),),
        {
            "job_id": "PMI_JOBID",
            "rank": "PMI_RANK",
            "local_rank": "MPI_LOCALRANKID",
            "world_size": "PMI_SIZE",
            "local_world_size": "MPI_LOCALNRANKS",
        },
    ),
    Launcher(
        # HPE Parallel Application Launch Service, mpiexec on Cray systems.
        "pals",
        (("PALS_RANKID",),),
        {
            "job_id": "PALS_APID",
            "rank": "PALS_RANKID",
            "local_rank": "PALS_LOCAL_RANKID",
            "world_size": "PALS_SIZE",
            "local_world_size": "PALS_LOCAL_SIZE",
            "node_rank": "PALS_NODEID",
        },
    ),
    Launcher(
        # OpenPMIx alone, such as srun --mpi=pmix; the number of ranks is not in the environment.
        "pmix",
        (("PMIX_RANK", "PMIX_NAMESPACE"),),
        {"job_id": "PMIX_NAMESPACE", "rank": "PMIX_RANK"},
    ),
    Launcher(
        # flux-run(1), "Environment".
        "flux",
        (("FLUX_JOB_ID",),),
        {
            "job_id": "FLUX_JOB_ID",
            "rank": "FLUX_TASK_RANK",
            "local_rank": "FLUX_TASK_LOCAL_ID",
            "world_size": "FLUX_JOB_SIZE",
            "nodes": "FLUX_JOB_NNODES",
        },
    ),
    Launcher(
        # sbatch(1) and srun(1), "OUTPUT ENVIRONMENT VARIABLES".
        "slurm",
        (("SLURM_JOB_ID",),),
        {
            "job_id": "SLURM_JOB_ID",
            "step_id": "SLURM_STEP_ID",
            "array_job_id": "SLURM_ARRAY_JOB_ID",
            "array_task_id": "SLURM_ARRAY_TASK_ID",
            "array_task_count": "SLURM_ARRAY_TASK_COUNT",
            "restart_count": "SLURM_RESTART_COUNT",
            "job_name": "SLURM_JOB_NAME",
            "cluster": "SLURM_CLUSTER_NAME",
            "user": "SLURM_JOB_USER",
            "nodes": "SLURM_JOB_NUM_NODES",
            "node": "SLURMD_NODENAME",
            "node_rank": "SLURM_NODEID",
            "rank": "SLURM_PROCID",
            "local_rank": "SLURM_LOCALID",
            "world_size": "SLURM_NTASKS",
            "tasks_per_node": "SLURM_STEP_TASKS_PER_NODE",
            "cpus_on_node": "SLURM_CPUS_ON_NODE",
        },
        ranks_need="SLURM_STEP_ID",  # the script of sbatch is one process, whatever SLURM_NTASKS
    ),
    Launcher(
        # qsub(1B) of PBS.
        "pbs",
        (("PBS_JOBID",),),
        {
            "job_id": "PBS_JOBID",
            "array_task_id": "PBS_ARRAY_INDEX",
            "job_name": "PBS_JOBNAME",
            "user": "PBS_O_LOGNAME",
        },
    ),
    Launcher(
        # By the pod's own `fieldRef` entries, in the names of the documentation of Kubernetes and
        # JobSet; the completion index by the Job controller.
        "kubernetes",
        (("KUBERNETES_SERVICE_HOST",),),
        {
            "job_id": "JOBSET_NAME",
            "job_name": "JOB_NAME",
            "restart_count": "JOBSET_RESTART_ATTEMPT",
            "job_index": "JOB_INDEX",
            "pod": "POD_NAME",
            "pod_uid": "POD_UID",
            "namespace": "POD_NAMESPACE",
            "node": "NODE_NAME",
            "job_completion_index": "JOB_COMPLETION_INDEX",
        },
    ),
)
"""In the order in which they are believed: what starts the processes itself knows more than what
gave it the nodes."""


def job_data(environ: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return what schedulers and launchers told the process, by their names."""
    found: dict[str, dict[str, str]] = {}
    for launcher in LAUNCHERS:
        here = any(all(name in environ for name in names) for names in launcher.present)
        said = {
            field: environ[name] for field, name in launcher.variables.items() if environ.get(name)
        }
        if launcher.name == "kubernetes":
            # In a pod the host's name is the pod's, unless it says otherwise.
            said = ({"pod": environ["HOSTNAME"]} if environ.get("HOSTNAME") else {}) | said
        elif not said:
            continue
        if here:
            found[launcher.name] = said
    return found
