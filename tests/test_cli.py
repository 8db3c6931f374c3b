"""The command line: a wrapper that the wrapped program cannot tell from a shell."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

import carbontracker
from carbontracker import parser
from carbontracker.cli import main
from carbontracker.cli.commands import COMMANDS
from tests.support.programs import TIMEOUT_S, assert_power, hide_sensors, read_record

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

WRAPPER = [sys.executable, "-m", "carbontracker"]
GPU = ["--sim-gpu", "NVIDIA A100", "--sim-gpu-watts", "400", "--sim-gpu-util", "0.6"]
CPU = ["--sim-cpu", "Xeon 6226R", "--sim-cpu-tdp", "150", "--sim-cpu-util", "0.8"]

ECHO_ARGUMENTS = "import json, sys; print(json.dumps(sys.argv[1:]))"


@pytest.fixture(autouse=True)
def only_simulated_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hide_sensors(monkeypatch, tmp_path)
    monkeypatch.setenv("CARBONTRACKER_LOCATION", "DK")


def carbontrack(
    *arguments: str | Path, stdin: bytes = b"", variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*WRAPPER, *map(str, arguments)],
        env={**os.environ, **(variables or {})},
        input=stdin,
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def executable(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


# ---- the program's own affairs -------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "exit 255"], 255),
        (["sh", "-c", "kill -KILL $$"], 128 + signal.SIGKILL),
        (["sh", "-c", "kill -TERM $$"], 128 + signal.SIGTERM),
    ],
)
def test_the_exit_code_is_the_program_s(command: list[str], code: int) -> None:
    assert carbontrack("--quiet", *command).returncode == code


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    done = carbontrack("--json", tmp_path / "result.json", "no-such-program-here", "-x")
    assert done.returncode == 127
    assert done.stderr == (
        b"carbontracker: command not found: no-such-program-here; "
        b"`carbontracker --help` lists the commands\n"
    )
    assert not (tmp_path / "result.json").exists()  # nothing has run


@pytest.mark.parametrize(
    ("word", "meant"),
    [("reprot", "carbontracker report"), ("train.py", "carbontracker python train.py")],
)
def test_a_word_that_is_no_program(
    word: str, meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("print('TRAINED')")
    done = carbontrack(word, "--epochs", "3")
    assert done.returncode == 127
    expected = f"carbontracker: command not found: {word}; did you mean `{meant}`?\n"
    assert done.stderr.decode() == expected


def test_a_program_that_cannot_be_run(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a program")
    done = carbontrack(tmp_path / "text")
    assert done.returncode == 126
    assert done.stderr.startswith(b"carbontracker: cannot run ")


OWN_ARGUMENTS = ["--epochs", "3", "--log_dir", "x", "--json=y", "--re", "--version", "--", "-h", ""]


@pytest.mark.parametrize("before", [[], ["run"], ["--"], ["run", "--"], ["-q", "--pue", "1.2"]])
def test_arguments_are_the_program_s_own(before: list[str]) -> None:
    done = carbontrack(*before, sys.executable, "-c", ECHO_ARGUMENTS, *OWN_ARGUMENTS)
    assert done.returncode == 0
    assert json.loads(done.stdout) == OWN_ARGUMENTS


def test_a_program_whose_name_begins_with_a_dash(tmp_path: Path) -> None:
    executable(tmp_path / "-program", '#!/bin/sh\necho "$0" "$@"\n')
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = carbontrack("--quiet", "--", "-program", "--help", variables={"PATH": path})
    assert done.stdout.split() == [str(tmp_path / "-program").encode(), b"--help"]


def test_a_program_named_like_one_of_our_commands(tmp_path: Path) -> None:
    executable(tmp_path / "sensors", "#!/bin/sh\necho mine\n")
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    for before in (["--"], ["run"], ["run", "--"]):
        assert carbontrack(*before, "sensors", variables={"PATH": path}).stdout == b"mine\n"


def test_standard_streams_are_the_program_s() -> None:
    everything = bytes(range(256)) * 500
    done = carbontrack("cat", stdin=everything)
    assert done.stdout == everything
    assert done.stderr.startswith(b"CarbonTracker: \nActual consumption:\n")
    assert carbontrack("--quiet", "sh", "-c", "echo only >&2").stderr == b"only\n"


# ---- the result ----------------------------------------------------------------------------

KEYS = {
    "seconds",
    "joules",
    "error_joules",
    "kwh",
    "gco2eq",
    "intensity",
    "pue",
    "quality",
    "modelled_joules",
    "coverage",
    "by_device",
    "by_kind",
    "tracker_cpu_seconds",
    "location",
    "version",
}


@pytest.fixture
def result(tmp_path: Path) -> dict[str, Any]:
    done = carbontrack(
        *("--json", tmp_path / "result.json", "--pue", "1.25", "--log-dir", tmp_path / "records"),
        *("--location", "Denmark", *GPU, *CPU, "sleep", "0.2"),
    )
    assert done.returncode == 0
    found: dict[str, Any] = json.loads((tmp_path / "result.json").read_text())
    return found


def test_the_result_as_json(result: dict[str, Any], tmp_path: Path) -> None:
    assert set(result) >= KEYS
    assert result["seconds"] > 0
    assert_power(result["joules"], result["error_joules"], result["seconds"])
    assert result["kwh"] == pytest.approx(result["joules"] / 3.6e6 * result["pue"])
    assert result["gco2eq"] == pytest.approx(result["kwh"] * result["intensity"]["gco2eq_per_kwh"])
    assert result["pue"] == 1.25
    assert (result["quality"], result["modelled_joules"]) == ("modelled", result["joules"])
    assert result["coverage"] == pytest.approx(1.0)
    assert set(result["by_device"]) == {"gpu:0", "cpu:0"}
    assert set(result["by_kind"]) == {"gpu", "cpu"}
    parts = [part["joules"] for part in result["by_device"].values()]
    assert sum(parts) == pytest.approx(result["joules"])
    assert {"zone", "year", "scope", "source", "licence", "note"} <= set(result["intensity"])
    assert (result["location"]["zone"], result["location"]["how"]) == ("DK", "argument")
    assert result["version"] == carbontracker.__version__
    assert 0 <= result["tracker_cpu_seconds"] < result["seconds"] + 1
    assert (result["command"], result["exit_code"]) == (["sleep", "0.2"], 0)

    recorded = read_record(tmp_path / "records")[-1]
    assert recorded["event"] == "run_finished"
    for key in ("seconds", "tracker_cpu_seconds", "exit_code"):
        assert recorded[key] == result[key]
    for part in (recorded["energy"], recorded["footprint"]):
        assert {key: result[key] for key in part} == part


def test_what_was_not_measured_is_null_in_every_place() -> None:
    done = carbontrack("--json", "-", "--quiet", "true")
    result = json.loads(done.stdout)
    assert set(result) >= KEYS
    assert [result[key] for key in ("joules", "error_joules", "kwh", "gco2eq")] == [None] * 4
    assert (result["quality"], result["coverage"]) == ("missing", 0.0)
    assert (result["by_device"], result["by_kind"]) == ({}, {})


def test_json_on_stdout_follows_what_the_program_wrote() -> None:
    done = carbontrack("--json", "-", *GPU, "echo", "output of the program")
    first, _, rest = done.stdout.partition(b"\n")
    assert first == b"output of the program"
    assert json.loads(rest)["exit_code"] == 0


def test_the_summary() -> None:
    done = carbontrack("--location", "DK", *GPU, *CPU, "true")
    assert done.stdout == b""
    patterns = [
        "CarbonTracker: ",
        "Actual consumption:",
        r"\tTime:\t0:00:00",
        r"\tEnergy:\t\d\.\d{12} kWh",
        r"\tCO2eq:\t\d\.\d{12} g",
        r"\tThis is equivalent to:",
        r"\t\d\.\d{12} km travelled by car",
        r"CarbonTracker: gpu:0: [\d.]+ ± [\d.]+ m?J, modelled",
        r"CarbonTracker: cpu:0: [\d.]+ ± [\d.]+ m?J, modelled",
        (
            r"CarbonTracker: \d+\.\d\d gCO2eq/kWh \(Denmark \d{4}, location by argument\), "
            r"PUE 1\.58 included"
        ),
        r"CarbonTracker: This energy is simulated, not measured\.",
    ]
    lines = done.stderr.decode().splitlines()
    assert len(lines) == len(patterns)
    for line, pattern in zip(lines, patterns, strict=True):
        assert re.fullmatch(pattern, line), line


AMOUNT = r"[\d.]+ ± [\d.]+ [mµ]?Wh, [\d.]+ [mµ]?g CO2eq in [\d.]+ m?s\."


def test_on_a_terminal_a_line_for_people_follows_the_block() -> None:
    outer, inner = pty.openpty()
    done = subprocess.run(
        [*WRAPPER, "--location", "DK", *GPU, "sleep", "0.1"],
        stderr=inner,
        timeout=TIMEOUT_S,
        check=False,
    )
    os.close(inner)
    text = os.read(outer, 65_536).decode()
    os.close(outer)
    assert done.returncode == 0
    lines = text.splitlines()
    assert lines[1] == "Actual consumption:"
    assert re.fullmatch(f"CarbonTracker: {AMOUNT}", lines[7]), text
    assert text.count("Wh, ") == 1


TRAINING = """
from carbontracker.tracker import CarbonTracker
tracker = CarbonTracker(1, sim_gpu="A", sim_gpu_watts=100, components="gpu", epochs_before_pred=0)
tracker.epoch_start()
if "finished" in sys.argv:
    tracker.epoch_end()
