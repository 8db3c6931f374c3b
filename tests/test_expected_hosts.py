"""Machines that others have described: kinds, owners, nesting and covers as they are expected."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.expected import hosts_folder, judged, machines

if TYPE_CHECKING:
    from pathlib import Path

HOSTS = machines(hosts_folder())


@pytest.mark.skipif(not HOSTS, reason="no folder of machines (CARBONTRACKER_HOSTS names one)")
@pytest.mark.parametrize("host", HOSTS, ids=[one.name for one in HOSTS])
def test_the_sensors_of_a_machine_are_those_expected(host: Path, tmp_path: Path) -> None:
    checks = judged(host, tmp_path)
    assert checks
    assert [one for one in checks if not one.holds] == []
