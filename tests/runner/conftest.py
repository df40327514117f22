"""A home, a client, and real runners that are gone at the end of each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from air_executor import AirExecutorClient, store, testing
from air_executor.paths import Home

StartRunner = Callable[..., testing.RunnerProcess]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "home")
    store.ensure_home(home)
    yield home
    testing.end_everything(home)


@pytest.fixture
def client(home: Home) -> AirExecutorClient:
    return AirExecutorClient(home.root)


@pytest.fixture
def start_runner(home: Home) -> Iterator[StartRunner]:
    started: list[testing.RunnerProcess] = []

    def start(*flags: str) -> testing.RunnerProcess:
        started.append(testing.RunnerProcess(home, ["--grace", "1", *flags]))
        return started[-1]

    yield start
    testing.end_everything(home, *started)
