"""The log server on demand: there when it is asked, gone when it is not, and the port never in the way of the next."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from airflow.api_fastapi.auth.tokens import JWTGenerator
from airflow.executors.executor_loader import ExecutorLoader

from air_executor import processes
from air_executor.paths import Home
from air_executor.testing import wait_for
from airflow_plugin import logserver, logserving
from airflow_plugin.logserver import LogServer
from airflow_plugin.logserving import Idleness
from tests.plugin import fleet

KEY = "0123456789abcdef" * 4
LOG = "dag_id=sales/attempt=1.log"

# Holds the port as a scheduler does. Each line it reads makes it fork a process, as other executors do.
SCHEDULER = """
import os, sys, time
from airflow_plugin.logserver import LogServer
server = LogServer(int(sys.argv[1]))
server.start()
for line in sys.stdin:
    if (pid := os.fork()) == 0:
        time.sleep(600)
    print(pid, flush=True)
"""


@pytest.fixture
def port() -> int:
    with socket.socket() as found:
        found.bind(("", 0))
        return int(found.getsockname()[1])


@pytest.fixture(autouse=True)
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Airflow's folder of logs, with one."""
    monkeypatch.setenv("AIRFLOW__LOGGING__BASE_LOG_FOLDER", str(tmp_path / "logs"))
    monkeypatch.setenv("AIRFLOW__API__SECRET_KEY", KEY)
    log = tmp_path / "logs" / LOG
    log.parent.mkdir(parents=True)
    log.write_text("the body ran\n")
    return tmp_path / "logs"


