"""Config, runner and component files with random damage, and things in place of a file that are none."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from air_executor import components, held, model, processes, repair, runners, spool, status, store
from air_executor import settings as configuration
from air_executor.errors import AirExecutorError, CorruptFileError, JobBusyError, SettingsError
from air_executor.model import ExitKind, Job, JobState, Task
from air_executor.paths import Home
from air_executor.sightings import Sightings
from tests.faults import damage
from tests.faults.nasty import ODD, make_directory

RANDOM = settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
CONFIG = b'[runner]\nqueues = ["default", "heavy"]\nslots = 16\ngrace = 2.5\n\n[retention]\nkeep = 5\n'


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    store.ensure_home(home)
    moment = model.now()
    process = processes.identify(os.getpid())
    runners.write(home, runners.RunnerInfo("r", process, ["default"], 4, "fork", "0.1.0", moment, moment, 3.0))
    components.register(home, components.Component("scheduler", process, "log"))
    for name in ("job", "other"):
        store.submit(home, store.Submission(Job(name, notify=True), [Task("true")]))
    return home


def look_at_runners(home: Home) -> None:
    for info in runners.all_runners(home):
        runners.write(home, info)
    status.gather(home)
    seen = Sightings()
    runners.forget_dead(home, seen)
    list(repair.abandoned_claims(home, seen))


def check_config(home: Home, content: bytes) -> None:
    home.config.write_bytes(content)
    with contextlib.suppress(SettingsError):
        loaded = configuration.load(home, {})
        assert loaded.runner.slots > 0 and loaded.retention.policy.keep != 0


def check_runner(home: Home, content: bytes) -> None:
    home.runner("r").write_bytes(content)
    look_at_runners(home)


def check_component(home: Home, content: bytes) -> None:
    home.component("scheduler").write_bytes(content)
    for component in components.read_all(home):
        assert isinstance(component, AirExecutorError) or component.alive in (True, False, None)


CHECKS: dict[str, Callable[[Home, bytes], None]] = {
    "config.toml": check_config,
    "runners/r.json": check_runner,
    "components/scheduler.json": check_component,
}


@pytest.mark.parametrize("file", CHECKS)
def test_every_length(home: Home, file: str) -> None:
    whole = CONFIG if file == "config.toml" else (home.root / file).read_bytes()
    for length in range(len(whole) + 1):
        CHECKS[file](home, whole[:length])


@pytest.mark.parametrize("file", CHECKS)
@given(data=st.data())
@RANDOM
def test_random_damage(home: Home, file: str, data: st.DataObject) -> None:
    whole = CONFIG if file == "config.toml" else RUNNER if "runner" in file else COMPONENT
    CHECKS[file](home, data.draw(damage.damaged(whole, is_json=file != "config.toml")))


RUNNER = b"""{"schema": 1, "id": "r", "queues": ["default"], "slots": 4, "launcher": "fork", "version": "0.1.0",
"started_at": "2026-01-01T00:00:00Z", "heartbeat_at": "2026-01-01T00:00:00Z", "heartbeat": 3.0, "working": 0,
"process": {"host": "h", "boot_id": "b", "pid": 7, "start_time": 1, "runner": null}}
"""
COMPONENT = b'{"schema": 1, "name": "scheduler", "log": "l", "url": null, "pid": 7, "start_time": 1, "host": "h"}\n'


@pytest.mark.parametrize(
    "value", ["0x" + "f" * 5000, "9" * 5000, "1e999", "[" * 5000, "{a=" * 2000, '"\\ud800"', "nan"]
)
@pytest.mark.parametrize("option", ["slots", "grace", "queues", "launcher"])
def test_odd_values_of_options(home: Home, option: str, value: str) -> None:
    home.config.write_text(f"[runner]\n{option} = {value}\n")
    with pytest.raises(SettingsError, match=r"config\.toml"):
        configuration.load(home, {})


# --- Things that are no files ---


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("file", ["state.json", "tasks.json"])
@pytest.mark.timeout(20)
def test_in_place_of_a_file_of_a_job(home: Home, odd: str, file: str) -> None:
    path = home.job("job").root / file
    path.unlink()
    ODD[odd](path)
    status.gather(home)
    list(repair.repair(home))
    repair.resolve(home, "job", "it is tried", by="test")
    job = store.read(home, "job")
    assert job.state is JobState.FAILED and job.exit is not None and job.exit.kind is ExitKind.DAMAGED
    assert str(path) in job.exit.reason and spool.finished(home) == ["job"]
    kept = path if file == "tasks.json" else path.with_name("state.json.damaged-1")
    assert os.path.lexists(kept)
    assert store.read(home, "other").state is JobState.WAITING


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("file", ["events.jsonl", "cancel", "workload.json", "logs"])
@pytest.mark.timeout(20)
def test_in_place_of_what_may_be_missing(home: Home, odd: str, file: str) -> None:
    """The job may go on or not; nobody hangs, and no error is somebody else's."""
    path = home.job("job").root / file
    with contextlib.suppress(FileNotFoundError):
        path.rename(path.with_name("aside"))
    ODD[odd](path)
    with contextlib.suppress(AirExecutorError):
        repair.read_stop_request(home, "job")
    list(repair.repair(home))
    repair.resolve(home, "job", "it is tried", by="test")
    assert store.read(home, "job").state in JobState
    assert store.read(home, "other").state is JobState.WAITING


