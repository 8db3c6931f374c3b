"""The documents of traps: every trap stands in one, and every test that is named there exists."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = {
    # where a file's name begins: below `tests`, or below `tests/cpp`
    "docs/traps.md": "tests",
    "docs/traps-rapl.md": "tests/cpp",
    "docs/traps-nvml.md": "tests",
}
UNTESTED = {"R30"}
"""Of which the document says why there is no test."""
AS_ABOVE = ("the same",)
"""How a row says that its tests are those of the row before."""

TRAPS = [
    *(f"R{number}" for number in range(1, 34)),
    *(f"P{number}" for number in range(1, 12)),
    *(f"N{number}" for number in range(1, 26)),
    *(f"T{number}" for number in range(1, 21)),
    *(str(number) for number in range(1, 15)),  # the scenarios
]


@functools.cache
def rows() -> dict[str, tuple[str, str]]:
    """Return the document and the tests of each trap."""
    found: dict[str, tuple[str, str]] = {}
    for document in DOCUMENTS:
        for line in (ROOT / document).read_text().splitlines():
            match = re.match(r"\| ([RPNT]?\d+) \|.*\| (.+) \|$", line)
            if match:
                assert match[1] not in found, f"{match[1]} stands twice"
                found[match[1]] = (document, match[2])
    return found


def test_every_trap_stands_in_a_document_and_no_other() -> None:
    assert sorted(rows()) == sorted(TRAPS)


@pytest.mark.parametrize("trap", sorted(set(TRAPS) - UNTESTED))
def test_the_tests_of_a_trap_exist(trap: str) -> None:
    document, tests = rows()[trap]
    named = re.findall(r"`([\w/.]+)::(\w+)`", tests)
    assert named or any(words in tests for words in AS_ABOVE), tests
    assert tests.count("::") == len(named), tests
    for file, test in named:
        text = (ROOT / DOCUMENTS[document] / file).read_text()
        assert re.search(rf"^(TEST\({test}\)|def {test}\()", text, re.MULTILINE), f"{file}::{test}"
