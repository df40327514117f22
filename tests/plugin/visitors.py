"""People with different rights in Airflow, and the pages as Airflow mounts them."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what Airflow and its libraries warn of while they are imported is not about us
    from airflow import settings
    from airflow.api_fastapi import app as api_server
    from airflow.api_fastapi.auth.managers.models.resource_details import AccessView, DagDetails
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.models.base import Base
    from airflow.models.dag import DagModel
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.revoked_token import RevokedToken
    from airflow.utils.session import create_session

    from air_executor import logtail
    from airflow_plugin.pages import access, documents, doorway, facts, lookout, readings
    from airflow_plugin.pages.app import app as pages

from airflow_plugin.plugin import AirExecutorPlugin

__all__ = ["access", "documents", "doorway", "facts", "logtail", "lookout", "pages", "readings"]

OURS, OTHER = "ours", "other"
"""Two DAGs."""
ANONYMOUS = "anonymous"
ROLES = {"stranger": "viewer", "viewer": "viewer", "user": "user", "operator": "op", "admin": "admin"}
"""The stranger reads one DAG, and it is not ours; the viewer reads all."""
VISITORS = (ANONYMOUS, *ROLES)


class LimitedAuthManager(SimpleAuthManager):
    """As Airflow's simple one, but the stranger has rights on one DAG alone, and none on what belongs to no DAG."""

    def is_authorized_dag(self, *, details: DagDetails | None = None, **given: Any) -> bool:  # type: ignore[override]
        if given["user"].username == "stranger" and details is not None and details.id not in (None, OTHER):
            return False
        return super().is_authorized_dag(details=details, **given)

    def is_authorized_view(self, *, access_view: AccessView, user: Any) -> bool:
        if user.username == "stranger" and access_view is AccessView.JOBS:
            return False
        return super().is_authorized_view(access_view=access_view, user=user)


class Web:
    """Asks an app in this process; redirections are not followed."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    def request(self, method: str, path: str, **given: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8080") as http:
                return await http.request(method, path, **given)

        return asyncio.run(ask())


def make_tables(dags: int) -> None:
    """Those that are asked, with our two DAGs and more."""
    tables = [DagBundleModel, DagModel, RevokedToken]
    names = ["team", "dag_bundle_team"]
    wanted = [each.__table__ for each in tables] + [Base.metadata.tables[name] for name in names]
    Base.metadata.create_all(settings.engine, tables=wanted)
    with create_session() as session:
        session.merge(DagBundleModel(name="dags-folder"))
        session.flush()
        for dag_id in (OURS, OTHER, *(f"dag_{number}" for number in range(dags))):
            session.merge(DagModel(dag_id=dag_id, bundle_name="dags-folder", fileloc=dag_id))


@contextmanager
def api_server_with(manager: str, dags: int = 0, root_path: str = "") -> Iterator[Web]:
    """The pages, mounted as Airflow mounts them, with an auth manager and so many more DAGs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__CORE__AUTH_MANAGER", manager)
        patch.setattr(api_server._AuthManagerState, "instance", None)
        make_tables(dags)
        airflow = FastAPI(root_path=root_path)
        api_server.init_auth_manager()
        for app in AirExecutorPlugin.fastapi_apps:
            airflow.mount(app["url_prefix"], app["app"])
        yield Web(airflow)


def token(name: str) -> str:
    """A token as Airflow gives people when they log in."""
    user = SimpleAuthManagerUser(username=name, role=ROLES[name])
    return api_server.get_auth_manager().generate_jwt(user)


def credentials(name: str) -> dict[str, str]:
    """The header that a visitor comes with."""
    return {} if name == ANONYMOUS else {"Authorization": f"Bearer {token(name)}"}
