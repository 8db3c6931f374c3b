"""Jobs of several processes on a simulated node, whose energy is known in closed form."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.support.fakehost import energy_key, fake_host, powercap_tree
from tests.support.running import CARDS, Counter, fake_nvml, running_powercap

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.support.running import FakeNvml

GPU_WATTS = (300.0, 250.0, 200.0, 150.0)
PACKAGE_WATTS = (80.0, 75.0)
DRAM_WATTS = (26.0, 22.0)
NODE_WATTS = sum(GPU_WATTS) + sum(PACKAGE_WATTS) + sum(DRAM_WATTS)
"""1103 W."""
TIMEOUT_S = 120.0

PRELUDE = """\
import json, os, signal, sys, threading, time
rank = int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0)
world = int(os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_NTASKS") or 1)
from carbontracker.tracker import CarbonTracker

def say(**words):
    with open(os.path.join(os.environ["SAID"], f"{rank}.jsonl"), "a") as file:
        file.write(json.dumps(words) + "\\n")

def said_result(tracker):
    result = tracker.result
    ranks = result.ranks
    say(
        extent=result.extent,
        joules=result.energy.joules,
        quality=result.energy.quality,
        coverage=result.energy.coverage,
        seconds=result.seconds,
        kwh=result.footprint.kwh,
        devices={name: part.joules for name, part in result.energy.by_device.items()},
        epochs=[epoch.energy.joules for epoch in result.epochs],
        seen=ranks and list(ranks.seen),
        silent=ranks and list(ranks.silent),
        nodes=ranks and ranks.nodes,
    )
"""
"""Beginning of the program of a rank."""
TORCH = """\
import datetime
import torch.distributed as dist
dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=60))
"""
TORCH_WITHOUT_TORCHRUN = """\
import datetime
import torch.distributed as dist
dist.init_process_group(
    "gloo",
    init_method="file://" + os.path.join(
        os.environ["SAID"], "meet" + os.environ.get("TORCHELASTIC_RESTART_COUNT", "")
    ),
    rank=rank,
    world_size=world,
    timeout=datetime.timedelta(seconds=60),
)
"""
WITHOUT_TORCH = """\
from tests.support import fake_torch
dist = fake_torch.install()
"""
BESIDE = """
tracker = CarbonTracker(2, epochs_before_pred=0, job=True)
wait_for_all()
for epoch in range(2):
    tracker.epoch_start()
    time.sleep(1.0 + 0.3 * (rank == 1))
    wait_for_all()
    tracker.epoch_end()
tracker.stop()
said_result(tracker)
"""
"""A training of which only its ``job=True`` says that it is one."""
FILES = """
meetings = 0

def wait_for_all():
    global meetings
    meetings += 1
    here = f"here{meetings}-"
    open(os.path.join(os.environ["SAID"], f"{here}{rank}"), "w").close()
    while len([name for name in os.listdir(os.environ["SAID"]) if here in name]) < world:
        time.sleep(0.01)
"""
"""How the ranks of a test meet without a framework."""


@dataclass
class Node:
    """A machine with four GPUs, two packages and their memory."""

    nvml: FakeNvml
    environment: dict[str, str]
    records: Path
    said: Path

    def of_rank(self, rank: int, *, one_gpu: bool) -> dict[str, str]:
        """Return the variables of a rank, which sees one GPU or all."""
        return {"CUDA_VISIBLE_DEVICES": str(rank % len(GPU_WATTS))} if one_gpu else {}

    def words(self, rank: int) -> list[dict[str, Any]]:
        """Return what a rank has said."""
        file = self.said / f"{rank}.jsonl"
        return list(map(json.loads, file.read_text().splitlines())) if file.exists() else []


@contextmanager
def simulated_node(tmp_path: Path, *, shared: bool = False) -> Iterator[Node]:
    """Run the sensors of a node of 1103 W."""
    tree = powercap_tree(2, children=("dram",), psys=False, mmio=False)
    root = fake_host(tmp_path / "host", tree)
    counters = [
        Counter(root / energy_key(f"intel-rapl:{i}"), f"constant:{watts}")
        for i, watts in enumerate(PACKAGE_WATTS)
    ] + [
        Counter(root / energy_key(f"intel-rapl:{i}:0"), f"constant:{watts}")
        for i, watts in enumerate(DRAM_WATTS)
    ]
    boards = [CARDS["v100"] | {"power": f"constant:{watts}"} for watts in GPU_WATTS]
    records, said = tmp_path / "records", tmp_path / "said"
    store = tmp_path / "store"
    said.mkdir()
    store.mkdir()
    with running_powercap(tmp_path, counters), fake_nvml(tmp_path, boards) as nvml:
        environment = nvml.environment | {
            "CARBONTRACKER_ROOT": str(root),
            "CARBONTRACKER_NVML": str(nvml.library),
            "CARBONTRACKER_SHARE": str(tmp_path) if shared else "0",
            "CARBONTRACKER_DIR": str(records),
            "SAID": str(said),
            "FAKE_STORE": str(store),
        }
        yield Node(nvml, environment, records, said)


@dataclass
class Ended:
    """What a process left behind."""

    code: int
    out: str
    err: str
    at_s: float
    """When it was seen to have ended, s of CLOCK_MONOTONIC."""

    @property
    def blocks(self) -> int:
        """Return how often it showed a result."""
        return len(re.findall("Actual consumption", self.out))


def free_port() -> int:
    """Return a port of the loopback interface that is free now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def ranks_environment(world: int, **more: str) -> list[dict[str, str]]:
    """Return what torchrun sets for each rank, without torchrun."""
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    return [
        common
        | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
        | {"LOCAL_WORLD_SIZE": str(world)}
        | more
        for rank in range(world)
    ]


def run_ranks(
    program: str, environments: Sequence[Mapping[str, str]], timeout_s: float = TIMEOUT_S
) -> list[Ended]:
    """Run a program once with each environment, all at the same time, to their ends."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env=os.environ | dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for environment in environments
    ]
    ended = []
    try:
        for process in processes:
            out, err = process.communicate(timeout=timeout_s)
            ended.append(Ended(process.returncode, out, err, time.monotonic()))
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return ended


def torchrun(node: Node, program: Path, *options: str, world: int = 4) -> Ended:
    """Run a program by the real torchrun, which starts the ranks on this machine."""
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *(f"--nproc-per-node={world}", *options, str(program)),
        ],
        env=os.environ | node.environment | {"OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2 * TIMEOUT_S,
        check=False,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr, time.monotonic())
