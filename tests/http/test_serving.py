"""The server as a process and on the wire: limits, slow clients, TLS, its start, its log and its end."""

from __future__ import annotations

import logging
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from air_executor.errors import SettingsError
from air_executor.http import guard, limits, server, tokens
from air_executor.http.limits import Bucket, Limiter
from air_executor.http.service import Service
from air_executor.paths import Home
from air_executor.settings import HttpSettings
from air_executor.testing import wait_for
from tests.http.conftest import BASE, Api, serving

TASKS = {"tasks": [{"command": "true"}]}


# --- Limits ---


def test_a_bucket_refills_with_time() -> None:
    bucket = Bucket(2.0, 100.0)
    assert [limits.take(bucket, 100.0, 0.5, 2) for _ in range(3)] == [0.0, 0.0, 2.0]
    assert limits.take(bucket, 101.0, 0.5, 2) == 1.0
    assert limits.take(bucket, 102.0, 0.5, 2) == 0.0
    assert limits.take(bucket, 50.0, 0.5, 2) == 2.0  # a clock that goes back gives nothing
    assert [limits.take(bucket, 1e6, 0.5, 2) for _ in range(3)] == [0.0, 0.0, 2.0]


def test_each_has_a_bucket_and_there_are_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "KNOWN", 2)
    limiter = Limiter(1.0, 1, lambda: 0.0)
    assert [limiter.wait(who) for who in "aabab"] == [0.0, 1.0, 0.0, 1.0, 1.0]
    assert [limiter.wait(who) for who in "cdab"] == [0.0] * 4  # those who asked longest ago are forgotten
    assert [Limiter(0.0, 1).wait("a") for _ in range(9)] == [0.0] * 9


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server with limits that are met soon, and do not refill while a test runs."""
    root = tmp_path_factory.mktemp("narrow") / "home"
    few = {"rate": 0.001, "burst": 3, "stranger_rate": 0.001, "stranger_burst": 3}
    with serving(root, **few, max_body_kb=1, max_requests=2, client_timeout=0.3) as api:
        yield api


def test_a_token_that_asks_too_often_waits_and_others_do_not(narrow: Api) -> None:
    _, text = tokens.create(narrow.home, "hasty", ["read"], by="test")
    answers = [narrow.http.get(f"{BASE}/queues", headers={"Authorization": f"Bearer {text}"}) for _ in range(4)]
    assert [each.status_code for each in answers] == [200, 200, 200, 429]
    assert int(answers[-1].headers["retry-after"]) > 60
    assert narrow.get("/queues", scope="read").status_code == 200


def test_who_has_no_token_soon_waits_whatever_he_asks(narrow: Api) -> None:
    asked = ("/queues", "/health", "/openapi.json", "/queues", "/health", "/openapi.json")
    answers = [narrow.http.get(f"{BASE}{each}") for each in asked]
    assert [each.status_code for each in answers] == [401, 200, 200, 429, 429, 429]
    assert narrow.get("/queues", scope="cancel").status_code == 403  # who has one is no stranger


def _exchange(api: Api, *parts: bytes) -> bytes:
    """What is answered to bytes, until the server closes the connection."""
    host, port = api.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 30) as connection:
        for part in parts:
            connection.sendall(part)
        found = b""
        while piece := connection.recv(65536):
            found += piece
        return found


def _head(api: Api, *lines: str, scope: str = "submit") -> bytes:
    _, text = tokens.create(api.home, "raw", [scope], by="test")
    given = (f"POST {BASE}/runs HTTP/1.1", "Host: x", f"Authorization: Bearer {text}", "Content-Type: application/json")
    return ("\r\n".join([*given, *lines]) + "\r\n\r\n").encode()


def test_a_body_is_measured_as_it_comes(narrow: Api) -> None:
    claimed = _exchange(narrow, _head(narrow, "Content-Length: 1000000"))
    assert b" 413 " in claimed and b"urn:air-executor:too-large" in claimed
    chunk = b"400\r\n" + b"x" * 1024 + b"\r\n"
    assert b" 413 " in _exchange(narrow, _head(narrow, "Transfer-Encoding: chunked"), chunk, chunk)


def test_a_request_has_one_end(narrow: Api) -> None:
    both = _head(narrow, "Content-Length: 4", "Transfer-Encoding: chunked")
    answer = _exchange(narrow, both + b"0\r\n\r\n" + f"GET {BASE}/health HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 400 ") and answer.count(b"HTTP/1.1 ") == 1


def test_a_client_that_is_slow_is_not_waited_for(narrow: Api) -> None:
    assert b" 408 " in _exchange(narrow, _head(narrow, "Content-Length: 100"), b"{")
    assert _exchange(narrow, b"GET /api") == b""
    assert _exchange(narrow) == b""


def test_a_body_that_nobody_waits_for_holds_no_connection(narrow: Api) -> None:
    host, port = narrow.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 30) as connection:
        connection.sendall(f"GET {BASE}/nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n".encode())
        answer = b""
        while not answer.endswith(b"}"):
            answer += connection.recv(65536)
        connection.sendall(b"x")
        assert connection.recv(65536) == b""  # closed, though a byte came after the answer


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="of Linux alone")
def test_who_takes_nothing_of_an_answer_holds_no_connection(narrow: Api) -> None:
    narrow.service.client.create_job("loud", [{"command": "true"}])
    log = narrow.home.job("loud").log("task-1")
    log.parent.mkdir(exist_ok=True)
    log.write_bytes(bytes(16 << 20))
    host, port = narrow.url.removeprefix("http://").split(":")
    _, text = tokens.create(narrow.home, "silent", ["read"], by="test")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((host, int(port)))
        head = f"GET {BASE}/runs/loud/logs/task-1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {text}\r\n\r\n"
        connection.sendall(head.encode())
        wait_for(lambda: _is_refused(connection), what="the end of a connection that takes nothing")


def _is_refused(connection: socket.socket) -> bool:
    """Whether the other side knows nothing of it any more."""
    try:
        connection.send(b"x")
    except OSError:
        return True
    return False


def test_so_many_are_answered_at_once(narrow: Api) -> None:
    narrow.service.client.create_job("waits", [{"command": "true"}])
    _, text = tokens.create(narrow.home, "patient", ["read"], by="test")
    headers = {"Authorization": f"Bearer {text}"}
    follow = {"params": {"follow": "true"}, "headers": headers}
    with (
        narrow.http.stream("GET", f"{BASE}/runs/waits/logs/task-1", **follow),
        narrow.http.stream("GET", f"{BASE}/runs/waits/logs/task-1", **follow),
    ):
        busy = narrow.http.get(f"{BASE}/health", headers=headers)
        assert (busy.status_code, busy.json()["type"]) == (503, "urn:air-executor:busy")
    wait_for(lambda: narrow.http.get(f"{BASE}/health").status_code == 429)


def test_one_token_leaves_room_for_others(narrow: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(narrow.service.shares, "most", 1)
    _, text = tokens.create(narrow.home, "greedy", ["read"], by="test")
    headers = {"Authorization": f"Bearer {text}"}
    logs, queues = f"{BASE}/runs/waits/logs/task-1", f"{BASE}/queues"
    with narrow.http.stream("GET", logs, params={"follow": "true"}, headers=headers):
        refused = narrow.http.get(queues, headers=headers)
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:air-executor:busy")
        assert narrow.get("/queues", scope="submit").status_code == 403  # somebody else is let in that far
    wait_for(lambda: not narrow.service.shares.under_way, what="the end of what was closed")


@pytest.mark.parametrize(("total", "most"), [(1, 1), (2, 1), (4, 3), (200, 150)])
def test_shares(total: int, most: int) -> None:
    shares = limits.Shares(total)
    assert shares.most == most
    assert [shares.enter("a") for _ in range(most + 1)] == [True] * most + [False]
    assert shares.enter("b")
    shares.leave("a")
    assert shares.enter("a")
    for who in ["b", *"a" * most]:
        shares.leave(who)
    assert not shares.under_way


def test_what_goes_wrong_here_is_told_without_what_was_sent(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("hunter2")

    monkeypatch.setattr(api.service, "status", fail)
    with caplog.at_level(logging.INFO, "air_executor"):
        answer = api.get("/queues", headers={"X-Secret": "hunter2"})
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:air-executor:internal")
    assert "RuntimeError at " in caplog.text and "hunter2" not in caplog.text + answer.text


def test_the_log_has_neither_tokens_nor_queries(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    text = api.token("read")
    with caplog.at_level(logging.INFO, "air_executor"):
        api.get(f"/runs/{text}", scope="read", params={"wait": 0.01})
        told = wait_for(lambda: [line for line in caplog.messages if "/runs/" in line])  # and not of a test before
    (line,) = told
    assert line.startswith(f"127.0.0.1 {text.split('_')[1]} GET {BASE}/runs/ax_{text.split('_')[1]}_*** 404 ")
    assert "wait" not in line
    assert guard.shown_path("/a\n\x1b[31m b") == "/a%0A%1B%5B31m%20b"


def test_what_is_possible_at_an_address_is_said(api: Api) -> None:
    answer = api.ask("DELETE", "/runs")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")
    assert api.get("/nothing").json()["type"] == "urn:air-executor:not-found"


# --- Before it starts ---


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a certificate, its key, an encrypted key, a key of another, and another pair."""
    where = tmp_path_factory.mktemp("tls")
    (where / "renewed").mkdir()
    rsa, ec = ["-newkey", "rsa:2048"], ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    for key in ("key.pem", "other.pem", "renewed/key.pem"):
        out = ["-keyout", where / key, "-out", where / key.replace("key", "cert"), "-nodes"]
        kind = rsa if "renewed" in key else ec  # one context would have both
        subprocess.run(["openssl", "req", "-x509", *kind, *out, *name], check=True, capture_output=True)
    encrypt = ["-aes128", "-passout", "pass:hunter2", "-out", where / "encrypted.pem"]
    subprocess.run(["openssl", "ec", "-in", where / "key.pem", *encrypt], check=True, capture_output=True)
    (where / "empty.pem").touch()
    return where


