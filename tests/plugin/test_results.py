"""What Airflow is told of a job that is over."""

from __future__ import annotations

import pytest

from air_executor import model
from air_executor.model import ExitKind, JobState
from airflow_plugin import keys, results
from airflow_plugin.results import Report, Tell
from airflow_plugin.workload import ExitCode

GOOD = JobState.COMPLETED


def exit_of(kind: ExitKind, code: int | None = None) -> model.Exit:
    return model.Exit(kind, "why", code=code)


@pytest.mark.parametrize(
    ("state", "outcome", "expected"),
    [
        (GOOD, model.Exit(ExitKind.SUCCESS, "success"), Report(Tell.SUCCESS)),
        (GOOD, model.Exit(ExitKind.SUCCESS, "skipped"), Report(Tell.SUCCESS)),
        (GOOD, model.Exit(ExitKind.SUCCESS, "completed"), Report(Tell.SUCCESS)),
        (GOOD, model.Exit(ExitKind.SUCCESS, "deferred"), Report(Tell.NOTHING)),
        (GOOD, model.Exit(ExitKind.SUCCESS, "up_for_reschedule"), Report(Tell.NOTHING)),
        (GOOD, model.Exit(ExitKind.SUCCESS, "awaiting_input"), Report(Tell.NOTHING)),
        (JobState.FAILED, exit_of(ExitKind.EXIT_CODE, ExitCode.TASK_FAILED), Report(Tell.FAILED, "why")),
        (JobState.FAILED, exit_of(ExitKind.EXIT_CODE, ExitCode.STOPPED_BY_AIRFLOW), Report(Tell.SUCCESS, "why")),
        (JobState.FAILED, exit_of(ExitKind.EXIT_CODE, ExitCode.ALREADY_RUNNING), Report(Tell.NOTHING, "why")),
        (JobState.FAILED, exit_of(ExitKind.EXIT_CODE, ExitCode.TOKEN_OUT_OF_DATE), Report(Tell.NOTHING, "why")),
        (JobState.FAILED, exit_of(ExitKind.EXIT_CODE, ExitCode.START_REFUSED), Report(Tell.FAILED, "why")),
        (JobState.FAILED, exit_of(ExitKind.EXIT_CODE, ExitCode.NOT_STARTED), Report(Tell.FAILED, "why")),
        (JobState.FAILED, exit_of(ExitKind.EXIT_CODE, ExitCode.NOT_DELIVERED), Report(Tell.FAILED, "why")),
        (JobState.FAILED, exit_of(ExitKind.EXIT_CODE, ExitCode.INVALID_WORKLOAD), Report(Tell.FAILED, "why")),
        (JobState.FAILED, exit_of(ExitKind.EXIT_CODE, 1), Report(Tell.FAILED, "why")),
        (JobState.FAILED, exit_of(ExitKind.SIGNAL), Report(Tell.FAILED, "why")),
        (JobState.FAILED, exit_of(ExitKind.TIMEOUT), Report(Tell.FAILED, "why")),
        (JobState.FAILED, exit_of(ExitKind.MEMORY), Report(Tell.FAILED, "why")),
        (JobState.FAILED, exit_of(ExitKind.RUNNER_LOST), Report(Tell.FAILED, "why")),
        (JobState.FAILED, exit_of(ExitKind.START_FAILED), Report(Tell.FAILED, "why")),
        (JobState.FAILED, exit_of(ExitKind.DAMAGED), Report(Tell.FAILED, "why")),
        (JobState.CANCELLED, exit_of(ExitKind.CANCELLED), Report(Tell.FAILED, "why")),
        (JobState.CANCELLED, exit_of(ExitKind.CANCELLED, ExitCode.STOPPED_BY_AIRFLOW), Report(Tell.SUCCESS, "why")),
    ],
)
def test_the_end_of_a_task(state: JobState, outcome: model.Exit, expected: Report) -> None:
    assert results.report(model.Job("job", state=state, exit=outcome), keys.TASK) == expected


@pytest.mark.parametrize("kind", [keys.CALLBACK, keys.CONNECTION_TEST])
@pytest.mark.parametrize(
    ("state", "outcome", "expected"),
    [
        (GOOD, model.Exit(ExitKind.SUCCESS, "deferred"), Report(Tell.SUCCESS)),
        (JobState.FAILED, exit_of(ExitKind.EXIT_CODE, ExitCode.STOPPED_BY_AIRFLOW), Report(Tell.FAILED, "why")),
        (JobState.FAILED, exit_of(ExitKind.RUNNER_LOST), Report(Tell.FAILED, "why")),
    ],
)
def test_the_end_of_something_else(kind: str, state: JobState, outcome: model.Exit, expected: Report) -> None:
    assert results.report(model.Job("job", state=state, exit=outcome), kind) == expected


def test_a_job_without_an_outcome_says_so() -> None:
    assert results.report(model.Job("job", state=JobState.FAILED), keys.TASK) == Report(
        Tell.FAILED, "its job is failed without a reason"
    )


def test_the_codes_of_a_workload_are_those_of_nothing_else() -> None:
    codes = [int(code) for code in ExitCode]
    assert len(set(codes)) == len(codes)
    assert codes[0] == 0 and all(78 < code < 256 and code not in (126, 127) for code in codes[1:])
