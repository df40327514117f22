"""Waiting for ends of jobs: who is told, when, and after what went wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from air_executor import awaiting, client, ends, hearing, held, model, pruning, retention, store
from air_executor.awaiting import JobWatch, is_over
from air_executor.errors import InvalidNameError
from air_executor.model import ExitKind, Job, JobState
from air_executor.paths import Home
from air_executor.testing import wait_for
from tests.unit.conftest import Submit, finish

LONG = 3600.0
"""An interval of listings that never comes: what is told was heard."""
SHORT = 0.02


class Told:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, name: str) -> None:
        self.names.append(name)

    def wait_for(self, *names: str) -> None:
        wait_for(lambda: sorted(self.names) == sorted(names), what=f"the ends of {names}, told {self.names},")


@pytest.fixture
def told() -> Told:
    return Told()


Watching = Callable[..., JobWatch]


@pytest.fixture
def watching(home: Home) -> Iterator[Watching]:
    """Makes watches, of which no thread is left afterwards."""
    made: list[JobWatch] = []

    def make(poll_interval: float | None = LONG) -> JobWatch:
        made.append(JobWatch(home, poll_interval=poll_interval))
        return made[-1]

    yield make
    for watch in made:
        watch._waits.clear()
        watch._listening.clear()
        watch._bell.set()
        wait_for(lambda watch=watch: not watch.is_running, what="the end of a thread")


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system tells nothing."""
    monkeypatch.setattr("air_executor.watch.Watch.take", lambda self: [])


def is_awaited(home: Home, name: str) -> bool:
    return (home.awaited / name).exists()


def await_jobs(watch: JobWatch, told: Told, *names: str) -> None:
    """Until the watch stands."""
    for name in names:
        watch.add(name, told)
    wait_for(lambda: all(is_awaited(watch.home, name) for name in names), what="the wait")


@pytest.mark.parametrize(
    ("state", "attempt", "kind", "wanted", "over"),
    [
        ("waiting", 1, None, None, False),
        ("working", 1, None, None, False),
        ("completed", 1, "success", None, True),
        ("failed", 3, "exit_code", None, True),
        ("cancelled", 1, "cancelled", None, True),
        ("waiting", 2, None, 2, False),
        ("completed", 2, "success", 2, True),
        ("completed", 1, "success", 2, False),  # a stale look at the attempt before
        ("waiting", 3, None, 2, True),  # it has been over, and began anew
        ("failed", 1, "damaged", 2, True),  # which attempt that was is lost
    ],
)
def test_when_a_wait_is_over(state: str, attempt: int, kind: str | None, wanted: int | None, over: bool) -> None:
    job = Job("a", state=JobState(state), attempt=attempt, exit=model.Exit(ExitKind(kind), "") if kind else None)
    assert is_over(job, wanted) is over


def test_no_job_is_over() -> None:
    assert is_over(None) and is_over(None, 3)


def test_the_end_of_a_job_is_told_once(home: Home, submit: Submit, watching: Watching, told: Told) -> None:
    watch = watching()
    submit("a")
    await_jobs(watch, told, "a")
    finish(home, "a")
    told.wait_for("a")
    assert not is_awaited(home, "a")
    wait_for(lambda: not watch.is_running, what="the end of the thread that nobody needs")
    assert told.names == ["a"]


def test_what_is_over_or_unknown_is_told_at_once(home: Home, submit: Submit, watching: Watching, told: Told) -> None:
    submit("a")
    finish(home, "a")
    watch = watching()
    watch.add("a", told)
    watch.add("nobody", told)
    told.wait_for("a", "nobody")
    wait_for(lambda: not watch.is_running, what="the end of the thread")
    assert ends.awaited(home) == set()


def test_there_is_no_home(tmp_path: Path, told: Told) -> None:
    watch = JobWatch(Home(tmp_path / "nowhere"))
    watch.add("a", told)
    told.wait_for("a")
    assert not (tmp_path / "nowhere").exists()


def test_a_bad_name_is_refused(watching: Watching, told: Told) -> None:
    watch = watching()
    with pytest.raises(InvalidNameError, match="the job to wait for"):
        watch.add("../a", told)
    assert not watch.is_running


