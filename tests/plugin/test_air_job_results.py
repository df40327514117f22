"""What jobs that a runner has run give to the operator: results, and what was kept of an attempt before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from airflow.sdk.bases.operator import ExecutorSafeguard
from airflow.sdk.exceptions import AirflowException

from air_executor import model, testing
from air_executor.client import AirExecutorClient
from air_executor.paths import Home
from airflow_plugin.operators import AirJobOperator
from tests.plugin import tasks

pytestmark = pytest.mark.usefixtures("way")


@pytest.fixture(autouse=True)
def safeguard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow lets only its worker execute operators."""
    monkeypatch.setattr(ExecutorSafeguard, "test_mode", True)


@pytest.fixture
def runner(home: Home) -> Iterator[testing.RunnerProcess]:
    with testing.running_runner(home) as runner:
        yield runner


def test_the_outcome_is_returned(home: Home, runner: testing.RunnerProcess) -> None:
    script = 'echo "{\\"rows\\": 3}" > "$AIR_EXECUTOR_OUTPUT"'
    operator = AirJobOperator(task_id="work", tasks=[{"id": "count", "command": "sh", "args": ["-c", script]}])
    outcome = tasks.run(operator)
    assert set(outcome) == {"state", "job", "tasks", "result", "usage"}
    assert (outcome["state"], outcome["tasks"]) == ("completed", {"count": "completed"})
    assert outcome["result"] == {"count": {"rows": 3}} and outcome["usage"]["wall_s"] >= 0


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ('echo "{" > "$AIR_EXECUTOR_OUTPUT"', "JSON"),
        ('head -c 2000000 /dev/zero | tr "\\0" 1 > "$AIR_EXECUTOR_OUTPUT"', "at most 1048576"),
    ],
    ids=["not JSON", "too big"],
)
def test_a_result_that_cannot_be_taken_fails(
    home: Home, api: AirExecutorClient, runner: testing.RunnerProcess, script: str, message: str
) -> None:
    operator = AirJobOperator(task_id="work", tasks=[{"id": "count", "command": "sh", "args": ["-c", script]}])
    with pytest.raises(AirflowException, match=message):
        tasks.run(operator)
    (job,) = api.list_jobs()
    assert job.state is model.JobState.FAILED


def test_a_job_that_failed_before_is_tried_again(
    home: Home, api: AirExecutorClient, runner: testing.RunnerProcess
) -> None:
    mark = home.root / "mark"
    given = [
        {"id": "first", "command": "sh", "args": ["-c", f"echo ran >> {mark}.first"]},
        {"id": "second", "command": "sh", "args": ["-c", f"test -e {mark}"], "dependencies": ["first"]},
    ]
    with pytest.raises(AirflowException):
        tasks.run(AirJobOperator(task_id="work", tasks=given))
    mark.touch()
    outcome = tasks.run(AirJobOperator(task_id="work", tasks=given, keep_completed=True), try_number=2)
    assert outcome["state"] == "completed" and api.get_job(outcome["job"]).attempt == 2
    assert (home.root / "mark.first").read_text() == "ran\n"
