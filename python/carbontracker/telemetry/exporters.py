"""Starts the exporters that the user asked for, and stops them at the end of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carbontracker.conversion import parse_bind_address
from carbontracker.guard import TELEMETRY, logger, nothing, optional
from carbontracker.telemetry.metrics import MetricsReader, labels_of, training_metrics

if TYPE_CHECKING:
    from carbontracker.training.run import Run


class Publisher:
    """A listener that publishes the metrics of a run while it goes on.

    Args:
        prometheus: port, or ``host:port``, of the endpoint; None for no endpoint.
        otlp: URL of a receiver; True for that of the environment; None or False for no pushes.
    """

    def __init__(self, prometheus: int | str | None, otlp: str | bool | None) -> None:
        self._prometheus = prometheus
        self._otlp = otlp
        self._exporters: list[Any] = []

    def started(self, run: Run) -> None:
        """Start the exporters. One that fails is one warning; the run goes on without it.

        Of the ranks of a training only the first one of each node has any: it sees the node.
        """
        launch = run.launch
        place = launch.rank if launch.local_rank is None else launch.local_rank
        if launch.is_rank_of_training and place:
            return
        reader = MetricsReader(run.status_reader(), training_metrics(run), labels_of(run))
        if self._prometheus is not None:
            optional(TELEMETRY, lambda: self._serve(reader), nothing)
        if self._otlp:
            optional(TELEMETRY, lambda: self._push(reader), nothing)

    def close(self) -> None:
        """Stop all exporters."""
        while self._exporters:
            self._exporters.pop().close()

    def _serve(self, reader: MetricsReader) -> None:
        from carbontracker.telemetry.endpoint import Endpoint
        from carbontracker.telemetry.prometheus import prometheus_text

        host, port = parse_bind_address(self._prometheus or 0)
        try:
            endpoint = Endpoint(lambda: prometheus_text(reader.read()), host, port)
        except OSError as error:
            logger.warning(
                "carbontracker: no metrics for Prometheus at %s:%s: %s; choose another port "
                "(prometheus=, --prometheus)",
                host,
                port,
                error.strerror or error,
            )
            return
        logger.info("carbontracker: metrics for Prometheus at %s/metrics", endpoint.url)
        self._exporters.append(endpoint)

    def _push(self, reader: MetricsReader) -> None:
        from carbontracker.telemetry.otlp import OtlpExporter

        url = None if self._otlp is True else str(self._otlp)
        try:
            self._exporters.append(OtlpExporter(reader, url))
        except ImportError as error:
            logger.warning("carbontracker: no metrics are pushed: %s", error)
