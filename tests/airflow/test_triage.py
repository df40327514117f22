"""The example `examples/triage` in a real Airflow: a week that is back-filled, with a failure on the way, and again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import triage_rules
import triage_stub

from tests.airflow import databases, rest, stack, waiting
from tests.airflow.postgres import Postgres

EXAMPLE = Path(triage_stub.__file__).parent
DAG_ID = "triage_week"
DAYS = [f"2026-03-{number:02}" for number in range(2, 9)]
FIRST, LAST = f"{DAYS[0]}T00:00:00Z", f"{DAYS[-1]}T00:00:00Z"
FAILING = DAYS[3]
SECRET = "nobody-may-see-this"

pytestmark = [databases.ON_POSTGRES, pytest.mark.timeout(400)]


@pytest.fixture
def stub() -> Iterator[triage_stub.Stub]:
    with triage_stub.Stub() as started:
        yield started


def test_a_week_is_filled_in_and_the_same_when_run_again(
    airflow: stack.Stack, stub: triage_stub.Stub, postgres_server: Postgres
) -> None:
    output = airflow.root / "triage"
    database = prepare(airflow, stub, postgres_server, output)
    alerts = {day: alert_keys(day) for day in DAYS}
    stub.faults.refused_alerts[alerts[FAILING][-1]] = 1

    back_fill(airflow)
    succeeded(airflow, stub, 1)
    filled = table(postgres_server, database)
    assert [row[0] for row in filled] == DAYS
    assert [row[2] for row in filled] == [len(alerts[day]) for day in DAYS]
    assert tries(airflow) == {day: 1 + (day == FAILING) for day in DAYS}
    assert sorted(key for key, _, _ in stub.alerts) == sorted(key for keys in alerts.values() for key in keys)
    assert summary(airflow, DAYS[0])["sha256"] == filled[0][-1]

    files = {path.name: path.read_bytes() for path in output.glob("*.jsonl")}
    assert len(files) == 3 * len(DAYS)
    run_again(airflow)
    succeeded(airflow, stub, 2)
    assert table(postgres_server, database) == filled
    assert {path.name: path.read_bytes() for path in output.glob("*.jsonl")} == files
    assert len(stub.alerts) == sum(map(len, alerts.values())), "somebody was told twice"
    logs = [*airflow.root.glob("logs/dag_id=triage_week/**/*.log"), *output.iterdir()]
    assert len(logs) > 2 * len(DAYS)
    assert [file.name for file in logs if SECRET in file.read_text()] == []


def prepare(airflow: stack.Stack, stub: triage_stub.Stub, server: Postgres, output: Path) -> str:
    """What the DAG wants to find in Airflow; the name of the database that it writes to."""
    database = "triage"
    server.create_database(database)
    server.execute(database, (EXAMPLE / "schema.sql").read_text())
    variables = {**stub.environment(), "TRIAGE_OUTPUT": str(output), "TRIAGE_ALERT_TOKEN": SECRET}
    for name, value in variables.items():
        airflow.rest.post("variables", {"key": name.lower(), "value": value})
    connection = {"connection_id": "triage_db", "conn_type": "postgres", "host": str(server.directory)}
    airflow.rest.post("connections", {**connection, "login": "postgres", "schema": database})
    return database


def alert_keys(day: str) -> list[str]:
    read = [triage_rules.normalised(item) for item in triage_stub.issues(day)]
    return [f"{day}-{issue['number']}" for issue in read if triage_rules.is_alert(issue)]


def back_fill(airflow: stack.Stack) -> None:
    airflow.rest.post("backfills", {"dag_id": DAG_ID, "from_date": FIRST, "to_date": LAST, "max_active_runs": 3})
    airflow.rest.pause(DAG_ID, False)


def run_again(airflow: stack.Stack) -> None:
    body = {"dry_run": False, "only_failed": False, "reset_dag_runs": True, "start_date": FIRST, "end_date": LAST}
    airflow.rest.post(f"dags/{DAG_ID}/clearTaskInstances", body)


def succeeded(airflow: stack.Stack, stub: triage_stub.Stub, times: int) -> None:
    """Wait until each day had so many networks, beside the one that failed, and all runs are over."""
    wanted = [times + (day == FAILING) for day in DAYS]
    waiting.until(lambda: networks(stub) == wanted, "a network for each day", 150, 0.2)
    waiting.until(lambda: set(run_states(airflow)) <= set(rest.FINISHED), "all runs to be over", 100, 0.2)
    assert run_states(airflow) == ["success"] * len(DAYS)
    assert networks(stub) == wanted


def networks(stub: triage_stub.Stub) -> list[int]:
    return [len(stub.networks.get(day, ())) for day in DAYS]


def run_states(airflow: stack.Stack) -> list[str]:
    return list(airflow.rest.run_states(DAG_ID).values())


def tries(airflow: stack.Stack) -> dict[str, int]:
    """How many tries each day needed."""
    of = f"dag_id = '{DAG_ID}' and task_id = 'triage'"
    tables = "task_instance join dag_run using (dag_id, run_id)"
    rows = airflow.sql(f"select logical_date, try_number from {tables} where {of}")
    return {f"{date:%Y-%m-%d}": number for date, number in rows}


def summary(airflow: stack.Stack, day: str) -> dict[str, object]:
    """What the task of a day returned."""
    of = f"dag_id = '{DAG_ID}' and logical_date = '{day}T00:00:00Z'"
    ((run_id,),) = airflow.sql(f"select run_id from dag_run where {of}")
    path = f"dags/{DAG_ID}/dagRuns/{run_id}/taskInstances/triage/xcomEntries/return_value"
    found: dict[str, object] = airflow.rest.get(path, deserialize=False, stringify=False)["value"]
    return found


def table(server: Postgres, database: str) -> list[tuple[object, ...]]:
    columns = "day::text, issues, alerted, archived, refused, sha256"
    return list(server.query(database, f"select {columns} from triage_days order by day"))
