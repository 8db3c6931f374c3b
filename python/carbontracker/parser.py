"""Reads the log files of carbontracker 1.1 to 2.4.7, in the shapes of its ``parser`` module.

What the original gets wrong is put right: the number of epochs, a prediction preferred over what
was measured, devices lost from vectors and names cut at a dot. See ``docs/old-logs.md``.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carbontracker.constants import JOULES_PER_KWH
from carbontracker.exceptions import MismatchedEpochsError, MismatchedLogFilesError
from carbontracker.guard import logger
from carbontracker.records import oldtext

if TYPE_CHECKING:
    import os
    import re
    from collections.abc import Sequence

    Directory = str | os.PathLike[str]
    Consumption = dict[str, Any]

STANDARD = "carbontracker.log"
OUTPUT = "carbontracker_output.log"
AVERAGING = ((2, 0), (3, 0))
"""From and before which versions the power of a component's devices was averaged, not added."""


def parse_all_logs(log_dir: Directory) -> list[dict[str, Any]]:
    """Return one dictionary for each pair of log files, sorted by name.

    Keys: ``output_filename``, ``standard_filename``, ``components`` (see ``parse_logs``),
    ``early_stop``, ``actual`` and ``pred`` (see ``get_consumption``).

    Raises:
        MismatchedLogFilesError: files of one kind only.
        MismatchedEpochsError: a component has another number of powers than there are durations.
    """
    outputs, standards = get_all_logs(log_dir)
    return [_parse_pair(*pair) for pair in zip(outputs, standards, strict=True)]


def _parse_pair(output: str, standard: str) -> dict[str, Any]:
    text = _read(standard)
    _warn_of_averages(text, standard)
    early_stop = get_early_stop(text)
    actual, pred = get_consumption(_read(output))
    ran = len(get_epoch_durations(text))
    if actual is not None and early_stop and _is_upstream(text) and ran > actual["epochs"]:
        actual["epochs"] = ran  # its stop() took one away, and counted its energy
    return {
        "output_filename": output,
        "standard_filename": standard,
        "components": _components(text, standard),
        "early_stop": early_stop,
        "actual": actual,
        "pred": pred,
    }


def parse_logs(
    log_dir: Directory,
    std_log_file: Directory | None = None,
    output_log_file: Directory | None = None,
) -> dict[str, dict[str, Any]]:
    """Return what each component drew: arrays with one row an epoch, and its devices.

    Keys of each: ``avg_power_usages (W)`` and ``avg_energy_usages (J)``, (epochs, 1) or, where a
    version up to 1.2.5 told devices apart, (epochs, devices), without PUE;
    ``epoch_durations (s)``, (epochs,); ``devices``. None where nothing was measured.

    Args:
        log_dir: of which the files written to last are read, unless a file is given.
        std_log_file: the standard log.
        output_log_file: its output log; nothing of this needs it.

    Raises:
        IndexError: there are no log files.
        MismatchedEpochsError: see ``parse_all_logs``.
    """
    if std_log_file is None or output_log_file is None:
        newest, _ = get_most_recent_logs(log_dir)
        std_log_file = newest if std_log_file is None else std_log_file
    text = _read(std_log_file)
    _warn_of_averages(text, str(std_log_file))
    return _components(text, str(std_log_file))


def _components(text: str, file: str) -> dict[str, dict[str, Any]]:
    import numpy as np

    durations, powers, devices = (
        get_epoch_durations(text),
        get_avg_power_usages(text),
        get_devices(text),
    )
    unmeasured = [name for name, rows in oldtext.powers_of(text).items() if _has_nan(rows)]
    if unmeasured:
        logger.warning(
            "carbontracker: %s: the power of %s is None or nan in some epochs, and counted as 0 W "
            "as it always was",
            file,
            " and ".join(unmeasured),
        )
    found: dict[str, dict[str, Any]] = {}
    for name in devices or powers:
        rows = powers.get(name, [])
        if rows and len(rows) != len(durations):
            message = (
                f"{file}: Found {len(rows)} power measurements and {len(durations)} duration "
                "measurements. Expected equal number of measurements."
            )
            raise MismatchedEpochsError(message)
        seconds = np.array(durations) if rows else None
        # Devices come and go between epochs in no version, but a torn line may lose some.
        width = max(map(len, rows), default=0)
        watts = np.array([row + [0.0] * (width - len(row)) for row in rows]) if rows else None
        joules = watts * seconds[:, None] if watts is not None and seconds is not None else None
        found[name] = {
            "avg_power_usages (W)": watts,
            "avg_energy_usages (J)": joules,
            "epoch_durations (s)": seconds,
            "devices": devices.get(name, []),
        }
    return found


