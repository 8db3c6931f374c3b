"""Plots with matplotlib (an extra): energy of each epoch, emissions and their prediction."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from carbontracker.extras import optional_module
from carbontracker.report.brief import cost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carbontracker.model.epoch import Epoch
    from carbontracker.model.result import Result


def plot_result(result: Result) -> Any:
    """Return a ``matplotlib.figure.Figure`` with two axes.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    plt = optional_module("matplotlib.pyplot", "plot")
    figure, (above, below) = plt.subplots(
        2, 1, sharex=True, figsize=(7.0, 6.0), layout="constrained"
    )
    _epoch_energy(above, result.epochs)
    _emissions(below, result)
    return figure


def _epoch_energy(axes: Any, epochs: Sequence[Epoch]) -> None:
    indices = [epoch.index for epoch in epochs]
    bottom = [0.0] * len(epochs)
    for name in dict.fromkeys(name for epoch in epochs for name in epoch.energy.by_device):
        parts = [epoch.energy.by_device.get(name) for epoch in epochs]
        joules = [_known(part.joules) if part is not None else 0.0 for part in parts]
        axes.bar(indices, joules, bottom=bottom, label=name)
        bottom = [low + high for low, high in zip(bottom, joules, strict=True)]
    known = [epoch for epoch in epochs if not math.isnan(epoch.energy.joules)]
    if known:
        axes.errorbar(
            [epoch.index for epoch in known],
            [epoch.energy.joules for epoch in known],
            yerr=[_known(epoch.energy.error_joules) for epoch in known],
            fmt="none",
            ecolor="0.3",
            capsize=2,
            label="95 %",
        )
        axes.legend()
    axes.set_ylabel("energy of the epoch (J)")
    axes.set_title("Energy without PUE, by device")


def _emissions(axes: Any, result: Result) -> None:
    epochs = result.epochs
    indices = [epoch.index for epoch in epochs]
    grams = list(accumulate(_known(epoch.footprint.gco2eq) for epoch in epochs))
    axes.plot(indices, grams, marker="o", markersize=3, label="so far")
    if result.forecast is not None:
        prediction, footprint = result.forecast.prediction, result.forecast.footprint
        axes.plot(
            [0, prediction.epochs], [0.0, footprint.gco2eq], linestyle="--", label="as predicted"
        )
    axes.legend()
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylabel("emissions (gCO2eq)")
    axes.set_title(f"{cost(result.footprint)}, PUE included")


def _known(value: float) -> float:
    return 0.0 if math.isnan(value) else value
