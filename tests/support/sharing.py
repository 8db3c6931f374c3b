"""Processes that measure one machine side by side: ``python -m tests.support.sharing``.

Each obeys one command a line: ``mark``, ``energy I J``, ``final I`` (waits), ``is_final I``,
``power CHANNEL START_NS END_NS``, ``state``, ``fork``, ``stop``. It answers each with one line of
JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_S = 60.0


def _threads() -> list[str]:
    names = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):  # it has ended meanwhile
            names.append((task / "comm").read_text(encoding="utf-8").strip())
    return names


def _serve() -> None:
    from carbontracker.energy.config import Config
    from carbontracker.energy.session import acquire, release

    # A sensor that answers late, on a busy machine, may get a reader of its own.
    session = acquire(Config.from_environment(), probe_timeout_s=TIMEOUT_S / 2)
    marks = []

    def answer(command: str, *arguments: int) -> Any:
        if command == "mark":
            marks.append(session.mark())
            return marks[-1].t_ns
        if command == "is_final":
            return session.is_final(marks[arguments[0]])
        if command == "final":
            return session.await_final(marks[arguments[0]], timeout_s=10.0)
        if command == "power":
            t_ns, watts = session.power(*arguments)
            return [t_ns.tolist(), watts.tolist()]
        if command == "energy":
            i, j = arguments
            energy = session.energy(marks[i], marks[j])
            return {
                "joules": energy.joules,
                "error_joules": energy.error_joules,
                "coverage": energy.coverage,
                "devices": {name: part.joules for name, part in energy.by_device.items()},
            }
        if command == "fork":  # a child that only waits, as a worker of a data loader does
            pid = os.fork()
            if pid == 0:
                os.close(0)
                parent = os.getppid()
                while os.getppid() == parent:
                    time.sleep(0.2)
                time.sleep(3.0)
                os._exit(0)
            return pid
        if command == "state":
            stats = session.stats()
            return {
                "readers": dict(
                    zip([e.id for e in session.entries], session.reader_pids(), strict=True)
                ),
                "reads": {name: one.reads for name, one in stats.items()},
                "sampler_cpu_ns": sum(one.cpu_ns for one in stats.values()),
                "core_cpu_ns": session.core.cpu_ns if session.core else 0,
                "process_cpu_s": time.process_time(),
                "threads": _threads(),
            }
        release(session)
        return "stopped"

    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        command, *words = line.split()
        print(json.dumps(answer(command, *map(int, words))), flush=True)


@dataclass
class Member:
    """One process that measures."""

    environment: Mapping[str, str]
    program: tuple[str, ...] = ("-m", "tests.support.sharing")
    process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *self.program],
            env=os.environ | dict(self.environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self.process.pid

    def ready(self) -> Member:
        """Wait until it measures."""
        assert self._line() == "ready"
        return self

    def ask(self, *words: object) -> Any:
        """Give a command and return the answer."""
        self.tell(*words)
        return self._line()

    def tell(self, *words: object) -> None:
        """Give a command whose answer is not waited for."""
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()

    def _line(self) -> Any:
        assert self.process.stdout is not None
        timer = threading.Timer(TIMEOUT_S, self.process.kill)
        timer.start()
        try:
            line = self.process.stdout.readline()
        finally:
            timer.cancel()
        assert line, f"process {self.pid} ended"
        return json.loads(line)

    def close(self) -> None:
        """End it, whatever state it is in."""
        self.process.kill()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        self.process.wait()

    def __enter__(self) -> Member:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


if __name__ == "__main__":
    _serve()
