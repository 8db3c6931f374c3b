"""Requests over HTTP: bounded in time and size, asked once, without telling a secret."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from email.utils import formatdate
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from carbontracker.foreign_calls import foreign_calls
from carbontracker.intensity.http import (
    MAX_ABANDONED,
    Client,
    Limits,
    RequestFailed,
    redacted,
    retry_after_s,
    within,
)
from tests.support.intensity_server import Asked, Reply, refused, serving
from tests.support.intensity_services import KEY, quick

if TYPE_CHECKING:
    from collections.abc import Mapping

OK = Reply({"fine": True})


def get(url: str, client: Client | None = None, headers: Mapping[str, str] | None = None) -> bytes:
    return (client or quick()).fetch(url, headers, secrets=(KEY,)).body


def refusal(
    url: str, client: Client | None = None, headers: Mapping[str, str] | None = None
) -> str:
    """Return the reason why nothing comes from ``url``."""
    with pytest.raises(RequestFailed) as caught:
        get(url, client, headers)
    return caught.value.reason


def test_the_headers_of_a_request() -> None:
    with serving(OK) as server:
        assert get(server.url) == b'{"fine": true}'
    (asked,) = server.asked
    assert asked.headers["accept"] == "application/json"
    assert asked.headers["user-agent"].startswith("carbontracker/")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 418, 429, 500, 503])
def test_a_failure_status_is_reported_and_not_repeated(status: int) -> None:
    with serving(Reply(b"", status)) as server:
        with pytest.raises(RequestFailed) as caught:
            get(server.url)
        assert (caught.value.status, caught.value.retry_after_s) == (status, None)
    assert len(server.asked) == 1


def test_retry_after_in_seconds_and_as_a_date() -> None:
    now = 1_800_000_000.0
    assert retry_after_s("7", now) == 7.0
    assert retry_after_s(formatdate(now + 42, usegmt=True), now) == 42.0
    assert retry_after_s(formatdate(now - 42, usegmt=True), now) == 0.0
    for nonsense in (None, "", "soon", "-3", "1.5", "\xb2"):
        assert retry_after_s(nonsense, now) is None
    with serving(Reply(b"", 429, {"Retry-After": "60"})) as server:
        with pytest.raises(RequestFailed) as caught:
            get(server.url)
        assert caught.value.retry_after_s == 60.0


def test_an_unreachable_host_and_invalid_urls() -> None:
    assert "cannot be reached" in refusal(refused())
    for address in ("ftp://127.0.0.1/x", "file:///etc/passwd", "no address", ""):
        assert "is not an http or https URL" in refusal(address)
    assert "cannot be asked" in refusal("http://127.0.0.1:port")
    assert "cannot be asked" in refusal("http://[")
    assert "cannot be asked" in refusal("http://127.0.0.1:9", headers={"x": f"a\n{KEY}\n"})


@pytest.mark.parametrize("where", ["until", "body_until"])
def test_a_silent_host_ends_with_the_read_timeout_and_is_not_asked_again(where: str) -> None:
    never = threading.Event()
    with serving(Reply(b"late", **{where: never})) as server:  # type: ignore[arg-type]
        assert "does not answer" in refusal(server.url)
        never.set()
    assert len(server.asked) == 1


def test_a_body_that_trickles_ends_with_the_total() -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def trickle() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            try:
                while True:
                    connection.sendall(b" ")
                    time.sleep(0.02)
            except OSError:
                return

    thread = threading.Thread(target=trickle)
    thread.start()
    client = Client(Limits(connect_s=1, read_s=1, total_s=0.2))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    assert "took too long" in refusal(url, client)
    thread.join()
    listener.close()


def test_a_body_has_at_most_five_megabytes() -> None:
    with serving([Reply(b" " * 5_000_000), Reply(b" " * 5_000_001)]) as server:
        assert len(get(server.url)) == 5_000_000
        assert "sent more than 5000000 bytes" in refusal(server.url)


def test_a_truncated_reply_is_a_failure() -> None:
    with serving(Reply(b"[1]", cut=True)) as server:
        assert "cut its answer short" in refusal(server.url)


def test_a_reply_that_is_not_http() -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def babble() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"220 smtp.example ESMTP " + KEY.encode() + b"\r\n")

    thread = threading.Thread(target=babble)
    thread.start()
    told = refusal(f"http://127.0.0.1:{listener.getsockname()[1]}")
    thread.join()
    listener.close()
    assert "cannot be asked: BadStatusLine" in told


def test_at_most_three_redirects_are_followed() -> None:
    hops = iter(range(100))

    def script(asked: Asked) -> Reply:
        hop = next(hops)
        return OK if asked.path == "/3" else Reply({}, 302, {"Location": f"/{hop + 1}"})

    with serving(script) as server:
        assert get(server.url, headers={"auth-token": KEY})
        assert {one.headers["auth-token"] for one in server.asked} == {KEY}  # the same host
    with serving(lambda _: Reply({}, 307, {"Location": "/again"})) as server:
        assert "more than 3 times" in refusal(server.url)
        assert len(server.asked) == 4


def test_another_host_gets_no_key_and_other_schemes_are_refused() -> None:
    with (
        serving(OK) as elsewhere,
        serving(Reply({}, 302, {"Location": f"{elsewhere.url}/x"})) as server,
    ):
        headers = {"auth-token": KEY, "Authorization": f"Bearer {KEY}", "X-Api-Key": KEY}
        assert get(server.url, headers=headers)
    (asked,) = elsewhere.asked
    assert set(asked.headers) <= {"accept", "user-agent", "host", "connection", "accept-encoding"}
    for target in ("file:///etc/passwd", "ftp://127.0.0.1/x"):
        with serving(Reply({}, 302, {"Location": target})) as server:
            assert "is not an http or https URL" in refusal(server.url)
    with serving(Reply({}, 302, {"Location": "http://["})) as server:
        assert "redirects to an invalid URL" in refusal(server.url)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a certificate for this machine, signed by itself, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", *subject, "-keyout", str(path), "-out", f"{path}.crt"]
    subprocess.run(command, check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + Path(f"{path}.crt").read_bytes())
    return path


def test_certificates_are_checked_and_https_is_not_left(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(OK, certificate=certificate) as server:
        assert "certificate" in refusal(server.url).lower()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving(OK) as plain, serving(OK, certificate=certificate) as server:
        assert get(server.url)
        server.script = lambda asked: (
            Reply({}, 302, {"Location": "/there"}) if asked.path != "/there" else OK
        )
        assert get(server.url)
        assert not foreign_calls._within  # else the end of the program would wait
        server.script = lambda _: Reply({}, 302, {"Location": plain.url})
        assert "redirects to a URL without HTTPS" in refusal(server.url)
        assert plain.asked == []


def test_an_ipv6_only_host() -> None:
    try:
        with serving(OK, host="::1") as server:
            assert "[::1]" in server.url
            assert get(server.url)
    except OSError:
        pytest.skip("no IPv6 on loopback")


def test_proxy_variables_apply(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(OK) as proxy, serving(OK) as server:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        assert get("http://carbon.example/latest")
        assert proxy.asked[0].headers["host"] == "carbon.example"
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert get(server.url)
        assert len(server.asked) == 1


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "https://127.0.0.1:9", "x"])
def test_a_proxy_that_cannot_be_used_is_a_failure_with_a_reason(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.setenv("no_proxy", "")
    assert "cannot be" in refusal("http://carbon.example/x")


def test_secrets_are_redacted_in_every_form() -> None:
    from urllib.parse import quote

    text = f"one {KEY}, two {quote(KEY)}, three {quote(KEY, safe='')}\r\nfour"
    assert redacted(text, (KEY,)) == "one ***, two ***, three *** four"
    assert redacted("nothing", ("",)) == "nothing"
    assert redacted("\x1b[2J \x9b31m \ud800 \u202e end", ()) == "[2J 31m end"


def test_the_reason_has_the_services_message_without_the_key() -> None:
    long = "x" * 1000
    for body, told in (
        ({"error": f"Token {KEY} unauthorized"}, "answered 401: Token *** unauthorized"),
        ({"message": "no\nsuch\x1b[31m zone"}, "answered 401: no such [31m zone"),
        ({"error": {"code": "API_KEY_INVALID", "message": "bad key"}}, "answered 401: bad key"),
        ({"error": long}, f"answered 401: {long[:160]}"),
        ([1], "answered 401"),
        (b"<html>", "answered 401"),
    ):
        with serving(Reply(body, 401)) as server:
            assert refusal(server.url).endswith(told)


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"]
)
def test_a_reply_that_drips_is_cut_when_the_time_is_up(head: bytes) -> None:
    """Each piece comes in time, and the reply as a whole never does."""
    gone = threading.Event()

    def drip(listener: socket.socket) -> None:
        there, _ = listener.accept()
        with there, suppress(OSError):
            there.sendall(head)
            for _ in range(300):
                there.sendall(b"0")
                if gone.wait(0.1):
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,), daemon=True)
        thread.start()
        client = Client(Limits(connect_s=1.0, read_s=1.0, total_s=1.0))
        try:
            reason = refusal(f"http://127.0.0.1:{listener.getsockname()[1]}", client)
            assert "took too long" in reason
            thread.join(15)  # half of what it would go on for
            assert not thread.is_alive()
        finally:
            gone.set()


def test_an_endless_request_is_abandoned_and_too_many_are_not_begun() -> None:
    """A look-up of a name cannot be interrupted: its thread goes on."""
    end = threading.Event()
    given_up: list[int] = []
    for number in range(MAX_ABANDONED):
        with pytest.raises(RequestFailed, match="took too long"):
            within(0.01, end.wait, partial(given_up.append, number))
    assert given_up == list(range(MAX_ABANDONED))
    with pytest.raises(RequestFailed, match="earlier requests have not ended"):
        within(60.0, lambda: True, lambda: None)
    end.set()
    while True:  # the threads end now
        with suppress(RequestFailed):
            assert within(60.0, lambda: "answer", lambda: None) == "answer"
            return
        time.sleep(0.01)


def test_an_error_on_the_thread_of_a_request_is_raised_where_it_was_made() -> None:
    with pytest.raises(ZeroDivisionError):
        within(60.0, lambda: 1 / 0, lambda: None)


def test_a_tls_handshake_without_an_end_is_ended_by_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepted: list[socket.socket] = []
        thread = threading.Thread(target=lambda: accepted.append(listener.accept()[0]))
        thread.start()
        client = Client(Limits(connect_s=60.0, read_s=60.0, total_s=0.5))
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        assert "took too long" in refusal(url, client)
        thread.join()
        accepted[0].close()


SILENT_NAME_SERVER = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))  # receives and never answers
"""
MANY_SILENT_ADDRESSES = """
import socket
server = socket.socket()
server.bind(("0.0.0.0", 80))
server.listen(0)
full = []
for _ in range(4):  # a full queue: further connections get no answer
    full.append(socket.socket())
    full[-1].setblocking(False)
    full[-1].connect_ex(("127.0.0.1", 80))
"""


