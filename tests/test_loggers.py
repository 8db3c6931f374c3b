"""Experiment loggers get the figures of every epoch: the real packages, offline, read back."""

from __future__ import annotations

import json
import math
import sys
import threading
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from carbontracker.loggers import epoch_figures, log_to_mlflow, log_to_tensorboard, log_to_wandb
from carbontracker.records.reader import read_runs
from carbontracker.report.document import cost
from carbontracker.tracker import CarbonTracker
from carbontracker.training.listeners import Listeners
from carbontracker.training.user_listeners import MAX_PENDING
from tests.support.programs import DEVICES, PRELUDE, WATTS, hide_sensors, python

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence
    from pathlib import Path

    from carbontracker.model.epoch import Epoch
    from carbontracker.model.result import Result

EPOCHS = 3


def needs(package: str) -> pytest.MarkDecorator:
    absent = find_spec(package) is None
    return pytest.mark.skipif(absent, reason=f"needs {package}")


def lacks(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(package) is not None, reason=f"{package} is installed")


@pytest.fixture(autouse=True)
def only_simulated_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hide_sensors(monkeypatch, tmp_path)
    monkeypatch.setenv("CARBONTRACKER_LOCATION", "DK")


def trained(loggers: Sequence[Any], epochs: int = EPOCHS) -> Result:
    tracker = CarbonTracker(epochs, loggers=loggers, verbose=0, record=False, **DEVICES)
    for _ in range(epochs):
        tracker.epoch_start()
        time.sleep(0.05)
        tracker.epoch_end()
    assert tracker.result is not None
    return tracker.result


# ---- listeners of a run --------------------------------------------------------------------


class Calls:
    def __init__(self, calls: list[str], name: str, fails_at: str = "") -> None:
        self._calls, self._name, self._fails_at = calls, name, fails_at

    def _called(self, event: str) -> None:
        self._calls.append(f"{self._name} {event}")
        if event == self._fails_at:
            raise OSError("no room")

    def started(self, run: object) -> None:
        self._called(f"started {run}")

    def finished(self, result: object) -> None:
        self._called(f"finished {result}")

    def close(self) -> None:
        self._called("close")


def test_what_began_last_is_finished_first() -> None:
    calls: list[str] = []
    listeners = Listeners()
    for name in "ab":
        listeners.add(Calls(calls, name))
    listeners.notify("started", 1)
    listeners.notify("epoch", 2)  # which they do not handle
    listeners.notify("finished", 3)
    listeners.close()
    listeners.notify("started", 4)  # to no listener
    assert calls == [
        *("a started 1", "b started 1", "b finished 3", "a finished 3", "b close", "a close"),
    ]


@pytest.mark.parametrize("also_at_close", [False, True])
def test_a_listener_that_fails_is_dropped_and_named(
    caplog: pytest.LogCaptureFixture, also_at_close: bool
) -> None:
    calls: list[str] = []
    listeners = Listeners()
    faulty = Calls(calls, "faulty", "started 1")
    if also_at_close:
        faulty.close = lambda: faulty._called("started 1")  # type: ignore[method-assign]
    for one in (faulty, Calls(calls, "sound")):
        listeners.add(one)
    listeners.notify("started", 1)
    listeners.notify("finished", 2)
    assert calls[-2:] == ["sound started 1", "sound finished 2"]
    assert not [call for call in calls if call.startswith("faulty finished")]
    first = "carbontracker: Calls failed at started() and is left out: no room; the run goes on"
    assert caplog.messages[0] == first
    assert len(caplog.messages) == 1 + also_at_close


def test_a_signal_that_ends_the_program_passes_a_listener() -> None:
    class Exiting:
        def started(self, run: object) -> None:
            del run
            sys.exit(3)  # as a handler of SIGTERM does, wherever it comes

    listeners = Listeners()
    listeners.add(Exiting())
    with pytest.raises(SystemExit):
        listeners.notify("started", None)


# ---- the user's loggers --------------------------------------------------------------------


