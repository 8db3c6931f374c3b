"""Trains on several ranks with Transformers and with Accelerate, and returns what both count."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from carbontracker.integrations.accelerate import CarbonTracker
from carbontracker.integrations.transformers import CarbonTrackerCallback

ROWS, LENGTH, EPOCHS = 32, 16, 2


class Data(torch.utils.data.Dataset):  # type: ignore[misc]  # torch is not followed
    """Rows of tokens."""

    def __len__(self) -> int:
        """Return how many rows there are."""
        return ROWS

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return a row."""
        tokens = torch.full((LENGTH,), index % 7)
        return {"input_ids": tokens, "labels": tokens}


def train() -> dict[str, Any]:
    """Train with both, and return their counts and ours."""
    callback = CarbonTrackerCallback(verbose=0, epochs_before_pred=0)
    arguments = TrainingArguments(
        output_dir=str(Path(os.environ["SAID"], "out")),
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=2,
        include_num_input_tokens_seen=True,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
    )
    config = GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=32, n_positions=LENGTH)
    trainer = Trainer(
        model=GPT2LMHeadModel(config), args=arguments, train_dataset=Data(), callbacks=[callback]
    )
    trainer.train()
    assert callback.result is not None
    return {
        "trainer": trainer.state.num_input_tokens_seen,
        "flops": trainer.state.total_flos,
        "ours": callback.result.work.to_dict(),
        "accelerate": loop(),
    }


def loop() -> dict[str, float]:
    """Train a loop of our own with Accelerate, and return what was counted."""
    tracker = CarbonTracker(EPOCHS, verbose=0, epochs_before_pred=0, record=False, job=True)
    accelerator = Accelerator(log_with=tracker, cpu=True)
    accelerator.init_trackers("project")
    rows = accelerator.prepare(torch.utils.data.DataLoader(Data(), batch_size=2))
    for _ in tracker.epochs(rows):
        for batch in tracker.steps(rows):
            assert len(batch["input_ids"]) == 2
        accelerator.wait_for_everyone()  # without a model nothing else waits
    accelerator.end_training()
    result = tracker.result
    assert result is not None
    return dict(result.work.to_dict())
