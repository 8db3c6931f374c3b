"""What the callbacks of all frameworks share: a tracker for each training, and its epochs.

An epoch lasts from its beginning to the beginning of the next one, or to the end of the training:
frameworks validate, and other callbacks save, after they have announced an epoch's end. The first
epoch begins with the training. Nothing of ours raises in a framework's loop.
"""

from __future__ import annotations

import functools
import math
import sys
import time
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar, cast

from carbontracker.energy.session import Mark
from carbontracker.exceptions import BudgetExceeded
from carbontracker.guard import FRAMEWORK, nothing, optional
from carbontracker.integrations.events import Events
from carbontracker.settings import Settings
from carbontracker.tracker import CarbonTracker

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from carbontracker.model.result import Result
    from carbontracker.model.work import Work

TRAINING, EVALUATION, CHECKPOINT = "training", "evaluation", "checkpoint"
"""Names of the windows in an epoch."""
PLAN = ("epochs", "max_steps", "steps_per_epoch")
"""Arguments of ``CarbonTracker`` that the framework knows."""

MAX_PARTS = 100
"""Parts of a batch that are looked at for a tensor."""

_Hook = TypeVar("_Hook", bound="Callable[..., Any]")


class FrameworkCallback:
    """What the callbacks of all frameworks have: the trainings that they see.

    The framework's own base class comes after this one.

    Args:
        **arguments: of ``CarbonTracker``, without the plan, which the framework knows.

    Raises:
        TypeError: an unknown argument, or one of the plan.
        ValueError: an impossible argument.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        self.framework_run = FrameworkRun(arguments)

    @property
    def tracker(self) -> CarbonTracker | None:
        """Return the tracker of the newest training; None before the first one."""
        return self.framework_run.tracker

    @property
    def result(self) -> Result | None:
        """Return what the newest training has cost so far; None until an epoch has ended."""
        return self.framework_run.result

    packages: frozenset[str] = frozenset()
    """Of the framework."""

    def ask_to_stop(self, *arguments: Any) -> None:
        """Ask the framework to end the training, with the arguments of the hook."""
        raise NotImplementedError


def hook(method: _Hook, *, begins: bool = False) -> _Hook:
    """Make ``method`` a hook that never raises; where a budget is spent, the training is ended.

    After a failure, the training goes on without being measured. An event that comes again because
    the callback was given more than once, or that is of a training within the one that is measured,
    is no event.

    Args:
        method: what is done.
        begins: the event is the begin of a training.
    """
    name = method.__name__

    @functools.wraps(method)
    def guarded(self: FrameworkCallback, *args: Any, **kwargs: Any) -> None:
        run = self.framework_run
        if run.failed:
            return

        def call() -> None:
            if not run.events.is_to_be_left_out(name, self.packages, begins=begins):
                method(self, *args, **kwargs)

        try:
            optional(FRAMEWORK, call, run.fail, BudgetExceeded)
        except BudgetExceeded:
            optional(FRAMEWORK, lambda: self.ask_to_stop(*args), nothing)

    return cast("_Hook", guarded)


def begin_hook(method: _Hook) -> _Hook:
    """Make ``method`` the hook of the begin of a training."""
    return hook(method, begins=True)


def framework_class(hooks: type, name: str, base: str, *modules: str) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a module whose class is made when it is first asked for.

    So the module can be imported without the framework.

    Args:
        hooks: what the class does.
        name: its name in the module of ``hooks``.
        base: the framework's own class, which it is as well.
        modules: where that may be: in the first one that the program has imported, else in the
            first one that is installed.
    """
    where = hooks.__module__

    def load(wanted: str) -> Any:
        if wanted != name:
            message = f"module {where!r} has no attribute {wanted!r}"
            raise AttributeError(message)
        bases = hooks, _base_class(base, *modules)
        packages = frozenset(module.partition(".")[0] for module in modules)
        own = {"__module__": where, "__doc__": hooks.__doc__, "packages": packages}
        made = type(name, bases, own)
        setattr(sys.modules[where], name, made)
        return made

    return load


