"""How many honest scrapes an endpoint answers under 50 slow connections a second.

A slow connection sends the first bytes of a request and then one byte every second, so that no
time-out of a single read ever ends it. An honest scrape is made every second and has five seconds.
The endpoint is that of `carbontracker run --prometheus` on a simulated device; beside it stands the
server of prometheus_client, if that is installed. All figures are counts.
"""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

from bench.common import NAN, Report, Spread, arguments_parser, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SLOW_PER_S = 50
SCRAPE_TIMEOUT_S = 5.0
SERVER_FILES = 1024
"""Open files that each server may have: the usual limit of a process."""
START_S = 60.0
"""The longest that an endpoint may take until its first answer."""
ENVIRONMENT = {"CARBONTRACKER_NVML": "none.so", "CARBONTRACKER_LOCATE": "never"}
PEER = (
    "import sys, time, prometheus_client as p; p.start_http_server(int(sys.argv[1]), '127.0.0.1')"
)


@dataclass
class Counts:
    """What happened at one endpoint."""

    asked: int = 0
    answered: int = 0
    slow: int = 0
    """Slow connections that were opened."""
    max_open: int = 0
    """The most of them that the endpoint held at a time."""
    max_threads: int = 0
    """The most threads of the process that serves."""
    lock: threading.Lock = field(default_factory=threading.Lock)


def free_port() -> int:
    """Return a port of loopback that is not in use."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def command_of(server: str, port: int) -> list[str]:
    """Return the command that serves metrics at a port."""
    if server == "prometheus_client":
        return [sys.executable, "-c", f"{PEER}; time.sleep(3600)", str(port)]
    options = ["--quiet", "--no-record", "--location", "DK", "--prometheus", str(port)]
    options += ["--sim-gpu", "A100", "--sim-gpu-watts", "400"]
    return [sys.executable, "-m", "carbontracker", "run", *options, "--", "sleep", "3600"]


@contextmanager
def serving(server: str, port: int) -> Iterator[int]:
    """Run a server until the block ends; yield its process id once it has answered."""
    with tempfile.TemporaryDirectory() as root:
        environment = os.environ | ENVIRONMENT | {"CARBONTRACKER_ROOT": root}
        with subprocess.Popen(command_of(server, port), env=environment) as process:
            try:
                deadline_s = time.monotonic() + START_S
                while not scrape(port):
                    if time.monotonic() > deadline_s:
                        sys.exit(f"{server} did not begin to serve within {START_S:g} s")
                    time.sleep(0.1)
                resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (SERVER_FILES, SERVER_FILES))
                yield process.pid
            finally:
                process.terminate()


def scrape(port: int) -> bool:
    """Return whether a scrape is answered in full and in time."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=SCRAPE_TIMEOUT_S) as answer:
            return bool(answer.read().endswith(b"\n"))
    except OSError:
        return False


def attack(port: int, seconds: float, counts: Counts) -> None:
    """Open slow connections at the rate of the attack, and keep them open."""
    slow: list[socket.socket] = []
    tried = 0
    start_s = time.monotonic()
    while (passed_s := time.monotonic() - start_s) < seconds:
        due, tried = int(passed_s * SLOW_PER_S) - tried, int(passed_s * SLOW_PER_S)
        with suppress(OSError):  # the endpoint accepts no more
            for _ in range(due):
                one = socket.create_connection(("127.0.0.1", port), timeout=0.1)
                one.setblocking(False)
                slow.append(one)
                counts.slow += 1
                one.sendall(b"GET /met")
        if int(passed_s * 10) % 10 == 0:  # once a second
            slow = [one for one in slow if drip(one)]
            counts.max_open = max(counts.max_open, len(slow))
        time.sleep(0.1 - (time.monotonic() - start_s) % 0.1)
    for one in slow:
        one.close()


def drip(one: socket.socket) -> bool:
    """Send one byte more; return False if the endpoint has closed the connection."""
    try:
        one.sendall(b"r")
        return one.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        one.close()
        return False


def threads_of(pid: int) -> int:
    """Return how many threads a process has."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("Threads:")[1].split()[0])


def counted(server: str, seconds: int) -> Counts:
    """Attack an endpoint, scrape it once a second, and return the counts."""
    counts, port = Counts(), free_port()

    def honest() -> None:
        answered = scrape(port)
        with counts.lock:
            counts.answered += answered

    with serving(server, port) as pid:
        attacker = threading.Thread(target=attack, args=(port, seconds, counts))
        attacker.start()
        scrapes = []
        for _ in range(seconds):
            scrapes.append(threading.Thread(target=honest))
            scrapes[-1].start()
            counts.asked += 1
            time.sleep(1.0)
            counts.max_threads = max(counts.max_threads, threads_of(pid))
        for one in (*scrapes, attacker):
            one.join()
    return counts


def main(given: Sequence[str] | None = None) -> None:
    """Print the counts of each endpoint."""
    parser = arguments_parser(__doc__)
    parser.add_argument("--seconds", type=int, help="length of the attack (30; quick: 10)")
    arguments = parser.parse_args(given)
    most_files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    report = Report("scrape", "Scrapes under slow connections", arguments.quick)
    seconds = arguments.seconds or (10 if arguments.quick else 30)
    servers = ["carbontracker"]
    servers += ["prometheus_client"] if find_spec("prometheus_client") else []
    rows = []
    for server in servers:
        found = counted(server, seconds)
        share = found.answered / found.asked if found.asked else NAN
        rows.append(
            [
                server,
                f"{found.answered} of {found.asked}",
                str(found.slow),
                str(found.max_open),
                str(found.max_threads),
            ]
        )
        unanswered = Spread(1 - share, 1 - share, 1 - share, found.asked)
        report.row(f"{server}: scrapes not answered", unanswered, "all scrapes", goal=0.0)
    head = ["endpoint", "honest scrapes answered", "slow connections", "most open", "most threads"]
    report.say(table(head, rows))
    report.finish(arguments)


if __name__ == "__main__":
    main()
