"""Totals of many runs and of old logs beside their closed forms: `aggregate` and `--parse`.

Ranks of one node, each a process with a tracker of its own, begin one after another and pause
between epochs. All of them read the same RAPL counters, which a process keeps up to date with
closed-form waves; the truth is those waves over the time in which any rank was in an epoch, by the
marks that the ranks have recorded. Old logs are those of the tests, of which every figure is
written down.

    python -m bench.totals [--keep DIR]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench.common import ROOT, table
from carbontracker.parser import add_logs
from carbontracker.records.aggregate import add_runs
from carbontracker.records.reader import read_runs
from tests.support.fakehost import Counter, energy_key, fake_host, powercap_tree, running_powercap

RANKS = 4
STAGGER_S = 1.3
RANK = """
import sys, time
from carbontracker.tracker import CarbonTracker
tracker = CarbonTracker(3, log_dir=sys.argv[1], verbose=0, components="cpu")
for epoch in range(3):
    tracker.epoch_start()
    time.sleep(1.7 + 0.4 * int(sys.argv[2]))
    tracker.epoch_end()
    time.sleep(0.6)
tracker.stop()
"""
WAVES = {
    "constant": ("constant:120", "constant:80"),
    "changing": ("square:40,300,7,0.5", "sine:100,90,5"),
}
CORPUS = ROOT / "tests" / "data" / "oldlogs"
HEAD = ["what", "truth", "found", "found / truth"]


def ranks(directory: Path, waves: tuple[str, str]) -> tuple[float, float]:
    """Return the joules of staggered ranks in closed form, and as `aggregate` has them."""
    tree = powercap_tree(2, children=(), psys=False, mmio=False)
    root = fake_host(directory, tree)
    counters = [Counter(root / energy_key(f"intel-rapl:{i}"), wave) for i, wave in enumerate(waves)]
    environment = os.environ | {
        "CARBONTRACKER_ROOT": str(root),
        "CARBONTRACKER_NVML": str(root / "none.so"),
        "CARBONTRACKER_OFFLINE": "1",
        "CARBONTRACKER_LOCATION": "DK",
    }
    logs = directory / "logs"
    with running_powercap(directory, counters) as powercap, ExitStack() as stack:
        for rank in range(RANKS):
            command = [sys.executable, "-c", RANK, str(logs), str(rank)]
            stack.enter_context(subprocess.Popen(command, env=environment))
            time.sleep(STAGGER_S)
    spans: list[tuple[int, int]] = []
    for run in read_runs(logs):
        assert run.series.began_ns is not None
        for epoch in run.epochs:
            ends = (round(1e9 * at) + run.series.began_ns for at in (epoch.start_s, epoch.end_s))
            spans.append((next(ends), next(ends)))
    truth, reached_ns = 0.0, 0
    for start_ns, end_ns in sorted(spans):
        if end_ns > reached_ns:
            first_ns = max(start_ns, reached_ns)
            truth += sum(powercap.truth(i, first_ns, end_ns) for i in range(len(waves)))
            reached_ns = end_ns
    return truth, add_runs(read_runs(logs, series=False, epochs=False)).joules


def old_logs(*stems: str) -> tuple[float, float]:
    """Return the kWh of old logs as written, and corrected."""
    with tempfile.TemporaryDirectory() as folder:
        for stem in stems:
            for path in CORPUS.glob(f"{stem}_carbontracker*.log"):
                shutil.copy(path, folder)
        total = add_logs(folder)
        return total.written.kwh, total.corrected.kwh


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="keep the ranks' records there")
    keep: Path | None = parser.parse_args().keep
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        base = keep or Path(folder)
        for name, waves in WAVES.items():
            (base / name).mkdir(parents=True)
            truth, found = ranks(base / name, waves)
            what = f"aggregate: {RANKS} staggered ranks, {name} power, J"
            rows.append([what, f"{truth:.1f}", f"{found:.1f}", f"{found / truth:.4f}"])
    of_three = 0.000043 + 0.000086 + 0.000129
    cases = [
        *(
            (f"--parse: three trackers of one process, {version}, kWh", of_three,
             old_logs(*(f"{pid}_2022-03-01T10000{at}Z" for at in (0, 3, 6)))[0])
            for version, pid in (("1.1.7", 4711), ("1.2.5", 4712))
        ),
        ("--parse: four GPUs of 1000 W, 3.3 s, output log empty, kWh",
         1000 * 3.3 * 1.55 / 3.6e6, old_logs("v1.1.7-silent")[0]),
        ("--parse: the same power, 2 s, averaged by 2.0.0, corrected, kWh",
         1000 * 2.0 * 1.58 / 3.6e6, old_logs("v2.0.0-four-gpus-averaged")[1]),
    ]  # fmt: skip
    rows += [[what, f"{a:.7f}", f"{b:.7f}", f"{b / a:.4f}"] for what, a, b in cases]
    print(table(HEAD, rows))


if __name__ == "__main__":
    main()
