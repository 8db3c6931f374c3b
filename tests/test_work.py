"""Units of work: counted exactly, and energy divided by them within its error."""

from __future__ import annotations

import csv
import io
import json
import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from carbontracker import CarbonTracker, measure
from carbontracker.cli import main
from carbontracker.model.work import UNCOUNTED, Work, add_beside, add_in_turn
from carbontracker.records.aggregate import add_runs
from carbontracker.records.reader import read_run, read_runs
from carbontracker.records.validate import check_file
from carbontracker.report.formatting import quantity
from carbontracker.report.work import work_facts
from carbontracker.telemetry.metrics import MetricsReader, training_metrics
from tests.support.programs import DEVICES, WATTS, hide_sensors

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def only_simulated_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hide_sensors(monkeypatch, tmp_path)
    monkeypatch.setenv("CARBONTRACKER_LOCATION", "DK")


def test_what_was_not_counted_is_unknown_and_not_zero() -> None:
    assert not UNCOUNTED
    assert UNCOUNTED.to_dict() == {}
    both = add_in_turn([Work(tokens=5, samples=1), Work(tokens=7)])
    assert both.tokens == 12
    assert math.isnan(both.samples)  # one part did not count them
    assert add_beside([Work(tokens=5, samples=1), Work(tokens=7)]).samples == 1
    assert math.isnan(add_in_turn([]).tokens)


@pytest.mark.parametrize(
    "damaged", [None, "", [], {"tokens": "5"}, {"tokens": -1}, {"tokens": True}]
)
def test_damaged_work_is_unknown(damaged: object) -> None:
    assert Work.from_dict(damaged) == UNCOUNTED


def test_energy_for_each_unit_is_watts_times_seconds_over_the_count(tmp_path: Path) -> None:
    tracker = CarbonTracker(2, verbose=0, log_dir=tmp_path, epochs_before_pred=0, **DEVICES)
    counts = (100, 300)
    for count in counts:
        tracker.epoch_start()
        for _ in range(10):
            time.sleep(0.01)
            tracker.step(tokens=count, samples=np.int64(2), flops=1e12)
        tracker.epoch_end()
    result = tracker.result
    assert result is not None
    for measured, tokens in zip([*result.epochs, result], [1000, 3000, 4000], strict=True):
        assert measured.work.tokens == tokens
        found = measured.joules_per("tokens")
        assert found.value == pytest.approx(WATTS * measured.seconds / tokens, abs=found.error)
        assert found.error == measured.energy.error_joules / tokens
        assert measured.per_second("tokens") == tokens / measured.seconds
        grams = measured.gco2eq_per("tokens", 1e6)
        assert grams.value == pytest.approx(1e6 * measured.footprint.gco2eq / tokens)
    assert result.work == Work(4000, 40, 20e12)
    assert result.gpu_hours == pytest.approx(result.seconds / 3600)
    assert result.flops_utilisation(1e15) == pytest.approx(20e12 / (1e15 * result.seconds))
    (file,) = tmp_path.glob("*.jsonl")
    assert list(check_file(file)) == []
    kept = read_run(file)
    assert kept.result.work == result.work
    assert [epoch.work for epoch in kept.epochs] == [epoch.work for epoch in result.epochs]


def test_a_count_that_cannot_be_makes_its_epoch_unknown_and_no_other() -> None:
    tracker = CarbonTracker(3, verbose=0, record=False, epochs_before_pred=0, **DEVICES)
    for given in (5, "many", 7):
        tracker.epoch_start()
        tracker.step(tokens=given)  # type: ignore[arg-type]
        tracker.step(tokens=1)
        tracker.epoch_end()
    result = tracker.result
    assert result is not None
    assert [str(epoch.work.tokens) for epoch in result.epochs] == ["6.0", "nan", "8.0"]
    assert math.isnan(result.joules_per("tokens").value)


def test_an_epoch_before_the_first_count_is_unknown_and_one_after_it_did_nothing() -> None:
    tracker = CarbonTracker(3, verbose=0, record=False, epochs_before_pred=0, **DEVICES)
    for tokens in (None, 5, None):
        tracker.epoch_start()
        tracker.step(tokens=tokens)
        tracker.epoch_end()
    result = tracker.result
    assert result is not None
    assert [str(epoch.work.tokens) for epoch in result.epochs] == ["nan", "5.0", "0.0"]


def test_what_a_phase_does_is_not_counted() -> None:
    tracker = CarbonTracker(1, verbose=0, record=False, epochs_before_pred=0, **DEVICES)
    tracker.epoch_start()
    tracker.step(tokens=5)
    with tracker.phase("validation"):
        tracker.step(tokens=1000)
    epoch = tracker.epoch_end()
    assert epoch is not None
    assert epoch.work.tokens == 5


