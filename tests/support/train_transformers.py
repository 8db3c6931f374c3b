"""Trains with the Trainer of Hugging Face Transformers."""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from carbontracker.integrations.transformers import CarbonTrackerCallback
from tests.support.frameworks import ARGUMENTS, Around, seen, work, write

EPOCH = 20
"""Optimizer steps in an epoch."""
VALIDATION = 5
"""Batches of a validation."""


class Model(torch.nn.Module):  # type: ignore[misc]  # torch is not followed
    """The smallest model that a Trainer trains."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, x: Any, labels: Any = None) -> dict[str, Any]:
        """Return the loss and the result."""
        work()
        out = self.layer(x)
        return {"loss": torch.nn.functional.mse_loss(out, labels), "logits": out}


class Data(torch.utils.data.Dataset):  # type: ignore[misc]
    """So many rows."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def __len__(self) -> int:
        """Return how many rows there are."""
        return self.rows

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return a row."""
        return {"x": torch.ones(2), "labels": torch.ones(1)}


class Open(TrainerCallback):  # type: ignore[misc]
    """Opens the window; it stands behind our callback."""

    def __init__(self, around: Around) -> None:
        self.around = around

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Open it."""
        self.around.begin()


class Close(TrainerCallback):  # type: ignore[misc]
    """Closes the window; it stands before our callback."""

    def __init__(self, around: Around) -> None:
        self.around = around

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Close it."""
        self.around.end()


class Halt(TrainerCallback):  # type: ignore[misc]
    """Raises, or ends the training, after so many steps."""

    def __init__(self, after: int, error: bool = False) -> None:
        self.after, self.error = after, error

    def on_step_end(self, _: Any, state: Any, control: Any, **__: Any) -> None:
        """Halt when it is time to."""
        if state.global_step == self.after:
            if self.error:
                raise RuntimeError("out of memory")
            control.should_training_stop = True


def train(
    directory: Path, *more: Any, resume: Path | None = None, rows: int = EPOCH, **arguments: Any
) -> tuple[CarbonTrackerCallback, Around]:
    """Train, and return our callback and the window beside it."""
    around = Around()
    settings_of_ours = ARGUMENTS | arguments.pop("ours", {})
    ours = arguments.pop("callback", None) or CarbonTrackerCallback(**settings_of_ours)
    settings = TrainingArguments(
        output_dir=str(directory),
        per_device_train_batch_size=1,
        per_device_eval_batch_size=1,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
        logging_strategy="no",
        **{"save_strategy": "no"} | arguments,
    )
    trainer = Trainer(
        model=Model(),
        args=settings,
        train_dataset=Data(rows),
        eval_dataset=Data(VALIDATION),
        callbacks=[Close(around), ours, Open(around), *more],
    )
    try:
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        around.end()
    return ours, around


def one(directory: Path, *more: Any, **arguments: Any) -> dict[str, Any]:
    """Train a scenario, and return what it saw."""
    ours, around = train(directory, *more, **arguments)
    return seen(ours.result, around.window)


def main() -> None:
    """Train all scenarios."""
    logging.disable(logging.WARNING)
    scenarios: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        scenarios["two and a half epochs"] = one(
            directory / "a", num_train_epochs=2.5, eval_strategy="epoch"
        )
        scenarios["max_steps"] = one(directory / "b", max_steps=30)
        scenarios["accumulation"] = one(
            directory / "c", num_train_epochs=2, gradient_accumulation_steps=4, rows=4 * 8
        )
        scenarios["evaluation by steps"] = one(
            directory / "d", num_train_epochs=2, eval_strategy="steps", eval_steps=8
        )
        twice = CarbonTrackerCallback(**ARGUMENTS)
        scenarios["given twice"] = one(directory / "t", twice, callback=twice, num_train_epochs=2)
        train(directory / "e", Halt(30), num_train_epochs=3, save_strategy="steps", save_steps=30)
        scenarios["resumed"] = one(
            directory / "e", num_train_epochs=3, resume=directory / "e" / "checkpoint-30"
        )
        scenarios["budget"] = one(
            directory / "f",
            num_train_epochs=3,
            ours={"max_seconds": 1.0, "on_budget": "raise"},
        )
        failed, _ = train(directory / "g", Halt(10, error=True), num_train_epochs=1)
        tracker = failed.tracker
        failed.framework_run.end_where_left()
        scenarios["failed"] = seen(None if tracker is None else tracker.result, None)
        scenarios["evaluated first"] = one(directory / "h", num_train_epochs=1, eval_on_start=True)
    write(scenarios)


if __name__ == "__main__":
    main()
