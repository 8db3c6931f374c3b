"""For Hugging Face Transformers: ``Trainer(..., callbacks=[CarbonTrackerCallback()])``.

A step is an optimizer step, however many batches it accumulates. The length comes from the
trainer's ``max_steps``, so the last epoch, and one that is resumed, may be parts of one.
"""

from __future__ import annotations

import math
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from carbontracker.integrations.framework_run import (
    CHECKPOINT,
    EVALUATION,
    FrameworkCallback,
    begin_hook,
    framework_class,
    hook,
)
from carbontracker.json_values import mapping, string
from carbontracker.model.work import Work
from carbontracker.training.steps import length_of

__all__ = ["CarbonTrackerCallback"]

KEPT = "carbontracker"
"""Key of what a checkpoint keeps: the name of the training, and the id of its run."""


class Hooks(FrameworkCallback):
    """Measures each ``train()``: evaluation and checkpoints are windows in the epochs.

    A budget with ``on_budget="raise"`` ends the training as ``control.should_training_stop`` does.

    Args:
        **arguments: of ``CarbonTracker``, without ``epochs``, ``max_steps`` and
            ``steps_per_epoch``, which the trainer knows.

    Raises:
        TypeError: an unknown argument.
        ValueError: an impossible argument.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._seen = Work(0, 0, 0)
        """Of all processes: tokens and operations as the trainer counted them last, and the samples
        of the open epoch."""
        self._rows: int | None = None
        """Samples in an epoch, of all processes; None if that is not known."""
        self._steps_per_epoch: int | None = None

    @begin_hook
    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002  # the framework's signature
        """Begin a training, or go on with one after a checkpoint."""
        loader = kwargs.get("train_dataloader")
        batches, self._rows = length_of(loader), length_of(getattr(loader, "dataset", None))
        self._seen = Work(_tokens(args, state), 0, state.total_flos)
        # The trainer saves this dictionary with each checkpoint, and reads it when it resumes.
        kept = getattr(state, "stateful_callbacks", None)
        kept = kept if isinstance(kept, dict) else {}
        before = mapping(mapping(kept.get(KEPT)).get("attributes"))
        training_id = string(before.get("training_id")) or os.urandom(8).hex()
        accumulated = args.gradient_accumulation_steps
        self._steps_per_epoch = math.ceil(batches / accumulated) if batches else None
        self.framework_run.begin(
            max_steps=state.max_steps - state.global_step,
            steps_per_epoch=self._steps_per_epoch,
            ranks=args.world_size,
            training_id=training_id,
            parent=string(before.get("run_id")),
        )
        names = {"training_id": training_id, "run_id": self.framework_run.run_id}
        kept[KEPT] = {"args": {}, "attributes": names}

    @hook
    def on_epoch_begin(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        """End the epoch before, with its evaluation, and begin one, or go on with it."""
        done = state.global_step % self._steps_per_epoch if self._steps_per_epoch else 0
        self._seen = replace(self._seen, samples=done * _samples_per_step(args, state))
        self.framework_run.epoch_begins()

    @hook
    def on_step_end(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        """Count what the step has processed, and mark it."""
        samples = self._seen.samples + _samples_per_step(args, state)
        if self._rows is not None:
            samples = min(samples, self._rows)  # the last batches of an epoch may be smaller
        now = replace(self._seen, tokens=_tokens(args, state), samples=samples)
        # What the trainer counts is of all processes: each has an equal share of it.
        self.framework_run.count(
            tokens=_share(now.tokens - self._seen.tokens, args),
            samples=_share(now.samples - self._seen.samples, args),
        )
        self._seen = now
        self.framework_run.step()

    @hook
    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        """Note the time: evaluation may follow."""
        self.framework_run.touch()

    @hook
    def on_log(self, *_: Any, **__: Any) -> None:
        """Note the time: evaluation may follow."""
        self.framework_run.touch()

    @hook
    def on_prediction_step(self, *_: Any, **__: Any) -> None:
        """Take what was since the last event for evaluation, which has no hook of its own."""
        self.framework_run.part_begins(EVALUATION, earlier=True)

    @hook
    def on_evaluate(self, *_: Any, **__: Any) -> None:
        """End the evaluation."""
        self.framework_run.part_ends()

    @hook
    def on_save(self, *_: Any, **__: Any) -> None:
        """Take what was since the last event for a checkpoint."""
        self.framework_run.part_begins(CHECKPOINT, earlier=True)
        self.framework_run.part_ends()
        self.framework_run.saved()

    @hook
    def on_train_end(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        """End the training."""
        flops = state.total_flos - self._seen.flops
        if flops > 0:  # the trainer adds them up when it logs: of epochs they are not known
            self.framework_run.count_of_whole(Work(flops=flops / args.world_size))
        self.framework_run.end()

    def ask_to_stop(self, _: Any, __: Any, control: Any, *___: Any) -> None:
        """End the training after this step."""
        control.should_training_stop = True


def _samples_per_step(args: Any, state: Any) -> int:
    """Return the samples of a whole step of all processes."""
    batch: int = state.train_batch_size or args.train_batch_size
    return int(batch * args.gradient_accumulation_steps * args.world_size)


def _tokens(args: Any, state: Any) -> float:
    """Return the tokens that the trainer has seen; NaN if it does not count them."""
    wanted = getattr(args, "include_num_input_tokens_seen", "no")
    return math.nan if wanted in (False, None, "no") else state.num_input_tokens_seen


def _share(count: float, args: Any) -> float | None:
    """Return the share of one process in a count of all; None if the count is not known."""
    return None if math.isnan(count) else count / args.world_size


if TYPE_CHECKING:
    CarbonTrackerCallback = Hooks
else:
    __getattr__ = framework_class(Hooks, "CarbonTrackerCallback", "TrainerCallback", "transformers")
