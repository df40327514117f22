"""Runs over HTTP: created once for a key, looked at, followed, stopped and started anew; with a real runner."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from air_executor import journal, model, store
from air_executor.http import ends, idempotency
from air_executor.http.idempotency import LABEL, Notes, key_of
from air_executor.testing import RunnerProcess, running_runner, wait_for
from tests.http.conftest import BASE, Api, serving
from tests.unit.conftest import finish

ECHO = {"tasks": [{"id": "say", "command": "echo", "args": ["hello"]}]}
PIPELINE = """
[params.day]
type = "string"
[environments.prod]
[[tasks]]
id = "say"
command = "sh"
args = ["-c", "echo ${day}; echo '[1]' > $AIR_EXECUTOR_OUTPUT"]
env = { SECRET = "hunter2" }
"""
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with serving(tmp_path_factory.mktemp("runs") / "home") as api:
        (api.home.pipelines / "nightly.toml").write_text(PIPELINE)
        yield api


@pytest.fixture(scope="module")
def runner(api: Api) -> Iterator[RunnerProcess]:
    with running_runner(api.home, "--queues", "served", "--slots", "4", "--grace", "1") as runner:
        yield runner


def create(api: Api, key: str | None = None, **body: Any) -> Any:
    """What is answered to a request for a run."""
    headers = {} if key is None else {"Idempotency-Key": key}
    return api.post("/runs", scope="submit", json={**({} if "pipeline" in body else ECHO), **body}, headers=headers)


# --- Creating, without a runner ---


@pytest.mark.parametrize("path", ["/runs", "/queues", "/runs/nothing", "/pipelines", "/runs/nothing/logs/a"])
def test_a_misspelled_parameter_is_refused(api: Api, path: str) -> None:
    """Who lists what is to be cancelled must not be given everything."""
    answer = api.get(path, params={"lable": "team:a"})
    assert (answer.status_code, answer.json()["errors"][0]["where"]) == (422, "query.lable")
    if path == "/runs":
        assert "known are cursor, label, limit" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("content", "kind", "status", "detail"),
    [
        (b'{"tasks": []}', "text/plain", 415, "Content-Type: application/json"),
        (b'{"tasks": []}', None, 415, "Content-Type: application/json"),
        (b'{"tasks": [}', "application/json", 422, "body: it is no JSON, from character 11 on: "),
        (b"{}", "application/json; charset=utf-8", 422, "body: give either pipeline or tasks"),
    ],
)
def test_a_body_that_cannot_be_taken(api: Api, content: bytes, kind: str | None, status: int, detail: str) -> None:
    answer = api.post("/runs", content=content, headers={} if kind is None else {"Content-Type": kind})
    assert answer.status_code == status
    assert detail in answer.json()["detail"]


def test_a_run_is_a_job(api: Api) -> None:
    answer = create(api, name="a-job", queue="q", priority=3, labels={"team": "x"}, timeout=5.5, max_parallel=2)
    said = answer.json()
    job = store.read(api.home, "a-job")
    assert (answer.status_code, said["how"], answer.headers["location"]) == (201, "created", f"{BASE}/runs/a-job")
    assert (job.queue, job.priority, job.labels, job.timeout) == ("q", 3, {"team": "x"}, 5.5)
    assert job.trigger == "api" and job.max_parallel == 2
    assert api.get(f"/runs/{job.id}").json()["name"] == "a-job"
    (event, *_) = journal.read(api.home.job("a-job").events)
    assert event["by"].startswith("token submit of a test (")
    listed = wait_for(lambda: api.get("/runs", params={"label": "team:x"}).json()["runs"])
    assert [each["name"] for each in listed] == ["a-job"]
    assert listed[0]["created_at"] == said["created_at"]


def test_what_is_wrong_is_said_and_nothing_is_written(api: Api) -> None:
    for body, where in (
        ({"name": "../x"}, "name"),
        ({"name": "x", "queue": "a b"}, "queue"),
        ({"name": "x", "tasks": []}, "tasks"),
        ({"name": "x", "tasks": [{"command": "a", "dependencies": ["nobody"]}]}, "depends on"),
        ({"name": "x", "tasks": [{"command": "a", "timeout": "5"}]}, "timeout"),
        ({"name": "x", "tasks": [{"command": "a", "shell": True}]}, "shell"),
        ({"name": "x", "slurm": {"nodes": "hunter2"}}, "nodes"),
        ({"name": "x", "labels": {LABEL: "x"}}, LABEL),
        ({"name": "x", "pipeline": "nightly", **ECHO}, "either"),
        ({"name": "x", "parameters": {"a": 1}}, "pipeline"),
        ({"name": "x", "pipeline": "nightly"}, "day"),
        ({"name": "x", "pipeline": "nightly", "parameters": {"day": "d", "b": "hunter2"}}, "b"),
    ):
        answer = create(api, key="wrong", **body)
        assert answer.status_code == 422 and where in answer.json()["detail"], answer.text
        assert "hunter2" not in answer.text
    assert create(api, pipeline="unknown").status_code == 404
    assert not api.home.job("x").root.exists()
    assert create(api, key="wrong", queue="late").status_code == 201  # what was refused used up no key


def test_a_run_names_webhooks_that_there_are(api: Api) -> None:
    asked = {"tasks": [{"command": "true"}], "name": "told", "webhooks": ["ops"]}
    answer = api.post("/runs", json=asked)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:air-executor:invalid-job")
    assert "webhook ops" in answer.json()["detail"]
    api.home.config.write_text('[webhooks.ops]\nurl = "https://example.org/hook"\nsecret_env = "S"\nall_jobs = true\n')
    try:
        answer = api.post("/runs", json=asked)
        assert answer.status_code == 201, answer.text
    finally:
        api.home.config.unlink()
    assert store.read(api.home, "told").webhooks == ["ops"]


def test_a_name_that_is_taken(api: Api) -> None:
    assert create(api, name="taken").status_code == 201
    assert (again := create(api, name="taken")).status_code == 409 and "on_existing" in again.json()["detail"]
    assert create(api, key="a", name="taken").status_code == 409
    assert create(api, key="a", name="not-taken").status_code == 201  # the key made nothing before
    attached = create(api, name="taken", on_existing="attach")
    assert (attached.status_code, attached.json()["how"]) == (200, "attached")
    other = create(api, name="taken", on_existing="attach", labels={"of": "me"}, same=["of"])
    assert other.status_code == 409 and "somebody else" in other.json()["detail"]


def test_fifty_at_once_with_one_key_make_one_run(api: Api) -> None:
    before = set(store.names(api.home))
    body = json.dumps(ECHO)
    headers = {"Authorization": f"Bearer {api.token('submit')}", "Idempotency-Key": "once", **JSON}

    def ask(_: int) -> Any:
        return api.http.post(f"{BASE}/runs", content=body, headers=headers)

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(ask, range(50)))
    assert Counter(each.status_code for each in answers) == {201: 1, 200: 49}, [each.text for each in answers]
    assert len({each.json()["id"] for each in answers}) == 1
    assert len(set(store.names(api.home)) - before) == 1


def test_a_key_starts_a_run_anew_once_whoever_dies(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    create(api, name="anew")
    api.post("/runs/anew/cancel")

    def again(key: str) -> Any:
        body = {**ECHO, "name": "anew", "on_existing": "restart"}
        return api.post("/runs", json=body, headers={"Idempotency-Key": key})

    with monkeypatch.context() as patched:
        patched.setattr(idempotency.Notes, "finish", lambda *_: None)  # who died before that was noted
        assert (again("x").json()["attempt"], again("x").json()["attempt"]) == (2, 2)
        api.post("/runs/anew/cancel")
        assert again("x").json()["attempt"] == 2
    assert again("y").json()["attempt"] == 3


def test_a_key_is_of_one_body_and_one_token(api: Api) -> None:
    first = create(api, key="k").json()
    assert create(api, key="k").json() == {**first, "how": "repeated"}
    assert create(api, key="k", on_failure="continue").json()["type"] == "urn:air-executor:key-reused"
    assert create(api, key="k", name="another").status_code == 422
    other = api.post("/runs", json=ECHO, headers={"Idempotency-Key": "k"})
    assert (other.status_code, other.json()["id"] == first["id"]) == (201, False)
    for wrong in ("a b", "x" * 256):
        assert create(api, key=wrong).status_code == 422


def test_a_key_counts_by_the_label_where_its_note_is_lost(api: Api) -> None:
    for name in (None, "with-a-name"):
        body = {} if name is None else {"name": name}
        first = create(api, key=f"lost {name}".replace(" ", "-"), **body).json()
        for path in api.home.http_keys.iterdir():
            path.unlink()
        again = create(api, key=f"lost {name}".replace(" ", "-"), **body)
        assert (again.status_code, again.json()["how"], again.json()["id"]) == (200, "repeated", first["id"])


def test_a_key_without_a_note_is_of_one_body_too(api: Api) -> None:
    create(api, key="unnoted")
    for path in api.home.http_keys.iterdir():
        path.unlink()
    assert create(api, key="unnoted", priority=1).json()["type"] == "urn:air-executor:key-reused"


def test_a_key_is_finished_by_who_asks_again_after_a_crash(api: Api) -> None:
    """The server died between the note and the run."""
    token_id = api.token("submit").split("_")[1]
    from air_executor.http.shapes import RunRequest

    body = RunRequest.model_validate(ECHO).model_dump(mode="json")
    Notes(api.home).begin(key_of(token_id, "crashed", body))
    answer = create(api, key="crashed")
    assert (answer.status_code, answer.json()["how"]) == (201, "created")


def test_a_run_that_was_removed_is_not_made_again(api: Api) -> None:
    name = create(api, key="removed").json()["name"]
    finish(api.home, name)
    api.service.client.prune(older_than=0.0)
    answer = create(api, key="removed")
    assert answer.status_code == 404 and "was removed" in answer.json()["detail"]


def test_old_notes_go(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = Notes(api.home)
    key = key_of("t", "old", {})
    notes.begin(key)
    monkeypatch.setattr(idempotency, "KEPT", -60.0)
    Notes(api.home).begin(key_of("t", "new", {}))
    assert not api.home.http_key(key.digest).exists()


def test_a_damaged_note_is_put_aside(api: Api) -> None:
    key = key_of("t", "damaged", {})
    api.home.http_keys.mkdir(parents=True, exist_ok=True)
    api.home.http_key(key.digest).write_text("{")
    assert Notes(api.home).begin(key).run is None
    assert Notes(api.home).begin(key).request == key.request


# --- Lists ---


def test_lists_go_on_where_they_ended(api: Api) -> None:
    names = [create(api, queue="listed").json()["name"] for _ in range(3)]

    def pages() -> list[str]:
        found, cursor = [], None
        while True:
            params = {"queue": "listed", "limit": 2, **({"cursor": cursor} if cursor else {})}
            page = api.get("/runs", params=params).json()
            found += [each["name"] for each in page["runs"]]
            if (cursor := page["cursor"]) is None:
                return found

    wait_for(lambda: pages() == names[::-1])
    moment = store.read(api.home, names[1]).created_at
    since = {each["name"] for each in api.get("/runs", params={"queue": "listed", "since": moment}).json()["runs"]}
    assert since == set(names[1:])
    for wrong in ({"state": "over"}, {"label": "x"}, {"since": "soon"}, {"cursor": "x"}, {"limit": 0}, {"since": "1"}):
        assert api.get("/runs", params=wrong).status_code in (200, 422)
        assert wrong == {"since": "1"} or api.get("/runs", params=wrong).status_code == 422, wrong


# --- With a runner ---


def test_a_run_of_a_pipeline_from_its_start_to_its_result(api: Api, runner: RunnerProcess) -> None:
    answer = create(api, pipeline="nightly", parameters={"day": "monday"}, environment="prod", queue="served")
    name = answer.json()["name"]
    assert answer.json()["labels"] == {"pipeline": "nightly", "environment": "prod"}
    assert answer.json()["trigger"] == "pipeline"
    over = api.get(f"/runs/{name}", params={"wait": 30}).json()
    assert (over["state"], over["exit"]["kind"]) == ("completed", "success")
    assert api.get(f"/runs/{name}/result").json() == {"state": "completed", "attempt": 1, "result": {"say": [1]}}
    outcome = api.get(f"/runs/{name}/outcome").json()
    assert (outcome["state"], outcome["tasks"], outcome["result"]) == ("completed", {"say": "completed"}, {"say": [1]})
    (task,) = api.get(f"/runs/{name}/tasks").json()["tasks"]
    assert task["status"] == "completed" and not {"command", "args", "env", "cwd"} & task.keys()
    assert api.get(f"/runs/{name}/logs/say").text == "monday\n"
    everything = "".join(api.get(f"/runs/{name}{each}").text for each in ("", "/tasks", "/events", "/outcome"))
    assert "hunter2" not in everything and "monday" not in everything and str(api.home.root) not in everything


def test_a_body_that_is_nested_too_deep_is_refused(api: Api) -> None:
    """In the one place that takes any JSON; with a key, by which bodies are told apart."""
    body = '{"tasks": [{"command": "true"}], "slurm": {"a": %s}}' % ("[" * 500 + "]" * 500)
    for headers in (JSON, {**JSON, "Idempotency-Key": "deep"}):
        answer = api.post("/runs", content=body, headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")


def test_a_log_is_followed_and_a_run_stopped(api: Api, runner: RunnerProcess) -> None:
    script = "echo first; while [ ! -e go ]; do sleep 0.05; done; echo second; exec sleep 600"
    where = api.home.root
    tasks = [{"id": "t", "command": "sh", "args": ["-c", script], "cwd": str(where)}]
    name = create(api, tasks=tasks, queue="served").json()["name"]
    wait_for(lambda: api.get(f"/runs/{name}").json()["state"] == "working")
    headers = {"Authorization": f"Bearer {api.token('read')}"}
    with api.http.stream("GET", f"{BASE}/runs/{name}/logs/t", params={"follow": "true"}, headers=headers) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "first"
        (where / "go").touch()
        assert next(lines) == "second"
        stopping = api.post(f"/runs/{name}/cancel", scope="cancel", json={"why": "enough"}).json()
        assert stopping["state"] == "cancelled" or stopping["stop"]["by"].startswith("token cancel of a test (")
        assert list(lines) == []
    over = api.get(f"/runs/{name}", params={"wait": 30}).json()
    assert over["state"] == "cancelled" and over["reason"].endswith(": enough")
    assert api.post(f"/runs/{name}/cancel").json()["state"] == "cancelled"
    assert api.post(f"/runs/{name}/retry", scope="submit", json={"keep_completed": True}).json()["attempt"] == 2
    assert api.post(f"/runs/{name}/retry").status_code == 409
    api.post(f"/runs/{name}/cancel")


def test_a_failure_is_told_for_people(api: Api, runner: RunnerProcess) -> None:
    tasks = [{"id": "t", "command": "sh", "args": ["-c", "echo no cheese; exit 3"]}]
    name = create(api, tasks=tasks, queue="served").json()["name"]
    assert api.get(f"/runs/{name}", params={"wait": 30}).json()["state"] == "failed"
    text = api.get(f"/runs/{name}/failure").json()["text"]
    assert "exit code 3" in text and "no cheese" in text and str(api.home.root) not in text


def test_tasks_are_added_to_a_run_that_works(api: Api, runner: RunnerProcess) -> None:
    tasks = [{"id": "t", "command": "sh", "args": ["-c", "while [ ! -e more ]; do sleep 0.05; done"]}]
    name = create(api, tasks=[{**tasks[0], "cwd": str(api.home.root)}], queue="served").json()["name"]
    more = {"tasks": [{"id": "u", "command": "echo", "args": ["more"], "dependencies": ["t"]}]}
    wait_for(lambda: api.get(f"/runs/{name}").json()["state"] == "working")
    assert api.post(f"/runs/{name}/tasks", scope="submit", json=more).json() == {"ids": ["u"]}
    (api.home.root / "more").touch()
    assert api.get(f"/runs/{name}", params={"wait": 30}).json()["state"] == "completed"
    assert api.get(f"/runs/{name}/logs/u").text == "more\n"
    assert api.post(f"/runs/{name}/tasks", json=more).status_code == 409


def test_ends_are_told_until_they_are_dealt_with(api: Api, runner: RunnerProcess) -> None:
    where = "/ends/pipeline/nightly/listener"
    assert api.ask("PUT", where, "read").status_code == 204
    name = create(api, pipeline="nightly", parameters={"day": "d"}, queue="served").json()["name"]
    told = api.get(where, scope="read", params={"wait": 30}).json()["ends"]
    assert told == [{"run": name, "attempt": 1}] == api.get(where).json()["ends"]
    assert api.ask("DELETE", f"{where}/{name}/1", "read").status_code == 204
    assert api.get(where).json()["ends"] == []
    assert api.ask("DELETE", where, "read").status_code == 204


def test_so_many_listen(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ends, "MAX_LISTENERS", 1)
    for listener, status in (("a", 204), ("b", 503), ("a", 204)):
        assert api.ask("PUT", f"/ends/job/x/{listener}", "read").status_code == status
    assert api.ask("DELETE", "/ends/job/x/a", "read").status_code == 204
    assert api.ask("PUT", "/ends/job/x/b", "read").status_code == 204
    assert api.ask("DELETE", "/ends/job/x/b", "read").status_code == 204


def test_queues_are_paused_and_resumed(api: Api, runner: RunnerProcess) -> None:
    assert api.post("/queues/served/pause", json={"why": "moving"}).json() == {"changed": True}
    paused = wait_for(lambda: [each for each in api.get("/queues").json()["queues"] if each["paused"]])
    assert paused[0]["name"] == "served" and paused[0]["paused"]["by"].startswith("token admin of a test (")
    assert api.post("/queues/served/resume").json() == {"changed": True}
    health = wait_for(lambda: api.get("/health").json())
    assert [each["id"] for each in health["runners"]] == [runner.id]


def test_a_wait_ends_in_time_and_holds_no_thread(api: Api) -> None:
    """More wait than the server has threads, and others are answered meanwhile."""
    name = create(api, queue="nobody-serves-it").json()["name"]
    headers = {"Authorization": f"Bearer {api.token('read')}"}

    def wait(_: int) -> str:
        state: str = api.http.get(f"{BASE}/runs/{name}", params={"wait": 60}, headers=headers).json()["state"]
        return state

    with ThreadPoolExecutor(60) as pool:
        waiting = [pool.submit(wait, each) for each in range(60)]
        assert api.get(f"/runs/{name}", params={"wait": 0.01}).json()["state"] == "waiting"
        finish(api.home, name)
        assert {each.result(30) for each in waiting} == {"completed"}


def test_time_is_told_as_in_files(api: Api) -> None:
    assert model.parse_time(create(api, queue="q").json()["created_at"]).timestamp() <= time.time() + 1