def test_tls(tmp_path: Path, certificate: Path) -> None:
    files = {"tls_cert": str(certificate / "cert.pem"), "tls_key": str(certificate / "key.pem")}
    with serving(tmp_path / "home", **files) as api:
        assert api.url.startswith("https://")
        trusting = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
        with httpx.Client(base_url=api.url, verify=trusting, trust_env=False) as client:
            assert client.get(f"{BASE}/health").json() == {"status": "alive"}


def test_a_renewed_certificate_is_used(
    tmp_path: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "RENEWAL_TICKS", 1)
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    for each in (cert, key):
        shutil.copy(certificate / each.name, each)
    first, second = cert.read_text(), (certificate / "renewed" / "cert.pem").read_text()
    with serving(tmp_path / "home", tls_cert=str(cert), tls_key=str(key)) as api:
        url = httpx.URL(api.url)

        def shown() -> str:
            return ssl.get_server_certificate((url.host, url.port or 0))

        shutil.copy(certificate / "renewed" / "key.pem", key)  # between the two files they do not fit together
        wait_for(lambda: "the certificate is not renewed" in caplog.text)
        assert shown() == first
        shutil.copy(certificate / "renewed" / "cert.pem", cert)
        wait_for(lambda: shown() == second)


@pytest.mark.parametrize(
    ("cert", "key", "why"),
    [
        ("missing.pem", "key.pem", "tls_cert: .*missing.pem cannot be read: No such file"),
        ("cert.pem", "missing.pem", "tls_key: .*missing.pem cannot be read: No such file"),
        ("cert.pem", "other.pem", "no certificate and its key: .*KEY"),
        ("cert.pem", "encrypted.pem", "is encrypted"),
        ("empty.pem", "key.pem", "no certificate and its key"),
        ("cert.pem", None, "no certificate and its key"),
    ],
)
def test_a_certificate_that_cannot_be_used(certificate: Path, cert: str, key: str | None, why: str) -> None:
    settings = HttpSettings(tls_cert=str(certificate / cert), tls_key=key and str(certificate / key))
    with pytest.raises(SettingsError, match=why):
        server.check(settings, Home(certificate))


