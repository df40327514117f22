"""Doctor finds each thing that was planted and nothing else, says the fix, and `--fix` does that and nothing else."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from air_executor import _files, cli, doctor, health, model, pauses, preloads, processes, runners, spool, status, store
from air_executor.doctor import airflow, facts, filesystem, fixes, system
from air_executor.doctor import home as of_home
from air_executor.doctor.findings import Check, Level
from air_executor.model import Job, Task
from air_executor.paths import Home
from air_executor.testing import wait_for
from air_executor.webhooks import outbox
from tests.unit.doctors import bad, changed, healthy, snapshot
from tests.unit.test_repair import GONE
from tests.unit.test_runners import SELF, ago, info

SECRET = "hunter2"
OLD = 1_700_000_000
TEMPLATE = "airflow_plugin.workload"


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this host's own: no variables of ours, Airflow in this Python, and limits that suffice."""
    for name in list(os.environ):
        if name.startswith(("AIR_EXECUTOR_", "AIRFLOW")) or name == system.NO_BYTECODE:
            monkeypatch.delenv(name)
    monkeypatch.setattr(airflow.shutil, "which", lambda name: None)
    monkeypatch.setattr(airflow.util, "find_spec", lambda name: object())
    monkeypatch.setattr(system, "limits_of", lambda pid: system.Limits(None, None))
    monkeypatch.setattr(system, "has_variable", lambda pid, name: False)


@pytest.fixture
def sound(home: Home) -> Home:
    """A home with a living runner, and a job that waits for it."""
    runners.write(home, info("r", version=doctor_version()))
    store.submit(home, store.Submission(Job("waits"), [Task("true", env={"PASSWORD": SECRET})]))
    home.runner_log.touch(mode=0o600)
    grow_old(home, "waits")
    return home


def doctor_version() -> str:
    import air_executor

    return air_executor.__version__


def grow_old(home: Home, name: str) -> None:
    os.utime(home.job(name).root, (OLD, OLD))


def examine(home: Home) -> list[doctor.Finding]:
    return list(doctor.examine(home, lambda: healthy(home)))


def test_a_sound_home_has_no_finding(sound: Home) -> None:
    before = snapshot(sound)
    found = examine(sound)
    assert bad(found) == [] and doctor.remedies(found) == []
    silent = {Check.DRAINING, Check.PAUSED, Check.COMPONENT, Check.WRITE, Check.WEBHOOKS}  # speak only of what is wrong
    assert {finding.check for finding in found} == set(Check) - silent
    assert changed(before, snapshot(sound)) == set(), "looking leaves nothing"


# --- The table ---


@dataclass(frozen=True)
class Plant:
    """Something that is wrong."""

    check: Check
    fix: str
    """What the fix must say; {home} is the home."""
    plant: Callable[[Home, pytest.MonkeyPatch], Any]
    """Makes it wrong; of what `--fix` mends it returns the paths that may change by that, None of other things."""
    says: str = ""


def open_home(home: Home, _: pytest.MonkeyPatch) -> list[Path]:
    home.root.chmod(0o755)
    return [home.root]


def closed_log(home: Home, _: pytest.MonkeyPatch) -> list[Path]:
    home.runner_log.chmod(0o400)
    return [home.runner_log]


def closed_queue(home: Home, _: pytest.MonkeyPatch) -> list[Path]:
    home.queue("default").chmod(0o500)
    return [home.queue("default")]


def closed_spool(home: Home, _: pytest.MonkeyPatch) -> list[Path]:
    home.spool.chmod(0o000)
    return [home.spool]


def no_directory(home: Home, _: pytest.MonkeyPatch) -> list[Path]:
    home.told.rmdir()
    return [home.told]


def dead_writer(path: Path) -> Path:
    """As a process of this boot that is gone would have named it."""
    from air_executor import temporaries

    host, boot = temporaries._short(processes.host()), temporaries._short(processes.boot_id())
    return path.with_name(f".tmp-{host}{boot}-{GONE.pid}-1-00000000")


