"""Energy of this machine: its sensors, a session that samples them, and the energy of a window."""