def test_only_the_own_jobs_are_looked_at(
    home: Home, submit: Submit, watching: Watching, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An end costs the same however many are waited for."""
    names = [f"job-{number}" for number in range(200)]
    for name in (*names, "other"):
        submit(name)
    watch = watching()
    await_jobs(watch, told, *names)
    ends.begin_to_await(home, "other")
    wait_for(lambda: not watch._unseen)
    looks: list[str] = []
    read = awaiting._read
    monkeypatch.setattr(awaiting, "_read", lambda home, name: (looks.append(name), read(home, name))[1])
    finish(home, "other")
    finish(home, "job-7")
    told.wait_for("job-7")
    assert looks == ["job-7"]


def test_a_lost_removal_is_found_by_the_listing(
    home: Home, submit: Submit, watching: Watching, told: Told, deaf: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hearing, "LOOKS_A_SECOND", 0)
    monkeypatch.setattr(hearing.Rounds, "_in_turn", lambda *_: [])
    submit("a")
    watch = watching(SHORT)
    await_jobs(watch, told, "a")
    finish(home, "a")
    told.wait_for("a")


def test_where_nothing_can_be_watched_jobs_are_looked_for(
    home: Home, submit: Submit, watching: Watching, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("air_executor.watch.Watch.start", lambda self: None)
    submit("a")
    watch = watching(None)
    await_jobs(watch, told, "a")
    finish(home, "a")
    told.wait_for("a")


def test_a_holder_that_died_before_it_announced_the_end(
    home: Home, submit: Submit, watching: Watching, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recovery repeats it; should nobody recover, the job's turn to be looked at comes."""
    submit("a")
    watch = watching(SHORT)
    await_jobs(watch, told, "a")
    with monkeypatch.context() as patch:
        patch.setattr(ends, "announce", lambda *_: None)
        finish(home, "a")
    told.wait_for("a")
    wait_for(lambda: not is_awaited(home, "a"), what="the end of the wait")


def test_settling_again_tells_those_who_wait(home: Home, submit: Submit, watching: Watching, told: Told) -> None:
    submit("a")
    watch = watching()
    await_jobs(watch, told, "a")
    announce, ends.announce = ends.announce, lambda *_: None  # type: ignore[assignment]
    try:
        finish(home, "a")
    finally:
        ends.announce = announce
    assert told.names == []
    with held.HeldJob.acquire(home, "a") as job:
        job.settle()
    told.wait_for("a")


def test_an_early_removal_only_makes_it_look(home: Home, submit: Submit, watching: Watching, told: Told) -> None:
    submit("a")
    watch = watching()
    await_jobs(watch, told, "a")
    ends.stop_awaiting(home, "a")
    wait_for(lambda: is_awaited(home, "a"), what="the wait, renewed")
    assert told.names == []
    finish(home, "a")
    told.wait_for("a")


def test_one_gives_up_and_the_other_is_told(home: Home, submit: Submit, watching: Watching, told: Told) -> None:
    submit("a")
    first, second, other = watching(), watching(), Told()
    await_jobs(first, told, "a")
    await_jobs(second, other, "a")
    first.discard("a", told)
    first.discard("a", told)
    first.discard("nobody", told)
    wait_for(lambda: not first.is_running, what="the end of the first thread")
    assert is_awaited(home, "a")
    finish(home, "a")
    other.wait_for("a")
    assert told.names == []


def test_all_who_wait_for_a_job_are_told(home: Home, submit: Submit, watching: Watching, told: Told) -> None:
    submit("a")
    first, second = watching(), watching()
    others = [Told() for _ in range(3)]
    await_jobs(first, told, "a")
    for other in others:
        await_jobs(second, other, "a")
    second.discard("a", others[1])
    finish(home, "a")
    for each in (told, others[0], others[2]):
        each.wait_for("a")
    assert others[1].names == []


def test_a_new_attempt_is_waited_for_and_the_old_end_is_not_told(
    home: Home, submit: Submit, watching: Watching, told: Told, api: client.AirExecutorClient
) -> None:
    submit("a")
    finish(home, "a", JobState.FAILED)
    api.retry("a")
    watch, later = watching(), Told()
    watch.add("a", later, attempt=1)
    later.wait_for("a")  # that attempt is over
    watch.add("a", told, attempt=2)
    wait_for(lambda: is_awaited(home, "a"), what="the wait")
    ends.stop_awaiting(home, "a")  # as a late word of the attempt before
    wait_for(lambda: is_awaited(home, "a"), what="the wait, renewed")
    assert told.names == []
    finish(home, "a")
    told.wait_for("a")


def test_a_stale_look_does_not_end_a_wait_for_an_attempt(
    home: Home, submit: Submit, watching: Watching, told: Told, api: client.AirExecutorClient
) -> None:
    """On a network filesystem what is read may be old."""
    submit("a")
    finish(home, "a")
    watch = watching(SHORT)
    watch.add("a", told, attempt=2)
    wait_for(lambda: not watch._unseen, what="a look")
    api.retry("a")
    wait_for(lambda: is_awaited(home, "a"), what="the wait")
    assert told.names == []
    finish(home, "a")
    told.wait_for("a")


def test_a_job_that_is_pruned_ends_the_wait(home: Home, submit: Submit, watching: Watching, told: Told) -> None:
    submit("a")
    watch = watching()
    watch.add("a", told, attempt=2)
    finish(home, "a")
    assert list(pruning.prune(home, retention.Policy(0.0, 0.0, None, None))) == ["a"]
    ends.begin_to_await(home, "a")
    ends.stop_awaiting(home, "a")
    told.wait_for("a")


def test_pruning_tells_those_who_wait(home: Home, submit: Submit) -> None:
    submit("a")
    finish(home, "a")
    ends.begin_to_await(home, "a")
    list(pruning.prune(home, retention.Policy(0.0, 0.0, None, None)))
    assert ends.awaited(home) == set()


def test_a_job_that_is_removed_by_hand_is_missed(home: Home, submit: Submit, watching: Watching, told: Told) -> None:
    submit("a")
    watch = watching(SHORT)
    await_jobs(watch, told, "a")
    home.job("a").root.rename(home.root / "elsewhere")
    told.wait_for("a")


def test_waiters_survive_the_deletion_of_the_spool(home: Home, submit: Submit, watching: Watching, told: Told) -> None:
    for name in ("a", "b"):
        submit(name)
    watch = watching(SHORT)
    await_jobs(watch, told, "a", "b")
    home.spool.rename(home.root / "gone")
    wait_for(lambda: is_awaited(home, "a") and is_awaited(home, "b"), what="the waits, made again")
    store.ensure_home(home)
    with held.HeldJob.acquire(home, "a") as job:
        job.finish(JobState.FAILED, model.Exit(ExitKind.EXIT_CODE, "failed"), by="test")
    told.wait_for("a")


def test_what_ended_while_there_was_no_spool(home: Home, submit: Submit, watching: Watching, told: Told) -> None:
    submit("a")
    watch = watching(SHORT)
    await_jobs(watch, told, "a")
    ends.stop_awaiting(home, "a")
    home.awaited.rename(home.root / "gone")
    with held.HeldJob.acquire(home, "a") as job:
        job.finish(JobState.FAILED, model.Exit(ExitKind.EXIT_CODE, "failed"), by="test")
    told.wait_for("a")


def test_a_damaged_job_counts_as_over(home: Home, submit: Submit, watching: Watching, told: Told) -> None:
    submit("a")
    watch = watching(SHORT)
    watch.add("a", told, attempt=5)
    home.job("a").state.write_text("{")
    told.wait_for("a")


def test_a_home_that_cannot_be_written_or_read_for_a_while(
    home: Home, submit: Submit, watching: Watching, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bool:
        raise OSError(28, "No space left on device")

    submit("a")
    submit("b")
    watch = watching(SHORT)
    with monkeypatch.context() as patch:
        patch.setattr(ends, "begin_to_await", refuse)
        watch.add("a", told)
        wait_for(lambda: not watch._unseen, what="a look")
        finish(home, "a")
        told.wait_for("a")
        patch.setattr(awaiting, "_read", refuse)
        watch.add("b", told)
        wait_for(lambda: not watch._unseen, what="a look")
        finish(home, "b")
        assert told.names == ["a"]
    told.wait_for("a", "b")


def test_trouble_that_nobody_expected(
    submit: Submit, home: Home, watching: Watching, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> object:
        raise RuntimeError("trouble")

    def raising(name: str) -> None:
        raise RuntimeError("trouble")

    submit("a")
    finish(home, "a")
    monkeypatch.setattr(awaiting, "TROUBLE_PAUSE", SHORT)
    watch = watching()
    watch.add("a", raising)
    with monkeypatch.context() as patch:
        patch.setattr(awaiting, "_read", fail)
        watch.add("a", told)
    watch.add("a", told)
    wait_for(lambda: told.names, what="an end")


def test_many_threads_add_and_discard(home: Home, submit: Submit, watching: Watching) -> None:
    names = [f"job-{number}" for number in range(40)]
    for name in names:
        submit(name)
    watch = watching(SHORT)
    kept, given_up = [Told() for _ in range(8)], [Told() for _ in range(8)]

    def work(number: int) -> None:
        for name in names:
            watch.add(name, kept[number])
            watch.add(name, given_up[number])
            watch.discard(name, given_up[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for name in names:
        finish(home, name)
    for thread in threads:
        thread.join()
    for each in kept:
        each.wait_for(*names)


def test_nothing_is_done_while_nothing_ends(
    home: Home, submit: Submit, watching: Watching, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No busy loop: between listings it does not turn, and a listing looks at a few jobs in turn."""
    names = [f"job-{number}" for number in range(50)]
    for name in names:
        submit(name)
    watch = watching()
    await_jobs(watch, told, *names)
    rounds: list[int] = []
    turn = JobWatch._round
    monkeypatch.setattr(JobWatch, "_round", lambda self, each: (rounds.append(1), turn(self, each))[1])
    wait_for(lambda: not watch._bell.is_set(), what="rest")
    finish(home, "job-0")
    told.wait_for("job-0")
    assert len(rounds) <= 3
    hears = hearing.Rounds(home, lambda: None)
    try:
        assert sorted(hears.hear(names[1:], set(), 10.0).jobs) == sorted(names[1:])  # the first time, all
        assert hears.pause() > 5
        assert list(hears.hear(names[1:], set(), 10.0).jobs) == []
        hears._poll_at = 0.0
        assert list(hears.hear(names[1:], set(), 10.0).jobs) == names[1 : 1 + 10 * hearing.LOOKS_A_SECOND]
    finally:
        hears.close()


def test_one_watch_for_a_process_and_home(home: Home, tmp_path: Path) -> None:
    assert JobWatch.shared(home) is JobWatch.shared(Home(home.root))
    assert JobWatch.shared(home) is not JobWatch.shared(Home(tmp_path / "other"))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_has_a_watch_of_its_own(home: Home, submit: Submit, watching: Watching, told: Told) -> None:
    """And what it watches, and ceases to watch, is nothing to its parent."""
    for name in ("a", "b"):
        submit(name)
    parent = JobWatch.shared(home)
    await_jobs(parent, told, "a", "b")
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(60)
            child, heard = JobWatch.shared(home), Told()
            assert child is not parent
            child.add("a", heard)
            wait_for(lambda: child._thread and not child._unseen)
            finish(home, "a")
            heard.wait_for("a")
            wait_for(lambda: not child.is_running)
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    told.wait_for("a")
    finish(home, "b")
    told.wait_for("a", "b")


WAITER = """
import sys, threading
from pathlib import Path
from air_executor.awaiting import JobWatch
from air_executor.paths import Home
told = threading.Event()
JobWatch.shared(Home(Path(sys.argv[1]))).add("a", lambda name: told.set())
sys.exit(0 if told.wait(60) else 1)
"""


def test_waiters_in_other_processes_are_told(home: Home, submit: Submit, watching: Watching, told: Told) -> None:
    submit("a")
    others = [subprocess.Popen([sys.executable, "-c", WAITER, str(home.root)]) for _ in range(3)]
    try:
        watch = watching()
        await_jobs(watch, told, "a")
        others[0].kill()
        others[0].wait()
        finish(home, "a")
        assert [each.wait(60) for each in others[1:]] == [0, 0]
        told.wait_for("a")
    finally:
        for each in others:
            each.kill()
            each.wait()


def test_a_thread_that_the_system_refuses_is_asked_for_again(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = JobWatch(home)
    told: list[str] = []
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", lambda self: (_ for _ in ()).throw(RuntimeError("no thread")))
        with pytest.raises(RuntimeError):
            watch.add("gone", told.append)
    assert not watch.is_running
    watch.add("gone-too", told.append)
    wait_for(lambda: sorted(told) == ["gone", "gone-too"])