def half_a_job(home: Home, _: pytest.MonkeyPatch) -> list[Path]:
    path = dead_writer(home.jobs / "x")
    path.mkdir()
    (path / "state.json").touch()
    return [path, path / "state.json"]


def half_a_look(home: Home, _: pytest.MonkeyPatch) -> list[Path]:
    path = dead_writer(home.root / "x")
    path.mkdir()
    return [path]


def half_a_pause(home: Home, _: pytest.MonkeyPatch) -> list[Path]:
    home.paused.mkdir(mode=0o700)
    path = dead_writer(home.pause("q"))
    path.touch(mode=0o600)
    return [path]


def dead_runner(home: Home, _: pytest.MonkeyPatch) -> list[Path]:
    runners.write(home, info("dead", GONE, heartbeat_at=ago(3600)))
    return [home.runner("dead")]


def damaged_runner(home: Home, _: pytest.MonkeyPatch) -> list[Path]:
    home.runner("odd").write_text("{")
    os.utime(home.runner("odd"), (OLD, OLD))
    return [home.runner("odd")]


def no_marker(home: Home, _: pytest.MonkeyPatch) -> list[Path]:
    marker = spool.marker_of(store.read(home, "waits")).path(home)
    marker.unlink()
    return [marker, home.job("waits").lock]


def foreign_marker(home: Home, _: pytest.MonkeyPatch) -> list[Path]:
    marker = spool.marker_of(Job("gone", queued_at=model.now())).path(home)
    marker.touch()
    return [marker]


def lost_claim(home: Home, _: pytest.MonkeyPatch) -> list[Path]:
    path = home.job("waits").state
    content = json.loads(path.read_text())
    runner = {"host": GONE.host, "boot_id": GONE.boot_id, "pid": GONE.pid, "start_time": 1, "runner": "dead"}
    path.write_text(json.dumps({**content, "state": "working", "runner": runner}))
    spool.marker_of(store.read(home, "waits")).path(home).unlink()
    grow_old(home, "waits")
    return [home.claims("dead"), home.claims("dead") / "waits"]


def damaged_knowledge(home: Home, _: pytest.MonkeyPatch) -> list[Path]:
    home.preload.mkdir()
    preloads.own_file(home).write_text("{")
    return [preloads.own_file(home)]


def set_aside_knowledge(home: Home, _: pytest.MonkeyPatch) -> list[Path]:
    home.preload.mkdir()
    path = home.preload / "h-3.11-0.json.damaged-1"
    path.touch()
    return [path]


def damaged_index(home: Home, _: pytest.MonkeyPatch) -> list[Path]:
    home.index.mkdir()
    for path in (index := home.index_file("h"), index.with_name("h.sqlite-wal")):
        path.write_text("no database")
    return [index, index.with_name("h.sqlite-wal"), home.index_lock("h")]


def damaged_job(home: Home, _: pytest.MonkeyPatch) -> None:
    home.job("waits").state.write_text("{")


def set_aside_job(home: Home, _: pytest.MonkeyPatch) -> None:
    (home.job("waits").root / "state.json.damaged-1").touch()
    grow_old(home, "waits")


