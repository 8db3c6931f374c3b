"""Energy and emissions in the experiment loggers that a training uses already.

Each function returns a listener for ``CarbonTracker(loggers=[...])``: after every epoch it logs the
figures of ``epoch_figures`` there, and at the end the totals. The packages are extras. For another
logger give an object of your own with ``epoch(epoch)`` and ``end(result)``.

All of them are called on threads of ours (see ``carbontracker.training.user_listeners``).
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Protocol

from carbontracker.extras import missing_extra

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carbontracker.carbon.footprint import Footprint
    from carbontracker.energy.energy import Energy
    from carbontracker.model.epoch import Epoch
    from carbontracker.model.result import Result
    from carbontracker.training.run import Run

PREFIX = "carbontracker/"


class Sink(Protocol):
    """Where figures go."""

    hands_over: bool
    """The figures belong to the training's current row, so the end of an epoch waits a moment."""

    def capture(self) -> Any:
        """Return what only the thread of the training knows; called there before each event."""

    def log(self, figures: Mapping[str, float], epoch: int, captured: Any) -> None:
        """Log the figures of an epoch."""

    def finish(self, totals: Mapping[str, float], captured: Any) -> None:
        """Log the totals of the training."""


class EpochLogger:
    """A listener that gives figures to a sink; figures that are not known are left out.

    Totals are those of the epochs so far, as far as they were known when each ended; ``final_``
    ones come at the end and stay.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.capture = sink.capture
        self.hands_over = sink.hands_over
        self._so_far = {"total_joules": 0.0, "total_kwh": 0.0, "total_gco2eq": 0.0}

    def begin(self, run: Run, captured: Any) -> None:
        """Let ``capture`` be called when monitoring begins; there is nothing to log yet."""

    def epoch(self, epoch: Epoch, captured: Any) -> None:
        """Log an epoch."""
        figures = epoch_figures(epoch)
        for name in self._so_far:
            self._so_far[name] += figures.get(name.removeprefix("total_"), 0.0)
        named = {PREFIX + name: value for name, value in (figures | self._so_far).items()}
        self._sink.log(named, epoch.index, captured)

    def end(self, result: Result, captured: Any) -> None:
        """Log the totals, which are final."""
        totals = _figures(result.energy, result.footprint, result.seconds)
        named = {f"{PREFIX}final_{name}": value for name, value in totals.items()}
        self._sink.finish(named, captured)


def epoch_figures(epoch: Epoch) -> dict[str, float]:
    """Return what is known of an epoch by name: joules without, kwh and gco2eq with PUE."""
    return _figures(epoch.energy, epoch.footprint, epoch.seconds)


def _figures(energy: Energy, footprint: Footprint, seconds: float) -> dict[str, float]:
    figures = {
        "seconds": seconds,
        "joules": energy.joules,
        "error_joules": energy.error_joules,
        "watts": energy.joules / seconds if seconds > 0 else math.nan,
        "kwh": footprint.kwh,
        "gco2eq": footprint.gco2eq,
    }
    # Not every logger takes a colon in a name.
    for name, part in energy.by_device.items():
        figures[f"joules_{name.replace(':', '_')}"] = part.joules
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def log_to_wandb(run: Any = None) -> EpochLogger:
    """Return a logger for Weights & Biases.

    The figures join the row that the training is at and take no step of their own unless it logs
    more rarely than every epoch, so that ``wandb.log(..., step=...)`` goes on undisturbed; their
    own axis is ``carbontracker/epoch``.

    Args:
        run: of W&B; else the one that ``wandb.init()`` has begun.

    Raises:
        MissingExtra: wandb is not installed.
        ValueError: no run has begun.
    """
    if run is None:
        try:
            import wandb
        except ImportError as error:
            raise missing_extra("wandb", error) from error
        run = wandb.run
    if run is None:
        message = "no W&B run has begun: call wandb.init() before, or give the run"
        raise ValueError(message)
    return EpochLogger(_Wandb(run))


class _Wandb:
    hands_over = True
    """The figures are to join the row that the training is at."""

    def __init__(self, run: Any) -> None:
        self._run = run
        self._axis = f"{PREFIX}epoch"
        self._step = -1
        """Of the row that the last epoch's figures are in."""
        run.define_metric(self._axis, hidden=True)
        run.define_metric(f"{PREFIX}*", step_metric=self._axis)

    def capture(self) -> int:
        return int(self._run.step)

    def log(self, figures: Mapping[str, float], epoch: int, captured: int) -> None:
        if captured == self._step:
            self._run.log({}, commit=True)  # the training logs more rarely: a row of its own
            captured = int(self._run.step)
        # Without a step, or W&B drops figures that come when their row has passed; they then join
        # the row that the training is at.
        self._run.log({**figures, self._axis: epoch}, commit=False)
        self._step = captured

    def finish(self, totals: Mapping[str, float], captured: int) -> None:
        self._run.summary.update(dict(totals))