class Notes:
    """A logger that notes what it is called with."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.epochs: list[Epoch] = []
        self.result: Result | None = None

    def begin(self, run: Any) -> None:
        self.heard.append("begin")

    def epoch(self, epoch: Epoch) -> None:
        self.heard.append("epoch")
        self.epochs.append(epoch)

    def end(self, result: Result) -> None:
        self.heard.append("end")
        self.result = result

    def close(self) -> None:
        self.heard.append("close")


class Faulty(Notes):
    """A logger that fails at its second epoch."""

    def epoch(self, epoch: Epoch) -> None:
        super().epoch(epoch)
        if epoch.index == 2:
            message = "the disk of the logger is full"
            raise OSError(message)


def test_a_logger_gets_everything_in_order() -> None:
    notes = Notes()
    result = trained([notes])
    assert notes.heard == ["begin", *["epoch"] * EPOCHS, "end", "close"]
    assert notes.result is result
    assert [epoch.index for epoch in notes.epochs] == [1, 2, 3]


def test_a_logger_may_lack_what_it_does_not_need() -> None:
    class Short:
        count = 0

        def epoch(self, _: Epoch) -> None:
            self.count += 1

    short = Short()
    trained([short])
    assert short.count == EPOCHS


def test_one_that_fails_is_left_out_and_the_rest_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    faulty, notes = Faulty(), Notes()
    result = trained([faulty, notes])
    assert faulty.heard == ["begin", "epoch", "epoch", "close"]
    assert notes.heard == ["begin", *["epoch"] * EPOCHS, "end", "close"]
    assert result.finished_epochs == EPOCHS
    said = [one.getMessage() for one in caplog.records]
    (message,) = [one for one in said if "Faulty" in one]
    assert "Faulty failed at epoch()" in message
    assert "the disk of the logger is full" in message


class Leaving(Notes):
    """A logger that ends the program."""

    def epoch(self, epoch: Epoch) -> None:
        raise SystemExit(9)


@pytest.mark.parametrize("own_thread", [True, False])
def test_one_that_exits_ends_itself_and_not_the_training(
    caplog: pytest.LogCaptureFixture, own_thread: bool
) -> None:
    leaving = Leaving()
    leaving.own_thread = own_thread  # type: ignore[attr-defined]  # what a user may set
    assert trained([leaving]).finished_epochs == EPOCHS
    (message,) = [one.getMessage() for one in caplog.records if "Leaving" in one.getMessage()]
    assert "Leaving failed at epoch() and is left out: SystemExit: 9" in message


class Hanging(Notes):
    """A logger that takes nothing more from its first epoch on, until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()

    def epoch(self, epoch: Epoch) -> None:
        super().epoch(epoch)
        self.let_go.wait()


@pytest.mark.parametrize("hands_over", [False, True])
def test_one_that_hangs_holds_up_no_epoch_and_is_left_behind(
    caplog: pytest.LogCaptureFixture, hands_over: bool
) -> None:
    hanging, notes = Hanging(), Notes()
    hanging.hands_over = hands_over  # type: ignore[attr-defined]  # what a user may set
    # That it comes to its end is the test: on the training's thread this would never return.
    assert trained([hanging, notes]).finished_epochs == EPOCHS
    assert [epoch.index for epoch in hanging.epochs] == [1]
    assert notes.heard == ["begin", *["epoch"] * EPOCHS, "end", "close"]
    (message,) = [one.getMessage() for one in caplog.records if "Hanging" in one.getMessage()]
    assert "Hanging has not taken everything 5 s after the end and is left behind" in message
    hanging.let_go.set()
    (thread,) = [one for one in threading.enumerate() if one.name == "carbontracker-Hanging"]
    thread.join()
    assert hanging.heard[-1] == "close"  # in any case


def test_one_that_lags_too_far_is_left_out_at_once(caplog: pytest.LogCaptureFixture) -> None:
    hanging = Hanging()
    tracker = CarbonTracker(200, loggers=[hanging], verbose=0, record=False, **DEVICES)
    done = 0
    while "Hanging" not in caplog.text:
        tracker.epoch_start()
        tracker.epoch_end()
        done += 1
    # Those that wait, the one that it is at, and the one that was one too many.
    assert MAX_PENDING < done <= MAX_PENDING + 2
    assert "Hanging is 64 events behind and is left out from here on" in caplog.text
    hanging.let_go.set()
    tracker.stop()
    assert hanging.heard[-1] == "close"
    assert "end" not in hanging.heard


