"""A webhook that makes DAG runs, with the API server of a real Airflow."""

from __future__ import annotations

from pathlib import Path

from air_executor import model, store
from air_executor.model import JobState
from air_executor.paths import Home
from air_executor.webhooks import delivery, events
from air_executor.webhooks.delivery import Delivery, Outcome, Verdict
from air_executor.webhooks.tables import WebhookSettings
from tests.airflow import databases, rest, stack

pytestmark = databases.ON_POSTGRES

DAG = "deadline"


def test_an_event_makes_one_run_of_a_dag(shared_airflow: stack.Stack, tmp_path: Path) -> None:
    shared_airflow.assert_no_exception("api-server")  # of what was before: this test passes over the log below
    home = Home(tmp_path)
    store.ensure_home(home)
    (home.root / "token").write_text(shared_airflow.rest.log_in())
    shared_airflow.rest.pause(DAG, True)  # the run shall be there, and not be done

    def airflow(dag_id: str, user: str | None = None) -> Delivery:
        table = WebhookSettings(
            url=f"http://127.0.0.1:{shared_airflow.api_port}",
            kind="airflow",
            dag_id=dag_id,
            user=user,
            secret_file="token",
            allow_private=True,
            timeout=30.0,
        )
        return Delivery(home, "ops", table)

    job = model.Job("nightly", finished_at=model.now(), exit=model.Exit(model.ExitKind.EXIT_CODE, "it failed"))
    event = events.of_job(home, "ops", job, JobState.FAILED)
    ping = events.ping("ops", "01234567")
    run = rest.Run(DAG, delivery.run_id(event))
    try:
        assert airflow(DAG, user="anybody").deliver(ping) == Outcome(Verdict.TAKEN)
        assert run not in shared_airflow.rest.run_states(DAG)
        assert [airflow(DAG).deliver(event) for _ in range(2)] == [Outcome(Verdict.TAKEN)] * 2
        assert run in shared_airflow.rest.run_states(DAG)
        assert shared_airflow.rest.get(f"dags/{DAG}/dagRuns/{run.run_id}")["conf"] == event
    finally:
        shared_airflow.new_output("api-server")  # Airflow logs a traceback for the run that is there already
        shared_airflow.rest.delete(f"dags/{DAG}/dagRuns/{run.run_id}")
    missing = airflow("no_such_dag").deliver(event)
    assert missing.verdict is Verdict.REFUSED and "has no DAG no_such_dag" in missing.error
    (home.root / "token").write_text("expired")
    refused = airflow(DAG).deliver(ping)
    assert refused.verdict is Verdict.REFUSED and "HTTP 403: the token does not count any more" in refused.error