def _base_class(name: str, *modules: str) -> Any:
    packages = {module: module.partition(".")[0] for module in modules}
    loaded = [module for module in modules if packages[module] in sys.modules]
    installed = (module for module in modules if find_spec(packages[module]) is not None)
    return getattr(import_module(loaded[0] if loaded else next(installed, modules[0])), name)


def batch_size(batch: Any) -> float:
    """Return the length of the first tensor in a batch; NaN if there is none, or it refuses.

    Batches are tensors, or collections of them.
    """
    try:
        return _first_length(batch)
    except Exception:  # noqa: BLE001  # classes of the user: a shape may be anything
        return math.nan


def _first_length(batch: Any) -> float:
    left, looked = [batch], 0
    while left and looked < MAX_PARTS:
        one, looked = left.pop(0), looked + 1
        shape = getattr(one, "shape", None)
        if shape is not None:
            return float(shape[0]) if len(shape) else math.nan
        if isinstance(one, Mapping):
            left = [*one.values(), *left]
        elif isinstance(one, (list, tuple)):
            left = [*one, *left]
    return math.nan


class FrameworkRun:
    """The trainings that one callback sees, one after the other, each with a tracker of its own.

    Args:
        arguments: of ``CarbonTracker``, without the plan, which the framework knows.

    Raises:
        TypeError: an unknown argument, or one of the plan.
        ValueError: an impossible argument.
    """

    def __init__(self, arguments: dict[str, Any]) -> None:
        for name in PLAN:
            if name in arguments:
                message = f"{name} is known to the framework: leave it out"
                raise TypeError(message)
        settings = Settings(0, **arguments)
        settings.check()
        if not settings.ignore_errors:
            settings.check_names()
        settings.factors().close()
        self.arguments = arguments
        self.tracker: CarbonTracker | None = None
        """Of the newest training; None before the first one."""
        self.events = Events()
        self.failed = False
        """Whether something of ours failed: nothing is measured from there on."""
        self._untouched = False
        """Whether the open epoch is the first one, and the framework has not begun it yet."""
        self._newest_ns = 0
        """When the framework was heard of last, ns of CLOCK_MONOTONIC."""
        self._part: tuple[str, Mark, AbstractContextManager[None]] | None = None
        self._training_since = Mark(None, False, 0)

    def __reduce__(self) -> tuple[type[FrameworkRun], tuple[dict[str, Any]]]:
        """Return what copies and other processes get: the arguments, without a training."""
        return FrameworkRun, (self.arguments,)

    @property
    def active(self) -> bool:
        """Return whether a training is being measured."""
        return self.tracker is not None and not self.tracker.deleted

    @property
    def result(self) -> Result | None:
        """Return what the newest training has cost so far; None until an epoch has ended."""
        return None if self.tracker is None else self.tracker.result

    def begin(
        self,
        *,
        epochs: float = 0,
        max_steps: int | None = None,
        steps_per_epoch: int | None = None,
        ranks: int = 1,
        training_id: str = "",
        parent: str = "",
    ) -> None:
        """Begin a training, and its first epoch. One that was not ended ends where it was left.

        Args:
            epochs: how many are left; 0 if that is not known.
            max_steps: how many steps are left; None if that is not known.
            steps_per_epoch: how many a whole epoch has; None if that is not known.
            ranks: how many processes the framework trains with.
            training_id: what checkpoints call it; empty if they do not carry a name.
            parent: the run whose checkpoint this one starts from; empty if there is none.
        """
        self.end_where_left()
        plan: dict[str, Any] = {"max_steps": max_steps, "steps_per_epoch": steps_per_epoch}
        if max_steps is not None and max_steps < 1:
            plan["max_steps"] = None  # nothing is left: the framework will end at once
        if ranks > 1:
            plan["job"] = True
        if parent:
            plan["parent"] = parent
        self._part = None
        self.tracker = CarbonTracker(max(0, epochs), **plan | self.arguments)
        self.tracker.epoch_start()
        if training_id:
            self._trainings().name_training(training_id)
        self._untouched = True
        self._epoch_has_begun()

    def epoch_begins(self) -> None:
        """End the epoch that is open, and begin the next one at the same moment."""
        if self._untouched or not self.active:
            self._untouched = False
            self.touch()
            return
        end = self._end_epoch()
        if end is not None and self.active:
            self._trainings().epoch_start(end)
            self._epoch_has_begun()

    def step(self, n: int = 1) -> None:
        """Mark the end of ``n`` optimizer steps."""
        self.touch()
        self._untouched = False
        if self.tracker is not None and n > 0:
            self.tracker.step(n)

    def count(
        self, tokens: float | None = None, samples: float | None = None, flops: float | None = None
    ) -> None:
        """Count work of this process in the open epoch."""
        if self.tracker is not None:
            self._trainings().work.add(tokens, samples, flops)

    def count_of_whole(self, work: Work) -> None:
        """Take work that is only known of the whole training; of this process."""
        if self.tracker is not None:
            self._trainings().work.of_whole = work

    def saved(self) -> None:
        """Mark that the state of the training has been saved."""
        if self.active and self.tracker is not None:
            self.tracker.checkpoint()

    @property
    def run_id(self) -> str:
        """Return the id of the newest training's record; empty without one."""
        return "" if self.tracker is None else self.tracker.run_id

    def touch(self) -> None:
        """Note the time: what is found to be a part later may have begun here."""
        self._newest_ns = time.monotonic_ns()

    def part_begins(self, name: str, *, earlier: bool = False) -> None:
        """Begin a part of the epoch that is not training; one that is open goes on.

        Args:
            name: ``EVALUATION`` or ``CHECKPOINT``.
            earlier: it began when the framework was heard of last.
        """
        if not self.active or (self._part is not None and self._part[0] == name):
            return
        self.part_ends()
        training = self._trainings()
        run = training.run
        if run is None:
            return
        if not earlier:
            training.synchronize()
        start = Mark(None, False, self._newest_ns) if earlier else run.session.mark()
        apart = training.steps.phase(name, start.t_ns)
        apart.__enter__()
        run.windows.add(TRAINING, self._training_since, start)
        self._part = name, start, apart

    def part_ends(self) -> None:
        """End that part, if one is open: training goes on."""
        if self._part is None:
            return
        name, start, apart = self._part
        self._part = None
        self._trainings().synchronize()
        apart.__exit__(None, None, None)
        run = self._trainings().run
        if run is not None:
            self._training_since = run.session.mark()
            self._newest_ns = self._training_since.t_ns
            run.windows.add(name, start, self._training_since)

    def end(self) -> None:
        """End the training, and with it the epoch that is open."""
        if self.tracker is not None and self.active:
            self._end_epoch()
            self.tracker.stop()
        self.events.end()

    def end_where_left(self) -> None:
        """End a training of which the framework did not announce the end, where it was left."""
        if self.active:
            self._trainings().lost(self._newest_ns)

    def fail(self, _: str) -> None:
        """Measure nothing from now on: something of ours failed."""
        self.failed = True
        optional(FRAMEWORK, self.end, nothing)

    def _end_epoch(self) -> Mark | None:
        """End the epoch that is open, and return its end."""
        self.part_ends()
        training = self._trainings()
        run = training.run
        if run is None:
            return None
        run.windows.add(TRAINING, self._training_since, run.session.mark())
        epoch = training.epoch_end()
        self.touch()
        return None if epoch is None or training.run is None else run.ends_of(epoch)[1]

    def _epoch_has_begun(self) -> None:
        """Note that it is training since the open epoch began."""
        run = self._trainings().run
        began_ns = None if run is None else run.open_since_ns()
        if began_ns is not None:
            self._training_since = Mark(None, False, began_ns)
        self.touch()

    def _trainings(self) -> Any:
        """Return the tracker's training run."""
        assert self.tracker is not None
        return self.tracker._training
