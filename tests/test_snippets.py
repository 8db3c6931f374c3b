"""Every command and snippet of the documents is executed, or says why not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.fakehost import fake_host
from tests.support.intensity_server import Reply, serving
from tests.support.observing import waving_machine
from tests.support.page_session import PageSession, difference, exchanges
from tests.support.simulated import Training
from tests.support.snippets import EXECUTED, ROOT, Block, blocks, complaints, pages, table

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_MARKED_SHARE = 0.15
"""Of the blocks that are code, those that say why they are not executed."""

TRAIN = """\
import time
from carbontracker.tracker import CarbonTracker
tracker = CarbonTracker(epochs=3)
for epoch in tracker.epochs():
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        pass
"""
COMMANDS = {
    # Which targets there are, without what they do: that takes minutes.
    "make": f'#!/bin/sh\nexec {shutil.which("make")} --dry-run -C {ROOT} "$@" > /dev/null\n',
    "srun": '#!/bin/sh\nwhile [ "${1#-}" != "$1" ]; do shift; done\nexec "$@"\n',
}
"""Programs that the documents use and that do less here."""
PRELUDE = """\
import time
import carbontracker as ct
from carbontracker.tracker import CarbonTracker
loader = [time.sleep] * 4
"""
WITHOUT_SENSORS = ("README.md", "docs/install.md")
"""Pages that show a machine whose processor and memory are estimated."""
BEFORE = {
    "docs/budgets.md": "tracker = CarbonTracker(epochs=2)",
    "docs/frameworks.md": """\
import os
import numpy as np
os.environ["KERAS_BACKEND"] = "torch"
x, y = np.ones((20, 2), dtype=np.float32), np.ones((20, 1), dtype=np.float32)
try:
    import torch
except ImportError:
    pass
else:
    rows = [{"x": torch.ones(2), "labels": torch.ones(1)}] * 20
    loader = torch.utils.data.DataLoader(torch.ones(20, 2))
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)
        def forward(self, x, labels):
            out = self.layer(x)
            return {"loss": ((out - labels) ** 2).mean(), "logits": out}
    model = Model()
try:
    import lightning
except ImportError:
    pass
else:
    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)
        def training_step(self, batch, batch_idx): return self.layer(batch).mean()
        def configure_optimizers(self): return torch.optim.SGD(self.parameters())
    module = Module()
""",
    "docs/intensity.md": """\
import pathlib, shutil
(record,) = pathlib.Path("RUN").glob("*.jsonl")
shutil.copy(record, "run.jsonl")
class MyProvider:
    name = "mine"
    def between(self, zone, start, end): return []
""",
    "docs/live.md": """\
class CarbonTracker(CarbonTracker):  # a tracker that has finished when it is there
    def __init__(self, **arguments):
        super().__init__(**arguments)
        for _ in self.epochs(): pass
""",
    "docs/traces.md": """\
import pathlib
for other in pathlib.Path("logs").glob("*.jsonl"):
    other.unlink()  # the newest run there is to be the one of the page
""",
    "docs/telemetry.md": """\
import wandb
wandb.init(project="p", mode="offline")
writer = "runs"
""",
}
"""What the Python of a page takes from its reader, by page."""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory as the documents assume it: a program to train, and records."""
    found = tmp_path / "page"
    (found / "logs").mkdir(parents=True)
    (found / "train.py").write_text(TRAIN)
    (found / "examples").symlink_to(ROOT / "examples")
    (found / "RUN").mkdir()
    for name, epochs in (("3f2a9c01d4e5b678", 3), ("9bc1e7a2f0456d13", 2)):
        events = Training(run_id=name, epochs=epochs, gpus=2, moments=10).events()
        lines = "".join(json.dumps(event) + "\n" for event in events)
        (found / "logs" / f"20260301T060000Z_1_{name}.jsonl").write_text(lines)
    shutil.copy(found / "logs" / "20260301T060000Z_1_3f2a9c01d4e5b678.jsonl", found / "RUN")
    for name, script in COMMANDS.items():
        program = found / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(script)
        program.chmod(0o755)
    return found


