"""The soak of ``tests/soak.py``, briefly; ``make soak`` runs it for longer, under sanitizers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SOAK = Path(__file__).parent / "soak.py"
SECONDS = 3.0


def test_everything_at_once_for_a_while() -> None:
    command = [sys.executable, str(SOAK), "--seconds", str(SECONDS)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert not result.stderr
    counts = json.loads(result.stdout)
    for what in (
        "windows",
        "energies",
        "sums",
        "traces",
        "sessions",
        "forks",
        "readings",
        "errors",
    ):
        assert counts[what] > 0, counts
