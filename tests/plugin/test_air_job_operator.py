"""The operator against a real home, most of it without a runner: what it submits, finds, waits for and fails of.

All of it by the files of the home, and over HTTP.
"""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import structlog
from airflow.sdk import BaseOperator
from airflow.sdk.bases.operator import ExecutorSafeguard
from airflow.sdk.exceptions import AirflowException, AirflowNotFoundException, TaskDeferred

from air_executor import model, pauses, testing
from air_executor.client import AirExecutorClient
from air_executor.errors import AirExecutorError, HomeError, InvalidInputError, JobExistsError
from air_executor.paths import Home
from air_executor.remote.client import RemoteClient
from airflow_plugin import correlation
from airflow_plugin.links import AirJobLink
from airflow_plugin.operators import AirJobOperator
from tests.plugin import tasks
from tests.plugin.conftest import Way, only_files, only_http

pytestmark = pytest.mark.usefixtures("way")
TRUE = [{"id": "only", "command": "true"}]
PIPELINE = """
description = "for tests"
[params.day]
[params.table]
default = "orders"
[params.limit]
type = "number"
default = 60
[environments.dev]
[environments.prod]
[[tasks]]
id = "only"
command = "echo"
args = ["${day}", "${table}", "${limit}"]
"""


@pytest.fixture(autouse=True)
def safeguard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow lets only its worker execute operators."""
    monkeypatch.setattr(ExecutorSafeguard, "test_mode", True)


@pytest.fixture
def pipeline(home: Home) -> str:
    home.pipelines.mkdir(exist_ok=True)
    (home.pipelines / "nightly.toml").write_text(PIPELINE)
    return "nightly"


@pytest.fixture
def runner(home: Home) -> Iterator[testing.RunnerProcess]:
    with testing.running_runner(home) as runner:
        yield runner


def submit_only(operator: AirJobOperator, api: AirExecutorClient, **given: Any) -> model.Job:
    """The job, which nobody runs and nobody waits for."""
    operator.wait_for_completion = False
    return api.get_job(tasks.run(operator, **given)["job"])


def test_the_job_is_named_after_the_task_and_labelled(home: Home, api: AirExecutorClient) -> None:
    job = submit_only(AirJobOperator(task_id="work", tasks=TRUE, labels={"team": "a"}), api, map_index=3, try_number=2)
    assert job.name.startswith("dag-dag-work-manual__1-map3-") and job.trigger == "operator"
    given = {name: value for name, value in job.labels.items() if name != "idempotency_key"}
    assert given == {
        "team": "a",
        "dag_id": "dag",
        "task_id": "work",
        "run_id": "manual__1",
        "map_index": "3",
        "try_number": "2",
        "logical_date": "2026-01-31T00:00:00+00:00",
    }


@only_files
def test_the_name_is_that_of_the_run_and_not_of_the_try() -> None:
    def name(**given: Any) -> str:
        return correlation.job_name(tasks.Instance("work", **given))

    assert name() == name(try_number=2)
    others = [name(run_id="x"), name(map_index=0), name(dag_id="x"), correlation.job_name(tasks.Instance("x"))]
    assert len({name(), *others}) == 5
    assert len(name(run_id="r" * 300, dag_id="d" * 250)) <= 200


def test_what_is_given_arrives(home: Home, api: AirExecutorClient) -> None:
    home.config.write_text('[webhooks.chat]\nkind = "slack"\nurl = "https://chat.example.org/hook"\n')
    operator = AirJobOperator(
        task_id="work",
        tasks=[model.Task("echo", ["{{ ds }}"], id="a"), {"command": "true", "dependencies": ["a"], "retries": 2}],
        job_name="report-{{ ds }}",
        job_queue="heavy",
        priority=3,
        max_parallel=2,
        memory_mb=512,
        output_mb=5,
        on_failure="stop",
        slurm={"partition": "p-{{ ds }}", "cpus": "{{ 2 + 2 }}", "extra": ["--comment={{ ds }}"]},
        webhooks=("chat",),
        execution_timeout=timedelta(minutes=2),
    )
    job = submit_only(operator, api)
    assert (job.name, job.queue, job.priority, job.max_parallel) == ("report-2026-01-31", "heavy", 3, 2)
    assert (job.memory_mb, job.output_mb, job.on_failure, job.timeout) == (512, 5, "stop", 120.0)
    assert job.slurm == {"partition": "p-2026-01-31", "cpus": 4, "extra": ["--comment=2026-01-31"]}
    assert job.webhooks == ["chat"]
    first, second = api.get_tasks(job.name)
    assert first.args == ["2026-01-31"] and (second.dependencies, second.retries) == (["a"], 2)


def test_the_queue_is_the_one_where_tasks_of_airflow_go(
    home: Home, api: AirExecutorClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_QUEUE", "everyday")
    assert submit_only(AirJobOperator(task_id="work", tasks=TRUE), api).queue == "everyday"


def test_airflow_does_not_time_the_task_out_too(home: Home, api: AirExecutorClient) -> None:
    operator = AirJobOperator(task_id="work", tasks=TRUE, execution_timeout=timedelta(seconds=90))
    assert submit_only(operator, api).timeout == 90.0
    assert operator.execution_timeout is None
    assert submit_only(operator, api, run_id="another").timeout == 90.0  # as `dag.test` runs it, twice in a process


# --- Pipelines ---


def test_params_of_dag_task_and_run_go_to_the_pipeline(home: Home, api: AirExecutorClient, pipeline: str) -> None:
    with tasks.dag(params={"day": "monday", "table": "of the dag", "unrelated": 1}):
        operator = AirJobOperator(
            task_id="work", pipeline=pipeline, params={"table": "returns"}, pipeline_params={"limit": 5}
        )
    job = submit_only(operator, api, conf={"day": "{{ ds }} by hand", "also unrelated": 2})
    assert api.get_tasks(job.name)[0].args == ["{{ ds }} by hand", "returns", "5"]
    assert job.labels["pipeline"] == pipeline and job.trigger == "operator"


def test_explicit_parameters_go_before_and_are_templates(home: Home, api: AirExecutorClient, pipeline: str) -> None:
    operator = AirJobOperator(
        task_id="work",
        pipeline="{{ 'night' }}ly",
        params={"day": "monday"},
        pipeline_params={"day": "{{ ds }}"},
        environment="prod",
    )
    job = submit_only(operator, api)
    assert api.get_tasks(job.name)[0].args[0] == "2026-01-31" and job.labels["environment"] == "prod"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pipeline": "nigtly"}, "there is no pipeline nigtly"),
        ({"pipeline": "nightly"}, "day"),
        ({"pipeline": "nightly", "params": {"day": "x", "tabel": "y"}}, "tabel"),
        ({"pipeline": "nightly", "pipeline_params": {"day": "x", "limit": "soon"}}, "limit"),
        ({"pipeline": "nightly", "pipeline_params": {"day": "x"}, "environment": "moon"}, "no environment 'moon'"),
    ],
    ids=["unknown pipeline", "missing parameter", "unknown parameter", "mistyped parameter", "unknown environment"],
)
def test_a_pipeline_that_cannot_be_is_refused(
    home: Home, api: AirExecutorClient, pipeline: str, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(AirExecutorError, match=message):
        tasks.run(AirJobOperator(task_id="work", **given))
    assert list(api.list_jobs()) == []


# --- Bad input ---


def cycle() -> list[dict[str, Any]]:
    return [
        {"id": "a", "command": "true", "dependencies": ["b"]},
        {"id": "b", "command": "true", "dependencies": ["a"]},
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tasks": []}, "at least one task"),
        ({"tasks": cycle()}, "wait for each other: a -> b -> a"),
        ({"tasks": [{"command": "true", "dependencies": ["x"]}]}, "depends on 'x', which is not a task of this job"),
        ({"tasks": "true"}, "tasks must be a list of tasks, not str"),
        ({"tasks": {"command": "true"}}, "tasks must be a list of tasks, not dict"),
        ({"tasks": ["true"]}, "a task is a dictionary or a Task, not a str"),
        ({"tasks": [{"comand": "true"}]}, "a task has no 'comand'"),
        ({}, "give either pipeline or tasks"),
        ({"tasks": TRUE, "pipeline": "nightly"}, "give either pipeline or tasks, not both"),
        ({"tasks": TRUE, "pipeline_params": {"day": 1}}, "pipeline_params is for a pipeline"),
        ({"tasks": TRUE, "on_existing": "maybe"}, "on_existing"),
        ({"tasks": TRUE, "timeout": "5 minutes"}, "timeout must be a positive number, not '5 minutes'"),
        ({"tasks": TRUE, "timeout": timedelta(0)}, "timeout must be a positive number, not 0.0"),
        ({"tasks": TRUE, "poll_interval": "soon"}, "poll_interval must be a positive number, not 'soon'"),
        ({"tasks": TRUE, "poll_interval": -1}, "poll_interval must be a positive number, not -1"),
        ({"tasks": TRUE, "job_name": "../up"}, "the job name '../up' must start with"),
        ({"tasks": TRUE, "job_queue": "a/b"}, "the queue 'a/b' must start with"),
        ({"tasks": TRUE, "max_parallel": 0}, "max_parallel must be a positive whole number"),
        ({"tasks": TRUE, "labels": {"a": 1}}, "labels map text to text"),
        ({"tasks": TRUE, "on_failure": "explode"}, "on_failure"),
        ({"tasks": TRUE, "slurm": {"cpus": "{{ ds }}"}}, "slurm 'cpus' must be a whole number of at least 1, not"),
        ({"tasks": TRUE, "webhooks": ["nobody"]}, "no webhook nobody"),
        ({"tasks": TRUE, "webhooks": "chat"}, "webhooks"),
        ({"tasks": TRUE, "slurm": "gpu"}, "slurm must be a table of options, not str"),
    ],
)
def test_a_job_that_cannot_be_is_refused(
    home: Home, api: AirExecutorClient, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        tasks.run(AirJobOperator(task_id="work", **given))
    assert message in str(caught.value)
    assert list(api.list_jobs()) == []


@only_files
def test_a_home_that_cannot_be_reached_is_an_error(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    (home.root / "file").touch()
    monkeypatch.setenv("AIRFLOW__AIR_EXECUTOR__BASE_PATH", str(home.root / "file" / "home"))
    with pytest.raises(HomeError, match="file"):
        tasks.run(AirJobOperator(task_id="work", tasks=TRUE))


@only_files
def test_a_connection_that_points_nowhere_is_an_error(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AirflowNotFoundException, match="elsewhere"):
        tasks.run(AirJobOperator(task_id="work", tasks=TRUE, air_conn_id="elsewhere"))
    monkeypatch.setenv("AIRFLOW_CONN_ELSEWHERE", '{"conn_type": "air_executor", "host": "/nowhere/at/all"}')
    with pytest.raises(HomeError, match="points to /nowhere/at/all"):
        tasks.run(AirJobOperator(task_id="work", tasks=TRUE, air_conn_id="elsewhere"))


def test_a_name_may_hold_the_id_of_a_run(home: Home, api: AirExecutorClient) -> None:
    """Which holds what no job name may; two such names are told apart."""

    def operator() -> AirJobOperator:
        return AirJobOperator(task_id="work", tasks=TRUE, job_name="own-{{ run_id }}")

    runs = ("manual__2026-11-22T09:45:46.311377+00:00", "manual__2026-11-22T09:45:46.311377_00:00")
    names = {submit_only(operator(), api, run_id=run).name for run in runs}
    assert len(names) == 2
    assert all(name.startswith("own-manual__2026-11-22T09_45_46.311377_00_00-") for name in names)
    assert correlation.chosen_name("plain-1.2") == "plain-1.2"


def test_who_attaches_takes_a_cancelled_job_as_it_is(home: Home, api: AirExecutorClient, way: Way) -> None:
    """Also one that was cancelled as an earlier try was stopped: it is not waited for again and again."""
    options = {"task_id": "work", "tasks": TRUE, "on_existing": "attach"}
    with pytest.raises(AirflowException, match="was not over"):
        tasks.run(AirJobOperator(**options, timeout=0.05))
    with pytest.raises(AirflowException, match=rf"cancelled by {way.of('try 1')}"):
        tasks.run(AirJobOperator(**options), try_number=2)


def test_a_name_that_is_taken_by_something_else_is_an_error(home: Home, api: AirExecutorClient) -> None:
    api.create_job("report", TRUE)
    with pytest.raises(JobExistsError, match="report"):
        tasks.run(AirJobOperator(task_id="work", tasks=TRUE, job_name="report"))
    assert api.get_job("report").trigger == "api" and api.get_job("report").attempt == 1


# --- Waiting ---


def test_a_failure_says_which_task_and_shows_its_last_lines(home: Home, runner: testing.RunnerProcess) -> None:
    script = "for n in $(seq 50); do echo line $n; done; exit 7"
    operator = AirJobOperator(task_id="work", tasks=[{"id": "count", "command": "sh", "args": ["-c", script]}])
    with pytest.raises(AirflowException) as caught:
        tasks.run(operator)
    text = str(caught.value)
    assert "count" in text and "7" in text and "line 31\n" in text and text.rstrip().endswith("line 50")
    assert "line 30\n" not in text and "seq 50" not in text


def test_a_job_that_nobody_runs_is_warned_of(home: Home, way: Way) -> None:
    operator = AirJobOperator(task_id="work", tasks=TRUE, job_queue="lonely", wait_for_completion=False)
    with structlog.testing.capture_logs() as lines:
        operator._log = None  # it may have been made before
        tasks.run(operator)
    (warning,) = [line for line in lines if line["log_level"] == "warning"]
    said = str(warning)
    assert f"No runner serves the queue 'lonely' of {way.place}, so the job waits; start one" in said


def test_a_job_in_a_queue_that_is_paused_is_warned_of(home: Home) -> None:
    pauses.pause(home, "held", by="user somebody", why="repairs")
    operator = AirJobOperator(task_id="work", tasks=TRUE, job_queue="held", wait_for_completion=False)
    with structlog.testing.capture_logs() as lines:
        operator._log = None
        tasks.run(operator)
    (warning,) = [line for line in lines if line["log_level"] == "warning"]
    assert "The job waits: the queue held " in str(warning) and "by user somebody: repairs" in str(warning)


def test_it_gives_up_after_its_timeout_and_cancels(home: Home, api: AirExecutorClient) -> None:
    with pytest.raises(AirflowException, match=r"was not over after 0\.2 s"):
        tasks.run(AirJobOperator(task_id="work", tasks=TRUE, timeout=0.2))
    (job,) = api.list_jobs()
    assert job.exit is not None and "not over after 0.2 s" in job.exit.reason


def test_the_time_limit_is_that_of_the_job(home: Home, api: AirExecutorClient, runner: testing.RunnerProcess) -> None:
    operator = AirJobOperator(
        task_id="work",
        tasks=[{"id": "sleep", "command": "sleep", "args": ["60"]}],
        execution_timeout=timedelta(seconds=0.5),
    )
    with pytest.raises(AirflowException, match=r"0\.5 s"):
        tasks.run(operator)
    (job,) = api.list_jobs()
    assert job.exit is not None and job.exit.kind is model.ExitKind.TIMEOUT


def test_killing_the_task_cancels_the_job(home: Home, api: AirExecutorClient, way: Way) -> None:
    operator = AirJobOperator(task_id="work", tasks=TRUE)

    def kill() -> None:
        testing.wait_for(lambda: operator.job_shown)
        operator.on_kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(AirflowException, match="its Airflow task was stopped"):
        tasks.run(operator)
    killer.join()
    (job,) = api.list_jobs()
    assert job.exit is not None
    by = way.of(r"try 1 of dag\.work")
    assert re.fullmatch(rf"cancelled by {by}: its Airflow task was stopped", job.exit.reason)


def test_a_kill_before_the_job_is_there_counts_too(home: Home, api: AirExecutorClient) -> None:
    operator = AirJobOperator(task_id="work", tasks=TRUE)
    operator.on_kill()
    with pytest.raises(AirflowException, match="its Airflow task was stopped"):
        tasks.run(operator)


# --- What is there already ---


def test_a_further_try_waits_for_the_same_job(home: Home, api: AirExecutorClient) -> None:
    first = tasks.defer(AirJobOperator(task_id="work", tasks=TRUE, deferrable=True))
    second = tasks.defer(AirJobOperator(task_id="work", tasks=TRUE, deferrable=True), try_number=2)
    assert first.trigger.job_name == second.trigger.job_name
    (job,) = api.list_jobs()
    assert (job.attempt, job.labels["try_number"]) == (1, "1")


@pytest.mark.parametrize(("on_existing", "attempts"), [("reuse", 1), ("attach", 1), ("restart", 2)])
def test_a_job_that_completed_before(
    home: Home, api: AirExecutorClient, runner: testing.RunnerProcess, on_existing: str, attempts: int
) -> None:
    tasks.run(AirJobOperator(task_id="work", tasks=TRUE))
    outcome = tasks.run(AirJobOperator(task_id="work", tasks=TRUE, on_existing=on_existing), try_number=2)
    assert outcome["state"] == "completed" and api.get_job(outcome["job"]).attempt == attempts


def test_a_job_that_is_there_is_refused_if_that_is_wanted(home: Home, api: AirExecutorClient) -> None:
    submit_only(AirJobOperator(task_id="work", tasks=TRUE), api)
    with pytest.raises(JobExistsError):
        tasks.run(AirJobOperator(task_id="work", tasks=TRUE, on_existing="fail"))


def test_a_chosen_name_is_of_one_run_unless_each_starts_it_anew(home: Home, api: AirExecutorClient) -> None:
    """What came of yesterday's job is not taken for today's."""
    first = submit_only(AirJobOperator(task_id="work", tasks=TRUE, job_name="build"), api)
    for policy in ("reuse", "attach"):
        again = AirJobOperator(task_id="work", tasks=TRUE, job_name="build", on_existing=policy)
        with pytest.raises(JobExistsError, match="somebody else's: it has run_id"):
            tasks.run(again, run_id="another")
    anew = AirJobOperator(task_id="work", tasks=TRUE, job_name="build", on_existing="restart")
    second = submit_only(anew, api, run_id="another")
    assert (second.id, second.attempt, second.labels["run_id"]) == (first.id, 2, "another")
    with pytest.raises(JobExistsError):
        tasks.run(AirJobOperator(task_id="other", tasks=TRUE, job_name="build"))


# --- Deferred ---


def event(name: str, **given: Any) -> dict[str, Any]:
    return {"job": name, "state": "completed", "attempt": 1, "timed_out": False, "deadline": None, **given}


def resume(operator: AirJobOperator, name: str, *, try_number: int = 1, **given: Any) -> Any:
    found = tasks.context(operator, try_number=try_number)
    operator.render_template_fields(found)  # type: ignore[arg-type]
    operator.pre_execute(found)
    return operator.resume(found, event(name, **given))


def test_it_is_deferred_and_resumed(home: Home, runner: testing.RunnerProcess, api: AirExecutorClient) -> None:
    deferred = tasks.defer(AirJobOperator(task_id="work", tasks=TRUE, deferrable=True, timeout=60))
    assert deferred.method_name == "resume" and deferred.trigger.stopper == "try 1 of dag.work"
    assert deferred.trigger.deadline is not None
    name = deferred.trigger.job_name
    api.wait(name, 20)
    assert resume(AirJobOperator(task_id="work", tasks=TRUE, deferrable=True), name)["state"] == "completed"


def test_a_deferred_wait_that_was_too_long_cancels(home: Home, api: AirExecutorClient) -> None:
    operator = AirJobOperator(task_id="work", tasks=TRUE, deferrable=True, timeout=60)
    name = tasks.defer(operator).trigger.job_name
    with pytest.raises(AirflowException, match="was not over after 60 s"):
        resume(operator, name, timed_out=True)
    assert api.get_job(name).state is model.JobState.CANCELLED


def test_a_job_that_was_cancelled_for_the_try_before_starts_again(home: Home, api: AirExecutorClient) -> None:
    """The triggerer hears of a clear after the next try has begun to wait."""
    operator = AirJobOperator(task_id="work", tasks=TRUE, deferrable=True)
    name = tasks.defer(operator).trigger.job_name
    again = AirJobOperator(task_id="work", tasks=TRUE, deferrable=True)
    tasks.defer(again, try_number=2)
    api.cancel(name, by="try 1 of dag.work", why="its deferred Airflow task was stopped")
    with pytest.raises(BaseException) as caught:
        resume(again, name, try_number=2)
    assert type(caught.value).__name__ == "TaskDeferred"
    job = api.get_job(name)
    assert (job.attempt, job.state) == (2, model.JobState.WAITING)


def test_a_job_that_somebody_cancelled_fails_the_task(home: Home, api: AirExecutorClient) -> None:
    operator = AirJobOperator(task_id="work", tasks=TRUE, deferrable=True)
    name = tasks.defer(operator).trigger.job_name
    api.cancel(name, by="user somebody")
    with pytest.raises(AirflowException, match="cancelled by user somebody"):
        resume(operator, name)


# --- Over HTTP ---


@only_http
def test_what_a_connection_over_http_adds(
    home: Home, api: AirExecutorClient, pipeline: str, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A label of its organization, which no DAG changes; its environment and its queue."""
    content = json.loads(os.environ["AIRFLOW_CONN_AIR_EXECUTOR_DEFAULT"])
    content["extra"] = {"organization": "sales", "environment": "dev", "queue": "theirs"}
    monkeypatch.setenv("AIRFLOW_CONN_ELSEWHERE", json.dumps(content))
    given: dict[str, Any] = {"air_conn_id": "elsewhere", "labels": {"organization": "mine", "team": "a"}}
    operator = AirJobOperator(task_id="work", pipeline=pipeline, pipeline_params={"day": "x"}, **given)
    job = submit_only(operator, api)
    assert {
        "organization": "sales",
        "environment": "dev",
        "team": "a",
        "pipeline": pipeline,
    }.items() <= job.labels.items()
    assert job.queue == "theirs"
    (found,) = api.list_jobs(trigger="operator", labels={"dag_id": "dag", "task_id": "work"})
    assert found.id == job.id


