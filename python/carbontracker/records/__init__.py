"""The record of runs: its writers, its one reader, and the arithmetic on many."""
