"""A real Prometheus server and an OTLP receiver, which read the metrics of a run."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from tests.support.fakehost import (
    CARDS,
    Counter,
    FakeNvml,
    Gpu,
    RunningPowercap,
    energy_key,
    fake_host,
    fake_nvml,
    powercap_tree,
    running_powercap,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TIMEOUT_S = 60
"""After this time an expected event counts as missing."""


def free_port() -> int:
    """Return a port of loopback that is not in use."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def fetched(url: str) -> str:
    """Return the text at a URL."""
    with urlopen(url, timeout=TIMEOUT_S) as answer:
        return str(answer.read().decode())


def wait_for(ask: Callable[[], Any]) -> Any:
    """Call ``ask`` until its result is true; return the result."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            answer = ask()
        except (URLError, ConnectionError):
            answer = None
        if answer:
            return answer
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)


# ---- hardware ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Machine:
    """Simulated hardware with closed-form waves, and the environment that selects it."""

    driver: FakeNvml
    powercap: RunningPowercap
    environment: dict[str, str]

    def watts(self, device: str, start_s: float, end_s: float) -> float:
        """Return the true mean power between two wall-clock times, W."""
        offset_ns = time.time_ns() - time.monotonic_ns()
        ends = [round(moment * 1e9) - offset_ns for moment in (start_s, end_s)]
        played: FakeNvml | RunningPowercap = self.driver if device == "gpu:0" else self.powercap
        return played.truth(0, ends[0], ends[1]) / (end_s - start_s)


@contextmanager
def waving_machine(tmp_path: Path, gpu: str, cpu: str) -> Iterator[Machine]:
    """Run a machine of one GPU and one processor that draw these waves."""
    root = fake_host(tmp_path, powercap_tree(1, children=(), psys=False, mmio=False))
    moving = [Counter(root / energy_key("intel-rapl:0"), cpu)]
    gpus = [Gpu(**{**CARDS["a100"], "power": gpu})]
    with fake_nvml(tmp_path, gpus) as driver, running_powercap(tmp_path, moving) as powercap:
        environment = driver.environment | {
            "CARBONTRACKER_ROOT": str(root),
            "CARBONTRACKER_NVML": str(driver.library),
        }
        yield Machine(driver, powercap, environment)


# ---- Prometheus ----------------------------------------------------------------------------

CONFIGURATION = """\
global:
  scrape_interval: 500ms
  scrape_timeout: 400ms
scrape_configs:
  - job_name: carbontracker
    static_configs:
      - targets: ["127.0.0.1:{port}"]
"""


@dataclass(frozen=True)
class Prometheus:
    """A server that scrapes."""

    url: str

    def query(self, expression: str, at_s: float | None = None) -> list[dict[str, Any]]:
        """Return what its own query API answers, now or as of a time."""
        asked = {"query": expression} | ({} if at_s is None else {"time": repr(at_s)})
        answer = json.loads(fetched(f"{self.url}/api/v1/query?{urlencode(asked)}"))
        assert answer["status"] == "success"
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found


@contextmanager
def prometheus(tmp_path: Path, scraped_port: int) -> Iterator[Prometheus]:
    """Run a real Prometheus server that scrapes a port; skip the test if none is installed."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("there is no prometheus here: apt-get install prometheus")
    port = free_port()
    configuration = tmp_path / "prometheus.yml"
    configuration.write_text(CONFIGURATION.format(port=scraped_port))
    arguments = [
        f"--config.file={configuration}",
        f"--storage.tsdb.path={tmp_path / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]
    server = Prometheus(f"http://127.0.0.1:{port}")
    with subprocess.Popen([program, *arguments], stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: fetched(f"{server.url}/-/ready"))
            yield server
        finally:
            process.terminate()


# ---- OTLP ----------------------------------------------------------------------------------


@dataclass
class Receiver:
    """What came in, decoded by the official protobufs."""

    url: str
    requests: list[Any] = field(default_factory=list)
    content_types: list[str] = field(default_factory=list)

    def points(self, name: str) -> list[tuple[dict[str, str], float, Any]]:
        """Return attributes, value and metric of all points of one name, in order."""
        found = []
        for request in self.requests:
            for resource in request.resource_metrics:
                for scope in resource.scope_metrics:
                    for metric in scope.metrics:
                        if metric.name == name:
                            found += [(*_point(point), metric) for point in _points(metric)]
        return found


def _points(metric: Any) -> Any:
    return metric.sum.data_points if metric.HasField("sum") else metric.gauge.data_points


def _point(point: Any) -> tuple[dict[str, str], float]:
    labels = {one.key: one.value.string_value for one in point.attributes}
    return labels, point.as_double if point.HasField("as_double") else float(point.as_int)


@contextmanager
def otlp_receiver() -> Iterator[Receiver]:
    """Receive OTLP over HTTP on loopback; skip where the protobufs are not installed."""
    service = pytest.importorskip(
        "opentelemetry.proto.collector.metrics.v1.metrics_service_pb2",
        reason="needs opentelemetry-sdk",
    )

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            receiver.requests.append(service.ExportMetricsServiceRequest.FromString(body))
            receiver.content_types.append(f"{self.path} {self.headers['Content-Type']}")
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.end_headers()
            self.wfile.write(service.ExportMetricsServiceResponse().SerializeToString())

        def log_message(self, *_: Any) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = Receiver(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
