"""The arguments of the drop-in: what they are converted to, and which are refused.

Values that carbontracker 2.4.x accepts are accepted: they are converted, and one warning says so.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carbontracker.carbon.factors import CarbonFactors, make_carbon_factors
from carbontracker.conversion import (
    as_count,
    as_file_name,
    as_flag,
    as_number,
    as_path,
    as_text,
    is_count,
    parse_bind_address,
    shown,
)
from carbontracker.energy.components import kinds_of, parse_components, simulated_device
from carbontracker.energy.config import Config, SimulatedDevice, sampling_fields
from carbontracker.energy.cpu_usage import SCOPES
from carbontracker.exceptions import FetcherNameError
from carbontracker.intensity.providers import providers_of_countries, providers_with_key
from carbontracker.location.location import LOCATE
from carbontracker.model.run_metadata import PURPOSE
from carbontracker.records.writer import record_directory
from carbontracker.training.budget import Budget, Limits, check_action
from carbontracker.training.plan import Plan
from carbontracker.training.synchronization import check_sync

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from carbontracker.intensity.selection import IntensitySetting
    from carbontracker.training.budget import OnBudget
    from carbontracker.training.synchronization import Sync

ANSWERS = ("y", "n")
MAX_SPACING_S = 86_400.0
"""Of the stored time series, s."""
MAX_DECIMALS = 30

CHANGEABLE = frozenset(
    (
        *("epochs_before_pred", "monitor_epochs", "interpretable", "stop_and_confirm"),
        *("ignore_errors", "verbose", "decimal_precision"),
    )
)
"""Arguments that scripts for 2.4.x set as attributes of the tracker after the constructor,
beside ``epochs``."""
_NONE_IS_DEFAULT = frozenset(
    (
        *("epochs_before_pred", "monitor_epochs", "update_interval", "components", "loggers"),
        *("log_file_prefix", "verbose", "decimal_precision", "locate", "budget_on", "on_budget"),
    )
)
"""Arguments whose None has no meaning of its own and stands for their default."""


@dataclass(frozen=True)
class Settings:
    """One field for each argument of ``CarbonTracker``, which documents them."""

    epochs: float
    epochs_before_pred: float = 1
    monitor_epochs: float = -1
    update_interval: float = 1
    interpretable: bool = True
    stop_and_confirm: bool = False
    ignore_errors: bool = False
    components: str = "all"
    devices_by_pid: bool = False
    log_dir: str | os.PathLike[str] | None = None
    log_file_prefix: str = ""
    verbose: int = 1
    decimal_precision: int = 12
    api_keys: Mapping[str, str] | None = field(repr=False, default=None)
    sim_cpu: str | None = None
    sim_cpu_tdp: float | None = None
    sim_cpu_util: float | None = None
    sim_gpu: str | None = None
    sim_gpu_watts: float | None = None
    sim_gpu_util: float | None = None
    location: str | None = None
    pue: float | None = None
    intensity: IntensitySetting = None
    record: bool | None = None
    rate_hz: float | None = None
    overhead_budget: float | None = None
    keep_full_s: float | None = None
    locate: str = "auto"
    advise: bool = False
    steps_per_epoch: int | None = None
    max_steps: int | None = None
    max_kwh: float | None = None
    max_gco2eq: float | None = None
    max_seconds: float | None = None
    budget_on: str = "measured"
    on_budget: OnBudget = "warn"
    default_answer: str | None = None
    prometheus: int | str | None = None
    otlp: str | bool | None = None
    progress: bool = False
    loggers: Sequence[Any] = ()
    trace: bool | str | os.PathLike[str] | None = None
    previous_run: str | os.PathLike[str] | None = None
    job: bool | None = None
    sync: Sync | None = None
    attribution: str | None = None
    project: str | None = None
    stage: str | None = None
    parent: str | None = None

    _made_in: Path = field(init=False, default=Path(), repr=False, compare=False)
    """Where relative paths begin: the program may go elsewhere before its first mark."""
    notes: tuple[str, ...] = field(init=False, default=(), repr=False)
    """What was converted, in words. Not an argument."""

    def __post_init__(self) -> None:
        """Convert the arguments.

        Raises:
            ValueError: one that cannot be converted.
        """
        notes = []
        for name, convert in _CONVERSIONS.items():
            given = getattr(self, name)
            default = given is None and name in _NONE_IS_DEFAULT
            taken = getattr(Settings, name) if default else convert(name, given)
            object.__setattr__(self, name, taken)
            if taken is given or (type(given) in (int, float, str) and taken == given):
                continue
            notes.append(f"{name}={shown(given)} is taken as {shown(taken)}")
        keys: object = self.api_keys  # messages must not contain a key
        if keys is not None and not isinstance(keys, Mapping):
            raise ValueError("api_keys must map names of providers to keys")
        if keys is not None:
            known, blank = _with_keys(keys)
            object.__setattr__(self, "api_keys", known)
            notes += [f"api_keys has no key for {name}" for name in blank]
        object.__setattr__(self, "notes", tuple(notes))
        with suppress(OSError):  # the directory that the program is in has gone
            object.__setattr__(self, "_made_in", Path.cwd())

    def change(self, name: str, value: object) -> None:
        """Change an argument while the training goes on; ``name`` is ``epochs`` or one of
        ``CHANGEABLE``.

        Raises:
            ValueError: the value cannot be converted; nothing is changed.
        """
        object.__setattr__(self, name, _CONVERSIONS[name](name, value))

    def check(self) -> None:
        """Refuse contradictory arguments, in upstream's words.

        Raises:
            ValueError: the arguments contradict each other.
        """
        if self.monitor_epochs != -1 and self.monitor_epochs < self.epochs_before_pred:
            message = "monitor_epochs cannot be less than epochs_before_pred"
            raise ValueError(message)
        if self.monitor_epochs == 0:
            message = "monitor_epochs cannot be zero"
            raise ValueError(message)
        sampling_fields(self.rate_hz, self.overhead_budget, self.keep_full_s)
        self._check_extras()
        if self.locate not in LOCATE:
            message = f"locate must be {' or '.join(LOCATE)}, got {self.locate!r}"
            raise ValueError(message)
        if self.prometheus is not None:
            parse_bind_address(self.prometheus)
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

    def _check_extras(self) -> None:
        self.limits.check()
        check_action(self.budget_on, self.on_budget)
        check_sync(self.sync)
        if self.attribution not in (None, *SCOPES):
            message = f"attribution must be {' or '.join(SCOPES)}, got {self.attribution!r}"
            raise ValueError(message)
        for name in ("steps_per_epoch", "max_steps"):
            steps: object = getattr(self, name)
            if steps is not None and not is_count(steps):
                message = f"{name} must be a whole number of at least 1, not {steps!r}"
                raise ValueError(message)
        if self.default_answer is not None and self.default_answer not in ANSWERS:
            message = f"default_answer must be {' or '.join(ANSWERS)}, not {self.default_answer!r}"
            raise ValueError(message)

    @property
    def limits(self) -> Limits:
        """Return what the training may cost."""
        return Limits(self.max_kwh, self.max_gco2eq, self.max_seconds)

    def budget(self) -> Budget | None:
        """Return the limits, how they are checked, and what happens at one; None without limits."""
        limits = self.limits
        return Budget(limits, self.budget_on, self.on_budget) if limits else None

    @property
    def purpose(self) -> tuple[str, str, str]:
        """Return project, stage and parent: the arguments, else the environment; empty without."""
        given = (
            (self.project, "CARBONTRACKER_PROJECT"),
            (self.stage, "CARBONTRACKER_STAGE"),
            (self.parent, "CARBONTRACKER_PARENT"),
        )
        project, stage, parent = (
            (text or os.environ.get(variable, "")).strip() for text, variable in given
        )
        return project, stage, parent

    @property
    def unattended_answer(self) -> str:
        """Return the answer to ``stop_and_confirm`` without a terminal, ``y`` or ``n``.

        The argument, else ``CARBONTRACKER_ANSWER``, else ``y``: a job does not end unasked.
        """
        given = self.default_answer or os.environ.get("CARBONTRACKER_ANSWER", "")
        answer = _answer(given)
        return answer if answer in ANSWERS else ANSWERS[0]

    def check_names(self) -> None:
        """Refuse unknown names.

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
            ComponentNameError: a component is unknown.
        """
        return parse_components(self.components)

    @property
    def simulated(self) -> tuple[SimulatedDevice, ...]:
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
    def plan(self) -> Plan:
        """Return the length of the training."""
        return Plan(self.epochs, None if self.max_steps is None else int(self.max_steps))

    def predicts_after(self, epoch: int, steps: int) -> bool:
        """Return whether to predict after an epoch, counted from 1, and all steps up to its end."""
        if not self.predicting:
            return False
        if self.epochs_before_pred == -1 and self.plan.steps is not None:
            return self.plan.reached(epoch, steps)
        wanted = self.epochs if self.epochs_before_pred == -1 else self.epochs_before_pred
        return epoch - 1 < wanted <= epoch

    def ends_after(self, epoch: int, steps: int) -> bool:
        """Return whether monitoring ends after an epoch; 2.5 of them end with the third."""
        if self.monitor_epochs != -1:
            return 0 < self.monitor_epochs <= epoch
        return self.plan.reached(epoch, steps)

    @property
    def predicting(self) -> bool:
        """Return whether predictions are wanted and possible."""
        return self.plan.known and (self.epochs_before_pred > 0 or self.epochs_before_pred == -1)

    @property
    def forecasting(self) -> bool:
        """Return whether the whole training is predicted, for the user or for a budget."""
        budget = self.budget()
        watched = budget is not None and budget.needs_prediction
        return self.predicting or (self.plan.known and watched)

    def path(self, given: str | os.PathLike[str]) -> Path:
        """Return a path, of which a relative one begins where the tracker was made."""
        return self._made_in / given

    def records(self) -> Path:
        """Return the directory of the record.

        Raises:
            OSError: it is the default one, and there is no home directory.
        """
        return self.path(record_directory(self.log_dir))

    def config(self) -> Config:
        """Return what to sample."""
        return Config.from_environment(
            kinds=kinds_of(self.chosen_components),
            simulated=self.simulated,
            gpus_of_process=bool(self.devices_by_pid),
            spacing_s=float(self.update_interval),
            **sampling_fields(self.rate_hz, self.overhead_budget, self.keep_full_s),
        )

    def factors(self) -> CarbonFactors:
        """Return what turns the energy into grams.

        Raises:
            ValueError: an unknown location, or an impossible PUE or intensity.
        """
        # Not checked yet, and refused later if they are something else.
        given: Mapping[Any, Any] = self.api_keys or {}
        keys = {n: k for n, k in given.items() if isinstance(n, str) and isinstance(k, str)}
        return make_carbon_factors(self.location, self.pue, self.intensity, keys)


def check_api_names(api_keys: Mapping[Any, Any]) -> None:
    """Refuse keys for unknown providers.

    Raises:
        FetcherNameError: the provider is unknown, or the key is not text. The message does not
            repeat the argument: it may be the key.
    """
    for name, key in api_keys.items():
        provider = name.lower() if isinstance(name, str) else ""
        needs_key = provider in providers_with_key()
        known = needs_key or provider in providers_of_countries()
        if not known or not isinstance(key, str) or (needs_key and not key.strip()):
            names = ", ".join(providers_with_key())
            message = f"api_keys must name a provider ({names}) and hold its key"
            raise FetcherNameError(message)


def _with_keys(given: Mapping[Any, Any]) -> tuple[Mapping[Any, Any], list[str]]:
    """Return the keys without those that are empty, as an unset variable leaves them, and whose
    they are."""
    names = [
        name for name in given if isinstance(name, str) and name.lower() in providers_with_key()
    ]
    blank = [name for name in names if given[name] is None or not str(given[name]).strip()]
    kept = {name: key for name, key in given.items() if name not in blank}
    return kept if blank else given, blank


# ---- conversions: each takes the name and the value of an argument, which may be anything ----


def _count_of_epochs(name: str, value: object) -> object:
    number = as_count(value)
    if not isinstance(number, (int, float)) or math.isnan(number):
        raise ValueError(f"{name} must be a number of epochs, not {shown(value)}")
    return number


def _epochs(_: str, value: object) -> object:
    # Text and None are refused: carbontracker 2.4.x ends with an error there, too.
    number = None if isinstance(value, (str, bytes)) else as_count(value)
    if not isinstance(number, (int, float)) or not -math.inf < number < math.inf:
        message = f"epochs must be a finite number, 0 if it is not known, not {shown(value)}"
        raise ValueError(message)
    return number


def _spacing(name: str, value: object) -> object:
    number = as_number(value)
    if not isinstance(number, (int, float)):
        raise ValueError(f"{name} must be a number of seconds above 0, not {shown(value)}")
    return number if 0 < number <= MAX_SPACING_S else Settings.update_interval


def _decimals(name: str, value: object) -> object:
    number = as_count(value)
    if not isinstance(number, int) or number < 0:
        raise ValueError(f"{name} must be a whole number of at least 0, not {shown(value)}")
    return min(number, MAX_DECIMALS)


def _verbosity(name: str, value: object) -> object:
    number = as_count(value)
    if not isinstance(number, (int, float)):
        raise ValueError(f"{name} must be a number, 0 for a silent console, not {shown(value)}")
    return number


def _count(_: str, value: object) -> object:
    return as_count(value)


def _number(_: str, value: object) -> object:
    return as_number(value)


def _limit(_: str, value: object) -> object:
    return value if isinstance(value, bool) else as_number(value)


def _optional_flag(name: str, value: object) -> object:
    return None if value is None else as_flag(name, value)


def _flag_or_text(name: str, value: object) -> object:
    text = isinstance(value, (str, bytes))
    return as_text(name, value) if text else _optional_flag(name, value)


def _trace(name: str, value: object) -> object:
    if not isinstance(value, (bool, str, bytes, os.PathLike, type(None))):
        raise ValueError(f"{name} must be True or the path of a file, not {shown(value)}")
    return value if isinstance(value, bool) else as_path(name, value)


def _previous_run(name: str, value: object) -> object:
    if value == "" or not isinstance(value, (str, os.PathLike, type(None))):
        message = f"{name} must be a record, a directory or a run's id, not {shown(value)}"
        raise ValueError(message)
    return as_path(name, value)


def _components(name: str, value: object) -> object:
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return as_text(name, value)


def _prefix(name: str, value: object) -> object:
    text = as_text(name, value if isinstance(value, (str, bytes)) else str(value))
    return as_file_name(text or "")


def _word(name: str, value: object) -> object:
    text = as_text(name, value)
    return None if text is None else text.strip().lower()


def _action(_: str, value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _answer(value: object) -> object:
    if isinstance(value, bool):
        return ANSWERS[0] if value else ANSWERS[1]
    text = value.strip().lower() if isinstance(value, str) else value
    return text[:1] if isinstance(text, str) and text in (*ANSWERS, "yes", "no") else text


def _intensity(_: str, value: object) -> object:
    return value if isinstance(value, (str, bool)) else as_number(value)


def _port(_: str, value: object) -> object:
    return value if isinstance(value, (str, bool)) else as_count(value)


def _loggers(name: str, value: object) -> object:
    if isinstance(value, (str, bytes)):
        raise ValueError(f"{name} must be a list of loggers, not {shown(value)}")
    if isinstance(value, (list, tuple)):
        return value
    return tuple(value) if isinstance(value, Iterable) else (value,)


_CONVERSIONS: dict[str, Callable[[str, object], object]] = {
    "epochs": _epochs,
    **dict.fromkeys(("epochs_before_pred", "monitor_epochs"), _count_of_epochs),
    "update_interval": _spacing,
    **dict.fromkeys(("interpretable", "stop_and_confirm", "ignore_errors"), as_flag),
    "components": _components,
    "devices_by_pid": as_flag,
    "log_dir": as_path,
    "log_file_prefix": _prefix,
    "verbose": _verbosity,
    "decimal_precision": _decimals,
    **dict.fromkeys(("sim_cpu_tdp", "sim_cpu_util", "sim_gpu_watts", "sim_gpu_util"), _number),
    "location": as_text,
    "pue": _number,
    "intensity": _intensity,
    "record": _optional_flag,
    **dict.fromkeys(("rate_hz", "overhead_budget", "keep_full_s"), _number),
    "locate": _word,
    "advise": as_flag,
    **dict.fromkeys(("steps_per_epoch", "max_steps"), _count),
    **dict.fromkeys(("max_kwh", "max_gco2eq", "max_seconds"), _limit),
    "budget_on": _word,
    "on_budget": _action,
    "default_answer": lambda _, value: _answer(value),
    "prometheus": _port,
    "otlp": _flag_or_text,
    "progress": as_flag,
    "loggers": _loggers,
    "trace": _trace,
    "previous_run": _previous_run,
    "job": _optional_flag,
    "sync": lambda _, value: value,
    "attribution": _word,
    **dict.fromkeys(PURPOSE, as_text),
}