def ask(port: int, key: str = KEY) -> str:
    """As Airflow's API server asks."""
    made = JWTGenerator(
        secret_key=key, algorithm="HS512", private_key=None, issuer=None, valid_for=30, audience="task-instance-logs"
    )
    headers = {"Authorization": made.generate({"filename": LOG})}
    request = urllib.request.Request(f"http://localhost:{port}/log/{LOG}", headers=headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(answer.read().decode())


def is_held(port: int) -> bool:
    """Not by trying to have it: whoever is about to hold it would find it taken."""
    return any(each.laddr.port == port and each.status == "LISTEN" for each in psutil.net_connections("tcp"))


def servers(of: int) -> list[psutil.Process]:
    """The log servers that a process has started."""
    found = psutil.Process(of).children()
    return [each for each in found if any(logserving.__name__ in word or "serve-logs" in word for word in _words(each))]


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@contextlib.contextmanager
def holding(port: int, idle: float = 60) -> Iterator[LogServer]:
    """A port that is held in this process; afterwards nothing is left."""
    server = LogServer(port, idle=idle, retry=0.05)
    server.start()
    try:
        yield server
    finally:
        server.close()
    assert servers(os.getpid()) == [] and not is_held(port)


@contextlib.contextmanager
def scheduler(port: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-W", "ignore", "-c", SCHEDULER, str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        wait_for(lambda: is_held(port), what="the port to be held")
        try:
            yield process
        finally:
            process.kill()


def test_a_server_is_there_when_it_is_asked_and_ends_with_its_scheduler(port: int) -> None:
    with scheduler(port) as process:
        assert servers(process.pid) == []
        assert ask(port) == "the body ran\n"
        [server] = servers(process.pid)
        with pytest.raises(urllib.error.HTTPError, match="403"):
            ask(port, key="another key".ljust(64))
        assert servers(process.pid) == [server]
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("fork\n")
        process.stdin.flush()
        forked = psutil.Process(next(int(line) for line in process.stdout if line.strip().isdigit()))
        process.kill()
        process.wait()
        try:
            wait_for(lambda: not is_held(port), what="the port to be free")
            wait_for(lambda: processes.start_time(server.pid) is None, what="the end of the server")
            assert forked.is_running()
        finally:
            forked.kill()


def test_one_that_has_ended_is_replaced_when_somebody_asks(port: int) -> None:
    with holding(port, idle=0.3):
        wait_for(lambda: is_held(port), what="the port to be held")
        client = socket.create_connection(("localhost", port))  # who says nothing keeps no server from its end
        [first] = wait_for(lambda: servers(os.getpid()), what="a server")
        assert os.getsid(first.pid) == first.pid
        wait_for(lambda: not servers(os.getpid()), what="the end of a server that nobody asks")
        client.close()
        assert is_held(port)
        assert ask(port) == "the body ran\n"


def test_who_connected_to_a_server_that_ends_is_answered_by_the_next(port: int) -> None:
    taker = socket.create_server(("", port))
    with holding(port) as holder:
        taker.close()  # whoever had the port has ended
        wait_for(lambda: is_held(port), what="the port to be taken over")
        assert ask(port) == "the body ran\n"
        assert holder._server is not None
        first = psutil.Process(holder._server.pid)
        first.suspend()
        with socket.create_connection(("localhost", port)) as client:
            client.settimeout(60)
            client.sendall(f"GET /log/{LOG} HTTP/1.0\r\n\r\n".encode())
            first.kill()
            assert b" 403 " in client.recv(1000)  # it has no token; what counts is that it is answered
        assert holder._server is not None and holder._server.pid != first.pid


def test_servers_that_come_to_nothing_are_told_once_and_paused(
    port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    began = []

    def spawn(*_: object) -> subprocess.Popen[bytes]:
        began.append(time.monotonic())
        return subprocess.Popen(["false"])

    monkeypatch.setattr(logserver, "_spawn", spawn)
    monkeypatch.setattr(logserver, "FIRST_PAUSE", 0.05)
    with holding(port):
        wait_for(lambda: is_held(port), what="the port to be held")
        with socket.create_connection(("localhost", port)):
            wait_for(lambda: len(began) >= 4, what="the fourth server")
    assert began[3] - began[2] >= 0.2
    assert caplog.text.count("ended with exit code 1") == 1


def test_a_port_that_there_is_not_is_named_with_its_option(caplog: pytest.LogCaptureFixture) -> None:
    with contextlib.closing(LogServer(70_000)) as server:
        server.start()
        wait_for(lambda: caplog.records, what="what is wrong")
    [record] = caplog.records
    assert "port 70000 of log servers ([logging] worker_log_server_port)" in record.getMessage()


@pytest.mark.parametrize(
    ("before", "code", "lived", "after"),
    [(0, 0, 1, 0), (3, 0, 1, 0), (0, 1, 1, 1), (3, -9, 1, 4), (3, 1, logserver.STEADY, 0)],
)
def test_how_many_came_to_nothing(before: int, code: int, lived: float, after: int) -> None:
    assert logserver.count_failures(before, code, lived) == after


@pytest.mark.parametrize(("failures", "pause"), [(0, 0), (1, 1), (2, 2), (4, 8), (9, 256), (10, 300), (10**6, 300)])
def test_the_pause_grows_to_a_limit(failures: int, pause: float) -> None:
    assert logserver.pause_after(failures) == pause


def test_a_server_is_idle_when_nobody_asks() -> None:
    idleness = Idleness(10, since=100)
    looks = [(105, 0, False), (110, 1, False), (119, 1, True), (128, 1, False), (129, 1, False)]
    assert [idleness.is_over(now, count, busy=busy) for now, count, busy in looks] == [False] * 4 + [True]


@pytest.mark.parametrize(
    ("arguments", "serves"),
    [
        ("scheduler", True),
        ("scheduler -D --pid /run/scheduler.pid", True),
        ("scheduler --skip-serve-logs", False),
        ("scheduler -n 5 -Ds", False),
        ("scheduler --no-such-option", False),
        ("triggerer", False),
        ("dags test sales --use-executor", False),
        ("", False),
    ],
)
def test_logs_are_served_in_a_scheduler_alone(arguments: str, serves: bool) -> None:
    assert logserver.is_scheduler(arguments.split()) is serves


@pytest.mark.parametrize(
    ("configured", "serves"),
    [("airflow_plugin.AirExecutor", False), ("airflow_plugin.AirExecutor,LocalExecutor", True)],
)
def test_airflow_serves_logs_for_an_executor_that_needs_it(
    loader: type[ExecutorLoader], monkeypatch: pytest.MonkeyPatch, configured: str, serves: bool
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", configured)
    assert logserver.is_served_by_airflow() is serves


def test_an_executor_holds_the_port_from_its_start_to_its_end(
    home: Home, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT", str(port))
    fleet.start_executor()
    assert logserver.start_in_scheduler() is None
    monkeypatch.setattr(sys, "argv", ["airflow", "scheduler"])
    executor = fleet.start_executor()
    try:
        wait_for(lambda: is_held(port), what="the port to be held")
        assert logserver.start_in_scheduler() is None  # that of another team has it
    finally:
        executor.end()
    assert not is_held(port)
    executor.start()
    executor.end()
