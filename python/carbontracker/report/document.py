"""The texts and tables of a report, the same for the page, the PDF and the terminal."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carbontracker.carbon.equivalents import equivalents
from carbontracker.energy.sensor_events import JOINED, LOST, RETURNED
from carbontracker.exceptions import BudgetExceeded
from carbontracker.json_values import mapping, number, whole
from carbontracker.model.job import JOB
from carbontracker.model.measurement import GPU
from carbontracker.model.result import Result
from carbontracker.report import derived
from carbontracker.report.brief import MIN_COMPARED_G
from carbontracker.report.charts import range_text
from carbontracker.report.formatting import (
    UNKNOWN,
    duration,
    is_known,
    percent,
    plain,
    quantity,
)
from carbontracker.report.sentences import (
    MARKS_ONLY,
    gap_lines,
    sensor_event_line,
    unanswered_lines,
)
from carbontracker.report.work import SHOWN, joules_each, work_facts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from carbontracker.energy.energy import Energy
    from carbontracker.model.epoch import Epoch
    from carbontracker.model.window_totals import WindowTotals
    from carbontracker.records.run_record import RunRecord

MAX_ROWS = 1000
"""Rows of a table of epochs; ``--csv`` has all."""

ERRORS = (
    "Errors are 95 % half-widths of measuring alone: PUE and carbon intensity are taken as exact."
)

BIBTEX = """\
@misc{anthony2020carbontracker,
  title  = {Carbontracker: Tracking and Predicting the Carbon Footprint
            of Training Deep Learning Models},
  author = {Lasse F. Wolff Anthony and Benjamin Kanding and Raghavendra Selvan},
  note   = {ICML Workshop on Challenges in Deploying and Monitoring
            Machine Learning Systems},
  month  = {July},
  year   = {2020},
  eprint = {2007.03051},
  archivePrefix = {arXiv}
}"""


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    name: str
    kind: str = ""
    """``n`` for numbers, to the right; ``t`` for text of any length."""


@dataclass(frozen=True)
class Table:
    """Rows of text below a caption; a ``folded`` table is closed until the reader opens it."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    folded: bool = False


@dataclass(frozen=True)
class Card:
    """One of the main figures at the top."""

    name: str
    value: str
    below: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the report, with the charts of the same name."""

    name: str
    title: str
    lines: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    tables: tuple[Table, ...] = ()
    code: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Return whether it has nothing but its title; its charts are not counted."""
        return not (self.lines or self.facts or self.code or any(one.rows for one in self.tables))


# ---- the top -------------------------------------------------------------------------------


def heading(run: RunRecord) -> str:
    """Return the title."""
    return f"Energy and carbon of {derived.title_of(run)}"


def subtitle(run: RunRecord) -> str:
    """Return which run it is, when and where."""
    host = run.metadata.host.get("name") or "an unknown host"
    return f"Run {run.id} on {host}, {run.started:%Y-%m-%d %H:%M} UTC, {run.state}"


def notes(run: RunRecord) -> Iterator[str]:
    """Yield the warnings that belong before the figures."""
    if run.why_incomplete:
        yield f"Incomplete: {run.why_incomplete}"
    elif run.notes:
        yield f"The record is damaged: {'; '.join(run.notes)}"
    if run.metadata.marks_only:
        yield MARKS_ONLY
    elif not is_known(run.energy.joules):
        yield "No energy was measured: what is missing is not zero."
    for line in gap_lines(run.energy):
        yield f"{line}."
    yield from _budget_notes(run)
    yield from _sensor_events(run)
    for line in unanswered_lines(run.ending.unanswered):
        yield f"{line}."
    lost = [epoch for epoch in run.epochs if not is_known(epoch.energy.joules)]
    if lost and is_known(run.energy.joules):
        yield f"{len(lost)} of {len(run.epochs)} epochs were not measured."


