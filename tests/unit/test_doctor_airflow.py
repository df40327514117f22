"""What is wrong with Airflow's configuration is found in the facts that it tells: each thing, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from air_executor.doctor import airflow, facts
from air_executor.doctor.facts import Database, Facts
from air_executor.doctor.findings import Check, Level
from air_executor.paths import Home
from tests.unit.doctors import bad, having, healthy
from tests.unit.test_runners import info

HOME = Home(airflow.Path("/srv/home"))
CFG = "in /airflow/airflow.cfg, section"
EXECUTOR = "core.executor"


def executor(value: str | None, source: str = facts.FILE, **changes: Any) -> Facts:
    return having(HOME, EXECUTOR, value, source, **changes)


TABLE: dict[str, tuple[Facts, Check, str, str]] = {
    "another executor": (
        executor("LocalExecutor"),
        Check.AIRFLOW,
        f"{CFG} [core]: executor = airflow_plugin.AirExecutor",
        "is LocalExecutor, so Airflow does not use Air-Executor (from /airflow/airflow.cfg)",
    ),
    "another executor in a variable": (
        executor("LocalExecutor", facts.ENVIRONMENT),
        Check.AIRFLOW,
        "export AIRFLOW__CORE__EXECUTOR=airflow_plugin.AirExecutor",
        "(from the variable AIRFLOW__CORE__EXECUTOR)",
    ),
    "no executor": (
        executor("LocalExecutor", facts.DEFAULT, has_config=False),
        Check.AIRFLOW,
        "export AIRFLOW__CORE__EXECUTOR=airflow_plugin.AirExecutor",
        "(Airflow's default: nothing sets it, neither the variable AIRFLOW__CORE__EXECUTOR nor /airflow/airflow.cfg"
        " (there is no such file))",
    ),
    "a name that is nearly right": (
        executor("air_executor.AirExecutor"),
        Check.AIRFLOW,
        f"{CFG} [core]: executor = airflow_plugin.AirExecutor",
        "only by airflow_plugin.AirExecutor",
    ),
    "a class alone": (executor("AirExecutor"), Check.AIRFLOW, "airflow_plugin.AirExecutor", "is AirExecutor"),
    "a name too long": (
        executor("airflow_plugin.AirExecutors"),
        Check.AIRFLOW,
        "= airflow_plugin.AirExecutor",
        "only by",
    ),
    "no name at all": (executor("hunter2://!"), Check.AIRFLOW, "airflow_plugin.AirExecutor", "is no name"),
    "an executor that cannot be imported": (
        healthy(HOME, loads="ImportError"),
        Check.AIRFLOW,
        "-c 'import airflow_plugin.executor'",
        "cannot be imported: ImportError",
    ),
    "no entry point": (
        healthy(HOME, missing=["airflow.plugins: air_executor"]),
        Check.ENTRY_POINTS,
        "/venv/bin/python -m pip install --force-reinstall",
        "airflow.plugins: air_executor",
    ),
    "an unknown option": (
        healthy(HOME, wrong=["unknown option [air_executor] sltos; did you mean slots?"]),
        Check.OPTIONS,
        f"{CFG} [air_executor]: correct or remove 'sltos = ...'",
        "did you mean slots?",
    ),
    "an unknown variable": (
        healthy(HOME, wrong=["unknown option $AIRFLOW__AIR_EXECUTOR__SLTOS; did you mean slots?"]),
        Check.OPTIONS,
        "unset AIRFLOW__AIR_EXECUTOR__SLTOS",
        "",
    ),
    "another home": (
        healthy(HOME, base_path="/elsewhere"),
        Check.BASE_PATH,
        f"{CFG} [air_executor]: base_path = /srv/home, or use --home /elsewhere",
        "Airflow uses the home /elsewhere",
    ),
    "more parallelism than slots": (
        having(HOME, "core.parallelism", "32"),
        Check.SLOTS,
        f"{CFG} [core]: parallelism = 2",
        "wait for a slot",
    ),
    "more slots than parallelism": (
        having(HOME, "core.parallelism", "1", facts.ENVIRONMENT),
        Check.SLOTS,
        "export AIRFLOW__CORE__PARALLELISM=2",
        "never uses all",
    ),
    "a scheduler that sleeps": (
        having(HOME, "scheduler.scheduler_idle_sleep_time", "1", facts.DEFAULT),
        Check.IDLE_SLEEP,
        f"{CFG} [scheduler]: scheduler_idle_sleep_time = 0",
        "is 1",
    ),
    "tokens that live too short": (
        healthy(HOME, token_lifetime=60.0),
        Check.TOKENS,
        f"{CFG} [air_executor]: token_lifetime = 604800",
        "less than [scheduler] task_queued_timeout (600)",
    ),
    "an address that is none": (
        healthy(HOME, api="localhost:8080/execution/"),
        Check.API_SERVER,
        "execution_api_server_url = http://localhost:8080/execution/",
        "begins with http://",
    ),
    "an address without its end": (
        healthy(HOME, api="http://localhost:8080/"),
        Check.API_SERVER,
        "execution_api_server_url",
        "does not end with /execution/",
    ),
    "no API server": (
        healthy(HOME, api_trouble="Connection refused"),
        Check.API_SERVER,
        "airflow api-server",
        "does not answer at http://localhost:8080/execution/: Connection refused",
    ),
    "SQLite": (
        healthy(HOME, database=Database("sqlite", "/airflow/airflow.db")),
        Check.DATABASE,
        "postgresql+psycopg2://USER:PASSWORD@HOST/airflow",
        "one process at a time writes",
    ),
    "a database that does not answer": (
        healthy(HOME, database=Database("postgresql", "db:5432", "OperationalError")),
        Check.DATABASE,
        "airflow db check",
        "cannot be used: OperationalError",
    ),
    "a database without tables": (
        healthy(HOME, database=Database("postgresql", "db:5432", migrated=False)),
        Check.DATABASE,
        "airflow db migrate",
        "no tables",
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_exactly_what_is_wrong_is_found(name: str) -> None:
    told, check, fix, text = TABLE[name]
    (finding,) = bad(airflow.judge(HOME, told, [info("r")]))
    assert finding.check is check and fix in finding.fix and text in finding.text
    assert finding.remedy is None, "nothing of Airflow is touched"
    assert "hunter2" not in finding.text + finding.fix


@pytest.mark.parametrize(
    "value",
    [
        "airflow_plugin.AirExecutor",
        "airflow_plugin.executor.AirExecutor",
        "LocalExecutor, air:airflow_plugin.AirExecutor",
        "LocalExecutor;team=airflow_plugin.AirExecutor",
    ],
)
def test_right_names(value: str) -> None:
    assert bad(airflow.judge(HOME, executor(value), [info("r")])) == []


def test_without_a_runner_the_one_of_the_executor_counts() -> None:
    told = having(HOME, "core.parallelism", "8", slots=4, start_runner=True)
    assert "have 4 slots" in airflow.judge_slots(told, []).text
    assert airflow.judge_slots(having(HOME, "core.parallelism", "8"), []).level is Level.OK
    elsewhere, draining = info("a", queues=["gpu"], slots=99), info("b", draining=True, slots=99)
    assert airflow.judge_slots(healthy(HOME), [info("r"), elsewhere, draining]).level is Level.OK


def test_other_executors_are_not_judged_further() -> None:
    told = executor("LocalExecutor", wrong=["x"], missing=["y"], database=Database("sqlite", "z"))
    assert [finding.check for finding in airflow.judge(HOME, told, [])] == [Check.AIRFLOW]
