"""Starting without parts of the machine: the program runs, and the rest is reported."""

from __future__ import annotations

import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import carbontracker
from tests.support.fakehost import cpuinfo, fake_host
from tests.support.programs import PRELUDE, TIMEOUT_S, WATTS, hide_sensors, python

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGE = Path(carbontracker.__file__).parent
EPOCHS = """
tracker = CarbonTracker(2, **DEVICES)
for _ in range(2):
    tracker.epoch_start(); time.sleep(0.05); tracker.epoch_end()
energy, footprint = tracker.result.energy, tracker.result.footprint
print("RESULT", json.dumps([energy.joules, energy.error_joules, tracker.result.seconds,
                            None if math.isnan(footprint.gco2eq) else footprint.gco2eq]))
"""
"""Trains for two epochs and prints J, J, s and gCO2eq (null if that is unknown)."""


@pytest.fixture(autouse=True)
def only_simulated_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hide_sensors(monkeypatch, tmp_path)
    monkeypatch.setenv("CARBONTRACKER_LOCATION", "DK")


def run_command(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run ``carbontracker`` with the arguments."""
    return subprocess.run(
        [sys.executable, "-m", "carbontracker", *arguments],
        env=os.environ | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=TIMEOUT_S,
        check=False,
    )


def result_of(program: subprocess.CompletedProcess[str]) -> list[Any]:
    """Return what ``EPOCHS`` printed; the joules must be those of constant power."""
    assert program.returncode == 0, program.stderr
    line = next(line for line in program.stdout.splitlines() if line.startswith("RESULT"))
    found: list[Any] = json.loads(line.removeprefix("RESULT"))
    joules, error_joules, seconds, _ = found
    assert abs(joules - WATTS * seconds) <= error_joules + 0.01 * WATTS * seconds
    return found


def lines_of_ours(text: str) -> list[str]:
    """Return the lines of diagnostics on standard error that begin with our name."""
    return [line for line in text.splitlines() if line.startswith("carbontracker: ")]


# ---- the package's tables ------------------------------------------------------------------


def copy_without_tables(tmp_path: Path) -> Path:
    """Return a folder to import the package from, that has everything but its tables."""
    folder = tmp_path / "frozen"
    ignored = shutil.ignore_patterns("*.csv", "__pycache__")
    shutil.copytree(PACKAGE, folder / "carbontracker", ignore=ignored)
    return folder


def test_without_tables_carbon_is_unknown_and_energy_measured(tmp_path: Path) -> None:
    folder = str(copy_without_tables(tmp_path))
    program = python(PRELUDE + EPOCHS, PYTHONPATH=folder)
    *_, gco2eq = result_of(program)
    assert gco2eq is None
    (line,) = lines_of_ours(program.stderr)
    assert f"{folder}/carbontracker/data/" in line
    assert ".csv" in line
    assert "Traceback" not in program.stderr
    shown = program.stdout
    assert "\tCO2eq:\tnan g\n" in shown  # as upstream writes it, and its parser reads it
    assert "nan" not in shown.replace("nan g", "").lower()
    (record,) = (tmp_path / "records").glob("*.jsonl")
    finished = json.loads(record.read_text().splitlines()[-1])
    assert finished["event"] == "run_finished"
    assert finished["footprint"]["gco2eq"] is None
    assert finished["footprint"]["kwh"] > 0
    assert finished["footprint"]["intensity"]["kind"] == "missing"


def test_a_record_without_carbon_is_read_and_recalculated_later(tmp_path: Path) -> None:
    folder = copy_without_tables(tmp_path)
    result_of(python(PRELUDE + EPOCHS, PYTHONPATH=str(folder)))
    (record,) = (tmp_path / "records").glob("*.jsonl")
    shutil.rmtree(folder)  # from here on the tables are there
    assert run_command("check", str(record)).returncode == 0
    for form in ("html", "csv", "json", "markdown", "latex", "codecarbon"):
        ran = run_command("report", str(record), f"--{form}", str(tmp_path / form))
        assert (ran.returncode, ran.stderr) == (0, "")
    shown = run_command("report", str(record))
    assert shown.returncode == 0
    assert "nan" not in shown.stdout.lower().replace("finance", "")
    priced = run_command("report", str(record), "--intensity", "100", "--json", "-")
    footprint = json.loads(priced.stdout)["footprint"]
    assert footprint["gco2eq"] == pytest.approx(100 * footprint["kwh"])


def test_without_tables_commands_windows_and_functions_go_on(tmp_path: Path) -> None:
    folder = str(copy_without_tables(tmp_path))
    ran = run_command("run", "--", "sh", "-c", "echo TRAINED; exit 3", PYTHONPATH=folder)
    assert (ran.returncode, ran.stdout) == (3, "TRAINED\n")
    assert len(lines_of_ours(ran.stderr)) == 1
    program = """
import carbontracker as ct
@ct.track
def work(): return 5
with ct.measure("x") as window: pass
print(work(), window.energy.quality, window.footprint.gco2eq)
"""
    ran = python(program, PYTHONPATH=folder)
    assert (ran.stdout, ran.returncode) == ("5 missing nan\n", 0)
    for command in (["estimate", "--gpu", "A100", "--gpu-hours", "1"], ["where"], ["sensors"]):
        ran = run_command(*command, PYTHONPATH=folder)
        assert "Traceback" not in ran.stderr, ran.stderr
        assert ran.stderr == "" or lines_of_ours(ran.stderr)


def test_values_given_by_the_user_need_no_tables(tmp_path: Path) -> None:
    folder = str(copy_without_tables(tmp_path))
    program = python(
        PRELUDE + EPOCHS.replace("**DEVICES", "**DEVICES, intensity=100.0, pue=1.5"),
        PYTHONPATH=folder,
    )
    joules, _, _, gco2eq = result_of(program)
    assert gco2eq == pytest.approx(joules / 3.6e6 * 1.5 * 100)


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: b"\n".join(whole.split(b"\n")[:50]) + b"\n",
        lambda whole: bytes(range(256)) * 8,
        lambda whole: whole.replace(b"2024", b"20x4"),
        lambda whole: b"<html>404</html>\n" * 500,
        lambda whole: whole.replace(b",", b";"),
    ],
)
def test_a_damaged_table_is_treated_as_missing(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(PACKAGE, folder / "carbontracker", ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "carbontracker" / "data" / "grid_intensity.csv"
    path.write_bytes(damage(path.read_bytes()))
    program = python(PRELUDE + EPOCHS, PYTHONPATH=str(folder))
    assert result_of(program)[-1] is None
    (line,) = lines_of_ours(program.stderr)
    assert str(path) in line


@pytest.mark.parametrize(
    ("table", "variables"),
    [
        ("zone_aliases", {"CARBONTRACKER_LOCATION": "Åland"}),
        ("cloud_regions", {"CARBONTRACKER_LOCATION": "aws:eu-north-1"}),
        ("timezone_zones", {"CARBONTRACKER_LOCATION": "", "TZ": "Europe/Copenhagen"}),
    ],
)
def test_a_place_that_needs_a_missing_table_is_unknown(
    tmp_path: Path, table: str, variables: dict[str, str]
) -> None:
    """Neither another place nor the world's average, and no error of the user's."""
    folder = tmp_path / "partly"
    shutil.copytree(PACKAGE, folder / "carbontracker", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "carbontracker" / "data" / f"{table}.csv").unlink()
    program = python(PRELUDE + EPOCHS, **variables, PYTHONPATH=str(folder))
    assert result_of(program)[-1] is None
    (line,) = lines_of_ours(program.stderr)
    assert f"{table}.csv" in line


def test_only_what_needs_a_table_is_unknown(tmp_path: Path) -> None:
    folder = tmp_path / "partly"
    shutil.copytree(PACKAGE, folder / "carbontracker", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "carbontracker" / "data" / "equivalents.csv").unlink()
    program = python(PRELUDE + EPOCHS, PYTHONPATH=str(folder))
    assert result_of(program)[-1] is not None
    assert "km travelled" not in program.stdout
    (line,) = lines_of_ours(program.stderr)
    assert "equivalents.csv" in line


def test_tables_are_read_from_an_archive(tmp_path: Path) -> None:
    archive = tmp_path / "app.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        modules = [path.name for path in PACKAGE.glob("*.py")]
        for name in (*modules, "data/__init__.py", "data/grid_intensity.csv"):
            packed.write(PACKAGE / name, f"carbontracker/{name}")
    program = (
        "import carbontracker.data as d\nprint(d.__file__, len(d.rows('grid_intensity')))\n"
        "try: d.rows('pue')\nexcept d.TableError as e: print(e)"
    )
    ran = python(program, PYTHONPATH=str(archive))
    first, second = ran.stdout.splitlines()
    assert first.startswith(f"{archive}/")
    assert int(first.split()[-1]) > 300
    assert "pue.csv" in second


# ---- no home, no name, no room ----------------------------------------------------------------


@pytest.mark.parametrize("home", ["/dev/null", "/proc/nothing"])
def test_without_a_home_only_the_record_is_missing(tmp_path: Path, home: str) -> None:
    variables = {"HOME": home, "CARBONTRACKER_DIR": "", "CARBONTRACKER_CACHE_DIR": ""}
    variables |= {"XDG_DATA_HOME": "", "XDG_CACHE_HOME": "", "XDG_CONFIG_HOME": ""}
    ran = run_command("run", "--", "sh", "-c", "echo TRAINED; exit 3", **variables)
    assert (ran.returncode, ran.stdout) == (3, "TRAINED\n")
    (line,) = lines_of_ours(ran.stderr)
    assert line.startswith("carbontracker: no record is kept: ")
    assert "CARBONTRACKER_DIR" in line
    program = python(PRELUDE + EPOCHS, **variables)
    assert result_of(program)[-1] is not None
    assert [one.partition(": ")[2].partition(":")[0] for one in lines_of_ours(program.stderr)] == [
        "no record is kept"
    ]
    for quiet in (variables | {"CARBONTRACKER_RECORD": "off"}, variables | {"X": "--no-record"}):
        options = ["--no-record"] if "X" in quiet else []
        ran = run_command("run", *options, "--", "sh", "-c", "exit 3", **quiet)
        assert (ran.returncode, lines_of_ours(ran.stderr)) == (3, [])
    for command in (["runs"], ["report", "0123abcd"], ["aggregate"], ["check"], ["sensors"]):
        ran = run_command(*command, **variables)
        assert "Traceback" not in ran.stderr
        assert ran.returncode in (0, 1, 2)
    assert not list(Path.cwd().glob("~"))


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="becomes a user without a name"
)
def test_a_user_without_a_name_and_a_home() -> None:
    """As clusters give them to containers."""
    become = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups"]
    run = [sys.executable, "-m", "carbontracker", "run", "--", "sh", "-c", "echo RAN; exit 3"]
    ran = subprocess.run(
        [*become, *run],
        env={"PATH": os.defpath},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    if "Permission denied" in ran.stderr or "No module named" in ran.stderr:
        pytest.skip("this environment is not readable by others")
    assert (ran.returncode, ran.stdout) == (3, "RAN\n")
    (line,) = lines_of_ours(ran.stderr)
    assert line.startswith("carbontracker: no record is kept: the home directory is not known")


def test_a_directory_that_is_gone_full_or_forbidden(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    program = f"""
import os
import resource
os.chdir({str(gone)!r}); os.rmdir({str(gone)!r})
{PRELUDE}
{EPOCHS.replace("**DEVICES", "log_dir='logs', **DEVICES")}
"""
    ran = python(program)
    result_of(ran)
    assert {line.split(": ")[1] for line in lines_of_ours(ran.stderr)} == {
        "no record is kept",
        "no log files are written",
    }
    for place in ("/dev/full", "/proc/1/x", "a\\0b", "/dev/null/x"):
        ran = python(PRELUDE + EPOCHS.replace("**DEVICES", f"log_dir='{place}', **DEVICES"))
        result_of(ran)
        assert any("no record is kept" in line for line in lines_of_ours(ran.stderr))


# ---- text that is not UTF-8, streams that are not there -----------------------------------------


def test_text_that_is_no_utf8_reaches_records_and_logs(tmp_path: Path) -> None:
    logs = os.fsencode(tmp_path) + b"/caf\xe9"
    program = (
        PRELUDE
        + "import os\n"
        + "DEVICES |= {'log_dir': os.fsdecode(os.fsencode(sys.argv[1])), 'sim_gpu': 'A\\udcff'}\n"
        + "DEVICES |= {'log_file_prefix': 'x\\udce9'}\n"
        + EPOCHS
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, logs],
        env=os.environ | {"PYTHONIOENCODING": "ascii", "SLURM_JOB_ID": "\udce9"},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    result_of(ran)
    assert "Traceback" not in ran.stderr
    files = sorted(Path(os.fsdecode(logs)).iterdir())
    assert len(files) == 3 + 1  # the standard log, the output, a warning; and the record
    for file in files:
        content = file.read_text(encoding="utf-8")
        assert content
        if file.suffix == ".jsonl":
            events = [json.loads(line) for line in content.splitlines()]
            assert events[-1]["event"] == "run_finished"
            json.dumps(events).encode("utf-8")
            assert events[0]["job"]["slurm"]["job_id"] == "\ufffd"
    shown = subprocess.run(
        [sys.executable, "-m", "carbontracker", "report", logs],
        capture_output=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert shown.returncode == 0


def test_control_characters_in_a_name_do_not_reach_the_terminal(tmp_path: Path) -> None:
    evil = "Xeon\x1b]0;owned\x07\x9b31m\x7f\r"
    host = fake_host(
        tmp_path, {"proc/cpuinfo": cpuinfo(evil), "proc/stat": "cpu  1 0 1 9 0 0 0 0 0 0"}
    )
    machine = {"CARBONTRACKER_ROOT": str(host), "CARBONTRACKER_OFFLINE": "1"}
    program = (
        "from carbontracker.tracker import CarbonTracker\n"
        f"for name in ({{}}, dict(sim_gpu={evil!r}, sim_gpu_watts=100)):\n"
        "    tracker = CarbonTracker(1, verbose=2, record=False, **name)\n"
        "    tracker.epoch_start(); tracker.epoch_end()\n"
    )
    for ran in (python(program, **machine), run_command("sensors", **machine)):
        assert "Xeon" in ran.stdout
        assert not [c for c in ran.stdout + ran.stderr if not c.isprintable() and c not in "\n\t"]


def test_a_command_of_other_bytes_is_run_and_recorded(tmp_path: Path) -> None:
    ran = run_command("run", "--", "printf", "%s", "caf\udce9")
    assert (ran.returncode, ran.stdout) == (0, "caf\udce9")
    (record,) = (tmp_path / "records").glob("*.jsonl")
    started = json.loads(record.read_text(encoding="utf-8").splitlines()[0])
    assert started["command"] == ["printf", "%s", "caf\ufffd"]


def test_a_narrow_console_shows_what_it_can() -> None:
    """Device names have letters that the C locale has not."""
    program = PRELUDE + EPOCHS.replace("**DEVICES", "**DEVICES | {'sim_gpu': 'Größe'}")
    ran = python(program, PYTHONIOENCODING="ascii:strict")
    result_of(ran)
    assert "Using simulated GPU: Gr??e" in ran.stdout


CLOSED = """
import os, sys, threading
for name in ("stdin", "stdout", "stderr"):
    {how}
"""


@pytest.mark.parametrize(
    "how",
    [
        "getattr(sys, name).close()",
        "setattr(sys, name, None)",
        "os.close(getattr(sys, name).fileno())",
        "setattr(sys, name, object())",
    ],
)
def test_streams_that_are_not_there(tmp_path: Path, how: str) -> None:
    found = tmp_path / "found"
    program = f"""
import logging
logging.raiseExceptions = True
{PRELUDE}
import os
import resource
{CLOSED.format(how=how)}
tracker = CarbonTracker(2, log_dir={str(tmp_path / "logs")!r}, trace="/dev/null/x",
                        previous_run="nosuchrun", **DEVICES)
for _ in range(2):
    tracker.epoch_start(); time.sleep(0.01); tracker.epoch_end()
with open({str(found)!r}, "w") as file:
    json.dump([tracker.result.finished_epochs, spent(tracker)], file)
try:
    os.write(2, b"a library writes to standard error")
except OSError:
    pass
os._exit(5)
"""
    ran = python(program)
    assert ran.returncode == 5
    epochs, (joules, error_joules, seconds) = json.loads(found.read_text())
    assert epochs == 2
    assert abs(joules - WATTS * seconds) <= error_joules + 0.01 * WATTS * seconds
    (record,) = (tmp_path / "logs").glob("*.jsonl")
    assert json.loads(record.read_text().splitlines()[-1])["event"] == "run_finished"
    assert "a library writes" not in record.read_text()


@pytest.mark.parametrize(
    "redirection", ["2>/dev/full", "2>&-", ">&- 2>&- <&-", "2>&1 | true", ">/dev/full"]
)
def test_the_exit_code_is_the_programs_for_any_streams(redirection: str) -> None:
    command = f"{sys.executable} -m carbontracker run --json - -- sh -c 'exit 3' {redirection}"
    shell = f"set -o pipefail; {command}"
    ran = subprocess.run(["bash", "-c", shell], check=False, timeout=TIMEOUT_S)
    assert ran.returncode == 3


# ---- no thread, no process, no core, no memory -------------------------------------------------

WITHOUT_THREADS = """
import os, resource, sys
# The stack of a new thread is as large as this, which no address space holds.
resource.setrlimit(resource.RLIMIT_STACK, (2**46, resource.getrlimit(resource.RLIMIT_STACK)[1]))
os.execv(sys.argv[1], sys.argv[1:])
"""


def without_threads(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python where no thread can be made."""
    if resource.getrlimit(resource.RLIMIT_STACK)[1] != resource.RLIM_INFINITY:
        pytest.skip("the stack's limit cannot be raised")
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_THREADS, sys.executable, *arguments],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )


