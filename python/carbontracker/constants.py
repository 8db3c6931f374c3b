"""Published constants, each with its unit and source.

They are written out so that importing them reads no file; a test holds every one equal to its
row in the package's tables.
"""

from __future__ import annotations

JOULES_PER_KWH = 3.6e6
"""Joules in one kilowatt-hour (exact, by definition)."""

PUE_2020 = 1.59
"""World average power usage effectiveness (ratio).

Uptime Institute Global Data Center Survey 2020.
"""
PUE_2021 = 1.57
"""The same, Uptime Institute Global Data Center Survey 2021."""
PUE_2022 = 1.55
"""The same, Uptime Institute Global Data Center Survey 2022."""
PUE_2023 = 1.58
"""The same, Uptime Institute Global Data Center Survey 2023."""

WORLD_AVG_CARBON_INTENSITY = 458.29
"""World average, gCO2eq/kWh, lifecycle; Ember via Our World in Data (``grid_intensity.csv``)."""
WORLD_AVG_CARBON_INTENSITY_YEAR = 2025
"""The year ``WORLD_AVG_CARBON_INTENSITY`` describes."""