def _budget_notes(run: RunRecord) -> Iterator[str]:
    """Yield which limits were exceeded, and which of them ended the run."""
    stopped_by = run.ending.stopped_by
    found = [*map(BudgetExceeded.from_dict, run.of("budget_exceeded"))]
    found += [stopped_by] if stopped_by else []
    for one in {one.limit: one for one in found}.values():
        ended = " and ended the run" if one is stopped_by else ""
        most, value = f"{one.most:g}", f"{one.value:.6g}"
        yield f"The budget {one.limit}={most} was exceeded{ended}: {value} {one.basis}."


def _sample_files(run: RunRecord) -> Iterator[tuple[str, str]]:
    """Yield the files that have every sample of the run."""
    for one in run.of("samples"):
        yield "Samples", str(one.get("path"))


def _advice(run: RunRecord) -> Iterator[str]:
    """Yield what the greenest hour and region would have saved, as found during the run."""
    for one in run.of("advice"):
        region = mapping(one.get("region"))
        saved = {
            f"a start at {one.get('start')}": number(one.get("start_saves")),
            f"the region {region.get('name')}": number(one.get("region_saves")),
        }
        for what, share in saved.items():
            if is_known(share) and share > 0:
                yield f"Advice: {what} would have saved {percent(share)} of the emissions."


def _sensor_events(run: RunRecord) -> Iterator[str]:
    qualities = {sensor.id: sensor.quality for sensor in run.metadata.sensors}
    events = [one for one in run.events if one["event"] in {JOINED, LOST, RETURNED}]
    times = Counter(str(one.get("id")) for one in events)
    for one in events:
        if times[str(one.get("id"))] > _MAX_EVENTS:
            continue
        line = sensor_event_line(one["event"], one, qualities)
        if line is not None:
            yield f"{line}."
    for name, count in times.items():
        if count > _MAX_EVENTS:
            yield f"{name} was lost and read again {count // 2} times; the record says when."


def cards(run: RunRecord) -> Iterator[Card]:
    """Yield the main figures: of the job first, where the run is a rank that knows them."""
    for event in run.of("joined_result"):
        joined = Result.from_dict(event)
        if joined.ranks is not None:
            whole_job = joined.extent == JOB
            yield Card(
                "The whole job" if whole_job else "The node of this rank",
                quantity(1000 * joined.footprint.kwh, "Wh", 1000 * joined.footprint.error_kwh),
                f"{quantity(joined.footprint.gco2eq, 'g', joined.footprint.error_gco2eq)} CO2eq; "
                f"{len(joined.ranks.seen)} of {joined.ranks.expected or len(joined.ranks.seen)} "
                "ranks; the other figures are of this process",
            )
    footprint, energy = run.footprint, run.energy
    pue = f"with PUE {footprint.pue:g}; " if is_known(footprint.pue) else ""
    machine = quantity(energy.joules, "J", energy.error_joules)
    yield Card(
        "Electricity",
        quantity(1000 * footprint.kwh, "Wh", 1000 * footprint.error_kwh),
        f"{pue}machine: {machine}",
    )
    figure = footprint.intensity.gco2eq_per_kwh
    yield Card(
        "Emissions, CO2eq",
        quantity(footprint.gco2eq, "g", footprint.error_gco2eq),
        f"at {plain(figure)} gCO2eq/kWh" if is_known(figure) else "",
    )
    planned = run.planned_epochs
    done = run.result.epochs_done
    yield Card(
        "Time",
        duration(run.result.seconds),
        f"{done} of {planned} epochs" if planned is not None else "",
    )
    watts = energy.joules / run.result.seconds if run.result.seconds > 0 else float("nan")
    yield Card(
        "Mean power",
        quantity(watts, "W"),
        f"of the machine, {_known_by(energy).partition(' (')[0]}",
    )


