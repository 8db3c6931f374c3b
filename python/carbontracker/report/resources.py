"""Lines on what is beside the electricity: the production of accelerators, and water.

Both are shown on request only, and are added to nothing.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from carbontracker.carbon.embodied import embodied_share
from carbontracker.carbon.water import water_use
from carbontracker.report.formatting import clean, is_known, plain, quantity, span

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carbontracker.records.run_record import RunRecord

HEADING = "Beside the figures above, and in none of them:"


def embodied_lines(run: RunRecord, lifetime_years: float | None = None) -> Iterator[str]:
    """Yield the share of the production of the accelerators of a run.

    Args:
        run: the run.
        lifetime_years: for which accelerators are used in all; the published range if None.

    Raises:
        ValueError: the life is not a positive number.
    """
    hours = run.result.seconds / 3600
    gpus = Counter(one.name for one in run.devices if one.kind == "gpu")
    if not gpus:
        yield "Production of accelerators: the run has no GPU, and other parts have no figure here."
    for name, count in gpus.items():
        share = embodied_share(name, count * hours, lifetime_years=lifetime_years)
        if share is None:
            yield f"Production of {count} x {clean(name)}: not known, no figure is published here."
            continue
        low, high = 1000 * share.low_kg_co2eq, 1000 * share.high_kg_co2eq
        around = f" ({span(low, high, 'g')})" if low < high else ""
        yield (
            f"Production of {count} x {clean(name)}: {quantity(1000 * share.kg_co2eq, 'g')} CO2eq"
            f"{around}, {plain(share.device_hours, 3)} h of {share.lifetime_years:g} years at "
            f"{share.each_kg_co2eq:g} kg each ({share.boundary}; {share.source})."
        )


def water_lines(
    run: RunRecord, site: float | None = None, source: float | None = None
) -> Iterator[str]:
    """Yield the water that a run needed, at its site and at the power plants.

    Args:
        run: the run.
        site: litres per kWh of the machine; the published figure of the place if None.
        source: litres per kWh of electricity; the published figure of the place if None.

    Raises:
        ValueError: a figure is negative or not finite.
    """
    location = run.footprint.location
    stated = location is not None and not location.guess
    zone = location.zone if location and stated else ""
    operator = location.region.partition(":")[0] if location else ""
    pue = run.footprint.pue
    water = water_use(
        run.energy.kwh,
        pue,
        site=site,
        source=source,
        zone=zone,
        operator=operator,
    )
    parts = (
        ("at the site", water.site_litres, water.site_litres_per_kwh, water.site_origin, ""),
        (
            "at the power plants",
            water.source_litres,
            water.source_litres_per_kwh,
            water.source_origin,
            _range(water.low_source_litres, water.high_source_litres),
        ),
    )
    for where, litres, each, origin, around in parts:
        if is_known(litres):
            yield f"Water {where}: {plain(litres)} l{around}, {each:g} l/kWh ({origin})."
        else:
            yield (
                f"Water {where}: not known, no figure is published here for this place; give it: "
                "--water SITE,SOURCE in litres per kWh."
            )


def _range(low: float, high: float) -> str:
    return f" ({plain(low, 3)} to {plain(high, 3)} l)" if low < high else ""