@only_http
def test_the_token_is_nowhere(home: Home, way: Way) -> None:
    secret = json.loads(os.environ["AIRFLOW_CONN_AIR_EXECUTOR_DEFAULT"])["password"].rpartition("_")[2]
    operator = AirJobOperator(task_id="work", tasks=TRUE, deferrable=True)
    found = tasks.context(operator)
    with structlog.testing.capture_logs() as lines, pytest.raises(TaskDeferred) as caught:
        operator._log = None
        operator.pre_execute(found)
        operator.execute(found)
    shown = [lines, found["ti"].pushed, caught.value.trigger.serialize(), operator.hook.target, vars(operator.client)]
    assert secret not in repr(shown) and way.place in repr(lines)
    assert caught.value.trigger.serialize()[1]["air_conn_id"] == "air_executor_default"
    assert AirJobLink().xcom_key not in found["ti"].pushed and AirJobLink().get_link(operator, ti_key=None) == ""


@only_http
def test_a_task_that_is_killed_while_it_asks_cancels_its_job(home: Home, api: AirExecutorClient, way: Way) -> None:
    """The handler of the signal runs in the middle of another request of the same thread."""
    operator = AirJobOperator(task_id="work", tasks=TRUE, air_conn_id="air_executor_default")
    client = operator.client
    assert isinstance(client, RemoteClient)
    client.poll_interval = None  # the server tells of the end: the request goes on until then

    def handle(*_: object) -> None:
        operator.on_kill()

    def kill() -> None:
        testing.wait_for(lambda: operator.job_shown)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handle)
    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with pytest.raises(AirflowException, match="its Airflow task was stopped"):
            tasks.run(operator)
    finally:
        killer.join()
        signal.signal(signal.SIGUSR1, before)
    assert next(api.list_jobs()).state is model.JobState.CANCELLED


