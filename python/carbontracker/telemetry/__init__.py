"""Figures of a run for other programs, while it goes on: Prometheus and OpenTelemetry."""
