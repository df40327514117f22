"""What Airflow's plugin manager loads. Declared once, by the entry point `airflow.plugins`; not by the provider."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from airflow_plugin.wake import WakeMiddleware


class AirExecutorPlugin(AirflowPlugin):
    """Air-Executor's part of Airflow's plugins."""

    name = "air_executor"
    fastapi_root_middlewares: list[Any] = [  # noqa: RUF012  so it is declared in Airflow
        {"name": "Air-Executor: wake a waiting scheduler", "middleware": WakeMiddleware, "args": [], "kwargs": {}}
    ]
