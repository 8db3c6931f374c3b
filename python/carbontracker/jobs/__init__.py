"""Several processes as one job: who belongs to it, and what it has cost as a whole."""
