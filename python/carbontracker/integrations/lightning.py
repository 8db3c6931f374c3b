"""For Lightning: ``Trainer(..., callbacks=[CarbonTrackerCallback()])``.

The class is for the package that the program has imported, ``lightning`` or ``pytorch_lightning``.
A step is a step of the optimizer, as ``trainer.global_step`` counts.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

from carbontracker.integrations.framework_run import (
    EVALUATION,
    FrameworkCallback,
    batch_size,
    begin_hook,
    framework_class,
    hook,
)
from carbontracker.json_values import mapping, string

__all__ = ["CarbonTrackerCallback"]


class Hooks(FrameworkCallback):
    """Measures each ``fit()`` from its first to its last batch; validation is a window in it.

    A budget with ``on_budget="raise"`` ends the training as ``trainer.should_stop`` does.

    Args:
        **arguments: of ``CarbonTracker``, without ``epochs``, ``max_steps`` and
            ``steps_per_epoch``, which the trainer knows.

    Raises:
        TypeError: an unknown argument.
        ValueError: an impossible argument.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._global_step = 0
        self._training_id = ""
        self._resumed_id = self._resumed_run = ""

    @begin_hook
    def on_train_start(self, trainer: Any, *_: Any) -> None:
        """Begin a training, after the sanity check, or go on with one after a checkpoint."""
        self._global_step = trainer.global_step
        self._training_id = self._resumed_id or os.urandom(8).hex()
        parent, self._resumed_id, self._resumed_run = self._resumed_run, "", ""
        self.framework_run.begin(
            **_plan(trainer),
            ranks=trainer.world_size,
            training_id=self._training_id,
            parent=parent,
        )

    @hook
    def on_train_epoch_start(self, *_: Any) -> None:
        """End the epoch before, and begin one."""
        self.framework_run.epoch_begins()

    @hook
    def on_train_batch_end(
        self, trainer: Any, module: Any = None, outputs: Any = None, batch: Any = None, *_: Any
    ) -> None:
        """Count the samples of the batch, and mark the optimizer's steps that it has made."""
        del module, outputs
        self.framework_run.count(samples=batch_size(batch))
        before, self._global_step = self._global_step, trainer.global_step
        self.framework_run.step(self._global_step - before)

    @hook
    def on_validation_start(self, *_: Any) -> None:
        """Begin the validation."""
        self.framework_run.part_begins(EVALUATION)

    @hook
    def on_validation_end(self, *_: Any) -> None:
        """End the validation."""
        self.framework_run.part_ends()

    @hook
    def on_train_end(self, *_: Any) -> None:
        """End the training."""
        self.framework_run.end()

    @hook
    def on_save_checkpoint(self, *_: Any) -> None:
        """Mark a checkpoint."""
        self.framework_run.saved()

    @hook
    def on_exception(self, *_: Any) -> None:
        """End the training: the epoch is not finished."""
        if self.framework_run.tracker is not None:
            self.framework_run.tracker.stop(failed=True)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint carries: the name of the training, and of this run of it."""
        return {"training_id": self._training_id, "run_id": self.framework_run.run_id}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the name of the training from a checkpoint: this is another attempt."""
        carried = mapping(state_dict)  # a damaged one is that of no training
        self._resumed_id = string(carried.get("training_id"))
        self._resumed_run = string(carried.get("run_id"))

    def ask_to_stop(self, trainer: Any, *_: Any) -> None:
        """End the training after this batch."""
        trainer.should_stop = True


if TYPE_CHECKING:
    CarbonTrackerCallback = Hooks
else:
    __getattr__ = framework_class(
        Hooks, "CarbonTrackerCallback", "Callback", "lightning.pytorch", "pytorch_lightning"
    )


def _plan(trainer: Any) -> dict[str, Any]:
    """Return what is left of the training.

    ``estimated_stepping_batches`` is not asked: it may load data, for which ranks wait.
    """
    batches = trainer.num_training_batches  # inf if it is not known
    manual = not trainer.lightning_module.automatic_optimization
    varying = any(getattr(callback, "scheduling", None) for callback in trainer.callbacks)
    per_epoch = None
    if not (manual or varying or math.isinf(batches)):
        per_epoch = math.ceil(batches / trainer.accumulate_grad_batches)
    limits = []
    if trainer.max_steps not in {-1, None}:
        limits.append(trainer.max_steps)
    endless = trainer.max_epochs in {-1, None}
    if per_epoch and not endless:
        limits.append(trainer.max_epochs * per_epoch)
    left = 0 if endless else trainer.max_epochs - trainer.current_epoch
    max_steps = min(limits) - trainer.global_step if limits else None
    return {"epochs": left, "max_steps": max_steps, "steps_per_epoch": per_epoch}
