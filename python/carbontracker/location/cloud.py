"""Cloud regions: by name, by the environment of the machine, and their PUE."""

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
"""Clouds that a region name without a cloud refers to first: ``eu-west-1`` is Amazon's Dublin, and
``alibaba:eu-west-1`` is Alibaba's London."""

_OPERATORS = {"gcp": "google"}
"""Names of clouds in ``pue.csv``, if they differ."""

_AVAILABILITY_ZONE = re.compile(r"(?<=\d)-?[a-f]$")

_DMI_MARKS = (
    ("aws", "Amazon EC2"),
    ("gcp", "Google"),
    # Other Hyper-V machines have the same vendor; only Azure has this asset tag.
    ("azure", "7783-7084-3265-9085-8269-3286-77"),
)
_DMI_FILES = ("sys_vendor", "product_name", "bios_vendor", "chassis_asset_tag")

_IN_AWS = ("AWS_EXECUTION_ENV", "SM_CURRENT_HOST", "ECS_CONTAINER_METADATA_URI_V4")
"""Set by Amazon's services. ``AWS_REGION`` alone may also be set on a laptop."""
_IN_GCP = ("K_SERVICE", "CLOUD_RUN_JOB")


@dataclass(frozen=True, slots=True)
class Region:
    """A row of ``cloud_regions.csv``."""

    provider: str
    region: str
    name: str
    """The location in words."""
    zone: str
    """A zone of ``grid_intensity.csv``."""
    grid_zone: str
    """The zone of live services (the names of Electricity Maps)."""
    gco2eq_per_kwh: float
    """The provider's annual figure, gCO2eq/kWh, ``direct``; NaN if not published."""
    year: int | None
    """The year of that figure."""
    pue: float
    """Power usage effectiveness, ratio; NaN if unknown for region and operator."""
    pue_source: str
    """Source of the PUE, in words."""

    @property
    def key(self) -> str:
        """Return the unique name: ``aws:eu-north-1``."""
        return f"{self.provider}:{self.region}"


@cache
def regions() -> dict[str, Region]:
    """Return every region by its key."""
    found = (_region(row) for row in rows("cloud_regions"))
    return {one.key: one for one in found}


def providers() -> tuple[str, ...]:
    """Return the clouds of the table."""
    return tuple(dict.fromkeys(one.provider for one in regions().values()))


def provider_named(text: str) -> str | None:
    """Return the cloud that ``text`` names, or None."""
    name = text.strip().lower()
    name = _OTHER_NAMES.get(name, name)
    return name if name in providers() else None


def find(text: str) -> list[Region]:
    """Return the regions that ``text`` may name, the likeliest first; empty if it names no region.

    Such a text is ``aws:eu-north-1``, ``eu-north-1``, or an availability zone of it.
    """
    given, _, name = text.strip().lower().rpartition(":")
    clouds = [provider_named(given)] if given else _by_preference()
    for candidate in (name, _AVAILABILITY_ZONE.sub("", name)):
        keys = [f"{cloud}:{candidate}" for cloud in clouds]
        if found := [regions()[key] for key in keys if key in regions()]:
            return found
    return []


def similar(text: str) -> list[str]:
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
    """Return a region's PUE (ratio) and its source, or None if unknown."""
    one = regions().get(key) if key else None  # without a region the table is not read
    return None if one is None or math.isnan(one.pue) else (one.pue, one.pue_source)


def from_environment(environ: Mapping[str, str]) -> Region | None:
    """Return the region that a cloud service has put into the environment, or None."""
    if not any(environ.get(name) for name in _IN_AWS):
        return None
    name = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or ""
    return regions().get(f"aws:{name}")


def looks_like(environ: Mapping[str, str], root: str | os.PathLike[str]) -> str | None:
    """Return the likely cloud of the machine, by its firmware and environment, or None.

    Args:
        environ: the environment.
        root: the directory that holds ``sys/class/dmi/id``.
    """
    if any(environ.get(name) for name in _IN_AWS):
        return "aws"
    if any(environ.get(name) for name in _IN_GCP):
        return "gcp"
    texts = []
    for name in _DMI_FILES:
        path = os.path.join(root, "sys", "class", "dmi", "id", name)
        with suppress(OSError):
            texts.append(host_text(path, 200).strip())
    for cloud, mark in _DMI_MARKS:
        if any(text.startswith(mark) for text in texts):
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
    """Return the PUE of the region, else the average of its operator, else NaN; and the source."""
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
