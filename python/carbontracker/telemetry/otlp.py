"""Metrics over OTLP, pushed by the OpenTelemetry SDK (an extra) from a thread of its own."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from carbontracker.telemetry.metrics import METRICS, build_info

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from carbontracker.telemetry.metrics import Gauge

UNITS = {
    "joules": "J",
    "watts": "W",
    "grams": "g",
    "seconds": "s",
    "hertz": "Hz",
    "ratio": "1",
    "grams_per_kwh": "g/kWh",
    "": "1",
}
"""In UCUM, as OpenTelemetry wants them."""
PATH = "/v1/metrics"
_LONGEST_PUSH_S = 5.0
"""Of the last push too, which a training's end waits for."""


class Push:
    """Pushes the metrics every ``OTEL_METRIC_EXPORT_INTERVAL`` ms (60,000), and at the end.

    Args:
        gauge: read for each push.
        target: URL of the receiver, ``http://host:4318``; None for what the environment says
            (``OTEL_EXPORTER_OTLP_ENDPOINT`` and its like).

    Raises:
        ImportError: the extra is not installed.
    """

    def __init__(self, gauge: Gauge, target: str | None) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
            from opentelemetry.sdk.metrics import MeterProvider
            from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
            from opentelemetry.sdk.resources import Resource
        except ImportError as error:
            message = (
                f"otlp needs the OpenTelemetry SDK: pip install 'carbontracker[otlp]' ({error})"
            )
            raise ImportError(message) from error
        self._newest = _Newest(gauge)
        exporter = OTLPMetricExporter(endpoint=_whole(target), timeout=_LONGEST_PUSH_S)
        reader = PeriodicExportingMetricReader(exporter)
        self._provider = MeterProvider(
            [reader], Resource.create(_resource()), shutdown_on_exit=False
        )
        meter = self._provider.get_meter("carbontracker", build_info()["version"])
        for metric in gauge.metrics:
            make = (
                meter.create_observable_counter if metric.counter else meter.create_observable_gauge
            )
            make(
                f"carbontracker.{metric.name}",
                callbacks=[self._newest.callback(metric.name)],
                unit=UNITS[metric.unit],
                description=metric.help,
            )

    def close(self) -> None:
        """Push once more and stop; waits for the receiver a few seconds at the most."""
        self._provider.shutdown(timeout_millis=_LONGEST_PUSH_S * 1000)


class _Newest:
    """Shares one reading of the gauge among the callbacks of a push, which come in order."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self._owner_pid = os.getpid()
        self._points: dict[str, list[Any]] = {}

    def callback(self, name: str) -> Callable[[Any], Iterator[Any]]:
        from opentelemetry.metrics import Observation

        def observe(_: Any) -> Iterator[Any]:
            if os.getpid() != self._owner_pid:
                return  # the SDK goes on in forked children; the figures are their parent's
            if name == METRICS[0].name:
                self._points = {metric.name: points for metric, points in self._gauge.read()}
            for labels, value in self._points.get(name, ()):
                yield Observation(value, dict(labels))

        return observe


def _whole(target: str | None) -> str | None:
    if target is None or target.rstrip("/").endswith(PATH):
        return target
    return target.rstrip("/") + PATH


def _resource() -> dict[str, str]:
    """Return what names the program where the environment does not."""
    given = os.environ.get("OTEL_SERVICE_NAME")
    return {"service.name": given} if given else {"service.name": _program()}


def _program() -> str:
    name = os.path.basename(sys.argv[0]) if sys.argv else ""  # noqa: PTH119  # a name, no path
    return f"carbontracker:{name}" if name else "carbontracker"
