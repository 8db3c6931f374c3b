"""The tools that are measured beside ours: an environment each, and processes that run them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.common import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FOLDER = ROOT / "build" / "peers"
REQUIREMENTS = {
    "carbontracker": "carbontracker==2.4.7",
    "codecarbon": "codecarbon==3.3.2",
    "zeus": "zeus==0.16.0",
}
TORCH = "torch==2.13.0"
NAMES = {
    "ours": "ours",
    "none": "no tool",
    "carbontracker": "carbontracker 2.4.7",
    "codecarbon": "CodeCarbon 3.3.2",
    "zeus": "Zeus 0.16.0",
}
WORKER = ROOT / "bench" / "tools" / "worker.py"


class UnavailableError(RuntimeError):
    """Something cannot be installed or started here; the message says what and why."""


def python_of(tool: str) -> Path:
    """Return the interpreter that has a tool; its environment is made at the first use.

    Raises:
        UnavailableError: the package index cannot be reached.
    """
    if tool in ("ours", "none"):
        return Path(sys.executable)
    folder = FOLDER / tool
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        print(f"installing {REQUIREMENTS[tool]} into {folder.relative_to(ROOT)} ...", flush=True)
        venv.create(folder, with_pip=True)
        _install([str(python), "-m", "pip", "install", "--quiet", REQUIREMENTS[tool]], folder)
    return python


def torch_folder() -> Path:
    """Return a folder with PyTorch, for the module path of any environment.

    Raises:
        UnavailableError: the package index cannot be reached.
    """
    folder = FOLDER / "torch"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        print(f"installing {TORCH} into {folder.relative_to(ROOT)} ...", flush=True)
        FOLDER.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), TORCH]
        _install(pip, folder)
    return folder


def _install(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        shutil.rmtree(folder, ignore_errors=True)
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UnavailableError(
            f"cannot install {command[-1]}: {reason} (is a package index reachable?)"
        )
    (folder / "complete").touch()


def available(tools: list[str]) -> list[str]:
    """Return the tools that can be run here; say of each other one why not."""
    return [tool for tool in tools if _can_run(tool)]


def _can_run(tool: str) -> bool:
    try:
        python_of(tool)
    except UnavailableError as error:
        print(f"left out: {error}", file=sys.stderr)
        return False
    return True


class Worker:
    """A process that runs one tool, or none, and does what it is asked, one line of JSON each."""

    def __init__(self, tool: str, process: subprocess.Popen[str]) -> None:
        self.tool = tool
        self.process = process

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self.process.pid

    def send(self, command: str, **arguments: object) -> None:
        """Ask for something without waiting for the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
        self.process.stdin.flush()

    def receive(self) -> Any:
        """Wait for the answer.

        Raises:
            UnavailableError: the process has died.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise UnavailableError(f"the process of {self.tool} ended: {self.process.wait()}")
        return json.loads(line)

    def ask(self, command: str, **arguments: object) -> Any:
        """Ask and wait for the answer."""
        self.send(command, **arguments)
        return self.receive()


STEADY_HEAP = {
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),  # the most there can be
}
"""glibc gives the top of the heap back to the kernel, or not, by what happens to lie there: loops
with large arrays were three times as slow, or not, by luck. No tool's heap is given back."""


@contextmanager
def worker(
    tool: str,
    environment: Mapping[str, str],
    *,
    adapter: str | None = None,
    log: Path | None = None,
    torch: bool = False,
) -> Iterator[Worker]:
    """Run `tools/worker.py` with the interpreter of `tool`.

    `adapter` is the tool that the process starts; `none` leaves the process bare. What it prints
    goes to `log`.
    """
    variables = {key: text for key, text in os.environ.items() if not _is_ours(key)}
    variables |= {"PYTHONPATH": str(torch_folder()) if torch else "", **STEADY_HEAP, **environment}
    command = [str(python_of(tool)), str(WORKER), adapter or tool]
    with (log or Path(os.devnull)).open("a") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=variables,
        )
    with process:
        try:
            yield Worker(tool, process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _is_ours(variable: str) -> bool:
    return variable.startswith(("CARBONTRACKER_", "CUDA_", "FAKE_NVML", "BENCH_"))


# ---- processes -----------------------------------------------------------------------------


def family(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    members = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            children = (task / "children").read_text().split()
        except OSError:
            continue
        for child in children:
            members += family(int(child))
    return members


def pin(pid: int, cores: set[int]) -> None:
    """Bind every thread of a process and its descendants to some cores."""
    for member in family(pid):
        for task in Path(f"/proc/{member}/task").glob("*"):
            with suppress(OSError):  # it has just ended
                os.sched_setaffinity(int(task.name), cores)


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process and its descendants, B; shared pages count once."""
    total = 0
    for member in family(pid):
        try:
            text = Path(f"/proc/{member}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line[:4] == "Pss:")
    return total * 1024
