"""The fork that is there before its job is."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from air_executor import AirExecutorClient, held, model, processes, usage
from air_executor.model import Job, JobState, Task
from air_executor.paths import Home
from air_executor.store import Submission
from air_executor.testing import RunnerProcess, wait_for
from air_runner import spare, taskloop, template
from air_runner.channel import Channel
from air_runner.freshness import Freshness
from tests.runner.conftest import StartRunner
from tests.runner.test_lifecycle import ended


def template_of(runner: RunnerProcess) -> psutil.Process:
    [found] = psutil.Process(runner.popen.pid).children()
    return found


def spare_of(runner: RunnerProcess, last: Job) -> psutil.Process:
    """Once it is there; the ephemeral runner of the last job may not be gone yet."""
    assert last.runner is not None
    ran = last.runner.pid

    def find() -> psutil.Process | None:
        return next((child for child in template_of(runner).children() if child.pid != ran), None)

    found = wait_for(find, 10.0, "a spare")
    assert found is not None
    return found


def run(client: AirExecutorClient, name: str, command: str = "true") -> Job:
    client.submit(Submission(Job(name), [Task("sh", ["-c", command])]))
    job = ended(client, name)
    assert job.state is JobState.COMPLETED, job.exit
    return job


def test_a_job_runs_in_the_spare_and_the_next_in_another(client: AirExecutorClient, start_runner: StartRunner) -> None:
    runner = start_runner()
    waiting = spare_of(runner, run(client, "first"))
    waited = processes.age(processes.identify(waiting.pid))
    job = run(client, "second")
    assert job.runner is not None and job.runner.pid == waiting.pid
    assert waited is not None and waited - 0.05 <= job.runner.waited <= waited + 5.0
    assert spare_of(runner, job).is_running()


def test_the_time_of_a_job_is_counted_from_its_start(home: Home, client: AirExecutorClient) -> None:
    own = processes.identify(os.getpid())
    lived = processes.age(own)
    assert lived is not None
    before = usage.working_for(Job("one", runner=own, started_at=model.now()))
    own.waited = lived / 2
    assert 0 < usage.working_for(Job("one", runner=own, started_at=model.now())) < before


def test_a_spare_that_was_killed_is_missed_by_nobody(client: AirExecutorClient, start_runner: StartRunner) -> None:
    """And is replaced after the next launch, not before: it may be killed again and again."""
    runner = start_runner()
    waiting = spare_of(runner, run(client, "first"))
    waiting.kill()
    wait_for(lambda: not template_of(runner).children(), 10.0, "the end of the spare")
    job = run(client, "second")
    assert job.runner is not None and job.runner.waited < 1.0
    again = run(client, "third") if spare_of(runner, job) else None
    assert again is not None and again.state is JobState.COMPLETED


def test_a_spare_that_is_stopped_just_before_it_is_given_a_job_has_lost_it(
    home: Home, client: AirExecutorClient, start_runner: StartRunner
) -> None:
    """The job had not begun, and is run by another."""
    runner = start_runner()
    waiting = spare_of(runner, run(client, "first"))
    waiting.suspend()
    client.submit(Submission(Job("second"), [Task("true")]))
    wait_for(lambda: any(home.claims(runner.id).iterdir()), 10.0, "the claim")
    waiting.kill()
    job = ended(client, "second")
    assert job.state is JobState.COMPLETED and job.runner is not None and job.runner.pid != waiting.pid


def test_a_spare_ends_with_its_template(client: AirExecutorClient, start_runner: StartRunner) -> None:
    runner = start_runner()
    waiting = spare_of(runner, run(client, "first"))
    template_of(runner).kill()
    waiting.wait(10.0)
    run(client, "second")


@pytest.mark.parametrize("part", [0, 1, 0.5])
def test_half_an_assignment_is_none(home: Home, client: AirExecutorClient, part: float) -> None:
    client.submit(Submission(Job("one"), [Task("true")]))
    sent = pickle.dumps(spare.Assignment("one", held.Look.at(home, "one")))
    ours, theirs = socket.socketpair()
    ours.sendall(sent[: int(len(sent) * part)])
    ours.close()
    found = spare.wait(theirs)
    assert (found is not None) is (part == 1)


def test_a_spare_that_is_gone_cannot_be_given_a_job() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    assert not spare.Spare(ours).give(spare.Assignment("one", None))
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN


def test_a_job_that_cannot_be_told_to_a_spare_is_run_by_a_fork(home: Home, client: AirExecutorClient) -> None:
    client.submit(Submission(Job("one"), [Task("true")]))
    look = held.Look.at(home, "one")
    nested: dict[str, object] = {}
    for _ in range(100_000):  # more than any Python descends
        nested = {"deeper": nested}
    look.job.extra = nested
    ours, theirs = socket.socketpair()
    with theirs:
        assert not spare.Spare(ours).give(spare.Assignment("one", look))
        assert spare.wait(theirs) is None


def test_where_no_spare_can_be_made_there_is_none(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs need the processes."""

    def refuse() -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    ours, theirs = socket.socketpair()
    rules = taskloop.Rules(grace=1.0, output_mb=1)
    mine = template.Template(home, "one", "air_runner.ephemeral", rules, Channel(ours), Freshness(0.0), None)
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert mine._lacks_spare
    mine._keep_spare()
    assert mine.spare is None and not mine._lacks_spare
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    ours.close()
    theirs.close()


# --- Rehearsals ---

REHEARSE = """
    import signal, subprocess, sys
    from pathlib import Path
    from air_runner import ephemeral, taskloop
    ephemeral.REHEARSAL_PLACE = Path(sys.argv[1])
    child = subprocess.Popen(["sleep", "60"]) if "child" in sys.argv else None
    ephemeral.rehearse(taskloop.Rules(grace=1.0, output_mb=1))
    assert child is None or child.poll() is None
    if child is not None:
        child.kill()
        child.wait()
    print(sorted(each.name for each in Path(sys.argv[1]).iterdir()) if Path(sys.argv[1]).is_dir() else "no directory")
    """


def rehearse(place: Path, *how: str) -> tuple[str, str]:
    """What it leaves, and what it says."""
    program = [sys.executable, "-c", textwrap.dedent(REHEARSE), str(place), *how]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    return done.stdout.strip(), done.stderr


@pytest.mark.parametrize("how", [[], ["child"]])
def test_a_rehearsal_leaves_nothing_and_no_child_alone(tmp_path: Path, how: list[str]) -> None:
    assert rehearse(tmp_path, *how) == ("[]", "")


def test_without_a_place_there_is_no_rehearsal(tmp_path: Path) -> None:
    assert rehearse(tmp_path / "missing") == ("no directory", "")


def test_a_rehearsal_that_fails_is_told_and_nothing_more(tmp_path: Path) -> None:
    place = tmp_path / ("a" * 255)
    place.touch(mode=0o700)
    assert "a rehearsal failed" in rehearse(place)[1]
