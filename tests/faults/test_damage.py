"""Damaged files: every length of every file, and random damage to its bytes and values.

What a home needs to go on is read again and again from files that somebody else may have damaged. Whatever is in them:
nobody fails with an error that is not ours, the job that is affected ends failed with a reason or was harmlessly
readable, what was damaged is kept, and no other job is touched.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from air_executor import (
    client,
    components,
    doctor,
    held,
    journal,
    model,
    processes,
    repair,
    respool,
    runners,
    spool,
    status,
    store,
)
from air_executor import settings as configuration
from air_executor.errors import AirExecutorError, CorruptFileError
from air_executor.model import ExitKind, Job, JobState, Task, TaskStatus
from air_executor.paths import Home
from air_executor.sightings import Sightings
from air_runner import recovery, supervise
from tests.faults import damage

GONE = model.Process(processes.host(), processes.boot_id(), 2**22 + 1, 1, "dead")
"""A process that cannot exist: its number is above the highest."""

CONFIG = b"""\
[runner]
queues = ["default", "heavy"]
slots = 16
launcher = "fork"
grace = 2.5
"""

FILES = ("state.json", "tasks.json", "events.jsonl", "cancel")


def submit(home: Home, name: str) -> None:
    tasks = [Task("true", ["a", "b"]), Task("echo", dependencies=["task-1"], env={"A": "b"}, timeout=5.0)]
    job = Job(name, labels={"dag_id": "d"}, priority=3, timeout=60.0, notify=True)
    store.submit(home, store.Submission(job, tasks))


def begin(home: Home, name: str) -> None:
    """Let a job be working, with its claim, for a process that is gone."""
    home.claims("dead").mkdir(exist_ok=True)
    spool.claim(home, spool.marker_of(store.read(home, name)), "dead")
    with held.HeldJob.acquire(home, name) as job:
        job.start(GONE, by="runner dead")
        job.set_task(job.tasks[0], TaskStatus.RUNNING)


def write_runner(home: Home, name: str, process: model.Process) -> None:
    moment = model.now()
    runners.write(home, runners.RunnerInfo(name, process, ["default"], 4, "fork", "0.1.0", moment, moment, 3.0))


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with a job in each state, from which the tests make theirs."""
    home = Home(tmp_path_factory.mktemp("pattern") / "home")
    store.ensure_home(home)
    home.config.write_bytes(CONFIG)
    for name in ("waits", "works", "over", "innocent", "innocent-over"):
        submit(home, name)
    for name in ("works", "over", "innocent-over"):
        begin(home, name)
    client.AirExecutorClient(home.root).cancel("works", by="me", why="a test")
    for name in ("over", "innocent-over"):
        with held.HeldJob.acquire(home, name) as job:
            job.finish(
                JobState.COMPLETED, model.Exit(ExitKind.SUCCESS, "completed", 0), by="runner dead", used={"a": 1}
            )
    write_runner(home, "dead", GONE)
    write_runner(home, "living", processes.identify(os.getpid()))
    components.register(home, components.Component("scheduler", processes.identify(os.getpid()), "log", "http://x"))
    return home


class Patient:
    """A copy of the pattern in which files are damaged."""

    def __init__(self, pattern: Home, root: Path) -> None:
        self.pattern = pattern
        self.home = Home(root / "home")
        self.damaged: dict[str, dict[str, bytes]] = {}
        """What was written over the files of a job."""
        shutil.copytree(pattern.root, self.home.root, symlinks=True)

    def add(self, name: str, like: str) -> None:
        """One more job like one of the pattern's."""
        source, target = self.pattern.job(like).root, self.home.job(name).root
        shutil.copytree(source, target)
        for file in ("state.json", "tasks.json"):
            path = target / file
            path.write_text(path.read_text().replace(f'"{like}"', f'"{name}"'))
        if like == "waits":
            spool.marker_of(store.read(self.home, name)).path(self.home).touch()
        if like == "works":
            (self.home.claims("dead") / name).touch()

    def damage(self, name: str, file: str, content: bytes) -> None:
        (self.home.job(name).root / file).write_bytes(content)
        self.damaged.setdefault(name, {})[file] = content

    def content(self, name: str, file: str) -> bytes:
        """The file of a job before it is damaged."""
        home = self.home if self.home.job(name).root.is_dir() else self.pattern
        return (home.job(name).root / file).read_bytes()


