"""The arguments of the drop-in: what they mean, and which of them cannot be."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any

from carbontracker.budget import Budget, Limits, check_action
from carbontracker.components import kinds_of, parse_components, simulated_device
from carbontracker.exceptions import FetcherNameError
from carbontracker.intensity import with_key
from carbontracker.pricing import Pricing, make_pricing
from carbontracker.session import Config, Simulated, check_pace
from carbontracker.steps import is_count
from carbontracker.telemetry.address import address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carbontracker.budget import OnBudget
    from carbontracker.intensity.choice import Wanted

ANSWERS = ("y", "n")

_LONGEST_SPACING_S = 86_400.0
LOCATE = ("auto", "never")
"""Whether the network may be asked where the machine stands."""


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
    api_keys: Mapping[str, str] | None = field(repr=False)
    sim_cpu: str | None
    sim_cpu_tdp: float | None
    sim_cpu_util: float | None
    sim_gpu: str | None
    sim_gpu_watts: float | None
    sim_gpu_util: float | None
    location: str | None
    pue: float | None
    intensity: Wanted
    record: bool | None
    rate_hz: float | None
    overhead_budget: float | None
    locate: str
    advise: bool
    steps_per_epoch: int | None
    max_kwh: float | None
    max_gco2eq: float | None
    max_seconds: float | None
    budget_on: str
    on_budget: OnBudget
    default_answer: str | None
    prometheus: int | str | None
    otlp: str | bool | None
    progress: bool
    loggers: Sequence[Any]
    trace: bool | str | os.PathLike[str] | None
    previous_run: str | os.PathLike[str] | None

    def check(self) -> None:
        """Refuse contradictory arguments, in upstream's words.

        Raises:
            ValueError: the arguments contradict each other.
        """
        self._check_epochs()
        if self.monitor_epochs != -1 and self.monitor_epochs < self.epochs_before_pred:
            message = "monitor_epochs cannot be less than epochs_before_pred"
            raise ValueError(message)
        if self.monitor_epochs == 0:
            message = "monitor_epochs cannot be zero"
            raise ValueError(message)
        check_pace(self.rate_hz, self.overhead_budget)
        self._check_extras()
        if self.locate not in LOCATE:
            message = f"locate must be {' or '.join(LOCATE)}, got {self.locate!r}"
            raise ValueError(message)
        if self.prometheus is not None:
            address(self.prometheus)
        trace: object = self.trace
        if not isinstance(trace, (bool, str, os.PathLike, type(None))):
            message = f"trace must be True or the path of a file, not {trace!r}"
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

    def _check_epochs(self) -> None:
        """Refuse a number of epochs that would end monitoring at the end of the first."""
        given: object = self.epochs
        if not isinstance(given, Real) or not math.isfinite(float(given)):
            message = f"epochs must be a finite number, 0 if it is not known, not {given!r}"
            raise ValueError(message)

    def _check_extras(self) -> None:
        self.limits.check()
        check_action(self.budget_on, self.on_budget)
        steps: object = self.steps_per_epoch
        if steps is not None and not is_count(steps):
            message = f"steps_per_epoch must be a whole number of at least 1, not {steps!r}"
            raise ValueError(message)
        previous: object = self.previous_run
        if previous == "" or not isinstance(previous, (str, os.PathLike, type(None))):
            message = f"previous_run must be a record, a directory or a run's id, not {previous!r}"
            raise ValueError(message)
        if self.default_answer is not None and self.default_answer not in ANSWERS:
            message = f"default_answer must be {' or '.join(ANSWERS)}, not {self.default_answer!r}"
            raise ValueError(message)

    @property
    def limits(self) -> Limits:
        """Return what the training may cost."""
        return Limits(self.max_kwh, self.max_gco2eq, self.max_seconds)

    def budget(self) -> Budget:
        """Return the limits, how they are looked at and what happens where one is passed."""
        return Budget(self.limits, self.budget_on, self.on_budget)

    @property
    def unattended_answer(self) -> str:
        """Return what ``stop_and_confirm`` is answered where nobody can be asked, ``y`` or ``n``.

        The argument, else ``CARBONTRACKER_ANSWER``, else ``y``: a job does not end unasked.
        """
        given = self.default_answer or os.environ.get("CARBONTRACKER_ANSWER", "").strip().lower()
        return given[:1] if given in (*ANSWERS, "yes", "no") else ANSWERS[0]

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
        return parse_components(self.components)

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
        spacing: object = self.update_interval
        possible = isinstance(spacing, Real) and 0 < float(spacing) <= _LONGEST_SPACING_S
        return Config.from_environment(
            kinds=kinds_of(self.chosen_components),
            simulated=self.simulated,
            gpus_of_process=bool(self.devices_by_pid),
            spacing_s=float(self.update_interval) if possible else 1.0,
            **check_pace(self.rate_hz, self.overhead_budget),
        )

    def pricing(self) -> Pricing:
        """Return what turns the energy into grams.

        Raises:
            ValueError: an unknown location, or an impossible PUE or intensity.
        """
        given: Any = self.api_keys  # not checked yet, and refused later if it is anything else
        keys = dict(given) if isinstance(given, Mapping) else {}
        keys = {n: k for n, k in keys.items() if isinstance(n, str) and isinstance(k, str)}
        return make_pricing(self.location, self.pue, self.intensity, keys)


def check_api_names(api_keys: Mapping[Any, Any]) -> None:
    """Refuse keys for providers that there are not.

    Raises:
        FetcherNameError: there is no such provider, or the key is no text. The message does not
            repeat what was given: it may be the key.
    """
    for name, key in api_keys.items():
        known = isinstance(name, str) and name.lower() in with_key()
        if not known or not isinstance(key, str) or not key.strip():
            message = f"api_keys must name a provider ({', '.join(with_key())}) and hold its key"
            raise FetcherNameError(message)
