"""Lines of plain text: the cost of a command, predictions, advice, and the sensors here."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from carbontracker.energy.components import NODE
from carbontracker.energy.sensor_events import LOST, RETURNED
from carbontracker.intensity.series import STAND_IN
from carbontracker.json_values import number
from carbontracker.model.job import JOB
from carbontracker.report import console_text
from carbontracker.report.brief import cost_line, joules
from carbontracker.report.console_text import timestring
from carbontracker.report.formatting import compact, percent, quantity, span

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from carbontracker.carbon.footprint import Footprint
    from carbontracker.energy.energy import Energy
    from carbontracker.energy.sensor_events import SensorEvent
    from carbontracker.energy.sensors import AvailableSensor, Sensors, UnavailableSensor
    from carbontracker.energy.session import Entry
    from carbontracker.jobs.launch import Launch
    from carbontracker.location.location import Location
    from carbontracker.model.attribution import Attribution
    from carbontracker.model.job import Ranks
    from carbontracker.model.measurement import Measurement
    from carbontracker.model.prediction import Forecast
    from carbontracker.model.prediction_error import PredictionError
    from carbontracker.model.result import Result
    from carbontracker.model.run_metadata import MissingSensor
    from carbontracker.planning.background import Advice


_MAX_EVENTS = 20
"""Events of one sensor that are shown."""
_NOUNS = {"gpu": "GPU", "cpu": "processor"}
_ALMOST_COMPLETE = 0.995
"""A gap of less than half a percent is named only where it may matter."""
_MAX_SPANS = 8
"""Groups of ranks that are named."""
MIN_SAVING = 0.01
"""Smaller shares are not shown as advice."""


def command_summary(
    measured: Measurement, *, simulated: bool, human: bool = False, digits: int = 12
) -> str:
    """Return what a wrapped command cost, with the block of carbontracker 2.4.x.

    Args:
        measured: what it cost.
        simulated: whether devices are simulated.
        human: add the line for people below the block, which scripts parse.
        digits: decimals in the block.
    """
    footprint, heading = measured.footprint, console_text.actual_heading(None)
    block = console_text.consumption_block(
        heading, measured.seconds, footprint, digits=digits, interpretable=True
    )
    lines = [
        block,
        *([f"{cost_line(measured)}."] if human else []),
        *device_lines(measured.energy),
        price_line(footprint),
        *live_lines(footprint),
        *quality_lines(measured.energy, simulated=simulated),
    ]
    return "\n".join(console_text.PREFIX + line for line in lines)


def whole_program_line(measured: Measurement) -> str:
    """Return what a command cost, where a tracker within it has shown its own block."""
    lines = [f"The whole program: {cost_line(measured)}.", *gap_lines(measured.energy)]
    return "\n".join(console_text.PREFIX + line for line in lines)


def device_lines(energy: Energy) -> list[str]:
    """Return one line per device: joules with their error, and their quality."""
    return [
        f"{name}: {joules(part)}" + (f", {part.quality}" if part.quality != "missing" else "")
        for name, part in energy.by_device.items()
    ]


def unfinished_line(epoch: int, seconds: float) -> str:
    """Return the sentence on an epoch that was interrupted."""
    return (
        f"Epoch {epoch} was interrupted after {timestring(seconds, with_fraction=True)}; "
        "what it used is included."
    )


_WHOLE_COVERAGE = 0.99


def ranks_line(extent: str, ranks: Ranks, coverage: float = 1.0) -> str:
    """Return the sentence on the ranks whose energy a result has, and on what it lacks."""
    nodes = "1 node" if ranks.nodes == 1 else f"{ranks.nodes} nodes"
    what = "the whole job" if extent == JOB else "one node of a job"
    if extent != JOB:
        return f"This is {what}: {numbers_of_ranks(ranks.seen)}."
    of = f"{ranks.expected} processes" if ranks.expected else f"{len(ranks.seen)} processes"
    if not (ranks.silent or ranks.unended or coverage < _WHOLE_COVERAGE):
        return f"This is {what}: {of} on {nodes}."
    parts = [f"This is {what} as far as it has reported: {len(ranks.seen)} of {of}, on {nodes}."]
    if ranks.silent:
        silent = numbers_of_ranks(ranks.silent)
        parts.append(f"Not reported: {silent}; devices that only they see are missing.")
    if ranks.unended:
        parts.append(
            f"Without an end: {numbers_of_ranks(ranks.unended)}; later epochs are missing."
        )
    if coverage < _WHOLE_COVERAGE:
        parts.append(f"Energy is known of {100 * coverage:.0f} % of the time of its devices.")
    return " ".join(parts)


def predicted_extent_line(extent: str, launch: Launch) -> str:
    """Return the sentence on whose energy a prediction is of."""
    if extent == JOB:
        return f"This prediction is of the whole job: {launch.world_size} processes."
    return (
        "This prediction is of the devices that this process sees, 1 of "
        f"{launch.world_size}: the others have not reported yet."
    )


MARKS_ONLY = (
    "This record has the times of one rank. Another rank read the devices, and its record has "
    "their energy: `carbontracker aggregate --job` adds them up."
)


def allocation_line(least: float, most: float | None = None) -> str:
    """Return the sentence on a job that has a part of the CPUs of its node, or of its nodes."""
    nodes, share = "node", percent(least, ".0f")
    if most is not None and most != least:
        nodes, share = "nodes", f"{share} to {percent(most, '.0f')}"
    return (
        f"CPU and memory are those of the whole {nodes}, of which this job has {share} of the CPUs."
    )


def attribution_line(part: Attribution) -> str:
    """Return the sentence on the part of a job or process in the energy of the machine."""
    whose = {"job": "this job", "process": "this process and its children"}[part.scope]
    if part.reason:
        return f"The part of {whose} is not known: {part.reason}."
    idle = f", {compact(part.idle_joules, 'J', 3)} of it idle power" if part.idle_joules else ""
    others = f"; not split: {', '.join(part.not_attributed)}" if part.not_attributed else ""
    return (
        f"The part of {whose}, by processor time: {compact(part.joules, 'J', 4)}{idle} "
        f"({percent(part.share, '.3g')} of the machine's {compact(part.of_joules, 'J', 4)} in "
        f"{', '.join(part.by_device)}; {part.how}{others}). All other figures are the machine's."
    )


def lines_beside_total(result: Result) -> list[str]:
    """Return the sentences on figures that no total has: meters of the machine, and a part."""
    lines = explained_lines(result.components_watts, result.node_watts)
    return lines + ([attribution_line(result.attributed)] if result.attributed else [])


def skew_line(ranks: Ranks) -> str:
    """Return how much ranks differ: the slowest, and the energy of their own GPUs."""
    timed = [one for one in ranks.costs if one.seconds > 0]
    words = []
    if len(timed) > 1:
        slow, fast = (pick(timed, key=lambda one: one.seconds) for pick in (max, min))
        words.append(
            f"rank {slow.rank} took the longest in epochs, {slow.seconds:.1f} s, and rank "
            f"{fast.rank} the shortest, {fast.seconds:.1f} s"
        )
    drawn = [one for one in ranks.costs if one.gpu_joules > 0]
    if len(drawn) > 1:
        most, least = (pick(drawn, key=lambda one: one.gpu_joules) for pick in (max, min))
        words.append(
            f"the GPU of rank {most.rank} used the most, {compact(most.gpu_joules, 'J')}, and "
            f"that of rank {least.rank} the least, {compact(least.gpu_joules, 'J')}"
        )
        hot = max(drawn, key=lambda one: one.gpu_watts)
        words.append(f"the highest mean power is that of rank {hot.rank}, {hot.gpu_watts:.3g} W")
    stepped = [one for one in drawn if one.steps]
    if len(stepped) > 1:
        worst, best = (
            pick(stepped, key=lambda one: one.gpu_joules_per_step) for pick in (max, min)
        )
        words.append(
            f"their energy for each step is from {best.gpu_joules_per_step:.3g} J (rank "
            f"{best.rank}) to {worst.gpu_joules_per_step:.3g} J (rank {worst.rank})"
        )
    text = "; ".join(words)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def numbers_of_ranks(ranks: Sequence[int]) -> str:
    """Return ``ranks 0, 4-7``."""
    spans: list[list[int]] = []
    for rank in ranks:
        if spans and rank == spans[-1][1] + 1:
            spans[-1][1] = rank
        else:
            spans.append([rank, rank])
    texts = [str(a) if a == b else f"{a}-{b}" for a, b in spans]
    more = f" and {len(texts) - _MAX_SPANS} more" if len(texts) > _MAX_SPANS else ""
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(texts[:_MAX_SPANS])}{more}"


def shared_node_line(launch: Launch) -> str:
    """Return the sentence on the energy of a node that several processes of a launch count."""
    here = launch.local_world_size
    number = "several processes" if here is None else f"{here} processes"
    shared = (
        f"This is the energy of the whole node, shared by {number} of this launch: do not add up "
        "what they print."
    )
    if launch.one_training:
        return f"{shared} The other ranks were not heard of: carbontracker aggregate --job."
    return f"{shared} If they are one training, set CARBONTRACKER_JOB=1."


def unanswered_lines(unanswered: Iterable[MissingSensor]) -> list[str]:
    """Return one line per sensor that did not answer until the end of the run."""
    return [
        f"{one.what} is not measured: {one.source} did not answer until the end; "
        "the total may lack it"
        for one in unanswered
    ]


def sensor_event_line(
    event: str, data: Mapping[str, Any], qualities: Mapping[str, str]
) -> str | None:
    """Return that a sensor joined late, was lost or is read again, and its effect on totals.

    Args:
        event: ``sensor_joined``, ``sensor_lost`` or ``sensor_returned``.
        data: of the event, as the record has it.
        qualities: of all channels by id.

    Returns:
        None where the event changes no total, as of a second sensor of a measured device.
    """
    name, seconds = str(data.get("id")), number(data.get("seconds_after_start"))
    if event == LOST:
        since = f"from {seconds:.1f} s after the start on"
        return f"{name} is not read {since}: {data.get('why')}; the total may lack its energy"
    if event == RETURNED:
        return f"{name} is read again from {seconds:.1f} s after the start on"
    owner = str(data.get("alternate_of") or "")
    continues = qualities.get(owner) == "modelled" and data.get("quality") != "modelled"
    if not data.get("counted") and not continues:
        return None
    before = f"{owner} was estimated" if owner else "it was not measured"
    return f"{name} joined {seconds:.1f} s after the start; before that {before}"


class SensorEventLines:
    """Lines on sensor events during a run, at most ``_MAX_EVENTS`` per sensor."""

    def __init__(self) -> None:
        self._events: Counter[str] = Counter()

    def of(self, event: SensorEvent, entries: Iterable[Entry]) -> list[str]:
        """Return the lines of an event; empty if it changes no total."""
        name = event.data["id"]
        self._events[name] += 1
        if self._events[name] > _MAX_EVENTS:
            return []
        qualities = {entry.id: entry.quality for entry in entries}
        line = sensor_event_line(*event, qualities)
        lines = [] if line is None else [line]
        if self._events[name] == _MAX_EVENTS:
            lines.append(f"{name}: further events are only in the record")
        return lines


def price_line(footprint: Footprint) -> str:
    """Return the intensity with its place, and the PUE."""
    intensity, location = footprint.intensity, footprint.location
    if math.isnan(intensity.gco2eq_per_kwh):
        return f"{console_text.UNKNOWN_INTENSITY} PUE {footprint.pue:g} included"
    where = intensity.name if intensity.year is None else f"{intensity.name} {intensity.year}"
    how = f", location by {location.how}" if location and location.known else ""
    if location and not location.known and intensity.kind != "constant":
        how = ", location unknown: name it with --location or CARBONTRACKER_LOCATION"
    return (
        f"{intensity.gco2eq_per_kwh:.2f} gCO2eq/kWh ({where}{how}), PUE {footprint.pue:g} included"
    )


def live_lines(footprint: Footprint) -> list[str]:
    """Return the source of live intensities, and the share of the energy per kind of figure.

    If a live provider was asked in vain, the reason; an empty list if none was asked.
    """
    live = [slot.intensity for slot in footprint.slots if slot.intensity.provider]
    if not live:
        why, stands_in, _ = footprint.intensity.note.partition(f": {STAND_IN}")
        return [f"no live intensity, because {why}"] if stands_in else []
    sources = " and ".join(sorted({intensity.source for intensity in live}))
    zones = " and ".join(sorted({intensity.zone for intensity in live}))
    kinds = ", ".join(f"{percent(share, '.0f')} {kind}" for kind, share in footprint.shares.items())
    return [f"intensity by {sources} for {zones} ({live[0].scope}): {kinds}"]


# ---- how well the energy is known -----------------------------------------------------------


def uncounted_lines(energy: Energy) -> list[str]:
    """Return how many devices of each kind exist and were never measured."""
    return uncounted_names(
        [name for name, part in energy.by_device.items() if part.coverage <= 0.0]
    )


def uncounted_names(names: Sequence[str]) -> list[str]:
    """Return which devices are in no total, by kind: "1 GPU not counted: gpu:card0"."""
    kinds: dict[str, list[str]] = {}
    for name in names:
        kinds.setdefault(_NOUNS.get(name.partition(":")[0], "device"), []).append(name)
    return [
        f"{len(of_kind)} {noun}{'' if len(of_kind) == 1 else 's'} not counted: {', '.join(of_kind)}"
        for noun, of_kind in kinds.items()
    ]


def quality_lines(energy: Energy, *, simulated: bool = False) -> list[str]:
    """Return which part of the energy is modelled, simulated or missing, if any."""
    if math.isnan(energy.joules):
        why = "No energy was measured: `carbontracker sensors` says why."
        return [why, *uncounted_lines(energy)]
    lines = []
    if energy.modelled_joules > 0 and energy.joules > 0:
        share = 100.0 * energy.modelled_joules / energy.joules
        amount = "This energy is" if share > 99.95 else f"{share:.0f} % of this energy is"
        how = (
            "simulated, not measured."
            if simulated
            else f"modelled, not measured ({joules(energy)}): `carbontracker sensors` says why."
        )
        lines.append(f"{amount} {how}")
    return [*lines, *gap_lines(energy)]


def gap_lines(energy: Energy) -> list[str]:
    """Return which devices were not measured all the time, and what they drew at most."""
    gaps = {
        name: part
        for name, part in energy.by_device.items()
        if part.coverage < _ALMOST_COMPLETE
        or (part.unknown_joules_max > 0 and energy.quality == "incomplete")
    }
    lines = uncounted_lines(energy)
    lines += [
        f"{name}: known for {_percent_floored(part.coverage)} %; the total lacks the rest"
        for name, part in gaps.items()
        if part.coverage > 0
    ]
    most = [
        f"{quantity(part.unknown_joules_max, 'J')} of {name}"
        for name, part in gaps.items()
        if part.unknown_joules_max > 0
    ]
    if most and not math.isnan(energy.joules):
        lines.append(f"{joules(energy)}, plus at most {_listed(most)}")
    if not lines and energy.coverage < _ALMOST_COMPLETE:
        lines.append(f"Energy is known for {100.0 * energy.coverage:.1f} % of the time and devices")
    return lines


def _listed(words: list[str]) -> str:
    *all_but_last, last = words
    return f"{', '.join(all_but_last)} and {last}" if all_but_last else last


def _percent_floored(share: float) -> str:
    """Return a share in percent; only a complete one is 100."""
    return f"{min(100.0 * share, 99.9):.3g}" if share > 0.99 else f"{100.0 * share:.0f}"


# ---- predictions and advice ----------------------------------------------------------------


def interval_line(forecast: Forecast) -> str:
    """Return the 95 % intervals of a prediction; ``""`` after the last epoch."""
    prediction = forecast.prediction
    if prediction.after_epochs >= prediction.epochs:
        return ""
    low, high = map(timestring, prediction.seconds_95)
    parts = [f"time {low} to {high}"]
    for name, (least, most), factor, unit in (
        ("energy", forecast.kwh_95, 1000.0, "Wh"),
        ("CO2eq", forecast.gco2eq_95, 1.0, "g"),
    ):
        if not math.isnan(least):
            parts.append(f"{name} {span(factor * least, factor * most, unit)}")
    return f"Predicted after {prediction.after_epochs:.3g} epoch(s), 95 % sure: {', '.join(parts)}."


def comparison_line(error: PredictionError) -> str:
    """Return the errors of a prediction against the actual cost."""
    errors = error.errors()
    names = {"seconds": "time", "kwh": "energy", "gco2eq": "CO2eq"}
    parts = [
        f"{name} {percent(errors[key], '+.1f')}"
        for key, name in names.items()
        if not math.isnan(errors[key])
    ]
    when = f"after {error.after_epochs:.3g} epoch(s)"
    return f"Predicted {when}, beside the actual: {', '.join(parts) or 'nothing was measured'}."


def advice_line(advice: Advice, footprint: Footprint, location: Location) -> str:
    """Return what the greenest hour or region would have saved of ``footprint``."""
    parts = []
    if advice.start is not None and advice.start_saves >= MIN_SAVING:
        ahead = (advice.start - advice.now).total_seconds() / 3600
        when = f"a start at {_clock(advice.start)} (in {ahead:.1f} h)"
        parts.append(f"{when} would save {_saving(advice.start_saves, footprint.gco2eq)}")
    region = advice.region
    if region is not None and advice.region_saves >= MIN_SAVING:
        against = (
            " against the world average, as the location is unknown," if not location.known else ""
        )
        year = "" if region.year is None else f", by {region.year} figures"
        parts.append(
            f"{region.name} ({region.key}) would save{against} "
            f"{_saving(advice.region_saves, footprint.gco2eq)}{year}"
        )
    if not parts:
        return "Advice: no greener hour or region is known."
    return f"Advice: {'; '.join(parts)}."


def _saving(share: float, grams: float) -> str:
    amount = "" if math.isnan(grams) else f" ({compact(share * grams, 'g', 3)})"
    return f"{percent(share, '.0f')}{amount}"


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone():%a %H:%M}"


# ---- sensors -------------------------------------------------------------------------------


UNSEEN = ("recorded dump", "documented layout")
"""What sensors were checked against that no developer has seen on hardware."""


def sensors_table(found: Sensors) -> str:
    """Return what can be read here and what cannot, for the terminal."""
    lines = ["Read here:"]
    lines += _readable_lines(found.readable) or ["  nothing"]
    if nodes := _node_lines(found.readable):
        lines += ["", *nodes]
    if unseen := _unseen_lines(found.readable):
        lines += ["", *unseen]
    if found.readable and found.seconds > 0:
        lines += ["", _cost_line(found)]
    if found.failed:
        lines += ["", "Found wrong:"]
        lines += [f"  {one.id}: {one.why}; replaced by {one.successor}" for one in found.failed]
    if found.absent:
        lines += ["", "Not read here:"]
        for absent in _like_devices_together(found.absent):
            lines += _absent_lines(absent)
    if uncounted := uncounted_names([one.device for one in found.absent if one.device]):
        lines += ["", *uncounted]
    if found.not_shared:
        lines += ["", f"Each process reads by itself: {found.not_shared}"]
    return "\n".join(lines)


def _cost_line(found: Sensors) -> str:
    """State what the readings cost; a search for the rhythms at first costs more than later."""
    times = ", ".join(
        f"{source} {1000 * held_s:.3g} ms" for source, held_s in found.driver_seconds.items()
    )
    return (
        f"Cost of {found.seconds:.1f} s: {1000 * found.tracker_cpu_seconds:.3g} ms of CPU time"
        + (f"; within the drivers: {times}" if times else "")
    )


def _like_devices_together(absent: Sequence[UnavailableSensor]) -> list[UnavailableSensor]:
    """Join devices that are not read for the same reason: eight cards are one line."""
    result: list[UnavailableSensor] = []
    for one in absent:
        last = result[-1] if result else None
        if last and one.device and replace(last, what=one.what, device=one.device) == one:
            result[-1] = replace(last, what=f"{last.what}; {one.what}")
        else:
            result.append(one)
    return result


def _readable_lines(readable: Sequence[AvailableSensor]) -> list[str]:
    width = max((len(item.id) for item in readable), default=0)
    lines = []
    for item in readable:
        watts = "     -  " if item.watts is None else f"{item.watts:6.1f} W"
        rate = f"{item.readings_per_second:.3g} readings/s"
        if item.refresh_seconds is not None:
            rate += f", renewed every {item.refresh_seconds * 1000:.3g} ms"
        if item.read_by != "this process":
            rate += f", read by {item.read_by}"
        counted = "" if item.counted else f" [not added: {item.why}]"
        lines.append(
            f"  {item.id:<{width}}  {watts}  {item.quality:<10}  {item.name} "
            f"({item.source}, {rate}){counted}"
        )
        lines.append(f"  {'':<{width}}            {item.detail}")
    return lines


def _unseen_lines(readable: Sequence[AvailableSensor]) -> list[str]:
    """Name the sensors that no developer has seen on hardware, and what to do about it."""
    checked = {item.id: item.verified for item in readable if item.verified in UNSEEN}
    if not checked:
        return []
    names = ", ".join(f"{name} ({how})" for name, how in checked.items())
    return [
        f"Not seen on hardware by the developers, with what was checked instead: {names}.",
        "Compare with another tool. For a report: carbontracker sensors --snapshot FILE.tar.gz",
    ]


def _node_lines(readable: Sequence[AvailableSensor]) -> list[str]:
    """Compare the parts that are added with each meter of the whole machine."""
    parts = [item.watts for item in readable if item.counted and item.watts is not None]
    nodes = {item.id: item.watts for item in readable if item.kind == NODE and item.watts}
    return explained_lines(sum(parts), nodes) if parts else []


def explained_lines(watts: float, nodes: Mapping[str, float]) -> list[str]:
    """Return the sentence on the part of each meter of the machine that the components explain.

    Args:
        watts: of the components.
        nodes: power of each meter, W.
    """
    return [
        f"The components explain {watts / whole:.0%} of the {whole:.0f} W of {name}."
        for name, whole in nodes.items()
        if whole > 0 and not math.isnan(watts)
    ]


def _absent_lines(absent: UnavailableSensor) -> list[str]:
    lines = [f"  {absent.what} ({absent.source}): {absent.reason}"]
    if absent.remedy:
        lines.append(f"      to fix: {absent.remedy}")
    return lines