@pytest.fixture
def environment(directory: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Return the environment of a machine with a GPU and counters, and without a network."""
    home = tmp_path / "home"
    home.mkdir()
    nowhere = "http://127.0.0.1:9"
    with waving_machine(tmp_path, "constant:250", "constant:113") as machine:
        yield {
            **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            **machine.environment,
            "OMP_NUM_THREADS": "1",  # more only get in each other's way in small examples
            "OPENBLAS_NUM_THREADS": "1",
            "TZ": "UTC",
            "PATH": os.pathsep.join(
                [str(directory / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
            ),
            "HOME": str(home),
            "TERM": "dumb",
            "NO_COLOR": "1",
            "COLUMNS": "120",
            "CARBONTRACKER_OFFLINE": "1",
            "PIP_NO_INDEX": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "WANDB_MODE": "offline",
            "MPLBACKEND": "agg",
            **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), nowhere),
        }


@pytest.mark.parametrize("page", [page for page in pages() if blocks(page)])
def test_the_blocks_of_a_page_run(page: str, directory: Path, environment: dict[str, str]) -> None:
    if page in WITHOUT_SENSORS:
        bare = directory / "bare"
        bare.mkdir()
        (bare / "proc").symlink_to("/proc")
        environment |= {"CARBONTRACKER_ROOT": str(bare), "CARBONTRACKER_NVML": str(bare / "none")}
    if page == "docs/reports.md":  # its reader has recorded a run already
        shutil.copytree(directory / "RUN", environment["CARBONTRACKER_DIR"])
    failures = []
    with PageSession(directory, environment, PRELUDE + BEFORE.get(page, "")) as session:
        for block in blocks(page):
            if block.treatment in ("executed", "parsed"):
                failure = session.run(block)
                if failure:
                    failures.append(f"{block.place}:\n{failure}")
    assert not failures, "\n\n".join(failures)


def test_every_block_is_marked_as_it_should_be() -> None:
    assert [text for page in pages() for one in blocks(page) for text in complaints(one)] == []


def test_few_blocks_are_not_executed() -> None:
    code = [one for page in pages() for one in blocks(page) if one.language in EXECUTED]
    marked = [one.place for one in code if "not run" in one.marks]
    print(table())
    assert len(marked) <= MAX_MARKED_SHARE * len(code), marked


# ---- what the pages on contributing build works -------------------------------------------------


def test_the_provider_of_the_page_gives_figures() -> None:
    names: dict[str, Any] = {}
    (page,) = blocks("docs/adding-a-provider.md")
    exec(page.text, names)
    begin = datetime(2026, 11, 23, 9, tzinfo=timezone.utc)
    hours = [(begin + timedelta(hours=hour)).isoformat() for hour in range(3)]
    answer = [{"hour": hour, "g": 120 + 10 * i} for i, hour in enumerate(hours)]
    with serving(Reply(answer)) as server:
        provider = names["ExampleGrid"](url=server.url)
        slots = provider.between("AT", begin + timedelta(hours=1), begin + timedelta(hours=3))
    assert [slot.gco2eq_per_kwh for slot in slots] == [130.0, 140.0]
    assert [slot.kind for slot in slots] == ["measured", "measured"]


MAIN = """
#include <cstdio>
int main(int, char** arguments) {
    carbontracker::Host host;
    host.root = arguments[1];
    const auto found = carbontracker::probe_battery(host);
    if (!found.source) {
        std::puts(found.missing.front().reason.c_str());
        return 0;
    }
    carbontracker::Reading reading{};
    found.source->read(0, {&reading, 1});
    std::printf("%g W", double(reading.raw) * found.source->channels().front().units_per_raw);
}
"""


def test_the_sensor_of_the_page_reads(tmp_path: Path) -> None:
    compiler = os.environ.get("CXX", "c++")
    if shutil.which(compiler) is None:
        pytest.skip("there is no C++ compiler")
    page = next(one for one in blocks("docs/adding-a-sensor.md") if one.language == "cpp")
    source, program, core = tmp_path / "battery.cpp", tmp_path / "battery", ROOT / "cpp" / "src"
    source.write_text(page.text + MAIN)
    platform = map(str, sorted((core / "platform").glob("*.cpp")))
    command = [compiler, "-std=c++20", f"-I{core}", str(source), *platform, "-o", str(program)]
    subprocess.run([*command, "-lpthread"], check=True, timeout=300)
    with_battery = fake_host(tmp_path, {"sys/class/power_supply/BAT0/power_now": 12_500_000})

    def printed(root: Path) -> str:
        return subprocess.run([program, root], capture_output=True, text=True, check=True).stdout

    assert printed(with_battery) == "12.5 W"
    assert printed(tmp_path / "nowhere") == "no such file (ENOENT)\n"


# ---- the tools of this test can fail -----------------------------------------------------------

PAGE = """\
Text.

<!-- needs: no_such_module -->
<!-- output: it depends on the machine -->
```console
$ echo 1; false || \\
  echo 2
1
$ echo 3
```

1. A step:

   ```python
   x = 1
       y
   ```

<!-- not run -->
```
x
```
"""


def test_blocks_are_found_with_their_marks() -> None:
    session, snippet, unknown = blocks("page.md", PAGE)
    assert (session.language, session.line, session.missing) == ("console", 5, ["no_such_module"])
    assert session.marks["output"] == "it depends on the machine"
    assert session.treatment == "not installed"
    assert (snippet.text, snippet.marks) == ("x = 1\n    y\n", {})
    assert complaints(session) + complaints(snippet) == []
    assert complaints(unknown) == [
        "page.md:20: unknown language ''",
        "page.md:20: not run with no reason",
    ]
    assert list(exchanges(session.text)) == [
        ("echo 1; false || \\\n  echo 2", "1\n"),
        ("echo 3", ""),
    ]


@pytest.mark.parametrize(
    ("language", "text", "error"),
    [
        ("python", "1 / 0", "ZeroDivisionError"),
        ("python", "import os; os._exit(3)", "ended"),
        ("bash", "false | true", "exit code 1"),
        ("bash", "echo $NO_SUCH_VARIABLE", "unbound"),
        ("console", "$ echo one\ntwo\n", "not printed: two"),
        ("console", "$ [ -t 1 ]; false\n", "exit code 1"),
        ("cpp", '#include "no/such.hpp"\n', "no/such.hpp"),
        ("json", "{", "Expecting"),
        ("ini", "x = 1", "no section"),
    ],
)
def test_a_wrong_block_is_seen(tmp_path: Path, language: str, text: str, error: str) -> None:
    if language == "cpp" and shutil.which(os.environ.get("CXX", "c++")) is None:
        pytest.skip("there is no C++ compiler")
    with PageSession(tmp_path, os.environ) as session:
        assert error in session.run(Block("page.md", 1, language, text, {}))


def test_the_python_of_a_page_shares_its_names(tmp_path: Path) -> None:
    with PageSession(tmp_path, os.environ, "x = 1") as session:
        for text in ("y = x + 1", "assert y == 2"):
            assert session.run(Block("page.md", 1, "python", text, {})) == ""


def test_output_is_compared_without_its_numbers() -> None:
    printed = "run 3f2a9c01d4e5b678 used 12.5 J\nsomething else\n  the   end\n"
    assert difference("run 9bc1e7a2f0456d13 used 9 J\nthe end\n", printed) == ""
    assert difference("run ... J\n...\nthe end\n", printed) == ""
    for wrong in ("the end\nrun 9bc1e7a2f0456d13 used 9 J\n", "run 1 used 9 kJ\n", "the\n"):
        assert difference(wrong, printed)
    assert difference("run 3f2a9c01d4e5b678 used 12.5 J\n", printed, exact=True) == ""
    assert difference("run 3f2a9c01d4e5b678 used 9 J\n", printed, exact=True)
