"""Trains a tiny language model with the Trainer of Transformers, fails, and resumes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from carbontracker.integrations.transformers import CarbonTrackerCallback
from tests.support.programs import DEVICES

ROWS, LENGTH, BATCH, ACCUMULATED = 22, 16, 2, 3


class Data(torch.utils.data.Dataset):  # type: ignore[misc]  # torch is not followed
    """Rows of tokens."""

    def __len__(self) -> int:
        """Return how many rows there are."""
        return ROWS

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return a row."""
        tokens = torch.full((LENGTH,), index % 7)
        return {"input_ids": tokens, "labels": tokens}


class Fail(TrainerCallback):  # type: ignore[misc]
    """Raises after so many steps."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_step_end(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
        """Raise when it is time to."""
        if state.global_step == self.after:
            raise RuntimeError("out of memory")


def main() -> None:
    """Train, and print what the trainer and the callback have counted."""
    directory = Path(sys.argv[1])

    def trainer(fail: int, callback: CarbonTrackerCallback) -> Trainer:
        arguments = TrainingArguments(
            output_dir=str(directory / "out"),
            num_train_epochs=2,
            per_device_train_batch_size=BATCH,
            gradient_accumulation_steps=ACCUMULATED,
            include_num_input_tokens_seen=True,
            save_strategy="steps",
            save_steps=5,
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            dataloader_pin_memory=False,
        )
        config = GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=32, n_positions=LENGTH)
        return Trainer(
            model=GPT2LMHeadModel(config),
            args=arguments,
            train_dataset=Data(),
            callbacks=[callback, Fail(fail)],
        )

    def ours() -> CarbonTrackerCallback:
        return CarbonTrackerCallback(
            verbose=0, log_dir=str(directory / "records"), epochs_before_pred=0, **DEVICES
        )

    failed, resumed = ours(), ours()
    try:
        trainer(6, failed).train()
    except RuntimeError:
        failed.framework_run.end_where_left()
    second = trainer(-1, resumed)
    second.train(resume_from_checkpoint=True)
    print(
        json.dumps(
            {
                "steps": second.state.global_step,
                "tokens": second.state.num_input_tokens_seen,
                "flops": second.state.total_flos,
                "failed": [str(failed.tracker and failed.tracker.run_id), *counts(failed)],
                "resumed": [str(resumed.tracker and resumed.tracker.run_id), *counts(resumed)],
            }
        )
    )


def counts(callback: CarbonTrackerCallback) -> list[Any]:
    """Return the work of the training, and of each epoch."""
    result = callback.result
    assert result is not None
    return [result.work.to_dict(), [epoch.work.to_dict() for epoch in result.epochs]]


if __name__ == "__main__":
    main()
