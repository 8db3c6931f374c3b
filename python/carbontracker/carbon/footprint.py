"""From joules and carbon intensity to kilowatt-hours and grams of CO2eq."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from carbontracker.carbon.equivalents import Equivalent, equivalents
from carbontracker.constants import JOULES_PER_KWH
from carbontracker.data import WORLD
from carbontracker.intensity.base import KINDS, MISSING, Intensity
from carbontracker.json_values import mapping, mappings, number, time_of
from carbontracker.location.location import Location

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Slot:
    """The energy used while one intensity applied."""

    start: datetime
    """First instant, aware, UTC."""
    end: datetime
    """First instant after it."""
    joules: float
    """Energy of the machine, without PUE, J; NaN if not measured."""
    intensity: Intensity

    def __repr__(self) -> str:
        """Return the main values in one line."""
        text: str = import_module("carbontracker.report.brief").slot(self)
        return text

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of the record; what is empty or unknown of the figure is not
        in it."""
        figure = {
            name: value
            for name, value in self.intensity.to_dict().items()
            if value not in ("", None)
        }
        times = {"start": self.start.isoformat(), "end": self.end.isoformat()}
        return figure | times | {"joules": self.joules}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, strict: bool = False) -> Slot | None:
        """Return the slot of such an object; None if it does not say from when to when.

        Raises:
            ValueError: with ``strict``, something is damaged, or times or intensity are missing.
        """
        start, end = time_of(data.get("start")), time_of(data.get("end"))
        joules = number(data.get("joules"))
        unread = math.isnan(joules) and data.get("joules") is not None
        if strict and (start is None or end is None or unread):
            raise ValueError(f"a slot of {data.get('joules')!r} J from {start} to {end}")
        if start is None or end is None:
            return None
        figure = {**data, "start": None, "end": None}
        return cls(start, end, joules, Intensity.from_dict(figure, strict=strict))