def test_paths_of_certificates_begin_in_the_home(certificate: Path) -> None:
    assert server.check(HttpSettings(tls_cert="cert.pem", tls_key="key.pem"), Home(certificate))


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        ({}, False),
        ({"host": "::1"}, False),
        ({"host": "localhost"}, False),
        ({"host": "127.8.8.8"}, False),
        ({"host": "0.0.0.0"}, True),
        ({"host": "example.org"}, True),
        ({"host": "::"}, True),
        ({"host": "0.0.0.0", "allow_plain": True}, False),
        ({"tls_key": "x"}, True),
    ],
)
def test_other_hosts_need_tls(options: dict[str, object], refused: bool) -> None:
    if not refused:
        assert server.check(HttpSettings(**options), Home(Path("x"))) is None  # type: ignore[arg-type]
        return
    with pytest.raises(SettingsError, match="tls_cert"):
        server.check(HttpSettings(**options), Home(Path("x")))  # type: ignore[arg-type]


def test_an_address_that_cannot_be_had() -> None:
    with pytest.raises(SettingsError, match="is no address of this host"):
        server.bind("no such host!", 0)
    with pytest.raises(SettingsError, match=r"cannot serve on 192\.0\.2\.1 port"):
        server.bind("192.0.2.1", 0)


# --- The process ---


