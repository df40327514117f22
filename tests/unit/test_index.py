"""The index says what the directories say, whatever happens to them or to it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from air_executor import doctor, held, model, pruning, repair, retention, store
from air_executor.errors import AirExecutorError
from air_executor.index import Filter, Index, JobRow, files, looking, rows
from air_executor.index.files import host_name
from air_executor.paths import Home
from air_executor.testing import wait_for

from .conftest import Submit, finish

COMPLETED, FAILED, CANCELLED = model.JobState.COMPLETED, model.JobState.FAILED, model.JobState.CANCELLED


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, what a refresh has no time for comes with a later one: here all comes with the first."""
    monkeypatch.setattr(looking, "_SHARE", 0)
    monkeypatch.setattr(Index.refresh, "__defaults__", (60.0,))


@pytest.fixture
def index(home: Home) -> Iterator[Index]:
    with Index(home) as index:
        yield index


def everything(index: Index) -> dict[str, JobRow]:
    found: dict[str, JobRow] = {}
    key = None
    while True:
        page = index.page(limit=7, before_key=key)
        assert not found.keys() & {job.name for job in page.jobs}
        found |= {job.name: job for job in page.jobs}
        if (key := page.next_key) is None:
            return found


def truth(home: Home) -> dict[str, JobRow]:
    """What reading everything gives."""
    return {name: rows.row_of(store.read_or_damaged(home, name)) for name in store.names(home)}


def names(index: Index, **options: object) -> list[str]:
    return [job.name for job in index.page(Filter(**options)).jobs]  # type: ignore[arg-type]


def file_of(home: Home) -> Path:
    return home.index_file(host_name())


# --- Bringing it up to date ---


def test_a_job_is_seen_in_each_of_its_states(home: Home, index: Index, submit: Submit) -> None:
    submit(labels={"dag_id": "hello", "odd": "50%_\\ \udc80"}, queue="heavy", priority=3, trigger="cli")
    assert index.refresh().unread == 0
    assert everything(index) == truth(home)
    assert everything(index)["job"].state == "waiting"
    finish(home, "job", FAILED)
    index.refresh()
    row = everything(index)["job"]
    assert row == truth(home)["job"]
    assert (row.state, row.exit_kind, row.reason, row.queue) == ("failed", "exit_code", "failed in a test", "heavy")
    assert row.labels == {"dag_id": "hello", "odd": "50%_\\ \udc80"}
    assert row.wait is not None
    assert row.run is not None


def test_what_works_is_looked_at_each_time(home: Home, index: Index, submit: Submit) -> None:
    from air_executor import processes, spool

    job = submit()
    index.refresh()
    (home.claims("test")).mkdir()
    spool.claim(home, spool.marker_of(job), "test")
    with held.HeldJob.acquire(home, "job") as taken:
        taken.start(processes.identify(1, "test"), by="test")
        index.refresh()
        assert everything(index)["job"].state == "working"
        spool.drop_claim(home, "test", "job")  # and what has lost its place in the spool, too
        taken.finish(
            COMPLETED, model.Exit(model.ExitKind.SUCCESS, "good", 0), by="test", used={"wall_s": 4, "cpu_s": "x"}
        )
    index.refresh()
    row = everything(index)["job"]
    assert (row.state, row.run, row.wall, row.cpu) == ("completed", 4.0, 4.0, None)


def test_a_retry_is_seen(home: Home, index: Index, submit: Submit) -> None:
    submit()
    finish(home, "job", FAILED)
    index.refresh()
    with held.HeldJob.acquire(home, "job") as taken:
        taken.new_attempt(by="test", why="again")
    from air_executor import spool

    spool.enqueue(home, store.read(home, "job"))
    index.refresh()
    assert everything(index) == truth(home)
    assert (everything(index)["job"].state, everything(index)["job"].attempt) == ("waiting", 2)