else:
    os._exit(0)
"""


def test_a_tracker_within_the_program_leaves_the_wrapper_one_line() -> None:
    program = [sys.executable, "-c", f"import os, sys\n{TRAINING}"]
    done = carbontrack("--location", "DK", *GPU, *program, "finished")
    assert done.stdout.count(b"Actual consumption:") == 1
    (line,) = [one for one in done.stderr.decode().splitlines() if "WARNING" not in one]
    assert re.fullmatch(f"CarbonTracker: The whole program: {AMOUNT}", line)
    # The next program has no tracker; and one that was killed has shown nothing.
    for other in (["true"], [*program, "killed"]):
        done = carbontrack("--location", "DK", *GPU, *other)
        assert b"\nActual consumption:\n" in done.stderr
        assert b"whole program" not in done.stderr


def test_a_tracker_with_a_log_dir_of_its_own_leaves_the_wrapper_one_line(tmp_path: Path) -> None:
    """Most scripts for 2.4.x name one: their record is where the wrapper does not look."""
    training = TRAINING.replace("epochs_before_pred=0", f"log_dir={str(tmp_path / 'own')!r}")
    left = tmp_path / "temporary"
    left.mkdir()
    program = [sys.executable, "-c", f"import os, sys\n{training}", "finished"]
    for options in ((), ("--no-record",)):
        done = carbontrack(*options, *GPU, *program, variables={"TMPDIR": str(left)})
        assert done.stdout.count(b"Actual consumption") == 1
        assert b"Actual consumption" not in done.stderr
        assert b"CarbonTracker: The whole program: " in done.stderr
    assert list(left.iterdir()) == []


def test_a_stream_without_the_characters_gets_them_in_ascii() -> None:
    done = carbontrack(*GPU, "true", variables={"PYTHONIOENCODING": "ascii"})
    assert re.search(rb"gpu:0: [\d.]+ \+/- [\d.]+ m?J, modelled", done.stderr)


def test_a_result_that_cannot_be_written_does_not_change_the_exit_code() -> None:
    done = carbontrack("--quiet", "--json", "/dev/full", "sh", "-c", "exit 7")
    assert done.returncode == 7
    assert done.stderr.startswith(b"carbontracker: the result is not written: ")


def test_a_reader_that_goes_away_does_not_change_the_exit_code(tmp_path: Path) -> None:
    command = [*WRAPPER, "--json", str(tmp_path / "result.json"), "sh", "-c", "cat; exit 7"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stderr.close()
        process.stdin.close()
        assert process.wait(TIMEOUT_S) == 7
    assert json.loads((tmp_path / "result.json").read_text())["exit_code"] == 7


def test_the_record_can_be_left_out(tmp_path: Path) -> None:
    show = ["sh", "-c", 'echo "[$CARBONTRACKER_RUN_ID]"']
    records = tmp_path / "records"
    for options, variables in (
        (["--no-record"], {}),
        ([], {"CARBONTRACKER_RECORD": "0"}),
    ):
        done = carbontrack("--quiet", "--log_dir", records, *options, *show, variables=variables)
        assert done.stdout == b"[]\n"
        assert not records.exists()
    done = carbontrack("--quiet", *show, variables={"CARBONTRACKER_DIR": str(records)})
    events = read_record(records)
    assert done.stdout.decode() == f"[{events[0]['run_id']}]\n"
    assert [event["event"] for event in events] == ["run_started", "run_finished"]


# ---- signals -------------------------------------------------------------------------------

TRAPPING = """\
import os, signal, sys, time
def end(number, frame):
    os.write(1, b"caught %d\\n" % number)
    sys.exit(5)
