"""Benchmarks: every figure is a ratio against something run beside it in the same run."""

from __future__ import annotations
