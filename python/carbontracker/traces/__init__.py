"""Power over time: samples on disk, traces for viewers, and the energy of profiled work."""
