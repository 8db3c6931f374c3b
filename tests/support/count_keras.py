"""Counts the rows that batches of Keras have, beside the callback, and prints both."""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "torch"

import json
from typing import Any

import keras
import numpy as np
import torch

from carbontracker.integrations.keras import CarbonTrackerCallback
from tests.support.programs import DEVICES

ROWS = 22
X, Y = np.ones((ROWS, 2), np.float32), np.ones((ROWS, 1), np.float32)


class Counted(keras.Model):  # type: ignore[misc]  # the framework is not followed
    """A model that counts the rows that it trains with."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = keras.layers.Dense(1)
        self.rows = 0
        self.compile(loss="mse", optimizer="sgd")

    def call(self, x: Any, training: bool = False) -> Any:
        """Return the layer's output."""
        return self.layer(x)

    def train_step(self, data: Any) -> Any:
        """Count the rows, and train."""
        self.rows += len(data[0])
        return super().train_step(data)


def loader(**arguments: Any) -> Any:
    """Return a loader of torch with the rows in batches of 4."""
    data = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    return torch.utils.data.DataLoader(data, batch_size=4, **arguments)


def without_end() -> Any:
    """Yield batches."""
    while True:
        yield X[:3], Y[:3]


def fit(*data: Any, **arguments: Any) -> dict[str, Any]:
    """Train, and return both counts."""
    model = Counted()
    callback = CarbonTrackerCallback(verbose=0, record=False, epochs_before_pred=0, **DEVICES)
    model.fit(*data, callbacks=[callback], verbose=0, epochs=2, **arguments)
    result = callback.result
    assert result is not None
    return {
        "rows": model.rows,
        "whole": result.work.to_dict(),
        "epochs": [epoch.work.to_dict() for epoch in result.epochs],
    }


def main() -> None:
    """Train all scenarios."""
    half = torch.utils.data.RandomSampler(range(ROWS), num_samples=10)
    scenarios = {
        "arrays": fit(X, Y, batch_size=4, validation_split=0.5),
        "whole batches": fit(X, Y, batch_size=11),
        "steps of a pass": fit(X, Y, batch_size=4, steps_per_epoch=3),
        "loader": fit(loader()),
        "loader without the last": fit(loader(drop_last=True)),
        "loader with a sampler": fit(loader(sampler=half)),
        "generator": fit(without_end(), steps_per_epoch=3),
    }
    print(json.dumps(scenarios))


if __name__ == "__main__":
    main()