def test_a_window_knows_its_work(tmp_path: Path) -> None:
    with measure("generate").work(tokens=10) as window:
        window.work(tokens=2, samples=1)
    assert window.measurement.work == Work(tokens=12, samples=1)
    with measure("plain") as plain:
        pass
    assert plain.work_done == UNCOUNTED
    tracker = CarbonTracker(1, verbose=0, log_dir=tmp_path, epochs_before_pred=0, **DEVICES)
    tracker.epoch_start()
    for _ in range(3):
        with tracker.window("generate") as each:
            time.sleep(0.01)
        each.work(tokens=100)
    tracker.epoch_end()
    (file,) = tmp_path.glob("*.jsonl")
    (totals,) = read_run(file).windows
    assert totals.work.tokens == 300
    found = totals.joules_per("tokens")
    assert found.value == pytest.approx(WATTS * totals.seconds / 300, abs=found.error)


# ---- views ---------------------------------------------------------------------------------


def trained(directory: Path, **more: Any) -> CarbonTracker:
    tracker = CarbonTracker(
        2, verbose=0, log_dir=directory, epochs_before_pred=0, **DEVICES, **more
    )
    for _ in tracker.epochs():
        time.sleep(0.02)
        tracker.step(tokens=500, samples=4, flops=1e12)
    return tracker


def test_each_view_shows_the_energy_for_a_unit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = trained(tmp_path).result
    assert result is not None
    each = result.joules_per("tokens")
    run = read_run(next(tmp_path.glob("*.jsonl")))
    facts = dict(work_facts(run.result, ["NVIDIA A100-SXM4-80GB"]))
    assert facts["Energy per token"] == quantity(each.value, "J", each.error)
    assert facts["Energy per TFLOP"].endswith("J")
    share = 2e12 / (312e12 * result.seconds)  # 312e12/s: the peak of an A100
    assert facts["Model FLOPs utilisation"] == f"{100 * share:.3g} % of the dense 16-bit peak"
    assert main(["report", str(run.path)]) == 0
    text = capsys.readouterr().out
    assert f"Energy per token: {facts['Energy per token']}" in text
    assert main(["report", str(run.path), "--json", "-"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["work"]["joules_per_token"] == pytest.approx(each.value)
    assert data["work"]["tokens"] == 1000
    assert [one["tokens"] for one in data["epoch_energies"]] == [500, 500]
    assert main(["report", str(run.path), "--csv", "-"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert float(rows[0]["joules_per_token"]) == pytest.approx(
        result.epochs[0].joules_per("tokens").value
    )
    assert main(["runs", str(tmp_path), "--json", "--filter", "tokens>=1000"]) == 0
    assert json.loads(capsys.readouterr().out)["joules_per_token"] == pytest.approx(each.value)
    total = add_runs(read_runs(tmp_path, series=False, epochs=False))
    assert total.work["tokens"] == 1000
    assert total.work_joules["tokens"] == pytest.approx(result.energy.joules)
    assert main(["aggregate", str(tmp_path)]) == 0
    assert "per token" in capsys.readouterr().out
    assert main(["top", str(run.path), "--once"]) == 0
    assert "J/token" in capsys.readouterr().out


def test_parquet_has_the_work_of_each_epoch(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    result = trained(tmp_path).result
    assert result is not None
    file = tmp_path / "epochs.parquet"
    record = str(next(tmp_path.glob("*.jsonl")))
    assert main(["report", record, "--parquet", str(file)]) == 0
    rows = parquet.read_table(file).to_pylist()
    assert [(one["tokens"], one["samples"], one["flops"]) for one in rows] == [(500, 4, 1e12)] * 2
    for row, epoch in zip(rows, result.epochs, strict=True):
        each = epoch.joules_per("tokens")
        assert row["joules_per_token"] == pytest.approx(each.value)


def test_the_console_shows_it_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = CarbonTracker(1, log_dir=tmp_path, **DEVICES)
    tracker.epoch_start()
    tracker.step(tokens=500)
    tracker.epoch_end()
    (line,) = (one for one in capsys.readouterr().out.splitlines() if "J/token" in one)
    assert line.startswith("CarbonTracker: ")
    assert line.endswith(" tokens/s.")


def test_metrics_have_the_counts_and_the_energy_for_each() -> None:
    tracker = CarbonTracker(2, verbose=0, record=False, epochs_before_pred=0, **DEVICES)
    tracker.epoch_start()
    time.sleep(0.05)
    tracker.step(tokens=500)
    run = tracker._training.run
    assert run is not None
    reader = MetricsReader(run.status_reader(), training_metrics(run))
    found = {metric.name: dict(points) for metric, points in reader.read()}
    assert found["tokens"] == {(): 500}
    assert found["samples"] == {}  # missing is not zero
    spent = run.spent()
    assert found["energy.per.token"][()] == pytest.approx(spent.joules_per("tokens").value, rel=0.5)
    tracker.stop()


def test_a_rank_does_not_divide_the_energy_of_its_node_by_its_own_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {
        "RANK": "1",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
    }.items():
        monkeypatch.setenv(name, value)
    trained(tmp_path, job=True)
    run = read_run(next(tmp_path.glob("*.jsonl")))
    assert run.result.work.tokens == 1000
    assert run.divisible is None
    assert main(["report", str(run.path)]) == 0
    assert "per token" not in capsys.readouterr().out
