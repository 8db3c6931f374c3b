"""Old logs: a corpus of every documented variant, parsed to exact values in upstream's shapes."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontracker import parser
from carbontracker.exceptions import MismatchedEpochsError, MismatchedLogFilesError
from carbontracker.legacy.log_text import figures
from carbontracker.report.console_text import timestring
from carbontracker.tracker import CarbonTracker
from tests.data.oldlogs.make import CASES, corpus
from tests.support.programs import DEVICES, TIMEOUT_S, hide_sensors
from tests.support.records import PUE, Made

CORPUS = Path(__file__).parent / "data" / "oldlogs"
EXPECTED: dict[str, Any] = json.loads((CORPUS / "expected.json").read_text())
LOGS = {
    Path(log["standard_filename"]).name.removesuffix("_carbontracker.log"): log
    for log in parser.parse_all_logs(CORPUS)
}


def plain(value: Any) -> Any:
    """Return arrays as lists, and NaN as None."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def nulls(value: Any) -> Any:
    """Return NaN as None in what JSON gave."""
    return plain(value)


# ---- the corpus ----------------------------------------------------------------------------


def test_the_corpus_is_what_its_script_makes() -> None:
    texts = corpus()
    names = {path.name for path in CORPUS.iterdir() if path.suffix in (".log", ".json")}
    assert names == set(texts)
    assert len(names) - 1 >= 40
    for name, text in texts.items():
        assert (CORPUS / name).read_bytes() == text.encode()
    versions = {case.version for case in CASES if case.version}
    assert {"1.1.0", "1.1.2", "1.2.5", "2.0.0", "2.3.1", "2.4.7"} - {"1.1.0"} <= versions


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_every_log_is_parsed_to_its_values(name: str) -> None:
    log, expected = LOGS[name], EXPECTED[name]
    assert log["early_stop"] is expected["early_stop"]
    assert plain(log["actual"]) == nulls(expected["actual"])
    assert plain(log["pred"]) == nulls(expected["pred"])
    assert list(log["components"]) == list(expected["components"])
    for component, found in log["components"].items():
        known = expected["components"][component]
        assert found["devices"] == known["devices"]
        assert plain(found["avg_power_usages (W)"]) == known["watts"]
        assert plain(found["avg_energy_usages (J)"]) == known["joules"]
        assert plain(found["epoch_durations (s)"]) == known["durations"]


def test_the_shapes_are_upstreams() -> None:
    log = LOGS["v2.4.7-plain"]
    assert list(log) == [
        "output_filename",
        "standard_filename",
        "components",
        "early_stop",
        "actual",
        "pred",
    ]
    gpu = log["components"]["gpu"]
    assert gpu["avg_power_usages (W)"].shape == (3, 1)
    assert gpu["avg_energy_usages (J)"].shape == (3, 1)
    assert gpu["epoch_durations (s)"].shape == (3,)
    assert list(log["actual"]) == [
        "epochs",
        "duration (s)",
        "energy (kWh)",
        "co2eq (g)",
        "equivalents",
    ]
    many = LOGS["v1.2.5-sixteen-gpus"]["components"]["gpu"]["avg_power_usages (W)"]
    assert many.shape == (1, 16)
    assert many.sum() == sum(100.5 + i for i in range(16))


def test_versions_that_averaged_are_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        parser.parse_all_logs(CORPUS)
    warned = {
        Path(message.split(": ")[1]).name.removesuffix("_carbontracker.log")
        for message in caplog.messages
        if "averaged" in message
    }
    assert warned == {
        "v2.0.0-four-gpus-averaged",
        "v2.1.2-dram-averaged",
        "v2.3.0-names-and-more",
    }


# ---- totals --------------------------------------------------------------------------------


def only(tmp_path: Path, *names: str) -> Path:
    for name in names:
        for kind in ("", "_output"):
            shutil.copy(CORPUS / f"{name}_carbontracker{kind}.log", tmp_path)
    return tmp_path


