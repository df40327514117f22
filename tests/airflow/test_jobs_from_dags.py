"""DAGs that hand jobs over, under AirExecutor and LocalExecutor: the examples, and what goes wrong with others."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
import pytest

from air_executor import paths
from air_executor.http import tokens
from tests.airflow import databases, rest, stack, waiting
from tests.airflow.home import Job
from tests.airflow.postgres import Postgres

ROOT = Path(__file__).parents[2]
EXECUTORS = ("airflow_plugin.AirExecutor", "LocalExecutor")
EXAMPLES = ("job_with_client", "job_with_operator", "job_deferrable", "job_pipeline", "job_mapped", "job_decorated")
OURS = ("jobs_long", "jobs_killed", "jobs_existing", "jobs_many", "jobs_sensed", "jobs_refused", "jobs_over_http")
LIMIT = 15.0
"""Seconds from Airflow's decision to the end of the last process."""

pytestmark = pytest.mark.timeout(900)


F = TypeVar("F", bound=Callable[..., None])


def on_both(test: F) -> F:
    """Under LocalExecutor, too; the others have nothing to do with the executor that runs the DAG."""
    test.on_both = True  # type: ignore[attr-defined]
    return test


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "airflow" in metafunc.fixturenames:
        executors = EXECUTORS if hasattr(metafunc.function, "on_both") else EXECUTORS[:1]
        metafunc.parametrize("airflow", executors, indirect=True, scope="module")


@pytest.fixture(scope="module")
def airflow(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.Stack]:
    """A running Airflow with the examples, and a runner."""
    root = tmp_path_factory.mktemp("jobs")
    dags = root / "dags"
    shutil.copytree(Path(__file__).parent / "job_dags", dags, ignore=shutil.ignore_patterns("__pycache__"))
    for example in (ROOT / "examples" / "dags").glob("job_*.py"):
        shutil.copy(example, dags)
    server: Postgres = request.getfixturevalue("postgres_server")
    database = databases.PostgresDatabase(server, f"jobs_{request.param.rpartition('.')[2].lower()}")
    settings = {"CORE__PARALLELISM": "16"}
    if request.param != "LocalExecutor":  # which would keep the scheduler spinning
        settings["SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME"] = "0"
    settings["CORE__DAGS_ARE_PAUSED_AT_CREATION"] = "False"  # the DAG processor asks for events of DAGs that are not
    started = stack.Stack(root, database, executor=request.param, dags=dags, settings=settings)
    started.environment["AIRFLOW_CONN_UNREACHABLE"] = '{"conn_type": "air_executor", "host": "/nowhere/at/all"}'
    remote = connection(started)
    started.environment["AIRFLOW_CONN_OVER_HTTP"] = json.dumps(remote)
    pipelines = started.home.path / "pipelines"
    pipelines.mkdir(parents=True)
    shutil.copy(ROOT / "examples" / "pipelines" / "nightly.toml", pipelines)
    with started, contextlib.ExitStack() as runners:
        wanted = {*EXAMPLES, *OURS, "job_chaining"}
        waiting.until(lambda: started.rest.dag_ids() >= wanted or started.rest.import_errors(), "all DAGs", 120)
        assert started.rest.import_errors() == []
        if request.param == "LocalExecutor":
            runners.enter_context(started.runner("default"))
        else:
            serve(started, remote["port"])
        yield started


def connection(airflow: stack.Stack) -> dict[str, Any]:
    """A connection to the home over HTTP."""
    [port] = stack.free_ports(1)
    _, token = tokens.create(paths.Home(airflow.home.path), "a DAG", ("read", "submit", "cancel"), by="a test")
    return {"conn_type": "air_executor", "host": "http://127.0.0.1", "port": port, "password": token}


def serve(airflow: stack.Stack, port: int) -> None:
    airflow.spawn("http", [str(stack.BIN / "air-executor"), "serve", "--port", str(port)])
    address = f"http://127.0.0.1:{port}/api/v1/health"

    def answers() -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(address, trust_env=False).is_success
        return False

    waiting.until(answers, "the HTTP API to answer", 60)


