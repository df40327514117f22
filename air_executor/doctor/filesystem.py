"""What the filesystem of a home does, and whether claims, proofs of life and watching can rely on it."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from air_executor import _files, repair, temporaries, watch
from air_executor.doctor.findings import Check, Finding, ok, problem, warn
from air_executor.paths import Home

CLOCK_TOLERANCE = 5.0
"""Seconds that two clocks may differ."""
WATCH_TIMEOUT = 5.0
LOCK_TIMEOUT = 20.0
MOUNTS = Path("/proc/self/mountinfo")

SHARED = frozenset(
    {"nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "fuse.ceph", "fuse.ceph-fuse", "glusterfs", "fuse.glusterfs"}
    | {"ocfs2", "gfs2", "afs", "virtiofs"}
)
"""Filesystems that several hosts may have mounted, and that keep what a home needs."""
UNSOUND = frozenset({"cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "fuse.rclone", "fuse.s3fs", "fuse.gcsfuse", "vboxsf"})
"""Those that do not: a rename or a lock of one host may not be one on another."""

LOCAL_LOCKS = re.compile(r"\A(nolock|local_lock=(all|flock))\Z")
"""Options of a mount with which locks hold on one host alone."""


def check_kind(home: Home) -> Finding:
    """Whether it is a network filesystem, and what follows. Unknown where the system has no list of mounts."""
    try:
        mounts = MOUNTS.read_text(errors="surrogateescape")  # a name may be in any encoding
    except OSError:
        return ok(Check.FILESYSTEM, "of a kind that this system does not tell")
    return judge_kind(*mount_of(home.root.resolve(), mounts))


def mount_of(path: Path, mounts: str) -> tuple[str, frozenset[str]]:
    """The kind of the filesystem of a path, and the options of its mount. Pure: of the text of mountinfo(5)."""
    best, found = -1, ("", frozenset[str]())
    for line in filter(None, mounts.split("\n")):
        before, _, after = line.partition(" - ")
        fields, (kind, _, options) = before.split(), (*after.split(), "", "", "")[:3]
        place = Path(re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), fields[4]))
        if len(place.parts) >= best and path.is_relative_to(place):
            best, found = len(place.parts), (kind, frozenset([*fields[5].split(","), *options.split(",")]))
    return found


def judge_kind(kind: str, options: frozenset[str]) -> Finding:
    """What follows from the kind. Pure."""
    if kind in UNSOUND:
        text = f"{kind}: a rename or a lock of one host need not be one on another, so a job might run twice"
        return problem(Check.FILESYSTEM, text, "put the home on a local disk (--home DIR), or on NFS 4")
    local = sorted(option for option in options if LOCAL_LOCKS.match(option))
    if kind in SHARED and local:
        text = f"{kind} is mounted with {local[0]}: hosts that share the home do not see each other's locks"
        return problem(Check.FILESYSTEM, text, "mount it with local_lock=none and without nolock")
    if kind in SHARED:
        follows = "runners notice jobs of other hosts with their next look (2 s), and the end of a host after 15 s"
        return ok(Check.FILESYSTEM, f"{kind}, which hosts may share: {follows}")
    return ok(Check.FILESYSTEM, kind or "of a kind that this system does not tell")


def check_files(home: Home) -> Iterator[Finding]:
    """The filesystem does what claims and proofs of life need."""
    try:
        with own_directory(home) as directory:
            yield _check_rename(home, directory)
            yield _check_locks(directory)
    except OSError as error:
        yield problem(
            Check.WRITE, f"{home.root} cannot be written to: {error.strerror}", "make it writable, or give another home"
        )


@contextlib.contextmanager
def own_directory(home: Home) -> Iterator[Path]:
    """A directory that names this process: should it be killed, the next look knows that nobody needs it."""
    directory = temporaries.submission(home.root)
    directory.mkdir(mode=_files.PRIVATE_DIRECTORY)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _check_rename(home: Home, directory: Path) -> Finding:
    elsewhere = [path for path in home.directories if path.stat().st_dev != home.root.stat().st_dev]
    if elsewhere:
        text = f"{elsewhere[0]} is on another filesystem than {home.root}: nothing can be renamed between them"
        return problem(Check.RENAME, text, f"umount {elsewhere[0]}, so that all of the home is on one filesystem")
    source, target = directory / "a", directory / "b"
    source.touch()
    if _files.move(source, target) and not _files.move(source, target) and target.exists():
        return ok(Check.RENAME, "a rename moves a file exactly once")
    return problem(Check.RENAME, "a rename does not move a file exactly once", "put the home on another filesystem")


_OTHER = """
import fcntl, sys
for number, (lock, name) in enumerate(((fcntl.flock, "flock"), (fcntl.lockf, "fcntl"))):
    with open(sys.argv[1 + number], "r+") as file:
        try:
            lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            print(name)
        except BlockingIOError:
            pass