def test_without_threads_the_program_runs() -> None:
    ran = without_threads("-m", "carbontracker", "run", "--", "sh", "-c", "echo TRAINED; exit 3")
    assert (ran.returncode, ran.stdout) == (3, "TRAINED\n")
    assert "Traceback" not in ran.stderr
    (line,) = [line for line in lines_of_ours(ran.stderr) if "not all energy is measured: " in line]
    assert line.count("no thread could be created to probe it") == 1


def test_without_threads_a_training_goes_on() -> None:
    program = (
        PRELUDE
        + """
import carbontracker as ct
tracker = CarbonTracker(2, prometheus=0, progress=True, advise=True, intensity="auto",
                        loggers=[object()], **DEVICES)
for _ in range(2):
    tracker.epoch_start(); time.sleep(0.01); tracker.epoch_end()
with ct.measure("x") as window: pass
@ct.track
def work(): return 5
print("RAN", tracker.result.finished_epochs, tracker.result.seconds > 0,
      math.isnan(tracker.result.energy.joules), window.energy.quality, work())
"""
    )
    ran = without_threads("-c", program)
    assert ran.returncode == 0, ran.stderr
    assert "RAN 2 True True missing 5" in ran.stdout
    assert "Traceback" not in ran.stderr
    said = [line.split(": ")[1] for line in lines_of_ours(ran.stderr)]
    assert "not all energy is measured" in said
    assert "no prediction is made" in said


