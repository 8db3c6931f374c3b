"""A training while it runs: windows, epochs, steps, budgets, and its listeners."""
