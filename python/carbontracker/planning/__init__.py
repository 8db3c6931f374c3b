"""Before a training: its cost, and when and where it would emit less."""
