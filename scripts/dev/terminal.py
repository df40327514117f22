"""Output: plain lines, lines of components with a coloured prefix, and the logs that they come from."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TextIO

FAILED = "start-dev.sh: "
"""What a line begins with that says why there is an exit code."""
OURSELVES = "start-dev"
"""The name of our own lines among those of the components."""
_WIDTH = len("dag-processor")
_COLOURS = (36, 33, 32, 35, 34, 1)


class Screen:
    """Where a person reads."""

    def __init__(self) -> None:
        self._colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._prefixes: dict[str, str] = {}
        self.gone = False
        """Nobody reads any more: the terminal was closed, or the pipe."""

    def say(self, text: str) -> None:
        """One line of our own."""
        self._write(text)

    def fail(self, text: str) -> None:
        """Why there is an exit code."""
        self.complain(f"{FAILED}{text}")

    def complain(self, text: str) -> None:
        """One line to standard error."""
        self._write(text, sys.stderr)

    def relay(self, component: str, line: str) -> None:
        """One line of a component."""
        self._write(f"{self._prefix(component)} {line}")

    def _prefix(self, component: str) -> str:
        if component not in self._prefixes:
            text = f"{component:<{_WIDTH}} |"
            colour = _COLOURS[len(self._prefixes) % len(_COLOURS)]
            self._prefixes[component] = f"\x1b[{colour}m{text}\x1b[0m" if self._colour else text
        return self._prefixes[component]

    def _write(self, text: str, stream: TextIO | None = None) -> None:
        stream = stream or sys.stdout
        try:
            stream.write(text + "\n")
            stream.flush()
        except OSError:
            self.gone = True


class Follower:
    """Reads what is appended to a log, whole lines only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def lines(self) -> list[str]:
        """What was written since the last call."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                new = file.read()
        except FileNotFoundError:
            return []
        whole = new[: new.rfind(b"\n") + 1]
        self._offset += len(whole)
        return whole.decode("utf-8", "replace").splitlines()


def keep_previous(log: Path) -> None:
    """Begin a new log and keep the one before it."""
    if log.exists():
        log.replace(log.with_name(f"{log.name}.1"))


def last_lines(log: Path, count: int = 15) -> str:
    """The end of a log, indented."""
    lines = log.read_text("utf-8", "replace").splitlines() if log.exists() else []
    return "\n".join(f"    {line}" for line in lines[-count:]) or "    (it wrote nothing)"
