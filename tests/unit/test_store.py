"""Submitting: complete, durable in the right order, or refused without a trace. Reading: also what is damaged."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from air_executor import _files, held, journal, model, spool, store
from air_executor.errors import (
    CorruptFileError,
    HomeError,
    InvalidJobError,
    InvalidNameError,
    JobExistsError,
    NotFoundError,
)
from air_executor.model import Job, JobState, Task
from air_executor.paths import Home
from tests.unit.conftest import Submit


def files(home: Home) -> set[str]:
    return {str(path.relative_to(home.root)) for path in home.root.rglob("*") if not path.is_dir()}


# --- Submitting ---


def test_a_job_is_a_private_directory_with_a_place_in_its_queue(home: Home) -> None:
    job = Job("a", queue="big", priority=3, labels={"k": "v"})
    store.submit(home, store.Submission(job, [Task("echo", ["hi"])], workload=b'{"token": 1}'))
    paths = home.job("a")
    assert stat.S_IMODE(paths.root.stat().st_mode) == 0o700
    for path in (paths.state, paths.tasks, paths.workload, paths.events):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert store.read(home, "a") == job and job.state is JobState.WAITING
    (task,) = store.read_tasks(home, "a")
    assert (task.id, task.job_name, task.argv) == ("task-1", "a", ["echo", "hi"])
    assert [marker.job for marker in spool.waiting(home, "big")] == ["a"]
    assert [event["to"] for event in journal.read(paths.events)] == ["waiting"]


@pytest.mark.parametrize(("count", "at_once"), [(1, True), (store.SYNC_EACH + 2, True), (store.SYNC_EACH + 2, False)])
def test_a_job_is_durable_before_anybody_can_see_it(
    home: Home, monkeypatch: pytest.MonkeyPatch, count: int, at_once: bool
) -> None:
    """Content, then the name, then the queue: whatever a power cut leaves, there is no marker of half a job."""
    monkeypatch.setattr(_files, "SYNCS_FILESYSTEMS", at_once and _files.SYNCS_FILESYSTEMS)
    steps: list[str] = []

    def spy(owner: Any, name: str, describe: Callable[..., str]) -> None:
        original = getattr(owner, name)

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            steps.append(describe(*args))
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, wrapper)

    spy(os, "fsync", lambda fd: "content" if Path(f"/dev/fd/{fd}").is_file() else "directory")
    spy(_files, "sync_filesystem", lambda path: "content")
    spy(_files, "sync_directory", lambda path: f"sync {path.name}" if not path.name.startswith(".tmp") else "names")
    spy(os, "rename", lambda source, target: "place")
    spy(spool, "enqueue", lambda home, job: "enqueue")
    store.submit_batch(home, [store.Submission(Job(f"j{n}"), [Task("true")]) for n in range(count)])
    order = [step for step in steps if step != "directory"]
    places = [i for i, step in enumerate(order) if step == "place"]
    if count > store.SYNC_EACH and _files.SYNCS_FILESYSTEMS:
        assert order[: min(places)] == ["content"], "durability is paid once for the batch"
    else:  # state.json and tasks.json
        assert order[: min(places)] == ["names", "content", "content"] * count
    assert len(places) == count
    assert max(places) < order.index("sync jobs") < order.index("enqueue")
    assert order[-1] == "enqueue", "a marker that a power cut takes is made again from the job"


def test_a_new_home_is_durable_before_the_first_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(_files, "sync_directory", synced.append)
    home = Home(tmp_path / "new" / "home")
    store.ensure_home(home)
    assert synced == [home.root.parent, tmp_path, home.root]
    store.ensure_home(home)
    assert len(synced) == 3, "what is there is durable"


def test_a_batch_refuses_one_and_takes_the_others(home: Home, submit: Submit) -> None:
    submit("taken")
    batch = [
        store.Submission(Job("good"), [Task("true")]),
        store.Submission(Job("../bad"), [Task("true")]),
        store.Submission(Job("taken"), [Task("true")]),
        store.Submission(Job("cyclic"), [Task("true", id="a", dependencies=["a"])]),
        store.Submission(Job("fine"), [Task("true")]),
    ]
    refused = store.submit_batch(home, batch)
    assert {name: type(error) for name, error in refused.items()} == {
        "../bad": InvalidNameError,
        "taken": JobExistsError,
        "cyclic": InvalidJobError,
    }
    assert sorted(store.names(home)) == ["fine", "good", "taken"]
    assert sorted(marker.job for marker in spool.waiting(home, "default")) == ["fine", "good", "taken"]


@pytest.mark.parametrize(
    "submission",
    [
        store.Submission(Job("a" * 300), [Task("true")]),
        store.Submission(Job("a\nb"), [Task("true")]),
        store.Submission(Job("a"), []),
        store.Submission(Job("a", queue="/x"), [Task("true")]),
        store.Submission(Job("a", timeout=-1), [Task("true")]),
        store.Submission(Job("a"), [Task("")]),
    ],
)
def test_a_refused_job_leaves_nothing(home: Home, submission: store.Submission) -> None:
    before = files(home)
    with pytest.raises((InvalidJobError, InvalidNameError)):
        store.submit(home, submission)
    assert files(home) == before and not list(home.jobs.iterdir())


def test_a_name_is_taken_also_when_its_job_is_over_or_damaged(home: Home, submit: Submit) -> None:
    submit("a")
    home.job("a").state.write_text("")
    with pytest.raises(JobExistsError, match="there is a job named a already"):
        submit("a")
    assert home.job("a").state.read_text() == ""


@pytest.mark.parametrize("where", ["write", "place", "queue"])
def test_a_disk_that_is_full_refuses_all_and_leaves_nothing(
    home: Home, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device", "somewhere")

    before = files(home)
    if where == "write":
        monkeypatch.setattr(_files, "_write_all", full)
    elif where == "place":
        monkeypatch.setattr(_files, "sync_directory", full)
    else:
        monkeypatch.setattr(_files, "create_marker", full)
    with pytest.raises(HomeError, match=r"somewhere: cannot write the job: No space left on device; nothing"):
        store.submit_batch(home, [store.Submission(Job(f"j{n}"), [Task("true")]) for n in range(2)])
    assert files(home) == before and not list(home.jobs.iterdir())


def test_a_submitter_that_is_killed_leaves_whole_jobs_or_none(home: Home) -> None:
    """Killed again and again at any moment: what has a name is complete."""
    program = (
        "import sys, pathlib; from air_executor import store, model, paths;"
        "home = paths.Home(pathlib.Path(sys.argv[1])); print('go', flush=True);\n"
        "for n in range(10**6): store.submit(home, store.Submission(model.Job(f'k{sys.argv[2]}-{n}'),"
        " [model.Task('true')]))"
    )
    for attempt in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", program, str(home.root), str(attempt)], stdout=subprocess.PIPE
        ) as child:
            assert child.stdout is not None and child.stdout.readline() == b"go\n"
            prefix = f"k{attempt}-"
            while not any(name.startswith(prefix) for name in store.names(home)):
                assert child.poll() is None
            child.kill()
    found = list(store.names(home))
    assert len(found) >= 3
    for name in found:
        assert store.read(home, name).state is JobState.WAITING and len(store.read_tasks(home, name)) == 1
    assert {marker.job for marker in spool.waiting(home, "default")} <= set(found)


# --- The home ---


def test_a_new_home_is_private(tmp_path: Path) -> None:
    home = Home(tmp_path / "deep" / "home")
    store.ensure_home(home)
    store.ensure_home(home)
    assert stat.S_IMODE(home.root.stat().st_mode) == 0o700
    assert all(directory.is_dir() for directory in home.directories)


def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(HomeError, match="is not a directory"):
            store.ensure_home(Home(root))
        with pytest.raises(HomeError):
            store.check_home(Home(root))
    assert (tmp_path / "file").read_text() == "mine"


def test_a_home_with_a_file_in_the_place_of_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spool").touch()
    with pytest.raises(HomeError, match="spool is not a directory"):
        store.ensure_home(Home(tmp_path))


def test_a_home_where_nothing_can_be_created_is_refused() -> None:
    """No permissions are needed for this test: nobody creates directories in /proc, root neither."""
    with pytest.raises(HomeError, match=r"/proc/self/home cannot be created: .*; choose another home"):
        store.ensure_home(Home(Path("/proc/self/home")))


def test_a_home_that_cannot_be_written_to_is_refused(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(HomeError, match="cannot be written to"):
        store.ensure_home(home)


def test_a_home_that_is_not_there_or_none_is_said_to_readers(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="does not exist"):
        store.check_home(Home(tmp_path / "gone"))
    with pytest.raises(HomeError, match="is not the home of an Air-Executor installation"):
        store.check_home(Home(tmp_path))


# --- Reading ---


def test_a_job_that_is_not_there(home: Home) -> None:
    with pytest.raises(NotFoundError, match=f"there is no job named nope in {home.root}"):
        store.read(home, "nope")
    with pytest.raises(NotFoundError):
        store.read_tasks(home, "nope")
    with pytest.raises(NotFoundError):
        store.read_or_damaged(home, "nope")
    with pytest.raises(InvalidNameError):
        store.read(home, "../jobs")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ('{"name": "a", "sta', "is not valid JSON"),
        ('{"name": "other"}', "is of the job 'other', not 'a'"),
        ('{"name": "a", "state": "odd"}', "'state' has the unknown value 'odd'"),
        ('{"name": "a", "created_at": "yesterday"}', "'queued_at' is not a time: 'yesterday'|'created_at' is not"),
        ('{"name": "a", "queued_at": "x"}', "is not a time"),
        ("[1]", "should hold a JSON object"),
    ],
)
def test_a_damaged_state_is_named_and_reads_as_failed(home: Home, submit: Submit, content: str, message: str) -> None:
    submit("a")
    submit("sound")
    home.job("a").state.write_text(content)
    with pytest.raises(CorruptFileError, match=message) as caught:
        store.read(home, "a")
    assert caught.value.path == str(home.job("a").state)
    job = store.read_or_damaged(home, "a")
    assert job.state is JobState.FAILED and job.exit is not None and job.exit.kind is model.ExitKind.DAMAGED
    assert "state.json" in job.exit.reason
    assert store.read_or_damaged(home, "a") == job, "it is the same job at each look"
    lock = held.lock_job(home, "a")
    assert store.read_or_damaged(home, "a").state is JobState.WORKING, "who holds it writes the file anew at its end"
    lock.release()
    assert store.read(home, "sound").state is JobState.WAITING


def test_a_state_cut_anywhere_is_damaged_and_never_wrong(home: Home, submit: Submit) -> None:
    job = submit("a", labels={"k": "v"})
    whole = home.job("a").state.read_bytes()
    for cut in range(len(whole) - 1):
        home.job("a").state.write_bytes(whole[:cut])
        if whole[:cut].strip() != whole.strip():
            with pytest.raises(CorruptFileError):
                store.read(home, "a")
    home.job("a").state.write_bytes(whole)
    assert store.read(home, "a") == job


def test_a_state_that_is_gone_is_damage_and_not_absence(home: Home, submit: Submit) -> None:
    submit("a")
    home.job("a").state.unlink()
    with pytest.raises(CorruptFileError, match="is missing"):
        store.read(home, "a")


@pytest.mark.parametrize("content", ["{}", '{"tasks": [1]}', '{"tasks": [{"id": "x"}]}', '{"tasks": [{"command": 1}]}'])
def test_damaged_tasks_are_named(home: Home, submit: Submit, content: str) -> None:
    submit("a")
    home.job("a").tasks.write_text(content)
    with pytest.raises(CorruptFileError, match=r"tasks\.json"):
        store.read_tasks(home, "a")


def test_a_file_of_an_older_version_still_loads(home: Home, submit: Submit) -> None:
    submit("a")
    home.job("a").state.write_text(
        '{"name": "a", "id": "1", "state": "waiting", "created_at": "2026-01-01T00:00:00.000000Z",'
        ' "updated_at": "2026-01-01T00:00:00.000000Z"}'
    )
    job = store.read(home, "a")
    assert spool.marker_of(job).queued_at == model.parse_time("2026-01-01T00:00:00Z").timestamp()


def test_names_are_those_of_jobs_newest_first(home: Home, submit: Submit) -> None:
    for number, name in enumerate(["old", "middle", "new"]):
        submit(name)
        os.utime(home.job(name).root, (number, number))
    (home.jobs / ".tmp-1").mkdir()
    (home.jobs / "not a job").mkdir()
    assert store.newest_names(home) == ["new", "middle", "old"]
    assert store.newest_names(home, changed_since=1) == ["new", "middle"]
    assert sorted(store.names(home)) == ["middle", "new", "old"]
    assert store.newest_names(Home(home.root / "gone")) == list(store.names(Home(home.root / "gone"))) == []


def test_a_job_that_is_made_between_two_looks_is_not_damaged(
    home: Home, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = _files.read_object

    def make_it_meanwhile(path: Path) -> dict[str, object]:
        try:
            return look(path)
        except FileNotFoundError:
            monkeypatch.undo()
            submit("late")
            raise

    monkeypatch.setattr(_files, "read_object", make_it_meanwhile)
    assert store.read(home, "late").name == "late"
