"""What forms say in words: hardware, boundary, method, time and energy."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from carbontracker.data import rows
from carbontracker.report.document import KNOWN_BY
from carbontracker.report.formatting import clean, duration, is_known, percent, plain, quantity
from carbontracker.report.paper import hardware_used

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carbontracker.forms.form import Answers
    from carbontracker.forms.subject import Subject
    from carbontracker.intensity.base import Intensity

_KINDS = {
    "gpu": "GPU",
    "cpu": "processor",
    "dram": "memory",
    "platform": "the whole chip with what surrounds it",
    "node": "the whole machine",
}
"""What people call a kind of device."""
QUALITIES = ((0.10, "high"), (0.25, "medium"), (0.50, "low"))
"""Relative errors and the words that BoAmps has for them."""


def hardware(subject: Subject, *kinds: str) -> str:
    """Return the devices of some kinds, ``8 x NVIDIA H100``; empty if none is known."""
    named = [one for kind in kinds for one in subject.hardware.get(kind, {}).items()]
    return hardware_used(dict(named))


def compute_hardware(subject: Subject) -> str:
    """Return what it was computed on: GPUs; processors where there are none."""
    return hardware(subject, "gpu") or hardware(subject, "cpu")


def place(subject: Subject) -> str:
    """Return where it was done; empty if that is not stated."""
    return subject.location.name if subject.location else ""


def country(subject: Subject) -> str:
    """Return the country of the location; empty if that is not stated."""
    zone = subject.location.zone.partition("-")[0] if subject.location else ""
    return next((row["name"] for row in rows("grid_intensity") if row["zone"] == zone), "")


def stage(subject: Subject, answers: Answers) -> str:
    """Return what the runs were: the answer, else the word of the record; empty if not known."""
    given: str = answers.get("stage") or subject.stage
    return "pretraining" if given.casefold() == "pre-training" else given


def cloud(subject: Subject, part: int) -> str:
    """Return the provider (0) or the region (1) of the cloud; empty if not known."""
    region = subject.location.region if subject.location else ""
    return (*region.split(":", 1), "")[part] if ":" in region else ""


def energy(subject: Subject) -> str:
    """Return the electricity with PUE and its error, ``1.23 ± 0.05 kWh``; empty if unknown."""
    if not is_known(subject.kwh):
        return ""
    return quantity(1000 * subject.kwh, "Wh", 1000 * subject.error_kwh)


def emissions(subject: Subject) -> str:
    """Return the emissions and their error; empty if unknown."""
    if not is_known(subject.gco2eq):
        return ""
    return quantity(subject.gco2eq, "g", subject.error_kwh * subject.gco2eq_per_kwh) + " CO2eq"


def hours(seconds: float) -> str:
    """Return a time in hours, ``24.0 h``, a shorter one in its unit; empty if unknown."""
    if not is_known(seconds):
        return ""
    return f"{plain(seconds / 3600, 3)} h" if seconds >= 3600 else duration(seconds)


def count(number: float) -> str:
    """Return a count of work, ``1.5e+21``; empty if unknown."""
    return f"{number:.6g}" if is_known(number) else ""


def runs(subject: Subject) -> str:
    """Return how many runs there are, and how they ended: ``3 (2 finished, 1 killed)``."""
    ended = ", ".join(f"{number} {name}" for name, number in sorted(subject.outcomes.items()))
    number = sum(subject.outcomes.values())
    return f"{number} ({ended})"


def gpu_hours(subject: Subject) -> str:
    """Return the GPU-hours; empty without GPUs."""
    return f"{plain(subject.gpu_hours)} GPU-hours" if subject.gpu_seconds > 0 else ""


def known_or_estimated(subject: Subject) -> str:
    """Return whether the energy is known, estimated, or both; empty if there is none."""
    if not is_known(subject.joules):
        return ""
    if subject.modelled_share >= 1:
        return "estimated: all of it is modelled, no sensor was read"
    parts = []
    if subject.modelled_share > 0:
        parts.append(f"{percent(subject.modelled_share)} is modelled")
    if subject.unknown_joules_max > 0:
        parts.append(f"at most {quantity(subject.unknown_joules_max, 'J')} are in no figure")
    return f"known in part: {', '.join(parts)}" if parts else "known: measured by sensors"


def boundary(subject: Subject) -> str:
    """Return what is inside of the figures, and what is not."""
    kinds = [kind for kind in subject.sensors if kind in _KINDS] or list(subject.sensors)
    inside = ", ".join(_KINDS.get(kind, kind) for kind in kinds) or "nothing that was measured"
    whole = "node" in kinds
    outside = [] if whole else ["network", "storage"]
    outside += [one for kind, one in (("cpu", "processor"), ("dram", "memory"))
                if not whole and kind not in kinds]  # fmt: skip
    outside += subject.not_read
    pues = ", ".join(_pue(value, source) for value, source in subject.pues)
    factor = f" times the PUE of {pues} for cooling and power supply" if pues else ""
    outside.append("cooling beyond the PUE" if pues else "cooling")
    outside.append("the production of the hardware, and water")
    return f"Inside: {inside}{factor}. Outside: {', '.join(dict.fromkeys(outside))}."


def _pue(value: float, source: str) -> str:
    return f"{value:g} ({source})" if source else f"{value:g}"


def method(subject: Subject) -> str:
    """Return how the figures came about: versions, origin of the joules, error, intensity."""
    return " ".join(_method(subject))


def _method(subject: Subject) -> Iterator[str]:
    versions = ", ".join(one for one in subject.versions if one) or "(version not known)"
    yield f"Measured with carbontracker {versions}."
    origins = [
        f"{_KINDS.get(kind, kind)} by {source} ({KNOWN_BY.get(quality, quality)})"
        for kind, each in subject.sensors.items()
        for source, quality in each
    ]
    if origins:
        yield f"Origin of the energy: {', '.join(origins)}."
    if is_known(subject.joules):
        share = percent(subject.modelled_share) or "an unknown part"
        yield f"{share} of the energy is modelled."
        if is_known(subject.error_joules) and subject.joules > 0:
            yield (
                f"The error of measuring is {percent(subject.error_joules / subject.joules)} (95 % "
                "half-width); PUE and carbon intensity are taken as exact."
            )
        else:
            yield "The error of measuring is not known."
    if len(subject.runs) > 1:
        yield (
            f"{len(subject.runs)} records of {sum(subject.outcomes.values())} runs, failed ones "
            "included; what several of them measured at one time counts once."
        )
    yield from _intensities(subject)
    if subject.software:
        software = ", ".join(f"{name} {version}" for name, version in subject.software.items())
        yield f"Software: {software}."
    yield from (f"Note: {clean(note)}." for note in subject.notes)


def _intensities(subject: Subject) -> Iterator[str]:
    if is_known(subject.gco2eq_per_kwh):
        figures = "; ".join(dict.fromkeys(map(_intensity, subject.intensities)))
        yield (
            f"Emissions are location-based: {plain(subject.gco2eq_per_kwh)} gCO2eq/kWh on average "
            f"({figures})."
        )
    if subject.location is None:
        how = ", ".join(dict.fromkeys(one.how for one in subject.locations if one is not None))
        yield f"The location of the carbon intensity was not stated ({how or 'not known'})."


def _intensity(one: Intensity) -> str:
    words = (one.name or one.zone, one.year, one.scope, one.kind, one.source)
    return clean(", ".join(str(word) for word in words if word))


def quality(subject: Subject) -> str:
    """Return ``high``, ``medium`` or ``low`` by the error; empty if it is larger or unknown."""
    return next((word for most, word in QUALITIES if subject.relative_error <= most), "")


def tonnes(grams: float) -> float:
    """Return tonnes to six digits."""
    return significant(grams / 1e6)


def significant(value: float, digits: int = 6) -> float:
    """Return a value rounded to so many digits: more would claim a precision."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else math.nan


def first_word(text: str) -> str:
    """Return the first word: ``Linux`` of ``Linux 6.8.0``."""
    return re.split(r"[\s-]", text.strip())[0]
