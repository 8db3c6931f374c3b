"""Sources of carbon intensity, one file each; listed in ``carbontracker.intensity.base``."""
