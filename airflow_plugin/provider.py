"""What Airflow's provider manager reads. It does so in every Airflow process, so nothing is imported here."""

from __future__ import annotations

from typing import Any

_VERSION_ADDED = "0.1.0"
_NAME = "Air-Executor"


def get_provider_info() -> dict[str, Any]:
    """The entry point `apache_airflow_provider`."""
    return {
        "package-name": "air-executor",
        "name": _NAME,
        "description": "Runs Airflow's tasks as jobs in directories: no broker, no extra database, no cluster.",
        "versions": [_VERSION_ADDED],
        "integrations": [{"integration-name": _NAME, "tags": ["software"]}],
        "executors": ["airflow_plugin.AirExecutor"],
        "operators": [_modules("operators")],
        "sensors": [_modules("sensors")],
        "hooks": [_modules("hook")],
        "triggers": [_modules("triggers")],
        "task-decorators": [{"name": "air_job", "class-name": "airflow_plugin.decorators.air_job_task"}],
        "extra-links": ["airflow_plugin.links.AirJobLink"],
        "connection-types": [_CONNECTION],
        "cli": ["airflow_plugin.provider.get_cli_commands"],
        "config": {
            "air_executor": {
                "description": "Options of ``airflow_plugin.AirExecutor``.",
                "options": _OPTIONS,
            }
        },
    }


def get_cli_commands() -> list[Any]:
    """None. But an executor without this makes Airflow warn, and import it for every command."""
    return []


def _modules(name: str) -> dict[str, Any]:
    return {"integration-name": _NAME, "python-modules": [f"airflow_plugin.{name}"]}


_CONNECTION: dict[str, Any] = {
    "connection-type": "air_executor",
    "hook-class-name": "airflow_plugin.hook.AirJobHook",
    "hook-name": _NAME,
    "ui-field-behaviour": {
        "hidden-fields": ["schema", "login", "port", "extra"],
        "relabeling": {"host": "Home", "password": "Token"},
        "placeholders": {
            "host": "/var/lib/airflow/.air-executor, or https://air.example.org:8470 (empty: that of the executor)",
            "password": "for a web address: what air-executor token create has printed",
        },
    },
    "conn-fields": {
        "environment": {
            "label": "Environment",
            "description": "The environment of a pipeline (dev, prod ...) for jobs that name none.",
            "schema": {"type": ["string", "null"]},
        },
        "queue": {
            "label": "Queue",
            "description": "Where jobs go that name no queue. Empty: [operators] default_queue.",
            "schema": {"type": ["string", "null"], "maxLength": 100},
        },
        "poll_interval": {
            "label": "Poll interval",
            "description": "Seconds between looks over HTTP, and where changes of files are not told, as on NFS.",
            "schema": {"type": ["number", "null"], "minimum": 0.1},
        },
        "jitter": {
            "label": "Jitter",
            "description": "Over HTTP: by what part of it that time is longer or shorter, by chance. Empty: 0.2.",
            "schema": {"type": ["number", "null"], "minimum": 0, "maximum": 0.99},
        },
        "organization": {
            "label": "Organization",
            "description": "Over HTTP: a label of every job that is submitted with this connection.",
            "schema": {"type": ["string", "null"]},
        },
        "verify": {
            "label": "Certificates",
            "description": "Over HTTPS: a file with the certificates that may have signed the server's, or false.",
            "schema": {"type": ["string", "null"]},
        },
        "allow_plain": {
            "label": "Allow http://",
            "description": "true: the token may go to another host without TLS, where others can read it.",
            "schema": {"type": ["string", "null"]},
        },
    },
}
"""What the form of a connection shows."""


def _option(kind: str, description: str, *, default: str | None, example: str) -> dict[str, Any]:
    return {
        "description": description,
        "version_added": _VERSION_ADDED,
        "type": kind,
        "example": example,
        "default": default,
    }


_OPTIONS: dict[str, Any] = {
    "base_path": _option(
        "string",
        "The home: the directory that holds all jobs. An absolute path; it belongs to one user and is created if it "
        "is missing. Without it, ``$AIR_EXECUTOR_HOME`` counts, and then ``$AIRFLOW_HOME/.air-executor``.",
        default=None,
        example="/var/lib/airflow/.air-executor",
    ),
    "start_runner": _option(
        "boolean",
        "Whether the scheduler starts a runner on its host and keeps one running there. Set it to False if you start "
        "runners yourself with ``air-executor runner start``.",
        default="True",
        example="False",
    ),
    "queues": _option(
        "string",
        "The queues, separated by commas, that the runner serves which the scheduler starts. Without it, the queue "
        "``[operators] default_queue``.",
        default=None,
        example="default,reports",
    ),
    "slots": _option(
        "integer",
        "How many jobs the runner runs at once which the scheduler starts. Without it, ``[core] parallelism``.",
        default=None,
        example="16",
    ),
    "python": _option(
        "string",
        "The Python that runs tasks, an absolute path; Airflow and Air-Executor must be installed there. Without it, "
        "the Python of the scheduler.",
        default=None,
        example="/opt/airflow/bin/python",
    ),
    "token_lifetime": _option(
        "float",
        "How many seconds the token of a task lives that waits in its queue, and how long no scheduler may be up "
        "meanwhile: a scheduler makes another in the middle of its life. At least ``[scheduler] task_queued_timeout``.",
        default="604800",
        example="86400",
    ),
    "sync_wait": _option(
        "float",
        "For how many seconds the scheduler is held up at most, while tasks run and nothing else is to be done, so "
        "that it learns at once of the end of one. 0: not at all. With ``[scheduler] scheduler_idle_sleep_time = 0`` "
        "this takes the place of the scheduler's own sleep.",
        default="1",
        example="0.5",
    ),
    "warm_dags": _option(
        "boolean",
        "Whether tasks are forked from a process that has parsed their DAG file already, as long as neither that file "
        "nor anything it reads has changed.",
        default="False",
        example="True",
    ),
}
