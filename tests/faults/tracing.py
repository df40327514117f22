"""One process under strace: which system calls it makes in a home, and what comes of it if one is its last, or fails.

The process is forked from this one, which has everything imported, as a template forks ephemeral runners; strace is
attached before it does anything. So the numbers of its calls depend on what it does and not on Python's imports.
strace has no --seccomp-bpf here: with it, injected signals are lost.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from air_executor import processes

OPENS = ("open", "openat", "creat")
CALLS = (
    *OPENS,
    *("write", "pwrite64", "writev", "ftruncate", "truncate", "fsync", "fdatasync", "syncfs", "sync"),
    *("rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "unlink", "unlinkat"),
    *("mkdir", "mkdirat", "rmdir", "chmod", "fchmod", "fchmodat", "utimensat", "flock"),
)
"""The system calls that change something that others see."""

END = "exit_group"
TIMEOUT = 60.0
"""Seconds that a traced process may take."""

_CALL = re.compile(r"(?:(?P<pid>\d+) +)?(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>.*)$")
_CUT_OFF = re.compile(r"(?:(?P<pid>\d+) +)?(?P<name>\w+)\((?P<arguments>.*?)(?:\) += \?.*| <unfinished \.\.\.>.*)?$")
_KILLED = re.compile(r"(?:\d+ +)?\+\+\+ killed by SIGKILL")
_WRITING = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC")
_VARYING = re.compile(r"AT_FDCWD<[^>]*>|[0-9a-f]{16}-\d+-\d+-[0-9a-f]{8}|[0-9a-f]{8,}|\d{3,}|\b\d+(?=<)")
_REMOVED = re.compile(r'(unlinkat\(\d+<[^>]*/\.tmp-[^>]*>, )"[^"]*"')


@dataclass(frozen=True)
class Call:
    """A system call that concerns the home."""

    name: str
    number: int
    """How many calls of that name the process had made by then, this one included: strace's `when`."""
    text: str
    """Its arguments without what differs between two runs: random parts of names, times, process numbers."""
    result: str
    occurrence: int = 0
    """How many calls with this text the process had made before."""

    @property
    def failed(self) -> bool:
        return self.result.startswith("-1")


@dataclass(frozen=True)
class Injection:
    """What strace does to a call."""

    call: Call
    what: str
    """`signal=KILL` or `error=ENOSPC`."""
    lasting: bool = False
    """Also to all later calls of that name."""

    @property
    def flags(self) -> list[str]:
        when = f"{self.call.number}{'+' if self.lasting else ''}"
        return ["-e", f"inject={self.call.name}:{self.what}:when={when}"]


@dataclass(frozen=True)
class Ended:
    """How a traced process ended."""

    calls: list[Call]
    code: int | None
    """None: killed."""
    output: str
    errors: str
    hit: list[Call]
    """The calls that something was done to."""


def run(home: Path, program: Callable[[], int | None], injection: Injection | None = None) -> Ended:
    """Run `program` in a process of its own and watch it."""
    with tempfile.TemporaryDirectory(prefix="fault-") as directory:
        scratch = Path(directory)
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            ours.close()
            _become(program, theirs, scratch)
        theirs.close()
        with ours:
            assert ours.recv(1), f"the process {pid} ended before it could be traced"
            with attached(pid, scratch / "log", injection.flags if injection else ()):
                ours.send(b"1")
                status = wait(pid)
        code = os.waitstatus_to_exitcode(status)
        lines = (scratch / "log").read_text("utf-8", "replace").splitlines()
        calls, hit = read_log(lines, str(home))
        output, errors = ((scratch / name).read_text("utf-8", "replace") for name in ("out", "err"))
        return Ended(calls, code if code >= 0 else None, output, errors, hit)


def _become(program: Callable[[], int | None], tracer: socket.socket, scratch: Path) -> None:
    """Never returns. As the interpreter runs a program: exceptions and SystemExit become an exit code.

    All that is done before the tracer is asked to attach is no part of the program, and its calls are not counted.
    """
    code: int | None = 1
    try:
        os.setsid()
        allow_tracing()
        for fd, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(scratch / name, os.O_WRONLY | os.O_CREAT, 0o600), fd)
        tracer.send(b"1")
        tracer.recv(1)
        tracer.close()
        code = program()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code or 0)


def allow_tracing() -> None:
    """Some kernels let a process be traced by its ancestors alone, unless it says otherwise."""
    pr_set_ptracer, any_process = 0x59616D61, ctypes.c_ulong(-1)
    ctypes.CDLL(None).prctl(pr_set_ptracer, any_process, 0, 0, 0)


@contextlib.contextmanager
def attached(pid: int, log: Path, flags: Sequence[str] = (), *, follow: bool = False) -> Iterator[None]:
    """strace on a process (one thread of it, or with `follow` also on what it forks) inside the `with`."""
    argv = ["strace", "-y", "-s", "64", "-o", str(log), *(["-f"] if follow else [])]
    argv += ["-e", f"trace={','.join(f'?{name}' for name in (*CALLS, END))}", *flags, "-p", str(pid)]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        said = strace.stderr.readline()
        assert "attached" in said, said
        try:
            yield
        finally:
            if strace.poll() is None:
                strace.send_signal(signal.SIGINT)  # it detaches; it ends by itself when nothing is left to trace
            strace.stderr.read()
            strace.wait()


def wait(pid: int, seconds: float = TIMEOUT) -> int:
    """The wait status of a child; one that does not end is killed, and that is an error."""
    fd = os.pidfd_open(pid)
    try:
        ready, _, _ = select.select([fd], [], [], seconds)
        if not ready:
            processes.kill_tree(pid)
        status = os.waitpid(pid, 0)[1]
        assert ready, f"the process {pid} did not end within {seconds:g} s"
        return status
    finally:
        os.close(fd)


def read_log(lines: Sequence[str], home: str) -> tuple[list[Call], list[Call]]:
    """The calls of one process that concern the home, and those that something was done to."""
    calls: list[Call] = []
    hit: list[Call] = []
    numbers: dict[str, int] = {}
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        match = _CALL.match(line) or _CUT_OFF.match(line)
        if match is None or match["name"] not in (*CALLS, END):
            continue
        name, arguments = match["name"], match["arguments"]
        numbers[name] = numbers.get(name, 0) + 1
        result = match.groupdict().get("result") or "?"
        if not _concerns(name, arguments, home):
            continue
        text = _plain(f"{name}({arguments}", home)
        call = Call(name, numbers[name], text, result, sum(each.text == text for each in calls))
        calls.append(call)
        if "(INJECTED)" in result or _KILLED.match(following):
            hit.append(call)
    return calls, hit


def _concerns(name: str, arguments: str, home: str) -> bool:
    if name == END:
        return True
    return home in arguments and (name not in OPENS or bool(_WRITING.search(arguments)))


def _plain(text: str, home: str) -> str:
    """In which order the files of a directory are removed that is going away is of no matter."""
    text = _REMOVED.sub(r"\1...", text.replace(home, "HOME"))
    return _VARYING.sub("*", re.sub(r"(write\(\d+<[^>]*>), .*", r"\1", text))
