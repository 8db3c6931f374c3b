"""What frameworks have counted is what the callbacks count, also over a failure and a resume."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import UserDict
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from carbontracker.integrations.framework_run import batch_size
from carbontracker.records.ledger import make_ledger
from carbontracker.records.reader import read_runs
from tests.support.snippets import ROOT

if TYPE_CHECKING:
    from pathlib import Path

ROWS, LENGTH, STEP = 22, 16, 6
"""Of ``train_tokens``: rows of an epoch, tokens of a row, rows of a step."""


def run_program(name: str, directory: Path) -> dict[str, Any]:
    kept = {key: value for key, value in os.environ.items() if "CARBONTRACKER" not in key}
    done = subprocess.run(
        [sys.executable, "-m", f"tests.support.{name}", str(directory)],
        cwd=ROOT,
        env=kept | {"CARBONTRACKER_LOCATION": "DK", "CARBONTRACKER_OFFLINE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_tokens_of_the_trainer_and_the_lineage_of_its_checkpoints(tmp_path: Path) -> None:
    for module in ("torch", "transformers", "accelerate"):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install --group frameworks")
    found = run_program("train_tokens", tmp_path)
    assert found["tokens"] == 2 * ROWS * LENGTH  # what the trainer itself counts
    failed_id, failed, failed_epochs = found["failed"]
    _, resumed, resumed_epochs = found["resumed"]
    # It failed in step 6: 4 steps of the first epoch, 2 of the second one.
    assert failed == {"tokens": (ROWS + 2 * STEP) * LENGTH, "samples": ROWS + 2 * STEP}
    assert failed_epochs[0] == {"tokens": ROWS * LENGTH, "samples": ROWS}
    # It went on after step 5.
    rest = ROWS - STEP
    assert resumed_epochs == [{"tokens": rest * LENGTH, "samples": rest}]
    assert resumed.pop("flops") > 0
    assert resumed == {"tokens": rest * LENGTH, "samples": rest}
    runs = list(read_runs(tmp_path / "records"))
    assert [run.outcome for run in runs] == ["failed", "finished"]
    assert runs[1].metadata.parent == failed_id
    assert len(runs[0].checkpoints_s) == 1
    ledger = make_ledger(runs)
    (run,) = ledger.whole.parts[0].parts[0].parts
    assert [one.outcome for one in run.parts] == ["failed", "finished"]
    # What came after the checkpoint of step 5, by the first run's own energy over time.
    first = runs[0]
    joules = sum(
        first.series.between(device, first.checkpoints_s[0], first.epochs[-1].end_s)
        for device in first.energy.by_device
    )
    share = run.cost.repeated_kwh / run.parts[0].cost.kwh
    assert share * first.energy.joules == pytest.approx(joules, rel=0.01)


def test_the_rows_of_keras_are_those_of_its_batches(tmp_path: Path) -> None:
    for module in ("torch", "keras"):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install --group frameworks")
    found = run_program("count_keras", tmp_path)
    assert {name: one["rows"] for name, one in found.items()} == {
        "arrays": 22,  # half of 22 rows, twice: batches of 4, 4 and 3
        "whole batches": 44,
        "steps of a pass": 22,  # the second epoch goes on with batches of 4, 4 and 2
        "loader": 44,
        "loader without the last": 40,
        "loader with a sampler": 20,
        "generator": 18,
    }
    generator = found.pop("generator")
    assert generator["whole"] == {}  # Keras does not know the size of its batches
    for name, one in found.items():
        assert one["whole"] == {"samples": one["rows"]}, name
        assert sum(epoch["samples"] for epoch in one["epochs"]) == one["rows"], name


class Tensor:
    def __init__(self, *shape: int) -> None:
        self.shape = shape


class Odd:
    def shape(self) -> None:
        """A method, where tensors have a value."""


@pytest.mark.parametrize(
    ("batch", "size"),
    [
        (Tensor(8, 3), "8.0"),
        ([Tensor(4, 3), Tensor(4)], "4.0"),
        ({"input_ids": Tensor(2, 128), "labels": Tensor(2)}, "2.0"),
        (["name", {"x": (None, Tensor(5))}], "5.0"),
        (Tensor(), "nan"),
        (UserDict(input_ids=Tensor(6, 128)), "6.0"),  # as a tokenizer's batches are
        ([], "nan"),
        (None, "nan"),
        (Odd(), "nan"),
        (["text"] * 1000, "nan"),
    ],
)
def test_the_size_of_a_batch_is_the_length_of_its_first_tensor(batch: object, size: str) -> None:
    assert str(batch_size(batch)) == size
