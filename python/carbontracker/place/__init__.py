"""Where the machine stands: what is said here, what a cloud says, what the network says."""
