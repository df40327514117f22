"""Who is let in: every route, with every kind of token that does not allow it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from fastapi.routing import APIRoute

from air_executor.errors import CorruptFileError, InvalidInputError, NotFoundError
from air_executor.http import access, tokens
from air_executor.http.app import PREFIX, ROUTERS, build
from air_executor.http.service import Service
from air_executor.http.tokens import Scope, Standing
from air_executor.paths import Home
from air_executor.settings import HttpSettings
from air_executor.testing import wait_for
from tests.http.conftest import Api

TASKS = {"tasks": [{"command": "true"}]}


class Case(NamedTuple):
    """A request to a route that would be answered."""

    scope: str
    path: str
    body: Any = None


LISTENER = "/ends/job/nothing/listener"
TABLE = {
    "POST /runs": Case("submit", "/runs", {**TASKS, "name": "made-in-the-table", "on_existing": "attach"}),
    "GET /runs": Case("read", "/runs"),
    "GET /runs/{run}": Case("read", "/runs/nothing"),
    "GET /runs/{run}/tasks": Case("read", "/runs/nothing/tasks"),
    "POST /runs/{run}/tasks": Case("submit", "/runs/nothing/tasks", TASKS),
    "GET /runs/{run}/result": Case("read", "/runs/nothing/result"),
    "GET /runs/{run}/outcome": Case("read", "/runs/nothing/outcome"),
    "GET /runs/{run}/failure": Case("read", "/runs/nothing/failure"),
    "GET /runs/{run}/events": Case("read", "/runs/nothing/events"),
    "GET /runs/{run}/logs/{task}": Case("read", "/runs/nothing/logs/task-1"),
    "POST /runs/{run}/cancel": Case("cancel", "/runs/nothing/cancel", {}),
    "POST /runs/{run}/retry": Case("submit", "/runs/nothing/retry", {}),
    "GET /ends/{kind}/{name}/{listener}": Case("read", LISTENER),
    "PUT /ends/{kind}/{name}/{listener}": Case("read", LISTENER),
    "DELETE /ends/{kind}/{name}/{listener}": Case("read", LISTENER),
    "DELETE /ends/{kind}/{name}/{listener}/{run}/{attempt}": Case("read", f"{LISTENER}/nothing/1"),
    "POST /runs/states": Case("read", "/runs/states", {"runs": ["nothing", "../up"]}),
    "POST /pipelines/{pipeline}/plan": Case("read", "/pipelines/nothing/plan", {}),
    "GET /pipelines": Case("read", "/pipelines"),
    "GET /pipelines/{pipeline}": Case("read", "/pipelines/nothing"),
    "GET /queues": Case("read", "/queues"),
    "POST /queues/{queue}/pause": Case("admin", "/queues/nothing/pause", {}),
    "POST /queues/{queue}/resume": Case("admin", "/queues/nothing/resume", {}),
}
"""Every route that needs a token."""
FREE = {"GET /health", "GET /openapi.json"}
"""Those that need none."""
KINDS = ("none", "empty", "basic", "garbage", "no such id", "another secret", "wrong scopes", "expired", "revoked")


def routes() -> dict[str, APIRoute]:
    app = build(Service(Home(Path("nowhere")), HttpSettings()))
    everywhere = [*app.routes, *(route for router in ROUTERS for route in router.routes)]
    found = [route for route in everywhere if isinstance(route, APIRoute)]
    return {f"{method} {route.path.removeprefix(PREFIX)}": route for route in found for method in route.methods}


def test_every_route_is_in_the_table_with_its_scope() -> None:
    found = routes()
    assert found.keys() == TABLE.keys() | FREE
    assert {name: str(route.needs) for name, route in found.items() if name not in FREE} == {  # type: ignore[attr-defined]
        name: case.scope for name, case in TABLE.items()
    }


@pytest.fixture(scope="module")
def headers(api: Api) -> dict[str, str | None]:
    """What somebody sends who must not be let in, whatever the route."""
    everything = [scope.value for scope in Scope]
    expired = tokens.create(api.home, "old", everything, by="test", lifetime=1e-6)[1]
    token, revoked = tokens.create(api.home, "gone", everything, by="test")
    tokens.revoke(api.home, token.id, by="test")
    good = api.token("admin")
    return {
        "none": None,
        "empty": "Bearer",
        "basic": f"Basic {good}",
        "garbage": "Bearer ax_../../../etc/passwd_00",
        "no such id": f"Bearer ax_{'0' * 12}_{good[-64:]}",
        "another secret": f"Bearer {good[:-64]}{'0' * 64}",
        "expired": f"Bearer {expired}",
        "revoked": f"Bearer {revoked}",
    }


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_is_let_in_who_must_not_be(api: Api, headers: dict[str, str | None], kind: str) -> None:
    for name, case in TABLE.items():
        for header in _wrong(api, case) if kind == "wrong scopes" else [headers[kind]]:
            answer = _ask(api, name, case, header)
            assert answer.status_code == (403 if kind == "wrong scopes" else 401), (name, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.status_code == 403 or answer.headers["www-authenticate"].startswith("Bearer")
            said = answer.json()
            assert kind not in ("expired", "revoked") or kind in said["detail"]
            assert str(api.home.root) not in answer.text


def _wrong(api: Api, case: Case) -> list[str | None]:
    """The scopes that do not allow it."""
    return [f"Bearer {api.token(each.value)}" for each in Scope if each.value not in (case.scope, "admin")]


def _ask(api: Api, name: str, case: Case, header: str | None) -> httpx.Response:
    given = {} if header is None else {"Authorization": header}
    # What is no JSON, too, is not looked at before the token is.
    content = None if case.body is None else json.dumps(case.body) if header and "ax_" in header else "{"
    sent = {**given, **({"Content-Type": "application/json"} if content else {})}
    return api.http.request(name.split()[0], f"{PREFIX}{case.path}", headers=sent, content=content)


@pytest.mark.parametrize("scope", ["its own", "admin"])
def test_who_has_the_scope_is_let_in(api: Api, scope: str) -> None:
    for name, case in TABLE.items():
        answer = _ask(api, name, case, f"Bearer {api.token(case.scope if scope == 'its own' else scope)}")
        assert answer.status_code in (200, 201, 204, 404), (name, answer.text)


def test_health_names_a_mistake_in_the_settings_and_not_where_the_home_is(api: Api) -> None:
    assert api.get("/health", scope="read").status_code == 200
    api.home.config.write_text('[runner]\nslots = "s3cr3t"\n')
    try:
        said = wait_for(
            lambda: [each for each in api.get("/health", scope="read").json()["problems"] if "slots" in each]
        )
    finally:
        api.home.config.unlink()
    assert "config.toml: [runner] slots must be a whole number; mend it" in said[0]
    assert str(api.home.root) not in said[0] and "s3cr3t" not in said[0]


def test_health_says_no_more_than_alive_without_a_token(api: Api) -> None:
    assert api.http.get(f"{PREFIX}/health").json() == {"status": "alive"}
    assert api.get("/health", scope="read").json()["runners"] == []
    assert api.get("/health", scope="submit").status_code == 403
    assert api.http.get(f"{PREFIX}/health", headers={"Authorization": "Bearer x"}).status_code == 401


def test_restart_of_what_may_run_needs_the_scope_cancel(api: Api) -> None:
    answer = api.post("/runs", scope="submit", json={**TASKS, "name": "x", "on_existing": "restart"})
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:air-executor:forbidden")


def test_a_revocation_counts_while_the_server_runs(api: Api) -> None:
    token, text = tokens.create(api.home, "soon gone", ["read"], by="test")
    header = {"Authorization": f"Bearer {text}"}
    assert api.http.get(f"{PREFIX}/queues", headers=header).status_code == 200
    assert tokens.last_used(api.home, token.id) is not None
    tokens.revoke(api.home, token.id, by="test")
    wait_for(lambda: api.http.get(f"{PREFIX}/queues", headers=header).status_code == 401)


# --- Tokens in files ---


def test_a_token_is_in_its_file_as_a_hash_alone(home: Home) -> None:
    token, text = tokens.create(home, "nightly", ["submit", "read"], by="ann", lifetime=3600)
    path = home.http_token(token.id)
    parts = tokens.parse(text)
    assert parts is not None and parts[0] == token.id and parts[1] not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600 and {
        each.stat().st_mode & 0o777 for each in (path.parent, home.http)
    } == {0o700}
    assert tokens.read(home, token.id) == token
    assert token.scopes == ("read", "submit") and token.user == f"token nightly ({token.id})"
    assert tokens.matches(token, parts[1]) and not tokens.matches(token, "0" * 64)


@pytest.mark.parametrize(
    ("name", "scopes", "lifetime"),
    [("", ["read"], None), ("a\nb", ["read"], None), ("x" * 101, ["read"], None), ("a", [], None), ("a", ["all"], None)]
    + [("a", ["read"], wrong) for wrong in (0.0, -1.0, float("nan"), float("inf"), 1e12)],
)
def test_what_makes_no_token_is_refused(home: Home, name: str, scopes: list[str], lifetime: float | None) -> None:
    with pytest.raises(InvalidInputError):
        tokens.create(home, name, scopes, by="test", lifetime=lifetime)
    assert tokens.all_tokens(home) == []


def test_standing(home: Home) -> None:
    token, _ = tokens.create(home, "a", ["read"], by="test", lifetime=100)
    now = time.time()
    assert token.standing(now) is Standing.VALID and token.standing(now + 101) is Standing.EXPIRED
    revoked = tokens.revoke(home, token.id, by="ben")
    assert revoked.standing(now) is Standing.REVOKED
    assert tokens.revoke(home, token.id, by="another").revoked_by == "ben"


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"id": 1}', '{"scopes": "admin"}', "null", '{"scopes": [null]}', '{"scopes": ["admin"]}'],
)
def test_a_damaged_token_lets_nobody_in(home: Home, content: str) -> None:
    token, text = tokens.create(home, "a", ["admin"], by="test")
    home.http_token(token.id).write_text(content)
    with pytest.raises(CorruptFileError):
        tokens.read(home, token.id)
    assert [type(each) for each in tokens.all_tokens(home)] == [CorruptFileError]
    service, registry = Service(home, HttpSettings()), access.Registry(home)
    with pytest.raises(access.Problem):
        access.identify(service, registry, f"Bearer {text}")


@pytest.mark.parametrize("change", [{"expires_at": "soon"}, {"scopes": [1]}, {"id": "0" * 12}, {"digest": None}])
def test_a_value_that_makes_no_sense_lets_nobody_in(home: Home, change: dict[str, Any]) -> None:
    token, _ = tokens.create(home, "a", ["admin"], by="test")
    path = home.http_token(token.id)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(CorruptFileError):
        tokens.read(home, token.id)


@pytest.mark.parametrize("token_id", ["", "../../config", "0" * 12, "0" * 11, "A" * 12, "0" * 12 + "\n"])
def test_what_is_no_id_is_not_found(home: Home, token_id: str) -> None:
    with pytest.raises(NotFoundError):
        tokens.read(home, token_id)


@pytest.mark.parametrize(
    ("header", "is_one"),
    [
        (f"Bearer ax_{'0' * 12}_{'1' * 64}", True),
        (f"bearer   ax_{'0' * 12}_{'1' * 64} ", True),
        (f"Bearer ax_{'0' * 12}_{'1' * 63}", False),
        (f"Bearer ax_{'0' * 12}_{'1' * 64} x", False),
        (f"ax_{'0' * 12}_{'1' * 64}", False),
        (f"Token ax_{'0' * 12}_{'1' * 64}", False),
        ("", False),
        (None, False),
    ],
)
def test_what_may_be_a_token(header: str | None, is_one: bool) -> None:
    assert (access.given(header) is not None) is is_one


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")
