"""Trains with Lightning, which the first argument after the file names: either of its packages."""

from __future__ import annotations

import logging
import sys
import tempfile
import time
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

L: Any = import_module(sys.argv[2])
from carbontracker.integrations.lightning import CarbonTrackerCallback  # noqa: E402  # after it
from tests.support.frameworks import ARGUMENTS, Around, seen, work, write  # noqa: E402

EPOCH = 20
VALIDATION = 5


class Model(L.LightningModule):  # type: ignore[misc]  # the framework is not followed
    """The smallest model that Lightning trains."""

    def __init__(self, manual: bool = False, error_at: int = -1) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
        self.automatic_optimization = not manual
        self.error_at = error_at

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """Train a batch."""
        work()
        if batch_idx == self.error_at:
            raise RuntimeError("out of memory")
        loss = self.layer(batch).mean()
        if not self.automatic_optimization:
            for optimizer in self.optimizers():
                optimizer.zero_grad()
            self.manual_backward(loss)
            for optimizer in self.optimizers():
                optimizer.step()
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Validate a batch."""
        work()

    def configure_optimizers(self) -> Any:
        """Return the optimizer; of manual optimization, two."""
        one = torch.optim.SGD(self.parameters(), lr=0.01)
        if self.automatic_optimization:
            return one
        return one, torch.optim.SGD(self.parameters(), lr=0.01)


class Rows(torch.utils.data.IterableDataset):  # type: ignore[misc]
    """Rows without a length."""

    def __iter__(self) -> Any:
        """Yield the rows of an epoch."""
        for _ in range(EPOCH):
            yield torch.ones(2)


class Open(L.Callback):  # type: ignore[misc]
    """Opens the window; it stands behind our callback."""

    def __init__(self, around: Around) -> None:
        self.around = around

    def on_train_start(self, *_: Any) -> None:
        """Open it."""
        self.around.begin()


class Close(L.Callback):  # type: ignore[misc]
    """Closes the window; it stands before our callback."""

    def __init__(self, around: Around) -> None:
        self.around = around

    def on_train_end(self, *_: Any) -> None:
        """Close it."""
        self.around.end()

    def on_exception(self, *_: Any) -> None:
        """Close it."""
        self.around.end()


class SlowSanity(L.Callback):  # type: ignore[misc]
    """Makes the sanity check take a second, which is no part of the training."""

    def on_sanity_check_end(self, *_: Any) -> None:
        """Wait."""
        time.sleep(1.0)


class Stop(L.Callback):  # type: ignore[misc]
    """Ends the training after so many steps."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """End it when it is time to."""
        if trainer.global_step == self.after:
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "middle.ckpt")
            trainer.should_stop = True


def train(
    directory: Path,
    *more: Any,
    model: Any = None,
    resume: Path | None = None,
    ours: dict[str, Any] | None = None,
    endless: bool = False,
    **arguments: Any,
) -> tuple[CarbonTrackerCallback, Around]:
    """Train, and return our callback and the window beside it."""
    around = Around()
    callback = CarbonTrackerCallback(**ARGUMENTS | (ours or {}))
    # Rows and lengths of loaders.
    rows = Rows() if endless else torch.ones(EPOCH, 2)
    trainer = L.Trainer(
        default_root_dir=directory,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Close(around), callback, Open(around), *more],
        **arguments,
    )
    loader = torch.utils.data.DataLoader
    try:
        trainer.fit(
            model or Model(),
            loader(rows, batch_size=1),
            loader(torch.ones(VALIDATION, 2), batch_size=1),
            ckpt_path=resume,
        )
    except RuntimeError as error:
        print(error, file=sys.stderr)
    return callback, around


def one(directory: Path, *more: Any, **arguments: Any) -> dict[str, Any]:
    """Train a scenario, and return what it saw."""
    ours, around = train(directory, *more, **arguments)
    return seen(ours.result, around.window)


def main() -> None:
    """Train all scenarios."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    scenarios: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        scenarios["sanity check"] = one(directory, SlowSanity(), max_epochs=2)
        if sys.argv[2] == "lightning.pytorch":
            scenarios["validation within"] = one(directory, max_epochs=2, val_check_interval=0.5)
            scenarios["max_steps"] = one(directory, max_steps=30, max_epochs=-1)
            scenarios["accumulation"] = one(directory, max_epochs=2, accumulate_grad_batches=4)
            scenarios["no length"] = one(directory, max_epochs=2, endless=True)
            scenarios["two optimizers"] = one(directory, max_epochs=2, model=Model(manual=True))
            scenarios["exception"] = one(directory, max_epochs=2, model=Model(error_at=12))
            before, _ = train(directory, Stop(30), max_epochs=3, limit_val_batches=0)
            scenarios["before it was resumed"] = before.state_dict()
            scenarios["resumed"] = one(
                directory, max_epochs=3, limit_val_batches=0, resume=directory / "middle.ckpt"
            )
            checkpoint = torch.load(directory / "middle.ckpt", weights_only=False)
            (ours,) = (key for key in checkpoint["callbacks"] if "CarbonTracker" in key)
            for index, state in enumerate(("no state", {"training_id": [], "run_id": None})):
                checkpoint["callbacks"][ours] = state
                torch.save(checkpoint, directory / "damaged.ckpt")
                scenarios[f"damaged {index}"] = one(
                    directory, max_epochs=3, limit_val_batches=0, resume=directory / "damaged.ckpt"
                )
            scenarios["budget"] = one(
                directory, max_epochs=3, ours={"max_seconds": 1.0, "on_budget": "raise"}
            )
    write(scenarios)


if __name__ == "__main__":
    main()
