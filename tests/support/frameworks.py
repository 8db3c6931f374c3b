"""What the programs share that train with a real framework, each as a process of its own.

A program trains scenarios, each with a callback of ours beside a window of ``measure``, and writes
what it saw to a file.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import carbontracker

if TYPE_CHECKING:
    from carbontracker.model.result import Result
    from carbontracker.training.window import Window

STEP_S = 0.04
"""A training step or a batch of validation takes so long."""
ARGUMENTS: dict[str, Any] = {"verbose": 0, "locate": "never"}


def work() -> None:
    """Do a step's work."""
    time.sleep(STEP_S)


class Around:
    """A window of ``measure`` around a training, which hooks beside ours open and close."""

    def __init__(self) -> None:
        self.window: Window | None = None

    def begin(self) -> None:
        """Begin the window."""
        self.window = carbontracker.measure("training")
        self.window.__enter__()

    def end(self) -> None:
        """End the window."""
        if self.window is not None and self.window.end is None:
            self.window.__exit__(None, None, None)


def seen(result: Result | None, window: Window | None) -> dict[str, Any]:
    """Return what a scenario is judged by."""
    if result is None:
        return {"result": None}
    beside: dict[str, Any] = {}
    if window is not None:
        window.wait()
        beside = {"window_joules": window.energy.joules, "window_seconds": window.seconds}
    return {
        "joules": result.energy.joules,
        "between_joules": result.between_epochs.joules,
        "seconds": result.seconds,
        "final": result.final,
        "epochs_done": result.epochs_done,
        "epochs": [[one.steps, one.seconds, one.finished] for one in result.epochs],
        "predicted": [
            {
                "after": one.prediction.after_epochs,
                "epochs": one.prediction.epochs,
                "steps": one.prediction.steps,
                "joules": one.prediction.joules,
                "seconds": one.prediction.seconds,
            }
            for one in result.forecasts
        ],
        "compared": len(result.prediction_errors()),
        **beside,
    }


def write(scenarios: dict[str, Any]) -> None:
    """Write what all scenarios saw to the file that the command line names."""
    Path(sys.argv[1]).write_text(json.dumps(scenarios))
