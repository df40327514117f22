"""The runner's side of the process for Slurm, and what is handed to `sbatch`: real processes, and no Slurm."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import selectors
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from air_executor import held, model, processes, repair, runners, spool, store, temporaries
from air_executor.model import ExitKind, JobState
from air_executor.paths import Home
from air_executor.queuetables import QueueSettings
from air_executor.settings import Settings, SlurmSettings
from air_executor.slurm import condition, record, states
from air_executor.testing import wait_for
from air_runner import taskloop
from air_runner.enforcement import Enforcement
from air_runner.launchers import Event, Launched
from air_runner.launching import Launching
from air_runner.slurm import contact, submitting
from air_runner.slurm.commands import Row
from air_runner.slurm.contact import Contact
from air_runner.slurm.decisions import Tracked
from air_runner.stops import Stops
from air_runner.work import Work

RUNNER = "test"
RULES = taskloop.Rules(grace=1.0, output_mb=100)
CONFIG = '[queues.slurm]\nlauncher = "slurm"\n'
SETTINGS = Settings(slurm=SlurmSettings(), queues={"slurm": QueueSettings(launcher="slurm")})


class Daemon:
    """As much of a runner as a contact needs."""

    def __init__(self, home: Home) -> None:
        self.selector = selectors.DefaultSelector()
        self.left: list[str] = []
        self.contact = Contact(home, RUNNER, SETTINGS, RULES, self.selector, self.left.append)

    def serve(self, condition: Callable[[], object], what: str) -> None:
        """Until it is so."""

        def step() -> object:
            for key, _ in self.selector.select(0.01) if self.selector.get_map() else ():
                key.data()
            for pid in self.contact.pids:
                if os.waitpid(pid, os.WNOHANG)[0]:
                    self.contact.died(pid)
            return condition()

        wait_for(step, what=what)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "it's 100% a home")
    store.ensure_home(home)
    home.config.write_text(CONFIG)
    return home


@pytest.fixture
def daemon(home: Home) -> Iterator[Daemon]:
    made = Daemon(home)
    yield made
    for pid in made.contact.pids:
        made.contact.close()
        processes.kill_tree(pid)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
    made.selector.close()


def claimed(home: Home, name: str, **options: object) -> model.Job:
    job = model.Job(name, queue="slurm", **options)  # type: ignore[arg-type]
    job = store.submit(home, store.Submission(job, [model.Task("true")]))
    assert spool.claim(home, spool.marker_of(job), RUNNER)
    return job


def test_a_host_without_slurm_leaves_its_queues_to_one_that_has_it(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    other = runners.RunnerInfo(
        id="other",
        process=processes.identify(os.getpid()),
        queues=["slurm"],
        slots=1,
        launcher="fork",
        version="1",
        started_at=model.now(),
        heartbeat_at=model.now(),
        heartbeat=3.0,
        slurm=True,
    )
    runners.write(home, other)
    for path, here, left in ((os.environ["PATH"], True, False), ("/nonexistent", False, True)):
        monkeypatch.setenv("PATH", path)
        contact = Daemon(home).contact
        assert (contact.can_ask, contact.leaves("slurm"), contact.leaves("else")) == (here, left, False)
    runners.write(home, dataclasses.replace(other, slurm=False))
    assert not Daemon(home).contact.leaves("slurm"), "nobody can: it ends with what is missing as the reason"


def test_a_host_without_slurm_says_so_of_many_jobs_at_once(
    home: Home, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than are sent without an answer."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(contact, "MAX_UNANSWERED", 5)
    names = [claimed(home, f"job-{number}").name for number in range(contact.MAX_UNANSWERED + 10)]
    assert not daemon.contact.can_ask
    for name in names:
        daemon.contact.take(name)
    daemon.serve(lambda: len(daemon.left) == len(names), "the end of all jobs")
    assert sorted(daemon.left) == sorted(names)
    assert len(daemon.contact) == 0
    ends = [store.read(home, name) for name in names]
    assert {(job.state, job.exit and job.exit.kind) for job in ends} == {(JobState.FAILED, ExitKind.START_FAILED)}
    assert ends[0].exit is not None
    assert "sbatch is not on the PATH of the runner" in ends[0].exit.reason
    wait_for(lambda: condition.read(home, RUNNER), what="what people are told")
    (pid,) = daemon.contact.pids
    daemon.contact.close()
    daemon.contact.close()  # with nothing
    os.waitpid(pid, 0)
    assert condition.read(home, RUNNER) is None


def test_a_process_that_dies_again_and_again(
    home: Home, daemon: Daemon, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    monkeypatch.setattr(contact, "MODULE", "air_runner.version_of_tomorrow")
    monkeypatch.setattr(contact, "FIRST_PAUSE", 0.01)
    claimed(home, "job")
    daemon.contact.take("job")

    def look(count: int) -> bool:
        daemon.contact.check()
        return len(caplog.records) >= count

    daemon.serve(lambda: look(3), "three that died")
    pauses = [record.args[1] for record in caplog.records if isinstance(record.args, tuple)]
    assert pauses[:3] == [0.01, 0.02, 0.04]
    caplog.clear()
    daemon.contact._failures = 2_000
    daemon.serve(lambda: look(1), "one that died after many")
    assert isinstance(caplog.records[0].args, tuple)
    assert caplog.records[0].args[1] == contact.MAX_PAUSE
    assert "job" in daemon.contact
    assert daemon.left == []


def test_one_that_was_killed_is_replaced_and_told_of_all_jobs(
    home: Home, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = home.root.parent / "programs"
    programs.mkdir()
    for name in ("sbatch", "squeue", "scancel"):
        (programs / name).write_text("#!/bin/sh\necho 'Unable to contact slurm controller' >&2\nexit 1\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(contact, "FIRST_PAUSE", 0.0)
    claimed(home, "job")
    daemon.contact.take("job")
    (first,) = daemon.contact.pids

    def unsure() -> bool:
        told = condition.read(home, RUNNER)
        return told is not None and told.unsure == 1

    daemon.serve(unsure, "a submission without an answer")
    condition.remove(home, RUNNER)
    os.kill(first, 9)

    def look() -> bool:
        daemon.contact.check()
        return first not in daemon.contact.pids and unsure()

    daemon.serve(look, "another process, which has the job")
    assert daemon.contact.names == {"job"}


def test_it_is_ended_with_its_runner_while_slurm_hangs(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = home.root.parent / "programs"
    programs.mkdir()
    (programs / "sbatch").write_text('#!/bin/sh\ntouch "$0.called"\nexec sleep 60\n')
    (programs / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    daemon = Daemon(home)
    claimed(home, "job")
    daemon.contact.take("job")
    (pid,) = daemon.contact.pids
    daemon.serve((programs / "sbatch.called").exists, "a command that hangs")
    sleeping = processes.tree(pid)
    monkeypatch.setattr(contact, "CLOSE_WAIT", 0.05)
    daemon.contact.close()
    os.waitpid(pid, 0)
    for process in sleeping[1:]:
        with contextlib.suppress(psutil.NoSuchProcess):  # of the one that made the file
            process.kill()
    daemon.selector.close()
    submitted = record.read(home.job("job"), 1)
    assert submitted is not None and submitted.id is None  # whoever takes over finds it by its name


# --- What is handed to sbatch ---


def orders(home: Home, *names: str) -> submitting.Order:
    batch = [Tracked(store.read(home, name), options={"cpus": 2, "extra": ["--exclusive"]}) for name in names]
    return submitting.prepare(home, RUNNER, RULES, batch, SETTINGS)


def test_paths_with_blanks_quotes_and_percent_signs(home: Home) -> None:
    for name in ("a", "b"):
        claimed(home, name)
    alone, array = orders(home, "a"), orders(home, "a", "b")
    place = str(home.root).replace("%", "%%")
    assert f"--output={place}/jobs/a/slurm.log" in alone.flags
    (output,) = (flag for flag in array.flags if flag.startswith("--output="))
    assert output == f"--output={place}/slurm/arrays/{array.records[0].submission}/%a.log"
    assert "--array=0-1" in array.flags
    assert alone.flags[-3:] == ["--cpus-per-task=2", "--exclusive", "--"]
    words = shlex.split(alone.script.splitlines()[-1])
    assert words[words.index("--home") + 1] == str(home.root)
    names = home.slurm_array(array.records[0].submission) / "names.json"
    assert json.loads(names.read_text()) == ["a", "b"]
    assert [record.read(home.job(name), 1) for name in ("a", "b")] == list(array.records)
    assert subprocess.run(["sh", "-n"], input=array.script, text=True, check=True).returncode == 0


def test_a_job_that_was_in_slurm_and_is_submitted_anew_for_here_runs_here(home: Home) -> None:
    """Before the process for Slurm has noticed that the job was over there."""
    work = Work(home, RUNNER, ["default"], SETTINGS)
    limits = Enforcement(home, 0, lambda *_: None)
    events: list[Event] = []
    launching = Launching(work, SETTINGS.runner, limits, events.extend)
    launching.open("exec", RULES, selectors.DefaultSelector())
    work.cluster = Contact(home, RUNNER, SETTINGS, RULES, selectors.DefaultSelector(), lambda _: None)
    work.cluster._names["again"] = None
    job = store.submit(home, store.Submission(model.Job("again"), [model.Task("sleep", args=["600"])]))
    work.queues.heed_pauses()
    work.queues.add(spool.marker_of(job))
    launching.fill_slots()
    (launched,) = events
    assert isinstance(launched, Launched)
    launching.launched(launched)
    wait_for(lambda: store.read_tasks(home, "again")[0].status is model.TaskStatus.RUNNING)
    repair.note_stop(home, "again", by="a test", outcome=model.Exit(ExitKind.CANCELLED, "a test"))
    Stops(work, RULES.grace).stop_if_asked("again")
    os.waitpid(launched.pid, 0)
    assert store.read(home, "again").state is JobState.CANCELLED


def row(number: str, name: str, state: str = "PENDING") -> Row:
    return Row(number, states.parse(state), None, "main", None, name)


def test_what_no_job_wants(home: Home) -> None:
    for name in ("a", "b"):
        claimed(home, name)
    (array,) = {each.submission for each in orders(home, "a", "b").records}
    own = record.home_id(home)
    elsewhere = [row("1", "a"), row("1", f"a.{'f' * 16}"), row("1", "")]
    assert not any(submitting.is_stray(home, record.home_id(home), each) for each in elsewhere)
    assert [submitting.is_stray(home, record.home_id(home), row(f"7_{element}", array)) for element in (0, 1, 2)] == [
        False,
        False,
        False,
    ]
    assert submitting.is_stray(home, record.home_id(home), row("8", f"a.{own}00000000"))  # another has taken its place
    assert submitting.is_stray(home, record.home_id(home), row("8", f"gone.{own}00000000"))
    (alone,) = orders(home, "a").records
    assert not submitting.is_stray(home, record.home_id(home), row("9", alone.submission))
    assert submitting.is_stray(home, record.home_id(home), row("7_0", array))
    record.write(home.job("a"), record.Record(1, alone.submission, id="9"), durable=False)
    assert not submitting.is_stray(home, record.home_id(home), row("9", alone.submission))
    assert submitting.is_stray(home, record.home_id(home), row("10", alone.submission))  # made twice
    home.job("a").slurm.write_text("{")
    assert submitting.is_stray(home, record.home_id(home), row("9", alone.submission))
    (home.slurm_array(array) / "names.json").unlink()
    assert not submitting.is_stray(home, record.home_id(home), row("7_1", array))  # nobody can tell
    home.job("b").state.write_text("{")
    assert not submitting.is_stray(home, record.home_id(home), row("11", f"b.{own}00000000"))


def test_what_works_is_not_ended_whichever_submission_it_came_of(home: Home) -> None:
    """A submission that was given up came to life, and nothing but its lock told that in time."""
    claimed(home, "a")
    (given_up,), (wanted,) = orders(home, "a").records, orders(home, "a").records
    with held.HeldJob.acquire(home, "a") as job:
        job.start(processes.identify(os.getpid(), RUNNER), by="the node")
        assert not submitting.is_stray(home, record.home_id(home), row("8", given_up.submission, "RUNNING"))
        assert submitting.is_stray(home, record.home_id(home), row("8", given_up.submission))
        assert not submitting.is_stray(home, record.home_id(home), row("9", wanted.submission, "RUNNING"))


def test_what_another_host_just_wrote_is_looked_for_anew(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of directories, as NFS has one: what was seen once is seen until something here is changed."""
    claimed(home, "a")
    paths, new = home.job("a"), home.job("a").root / "new"
    orders(home, "a")
    old = paths.slurm.read_bytes()
    (wanted,) = orders(home, "a").records
    paths.slurm.rename(new)
    paths.slurm.write_bytes(old)
    monkeypatch.setattr(temporaries, "refresh", lambda directory: new.rename(directory / paths.slurm.name))
    assert not submitting.is_stray(home, record.home_id(home), row("9", wanted.submission))


def test_old_directories_of_arrays_go(home: Home) -> None:
    submitting.drop_arrays(home, set())  # there are none
    for name in ("known", "old", "new"):
        home.slurm_array(name).mkdir(parents=True)
        (home.slurm_array(name) / "names.json").touch()
    long_ago = time.time() - submitting.OLD_ARRAY - 60
    for name in ("known", "old"):
        os.utime(home.slurm_array(name), (long_ago, long_ago))
    submitting.drop_arrays(home, {"known"})
    assert sorted(path.name for path in home.slurm_arrays.iterdir()) == ["known", "new"]
