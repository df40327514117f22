"""The API server wakes a waiting scheduler after it has changed something, and gets in nobody's way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from airflow import plugins_manager

from air_executor.paths import Home
from airflow_plugin.wake import WakeMiddleware


def ask(method: str, path: str, status: int = 200, kind: str = "http") -> list[dict[str, Any]]:
    """What a client gets from an application behind the middleware."""
    sent: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status})
        await send({"type": "http.response.body", "body": b"done"})

    async def collect(message: Any) -> None:
        sent.append(message)

    async def nothing() -> Any:
        return {}

    asyncio.run(WakeMiddleware(app)({"type": kind, "method": method, "path": path}, nothing, collect))
    return sent


@pytest.mark.parametrize(
    ("method", "path", "status", "wakes"),
    [
        ("POST", "/api/v2/dags/a/dagRuns", 200, True),
        ("PATCH", "/airflow/api/v2/dags/a", 200, True),
        ("DELETE", "/api/v2/dags/a/dagRuns/1", 204, True),
        ("GET", "/api/v2/dags", 200, False),
        ("POST", "/api/v2/dags/a/dagRuns", 409, False),
        ("PATCH", "/execution/task-instances/1/state", 204, False),
    ],
)
def test_who_wakes(home: Home, method: str, path: str, status: int, wakes: bool) -> None:
    assert [message["type"] for message in ask(method, path, status)] == ["http.response.start", "http.response.body"]
    assert home.wake.exists() is wakes


def test_what_is_no_request_passes(home: Home) -> None:
    assert len(ask("", "", kind="lifespan")) == 2 and not home.wake.exists()


def test_a_home_that_nobody_uses_is_left_alone(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__AIR_EXECUTOR__BASE_PATH", str(home.root / "unused"))
    assert len(ask("POST", "/api/v2/dags/a/dagRuns")) == 2
    assert not (home.root / "unused").exists()


def test_airflow_finds_the_middleware() -> None:
    _, middlewares = plugins_manager.get_fastapi_plugins()
    assert WakeMiddleware in [each["middleware"] for each in middlewares]
