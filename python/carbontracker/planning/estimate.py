"""Cost of a training before it begins: operations or GPU-hours x hardware x location.

The accelerators' time is given, or comes from the work (``operations / (peak x utilisation)``).
Their energy comes from board power (``time x TDP x power share x (1 + node overhead)``). The
footprint is computed as for a measurement. An assumption that is not given has its usual value, and
its range gives the range of the result.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from importlib import import_module
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

from carbontracker.carbon.equivalents import Equivalent, equivalent
from carbontracker.carbon.factors import make_carbon_factors
from carbontracker.conversion import is_count
from carbontracker.planning.accelerators import Accelerator, find_accelerator
from carbontracker.prediction.timeline import MAX_S

if TYPE_CHECKING:
    from carbontracker.carbon.footprint import Footprint

FLOPS_PER_PARAMETER_AND_TOKEN = 6.0
"""Operations of training a dense transformer, forward and backward (Kaplan et al. 2020,
arXiv:2001.08361, section 2.1)."""

COMPARED = (
    "car_km_eu_new_2018",
    "dk_home_year_carbontracker",
    "us_household_year",
    "flight_paris_london",
    "flight_nyc_sf",
    "flight_nyc_melbourne",
)
"""Comparisons beyond the usual ones. The first two are those of the published GPT-3 estimate
(arXiv:2007.03051)."""


class Range(NamedTuple):
    """A figure with its limits, at which all assumptions are at their own limits."""

    value: float
    low: float
    high: float

    def times(self, factor: float) -> Range:
        """Return the range times a factor that is not negative."""
        return Range(self.value * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True, slots=True)
class Assumption:
    """A given figure, or the usual one with its range."""

    name: str
    meaning: str
    range: Range
    source: str
    """Source of the range; ``given`` for a figure of the caller."""


UTILISATION = Assumption(
    "utilization",
    "operations done over those of the peak (MFU)",
    Range(0.40, 0.20, 0.55),
    "PaLM's comparison, 21 % (GPT-3) to 46 % (arXiv:2204.02311, table 3); Llama 3, 38-43 % "
    "(arXiv:2407.21783)",
)
POWER_SHARE = Assumption(
    "power_share",
    "mean power of an accelerator over its board power (TDP)",
    Range(0.80, 0.60, 1.00),
    "rounded from reports of large trainings; with node_overhead the usual values equal the "
    "convention of published estimates, board power alone",
)
NODE_OVERHEAD = Assumption(
    "node_overhead",
    "power of processors, memory, fans and network over that of the accelerators",
    Range(0.25, 0.10, 0.60),
    "rounded from server data sheets (eight accelerators a node) and reports of large trainings",
)


@dataclass(frozen=True, repr=False)
class Estimate:
    """The estimated cost of a training."""

    accelerator: Accelerator
    count: int
    """Accelerators that work at once."""
    flops: float
    """Operations of the training; NaN if the GPU-hours were given."""
    gpu_hours: Range
    """Time of all accelerators together, h."""
    joules: Range
    """Energy of the nodes, J, without PUE."""
    footprint: Footprint
    """Energy with PUE and emissions, at the middle of the range."""
    assumptions: tuple[Assumption, ...]

    @property
    def seconds(self) -> Range:
        """Return the duration, s."""
        return self.gpu_hours.times(3600.0 / self.count)

    @property
    def kwh(self) -> Range:
        """Return the electricity with PUE, kWh; the PUE counts as exact."""
        return self._scaled(self.footprint.kwh)

    @property
    def gco2eq(self) -> Range:
        """Return the emissions, gCO2eq; the carbon intensity counts as exact."""
        return self._scaled(self.footprint.gco2eq)

    @property
    def equivalents(self) -> list[Equivalent]:
        """Return everyday comparisons: cars, homes, flights, smartphone charges."""
        return [*self.footprint.equivalents, *self.further_equivalents]

    @property
    def further_equivalents(self) -> list[Equivalent]:
        """Return the comparisons that a measurement does not show."""
        grams, kwh = self.footprint.gco2eq, self.footprint.kwh
        return [equivalent(key, grams, kwh) for key in COMPARED]

    # Views are loaded by name: they know this module, and it does not know them.

    def __repr__(self) -> str:
        """Return the main values in one line."""
        text: str = import_module("carbontracker.report.brief").estimate(self)
        return text

    def _repr_html_(self) -> str:
        html: str = import_module("carbontracker.report.notebook").estimate_html(self)
        return html

    def _scaled(self, value: float) -> Range:
        middle = self.joules.value
        if not middle > 0:
            return Range(value, value, value)
        return Range(value, value * (self.joules.low / middle), value * (self.joules.high / middle))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values; ranges as ``value``, ``low``, ``high``."""
        location = self.footprint.location
        return {
            "accelerator": asdict(self.accelerator),
            "count": self.count,
            "flops": self.flops,
            "gpu_hours": self.gpu_hours._asdict(),
            "seconds": self.seconds._asdict(),
            "joules": self.joules._asdict(),
            "kwh": self.kwh._asdict(),
            "gco2eq": self.gco2eq._asdict(),
            "pue": self.footprint.pue,
            "intensity": self.footprint.intensity.to_dict(),
            "location": asdict(location) if location else None,
            "assumptions": [
                asdict(one) | {"range": one.range._asdict()} for one in self.assumptions
            ],
            "equivalents": [asdict(one) for one in self.equivalents],
        }

    def as_dict(self) -> dict[str, Any]:
        """Return ``to_dict()`` by its name of the release before."""
        from warnings import warn

        message = "Estimate.as_dict is now Estimate.to_dict; the next release drops the old name"
        warn(message, DeprecationWarning, stacklevel=2)
        return self.to_dict()