class Where(Notes):
    """A logger that notes on which threads it runs, and what it saw on the training's."""

    def __init__(self, own_thread: bool) -> None:
        super().__init__()
        self.own_thread = own_thread
        self.threads: set[int] = set()
        self.seen: list[tuple[int, int]] = []
        self.at = 0

    def capture(self) -> tuple[int, int]:
        self.at += 1
        return threading.get_ident(), self.at

    def begin(self, run: Any, captured: Any = None) -> None:
        self.seen.append(captured)
        self.threads.add(threading.get_ident())

    def epoch(self, epoch: Epoch, captured: Any = None) -> None:
        self.seen.append(captured)
        self.threads.add(threading.get_ident())

    def end(self, result: Result, captured: Any = None) -> None:
        self.seen.append(captured)


@pytest.mark.parametrize("own_thread", [True, False])
def test_what_belongs_to_the_training_s_thread_is_captured_there(
    tmp_path: Path, own_thread: bool
) -> None:
    where = Where(own_thread)
    tracker = CarbonTracker(1, loggers=[where], verbose=0, log_dir=str(tmp_path), **DEVICES)
    tracker.epoch_start()
    tracker.epoch_end()
    here = threading.get_ident()
    assert where.seen == [(here, 1), (here, 2), (here, 3)]  # each event with its own
    assert (where.threads == {here}) is not own_thread
    assert len(where.threads) == 1
    (run,) = read_runs(tmp_path)
    taken = run.ending.logger_seconds
    assert list(taken) == ["Where"]  # what it takes to capture and to queue, or all of it
    assert taken["Where"] > 0
    assert dict(cost(run))["Loggers on the training's thread"].startswith("Where ")


class Lazy:
    """A logger whose attributes are looked up when they are asked for, which may fail."""

    def __init__(self, lacks: str) -> None:
        self.lacks = lacks
        self.told: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name == self.lacks:
            raise ConnectionError("no server")
        if name in {"begin", "epoch", "end"}:
            return lambda *_, **__: self.told.append(name)
        raise AttributeError(name)


@pytest.mark.parametrize(
    "lacks", ["own_thread", "hands_over", "capture", "begin", "epoch", "end", "close"]
)
def test_a_logger_whose_attributes_raise_is_dropped_and_named(
    lacks: str, caplog: pytest.LogCaptureFixture
) -> None:
    lazy, notes = Lazy(lacks), Notes()
    result = trained([lazy, notes])
    assert result.finished_epochs == EPOCHS
    (line,) = [r.getMessage() for r in caplog.records if "Lazy" in r.getMessage()]
    assert f"failed at {lacks}() and is left out: ConnectionError: no server" in line
    assert len(notes.heard) == EPOCHS + 3  # the other one hears all of it
    before = {"epoch": ["begin"], "end": ["begin"] + ["epoch"] * EPOCHS}
    before["close"] = [*before["end"], "end"]
    # What was queued when it failed may not be delivered any more.
    assert lazy.told == before.get(lacks, [])[: len(lazy.told)]


def test_a_stopped_tracker_notifies_of_the_open_epoch() -> None:
    notes = Notes()
    tracker = CarbonTracker(5, loggers=[notes], verbose=0, record=False, **DEVICES)
    tracker.epoch_start()
    tracker.stop()
    assert notes.heard == ["begin", "epoch", "end", "close"]
    assert not notes.epochs[0].finished


def test_figures_leave_out_what_is_missing() -> None:
    notes = Notes()
    tracker = CarbonTracker(1, loggers=[notes], verbose=0, record=False, components="gpu")
    tracker.epoch_start()
    tracker.epoch_end()
    assert set(epoch_figures(notes.epochs[0])) == {"seconds"}


def test_figures_are_those_of_the_epoch() -> None:
    notes = Notes()
    trained([notes], 1)
    epoch = notes.epochs[0]
    figures = epoch_figures(epoch)
    assert figures["joules"] == epoch.energy.joules
    assert figures["kwh"] == epoch.footprint.kwh
    assert figures["gco2eq"] == epoch.footprint.gco2eq
    assert figures["watts"] == pytest.approx(epoch.energy.joules / epoch.seconds)
    assert figures["joules_gpu_0"] + figures["joules_cpu_0"] == pytest.approx(figures["joules"])


