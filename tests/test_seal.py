"""A seal shows each change of a record, its labels and declared values, and what came later."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carbontracker.cli import main
from carbontracker.records.labels import add_label, labels_path
from carbontracker.records.seal import check_seal, seal, seal_path
from carbontracker.records.validate import ERROR, WARNING
from tests.support.records import Made

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def record(tmp_path: Path) -> Path:
    path = Made("aaaa1111", (1000.0, 500.0)).write(tmp_path)
    add_label(path, "aaaa1111", {"project": "tiny-lm"})
    (tmp_path / "answers.toml").write_text("model = 'tiny'\n")
    seal(path, [tmp_path / "answers.toml"])
    return path


def levels(record: Path) -> list[str]:
    return [finding.level for finding in check_seal(record)]


def test_what_was_sealed_and_not_changed_is_in_order(record: Path) -> None:
    assert levels(record) == []
    moved = shutil.copytree(record.parent, record.parent / "elsewhere")
    assert levels(moved / record.name) == []


@pytest.mark.parametrize("name", ["aaaa1111.jsonl", "aaaa1111.labels.jsonl", "answers.toml"])
def test_a_change_of_any_byte_and_a_missing_file_are_errors(record: Path, name: str) -> None:
    file = record.parent / name
    whole = file.read_bytes()
    for place in (0, len(whole) // 2, len(whole) - 1):
        changed = bytearray(whole)
        changed[place] ^= 1
        file.write_bytes(changed)
        found = list(check_seal(record))
        assert [(one.level, one.path) for one in found] == [(ERROR, file)]
        assert "changed since it was sealed at 20" in found[0].message
    file.write_bytes(whole[:-1])
    assert levels(record) == [ERROR]
    file.unlink()
    assert levels(record) == [ERROR]


def test_a_label_after_the_seal_is_listed(record: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_label(record, "aaaa1111", {"stage": "development"})
    (later,) = check_seal(record)
    assert (later.level, later.line) == (WARNING, 2)
    assert "after the seal: run aaaa1111 stage='development'" in later.message
    assert main(["check", str(record)]) == 0
    assert "after the seal: run aaaa1111" in capsys.readouterr().out
    assert main(["check", "--strict", str(record)]) == 1


def test_what_is_no_label_after_the_seal_is_told(
    record: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with labels_path(record).open("ab") as file:
        file.write(b"garbage\n")
    assert main(["check", str(record)]) == 0
    assert "after the seal: 8 bytes were appended" in capsys.readouterr().out
    add_label(record, "aaaa1111", {"stage": "development"})
    assert main(["check", str(record)]) == 0
    said = capsys.readouterr().out
    assert "stage='development'" in said
    assert "of which some are no label" in said


def test_a_later_label_of_no_known_value_says_so(record: Path) -> None:
    line = {"run_id": "aaaa1111", "time": "2026-01-01T00:00:00Z", "outcome": "lucky"}
    with labels_path(record).open("a") as file:
        file.write(json.dumps(line) + "\n")
    (later,) = check_seal(record)
    assert "run aaaa1111 with no value that is known" in later.message


def test_a_run_after_the_seal_is_listed_and_a_longer_answer_is_a_change(record: Path) -> None:
    with record.open("a") as file:
        file.writelines(Made("bbbb2222", began_s=100).lines())
    (later,) = check_seal(record)
    assert later.level == WARNING
    assert "bytes were appended" in later.message
    (record.parent / "answers.toml").write_text("model = 'tiny'\nhours = 3\n")
    assert levels(record) == [WARNING, ERROR]


def test_labels_of_a_record_that_was_sealed_without_any_are_later(tmp_path: Path) -> None:
    path = Made("aaaa1111").write(tmp_path)
    seal(path)
    assert levels(path) == []
    add_label(path, "aaaa1111", {"stage": "development"})
    assert levels(path) == [WARNING]


def test_files_that_change_places_are_seen(record: Path) -> None:
    path = seal_path(record)
    data = json.loads(path.read_text())
    first, second, third = data["parts"]
    data["parts"] = [first, third, second]
    path.write_text(json.dumps(data))
    assert ERROR in levels(record)


@pytest.mark.parametrize("change", ["part", "time", "grows", "more"])
def test_a_change_of_the_seal_itself_is_an_error(record: Path, change: str) -> None:
    """Leaving out the last part leaves a chain that is right as far as it goes."""
    path = seal_path(record)
    data = json.loads(path.read_text())
    if change == "part":
        data["parts"].pop()
        (record.parent / "answers.toml").write_text("model = 'other'\n")
    elif change == "time":
        data["sealed_at"] = ""
    elif change == "grows":
        data["parts"][-1]["may_grow"] = True
    else:
        data["signed"] = True
    path.write_text(json.dumps(data))
    assert [(one.level, one.path) for one in check_seal(record)] == [(ERROR, path)]


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(damage=st.binary(max_size=40) | st.sampled_from([b"{}", b"[]", b"null", b'{"seal":1}']))
def test_a_damaged_seal_is_an_error_and_no_traceback(record: Path, damage: bytes) -> None:
    seal_path(record).write_bytes(damage)
    assert levels(record) == [ERROR]


def test_the_command_seals_one_record_that_has_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Made("aaaa1111").write(tmp_path)
    assert main(["seal", str(path)]) == 0
    assert capsys.readouterr().out.strip() == str(seal_path(path))
    assert main(["check", str(tmp_path)]) == 0
    path.write_bytes(path.read_bytes().replace(b"1000.0", b"1001.0"))
    assert main(["check", str(tmp_path)]) == 1
    assert "changed since it was sealed" in capsys.readouterr().out
    Made("bbbb2222").write(tmp_path)
    assert main(["seal", str(tmp_path)]) == 2
    assert "has 2 records: name one" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
def test_a_seal_can_be_signed_as_the_docs_say(record: Path) -> None:
    key, path = str(record.parent / "key"), str(seal_path(record))
    signers = record.parent / "signers"

    def keygen(*arguments: str, given: bytes = b"") -> int:
        command = ["ssh-keygen", *arguments]
        return subprocess.run(command, input=given, check=False, capture_output=True).returncode

    assert keygen("-q", "-t", "ed25519", "-N", "", "-f", key) == 0
    assert keygen("-Y", "sign", "-f", key, "-n", "carbontracker", path) == 0
    signers.write_text(f"ada@example.org {(record.parent / 'key.pub').read_text()}")
    verify = ("-Y", "verify", "-f", str(signers), "-I", "ada@example.org")
    signed = (*verify, "-n", "carbontracker", "-s", f"{path}.sig")
    assert keygen(*signed, given=seal_path(record).read_bytes()) == 0
    assert keygen(*signed, given=b"{}") != 0


@pytest.mark.skipif(shutil.which("minisign") is None, reason="minisign is not installed")
def test_a_seal_can_be_signed_with_minisign_as_the_docs_say(record: Path) -> None:
    path, public = str(seal_path(record)), str(record.parent / "minisign.pub")
    secret = str(record.parent / "minisign.key")

    def minisign(*arguments: str) -> int:
        command = ["minisign", *arguments]
        return subprocess.run(command, input=b"", check=False, capture_output=True).returncode

    assert minisign("-G", "-W", "-p", public, "-s", secret) == 0  # -W: without a password
    assert minisign("-S", "-s", secret, "-m", path) == 0
    assert minisign("-V", "-p", public, "-m", path) == 0
    seal_path(record).write_bytes(b"{}")
    assert minisign("-V", "-p", public, "-m", path) != 0