def estimate(  # noqa: PLR0913  # one call for work, hardware and location
    *,
    gpu: str,
    flops: float | None = None,
    params: float | None = None,
    tokens: float | None = None,
    gpu_hours: float | None = None,
    count: int = 1,
    precision: str = "fp16",
    utilization: float | None = None,
    power_share: float | None = None,
    node_overhead: float | None = None,
    location: str | None = None,
    pue: float | None = None,
    intensity: float | None = None,
) -> Estimate:
    """Return the cost of a training, with the range of its assumptions.

    Args:
        gpu: the accelerator: ``H100``, ``A100 SXM4 80GB``, or the name of its driver.
        flops: operations of the whole training; or
        params: parameters of a dense transformer and
        tokens: tokens it is trained on (6 operations for each pair); or
        gpu_hours: hours of all accelerators together.
        count: accelerators that work at once; affects the duration only.
        precision: ``fp16`` (or BF16, dense) or ``fp32``: the peak that ``utilization`` is of.
        utilization: operations done over those of the peak, 0 to 1; else 0.40 (0.20 to 0.55).
        power_share: mean power over board power, 0 to 1; else 0.80 (0.60 to 1.00).
        node_overhead: power of the rest of the node over that of the accelerators; else 0.25
            (0.10 to 0.60). The usual two together equal board power, as in published estimates.
        location: country, ISO code, zone or cloud region; else as for a measurement.
        pue: power usage effectiveness, ratio >= 1; else as for a measurement.
        intensity: your own carbon intensity, gCO2eq/kWh.

    Raises:
        UnknownAccelerator: unknown ``gpu``; the message has the nearest names.
        UnknownLocation: unknown ``location``; the message has the nearest names.
        ValueError: the work is missing or given twice, or a figure is not valid.
    """
    accelerator = find_accelerator(gpu)
    if not is_count(count):
        message = f"count must be a whole number of at least 1, not {count!r}"
        raise ValueError(message)
    operations = _operations(flops, params, tokens, gpu_hours)
    share = _assumed(POWER_SHARE, power_share, most=1.0)
    overhead = _assumed(NODE_OVERHEAD, node_overhead, most=math.inf)
    assumptions = [share, overhead]
    used = _assumed(UTILISATION, utilization, most=1.0)
    if gpu_hours is not None:
        if utilization is not None:
            message = (
                "utilization gives the time of flops, which gpu_hours give already: leave one out"
            )
            raise ValueError(message)
        hours = Range(*[float(gpu_hours)] * 3)
    else:
        assumptions.insert(0, used)
        hours = _hours(operations, accelerator.peak_flops(precision), used.range)
    joules = _joules(hours, accelerator.tdp_watts, share.range, overhead.range)
    factors = make_carbon_factors(location, pue, intensity)
    start = datetime.now(timezone.utc)
    end = start + timedelta(seconds=min(hours.value * 3600.0 / count, MAX_S))
    footprint = factors.footprint(
        # Spread evenly over the duration, if more than one intensity applies.
        lambda a, b: joules.value * ((b - a) / (end - start) if end > start else 1.0),
        start,
        end,
    )
    return Estimate(accelerator, count, operations, hours, joules, footprint, tuple(assumptions))


