"""Software Carbon Intensity (ISO/IEC 21031): SCI = (E x I + M) per R."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carbontracker.carbon.embodied import embodied_share
from carbontracker.forms import questions as ask
from carbontracker.forms import statements as say
from carbontracker.forms.form import (
    ASKED,
    CARRIED,
    DERIVED,
    FIXED,
    NOT_CARRIED,
    Field,
    Form,
    as_json,
)

if TYPE_CHECKING:
    from carbontracker.carbon.embodied import Embodied
    from carbontracker.forms.form import Answers
    from carbontracker.forms.subject import Subject


def _embodied(subject: Subject, answers: Answers) -> Embodied | None:
    """Return the share of the accelerators; None if their life or their figure is not known."""
    names = list(subject.hardware.get("gpu", {}))
    if "lifetime_years" not in answers or len(names) != 1 or not answers["lifetime_years"] > 0:
        return None
    return embodied_share(
        names[0],
        subject.gpu_hours,
        kg_co2eq=answers.get("embodied_kg_per_accelerator"),
        lifetime_years=float(answers["lifetime_years"]),
    )


def _grams(subject: Subject, answers: Answers) -> float | None:
    """Return M, gCO2eq: the answer, else the share of the accelerators."""
    if "embodied_gco2eq" in answers:
        return float(answers["embodied_gco2eq"])
    found = _embodied(subject, answers)
    return None if found is None else say.significant(1000 * found.kg_co2eq)


def _boundary_of_m(subject: Subject, answers: Answers) -> str:
    if "embodied_gco2eq" in answers:
        return "given by the user"
    found = _embodied(subject, answers)
    if found is None:
        return ""
    low, high = 1000 * found.low_kg_co2eq, 1000 * found.high_kg_co2eq
    return (
        f"{found.accelerator}: {found.each_kg_co2eq:g} kgCO2eq each ({found.boundary}; "
        f"{found.source}), {found.device_hours:.6g} h of {found.lifetime_years:g} years"
        + ("" if low == high else f"; {low:.4g} to {high:.4g} g by all published figures")
        + ". Servers, processors and network are not in it."
    )


def _unit(subject: Subject, answers: Answers) -> str:
    """Return the functional unit: the answer, else tokens where the record has counted them."""
    if "functional_unit" in answers or "functional_units" in answers:
        return str(answers.get("functional_unit", ""))
    return "token" if subject.work.tokens > 0 else ""


def _units(subject: Subject, answers: Answers) -> float | None:
    """Return how many there are: the answer, else the tokens of the record."""
    if "functional_unit" in answers or "functional_units" in answers:
        return answers.get("functional_units")
    return subject.work.tokens if subject.work.tokens > 0 else None


def _score(subject: Subject, answers: Answers) -> float | None:
    units, grams = _units(subject, answers), _grams(subject, answers)
    if not units or grams is None:
        return None
    return say.significant((subject.gco2eq + grams) / units)


FORM = Form(
    "Software Carbon Intensity of a training",
    "ISO/IEC 21031:2024, Software Carbon Intensity specification 1.1",
    (
        Field(
            "E/value", CARRIED, lambda s, _: say.significant(s.kwh), needed=True, what="with PUE"
        ),
        Field("E/unit", FIXED, lambda *_: "kWh"),
        Field("E/error95", CARRIED, lambda s, _: say.significant(s.error_kwh), what="half-width"),
        Field("I/value", CARRIED, lambda s, _: say.significant(s.gco2eq_per_kwh), needed=True),
        Field("I/unit", FIXED, lambda *_: "gCO2eq/kWh"),
        Field(
            "I/method",
            FIXED,
            lambda *_: "location-based, mean weighted by energy",
            what="market-based figures and offsets are not allowed",
        ),
        Field("O/value", CARRIED, lambda s, _: say.significant(s.gco2eq), what="E x I"),
        Field("O/unit", FIXED, lambda *_: "gCO2eq"),
        Field(
            "M/value",
            DERIVED,
            _grams,
            ask.EMBODIED,
            needed=True,
            what="the answer, or hours x kg / lifetime of the accelerators",
        ),
        Field("M/lifetimeYears", ASKED, None, ask.LIFETIME_YEARS),
        Field("M/unit", FIXED, lambda *_: "gCO2eq"),
        Field(
            "M/each",
            ASKED,
            lambda s, a: found.each_kg_co2eq if (found := _embodied(s, a)) else None,
            ask.EMBODIED_KG,
            what="kgCO2eq of one accelerator: published, or the answer",
        ),
        Field(
            "M/origin",
            DERIVED,
            _boundary_of_m,
            ask.EMBODIED,
            what="source, boundary and range",
        ),
        Field(
            "R/unit", ASKED, _unit, ask.UNIT, needed=True, what="carried: tokens that were counted"
        ),
        Field("R/value", ASKED, _units, ask.UNITS, needed=True),
        Field("SCI/value", DERIVED, _score, ask.EMBODIED, what="(O + M) / R"),
        Field(
            "SCI/unit",
            DERIVED,
            lambda s, a: f"gCO2eq per {_unit(s, a)}" if _score(s, a) is not None else None,
            ask.EMBODIED,
        ),
        Field("boundary", DERIVED, lambda s, _: say.boundary(s)),
        Field("method", DERIVED, lambda s, _: say.method(s)),
        Field("runs", CARRIED, lambda s, _: list(s.runs), what="intermediate runs included"),
        Field("stage", ASKED, lambda s, _: s.stage, ask.STAGE),
        Field("use and end of life of the model", NOT_CARRIED, what="only trainings are measured"),
    ),
    render=as_json,
)