@dataclass(frozen=True, slots=True, repr=False)
class Footprint:
    """Electricity drawn from the grid, and the emissions of its generation."""

    kwh: float
    """Electricity, kWh, PUE included; NaN if not measured."""
    gco2eq: float
    """Emissions, gCO2eq, of ``kwh``; NaN if not measured."""
    intensity: Intensity
    """The intensity; the mean weighted by energy if there is more than one."""
    pue: float
    """Power usage effectiveness: energy of the facility over energy of the machine, ratio >= 1."""
    location: Location | None = None
    """Where the electricity was drawn, if known."""
    error_kwh: float = math.nan
    """95 % half-width of ``kwh``, kWh, with PUE and intensity as exact; NaN if unknown."""
    slots: tuple[Slot, ...] = ()
    """The energy by slots of the intensity, in time order; empty if the times are unknown."""
    mean_gco2eq_per_kwh: float = math.nan
    """Mean of the intensity over time, gCO2eq/kWh; ``intensity`` is the mean over energy.

    NaN without slots."""

    @property
    def place(self) -> Location | None:
        """Return ``location`` by its name of the release before."""
        from warnings import warn

        message = "Footprint.place is now Footprint.location; the next release drops the old name"
        warn(message, DeprecationWarning, stacklevel=2)
        return self.location

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of the record: kWh with PUE, grams, and where they come from.

        ``slots`` has the energy by the slots of the intensity, so that ``recalculate`` can apply
        another one.
        """
        return {
            "kwh": self.kwh,
            "error_kwh": self.error_kwh,
            "gco2eq": self.gco2eq,
            "pue": self.pue,
            "intensity": self.intensity.to_dict(),
            "location": self.location.to_dict() if self.location else None,
            "mean_gco2eq_per_kwh": self.mean_gco2eq_per_kwh,
            "shares": self.shares,
            "slots": [slot.to_dict() for slot in self.slots],
        }

    @classmethod
    def from_dict(cls, data: object, *, strict: bool = False) -> Footprint:
        """Return the footprint of such an object; what is missing or damaged becomes NaN.

        Raises:
            ValueError: with ``strict``, PUE, intensity or a slot is damaged or missing.
        """
        given = mapping(data)
        pue, listed = number(given.get("pue")), mappings(given.get("slots"))
        if strict and (math.isnan(pue) or listed != (given.get("slots") or [])):
            raise ValueError("a footprint whose PUE or slots are damaged")
        slots = [Slot.from_dict(one, strict=strict) for one in listed]
        return cls(
            kwh=number(given.get("kwh")),
            gco2eq=number(given.get("gco2eq")),
            intensity=Intensity.from_dict(given.get("intensity"), strict=strict),
            pue=pue,
            location=Location.from_dict(given.get("location")),
            error_kwh=number(given.get("error_kwh")),
            slots=tuple(slot for slot in slots if slot is not None),
            mean_gco2eq_per_kwh=number(given.get("mean_gco2eq_per_kwh")),
        )

    @property
    def error_gco2eq(self) -> float:
        """Return the 95 % half-width of ``gco2eq`` from measuring alone; the intensity is exact."""
        return self.error_kwh * self.gco2eq / self.kwh if self.kwh > 0 else math.nan

    def of_joules(self, joules: float, error_joules: float = math.nan) -> Footprint:
        """Return the footprint of other energy of the machine at the same PUE and intensity."""
        kwh_per_joule = self.pue / JOULES_PER_KWH
        return replace(
            self,
            kwh=joules * kwh_per_joule,
            gco2eq=joules * kwh_per_joule * self.intensity.gco2eq_per_kwh,
            error_kwh=error_joules * kwh_per_joule,
            slots=(),
        )

    def at_figure(self, gco2eq_per_kwh: float) -> Footprint:
        """Return the same with another figure in ``intensity``; a figure that cannot be is
        missing."""
        figure = self.intensity.to_dict() | {"gco2eq_per_kwh": gco2eq_per_kwh}
        return replace(self, intensity=Intensity.from_dict(figure))

    @property
    def shares(self) -> dict[str, float]:
        """Return the share of the energy, 0..1, by the kind of its figure, ``world`` included."""
        known = [(slot.joules, slot.intensity) for slot in self.slots] or [(1.0, self.intensity)]
        return shares_by_kind([part for part in known if not math.isnan(part[0])] or known)

    @property
    def equivalents(self) -> list[Equivalent]:
        """Everyday comparisons; the first is km travelled by car."""
        return equivalents(self.gco2eq, self.kwh)

    # Views are loaded by name: they know this module, and it does not know them.

    def __repr__(self) -> str:
        """Return the main values in one line."""
        text: str = import_module("carbontracker.report.brief").footprint(self)
        return text

    def _repr_html_(self) -> str:
        html: str = import_module("carbontracker.report.notebook").footprint_html(self)
        return html


def shares_by_kind(parts: Sequence[tuple[float, Intensity]]) -> dict[str, float]:
    """Return the share of the energy by the kind of its figure; the shares add up to 1.

    The world average is a separate kind, ``world``. Without energy each slot counts the same.
    """
    total = sum(joules for joules, _ in parts)
    weights = [joules / total if total > 0 else 1 / len(parts) for joules, _ in parts]
    found = dict.fromkeys((*KINDS, "world"), 0.0)
    for weight, (_, used) in zip(weights, parts, strict=True):
        found["world" if used.zone == WORLD and used.kind == "annual" else used.kind] += weight
    return {kind: share for kind, share in found.items() if share}


def footprint(
    parts: Sequence[tuple[float, Intensity]],
    pue: float,
    *,
    location: Location | None = None,
    error_joules: float = math.nan,
) -> Footprint:
    """Return the footprint of energy used under one or more carbon intensities.

    Emissions are summed part by part, each with its own figure. Missing is not zero: one part of
    NaN joules makes the energy and the emissions NaN.

    Args:
        parts: joules of the machine (without PUE) and their intensity.
        pue: power usage effectiveness, ratio.
        location: where the electricity was drawn.
        error_joules: 95 % half-width of the summed joules, J.

    Raises:
        ValueError: no parts, negative or infinite joules, ``pue`` not a finite ratio of at least
            1, or intensities of different scope or signal.
    """
    if not (math.isfinite(pue) and pue >= 1):
        raise ValueError(f"pue must be a finite ratio of at least 1, got {pue!r}")
    if not parts:
        raise ValueError("a footprint needs at least one part; use NaN joules for not measured")
    for joules, _ in parts:
        if joules < 0 or math.isinf(joules):
            raise ValueError(f"energy must be finite and not negative, got {joules!r} J")
    kwh_per_joule = pue / JOULES_PER_KWH
    return Footprint(
        kwh=math.fsum(joules for joules, _ in parts) * kwh_per_joule,
        gco2eq=math.fsum(joules * used.gco2eq_per_kwh for joules, used in parts) * kwh_per_joule,
        intensity=_mean(parts),
        pue=pue,
        location=location,
        error_kwh=error_joules * kwh_per_joule,
    )


def footprint_of_slots(
    slots: Sequence[Slot],
    pue: float,
    *,
    location: Location | None = None,
    error_joules: float = math.nan,
) -> Footprint:
    """Return the footprint of energy used in slots of time; see ``footprint``."""
    seconds = [(slot.end - slot.start).total_seconds() for slot in slots]
    total_s = math.fsum(seconds)
    weights = [s / total_s if total_s > 0 else 1 / len(slots) for s in seconds]
    parts = [(slot.joules, slot.intensity) for slot in slots]
    return replace(
        footprint(parts, pue, location=location, error_joules=error_joules),
        slots=tuple(slots),
        mean_gco2eq_per_kwh=math.fsum(
            weight * slot.intensity.gco2eq_per_kwh
            for weight, slot in zip(weights, slots, strict=True)
        ),
    )


def add_footprints(parts: Sequence[Footprint]) -> Footprint:
    """Return several footprints together; unknown ones are left out, unless all are unknown.

    Its figure is the mean weighted by energy; it has no slots.
    """
    known = [part for part in parts if not math.isnan(part.kwh)]
    if not known:
        return parts[0] if parts else Footprint.from_dict(None)
    kwh, gco2eq, error_kwh = (
        math.fsum(column)
        for column in zip(*((one.kwh, one.gco2eq, one.error_kwh) for one in known), strict=True)
    )
    total = replace(known[-1], kwh=kwh, gco2eq=gco2eq, error_kwh=error_kwh, slots=())
    several = len({part.intensity.gco2eq_per_kwh for part in known}) > 1
    return total.at_figure(gco2eq / kwh) if several and kwh > 0 else total


def together(slots: Iterable[Slot]) -> list[Slot]:
    """Return the slots with those of the same figure added, in time order."""
    found: dict[Intensity, Slot] = {}
    for slot in slots:
        known = found.get(slot.intensity)
        found[slot.intensity] = (
            slot
            if known is None
            else Slot(
                min(known.start, slot.start),
                max(known.end, slot.end),
                known.joules + slot.joules,
                slot.intensity,
            )
        )
    return sorted(found.values(), key=lambda slot: slot.start)


def _mean(parts: Sequence[tuple[float, Intensity]]) -> Intensity:
    """Return the energy-weighted mean figure, or the only figure."""
    used = list(dict.fromkeys(intensity for _, intensity in parts))
    if len({(one.scope, one.signal) for one in used if one.kind != MISSING}) > 1:
        raise ValueError("carbon intensities of different scope or signal cannot be added")
    if len(used) == 1:
        return used[0]
    total = math.fsum(joules for joules, _ in parts)
    # Without energy as a weight every slot counts the same.
    weights = [joules / total if total > 0 else 1 / len(parts) for joules, _ in parts]
    years = {intensity.year for intensity in used}
    starts = [intensity.start for intensity in used if intensity.start is not None]
    ends = [intensity.end for intensity in used if intensity.end is not None]
    notes = (f"mean of {len(used)} figures, weighted by energy", *(i.note for i in used))
    return replace(
        used[0],
        gco2eq_per_kwh=math.fsum(
            weight * intensity.gco2eq_per_kwh
            for weight, (_, intensity) in zip(weights, parts, strict=True)
        ),
        zone=_joined(intensity.zone for intensity in used),
        name=_joined(intensity.name for intensity in used),
        year=years.pop() if len(years) == 1 else None,
        kind=max((intensity.kind for intensity in used), key=KINDS.index),
        source=_joined(intensity.source for intensity in used),
        licence=_joined(intensity.licence for intensity in used),
        provider=_joined(intensity.provider for intensity in used),
        start=min(starts) if len(starts) == len(used) else None,
        end=max(ends) if len(ends) == len(used) else None,
        note=_joined(notes),
    )


def _joined(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(text for text in texts if text))
