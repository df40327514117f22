"""The real console script in real processes, on a home of its own; with a real runner where a test asks for one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from air_executor import client, testing
from air_executor.paths import Home

SCRIPT = Path(sys.executable).with_name("air-executor")
TIMEOUT = 60


@dataclass
class Cli:
    """Runs commands in a home. What a command prints to standard error must be notes: a traceback fails the test."""

    home: Home
    cwd: Path
    env: dict[str, str]
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def __call__(
        self, *words: str, code: int | None = 0, stdin: str = "", env: dict[str, str] | None = None, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end and check its exit code."""
        done = subprocess.run(
            [SCRIPT, *words],
            input=stdin,
            capture_output=True,
            text=True,
            env={**self.env, **(env or {})},
            cwd=options.pop("cwd", self.cwd),
            timeout=TIMEOUT,
            **options,
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert code is None or done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done

    def json(self, *words: str, code: int = 0, **options: Any) -> Any:
        """The result of a command as JSON."""
        return json.loads(self(*words, "--json", code=code, **options).stdout)

    def refused(self, *words: str, code: int, **options: Any) -> str:
        """The one line on standard error of a command that prints nothing else."""
        done = self(*words, code=code, **options)
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert line.startswith("air-executor: "), line
        return line

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command and leave it running."""
        process = subprocess.Popen(
            [SCRIPT, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.env,
            cwd=self.cwd,
            **options,
        )
        self.started.append(process)
        return process

    @property
    def api(self) -> client.AirExecutorClient:
        return client.AirExecutorClient(self.home.root)


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    """Commands in a home that is not there yet."""
    (tmp_path / "work").mkdir()
    (tmp_path / "user").mkdir()
    ours = ("AIR_EXECUTOR_", "AIRFLOW", "PYTHONDONTWRITEBYTECODE")
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    home = Home(tmp_path / "home")
    env |= {"AIR_EXECUTOR_HOME": str(home.root), "HOME": str(tmp_path / "user"), "NO_COLOR": "", "COLUMNS": "80"}
    made = Cli(home, tmp_path / "work", env)
    yield made
    for process in made.started:
        process.kill()
        process.communicate()
    testing.end_everything(home)


@pytest.fixture
def with_runner(cli: Cli) -> Cli:
    """Commands in a home with a detached runner."""
    cli("runner", "start", "--detach", "--name", "r", "--slots", "4")
    return cli