# --- What others see ---


@only_files
def test_the_job_is_shown(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://airflow")
    operator = AirJobOperator(task_id="work", tasks=TRUE, deferrable=True)
    found = tasks.context(operator)
    operator.pre_execute(found)
    with pytest.raises(BaseException):  # noqa: B017  TaskDeferred
        operator.execute(found)
    pushed = found["ti"].pushed
    (link,) = operator.operator_extra_links
    assert pushed["job"] == operator.job_shown
    assert (
        pushed[link.xcom_key]
        == link.get_link(operator, ti_key=None)
        == f"http://airflow/air-executor/job/{pushed['job']}"
    )
    assert link.get_link(AirJobOperator(task_id="none", tasks=TRUE), ti_key=None) == ""


@only_files
def test_it_is_serialised_with_its_dag() -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    with tasks.dag() as dag:
        AirJobOperator(
            task_id="work", tasks=[model.Task("echo", ["{{ ds }}"], id="a")], execution_timeout=timedelta(seconds=5)
        )
        AirJobOperator.partial(task_id="mapped", execution_timeout=timedelta(seconds=5)).expand(tasks=[TRUE, TRUE])
    found = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    work = found.get_task("work")
    assert work.execution_timeout == timedelta(seconds=5)
    assert work.template_fields_renderers["tasks"] == "json"
    assert work.tasks == [{"command": "echo", "args": ["{{ ds }}"], "id": "a"}]
    assert [link.name for link in work.operator_extra_links] == ["Air-Executor job"]
    assert found.get_task("mapped").is_mapped


@only_files
def test_it_is_an_operator_like_others() -> None:
    operator = AirJobOperator(task_id="work", tasks=TRUE)
    assert isinstance(operator, BaseOperator)
    for name in operator.template_fields:
        assert hasattr(operator, name)
