"""From joules to kWh and grams: intensity, PUE, footprint, and comparisons."""
