"""The package where there is no compiled core: a pure wheel, Windows, macOS.

The figures are those of the table's rows by hand. The wheel is built and installed for real, and
its programs run as if on the other systems (`support/other_system.py`).
"""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from carbontracker import _core
from carbontracker.energy import processor_model, python_core
from carbontracker.energy.config import Config
from carbontracker.energy.processor_model import Cores, CpuTimes, power_line, processors
from carbontracker.energy.session import acquire, release
from tests.support.fakehost import (
    NO_CODES,
    arm_cpuinfo,
    cpuinfo,
    fake_host,
    meminfo,
    proc_stat,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
OTHER_SYSTEM = ROOT / "tests/support/other_system.py"
SYSTEMS = ("win32", "darwin")
MILAN_WATTS = (0.45, 2.02)
"""Of each hardware thread of an EPYC Milan, idle and busy: a row of the table."""
USUAL_WATTS = (0.74, 3.5)
MILAN = cpuinfo("AMD EPYC 7763 64-Core Processor", cores=4, threads=2, codes=(25, 1, 1))


def core_of(root: Path, kinds: tuple[str, ...] = ("cpu",)) -> python_core.Session:
    """Return the core in Python on a pretended machine."""
    host = python_core.Host(root, "", root, {}, [])
    return python_core.Session(host, kinds=list(kinds))


@contextmanager
def busy_in_three_of_four_ticks(root: Path) -> Iterator[None]:
    """Let the counts of processor time go on, as a kernel does."""
    over = threading.Event()

    def play() -> None:
        step = 0
        while not over.wait(0.01):
            step += 1
            fresh = root / "proc/stat.new"
            fresh.write_text(proc_stat(8, 1_000 + 3 * step, 9_000 + step))
            fresh.replace(root / "proc/stat")

    player = threading.Thread(target=play)
    player.start()
    try:
        yield
    finally:
        over.set()
        player.join()


def test_energy_is_the_line_at_the_utilisation(tmp_path: Path) -> None:
    root = fake_host(tmp_path, {"proc/cpuinfo": MILAN, "proc/stat": proc_stat(8, 1_000, 9_000)})
    with busy_in_three_of_four_ticks(root):
        session = core_of(root)
        time.sleep(0.2)
        marks = [python_core.Mark(session)]
        for _ in range(3):
            time.sleep(0.15)
            marks.append(python_core.Mark(session))
        until = time.monotonic() + 10
        while not session.is_final(marks[-1]) and time.monotonic() < until:
            time.sleep(0.01)
    assert session.is_final(marks[-1])
    idle, full = MILAN_WATTS
    watts = 8 * (idle + (full - idle) * 0.75)
    whole, devices = session.energy(marks[0], marks[-1])
    seconds = (marks[-1].t_ns - marks[0].t_ns) / 1e9
    joules, error_joules, modelled_joules, quality, coverage = whole[:5]
    assert joules == pytest.approx(watts * seconds, rel=1e-6)
    assert (modelled_joules, quality, coverage) == (joules, "modelled", 1.0)
    assert error_joules == pytest.approx(1.5 * joules)
    assert [index for index, _ in devices] == [0]
    # E(a, b) + E(b, c) = E(a, c)
    parts = [session.energy(a, b)[0][0] for a, b in itertools.pairwise(marks)]
    assert sum(parts) == pytest.approx(joules, rel=1e-9)
    times, power, thinned_to_ns = session.power(0, marks[0].t_ns, marks[-1].t_ns)
    assert thinned_to_ns == 0
    assert len(times) == len(power) > 0


def test_a_count_that_stands_still_is_unknown_after_two_seconds() -> None:
    line = processor_model.Line("x", 10.0, 10.0, "")
    load = python_core._Load(line, lambda: CpuTimes(0.0, 0.0))
    began_ns = load._curve[0][0]
    assert load.known_ns(began_ns, began_ns + 60_000_000_000) == 2_000_000_000
    assert load.joules(began_ns + 60_000_000_000) == pytest.approx(20.0)


def test_a_long_run_keeps_its_energy_in_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_core, "_MAX_READINGS", 64)
    line = processor_model.Line("x", 10.0, 10.0, "")
    load = python_core._Load(line, lambda: CpuTimes(0.0, 0.0))
    began_ns = load._curve[0][0]
    for second in range(1, 1001):
        load._append(began_ns + second * 1_000_000_000)
    assert len(load._curve[0]) <= 64
    assert load.joules(began_ns + 1_000 * 1_000_000_000) == pytest.approx(10_000.0)
    assert load.joules(began_ns + 500 * 1_000_000_000) == pytest.approx(5_000.0)