def test_a_measurement_counts_before_a_prediction(tmp_path: Path) -> None:
    kwh, grams, equivalents = parser.aggregate_consumption(
        only(tmp_path, "v2.4.7-measured-beats-predicted")
    )
    assert (kwh, grams) == (0.00009218, 0.0410201)
    assert equivalents == {"km travelled by car": 0.000384083333}


def test_a_prediction_counts_where_monitoring_ended_before_the_training(tmp_path: Path) -> None:
    assert parser.aggregate_consumption(only(tmp_path, "v2.4.7-monitored-in-part"))[0] == 0.0395


def test_an_interrupted_run_counts_as_measured(tmp_path: Path) -> None:
    assert parser.aggregate_consumption(only(tmp_path, "v2.4.7-ended-by-user"))[0] == 0.000395


def test_a_killed_training_counts_its_finished_epochs(tmp_path: Path) -> None:
    kwh, grams, _ = parser.aggregate_consumption(only(tmp_path, "v2.4.7-killed"))
    assert kwh == pytest.approx(360 * (2.50 + 2.51) * 1.58 / 3.6e6)
    assert grams == pytest.approx(kwh * 445)


def test_logs_without_equivalents_count(tmp_path: Path) -> None:
    assert parser.aggregate_consumption(only(tmp_path, "v2.3.1-not-interpretable")) == (
        0.001185072779,
        0.570020006556,
        {},
    )


def test_missing_figures_of_a_log_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert parser.aggregate_consumption(only(tmp_path, "v3.0.0-not-measured")) == (0, 0, {})
    assert "does not give its energy (kWh) and co2eq (g)" in caplog.text


SENTENCE = (
    "The training of models in this work is estimated to use 0.0011850727790000 kWh of "
    "electricity contributing to 0.0005273573866550 kg of CO2eq. This is equivalent to "
    "0.0049378032460000 km travelled by car. Measured by carbontracker "
    "(Anthony, Kanding and Selvan 2020, arXiv:2007.03051).\n"
)


