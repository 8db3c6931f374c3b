"""Log files of carbontracker 2.x: written, and read again."""
