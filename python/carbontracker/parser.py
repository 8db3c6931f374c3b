"""Reads the log files of carbontracker 1.1 to 2.4.7, in the shapes of its ``parser`` module.

Errors of the original are corrected: the number of epochs, a prediction preferred over a
measurement, devices lost from vectors, and names cut at a dot. See ``docs/old-logs.md``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from carbontracker.constants import JOULES_PER_KWH
from carbontracker.exceptions import MismatchedEpochsError, MismatchedLogFilesError
from carbontracker.guard import logger
from carbontracker.legacy import log_text
from carbontracker.legacy.log_text import OUTPUT, STANDARD, averaged_counts, averaged_factor

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from datetime import datetime

    Directory = str | os.PathLike[str]
    Consumption = dict[str, Any]

ERRORS = "carbontracker_err.log"
MAX_JOB_OUTPUT_BYTES = 64 * 1024 * 1024
"""A larger file beside the logs is not read."""
_JOB_OUTPUT = re.compile(r"[^.]+|.*\.(out|log|txt|err|[oe]\d+)(\.\d+)?", re.IGNORECASE)
"""Names of files with the console output of a job."""
_PROCESS = re.compile(r"(?:^|_)(\d+)(?:\.\d+)?_\d{4}-\d\d-\d\dT[\d:]+Z?_$")


@dataclass
class Used:
    """An amount of electricity and its emissions."""

    kwh: float = 0.0
    """With PUE."""
    gco2eq: float = 0.0
    equivalents: dict[str, float] = field(default_factory=dict)

    def add(self, consumption: Consumption, factor: float) -> None:
        """Add ``factor`` times what is known of a consumption."""
        self.kwh += factor * _or_zero(consumption["energy (kWh)"])
        self.gco2eq += factor * _or_zero(consumption["co2eq (g)"])
        for words, value in (consumption["equivalents"] or {}).items():
            if not math.isnan(value):
                self.equivalents[words] = self.equivalents.get(words, 0.0) + factor * value

    def as_tuple(self) -> tuple[float, float, dict[str, float]]:
        """Return the tuple of ``aggregate_consumption``."""
        return self.kwh or 0, self.gco2eq or 0, self.equivalents


@dataclass
class LogTotal:
    """The consumption of the trainings of a directory, as their logs say."""

    written: Used = field(default_factory=Used)
    corrected: Used = field(default_factory=Used)
    """See ``corrected_consumption``."""
    trainings: int = 0
    """Trainings with a known energy."""
    unknown: int = 0
    """Trainings whose logs give no energy."""
    averaged: int = 0
    """Trainings whose averaged power of several devices was converted to a sum."""

    def add(self, other: LogTotal) -> None:
        """Add the total of another directory."""
        for mine, theirs in ((self.written, other.written), (self.corrected, other.corrected)):
            kwh, gco2eq, equivalents = theirs.as_tuple()
            used = {"energy (kWh)": kwh, "co2eq (g)": gco2eq, "equivalents": equivalents}
            mine.add(used, 1.0)
        self.trainings += other.trainings
        self.unknown += other.unknown
        self.averaged += other.averaged


class Recorded(NamedTuple):
    """What tells the log files of a recorded run apart from others."""

    pid: int | None
    start: datetime
    """When monitoring began, UTC."""
    kwh: float
    """With PUE."""


@dataclass(frozen=True)
class _Training:
    """The logs of one tracker."""

    output_filename: str
    output: str
    standard_filename: str = ""
    standard: str = ""
    own: bool = False
    """The files are this tracker's own."""

    @property
    def blocks(self) -> list[log_text.Block]:
        return list(log_text.blocks_of(self.output))

    @property
    def actuals(self) -> int:
        return sum(block.actual for block in self.blocks)


def parse_all_logs(log_dir: Directory) -> list[dict[str, Any]]:
    """Return one dictionary for each pair of log files, sorted by name.

    Keys: ``output_filename``, ``standard_filename``, ``components`` (see ``parse_logs``),
    ``early_stop``, ``actual`` and ``pred`` (see ``get_consumption``). Each is of the tracker that
    the files belong to: up to 1.2.5, later ones of the same process have written into them, too.

    Raises:
        MismatchedLogFilesError: files of one kind only.
        MismatchedEpochsError: a component has another number of powers than there are durations.
    """
    own = [training for training in _logged(log_dir) if training.own]
    for training in own:
        _warn_of_averages(training.standard, training.standard_filename)
    return [_parsed(training) for training in own]


