"""From workloads to jobs: names that tell tries apart, and the options that a task may set."""

from __future__ import annotations

import string
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from air_executor import validation
from air_executor.errors import InvalidInputError
from air_executor.paths import Home
from airflow_plugin import config, jobs, keys
from airflow_plugin.jobs import TaskOptions
from tests.plugin import fleet

OPTIONS = config.Options(Path("/home"), "default", ("default",))
SAFE = set(string.ascii_letters + string.digits + "._-")


def build(workload: Any) -> Any:
    return jobs.submission(workload, OPTIONS, Home(Path("/home")), "http://server/execution/")


# --- Names ---


def test_a_name_is_readable() -> None:
    task = fleet.make_task(dag_id="etl", task_id="load.all", run_id="scheduled__2026-01-01T00:00:00+00:00", map_index=3)
    assert jobs.task_name(task.ti).startswith("airflow-etl-load_all-scheduled__2026_01_01T00_00_00_00_00-map3-try1-")


@given(st.text(min_size=1), st.text(min_size=1, max_size=300), st.text(min_size=1), st.integers(-1, 2000))
def test_a_name_is_safe_whatever_people_call_things(dag_id: str, task_id: str, run_id: str, map_index: int) -> None:
    ti = fleet.make_task().ti.model_copy(
        update={"dag_id": dag_id, "task_id": task_id, "run_id": run_id, "map_index": map_index}
    )
    name = jobs.task_name(ti)
    assert set(name) <= SAFE and len(name) <= validation.MAX_NAME_BYTES
    assert validation.check_name("the job name", name) == name


@pytest.mark.parametrize("change", [{"try_number": 2}, {"id": uuid.uuid4()}, {"map_index": 0}])
def test_each_try_of_each_task_instance_has_a_name_of_its_own(change: dict[str, Any]) -> None:
    ti = fleet.make_task().ti
    assert jobs.task_name(ti) != jobs.task_name(ti.model_copy(update=change))


def test_a_name_does_not_depend_on_the_run_of_a_try() -> None:
    task = fleet.make_task()
    assert jobs.task_name(task.ti) == jobs.task_name(fleet.again(task).ti)


def test_long_names_keep_apart() -> None:
    tis = [fleet.make_task(task_id="x" * 249 + end).ti for end in "ab"]
    assert len({jobs.task_name(ti) for ti in tis}) == 2


@pytest.mark.parametrize(
    ("workload", "start"),
    [
        (fleet.make_callback("alerts.slack.notify"), "airflow-callback-notify-"),
        (fleet.make_callback(""), "airflow-callback-"),
        (fleet.make_connection_test("wäre/house"), "airflow-connection_test-w_re_house-"),
    ],
)
def test_names_of_what_is_no_task(workload: Any, start: str) -> None:
    assert build(workload).job.name.startswith(start)


# --- Labels ---


def test_the_key_of_what_is_no_task_is_in_its_labels() -> None:
    for workload in (fleet.make_callback(), fleet.make_connection_test()):
        key = keys.key_of_labels(build(workload).job.labels)
        assert key == workload.key
        assert keys.kind_of(key) == build(workload).job.labels["kind"]
    assert keys.key_of_labels(build(fleet.make_task()).job.labels) is None
    assert keys.key_of_labels({}) is None


def test_only_text_is_in_labels() -> None:
    for workload in (fleet.make_task(map_index=2), fleet.make_callback(), fleet.make_connection_test()):
        validation.check_job(build(workload).job)


