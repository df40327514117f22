"""A runner removes old jobs by itself, beside its work."""

from __future__ import annotations

import pytest

from air_executor import AirExecutorClient, JobState, store
from air_executor.paths import Home
from air_executor.testing import wait_for
from tests.runner.conftest import StartRunner

TASK = {"command": "true"}


def log_of(home: Home) -> str:
    return home.runner_log.read_text()


def test_jobs_that_are_over_go_and_others_stay(
    client: AirExecutorClient, home: Home, start_runner: StartRunner
) -> None:
    home.config.write_text("[retention]\ncompleted_days = 0.00001\nfailed_days = 1\ninterval = 0.5\n")
    client.create_job("works", [{"command": "sleep", "args": ["60"]}])
    client.create_job("fails", [{"command": "false"}])
    client.create_job("waits", [TASK], queue="nobody")
    client.create_job("completes", [TASK])
    start_runner()
    wait_for(lambda: client.get_job("fails").state is JobState.FAILED)
    wait_for(lambda: "completes" not in store.names(home))
    wait_for(lambda: "removed 1 old jobs, as [retention] says" in log_of(home))
    client.create_job("another", [TASK])
    wait_for(lambda: "another" not in store.names(home))
    assert sorted(store.names(home)) == ["fails", "waits", "works"]
    assert client.get_job("works").state is JobState.WORKING


def test_two_runners_of_a_home_do_it_together(client: AirExecutorClient, home: Home, start_runner: StartRunner) -> None:
    home.config.write_text("[retention]\nkeep = 3\ninterval = 0.2\n")
    start_runner()
    start_runner()
    for number in range(20):
        client.create_job(f"job-{number}", [TASK])
    wait_for(lambda: len(list(store.names(home))) == 3)
    assert "could not be removed" not in log_of(home)


@pytest.mark.parametrize("config", ["interval = 0\nkeep = 1", "interval = 0.1\ncompleted_days = 0\nfailed_days = 0"])
def test_switched_off(client: AirExecutorClient, home: Home, start_runner: StartRunner, config: str) -> None:
    home.config.write_text(f"[retention]\n{config}\n")
    start_runner()
    for number in range(3):
        client.create_job(f"job-{number}", [TASK])
        client.wait(f"job-{number}", 20)
    assert len(list(store.names(home))) == 3
    assert not home.prune_lock.exists()