"""
"""Tries to take two locks that this process holds, and prints those that it was given."""


def _check_locks(directory: Path) -> Finding:
    """Between processes, for what one process holds twice says nothing."""
    fix = "mount the filesystem with locks (NFS: local_lock=none), or put the home on another one"
    try:
        taken = _locks_of_another(directory)
    except OSError as error:
        return problem(Check.LOCKS, f"locks do not work: {error.strerror}", fix)
    if "flock" in taken:
        return problem(Check.LOCKS, "two processes can hold the same lock (flock)", fix)
    if "fcntl" in taken:
        text = "two processes can hold the same POSIX lock (fcntl); nothing here uses one, SQLite would"
        return warn(Check.LOCKS, text, fix)
    return ok(Check.LOCKS, "locks keep other processes out")


def _locks_of_another(directory: Path) -> set[str]:
    import fcntl

    first, second = directory / "flock", directory / "fcntl"
    lock = _files.Lock(first)
    with second.open("w") as file:
        try:
            lock.acquire()
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            done = subprocess.run(  # noqa: S603
                [sys.executable, "-I", "-S", "-c", _OTHER, str(first), str(second)],
                capture_output=True,
                text=True,
                timeout=LOCK_TIMEOUT,
                check=True,
            )
        except subprocess.SubprocessError:
            raise OSError(0, "another process could not try them") from None
        finally:
            lock.release()
    return set(done.stdout.split())


def check_watching(home: Home) -> Finding:
    """A new file is noticed at once; without that, runners look every now and then."""
    from watchdog.events import FileSystemEvent, FileSystemEventHandler
    from watchdog.observers import Observer

    watch.hush()
    seen = threading.Event()

    class Handler(FileSystemEventHandler):
        def on_any_event(self, event: FileSystemEvent) -> None:
            seen.set()

    fix = "sysctl fs.inotify.max_user_instances=1024 fs.inotify.max_user_watches=1048576"
    observer = Observer()
    try:
        with own_directory(home) as directory:
            observer.schedule(Handler(), str(directory))
            observer.start()
            (directory / "new").touch()
            noticed = seen.wait(WATCH_TIMEOUT)
    except OSError as error:
        text = f"files cannot be watched ({error.strerror}); runners look every few seconds"
        return warn(Check.WATCHING, text, fix)
    finally:
        if observer.is_alive():
            observer.stop()
            observer.join()
    if noticed:
        return ok(Check.WATCHING, "a new file is noticed at once")
    text = "a new file is not noticed; runners look every few seconds"
    return warn(Check.WATCHING, text, "put the home on a local filesystem (--home DIR)")


def check_clock(home: Home) -> Finding:
    """The filesystem stamps files with the time of whoever serves it."""
    return judge_clock(repair.home_time(home) - time.time())


def judge_clock(ahead: float) -> Finding:
    """Pure; seconds by which the clock of the filesystem is ahead of this host's."""
    if abs(ahead) <= CLOCK_TOLERANCE:
        return ok(Check.CLOCKS, "the filesystem's clock agrees with this host's")
    text = f"the filesystem's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this host's"
    return warn(Check.CLOCKS, text, "set the clocks of this host and of its file server: timedatectl set-ntp true")
