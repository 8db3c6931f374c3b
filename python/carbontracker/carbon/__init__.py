"""From joules to kWh and grams of CO2eq: intensity, PUE, footprint, and comparisons."""