def config(text: str, **environ: str) -> Callable[[Home, pytest.MonkeyPatch], None]:
    def plant(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
        if text:
            home.config.write_text(text)
            home.config.chmod(0o600)
        for name, value in environ.items():
            monkeypatch.setenv(name, value)

    return plant


def runner(runner_id: str = "r", **changes: Any) -> Callable[[Home, pytest.MonkeyPatch], None]:
    def plant(home: Home, _: pytest.MonkeyPatch) -> None:
        runners.write(home, info(runner_id, **{"version": doctor_version(), **changes}))

    return plant


def no_runner(home: Home, _: pytest.MonkeyPatch) -> None:
    home.runner("r").unlink()
    spool.marker_of(store.read(home, "waits")).path(home).rename(home.waiting / "kept")
    home.job("waits").root.rename(home.root / "kept")
    (home.waiting / "kept").unlink()


def dead_with_jobs(home: Home, _: pytest.MonkeyPatch) -> None:
    runners.write(home, info("dead", GONE))
    home.claims("dead").mkdir()
    spool.claim(home, spool.marker_of(store.read(home, "waits")), "dead")


def unserved(home: Home, _: pytest.MonkeyPatch) -> None:
    store.submit(home, store.Submission(Job("w2", queue="gpu"), [Task("true")]))


def paused(queue: str) -> Callable[[Home, pytest.MonkeyPatch], None]:
    def plant(home: Home, _: pytest.MonkeyPatch) -> None:
        pauses.pause(home, queue, by="ana", why="a move")

    return plant


def untold(home: Home, _: pytest.MonkeyPatch) -> None:
    outbox.write(home, outbox.Entry("ops", "a.00000001,1", {}, ago(0), tries=9, error="503", dead=True))


def refused_module(home: Home, _: pytest.MonkeyPatch) -> None:
    module = preloads.Module(preloads.Verdict.REFUSED, why="it starts threads")
    known = preloads.Knowledge(templates={TEMPLATE: preloads.Learned(modules={"grpc": module})})
    home.preload.mkdir()
    preloads.write(preloads.own_file(home), known)


def patched(module: Any, name: str, value: Any) -> Callable[[Home, pytest.MonkeyPatch], None]:
    return lambda home, monkeypatch: monkeypatch.setattr(module, name, value)


def mounted(kind: str, options: str) -> Callable[[Home, pytest.MonkeyPatch], None]:
    def plant(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
        mounts = home.root.parent / "mountinfo"
        mounts.write_text(f"1 0 0:1 / / rw - ext4 d rw\n2 1 0:2 / {home.root} rw,{options} - {kind} host:/ rw\n")
        monkeypatch.setattr(filesystem, "MOUNTS", mounts)

    return plant


PLANTS = {
    "open home": Plant(Check.PRIVACY, "chmod 700 {home}", open_home, "mode 0755"),
    "closed log": Plant(Check.PERMISSIONS, "chmod 600 {home}/logs/runner.log", closed_log),
    "closed queue": Plant(Check.PERMISSIONS, "chmod 700 {home}/spool/waiting/default", closed_queue),
    "closed spool": Plant(Check.PERMISSIONS, "chmod 700 {home}/spool", closed_spool),
    "missing directory": Plant(Check.HOME, "--home {home} repair", no_directory, "told is not there"),
    "half a job": Plant(Check.LEFTOVERS, "doctor --fix", half_a_job),
    "half a look": Plant(Check.LEFTOVERS, "doctor --fix", half_a_look),
    "dead runner": Plant(Check.LEFTOVERS, "repair", dead_runner, "dead.json"),
    "damaged runner": Plant(Check.DAMAGED, "rm -f {home}/runners/odd.json", damaged_runner),
    "no marker": Plant(Check.SPOOL, "repair", no_marker, "no place in it: waits"),
    "foreign marker": Plant(Check.SPOOL, "repair", foreign_marker, "gone"),
    "lost claim": Plant(Check.SPOOL, "repair", lost_claim, "no place in it: waits"),
    "damaged knowledge": Plant(Check.DAMAGED, "rm -f {home}/preload/", damaged_knowledge),
    "knowledge set aside": Plant(Check.DAMAGED, "rm -f {home}/preload/h-3.11-0.json.damaged-1", set_aside_knowledge),
    "damaged index": Plant(Check.DAMAGED, "rm -f {home}/index/h.sqlite-shm", damaged_index),
    "damaged job": Plant(Check.DAMAGED, "repair", damaged_job, "state.json"),
    "job set aside": Plant(Check.DAMAGED, "rm -f {home}/jobs/waits/state.json.damaged-1", set_aside_job),
    "unknown key": Plant(
        Check.SETTINGS, "edit {home}/config.toml", config("[runner]\nslotz = 1"), "did you mean slots?"
    ),
    "wrong value": Plant(Check.SETTINGS, "edit {home}/config.toml", config("[runner]\nslots = 'many'"), "whole number"),
    "unknown table": Plant(Check.SETTINGS, "edit {home}/config.toml", config("[runnner]"), "runnner"),
    "no TOML": Plant(Check.SETTINGS, "edit {home}/config.toml", config("[runner"), "not valid TOML"),
    "overridden": Plant(
        Check.SETTINGS,
        "unset AIR_EXECUTOR_RUNNER_SLOTS, or remove the line 'slots = ...' from {home}/config.toml",
        config("[runner]\nslots = 4", AIR_EXECUTOR_RUNNER_SLOTS="7"),
    ),
    "unread variable": Plant(
        Check.SETTINGS, "export AIR_EXECUTOR_RUNNER_SLOTS=", config("", AIR_EXECUTOR_SLOTS=SECRET), "nothing reads"
    ),
    "wrong variable": Plant(
        Check.SETTINGS,
        "unset AIR_EXECUTOR_RUNNER_SLOTS",
        config("", AIR_EXECUTOR_RUNNER_SLOTS=SECRET),
        "must be a whole number",
    ),
    "no bytecode": Plant(Check.ENVIRONMENT, "unset PYTHONDONTWRITEBYTECODE", config("", PYTHONDONTWRITEBYTECODE="1")),
    "no bytecode for a runner": Plant(
        Check.ENVIRONMENT,
        "unset PYTHONDONTWRITEBYTECODE; air-executor --home {home} runner stop r --handover",
        patched(system, "has_variable", lambda pid, name: name == "PYTHONDONTWRITEBYTECODE"),
    ),
    "old version": Plant(
        Check.VERSION, "runner stop r --handover && air-executor --home {home} runner start", runner(version="0.0.9")
    ),
    "old embedded": Plant(Check.VERSION, "runner stop r --handover", runner(version="0.0.9", embedded=True)),
    "drained": Plant(Check.DRAINING, "runner resume d", runner("d", draining=True)),
    "no runner": Plant(Check.RUNNER, "runner start --detach", no_runner, "no runner takes jobs"),
    "dead with jobs": Plant(Check.RUNNER, "runner start --detach", dead_with_jobs, "is gone and left 1 job"),
    "unserved queue": Plant(Check.QUEUE, "runner start --detach --queues gpu", unserved, "waits in the queue gpu"),
    "paused queue": Plant(Check.QUEUE, "queue resume default", paused("default"), "by ana: a move"),
    "paused ahead": Plant(Check.PAUSED, "queue resume later", paused("later"), "by ana: a move"),
    "untold end": Plant(Check.WEBHOOKS, "webhook list --dead --webhook ops", untold, "webhook ops: 1 of its events"),
    "unfinished pause": Plant(Check.LEFTOVERS, "doctor --fix", half_a_pause),
    "ill template": Plant(
        Check.TEMPLATES, f"import {TEMPLATE}", runner(ill={TEMPLATE: "not ready after 60 s"}), "exec starts its jobs"
    ),
    "refused module": Plant(Check.TEMPLATES, "runner preload --refuse grpc", refused_module, "it starts threads"),
    "clock of a runner": Plant(Check.CLOCKS, "timedatectl", runner(heartbeat_at=ago(-3600)), "in the future"),
    "clock of a file server": Plant(
        Check.CLOCKS, "timedatectl", patched(filesystem.repair, "home_time", lambda home: OLD), "behind"
    ),
    "few files": Plant(
        Check.LIMITS,
        "ulimit -n 136",
        patched(system, "limits_of", lambda pid: system.Limits(64, None)),
        "64 open files",
    ),
    "few processes": Plant(
        Check.LIMITS, "LimitNPROC=76", patched(system, "limits_of", lambda pid: system.Limits(None, 9)), "9 processes"
    ),
    "no space": Plant(Check.SPACE, "prune --older-than 7d", patched(of_home, "LEAST_FREE", 1 << 62)),
    "no inodes": Plant(Check.INODES, "prune --older-than 7d", patched(of_home, "LEAST_INODES", 1 << 62)),
    "unsound filesystem": Plant(Check.FILESYSTEM, "local disk", mounted("cifs", "x"), "might run twice"),
    "local locks": Plant(Check.FILESYSTEM, "local_lock=none", mounted("nfs4", "local_lock=all"), "each other's locks"),
    "airflow elsewhere": Plant(
        Check.AIRFLOW, "export PATH=", patched(airflow.shutil, "which", lambda name: "/opt/bin/airflow"), "/opt/bin"
    ),
}


@pytest.mark.parametrize("name", PLANTS)
def test_exactly_what_was_planted_is_found_and_mended(name: str, sound: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = PLANTS[name]
    before = snapshot(sound)
    mendable = planted.plant(sound, monkeypatch)
    wrong = snapshot(sound)
    found = examine(sound)
    (finding,) = bad(found)
    assert finding.check is planted.check and planted.says in finding.text
    assert planted.fix.format(home=sound.root) in finding.fix
    assert SECRET not in finding.text + finding.fix
    assert (finding.remedy is not None) == (mendable is not None)
    done = list(doctor.mend(doctor.remedies(found)))
    if mendable is None:
        assert done == [] and changed(wrong, snapshot(sound)) == set()
    else:
        assert done and bad(examine(sound)) == [], done
        assert changed(wrong, snapshot(sound)) <= set(mendable), "nothing else"
        assert not changed(before, snapshot(sound)) & {sound.job("waits").tasks, sound.config}


def test_a_home_that_is_open_to_others_hides_nothing_else(sound: Home) -> None:
    sound.root.chmod(0o755)
    sound.config.write_text("[retension]\n")
    assert {finding.check for finding in bad(examine(sound))} == {Check.PRIVACY, Check.SETTINGS}


def test_what_belongs_to_another_user_is_left_alone(sound: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for plant in (closed_queue, half_a_job, dead_runner, foreign_marker, set_aside_knowledge):
        plant(sound, monkeypatch)
    before, found = snapshot(sound), examine(sound)
    assert [finding.check for finding in bad(found)] == [Check.PERMISSIONS], "what is closed may hide the others"
    sound.queue("default").chmod(0o700)
    ours = examine(sound)
    assert len(doctor.remedies(ours)) == 4
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    assert doctor.remedies(examine(sound)) == [] and list(doctor.mend(doctor.remedies(found))) == []
    monkeypatch.undo()
    assert changed(before, snapshot(sound)) == {sound.queue("default")}


def test_links_are_not_followed(home: Home, tmp_path: Path) -> None:
    (tmp_path / "mine").touch(mode=0o644)
    (home.root / "link").symlink_to(tmp_path / "mine")
    assert fixes.set_mode(home, home.root / "link", 0o600) is None
    assert fixes.remove_files(home, [home.root / "link"], "x") is None


def test_directories_that_are_links_are_not_followed_either(home: Home, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for directory in (home.logs, home.index, home.metrics, home.preload, home.runners, home.finished):
        if directory.is_dir():
            directory.rmdir()
        directory.symlink_to(elsewhere)
    home.queue("linked").symlink_to(elsewhere)
    dead_writer(elsewhere / "x").touch()
    for name in ("old.sqlite", "x.json", "x.json.damaged-1", "precious", "other.prom"):
        (elsewhere / name).write_text("{")
        os.utime(elsewhere / name, (OLD, OLD))
    before = sorted(elsewhere.iterdir())
    found = examine(home)
    assert {Check.LEFTOVERS, Check.DAMAGED} <= {finding.check for finding in bad(found)}
    list(doctor.mend(doctor.remedies(found)))
    assert fixes.rebuild_spool(home) is None and fixes.set_mode(home, home.runners / "precious", 0o700) is None
    assert sorted(elsewhere.iterdir()) == before


def test_hidden_files_of_others_are_no_leftovers(sound: Home) -> None:
    for directory in (sound.root, sound.logs):
        (directory / ".somebody.tmp").touch()
        os.utime(directory / ".somebody.tmp", (OLD, OLD))
    assert bad(examine(sound)) == []


def test_a_fifo_for_an_index_is_not_waited_for(sound: Home) -> None:
    sound.index.mkdir()
    os.mkfifo(sound.index / "host.sqlite")
    assert bad(examine(sound)) == []


def test_a_check_that_fails_hides_no_other_and_tells_no_value(sound: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError(SECRET)

    monkeypatch.setattr(filesystem, "mount_of", fail)
    (finding,) = bad(examine(sound))
    assert finding.check is Check.FILESYSTEM and finding.text == "cannot be looked at: ValueError"


def test_a_remedy_that_the_system_refuses_says_so(home: Home) -> None:
    def refuse() -> Iterator[str]:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    finding = doctor.Finding(Check.HOME, Level.PROBLEM, "x", "y", doctor.Remedy("go", refuse))
    assert list(doctor.mend(doctor.remedies([finding, finding]))) == ["could not go: [Errno 1] Operation not permitted"]


def test_status_and_doctor_use_the_same_words(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    store.submit(home, store.Submission(Job("waits"), [Task("true")]))
    dead_with_jobs(home, monkeypatch)
    unserved(home, monkeypatch)
    troubles = health.find_troubles(status.gather(home))
    assert len(troubles) == 3
    assert {(each.text, each.fix) for each in troubles} == {(each.text, each.fix) for each in bad(examine(home))}
    away = Home(home.root / "away")
    (trouble,) = health.find_troubles(status.gather(away))
    (finding,) = [each for each in bad(examine(away)) if each.check is Check.HOME]
    assert (trouble.text, trouble.fix) == (finding.text, finding.fix)


def test_what_somebody_wants_so_is_a_warning(sound: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    paused("default")(sound, monkeypatch)
    unserved(sound, monkeypatch)
    levels = {
        finding.text.partition(" queue ")[2].partition(" ")[0].strip(","): finding.level
        for finding in bad(examine(sound))
    }
    assert levels == {"default": Level.WARNING, "gpu": Level.PROBLEM}


# --- The command ---


def doctor_says(capsys: pytest.CaptureFixture[str], home: Home, *words: str) -> tuple[int, str]:
    code = cli.main(["--home", str(home.root), "doctor", *words])
    return code, capsys.readouterr().out


def test_the_command(sound: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked = []
    monkeypatch.setattr(doctor, "ask_airflow", lambda: asked.append(1) or healthy(sound))
    code, said = doctor_says(capsys, sound)
    assert code == 0 and "fix:" not in said and "ok       runner       r" in said
    half_a_look(sound, monkeypatch)
    open_home(sound, monkeypatch)
    assert doctor_says(capsys, sound)[0] == 1
    before = snapshot(sound)
    code, said = doctor_says(capsys, sound, "--fix", "--dry-run")
    assert code == 1 and f"fix: would set the mode of {sound.root} to 0700" in said
    assert changed(before, snapshot(sound)) == set()
    del asked[:]
    code, said = doctor_says(capsys, sound, "--fix")
    assert code == 0 and f"fix: set the mode of {sound.root} to 0700" in said and "fix: removed " in said
    assert len(asked) == 1, "Airflow is asked once"
    code, said = doctor_says(capsys, sound, "--fix", "--json")
    assert code == 0 and json.loads(said)["ok"] and json.loads(said)["fixed"]
    assert cli.main(["--home", str(sound.root), "doctor", "--dry-run"]) == 2


# --- Homes that are none, and single checks ---


@pytest.mark.parametrize(
    ("prepare", "text", "fix"),
    [
        (lambda root: None, "is not there", "runner start"),
        (lambda root: root.touch(), "is not a directory", "move it away"),
        (lambda root: (root / "x").mkdir(parents=True, mode=0o700) or root.chmod(0o700), "are not there", "repair"),
    ],
)
def test_a_home_that_is_none_is_left_alone(tmp_path: Path, prepare: Any, text: str, fix: str) -> None:
    root = tmp_path / "home"
    prepare(root)
    before = sorted(tmp_path.rglob("*"))
    found = examine(Home(root))
    (finding,) = [each for each in bad(found) if each.check is Check.HOME]
    assert finding.level is Level.PROBLEM and text in finding.text and fix in finding.fix
    assert list(doctor.mend(doctor.remedies(found))) == [] and sorted(tmp_path.rglob("*")) == before


def test_a_check_that_is_refused_hides_no_other(sound: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(home: Home) -> Any:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(doctor, "check_runners", refuse)
    (finding,) = bad(examine(sound))
    assert (finding.check, finding.level) == (Check.RUNNER, Level.PROBLEM) and "Input/output error" in finding.text


def test_the_owner(home: Home) -> None:
    assert of_home.check_owner(home, 5, 5).level is Level.OK
    found = of_home.check_owner(home, 5, 6)
    assert "belongs to user 5, you are 6" in found.text and "sudo -u '#5'" in found.fix


def test_a_file_of_another_user(home: Home) -> None:
    (found,) = of_home.check_modes(home, [home.jobs], os.geteuid() + 1)
    assert found.fix == f"sudo chown -R {os.geteuid() + 1} {home.jobs}" and found.remedy is None


@pytest.mark.parametrize(
    ("taken", "level", "text"),
    [
        (set(), Level.OK, "keep other processes out"),
        ({"flock", "fcntl"}, Level.PROBLEM, "(flock)"),
        ({"fcntl"}, Level.WARNING, "SQLite would"),
        (OSError(errno.ENOLCK, "No locks available"), Level.PROBLEM, "No locks available"),
    ],
)
def test_locks(home: Home, monkeypatch: pytest.MonkeyPatch, taken: Any, level: Level, text: str) -> None:
    def answer(directory: Path) -> set[str]:
        if isinstance(taken, OSError):
            raise taken
        found: set[str] = taken
        return found

    monkeypatch.setattr(filesystem, "_locks_of_another", answer)
    (found,) = [each for each in filesystem.check_files(home) if each.check is Check.LOCKS]
    assert found.level is level and text in found.text and (level is Level.OK or "local_lock=none" in found.fix)


def test_locks_that_nobody_holds_are_given_to_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    assert filesystem._locks_of_another(tmp_path) == set()
    monkeypatch.setattr(_files.Lock, "acquire", lambda self: self.path.touch())
    monkeypatch.setattr(fcntl, "lockf", lambda *_: None)
    assert filesystem._locks_of_another(tmp_path) == {"flock", "fcntl"}


def test_a_rename_that_moves_nothing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_files, "move", lambda source, target: True)
    (found,) = [each for each in filesystem.check_files(home) if each.check is Check.RENAME]
    assert found.level is Level.PROBLEM and found.fix


def test_a_home_that_cannot_be_written_to() -> None:
    (finding,) = filesystem.check_files(Home(Path("/proc/self")))
    assert (finding.check, finding.level) == (Check.WRITE, Level.PROBLEM)


def test_watching_that_does_not_work(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from watchdog.observers import Observer

    def refuse(self: object, *_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "inotify instance limit reached")

    monkeypatch.setattr(Observer, "start", refuse)
    finding = filesystem.check_watching(home)
    assert finding.level is Level.WARNING and "max_user_instances" in finding.fix
    monkeypatch.undo()
    monkeypatch.setattr(filesystem, "WATCH_TIMEOUT", 0.05)
    monkeypatch.setattr(Path, "touch", lambda self: None)
    assert filesystem.check_watching(home).level is Level.WARNING


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:30 / /srv/a\\040b rw,noatime - nfs4 host:/x rw,local_lock=none
31 22 0:31 / /srv rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("path", "kind", "option"),
    [("/srv/a b/home", "nfs4", "local_lock=none"), ("/srv/ab", "tmpfs", "rw"), ("/home", "ext4", "relatime")],
)
def test_the_mount_of_a_path(path: str, kind: str, option: str) -> None:
    found, options = filesystem.mount_of(Path(path), MOUNTS)
    assert found == kind and option in options


def test_mounts_of_any_name_are_read(sound: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    odd = tmp_path / "mountinfo"
    odd.write_bytes(
        MOUNTS.encode() + "32 22 0:32 / /srv/\u2028x\x85 rw - ext4 a rw\n".encode() + b"33 22 0:3 / /\xff rw - a b c\n"
    )
    monkeypatch.setattr(filesystem, "MOUNTS", odd)
    assert bad(examine(sound)) == []


def test_what_follows_from_a_network_filesystem_is_said() -> None:
    found = filesystem.judge_kind("nfs4", frozenset({"rw"}))
    assert found.level is Level.OK and "hosts may share" in found.text and "15 s" in found.text
    assert filesystem.judge_kind("", frozenset()).level is Level.OK


def test_what_a_process_was_started_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with subprocess.Popen(["cat"], env={"PATH": os.environ["PATH"]}, stdin=subprocess.PIPE) as other:
        wait_for(lambda: system.has_variable(other.pid, "PATH"))
        assert not system.has_variable(other.pid, "NO_SUCH_VARIABLE")
    assert not system.has_variable(GONE.pid, "PATH")


def test_limits_are_those_of_the_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    of_other, own = system.limits_of(os.getpid()), system.own_limits()
    assert of_other == own and system.limits_of(GONE.pid) is None


# --- Airflow is asked ---


def test_airflow_is_asked_once_also_if_it_does_not_answer() -> None:
    asked = []

    def fail() -> facts.Facts:
        asked.append(1)
        raise airflow.AirflowError("no answer")

    ask = doctor.once(fail)
    for _ in range(2):
        with pytest.raises(airflow.AirflowError, match="no answer"):
            ask()
    assert asked == [1]


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo hunter2 >&2; echo ValueError: hunter2 >&2; exit 1", "ended with ValueError"),
        ("exit 1", "ended with an error"),
        ("echo nothing", "no answer that makes sense"),
    ],
)
def test_airflow_that_does_not_answer(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, says: str
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(airflow.sys, "executable", str(python))
    (finding,) = bad(doctor.check_airflow(home))
    assert says in finding.text and "airflow config list" in finding.fix and SECRET not in finding.text


def test_facts_come_back_as_they_were_told(home: Home) -> None:
    told = healthy(home)
    assert facts.from_json(told.to_json()) == told


def test_beside_start_dev_no_other_airflow_is_judged(home: Home) -> None:
    from air_executor import components

    def refuse() -> facts.Facts:
        raise AssertionError("it is not to be asked")

    config = home.root.parent / ".airflow" / "airflow.cfg"
    config.parent.mkdir()
    config.touch()
    components.register(home, components.Component("scheduler", SELF))
    (finding,) = doctor.check_airflow(home, refuse)
    assert finding.level is Level.OK and str(config) in finding.text


def test_airflow_in_another_python() -> None:
    assert airflow.judge_absence(None, "/a/bin/python").level is Level.OK
    found = airflow.judge_absence("/b/bin/airflow", "/a/bin/python")
    assert found.level is Level.WARNING and found.fix.startswith("/b/bin/python -m pip install")
    assert list(airflow.judge_command("/a/bin/airflow", "/a/bin/python")) == []
