"""Metrics for other programs, read by a real Prometheus server and a real OTLP receiver."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError

import pytest

from carbontracker.carbon.factors import make_carbon_factors
from carbontracker.conversion import parse_bind_address
from carbontracker.energy.config import Config, SimulatedDevice
from carbontracker.energy.energy import MISSING
from carbontracker.energy.session import acquire, release
from carbontracker.intensity.base import Intensity
from carbontracker.model.device import Device, gpu_uuid
from carbontracker.telemetry.endpoint import MAX_CLIENTS, Endpoint
from carbontracker.telemetry.metrics import METRICS, Metric, MetricsReader, _labels
from carbontracker.telemetry.prometheus import metric_name, prometheus_text
from carbontracker.tracker import CarbonTracker
from carbontracker.training.live_status import StatusReader
from tests.support.observing import (
    Machine,
    fetched,
    free_port,
    otlp_receiver,
    prometheus,
    wait_for,
    waving_machine,
)
from tests.support.programs import (
    CPU_WATTS,
    DEVICES,
    GPU_WATTS,
    TIMEOUT_S,
    WATTS,
    hide_sensors,
    read_record,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

ROOT = Path(__file__).parents[1]
SAMPLE = re.compile(r"([a-z0-9_]+)(?:\{(.*)\})? (\S+)")
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')


def parsed(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return every sample of a scrape by name and labels."""
    assert text.endswith("\n")
    found = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        match = SAMPLE.fullmatch(line)
        assert match is not None, line
        found[match[1], frozenset(LABEL.findall(match[2] or ""))] = float(match[3])
    return found


OF_RUN = {"run", "scheduler_job", "model"}


def of(found: dict[Any, float], name: str, **labels: str) -> float:
    """Return the one value with these labels and any of the run's."""
    (value,) = (
        value
        for (metric, its), value in found.items()
        if metric == f"carbontracker_{name}"
        and {pair for pair in its if pair[0] not in OF_RUN - labels.keys()} == set(labels.items())
    )
    return value