signal.signal(int(sys.argv[1]), end)
print("ready", flush=True)
while True:
    time.sleep(0.05)
"""


@contextmanager
def interruptible() -> Iterator[None]:
    """Let programs started here react to Ctrl-C, even if this process ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def wrapped(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Start a wrapped program that says when it is ready, far from any terminal."""
    with (
        interruptible(),
        subprocess.Popen(
            [*WRAPPER, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2]
)
def test_signals_reach_the_program_and_the_result_is_written(
    tmp_path: Path, number: signal.Signals
) -> None:
    if signal.getsignal(number) == signal.SIG_IGN:
        pytest.skip("ignored by who started us (nohup), and so by the command")
    target = tmp_path / "result.json"
    program = [sys.executable, "-c", TRAPPING, str(int(number))]
    with wrapped("--json", target, *GPU, *program) as process:
        process.send_signal(number)
        out, err = process.communicate(timeout=TIMEOUT_S)
    assert out == f"caught {int(number)}\n"
    assert process.returncode == 5
    assert "Actual consumption:" in err
    result = json.loads(target.read_text())
    assert (result["exit_code"], result["quality"]) == (5, "modelled")


def test_a_program_that_dies_of_a_signal(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    with wrapped("--json", target, "sh", "-c", "echo ready; exec sleep 600") as process:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 128 + signal.SIGTERM
    assert json.loads(target.read_text())["exit_code"] == 128 + signal.SIGTERM


def test_a_signal_to_the_whole_group(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    program = [sys.executable, "-c", TRAPPING, str(int(signal.SIGTERM))]
    with wrapped("--json", target, *program) as process:
        os.killpg(process.pid, signal.SIGTERM)
        out, _ = process.communicate(timeout=TIMEOUT_S)
    # From us and from the group: it may be caught twice, or come again when Python is ending and
    # catches no more.
    assert set(out.splitlines()) == {"caught 15"}
    assert process.returncode in {5, 128 + signal.SIGTERM}
    assert json.loads(target.read_text())["exit_code"] == process.returncode


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_repeated_signals_do_not_lose_the_result(tmp_path: Path, number: signal.Signals) -> None:
    target = tmp_path / "result.json"
    with wrapped("--json", target, "sh", "-c", "echo ready; exec sleep 600") as process:
        while process.poll() is None:
            process.send_signal(number)
            time.sleep(0.005)
        process.communicate(timeout=TIMEOUT_S)
    assert json.loads(target.read_text())["exit_code"] == 128 + number


def test_what_is_ignored_stays_ignored(tmp_path: Path) -> None:
    program = "import signal; print(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN)"
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert carbontrack(sys.executable, "-c", program).stdout == b"True\n"
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("options", [[], ["--max-seconds", "600"]])
@pytest.mark.parametrize(
    ("end", "code"), [("sys.exit(7)", 7), ("os.kill(os.getpid(), 9)", 137), ("sys.exit()", 0)]
)
def test_the_parent_may_ignore_the_end_of_children(options: list[str], end: str, code: int) -> None:
    """The kernel keeps no exit code then; and what is ignored is so for the program, too."""
    ignoring = (
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); "
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    program = (
        "import os, signal, sys, time; time.sleep(0.1); "
        f"print(signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN, flush=True); {end}"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-c", ignoring, "-m", "carbontracker", "run", "-q", *options),
            *("--", sys.executable, "-c", program),
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("True\n", code)


# ---- what cannot be ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--location", "Denmrk"], "did you mean Denmark (DK)?"),
        (["--pue", "0.5"], "pue must be a finite ratio of at least 1"),
        (["--pue", "nan"], "pue must be a finite ratio of at least 1"),
        (["--pue", "lots"], "argument --pue: invalid float value: 'lots'"),
        (["--intensity", "-1"], "-1"),
        (["--components", "tpu"], "No component named 'tpu': choose from all, gpu, cpu"),
        (["--sim-gpu", "A100"], "--sim-gpu needs --sim-gpu-watts"),
        (["--sim-cpu", "Xeon"], "--sim-cpu needs --sim-cpu-tdp"),
        (["--sim-cpu", "X", "--sim-cpu-tdp", "-5"], "CPU TDP must be a non-negative number."),
        ([*GPU[:4], "--sim-gpu-util", "3"], "GPU utilization must be between 0.0 and 1.0."),
        (["--rate-hz", "0"], "rate_hz must be from 0.5 to 10000 Hz"),
        (["--rate-hz", "nan"], "rate_hz must be from 0.5 to 10000 Hz"),
        (["--rate-hz", "0.1"], "rate_hz must be from 0.5 to 10000 Hz"),
        (["--rate-hz", "1e300"], "rate_hz must be from 0.5 to 10000 Hz"),
        (["--overhead-budget", "2"], "overhead_budget is a fraction of one core"),
        (["--max-kwh", "0"], "max_kwh must be a finite number of kWh above 0, not 0.0"),
        (["--max-gco2eq", "nan"], "max_gco2eq must be a finite number of gCO2eq above 0"),
        (["--max-seconds", "-1"], "max_seconds must be a finite number of s above 0"),
        (["--grace", "-1"], "--grace must be from 0 to 86400 s, not -1.0"),
        (["--frobnicate"], "unrecognized arguments: --frobnicate"),
        (["--loc", "DK"], "unrecognized arguments: --loc"),
    ],
)
def test_a_wrong_option_is_found_before_the_program_runs(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    marker = tmp_path / "the-program-ran"
    assert exit_code(["run", *options, "--", "touch", str(marker)]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert message in err
    assert "Traceback" not in err
    assert not marker.exists()


def exit_code(arguments: Sequence[str]) -> int:
    """Return the exit code of the command line, run in this process."""
    try:
        return main(arguments)
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else -1


def test_a_wrong_place_for_the_result_too(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    marker = tmp_path / "the-program-ran"
    target = tmp_path / "no-such-directory" / "result.json"
    assert exit_code(["--json", str(target), "touch", str(marker)]) == 2
    assert "no-such-directory" in capfd.readouterr().err
    assert not marker.exists()


def test_a_wrong_option_as_a_process() -> None:
    done = carbontrack("--location", "Denmrk", "echo", "ran")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"carbontracker: unknown location 'Denmrk'; did you mean Denmark")


@pytest.mark.parametrize(
    ("variable", "text", "warning"),
    [
        ("CARBONTRACKER_LOCATION", "Denmrk", "did you mean Denmark (DK)?"),
        ("CARBONTRACKER_PUE", "0.5", "CARBONTRACKER_PUE='0.5' is not a ratio of at least 1"),
        ("CARBONTRACKER_RATE_HZ", "often", "CARBONTRACKER_RATE_HZ='often' is not a number"),
        ("CARBONTRACKER_OVERHEAD_BUDGET", "-1", "CARBONTRACKER_OVERHEAD_BUDGET='-1' is not a"),
        ("CARBONTRACKER_BUDGET", "-1", "CARBONTRACKER_BUDGET='-1' is not a number"),
        ("CARBONTRACKER_BUDGET", "0.01", "CARBONTRACKER_BUDGET is now called CARBONTRACKER_OVERH"),
    ],
)
def test_a_wrong_variable_is_a_warning(variable: str, text: str, warning: str) -> None:
    done = carbontrack("--json", "-", "--quiet", *GPU, "true", variables={variable: text})
    assert done.returncode == 0
    assert warning in done.stderr.decode()
    result = json.loads(done.stdout)
    assert result["pue"] == 1.58
    zone = "WORLD" if variable == "CARBONTRACKER_LOCATION" else "DK"
    assert (result["location"]["zone"], result["intensity"]["zone"]) == (zone, zone)


def test_no_program_at_all(capfd: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["run"], ["--"], ["--quiet"], ["run", "--pue", "1.2", "--"]):
        assert exit_code(arguments) == 2
        out, err = capfd.readouterr()
        assert out == ""
        assert err.startswith("usage: carbontracker")


# ---- the command line of 2.4.x -------------------------------------------------------------


def test_the_command_line_of_2_4_x(tmp_path: Path) -> None:
    """The example of its own help; its log files and the record have the same total."""
    logs = tmp_path / "logs"
    keys = "--api_keys={'electricitymaps': 'SECRET'}"
    done = carbontrack(f"--log_dir={logs}", keys, *GPU, "sh", "-c", "sleep 0.3; exit 3", "--its")
    assert done.returncode == 3
    names = sorted(path.name.rpartition("_")[2] for path in logs.iterdir() if path.suffix == ".log")
    assert {"carbontracker.log", "output.log"} <= set(names)
    kwh = read_record(logs)[-1]["footprint"]["kwh"]
    (block,) = parser.parse_all_logs(str(logs))
    assert block["actual"]["energy (kWh)"] == pytest.approx(kwh, abs=1e-12)
    (watts,) = block["components"]["gpu"]["avg_power_usages (W)"][0]
    assert watts == pytest.approx(240.0, rel=0.1)
    for command in ([f"--parse={logs}"], ["aggregate", logs]):
        total = carbontrack(*command)
        assert total.returncode == 0
        written = re.search(r"use ([\d.]+) kWh", total.stdout.decode())
        assert written is not None
        assert float(written[1]) == pytest.approx(kwh, abs=1e-12)
    texts = [done.stdout, done.stderr, *(path.read_bytes() for path in logs.iterdir())]
    assert not any(b"SECRET" in text for text in texts)


def test_keys_that_are_no_dict_are_not_repeated() -> None:
    done = carbontrack("--api_keys=SECRET", "true")
    assert done.returncode == 2
    assert b"it must be a dict such as" in done.stderr
    assert b"SECRET" not in done.stderr


def test_old_options_after_the_program_are_its_own() -> None:
    show = [sys.executable, "-c", ECHO_ARGUMENTS, "--log_dir=x"]
    done = carbontrack("--no-record", *show)
    assert json.loads(done.stdout) == ["--log_dir=x"]
    line = b"carbontracker: --log_dir: an option after the command belongs to the program\n"
    assert line in done.stderr
    for before in (["--quiet"], ["--"]):
        assert line not in carbontrack(*before, *show).stderr


# ---- help and sensors ----------------------------------------------------------------------


@pytest.mark.parametrize("command", [[], ["run"], ["sensors"], ["estimate"], ["when"], ["where"]])
def test_help_has_examples(capfd: pytest.CaptureFixture[str], command: list[str]) -> None:
    assert exit_code([*command, "--help"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert "\nexamples:\n  carbontracker " in out


def test_the_overview_has_every_command(capfd: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["-h"], ["help"]):
        assert exit_code(arguments) == 0
        out = capfd.readouterr().out
        listed = re.findall(r"^  (\w+) {2,}\w", out, re.MULTILINE)
        assert sorted(listed) == sorted(COMMANDS)
        assert max(map(len, out.splitlines())) <= 80
    for name in COMMANDS:
        assert exit_code(["help", name]) == 0
        assert f"carbontracker {name}" in capfd.readouterr().out


def test_completion(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    for shell in ("bash", "zsh", "tcsh"):
        assert exit_code(["completion", shell]) == 0
        out = capfd.readouterr().out
        assert all(name in out for name in COMMANDS)
        assert "max-kwh" in out
    script = subprocess.run(
        ["bash", "-c", 'eval "$0"; complete -p carbontracker', out_of(capfd, "bash")],
        check=True,
        capture_output=True,
        text=True,
    )
    assert "carbontracker" in script.stdout


def out_of(capfd: pytest.CaptureFixture[str], shell: str) -> str:
    assert exit_code(["completion", shell]) == 0
    return capfd.readouterr().out


def test_the_version(capfd: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["--version"]) == 0
    assert capfd.readouterr().out == f"{carbontracker.__version__}\n"


def test_sensors_for_people_and_for_programs(capfd: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["sensors", "--seconds", "0"]) == 0
    text = capfd.readouterr().out
    assert text.startswith("Read here:\n  nothing\n\nNot read here:\n")

    assert exit_code(["sensors", "--json", "--seconds", "0"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert set(found) == {
        "readable",
        "absent",
        "failed",
        "tracker_cpu_seconds",
        "driver_seconds",
        "seconds",
        "not_shared",
    }
    assert found["readable"] == []
    assert found["absent"]
    for absent in found["absent"]:
        assert set(absent) == {"source", "what", "reason", "remedy", "device"}
        assert absent["reason"]
        assert f"  {absent['what']} ({absent['source']}): {absent['reason']}\n" in text


@pytest.mark.parametrize("seconds", ["-1", "nan", "soon"])
def test_how_long_to_look_must_make_sense(capfd: pytest.CaptureFixture[str], seconds: str) -> None:
    assert exit_code(["sensors", "--seconds", seconds]) == 2
    assert "--seconds" in capfd.readouterr().err


def test_sensors_as_a_process() -> None:
    done = carbontrack("sensors", "--json", "--seconds", "0.01")
    assert done.returncode == 0
    assert json.loads(done.stdout)["readable"] == []


@pytest.mark.parametrize("command", [["estimate", "--gpu", "A100", "--gpu-hours", "1"], ["where"]])
def test_a_reader_that_closes_the_pipe_is_not_an_error(command: list[str]) -> None:
    """As with ``| head -1``: the reader has closed the pipe before the result is written."""
    reads, writes = os.pipe()
    os.close(reads)
    with os.fdopen(writes, "wb") as pipe:
        done = subprocess.run(
            [*WRAPPER, *command],
            stdout=pipe,
            stderr=subprocess.PIPE,
            timeout=TIMEOUT_S,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_full_disk_is_reported_in_one_line() -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123  # a device
        done = subprocess.run(
            [*WRAPPER, "where"],
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=TIMEOUT_S,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == b"carbontracker: [Errno 28] No space left on device"
    assert b"Traceback" not in done.stderr
