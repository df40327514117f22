"""DAGs whose tasks hand jobs over: long ones that somebody ends, ones that are reused, ones that cannot be."""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag

from airflow_plugin.operators import AirJobOperator
from airflow_plugin.sensors import AirJobSensor

GIVEN: dict[str, Any] = {"schedule": None, "catchup": False}
TREE = 'sh -c "sleep 600 & wait" & sleep 600 & wait'
"""Processes that go on until somebody ends them."""
ONCE = 'echo "$AIR_EXECUTOR_JOB" >> "$MARKS/ran"; while ! test -e "$MARKS/go"; do sleep 0.2; done'


def long(name: str) -> list[dict[str, Any]]:
    return [{"id": "tree", "command": "sh", "args": ["-c", TREE, name]}]


def script(text: str) -> list[dict[str, Any]]:
    return [{"id": "only", "command": "sh", "args": ["-c", text]}]


@dag("jobs_long", **GIVEN)
def jobs_long() -> None:
    AirJobOperator(task_id="running", tasks=long("running-{{ run_id }}"))
    AirJobOperator(task_id="deferred", tasks=long("deferred-{{ run_id }}"), deferrable=True)


@dag("jobs_killed", **GIVEN)
def jobs_killed() -> None:
    tasks = [{"id": "only", "command": "sh", "args": ["-c", ONCE], "env": {"MARKS": "{{ params.marks }}"}}]
    AirJobOperator(task_id="work", tasks=tasks, retries=2, retry_delay=1.0, params={"marks": ""})


@dag("jobs_existing", **GIVEN)
def jobs_existing() -> None:
    AirJobOperator(task_id="reuse", tasks=script("true"))
    AirJobOperator(task_id="restart", tasks=script("true"), on_existing="restart")


@dag("jobs_sensed", **GIVEN)
def jobs_sensed() -> None:
    name = "sensed-{{ run_id }}"
    AirJobSensor(task_id="poke", job=name, poke_interval=1)
    AirJobSensor(task_id="reschedule", job=name, poke_interval=1, mode="reschedule")
    AirJobSensor(task_id="deferred", job=name, deferrable=True)
    AirJobOperator(task_id="work", tasks=script("sleep 2"), job_name=name)


@dag("jobs_refused", **GIVEN)
def jobs_refused() -> None:
    AirJobOperator(task_id="unknown_pipeline", pipeline="nigtly")
    AirJobOperator(task_id="missing_parameter", pipeline="nightly")
    AirJobOperator(
        task_id="mistyped_parameter", pipeline="nightly", pipeline_params={"day": "2026-01-31", "limit": "x"}
    )
    first, second = {"id": "a", "dependencies": ["b"]}, {"id": "b", "dependencies": ["a"]}
    AirJobOperator(task_id="cycle", tasks=[{"command": "true", **first}, {"command": "true", **second}])
    AirJobOperator(task_id="unknown_dependency", tasks=[{"command": "true", "dependencies": ["x"]}])
    AirJobOperator(task_id="no_tasks", tasks=[])
    AirJobOperator(task_id="unreachable_home", tasks=script("true"), air_conn_id="unreachable")
    AirJobOperator(task_id="no_connection", tasks=script("true"), air_conn_id="nowhere")
    AirJobOperator(task_id="taken", tasks=script("true"), job_name="taken")
    AirJobOperator(task_id="no_json", tasks=script('echo { > "$AIR_EXECUTOR_OUTPUT"'))
    AirJobOperator(task_id="too_big", tasks=script('head -c 104857600 /dev/zero > "$AIR_EXECUTOR_OUTPUT"'))
    AirJobOperator(task_id="fails", tasks=script("for n in $(seq 50); do echo line $n; done; exit 7"))


@dag("jobs_over_http", **GIVEN)
def jobs_over_http() -> None:
    name, way = "remote-{{ run_id }}", {"air_conn_id": "over_http"}
    AirJobOperator(task_id="works", tasks=script('echo 5 > "$AIR_EXECUTOR_OUTPUT"'), job_name=name, **way)
    AirJobSensor(task_id="hears", job=name, deferrable=True, **way)
    AirJobOperator(task_id="fails", tasks=script("echo no luck; exit 7"), deferrable=True, **way)
    AirJobOperator(task_id="deferred", tasks=long("deferred-{{ run_id }}"), deferrable=True, **way)


jobs_long()
jobs_killed()
jobs_existing()
jobs_sensed()
jobs_refused()
jobs_over_http()
