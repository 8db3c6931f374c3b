"""Carbontracker 2.x: its log files, written and read again; what scripts read in the process."""