def _parsed(training: _Training) -> dict[str, Any]:
    text = training.standard
    early_stop = get_early_stop(text)
    actual, pred = get_consumption(training.output)
    ran = len(get_epoch_durations(text))
    if actual is not None and early_stop and _is_upstream(text) and ran > actual["epochs"]:
        actual["epochs"] = ran  # its stop() took one away, and counted its energy
    return {
        "output_filename": training.output_filename,
        "standard_filename": training.standard_filename,
        "components": _components(text, training.standard_filename),
        "early_stop": early_stop,
        "actual": actual,
        "pred": pred,
    }


# ---- what belongs to which tracker ---------------------------------------------------------


def _logged(log_dir: Directory) -> list[_Training]:
    """Return every training in the log files of a directory once, by the files' names.

    First come those that a file belongs to: its own tracker has written its first section.
    """
    found: list[_Training] = []
    seen: set[tuple[str, str]] = set()
    pairs = [
        (*pair, _sections(pair[0]), _sections(pair[1]))
        for pair in zip(*get_all_logs(log_dir), strict=True)
    ]
    for index in range(max((max(len(o), len(s)) for _, _, o, s in pairs), default=0)):
        for output, standard, outputs, standards in pairs:
            written = outputs[index] if index < len(outputs) else ""
            # Trackers with different prefixes share the output logs only.
            about = standards[index] if index < len(standards) else ""
            key = _process(output), written or about
            if index and (not key[1] or key in seen):
                continue
            seen.add(key)
            found.append(_Training(output, written, standard, about, own=not index))
    return found


def _sections(file: str) -> list[str]:
    return log_text.sections(_read(file))


def _process(output: str) -> str:
    """Return the process that has written a file, by its name; the first versions do not say."""
    found = _PROCESS.search(Path(output).name[: -len(OUTPUT)])
    return found[1] if found else ""


def _on_consoles(log_dir: Directory, logged: Sequence[_Training]) -> list[_Training]:
    """Return the trainings in what jobs showed on their consoles, of which there is no log."""
    known = {_figures(block) for training in logged for block in training.blocks}
    found = []
    for path in sorted(Path(log_dir).iterdir()):
        if path.name.endswith((OUTPUT, STANDARD, ERRORS)) or not _JOB_OUTPUT.fullmatch(path.name):
            continue
        if not path.is_file() or path.stat().st_size > MAX_JOB_OUTPUT_BYTES:
            continue
        shown = [_Training(str(path), text) for text in log_text.sections(_read(path))]
        new = [one for one in shown if not known.issuperset(map(_figures, one.blocks))]
        known.update(_figures(block) for training in new for block in training.blocks)
        if new:
            logger.warning(
                "carbontracker: %s: the console output of %d training(s) without log files counts",
                path,
                len(new),
            )
        found += new
    return found


def _figures(block: log_text.Block) -> tuple[object, ...]:
    return block.actual, block.epochs, block.seconds, repr(block.kwh), repr(block.gco2eq)


def parse_logs(
    log_dir: Directory,
    std_log_file: Directory | None = None,
    output_log_file: Directory | None = None,
) -> dict[str, dict[str, Any]]:
    """Return the power and energy of each component, one row per epoch, and its devices.

    Keys of each: ``avg_power_usages (W)`` and ``avg_energy_usages (J)``, (epochs, 1) or, where a
    version up to 1.2.5 wrote each device, (epochs, devices), without PUE;
    ``epoch_durations (s)``, (epochs,); ``devices``. None where nothing was measured. Of a directory
    with empty files only it is an empty dictionary.

    Args:
        log_dir: of which the files written to last are read, unless a file is given.
        std_log_file: the standard log.
        output_log_file: its output log; nothing of this needs it.

    Raises:
        IndexError: there are no log files.
        MismatchedEpochsError: see ``parse_all_logs``.
    """
    if std_log_file is None or output_log_file is None:
        if not get_all_logs(log_dir)[0] and any(map(_is_standard, Path(log_dir).iterdir())):
            return {}
        newest, _ = get_most_recent_logs(log_dir)
        std_log_file = newest if std_log_file is None else std_log_file
    text = _sections(str(std_log_file))[0]
    _warn_of_averages(text, str(std_log_file))
    return _components(text, str(std_log_file))


