"""Power and speed of accelerators by name: the rows of ``gpu_tdp.csv``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from carbontracker.data import rows
from carbontracker.exceptions import UnknownAccelerator

if TYPE_CHECKING:
    from collections.abc import Iterable

PRECISIONS = ("fp16", "fp32")
"""Precisions of a peak: dense FP16 or BF16 (with matrix units, if any), and FP32."""


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One model, by the data of its vendor or an analyst."""

    model: str
    vendor: str
    tdp_watts: float
    """Board power, W."""
    fp16_tflops: float
    """Dense peak with FP16 or BF16, 1e12 operations/s; NaN if not known."""
    fp32_tflops: float
    """Peak with FP32, 1e12 operations/s; NaN if not known."""
    year: int
    """Of the launch."""
    evidence: str
    """Quality of the row's data: ``secondary``, ``recalled`` or ``estimate``."""
    source: str
    """The publishers, with the licences."""
    siblings: tuple[str, ...] = ()
    """Other models with the same short name."""

    def peak_flops(self, precision: str) -> float:
        """Return the peak in operations a second.

        Raises:
            ValueError: no such precision, or no figure for it.
        """
        if precision not in PRECISIONS:
            message = f"precision must be {' or '.join(PRECISIONS)}, not {precision!r}"
            raise ValueError(message)
        tflops = self.fp16_tflops if precision == "fp16" else self.fp32_tflops
        if math.isnan(tflops):
            other = PRECISIONS[1 - PRECISIONS.index(precision)]
            message = (
                f"the {precision} peak of {self.model} is unknown: give precision {other}, or the "
                "GPU-hours instead of the operations"
            )
            raise ValueError(message)
        return tflops * 1e12


def find_accelerator(name: str) -> Accelerator:
    """Return the accelerator called ``name``: a model, what its driver reports, or a short name.

    A short name of several models (``V100``) means the one with that name in the table's column
    ``aliases``; the others are its ``siblings``. Else the only model with every word of the name
    is returned.

    Raises:
        UnknownAccelerator: no accelerator, or more than one, has that name.
    """
    names = (_fold(name), _bare(name))
    found = {row["match_key"]: row for key in names for row in _index().get(key, ())}
    alike = _with_all_words(name)
    if not found and len(alike) == 1:
        return _accelerator(alike[0], ())
    if len(found) != 1:
        raise UnknownAccelerator(_no_match(name, list(found.values()) or alike))
    (row,) = found.values()
    exact = {_fold(row["model"]), *map(_fold, row["device_names"].split(";"))}
    others = () if names[0] in exact else tuple(one["model"] for one in alike if one is not row)
    return _accelerator(row, others)


def peak_flops(names: Iterable[str]) -> float:
    """Return the dense peak of several accelerators with FP16 or BF16 together, operations/s.

    NaN if there are none, or that of one is not known.
    """
    peaks = list(map(_peak_flops, names))
    return math.fsum(peaks) if peaks else math.nan


@cache
def _peak_flops(name: str) -> float:
    try:
        return find_accelerator(name).fp16_tflops * 1e12
    except UnknownAccelerator:
        return math.nan


def _accelerator(row: dict[str, str], siblings: tuple[str, ...]) -> Accelerator:
    known = {one["id"]: one for one in rows("sources")}
    sources = [known[each] for each in row["source"].split(";")]
    return Accelerator(
        model=row["model"],
        vendor=row["vendor"],
        tdp_watts=float(row["tdp_watts"]),
        fp16_tflops=_number(row["fp16_tflops"]),
        fp32_tflops=_number(row["fp32_tflops"]),
        year=int(row["launch_year"]),
        evidence=row["evidence"],
        source="; ".join(f"{one['source']} ({one['licence']})" for one in sources),
        siblings=siblings,
    )


def _number(text: str) -> float:
    return float(text) if text else math.nan


def _no_match(name: str, alike: list[dict[str, str]]) -> str:
    from difflib import get_close_matches

    if alike:
        models = " or ".join(row["model"] for row in alike[:6])
        return f"{name!r} may be {models}: give the whole name"
    # Compared without the names of vendors and families, which most of them share.
    keys: dict[str, list[str]] = {}
    for row in rows("gpu_tdp"):
        for each in (row["model"], *row["device_names"].split(";"), *row["aliases"].split(";")):
            keys.setdefault(_bare(each), []).append(row["model"])
    keys.pop("", None)  # of rows without an alias
    near = get_close_matches(_bare(name), keys, n=3, cutoff=0.6)
    nearest = dict.fromkeys(model for key in near for model in keys[key])
    guess = " or ".join(list(nearest)[:3])
    hint = f"did you mean {guess}?" if guess else "give a model such as A100, H100 SXM5 or L4"
    return f"unknown accelerator {name!r}; {hint}"


def _with_all_words(name: str) -> list[dict[str, str]]:
    """Return the rows that have, for every word of the name, a word that starts with it."""
    asked = name.casefold().split()

    def holds(row: dict[str, str]) -> bool:
        words = f"{row['vendor']} {row['model']}".casefold().split()
        return all(any(word.startswith(part) for word in words) for part in asked)

    return [row for row in rows("gpu_tdp") if asked and holds(row)]


def _bare(name: str) -> str:
    """Return the folded name without vendor and family in front."""
    folded = _fold(name)
    for word in ("nvidia", "amd", "intel", "google", "geforce", "radeon", "tesla"):
        folded = folded.removeprefix(word) or folded
    return folded


def _fold(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())


@cache
def _index() -> dict[str, tuple[dict[str, str], ...]]:
    """Map every folded model, device name and alias to its rows."""
    index: dict[str, tuple[dict[str, str], ...]] = {}
    for row in rows("gpu_tdp"):
        names = [row["model"], *row["device_names"].split(";"), *row["aliases"].split(";")]
        for key in {_fold(name) for name in [*names, row["match_key"]]} - {""}:
            index[key] = (*index.get(key, ()), row)
    return index