def test_the_sentence_is_that_of_upstream(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser.print_aggregate(only(tmp_path, "v2.4.7-plain"))
    assert capsys.readouterr().out == SENTENCE


@pytest.mark.parametrize(
    "words", [["--parse", "{}"], ["--parse={}"], ["--log_dir", "x", "--parse", "{}"]]
)
def test_the_command_line_prints_it_too(tmp_path: Path, words: list[str]) -> None:
    only(tmp_path, "v2.4.7-plain")
    command = [sys.executable, "-m", "carbontracker", *(word.format(tmp_path) for word in words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    assert done.stdout == SENTENCE


def test_several_equivalents_are_joined(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser.print_aggregate(only(tmp_path, "v3.0.0-more-equivalents"))
    assert "0.0016460000000000 km travelled by car or 0.0215000000000000 smartphone charges." in (
        capsys.readouterr().out
    )


# ---- each training once --------------------------------------------------------------------

FIRST = "{}_2022-03-01T100000Z"
SECOND = "{}_2022-03-01T100003Z"
THIRD = "{}_2022-03-01T100006Z"
OF_THREE = 0.000043 + 0.000086 + 0.000129
GRAMS_OF_THREE = 0.020455 + 0.040983 + 0.061434


@pytest.mark.parametrize("pid", [4711, 4712])
@pytest.mark.parametrize(
    "names", [(FIRST, SECOND, THIRD), (FIRST,), (FIRST, THIRD), (FIRST, SECOND)]
)
def test_trackers_of_one_process_count_once(
    tmp_path: Path, pid: int, names: tuple[str, ...]
) -> None:
    """The first file has what all three wrote, so that it is enough."""
    kwh, grams, equivalents = parser.aggregate_consumption(
        only(tmp_path, *(name.format(pid) for name in names))
    )
    assert kwh == pytest.approx(OF_THREE)
    assert grams == pytest.approx(GRAMS_OF_THREE)
    assert equivalents == {"km travelled by car": pytest.approx(0.000190 + 0.000381 + 0.000571)}


def test_the_same_figures_of_two_processes_count_twice(tmp_path: Path) -> None:
    only(tmp_path, THIRD.format(4711))
    for kind in ("", "_output"):
        name = f"{THIRD.format(4711)}_carbontracker{kind}.log"
        shutil.copy(tmp_path / name, tmp_path / name.replace("4711", "4799"))
    assert parser.aggregate_consumption(tmp_path)[0] == pytest.approx(2 * 0.000129)


def test_trackers_that_share_a_file_write_every_line_twice(tmp_path: Path) -> None:
    """Up to 1.1.2 a file's name has the minute only: two handlers append to one file."""
    for kind in ("", "_output"):
        texts = [
            (CORPUS / f"{name.format(4711)}_carbontracker{kind}.log").read_text()
            for name in (FIRST, SECOND, THIRD)
        ]
        first, second = texts[0].removesuffix(texts[1]), texts[1].removesuffix(texts[2])
        entries = re.split(r"(?m)^(?=2022-)", second)
        text = first + "".join(entry * 2 for entry in entries)
        (tmp_path / f"2022-03-01T10:00Z_carbontracker{kind}.log").write_text(text)
    assert parser.aggregate_consumption(tmp_path)[0] == pytest.approx(0.000043 + 0.000086)
    (log,) = parser.parse_all_logs(tmp_path)
    assert log["actual"]["energy (kWh)"] == 0.000043
    assert log["components"]["gpu"]["epoch_durations (s)"].tolist() == [1.0]


def test_trackers_with_prefixes_share_the_output_logs_only(tmp_path: Path) -> None:
    standards = []
    for index, name in enumerate((FIRST, SECOND, THIRD)):
        stem, prefixed = name.format(4711), f"{'abc'[index]}_{name.format(4711)}"
        shutil.copy(
            CORPUS / f"{stem}_carbontracker_output.log",
            tmp_path / f"{prefixed}_carbontracker_output.log",
        )
        text = (CORPUS / f"{stem}_carbontracker.log").read_text()
        standards.append((tmp_path / f"{prefixed}_carbontracker.log", text))
    for (path, text), later in zip(
        standards, [text for _, text in standards[1:]] + [""], strict=True
    ):
        path.write_text(text.removesuffix(later))
    assert parser.aggregate_consumption(tmp_path)[0] == pytest.approx(OF_THREE)


def test_a_tracker_that_is_open_while_another_ends_counts_once(tmp_path: Path) -> None:
    stamp = "2022-03-01 10:00:0{} - "
    begin = "CarbonTracker: The following components were found: GPU with device(s) A.\n"
    block = (
        "CarbonTracker: \n{} consumption for {} epoch(s):\n\tTime:\t0:00:0{}\n"
        "\tEnergy:\t{} kWh\n\tCO2eq:\t1.0 g\n"
    )
    outer = [
        (0, begin),
        (1, block.format("Predicted", 3, 9, "0.9")),
        (2, begin),
        (4, block.format("Actual", 1, 2, "0.2")),
        (8, block.format("Actual", 3, 8, "0.8")),
    ]
    head = "carbontracker version 1.2.5\n"
    for stem, entries, heads in (
        ("7_2022-03-01T100000Z", outer, (0, 2)),
        ("7_2022-03-01T100002Z", outer[2:], (2,)),
    ):
        text = "".join(stamp.format(at) + words for at, words in entries)
        (tmp_path / f"{stem}_carbontracker_output.log").write_text(text)
        text = "".join(stamp.format(at) + head for at in heads)
        (tmp_path / f"{stem}_carbontracker.log").write_text(text)
    assert parser.aggregate_consumption(tmp_path)[0] == pytest.approx(0.2 + 0.8)


def test_an_empty_output_log_is_no_error(tmp_path: Path) -> None:
    kwh, grams, equivalents = parser.aggregate_consumption(only(tmp_path, "v1.1.7-silent"))
    assert kwh == pytest.approx(1000 * 3 * 1.1 * 1.55 / 3.6e6)
    assert grams == pytest.approx(kwh * 475)
    assert equivalents == {}


# ---- averages undone -----------------------------------------------------------------------


def test_an_average_of_devices_is_made_a_sum(tmp_path: Path) -> None:
    only(tmp_path, "v2.0.0-four-gpus-averaged")
    assert parser.aggregate_consumption(tmp_path)[0] == 0.000219
    kwh, grams, equivalents = parser.corrected_consumption(tmp_path)
    assert kwh == pytest.approx(4 * 0.000219)
    assert kwh == pytest.approx(1000 * 2 * 1.58 / 3.6e6, rel=3e-3)  # written with six decimals
    assert grams == pytest.approx(4 * 0.105550)
    assert equivalents == {"km travelled by car": pytest.approx(4 * 0.000982)}


def test_each_component_is_corrected_by_its_own_devices(tmp_path: Path) -> None:
    only(tmp_path, "v2.3.0-names-and-more")  # two GPUs at a mean of 240 W, one processor of 120 W
    factor = (2 * 240 + 120) / (240 + 120)
    assert parser.corrected_consumption(tmp_path)[0] == pytest.approx(factor * 0.00158)


@pytest.mark.parametrize("name", ["v1.2.5-four-gpus", "v2.4.7-plain", "v2.3.1-numpy2-vector"])
def test_sums_and_single_devices_stay(tmp_path: Path, name: str) -> None:
    only(tmp_path, name)
    assert parser.corrected_consumption(tmp_path) == parser.aggregate_consumption(tmp_path)


# ---- what else there may be in a directory -------------------------------------------------

CONSOLE = """\
Loading cuda
CarbonTracker: The following components were found: GPU with device(s) A100.
CarbonTracker: 
Actual consumption for 1 epoch(s):
\tTime:\t8:00:33
\tEnergy:\t2.800010 kWh
\tCO2eq:\t299.601022 g
\tThis is equivalent to:
\t2.786986 km travelled by car
CarbonTracker: Finished monitoring.
"""  # noqa: W291  # as it was written


def parsed(directory: Path) -> subprocess.CompletedProcess[str]:
    """Run ``carbontracker --parse`` on a directory."""
    command = [sys.executable, "-m", "carbontracker", "--parse", str(directory)]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "utf-32"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_logs_in_other_encodings_are_read(tmp_path: Path, encoding: str, newline: str) -> None:
    only(tmp_path, "v2.4.7-plain", FIRST.format(4712))
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_text().replace("\n", newline).encode(encoding))
    assert parser.aggregate_consumption(tmp_path)[0] == pytest.approx(0.001185072779 + OF_THREE)
    assert parser.parse_all_logs(tmp_path)[1]["components"]["gpu"]["devices"] == ["NVIDIA A100"]


@pytest.mark.parametrize("name", ["job.126.out", "slurm-4.out", "nohup", "run.o4711", "out.txt"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_console_output_counts_without_a_log(tmp_path: Path, name: str, encoding: str) -> None:
    (tmp_path / name).write_text(CONSOLE, encoding=encoding)
    (tmp_path / "notes.md").write_text(CONSOLE)
    done = parsed(tmp_path)
    assert done.returncode == 0
    assert f"use {2.80001:.16f} kWh" in done.stdout
    assert "the console output of 1 training(s) without log files counts" in done.stderr
    assert "1 training(s)" in done.stderr


def test_console_output_of_a_logged_training_counts_once(tmp_path: Path) -> None:
    only(tmp_path, "v2.4.7-plain")
    logged = (tmp_path / "v2.4.7-plain_carbontracker_output.log").read_text()
    (tmp_path / "job.1.out").write_text(re.sub(r"(?m)^\S+ \S+ - ", "", logged))
    assert parser.aggregate_consumption(tmp_path)[0] == 0.001185072779
    (tmp_path / "job.2.out").write_text(CONSOLE)
    assert parser.aggregate_consumption(tmp_path)[0] == pytest.approx(2.80001 + 0.001185072779)


@pytest.mark.parametrize("name", ["", "a_carbontracker", "job.out", "other.txt"])
def test_logs_without_a_figure_are_reported_with_exit_code_1(tmp_path: Path, name: str) -> None:
    if name == "a_carbontracker":
        (tmp_path / f"{name}.log").write_text("what another program said\n")
        (tmp_path / f"{name}_output.log").write_text("and this\n")
    elif name:
        (tmp_path / name).write_text("nothing of ours\n")
    done = parsed(tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "so the total is unknown" in done.stderr


def test_logs_without_energy_give_no_sentence(tmp_path: Path) -> None:
    only(tmp_path, "v3.0.0-not-measured")
    done = parsed(tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "1 training(s) without energy" in done.stderr


def test_a_directory_of_records_gives_their_total(tmp_path: Path) -> None:
    Made("aaaa000011112222", (1000.0, 1000.0)).write(tmp_path)
    done = parsed(tmp_path)
    assert done.returncode == 0
    assert f"use {2000 * PUE / 3.6e6:.16f} kWh" in done.stdout
    assert "1 run(s): 833 ± 17 mWh, 83.3 mg CO2eq." in done.stderr


# ---- files ---------------------------------------------------------------------------------


def test_an_empty_directory_has_nothing(tmp_path: Path) -> None:
    assert parser.parse_all_logs(tmp_path) == []
    assert parser.get_all_logs(tmp_path) == ([], [])
    assert parser.aggregate_consumption(tmp_path) == (0, 0, {})
    with pytest.raises(IndexError):
        parser.parse_logs(tmp_path)
    with pytest.raises(FileNotFoundError):
        parser.parse_all_logs(tmp_path / "nowhere")


def test_files_belong_together_by_their_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    only(tmp_path, "v2.4.7-plain")
    (tmp_path / "a_carbontracker.log").write_text("2023-01-01 00:00:00 - Epoch 1:\n")
    (tmp_path / "z_carbontracker_output.log").write_text("x")
    (tmp_path / "b_carbontracker.log").touch()  # both empty: passed over
    (tmp_path / "b_carbontracker_output.log").touch()
    (log,) = parser.parse_all_logs(tmp_path)
    assert Path(log["standard_filename"]).name == "v2.4.7-plain_carbontracker.log"
    assert "without a companion: a_carbontracker.log, z_carbontracker_output.log" in caplog.text


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a_carbontracker.log").write_text("x")
    with pytest.raises(MismatchedLogFilesError, match="1 standard and 0 output logs"):
        parser.parse_all_logs(tmp_path)


def test_the_newest_pair_is_read(tmp_path: Path) -> None:
    only(tmp_path, "v2.4.7-plain", "v1.2.5-four-gpus")
    os.utime(tmp_path / "v2.4.7-plain_carbontracker.log", (1, 1))
    assert parser.parse_logs(tmp_path)["gpu"]["avg_power_usages (W)"].shape == (2, 4)
    chosen = tmp_path / "v2.4.7-plain_carbontracker.log"
    assert parser.parse_logs(tmp_path, std_log_file=chosen)["gpu"]["devices"] == ["NVIDIA A100"]


def test_lines_that_do_not_add_up_are_refused(tmp_path: Path) -> None:
    only(tmp_path, "v2.4.7-plain")
    path = tmp_path / "v2.4.7-plain_carbontracker.log"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if "gpu: 241.5" not in line))
    message = f"{path}: Found 2 power measurements and 3 duration measurements. Expected equal"
    with pytest.raises(MismatchedEpochsError, match=re.escape(message)):
        parser.parse_all_logs(tmp_path)


def test_files_without_a_time_stamp_hold_nothing(tmp_path: Path) -> None:
    """Another program may call its files so."""
    only(tmp_path, "v2.4.7-plain")
    for name in ("a_carbontracker.log", "a_carbontracker_output.log"):
        (tmp_path / name).write_text("what another program said\n")
    logs = parser.parse_all_logs(tmp_path)
    assert [log["components"] for log in logs if "a_" in Path(log["standard_filename"]).name] == [
        {}
    ]


def test_an_endless_count_is_ignored(tmp_path: Path) -> None:
    only(tmp_path, "v2.4.7-plain")
    path = tmp_path / "v2.4.7-plain_carbontracker_output.log"
    path.write_text(re.sub(r"for \d+ epoch", f"for {'9' * 400} epoch", path.read_text()))
    (log,) = parser.parse_all_logs(tmp_path)
    assert log["actual"]["energy (kWh)"] > 0


def test_names_in_another_encoding_are_read(tmp_path: Path) -> None:
    only(tmp_path, "v2.4.7-plain")
    path = tmp_path / "v2.4.7-plain_carbontracker.log"
    path.write_bytes(path.read_bytes().replace(b"NVIDIA A100", b"NVIDIA\xae A100"))
    assert parser.parse_logs(tmp_path)["gpu"]["devices"] == ["NVIDIA\ufffd A100"]


# ---- parts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0:00:02.50", 2.5),
        ("1:00:00", 3600.0),
        ("123:04:05.67", 443045.67),
        ("-0:00:05", -5.0),
        ("1:2", None),
        ("soon", None),
    ],
)
def test_times(text: str, seconds: float | None) -> None:
    assert parser.get_time(text) == seconds


@given(st.integers(0, 10**9))
def test_every_time_that_was_written_is_read(hundredths: int) -> None:
    seconds = hundredths / 100
    assert parser.get_time(timestring(seconds, with_fraction=True)) == pytest.approx(seconds)


VECTORS = st.lists(st.floats(0, 1e4, width=32), min_size=1, max_size=40)


@given(VECTORS, st.sampled_from(["array", "list", "repr"]))
def test_every_way_numpy_writes_a_vector_is_read(values: list[float], way: str) -> None:
    array = np.array(values)
    written = {
        "array": str(array),
        "list": str([np.float64(value) for value in values]),
        "repr": repr(array),
    }[way]
    # numpy rounds to eight digits in an array, and shortens none under a thousand entries.
    assert figures(written) == pytest.approx(values, rel=1e-3, abs=1e-4)
    line = f"2023-01-01 00:00:00 - Average power usage (W) for gpu: {written}\n"
    (row,) = parser.get_avg_power_usages(line)["gpu"]
    assert len(row) == len(values)


def test_none_is_read_as_zero_as_in_upstream() -> None:
    line = "2023-01-01 00:00:00 - Average power usage (W) for cpu: None\n"
    assert parser.get_avg_power_usages(line) == {"cpu": [[0.0]]}


def test_what_this_version_writes_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_sensors(monkeypatch, tmp_path)
    tracker = CarbonTracker(2, verbose=0, log_dir=tmp_path / "logs", location="DK", **DEVICES)
    for _ in tracker.epochs():
        pass
    (log,) = parser.parse_all_logs(tmp_path / "logs")
    assert tracker.result is not None
    assert log["actual"]["epochs"] == 2
    assert log["actual"]["energy (kWh)"] == pytest.approx(tracker.result.footprint.kwh, abs=1e-12)
    assert log["components"]["gpu"]["devices"] == ["NVIDIA A100"]
    assert len(log["components"]["cpu"]["epoch_durations (s)"]) == 2


def test_names_with_dots_and_commas_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_sensors(monkeypatch, tmp_path)
    name = "Xeon(R) E5-2680 v4 @ 2.40GHz, 2.0 (TM)"
    devices = DEVICES | {"sim_cpu": name, "sim_gpu": "A 1.5"}
    tracker = CarbonTracker(1, verbose=0, log_dir=tmp_path / "logs", location="DK", **devices)
    for _ in tracker.epochs():
        pass
    (log,) = parser.parse_all_logs(tmp_path / "logs")
    assert {kind: one["devices"] for kind, one in log["components"].items()} == {
        "gpu": ["A 1.5"],
        "cpu": [name],
    }
    # For upstream's parser a dot ends a component, a comma a device.
    text = Path(log["standard_filename"]).read_text(encoding="utf-8")
    (line,) = re.findall(r"components were found: (.*)", text)
    assert (line.count("."), line.count(",")) == (2, 0)


BLOCK = """\
2026-01-02 03:04:05 - CarbonTracker: Actual consumption for 3 epoch(s):
\tTime:\t0:00:07
\tEnergy:\t0.25 kWh
\tCO2eq:\t40.5 g
"""


@pytest.mark.parametrize(
    ("below", "equivalents"),
    [
        ("\tThis is equivalent to:\n\t0.3 km travelled by car\n", {"km travelled by car": 0.3}),
        ("\tThis is equivalent to:\n", {}),
        ("", None),
    ],
)
def test_equivalents_of_a_block(below: str, equivalents: dict[str, float] | None) -> None:
    actual, _ = parser.get_consumption(BLOCK + below)
    assert actual is not None
    assert actual["equivalents"] == equivalents


def test_functions_for_parts_of_a_log_take_what_those_of_upstream_do() -> None:
    assert parser.get_stats(["", "", "0.25", "40.5"]) == (0.25, 40.5, None)
    assert parser.get_stats(["", "", "0.25", "40.5", " 2 km\n"]) == (0.25, 40.5, {"km": 2.0})
    assert parser.parse_equivalents("") == {}
    stamp = "2026-01-02 03:04:05 - "
    below = f"{stamp}Epoch 1:\nDuration: 0:00:07.50\n    {stamp}Epoch 2:\n    Duration: 0:01:00\n"
    assert parser.get_epoch_durations(below) == [7.5, 60.0]
    found = "CarbonTracker: The following components were found: GPU with device(s) A, B."
    assert parser.get_devices(f"{stamp}{found}\n    {stamp}more") == {"gpu": ["A", "B"]}


def test_empty_logs_have_no_components(tmp_path: Path) -> None:
    with pytest.raises(IndexError):
        parser.parse_logs(tmp_path)
    for name in ("a_carbontracker.log", "a_carbontracker_output.log"):
        (tmp_path / name).touch()
    assert parser.parse_logs(tmp_path) == {}


def test_durations_are_there_without_powers(tmp_path: Path) -> None:
    stamp = "2026-01-02 03:04:05 - "
    for name in ("a_carbontracker.log", "a_carbontracker_output.log"):
        (tmp_path / name).write_text(
            f"{stamp}The following components were found: CPU with device(s) c.\n"
            f"{stamp}Epoch 1:\n{stamp}Duration: 0:00:07.50\n"
        )
    (cpu,) = parser.parse_logs(tmp_path).values()
    assert cpu["avg_power_usages (W)"] is None
    assert cpu["epoch_durations (s)"].tolist() == [7.5]


def test_missing_energy_has_no_line_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_sensors(monkeypatch, tmp_path)
    tracker = CarbonTracker(1, verbose=0, log_dir=tmp_path / "logs", components="gpu")
    for _ in tracker.epochs():
        pass
    (path,) = (tmp_path / "logs").glob("*_output.log")
    text = path.read_text()
    assert "Actual consumption for 1 epoch(s):\n\tTime:" in text
    assert not re.search("Energy:|CO2eq:|equivalent|km", text)
    actual, _ = parser.get_consumption(text)
    assert actual is not None
    assert math.isnan(actual["energy (kWh)"])
    assert parser.aggregate_consumption(tmp_path / "logs") == (0, 0, {})