def _components(text: str, file: str) -> dict[str, dict[str, Any]]:
    import numpy as np

    durations, powers, devices = (
        get_epoch_durations(text),
        get_avg_power_usages(text),
        get_devices(text),
    )
    unmeasured = [name for name, rows in log_text.powers_of(text).items() if _has_nan(rows)]
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
        seconds = np.array(durations) if rows or durations else None
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
    """Print one sentence for a paper on all log files of a directory.

    Where versions averaged the power of several devices, a second line on stderr has the total
    with that undone: see ``corrected_consumption``.
    """
    print_total(add_logs(log_dir))


def print_total(total: LogTotal) -> None:
    """Print the sentence of ``print_aggregate`` on a total."""
    from carbontracker.report.paper import print_sentence

    written, corrected = total.written, total.corrected
    print_sentence(written.kwh, written.gco2eq, written.equivalents)
    if total.averaged:
        logger.warning(
            "carbontracker: %d of %d training(s) were measured by a version from 2.0.0 to 2.4.7, "
            "which averaged the power of several devices instead of adding it; with the sum the "
            "total is %.10f kWh and %.10f kg of CO2eq",
            total.averaged,
            total.trainings,
            corrected.kwh,
            corrected.gco2eq / 1000,
        )


def aggregate_consumption(log_dir: Directory) -> tuple[float, float, dict[str, float]]:
    """Return kWh (with PUE), gCO2eq and equivalents of all trainings in a directory.

    Of each, what was measured counts. A prediction counts only where monitoring ended before the
    training did (``monitor_epochs``), and where nothing else is known. Of a training that was
    killed before its total was written, the epochs that it finished count. Figures are as they
    were written; ``corrected_consumption`` undoes an error of some versions.
    """
    return add_logs(log_dir).written.as_tuple()


def corrected_consumption(log_dir: Directory) -> tuple[float, float, dict[str, float]]:
    """Return what ``aggregate_consumption`` does, with the power of several devices added.

    Versions 2.0.0 to 2.4.7 averaged it: the mean times the number of devices is the sum. That is
    done where a log names its version and two devices or more.
    """
    return add_logs(log_dir).corrected.as_tuple()


def add_logs(log_dir: Directory, recorded: Sequence[Recorded] = ()) -> LogTotal:
    """Return the total of all trainings in a directory, each once: of its logs, else its console.

    Args:
        log_dir: of log files, and of files that jobs' consoles went to.
        recorded: runs that are counted elsewhere; their logs and their console output are left out.

    Raises:
        MismatchedLogFilesError, MismatchedEpochsError: see ``parse_all_logs``.
        OSError: there is no such directory, or a file cannot be read.
    """
    logged = _logged(log_dir)
    total = LogTotal()
    left_out = _still_open(logged) | _recorded(logged, recorded)
    consoles = [one for one in _on_consoles(log_dir, logged) if not _is_recorded(one, recorded)]
    for training in [*logged, *consoles]:
        if id(training) in left_out:
            continue
        _warn_of_averages(training.standard, training.standard_filename)
        factor = averaged_factor(training.standard)
        for used in _used(training):
            missing = [key for key in ("energy (kWh)", "co2eq (g)") if math.isnan(used[key])]
            if missing:
                logger.warning(
                    "carbontracker: %s does not give its %s: the total lacks it",
                    training.output_filename,
                    " and ".join(missing),
                )
            known = "energy (kWh)" not in missing
            total.trainings += known
            total.unknown += not known
            total.averaged += known and factor != 1.0
            total.written.add(used, 1.0)
            total.corrected.add(used, factor)
    return total


def _still_open(logged: Sequence[_Training]) -> set[int]:
    """Return the trainings without a total whose total is in a later section of the same file.

    They went on while the next tracker began and ended, up to 1.2.5.
    """
    found: set[int] = set()
    by_process: dict[str, list[_Training]] = {}
    for training in logged:
        by_process.setdefault(_process(training.output_filename), []).append(training)
    for trainings in by_process.values():
        spare = 0
        for training in sorted(trainings, key=lambda one: one.output[:19], reverse=True):
            spare += training.actuals - 1
            if not training.actuals and spare >= 0:
                found.add(id(training))
            spare = max(spare, 0)
    return found


