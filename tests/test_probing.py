"""What probing leaves behind, and what it costs, on a machine where no sensor finds anything."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.support.fakehost import fake_host

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT_S = 60

PROBE = """
import gc, json, os, sys, time
from pathlib import Path

def reads():
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["syscr"])

def left():
    threads = [one.read_text().strip() for one in Path("/proc/self/task").glob("*/comm")]
    files = {os.readlink(one) for one in map(str, Path("/proc/self/fd").iterdir())
             if os.path.lexists(one)}
    return sorted(threads), sorted(one for one in files if not one.startswith("/proc/"))

from carbontracker.energy.config import Config
from carbontracker.energy.session import Session, acquire, release
before, count = left(), reads()
session = Session.probe(Config(root=sys.argv[1], nvml_library="/nonexistent"))
sources = sorted({one.source for one in session.entries})
probing = reads() - count
del session
gc.collect()
deadline = time.monotonic() + 20
while left() != before and time.monotonic() < deadline:
    time.sleep(0.01)  # a thread that has answered ends on its own
after, count = left(), reads()
import numpy
print(json.dumps([before, after, sources, probing, reads() - count]))
"""


def test_probing_leaves_no_thread_and_no_file_and_reads_less_than_an_import(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(fake_host(tmp_path, {}))],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    before, after, sources, probing, importing = json.loads(done.stdout)
    assert sources == []
    assert after == before
    assert len(after[0]) == 1
    assert probing < importing
