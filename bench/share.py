"""What 1, 4 and 8 processes on one node cost, reading by themselves and with shared readings.

``python -m bench.share [--seconds 16] [--gpus 4]``: a simulated node with GPUs of a pretended
driver and two processors. CPU time is that of the core's threads, and of the whole processes.
Ratios are to one process alone. The last column is the largest error of any process against the
closed form, in percent.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from tests.support.fakehost import energy_key, fake_host, powercap_tree
from tests.support.running import CARDS, Counter, fake_nvml, running_powercap
from tests.support.sharing import Member

SAMPLING = ("ct-nvml", "ct-powercap")


class Cost(NamedTuple):
    """What so many processes cost."""

    core_s: float
    process_s: float
    samplers: int
    threads: int
    calls: int
    error: float


def measure(count: int, seconds: float, gpus: int, rate_hz: str, *, share: bool) -> Cost:
    """Run so many processes for so long."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        tree = powercap_tree(2, children=(), psys=False, mmio=False)
        root = fake_host(folder / "host", tree)
        counters = [
            Counter(root / energy_key(f"intel-rapl:{i}"), "square:80,200,0.5,0.5") for i in range(2)
        ]
        boards = [CARDS["a100"] | {"power": "square:100,300,0.7,0.5"}] * gpus
        powercap = stack.enter_context(running_powercap(folder, counters))
        nvml = stack.enter_context(fake_nvml(folder, boards))
        environment = nvml.environment | {
            "CARBONTRACKER_ROOT": str(root),
            "CARBONTRACKER_NVML": str(nvml.library),
            "CARBONTRACKER_SHARE": str(folder) if share else "0",
            "CARBONTRACKER_RATE_HZ": rate_hz,
        }
        members = [stack.enter_context(Member(environment)) for _ in range(count)]
        for member in members:
            member.ready()
        calls = nvml.calls()["all"]
        before = [member.ask("state") for member in members]
        starts = [member.ask("mark") for member in members]
        time.sleep(seconds)
        ends = [member.ask("mark") for member in members]
        after = [member.ask("state") for member in members]
        calls = nvml.calls()["all"] - calls
        errors = []
        for member, start, end in zip(members, starts, ends, strict=True):
            member.ask("final", 1)
            truth = sum(nvml.truth(i, start, end) for i in range(gpus))
            truth += sum(powercap.truth(i, start, end) for i in range(2))
            errors.append(100 * abs(member.ask("energy", 0, 1)["joules"] / truth - 1))
        threads = [name for state in after for name in state["threads"]]

        def spent(name: str) -> float:
            return float(sum(a[name] - b[name] for a, b in zip(after, before, strict=True)))

        return Cost(
            spent("core_cpu_ns") / 1e9,
            spent("process_cpu_s"),
            sum(name in SAMPLING for name in threads),
            sum(name.startswith("ct-") for name in threads),
            calls,
            max(errors),
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=16.0)
    parser.add_argument("--gpus", type=int, default=4)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--rate-hz", default="")
    given = parser.parse_args()
    print(
        "processes  shared  core ms/s  ratio  process ms/s"
        "  samplers  threads  calls/s  ratio  err %"
    )
    for share in (False, True):
        one = None
        for count in given.processes:
            cost = measure(count, given.seconds, given.gpus, given.rate_hz, share=share)
            one = one or cost
            print(
                f"{count:9}  {'yes' if share else 'no':>6}"
                f"  {1e3 * cost.core_s / given.seconds:9.2f}  {cost.core_s / one.core_s:5.2f}"
                f"  {1e3 * cost.process_s / given.seconds:12.2f}  {cost.samplers:8}"
                f"  {cost.threads:7}  {cost.calls / given.seconds:7.1f}"
                f"  {cost.calls / one.calls:5.2f}  {cost.error:5.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
