"""Callbacks in real trainings of real frameworks, on a machine that draws known power.

Each framework trains its scenarios in one process; a test looks at one scenario.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from contextlib import nullcontext, suppress
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from carbontracker.exceptions import ComponentNameError
from carbontracker.integrations.framework_run import CHECKPOINT, EVALUATION, FrameworkRun, hook
from tests.support.frameworks import STEP_S
from tests.support.observing import waving_machine
from tests.support.programs import DEVICES, hide_sensors, python, read_record
from tests.support.snippets import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from carbontracker.training.training_run import TrainingRun

GPU_WATTS, CPU_WATTS = 300.0, 100.0
WATTS = GPU_WATTS + CPU_WATTS
WITHIN = 0.005
"""Share of the true energy that a training may be off."""
APART_S = 0.05
"""Two callbacks of one event are at most so far apart where other programs use the processors."""
TIMEOUT_S = 300
PROGRAMS = {
    "transformers": ("tests.support.train_transformers",),
    "lightning": ("tests.support.train_lightning", "lightning.pytorch"),
    "pytorch_lightning": ("tests.support.train_lightning", "pytorch_lightning"),
    "keras": ("tests.support.train_keras",),
    "accelerate": ("tests.support.train_accelerate",),
}
Trained = dict[str, Any]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trained]:
    """Return a function that trains all scenarios of a framework, once."""
    known: dict[str, Trained] = {}

    def train(framework: str) -> Trained:
        for module in ("torch", framework):
            if find_spec(module) is None:
                pytest.skip(f"{module} is not installed: pip install --group frameworks")
        if framework not in known:
            known[framework] = _train(framework, tmp_path_factory.mktemp(framework))
        return known[framework]

    return train


def _train(framework: str, directory: Path) -> Trained:
    out, records = directory / "seen.json", directory / "records"
    module, *arguments = PROGRAMS[framework]
    kept = {name: value for name, value in os.environ.items() if "CARBONTRACKER" not in name}
    with waving_machine(directory, f"constant:{GPU_WATTS}", f"constant:{CPU_WATTS}") as machine:
        done = subprocess.run(
            [sys.executable, "-m", module, str(out), *arguments],
            cwd=ROOT,
            env=kept
            | machine.environment
            | {
                "CARBONTRACKER_DIR": str(records),
                "CARBONTRACKER_LOCATION": "DK",
                "CARBONTRACKER_OFFLINE": "1",
                "HF_HUB_OFFLINE": "1",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return {**json.loads(out.read_text()), "records": records, "stderr": done.stderr}


def measured(seen: dict[str, Any]) -> None:
    """Hold a training to the power of the machine, and to the window beside it.

    Loops of the program's own print between epochs; callbacks leave nothing between them.
    """
    assert seen["final"]
    assert seen["joules"] == pytest.approx(WATTS * seen["seconds"], rel=WITHIN)
    beside = seen["window_joules"]
    joules = seen["joules"] + seen["between_joules"]
    assert joules == pytest.approx(beside, abs=WITHIN * beside + WATTS * APART_S)
    whole = sum(seconds for _, seconds, _ in seen["epochs"])
    assert whole == pytest.approx(seen["seconds"])


def steps(seen: dict[str, Any]) -> list[int]:
    """Return the steps of each epoch."""
    return [count for count, _, _ in seen["epochs"]]


def plans(seen: dict[str, Any], after: float) -> set[tuple[float, int]]:
    """Return the epochs and steps of the predictions after so many epochs."""
    return {(one["epochs"], one["steps"]) for one in seen["predicted"] if one["after"] == after}


def predicted(seen: dict[str, Any], within: float = 0.35) -> None:
    """Hold the newest prediction of a training that ran to its end to what it took."""
    assert seen["predicted"][-1]["joules"] == pytest.approx(seen["joules"], rel=within)
    assert seen["compared"] == len(seen["predicted"])


# ---- transformers --------------------------------------------------------------------------


def test_two_and_a_half_epochs_with_evaluation(trained: Callable[[str], Trained]) -> None:
    """Evaluation comes after `on_epoch_end`, and belongs to the epoch."""
    seen = trained("transformers")["two and a half epochs"]
    measured(seen)
    predicted(seen)
    assert steps(seen) == [20, 20, 10]
    assert seen["epochs_done"] == 2.5
    assert plans(seen, after=1) == {(2.5, 50)}


def test_evaluation_and_training_are_windows(trained: Callable[[str], Trained]) -> None:
    records: Path = trained("transformers")["records"]
    (record,) = records.glob("*.jsonl")
    events = [json.loads(line) for line in record.read_text().splitlines()]
    windows = [event for event in events if event["event"] == "windows"][:3]
    epochs = [event for event in events if event["event"] == "epoch"][:3]
    for epoch, event in zip(epochs, windows, strict=True):
        parts = {one["name"]: one for one in event["windows"]}
        assert parts.keys() == {"training", "evaluation"}
        assert event["epoch"] == epoch["index"]
        assert parts["evaluation"]["seconds"] == pytest.approx(5 * 0.04, rel=0.5)
        inside = sum(one["seconds"] for one in parts.values())
        assert inside == pytest.approx(epoch["seconds"], abs=APART_S)
        for one in parts.values():
            assert one["joules"] == pytest.approx(WATTS * one["seconds"], rel=0.05)


def test_max_steps_wins_over_epochs(trained: Callable[[str], Trained]) -> None:
    seen = trained("transformers")["max_steps"]
    measured(seen)
    predicted(seen)
    assert steps(seen) == [20, 10]
    assert (seen["epochs_done"], plans(seen, after=1)) == (1.5, {(1.5, 30)})


def test_batches_that_are_accumulated_are_one_step(trained: Callable[[str], Trained]) -> None:
    seen = trained("transformers")["accumulation"]
    measured(seen)
    predicted(seen)
    assert steps(seen) == [8, 8]
    assert plans(seen, after=1) == {(2, 16)}


def test_evaluation_within_an_epoch_is_not_training(trained: Callable[[str], Trained]) -> None:
    seen = trained("transformers")["evaluation by steps"]
    measured(seen)
    predicted(seen)
    assert steps(seen) == [20, 20]


@pytest.mark.parametrize("framework", ["transformers", "lightning"])
def test_a_training_resumed_in_an_epoch(framework: str, trained: Callable[[str], Trained]) -> None:
    """Of three epochs one and a half are left: half of one, and a whole one."""
    seen = trained(framework)["resumed"]
    measured(seen)
    predicted(seen)
    assert steps(seen) == [10, 20]
    assert seen["epochs_done"] == 1.5
    assert plans(seen, after=0.5) == {(1.5, 30)}


@pytest.mark.parametrize("framework", ["transformers", "lightning", "keras"])
def test_a_spent_budget_ends_the_training_in_order(
    framework: str, trained: Callable[[str], Trained]
) -> None:
    """One second of at least 2.4: the framework stops by itself, and raises nothing."""
    seen = trained(framework)["budget"]
    assert 1.0 < seen["seconds"] < 2.4
    assert seen["window_seconds"] < 2.4 + seen["seconds"] - 1.0
    assert "max_seconds=1 is exceeded" in trained(framework)["stderr"]


def test_a_training_that_raises_is_ended_where_it_was_left(
    trained: Callable[[str], Trained],
) -> None:
    seen = trained("transformers")["failed"]
    assert seen["epochs"] == [[10, pytest.approx(seen["seconds"]), False]]
    assert seen["joules"] == pytest.approx(WATTS * seen["seconds"], rel=WITHIN)


def test_evaluation_before_the_first_epoch_is_part_of_it(
    trained: Callable[[str], Trained],
) -> None:
    seen = trained("transformers")["evaluated first"]
    measured(seen)
    assert steps(seen) == [20]


# ---- lightning -----------------------------------------------------------------------------


@pytest.mark.parametrize("package", ["lightning", "pytorch_lightning"])
def test_the_sanity_check_is_not_training(package: str, trained: Callable[[str], Trained]) -> None:
    seen = trained(package)["sanity check"]
    measured(seen)
    predicted(seen)
    assert steps(seen) == [20, 20]
    assert plans(seen, after=1) == {(2, 40)}


def test_a_checkpoint_carries_the_name_of_the_training(
    trained: Callable[[str], Trained],
) -> None:
    name = trained("lightning")["before it was resumed"]["training_id"]
    (record,) = trained("lightning")["records"].glob("*.jsonl")
    events = [json.loads(line) for line in record.read_text().splitlines()]
    named = [event["training_id"] for event in events if event.get("training_id")]
    assert named.count(name) == 2
    assert len(set(named)) == len(named) - 1, "any other training has a name of its own"


def test_validation_in_the_middle_of_an_epoch(trained: Callable[[str], Trained]) -> None:
    seen = trained("lightning")["validation within"]
    measured(seen)
    predicted(seen)
    assert steps(seen) == [20, 20]


def test_max_steps_without_epochs(trained: Callable[[str], Trained]) -> None:
    seen = trained("lightning")["max_steps"]
    measured(seen)
    predicted(seen)
    assert steps(seen) == [20, 10]
    assert (seen["epochs_done"], plans(seen, after=1)) == (1.5, {(1.5, 30)})


def test_a_step_is_one_of_the_optimizer(trained: Callable[[str], Trained]) -> None:
    seen = trained("lightning")["accumulation"]
    measured(seen)
    predicted(seen)
    assert steps(seen) == [5, 5]
    assert plans(seen, after=1) == {(2, 10)}
    both = trained("lightning")["two optimizers"]
    measured(both)
    predicted(both)
    assert steps(both) == [40, 40]
    assert plans(both, after=1) == {(2, 0)}


def test_a_loader_without_a_length(trained: Callable[[str], Trained]) -> None:
    seen = trained("lightning")["no length"]
    measured(seen)
    predicted(seen)
    assert steps(seen) == [20, 20]
    assert plans(seen, after=1) == {(2, 0)}


def test_an_exception_ends_the_training(trained: Callable[[str], Trained]) -> None:
    seen = trained("lightning")["exception"]
    measured(seen)
    assert [finished for _, _, finished in seen["epochs"]] == [False]


# ---- keras ---------------------------------------------------------------------------------


def test_two_fits_are_two_trainings(trained: Callable[[str], Trained]) -> None:
    """The number of the last epoch is not how many there are."""
    first, second = (trained("keras")[name] for name in ("first fit", "initial epoch"))
    for seen in (first, second):
        measured(seen)
        predicted(seen)
        assert steps(seen) == [20, 20]
        assert plans(seen, after=1) == {(2, 0)}


def test_an_early_stop(trained: Callable[[str], Trained]) -> None:
    seen = trained("keras")["early stop"]
    measured(seen)
    assert steps(seen) == [20, 20]
    assert plans(seen, after=1) == {(4, 0)}
    assert seen["compared"] == 0


def test_a_generator(trained: Callable[[str], Trained]) -> None:
    seen = trained("keras")["generator"]
    measured(seen)
    predicted(seen)
    assert steps(seen) == [10, 10]


def test_a_fit_after_one_that_raised(trained: Callable[[str], Trained]) -> None:
    """Keras announces no end then: what was left ends where it was left."""
    left, after = (
        trained("keras")[name] for name in ("left by an exception", "after an exception")
    )
    assert [finished for _, _, finished in left["epochs"]] == [True, False]
    assert left["joules"] == pytest.approx(WATTS * left["seconds"], rel=WITHIN)
    measured(after)
    assert steps(after) == [20]


def test_monitoring_that_ends_early_is_not_begun_again(
    trained: Callable[[str], Trained],
) -> None:
    assert steps(trained("keras")["monitored for one epoch"]) == [20]


@pytest.mark.parametrize("framework", ["transformers", "keras"])
def test_a_callback_that_is_given_twice_counts_once(
    framework: str, trained: Callable[[str], Trained]
) -> None:
    seen = trained(framework)["given twice"]
    measured(seen)
    assert steps(seen) == [20, 20]
    assert [finished for _, _, finished in seen["epochs"]] == [True, True]


@pytest.mark.parametrize("name", ["with another one within", "with one within that raises"])
def test_a_training_within_another_one_is_in_its_epoch(
    name: str, trained: Callable[[str], Trained]
) -> None:
    seen = trained("keras")[name]
    measured(seen)
    assert steps(seen) == [20, 20]
    (_, first_s, _), (_, second_s, _) = seen["epochs"]
    assert first_s > second_s + 0.5 * 20 * STEP_S, "the inner one is in the first epoch"
    assert "a training within another one" in trained("keras")["stderr"]


@pytest.mark.parametrize("name", ["damaged 0", "damaged 1"])
def test_a_damaged_state_in_a_checkpoint_stops_nothing(
    name: str, trained: Callable[[str], Trained]
) -> None:
    seen = trained("lightning")[name]
    measured(seen)
    assert steps(seen) == [10, 20]


# ---- accelerate ----------------------------------------------------------------------------


def test_accelerate_counts_the_epochs_of_the_loop(trained: Callable[[str], Trained]) -> None:
    seen = trained("accelerate")["loop"]
    measured(seen)
    predicted(seen)
    assert steps(seen) == [20, 20]
    assert plans(seen, after=1) == {(2, 0)}


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_a_loader_add_nothing(method: str, trained: Callable[[str], Trained]) -> None:
    """They import the main module, tracker included, or are forked with it."""
    seen = trained("accelerate")[method]
    measured(seen)
    assert steps(seen) == [10, 10]
    assert "before a fork" not in trained("accelerate")["stderr"]


def test_threads_of_a_study_share_a_session(trained: Callable[[str], Trained]) -> None:
    if find_spec("optuna") is None:
        pytest.skip("optuna is not installed: pip install --group frameworks")
    seen = trained("accelerate")["study"]
    assert seen["sessions"] == 1
    assert seen["joules"] == pytest.approx(WATTS * seen["seconds"], rel=WITHIN)
    assert steps(seen) == [8]
    assert sorted(seen["windows"]) == [f"trial {number}" for number in range(8)]


# ---- without a framework -------------------------------------------------------------------


@pytest.mark.usefixtures("only_simulated")
@pytest.mark.parametrize("framework", ["transformers", "lightning", "keras"])
def test_no_hook_raises_whatever_it_is_given(framework: str) -> None:
    hooks = import_module(f"carbontracker.integrations.{framework}").Hooks
    names = [
        name
        for name, one in vars(hooks).items()
        if not name.startswith("_") and callable(one) and name != "ask_to_stop"
    ]
    assert len(names) >= 5
    for name in names:
        for given in ((), ("no state",), (object(),) * 4):
            # A signature that does not fit is an error of the caller, before our code.
            with suppress(TypeError) if name.endswith("state_dict") else nullcontext():
                getattr(hooks(**DEVICES, verbose=0), name)(*given)


def test_no_framework_is_imported_first() -> None:
    names = sorted({*PROGRAMS, "torch", "jax", "tf_keras"})
    done = python(
        "import sys, carbontracker.integrations.transformers, carbontracker.integrations.keras\n"
        "import carbontracker.integrations.lightning, carbontracker.integrations.accelerate\n"
        f"print([name for name in {names} if name in sys.modules])\n"
    )
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("framework", ["transformers", "lightning", "keras", "accelerate"])
def test_a_framework_that_is_not_installed_is_named(framework: str) -> None:
    names = ("transformers", "lightning", "pytorch_lightning", "keras", "tf_keras", "accelerate")
    done = python(
        "import sys\n"
        "class Hidden:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {names}: raise ModuleNotFoundError(f'No {{name}}')\n"
        "sys.meta_path.insert(0, Hidden())\n"
        "try:\n"
        f"    from carbontracker.integrations.{framework} import *\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    assert framework in done.stdout, done.stderr


class Hooked:
    """A callback of no framework."""

    packages: frozenset[str] = frozenset()

    def __init__(self, **arguments: Any) -> None:
        self.framework_run = FrameworkRun(DEVICES | {"verbose": 0} | arguments)
        self.stopped = False

    @hook
    def begin(self, **plan: Any) -> None:
        """Begin a training."""
        self.framework_run.begin(**plan)

    @hook
    def step(self) -> None:
        """Mark a step."""
        self.framework_run.step()

    @hook
    def breaks(self) -> None:
        """Fail, as code does when a framework changes."""
        raise AttributeError("the framework has changed")

    def ask_to_stop(self, *_: Any) -> None:
        """Note that the training is to end."""
        self.stopped = True

    @property
    def training(self) -> TrainingRun:
        """Return the run of the tracker."""
        assert self.framework_run.tracker is not None
        return self.framework_run.tracker._training


@pytest.fixture
def only_simulated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hide_sensors(monkeypatch, tmp_path)
    monkeypatch.setenv("CARBONTRACKER_LOCATION", "DK")


@pytest.mark.usefixtures("only_simulated")
def test_a_failure_of_ours_is_one_line_and_the_training_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    callback = Hooked()
    callback.begin(epochs=3)
    callback.breaks()
    callback.breaks()
    callback.step()
    assert callback.framework_run.failed
    assert not callback.framework_run.active
    assert callback.framework_run.result is not None, "what came before is not lost"
    (record,) = caplog.records
    assert record.message == (
        "carbontracker: the training is not measured any more: the framework has changed "
        "(AttributeError); it goes on without"
    )


@pytest.mark.usefixtures("only_simulated")
def test_a_budget_that_is_spent_asks_for_the_end() -> None:
    callback = Hooked(max_seconds=1e-6, on_budget="raise")
    callback.begin(epochs=3)
    callback.training.steps.look_soon()
    callback.step()
    assert callback.stopped
    assert not callback.framework_run.failed


@pytest.mark.usefixtures("only_simulated")
def test_epochs_leave_no_time_between_them(tmp_path: Path) -> None:
    run = FrameworkRun(DEVICES | {"verbose": 0, "log_dir": tmp_path})
    run.begin(epochs=3, steps_per_epoch=4)
    for _ in range(3):
        run.epoch_begins()
        for _ in range(4):
            time.sleep(0.005)
            run.step()
        run.part_begins(EVALUATION)
        time.sleep(0.005)
        run.part_begins(EVALUATION)
        run.part_ends()
        run.part_begins(CHECKPOINT, earlier=True)
    run.end()
    result = run.result
    assert result is not None
    assert result.between_epochs.joules == 0
    assert [epoch.steps for epoch in result.epochs] == [4, 4, 4]
    ends = [(epoch.start_s, epoch.end_s) for epoch in result.epochs]
    assert [end for _, end in ends[:-1]] == [start for start, _ in ends[1:]]
    windows = [one for one in read_record(tmp_path) if one["event"] == "windows"]
    assert len(windows) == 3
    for event in windows:
        assert {one["name"]: one["count"] for one in event["windows"]} == {
            "training": 3,
            "evaluation": 1,
            "checkpoint": 1,
        }


@pytest.mark.usefixtures("only_simulated")
def test_a_training_of_one_process_need_not_be_one_of_many() -> None:
    """Many trainings of a launch that know nothing of each other are no ranks."""
    run = FrameworkRun(DEVICES | {"verbose": 0})
    jobs = []
    for ranks in (1, 4):
        run.begin(epochs=1, ranks=ranks)
        assert run.tracker is not None
        jobs.append(run.tracker.job)
        run.end()
    assert jobs == [None, True]


@pytest.mark.usefixtures("only_simulated")
def test_arguments_are_checked_where_the_callback_is_made() -> None:
    with pytest.raises(TypeError, match="epochs is known to the framework: leave it out"):
        FrameworkRun({"epochs": 3})
    with pytest.raises(TypeError, match="verbos"):
        FrameworkRun({"verbos": 0})
    with pytest.raises(ValueError, match="unknown location"):
        FrameworkRun({"location": "Denmrk"})
    with pytest.raises(ComponentNameError):
        FrameworkRun({"components": "tpu"})


@pytest.mark.usefixtures("only_simulated")
def test_a_copy_has_the_arguments_and_no_training() -> None:
    run = FrameworkRun(DEVICES | {"verbose": 0})
    run.begin(epochs=1)
    copy = pickle.loads(pickle.dumps(run))
    assert copy.arguments == run.arguments
    assert copy.tracker is None
    run.end()