def test_a_gpu_that_is_there_is_named_and_makes_the_total_incomplete(tmp_path: Path) -> None:
    gpu = "proc/driver/nvidia/gpus/0000:01:00.0/information"
    tree = {"proc/cpuinfo": MILAN, "proc/stat": proc_stat(8, 1, 9), gpu: "Model: x"}
    session = core_of(fake_host(tmp_path, tree), ())
    now_ns = time.monotonic_ns()
    start, end = (python_core.Mark(None, False, now_ns + t) for t in (0, 1_000_000_000))
    whole, devices = session.energy(start, end)
    assert whole[3] == "incomplete"
    assert whole[5] == pytest.approx(400.0)
    assert [session.entries[index].id for index, _ in devices] == ["cpu:0", "gpu:0"]
    assert [one.device for one in session.missing if one.device] == ["gpu:0"]


MACHINES = {
    "server": cpuinfo("Intel(R) Xeon(R) Platinum 8380 CPU @ 2.30GHz", cores=40, threads=2),
    "servers": cpuinfo("AMD EPYC 7763 64-Core Processor", 2, 64, 2, codes=(25, 1, 1)),
    "desktop": cpuinfo("AMD Ryzen 9 5950X 16-Core Processor", cores=16, codes=(25, 33, 2)),
    "notebook": cpuinfo(
        "11th Gen Intel(R) Core(TM) i7-1165G7 @ 2.80GHz", cores=4, codes=(6, 140, 1)
    ),
    "guest": cpuinfo("AMD EPYC", cores=1, codes=(25, 1, 1), flags="fpu hypervisor"),
    "unknown": cpuinfo("Mystery 9000", cores=4, codes=NO_CODES),
    "graviton": arm_cpuinfo((0xD40, 64)),
}