def test_threads_that_end_before_they_begin_do_not_hold_the_training() -> None:
    """They found no memory for their first step; ``Thread.start`` would wait for them for ever."""
    program = (
        "import threading\n"
        "def no_memory(thread): raise MemoryError\n"
        "threading.Thread._bootstrap = no_memory\n"
        + PRELUDE
        + """
tracker = CarbonTracker(2, prometheus=0, progress=True, advise=True, intensity="auto",
                        loggers=[object()], **DEVICES)
for _ in range(2):
    tracker.epoch_start(); time.sleep(0.01); tracker.epoch_end()
print("RAN", tracker.result.finished_epochs, tracker.result.energy.joules > 0)
"""
    )
    ran = python(program)
    assert ran.returncode == 0, ran.stderr
    assert "RAN 2 True" in ran.stdout
    assert "a thread has not begun within 2 s" in ran.stderr


def test_where_no_process_can_be_started_beside_us_the_program_takes_our_place() -> None:
    """A limit on processes counts us; a shell would have started the program itself."""
    program = """
import errno, subprocess, sys
def full(*_, **__): raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
sys.addaudithook(lambda name, _: full() if name == "subprocess.Popen" else None)
from carbontracker.cli import main
sys.exit(main(["run", *sys.argv[1:]]))
"""
    training = ["--", "sh", "-c", "echo TRAINED; exit 3"]
    ran = python(program, *training)
    assert (ran.returncode, ran.stdout) == (3, "TRAINED\n")
    assert "no energy is measured: no process can be started beside this one" in ran.stderr
    ran = python(program, "--max-seconds", "60", *training)
    assert (ran.returncode, ran.stdout) == (3, "TRAINED\n")
    assert "no energy is measured, its limit is not watched: no process can be" in ran.stderr
    ran = python(program, "--", "no-such-program-here")
    assert ran.returncode == 127
    assert "carbontracker: command not found: no-such-program-here" in ran.stderr


