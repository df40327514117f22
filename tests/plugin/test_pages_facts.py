"""What the pages say of jobs, and what they never say; pieces of logs."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from air_executor import audit, held, model, pauses, processes, runners, spool, store, told
from air_executor.client import AirExecutorClient
from air_executor.paths import Home, JobPaths
from air_executor.slurm import condition, record
from air_executor.testing import running_runner, wait_for
from airflow_plugin import links
from airflow_plugin.plugin import AirExecutorPlugin
from tests.plugin import fleet, visitors
from tests.plugin.visitors import Web, credentials, documents, facts, logtail, lookout, readings

SENTINEL = "hunter2"
POST = {"X-Air-Executor": "1"}


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with visitors.api_server_with("tests.plugin.visitors.LimitedAuthManager") as client:
        yield client


def get(web: Web, path: str, status: int = 200) -> Any:
    answer = web.request("GET", f"/air-executor/api/{path}", headers=credentials("admin"))
    assert answer.status_code == status, answer.text
    assert SENTINEL not in answer.text
    return answer.json() if answer.content else None


def post(web: Web, path: str, **body: Any) -> None:
    headers = {**credentials("admin"), **POST}
    answer = web.request("POST", f"/air-executor/api/{path}", headers=headers, json=body)
    assert answer.status_code == 200, answer.text


def test_a_life_on_the_pages(web: Web, home: Home) -> None:
    """A real runner: what cannot start, what hands a result over, what is cancelled and run again by hand."""
    api = AirExecutorClient(home.root)
    secrets = {"env": {"TOKEN": SENTINEL}}
    file = home.root / SENTINEL
    file.touch()
    commands: list[dict[str, Any]] = [{"command": f"/{SENTINEL}/no such: program"}, {"command": str(file)}]
    commands += [{"command": SENTINEL}, {"command": "true", "cwd": f"/{SENTINEL}"}]
    api.create_job("unstartable", [{**secrets, **each} for each in commands])
    script = f'echo \'{{"x": "{SENTINEL}"}}\' > $AIR_EXECUTOR_OUTPUT; echo said'
    api.create_job("handing", [{"id": "a", "command": "sh", "args": ["-c", script], **secrets}])
    api.create_job(
        "long", [{"id": "a", "command": "sh", "args": ["-c", f"echo began; sleep 60; {SENTINEL}"], **secrets}]
    )
    with running_runner(home, "--slots", "3"):
        wait_for(lambda: home.job("long").log("a").is_file() and get(web, "job/long/log/a")["text"] == "began\n")
        wait_for(lambda: api.get_job("unstartable").state.terminal and api.get_job("handing").state.terminal)
        overview = get(web, "overview")
        assert [job["name"] for job in overview["working"]] == ["long"]
        assert [job["name"] for job in overview["failed"]] == ["unstartable"]
        (runner,) = overview["runners"]
        assert (runner["state"], runner["working"] <= runner["slots"]) == ("alive", True)
        assert overview["problems"] == []
        assert runner["load"] is None or runner["load"] >= 0
        steer(web, runner["id"])
        post(web, "job/long/cancel", why="enough")
        wait_for(lambda: api.get_job("long").state.terminal)
    cancelled = get(web, "job/long")
    assert cancelled["reason"] == "cancelled by airflow user admin: enough"
    assert [event["to"] for event in cancelled["events"]] == ["waiting", "working", "cancelled"]
    post(web, "job/long/retry")
    again = get(web, "job/long")
    assert (again["state"], again["attempt"], again["events"][-1]["by"]) == ("waiting", 2, "airflow user admin")
    assert again["notes"] == ["no runner serves the queue default"]
    unstartable = get(web, "job/unstartable")
    errors = [task["error"].partition(" on ")[0] for task in unstartable["tasks"]]
    place = "its working directory is not a directory"
    assert errors == ["command not found", "not executable", "command not found", place]
    assert "command not found" in unstartable["reason"]
    assert get(web, "job/handing")["state"] == "completed"
    reasons = get(web, "history?begin=0&end=1e10&step=1e9")["reasons"]
    assert len(reasons) == 1 and "command not found" in reasons[0][0]


def steer(web: Web, runner: str) -> None:
    """Whatever is asked of a runner or queue shows on the pages, with the name of who asked."""

    def comes(state: str, slots: int) -> None:
        def shown() -> bool:
            (found,) = get(web, "overview")["runners"]
            return (found["state"], found["slots"]) == (state, slots)

        wait_for(shown, what=f"a runner that is {state} with {slots} slots")

    post(web, f"runner/{runner}/drain", why="new disk")
    comes("draining", 3)
    post(web, f"runner/{runner}/resume")
    post(web, f"runner/{runner}/set", slots=4)
    comes("alive", 4)
    post(web, "queue/gpu/pause", why="no gpu")
    wait_for(lambda: get(web, "overview")["queues"][-1]["paused"])
    steered = get(web, "overview")["steered"]
    assert {"airflow user admin"} == {event["by"] for event in steered if event["what"] != "started"}
    assert [event["why"] for event in steered if event["what"] in ("drain", "pause")] == ["new disk", "no gpu"]
    refused = web.request(
        "POST",
        f"/air-executor/api/runner/{runner}/set",
        headers={**credentials("admin"), **POST},
        json={"slots": 0},
    )
    assert refused.status_code == 422 and "slots" in refused.text


def submit(home: Home, name: str = "one", tasks: int = 1, **options: Any) -> model.Job:
    made = [model.Task("true", id=f"t{number}") for number in range(tasks)]
    return store.submit(home, store.Submission(model.Job(name=name, **options), made))


def test_nothing_is_told_twice(web: Web, home: Home) -> None:
    submit(home)
    known = get(web, "job/one")["known"]
    assert get(web, f"job/one?known={known}", 204) is None
    AirExecutorClient(home.root).cancel("one")
    assert get(web, f"job/one?known={known}")["state"] == "cancelled"


def test_what_changes_while_it_is_looked_at_is_told_the_next_time(
    web: Web, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(home)

    def cancel(*_: object) -> list[str]:
        AirExecutorClient(home.root).cancel("one")
        return []

    with monkeypatch.context() as patch:
        patch.setattr(lookout.Lookout, "notes", cancel)
        before = get(web, "job/one")
    assert before["state"] == "waiting"
    assert get(web, f"job/one?known={before['known']}")["state"] == "cancelled"


def test_another_question_is_always_answered(web: Web, home: Home) -> None:
    submit(home, tasks=2)
    known = get(web, "job/one")["known"]
    assert get(web, f"job/one?known={known}&status=failed")["tasks"] == []
    assert len(get(web, f"job/one?known={known}&offset=1")["tasks"]) == 1


def test_what_takes_long_to_read_is_read_for_all_who_ask() -> None:
    kept, reads = readings.Readings(), []

    def read() -> dict[str, Any]:
        reads.append(len(reads))
        return {"read": len(reads)}

    def ask(question: str = "a", stage: str = "working", sign: str = "1") -> int:
        told: int = kept.get(question, stage, lambda: sign, read).told["read"]
        return told

    assert [ask(), ask()] == [1, 1]
    wait_for(lambda: ask(sign="2") == 2, what="a reading that took no time to be read again")
    assert ask(sign="2", stage="completed") == 3
    for number in range(readings.KEPT):
        ask(str(number))
    assert ask(sign="2", stage="completed") == len(reads) == readings.KEPT + 4, "forgotten for the others"


def test_a_reading_that_took_long_serves_for_a_while() -> None:
    moment = [0.0]
    kept = readings.Readings(clock=lambda: moment[0])

    def ask(sign: str) -> str:
        def read() -> dict[str, Any]:
            moment[0] += 0.5
            return {}

        return kept.get("a", "working", lambda: sign, read).sign

    assert ask("1") == "1"
    moment[0] = 5.4
    assert ask("2") == "1"
    moment[0] = 5.6
    assert ask("2") == "2"


def test_who_steered_is_read_when_there_is_something_new(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookout, "LOOK_EVERY", 0.0)
    watch = lookout.Lookout(home)
    with contextlib.closing(watch.index):
        audit.record_queue(home, "q", "pause", by="ana")
        first = watch.view().steered
        assert watch.view().steered is first
        audit.record_queue(home, "q", "resume", by="ben")
        assert [each["by"] for each in watch.view().steered] == ["ana", "ben"]


def test_a_mistake_in_the_settings_is_a_problem_that_the_page_shows(home: Home) -> None:
    home.config.write_text("[runner]\nslotz = 3\n")
    watch = lookout.Lookout(home)
    with contextlib.closing(watch.index):
        (problem,) = [each for each in watch.view().problems if "unknown option in [runner] slotz" in each]
    assert "no runner can start" in problem


def test_tasks_come_in_pages_and_by_status(web: Web, home: Home) -> None:
    submit(home, tasks=5)
    told = get(web, "job/one?offset=3&limit=10")
    assert ([task["id"] for task in told["tasks"]], told["total"], told["counts"]) == (["t3", "t4"], 5, {"pending": 5})
    told = get(web, "job/one?status=failed")
    assert (told["tasks"], told["total"], told["counts"]) == ([], 0, {"pending": 5})


def test_other_peoples_words_arrive_as_they_are(web: Web, home: Home) -> None:
    label = '<img src=x onerror="alert(1)">\ud800\u202e'
    submit(home, labels={"note": label})
    assert get(web, "job/one")["labels"] == {"note": label}
    assert (
        web.request("GET", "/air-executor/api/jobs", headers=credentials("admin")).headers["content-type"]
        == "application/json"
    )


BAD_QUERIES = (
    "jobs?state=tired",
    "jobs?label=x",
    "jobs?before=x",
    "jobs?limit=0",
    "history?begin=5&end=1",
    "job/one/log/t0?offset=-1",
)


@pytest.mark.parametrize("path", BAD_QUERIES)
def test_a_bad_question_is_refused(web: Web, home: Home, path: str) -> None:
    submit(home)
    get(web, path, 422)


@pytest.mark.parametrize("task", ["none", ".only.reason", "..%2fstate", "a" * 300])
def test_a_log_that_is_not_there(web: Web, home: Home, task: str) -> None:
    submit(home)
    get(web, f"job/one/log/{task}", 404)


def test_a_reason_names_no_program() -> None:
    assert told.sentence("a failed: cannot start /x/y: z: No such file") == "a failed: cannot start it: No such file"
    assert told.sentence(None) is None


def test_only_plain_values_of_a_file_are_told() -> None:
    odd = {"a": {"x": SENTINEL}, "b": float("nan"), "c": ["x", {"y": SENTINEL}], "d": 1, "e": True, "f": None}
    assert told.pick(odd, "abcdefg") == {"a": None, "b": None, "c": ["x"], "d": 1, "e": True, "f": None}


def test_added_tasks_are_counted_and_not_told() -> None:
    events = told.of_events([{"event": "tasks", "by": "a", "tasks": [{"env": {"TOKEN": SENTINEL}}], "x": SENTINEL}])
    assert events == [{"event": "tasks", "by": "a", "why": None, "added": 1}]


def test_where_airflow_shows_a_task_instance() -> None:
    labels = {"dag_id": "a/b", "run_id": "manual__1+2", "task_id": "t", "map_index": "-1"}
    assert facts.airflow_place(labels) == "dags/a%2Fb/runs/manual__1%2B2/tasks/t"
    assert facts.airflow_place({**labels, "map_index": "3"}) == "dags/a%2Fb/runs/manual__1%2B2/tasks/t/mapped/3"
    assert facts.airflow_place({"dag_id": "a"}) is None


# --- Logs ---


@pytest.fixture
def paths(tmp_path: Path) -> JobPaths:
    (tmp_path / "job" / "logs").mkdir(parents=True)
    return JobPaths(tmp_path / "job")


def test_pieces_make_the_whole(paths: JobPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logtail, "PIECE", 7)
    text = "aé€😀\n" * 9
    paths.log("t").write_text(text)
    offset, found = 0, ""
    while (piece := logtail.read(paths, "t", offset, final=False)).text:
        assert piece.start == offset
        offset, found = piece.next, found + piece.text
    assert found == text and "\ufffd" not in found


def test_half_a_character_is_waited_for_unless_nothing_follows(paths: JobPaths) -> None:
    paths.log("t").write_bytes("a€".encode()[:-1])
    assert logtail.read(paths, "t", 0, final=False) == logtail.Piece(0, 1, 3, "a")
    assert logtail.read(paths, "t", 1, final=True) == logtail.Piece(1, 3, 3, "\ufffd")


def test_the_end_of_a_long_log_begins_with_a_line(paths: JobPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logtail, "PIECE", 12)
    paths.log("t").write_text("one\ntwo\nthree\nfour\n")
    assert logtail.read(paths, "t", None, final=True) == logtail.Piece(8, 19, 19, "three\nfour\n")


def test_a_log_that_became_shorter_is_read_anew(paths: JobPaths) -> None:
    paths.log("t").write_text("new\n")
    assert logtail.read(paths, "t", 100, final=False) == logtail.Piece(0, 4, 4, "new\n")


def test_nothing_outside_the_job_is_read(paths: JobPaths, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "t.log").write_text(SENTINEL)
    paths.log("link").symlink_to(secret / "t.log")
    os.mkfifo(paths.log("fifo"))
    paths.log("directory").mkdir()
    for name in ("link", "fifo", "directory"):
        with pytest.raises(OSError):
            logtail.read(paths, name, 0, final=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "logs").symlink_to(secret)
    (tmp_path / "linked").symlink_to(paths.root)
    paths.log("t").write_text("x")
    for job in ("other", "linked"):
        with pytest.raises(OSError):
            logtail.read(JobPaths(tmp_path / job), "t", 0, final=True)


# --- In Airflow ---


def test_the_address_of_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.org/team/")
    assert links.job_address("one") == "https://airflow.example.org/team/air-executor/job/one"


def test_what_airflow_shows_is_there(web: Web) -> None:
    for view in AirExecutorPlugin.external_views:
        for address in (view["href"], view["icon"], view["icon_dark_mode"]):
            assert web.request("GET", f"/{address}", headers=credentials("viewer")).status_code == 200
    json.dumps(AirExecutorPlugin.external_views)


def test_the_document_knows_where_it_is() -> None:
    path = "/team/air-executor"
    with visitors.api_server_with("tests.plugin.visitors.LimitedAuthManager", root_path="/team") as web:
        page = web.request("GET", f"{path}/job/one", headers=credentials("viewer")).text
        assert '<base href="/team/air-executor/"' in page and "{version}" not in page
        moved = web.request("GET", f"{path}/jobs/one", headers=credentials("viewer"))
        assert moved.headers["location"] == "/team/air-executor/job/one"
        login = web.request("GET", f"{path}/job/one")
        assert login.status_code == 401 and 'href="/team/api/v2/auth/login?next=' in login.text
        assert web.request("GET", f"{path}/api/jobs").headers["content-type"] == "application/json"


def test_a_wrong_option_is_said(web: Web, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__AIR_EXECUTOR__BASE_PATH", "relative")
    assert "base_path must be an absolute path" in get(web, "jobs", 503)["detail"]


def test_scripts_make_no_html_of_words() -> None:
    """What is shown goes in as text: nothing in a script can parse HTML, run text as code, or set a style."""
    for name, content in documents.assets().items():
        if name.endswith(".js"):
            for word in (
                "innerHTML",
                "outerHTML",
                "insertAdjacent",
                "document.write",
                "eval(",
                "DOMParser",
                "javascript:",
                "srcdoc",
                '"style"',
                "style:",
            ):
                assert word.encode() not in content, f"{name} has {word}"
    assert b"<script>" not in documents.STATIC.joinpath("index.html").read_bytes()


def test_a_job_whose_runner_is_gone_says_so(web: Web, home: Home) -> None:
    job, gone = submit(home), processes.identify(os.getpid())
    gone.start_time += 1  # so it is no process that lives
    moment = model.now()
    runners.write(home, runners.RunnerInfo("r1", gone, ["default"], 1, "fork", "0", moment, moment, 3.0))
    spool.claim(home, spool.marker_of(job), "r1")
    with held.HeldJob.acquire(home, "one") as locked:
        locked.start(gone, by="r1")
    (note,) = get(web, "job/one")["notes"]
    assert note.startswith("the runner r1 is gone; ")
    assert any("r1 is gone" in problem for problem in get(web, "overview")["problems"])


def test_a_paused_queue_is_why_a_job_waits(web: Web, home: Home) -> None:
    submit(home, queue="q")
    pauses.pause(home, "q", by="somebody", why="a reason")
    assert get(web, "job/one")["notes"][-1].endswith("by somebody: a reason")


def test_a_home_that_nobody_has_used_yet(web: Web, home: Home) -> None:
    shutil.rmtree(home.root)
    assert "is not there" in get(web, "overview")["problems"][0]
    assert get(web, "jobs")["jobs"] == []
    assert not home.root.exists()


def test_what_failed_last_comes_first() -> None:
    rows: list[Any] = [SimpleNamespace(finished=moment) for moment in (2.0, None, 3.0, 1.0)]
    assert [row.finished for row in facts.latest_ends(rows)] == [3.0, 2.0, 1.0, None]


def test_how_a_job_and_its_runner_stand_in_slurm(web: Web, home: Home) -> None:
    at = "2026-01-02T03:04:05.000000Z"
    submit(home)
    assert get(web, "job/one")["slurm"] is None and get(web, "overview")["slurm"] == []
    extra = [f"--comment={SENTINEL}", "--exclusive"]
    submit(home, "two", slurm={"partition": "gpu", "cpus": 2, "extra": extra})
    told = get(web, "job/two")
    asked = {"partition": "gpu", "cpus": 2, "extra": ["--comment", "--exclusive"]}
    assert told["slurm"] == {"asked": asked, "there": None} and told["notes"] == ["no runner serves the queue default"]
    noted = record.Record(1, "two.aaaaaaaabbbbbbbb", at, id="12", state="PENDING", reason="PartitionDown")
    record.write(home.job("two"), noted, durable=False)
    told = get(web, f"job/two?known={told['known']}")
    there = told["slurm"]["there"]
    assert (there["id"], there["state"], there["stuck"]) == ("12", "PENDING", True)
    assert there["says"] == "its partition is down (PartitionDown)" and told["notes"] == [
        f"in Slurm: {there['says']}; that does not pass by waiting"
    ]
    fleet.serve(home, "default")
    runner = condition.Condition(fleet.RUNNER, at, states={"PENDING": 1}, reasons={"PartitionDown": 1})
    condition.write(home, dataclasses.replace(runner, trouble="squeue: no answer", trouble_since=at))
    lookout.of(home).look_anew()
    overview = get(web, "overview")
    [found] = overview["slurm"]
    assert (found["answers"], found["waiting"], found["trouble"]) == (False, 1, "squeue: no answer")
    assert found["waits"] == [{"says": there["says"], "jobs": 1, "stuck": True}]
    assert sum("Slurm" in problem for problem in overview["problems"]) == 2