def test_a_retry_that_nobody_saw_is_found_by_a_sweep(
    home: Home, index: Index, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        submit(f"job-{number}")
        finish(home, f"job-{number}", FAILED)
    index.refresh()
    with held.HeldJob.acquire(home, "job-3") as taken:
        taken.new_attempt(by="test", why="again")
    from air_executor import spool

    spool.enqueue(home, store.read(home, "job-3"))
    finish(home, "job-3", COMPLETED)
    index.refresh()
    assert everything(index)["job-3"].state == "failed"  # the last sweep was a moment ago
    monkeypatch.setattr(looking, "SWEEP_INTERVAL", 0.0)
    index.refresh()
    assert everything(index) == truth(home)


def test_pruned_jobs_disappear_with_their_labels(home: Home, index: Index, submit: Submit) -> None:
    for name in ("old", "kept"):
        submit(name, labels={"dag_id": "hello", "team": name})
        finish(home, name)
    index.refresh()
    assert names(index, labels={"team": "old"}) == ["old"]
    assert list(pruning.prune(home, retention.Policy(keep=1))) == ["old"]
    index.catch_up()
    assert names(index) == ["kept"]
    with index._database.reading() as connection:
        assert connection.execute("SELECT count(*) FROM label").fetchone() == (2,)


def test_a_name_that_is_used_again_is_another_job(home: Home, index: Index, submit: Submit) -> None:
    first = submit(labels={"dag_id": "one"})
    finish(home, "job")
    index.refresh()
    shutil.rmtree(home.job("job").root)
    second = submit(labels={"dag_id": "two"})
    index.refresh()
    assert first.id != second.id
    assert everything(index) == truth(home)
    assert names(index, labels={"dag_id": "one"}) == []


def test_damaged_jobs_appear_as_the_store_gives_them(home: Home, index: Index, submit: Submit) -> None:
    for name in ("cut", "gone", "foreign", "sound"):
        submit(name)
    index.refresh()
    home.job("cut").state.write_bytes(b"{")  # in its place: nothing else of the directory changes
    home.job("gone").state.unlink()
    home.job("foreign").state.write_bytes(home.job("sound").state.read_bytes())
    (home.jobs / "a-file").write_text("of a stranger")
    (home.jobs / ".hidden").mkdir()
    index.catch_up()
    assert everything(index) == {name: row for name, row in truth_of_directories(home).items()}
    assert {name for name, row in everything(index).items() if row.exit_kind == "damaged"} == {"cut", "gone", "foreign"}
    lock = held.lock_job(home, "cut")
    index.catch_up()
    assert everything(index)["cut"].state == "working"
    owned = index.page(Filter(of_nobody=False)).jobs  # the working one has lost its labels, too
    assert [row.name for row in owned] == ["sound"]
    lock.release()
    index.refresh()
    assert everything(index)["cut"].state == "failed"


def truth_of_directories(home: Home) -> dict[str, JobRow]:
    found = {}
    for name in store.names(home):
        if home.job(name).root.is_dir():
            found[name] = rows.row_of(store.read_or_damaged(home, name))
    return found


OPERATIONS = ["submit", "complete", "fail", "retry", "remove", "damage", "mend", "refresh", "other"]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 3)), max_size=25))
def test_whatever_happens_the_index_says_what_the_directories_say(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    home = Home(tmp_path_factory.mktemp("home"))
    store.ensure_home(home)
    with Index(home) as one, Index(home) as other:
        for what, number in steps:
            _operate(home, what, f"job-{number}", one, other)
        one.catch_up()
        assert everything(one) == truth_of_directories(home)
        other.refresh()
        assert everything(other) == everything(one)
        with one._database.reading() as connection:
            left = "SELECT count(*) FROM label WHERE job NOT IN (SELECT id FROM job)"
            assert connection.execute(left).fetchone() == (0,)


def _operate(home: Home, what: str, name: str, one: Index, other: Index) -> None:
    from air_executor import spool

    state = home.job(name).state
    try:
        if what == "submit":
            job = model.Job(name, labels={"dag_id": name, "n": str(len(list(home.jobs.iterdir())))})
            store.submit(home, store.Submission(job, [model.Task("true")]))
        elif what in ("complete", "fail") and store.read(home, name).state is model.JobState.WAITING:
            finish(home, name, COMPLETED if what == "complete" else FAILED)
        elif what == "retry":
            with held.HeldJob.acquire(home, name) as taken:
                taken.new_attempt(by="test", why="again")
            spool.enqueue(home, store.read(home, name))
        elif what == "remove":
            shutil.rmtree(home.job(name).root, ignore_errors=True)
        elif what == "damage" and state.exists():
            state.rename(state.with_name("kept"))
        elif what == "mend" and state.with_name("kept").exists():
            state.with_name("kept").replace(state)
        elif what == "refresh":
            one.refresh()
        elif what == "other":
            other.refresh()
    except AirExecutorError:
        pass  # what cannot be done to this job now


def test_a_first_build_goes_in_steps_and_shows_the_newest_first(
    home: Home, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "BATCH", 10)
    jobs = [f"job-{number:03d}" for number in range(60)]
    refused = store.submit_batch(home, [store.Submission(model.Job(name), [model.Task("true")]) for name in jobs])
    assert not refused
    for age, name in enumerate(jobs):
        os.utime(home.job(name).root, (2e9 - age, 2e9 - age))
    shutil.rmtree(home.waiting)  # so that only their directories tell of them
    home.waiting.mkdir()
    progress = index.refresh(1e-9)
    assert progress.unread == 60
    seen = []
    while progress.unread:
        progress = index.refresh(0.001)
        seen.append(set(everything(index)))
    first = next(found for found in seen if found)
    assert first == set(jobs[: len(first)])
    assert len(first) < 60
    assert everything(index) == truth(home)


# --- The file ---


def test_the_directory_is_private_and_made_by_nobody_but_readers(home: Home, index: Index, submit: Submit) -> None:
    submit()
    finish(home, "job")
    assert not home.index.exists()
    assert home.index not in home.directories
    index.refresh()
    assert home.index.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in home.index.iterdir()} == {0o600}
    assert not index.in_memory


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(50_000))


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 3)


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE job (name)")
    connection.close()


