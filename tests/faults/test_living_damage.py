"""Damage while everything lives: a runner with jobs that wait and run, and all commands.

What is damaged ends with a reason, and keeps its files; nobody crashes, nobody else is disturbed, the runner goes on.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from air_executor import JobState, cli, doctor, runners, spool, store, testing
from air_executor.paths import Home
from air_executor.testing import wait_for
from tests.faults import nasty
from tests.faults.ward import (
    ANY_END,
    CANCELLED,
    CHANGING,
    COMPLETED,
    FAILED,
    OF_ALL,
    Case,
    Ward,
    try_command,
    try_commands,
)

OF_RUNNERS = [("status",), ("runner", "list"), ("runner", "list", "--json")]
INNOCENT = [f"innocent-{number}" for number in range(5)]
STATE, TASKS, LOCK, EVENTS, CANCEL, LOGS = (
    *("state.json", "tasks.json", "runner.lock", "events.jsonl", "cancel", "logs"),
)


def make_cases() -> Iterator[Case]:
    contents, things = list(nasty.contents()), list(nasty.things())
    present = [each for each in things if each.name != "missing"]
    chosen = [
        *(("waiting", STATE, each, FAILED) for each in [*contents, *nasty.values_of_state(), *things]),
        *(("waiting", TASKS, each, FAILED) for each in [*contents[::3], *nasty.values_of_tasks(), *things]),
        *(("waiting", file, nasty.swapped(), FAILED) for file in (STATE, TASKS)),
        *(("waiting", LOCK, each, COMPLETED) for each in [*contents[:2], *things, nasty.link_to_another()]),
        *(("waiting", EVENTS, each, COMPLETED) for each in contents[:8]),
        *(("waiting", EVENTS, each, ANY_END) for each in things),
        *(("waiting", CANCEL, each, CANCELLED) for each in [*contents[::4], *present]),
        *(("lost", STATE, each, FAILED) for each in [*contents[::3], *nasty.values_of_process()]),
        *(("lost", file, each, FAILED) for file in (STATE, TASKS) for each in things),
        *(("running", file, each, COMPLETED) for file in (STATE, TASKS) for each in [*contents[::5], *things]),
        *(("running", LOCK, each, COMPLETED) for each in things),
        *(("running", EVENTS, each, ANY_END) for each in things),
        *(("running", CANCEL, each, CANCELLED) for each in present),
        *(("over", STATE, each, FAILED) for each in [*contents[::4], *things]),
        *(("over", TASKS, each, COMPLETED) for each in [*contents[::6], *things]),
    ]
    return number(chosen)


def make_abandoned_cases() -> Iterator[Case]:
    """Of jobs that go on although their runner was killed."""
    contents, things = list(nasty.contents()), list(nasty.things())
    chosen = [
        *(("abandoned", STATE, each, COMPLETED) for each in [*contents[::5], *things]),
        *(("abandoned", STATE, each, COMPLETED) for each in nasty.values_of_process()),
        *(("abandoned", TASKS, each, COMPLETED) for each in things),
        *(("abandoned", LOCK, each, COMPLETED) for each in things),
    ]
    return number(chosen)


def number(chosen: list[tuple[str, str, nasty.Nasty, frozenset[JobState]]]) -> Iterator[Case]:
    numbers = itertools.count()
    return (Case(situation, file, each, ends, next(numbers)) for situation, file, each, ends in chosen)


@pytest.fixture(autouse=True)
def quick_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand of them in one process: one parser does for all, and Airflow is not asked how it is configured."""
    monkeypatch.setattr(cli, "get_parser", functools.cache(cli.get_parser))
    monkeypatch.setattr(doctor, "check_airflow", lambda *_: ())


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    home = Home(tmp_path / "home")
    store.ensure_home(home)
    ward = Ward(home, list(make_cases()))
    yield ward
    testing.end_everything(home, *ward.runners)


def names(cases: list[Case]) -> list[str]:
    return [case.job for case in cases]


def all_over(ward: Ward, jobs: list[str]) -> bool:
    return all(store.read_or_damaged(ward.home, job).state.terminal for job in jobs)


