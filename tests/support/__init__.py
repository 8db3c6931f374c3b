"""Test doubles: a host, an NVIDIA driver and RAPL counters whose true energy is known exactly."""
