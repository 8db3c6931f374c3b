"""The recipes of ``docs/jobs.md``, as they stand on the page, on a simulated node of 1103 W."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from carbontracker.cli import main
from tests.support.jobs import NODE_WATTS, TIMEOUT_S, Node, free_port, simulated_node
from tests.support.slurm import missing_program, slurm_cluster
from tests.support.snippets import ROOT, installed, recipes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

RECIPES = recipes("docs/jobs.md")
FILE = re.compile(r"`(\w+\.\w+)`")
WORLD = "from tests.support.recipe_world import train\n"
RANKS = 4
needs_slurm = pytest.mark.skipif(
    bool(missing_program()),
    reason=f"needs {missing_program()}: apt-get install slurm-wlm munge",
)


def needs(*names: str) -> pytest.MarkDecorator:
    lacks = [name for name in names if not installed(name)]
    return pytest.mark.skipif(bool(lacks), reason=f"needs {', '.join(lacks)}")


def recipe(start: str) -> str:
    (found,) = [heading for heading in RECIPES if heading.startswith(start)]
    return found


def command(start: str) -> str:
    return RECIPES[recipe(start)][-1].text


@contextmanager
def place(tmp_path: Path, ranks: int = RANKS) -> Iterator[tuple[Node, Path, dict[str, str]]]:
    """Yield a node, a folder with the programs of the page, and the environment of its user."""
    folder, files = tmp_path / "node", tmp_path / "page"
    folder.mkdir()
    files.mkdir()
    for heading, blocks in RECIPES.items():
        if (name := FILE.match(heading)) is not None:
            text = blocks[0].text
            (files / name[1]).write_text(WORLD + text if name[1].endswith(".py") else text)
    with simulated_node(folder, shared=True) as node:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        yield (
            node,
            files,
            node.environment
            | {
                "PATH": f"{path}:/usr/sbin:/sbin",
                "PYTHONPATH": str(ROOT),
                "OMP_NUM_THREADS": "1",
                "RANKS": str(ranks),
                "CARBONTRACKER_DIR": str(files / "logs"),
            },
        )


def run(text: str, files: Path, environment: Mapping[str, str]) -> str:
    """Run a command of the page, and return what it and its jobs printed."""
    ended = subprocess.run(
        ["bash", "-euc", text],
        cwd=files,
        env=os.environ | dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2 * TIMEOUT_S,
        check=False,
    )
    printed = ended.stdout + "".join(one.read_text() for one in sorted(files.glob("*.out")))
    assert ended.returncode == 0, printed + ended.stderr
    return printed


def jobs(files: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["aggregate", str(files / "logs"), "--job", "--json"]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return rows


def assert_one_job(printed: str, files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed.count("Actual consumption") == 1, printed
    assert "This is the whole job: 4 processes on 1 node." in printed
    (job,) = jobs(files, capsys)
    assert len(job["runs"]) == RANKS
    assert job["seconds"] >= 3.0
    assert job["joules"] == pytest.approx(NODE_WATTS * job["seconds"], rel=0.005)


MPI = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMPI_MCA_btl": "self,vader",
}


@pytest.mark.parametrize(
    "start",
    [
        pytest.param("torchrun", marks=needs("torch")),
        pytest.param(
            "mpirun",
            marks=pytest.mark.skipif(
                shutil.which("mpirun") is None, reason="needs mpirun: apt-get install openmpi-bin"
            ),
        ),
        pytest.param("accelerate", marks=[needs("torch", "accelerate"), pytest.mark.slow]),
        pytest.param("`train_ray.py`", marks=[needs("ray"), pytest.mark.slow]),
    ],
)
def test_a_launcher(
    start: str,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    short = str(tmp_path_factory.mktemp("r"))  # the names of the sockets of Ray are limited
    more = MPI | {"RAY_TMPDIR": short, "RAY_USAGE_STATS_ENABLED": "0"}
    with place(tmp_path) as (_, files, environment):
        assert_one_job(run(command(start), files, environment | more), files, capsys)


@needs_slurm
@pytest.mark.parametrize(
    "name",
    [
        "one_node.sh",  # each rank has the GPU that Slurm gave it
        pytest.param("many_nodes.sh", marks=[needs("torch"), pytest.mark.slow]),
        pytest.param("array.sh", marks=pytest.mark.slow),
    ],
)
def test_slurm(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = tmp_path / "slurm"
    cluster.mkdir()
    is_array = name == "array.sh"
    with (
        slurm_cluster(cluster, 8) as slurm,
        place(tmp_path, 1 if is_array else RANKS) as (_, files, environment),
    ):
        text = command(f"`{name}`")
        if name == "many_nodes.sh":  # this machine is one node
            text = text.replace("sbatch ", "sbatch --nodes=1 ")
        paths = {"PATH": environment["PATH"], "SBATCH_WAIT": "1"}
        printed = run(text, files, environment | slurm.environment | paths)
        if not is_array:
            assert_one_job(printed, files, capsys)
            return
        assert printed.count("Actual consumption") == 4, printed
        found = jobs(files, capsys)
        assert [len(job["runs"]) for job in found] == [1] * 4
        for job in found:
            assert job["joules"] == pytest.approx(NODE_WATTS * job["seconds"], rel=0.01)


@pytest.mark.slow
@needs("torch", "yaml")
def test_pods_of_kubernetes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not by Kubernetes: each pod is a process with what Kubernetes would set there."""
    import yaml

    *_, job = yaml.safe_load_all(command("Kubernetes"))
    page = job["spec"]
    (container,) = page["template"]["spec"]["containers"]
    said = {one["name"]: one["value"] for one in container["env"]}
    assert said["MASTER_ADDR"] == f"{said['JOB_NAME']}-0.{page['template']['spec']['subdomain']}"
    assert page["completionMode"] == "Indexed"
    port = f"--master-port={free_port()}"
    words = re.sub(r"--master-port=\d+", port, " ".join(container["args"]))
    with place(tmp_path) as (_, files, environment):
        pods = [
            subprocess.Popen(
                [*container["command"], words],
                cwd=files,
                env=os.environ | environment | said | pod,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                text=True,
            )
            for pod in (
                {
                    "KUBERNETES_SERVICE_HOST": "10.0.0.1",
                    "JOB_COMPLETION_INDEX": str(index),
                    "HOSTNAME": f"llm-{index}-x",
                    "MASTER_ADDR": "127.0.0.1",
                }
                for index in range(page["completions"])
            )
        ]
        try:
            printed = "".join(one.communicate(timeout=2 * TIMEOUT_S)[0] for one in pods)
        finally:
            for one in pods:
                one.kill()
                one.wait()
        assert [one.returncode for one in pods] == [0, 0], printed
        assert_one_job(printed, files, capsys)
        told = [
            json.loads(one.read_text().splitlines()[0]) for one in (files / "logs").glob("*.jsonl")
        ]
        assert {one["job"]["kubernetes"]["job_name"] for one in told} == {"llm"}


def test_each_recipe_of_the_page_is_run_here() -> None:
    launched = ("torchrun", "mpirun", "accelerate", "`train_ray.py`", "Kubernetes")
    run_here = [*launched, "`one_node.sh`", "`many_nodes.sh`", "`array.sh`"]
    programs = ["`train.py`", "`train_ddp.py`"]
    assert sorted(RECIPES) == sorted(map(recipe, [*run_here, *programs]))
