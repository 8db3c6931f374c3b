"""Live metrics of a run for other programs: a Prometheus endpoint, and OpenTelemetry pushes."""
