"""Trains with Keras on torch."""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "torch"

from contextlib import suppress
from typing import Any

import keras
import numpy as np

from carbontracker.integrations.keras import CarbonTrackerCallback
from tests.support.frameworks import ARGUMENTS, Around, seen, work, write

EPOCH = 20
VALIDATION = 5
ROWS = np.ones((EPOCH, 2), dtype=np.float32), np.ones((EPOCH, 1), dtype=np.float32)


class Slow(keras.layers.Layer):  # type: ignore[misc]  # the framework is not followed
    """A layer that takes its time."""

    def call(self, x: Any) -> Any:
        """Return what was given."""
        work()
        return x


class Open(keras.callbacks.Callback):  # type: ignore[misc]
    """Opens the window; it stands behind our callback."""

    def __init__(self, around: Around) -> None:
        super().__init__()
        self.around, self.opened = around, False

    def on_train_begin(self, logs: Any = None) -> None:
        """Get ready."""
        self.opened = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Open it: our training begins with its first epoch."""
        if not self.opened:
            self.opened = True
            self.around.begin()


class Close(keras.callbacks.Callback):  # type: ignore[misc]
    """Closes the window; it stands before our callback."""

    def __init__(self, around: Around) -> None:
        super().__init__()
        self.around = around

    def on_train_end(self, logs: Any = None) -> None:
        """Close it."""
        self.around.end()


class Stop(keras.callbacks.Callback):  # type: ignore[misc]
    """Ends a training after an epoch, or raises in it."""

    def __init__(self, after: int, error: bool = False) -> None:
        super().__init__()
        self.after, self.error = after, error

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """End it when it is time to."""
        if epoch == self.after:
            if self.error:
                raise RuntimeError("out of memory")
            self.model.stop_training = True


class Inner(keras.callbacks.Callback):  # type: ignore[misc]
    """Trains another model within the first epoch, with a callback of the outer one."""

    def __init__(self, callback: Any, error: bool) -> None:
        super().__init__()
        self.callback, self.error = callback, error

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Train it; what it raises is caught."""
        if epoch == 0:
            inner = keras.Sequential([Slow(), keras.layers.Dense(1)])
            inner.compile(loss="mse", optimizer="sgd")
            more = [Stop(0, error=True)] if self.error else []
            with suppress(RuntimeError):
                inner.fit(*ROWS, batch_size=1, verbose=0, callbacks=[self.callback, *more])


def batches() -> Any:
    """Yield batches without end and without a length."""
    while True:
        yield ROWS[0][:1], ROWS[1][:1]


class Fits:
    """Trainings of one model with one callback."""

    def __init__(self, **ours: Any) -> None:
        self.around = Around()
        self.callback = CarbonTrackerCallback(**ARGUMENTS | ours)
        self.model = keras.Sequential([Slow(), keras.layers.Dense(1)])
        self.model.compile(loss="mse", optimizer="sgd")

    def fit(self, *data: Any, more: Any = (), **arguments: Any) -> dict[str, Any]:
        """Train once, and return what was seen."""
        beside = [Close(self.around), self.callback, Open(self.around), *more]
        usual = {} if "steps_per_epoch" in arguments else {"batch_size": 1}
        try:
            self.model.fit(*(data or ROWS), callbacks=beside, verbose=0, **usual | arguments)
        except RuntimeError:
            self.around.end()
        return seen(self.callback.result, self.around.window)


def main() -> None:
    """Train all scenarios."""
    scenarios: dict[str, Any] = {}
    validation = tuple(part[:VALIDATION] for part in ROWS)
    fits = Fits()
    fits.model.build((None, 2))
    fits.model.predict_on_batch(ROWS[0][:1])
    scenarios["first fit"] = fits.fit(epochs=2, validation_data=validation)
    scenarios["initial epoch"] = fits.fit(epochs=5, initial_epoch=3)
    scenarios["early stop"] = Fits().fit(epochs=4, more=[Stop(1)])
    scenarios["generator"] = Fits().fit(batches(), steps_per_epoch=10, epochs=2)
    fits = Fits()
    fits.fit(epochs=3, more=[Stop(1, error=True)])
    left = fits.callback.tracker
    fits.callback.on_train_begin()
    scenarios["left by an exception"] = seen(None if left is None else left.result, None)
    scenarios["after an exception"] = fits.fit(epochs=1)
    fits = Fits()
    scenarios["given twice"] = fits.fit(epochs=2, more=[fits.callback])
    for name, error in (("with another one within", False), ("with one within that raises", True)):
        fits = Fits()
        scenarios[name] = fits.fit(epochs=2, more=[Inner(fits.callback, error)])
    fits = Fits(monitor_epochs=1)
    scenarios["monitored for one epoch"] = fits.fit(epochs=3)
    limits = {"max_seconds": 1.0, "on_budget": "raise"}
    scenarios["budget"] = Fits(**limits).fit(epochs=5)
    write(scenarios)


if __name__ == "__main__":
    main()
