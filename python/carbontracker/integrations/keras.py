"""For Keras: ``model.fit(..., callbacks=[CarbonTrackerCallback()])``.

Each ``fit`` is a training. Keras announces no end after an exception: such a training ends where it
was left, when the next one begins, or when the program ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carbontracker.integrations.framework_run import (
    EVALUATION,
    FrameworkCallback,
    framework_class,
    hook,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["CarbonTrackerCallback"]


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

    @hook
    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """End a training that an exception has left. The first epoch says how long this one is."""
        self.framework_run.end_where_left()
        self._begun = False

    @hook
    def on_epoch_begin(self, epoch: int, *_: Any, **__: Any) -> None:
        """Begin an epoch; with the first one, the training."""
        self._batches = 0
        if not self._begun:
            self._begun = True
            # `epochs` is the number of the last one, and the first is `initial_epoch`.
            self.framework_run.begin(
                epochs=self.params["epochs"] - epoch, steps_per_epoch=self.params.get("steps")
            )
        self.framework_run.epoch_begins()

    @hook
    def on_train_batch_end(self, batch: int, *_: Any, **__: Any) -> None:
        """Mark the steps since the last call: ``steps_per_execution`` of them."""
        before, self._batches = self._batches, batch + 1
        self.framework_run.step(self._batches - before)

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
        self.model.stop_training = True


if TYPE_CHECKING:
    CarbonTrackerCallback = Hooks
else:
    __getattr__ = framework_class(
        Hooks, "CarbonTrackerCallback", "Callback", "keras.callbacks", "tf_keras.callbacks"
    )