def print_aggregate(log_dir: Directory) -> None:
    """Print one sentence for a paper on all log files of a directory."""
    from carbontracker.report.sentence import print_sentence

    print_sentence(*aggregate_consumption(log_dir))


def aggregate_consumption(log_dir: Directory) -> tuple[float, float, dict[str, float]]:
    """Return kWh (with PUE), gCO2eq and equivalents of all trainings in a directory.

    Of each, what was measured counts. A prediction counts only where monitoring ended before the
    training did (``monitor_epochs``), and where nothing else is known. Of a training that was
    killed before its total was written, the epochs that it finished count.
    """
    kwh, grams, equivalents = 0.0, 0.0, dict[str, float]()
    for log in parse_all_logs(log_dir):
        used = _chosen(log)
        if used is None:
            continue
        unknown = [key for key in ("energy (kWh)", "co2eq (g)") if math.isnan(used[key])]
        if unknown:
            logger.warning(
                "carbontracker: %s does not tell its %s: the total lacks it",
                log["output_filename"],
                " and ".join(unknown),
            )
        kwh += _or_zero(used["energy (kWh)"])
        grams += _or_zero(used["co2eq (g)"])
        for words, value in (used["equivalents"] or {}).items():
            equivalents[words] = equivalents.get(words, 0.0) + _or_zero(value)
    return kwh or 0, grams or 0, equivalents


def _chosen(log: dict[str, Any]) -> Consumption | None:
    actual: Consumption | None = log["actual"]
    pred: Consumption | None = log["pred"]
    if actual is None:
        return _finished_epochs(log) or pred
    whole = log["early_stop"] or pred is None or actual["epochs"] >= pred["epochs"]
    return actual if whole else pred


def _finished_epochs(log: dict[str, Any]) -> Consumption | None:
    """Return what the epochs of a killed training have cost; None where that is not known."""
    text = _read(log["standard_filename"])
    pue, pred = oldtext.pue_of(text), log["pred"]
    parts = [one["avg_energy_usages (J)"] for one in log["components"].values()]
    joules = math.fsum(float(part.sum()) for part in parts if part is not None)
    if joules <= 0 or math.isnan(pue):
        return None
    kwh = joules * pue / JOULES_PER_KWH
    share = kwh / pred["energy (kWh)"] if pred and pred["energy (kWh)"] > 0 else math.nan
    grams_per_kwh = oldtext.mean_intensity_of(text)
    grams = kwh * grams_per_kwh
    if math.isnan(grams) and pred:
        grams = share * pred["co2eq (g)"]
    equivalents = (pred or {}).get("equivalents") or {}
    return {
        "energy (kWh)": kwh,
        "co2eq (g)": grams,
        "equivalents": {words: share * value for words, value in equivalents.items()},
    }


def get_all_logs(log_dir: Directory) -> tuple[list[str], list[str]]:
    """Return the output logs and the standard logs that belong together, sorted by name.

    Empty files are passed over, and so is a file whose companion is missing.

    Raises:
        MismatchedLogFilesError: there are files of one kind and none that belongs to them.
    """
    files = [path for path in Path(log_dir).iterdir() if path.is_file() and path.stat().st_size]
    outputs = {path.name[: -len(OUTPUT)]: path for path in files if path.name.endswith(OUTPUT)}
    standards = {path.name[: -len(STANDARD)]: path for path in files if _is_standard(path)}
    both = sorted(set(outputs) & set(standards))
    if not both and (outputs or standards):
        message = (
            f"{log_dir} has {len(standards)} standard and {len(outputs)} output logs, none of "
            "which belong together"
        )
        raise MismatchedLogFilesError(message)
    alone = sorted(path.name for name, path in (outputs | standards).items() if name not in both)
    if alone:
        logger.warning("carbontracker: log files without a companion: %s", ", ".join(alone))
    return [str(outputs[name]) for name in both], [str(standards[name]) for name in both]


