"""GHG Protocol, Scope 2 Guidance: electricity by the location-based and the market-based method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carbontracker.forms import questions as ask
from carbontracker.forms import statements as say
from carbontracker.forms.form import (
    ASKED,
    CARRIED,
    DERIVED,
    NOT_CARRIED,
    Field,
    Form,
    Question,
    as_text,
)
from carbontracker.report.formatting import is_known, plain, quantity

if TYPE_CHECKING:
    from carbontracker.forms.form import Answers
    from carbontracker.forms.subject import Subject

_FACTOR = Question(
    "market_based_gco2eq_per_kwh",
    "gCO2eq per kWh of your contract: of the supplier, a certificate, or the residual mix.",
    42.0,
)
_INSTRUMENT = Question(
    "contractual_instrument",
    "The contract or certificate behind that figure, with its year.",
    "guarantees of origin 2026, wind, Denmark",
)
_ELECTRICITY, _LOCATION, _MARKET = (
    "Electricity",
    "Location-based method",
    "Market-based method",
)


def _figure(subject: Subject, _: Answers) -> str:
    return f"{plain(subject.gco2eq_per_kwh)} gCO2eq/kWh" if is_known(subject.gco2eq_per_kwh) else ""


def _scope(subject: Subject, _: Answers) -> str:
    scopes = ", ".join(dict.fromkeys(one.scope for one in subject.intensities))
    if "lifecycle" not in scopes:
        return scopes
    return (
        f"{scopes}: it includes upstream emissions, which belong to Scope 3, category 3; "
        "--scope direct computes again"
    )


def _market(subject: Subject, answers: Answers) -> str | None:
    figure = answers.get("market_based_gco2eq_per_kwh")
    if figure is None or not is_known(subject.kwh):
        return None
    return quantity(subject.kwh * figure, "g") + " CO2eq"


FORM = Form(
    "Scope 2 emissions of the electricity of a training",
    "GHG Protocol, Scope 2 Guidance (2015), chapter 7",
    (
        Field(f"{_ELECTRICITY}/Consumed", CARRIED, lambda s, _: say.energy(s), needed=True),
        Field(
            f"{_ELECTRICITY}/Period",
            CARRIED,
            lambda s, _: f"{s.began:%Y-%m-%d} to {s.ended:%Y-%m-%d}",
        ),
        Field(f"{_ELECTRICITY}/Site", ASKED, lambda s, _: say.place(s), ask.LOCATION),
        Field(f"{_LOCATION}/Emissions", CARRIED, lambda s, _: say.emissions(s), needed=True),
        Field(f"{_LOCATION}/Emission factor", CARRIED, _figure),
        Field(f"{_LOCATION}/Scope of the factor", CARRIED, _scope),
        Field(f"{_MARKET}/Emission factor", ASKED, None, _FACTOR, what="gCO2eq/kWh"),
        Field(f"{_MARKET}/Instrument", ASKED, None, _INSTRUMENT),
        Field(f"{_MARKET}/Emissions", DERIVED, _market, _FACTOR, what="electricity x factor"),
        Field("Statement/Boundary", DERIVED, lambda s, _: say.boundary(s)),
        Field("Statement/Method", DERIVED, lambda s, _: say.method(s)),
        Field("Scope 1 and Scope 3", NOT_CARRIED, what="not electricity that was bought"),
        Field("offsets", NOT_CARRIED, what="they change no emission"),
    ),
    render=as_text,
)