def compared(run: RunRecord) -> str:
    """Return everyday comparisons in a sentence; ``""`` if the emissions are unknown or tiny."""
    footprint = run.footprint
    if not footprint.gco2eq >= MIN_COMPARED_G:  # nor if NaN
        return ""
    found = equivalents(footprint.gco2eq, footprint.kwh)[:2]
    words = " or ".join(f"{plain(one.value, 3)} {one.name}" for one in found)
    return f"The emissions compare to {words}." if words else ""


# ---- the parts -----------------------------------------------------------------------------


def sections(run: RunRecord) -> Iterator[Section]:
    """Yield the parts of the report that the record has data for."""
    yield Section("power", "Power", tables=(device_table(run), window_table(run)))
    yield Section("work", "Units of work", facts=tuple(_work(run)))
    # The totals say all of one epoch that is whole.
    if len(run.epochs) > 1 or not all(epoch.finished for epoch in run.epochs):
        yield Section("epochs", "Epochs", tables=(epoch_table(run),))
    yield Section("emissions", "Carbon intensity and emissions", tuple(_advice(run)))
    if derived.has_predictions(run):
        why = derived.why_not_comparable(run)
        lines = () if not why or is_known(run.forecasts[-1].footprint.kwh) else (why,)
        yield Section(
            "prediction",
            "Predicted and actual",
            lines,
            tables=prediction_tables(run),
        )
    yield Section(
        "provenance",
        "Where the figures come from",
        lines=(ERRORS,),
        facts=(*derived.provenance_of(run), *_sample_files(run)),
        tables=(missing_table(run), warning_table(run)),
    )
    yield Section("cost", "What the tracker cost", facts=tuple(cost(run)))
    yield Section(
        "cite",
        "How to cite",
        lines=(paragraph(run),),
        code=(BIBTEX,),
    )


def paragraph(run: RunRecord) -> str:
    """Return a few sentences for a paper or a model card."""
    footprint, energy = run.footprint, run.energy
    if not is_known(footprint.kwh):
        return "The energy of this training was not measured."
    kwh = quantity(1000 * footprint.kwh, "Wh", 1000 * footprint.error_kwh)
    grams = quantity(footprint.gco2eq, "g", footprint.error_gco2eq)
    intensity = footprint.intensity
    figure = intensity.gco2eq_per_kwh
    named = ", ".join(str(one) for one in (intensity.name, intensity.year) if one)
    at = f" at {plain(figure)} gCO2eq/kWh" + (f" ({named})" if named else "")
    what = "The command" if run.metadata.command else "Training"
    whole = "" if run.complete else " as far as recorded"
    pue = f"; a PUE of {footprint.pue:g} is included" if is_known(footprint.pue) else ""
    return (
        f"{what} took {duration(run.result.seconds)}{whole} and is estimated to have used {kwh} "
        f"of electricity, contributing to {grams} of CO2eq{at if is_known(figure) else ''}. The "
        f"energy of the machine is {_known_by(energy)}{pue}. "
        "Errors are 95 % half-widths of measuring alone. Measured with carbontracker "
        f"{run.metadata.version} (Anthony, Kanding and Selvan, 2020)."
    )


_MAX_EVENTS = 6
"""Events of one sensor that a report lists one by one."""
KNOWN_BY = {
    "measured": "measured by energy counters",
    "integrated": "integrated from power readings",
    "modelled": "modelled, not measured",
}
"""What each quality of an energy means."""


def _known_by(energy: Energy) -> str:
    if energy.quality == "missing":
        return UNKNOWN
    if energy.quality in KNOWN_BY:
        return KNOWN_BY[energy.quality]
    share = energy.modelled_joules / energy.joules if energy.joules > 0 else 0.0
    if energy.quality == "incomplete":
        most = quantity(energy.unknown_joules_max, "J")
        return f"known for {percent(energy.coverage)} (it lacks at most {most})"
    return f"measured in part ({percent(share)} is modelled)"


