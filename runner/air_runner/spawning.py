"""Starting a program in a session of its own, with its output in a file.

By `posix_spawn`, which takes a third of the time that `subprocess` does; what that cannot do or find is left to
`subprocess`, which also knows why a program cannot be started.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_RESTORED = [signal.SIGPIPE, signal.SIGXFSZ]
"""What Python ignores, and programs should not."""

FIRST = 3
"""The first descriptor that is no standard one."""


def spawn(argv: Sequence[str], environment: Mapping[bytes, bytes], output: int, cwd: str | None) -> int:
    """Start it; returns its process number. The caller reaps it.

    Raises:
        OSError: it cannot be started.
    """
    program = _find(argv[0], environment) if cwd is None and sys.platform == "linux" else None
    if program is None:
        return _spawn_slowly(argv, environment, output, cwd)
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, output, 1),
        (os.POSIX_SPAWN_DUP2, output, 2),
    ]
    try:
        return os.posix_spawn(program, list(argv), environment, file_actions=actions, setsid=True, setsigdef=_RESTORED)
    except NotImplementedError:  # this Python was built where the C library had no such thing
        return _spawn_slowly(argv, environment, output, cwd)


def hide_descriptors() -> None:
    """See to it that programs inherit no descriptor but the standard ones, whatever others opened in this process."""
    for name in os.listdir("/proc/self/fd") if Path("/proc/self/fd").is_dir() else ():  # noqa: PTH208
        if int(name) >= FIRST:
            try:
                os.set_inheritable(int(name), False)
            except OSError:  # that of this look
                continue


def _find(command: str, environment: Mapping[bytes, bytes]) -> str | None:
    if "/" in command:
        return command
    candidates = (os.path.join(directory, command) for directory in os.get_exec_path(environment))  # type: ignore[arg-type]  # noqa: PTH118
    return next((path for path in candidates if os.access(path, os.X_OK) and not Path(path).is_dir()), None)


def _spawn_slowly(argv: Sequence[str], environment: Mapping[bytes, bytes], output: int, cwd: str | None) -> int:
    import subprocess

    process = subprocess.Popen(  # noqa: S603
        argv,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd=cwd,
        env=environment,
        start_new_session=True,
    )
    process.returncode = 0  # the caller reaps it; Popen must not wait for it, nor warn
    return process.pid
