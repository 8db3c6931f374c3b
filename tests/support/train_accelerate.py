"""Trains loops of the program's own: with Accelerate, with workers of a loader, in a study."""

from __future__ import annotations

import time
from typing import Any

import torch
from accelerate import Accelerator

import carbontracker
from carbontracker.integrations.accelerate import CarbonTracker
from tests.support.frameworks import ARGUMENTS, Around, seen, work, write

EPOCH = 20
WORKERS = 2


class Rows(torch.utils.data.Dataset):  # type: ignore[misc]  # torch is not followed
    """So many rows, which workers load."""

    def __len__(self) -> int:
        """Return how many rows there are."""
        return EPOCH // 2

    def __getitem__(self, index: int) -> Any:
        """Return a row."""
        return torch.ones(2)


# As in a script: a worker that is spawned imports it.
of_main_module = carbontracker.CarbonTracker(1, **ARGUMENTS)


def loop() -> dict[str, Any]:
    """Train as Accelerate's documents do."""
    tracker = CarbonTracker(2, **ARGUMENTS)
    accelerator = Accelerator(log_with=tracker, cpu=True)
    accelerator.init_trackers("project", config={"rate": 0.1})
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rows = torch.utils.data.DataLoader(torch.ones(EPOCH, 2), batch_size=1)
    model, optimizer, rows = accelerator.prepare(model, optimizer, rows)
    around = Around()
    for epoch in tracker.epochs(rows):
        if epoch == 0:
            around.begin()
        for batch in rows:
            work()
            loss = model(batch).mean()
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            accelerator.log({"loss": loss.item()})
            tracker.step()
        if epoch == 1:
            around.end()
    assert accelerator.get_tracker("carbontracker", unwrap=True) is tracker.tracker
    accelerator.end_training()
    return seen(tracker.result, around.window)


def with_workers(method: str) -> dict[str, Any]:
    """Train with workers that load rows."""
    tracker = carbontracker.CarbonTracker(2, **ARGUMENTS)
    rows = torch.utils.data.DataLoader(
        Rows(), num_workers=WORKERS, multiprocessing_context=method, persistent_workers=True
    )
    around = Around()
    for epoch in tracker.epochs():
        if epoch == 0:
            around.begin()
        for _ in tracker.steps(rows):
            work()
        if epoch == 1:
            around.end()
    return seen(tracker.result, around.window)


def study() -> dict[str, Any]:
    """Optimize in threads that measure their trials."""
    import optuna

    optuna.logging.disable_default_handler()
    tracker = carbontracker.CarbonTracker(1, steps_per_epoch=8, **ARGUMENTS)
    windows = []

    def objective(trial: Any) -> float:
        with tracker.window(f"trial {trial.number}") as window:
            time.sleep(0.2)
            windows.append(window)
        return float(trial.suggest_float("x", 0, 1))

    made = optuna.create_study()
    for _ in tracker.epochs():
        made.optimize(objective, n_trials=8, n_jobs=4, callbacks=[lambda *_: tracker.step()])
    sessions = {id(one.context[0]) for one in windows}
    return seen(tracker.result, None) | {
        "sessions": len(sessions),
        "windows": [one.name for one in windows],
    }


def main() -> None:
    """Train all scenarios."""
    scenarios = {"loop": loop(), "fork": with_workers("fork"), "spawn": with_workers("spawn")}
    try:
        scenarios["study"] = study()
    except ImportError:
        scenarios["study"] = {}
    write(scenarios)


if __name__ == "__main__":
    main()