def cost(run: RunRecord) -> Iterator[tuple[str, str]]:
    """Yield what measuring cost."""
    cpu_s, seconds = run.result.tracker_cpu_seconds, run.result.seconds
    yield "CPU time of sampling", f"{plain(cpu_s, 3)} s" if is_known(cpu_s) else UNKNOWN
    if is_known(cpu_s) and seconds > 0:
        yield "Share of one core", percent(cpu_s / seconds)
    for title, figures, unit in (
        ("Readings per second", run.ending.readings_per_second, ""),
        ("Loggers on the training's thread", run.ending.logger_seconds, " s"),
        ("Time in drivers", run.ending.driver_seconds, " s"),
    ):
        known = [(name, value) for name, value in figures.items() if is_known(value)]
        if known:
            yield title, ", ".join(f"{name} {plain(value, 3)}{unit}" for name, value in known)
    elsewhere = {k: by for k, by in run.ending.read_by.items() if by != "this process"}
    if elsewhere:
        yield "Read by other processes", ", ".join(f"{k} by {by}" for k, by in elsewhere.items())


def device_table(run: RunRecord) -> Table:
    """Return the energy of each device with its source; coverage only if it is incomplete."""
    total = run.energy.joules
    found = run.devices
    gaps = any(is_known(one.energy.joules) and one.energy.coverage < 0.9995 for one in found)
    columns = (
        Column("Device"),
        Column("Energy", "n"),
        Column("Share", "n"),
        Column("Mean power", "n"),
        *((Column("Coverage", "n"),) if gaps else ()),
        Column("Quality"),
        Column("Hardware", "t"),
    )
    rows = []
    for one in found:
        energy = one.energy
        coverage = percent(energy.coverage) if energy.quality != "missing" else ""
        rows.append(
            (
                one.id,
                quantity(energy.joules, "J", energy.error_joules),
                percent(energy.joules / total) if total > 0 else "",
                quantity(one.watts, "W") if is_known(one.watts) else "",
                *((coverage,) if gaps else ()),
                f"{energy.quality} ({one.source})" if one.source else energy.quality,
                one.name,
            )
        )
    return Table("Energy by device, without PUE", columns, rows)


def window_table(run: RunRecord) -> Table:
    """Return the named windows."""
    rows = [
        (
            one.name,
            str(one.count),
            duration(one.seconds),
            quantity(one.joules, "J", one.error_joules),
            quantity(_each(one), "J"),
            str(one.unknown) if one.unknown else "",
        )
        for one in derived.windows_of(run)
    ]
    columns = (
        Column("Window", "t"),
        Column("Count", "n"),
        Column("Time", "n"),
        Column("Energy", "n"),
        Column("Each", "n"),
        Column("Not measured", "n"),
    )
    return Table("Energy of windows, all of a name together", columns, rows)


def _each(windows: WindowTotals) -> float:
    known = windows.count - windows.unknown
    return windows.joules / known if known > 0 else float("nan")


def epoch_table(run: RunRecord) -> Table:
    """Return one row per epoch."""
    shown = run.epochs[:MAX_ROWS]
    more = f", the first {MAX_ROWS}; --csv has all" if len(run.epochs) > MAX_ROWS else ""
    own = run.divisible is run.result
    units = [
        unit for unit in SHOWN if own and any(is_known(getattr(one.work, unit)) for one in shown)
    ]
    columns = (
        Column("Epoch", "n"),
        Column("Time", "n"),
        Column("Energy", "n"),
        Column("Electricity", "n"),
        Column("CO2eq", "n"),
        *(Column(f"Per {SHOWN[unit][0]}", "n") for unit in units),
        Column("Quality"),
        Column("Remarks", "t"),
    )
    caption = f"All {len(run.epochs)} epochs{more}"
    return Table(caption, columns, [_epoch_row(one, units) for one in shown], folded=True)