def _operations(
    flops: float | None, params: float | None, tokens: float | None, gpu_hours: float | None
) -> float:
    """Return the operations of the training, NaN where the time is given instead."""
    if (params is None) != (tokens is None):
        message = "params and tokens go together: operations are 6 x parameters x tokens"
        raise ValueError(message)
    ways = {"flops": flops, "params and tokens": params, "gpu_hours": gpu_hours}
    given = [name for name, value in ways.items() if value is not None]
    if len(given) != 1:
        message = (
            "say how much work it is in one way, by flops, by params and tokens, or by gpu_hours, "
            f"not by {' and '.join(given) or 'none of them'}"
        )
        raise ValueError(message)
    figures = {"flops": flops, "params": params, "tokens": tokens, "gpu_hours": gpu_hours}
    for name, value in figures.items():
        if value is not None and not _finite(name, value) > 0:
            message = f"{name} must be a finite number above 0, not {value!r}"
            raise ValueError(message)
    if params is not None and tokens is not None:
        return FLOPS_PER_PARAMETER_AND_TOKEN * float(params) * float(tokens)
    return math.nan if flops is None else float(flops)


def _finite(name: str, given: object) -> float:
    """Return a number, also of numpy, as a float.

    Raises:
        ValueError: not a number, or not finite.
    """
    try:
        number = float(given) if isinstance(given, Real) else math.nan
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        message = f"{name} must be a finite number above 0, not {given!r}"
        raise ValueError(message)
    return number


def _assumed(usual: Assumption, given: float | None, most: float) -> Assumption:
    """Return the usual assumption, or the given figure without a range."""
    if given is None:
        return usual
    least_is_zero = usual is NODE_OVERHEAD
    figure: object = given
    number = float(figure) if isinstance(figure, Real) else math.nan
    possible = 0 <= number <= most if least_is_zero else 0 < number <= most
    if not (math.isfinite(number) and possible):
        limits = "not negative" if least_is_zero else f"above 0 and at most {most:g}"
        message = f"{usual.name} must be {limits}, not {given!r}"
        raise ValueError(message)
    return Assumption(usual.name, usual.meaning, Range(number, number, number), "given")


def _hours(operations: float, peak_flops: float, used: Range) -> Range:
    """Return the hours of one accelerator."""
    at_peak = operations / peak_flops / 3600.0
    return Range(at_peak / used.value, at_peak / used.high, at_peak / used.low)


def _joules(hours: Range, tdp_watts: float, share: Range, overhead: Range) -> Range:
    """Return the energy of the nodes, J: each limit from the same limits of the assumptions."""
    values = (
        time * 3600.0 * tdp_watts * part * (1.0 + more)
        for time, part, more in zip(hours, share, overhead, strict=True)
    )
    return Range(*values)