def _recorded(logged: Sequence[_Training], runs: Sequence[Recorded]) -> set[int]:
    """Return the trainings that this version has logged beside a record.

    The names of its log files have the process and the time at which the tracker was made. A run
    has the log of its process that shows its total; a run without one, such as a killed one, has
    the log that was made last before it began. Other logs of that process are of other programs: a
    container gives each the same process id.
    """
    of_process: dict[str, list[_Training]] = {}
    for training in sorted(logged, key=lambda one: _stamp(one.output_filename), reverse=True):
        if not _is_upstream(training.standard):
            of_process.setdefault(_process(training.output_filename), []).append(training)
    shown = {id(one): _totals(one) for logs in of_process.values() for one in logs}
    found: set[int] = set()

    def left_over(
        runs: Sequence[Recorded], belongs: Callable[[_Training, Recorded], bool]
    ) -> list[Recorded]:
        """Find the logs of runs; return the runs that have none."""
        rest = []
        for run in runs:
            logs = of_process.get(str(run.pid), [])
            own = (one for one in logs if id(one) not in found and belongs(one, run))
            log = next(own, None)
            if log is None:
                rest.append(run)
            else:
                found.add(id(log))
        return rest

    def was_made_before(log: _Training, run: Recorded) -> bool:
        return f"{run.start:%Y-%m-%dT%H%M%SZ}" >= _stamp(log.output_filename)

    newest_first = sorted(runs, key=lambda run: run.start, reverse=True)
    rest = left_over(newest_first, lambda log, run: _is_total(shown[id(log)], run))
    left_over(rest, was_made_before)
    return found


def _totals(training: _Training) -> list[float]:
    return [block.kwh for block in training.blocks if block.actual]


def _is_total(shown: Sequence[float], run: Recorded) -> bool:
    """Return whether a run's total is shown, to the digits of a log."""
    return any(math.isclose(kwh, run.kwh, rel_tol=1e-6, abs_tol=1e-12) for kwh in shown)


def _stamp(output: str) -> str:
    """Return the time in the name of a log file; empty without one."""
    found = re.search(r"\d{4}-\d\d-\d\dT\d{6}Z", Path(output).name)
    return found[0] if found else ""


def _is_recorded(console: _Training, runs: Sequence[Recorded]) -> bool:
    """Return whether a console shows the total of a recorded run, to the digits that it shows."""
    shown = _totals(console)
    return bool(shown) and all(any(_is_total([kwh], run) for run in runs) for kwh in shown)


def _used(training: _Training) -> list[Consumption]:
    """Return the consumption that counts for a training; several if they ended in one section."""
    if training.actuals > 1:
        return [_consumption(block) for block in training.blocks if block.actual]
    log = _parsed(training)
    actual: Consumption | None = log["actual"]
    pred: Consumption | None = log["pred"]
    if actual is None:
        used = _finished_epochs(training.standard, log) or pred
        return [] if used is None else [used]
    whole = log["early_stop"] or pred is None or actual["epochs"] >= pred["epochs"]
    return [actual if whole or pred is None else pred]