@pytest.mark.parametrize("before", [[], ["--"], ["run", "--location", "DK", "--"]])
def test_a_process_that_cannot_load_the_command_line_becomes_the_program(before: list[str]) -> None:
    program = "import sys\nsys.modules['carbontracker.cli.run'] = None\n"
    program += "from carbontracker.cli import main\nsys.exit(main(sys.argv[1:]))\n"
    ran = python(program, *before, "sh", "-c", "echo TRAINED; exit 3")
    assert (ran.returncode, ran.stdout) == (3, "TRAINED\n")
    (line,) = lines_of_ours(ran.stderr)
    assert line.startswith("carbontracker: no energy is measured: ")


def test_the_program_ignores_no_signal_that_we_ignore() -> None:
    """Python ignores two of them for itself; a pipeline's program must end by SIGPIPE."""
    command = ["grep", "SigIgn", "/proc/self/status"]
    alone = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    unloaded = "import sys\nsys.modules['carbontracker.cli.run'] = None\n"
    for prepared in ("import sys\n", unloaded):
        program = prepared + "from carbontracker.cli import main\nsys.exit(main(sys.argv[1:]))\n"
        assert python(program, "--", *command).stdout == alone


def test_without_the_core_the_program_runs(tmp_path: Path) -> None:
    folder = tmp_path / "coreless"
    ignored = shutil.ignore_patterns("_core*", "__pycache__")
    shutil.copytree(PACKAGE, folder / "carbontracker", ignore=ignored)
    for options in ([], ["--max-kwh", "1", "--location", "DK"]):
        ran = run_command(
            "run", *options, "--", "sh", "-c", "echo TRAINED; exit 3", PYTHONPATH=str(folder)
        )
        assert (ran.returncode, ran.stdout) == (3, "TRAINED\n")
        (line,) = (line for line in lines_of_ours(ran.stderr) if "no sensor is read" in line)
        assert "compiled core: this installation has none" in line