def assert_logged(values: dict[str, list[float]]) -> None:
    """Hold what was read back, by name and epoch, against constant power."""
    seconds, joules = values["carbontracker/seconds"], values["carbontracker/joules"]
    assert len(seconds) == EPOCHS
    for one_s, one in zip(seconds, joules, strict=True):
        assert one == pytest.approx(WATTS * one_s, rel=0.3)
    assert values["carbontracker/total_joules"][-1] == pytest.approx(math.fsum(joules))
    assert values["carbontracker/total_joules"] == sorted(values["carbontracker/total_joules"])
    parts = values["carbontracker/joules_gpu_0"][0] + values["carbontracker/joules_cpu_0"][0]
    assert parts == pytest.approx(joules[0])


# ---- TensorBoard ---------------------------------------------------------------------------


@needs("tensorboard")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_tensorboard_reads_the_event_file(tmp_path: Path) -> None:
    result = trained([log_to_tensorboard(tmp_path / "board")])
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(tmp_path / "board"))
    board.Reload()
    events = {name: board.Scalars(name) for name in board.Tags()["scalars"]}
    assert [event.step for event in events["carbontracker/joules"]] == [1, 2, 3]
    single = {name: [event.value for event in found] for name, found in events.items()}
    # Scalars of event files are single precision.
    assert single["carbontracker/final_joules"] == [pytest.approx(result.energy.joules, rel=1e-6)]
    assert_logged(single)


def test_tensorboard_takes_any_writer() -> None:
    class Writer:
        """As torch.utils.tensorboard.SummaryWriter takes them."""

        def __init__(self) -> None:
            self.values: dict[str, list[float]] = {}
            self.flushed = False

        def add_scalar(self, tag: str, value: float, global_step: int) -> None:
            self.values.setdefault(tag, []).append(value)

        def flush(self) -> None:
            self.flushed = True

    writer = Writer()
    trained([log_to_tensorboard(writer)])
    assert_logged(writer.values)
    assert writer.flushed


@lacks("tensorboard")
def test_tensorboard_names_the_extra_to_install(tmp_path: Path) -> None:
    with pytest.raises(ImportError, match=r"pip install tensorboard"):
        log_to_tensorboard(tmp_path)


# ---- MLflow --------------------------------------------------------------------------------

MLFLOW_PROGRAM = f"""\
{PRELUDE}
import mlflow
from carbontracker.loggers import log_to_mlflow
mlflow.set_tracking_uri(sys.argv[1])
with mlflow.start_run() as run:
    tracker = CarbonTracker(3, loggers=[log_to_mlflow()], verbose=0, record=False, **DEVICES)
    for epoch in range(3):
        tracker.epoch_start()
        time.sleep(0.05)
        tracker.epoch_end()
client = mlflow.MlflowClient()
data = client.get_run(run.info.run_id).data.metrics
found = {{name: [[m.step, m.value] for m in client.get_metric_history(run.info.run_id, name)]
         for name in data}}
print("FOUND" + json.dumps([found, tracker.result.energy.joules]))
"""


def found_in(done: subprocess.CompletedProcess[str]) -> Any:
    lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND")]
    assert lines, done.stderr
    return json.loads(lines[-1].removeprefix("FOUND"))


