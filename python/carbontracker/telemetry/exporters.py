"""Opens the ways out that were asked for, and closes them when the run ends."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from carbontracker.guard import TELEMETRY, logger, nothing, optional
from carbontracker.telemetry.bind_address import address
from carbontracker.telemetry.metrics import Gauge, training_metrics
from carbontracker.training.live_status import Pulse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carbontracker.telemetry.metrics import Metric
    from carbontracker.training.run import Run


class Publisher:
    """A follower that lets other programs read the run while it goes on.

    Args:
        prometheus: port, or host and port, to be scraped at; None for none.
        otlp: URL of a receiver to push to, True for the environment's; None or False for none.
    """

    def __init__(self, prometheus: int | str | None, otlp: str | bool | None) -> None:
        self._prometheus = prometheus
        self._otlp = otlp
        self._ways: list[Any] = []

    def begin(self, run: Run) -> None:
        """Publish a training."""
        pulse = Pulse(run.session, run.began_mark, lambda: run.pricing)
        self.publish(pulse, training_metrics(run))

    def publish(self, pulse: Pulse, more: tuple[Metric, ...] = ()) -> None:
        """Open what can be opened; what cannot is said once, and the run goes on without."""
        gauge = Gauge(pulse, more)
        if self._prometheus is not None:
            optional(TELEMETRY, lambda: self._serve(gauge), nothing)
        if self._otlp:
            optional(TELEMETRY, lambda: self._push(gauge), nothing)

    def close(self) -> None:
        """Close all ways."""
        while self._ways:
            self._ways.pop().close()

    def _serve(self, gauge: Gauge) -> None:
        from carbontracker.telemetry.endpoint import Endpoint

        host, port = address(self._prometheus or 0)
        try:
            endpoint = Endpoint(gauge, host, port)
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
        self._ways.append(endpoint)

    def _push(self, gauge: Gauge) -> None:
        from carbontracker.telemetry.otlp import Push

        try:
            self._ways.append(Push(gauge, None if self._otlp is True else str(self._otlp)))
        except ImportError as error:
            logger.warning("carbontracker: no metrics are pushed: %s", error)


@contextmanager
def published(
    pulse: Pulse, prometheus: int | str | None, otlp: str | bool | None
) -> Iterator[None]:
    """Publish a run while the block runs; does nothing if nothing was asked for."""
    publisher = Publisher(prometheus, otlp)
    publisher.publish(pulse)
    try:
        yield
    finally:
        publisher.close()
