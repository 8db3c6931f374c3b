"""The sentence for a paper, as carbontracker always had it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_HOME = "https://github.com/lfwa/carbontracker"
"""The address that the sentence has always named."""


def sentence(kwh: float, gco2eq: float, equivalents: Mapping[str, float]) -> str:
    """Return what the trainings of a work have used, in one line.

    Args:
        kwh: electricity with PUE, kWh.
        gco2eq: emissions, g.
        equivalents: number by words, such as ``km travelled by car``.
    """
    compared = " or ".join(f"{value:.16f} {words}" for words, value in equivalents.items())
    return (
        f"The training of models in this work is estimated to use {kwh:.16f} kWh of electricity "
        f"contributing to {gco2eq / 1000:.16f} kg of CO2eq. "
        + (f"This is equivalent to {compared}. " if compared else "")
        + f"Measured by carbontracker ({_HOME})."
    )


def print_sentence(kwh: float, gco2eq: float, equivalents: Mapping[str, float]) -> None:
    """Print it."""
    print(sentence(kwh, gco2eq, equivalents))