@needs("mlflow")
def test_mlflow_keeps_the_metrics_in_its_file_store(tmp_path: Path) -> None:
    store = {"MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
    found, joules = found_in(python(MLFLOW_PROGRAM, (tmp_path / "store").as_uri(), **store))
    assert [step for step, _ in found["carbontracker/joules"]] == [1, 2, 3]
    assert [value for _, value in found["carbontracker/final_joules"]] == [joules]
    assert_logged({name: [value for _, value in points] for name, points in found.items()})


MLFLOW_WITHOUT_A_RUN = f"""\
{PRELUDE}
import mlflow
from carbontracker.loggers import log_to_mlflow
mlflow.set_tracking_uri(sys.argv[1])
tracker = CarbonTracker(3, loggers=[log_to_mlflow()], verbose=0, record=False, **DEVICES)
tracker.epoch_start()
early = mlflow.active_run()
tracker.epoch_end()
mlflow.log_metric("loss", 0.5)  # the training's own, wherever it goes
tracker.stop()
mlflow.end_run()
metrics = ()
while "carbontracker/final_joules" not in metrics:  # on a busy machine, later than stop() waits
    (run,) = mlflow.MlflowClient().search_runs(["0"])
    metrics = run.data.metrics
print("FOUND" + json.dumps([early is None, sorted(metrics)]))
"""


@needs("mlflow")
def test_mlflow_s_own_run_is_that_of_the_training(tmp_path: Path) -> None:
    store = {"MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
    uri = (tmp_path / "store").as_uri()
    no_run_before_there_are_figures, metrics = found_in(python(MLFLOW_WITHOUT_A_RUN, uri, **store))
    assert no_run_before_there_are_figures
    assert {"loss", "carbontracker/joules", "carbontracker/final_joules"} <= set(metrics)


@lacks("mlflow")
def test_mlflow_names_the_extra_to_install() -> None:
    with pytest.raises(ImportError, match=r"pip install mlflow-skinny"):
        log_to_mlflow()


# ---- Weights & Biases ----------------------------------------------------------------------

WANDB_PROGRAM = f"""\
{PRELUDE}
import wandb
from carbontracker.loggers import log_to_wandb
silent = int(sys.argv[2])
run = wandb.init(mode="offline", dir=sys.argv[1], project="training")
tracker = CarbonTracker(3, loggers=[log_to_wandb()], verbose=0, record=False, **DEVICES)
for epoch in range(3):
    tracker.epoch_start()
    time.sleep(0.05)
    if epoch != silent:
        wandb.log({{"loss": 1 / (epoch + 1)}}, step=epoch)
    tracker.epoch_end()
run.finish()
print("FOUND" + json.dumps([tracker.result.energy.joules, wandb.__version__]))
"""


def wandb_records(path: Path) -> list[Any]:
    """Return the records of an offline run: W&B's protobufs in the log format of LevelDB."""
    from wandb.proto import wandb_internal_pb2

    data, at, parts, records = path.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        if 32_768 - at % 32_768 < 7:
            at += 32_768 - at % 32_768  # a block's rest is padding
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in {1, 4}:  # whole, or the last part
            records.append(wandb_internal_pb2.Record.FromString(parts))
            parts = b""
    return records


@needs("wandb")
@pytest.mark.parametrize("silent", [-1, 1], ids=["logs each epoch", "logs all but the second"])
def test_wandb_keeps_the_rows_beside_the_training_s_own(tmp_path: Path, silent: int) -> None:
    home = {"HOME": str(tmp_path), "WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
    joules, _ = found_in(python(WANDB_PROGRAM, str(tmp_path), str(silent), **home))
    (path,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    program = f"from tests.test_loggers import print_rows; print_rows({str(path)!r})"
    rows, summary = found_in(python(program))  # its protobufs would stay in this process
    losses = [1 / (epoch + 1) for epoch in range(3) if epoch != silent]
    assert [row["loss"] for row in rows if "loss" in row] == losses
    ours = [row for row in rows if "carbontracker/epoch" in row]
    assert [row["carbontracker/epoch"] for row in ours] == [1, 2, 3]
    assert summary["carbontracker/final_joules"] == joules
    names = [name for name in ours[0] if name.startswith("carbontracker/")]
    assert_logged({name: [row[name] for row in ours] for name in names})


def print_rows(path: str) -> None:
    """Print the rows and the last summary of an offline run; in a process of its own."""
    from pathlib import Path

    def values(items: Any) -> dict[str, Any]:
        return {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items}

    rows: list[dict[str, Any]] = []
    summary: dict[str, Any] = {}
    for record in wandb_records(Path(path)):
        if record.HasField("history"):
            rows.append(values(record.history.item))
        if record.HasField("summary"):
            summary |= values(record.summary.update)
    print("FOUND" + json.dumps([rows, summary]))


@lacks("wandb")
def test_wandb_names_the_extra_to_install() -> None:
    with pytest.raises(ImportError, match=r"pip install wandb"):
        log_to_wandb()