@pytest.mark.parametrize("start_mb", range(17, 57, 8))
def test_with_little_memory_the_program_runs(start_mb: int) -> None:
    """An address space that is small for Python, smaller for us, and enough for a shell.

    A thread's stack takes 8 MiB, so what fails depends on the size modulo 8 MiB: each test goes
    through all of it.
    """
    run_with_little_memory(
        ["-m", "carbontracker", "run", "--", "sh", "-c", "exit 3"],
        range(1000 * start_mb, 1000 * (start_mb + 8), 500),
    )


@pytest.mark.parametrize("start_mb", range(40, 200, 40))
def test_with_little_memory_a_training_runs(start_mb: int) -> None:
    training = PRELUDE + EPOCHS[: EPOCHS.index("energy, footprint =")] + "raise SystemExit(3)"
    run_with_little_memory(["-c", training], range(1000 * start_mb, 1000 * (start_mb + 40), 2600))


def run_with_little_memory(arguments: list[str], kilobytes: range) -> None:
    """Run Python with ``arguments`` in each address space that is enough for Python alone."""
    for limit in kilobytes:
        shell = (
            f"ulimit -v {limit}; {sys.executable} -c pass 2>/dev/null || exit 77; "
            f"exec {sys.executable} {shlex.join(arguments)}"
        )
        ran = subprocess.run(
            ["bash", "-c", shell], check=False, timeout=TIMEOUT_S, capture_output=True, text=True
        )
        assert ran.returncode in (3, 77), (limit, ran.stderr)


