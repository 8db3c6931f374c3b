"""``python -m carbontracker``."""

from __future__ import annotations

import sys

from carbontracker.cli import main

sys.exit(main())