@pytest.mark.parametrize(
    ("world", "name"),
    [(SILENT_NAME_SERVER, "unknown.example"), (MANY_SILENT_ADDRESSES, "many.example")],
)
def test_the_deadline_covers_the_look_up_of_the_name_and_all_addresses(
    world: str, name: str, tmp_path: Path
) -> None:
    """In a network of its own, where a request without a deadline would take minutes."""
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:30 attempts:4\n")
    (tmp_path / "hosts").write_text("".join(f"127.0.1.{i} many.example\n" for i in range(1, 200)))
    (tmp_path / "nsswitch.conf").write_text("hosts: files dns\n")
    script = f"""{world}
from carbontracker.intensity.http import Client, Limits, RequestFailed
try:
    Client(Limits(connect_s=60.0, read_s=60.0, total_s=1.0)).fetch("http://{name}/")
except RequestFailed as failed:
    print(failed.reason, flush=True)
"""
    files = ("resolv.conf", "hosts", "nsswitch.conf")
    mounts = "; ".join(f"mount --bind {tmp_path}/{file} /etc/{file}" for file in files)
    shell = f'set -e; ip link set lo up; {mounts}; exec "$0" -c "$1"'
    alone = ["unshare", "--user", "--map-root-user", "--mount", "--net", "sh", "-c"]
    try:
        subprocess.run([*alone, shell, sys.executable, "pass"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no namespaces for an unprivileged user here")
    done = subprocess.run(
        [*alone, shell, sys.executable, script],
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == "took too long\n"


ENDING = """
import socket, sys, threading, time
from carbontracker.intensity.http import Client

def ask():
    while True:
        try:
            Client().fetch("https://127.0.0.1:" + sys.argv[1])
        except Exception:
            pass

threading.Thread(target=ask, daemon=True).start()
time.sleep(float(sys.argv[2]))
"""


@pytest.mark.parametrize("answers", [False, True])
def test_a_program_that_ends_during_a_secure_request_ends_well(answers: bool) -> None:
    """OpenSSL is taken apart as the process ends, whichever thread is within it."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=100)
    port = listener.getsockname()[1]
    if not answers:
        listener.close()  # the certificates are loaded again and again, and no connection is made
    programs = [
        subprocess.Popen([sys.executable, "-c", ENDING, str(port), str(0.2 + i / 97)])
        for i in range(12)
    ]
    try:
        assert [one.wait(timeout=60) for one in programs] == [0] * len(programs)
    finally:
        for one in programs:
            one.kill()
        listener.close()