def _finished_epochs(text: str, log: dict[str, Any]) -> Consumption | None:
    """Return what the finished epochs of a killed training used; None if unknown."""
    pue, pred = log_text.pue_of(text), log["pred"]
    parts = [one["avg_energy_usages (J)"] for one in log["components"].values()]
    joules = math.fsum(float(part.sum()) for part in parts if part is not None)
    if joules <= 0 or math.isnan(pue):
        return None
    kwh = joules * pue / JOULES_PER_KWH
    share = kwh / pred["energy (kWh)"] if pred and pred["energy (kWh)"] > 0 else math.nan
    grams_per_kwh = log_text.mean_intensity_of(text)
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

    A pair of empty files is passed over, and so is a file whose companion is missing. Up to 1.1.7
    the output log is empty where the console was silent (``verbose=0``).

    Raises:
        MismatchedLogFilesError: no two files belong together.
    """
    files = [path for path in Path(log_dir).iterdir() if path.is_file()]
    outputs = {path.name[: -len(OUTPUT)]: path for path in files if path.name.endswith(OUTPUT)}
    standards = {path.name[: -len(STANDARD)]: path for path in files if _is_standard(path)}
    paths = [*outputs.items(), *standards.items()]
    filled = {name for name, path in paths if path.stat().st_size}
    both = sorted(set(outputs) & set(standards) & filled)
    alone = sorted(path.name for name, path in paths if name in filled - set(both))
    if not both and alone:
        counts = [sum(name in filled for name in kind) for kind in (standards, outputs)]
        message = (
            f"{log_dir} has {counts[0]} standard and {counts[1]} output logs, none of which "
            "belong together"
        )
        raise MismatchedLogFilesError(message)
    if alone:
        logger.warning("carbontracker: log files without a companion: %s", ", ".join(alone))
    return [str(outputs[name]) for name in both], [str(standards[name]) for name in both]


def get_most_recent_logs(log_dir: Directory) -> tuple[str, str]:
    """Return the standard log and the output log that were written to last.

    Raises:
        IndexError: there are no logs.
    """
    outputs, standards = get_all_logs(log_dir)
    pairs = sorted(zip(standards, outputs, strict=True), key=lambda p: Path(p[0]).stat().st_mtime)
    return pairs[-1]


def get_consumption(
    output_log_data: str,
) -> tuple[Consumption | None, Consumption | None]:
    """Return the actual and the predicted consumption of an output log; None if missing.

    Keys: ``epochs``, ``duration (s)``, ``energy (kWh)`` with PUE, ``co2eq (g)`` and
    ``equivalents``: a dictionary, or None if the block does not mention them. Of several blocks
    the first counts.
    """
    blocks = list(log_text.blocks_of(output_log_data))
    actual = next((_consumption(block) for block in blocks if block.actual), None)
    pred = next((_consumption(block) for block in blocks if not block.actual), None)
    return actual, pred


def _consumption(block: log_text.Block) -> Consumption:
    return {
        "epochs": 1 if block.epochs is None else block.epochs,
        "duration (s)": block.seconds,
        "energy (kWh)": block.kwh,
        "co2eq (g)": block.gco2eq,
        "equivalents": block.equivalents,
    }


def get_early_stop(std_log_data: str) -> bool:
    """Return whether a standard log says that the training was interrupted."""
    return log_text.INTERRUPTED in std_log_data


def get_epoch_durations(std_log_data: str) -> list[float]:
    """Return the duration of each epoch, s."""
    return log_text.durations_of(std_log_data)


def get_avg_power_usages(std_log_data: str) -> dict[str, list[list[float]]]:
    """Return by component the watts of each epoch; ``None`` in a log is ``[0.0]``, as always."""
    return {
        name: [[_or_zero(watts) for watts in row] for row in rows]
        for name, rows in log_text.powers_of(std_log_data).items()
    }


def get_devices(std_log_data: str) -> dict[str, list[str]]:
    """Return the names of each component's devices."""
    return log_text.devices_of(std_log_data)


def get_time(time_str: str) -> float | None:
    """Return the seconds of ``H:MM:SS`` or ``H:MM:SS.ss``; None if it is neither."""
    return log_text.seconds_of(time_str)


def get_stats(groups: Sequence[str | None]) -> tuple[float, float, dict[str, float] | None]:
    """Return kWh, grams and equivalents of the words of a block: the third, fourth and fifth."""
    energy, co2eq, *shown = groups[2:5]
    equivalents = parse_equivalents(shown[0]) if shown and shown[0] else None
    return log_text.figure(energy or ""), log_text.figure(co2eq or ""), equivalents


def extract_measurements(match: re.Match[str] | None) -> Consumption | None:
    """Return the consumption in the block of an output log that a pattern has matched."""
    block = next(log_text.blocks_of(match[0]), None) if match else None
    return _consumption(block) if block else None


def parse_equivalents(lines: str) -> dict[str, float]:
    """Return numbers by description, of the lines below ``This is equivalent to:``."""
    return log_text.equivalents_of(lines.splitlines())


def _is_standard(path: Path) -> bool:
    return path.name.endswith(STANDARD) and not path.name.endswith(OUTPUT)


def _is_upstream(text: str) -> bool:
    version = log_text.version_of(text)
    return version is None or version < (3,)


def _warn_of_averages(text: str, file: str) -> None:
    counts = averaged_counts(text)
    if counts:
        logger.warning(
            "carbontracker: %s: version %s averaged the power of %s instead of adding it; what "
            "was drawn is about that many times as much",
            file,
            ".".join(map(str, log_text.version_of(text) or ())),
            " and ".join(f"{count} devices of {name}" for name, count in counts.items()),
        )


def _has_nan(rows: list[list[float]]) -> bool:
    return any(math.isnan(watts) for row in rows for watts in row)


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def _read(path: Directory) -> str:
    return log_text.decode(Path(path).read_bytes())