@pytest.mark.parametrize("megabytes", [48, 96, 128, 160, 200, 256, 320, 640])
def test_with_little_memory_a_training_with_advice_runs(megabytes: int) -> None:
    """Loading numpy, for advice, would end the process there."""
    training = PRELUDE + EPOCHS.replace("2, ", "2, advise=True, ") + "print('TRAINED')"
    shell = (
        f"ulimit -v {1024 * megabytes}; {sys.executable} -c pass 2>/dev/null || exit 77; "
        f"exec {sys.executable} -c {shlex.quote(training)}"
    )
    ran = subprocess.run(
        ["bash", "-c", shell], check=False, timeout=TIMEOUT_S, capture_output=True, text=True
    )
    assert ran.returncode in (0, 77), ran.stderr
    assert ran.returncode or "TRAINED" in ran.stdout


# ---- version, surroundings ---------------------------------------------------------------------


def test_a_version_that_is_not_written_anywhere(tmp_path: Path) -> None:
    for content in (None, b"", b"\xff\xfe", b"Name: carbontracker\n"):
        folder = tmp_path / f"app-{content!r:.8}"
        shutil.copytree(PACKAGE, folder / "carbontracker", ignore=shutil.ignore_patterns("*.pyc"))
        about = folder / "carbontracker-9.dist-info"
        about.mkdir()
        if content is not None:
            (about / "METADATA").write_bytes(content)
        ran = python(
            "import carbontracker, sys; print(type(carbontracker.__version__).__name__)",
            PYTHONPATH=str(folder),
        )
        assert (ran.stdout, ran.stderr) == ("str\n", "")


def test_odd_words_of_the_environment(tmp_path: Path) -> None:
    variables = {"TZ": "no/such:zone\udce9", "LC_ALL": "xx_YY.garbage", "LANG": "\udcff"}
    variables |= {"CARBONTRACKER_LOCATION": "", "CUDA_VISIBLE_DEVICES": "\udcff,\udcfe"}
    variables |= {"CARBONTRACKER_PUE": "\udcff", "CARBONTRACKER_RATE_HZ": "\udcff"}
    variables |= {"CARBONTRACKER_INTENSITY": "\udcff", "CARBONTRACKER_ANSWER": "\udcff"}
    variables |= {"CARBONTRACKER_DIR": f"{tmp_path}/caf\udce9", "POD_NAME": "\udcff"}
    ran = run_command("run", "--", "sh", "-c", "exit 3", **variables)
    assert ran.returncode == 3
    assert "Traceback" not in ran.stderr
    program = python(PRELUDE + EPOCHS, **variables)
    result_of(program)
    assert "Traceback" not in program.stderr
    assert len(list(Path(f"{tmp_path}/caf\udce9").glob("*.jsonl"))) == 2
