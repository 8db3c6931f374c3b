"""Energy of this machine: its sensors, the session that samples them, the energy of a window."""
