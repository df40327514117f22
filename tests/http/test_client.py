"""The Python client over HTTP: the same methods and errors as on the home's host, and what a network adds to them."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

import air_executor
import air_executor.remote.client as remote_client
from air_executor import errors, model, store
from air_executor.client import AirExecutorClient
from air_executor.clients import connect
from air_executor.errors import (
    AccessError,
    AirExecutorError,
    InvalidInputError,
    InvalidJobError,
    InvalidNameError,
    InvalidParameterError,
    InvalidPipelineError,
    JobBusyError,
    JobExistsError,
    NotFoundError,
    RemoteError,
    SettingsError,
    UnreachableError,
    WaitTimeoutError,
)
from air_executor.http import tokens
from air_executor.paths import Home, find_home, is_address
from air_executor.remote import address, answers
from air_executor.remote.answers import Standing
from air_executor.remote.client import RemoteClient
from air_executor.remote.listener import RemoteListener
from air_executor.remote.patience import Patience, jittered, retry_after
from air_executor.remote.transport import Access, Transport
from air_executor.remote.watch import RunWatch
from air_executor.testing import running_runner, wait_for
from tests.http import apart
from tests.http.conftest import Api, serving
from tests.unit.conftest import finish

TRUE = [{"id": "only", "command": "true"}]
PIPELINE = """
description = "counts"
queue = "nightly"
priority = 4
timeout = 60
labels = { team = "a" }
[params.day]
choices = ["monday", "friday"]
[environments.prod]
queue = "prod"
[[tasks]]
id = "count"
command = "sh"
args = ["-c", "echo ${day}; echo '[1]' > $AIR_EXECUTOR_OUTPUT"]
"""
QUICK = Patience(tries=4, seconds=2.0, first=0.01, last=0.02)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with serving(tmp_path_factory.mktemp("client") / "home") as api:
        (api.home.pipelines / "nightly.toml").write_text(PIPELINE)
        (api.home.pipelines / "broken.toml").write_text("tasks = 3\n")
        yield api


@pytest.fixture(scope="module")
def client(served: Api) -> RemoteClient:
    return open_client(served)


def open_client(api: Api, *scopes: str, url: str | None = None, **given: Any) -> RemoteClient:
    _, text = tokens.create(api.home, "client", scopes or ("read", "submit", "cancel"), by="test")
    return RemoteClient(url or api.url, text, **given)


# --- Which client ---


def test_the_address_says_which_client(served: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = served.token("read")
    for found in (connect(served.url, token=token), AirExecutorClient(served.url, token=token)):
        assert isinstance(found, RemoteClient) and found.address == served.url and list(found.list_jobs()) == []
    assert air_executor.connect is connect
    assert isinstance(connect(tmp_path), AirExecutorClient) and connect(tmp_path).address == str(tmp_path)
    monkeypatch.setenv("AIR_EXECUTOR_TOKEN", token)
    assert list(connect(served.url).list_jobs()) == []
    with pytest.raises(SettingsError, match="token is for a web address"):
        AirExecutorClient(tmp_path, token=token)
    with pytest.raises(SettingsError, match="verify is for a web address"):
        connect(tmp_path, verify=False)


def test_what_is_only_there_on_the_host_says_so(client: RemoteClient) -> None:
    with pytest.raises(AttributeError, match="'prune' is nothing that a client can do over HTTP"):
        client.prune()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("https://", "no web address"),
        ("https://a b", "no web address"),
        ("https://a:port", "no web address"),
        ("https://user:hunter2@a", "holds a user or a password"),
        ("https://a/?token=hunter2", "ends in"),
        ("http://a.example.org", "has no TLS"),
        ("http://10.0.0.1:8470", "has no TLS"),
    ],
)
def test_an_address_that_cannot_be(text: str, why: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(why)) as caught:
        address.check(text)
    assert "hunter2" not in str(caught.value)


def test_addresses() -> None:
    assert address.check(" HTTPS://Air.example.org:8470/ ") == "https://air.example.org:8470"
    assert address.check("http://localhost:1/api/v1") == "http://localhost:1"
    assert address.check("http://[::1]:1") == "http://[::1]:1"
    assert address.check("http://air/below", allow_plain=True) == "http://air/below"
    assert is_address("https://x") and not is_address("/x") and not is_address(Path("/x")) and not is_address("a:b")


def test_a_token_that_is_none_is_refused_before_it_is_sent() -> None:
    for token in ("", "a b", "t\nX: y", "\u00e9"):
        with pytest.raises(SettingsError, match="AIR_EXECUTOR_TOKEN"):
            RemoteClient("https://a", token)


def test_without_httpx_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(SettingsError, match="extra `api`"):
        RemoteClient("https://a", "x").get_job("x")


def test_a_home_is_no_web_address() -> None:
    for text in ("https://air.example.org", "http:/air"):
        with pytest.raises(SettingsError, match=r"air_executor\.connect"):
            find_home(text)


# --- The methods ---


def test_a_job_that_is_submitted_looked_at_and_run(served: Api, client: RemoteClient) -> None:
    with running_runner(served.home):
        script = "echo hello; echo '{\"rows\": 3}' > $AIR_EXECUTOR_OUTPUT"
        tasks = [{"id": "first", "command": "sh", "args": ["-c", script]}, model.Task("true", dependencies=["first"])]
        identifier = client.create_job("mine", tasks, labels={"dag_id": "d", "task_id": "t"}, trigger="operator")
        job = client.wait("mine", 20)
        assert (job.id, job.state, job.trigger) == (identifier, model.JobState.COMPLETED, "operator")
        assert job.exit is not None and job.runner is not None and job.usage
        assert [(each.id, each.status.value, each.command) for each in client.get_tasks(identifier)] == [
            ("first", "completed", ""),
            ("task-2", "completed", ""),
        ]
        assert client.get_result("mine") == {"first": {"rows": 3}}
        assert client.outcome("mine")["result"] == {"first": {"rows": 3}}
        assert client.logs("mine") == client.logs("mine", "first") == "hello\n"
        assert [event["to"] for event in client.events("mine")] == ["waiting", "working", "completed"]
        again = client.retry("mine", by="somebody")
        assert again.attempt == 2 and client.wait("mine", 20).attempt == 2

        failing = client.create_job(tasks=[{"command": "sh", "args": ["-c", "echo the reason; exit 7"]}])
        assert client.wait(failing, 20).state is model.JobState.FAILED
        assert "exit code 7" in client.failure(failing) and client.failure(failing).endswith("the reason")

        client.create_job("long", [{"id": "sleeps", "command": "sleep", "args": ["60"]}])
        wait_for(lambda: client.get_job("long").state is model.JobState.WORKING)
        assert client.add_tasks([{"command": "true", "id": "more"}], "long") == ["more"]
        with pytest.raises(JobBusyError):
            client.retry("long")
        client.cancel("long", by="try 1 of d.t", why="enough")
        job = client.wait("long", 20)
        assert job.exit is not None
        assert re.fullmatch(r"cancelled by token client \([0-9a-f]{12}\): for try 1 of d.t: enough", job.exit.reason)


def test_the_history_of_a_task_is_found_by_trigger_and_labels(served: Api, client: RemoteClient) -> None:
    here = AirExecutorClient(served.home.root)
    for name, trigger, task in (("h1", "operator", "a"), ("h2", "operator", "b"), ("h3", "api", "a")):
        client.create_job(name, TRUE, trigger=trigger, labels={"dag_id": "history", "task_id": task})
    wanted = {"dag_id": "history", "task_id": "a"}
    wait_for(lambda: len(list(client.list_jobs(labels={"dag_id": "history"}))) == 3)
    for found in (client, here):
        assert [job.name for job in found.list_jobs(trigger="operator", labels=wanted)] == ["h1"]
        assert {job.name for job in found.list_jobs(labels=wanted, state=model.JobState.WAITING)} == {"h1", "h3"}
        assert list(found.list_jobs(queue="none")) == []


def test_lists_go_on_from_page_to_page(served: Api, client: RemoteClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("air_executor.remote.client.PAGE", 2)
    names = {f"page-{number}" for number in range(5)}
    for name in sorted(names):
        client.create_job(name, TRUE, queue="pages")
    wait_for(lambda: {job.name for job in client.list_jobs(queue="pages")} == names)


def test_a_pipeline_is_planned_and_run(served: Api, client: RemoteClient) -> None:
    made = client.pipeline("nightly", params={"day": "monday"}, job_name="planned", labels={"x": "y"}, memory_mb=9)
    job = made.job
    assert (job.queue, job.priority, job.timeout, job.memory_mb) == ("nightly", 4, 60, 9)
    job.timeout, job.priority = 30.0, 0
    client.submit(made)
    stored = AirExecutorClient(served.home.root).get_job("planned")
    assert (stored.timeout, stored.priority, stored.memory_mb, stored.trigger) == (30.0, 0, 9, "pipeline")
    assert {"team": "a", "pipeline": "nightly", "x": "y"}.items() <= stored.labels.items()
    found = client.find_pipeline("nightly").blueprint
    assert list(found.params) == ["day"] and found.params["day"].choices == ("monday", "friday")
    assert list(found.environments) == ["prod"]
    assert [each.name for each in client.pipelines()] == ["broken", "nightly"]
    assert client.get_job(client.run_pipeline("nightly", params={"day": "friday"})).state is model.JobState.WAITING


def test_there_is_one_job_of_a_name(client: RemoteClient) -> None:
    made = {"command": "true", "id": "a"}
    client.create_job("one", [made], labels={"run": "1"})

    def ask(policy: str, run: str = "1") -> str:
        job = model.Job("one", labels={"run": run})
        return client.ensure(store.Submission(job, [model.Task("true", id="a")]), policy, same=["run"])[1]

    assert ask("reuse") == ask("attach") == "attached"
    with pytest.raises(JobExistsError, match="somebody else's: it has run 1"):
        ask("reuse", "2")
    client.cancel("one")
    assert (ask("attach"), ask("reuse")) == ("reused", "restarted")
    with pytest.raises(InvalidInputError, match="on_existing is one of"):
        ask("maybe")


@pytest.mark.parametrize(
    ("ask", "kind", "message"),
    [
        (lambda client: client.get_job("none"), NotFoundError, "no job named none"),
        (lambda client: client.get_job("../up"), InvalidNameError, "must start with a letter"),
        (lambda client: client.cancel("none"), NotFoundError, "none"),
        (lambda client: client.logs("none"), NotFoundError, "none"),
        (lambda client: client.create_job("x", []), InvalidJobError, "at least one task"),
        (lambda client: client.create_job("a/b", TRUE), InvalidNameError, "a/b"),
        (lambda client: client.create_job("x", TRUE, colour=1), InvalidJobError, "unknown option"),
        (lambda client: client.create_job("x", TRUE, notify=True), InvalidJobError, "notify cannot be given over HTTP"),
        (lambda client: client.create_job("x", TRUE, trigger="executor"), InvalidInputError, "trigger"),
        (lambda client: client.add_tasks(TRUE), InvalidJobError, "must be named"),
        (lambda client: client.add_tasks(TRUE, "none"), NotFoundError, "none"),
        (lambda client: client.find_pipeline("none"), NotFoundError, "no pipeline none"),
        (lambda client: client.run_pipeline("broken"), InvalidPipelineError, "broken"),
        (lambda client: client.find_pipeline("broken"), InvalidPipelineError, "broken"),
        (lambda client: client.run_pipeline("nightly"), InvalidParameterError, "day"),
        (lambda client: client.run_pipeline("nightly", params={"day": []}), InvalidInputError, "parameters.day"),
        (lambda client: client.pipeline("nightly", params={"day": "friday"}, colour=1), InvalidJobError, "colour"),
    ],
)
def test_errors_are_those_of_the_core(
    client: RemoteClient, ask: Callable[[RemoteClient], Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=re.escape(message)) as caught:
        ask(client)
    assert caught.type is kind


def test_the_class_takes_what_connect_takes(served: Api) -> None:
    _, text = tokens.create(served.home, "c", ["read"], by="test")
    client = AirExecutorClient(served.url, token=text, poll_interval=7.0, jitter=0.5)
    assert isinstance(client, RemoteClient)
    assert (client.poll_interval, client.jitter) == (7.0, 0.5)
    with pytest.raises(TypeError, match="colour"):
        AirExecutorClient(served.url, token=text, colour="red")


@pytest.mark.parametrize("given", ["htps://air.example.org:8470", "ftp://air.example.org", "https:/air.example.org"])
def test_a_misspelled_address_is_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.chdir(tmp_path)
    for home in (given, Path(given)):
        with pytest.raises(SettingsError, match="web address"):
            connect(home)
    assert not list(tmp_path.iterdir())


def test_a_wait_that_is_too_short(client: RemoteClient) -> None:
    client.create_job("waits", TRUE)
    with pytest.raises(WaitTimeoutError, match=r"the job waits is still waiting after 0\.05 s; it goes on"):
        client.wait("waits", 0.05)
    patient = RemoteClient(client.address, client.transport.access.token, poll_interval=0.01)
    with pytest.raises(WaitTimeoutError):
        patient.wait("waits", 0.05)


# --- Who is not let in, and what does not answer ---


def test_a_token_that_is_refused(served: Api) -> None:
    client = open_client(served, "read")
    with pytest.raises(AccessError, match="this needs the scope submit") as caught:
        client.create_job("x", TRUE)
    secret = client.transport.access.token
    assert secret[-20:] not in f"{caught.value}{client!r}{vars(client)}{client.transport.access}"
    with pytest.raises(AccessError, match=rf"{served.url} refuses the token: .*not known here"):
        RemoteClient(served.url, f"ax_{'0' * 12}_{'0' * 64}").get_job("x")


def test_a_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        transport = Transport(Access(url, "hunter2"), QUICK)
        with pytest.raises(UnreachableError, match=rf"{url} does not answer: .*air-executor serve") as caught:
            transport.ask("GET", "/health")
        assert "hunter2" not in str(caught.value) and isinstance(caught.value, OSError)


class Between:
    """Between a client and a server: what is done with each connection, in their order; the last one is repeated."""

    def __init__(self, url: str, *plan: str | bytes) -> None:
        self._to = ("127.0.0.1", httpx.URL(url).port)
        self._plan = list(plan)
        self.seen: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            here, _ = self._socket.accept()
            with here:
                asked = _read_request(here)
                if asked is None:
                    return
                self.seen.append(asked)
                todo = self._plan.pop(0) if len(self._plan) > 1 else self._plan[0]
                if isinstance(todo, bytes):
                    here.sendall(todo)
                elif todo != "drop":
                    answer = self._forward(asked)
                    if todo == "pass":
                        here.sendall(answer)

    def _forward(self, asked: bytes) -> bytes:
        head, _, rest = asked.partition(b"\r\n\r\n")
        head = re.sub(rb"(?i)\r\nconnection: [^\r]*", b"", head)
        with socket.create_connection(self._to) as there:
            there.sendall(head + b"\r\nConnection: close\r\n\r\n" + rest)
            return b"".join(iter(lambda: there.recv(65536), b""))

    def end(self) -> None:
        socket.create_connection(self._socket.getsockname()).close()
        self._thread.join(20)
        self._socket.close()


def _read_request(here: socket.socket) -> bytes | None:
    got = b""
    while b"\r\n\r\n" not in got:
        if not (more := here.recv(65536)):
            return None
        got += more
    found = re.search(rb"(?i)content-length: (\d+)", got)
    length = int(found[1]) if found else 0
    while len(got.partition(b"\r\n\r\n")[2]) < length:
        got += here.recv(65536)
    return got


@contextmanager
def between(api: Api, *plan: str | bytes) -> Iterator[tuple[Between, RemoteClient]]:
    proxy = Between(api.url, *plan)
    try:
        client = open_client(api, url=proxy.url)
        client._transport = Transport(client.transport.access, QUICK)
        yield proxy, client
        client.transport.close()
    finally:
        proxy.end()


def refusal(status: int, word: str, *headers: str) -> bytes:
    body = json.dumps({"type": f"urn:air-executor:{word}", "title": "t", "status": status, "detail": f"because {word}"})
    lines = [f"HTTP/1.1 {status} No", f"Content-Length: {len(body)}", "Connection: close", *headers, "", body]
    return "\r\n".join(lines).encode()


def test_a_job_whose_answer_was_lost_is_created_once(served: Api) -> None:
    with between(served, "drop", "swallow", refusal(503, "busy", "Retry-After: 0"), "pass") as (proxy, client):
        identifier = client.create_job("lost", TRUE)
        assert client.get_job("lost").id == identifier and client.get_job("lost").attempt == 1
    keys = {re.search(rb"(?i)idempotency-key: (\w+)", asked)[1] for asked in proxy.seen[:4]}  # type: ignore[index]
    assert len(keys) == 1 and len(proxy.seen) == 6


def test_what_may_be_done_already_is_not_done_again(served: Api, client: RemoteClient) -> None:
    client.create_job("once", TRUE)
    client.cancel("once")
    with between(served, "swallow") as (proxy, lossy), pytest.raises(UnreachableError):
        lossy.retry("once")
    assert len(proxy.seen) == 1 and client.get_job("once").attempt == 2
    client.cancel("once")
    with between(served, refusal(429, "too-many-requests", "Retry-After: 0"), "pass") as (proxy, hasty):
        assert hasty.retry("once").attempt == 3 and len(proxy.seen) == 2


@pytest.mark.parametrize(
    ("answer", "kind", "times"),
    [
        (refusal(429, "too-many-requests", "Retry-After: 3600"), UnreachableError, 1),
        (refusal(503, "home"), errors.HomeError, 4),
        (b"HTTP/1.1 502 Bad\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", UnreachableError, 4),
        (b"HTTP/1.1 200 Fine\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello", RemoteError, 1),
        (b"HTTP/1.1 404 None\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello", RemoteError, 1),
        (
            b"HTTP/1.1 302 There\r\nLocation: https://x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            RemoteError,
            1,
        ),
        (b"rubbish\r\n\r\n", UnreachableError, 4),
        (refusal(500, "internal"), RemoteError, 1),
    ],
    ids=["hasty", "home", "proxy", "no JSON", "page", "redirect", "no HTTP", "internal"],
)
def test_other_answers(served: Api, answer: bytes, kind: type[Exception], times: int) -> None:
    with between(served, answer) as (proxy, client), pytest.raises(kind) as caught:
        client.get_job("x")
    assert caught.type is kind and len(proxy.seen) == times
    assert client.transport.access.token not in str(caught.value)


def test_patience() -> None:
    patience = Patience(tries=4, seconds=10, first=1, last=3)
    assert [patience.pause(tried, None, 0, lambda: 1.0) for tried in (1, 2, 3, 4)] == [1, 2, 3, -1]
    assert patience.pause(1, None, 0, lambda: 0.0) == 0.5
    assert patience.pause(1, 5.0, 0, lambda: 1.0) == 6.0  # never sooner than it was asked to
    assert patience.pause(1, 5.0, 5.0, lambda: 1.0) == -1 and patience.pause(1, 60.0, 0, lambda: 0.0) == -1
    assert [retry_after(text) for text in ("3", "0.5", "soon", None, "-1", "inf", "nan")] == [3, 0.5] + [None] * 5
    assert (jittered(10, 0.2, lambda: 0.0), jittered(10, 0.2, lambda: 1.0), jittered(10, 0)) == (8, 12, 10)


def test_what_every_word_of_the_api_is_here() -> None:
    from air_executor.http.problems import PREFIX, TITLES

    for word in TITLES:
        found = answers.to_error("http://x", 400, {"type": f"{PREFIX}{word}", "title": "t", "detail": "a: b"})
        assert isinstance(found, AirExecutorError) and "b" in str(found)


# --- Waiting for many ---


def test_many_waits_are_one_request(served: Api, client: RemoteClient) -> None:
    names = [f"many-{number}" for number in range(20)]
    for name in names:
        client.create_job(name, TRUE, queue="many")
    asked: list[int] = []

    class Counting(RemoteClient):
        def standings(self, names: Any) -> Any:
            asked.append(len(names))
            return super().standings(names)

    watch = RunWatch(Counting(client.address, client.transport.access.token, poll_interval=0.05))
    told: dict[str, Standing | None] = {}
    with ThreadPoolExecutor(1) as pool:
        for name in names:
            watch.add(name, lambda found, name=name: told.update({name: found}), 1)  # type: ignore[misc]
        wait_for(lambda: 20 in asked)
        before = len(asked)
        pool.submit(lambda: [finish(served.home, name) for name in names]).result()
        wait_for(lambda: len(told) == 20)
    assert {found and found.state.value for found in told.values()} == {"completed"}
    assert before <= 20
    wait_for(lambda: not watch.is_running)


@pytest.mark.parametrize(
    ("standing", "attempt", "over"),
    [
        (Standing("a", model.JobState.WORKING, 1, False), 1, False),
        (Standing("a", model.JobState.COMPLETED, 1, False), 1, True),
        (Standing("a", model.JobState.COMPLETED, 1, False), 2, False),
        (Standing("a", model.JobState.WORKING, 2, False), 1, True),
        (Standing("a", model.JobState.FAILED, 1, True), 2, True),
        (Standing("a", model.JobState.FAILED, 1, False), None, True),
        (Standing("a", model.JobState.WAITING, 3, False), None, False),
    ],
)
def test_when_a_wait_is_over(standing: Standing, attempt: int | None, over: bool) -> None:
    assert standing.is_over(attempt) is over


def test_who_waits_with_a_token_that_was_revoked_is_told(served: Api, client: RemoteClient) -> None:
    client.create_job("revoked", TRUE)
    token, text = tokens.create(served.home, "soon gone", ["read"], by="test")
    watch = RunWatch(RemoteClient(served.url, text, poll_interval=0.05))
    told = threading.Event()
    watch.add("revoked", lambda _: told.set(), 1)
    tokens.revoke(served.home, token.id, by="test")
    assert told.wait(20)


def test_a_server_that_ends_and_comes_back_loses_no_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tmp_path / "home") as api:
        port, client = httpx.URL(api.url).port, open_client(api, poll_interval=0.05)
        client.create_job("long", TRUE)
        client._transport = Transport(client.transport.access, Patience(tries=1))
        watch, told = RunWatch(client), threading.Event()
        asked = threading.Event()
        monkeypatch.setattr(watch, "_tell", lambda *given: (asked.set(), RunWatch._tell(watch, *given)))
        watch.add("long", lambda _: told.set(), 1)
        assert asked.wait(20)
    wait_for(lambda: watch._silent > 0)
    finish(api.home, "long")
    assert not told.is_set()
    with serving(tmp_path / "home", port=port):
        assert told.wait(20)


@pytest.mark.parametrize("poll_interval", [None, 0.05])
def test_a_wait_goes_on_while_the_server_is_started_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, poll_interval: float | None
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(remote_client, "AWAY", Patience(tries=1000, first=0.02, last=0.1))
    with ThreadPoolExecutor(1) as pool:
        with serving(tmp_path / "home", shutdown=0.1) as api:
            port, client = httpx.URL(api.url).port, open_client(api, poll_interval=poll_interval)
            client.create_job("long", TRUE)
            waits = pool.submit(client.wait, "long", 60)
            wait_for(lambda: "GET /api/v1/runs/long" in caplog.text or api.service.closing._waiting)
        wait_for(lambda: "nothing is known of the job long; asking again" in caplog.text)
        finish(api.home, "long")
        assert not waits.done()
        with serving(tmp_path / "home", port=port):
            assert waits.result(20).state is model.JobState.COMPLETED


def test_a_server_that_is_away_for_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    paused: list[float] = []
    monkeypatch.setattr(remote_client, "time", SimpleNamespace(sleep=paused.append, monotonic=time.monotonic))
    monkeypatch.setattr(remote_client, "AWAY", Patience(tries=3))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        client = RemoteClient(f"http://127.0.0.1:{taken.getsockname()[1]}", "hunter2")
        with pytest.raises(UnreachableError):
            client.wait("long")
        assert len(paused) == 2
        with pytest.raises(UnreachableError):
            client.wait("long", 0.1)
        assert len(paused) == 2  # the first pause would take longer


def test_ends_that_are_not_known_yet_are_heard_of(served: Api, client: RemoteClient) -> None:
    listener = RemoteListener(
        RemoteClient(client.address, client.transport.access.token, poll_interval=0.05), "pipeline", "nightly", "ours-1"
    )
    listener.open()
    name = client.get_job(client.run_pipeline("nightly", params={"day": "monday"}, job_name="heard")).name
    rung = threading.Event()
    listener.watch(rung.set)
    finish(served.home, name)
    assert rung.wait(20) and listener.pending() == [("heard", 1)]
    listener.done("heard", 1)
    assert listener.pending() == []
    listener.unwatch(rung.set)
    listener.forget()
    with pytest.raises(InvalidInputError):
        RemoteListener(client, "queue", "a", "b")


# --- TLS ---


def test_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate that an authority of one's own has signed."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=air"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    home = Home(tmp_path / "home")
    store.ensure_home(home)
    text = apart.token(home)
    # Not in this process: asyncio leaves sockets open there that it is told to close as its loop ends.
    with apart.HttpServers() as servers, servers.serving(home, tls_cert=str(cert), tls_key=str(key)) as url:
        assert url.startswith("https://")
        assert RemoteClient(url, text, verify=str(cert)).create_job("safe", TRUE).startswith("safe.")
        with pytest.raises(RemoteError, match=r"the certificate of https://\S+ is not trusted .*verify=") as caught:
            RemoteClient(url, text).get_job("safe")
        assert caught.type is RemoteError
        assert RemoteClient(url, text, verify=False).get_job("safe").name == "safe"
        monkeypatch.setenv("AIR_EXECUTOR_CA_FILE", str(cert))
        assert RemoteClient(url, text).get_job("safe").name == "safe"
        with pytest.raises(SettingsError, match="cannot be read: No such file"):
            RemoteClient(url, text, verify=str(tmp_path / "none")).get_job("safe")
        with pytest.raises(SettingsError, match=r"key\.pem cannot be read"):
            RemoteClient(url, text, verify=str(key)).get_job("safe")


def test_a_fork_has_connections_of_its_own(client: RemoteClient) -> None:
    client.health()
    used = client.transport._http
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        client.health()
        os.write(writer, b"1" if client.transport._http is not used else b"0")
        os._exit(0)
    os.close(writer)
    assert os.waitpid(pid, 0)[1] == 0 and os.read(reader, 1) == b"1"
    os.close(reader)
    assert client.health()["scopes"] == ["read", "submit", "cancel"]
