"""What Airflow's plugin manager loads. Declared once, by the entry point `airflow.plugins`; not by the provider."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from airflow.plugins_manager import AirflowPlugin

from airflow_plugin import links
from airflow_plugin.wake import WakeMiddleware


class LazyPages:
    """The app of `pages`, imported with the first request: Airflow loads plugins in each of its processes."""

    async def __call__(
        self, scope: MutableMapping[str, Any], receive: Callable[..., Awaitable[Any]], send: Callable[..., Any]
    ) -> None:
        from airflow_plugin.pages.app import app

        await app(scope, receive, send)


class AirExecutorPlugin(AirflowPlugin):
    """Air-Executor's part of Airflow's plugins."""

    name = "air_executor"
    fastapi_root_middlewares: list[Any] = [  # noqa: RUF012  so it is declared in Airflow
        {"name": "Air-Executor: wake a waiting scheduler", "middleware": WakeMiddleware, "args": [], "kwargs": {}}
    ]
    fastapi_apps: list[Any] = [  # noqa: RUF012  so it is declared in Airflow
        {"name": "Air-Executor: jobs", "app": LazyPages(), "url_prefix": links.PATH}
    ]
    # Relative addresses: Airflow's document has a base, so they are right under any address that Airflow may have.
    external_views: list[Any] = [  # noqa: RUF012  so it is declared in Airflow
        {
            "name": "Air-Executor",
            "href": f"{links.HERE}/",
            "destination": "nav",
            "url_route": "air-executor",
            "icon": f"{links.HERE}/static/icons/icon.svg",
            "icon_dark_mode": f"{links.HERE}/static/icons/icon-dark.svg",
        },
        {
            "name": "Air-Executor",
            "href": f"{links.HERE}/task?"
            "dag_id={DAG_ID}&run_id={RUN_ID}&task_id={TASK_ID}&map_index={MAP_INDEX}",
            "destination": "task_instance",
            "url_route": "air-executor-jobs",
            "icon": f"{links.HERE}/static/icons/icon.svg",
            "icon_dark_mode": f"{links.HERE}/static/icons/icon-dark.svg",
        },
    ]