def get_most_recent_logs(log_dir: Directory) -> tuple[str, str]:
    """Return the standard log and the output log that were written to last.

    Raises:
        IndexError: there are none.
    """
    outputs, standards = get_all_logs(log_dir)
    pairs = sorted(zip(standards, outputs, strict=True), key=lambda p: Path(p[0]).stat().st_mtime)
    return pairs[-1]


def get_consumption(
    output_log_data: str,
) -> tuple[Consumption | None, Consumption | None]:
    """Return what an output log says was used, and what was predicted; None for neither.

    Keys: ``epochs``, ``duration (s)``, ``energy (kWh)`` with PUE, ``co2eq (g)`` and
    ``equivalents``, a dictionary or None. Of several blocks the last counts.
    """
    actual = pred = None
    for block in oldtext.blocks_of(output_log_data):
        if block.actual:
            actual = _consumption(block)
        else:
            pred = _consumption(block)
    return actual, pred


def _consumption(block: oldtext.Block) -> Consumption:
    return {
        "epochs": 1 if block.epochs is None else block.epochs,
        "duration (s)": block.seconds,
        "energy (kWh)": block.kwh,
        "co2eq (g)": block.gco2eq,
        "equivalents": block.equivalents,
    }


def get_early_stop(std_log_data: str) -> bool:
    """Return whether a standard log says that the training was interrupted."""
    return oldtext.INTERRUPTED in std_log_data


def get_epoch_durations(std_log_data: str) -> list[float]:
    """Return the duration of each epoch, s."""
    return oldtext.durations_of(std_log_data)


def get_avg_power_usages(std_log_data: str) -> dict[str, list[list[float]]]:
    """Return by component the watts of each epoch; ``None`` in a log is ``[0.0]``, as always."""
    return {
        name: [[_or_zero(watts) for watts in row] for row in rows]
        for name, rows in oldtext.powers_of(std_log_data).items()
    }


def get_devices(std_log_data: str) -> dict[str, list[str]]:
    """Return the names of each component's devices."""
    return oldtext.devices_of(std_log_data)


def get_time(time_str: str) -> float | None:
    """Return the seconds of ``H:MM:SS`` or ``H:MM:SS.ss``; None if it is neither."""
    return oldtext.seconds_of(time_str)


def get_stats(groups: Sequence[str]) -> tuple[float | None, float, float]:
    """Return seconds, kWh and grams of the words of a block."""
    time, energy, co2eq = groups[:3]
    return oldtext.seconds_of(time), oldtext.figure(energy), oldtext.figure(co2eq)


def extract_measurements(match: re.Match[str] | None) -> Consumption | None:
    """Return the consumption in the block of an output log that a pattern has matched."""
    block = next(oldtext.blocks_of(match[0]), None) if match else None
    return _consumption(block) if block else None


def parse_equivalents(lines: str) -> dict[str, float] | None:
    """Return number by words of the lines below ``This is equivalent to:``; None if none."""
    return oldtext.equivalents_of(lines.splitlines())


def _is_standard(path: Path) -> bool:
    return path.name.endswith(STANDARD) and not path.name.endswith(OUTPUT)


def _is_upstream(text: str) -> bool:
    version = oldtext.version_of(text)
    return version is None or version < (3,)


def _warn_of_averages(text: str, file: str) -> None:
    version = oldtext.version_of(text)
    if version is None or not AVERAGING[0] <= version < AVERAGING[1]:
        return
    told_apart = {
        name for name, rows in oldtext.powers_of(text).items() if any(len(row) > 1 for row in rows)
    }
    many = {
        name: len(names)
        for name, names in oldtext.devices_of(text).items()
        if len(names) > 1 and name not in told_apart
    }
    if many:
        logger.warning(
            "carbontracker: %s: version %s averaged the power of %s instead of adding it; what "
            "was drawn is about that many times as much",
            file,
            ".".join(map(str, version)),
            " and ".join(f"{count} devices of {name}" for name, count in many.items()),
        )


def _has_nan(rows: list[list[float]]) -> bool:
    return any(math.isnan(watts) for row in rows for watts in row)


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def _read(path: Directory) -> str:
    # Names of devices were written in whatever encoding the machine had.
    return Path(path).read_text(encoding="utf-8", errors="replace")
