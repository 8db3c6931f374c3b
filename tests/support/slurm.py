"""A cluster of one node by the real Slurm, for the time of a test.

Its files, ports and key are its own: it meets no other Slurm or MUNGE of the machine.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.jobs import TIMEOUT_S, Ended, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

GPUS = "\n".join(
    # Any device will do: Slurm gives out their numbers, as CUDA_VISIBLE_DEVICES.
    f"Name=gpu Flags=nvidia_gpu_env File=/dev/{name}"
    for name in ("zero", "null", "full", "random")
)
PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "scontrol")
CONFIGURATION = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
# A requeued job starts once the credential of its last start has expired: after 120 s by default.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=1
SlurmdParameters=config_overrides
MpiDefault=none
KillWait=2
ReturnToService=2
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} Gres=gpu:4
PartitionName=all Nodes={host} Default=YES OverSubscribe=FORCE:16 MaxTime=10
"""


@dataclass
class Slurm:
    """A cluster that runs."""

    environment: dict[str, str]

    def run(self, *command: str, **more: str) -> Ended:
        """Run a client of it to its end."""
        ended = subprocess.run(
            command,
            env=os.environ | self.environment | more,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr, time.monotonic())

    def state(self, job_id: str) -> str:
        """Return the state of a batch job, such as ``RUNNING``."""
        shown = self.run("scontrol", "--oneliner", "show", "job", job_id).out
        words = dict(word.partition("=")[::2] for word in shown.split())
        return words.get("JobState", "")

    def await_true(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so.

        Raises:
            TimeoutError: it did not become so.
        """
        due_s = time.monotonic() + TIMEOUT_S
        while not condition():
            if time.monotonic() > due_s:
                raise TimeoutError(self.run("scontrol", "show", "job").out)
            time.sleep(0.1)


def missing_program() -> str:
    """Return a program of Slurm or MUNGE that the machine lacks; empty if it has all."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return next((name for name in PROGRAMS if shutil.which(name, path=path) is None), "")


@contextmanager
def slurm_cluster(folder: Path, cpus: int) -> Iterator[Slurm]:
    """Run a cluster whose one node, this machine, is taken to have so many CPUs."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    host = socket.gethostname().partition(".")[0]
    file = folder / "slurm.conf"
    file.write_text(
        CONFIGURATION.format(
            host=host,
            folder=folder,
            controller_port=free_port(),
            node_port=free_port(),
            cpus=cpus,
        )
    )
    (folder / "gres.conf").write_text(f"{GPUS}\n")
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    environment = {
        "SLURM_CONF": str(file),
        "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin",
    }
    munged = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket"]
    munged += [f"--key-file={key}", f"--pid-file={folder}/munged.pid"]
    munged += [f"--log-file={folder}/munged.log", f"--seed-file={folder}/munged.seed"]
    with ExitStack() as stack:
        for command in (
            munged,
            ["slurmctld", "-D", "-f", str(file)],
            ["slurmd", "-D", "-f", str(file), "-N", host],
        ):
            stack.enter_context(_server(command, environment, folder))
        cluster = Slurm(environment)
        _await_node(cluster, host, folder)
        try:
            yield cluster
        finally:
            cluster.run("scancel", "--signal=KILL", "--user=root")


@contextmanager
def _server(command: list[str], environment: Mapping[str, str], folder: Path) -> Iterator[None]:
    with (folder / f"{command[0]}.out").open("wb") as out:
        process = subprocess.Popen(
            command,
            env=os.environ | dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_node(cluster: Slurm, host: str, folder: Path) -> None:
    due_s = time.monotonic() + 60.0
    while True:
        shown = cluster.run("scontrol", "--oneliner", "show", "node", host)
        if "State=IDLE" in shown.out and "NOT_RESPONDING" not in shown.out:
            return
        if time.monotonic() > due_s:
            logs = "\n".join(file.read_text()[-2000:] for file in folder.glob("*.log"))
            raise TimeoutError(f"Slurm's node did not come: {shown.out}{shown.err}\n{logs}")
        time.sleep(0.2)
