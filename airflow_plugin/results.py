"""From a job that is over to what Airflow is told. Pure.

What `SchedulerJobRunner.process_executor_events` makes of an event decides here:

===============================================  ==========  ========================================================
how the job ended                                told        because
===============================================  ==========  ========================================================
the task's state is final and Airflow has it     SUCCESS     the state counts, the event is only logged
deferred, rescheduled, waiting for an answer     nothing     Airflow has it, and may have scheduled the task again by
                                                             now: an event would fail it ("state mismatch")
the task failed, Airflow has it                  FAILED      the state counts; the event carries the reason
stopped by Airflow: cleared, marked, deleted     SUCCESS     a cleared task (RESTARTING) is scheduled again at once;
                                                             FAILED would make it wait for its retry delay
already running in another process               nothing     any event would fail the live task
its token was too old to start with              nothing     it is queued still, and Airflow queues it anew with
                                                             another token once it counts as stuck
everything else: killed, lost, limits, refused   FAILED      Airflow's retry policy decides
===============================================  ==========  ========================================================
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from air_executor import model
from airflow_plugin import keys
from airflow_plugin.workload import RELEASED, ExitCode


class Tell(enum.Enum):
    """What Airflow is told of a workload that is over."""

    SUCCESS = "success"
    FAILED = "failed"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Report:
    """What an executor does for a job that is over."""

    tell: Tell
    reason: str | None = None
    """Why it failed; None if it did not."""


def report(job: model.Job, kind: str) -> Report:
    """What Airflow is told of a job that is over, of the kind `keys.TASK` or another."""
    outcome = job.exit
    reason = outcome.reason if outcome else f"its job is {job.state} without a reason"
    if job.state is model.JobState.COMPLETED:
        return Report(Tell.NOTHING if kind == keys.TASK and reason in RELEASED else Tell.SUCCESS)
    code = outcome.code if outcome else None  # also of one that was cancelled meanwhile: Airflow's answer counts
    if kind == keys.TASK and code == ExitCode.STOPPED_BY_AIRFLOW:
        return Report(Tell.SUCCESS, reason)
    if kind == keys.TASK and code in (ExitCode.ALREADY_RUNNING, ExitCode.TOKEN_OUT_OF_DATE):
        return Report(Tell.NOTHING, reason)
    return Report(Tell.FAILED, reason)


def gone(name: str) -> Report:
    """For a job whose directory is not there any more."""
    return Report(Tell.FAILED, f"the job {name} was removed before its end was known")
