"""What Airflow's plugin manager loads. Declared once, by the entry point `airflow.plugins`; not by the provider."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin


class AirExecutorPlugin(AirflowPlugin):
    """Air-Executor's part of Airflow's plugins."""

    name = "air_executor"
