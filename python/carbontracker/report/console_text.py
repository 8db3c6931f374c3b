"""The sentences, blocks and log lines of 2.4.x, which the console prints and scripts parse."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from carbontracker.report.formatting import DASH, is_known

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carbontracker.carbon.footprint import Footprint

PREFIX = "CarbonTracker: "
LOOK_ALIKE = str.maketrans({".": "\N{ONE DOT LEADER}", ",": "\N{SINGLE LOW-9 QUOTATION MARK}"})
UNKNOWN_INTENSITY = "The carbon intensity is unknown, and so are the emissions."


def timestring(seconds: float, *, with_fraction: bool = False) -> str:
    """Return ``H:MM:SS`` or ``H:MM:SS.ss``, with a sign if negative; never 60 seconds.

    Rounding happens before splitting, so 59.999 is a full minute. An unknown time is a dash.
    """
    if not is_known(seconds):
        return DASH
    digits = 2 if with_fraction else 0
    total = round(abs(seconds), digits)
    minutes, rest = divmod(total, 60)
    hours, minutes = divmod(int(minutes), 60)
    text = f"{rest:05.2f}" if with_fraction else f"{int(rest):02d}"
    sign = "-" if seconds < 0 and total > 0 else ""
    return f"{sign}{hours}:{minutes:02d}:{text}"


def consumption_block(
    heading: str, seconds: float, footprint: Footprint, *, digits: int, interpretable: bool
) -> str:
    """Return the block that follows a prediction or a measurement.

    Unknown energy has no line: parsers of upstream's logs expect a number there. Unknown emissions
    are ``nan g``, as in upstream.
    """
    lines = ["", heading, f"\tTime:\t{timestring(seconds)}"]
    if not math.isnan(footprint.kwh):
        lines.append(f"\tEnergy:\t{footprint.kwh:.{digits}f} kWh")
        lines.append(f"\tCO2eq:\t{footprint.gco2eq:.{digits}f} g")
    for car in footprint.equivalents[:1] if interpretable else ():
        if not math.isnan(car.value):
            lines += ["\tThis is equivalent to:", f"\t{car.value:.{digits}f} {car.name}"]
    return "\n".join(lines)


def predicted_heading(epochs: float) -> str:
    """Return the heading of a prediction."""
    return f"Predicted consumption for {epochs} epoch(s):"


def actual_heading(epochs: float | None) -> str:
    """Return the heading of a measurement; None where there are no epochs."""
    return "Actual consumption:" if epochs is None else f"Actual consumption for {epochs} epoch(s):"


def components_line(devices: Mapping[str, Sequence[str]]) -> str:
    """Return the devices found, by component (``gpu``, ``cpu``) in the order given."""
    found = [
        f"{component.upper()} with device(s) {', '.join(names)}."
        for component, names in devices.items()
        if names
    ]
    return f"The following components were found: {' '.join(found)}"


def logged_components_line(devices: Mapping[str, Sequence[str]]) -> str:
    """Return the same for the standard log.

    Upstream's parser ends a name at its first dot or comma, and reads the rest as the name of a
    component. Here both are replaced by characters that look alike; ``carbontracker.parser``
    reverses this.
    """
    return components_line(
        {kind: [name.translate(LOOK_ALIKE) for name in names] for kind, names in devices.items()}
    )


def epoch_lines(epoch: int, seconds: float, watts: Mapping[str, float]) -> list[str]:
    """Return the log lines of an epoch; ``watts`` are sums over a component's devices."""
    powers = [
        f"Average power usage (W) for {component}: {'None' if math.isnan(value) else value}"
        for component, value in watts.items()
    ]
    return [f"Epoch {epoch}:", f"Duration: {timestring(seconds, with_fraction=True)}", *powers]


def pue_line(pue: float, source: str) -> str:
    """Return the line that states the PUE in force."""
    return (
        "Only predicted and actual consumptions are multiplied by a PUE coefficient of "
        f"{pue} ({source})."
    )


def intensity_line(footprint: Footprint) -> str:
    """Return the sentence with the mean intensity. The space at its end is part of the format."""
    if math.isnan(footprint.intensity.gco2eq_per_kwh):
        return UNKNOWN_INTENSITY
    return (
        "Average carbon intensity during training was "
        f"{footprint.intensity.gco2eq_per_kwh:.2f} gCO2eq/kWh. "
    )


def intensities_line(footprint: Footprint) -> str:
    """Return the log line that lists the intensities in use."""
    location = footprint.location
    where = "Unknown" if location is None or not location.known else location.zone
    figure = footprint.intensity.gco2eq_per_kwh
    return (
        "Carbon intensities (gCO2eq/kWh) fetched every 900 s at detected location: "
        f"{where}: [{'' if math.isnan(figure) else figure}]"
    )


def provider_line(title: str, name: str) -> str:
    """Return the sentence that names a live provider of carbon intensity."""
    return f"Using intensity provider: {title} ('{name}')."


def chosen_intensity_line(footprint: Footprint) -> str:
    """Return the sentence that says which intensity is used, and why."""
    intensity, location = footprint.intensity, footprint.location
    if math.isnan(intensity.gco2eq_per_kwh):
        return UNKNOWN_INTENSITY
    value = f"{intensity.gco2eq_per_kwh:.2f} gCO2eq/kWh"
    if intensity.kind == "constant":
        return f"Using the given carbon intensity: {value}."
    if location is None or not location.known:
        return (
            "No carbon intensity provider specified and no location detected. Defaulting to "
            f"global average carbon intensity for {intensity.year}: {value}."
        )
    by = "" if location.how == "argument" else f" (location by {location.how})"
    return (
        "No carbon intensity provider specified. Using average carbon intensity for "
        f"{intensity.zone}{by}: {value}."
    )


def simulated_line(kind: str, name: str, watts: float, share: float) -> str:
    """Return the sentence that announces a simulated device; ``watts`` at that utilisation."""
    words = {"gpu": ("GPU", "power consumption"), "cpu": ("CPU", "TDP")}
    device, figure_name = words[kind]
    return (
        f"Using simulated {device}: {name} with {figure_name}: {watts:.2f}W "
        f"(at {share * 100:.0f}% utilization)"
    )
