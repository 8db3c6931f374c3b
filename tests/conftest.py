"""What every test gets: an environment of its own, and no session of the test before it."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OFF_BY_DEFAULT = ("hardware", "network", "slow")
"""Markers whose tests run only where ``-m`` names them."""

CUDA_VARIABLES = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")

# A busy machine makes any example slow: no property has a deadline, and none is too slow to try.
for name, examples in (("default", 100), ("ci", 500)):
    settings.register_profile(
        name,
        deadline=None,
        max_examples=examples,
        suppress_health_check=[HealthCheck.too_slow],
        print_blob=True,
    )
settings.load_profile("ci" if os.environ.get("CI") else "default")


# A shell that runs us in the background has us ignore Ctrl-C, and every program that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what needs a device or the network, unless it was asked for by name."""
    expression = config.getoption("markexpr")
    for name in OFF_BY_DEFAULT:
        if name in expression:
            continue
        skip = pytest.mark.skip(reason=f"off by default: pytest -m {name}")
        for item in items:
            if item.get_closest_marker(name) is not None:
                item.add_marker(skip)


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the user's settings and GPUs' visibility, keep files out of the user's home, and ask no
    network where this machine stands."""
    for name in list(os.environ):
        if name.startswith("CARBONTRACKER_") or name in CUDA_VARIABLES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("CARBONTRACKER_DIR", str(tmp_path / "records"))
    monkeypatch.setenv("CARBONTRACKER_LOCATE", "never")
    # Processes of one test share readings, and no others: not those of another run of the tests.
    monkeypatch.setenv("CARBONTRACKER_SHARE", str(tmp_path))
    monkeypatch.setenv("CARBONTRACKER_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture(autouse=True)
def no_session_left_over() -> Iterator[None]:
    """Fail the test that leaves a session behind, and close it before the next one begins.

    The session that windows use is held on purpose until the process ends: it is given back here,
    and what was read from the environment is forgotten.
    """
    yield
    # Only what the test loaded itself: importing it here would slow down tests that do without.
    measurement = sys.modules.get("carbontracker.training.window")
    session = sys.modules.get("carbontracker.energy.session")
    if session is None:
        return
    if measurement is not None:
        while measurement._held:
            session.release(measurement._held.pop())
        measurement._default_config.cache_clear()
        measurement._default_factors.cache_clear()
        for factors in measurement._watched.values():
            factors.close()
        measurement._watched.clear()
    left_over = dict(session._shared.users)
    for one, users in left_over.items():
        for _ in range(users):
            session.release(one)
    assert not left_over, f"never released: {[one.config for one in left_over]}"