def _epoch_row(epoch: Epoch, units: Sequence[str]) -> tuple[str, ...]:
    footprint = epoch.footprint
    remarks = [
        *(() if epoch.finished else ("unfinished",)),
        *(() if epoch.final else ("provisional",)),
    ]
    return (
        str(epoch.index),
        duration(epoch.seconds),
        quantity(epoch.energy.joules, "J", epoch.energy.error_joules),
        quantity(1000 * footprint.kwh, "Wh") if is_known(footprint.kwh) else "",
        quantity(footprint.gco2eq, "g") if is_known(footprint.gco2eq) else "",
        *(joules_each(epoch, unit) for unit in units),
        epoch.energy.quality,
        ", ".join(remarks),
    )


def _work(run: RunRecord) -> Iterator[tuple[str, str]]:
    """Yield energy and emissions for units of work, and what a resume can start from."""
    whole_run = run.divisible
    if whole_run is not None:
        alone = whole_run is run.result  # of a job the names of other nodes' GPUs are not here
        names = [one.name for one in run.devices if one.kind == GPU] if alone else []
        yield from work_facts(whole_run, names)
    if saved := list(run.of("checkpoint")):
        steps, last_s = whole(saved[-1].get("steps")), number(saved[-1].get("seconds_after_start"))
        yield "Checkpoints", f"{len(saved)}, the last one after {steps} steps, {duration(last_s)}"


def prediction_tables(run: RunRecord) -> tuple[Table, Table]:
    """Return at most 24 predictions, and the actual figures if they can be compared."""
    found = run.forecasts
    every = max(1, -(-len(found) // 24))
    comparable = not derived.why_not_comparable(run)
    actual = run.footprint
    energy, others = [], []
    for one in found[::-1][::every][::-1]:
        prediction, kwh = one.prediction, one.footprint.kwh
        off = kwh / actual.kwh - 1 if comparable and actual.kwh > 0 else float("nan")
        after = f"{prediction.after_epochs:.3g} of {prediction.epochs}"
        low, high = one.kwh_95
        wh = quantity(1000 * kwh, "Wh"), range_text((1000 * low, 1000 * high), "Wh")
        grams = quantity(one.footprint.gco2eq, "g"), range_text(one.gco2eq_95, "g")
        seconds = " to ".join(map(duration, filter(is_known, prediction.seconds_95)))
        energy.append((after, *wh, percent(off, "+.3g"), prediction.method))
        others.append((after, *grams, duration(prediction.seconds), seconds))
    if comparable and found:
        energy.append(("actual", quantity(1000 * actual.kwh, "Wh"), "", "", ""))
        time = duration(run.result.seconds)
        others.append(("actual", quantity(actual.gco2eq, "g"), "", time, ""))
    first, interval = Column("After epochs"), Column("95 % interval", "n")
    columns = first, Column("Predicted", "n"), interval, Column("Off by", "n"), Column("Method")
    more = first, Column("CO2eq", "n"), interval, Column("Time", "n"), interval
    return (
        Table("Predictions of the whole run, with PUE", columns, energy),
        Table("Their emissions and time", more, others),
    )


def missing_table(run: RunRecord) -> Table:
    """Return what could not be read, why, and how to fix it."""
    rows = [(one.what, one.source, one.reason, one.remedy) for one in run.metadata.missing]
    columns = (
        Column("Not read", "t"),
        Column("Sensor"),
        Column("Why", "t"),
        Column("To fix", "t"),
    )
    return Table("What could not be read", columns, rows)


def warning_table(run: RunRecord) -> Table:
    """Return the warnings of the run, and sensors that were replaced while it ran."""
    rows = [tuple(warning.partition(": ")[::2]) for warning in run.warnings]
    rows += [
        ("SENSOR", f"{one.owner}: {one.why}; replaced by {one.successor}")
        for one in run.ending.successions
    ]
    return Table("Warnings", (Column("Level"), Column("Message", "t")), rows)