def old(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 0")
    connection.close()


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def removed(path: Path) -> None:
    shutil.rmtree(path.parent)


def without_tables(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE label")
        connection.execute("DROP TABLE meta")
    connection.close()


def test_nothing_that_looks_after_a_home_minds_it(home: Home, index: Index, submit: Submit) -> None:
    submit()
    finish(home, "job")
    index.refresh()
    before = {path.name: path.stat().st_ino for path in home.index.iterdir()}
    assert list(repair.repair(home)) == []
    assert not [each for each in doctor.examine_inside(home) if "index" in each.text]
    assert list(pruning.prune(home, retention.Policy(keep=0))) == ["job"]
    assert {path.name: path.stat().st_ino for path in home.index.iterdir()} == before


def test_a_directory_that_is_closed_to_us_is_a_damaged_job(tmp_path: Path) -> None:
    """Root may look everywhere, so somebody else looks."""
    import hashlib  # what is not loaded yet, the other may not load

    assert hashlib.sha256
    with tempfile.TemporaryDirectory() as directory:
        home = Home(Path(directory) / "home")
        for name in ("open", "closed"):
            store.ensure_home(home)
            store.submit(home, store.Submission(model.Job(name), [model.Task("true")]))
        closed = home.job("closed").root
        if os.getuid() == 0:
            for path in [Path(directory), home.root, *home.root.rglob("*")]:
                os.chown(path, 65534, 65534)
        closed.chmod(0)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                if os.getuid() == 0:
                    os.setgroups([])
                    os.setgid(65534)
                    os.setuid(65534)
                with Index(home) as index:
                    index.refresh()
                    states = {job.name: job.exit_kind for job in index.page().jobs}
                    code = 0 if states == {"open": None, "closed": "damaged"} else 2
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        closed.chmod(0o700)
        assert code == 0


DAMAGE = [garbage, cut, zeros, empty, foreign, old, link, removed, without_tables]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("is_open", [False, True], ids=["closed", "open"])
def test_a_file_that_is_of_no_use_is_made_anew(
    home: Home, submit: Submit, damage: Callable[[Path], None], is_open: bool
) -> None:
    for number in range(20):
        submit(f"job-{number}", labels={"dag_id": "hello"})
    with Index(home) as index:
        index.refresh()
        if not is_open:
            index.close()
        damage(file_of(home))
        submit("last")
        for _ in range(2):  # what is damaged may first be found by a question
            index.page(Filter(labels={"n": "1"}))
            index.refresh()
        index.catch_up()
        assert everything(index) == truth(home)
        assert not index.in_memory
    with Index(home) as index:
        index.refresh()
        assert everything(index) == truth(home)


def test_a_later_version_keeps_its_file(home: Home, index: Index, submit: Submit) -> None:
    submit()
    index.refresh()
    index.close()
    with sqlite3.connect(file_of(home)) as connection:
        connection.execute(f"PRAGMA user_version = {files.SCHEMA + 1}")
    connection.close()
    before = file_of(home).stat().st_ino
    with Index(home) as second:
        second.refresh()
        assert everything(second) == truth(home)
        assert second.in_memory
    assert file_of(home).stat().st_ino == before


def test_a_directory_in_its_place_stays(home: Home, index: Index, submit: Submit) -> None:
    submit()
    file_of(home).mkdir(parents=True)
    index.refresh()
    assert everything(index) == truth(home)
    assert index.in_memory
    assert file_of(home).is_dir()


def test_a_full_disk_leaves_an_index_in_memory(home: Home, index: Index, submit: Submit) -> None:
    submit("one")
    index.refresh()
    with index._database.reading() as connection:
        connection.execute("PRAGMA max_page_count = 1")  # SQLite says "database or disk is full", as for a full disk
    for number in range(20):
        submit(f"job-{number}", labels={"dag_id": "x" * 9000})
    while index.refresh().unread:
        pass
    assert index.in_memory
    assert everything(index) == truth(home)


def test_a_home_that_cannot_be_written(home: Home, submit: Submit) -> None:
    submit()
    finish(home, "job")
    mount = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, home.root, sys.executable, "-c"]
    done = subprocess.run([*command, _READ_ONLY, home.root], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("True ['job']\n", "")
    assert not home.index.exists()


def test_something_else_in_the_place_of_the_directory(home: Home, index: Index, submit: Submit) -> None:
    submit()
    home.index.write_text("mine")
    index.refresh()
    assert everything(index) == truth(home)
    assert index.in_memory
    assert home.index.read_text() == "mine"


_READ_ONLY = """
import sys
from pathlib import Path
from air_executor.index import Index
from air_executor.paths import Home
with Index(Home(Path(sys.argv[1]))) as index:
    index.refresh()
    print(index.in_memory, [job.name for job in index.page().jobs])
"""


# --- Several at once ---

_ASK = """
import sys
from pathlib import Path
from air_executor.index import Index
from air_executor.paths import Home
with Index(Home(Path(sys.argv[1]))) as index:
    while True:
        index.refresh()
        counts = index.count()
        print(counts["completed"], sum(counts.values()), index.in_memory, flush=True)
        if not sys.stdin.readline():
            break
"""


def test_processes_share_it_while_jobs_come_and_go_and_one_is_killed(home: Home, index: Index, submit: Submit) -> None:
    command = [sys.executable, "-c", _ASK, str(home.root)]
    others = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        for number in range(12):
            submit(f"job-{number}", labels={"dag_id": "hello"})
            finish(home, f"job-{number}")
            if number == 8:
                others[0].kill()  # wherever it is
            for other in others:
                if number < 8 or other is others[1]:
                    said, room = other.stdout, other.stdin
                    assert said is not None and room is not None
                    assert said.readline().split()[2] == "False"
                    room.write("\n")
                    room.flush()
            index.refresh()
        index.catch_up()
        assert everything(index) == truth(home)
        assert not index.in_memory
        rest, _ = others[1].communicate()
        assert rest.split()[-1] == "False"
    finally:
        for other in others:
            other.kill()
            other.communicate()


def test_threads_ask_while_one_reads_and_the_file_goes(home: Home, submit: Submit) -> None:
    jobs = [store.Submission(model.Job(f"job-{n}", labels={"n": str(n)}), [model.Task("true")]) for n in range(200)]
    assert not store.submit_batch(home, jobs)

    def ask(number: int) -> set[int]:
        seen = set()
        while not over.is_set():
            if number == 0:
                index.refresh(0.001)
            seen.add(sum(index.count(Filter(labels={"n": "7"})).values()))
            index.page(limit=3)
        return seen

    over = threading.Event()
    with Index(home) as index, ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(ask, number) for number in range(4)]
        try:
            wait_for(lambda: sum(index.count().values()) == 200)
            shutil.rmtree(home.index)
            wait_for(lambda: index.refresh().unread == 0 and sum(index.count().values()) == 200)
        finally:
            over.set()
        assert all(answer.result() <= {0, 1} for answer in answers)
        assert everything(index) == truth(home)


def test_a_connection_in_use_while_the_file_is_replaced_is_not_used_again(
    home: Home, index: Index, submit: Submit
) -> None:
    submit()
    index.refresh()
    with index._database.reading():
        shutil.rmtree(home.index)
        index.refresh()
    submit("second")
    with Index(home) as other:
        other.catch_up()
    assert names(index) == ["second", "job"]


def test_files_that_others_keep_behind_a_link_stay(home: Home, index: Index, submit: Submit, tmp_path: Path) -> None:
    submit()
    old = tmp_path / "theirs.sqlite"
    old.touch()
    os.utime(old, (1, 1))
    home.index.symlink_to(tmp_path)
    index.refresh()
    assert names(index) == ["job"] and not index.in_memory and old.exists()


def test_a_process_that_was_forked_asks_for_itself(home: Home, index: Index, submit: Submit) -> None:
    submit()
    index.refresh()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if names(index) == ["job"] and index.refresh().unread == 0 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    submit("second")
    index.refresh()
    assert everything(index) == truth(home)


def test_another_host_of_the_same_name_gets_the_file(home: Home, index: Index, submit: Submit) -> None:
    submit()
    index.refresh()
    with index._database.writing() as connection:
        files.put(connection, "boot", "of another host")
    submit("second")
    for _ in range(2):
        index.refresh()
    assert index.in_memory
    assert everything(index) == truth(home)
    with Index(home) as later:  # as after this host was started anew
        later.refresh()
        assert not later.in_memory
        assert everything(later) == truth(home)


def test_files_of_hosts_that_are_no_more_go(home: Home, index: Index) -> None:
    home.index.mkdir(mode=0o700)
    for name, age in (("gone", 31 * 86400), ("other", 3600)):
        path = home.index_file(name)
        path.touch()
        then = time.time() - age
        os.utime(path, (then, then))
    index.refresh()
    assert not home.index_file("gone").exists()
    assert home.index_file("other").exists()


def test_a_home_that_is_gone_is_not_made(tmp_path: Path) -> None:
    with Index(Home(tmp_path / "gone")) as index:
        index.refresh()
        assert index.page().jobs == []
        assert index.in_memory
    assert not (tmp_path / "gone").exists()
