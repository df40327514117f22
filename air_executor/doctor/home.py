"""The directory itself: whose it is, who may do what in it, how much room there is, what is left or damaged in it."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from air_executor import _files, preloads, repair, respool, runners, spool, store, temporaries
from air_executor.doctor import fixes
from air_executor.doctor.findings import Check, Finding, Level, ok, problem, several, warn
from air_executor.errors import AirExecutorError, CorruptFileError, NotFoundError
from air_executor.model import JobState
from air_executor.paths import Home, command

LEAST_FREE = 1 << 30
"""Bytes below which a home is nearly full."""
LEAST_INODES = 10_000
"""Files below which a filesystem is nearly full: a job has about ten."""
LOOK_BACK = 1000
"""How many jobs are read at most, the most recently changed first; `repair` reads all."""
SQLITE = b"SQLite format 3\0"
SETTLED = 10.0
"""Seconds after which a job is not just being submitted, claimed or brought to rest."""


def check_home(home: Home) -> Iterator[Finding]:
    """It is a directory of ours, private and writable."""
    try:
        found = home.root.stat()
    except FileNotFoundError:
        yield problem(Check.HOME, f"{home.root} is not there", runners.start_command(home))
        return
    except OSError as error:
        yield problem(Check.HOME, f"{home.root}: {error.strerror}", "give another home with --home")
        return
    if not stat.S_ISDIR(found.st_mode):
        yield problem(Check.HOME, f"{home.root} is not a directory", "move it away, or give another home with --home")
        return
    owner, mode = check_owner(home, found.st_uid), check_mode(home, stat.S_IMODE(found.st_mode))
    yield owner
    if owner.level is Level.OK:
        yield mode
    if owner.level is Level.OK and mode.check is Check.PRIVACY:  # else the system might not even let us look
        yield from _check_content(home, found.st_uid)


def _check_content(home: Home, owner: int) -> Iterator[Finding]:
    """Parents first: of what is in a closed directory nothing can be said."""
    closed = list(check_modes(home, home.directories[1:], owner))
    yield from closed
    if closed:
        return
    if missing := [path for path in home.directories if not path.is_dir()]:
        text = f"{several(missing)} {'is' if len(missing) == 1 else 'are'} not there"
        yield problem(Check.HOME, text, command(home, "repair"), fixes.make_directories(home))
        return
    yield ok(Check.HOME, str(home.root))
    files = [home.runner_log, home.config, home.keepalive, home.wake, *home.runners.iterdir()]
    closed = list(check_modes(home, [*fixes.spool_directories(home), *files], owner))
    yield from closed or [ok(Check.PERMISSIONS, "what is in it can be written to")]


def check_owner(home: Home, owner: int, user: int | None = None) -> Finding:
    """A home belongs to one user, and jobs run as that user."""
    user = os.geteuid() if user is None else user
    if owner == user:
        return ok(Check.OWNER, f"belongs to user {user}")
    return problem(
        Check.OWNER,
        f"{home.root} belongs to user {owner}, you are {user}",
        f"sudo -u '#{owner}' {command(home, 'doctor')}, or give another home with --home",
    )


def check_mode(home: Home, mode: int) -> Finding:
    """What is in a home is private: logs, command lines, tokens."""
    fix, remedy = f"chmod 700 {home.root}", fixes.set_mode(home, home.root, _files.PRIVATE_DIRECTORY)
    if mode & 0o077 and mode & 0o700 == 0o700:
        return problem(Check.PRIVACY, f"{home.root} is open to others (mode {mode:04o})", fix, remedy)
    if mode & 0o700 != 0o700:
        return problem(Check.PERMISSIONS, f"{home.root} is closed to you (mode {mode:04o})", fix, remedy)
    return ok(Check.PRIVACY, f"mode {mode:04o}")


def check_modes(home: Home, paths: Iterable[Path], owner: int) -> Iterator[Finding]:
    """Directories and files that their owner cannot write to. By owner and mode: root may write to all."""
    for path in paths:
        try:
            status = path.stat()
        except OSError:  # gone meanwhile, below a closed directory, or a link that leads nowhere
            continue
        wanted = 0o700 if stat.S_ISDIR(status.st_mode) else 0o600
        if status.st_uid != owner:
            text = f"{path} belongs to user {status.st_uid}, the home to user {owner}"
            yield problem(Check.OWNER, text, f"sudo chown -R {owner} {path}")
        elif status.st_mode & wanted != wanted:
            text = f"{path} cannot be written to (mode {stat.S_IMODE(status.st_mode):04o})"
            yield problem(Check.PERMISSIONS, text, f"chmod {wanted:o} {path}", fixes.set_mode(home, path, wanted))


def check_space(home: Home) -> Finding:
    """There is room for logs."""
    free = shutil.disk_usage(home.root).free
    text = f"{free / (1 << 30):.1f} GiB are free"
    return ok(Check.SPACE, text) if free >= LEAST_FREE else warn(Check.SPACE, text, _make_room(home))


def check_inodes(home: Home) -> Finding:
    """There is room for files."""
    found = os.statvfs(home.root)
    if not found.f_files:  # such as btrfs, which makes them as they are needed
        return ok(Check.INODES, "the filesystem has no limit")
    text = f"{found.f_favail} files may still be created"
    return ok(Check.INODES, text) if found.f_favail >= LEAST_INODES else warn(Check.INODES, text, _make_room(home))


def _make_room(home: Home) -> str:
    return f"{command(home, 'prune', '--older-than', '7d')}, or free space on that filesystem"


# --- What is left, damaged, or not in its place ---


def check_leftovers(home: Home) -> Finding:
    """Temporary files that nobody will ever finish."""
    places = (
        *(home.root, home.jobs, home.runners, home.components, home.preload, home.logs, home.index, home.metrics),
        *(home.control, home.paused),
    )
    left = (path for place in places for path in temporaries.abandoned(place))
    found = [path for path in left if temporaries.has_writer(path)]  # others keep hidden files, too
    if not found:
        return ok(Check.LEFTOVERS, "no unfinished files of processes that are gone")
    text = f"unfinished files of processes that are gone: {several(found)}"
    return warn(Check.LEFTOVERS, text, command(home, "doctor", "--fix"), fixes.remove_temporaries(home, found))


def check_damaged(home: Home, names: Iterable[str]) -> Iterator[Finding]:
    """Damaged files: those that were put aside, and those that nobody has come upon yet."""
    found = [
        *_damaged_jobs(home, names),
        *_damaged_caches(home),
        *_damaged_indexes(home),
        *_damaged_runners(home),
    ]
    yield from found or [ok(Check.DAMAGED, "no damaged files")]


def _damaged_jobs(home: Home, names: Iterable[str]) -> Iterator[Finding]:
    for name in names:
        try:
            store.read(home, name)
        except CorruptFileError as error:
            fix = f"mend it, or let the job fail and keep the file: {command(home, 'repair')}"
            yield problem(Check.DAMAGED, str(error), fix)
        except AirExecutorError:  # removed meanwhile
            continue
        if aside := _put_aside(home.job(name).root):
            fix = f"look at it, then: {fixes.remove_command(aside)}"
            yield warn(Check.DAMAGED, f"the job {name} was damaged, and this was put aside: {several(aside)}", fix)


def _put_aside(directory: Path) -> list[Path]:
    return sorted(path for path in directory.glob("*.damaged-*") if path.is_file())


def _damaged_caches(home: Home) -> Iterator[Finding]:
    """They are made anew by themselves."""
    found = _put_aside(home.preload)
    for path in preloads.all_files(home):
        try:
            preloads.read(path)
        except CorruptFileError:
            found.append(path)
    if found:
        remedy = fixes.remove_files(home, found, "damaged files of what templates have learned")
        text = f"what templates have learned is damaged: {several(found)}"
        yield warn(Check.DAMAGED, text, fixes.remove_command(found), remedy)


def _damaged_indexes(home: Home) -> Iterator[Finding]:
    """By their first bytes; what is damaged further on is found, and made anew, by those who read it."""
    for path in sorted(home.index.glob("*.sqlite")):
        begin = _first_bytes(path)
        if begin and begin != SQLITE:
            files = [path.with_name(f"{path.name}{suffix}") for suffix in ("-shm", "-wal", "")]
            remedy = fixes.remove_files(home, files, "a damaged index", lock=home.index_lock(path.stem))
            yield warn(Check.DAMAGED, f"the index {path} is damaged", fixes.remove_command(files), remedy)


def _first_bytes(path: Path) -> bytes:
    """Of a file; a fifo would be waited for."""
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(len(SQLITE))


def _damaged_runners(home: Home) -> Iterator[Finding]:
    """A living runner writes its file anew with each heartbeat."""
    now, found = repair.home_time(home), []
    for path in sorted(home.runners.glob("*.json")):
        try:
            runners.read(home, path.stem)
        except NotFoundError:
            continue
        except AirExecutorError:
            if now - path.lstat().st_mtime > SETTLED and path.is_file() and not spool.claimed(home, path.stem):
                found.append(path)
    if found:
        remedy = fixes.remove_files(home, found, "damaged files of runners")
        text = f"no runner renews these damaged files: {several(found)}"
        yield warn(Check.DAMAGED, text, fixes.remove_command(found), remedy)


def check_spool(home: Home, names: Iterable[str]) -> Finding:
    """Every job is where it should be, and every marker stands for a job."""
    lost = [name for name in names if _is_out_of_place(home, name) and _is_out_of_place(home, name)]
    foreign = [marker.job for queue in spool.queues(home) for marker in _foreign(home, queue)]
    if not lost and not foreign:
        return ok(Check.SPOOL, "in line with the jobs")
    said = [f"jobs that have no place in it: {several(lost)}"] if lost else []
    said += [f"markers of jobs that are gone: {several(foreign)}"] if foreign else []
    text = f"the spool has {' and '.join(said)}"
    return problem(Check.SPOOL, text, command(home, "repair"), fixes.rebuild_spool(home))


def _is_out_of_place(home: Home, name: str) -> bool:
    """Asked twice, because a job may just be between two places."""
    try:
        job = store.read(home, name)
    except AirExecutorError:
        return False
    return job.state in (JobState.WAITING, JobState.WORKING) and respool.is_out_of_place(home, job)


def _foreign(home: Home, queue: str) -> Iterator[spool.Marker]:
    """A job is there before its marker, and goes after it."""
    for marker in spool.waiting(home, queue):
        if not home.job(marker.job).root.exists() and marker.path(home).exists():
            yield marker


def settled_names(home: Home) -> list[str]:
    """The jobs to look at: the most recently changed, without those at which somebody is just working."""
    limit = repair.home_time(home) - SETTLED
    settled = sorted((change for change in store.changes(home) if change[0] < limit), reverse=True)
    return [name for _, name in settled[:LOOK_BACK]]
