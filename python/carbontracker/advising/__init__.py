"""When and where a training would emit less, and the thread that finds out beside it."""
