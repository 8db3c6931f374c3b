"""Metrics over OTLP. The OpenTelemetry SDK (an extra) pushes them on a thread of its own."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from carbontracker.extras import missing_extra
from carbontracker.telemetry.metrics import METRICS, build_info

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from carbontracker.telemetry.metrics import MetricsReader

UCUM_UNITS = {
    "joules": "J",
    "watts": "W",
    "grams": "g",
    "seconds": "s",
    "hertz": "Hz",
    "ratio": "1",
    "grams_per_kwh": "g/kWh",
    "": "1",
}
"""OpenTelemetry prescribes UCUM, the Unified Code for Units of Measure."""
METRICS_PATH = "/v1/metrics"
_MAX_PUSH_S = 5.0
"""The end of a training waits for the last push, and at most so long."""


class OtlpExporter:
    """Pushes the metrics every ``OTEL_METRIC_EXPORT_INTERVAL`` ms (60,000), and at the end.

    Args:
        reader: read once for each push.
        url: of the receiver, ``http://host:4318``; None for that of the environment
            (``OTEL_EXPORTER_OTLP_ENDPOINT`` and the variables beside it).

    Raises:
        MissingExtra: the OpenTelemetry SDK is not installed.
    """

    def __init__(self, reader: MetricsReader, url: str | None) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
            from opentelemetry.sdk.metrics import MeterProvider
            from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
            from opentelemetry.sdk.resources import Resource
        except ImportError as error:
            raise missing_extra("otlp", error) from error
        shared = _SharedReading(reader)
        exporter = OTLPMetricExporter(endpoint=_metrics_url(url), timeout=_MAX_PUSH_S)
        periodic = PeriodicExportingMetricReader(exporter)
        self._provider = MeterProvider(
            [periodic], Resource.create(_resource()), shutdown_on_exit=False
        )
        meter = self._provider.get_meter("carbontracker", build_info()["version"])
        for metric in reader.metrics:
            make = (
                meter.create_observable_counter
                if metric.is_counter
                else meter.create_observable_gauge
            )
            make(
                f"carbontracker.{metric.name}",
                callbacks=[shared.callback(metric.name)],
                unit=UCUM_UNITS[metric.unit],
                description=metric.help,
            )

    def close(self) -> None:
        """Push the last values and stop. Waits for the receiver for five seconds at most."""
        self._provider.shutdown(timeout_millis=_MAX_PUSH_S * 1000)


class _SharedReading:
    """One reading for all callbacks of a push; the SDK calls them in order."""

    def __init__(self, reader: MetricsReader) -> None:
        self._reader = reader
        self._owner_pid = os.getpid()
        self._points: dict[str, list[Any]] = {}

    def callback(self, name: str) -> Callable[[Any], Iterator[Any]]:
        from opentelemetry.metrics import Observation

        def observe(_: Any) -> Iterator[Any]:
            if os.getpid() != self._owner_pid:
                return  # the SDK also pushes in forked children, and only their parent measures
            if name == METRICS[0].name:
                self._points = {metric.name: points for metric, points in self._reader.read()}
            for labels, value in self._points.get(name, ()):
                yield Observation(value, dict(labels))

        return observe


def _metrics_url(url: str | None) -> str | None:
    if url is None or url.rstrip("/").endswith(METRICS_PATH):
        return url
    return url.rstrip("/") + METRICS_PATH


def _resource() -> dict[str, str]:
    """Return the name of the service: that of the environment, else that of the program."""
    given = os.environ.get("OTEL_SERVICE_NAME")
    return {"service.name": given} if given else {"service.name": _program()}


def _program() -> str:
    name = os.path.basename(sys.argv[0]) if sys.argv else ""  # noqa: PTH119  # only the last part is used
    return f"carbontracker:{name}" if name else "carbontracker"