# --- executor_config ---


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, TaskOptions()),
        ({}, TaskOptions()),
        ({"env": {"A": "1"}}, TaskOptions(env={"A": "1"})),
        ({"timeout": 1.5}, TaskOptions(timeout=1.5)),
        ({"memory_mb": 512, "nice": 5}, TaskOptions(memory_mb=512, nice=5)),
        ({"queue": "gpu"}, TaskOptions(queue="gpu")),
        ({"slurm": {"cpus": 4, "time": "1:00:00", "qos": None}}, TaskOptions(slurm={"cpus": 4, "time": "1:00:00"})),
        ({"slurm": {}}, TaskOptions(slurm={})),
        ({"queue": None, "timeout": None}, TaskOptions()),
        ({"pod_override": object()}, TaskOptions()),
        ({"KubernetesExecutor": {"image": "x"}, "timeout": 3}, TaskOptions(timeout=3)),
        ({"LocalExecutor": {}, "CeleryExecutor": {}}, TaskOptions()),
    ],
)
def test_executor_config(given: Any, expected: TaskOptions) -> None:
    assert jobs.parse_executor_config(given) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("fast", "executor_config must be a dictionary, not str"),
        ({"memory": 1}, "unknown option 'memory'; did you mean 'memory_mb'?"),
        ({"cpus": 4}, "unknown option 'cpus'; known are env, timeout, memory_mb, output_mb, queue, nice, slurm"),
        ({"env": "A=1"}, "executor_config 'env' must be a dictionary, not str"),
        ({"env": {"A": 1}}, "executor_config 'env': the environment variable A must be text"),
        ({"env": {"A=B": "1"}}, "'A=B' is not the name of an environment variable"),
        ({"timeout": "1h"}, "executor_config 'timeout' must be a positive number, not '1h'"),
        ({"timeout": 0}, "executor_config 'timeout' must be a positive number"),
        ({"timeout": True}, "executor_config 'timeout' must be a positive number"),
        ({"memory_mb": 1.5}, "executor_config 'memory_mb' must be a positive whole number"),
        ({"output_mb": "1G"}, "executor_config 'output_mb' must be a positive whole number, not '1G'"),
        ({"nice": "low"}, "executor_config 'nice' must be a whole number"),
        ({"queue": "a queue"}, "executor_config 'queue' 'a queue' must start with a letter or digit"),
        ({"queue": 3}, "executor_config 'queue' must be a text"),
        ({"slurm": "gpu"}, "executor_config 'slurm' must be a table of options, not str"),
        ({"slurm": {"cpu": 4}}, "executor_config 'slurm' has the unknown option 'cpu'; did you mean cpus?"),
        ({"slurm": {"cpus": "4"}}, "executor_config 'slurm' 'cpus' must be a whole number of at least 1, not '4'"),
    ],
)
def test_wrong_executor_config_is_named(given: Any, message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        jobs.parse_executor_config(given)
    assert message in str(caught.value)


def test_the_value_of_a_variable_is_in_no_message() -> None:
    with pytest.raises(InvalidInputError) as caught:
        jobs.parse_executor_config({"env": {"TOKEN": b"hunter2"}})
    assert "hunter2" not in str(caught.value) and "TOKEN" in str(caught.value)


def test_options_of_a_task_reach_its_job() -> None:
    limits = {"timeout": 60, "memory_mb": 256, "output_mb": 32, "nice": 3, "queue": "gpu", "env": {"MODE": "slow"}}
    built = build(fleet.make_task(executor_config={**limits, "slurm": {"gres": "gpu:1"}}, queue="other"))
    job, [task] = built.job, built.tasks
    assert (job.timeout, job.memory_mb, job.output_mb, job.nice, job.queue) == (60, 256, 32, 3, "gpu")
    assert task.env == {"MODE": "slow"} and job.slurm == {"gres": "gpu:1"}
    assert build(fleet.make_task()).job.slurm is None


@pytest.mark.parametrize(("weight", "priority"), [(5, 5), (-3, -3), (2**40, 2**31 - 2), (-(2**40), 1 - 2**31)])
def test_the_weight_of_a_task_is_its_priority(weight: int, priority: int) -> None:
    assert build(fleet.make_task(priority_weight=weight)).job.priority == priority


def test_a_connection_test_goes_where_it_was_asked_for() -> None:
    test = fleet.make_connection_test().model_copy(update={"queue": "private"})
    assert build(test).job.queue == "private"
    assert build(fleet.make_connection_test()).job.queue == "default"
