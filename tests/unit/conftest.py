"""A home in a temporary directory, and jobs for it. No runner: what needs one is in tests/runner and tests/cli."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from air_executor import client, model, store
from air_executor.paths import Home

Submit = Callable[..., model.Job]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    store.ensure_home(home)
    return home


@pytest.fixture
def api(home: Home) -> client.AirExecutorClient:
    return client.AirExecutorClient(home.root)


@pytest.fixture
def submit(home: Home) -> Submit:
    """Submits a job of one task, unless other tasks are given."""

    def submit(name: str = "job", tasks: list[model.Task] | None = None, **options: Any) -> model.Job:
        return store.submit(home, store.Submission(model.Job(name, **options), tasks or [model.Task("true")]))

    return submit


def finish(home: Home, name: str, state: model.JobState = model.JobState.COMPLETED, why: str = "") -> model.Job:
    """Bring a waiting job to its end, as a runner would."""
    from air_executor import held, processes, spool

    (home.claims("test")).mkdir(exist_ok=True)
    spool.claim(home, spool.marker_of(store.read(home, name)), "test")
    kind = {"completed": "success", "failed": "exit_code", "cancelled": "cancelled"}[state.value]
    with held.HeldJob.acquire(home, name) as job:
        job.start(processes.identify(1, "test"), by="runner test")
        job.finish(state, model.Exit(model.ExitKind(kind), why or f"{state} in a test"), by="runner test")
        return job.job
