"""Air-Executor: jobs as directories, run by ephemeral runners.

This package is the core: it owns the words, the files and the states, and knows neither Airflow nor the runner.
Public names are imported on first use, so that `import air_executor` stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from air_executor.client import AirExecutorClient
    from air_executor.clients import Client, connect
    from air_executor.errors import AirExecutorError
    from air_executor.model import Job, JobState, Task, TaskStatus

__version__ = "0.1.0"

__all__ = [
    "AirExecutorClient",
    "AirExecutorError",
    "Client",
    "Job",
    "JobState",
    "Task",
    "TaskStatus",
    "__version__",
    "connect",
]

_HOMES = {
    "AirExecutorClient": "air_executor.client",
    "Client": "air_executor.clients",
    "connect": "air_executor.clients",
    "AirExecutorError": "air_executor.errors",
    "Job": "air_executor.model",
    "JobState": "air_executor.model",
    "Task": "air_executor.model",
    "TaskStatus": "air_executor.model",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
