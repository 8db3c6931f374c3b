"""The arguments of the drop-in: what they mean, and which of them cannot be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carbontracker.exceptions import ComponentNameError, FetcherNameError
from carbontracker.pricing import Pricing, make_pricing
from carbontracker.session import CPU_KINDS, GPU_KINDS, Config, Simulated

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

KINDS_BY_COMPONENT = {"gpu": GPU_KINDS, "cpu": CPU_KINDS}
"""Channel kinds that make up a component, in the order that ``all`` has."""

API_NAMES = ("electricitymaps",)

_DEFAULT_UTILISATION = 0.5
_LONGEST_SPACING_S = 86_400.0


@dataclass(frozen=True)
class Settings:
    """One field for each argument of ``CarbonTracker``, which documents them."""

    epochs: int
    epochs_before_pred: int
    monitor_epochs: int
    update_interval: float
    interpretable: bool
    stop_and_confirm: bool
    ignore_errors: bool
    components: str
    devices_by_pid: bool
    log_dir: str | os.PathLike[str] | None
    log_file_prefix: str
    verbose: int
    decimal_precision: int
    api_keys: Mapping[str, str] | None
    sim_cpu: str | None
    sim_cpu_tdp: float | None
    sim_cpu_util: float | None
    sim_gpu: str | None
    sim_gpu_watts: float | None
    sim_gpu_util: float | None
    location: str | None
    pue: float | None
    intensity: float | None
    record: bool | None

    def check(self) -> None:
        """Refuse contradictory arguments, in upstream's words.

        Raises:
            ValueError: the arguments contradict each other.
        """
        if self.monitor_epochs not in (-1,) and self.monitor_epochs < self.epochs_before_pred:
            message = "monitor_epochs cannot be less than epochs_before_pred"
            raise ValueError(message)
        if self.monitor_epochs == 0:
            message = "monitor_epochs cannot be zero"
            raise ValueError(message)
        if self.sim_cpu is not None and self.sim_cpu_tdp is None:
            message = (
                "When using simulated CPU (sim_cpu), you must also specify the CPU TDP "
                "(sim_cpu_tdp)"
            )
            raise ValueError(message)
        if self.sim_gpu is not None and self.sim_gpu_watts is None:
            message = (
                "When using simulated GPU (sim_gpu), you must also specify the GPU power "
                "consumption (sim_gpu_watts)"
            )
            raise ValueError(message)

    def check_names(self) -> None:
        """Refuse what there is not.

        Raises:
            ComponentNameError: an unknown component.
            FetcherNameError: a key for an unknown intensity provider.
            ValueError: an impossible simulated device.
        """
        _ = self.chosen_components, self.simulated
        check_api_names(self.api_keys or {})

    @property
    def chosen_components(self) -> tuple[str, ...]:
        """Return ``gpu`` and/or ``cpu`` in the order given, each once.

        Raises:
            ComponentNameError: there is no such component.
        """
        names = str(self.components).lower().replace(" ", "").split(",")
        if names == ["all"]:
            return tuple(KINDS_BY_COMPONENT)
        for name in names:
            if name not in KINDS_BY_COMPONENT:
                message = f"No component named {name!r}: choose from all, gpu, cpu"
                raise ComponentNameError(message)
        return tuple(dict.fromkeys(names))

    @property
    def simulated(self) -> tuple[Simulated, ...]:
        """Return the simulated devices among the chosen components.

        Raises:
            ValueError: a name, power or utilisation that cannot be.
        """
        given = {
            "gpu": (self.sim_gpu, self.sim_gpu_watts, self.sim_gpu_util),
            "cpu": (self.sim_cpu, self.sim_cpu_tdp, self.sim_cpu_util),
        }
        return tuple(
            simulated_device(component, *given[component])
            for component in self.chosen_components
            if given[component][0] is not None
        )

    @property
    def predict_after(self) -> int:
        """Return the epoch after which to predict; 0 for never."""
        return int(self.epochs) if self.epochs_before_pred == -1 else self.epochs_before_pred

    @property
    def monitor_until(self) -> int:
        """Return the last epoch to monitor."""
        return int(self.epochs) if self.monitor_epochs == -1 else self.monitor_epochs

    def config(self) -> Config:
        """Return what to sample."""
        kinds: tuple[str, ...] = ()
        if set(self.chosen_components) != set(KINDS_BY_COMPONENT):
            kinds = tuple(
                kind for name in self.chosen_components for kind in KINDS_BY_COMPONENT[name]
            )
        spacing_s = self.update_interval if 0 < self.update_interval <= _LONGEST_SPACING_S else 1.0
        return Config.from_environment(
            kinds=kinds, simulated=self.simulated, spacing_s=float(spacing_s)
        )

    def pricing(self) -> Pricing:
        """Return what turns the energy into grams.

        Raises:
            ValueError: an unknown location, or an impossible PUE or intensity.
        """
        return make_pricing(self.location, self.pue, self.intensity)


def simulated_device(
    component: str, name: object, most_watts: object, utilisation: float | None
) -> Simulated:
    """Return a device that draws a share of its power, constantly.

    Args:
        component: ``gpu`` or ``cpu``.
        name: of the device.
        most_watts: its power at full load, W.
        utilisation: the share, 0 to 1; 0.5 by default.

    Raises:
        ValueError: a name, power or utilisation that cannot be.
    """
    label = component.upper()
    if not isinstance(name, str) or not name.strip():
        message = f"{label} name must be a non-empty string."
        raise ValueError(message)
    if not isinstance(most_watts, (int, float)) or not math.isfinite(most_watts) or most_watts < 0:
        figure = {"gpu": "GPU watts", "cpu": "CPU TDP"}[component]
        message = f"{figure} must be a non-negative number."
        raise ValueError(message)
    share = _DEFAULT_UTILISATION if utilisation is None else utilisation
    if not 0.0 <= share <= 1.0:
        message = f"{label} utilization must be between 0.0 and 1.0."
        raise ValueError(message)
    return Simulated(component, name, f"constant:{float(most_watts) * share!r}")


def check_api_names(api_keys: Mapping[str, str]) -> None:
    """Refuse keys for providers that there are not.

    Raises:
        FetcherNameError: there is no such provider.
    """
    for name in api_keys:
        if name.lower() not in API_NAMES:
            message = f"No intensity provider named {name!r}: choose from {', '.join(API_NAMES)}"
            raise FetcherNameError(message)
