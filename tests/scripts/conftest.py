"""A checkout to run the scripts in: a copy, so that its state is its own, with the environment that runs the tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.airflow import processes

ROOT = Path(__file__).parents[2]
PARTS = ("start-dev.sh", "status.sh", "pyproject.toml", "scripts", "constraints", "examples")


class CheckoutCopy:
    """What the scripts need of the project. Nothing is installed: they use the environment of the tests."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in PARTS:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, root / name)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "AIR_EXECUTOR_"))},
            "AIR_EXECUTOR_VENV": sys.prefix,
            # The copy has no packages of its own, and those of the checkout need not be installed.
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "runner")]),
        }

    def start(self, script: str, *arguments: str, **changes: str) -> subprocess.Popen[str]:
        """The script as a process; `changes` are variables, and an empty one is taken away."""
        environment = {name: value for name, value in {**self.environment, **changes}.items() if value}
        return subprocess.Popen(
            ["bash", str(self.root / script), *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, script: str, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """The script to its end."""
        process = self.start(script, *arguments, **changes)
        out, err = process.communicate(timeout=240)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def made(self) -> set[str]:
        """The names beside the script that were not there before."""
        return {path.name for path in self.root.iterdir()} - set(PARTS)

    def left(self) -> list[str]:
        """The processes that belong to this checkout."""
        return [processes.describe(process) for process in processes.belonging(self.root)]

    def close(self) -> None:
        """End what a failed test left."""
        processes.end(processes.belonging(self.root), 20)


def free_port(among: range | None = None, step: int = 10_000) -> int:
    """A port below those that the system gives to clients, with the two that follow from it free too."""
    for port in among or range(12_000 + os.getpid() % 4_000, 18_000):
        if all(_is_free(port + times * step) for times in range(3)):
            return port
    raise LookupError("no free port")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
        return True


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[CheckoutCopy]:
    copy = CheckoutCopy(tmp_path)
    yield copy
    copy.close()


@pytest.fixture(scope="module")
def lasting_checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CheckoutCopy]:
    """One for all tests of a module, as its database takes a while to make. Its path has a space: people's do."""
    root = tmp_path_factory.mktemp("check out")
    copy = CheckoutCopy(root)
    yield copy
    copy.close()