@pytest.mark.parametrize("name", MACHINES)
def test_the_interval_holds_what_the_compiled_core_says(name: str, tmp_path: Path) -> None:
    """It knows the chip, its power limits and what part of a machine this is."""
    tree = {"proc/cpuinfo": MACHINES[name], "proc/stat": proc_stat(4, 1, 9)}
    root = fake_host(tmp_path, tree | {"proc/meminfo": meminfo(16)})
    session = acquire(Config(root=str(root), nvml_library="/nonexistent", kinds=("cpu",)))
    detail = session.entries[0].detail
    release(session)
    found = re.search(r"; ([\d.]+) W idle to ([\d.]+) W busy", detail)
    assert found is not None, detail
    line = power_line(processors(root))
    for compiled, own in zip(map(float, found.groups()), line[1:3], strict=True):
        assert 0.4 * own <= compiled <= 2.5 * own


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Apple M1 Pro\n", ("Apple M1 Pro", {Cores("0x61", -1, 0): 8}, "an Apple core")),
        (
            "Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz\nGenuineIntel\n6\n158\n10\n",
            (
                "Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz",
                {Cores("GenuineIntel", 6, 158, 10): 8},
                "Kaby or Coffee Lake",
            ),
        ),
        ("VirtualApple @ 2.50GHz\n", ("VirtualApple @ 2.50GHz", {}, "Apple core under Rosetta")),
    ],
)
def test_a_mac_names_its_processor(
    text: str, expected: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sysctl = tmp_path / "sysctl"
    sysctl.write_text(f"#!/bin/sh\ncat <<'END'\n{text}END\n")
    sysctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    machine = processors(tmp_path)
    assert (machine.name, machine.kinds, machine.logical) == (*expected[:2], 8)
    assert power_line(machine).assumption.startswith(f"{expected[2]}: ")


@pytest.mark.parametrize(
    ("identifier", "row"),
    [
        ("Intel64 Family 6 Model 140 Stepping 1, GenuineIntel", "Tiger Lake (mobile)"),
        ("AMD64 Family 25 Model 33 Stepping 0, AuthenticAMD", "Zen 3 desktop"),
        (
            "ARMv8 (64-bit) Family 8 Model D4B Revision  0, Qualcomm Technologies Inc",
            "some ARM core",
        ),
        ("", "a virtual processor"),
    ],
)
def test_windows_names_its_processor(
    identifier: str, row: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.processor", lambda: identifier)
    monkeypatch.setattr("platform.machine", lambda: "")
    assert power_line(processors(tmp_path)).assumption.startswith(f"{row}: ")


def test_the_core_in_python_has_what_the_package_uses_of_the_compiled_one() -> None:
    source = (ROOT / "python/carbontracker/energy/session.py").read_text(encoding="utf-8")
    used = set(re.findall(r"\b_core\.(\w+)", source)) - {"not_compiled"}
    assert used >= {"Session", "Host", "SimulatedDevice"}
    for name in used | {"Entry", "Mark", "Span"}:
        if name in ("FailoverEvent",):
            continue  # there are none
        lacking = [
            attribute
            for attribute in vars(getattr(_core, name))
            if not attribute.startswith("_")
            and attribute not in getattr(getattr(python_core, name), "__dataclass_fields__", {})
            and not hasattr(getattr(python_core, name), attribute)
            and attribute not in ("entries", "missing")  # set by its constructor
        ]
        assert not lacking, name


# ---- the wheel -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the installed pure wheel; its dependencies are those of the tests."""
    folder = tmp_path_factory.mktemp("pure")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    built = subprocess.run(
        build,
        env=os.environ | {"CARBONTRACKER_PURE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if "No matching distribution" in built.stderr:
        pytest.skip("no package index to take the build's tools from")
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    target = folder / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(target), str(wheel)], check=True)
    assert not list(target.rglob("*.so"))
    return target


@pytest.fixture
def run(site: Path, tmp_path: Path) -> Any:
    """Return a function that runs Python with the pure wheel, on Linux or as if elsewhere."""

    def call(system: str, *arguments: str, modules: Path | None = None) -> Any:
        folders = [str(site), *([str(modules)] if modules else [])]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(folders),
            "CARBONTRACKER_DIR": str(tmp_path / "records"),
            "CARBONTRACKER_LOCATION": "DK",
        }
        start = [] if system == "linux" else [str(OTHER_SYSTEM), system]
        return subprocess.run(
            [sys.executable, *start, *arguments],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return call


TRAINING = """
import sys, time
from carbontracker.tracker import CarbonTracker
from carbontracker import measure, track, estimate
assert "carbontracker._core" not in sys.modules
tracker = CarbonTracker(epochs=2, log_dir="logs")
for epoch in range(2):
    tracker.epoch_start()
    until = time.process_time() + 0.2
    while time.process_time() < until:
        pass
    tracker.epoch_end()
tracker.stop()
result = tracker.result
print("\\nRESULT", result.energy.quality, result.energy.joules, result.energy.error_joules)
with measure("a part") as window:
    time.sleep(0.1)
assert window.wait(5.0)
assert window.energy.joules > 0
track(lambda: None)()
estimate(gpu="A100", gpu_hours=1, location="DK")
"""


@pytest.mark.parametrize("system", ["linux", *SYSTEMS])
def test_the_drop_in_and_the_commands_run_anywhere(system: str, run: Any, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(TRAINING)
    trained = run(system, str(script))
    assert trained.returncode == 0, trained.stderr
    assert trained.stderr.count("no sensor is read, and energy is estimated") == 1
    quality, joules, error = trained.stdout.split("RESULT")[1].split()[:3]
    assert quality == "modelled"
    assert float(error) == pytest.approx(1.5 * float(joules))
    command = (sys.executable, "-c", "print('the program')")
    measured = run(system, "-m", "carbontracker", "run", "--", *command)
    assert measured.stdout == "the program\n", measured.stderr
    assert "cpu:0: " in measured.stderr
    sleeping = (sys.executable, "-c", "import time; time.sleep(600)")
    limited = run(system, "-m", "carbontracker", "run", "--max-seconds", "1", "--", *sleeping)
    assert limited.returncode == 124, limited.stderr
    runs = run(system, "-m", "carbontracker", "runs")
    assert len(runs.stdout.splitlines()) == 3, runs.stderr  # a head, and the two commands
    report = run(system, "-m", "carbontracker", "report", "logs", "--html", "report.html")
    assert report.returncode == 0, report.stderr
    total = run(system, "-m", "carbontracker", "aggregate", "logs")
    assert total.returncode == 0, total.stderr
    assert (tmp_path / "report.html").exists()
    written = [
        path.name for folder in ("records", "logs") for path in (tmp_path / folder).iterdir()
    ]
    assert len(written) >= 5  # three records, and log files of 2.4.x
    assert not [name for name in written if re.search(r'[<>:"|?*\\]', name)]


@pytest.mark.parametrize("system", ["linux", *SYSTEMS])
def test_every_module_can_be_imported_anywhere(system: str, run: Any, tmp_path: Path) -> None:
    script = tmp_path / "modules.py"
    script.write_text(
        textwrap.dedent(
            """
            import importlib, pkgutil, carbontracker
            for module in pkgutil.walk_packages(carbontracker.__path__, "carbontracker."):
                if not module.name.endswith("__main__"):
                    importlib.import_module(module.name)
            """
        )
    )
    imported = run(system, str(script))
    assert imported.returncode == 0, imported.stderr


PSUTIL = """
import time
from collections import namedtuple
Times = namedtuple("Times", "user nice system idle")
def cpu_times():
    now = time.monotonic()
    return Times(now, 0.0, now, 2 * now)
"""


def test_the_load_of_the_whole_machine_comes_from_psutil(run: Any, tmp_path: Path) -> None:
    """Half of the time busy; a processor of which Windows says nothing here."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "psutil.py").write_text(PSUTIL)
    found = json.loads(
        run("win32", "-m", "carbontracker", "sensors", "--json", modules=modules).stdout
    )
    (cpu,) = found["readable"]
    idle, full = USUAL_WATTS
    assert cpu["watts"] == pytest.approx((os.cpu_count() or 1) * (idle + full) / 2, rel=1e-3)
    assert [one["what"] for one in found["absent"]] == ["cpu, dram, gpu", "dram"]
    assert "Linux only, not on Windows" in found["absent"][0]["reason"]
