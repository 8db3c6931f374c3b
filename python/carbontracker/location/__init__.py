"""The place where this machine stands: as stated, as the cloud says, or looked up."""
