"""Cloud regions: which one a text names, which one the machine's environment names, their PUE."""

from __future__ import annotations

import math
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from carbontracker.data import rows
from carbontracker.hostfiles import host_text

if TYPE_CHECKING:
    from collections.abc import Mapping

_OTHER_NAMES = {"amazon": "aws", "google": "gcp", "microsoft": "azure", "oracle": "oci"}
_PREFERRED = ("aws", "gcp", "azure")
"""Whose a bare region name is if several have it: ``eu-west-1`` is Amazon's Dublin and Alibaba's
London. The others' need ``alibaba:eu-west-1``."""

_OPERATORS = {"gcp": "google"}
"""Names in ``pue.csv`` that are not the cloud's own."""

_AVAILABILITY_ZONE = re.compile(r"(?<=\d)-?[a-f]$")

_DMI_MARKS = (
    ("aws", "Amazon EC2"),
    ("gcp", "Google"),
    # Hyper-V at home has the same vendor; this asset tag is Azure's alone.
    ("azure", "7783-7084-3265-9085-8269-3286-77"),
)
_DMI_FILES = ("sys_vendor", "product_name", "bios_vendor", "chassis_asset_tag")

_IN_AWS = ("AWS_EXECUTION_ENV", "SM_CURRENT_HOST", "ECS_CONTAINER_METADATA_URI_V4")
"""Set by Amazon's own services. ``AWS_REGION`` alone may as well be a laptop's."""
_IN_GCP = ("K_SERVICE", "CLOUD_RUN_JOB")


@dataclass(frozen=True, slots=True)
class Region:
    """A row of ``cloud_regions.csv``."""

    provider: str
    region: str
    name: str
    """The place, for people."""
    zone: str
    """A zone of ``grid_intensity.csv``."""
    grid_zone: str
    """The zone as live services name it (Electricity Maps' keys)."""
    gco2eq_per_kwh: float
    """The provider's own annual figure, gCO2eq/kWh, ``direct``; NaN if it publishes none."""
    year: int | None
    """The year of that figure."""
    pue: float
    """Power usage effectiveness, ratio; NaN if neither region nor operator has a figure."""
    pue_source: str
    """Where the PUE comes from, in words."""

    @property
    def key(self) -> str:
        """Return the name that leaves no doubt: ``aws:eu-north-1``."""
        return f"{self.provider}:{self.region}"


@cache
def regions() -> dict[str, Region]:
    """Return every region by its key."""
    found = (_region(row) for row in rows("cloud_regions"))
    return {one.key: one for one in found}


def providers() -> tuple[str, ...]:
    """Return the clouds that the table knows."""
    return tuple(dict.fromkeys(one.provider for one in regions().values()))


def provider_named(text: str) -> str | None:
    """Return the cloud that ``text`` names, or None."""
    name = text.strip().lower()
    name = _OTHER_NAMES.get(name, name)
    return name if name in providers() else None


def find(text: str) -> list[Region]:
    """Return the regions that ``text`` may name, the likeliest first: ``aws:eu-north-1``,
    ``eu-north-1``, or an availability zone of it.

    Empty if it names none.
    """
    given, _, name = text.strip().lower().rpartition(":")
    clouds = [provider_named(given)] if given else _by_preference()
    for candidate in (name, _AVAILABILITY_ZONE.sub("", name)):
        keys = [f"{cloud}:{candidate}" for cloud in clouds]
        if found := [regions()[key] for key in keys if key in regions()]:
            return found
    return []


def near(text: str) -> list[str]:
    """Return the keys of the regions whose names are most like ``text``."""
    from difflib import get_close_matches

    given, _, name = text.strip().lower().rpartition(":")
    cloud = provider_named(given)
    clouds = _by_preference() if cloud is None else (cloud,)
    names: dict[str, str] = {}
    for one in sorted(regions().values(), key=lambda one: _by_preference().index(one.provider)):
        if one.provider in clouds:
            names.setdefault(one.region, one.key)
    return [names[match] for match in get_close_matches(name, names, n=3, cutoff=0.8)]


def pue(key: str) -> tuple[float, str] | None:
    """Return a region's PUE (ratio) and where it comes from, or None if it has none."""
    one = regions().get(key) if key else None  # the table is read only where it may help
    return None if one is None or math.isnan(one.pue) else (one.pue, one.pue_source)


def from_environment(environ: Mapping[str, str]) -> Region | None:
    """Return the region that a cloud's own service has put into the environment, or None."""
    if not any(environ.get(name) for name in _IN_AWS):
        return None
    name = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or ""
    return regions().get(f"aws:{name}")


def looks_like(environ: Mapping[str, str], root: str | os.PathLike[str]) -> str | None:
    """Return the cloud that the machine looks like, from its firmware and environment, or None.

    Args:
        environ: the environment.
        root: the directory that holds ``sys/class/dmi/id``.
    """
    if any(environ.get(name) for name in _IN_AWS):
        return "aws"
    if any(environ.get(name) for name in _IN_GCP):
        return "gcp"
    said = []
    for name in _DMI_FILES:
        path = os.path.join(root, "sys", "class", "dmi", "id", name)
        with suppress(OSError):
            said.append(host_text(path, 200).strip())
    for cloud, mark in _DMI_MARKS:
        if any(text.startswith(mark) for text in said):
            return cloud
    return None


def _by_preference() -> tuple[str, ...]:
    return (*_PREFERRED, *(name for name in providers() if name not in _PREFERRED))


def _region(row: dict[str, str]) -> Region:
    ratio, how = _pue(row)
    return Region(
        provider=row["provider"],
        region=row["region"],
        name=row["name"],
        zone=row["zone"],
        grid_zone=row["grid_zone"],
        gco2eq_per_kwh=float(row["gco2eq_per_kwh"] or "nan"),
        year=int(row["year"]) if row["year"] else None,
        pue=ratio,
        pue_source=how,
    )


def _pue(row: dict[str, str]) -> tuple[float, str]:
    """Return the region's own figure, else its operator's average, else NaN."""
    provider = row["provider"]
    if row["pue"]:
        return float(row["pue"]), f"{provider}:{row['region']}, {row['pue_year']}"
    operator = _OPERATORS.get(provider, provider)
    years = [own for own in rows("pue") if own["scope"] == operator]
    if not years:
        return math.nan, ""
    newest = max(years, key=lambda own: own["year"])
    how = f"{newest['source']}; average of {provider}, the region has no figure of its own"
    return float(newest["value"]), how