def log_to_mlflow(run_id: str | None = None) -> EpochLogger:
    """Return a logger for MLflow, with the epoch as step.

    Args:
        run_id: of MLflow; else the run that is active when monitoring begins, else when the first
            epoch ends. If no run is active then, MLflow begins one, as for your own metrics.

    Raises:
        MissingExtra: mlflow is not installed.
    """
    try:
        import mlflow
    except ImportError as error:
        raise missing_extra("mlflow", error) from error
    return EpochLogger(_Mlflow(mlflow, run_id))


class _Mlflow:
    hands_over = False

    def __init__(self, mlflow: Any, run_id: str | None) -> None:
        self._mlflow = mlflow
        self._run_id = run_id
        self._begun = False

    def capture(self) -> str | None:
        # Which run is active is known to the training's thread only. A run that is begun there is
        # also the one that the training's own metrics go to.
        if self._run_id is None:
            run = self._mlflow.active_run()
            if run is None and self._begun:
                run = self._mlflow.start_run()
            self._run_id = None if run is None else run.info.run_id
        self._begun = True
        return self._run_id

    def log(self, figures: Mapping[str, float], epoch: int, captured: str) -> None:
        self._mlflow.log_metrics(dict(figures), step=epoch, run_id=captured)

    def finish(self, totals: Mapping[str, float], captured: str) -> None:
        self._mlflow.log_metrics(dict(totals), run_id=captured)


def log_to_tensorboard(target: Any) -> EpochLogger:
    """Return a logger for TensorBoard, with the epoch as step.

    Args:
        target: a ``SummaryWriter`` (anything with ``add_scalar``), or a directory, which gets an
            event file of its own.

    Raises:
        ImportError: a directory is given and the extra ``tensorboard`` is missing.
    """
    return EpochLogger(_Writer(target) if hasattr(target, "add_scalar") else _EventFile(target))


class _Writer:
    hands_over = False

    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self._epoch = 0

    def capture(self) -> None:
        return None

    def log(self, figures: Mapping[str, float], epoch: int, captured: None) -> None:
        self._epoch = epoch
        for name, value in figures.items():
            self._writer.add_scalar(name, value, epoch)

    def finish(self, totals: Mapping[str, float], captured: None) -> None:
        for name, value in totals.items():
            self._writer.add_scalar(name, value, self._epoch)
        self._writer.flush()


class _EventFile(_Writer):
    def __init__(self, directory: Any) -> None:
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError as error:
            raise missing_extra("tensorboard", error) from error
        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        self._file = EventFileWriter(str(directory))
        super().__init__(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        summary = self._summary(value=[self._summary.Value(tag=name, simple_value=value)])
        self._file.add_event(self._event(wall_time=time.time(), step=step, summary=summary))

    def finish(self, totals: Mapping[str, float], captured: None) -> None:
        super().finish(totals, captured)
        self._file.close()

    def flush(self) -> None:
        self._file.flush()
