"""Parts of logs: by Range, by offset and limit; and what is no log."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from air_executor import model, store
from air_executor.http import logs, tokens
from air_executor.http.logs import Part
from air_executor.http.problems import Problem
from tests.http.conftest import BASE, Api, serving
from tests.unit.conftest import finish


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-4", Part(0, 5)),
        ("bytes=3-", Part(3, 10)),
        ("bytes=-4", Part(6, 10)),
        ("bytes=-99", Part(0, 10)),
        ("bytes=8-99", Part(8, 10)),
        (" bytes=0-0 ", Part(0, 1)),
        ("bytes=4-3", None),
        ("bytes=-", None),
        ("bytes=0-1,3-4", None),
        ("lines=0-1", None),
        ("", None),
    ],
)
def test_ranges(header: str, part: Part | None) -> None:
    assert logs.wanted(header, 10) == part


@pytest.mark.parametrize(("header", "size"), [("bytes=10-", 10), ("bytes=-0", 10), ("bytes=0-", 0), ("bytes=-5", 0)])
def test_ranges_with_nothing_in_them(header: str, size: int) -> None:
    with pytest.raises(Problem) as refused:
        logs.wanted(header, size)
    assert (refused.value.status, refused.value.headers) == (416, {"Content-Range": f"bytes */{size}"})


@pytest.mark.parametrize(
    ("offset", "limit", "part"),
    [(0, None, (0, 10)), (4, 3, (4, 7)), (99, None, (10, 10)), (-3, None, (7, 10)), (-99, 2, (0, 2)), (8, 99, (8, 10))],
)
def test_offsets(offset: int, limit: int | None, part: tuple[int, int]) -> None:
    assert logs.chosen(offset, limit, 10) == part


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with serving(tmp_path_factory.mktemp("logs") / "home") as api:
        tasks = [model.Task("true", id=each) for each in ("good", "silent", "link", "directory")]
        store.submit(api.home, store.Submission(model.Job("run"), tasks))
        paths = api.home.job("run")
        paths.log("good").write_bytes(b"0123456789\xff\n" + b"x" * (2 * logs.PIECE))
        paths.log("link").symlink_to("/etc/passwd")
        paths.log("directory").mkdir()
        yield api


def test_parts_of_a_log(api: Api) -> None:
    size = 12 + 2 * logs.PIECE
    whole = api.get("/runs/run/logs/good")
    assert len(whole.content) == size and whole.headers["x-log-size"] == str(size)
    assert (whole.status_code, whole.headers["x-log-over"], whole.headers["x-run-attempt"]) == (200, "false", "1")
    part = api.get("/runs/run/logs/good", headers={"Range": "bytes=8-11"})
    assert (part.status_code, part.content) == (206, b"89\xff\n")
    assert part.headers["content-range"] == f"bytes 8-11/{size}"
    assert api.get("/runs/run/logs/good", params={"offset": 2, "limit": 3}).content == b"234"
    assert api.get("/runs/run/logs/good", params={"offset": -2}).content == b"xx"
    beyond = api.get("/runs/run/logs/good", headers={"Range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")


def test_what_is_no_log(api: Api) -> None:
    assert (silent := api.get("/runs/run/logs/silent")).status_code == 200 and silent.content == b""
    for task in ("link", "directory", "unknown", ".good.reason", "%2e%2e%2fstate.json"):
        assert (answer := api.get(f"/runs/run/logs/{task}")).status_code == 404, (task, answer.text)
        assert "root:" not in answer.text


def test_following_ends_with_the_token(api: Api) -> None:
    token, text = tokens.create(api.home, "reader", ["read"], by="test")
    asked = {"params": {"follow": "true"}, "headers": {"Authorization": f"Bearer {text}"}}
    with api.http.stream("GET", f"{BASE}/runs/run/logs/good", **asked) as answer:
        pieces = answer.iter_raw()
        assert next(pieces)
        tokens.revoke(api.home, token.id, by="test")
        assert list(pieces)  # what there was; then it ends
    assert not api.service.client.get_job("run").state.terminal


def test_following_ends_with_the_run(api: Api) -> None:
    finish(api.home, "run")
    answer = api.get("/runs/run/logs/good", params={"follow": "true", "offset": 10})
    assert answer.content[:3] == b"\xff\nx" and answer.headers["x-log-over"] == "true"