def xcom(airflow: stack.Stack, run: rest.Run, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
    path = f"dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task_id}/xcomEntries/{key}"
    return airflow.rest.get(path, map_index=map_index, deserialize=False, stringify=False)["value"]


def outcome(airflow: stack.Stack, run: rest.Run, task_id: str) -> dict[str, Any]:
    found = xcom(airflow, run, task_id)
    assert set(found) == {"state", "job", "tasks", "result", "usage"}
    return dict(found)


def job(airflow: stack.Stack, run: rest.Run, task_id: str) -> Job:
    """The job that the task handed over."""
    return Job(airflow.home.path / "jobs" / xcom(airflow, run, task_id, "job"))


def clear(airflow: stack.Stack, run: rest.Run, *task_ids: str) -> None:
    body = {"dry_run": False, "dag_run_id": run.run_id, "task_ids": list(task_ids), "only_failed": False}
    airflow.rest.post(f"dags/{run.dag_id}/clearTaskInstances", body)


def succeed(airflow: stack.Stack, dag_id: str, seconds: float = 180, **given: Any) -> rest.Run:
    run = airflow.rest.trigger(dag_id, **given)
    assert airflow.rest.finished(run, seconds) == "success", airflow.rest.states(run)
    return run


# --- The examples ---


@on_both
def test_with_the_client(airflow: stack.Stack) -> None:
    run = succeed(airflow, "job_with_client")
    assert xcom(airflow, run, "get_result") == {"add": {"sum": 5}}


@on_both
def test_with_the_operator(airflow: stack.Stack) -> None:
    run = succeed(airflow, "job_with_operator", conf={"name": "somebody"})
    found = outcome(airflow, run, "work")
    assert found["state"] == "completed" and found["result"] == {"add": {"sum": 5}}
    assert found["tasks"] == dict.fromkeys(["greet", "left", "right", "add"], "completed")
    assert xcom(airflow, run, "show") == 5
    labels = job(airflow, run, "work").labels
    assert (labels["dag_id"], labels["task_id"], labels["run_id"]) == ("job_with_operator", "work", run.run_id)
    assert (labels["team"], labels["try_number"]) == ("examples", "1")
    assert "hello somebody" in job(airflow, run, "work").log
    listed = airflow.air_executor("list", "--trigger", "operator", "--label", f"run_id={run.run_id}", "--json")
    assert found["job"] in listed.stdout


def test_the_link_leads_to_the_job(airflow: stack.Stack) -> None:
    run = succeed(airflow, "job_with_operator")
    path = f"dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/work/links"
    address = airflow.rest.get(path)["extra_links"]["Air-Executor job"]
    name = outcome(airflow, run, "work")["job"]
    assert address.endswith(f"/job/{name}")
    headers = {"Authorization": f"Bearer {airflow.rest.log_in()}"}
    assert httpx.get(address, headers=headers, trust_env=False).headers["content-type"].startswith("text/html")
    facts = httpx.get(address.replace("/job/", "/api/job/"), headers=headers, trust_env=False).json()
    assert (facts["name"], facts["state"]) == (name, "completed")


@on_both
def test_deferrable(airflow: stack.Stack) -> None:
    run = succeed(airflow, "job_deferrable")
    assert outcome(airflow, run, "work")["tasks"] == {"sleep": "completed"}
    assert job(airflow, run, "work").state["timeout"] == 600.0
    logs = (airflow.root / "logs").rglob(f"run_id={run.run_id}/task_id=work/attempt=*.log")
    assert any("Pausing task as DEFERRED" in log.read_text() for log in logs)


def test_tasks_that_wait_do_not_keep_all_slots_from_their_jobs(airflow: stack.Stack) -> None:
    """There are sixteen slots, and twenty-four tasks that wait on a worker."""
    run = succeed(airflow, "jobs_many")
    assert set(airflow.rest.states(run).values()) == {"success"}


@on_both
def test_a_pipeline_and_the_dag_that_follows_it(airflow: stack.Stack) -> None:
    listeners = airflow.home.path / "spool" / "listeners"
    waiting.until(lambda: list(listeners.iterdir()), "the triggerer to listen", 60)
    run = succeed(airflow, "job_pipeline")
    found = outcome(airflow, run, "nightly")
    assert set(found["tasks"].values()) == {"completed"}
    labels = job(airflow, run, "nightly").labels
    assert (labels["pipeline"], labels["environment"], labels["task_id"]) == ("nightly", "dev", "nightly")

    def reacted() -> list[dict[str, Any]]:
        runs = [each for each, state in airflow.rest.run_states("job_chaining").items() if state == "success"]
        endings = [ending for each in runs for ending in xcom(airflow, each, "react")]
        return [ending for ending in endings if ending["job"] == found["job"]]

    (ending,) = waiting.until(reacted, "the DAG that follows to have run", 90)
    assert (ending["job"], ending["state"], ending["attempt"]) == (found["job"], "completed", 1)
    assert ending["labels"] == labels and ending["result"] == found["result"]


@on_both
def test_fifty_mapped_jobs(airflow: stack.Stack) -> None:
    run = succeed(airflow, "job_mapped", 300)
    assert xcom(airflow, run, "add_up") == sum(number * number for number in range(50))
    jobs = {xcom(airflow, run, "work", "job", number) for number in range(50)}
    assert len(jobs) == 50


@on_both
def test_decorated(airflow: stack.Stack) -> None:
    run = succeed(airflow, "job_decorated")
    assert xcom(airflow, run, "add_up") == len("filesarethequeue")
    assert job(airflow, run, "measure").state["max_parallel"] == 2


def test_sensors(airflow: stack.Stack) -> None:
    run = succeed(airflow, "jobs_sensed")
    for task_id in ("poke", "reschedule", "deferred"):
        assert outcome(airflow, run, task_id)["state"] == "completed"


# --- Again ---


def test_the_job_runs_once_though_the_worker_is_killed(airflow: stack.Stack) -> None:
    marks = airflow.root / "marks" / f"killed-{time.monotonic_ns()}"
    marks.mkdir(parents=True)
    run = airflow.rest.trigger("jobs_killed", conf={"marks": str(marks)})
    waiting.until((marks / "ran").exists, "the job to run", 60)
    ours = waiting.until(lambda: job(airflow, run, "work"), "the job's name", 30)
    for process in workers(airflow, run):
        process.send_signal(signal.SIGKILL)

    def second_try() -> bool:
        (task,) = airflow.rest.tasks(run)
        return task.try_number >= 2 and task.state == "running"

    waiting.until(second_try, "another try to wait", 120, 0.3)
    (marks / "go").touch()
    assert airflow.rest.finished(run, 60) == "success"
    assert (marks / "ran").read_text().splitlines() == [ours.name]
    assert Job(ours.path).state["attempt"] == 1


def workers(airflow: stack.Stack, run: rest.Run) -> list[psutil.Process]:
    """The processes of Airflow that wait: the task's own, and its supervisor."""
    (task,) = airflow.rest.tasks(run)
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if task.id in " ".join(process.cmdline()):
                found += [process, process.parent()]
    assert found
    return [process for process in found if process is not None]


def test_a_completed_job_is_reused_or_restarted_when_its_task_is_cleared(airflow: stack.Stack) -> None:
    run = succeed(airflow, "jobs_existing")
    before = {task_id: job(airflow, run, task_id) for task_id in ("reuse", "restart")}
    assert [found.state["attempt"] for found in before.values()] == [1, 1]
    clear(airflow, run, "reuse", "restart")
    assert airflow.rest.finished(run, 120) == "success"
    after = {task_id: job(airflow, run, task_id) for task_id in before}
    assert {task_id: found.state["attempt"] for task_id, found in after.items()} == {"reuse": 1, "restart": 2}
    assert outcome(airflow, run, "reuse")["job"] == before["reuse"].name


def tree(name: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if (process.info["cmdline"] or [""])[-1] == name:
            found += [process, *process.children(recursive=True)]
    return found


def waits(airflow: stack.Stack, run: rest.Run, task_id: str) -> bool:
    """Whether the task is where it is called after; what is deferred, once the triggerer knows of it."""
    if airflow.rest.states(run)[task_id] != task_id:
        return False
    if task_id == "running":
        return True
    (found,) = airflow.sql(
        "select count(*) from task_instance join trigger on trigger.id = task_instance.trigger_id"
        f" where run_id = '{run.run_id}' and task_id = '{task_id}' and triggerer_id is not null"
    )
    return bool(found[0])


@pytest.mark.parametrize("task_id", ["running", "deferred"])
def test_clearing_ends_the_processes_of_the_job(airflow: stack.Stack, task_id: str) -> None:
    run = airflow.rest.trigger("jobs_long")
    name = f"{task_id}-{run.run_id}"
    processes = waiting.until(lambda: len(found := tree(name)) >= 4 and found, "the tree to be there", 60)
    waiting.until(lambda: waits(airflow, run, task_id), f"the task to be {task_id}", 60, 0.3)
    began = time.monotonic()
    clear(airflow, run, task_id)
    waiting.until(lambda: not any(map(psutil.Process.is_running, processes)), "the tree to be gone", 60)
    took = time.monotonic() - began
    print("seconds until the last process was gone:", round(took, 1))
    ours = waiting.until(lambda: (f := job(airflow, run, task_id)).state["attempt"] == 2 and f, "another attempt", 60)
    waiting.until(lambda: len(tree(name)) >= 4 and waits(airflow, run, task_id), "the next tree", 60)
    airflow.rest.patch(f"dags/{run.dag_id}/dagRuns/{run.run_id}", {"state": "failed"})
    waiting.until(lambda: Job(ours.path).state["state"] == "cancelled", "the job to be cancelled", 60)
    both = [f"{each}-{run.run_id}" for each in ("running", "deferred")]
    waiting.until(lambda: not any(map(tree, both)), "the next trees to be gone", 60)
    assert took < LIMIT


def test_over_http(airflow: stack.Stack) -> None:
    """The worker, the triggerer, and the end of a task that is deferred."""
    run = airflow.rest.trigger("jobs_over_http")
    expected = {"works": "success", "hears": "success", "fails": "failed", "deferred": "deferred"}
    waiting.until(lambda: airflow.rest.states(run) == expected, "all but the one that goes on", 120, 0.3)
    assert outcome(airflow, run, "works")["result"] == {"only": 5}
    assert "no luck" in airflow.rest.log(run, "fails") and "code 7" in airflow.rest.log(run, "fails")
    assert "It is at http://127.0.0.1:" in airflow.rest.log(run, "works")
    ours = job(airflow, run, "deferred")
    waiting.until(lambda: waits(airflow, run, "deferred"), "the triggerer to wait for it", 60, 0.3)
    airflow.rest.patch(f"dags/{run.dag_id}/dagRuns/{run.run_id}", {"state": "failed"})
    waiting.until(lambda: Job(ours.path).state["state"] == "cancelled", "the job to be cancelled", 60)
    waiting.until(lambda: not tree(f"deferred-{run.run_id}"), "its processes to be gone", 60)
    assert ours.state["exit"]["reason"].startswith("cancelled by token a DAG (")


# --- Bad input ---

REFUSED = {
    "unknown_pipeline": "there is no pipeline nigtly",
    "missing_parameter": "day",
    "mistyped_parameter": "limit",
    "cycle": "wait for each other",
    "unknown_dependency": "depends on 'x', which is not a task of this job",
    "no_tasks": "a job needs at least one task",
    "unreachable_home": "points to /nowhere/at/all",
    "no_connection": "`nowhere` isn't defined",
    "taken": "taken",
    "no_json": "JSON",
    "too_big": "at most 1048576",
    "fails": "line 50",
}


@pytest.fixture(scope="module")
def refused(airflow: stack.Stack) -> rest.Run:
    airflow.air_executor("submit", "--name", "taken", "--", "true")
    run = airflow.rest.trigger("jobs_refused")
    assert airflow.rest.finished(run, 240) == "failed"
    assert set(airflow.rest.states(run).values()) == {"failed"}
    return run


@pytest.mark.parametrize("task_id", REFUSED)
def test_what_is_wrong_is_in_the_log_of_the_task(airflow: stack.Stack, refused: rest.Run, task_id: str) -> None:
    assert REFUSED[task_id] in airflow.rest.log(refused, task_id)


def test_the_log_of_a_failure_has_the_last_lines_and_the_code(airflow: stack.Stack, refused: rest.Run) -> None:
    log = airflow.rest.log(refused, "fails")
    assert "line 31" in log and "line 30\n" not in log and "7" in log and "only" in log


def test_no_job_is_left_in_between(airflow: stack.Stack, refused: rest.Run) -> None:
    ours = [found for found in airflow.home.jobs() if found.of(refused) and found.state["trigger"] == "operator"]
    assert {found.labels["task_id"]: found.state["state"] for found in ours} == dict.fromkeys(
        ["no_json", "too_big", "fails"], "failed"
    )


def test_the_connection_can_be_tested(airflow: stack.Stack) -> None:
    body = {"connection_id": "tested", "conn_type": "air_executor", "host": str(airflow.home.path)}
    answer = airflow.rest.post("connections/test", body)
    assert answer["status"] is True and "served by" in answer["message"], answer
    answer = airflow.rest.post("connections/test", {**body, "extra": json.dumps({"queue": "nobody"})})
    assert answer["status"] is False and "no runner serves its queue 'nobody'" in answer["message"]


def test_the_form_of_the_connection_is_told_to_the_page(airflow: stack.Stack) -> None:
    token = airflow.rest.log_in()
    address = f"http://127.0.0.1:{airflow.api_port}/ui/connections/hook_meta"
    metas = httpx.get(address, headers={"Authorization": f"Bearer {token}"}, trust_env=False).json()
    (ours,) = [meta for meta in metas if meta["connection_type"] == "air_executor"]
    assert ours["hook_name"] == "Air-Executor"
    over_http = {"organization", "jitter", "verify", "allow_plain"}
    assert set(ours["extra_fields"]) == {"environment", "queue", "poll_interval", *over_http}
    assert ours["standard_fields"]["host"]["title"] == "Home"
