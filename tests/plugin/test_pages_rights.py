"""Who may see and do what on the pages: each route with each visitor, through Airflow's own tokens and auth manager."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute

from air_executor import model, store
from air_executor.client import AirExecutorClient
from air_executor.paths import Home
from tests.plugin import visitors
from tests.plugin.visitors import OTHER, OURS, VISITORS, Web, access, credentials, documents, doorway, pages

SENTINEL = "hunter2"
POST = {doorway.OWN_HEADER: "1"}
IN_ANY_CASE = "401 200 200 200 200 200"
NO_RUNNER = "401 403 403 403 404 404"

#                                                  anonymous stranger viewer user operator admin
TABLE: dict[tuple[str, str], dict[str, str]] = {
    ("GET", "/"): {"": IN_ANY_CASE},
    ("GET", "/jobs"): {"": IN_ANY_CASE},
    ("GET", "/job/{name}"): {"": IN_ANY_CASE},
    ("GET", "/history"): {"": IN_ANY_CASE},
    ("GET", "/task"): {"": IN_ANY_CASE},
    ("GET", "/static/{version}/{name}"): {"": IN_ANY_CASE},
    ("GET", "/jobs/{name}"): {"": "401 307 307 307 307 307"},
    ("GET", "/api/overview"): {"": "401 403 200 200 200 200"},
    ("GET", "/api/jobs"): {"": IN_ANY_CASE},
    ("GET", "/api/counts"): {"": IN_ANY_CASE},
    ("GET", "/api/history"): {"": IN_ANY_CASE},
    ("GET", "/api/task"): {"": "401 403 200 200 200 200"},
    ("GET", "/api/job/{name}"): {
        OURS: "401 404 200 200 200 200",
        OTHER: IN_ANY_CASE,
        "none": "401 404 200 200 200 200",
        "damaged": "401 404 404 404 200 200",
    },
    ("GET", "/api/job/{name}/log/{task}"): {
        OURS: "401 404 200 200 200 200",
        OTHER: IN_ANY_CASE,
        "none": "401 404 200 200 200 200",
        "damaged": "401 404 404 404 200 200",
    },
    ("POST", "/api/job/{name}/cancel"): {
        OURS: "401 404 403 200 200 200",
        OTHER: "401 403 403 200 200 200",
        "none": "401 404 403 403 200 200",
        "damaged": "401 404 404 404 409 409",
    },
    ("POST", "/api/job/{name}/retry"): {  # of a job that is not over
        OURS: "401 404 403 409 409 409",
        OTHER: "401 403 403 409 409 409",
        "none": "401 404 403 403 409 409",
        "damaged": "401 404 404 404 503 503",
    },
    ("POST", "/api/runner/{runner}/drain"): {"": NO_RUNNER},
    ("POST", "/api/runner/{runner}/resume"): {"": NO_RUNNER},
    ("POST", "/api/runner/{runner}/set"): {"": NO_RUNNER},
    ("POST", "/api/queue/{queue}/pause"): {"": "401 403 403 403 200 200"},
    ("POST", "/api/queue/{queue}/resume"): {"": "401 403 403 403 200 200"},
}
QUERIES = {
    "/api/task": f"?dag_id={OURS}&run_id=r&task_id=t",
    "/api/history": "?begin=0&end=60",
}
ROWS = [(*route, target) for route, targets in TABLE.items() for target in targets]


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with visitors.api_server_with("tests.plugin.visitors.LimitedAuthManager") as client:
        yield client


NUMBERS = itertools.count()


def submit(home: Home, target: str = "none", **options: Any) -> str:
    """A job that waits, with secrets wherever there can be any."""
    dag = (
        {"dag_id": target, "run_id": "r", "task_id": "t", "map_index": "-1"} if target in (OURS, OTHER, "gone") else {}
    )
    task = model.Task(
        SENTINEL,
        id="only",
        args=["--token", SENTINEL],
        env={"TOKEN": SENTINEL},
        cwd=f"/{SENTINEL}",
        extra={"x": SENTINEL},
    )
    job = model.Job(
        name=f"job-{next(NUMBERS)}",
        labels=dag,
        external_id=SENTINEL,
        variant=SENTINEL,
        extra={"y": SENTINEL},
        **options,
    )
    AirExecutorClient(home.root).submit(store.Submission(job, [task], f'{{"token": "{SENTINEL}"}}'.encode()))
    home.job(job.name).log("only").write_text("a line\n")
    if target == "damaged":
        home.job(job.name).state.write_text('{"labels": {"dag_id": "ours"')
    return job.name


def call(web: Web, method: str, path: str, visitor: str, **given: Any) -> Any:
    headers = {**credentials(visitor), **(POST if method == "POST" else {})}
    body = {"json": {"slots": 2} if path.endswith("/set") else {}} if method == "POST" else {}
    return web.request(method, f"/air-executor{path}", headers=headers, **{**body, **given})


def test_each_route_is_in_the_table() -> None:
    routes = {(method, route.path) for route in pages.routes if isinstance(route, APIRoute) for method in route.methods}
    assert routes == set(TABLE)
    assert all(isinstance(route, APIRoute) for route in pages.routes), "what is mounted asks nobody for a login"


@pytest.mark.parametrize(("method", "path", "target"), ROWS)
def test_who_may_what(web: Web, home: Home, method: str, path: str, target: str) -> None:
    name = submit(home, target)
    statuses = TABLE[method, path][target].split()
    for visitor, status in zip(VISITORS, map(int, statuses), strict=True):
        if method == "POST" and statuses.count("200") > 1:
            name = submit(home, target)  # the one before may have been changed
        asset = {"version": documents.version(), "name": "main.js"} if "static" in path else {"name": name}
        answer = call(
            web, method, path.format(**asset, task="only", runner="none", queue="q") + QUERIES.get(path, ""), visitor
        )
        assert answer.status_code == status, f"{visitor}: {answer.text}"
        assert SENTINEL not in answer.text
        # Those who steer runners are told how to start one, and which file is damaged.
        assert str(home.root) not in answer.text or visitor in ("operator", "admin") or "overview" in path
        if status in (401, 403, 404):
            assert "a line" not in answer.text
            assert name not in answer.text or status == 401  # whose answer leads back to the address


def test_a_job_that_one_may_not_see_is_as_one_that_is_not_there(web: Web, home: Home) -> None:
    hidden = call(web, "GET", f"/api/job/{submit(home, OURS)}", "stranger")
    for path in ("no-such-job", "..%2f..%2fetc", ".hidden", "-", "%00", "a" * 300):
        missing = call(web, "GET", f"/api/job/{path}", "stranger")
        assert missing.status_code == 404
        if "%2f" not in path:  # which is no path of ours
            assert (missing.status_code, missing.content) == (hidden.status_code, hidden.content)


def test_lists_hold_what_one_may_see(web: Web, home: Home) -> None:
    names = {target: submit(home, target) for target in (OURS, OTHER, "none", "damaged", "gone")}

    def seen(visitor: str, path: str = "/api/jobs") -> set[str]:
        jobs = call(web, "GET", path, visitor).json()["jobs"]
        return {target for target, name in names.items() if name in {job["name"] for job in jobs}}

    assert seen("stranger") == {OTHER}
    assert seen("viewer") == {OURS, OTHER, "none"}
    assert seen("admin") == set(names)
    assert seen("operator") == set(names)  # also what is of a DAG that Airflow does not know any more
    assert seen("admin", "/api/jobs?label=dag_id=ours") == {OURS}
    assert seen("stranger", "/api/jobs?label=dag_id=ours") == set()
    assert sum(call(web, "GET", "/api/counts", "viewer").json()["counts"].values()) == 3
    page = call(web, "GET", "/api/jobs?limit=1", "viewer").json()  # whose next one is the damaged one
    assert names["damaged"] not in page["next"]
    assert sum(call(web, "GET", "/api/counts", "stranger").json()["counts"].values()) == 1
    task = call(web, "GET", "/api/task?dag_id=ours&run_id=r&task_id=t", "viewer").json()
    assert [job["name"] for job in task["jobs"]] == [names[OURS]]


def test_what_is_damaged_beyond_knowing_whose_it_is_shows_nowhere(web: Web, home: Home) -> None:
    hidden, seen = submit(home, "damaged"), submit(home)
    for visitor, names in (("viewer", {seen}), ("operator", {seen, hidden})):
        page = call(web, "GET", "/api/jobs?limit=1", visitor).json()
        assert {job["name"] for job in call(web, "GET", "/api/jobs", visitor).json()["jobs"]} == names
        assert (page["next"] is None) == (len(names) == 1), "the key of a page names its last job"
        counts = call(web, "GET", f"/api/counts?text={hidden}", visitor).json()["counts"]
        assert sum(counts.values()) == len(names) - 1
        history = call(web, "GET", "/api/history?begin=0&end=1e11&step=1e9", visitor).json()
        assert history["total"]["failed"] == len(history["reasons"]) == len(names) - 1


def test_what_lists_hold_is_asked_every_few_seconds(web: Web, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "_listed", {})
    names = {submit(home, OURS), submit(home, OTHER)}

    def seen(visitor: str) -> set[str]:
        return {job["name"] for job in call(web, "GET", "/api/jobs", visitor).json()["jobs"]}

    assert seen("viewer") == names and len(seen("stranger")) == 1
    with monkeypatch.context() as patch:
        patch.setattr(visitors.LimitedAuthManager, "get_authorized_dag_ids", lambda *_, **__: set())
        assert seen("viewer") == names
        patch.setattr(access, "REMEMBERED", 0.0)
        assert seen("viewer") == set()


def test_no_dag_is_not_any_dag(web: Web, home: Home) -> None:
    assert access.owner_of({"dag_id": ""}, None) == access.Owner(None)
    assert call(web, "GET", "/api/task?dag_id=&run_id=r&task_id=t", "admin").status_code == 422


def test_whose_a_job_is() -> None:
    assert access.owner_of({"dag_id": "d"}, None) == access.Owner("d")
    assert access.owner_of({}, "success") == access.Owner(None)
    assert access.owner_of({"team": "a"}, "damaged") == access.Owner(None)
    assert not access.owner_of({}, "damaged").known
    assert not access.owner_of({}, None, sound=False).known


REFUSED_POSTS = {
    "no header of ours": ({}, {}, 403),
    "a form": ({**POST, "content-type": "application/x-www-form-urlencoded"}, {"content": "why=1"}, 415),
    "text": ({**POST, "content-type": "text/plain"}, {"content": "{}"}, 415),
    "another site, says the browser": ({**POST, "sec-fetch-site": "cross-site"}, {}, 403),
    "a neighbour, says the browser": ({**POST, "sec-fetch-site": "same-site"}, {}, 403),
    "another origin": ({**POST, "origin": "https://evil.example"}, {}, 403),
    "no origin": ({**POST, "origin": "null"}, {}, 403),
}


@pytest.mark.parametrize("case", REFUSED_POSTS)
def test_another_site_changes_nothing(web: Web, home: Home, case: str) -> None:
    headers, body, status = REFUSED_POSTS[case]
    name = submit(home)
    given = body or {"json": {}}
    answer = web.request(
        "POST", f"/air-executor/api/job/{name}/cancel", headers={**credentials("admin"), **headers}, **given
    )
    assert answer.status_code == status
    assert store.read(home, name).state is model.JobState.WAITING


@pytest.mark.parametrize("headers", [{"sec-fetch-site": "same-origin"}, {"origin": "http://localhost:8080"}])
def test_our_own_page_may_change_things(web: Web, home: Home, headers: dict[str, str]) -> None:
    name = submit(home)
    path = f"/air-executor/api/job/{name}/cancel"
    answer = web.request("POST", path, headers={**credentials("admin"), **POST, **headers}, json={"why": "enough"})
    assert answer.status_code == 200
    job = store.read(home, name)
    assert job.state is model.JobState.CANCELLED and job.exit
    assert job.exit.reason == "cancelled by airflow user admin: enough"


def test_half_a_character_is_refused_and_not_repeated(web: Web, home: Home) -> None:
    headers = {**credentials("admin"), **POST, "content-type": "application/json"}
    path = f"/air-executor/api/job/{submit(home)}/cancel"
    answer = web.request("POST", path, headers=headers, content=b'{"why": "\\ud800 hunter2"}')
    assert answer.status_code == 422 and SENTINEL not in answer.text
    assert "valid string" in answer.json()["detail"][0]["msg"]


def test_a_get_changes_nothing(web: Web, home: Home) -> None:
    assert call(web, "GET", f"/api/job/{submit(home)}/cancel", "admin").status_code == 405


@pytest.mark.parametrize("path", ["/", "/api/jobs", "/api/job/none", "/static/x/main.js", "/nothing"])
@pytest.mark.parametrize("visitor", ["anonymous", "admin"])
def test_each_answer_keeps_the_browser_careful(web: Web, home: Home, path: str, visitor: str) -> None:
    headers = call(web, "GET", path, visitor).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy and "frame-ancestors 'self'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == ("no-cache" if "main.js" in path and visitor == "admin" else "no-store")


def test_a_home_that_hangs_holds_a_few_threads_and_no_more() -> None:
    async def ask() -> tuple[list[dict[str, Any]], list[str]]:
        come_back, answers, asked = asyncio.Event(), [], []

        async def hanging(scope: dict[str, Any], *_: Any) -> None:
            asked.append(scope["path"])
            await come_back.wait()

        async def send(message: dict[str, Any]) -> None:
            answers.append(message)

        guarded = doorway.Guarded(hanging, at_once=2, patience=0.01)
        held = [asyncio.create_task(guarded({"type": "http", "path": name}, None, send)) for name in "ab"]
        await asyncio.sleep(0)  # so that they are asked first
        await guarded({"type": "http", "path": "c"}, None, send)
        come_back.set()
        await asyncio.gather(*held)
        await guarded({"type": "http", "path": "d"}, None, send)
        return answers, asked

    (start, body), asked = asyncio.run(ask())
    assert asked == ["a", "b", "d"]
    assert start["status"] == 503 and b"still wait" in body["body"]
    assert b"content-security-policy" in dict(start["headers"])


def test_an_asset_of_this_version_is_kept(web: Web) -> None:
    answer = call(web, "GET", f"/static/{documents.version()}/main.js", "viewer")
    assert "immutable" in answer.headers["cache-control"] and "private" in answer.headers["cache-control"]
    assert call(web, "GET", "/static/x/index.html", "viewer").status_code == 404
    assert call(web, "GET", "/static/x/..%2fapp.py", "viewer").status_code == 404


def test_who_is_not_logged_in_is_led_to_airflows_login(web: Web) -> None:
    answer = web.request("GET", "/air-executor/job/a%22%3E%3Cscript%3E")
    assert answer.status_code == 401 and "/api/v2/auth/login?next=" in answer.text
    assert "<script" not in answer.text
