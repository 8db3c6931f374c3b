"""For Keras: ``model.fit(..., callbacks=[CarbonTrackerCallback()])``.

Each ``fit`` is a training. Keras announces no end after an exception: such a training ends where it
was left, when the next one begins, or when the program ends.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from carbontracker.integrations.framework_run import (
    EVALUATION,
    FrameworkCallback,
    begin_hook,
    framework_class,
    hook,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType


__all__ = ["CarbonTrackerCallback"]

MAX_FRAMES = 50
"""Callers of a hook that are looked at for ``fit``."""


class Batches(NamedTuple):
    """How many samples are in the batches of one pass over the data."""

    size: int
    """Of each but the last."""
    number: int
    samples: int
    """Of all batches together."""
    again_each_epoch: bool
    """Whether an epoch begins a pass; else it goes on where the epoch before ended."""

    def until(self, batch: int) -> int:
        """Return the samples of the first batches."""
        return min(batch * self.size, self.samples)


class Hooks(FrameworkCallback):
    """Measures each ``fit``; validation is a window in its epochs.

    A budget with ``on_budget="raise"`` ends the training as ``model.stop_training`` does.

    Args:
        **arguments: of ``CarbonTracker``, without ``epochs``, ``max_steps`` and
            ``steps_per_epoch``, which Keras knows.

    Raises:
        TypeError: an unknown argument.
        ValueError: an impossible argument.
    """

    params: Mapping[str, Any]
    model: Any

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._batches = 0
        self._begun = False
        self._data: Batches | None = None
        """Of the open ``fit``; None if the size of its batches is not known."""
        self._read = 0
        """Batches of the pass over the data so far."""
        self._trained: Any = None
        """The model: a training within this one sets that of the callback."""
        self._plan: Mapping[str, Any] = {}

    @begin_hook
    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """End a training that an exception has left. The first epoch says how long this one is."""
        self.framework_run.end_where_left()
        self._begun = False
        self._trained, self._plan = self.model, self.params

    @hook
    def on_epoch_begin(self, epoch: int, *_: Any, **__: Any) -> None:
        """Begin an epoch; with the first one, the training."""
        self._batches = 0
        if not self._begun:
            self._begun = True
            self._data, self._read = _batches_of(self._trained), 0
            # `epochs` is the number of the last one, and the first is `initial_epoch`.
            self.framework_run.begin(
                epochs=self._plan["epochs"] - epoch, steps_per_epoch=self._plan.get("steps")
            )
        self.framework_run.epoch_begins()
        data = self._data
        if data is not None and (data.again_each_epoch or self._read >= data.number):
            self._read = 0

    @hook
    def on_train_batch_end(self, batch: int, *_: Any, **__: Any) -> None:
        """Mark the steps since the last call: ``steps_per_execution`` of them."""
        before, self._batches = self._batches, batch + 1
        steps = self._batches - before
        if self._data is not None:
            read, self._read = self._read, self._read + steps
            samples = self._data.until(self._read) - self._data.until(read)
            self.framework_run.count(samples=samples)
        self.framework_run.step(steps)

    @hook
    def on_test_begin(self, *_: Any, **__: Any) -> None:
        """Begin the validation."""
        self.framework_run.part_begins(EVALUATION)

    @hook
    def on_test_end(self, *_: Any, **__: Any) -> None:
        """End the validation."""
        self.framework_run.part_ends()

    @hook
    def on_train_end(self, *_: Any, **__: Any) -> None:
        """End the training."""
        self.framework_run.end()

    def ask_to_stop(self, *_: Any) -> None:
        """End the training after this batch."""
        self._trained.stop_training = True


def _batches_of(model: Any) -> Batches | None:
    """Return the batches of the ``fit`` of a model that calls; None if their size is not known.

    Keras does not tell callbacks, so its own variable is looked at. Known are those of arrays and
    of a ``DataLoader`` of torch.
    """
    frame: FrameType | None = sys._getframe(1)
    for _ in range(MAX_FRAMES):
        if frame is None:
            return None
        if frame.f_code.co_name == "fit" and "epoch_iterator" in frame.f_code.co_varnames:
            here = frame.f_locals
            if here.get("self") is model:
                return _batches(here.get("epoch_iterator"))
        frame = frame.f_back
    return None


def _batches(iterator: Any) -> Batches | None:
    """Return what an ``EpochIterator`` of Keras knows of its batches; None if that is too little.

    It asks for what is not public, which another version of Keras may not have.
    """
    try:
        return _known_batches(iterator)
    except (AttributeError, TypeError, ValueError):
        return None


def _known_batches(iterator: Any) -> Batches | None:
    adapter: Any = getattr(iterator, "data_adapter", None)
    size, number = getattr(adapter, "batch_size", None), getattr(adapter, "num_batches", None)
    if not (isinstance(size, int) and isinstance(number, int) and size > 0 < number):
        return None
    loader = getattr(adapter, "_dataloader", None)
    if loader is not None:
        # The adapter's last batch is wrong for a sampler of the user, and with `drop_last`.
        samples = number * size if loader.drop_last else len(loader.sampler)
    elif adapter.has_partial_batch is None:
        return None
    else:
        samples = number * size
        if adapter.has_partial_batch:
            samples += adapter.partial_batch_size - size
    return Batches(size, number, samples, not iterator.steps_per_epoch)


if TYPE_CHECKING:
    CarbonTrackerCallback = Hooks
else:
    __getattr__ = framework_class(
        Hooks, "CarbonTrackerCallback", "Callback", "keras.callbacks", "tf_keras.callbacks"
    )