@pytest.fixture(scope="module", autouse=True)
def within_this_process() -> Iterator[None]:
    """No waiting for disks, and no looking for processes of thousands of jobs that never had one."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda fd: None)
        patched.setattr(supervise, "kill_recorded_remnants", lambda *_: None)
        yield


@contextlib.contextmanager
def patient(pattern: Home, root: Path) -> Iterator[Patient]:
    made = Patient(pattern, root)
    try:
        yield made
    finally:
        shutil.rmtree(made.home.root)


# --- What is done with a damaged home ---


def look(home: Home, names: list[str]) -> None:
    """All that reads; an error that is not ours ends the test."""
    api = client.AirExecutorClient(home.root)
    actions: list[Callable[[], object]] = [
        lambda: runners.all_runners(home),
        lambda: components.read_all(home),
        lambda: status.gather(home).problems,
        lambda: [*doctor.check_settings(home), *doctor.check_runners(home)],
        lambda: configuration.load(home, {}),
        lambda: [list(spool.waiting(home, queue)) for queue in spool.queues(home)],
        lambda: [spool.claimed(home, holder) for holder in spool.holders(home)],
        lambda: [spool.finished(home), spool.cancel_requests(home)],
        lambda: list(api.list_jobs()),
    ]
    for name in names:
        actions += [
            lambda name=name: store.read(home, name),
            lambda name=name: api.get_job(name),
            lambda name=name: api.get_tasks(name),
            lambda name=name: api.logs(name),
            lambda name=name: list(journal.read(home.job(name).events)),
            lambda name=name: repair.read_stop_request(home, name),
            lambda name=name: respool.requeue_lost(home, name),
        ]
    for action in actions:
        with contextlib.suppress(AirExecutorError):
            action()


def treat(home: Home) -> None:
    """What a runner does: repair, recovery, and every waiting job to its end."""
    home.claims("living").mkdir(exist_ok=True)
    list(repair.repair(home))
    list(recovery.recover(home, "living", (), Sightings()))
    for marker in [marker for queue in spool.queues(home) for marker in spool.waiting(home, queue)]:
        if marker.job != "innocent" and spool.claim(home, marker, "living"):
            run(home, marker.job)


def run(home: Home, name: str) -> None:
    try:
        job = held.HeldJob.acquire(home, name)
    except AirExecutorError:
        repair.resolve(home, name, "cannot be read", by="runner living", holder="living")
        return
    with job:
        if job.job.state is not JobState.WAITING:
            return
        job.start(processes.identify(os.getpid(), "living"), by="runner living")
        for task in job.tasks:
            with contextlib.suppress(model.TransitionError):
                job.set_task(task, TaskStatus.RUNNING)
        job.finish(JobState.COMPLETED, model.Exit(ExitKind.SUCCESS, "completed"), by="runner living")


def check_end(patient: Patient, name: str, *, sound: bool) -> None:
    """The job has an end; that of a damaged one says so, and what was damaged is there."""
    home = patient.home
    job = store.read(home, name)
    assert job.state.terminal, (name, job.state)
    if not sound:
        assert job.state is JobState.FAILED and job.exit is not None and job.exit.kind is ExitKind.DAMAGED
        assert str(home.job(name).root) in job.exit.reason and len(job.exit.reason) < 500, job.exit.reason
        kept = {path.read_bytes() for path in home.job(name).root.iterdir() if path.is_file()}
        for file, content in patient.damaged[name].items():
            assert file == "events.jsonl" or content in kept, f"{file} of {name} was not kept"
    assert name not in spool.claimed(home, "living")


def is_sound(home: Home, name: str) -> bool:
    """Whether everything of the job can be read, or nobody needs it any more."""
    try:
        job = store.read(home, name)
        if not job.state.terminal:
            store.read_tasks(home, name)
            list(journal.read(home.job(name).events))
    except CorruptFileError:
        return False
    return True


def check_innocents(patient: Patient) -> None:
    for name in ("innocent", "innocent-over"):
        for file in FILES[:3]:
            assert (patient.home.job(name).root / file).read_bytes() == patient.content(name, file)
    assert [marker.job for marker in spool.waiting(patient.home, "default")] == ["innocent"]


def examine(patient: Patient) -> None:
    names = list(patient.damaged)
    sound = {name: is_sound(patient.home, name) for name in names}
    look(patient.home, names[::3])
    treat(patient.home)
    for name in names:
        check_end(patient, name, sound=sound[name])
    check_innocents(patient)
    look(patient.home, names[::20])


# --- The files of jobs ---


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(("like", "step"), [("works", 1), ("waits", 25), ("over", 25)])
def test_every_length_of_a_file_of_a_job(pattern: Home, tmp_path: Path, like: str, step: int, file: str) -> None:
    with patient(pattern, tmp_path) as made:
        for length in range(0, len(made.content("works", file)), step):
            name = f"cut-{length}"
            made.add(name, like)
            made.damage(name, file, made.content("works" if file == "cancel" else name, file)[:length])
        examine(made)


COMMON = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
CASES_EACH = 20


@given(data=st.data())
@settings(COMMON, max_examples=100)
def test_random_damage_to_the_files_of_jobs(
    pattern: Home, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    with patient(pattern, tmp_path_factory.mktemp("random")) as made:
        for number in range(CASES_EACH):
            like = data.draw(st.sampled_from(["waits", "works", "works", "over"]))
            file = data.draw(st.sampled_from(["state.json", "state.json", "tasks.json", "events.jsonl", "cancel"]))
            name = f"job-{number}"
            made.add(name, like)
            made.damage(
                name,
                file,
                data.draw(
                    damage.damaged(
                        made.content(name if file != "cancel" else "works", file), is_json=file != "events.jsonl"
                    )
                ),
            )
        examine(made)


@pytest.mark.parametrize("file", ["state.json", "tasks.json"])
def test_every_value_replaced_by_every_odd_one(pattern: Home, tmp_path: Path, file: str) -> None:
    with patient(pattern, tmp_path) as made:
        places = len(list(damage._places(json.loads(made.content("works", file)))))
        numbers = itertools.count()
        for place, value in itertools.product(range(places), damage.VALUES):
            if (place + damage.VALUES.index(value)) % 6 == 0:
                name = f"odd-{next(numbers)}"
                made.add(name, "works")
                made.damage(
                    name, file, damage.replace_value((made.home.job(name).root / file).read_bytes(), place, value)
                )
        examine(made)
