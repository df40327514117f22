"""Air-Executor in Airflow: the executor, what its jobs run, and how both sit in Airflow.

`AirExecutor` is imported on first use: Airflow imports this package in every process, only to read its options.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_plugin.executor import AirExecutor

__all__ = ["AirExecutor"]


def __getattr__(name: str) -> Any:
    if name != "AirExecutor":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from airflow_plugin.executor import AirExecutor

    return AirExecutor
