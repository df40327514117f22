"""Jobs that wait for others do not keep all slots from them."""

from __future__ import annotations

import sys

from air_executor import AirExecutorClient, JobState, runners
from air_executor.paths import Home
from air_executor.testing import wait_for
from tests.runner.conftest import StartRunner

CALL = (
    "from air_executor import AirExecutorClient as C; c = C(); c.create_job(*{job}); print(c.wait('{name}', 60).state)"
)


def caller(name: str, tasks: list[dict[str, object]]) -> dict[str, object]:
    """A task that submits a job and waits for it."""
    script = CALL.format(job=repr((name, tasks)), name=name)
    return {"command": sys.executable, "args": ["-c", script]}


def test_a_job_that_is_waited_for_starts_in_the_place_of_the_one_that_waits(
    client: AirExecutorClient, start_runner: StartRunner, home: Home
) -> None:
    """Two of two slots wait, one of them for a job that waits itself."""
    start_runner("--slots", "2")
    client.create_job("one", [caller("one-1", [{"command": "true"}])])
    client.create_job("two", [caller("two-1", [caller("two-2", [{"command": "true"}])])])
    for name in ("one", "two", "one-1", "two-1", "two-2"):
        wait_for(lambda name=name: home.job(name).root.exists())  # type: ignore[misc]
        assert client.wait(name, 60).state is JobState.COMPLETED
    assert client.logs("one") == "completed\n"
    wait_for(lambda: not list(home.yielded.iterdir()))


def test_slots_are_as_many_as_before_when_nobody_waits_any_more(
    client: AirExecutorClient, start_runner: StartRunner, home: Home
) -> None:
    start_runner("--slots", "1")
    client.create_job("a", [caller("b", [{"command": "sleep", "args": ["300"]}])])
    wait_for(lambda: home.job("b").root.exists() and client.get_job("b").state is JobState.WORKING)
    client.create_job("c", [{"command": "true"}])
    client.create_job("d", [{"command": "true"}], priority=5)
    client.cancel("b")
    assert client.wait("a", 60).state is client.wait("c", 60).state is JobState.COMPLETED
    started = {name: client.get_job(name).started_at or "" for name in "abcd"}
    finished = {name: client.get_job(name).finished_at or "" for name in "abcd"}
    assert finished["a"] < started["d"] and finished["d"] < started["c"], (started, finished)


def test_a_runner_that_drains_starts_what_its_jobs_wait_for(
    client: AirExecutorClient, start_runner: StartRunner, home: Home
) -> None:
    runner = start_runner()
    go = home.root / "go"
    wait = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)\n"
    task = caller("b", [{"command": "true"}])
    client.create_job("a", [{**task, "args": ["-c", wait + str(task["args"][1])]}])  # type: ignore[index]
    wait_for(lambda: client.get_job("a").state is JobState.WORKING)
    runners.tell(home, runner.id, "drain")
    wait_for(lambda: runners.read(home, runner.id).draining)
    go.touch()
    assert client.wait("a", 60).state is JobState.COMPLETED and client.get_job("b").state is JobState.COMPLETED


SEVERAL = """
from air_executor import AirExecutorClient
client = AirExecutorClient()
for name in {names}:
    script = f"until [ -e go-{{name}} ]; do sleep 0.01; done"
    client.create_job(name, [{{"command": "sh", "args": ["-c", script], "cwd": {cwd!r}}}])
    client.yield_to(client.get_job(name))
for name in {names}:
    client.wait(name, 60)
"""


def test_one_job_runs_in_the_place_of_each_that_waits(
    client: AirExecutorClient, start_runner: StartRunner, home: Home
) -> None:
    """However many it waits for; the next one starts when the first is over."""
    start_runner("--slots", "1")
    names = ["b", "c", "d"]

    def working() -> list[str]:
        there = [name for name in names if home.job(name).root.exists()]
        return [name for name in there if client.get_job(name).state is JobState.WORKING]

    script = SEVERAL.format(names=names, cwd=str(home.root))
    client.create_job("a", [{"command": sys.executable, "args": ["-c", script]}])
    wait_for(lambda: all(home.job(name).root.exists() for name in names))
    left = set(names)
    while left:
        [name] = wait_for(working)
        (home.root / f"go-{name}").touch()
        client.wait(name, 30)
        left.remove(name)
    assert client.wait("a", 60).state is JobState.COMPLETED


def test_what_is_followed_starts_as_well(client: AirExecutorClient, start_runner: StartRunner, home: Home) -> None:
    start_runner("--slots", "1")
    words = ["-m", "air_executor", "--home", str(home.root), "submit", "--name", "b", "--follow", "--", "echo", "hello"]
    client.create_job("a", [{"command": sys.executable, "args": words}])
    assert client.wait("a", 60).state is JobState.COMPLETED and "hello" in client.logs("a")


def test_a_runner_that_stops_its_jobs_starts_none_in_their_places(
    client: AirExecutorClient, start_runner: StartRunner, home: Home
) -> None:
    runner = start_runner("--slots", "1", "--grace", "5")
    task = caller("b", [{"command": "sleep", "args": ["300"]}])
    script = 'trap \'\' TERM; touch ready; until [ -e go ]; do sleep 0.01; done; exec "$0" -c "$1"'
    words = ["-c", script, sys.executable, task["args"][1]]  # type: ignore[index]
    client.create_job("a", [{"command": "sh", "args": words, "cwd": str(home.root)}])
    wait_for((home.root / "ready").exists)
    runners.tell(home, runner.id, "abort")
    wait_for(lambda: runners.read(home, runner.id).draining)
    (home.root / "go").touch()
    wait_for(lambda: home.job("b").root.exists())
    assert runner.wait(60) == 0
    assert client.get_job("b").state is JobState.WAITING and client.get_job("a").state is JobState.CANCELLED
