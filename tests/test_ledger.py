"""The ledger: all of a project, no joule twice, failed and repeated work in a closed form."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from carbontracker.cli import main
from carbontracker.records.aggregate import COPY, add_runs
from carbontracker.records.ledger import Ledger, Node, make_ledger
from carbontracker.records.reader import read_run, read_runs
from carbontracker.report.ledger import ledger_csv, ledger_html, ledger_lines, ledger_rows
from tests.support.records import GRAMS, PUE, Made

if TYPE_CHECKING:
    from pathlib import Path

KWH = PUE / 3.6e6
A, B = "tiny-lm", "vision"


def made(
    run_id: str, began_s: float, project: str = A, stage: str = "pretraining", **more: object
) -> Made:
    about = {"project": project, "stage": stage}
    parent = more.pop("resumes", None)
    if parent is not None:
        about["parent"] = str(parent)
    return replace(Made(run_id, began_s=began_s, about=about), **more)  # type: ignore[arg-type]


def ledger_of(directory: Path, *runs: Made) -> Ledger:
    for run in runs:
        run.write(directory)
    return make_ledger(read_runs(directory, series=False, epochs=False))


def part(ledger: Ledger, *names: str) -> Node:
    found = ledger.whole
    for name in names:
        (found,) = (one for one in found.parts if one.name == name)
    return found


def test_stages_of_a_project_add_up_and_have_their_share(tmp_path: Path) -> None:
    ledger = ledger_of(
        tmp_path,
        made("dev1", 0, stage="development", epochs=(3000.0,)),
        made("pre1", 100, epochs=(1000.0, 1000.0), tokens=100),
        Made("bare", (500.0,), began_s=200),
    )
    project = part(ledger, A)
    assert project.cost.joules == pytest.approx(5000)
    assert project.cost.kwh == pytest.approx(5000 * KWH)
    assert project.cost.gco2eq == pytest.approx(5000 * KWH * GRAMS)
    assert project.cost.share(project.cost.development_kwh) == pytest.approx(0.6)
    assert project.cost.gpu_hours == pytest.approx(30 / 3600)
    value, error = project.cost.joules_per("tokens")
    assert value == pytest.approx(2000 / 200)  # the run that counted tokens
    assert error == pytest.approx(0.02 * 10)
    assert part(ledger, "(none)", "(none)").cost.joules == pytest.approx(500)
    assert ledger.whole.cost.joules == pytest.approx(5500)


def test_what_a_resume_repeats_is_what_came_after_the_last_checkpoint(tmp_path: Path) -> None:
    ledger = ledger_of(
        tmp_path,
        # Killed in its third epoch, saved in the middle of the second: 500 + 1000 J are repeated.
        made("aaaa1111", 0, epochs=(1000.0,) * 3, finished=False, planned=5, saved_s=(5.0, 15.0)),
        made("aaaa2222", 100, epochs=(1000.0,) * 3, resumes="aaaa1111", outcome="finished"),
    )
    (run,) = part(ledger, A, "pretraining").parts
    assert [one.outcome for one in run.parts] == ["killed", "finished"]
    assert run.outcome == "finished"
    assert run.cost.joules == pytest.approx(6000)
    assert run.cost.repeated_kwh == pytest.approx(1500 * KWH)
    assert run.cost.repeated_error_kwh == pytest.approx(0.02 * 1500 * KWH)
    assert run.cost.failed_kwh == 0
    assert run.cost.repeats_unknown == 0


def test_without_a_checkpoint_what_was_repeated_is_not_known(tmp_path: Path) -> None:
    ledger = ledger_of(
        tmp_path,
        made("aaaa1111", 0, outcome="failed"),
        made("aaaa2222", 100, resumes="aaaa1111", outcome="finished"),
    )
    assert ledger.whole.cost.repeats_unknown == 1
    assert ledger.whole.cost.repeated_kwh == 0
    assert "not known" in "\n".join(ledger_lines(ledger, "attempt"))


def test_a_run_that_another_stage_starts_from_has_not_failed(tmp_path: Path) -> None:
    ledger = ledger_of(
        tmp_path,
        made("aaaa1111", 0, epochs=(1000.0, 1000.0), outcome="failed", saved_s=(15.0,)),
        made("bbbb2222", 100, stage="fine-tuning", resumes="aaaa1111", outcome="finished"),
        made("cccc3333", 200, outcome="failed"),
    )
    assert ledger.whole.cost.failed_kwh == pytest.approx(1000 * KWH)
    assert part(ledger, A, "pretraining", "aaaa1111").cost.repeated_kwh == pytest.approx(500 * KWH)
    assert part(ledger, A, "fine-tuning", "bbbb2222").parent == "aaaa1111"


def test_a_finished_run_and_its_continuation_are_two_runs_that_repeat_nothing(
    tmp_path: Path,
) -> None:
    ledger = ledger_of(
        tmp_path,
        made("aaaa1111", 0, outcome="finished", saved_s=(5.0,)),
        made("aaaa2222", 100, resumes="aaaa1111", outcome="finished"),
    )
    assert len(part(ledger, A, "pretraining").parts) == 2
    assert ledger.whole.cost.repeated_kwh == 0


def test_a_training_in_a_measured_command_keeps_its_joules(tmp_path: Path) -> None:
    both = (("gpu:0", "gpu/GPU-1"), ("cpu:0", "cpu/0"))
    outer = made("eeee0000", 0, epochs=(9000.0,), seconds=90.0, devices=both)
    command = replace(outer, about={**outer.about, "command": ["sh"]})  # type: ignore[dict-item]
    inner = made("ffff0000", 10, epochs=(4000.0,), seconds=40.0, devices=both, parent="eeee0000")
    ledger = ledger_of(tmp_path, command, inner)
    assert ledger.whole.cost.joules == pytest.approx(9000)
    assert part(ledger, A, "pretraining", "ffff0000").cost.joules == pytest.approx(4000)
    assert part(ledger, A, "pretraining", "eeee0000").cost.joules == pytest.approx(5000)


def test_a_run_whose_time_is_counted_with_another_is_said_not_to_be_counted(
    tmp_path: Path,
) -> None:
    outer = made("eeee0000", 0, epochs=(9000.0,), seconds=90.0)
    ledger = ledger_of(
        tmp_path,
        replace(outer, tokens=1000),
        made("ffff0000", 10, epochs=(4000.0,), seconds=40.0, tokens=500),
    )
    assert ledger.whole.cost.joules == pytest.approx(9000)
    # Tokens without their joules would make each token of the others cheaper.
    assert ledger.whole.cost.work == ledger.total.work
    of_run = {row["run"]: row for row in ledger_rows(ledger)}
    assert (of_run["ffff0000"]["counted"], of_run["ffff0000"]["kwh"]) == (False, None)
    assert of_run["ffff0000"]["tokens"] is None
    node = part(ledger, A, "pretraining", "ffff0000")
    assert (node.counted, node.to_dict()["counted"], node.parts[0].counted) == (False,) * 3
    assert part(ledger, A, "pretraining", "eeee0000").counted
    (line,) = (line for line in ledger_lines(ledger) if "ffff0000" in line)
    assert "not counted" in line
    assert "Wh" not in line


def twenty(directory: Path) -> dict[str, float]:
    """Write twenty runs of two projects; return the joules that a ledger must have."""
    runs = [
        made(f"dev{i}", 100.0 * i, stage="development", outcome="finished", tokens=50)
        for i in range(6)
    ]
    at = 1000.0
    for chain in range(3):  # killed, failed, finished: 2 x (500 + 1000) J are repeated in each
        ids = [f"chain{chain}-{attempt}" for attempt in range(3)]
        cut: dict[str, Any] = {"epochs": (1000.0,) * 3, "saved_s": (10.0, 15.0)}
        runs += [
            made(ids[0], at, finished=False, planned=9, **cut),
            made(ids[1], at + 100, resumes=ids[0], outcome="failed", **cut),
            made(ids[2], at + 200, resumes=ids[1], outcome="finished", epochs=(1000.0,) * 3),
        ]
        at += 1000
    runs += [
        made("lost1", at, B, outcome="failed", epochs=(2000.0,)),
        made("lost2", at + 100, B, finished=False, planned=3, epochs=(700.0,)),
        made("good", at + 200, B, outcome="finished", epochs=(5000.0, 5000.0)),
        # Beside "good" on the same machine for half of its time: those joules are counted once.
        made("beside", at + 210, B, outcome="finished", epochs=(5000.0, 5000.0)),
        made("limit", at + 400, B, outcome="budget", epochs=(300.0,)),
    ]
    assert len(runs) == 20
    for run in runs:
        run.write(directory)
    runs[0].write(directory / "backup", "copy")
    runs[8].write(directory / "backup", "copy2")
    return {
        "whole": 6 * 1000 + 3 * 9000 + 2000 + 700 + 10_000 + 5000 + 300,
        "repeated": 3 * 2 * 1500,
        "failed": 2000 + 700,
        "development": 6 * 1000,
        A: 6 * 1000 + 3 * 9000,
    }


def test_twenty_runs_add_up_to_their_closed_form(tmp_path: Path) -> None:
    true = twenty(tmp_path)
    ledger = make_ledger(read_runs(tmp_path, series=False, epochs=False))
    cost = ledger.whole.cost
    assert cost.joules == pytest.approx(true["whole"])
    assert cost.kwh == pytest.approx(true["whole"] * KWH, abs=cost.error_kwh)
    assert cost.repeated_kwh == pytest.approx(true["repeated"] * KWH, abs=cost.repeated_error_kwh)
    assert cost.repeated_kwh == pytest.approx(true["repeated"] * KWH)
    assert cost.failed_kwh == pytest.approx(true["failed"] * KWH)
    assert cost.development_kwh == pytest.approx(true["development"] * KWH)
    assert part(ledger, A).cost.joules == pytest.approx(true[A])
    assert cost.attempts == 20
    assert len(part(ledger, A, "pretraining").parts) == 3
    assert ledger.total.left_out[COPY] == 2
    # The same as `aggregate`, and its parts add up to it, at every level and in every row.
    total = add_runs(read_runs(tmp_path, series=False, epochs=False))
    assert (cost.kwh, cost.gco2eq) == pytest.approx((total.kwh, total.gco2eq))
    for _, node in ledger.whole.walk():
        if node.parts:
            assert sum(one.cost.kwh for one in node.parts) == pytest.approx(node.cost.kwh)
    rows = list(ledger_rows(ledger))
    assert sum(row["kwh"] for row in rows) == pytest.approx(total.kwh)


def test_the_command_line_shows_and_writes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twenty(tmp_path)
    where = ["--records", str(tmp_path)]
    assert main(["ledger", *where]) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[0].split() == [
        *("What", "Outcome", "Attempts", "Electricity", "CO2eq", "GPU-h", "Failed"),
        *("Repeated", "Each"),
    ]
    assert "Of the electricity: 11.8 % development, 5.29 % failed, 17.6 % repeated." in text
    assert main(["ledger", A, *where, "--json", "-"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert (tree["level"], tree["name"]) == ("project", A)
    assert tree["cost"]["joules"] == pytest.approx(33_000)
    files = [tmp_path / "out" / name for name in ("ledger.csv", "ledger.html")]
    files[0].parent.mkdir()
    assert main(["ledger", *where, "--csv", str(files[0]), "--html", str(files[1])]) == 0
    rows = list(csv.DictReader(io.StringIO(files[0].read_text())))
    assert len(rows) == 20
    assert sum(float(row["joules"]) for row in rows) == pytest.approx(51_000)
    assert b"tiny-lm / pretraining" in files[1].read_bytes()
    assert main(["ledger", "nothing", *where]) == 2
    assert "projects: tiny-lm, vision" in capsys.readouterr().err


def test_an_empty_ledger_is_one(tmp_path: Path) -> None:
    ledger = make_ledger(read_runs(tmp_path))
    assert ledger.whole.cost.kwh == 0
    assert list(ledger_lines(ledger))
    assert ledger_html(ledger).startswith(b"<!DOCTYPE html>")
    assert ledger_csv(ledger) == b"project\n"


# ---- labels --------------------------------------------------------------------------------


def test_a_label_is_read_with_the_record_and_changes_nothing_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = made("aaaa1111", 0, outcome="finished").write(tmp_path)
    made("bbbb2222", 100, outcome="failed").write(tmp_path)
    before = path.read_bytes()
    assert main(["label", str(path), "--project", B, "--outcome", "superseded"]) == 0
    assert main(["label", str(path), "--stage", " ablation ", "--note", "wrong rate"]) == 0
    assert path.read_bytes() == before
    run = read_run(path)
    assert (run.metadata.project, run.metadata.stage) == (B, "ablation")
    assert (run.outcome, run.labels["note"]) == ("superseded", "wrong rate")
    ledger = make_ledger(read_runs(tmp_path, series=False, epochs=False))
    assert part(ledger, B, "ablation").cost.failed_kwh == pytest.approx(1000 * KWH)
    assert len(list(read_runs(tmp_path))) == 2  # the labels are no record
    assert main(["label", str(path), "--outcome", ""]) == 0  # takes it back
    assert read_run(path).outcome == "finished"
    assert main(["label", str(path)]) == 0
    assert "project: vision, stage: ablation" in capsys.readouterr().out
    assert main(["label", str(path), "--outcome", "great"]) == 2
    assert "outcome must be finished or failed" in capsys.readouterr().err


def test_a_label_of_nothing_and_a_wrong_outcome_are_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text("x\n", encoding="utf-8")
    assert main(["label", str(path), "--project", "a"]) == 2
    assert f"{path} has no record of a run" in capsys.readouterr().err
    assert main(["label", str(path), "--outcome", "foo"]) == 2
    assert "outcome must be finished or" in capsys.readouterr().err


def test_the_beginning_of_several_ids_labels_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CARBONTRACKER_DIR", str(tmp_path))
    paths = [Made(name, began_s=at).write(tmp_path) for name, at in (("aaaa1", 0), ("aaaa2", 60))]
    assert main(["label", "aaaa", "--project", "p"]) == 2
    assert "aaaa is the beginning of several ids" in capsys.readouterr().err
    assert not any(read_run(path).metadata.project for path in paths)
    assert main(["label", "aaaa2", "--project", "p"]) == 0
    assert [read_run(path).metadata.project for path in paths] == ["", "p"]


def test_a_parent_is_found_beside_the_record_that_is_labelled(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    Made("aaaa1111").write(folder)
    path = Made("bbbb2222").write(folder)
    assert main(["label", str(path), "--parent", "aaaa"]) == 0
    assert read_run(path).metadata.parent == "aaaa1111"
    assert main(["label", str(path), "--parent", str(path)]) == 2
    assert read_run(path).metadata.parent == "aaaa1111"


def test_a_damaged_line_of_labels_is_passed_over_and_the_next_one_is_whole(tmp_path: Path) -> None:
    path = made("aaaa1111", 0).write(tmp_path)
    labels = tmp_path / "aaaa1111.labels.jsonl"
    labels.write_bytes(
        b'[1]\n{"run_id":"aaaa1111","outcome":"x","stage":3}\n{"run_id":"aaaa1111","sta'
    )
    assert main(["label", str(path), "--project", B]) == 0
    run = read_run(path)
    assert (run.metadata.project, run.metadata.stage) == (B, "3")
    assert run.outcome == "finished"


def test_a_record_is_read_without_labels_that_cannot_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = made("aaaa1111", 0).write(tmp_path)
    (tmp_path / "aaaa1111.labels.jsonl").mkdir()
    assert read_run(path).metadata.project == A
    assert "the labels of" in caplog.text


def test_runs_that_are_each_other_s_parent_are_one_run(tmp_path: Path) -> None:
    ledger = ledger_of(
        tmp_path,
        made("aaaa1111", 0, resumes="aaaa2222", outcome="failed", saved_s=(5.0,)),
        made("aaaa2222", 100, resumes="aaaa1111", outcome="failed", saved_s=(5.0,)),
        made("aaaa3333", 200, resumes="aaaa3333", outcome="finished"),
    )
    assert [len(one.parts) for one in part(ledger, A, "pretraining").parts] == [2, 1]
    assert ledger.whole.cost.failed_kwh == pytest.approx(2000 * KWH)
