"""A running task outlives its scheduler: it runs once, succeeds, and leaves no process behind."""

from __future__ import annotations

from tests.airflow import databases, processes, rest, stack, waiting


def started(airflow: stack.Stack, run: rest.Run) -> int:
    """Wait for the body to start; return its process id."""
    line = waiting.until(lambda: airflow.marks(run.run_id), "the body to start", 40)[0]
    return int(line.removeprefix("start "))


def is_log_served(airflow: stack.Stack, run: rest.Run) -> bool:
    """Whether the log that the UI shows of the running body comes from the scheduler's log server, too."""
    return f":{airflow.log_port}/log/" in airflow.rest.log(run, "body")


def ended_once(airflow: stack.Stack, run: rest.Run, body: int) -> None:
    assert airflow.rest.finished(run, 60) == "success"
    assert [line.split()[0] for line in airflow.marks(run.run_id)] == ["start", "end"]
    (task,) = airflow.rest.tasks(run)
    assert task.try_number == 1
    airflow.home.wait_finished(run)
    job = airflow.home.job_of(run, "body")
    assert (job.state["state"], job.state["attempt"]) == ("completed", 1)
    own = (body, int(job.state["runner"]["pid"]))
    waiting.until(lambda: not any(map(processes.exists, own)), "the processes of the job to be gone", 10)


def test_scheduler_killed_and_restarted_at_once(airflow: stack.Stack) -> None:
    run = airflow.rest.trigger("held")
    body = started(airflow, run)
    airflow.kill_scheduler()
    airflow.start_scheduler()
    airflow.release(run.run_id)
    ended_once(airflow, run, body)
    # The new scheduler starts a runner of its own code and settings; the old one hands its jobs over.
    waiting.until(lambda: len(airflow.home.runners()) == 1, "one runner to be left", 30)
    airflow.assert_no_exception("scheduler")


@databases.ON_POSTGRES
def test_scheduler_killed_and_restarted_when_it_counts_as_dead(airflow: stack.Stack) -> None:
    during, after = airflow.rest.trigger("held"), airflow.rest.trigger("held")
    first, second = started(airflow, during), started(airflow, after)
    waiting.until(lambda: is_log_served(airflow, after), "the log to be served", 30)
    airflow.kill_scheduler()
    airflow.release(during.run_id)
    waiting.until(lambda: airflow.marks(during.run_id)[-1] == "end", "the first body to end without a scheduler", 30)
    # Only now does a new scheduler take over what the old one left.
    waiting.until(lambda: not airflow.rest.healthy("scheduler"), "the scheduler to count as dead", 60, 1)
    airflow.start_scheduler()
    waiting.until(lambda: is_log_served(airflow, after), "the log to be served by the next scheduler", 30)
    airflow.release(after.run_id)
    ended_once(airflow, during, first)
    ended_once(airflow, after, second)
    airflow.assert_no_exception("scheduler")
