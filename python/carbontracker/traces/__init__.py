"""Power over time, every sample of it where that is asked for, and who it was spent on."""
