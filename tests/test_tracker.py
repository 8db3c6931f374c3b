"""The drop-in: what a training written for carbontracker 2.4.x sees, and what it never suffers."""

from __future__ import annotations

import inspect
import io
import json
import os
import pty
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

import carbontracker
from carbontracker import parser
from carbontracker.tracker import CarbonTracker
from carbontracker.training.run import Run
from tests.support.fakehost import cpuinfo, fake_host, meminfo, proc_stat
from tests.support.programs import (
    CPU_WATTS,
    DEVICES,
    GPU_WATTS,
    PRELUDE,
    TIMEOUT_S,
    WATTS,
    assert_power,
    hide_sensors,
    python,
    read_record,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from carbontracker.model.result import Result

EPOCH_S = 0.04

SIMULATED_LINES = [
    "Using simulated GPU: NVIDIA A100 with power consumption: 240.00W (at 60% utilization)",
    "Using simulated CPU: Xeon 6226R with TDP: 120.00W (at 80% utilization)",
]
FOUND = (
    "The following components were found: GPU with device(s) NVIDIA A100. "
    "CPU with device(s) Xeon 6226R."
)
AVERAGE = "Average carbon intensity during training was 458.29 gCO2eq/kWh. "
UNKNOWN_PLACE = (
    "CarbonTracker: WARNING - No carbon intensity provider specified and no location detected. "
    "Defaulting to global average carbon intensity for 2025: 458.29 gCO2eq/kWh."
)


@pytest.fixture(autouse=True)
def only_simulated_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hide_sensors(monkeypatch, tmp_path)
    # No such place, so that neither the time zone of the machine nor its country matters.
    monkeypatch.setenv("CARBONTRACKER_LOCATION", "Atlantis-on-Sea")


def make(epochs: int = 2, **arguments: Any) -> CarbonTracker:
    return CarbonTracker(epochs, **{"verbose": 0, **DEVICES, **arguments})


def train(tracker: CarbonTracker, epochs: int, seconds: float = EPOCH_S) -> None:
    for _ in range(epochs):
        tracker.epoch_start()
        time.sleep(seconds)
        tracker.epoch_end()


def result_of(tracker: CarbonTracker) -> Result:
    assert tracker.result is not None
    return tracker.result


def assert_joules(result: Result, watts: float) -> None:
    """Hold a result against constant power over the time it was drawn for."""
    assert_power(result.energy.joules, result.energy.error_joules, result.seconds, watts)
    assert result.energy.coverage == pytest.approx(1.0)


def block(heading: str, *, digits: int = 12, interpretable: bool = True) -> list[str]:
    """Return the lines of a consumption block as regular expressions."""
    figure = rf"\d+\.\d{{{digits}}}" if digits else r"\d+"
    lines = [
        "CarbonTracker: ",
        re.escape(heading),
        r"\tTime:\t\d+:\d\d:\d\d",
        rf"\tEnergy:\t{figure} kWh",
        rf"\tCO2eq:\t{figure} g",
    ]
    if interpretable:
        lines += ["\tThis is equivalent to:", rf"\t{figure} km travelled by car"]
    return lines


def say(*messages: str) -> list[str]:
    return [re.escape(f"CarbonTracker: {message}") for message in messages]


OUTCOME = (
    r"CarbonTracker: Predicted after \d epoch\(s\), beside the actual: "
    r"time [+-]\d+\.\d %, energy [+-]\d+\.\d %, CO2eq [+-]\d+\.\d %\."
)
HOW_SURE = (
    r"CarbonTracker: Predicted after \d epoch\(s\), 95 % sure: time 0:\d\d:\d\d to 0:\d\d:\d\d, "
    r"energy [\d.]+ to [\d.]+ [mµ]?Wh, CO2eq [\d.]+ to [\d.]+ [mµ]?g\."
)
FINISHED = say("This energy is simulated, not measured.", "Finished monitoring.")


def assert_lines(text: str, patterns: Sequence[str]) -> None:
    lines = text.splitlines()
    for line, pattern in zip(lines, patterns, strict=False):
        assert re.fullmatch(pattern, line), f"{line!r} is not {pattern!r}"
    assert len(lines) == len(patterns), lines


# ---- arguments -----------------------------------------------------------------------------

UPSTREAM: list[tuple[str, Any]] = [
    ("epochs", inspect.Parameter.empty),
    ("epochs_before_pred", 1),
    ("monitor_epochs", -1),
    ("update_interval", 1),
    ("interpretable", True),
    ("stop_and_confirm", False),
    ("ignore_errors", False),
    ("components", "all"),
    ("devices_by_pid", False),
    ("log_dir", None),
    ("log_file_prefix", ""),
    ("verbose", 1),
    ("decimal_precision", 12),
    ("api_keys", None),
    ("sim_cpu", None),
    ("sim_cpu_tdp", None),
    ("sim_cpu_util", None),
    ("sim_gpu", None),
    ("sim_gpu_watts", None),
    ("sim_gpu_util", None),
]


def test_the_first_twenty_parameters_are_those_of_the_original() -> None:
    parameters = list(inspect.signature(CarbonTracker).parameters.values())
    assert [(p.name, p.default) for p in parameters[:20]] == UPSTREAM
    assert {p.kind for p in parameters[:20]} == {inspect.Parameter.POSITIONAL_OR_KEYWORD}
    assert {p.kind for p in parameters[20:]} == {inspect.Parameter.KEYWORD_ONLY}


def test_every_argument_is_an_attribute(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "epochs": 7,
        "epochs_before_pred": 2,
        "monitor_epochs": 5,
        "update_interval": 0.25,
        "interpretable": False,
        "stop_and_confirm": True,
        "ignore_errors": True,
        "components": "cpu",
        "devices_by_pid": True,
        "log_dir": str(tmp_path / "logs"),
        "log_file_prefix": "p",
        "verbose": 0,
        "decimal_precision": 3,
        "api_keys": {},
        "sim_cpu": "C",
        "sim_cpu_tdp": 10.0,
        "sim_cpu_util": 0.1,
        "sim_gpu": "G",
        "sim_gpu_watts": 20.0,
        "sim_gpu_util": 0.2,
        "location": "DK",
        "pue": 1.1,
        "intensity": 50.0,
        "record": False,
        "rate_hz": 20.0,
        "overhead_budget": 0.01,
        "keep_full_s": 30.0,
        "locate": "never",
        "advise": True,
        "steps_per_epoch": 12,
        "max_steps": 84,
        "max_kwh": 1.0,
        "max_gco2eq": 500.0,
        "max_seconds": 3600.0,
        "budget_on": "predicted",
        "on_budget": "raise",
        "default_answer": "n",
        "prometheus": "127.0.0.1:0",
        "otlp": None,
        "progress": False,
        "loggers": (),
        "trace": False,
        "previous_run": None,
        "job": False,
        "sync": None,
        "attribution": None,
        "project": "tiny-lm",
        "stage": "pretraining",
        "parent": None,
    }
    tracker = CarbonTracker(*list(given.values())[:20], **dict(list(given.items())[20:]))
    tracker.stop()
    assert list(given) == list(inspect.signature(CarbonTracker).parameters)
    assert {name: getattr(tracker, name) for name in given} == given
    with pytest.raises(AttributeError, match="no attribute 'epoch'"):
        _ = tracker.epoch


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"monitor_epochs": 1, "epochs_before_pred": 2},
            "monitor_epochs cannot be less than epochs_before_pred",
        ),
        ({"monitor_epochs": -3}, "monitor_epochs cannot be less than epochs_before_pred"),
        ({"monitor_epochs": 0, "epochs_before_pred": 0}, "monitor_epochs cannot be zero"),
        (
            {"sim_cpu_tdp": None},
            "When using simulated CPU (sim_cpu), you must also specify the CPU TDP (sim_cpu_tdp)",
        ),
        (
            {"sim_gpu_watts": None},
            (
                "When using simulated GPU (sim_gpu), you must also specify the GPU power "
                "consumption (sim_gpu_watts)"
            ),
        ),
        ({"locate": "ip"}, "locate must be auto or never, got 'ip'"),
        ({"pue": 0.9}, "pue must be a finite ratio of at least 1, got 0.9"),
    ],
)
def test_contradictory_arguments_are_refused_in_these_words(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make(**arguments)


def test_an_unknown_location_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean Denmark"):
        make(location="Denmrk")


def test_power_of_a_device_that_is_not_simulated_is_ignored() -> None:
    tracker = make(1, sim_cpu=None, sim_cpu_tdp=1e9)
    train(tracker, 1)
    assert_joules(result_of(tracker), GPU_WATTS)


IMPOSSIBLE = [
    ({"components": "tpu"}, "ComponentNameError"),
    ({"components": "gpu,tpu"}, "ComponentNameError"),
    ({"components": ""}, "ComponentNameError"),
    ({"sim_cpu_util": 1.5}, "CPU utilization must be between 0.0 and 1.0."),
    ({"sim_gpu_util": -0.1}, "GPU utilization must be between 0.0 and 1.0."),
    ({"sim_gpu_util": float("nan")}, "GPU utilization must be between 0.0 and 1.0."),
    ({"sim_cpu_tdp": -1.0}, "CPU TDP must be a non-negative number."),
    ({"sim_cpu_tdp": "many"}, "CPU TDP must be a non-negative number."),
    ({"sim_gpu_watts": float("inf")}, "GPU watts must be a non-negative number."),
    ({"sim_cpu": " "}, "CPU name must be a non-empty string."),
    ({"sim_gpu": 5}, "GPU name must be a non-empty string."),
    ({"api_keys": {"nosuchservice": "k"}}, "FetcherNameError"),
]


@pytest.mark.parametrize(("arguments", "reason"), IMPOSSIBLE)
def test_impossible_requests_end_with_code_70(
    arguments: dict[str, Any], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        make(verbose=1, **arguments)
    assert exit_.value.code == 70
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("CarbonTracker: CRITICAL - Traceback")
    assert reason in err


@pytest.mark.parametrize(("arguments", "reason"), IMPOSSIBLE)
def test_with_ignore_errors_the_training_is_not_monitored(
    arguments: dict[str, Any], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = make(2, verbose=1, ignore_errors=True, **arguments)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("CarbonTracker: CRITICAL - Ignored error: Traceback")
    assert err.endswith("Continued training without monitoring...\n")
    assert reason in err

    train(tracker, 3, seconds=0.0)
    tracker.set_api_keys({"nosuchservice": "k"})
    tracker.stop()
    assert list(tracker.epochs()) == [0, 1]
    assert (tracker.deleted, tracker.epoch_counter, tracker.result) == (True, 0, None)
    assert capsys.readouterr() == ("", "")


def test_keys_set_later_are_checked_too(capsys: pytest.CaptureFixture[str]) -> None:
    tracker = make()
    with pytest.raises(SystemExit) as exit_:
        tracker.set_api_keys({"nosuchservice": "k"})
    assert exit_.value.code == 70
    assert "FetcherNameError" in capsys.readouterr().err

    tracker = make(ignore_errors=True)
    tracker.set_api_keys({"nosuchservice": "k"})
    assert tracker.deleted

    tracker = make(1)
    tracker.set_api_keys({"ElectricityMaps": "k"})
    train(tracker, 1)
    assert_joules(result_of(tracker), WATTS)


def test_no_repr_contains_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """As tracebacks with local variables print them."""
    monkeypatch.setenv("CARBONTRACKER_OFFLINE", "1")
    tracker = make(1, api_keys={"electricitymaps": "s3cret"})
    train(tracker, 1)
    assert "epochs=1" in repr(vars(tracker))
    assert "s3cret" not in repr(vars(tracker))


# ---- energy --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("components", "watts", "devices"),
    [
        ("all", WATTS, {"gpu:0", "cpu:0"}),
        ("gpu", GPU_WATTS, {"gpu:0"}),
        ("cpu", CPU_WATTS, {"cpu:0"}),
        ("CPU, gpu", WATTS, {"gpu:0", "cpu:0"}),
        ("cpu,cpu", CPU_WATTS, {"cpu:0"}),
    ],
)
def test_devices_are_added(components: str, watts: float, devices: set[str]) -> None:
    tracker = make(2, components=components, record=False)
    train(tracker, 2)
    result = result_of(tracker)
    assert_joules(result, watts)
    assert set(result.energy.by_device) == devices
    assert result.energy.quality == "modelled"
    assert result.energy.modelled_joules == result.energy.joules
    assert result.footprint.kwh == pytest.approx(result.energy.joules / 3.6e6 * 1.58)
    assert result.footprint.gco2eq == pytest.approx(result.footprint.kwh * 458.29)


def test_epochs_add_up_and_pauses_are_kept_apart() -> None:
    tracker = make(3)
    for _ in range(3):
        tracker.epoch_start()
        time.sleep(EPOCH_S)
        tracker.epoch_end()
        time.sleep(EPOCH_S)
    result = result_of(tracker)
    assert [epoch.index for epoch in result.epochs] == [1, 2, 3]
    assert all(epoch.finished for epoch in result.epochs)
    assert sum(epoch.energy.joules for epoch in result.epochs) == pytest.approx(
        result.energy.joules
    )
    assert sum(epoch.seconds for epoch in result.epochs) == pytest.approx(result.seconds)
    assert_joules(result, WATTS)
    assert result.between_epochs.joules > 2 * WATTS * EPOCH_S * 0.7


def test_the_update_interval_changes_no_total() -> None:
    trackers = [
        make(2, update_interval=interval, record=False)
        for interval in (1e-3, 10, 0, -1, float("inf"), float("nan"))
    ]
    for _ in range(2):
        for tracker in trackers:
            tracker.epoch_start()
        time.sleep(2 * EPOCH_S)
        for tracker in trackers:
            tracker.epoch_end()
    for tracker in trackers:
        assert_joules(result_of(tracker), WATTS)


def test_two_trackers_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    outer = make(1, log_dir=tmp_path / "outer")
    inner = make(2, components="cpu", log_dir=tmp_path / "inner")
    outer.epoch_start()
    train(inner, 2)
    assert_joules(result_of(inner), CPU_WATTS)
    outer.epoch_end()
    assert_joules(result_of(outer), WATTS)
    assert result_of(outer).seconds > result_of(inner).seconds
    for name, epochs in (("outer", 1), ("inner", 2)):
        events = [event["event"] for event in read_record(tmp_path / name)]
        assert events.count("epoch") == epochs
        assert events[-1] == "run_finished"


def test_twenty_trackers_leave_nothing_behind(tmp_path: Path) -> None:
    program = (
        PRELUDE
        + """
def held():
    time.sleep(0.05)  # a thread that was joined may be listed for a moment longer
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

def once(directory):
    tracker = CarbonTracker(1, verbose=0, log_dir=directory, **DEVICES)
    inside = len(os.listdir("/proc/self/task"))
    tracker.epoch_start()
    tracker.epoch_end()
    return inside

once(sys.argv[1])
before = held()
during = {once(sys.argv[1]) for _ in range(20)}
print(json.dumps([before, held(), sorted(during)]))
"""
    )
    done = python(program, str(tmp_path / "logs"))
    before, after, during = json.loads(done.stdout.splitlines()[-1])
    assert before == after
    assert min(during) > before[1]  # there were threads to be left behind


# ---- console -------------------------------------------------------------------------------


def test_the_console_is_that_of_the_original(capsys: pytest.CaptureFixture[str]) -> None:
    train(make(3, verbose=1), 3)
    out, err = capsys.readouterr()
    assert_lines(
        out,
        [
            *map(re.escape, SIMULATED_LINES),
            *say(FOUND),
            *block("Predicted consumption for 3 epoch(s):"),
            HOW_SURE,
            *say(AVERAGE),
            *block("Actual consumption for 3 epoch(s):"),
            OUTCOME,
            *FINISHED,
        ],
    )
    assert err.splitlines() == [UNKNOWN_PLACE]


def test_a_known_location_is_named_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    train(make(1, verbose=1, location="DK", components="cpu,gpu", decimal_precision=4), 1)
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[:4] == [
        *reversed(SIMULATED_LINES),
        (
            "CarbonTracker: The following components were found: CPU with device(s) Xeon 6226R. "
            "GPU with device(s) NVIDIA A100."
        ),
        (
            "CarbonTracker: No carbon intensity provider specified. Using average carbon intensity "
            "for DK: 114.41 gCO2eq/kWh."
        ),
    ]
    assert_lines("\n".join(lines[4:11]), block("Predicted consumption for 1 epoch(s):", digits=4))
    assert err == ""


def test_the_users_own_figure_is_named_too(capsys: pytest.CaptureFixture[str]) -> None:
    train(make(1, verbose=1, intensity=50, pue=1.0), 1)
    out, err = capsys.readouterr()
    assert "CarbonTracker: Using the given carbon intensity: 50.00 gCO2eq/kWh." in out.splitlines()
    assert "during training was 50.00 gCO2eq/kWh. \n" in out
    assert err == ""


def test_without_equivalents_and_prediction(capsys: pytest.CaptureFixture[str]) -> None:
    train(make(2, verbose=1, interpretable=False, decimal_precision=0, epochs_before_pred=0), 2)
    out = capsys.readouterr().out.splitlines()[3:]
    # Where no prediction was wanted, the original leaves out the number of epochs.
    expected = [
        *say(AVERAGE),
        *block("Actual consumption:", digits=0, interpretable=False),
        *FINISHED,
    ]
    assert_lines("\n".join(out), expected)


def test_quiet_is_quiet_but_for_simulated_devices(capsys: pytest.CaptureFixture[str]) -> None:
    tracker = make(2, verbose=0)
    train(tracker, 1)
    tracker.stop()
    out, err = capsys.readouterr()
    assert out.splitlines() == SIMULATED_LINES
    assert err.splitlines() == [UNKNOWN_PLACE]  # diagnostics are not what verbose is about


def test_an_estimate_is_labelled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = {
        "proc/stat": proc_stat(16, 1000, 1000),
        "proc/cpuinfo": cpuinfo("Intel(R) Xeon(R) Gold 6226R CPU @ 2.90GHz"),
        "proc/meminfo": meminfo(64),
    }
    monkeypatch.setenv("CARBONTRACKER_ROOT", str(fake_host(tmp_path, tree)))
    train(CarbonTracker(1, components="cpu"), 1)
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"CarbonTracker: The following components were found: CPU with device\(s\) "
        r".*6226R.* \(modelled\), .* \(modelled\)\.",
        lines[0],
    )
    assert re.fullmatch(
        r"CarbonTracker: This energy is modelled, not measured \([\d.]+ ± [\d.]+ m?J\): "
        r"`carbontracker sensors` says why\.",
        lines[-2],
    )


def test_missing_energy_is_reported_and_never_zero(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tracker = CarbonTracker(1)
    train(tracker, 1)
    out, err = capsys.readouterr()
    result = result_of(tracker)
    assert result.energy.joules != result.energy.joules  # not a number
    assert result.energy.quality == "missing"
    assert "components were found" not in out
    assert "Energy:" not in out
    assert not re.search(r"\d (kWh|g)$", out, re.MULTILINE)
    assert "CarbonTracker: No energy was measured: `carbontracker sensors` says why." in out
    for component in ("gpu", "cpu"):
        pattern = rf"CarbonTracker: WARNING - {component} is not measured: .+"
        assert re.search(pattern, err)


def test_a_broken_pipe_ends_neither_training_nor_monitoring(tmp_path: Path) -> None:
    program = (
        PRELUDE
        + """
sys.stdin.readline()  # until no process reads our output
tracker = CarbonTracker(2, log_dir=sys.argv[1], **DEVICES)
for _ in tracker.epochs():
    pass
open(sys.argv[2], "w").write(str(tracker.result.finished_epochs))
os._exit(0)
"""
    )
    logs, marker = tmp_path / "logs", tmp_path / "trained"
    command = [sys.executable, "-c", program, str(logs), str(marker)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.close()
        process.stdin.close()
        assert process.wait(TIMEOUT_S) == 0
    assert marker.read_text() == "2"
    assert read_record(logs)[-1]["event"] == "run_finished"
    (output,) = logs.glob("*_carbontracker_output.log")
    assert "Actual consumption for 2 epoch(s):" in output.read_text()


# ---- log files -----------------------------------------------------------------------------

STEM = r"{prefix}\d+\.[1-9]\d{{15}}_\d{{4}}-\d\d-\d\dT\d{{6}}Z_carbontracker{kind}\.log"
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


def log(directory: Path, kind: str) -> Path:
    (path,) = directory.glob(f"*_carbontracker{kind}.log")
    return path


def messages(path: Path) -> list[str]:
    """Return the messages of a log, whose every line must begin with a time."""
    found = []
    for line in path.read_text().splitlines():
        assert re.match(rf"{TIME} - ", line), line
        found.append(line[22:])
    return found


EPOCH_LINES = [
    r"Duration: \d+:\d\d:\d\d\.\d\d",
    r"Average power usage \(W\) for gpu: \d+\.\d+",
    r"Average power usage \(W\) for cpu: \d+\.\d+",
]
LAST_LINES = [
    re.escape(
        "Carbon intensities (gCO2eq/kWh) fetched every 900 s at detected location: Unknown: "
        "[458.29]"
    ),
    re.escape(AVERAGE),
    r"Monitoring thread ended\.",
]


def test_three_log_files(tmp_path: Path) -> None:
    logs = tmp_path / "new" / "logs"
    train(make(2, verbose=1, log_dir=logs, log_file_prefix="exp1", record=False), 2)
    assert len(list(logs.iterdir())) == 3
    assert_lines(
        "\n".join(messages(log(logs, ""))),
        [
            re.escape(f"carbontracker version {carbontracker.__version__}"),
            (
                r"Only predicted and actual consumptions are multiplied by a PUE coefficient of "
                r"1\.58 \(Daniel Bizo, 2023, Uptime Institute Global Data Center Survey\)\."
            ),
            re.escape(FOUND),
            r"Monitoring thread started\.",
            "Epoch 1:",
            *EPOCH_LINES,
            "Epoch 2:",
            *EPOCH_LINES,
            *LAST_LINES,
        ],
    )
    (diagnostic,) = log(logs, "_err").read_text().splitlines()
    assert re.fullmatch(rf"{TIME},\d{{3}} - MainThread - WARNING - .*", diagnostic)
    assert diagnostic.endswith(UNKNOWN_PLACE.removeprefix("CarbonTracker: WARNING - "))


def test_the_output_log_holds_what_the_console_showed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loud, quiet = tmp_path / "loud", tmp_path / "quiet"
    train(make(1, verbose=1, log_dir=loud), 1)
    shown = capsys.readouterr().out.splitlines()[len(SIMULATED_LINES) :]
    train(make(1, verbose=0, log_dir=quiet), 1)
    text = log(loud, "_output").read_text()
    assert re.sub(rf"^{TIME} - (?=CarbonTracker: )", "", text, flags=re.MULTILINE).splitlines() == (
        shown
    )
    lines = len(shown)
    assert len(log(quiet, "_output").read_text().splitlines()) == lines  # whatever the verbosity


@pytest.mark.parametrize("prefix", ["", "exp1", "two_words"])
def test_log_names_and_modes(tmp_path: Path, prefix: str) -> None:
    logs = tmp_path / "logs"
    before = os.umask(0o027)
    try:
        train(make(1, log_dir=logs, log_file_prefix=prefix, location="DK"), 1)
    finally:
        os.umask(before)
    start = rf"(?:{prefix}_)" if prefix else ""
    files = sorted(path.name for path in logs.glob("*.log"))
    # Nothing went wrong, so that there is no error log.
    assert re.fullmatch(STEM.format(prefix=start, kind=""), files[0])
    assert re.fullmatch(STEM.format(prefix=start, kind="_output"), files[1])
    assert len(files) == 2
    assert files[0].removesuffix(".log") == files[1].removesuffix("_output.log")
    assert str(os.getpid()) in files[0]
    # A group shares a directory: the umask says who may read.
    assert {path.stat().st_mode & 0o777 for path in logs.iterdir()} == {0o640}
    assert logs.stat().st_mode & 0o777 == 0o750


def test_the_last_log_by_name_is_of_the_last_run(tmp_path: Path) -> None:
    names: list[str] = []
    for _ in range(5):
        train(make(1, log_dir=tmp_path, location="DK"), 1)
        (new,) = {path.name for path in tmp_path.glob("*_output.log")}.difference(names)
        names.append(new)
    assert names == sorted(names)
    assert parser.parse_all_logs(tmp_path)[-1]["output_filename"] == str(tmp_path / names[-1])


def test_a_provider_without_a_key_may_have_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARBONTRACKER_OFFLINE", "1")
    tracker = make(1, api_keys={"energidataservice": ""}, location="DK")
    train(tracker, 1)
    assert tracker.result is not None
    assert tracker.result.footprint.intensity.zone == "DK"


def test_the_time_in_the_name_is_utc_and_in_the_lines_local(tmp_path: Path) -> None:
    program = (
        PRELUDE
        + """
tracker = CarbonTracker(1, log_dir=sys.argv[1], **DEVICES)
tracker.epoch_start(); tracker.epoch_end()
"""
    )
    assert python(program, str(tmp_path / "logs"), TZ="Nowhere-9").returncode == 0
    path = log(tmp_path / "logs", "")
    recorded = datetime.fromisoformat(read_record(tmp_path / "logs")[0]["time"])
    named = datetime.strptime(path.name.split("_")[1], "%Y-%m-%dT%H%M%SZ").replace(
        tzinfo=timezone.utc
    )
    local = datetime.strptime(path.read_text()[:19], "%Y-%m-%d %H:%M:%S").replace(
        tzinfo=timezone.utc
    )
    minutes = 60.0
    assert abs((recorded - named).total_seconds()) < minutes
    assert abs((local - named).total_seconds() - 9 * 3600) < minutes


def test_logs_follow_no_change_of_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)
    tracker = make(1, log_dir="logs")
    monkeypatch.chdir(elsewhere)
    train(tracker, 1)
    assert messages(log(tmp_path / "logs", ""))[-1] == "Monitoring thread ended."
    assert list(elsewhere.iterdir()) == []


def test_random_numbers_of_the_training_stay_the_same(tmp_path: Path) -> None:
    state = random.getstate()
    train(make(1, log_dir=tmp_path / "logs"), 1)
    assert random.getstate() == state


def test_an_impossible_log_directory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    blocked = tmp_path / "a-file"
    blocked.write_text("in the way")
    tracker = make(1, log_dir=blocked / "logs", location="DK")
    train(tracker, 1)
    assert len(caplog.messages) == 2
    assert caplog.messages[0].startswith("carbontracker: no record is kept: ")
    assert caplog.messages[1].startswith("carbontracker: no log files are written: ")
    assert_joules(result_of(tracker), WATTS)
    assert blocked.read_text() == "in the way"


def test_deleted_log_files_cause_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logs = tmp_path / "logs"
    tracker = make(3, log_dir=logs, record=False, location="DK")
    train(tracker, 1)
    for path in logs.iterdir():
        path.unlink()
    logs.rmdir()
    train(tracker, 2)
    assert_joules(result_of(tracker), WATTS)
    (warning,) = caplog.messages
    assert warning.startswith("carbontracker: no log files from here on: ")
    assert not logs.exists()


# ---- prediction and end --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epochs_before_pred", "after"), [(1, [1]), (2, [2]), (3, [3]), (-1, [4]), (0, []), (9, [])]
)
def test_when_to_predict(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    epochs_before_pred: int,
    after: list[int],
) -> None:
    tracker = make(4, verbose=1, epochs_before_pred=epochs_before_pred, log_dir=tmp_path)
    train(tracker, 4, seconds=0.01)
    events = read_record(tmp_path)
    predictions = [event for event in events if event["event"] == "prediction"]
    assert [event["after_epochs"] for event in predictions] == after
    out = capsys.readouterr().out
    assert out.count("Predicted consumption for 4 epoch(s):") == len(after)
    forecast = result_of(tracker).forecast
    assert (forecast is not None) == bool(after)
    if forecast is not None and after == [4]:
        assert forecast.prediction.seconds == pytest.approx(result_of(tracker).seconds)
        assert forecast.prediction.epochs == 4


def test_a_prediction_lies_where_the_epochs_do() -> None:
    tracker = make(50, epochs_before_pred=2)
    train(tracker, 3)
    tracker.stop()
    result = result_of(tracker)
    assert result.forecast is not None
    prediction = result.forecast.prediction
    seen = sorted(50 * epoch.seconds for epoch in result.epochs[:2])
    assert 0.95 * seen[0] <= prediction.seconds <= 1.05 * seen[1]
    assert prediction.seconds_95[0] <= prediction.seconds <= prediction.seconds_95[1]
    assert result.forecast.footprint.kwh == pytest.approx(prediction.joules / 3.6e6 * 1.58)


def test_a_prediction_has_the_intensity_from_the_first_epoch_on() -> None:
    tracker = make(3)
    time.sleep(0.05)  # data being prepared
    before = datetime.now(timezone.utc)
    train(tracker, 3)
    forecast = result_of(tracker).forecast
    assert forecast is not None
    assert forecast.footprint.slots[0].start >= before - timedelta(milliseconds=5)
    spent = sum(slot.joules for slot in forecast.footprint.slots)
    assert spent == pytest.approx(forecast.prediction.joules)


def test_monitoring_may_end_before_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = make(5, verbose=1, monitor_epochs=2, log_dir=tmp_path)
    train(tracker, 5, seconds=0.01)
    assert (tracker.deleted, tracker.epoch_counter) == (True, 2)
    assert result_of(tracker).finished_epochs == 2
    out = capsys.readouterr().out
    assert "Predicted consumption for 5 epoch(s):" in out
    assert out.count("Actual consumption for 2 epoch(s):") == 1
    assert not any("interrupted" in message for message in messages(log(tmp_path, "")))


def test_stop_before_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tracker = make(5, verbose=1, log_dir=tmp_path)
    train(tracker, 2)
    tracker.stop()
    tracker.stop()
    out = capsys.readouterr().out
    assert out.count("Actual consumption for 2 epoch(s):") == 1
    assert out.count("Finished monitoring.") == 1
    assert_lines(
        "\n".join(messages(log(tmp_path, ""))[8:]),
        [
            "Epoch 2:",
            *EPOCH_LINES,
            r"Training was interrupted before all 5 epochs were monitored\.",
            *LAST_LINES,
        ],
    )
    assert_joules(result_of(tracker), WATTS)


def test_stop_in_an_epoch_reports_it_as_far_as_it_came(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = make(5, verbose=1, log_dir=tmp_path)
    train(tracker, 1)
    tracker.epoch_start()
    time.sleep(EPOCH_S)
    tracker.stop()
    result = result_of(tracker)
    assert [(epoch.index, epoch.finished) for epoch in result.epochs] == [(1, True), (2, False)]
    assert result.finished_epochs == 1
    assert_joules(result, WATTS)  # the energy of both
    assert result.seconds > result.epochs[0].seconds
    out = capsys.readouterr().out
    pattern = r"^CarbonTracker: Epoch 2 was interrupted after \S+; what it used is included\.$"
    assert re.search(pattern, out, re.MULTILINE)
    assert "Actual consumption for 1 epoch(s):" in out
    recorded = [event for event in read_record(tmp_path) if event["event"] == "epoch"]
    assert [(event["index"], event["finished"]) for event in recorded] == [(1, True), (2, False)]
    assert not any(message == "Epoch 2:" for message in messages(log(tmp_path, "")))


def test_stop_without_any_mark_is_silent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = make(5, verbose=1, log_dir=tmp_path / "logs")
    tracker.stop()
    result = result_of(tracker)
    assert (result.epochs, result.seconds, result.energy.joules) == ((), 0.0, 0.0)
    assert capsys.readouterr() == ("", "")
    assert not (tmp_path / "logs").exists()


def test_an_end_without_a_start_is_no_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    tracker = make(1)
    tracker.epoch_end()
    assert "epoch_end() without epoch_start()" in capsys.readouterr().err
    assert not tracker.deleted
    train(tracker, 1)
    tracker.epoch_end()
    assert result_of(tracker).finished_epochs == 1


def test_nothing_happens_after_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tracker = make(1, verbose=1, log_dir=tmp_path)
    train(tracker, 1)
    result = tracker.result
    files = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    capsys.readouterr()
    train(tracker, 2, seconds=0.0)
    tracker.stop()
    tracker.set_api_keys({"electricitymaps": "k"})
    assert tracker.result is result
    assert (tracker.deleted, tracker.epoch_counter) == (True, 1)
    assert capsys.readouterr() == ("", "")
    assert files == {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}


# ---- for epoch in tracker.epochs() ---------------------------------------------------------


def test_epochs_is_a_number_and_a_loop() -> None:
    tracker = make(3)
    assert isinstance(tracker.epochs, int)
    assert (tracker.epochs, f"{tracker.epochs}", tracker.epochs + 1) == (3, "3", 4)
    seen = []
    for epoch in tracker.epochs():
        time.sleep(EPOCH_S)
        seen.append((epoch, tracker.epoch_counter))
    assert seen == [(0, 1), (1, 2), (2, 3)]
    assert tracker.deleted
    assert result_of(tracker).finished_epochs == 3
    assert_joules(result_of(tracker), WATTS)


def test_leaving_the_loop_ends_monitoring() -> None:
    tracker = make(5)
    for epoch in tracker.epochs():
        if epoch == 2:
            break
    assert tracker.deleted
    assert [epoch.finished for epoch in result_of(tracker).epochs] == [True, True, False]


def test_an_exception_in_the_loop_passes_through() -> None:
    tracker = make(5)

    def fail_in_the_second() -> None:
        for epoch in tracker.epochs():
            _ = 1 / (1 - epoch)

    with pytest.raises(ZeroDivisionError):
        fail_in_the_second()
    # The generator is closed when the last reference to the frame goes, at exit at the latest.
    tracker.stop()
    assert [epoch.finished for epoch in result_of(tracker).epochs] == [True, False]


# ---- stop_and_confirm ----------------------------------------------------------------------


@pytest.mark.parametrize("stdin", ["empty", "closed", "none"])
def test_no_terminal_to_ask_in(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stdin: str
) -> None:
    stream = None if stdin == "none" else io.StringIO()
    if stream is not None and stdin == "closed":
        stream.close()
    monkeypatch.setattr("sys.stdin", stream)
    tracker = make(2, stop_and_confirm=True)
    train(tracker, 2)
    assert result_of(tracker).finished_epochs == 2
    err = capsys.readouterr().err
    assert "stop_and_confirm: no terminal to ask in, going on" in err


CONFIRMING = (
    PRELUDE
    + """
tracker = CarbonTracker(2, stop_and_confirm=True, verbose=int(sys.argv[1]), **DEVICES)
for _ in tracker.epochs():
    pass
print("trained")
"""
)


def in_a_terminal(answers: Sequence[str], verbose: int = 1) -> tuple[str, int]:
    """Run a training that asks, answer each question; return what was shown and the exit code."""
    terminal, end = pty.openpty()
    command = [sys.executable, "-c", CONFIRMING, str(verbose)]
    with subprocess.Popen(command, stdin=end, stdout=end, stderr=end) as process:
        os.close(end)
        shown, asked = "", 0
        left = list(answers)
        with suppress(OSError):  # the terminal's far end was closed: the program has ended
            while data := os.read(terminal, 65536):
                shown += data.decode()
                if len(re.findall(r"y/n\)[?:]\r\n", shown)) > asked and left:
                    asked += 1
                    os.write(terminal, left.pop(0).encode())
        os.close(terminal)
    return shown.replace("\r\n", "\n"), process.returncode


def confirming(*, log_dir: Path, answer: str | None = None, **variables: str) -> list[str]:
    """Run a training that asks without a terminal; return what was printed and the last event."""
    program = (
        PRELUDE
        + """
answer = sys.argv[2] or None
tracker = CarbonTracker(
    3, stop_and_confirm=True, log_dir=sys.argv[1], default_answer=answer, **DEVICES
)
for _ in tracker.epochs():
    pass
print("trained")
"""
    )
    done = python(program, str(log_dir), answer or "", **variables)
    assert done.returncode == 0
    last = read_record(log_dir)[-1]
    assert last["event"] == "run_finished"
    return [str(last["epochs"]), done.stdout.splitlines()[-1], done.stderr]


@pytest.mark.parametrize(
    ("answer", "variable", "goes_on"),
    [
        (None, None, True),
        ("y", None, True),
        ("n", None, False),
        (None, "n", False),
        (None, "No", False),
        ("y", "n", True),
        (None, "perhaps", True),
    ],
)
def test_without_a_terminal_the_configured_answer_is_taken(
    tmp_path: Path, answer: str | None, variable: str | None, goes_on: bool
) -> None:
    variables = {"CARBONTRACKER_ANSWER": variable} if variable else {}
    epochs, last_line, err = confirming(log_dir=tmp_path, answer=answer, **variables)
    expected = ("3", "trained") if goes_on else ("1", "CarbonTracker: Finished monitoring.")
    assert (epochs, last_line) == expected
    ending = "going on" if goes_on else "quitting"
    assert f"stop_and_confirm: no terminal to ask in, {ending}\n" in err


def test_an_unknown_answer_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^default_answer must be y or n, not 'maybe'$"):
        make(default_answer="maybe")


def test_a_job_in_the_background_of_a_terminal_is_not_stopped() -> None:
    program = (
        """
import fcntl, os, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # our terminal, as a shell has one
job = os.fork()
if job:
    _, status = os.waitpid(job, os.WUNTRACED)
    os._exit(99 if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status))
os.setpgid(0, 0)  # in the background: to read from the terminal would stop it
"""
        + PRELUDE
        + """
tracker = CarbonTracker(2, stop_and_confirm=True, **DEVICES)
for _ in tracker.epochs():
    pass
print("trained")
"""
    )
    terminal, end = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            stdin=end,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            start_new_session=True,
        )
    finally:
        os.close(end)
        os.close(terminal)
    assert done.returncode == 0
    assert done.stdout.endswith("trained\n")
    assert "no terminal to ask in, going on" in done.stderr


def test_no_ends_the_program_with_its_result() -> None:
    shown, code = in_a_terminal(["n\n"])
    assert code == 0
    assert "CarbonTracker: Continue training (y/n)?\n" in shown
    assert "CarbonTracker: Quitting...\n" in shown
    assert "Actual consumption for 1 epoch(s):" in shown
    assert "trained" not in shown


def test_yes_goes_on_and_anything_else_asks_again() -> None:
    shown, code = in_a_terminal(["maybe\n", " Y \n"])
    assert code == 0
    assert "CarbonTracker: Input not recognized. Try again (y/n):\n" in shown
    assert "CarbonTracker: Continuing...\n" in shown
    assert "Actual consumption for 2 epoch(s):" in shown
    assert shown.endswith("trained\n")


def test_end_of_input_is_no_answer_and_a_question_is_never_hidden() -> None:
    shown, code = in_a_terminal(["\x04"], verbose=0)
    assert code == 0
    assert "CarbonTracker: Continue training (y/n)?\n" in shown
    assert "CarbonTracker: WARNING - stop_and_confirm: no answer, going on\n" in shown
    assert "Actual consumption" not in shown
    assert shown.endswith("trained\n")


# ---- what goes wrong -----------------------------------------------------------------------


def test_a_failure_of_monitoring_is_not_one_of_the_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("the sensor caught fire")

    tracker = make(3)
    train(tracker, 1)
    monkeypatch.setattr(Run, "end_epoch", fail)
    train(tracker, 2)
    assert tracker.deleted
    err = capsys.readouterr().err
    assert err.count("the sensor caught fire") == 2  # in the source line and in the message
    assert err.endswith("Continued training without monitoring...\n")


def test_a_start_that_fails_does_not_stop_the_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("carbontracker.training.training_run.acquire", fail)
    tracker = make(1)
    train(tracker, 1)
    assert (tracker.deleted, tracker.result) == (True, None)
    err = capsys.readouterr().err
    assert "RuntimeError: can't start new thread" in err
    assert err.endswith("Continued training without monitoring...\n")


def test_a_crash_in_an_epoch_leaves_the_result(tmp_path: Path) -> None:
    program = (
        PRELUDE
        + """
tracker = CarbonTracker(5, log_dir=sys.argv[1], **DEVICES)
tracker.epoch_start(); time.sleep(0.04); tracker.epoch_end()
tracker.epoch_start(); time.sleep(0.04)
raise RuntimeError("out of memory")
"""
    )
    done = python(program, str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.endswith("RuntimeError: out of memory\n")
    assert "Epoch 2 was interrupted after" in done.stdout
    assert "Actual consumption for 1 epoch(s):" in done.stdout
    assert done.stdout.endswith("Finished monitoring.\n")
    last = read_record(tmp_path)[-1]
    assert last["event"] == "run_finished"
    assert_power(last["energy"]["joules"], last["energy"]["error_joules"], last["seconds"])
    assert messages(log(tmp_path, ""))[-1] == "Monitoring thread ended."


def test_a_tracker_that_is_never_stopped_reports_at_exit(tmp_path: Path) -> None:
    program = (
        PRELUDE
        + """
tracker = CarbonTracker(5, log_dir=sys.argv[1], **DEVICES)
tracker.epoch_start(); tracker.epoch_end()
"""
    )
    done = python(program, str(tmp_path), CARBONTRACKER_LOCATION="DK")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Actual consumption for 1 epoch(s):" in done.stdout
    assert done.stdout.endswith("Finished monitoring.\n")
    assert read_record(tmp_path)[-1]["event"] == "run_finished"


def test_an_exit_code_of_the_training_is_kept() -> None:
    program = (
        PRELUDE
        + """
tracker = CarbonTracker(5, **DEVICES)
tracker.epoch_start()
sys.exit(9)
"""
    )
    done = python(program)
    assert done.returncode == 9
    assert "Actual consumption for 0 epoch(s):" in done.stdout


def test_an_interrupted_training_reports_too() -> None:
    program = (
        PRELUDE
        + """
signal.signal(signal.SIGINT, signal.default_int_handler)
tracker = CarbonTracker(5, **DEVICES)
tracker.epoch_start()
os.kill(os.getpid(), signal.SIGINT)
time.sleep(60)
"""
    )
    done = python(program)
    assert done.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in done.stderr
    assert "Actual consumption for 0 epoch(s):" in done.stdout


def test_on_a_terminal_a_line_for_people_follows_the_block_and_no_log_has_it(
    tmp_path: Path,
) -> None:
    program = PRELUDE + (
        "tracker = CarbonTracker(1, intensity=100.0, log_dir=sys.argv[1], epochs_before_pred=0,\n"
        "    **DEVICES)\n"
        "tracker.epoch_start(); time.sleep(0.1); tracker.epoch_end()\n"
    )
    outer, inner = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path], stdout=inner, timeout=TIMEOUT_S, check=False
    )
    os.close(inner)
    text = os.read(outer, 65_536).decode().replace("\r\n", "\n")
    os.close(outer)
    assert done.returncode == 0
    line = r"CarbonTracker: [\d.]+ ± [\d.]+ mWh, [\d.]+ mg CO2eq in \d+ ms\."
    shown = text.splitlines()
    assert re.fullmatch(line, shown[shown.index("Actual consumption:") + 6]), text
    logs = [file.read_text() for file in tmp_path.glob("*.log")]
    assert any("Actual consumption:" in log for log in logs)
    assert not any(re.search(line, log) for log in logs)
