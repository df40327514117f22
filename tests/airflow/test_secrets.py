"""No token, password or value of an environment variable is in what is written or served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx

from air_executor.client import AirExecutorClient
from tests.airflow import databases, rest, stack, waiting

pytestmark = databases.ON_POSTGRES

PLANTED = {
    "environment of a task": "planted-in-the-environment-of-a-task",
    "environment of a job": "planted-in-the-environment-of-a-job",
    "password of a connection": "planted-in-a-connection",
}
DEFINITIONS = {"tasks.json", "workload.json"}
"""What a job consists of: files for the one user alone that it runs as, which nothing shows."""
COMMANDS = (
    "list --all",
    "list --all --json",
    "status",
    "status --json",
    "doctor --json",
    "usage --by queue --json",
    "metrics",
    "runner show",
    "queue list --json",
    "repair",
)
ROUTES = ("", "jobs", "history", "api/overview", "api/jobs", "api/counts", "api/history?begin=0&end=4e9&step=1e8")


def test_nothing_secret_is_written_or_served(shared_airflow: stack.Stack) -> None:
    airflow = shared_airflow
    airflow.use_scheduler()
    body = {"connection_id": "planted", "conn_type": "air_executor", "password": PLANTED["password of a connection"]}
    airflow.rest.post("connections", body)
    run = airflow.rest.trigger("secretive")
    waiting.until(lambda: airflow.marks(run.run_id), "the task that holds to run", 60)
    tokens = {f"token of {job.path.name}": airflow.home.token_of(job) for job in holding(airflow, run)}
    names = [*(job.path.name for job in airflow.home.jobs_of(run)), *submitted(airflow)]
    while_running = list(told(airflow, names))
    airflow.release(run.run_id)
    assert airflow.rest.finished(run, 90) == "failed"
    airflow.home.wait_finished(run)
    everything = [
        *while_running,
        *told(airflow, names),
        *told(airflow, [], COMMANDS),
        *written(airflow.home.path),
        *written(airflow.root / "log"),
        *written(airflow.root / "logs"),
    ]
    assert tokens and len(everything) > 50
    secrets = {**PLANTED, **tokens, **configured(airflow)}
    found = [f"{what}: in {where}" for where, text in everything for what, secret in secrets.items() if secret in text]
    assert found == []


def holding(airflow: stack.Stack, run: rest.Run) -> list[stack.home.Job]:
    return [job for job in airflow.home.jobs_of(run, "holds") if job.state["state"] == "working"]


def submitted(airflow: stack.Stack) -> list[str]:
    """Jobs of a user: one completed, one failed, one that cannot even be started."""
    client = AirExecutorClient(airflow.home.path)
    secret = {"env": {"PASSWORD_OF_A_JOB": PLANTED["environment of a job"]}}
    commands = {"planted-good": "true", "planted-bad": "false", "planted-odd": "/no/such/program"}
    for name, command in commands.items():
        client.create_job(name, [{"command": command, **secret}])
    for name in commands:
        assert client.wait(name, 60).state.terminal
    return list(commands)


def told(airflow: stack.Stack, names: list[str], commands: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """What the command line and the pages say of everything, and of these jobs."""
    for each in [*commands, *(f"{each} {name}" for each in ("show", "show --json", "logs") for name in names)]:
        done = airflow.air_executor(*each.split(), check=False)
        yield f"air-executor {each}", done.stdout + done.stderr
    base = airflow.environment["AIRFLOW__API__BASE_URL"]
    headers = {"Authorization": f"Bearer {airflow.rest.log_in()}"}
    routes = [*ROUTES, *(f"{each}/{name}" for each in ("job", "api/job") for name in names)]
    for each in routes:
        answer = httpx.get(f"{base}/air-executor/{each}", headers=headers, trust_env=False, timeout=30)
        assert answer.status_code == 200, (each, answer.text)
        yield f"/air-executor/{each}", answer.text


def written(directory: Path) -> Iterator[tuple[str, str]]:
    for path in directory.rglob("*"):
        if path.is_file() and path.name not in DEFINITIONS:
            yield str(path), path.read_bytes().decode(errors="replace")


def configured(airflow: stack.Stack) -> dict[str, str]:
    """Airflow's own secrets, which are in the environment of all its processes."""
    names = ("AIRFLOW__API__SECRET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET")
    return {name: airflow.environment[name] for name in names}