def test_the_command_serves_and_ends_in_order(tmp_path: Path) -> None:
    """A port that is taken, a request under way at SIGTERM, and a second signal."""
    command = [sys.executable, "-m", "air_executor", "--home", str(tmp_path / "home")]
    text = subprocess.run(
        [*command, "token", "create", "a", "--scope", "admin"], check=True, capture_output=True, text=True
    )
    headers = {"Authorization": f"Bearer {text.stdout.strip()}"}
    with subprocess.Popen([*command, "serve", "--port", "0"], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            url = process.stderr.readline().split(" on ")[1].split(";")[0]
            port = url.rpartition(":")[2]
            taken = subprocess.run([*command, "serve", "--port", port], capture_output=True, text=True, timeout=60)
            assert taken.returncode == 2 and "Address already in use; choose another with --port" in taken.stderr
            with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=60) as client:
                client.post(f"{BASE}/runs", json={**TASKS, "name": "waits"}).raise_for_status()
                with client.stream("GET", f"{BASE}/runs/waits/logs/task-1", params={"follow": "true"}) as stream:
                    process.send_signal(signal.SIGTERM)
                    assert stream.read() == b""
            assert process.wait(30) == 0
            said = process.stderr.read()
        finally:
            process.kill()
    assert said.splitlines()[-1].endswith(" ended")
    assert text.stdout.strip() not in said and "follow" not in said and "Traceback" not in said


def test_a_second_signal_ends_it_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    monkeypatch.setattr(server.os, "_exit", codes.append)
    service = Service(Home(tmp_path), HttpSettings())
    running = server.Server(server.configure(service, None), service)
    running.handle_exit(signal.SIGTERM, None)
    assert (running.should_exit, codes) == (True, [])
    running.handle_exit(signal.SIGTERM, None)
    assert codes == [128 + signal.SIGTERM]


def test_without_its_packages_the_command_says_what_to_install(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "sys.modules['uvicorn'] = None\n"
        "from air_executor import cli\n"
        f"raise SystemExit(cli.main(['--home', {str(tmp_path / 'h')!r}, 'serve']))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    wanted = "uvicorn is not installed, which serve needs: install this project's extra `api`"
    assert done.returncode == 2 and wanted in done.stderr, done.stderr