GPU = {"device": "gpu:0", "kind": "gpu", "source": "modelled"}
CPU = {"device": "cpu:0", "kind": "cpu", "source": "modelled"}


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Return arguments for a tracker on simulated devices only, in Denmark."""
    hide_sensors(monkeypatch, tmp_path)
    return {"verbose": 0, "location": "DK", "pue": 1.25, **DEVICES}


# ---- the page ------------------------------------------------------------------------------


def test_a_scrape_has_the_metrics_of_the_run(simulated: dict[str, Any]) -> None:
    port = free_port()
    tracker = CarbonTracker(4, prometheus=port, **simulated)
    tracker.epoch_start()
    time.sleep(0.2)
    tracker.epoch_end()
    found = parsed(fetched(f"http://127.0.0.1:{port}/metrics"))
    seconds = of(found, "running_seconds_total")
    assert of(found, "energy_joules_total", **GPU) == pytest.approx(GPU_WATTS * seconds, rel=0.1)
    assert of(found, "energy_joules_total", **CPU) == pytest.approx(CPU_WATTS * seconds, rel=0.1)
    assert of(found, "power_watts", **GPU) == pytest.approx(GPU_WATTS)
    assert of(found, "power_watts", **CPU) == pytest.approx(CPU_WATTS)
    assert of(found, "epochs_total") == 1
    assert of(found, "pue_ratio") == 1.25
    grams_per_joule = 1.25 * of(found, "carbon_intensity_grams_per_kwh") / 3.6e6
    for device in (GPU, CPU):
        joules = of(found, "energy_joules_total", **device)
        grams = of(found, "co2eq_grams_total", **device)
        assert grams == pytest.approx(joules * grams_per_joule)
    run = tracker._training.run
    assert run is not None
    assert run.forecast is not None
    predicted = of(found, "predicted_energy_joules")
    assert predicted == run.forecast.prediction.joules
    assert of(found, "predicted_co2eq_grams") == pytest.approx(predicted * grams_per_joule)
    version = {"version": str(read_record(Path(os.environ["CARBONTRACKER_DIR"]))[0]["version"])}
    assert of(found, "build_info", **version) == 1
    tracker.stop()
    with pytest.raises(URLError):
        fetched(f"http://127.0.0.1:{port}/metrics")


def test_each_scrape_is_current_and_counters_never_decrease(simulated: dict[str, Any]) -> None:
    port = free_port()
    tracker = CarbonTracker(1, prometheus=str(port), **simulated)
    tracker.epoch_start()
    scrapes = [parsed(fetched(f"http://127.0.0.1:{port}/metrics")) for _ in range(20)]
    for name in (f"carbontracker_{one}_total" for one in ("energy_joules", "co2eq_grams")):
        for labels in (GPU, CPU):
            values = [
                of(scrape, name.removeprefix("carbontracker_"), **labels) for scrape in scrapes
            ]
            assert values == sorted(values)
            assert values[-1] > values[0]
    tracker.stop()


def test_labels_name_the_run_its_job_and_the_gpu(
    simulated: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    port = free_port()
    tracker = CarbonTracker(1, prometheus=port, **simulated)
    tracker.epoch_start()
    found = parsed(fetched(f"http://127.0.0.1:{port}/metrics"))
    of_run = {"run": tracker.run_id, "scheduler_job": "slurm 4711"}
    for name, labels in found:
        if name != "carbontracker_build_info":
            assert of_run.items() <= set(labels), name
    gpu = Device("gpu:0", "gpu", "A100", "", "", MISSING, 0.0, 0.0, 0.0, gpu_uuid("gpu/GPU-4f"))
    assert dict(_labels(gpu)) == {
        "device": "gpu:0", "kind": "gpu", "uuid": "GPU-4f", "model": "A100"
    }  # fmt: skip
    model = {dict(labels).get("model") for name, labels in found if "power" in name}
    assert model == {None, DEVICES["sim_gpu"]}
    tracker.stop()


@pytest.mark.parametrize(
    ("rank", "local_rank", "serves"), [(0, 0, True), (1, 1, False), (8, 0, True)]
)
def test_of_the_ranks_of_a_training_the_first_of_each_node_serves(
    simulated: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    rank: int,
    local_rank: int,
    serves: bool,
) -> None:
    place = {"RANK": rank, "LOCAL_RANK": local_rank, "WORLD_SIZE": 16, "CARBONTRACKER_JOB": 1}
    for name, value in place.items():
        monkeypatch.setenv(name, str(value))
    port = free_port()
    tracker = CarbonTracker(1, prometheus=port, **simulated)
    tracker.epoch_start()
    with ExitStack() as refused:
        if not serves:
            refused.enter_context(pytest.raises(URLError))
        assert "carbontracker_energy" in fetched(f"http://127.0.0.1:{port}/metrics")
    tracker.stop()


def test_types_names_and_units_follow_the_conventions_of_prometheus(
    simulated: dict[str, Any],
) -> None:
    port = free_port()
    tracker = CarbonTracker(1, prometheus=port, **simulated)
    tracker.epoch_start()
    text = fetched(f"http://127.0.0.1:{port}/metrics?collect[]=all")
    tracker.stop()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    assert kinds["carbontracker_energy_joules_total"] == "counter"
    assert kinds["carbontracker_power_watts"] == "gauge"
    assert {name.endswith("_total") for name, kind in kinds.items() if kind == "counter"} == {True}
    assert {name.endswith("_total") for name, kind in kinds.items() if kind == "gauge"} == {False}
    assert set(re.findall(r"^# HELP (\S+)", text, re.MULTILINE)) == set(kinds)


def test_only_the_metrics_are_served(simulated: dict[str, Any]) -> None:
    port = free_port()
    tracker = CarbonTracker(1, prometheus=port, **simulated)
    tracker.epoch_start()
    with pytest.raises(HTTPError, match="404") as refusal:
        fetched(f"http://127.0.0.1:{port}/")
    refusal.value.close()
    tracker.stop()


def test_labels_and_help_are_escaped() -> None:
    odd = Metric("odd", "watts", False, "two\nlines \\", lambda _: iter(()))
    text = prometheus_text([(odd, [((("device", 'a "b" \\ c\nd'),), 1.5)])])
    head, kind, sample, *_ = text.splitlines()
    assert head == r"# HELP carbontracker_odd_watts two\nlines \\"
    assert kind == "# TYPE carbontracker_odd_watts gauge"
    assert sample == r'carbontracker_odd_watts{device="a \"b\" \\ c\nd"} 1.5'


def test_missing_values_are_left_out_and_not_zero(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hide_sensors(monkeypatch, tmp_path)
    session = acquire(Config.from_environment(kinds=("gpu",)))
    factors = make_carbon_factors("DK")
    try:
        read = MetricsReader(StatusReader(session, session.mark(), lambda: factors)).read()
    finally:
        release(session)
    points = {metric_name(metric): values for metric, values in read}
    assert points["carbontracker_energy_joules_total"] == []
    assert points["carbontracker_co2eq_grams_total"] == []
    assert points["carbontracker_power_watts"] == []


# ---- the address -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (9095, ("127.0.0.1", 9095)),
        ("9095", ("127.0.0.1", 9095)),
        ("0.0.0.0:9095", ("0.0.0.0", 9095)),
        ("node7:0", ("node7", 0)),
        ("[::1]:9095", ("::1", 9095)),
    ],
)
def test_it_binds_to_loopback_unless_a_host_is_given(
    given: int | str, expected: tuple[str, int]
) -> None:
    assert parse_bind_address(given) == expected


@pytest.mark.parametrize("given", ["", ":9095", "host:", "host", "65536", "-1", -1, "9 095", True])
def test_an_impossible_address_is_refused_at_once(given: Any, simulated: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="neither a port nor HOST:PORT"):
        CarbonTracker(1, prometheus=given, **simulated)


def test_loopback_only(simulated: dict[str, Any]) -> None:
    port = free_port()
    tracker = CarbonTracker(1, prometheus=port, **simulated)
    tracker.epoch_start()
    with socket.socket() as other:
        other.bind(("127.0.0.2", port))  # taken, if it listened on every address
    tracker.stop()


def test_on_the_loopback_of_ipv6(simulated: dict[str, Any]) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
            port = probe.getsockname()[1]
    except OSError:
        pytest.skip("this machine has no IPv6")
    tracker = CarbonTracker(1, prometheus=f"[::1]:{port}", **simulated)
    tracker.epoch_start()
    assert "energy_joules_total" in fetched(f"http://[::1]:{port}/metrics")
    tracker.stop()


def test_a_port_in_use_is_one_warning_and_the_training_goes_on(
    simulated: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        tracker = CarbonTracker(1, prometheus=port, **simulated)
        tracker.epoch_start()
        tracker.epoch_end()
    assert tracker.result is not None
    assert tracker.result.finished_epochs == 1
    (warning,) = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert f"127.0.0.1:{port}: Address already in use" in warning


def test_a_port_is_free_again_after_the_run(simulated: dict[str, Any]) -> None:
    port = free_port()
    for _ in range(3):
        tracker = CarbonTracker(1, prometheus=port, **simulated)
        tracker.epoch_start()
        assert "energy_joules_total" in fetched(f"http://127.0.0.1:{port}/metrics")
        tracker.stop()


def test_a_silent_client_does_not_block_a_scrape(simulated: dict[str, Any]) -> None:
    port = free_port()
    tracker = CarbonTracker(1, prometheus=port, **simulated)
    tracker.epoch_start()
    with socket.create_connection(("127.0.0.1", port)):
        assert "energy_joules_total" in fetched(f"http://127.0.0.1:{port}/metrics")
    tracker.stop()


def test_slow_clients_are_disconnected_above_the_limit(simulated: dict[str, Any]) -> None:
    port = free_port()
    tracker = CarbonTracker(1, prometheus=port, **simulated)
    tracker.epoch_start()
    with ExitStack() as stack:
        slow = []
        for _ in range(2 * MAX_CLIENTS):
            client = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
            stack.enter_context(client)
            client.sendall(b"GET /met")
            slow.append(client)
        # Without a limit a silent client is disconnected after 5 s; above the limit, at once.
        slow[0].settimeout(3.0)
        assert slow[0].recv(1) == b""
        assert "carbontracker_energy_joules_total" in fetched(f"http://127.0.0.1:{port}/metrics")
    tracker.stop()


def test_slow_clients_do_not_push_out_a_client_that_waits_for_its_answer() -> None:
    asked, ready = threading.Event(), threading.Event()

    def page() -> str:
        asked.set()
        assert ready.wait(TIMEOUT_S)
        return "answer\n"

    endpoint = Endpoint(page, "127.0.0.1", 0)
    with ExitStack() as stack:
        stack.callback(endpoint.close)
        port = int(endpoint.url.rpartition(":")[2])
        client = stack.enter_context(socket.create_connection(("127.0.0.1", port), TIMEOUT_S))
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert asked.wait(TIMEOUT_S)
        slow = []
        for _ in range(2 * MAX_CLIENTS):
            slow.append(stack.enter_context(socket.create_connection(("127.0.0.1", port))))
            slow[-1].sendall(b"GET /met")
        slow[0].settimeout(TIMEOUT_S)
        assert slow[0].recv(1) == b""  # the limit has been enforced
        ready.set()
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.endswith(b"answer\n")


def test_a_forked_child_neither_serves_nor_holds_the_port(simulated: dict[str, Any]) -> None:
    port = free_port()
    tracker = CarbonTracker(1, prometheus=port, **simulated)
    tracker.epoch_start()
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    try:
        tracker.stop()
        with socket.socket() as again:
            again.bind(("127.0.0.1", port))
            again.listen()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_without_the_argument_there_is_no_socket(simulated: dict[str, Any]) -> None:
    before = _sockets()
    tracker = CarbonTracker(1, **simulated)
    tracker.epoch_start()
    assert _sockets() == before
    tracker.stop()
    program = (
        "import sys\nfrom carbontracker.tracker import CarbonTracker\n"
        f"for _ in CarbonTracker(1, record=False, **{simulated!r}).epochs(): pass\n"
        "assert 'http.server' not in sys.modules and 'socketserver' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=TIMEOUT_S)


def _sockets() -> set[str]:
    held = set()
    for one in Path("/proc/self/fd").iterdir():
        try:
            target = str(one.readlink())
        except OSError:
            continue  # the folder's own
        held |= {target} if target.startswith("socket:") else set()
    return held


# ---- the sources of the energy --------------------------------------------------------------


def test_the_parts_by_source_add_up_to_the_device(tmp_path: Path) -> None:
    config = Config(
        root=str(tmp_path),
        nvml_library="none.so",
        simulated=(
            SimulatedDevice("gpu", "A", "constant:100"),
            SimulatedDevice("cpu", "B", "constant:50"),
        ),
    )
    session, factors = acquire(config), make_carbon_factors("DK")
    status_reader = StatusReader(session, session.mark(), lambda: factors)
    time.sleep(0.05)
    try:
        status = status_reader.take()
    finally:
        release(session)
    for metric in METRICS:
        if metric.name not in {"energy", "co2eq"}:
            continue
        whole = status.energy.joules if metric.name == "energy" else status.footprint.gco2eq
        assert sum(value for _, value in metric.points(status)) == pytest.approx(whole)
    assert status.watts == pytest.approx(150.0)


class Halves:
    """A provider with one figure for the first half of any time, and another for the second."""

    name = "halves"

    def now(self, zone: str) -> Intensity:
        return Intensity(100.0, zone, "", None, "lifecycle", "measured")

    def between(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        first, middle = self.now(zone), start + (end - start) / 2
        second = replace(first, gco2eq_per_kwh=300.0, start=middle, end=end)
        return [replace(first, start=start, end=middle), second]

    def forecast(self, zone: str, start: datetime, end: datetime) -> list[Intensity]:
        return self.between(zone, start, end)


def test_each_device_has_the_intensity_of_each_part_of_the_time(tmp_path: Path) -> None:
    waves = (("gpu", "ramp:0,100,10"), ("cpu", "constant:50"))
    config = Config(
        root=str(tmp_path),
        nvml_library="none.so",
        simulated=tuple(SimulatedDevice(kind, kind, wave) for kind, wave in waves),
    )
    session = acquire(config)
    factors = replace(make_carbon_factors("DK", 1.5), provider=Halves())
    status_reader = StatusReader(session, session.mark(), lambda: factors)
    time.sleep(0.1)
    try:
        status = status_reader.take(settle_s=1.0)
    finally:
        release(session)
    first, second = status.footprint.slots
    figures = first.intensity.gco2eq_per_kwh, second.intensity.gco2eq_per_kwh
    assert figures == (100.0, 300.0)
    assert sum(one.gco2eq for one in status.devices) == pytest.approx(status.footprint.gco2eq)
    cpu = next(one for one in status.devices if one.kind == "cpu")
    assert cpu.gco2eq == pytest.approx(50 * status.seconds * 200 * 1.5 / 3.6e6, rel=1e-3)
    error_kwh = status.energy.error_joules * 1.5 / 3.6e6
    assert status.footprint.error_kwh == pytest.approx(error_kwh)


# ---- a real Prometheus server --------------------------------------------------------------

GPU_WAVE = "square:100,400,1,0.5"
CPU_WAVE = "sine:120,60,0.8"
MAX_WATTS = 400.0
"""Of either."""


@contextmanager
def wrapped(machine: Machine, *options: str) -> Iterator[None]:
    """Run ``carbontracker run`` around a program that sleeps."""
    command = [sys.executable, "-m", "carbontracker", "run", "--quiet", "--no-record", *options]
    command += ["--location", "DK", "--pue", "1.5", "--intensity", "200", "--", "sleep", "600"]
    with subprocess.Popen(command, env=os.environ | machine.environment) as process:
        try:
            yield
        finally:
            process.terminate()


def test_prometheus_rate_is_the_simulated_power(tmp_path: Path) -> None:
    port = free_port()
    with (
        waving_machine(tmp_path, GPU_WAVE, CPU_WAVE) as machine,
        prometheus(tmp_path, port) as server,
        wrapped(machine, "--prometheus", str(port)),
    ):
        raw = "carbontracker_energy_joules_total"

        def long_enough() -> bool:
            # Longer than the rate's window, whose ends Prometheus else extrapolates to.
            series = [one["values"] for one in server.query(f"{raw}[60s]")]
            return len(series) == 2 and min(one[-1][0] - one[0][0] for one in series) > 13

        wait_for(long_enough)
        now_s = time.time()
        samples = {
            one["metric"]["device"]: one["values"] for one in server.query(f"{raw}[12s]", now_s)
        }
        rates = server.query(f"rate({raw}[12s])", now_s)
        # The stamp is that of the scrape's beginning; a busy machine answers some time later.
        (took,) = server.query("max_over_time(scrape_duration_seconds[60s])", now_s)
        grams = server.query("sum(rate(carbontracker_co2eq_grams_total[12s]))", now_s)
    labels = {tuple(sorted(one["metric"].items())) for one in rates}
    assert {dict(one)["source"] for one in labels} == {"measured"}
    assert {(dict(one)["device"], dict(one)["kind"]) for one in labels} == {
        ("gpu:0", "gpu"),
        ("cpu:0", "cpu"),
    }
    total = 0.0
    for one in rates:
        device, rate = one["metric"]["device"], float(one["value"][1])
        (start_s, first), *_, (end_s, last) = samples[device]
        true = machine.watts(device, start_s, end_s)
        print(f"{device}: rate() {rate:.3f} W, simulated {true:.3f} W, {rate / true - 1:+.3%}")
        joules, true_joules = float(last) - float(first), true * (end_s - start_s)
        assert abs(joules - true_joules) < 0.01 * true_joules + MAX_WATTS * float(took["value"][1])
        # What Prometheus makes of the same samples; it extrapolates where it lacks some.
        assert rate == pytest.approx(joules / (end_s - start_s), rel=0.25)
        total += rate
    assert float(grams[0]["value"][1]) == pytest.approx(total * 1.5 * 200 / 3.6e6, rel=1e-6)


def test_the_linter_of_prometheus_accepts_the_page(simulated: dict[str, Any]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    port = free_port()
    tracker = CarbonTracker(1, prometheus=port, **simulated)
    tracker.epoch_start()
    text = fetched(f"http://127.0.0.1:{port}/metrics")
    tracker.stop()
    checked = subprocess.run(
        [promtool, "check", "metrics"],
        input=text,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_the_dashboard_queries_only_existing_metrics(simulated: dict[str, Any]) -> None:
    port = free_port()
    tracker = CarbonTracker(1, prometheus=port, **simulated)
    tracker.epoch_start()
    text = fetched(f"http://127.0.0.1:{port}/metrics")
    tracker.stop()
    there = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    dashboard = json.loads((ROOT / "examples" / "grafana-dashboard.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    names = {name for one in asked for name in re.findall(r"carbontracker_[a-z0-9_]+", one)}
    assert names
    assert names <= there


# ---- a real OTLP receiver ------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the SDK's own affairs
def test_otlp_receives_what_was_measured(simulated: dict[str, Any]) -> None:
    with otlp_receiver() as receiver:
        tracker = CarbonTracker(1, otlp=receiver.url, **simulated)
        tracker.epoch_start()
        time.sleep(0.3)
        tracker.epoch_end()
    assert tracker.result is not None
    assert receiver.content_types == ["/v1/metrics application/x-protobuf"]  # one push, at the end
    by_device = {
        labels["device"]: (labels, v) for labels, v, _ in receiver.points("carbontracker.energy")
    }
    seconds = receiver.points("carbontracker.running")[0][1]
    for device, watts in (("gpu:0", GPU_WATTS), ("cpu:0", CPU_WATTS)):
        labels, joules = by_device[device]
        own = {name: text for name, text in labels.items() if name not in OF_RUN}
        assert own == {"device": device, "kind": device[:3], "source": "modelled"}
        assert joules == pytest.approx(watts * seconds, rel=0.01)
    assert sum(joules for _, joules in by_device.values()) >= tracker.result.energy.joules * 0.99
    metric = receiver.points("carbontracker.energy")[0][2]
    assert (metric.unit, metric.sum.is_monotonic) == ("J", True)
    assert receiver.points("carbontracker.power")[0][2].unit == "W"
    assert sum(v for _, v, _ in receiver.points("carbontracker.power")) == pytest.approx(WATTS)
    assert receiver.points("carbontracker.epochs")[0][1] == 1
    names = {
        one.key: one.value.string_value
        for one in receiver.requests[0].resource_metrics[0].resource.attributes
    }
    assert names["service.name"].startswith("carbontracker")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_otlp_pushes_on_the_way_and_counts_up(
    simulated: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "200")
    with otlp_receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        tracker = CarbonTracker(1, otlp=True, **simulated)
        tracker.epoch_start()
        wait_for(lambda: len(receiver.requests) >= 3)
        tracker.stop()
    for name in ("carbontracker.energy", "carbontracker.co2eq"):
        points = receiver.points(name)
        values = [value for labels, value, _ in points if labels["device"] == "gpu:0"]
        assert len(values) >= 3
        assert values == sorted(values)
        assert values[-1] > values[0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_otlp_without_a_receiver_costs_seconds_at_most(simulated: dict[str, Any]) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs opentelemetry-sdk")
    tracker = CarbonTracker(1, otlp=f"http://127.0.0.1:{free_port()}", **simulated)
    tracker.epoch_start()
    tracker.epoch_end()
    assert tracker.result is not None


def test_otlp_without_the_extra_names_the_command(
    simulated: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    try:
        import opentelemetry.sdk  # noqa: F401
    except ImportError:
        pass
    else:
        pytest.skip("the extra is installed")
    tracker = CarbonTracker(1, otlp=True, **simulated)
    assert "pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http" in caplog.text
    tracker.epoch_start()
    tracker.epoch_end()
    assert tracker.result is not None
