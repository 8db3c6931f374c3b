"""Before a training: what it will cost, and when and where it would emit less."""