@pytest.mark.parametrize("odd", ODD)
def test_in_place_of_the_lock_it_is_set_aside(home: Home, odd: str) -> None:
    path = home.job("job").lock
    ODD[odd](path)
    with held.HeldJob.acquire(home, "job"):
        assert path.is_file() and not path.is_symlink()
        with pytest.raises(JobBusyError):
            held.HeldJob.acquire(home, "job")
    assert os.path.lexists(path.with_name("runner.lock.damaged-1"))
    assert not os.path.lexists(path.with_name("runner.lock.damaged-2"))


def test_a_lock_that_leads_to_another_jobs_is_not_that_jobs(home: Home) -> None:
    with held.HeldJob.acquire(home, "other"):
        home.job("job").lock.symlink_to(home.job("other").lock)
        held.HeldJob.acquire(home, "job").release()


def test_the_tasks_of_another_job_are_not_run(home: Home) -> None:
    shutil.copy(home.job("other").tasks, home.job("job").tasks)
    with pytest.raises(CorruptFileError, match="is of the job 'other', not 'job'"):
        store.read_tasks(home, "job")


@pytest.mark.parametrize("odd", ODD)
def test_in_place_of_other_files(home: Home, odd: str) -> None:
    for path in (home.config, home.runner("r"), home.component("scheduler"), home.jobs / "x", home.waiting / "x"):
        path.unlink(missing_ok=True)
        ODD[odd](path)
    with contextlib.suppress(SettingsError):
        configuration.load(home, {})
    look_at_runners(home)
    components.read_all(home)
    list(repair.repair(home))
    assert store.read(home, "other").state is JobState.WAITING


def test_foreign_names_in_the_spool_are_nobodys_markers(home: Home) -> None:
    queue = home.queue("default")
    [marker, other] = sorted(spool.waiting(home, "default"))
    foreign = ["x", "-", f"{marker.order}-", f"{marker.order}-..", f"{marker.order[:-1]}-job", f"{marker.order}-a b"]
    for name in [*foreign, f"{marker.order}-" + "n" * 201, os.fsdecode(b"\xff\xfe")]:
        (queue / name).touch()
    (queue / f"{marker.order}-sub").mkdir()
    (home.waiting / "file").touch()
    (home.claimed / "file").touch()
    for directory in (home.finished, home.cancel_requests):
        (directory / "job").mkdir()
        (directory / "..x").touch()
        (directory / "no name").touch()
    assert sorted(spool.waiting(home, "default")) == [marker, other]
    assert (spool.queues(home), spool.holders(home)) == (["default"], [])
    assert (spool.finished(home), spool.cancel_requests(home)) == ([], [])
    list(repair.repair(home))
    assert sorted(spool.waiting(home, "default")) == [marker, other]


def test_a_directory_in_place_of_a_marker_keeps_no_job_waiting(home: Home) -> None:
    path = spool.marker_of(store.read(home, "job")).path(home)
    path.unlink()
    make_directory(path)
    list(repair.repair(home))
    assert path.is_file() and {marker.job for marker in spool.waiting(home, "default")} == {"job", "other"}