def test_damage_to_jobs_while_a_runner_has_them(ward: Ward) -> None:
    home, client = ward.home, ward.client
    runner = ward.start_runner()
    running, over = names(ward.of("running")), names(ward.of("over"))
    ward.submit(*running, *INNOCENT, holds=True)
    ward.submit("another", *over)
    wait_for(lambda: all_over(ward, ["another", *over]), what="the ends of those that shall be over")
    working = [*running, *INNOCENT]
    wait_for(lambda: all(client.get_job(name).state is JobState.WORKING for name in working), what="all that shall run")
    runners.tell(home, runner.id, "drain")
    wait_for(lambda: runners.read(home, runner.id).draining, what="the draining")
    ward.submit(*names(ward.of("waiting")))
    ward.lose(*names(ward.of("lost")))
    ward.damage("running", "over", "waiting", "lost")
    ward.bury()
    wrong = try_commands(home, names(ward.cases)[::3])
    ward.go.touch()
    wait_for(lambda: not runners.read(home, runner.id).working, 30, "the ends of those that ran")
    runners.tell(home, runner.id, "resume")
    wait_for(lambda: not ward.queued_or_claimed(), 30, "the last end")
    wrong += try_command(home, "repair")
    wrong += try_commands(home, names(ward.cases)[1::3])
    wrong += ward.wrong()
    wrong += try_commands(home, names(ward.cases)[::7], CHANGING)
    wrong += try_command(home, "doctor")
    wait_for(lambda: all_over(ward, names(ward.cases)), 30, "the ends of the second attempts")
    assert not wrong, f"{len(wrong)} wrong:\n" + "\n".join(wrong)
    assert {client.get_job(name).state for name in INNOCENT} == {JobState.COMPLETED}
    ward.submit("later")
    assert client.wait("later", 20).state is JobState.COMPLETED and runner.popen.poll() is None
    assert client.get_job("another").state is JobState.COMPLETED
    assert "Traceback" not in home.runner_log.read_text()


def test_damage_to_jobs_that_go_on_without_their_runner(ward: Ward) -> None:
    """The next runner has nothing but the files, and leaves alone what may be alive."""
    home, client = ward.home, ward.client
    ward.cases = list(make_abandoned_cases())
    jobs = names(ward.cases)
    first = ward.start_runner()
    ward.submit(*jobs, *INNOCENT, holds=True)
    ward.submit("another")
    working = [*jobs, *INNOCENT]
    wait_for(lambda: all(client.get_job(name).state is JobState.WORKING for name in working), what="all that shall run")
    first.kill()
    ward.damage("abandoned")
    second = ward.start_runner()
    wait_for(lambda: set(INNOCENT) <= set(spool.claimed(home, second.id)), what="the takeover")
    wrong = try_command(home, "repair")
    ward.submit("later")
    assert client.wait("later", 20).state is JobState.COMPLETED
    ward.go.touch()
    wait_for(lambda: not spool.claimed(home, second.id), 30, "the last end")
    assert not (found := [*wrong, *ward.wrong()]), f"{len(found)} wrong:\n" + "\n".join(found)
    assert [ward.starts(name) for name in working] == [1] * len(working)
    assert "Traceback" not in home.runner_log.read_text()


def test_litter_and_damage_beside_the_jobs(ward: Ward) -> None:
    """In the spool, the files of runners, the configuration: a runner that lives goes on, and mends its own file."""
    home, client = ward.home, ward.client
    home.config.write_text("[runner]\nheartbeat = 0.1\n")
    runner = ward.start_runner()
    ward.submit(*INNOCENT, holds=True)
    wait_for(lambda: all(client.get_job(name).state is JobState.WORKING for name in INNOCENT), what="the jobs")
    spooled = [home.finished, home.cancel_requests, home.control, home.waiting, home.queue("default"), home.claimed]
    for directory in [*spooled, home.claims(runner.id), home.jobs, home.runners, home.components]:
        nasty.litter(directory)
    marker = spool.marker_of(client.get_job("innocent-0"))
    for job in ("innocent-0", "gone", ".."):
        (home.queue("default") / f"{marker.order}-{job}").touch()
    for action in ("dance", "stop.now", "", "drain.resume"):
        (home.control / f"{runner.id}.{action}").touch()
    nasty.make_directory(home.control / f"{runner.id}.drain")
    home.config.write_bytes(b"[runner\nslots = \xff")
    (home.runners / "evil.json").write_text('{"id": "evil", "process": {"pid": -1}}')
    home.component("scheduler").write_bytes(b"\0" * 100)
    wrong: list[str] = []
    for each in [*nasty.contents(), *nasty.things()]:
        each.apply(home.runner(runner.id), home.runners / "evil.json")
        wrong += [line for words in OF_RUNNERS for line in try_command(home, *words)]
        wait_for(lambda: runner.id in [info.id for info in runners.all_runners(home)], what="the runner's own file")
    wrong += [line for words in (("repair",), ("doctor",), *OF_ALL) for line in try_command(home, *words)]
    assert not wrong, f"{len(wrong)} wrong:\n" + "\n".join(wrong)
    ward.submit("later")
    assert client.wait("later", 20).state is JobState.COMPLETED
    ward.go.touch()
    assert {client.wait(name, 20).state for name in INNOCENT} == {JobState.COMPLETED}
    assert "Traceback" not in home.runner_log.read_text() and runner.popen.poll() is None
