"""Hosts whose clocks can be stepped: what runs on one, and all that it starts, sees the clock of that host.

The clock of the day is libfaketime's; CLOCK_MONOTONIC stays the kernel's, as it does when a real clock is set. The
times of files stay the kernel's as well, as if the home was on a server: that covers a clock that is set (what was
written before looks an hour older, or newer) and more, as what is written afterwards looks so, too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from air_executor import testing
from air_executor.paths import Home

SCRIPT = Path(sys.executable).with_name("air-executor")
STEPPED = Path(__file__).with_name("stepped")
TIMEOUT = 60


def library() -> Path:
    """The variant for programs with threads."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    assert found, "libfaketime is missing (apt install faketime)"
    return found[0]


@dataclass
class Host:
    """A name of its own, or this host's; and a clock."""

    home: Home
    root: Path
    name: str | None = None
    offset: float = 0.0
    runners: list[testing.RunnerProcess] = field(default_factory=list)
    commands: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = self.root / f"clock-{self.name or 'here'}"
        self.step_to(self.offset)

    def step_to(self, offset: float) -> None:
        """Set the clock so many seconds ahead of the true time."""
        self.offset = offset
        new = self.clock.with_suffix(".new")
        new.write_text(f"{offset:+g}\n")
        new.replace(self.clock)  # it is read all the time

    @property
    def variables(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(library()),
            "FAKETIME_TIMESTAMP_FILE": str(self.clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(STEPPED), os.environ.get("PYTHONPATH")])),
            "AIR_EXECUTOR_HOME": str(self.home.root),
        }

    @property
    def wrapper(self) -> list[str]:
        """What executes the command that follows it on this host."""
        words = ["env", *(f"{name}={value}" for name, value in self.variables.items())]
        if self.name is not None:  # a namespace of this machine
            words += ["unshare", "--user", "--map-root-user", "--uts"]
            words += ["sh", "-c", f'hostname {self.name}; exec "$@"', "-"]
        return words

    def start_runner(self, *flags: str) -> testing.RunnerProcess:
        self.runners.append(testing.RunnerProcess(self.home, ["--grace", "1", *flags], self.wrapper))
        return self.runners[-1]

    def start(self, *words: str) -> subprocess.Popen[str]:
        """A command of the CLI that goes on."""
        argv = [*self.wrapper, str(SCRIPT), *words]
        self.commands.append(subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        return self.commands[-1]

    def end(self) -> None:
        """Nothing of it runs afterwards."""
        for command in self.commands:
            command.kill()
            command.communicate()
        testing.end_everything(self.home, *self.runners)

    def cli(self, *words: str, stdin: str = "") -> str:
        """What a command says; it may fail."""
        argv = [*self.wrapper, str(SCRIPT), *words]
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout

    def json(self, *words: str) -> Any:
        return json.loads(self.cli(*words, "--json"))

    def submit(self, name: str, task: Mapping[str, object], **options: object) -> None:
        content = {"job_name": name, "tasks": [task], **options}
        assert self.cli("submit", "--file", "-", stdin=json.dumps(content)) == f"{name}\n"

    def living(self) -> set[str]:
        """The runners that are alive."""
        return {each["id"] for each in self.json("runner", "list") if each["state"] == "alive"}
